//! A plan is made without a look at the tensors' data: no page of it is mapped while it is made. Part of `mode=test`.
//!
//! A `Window` shows a file a second time, at addresses that belong to nobody, page by page; what it does not show has
//! invalid entries in the page tables. `plant=touch` reads a byte of a tensor behind the plan: the run must then end with a
//! data abort.

use core::hint::black_box;
use core::ops::Range;

use corelm::config::Config;
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm_cases::synth::SynthConfig;

use crate::args::ModelSource;
use crate::board::Context;
use crate::exceptions::try_read;
use crate::mmu::{self, MapError, PAGE_BYTES, WINDOW};
use crate::model::{self, EngineError};
use crate::syndrome::Direction;
use crate::{println, tiny};

const SESSION: SessionConfig = SessionConfig { n_ctx: 24, n_batch: 8, kv_type: KvType::F16, n_workers: 2 };

/// Whole pages of tensor data that a model must have to be one for this test.
const LEAST_PAGES: usize = 10;

/// A file at other addresses, of which some pages are there.
struct Window<'f> {
    file: &'f [u8],
    /// Where the file's first byte would be.
    start: usize,
    /// The pages that are there, counted from [`WINDOW`].
    n_shown: usize,
}

impl<'f> Window<'f> {
    /// Shows the pages that have one of the first `n_bytes` bytes of `file`.
    ///
    /// # Safety
    ///
    /// Core 0 only, and one window at a time.
    unsafe fn open(file: &'f [u8], n_bytes: usize) -> Result<Self, MapError> {
        let mut window = Self { file, start: WINDOW + file.as_ptr().addr() % PAGE_BYTES, n_shown: 0 };
        window.show(n_bytes)?;
        Ok(window)
    }

    /// Shows more.
    fn show(&mut self, n_bytes: usize) -> Result<(), MapError> {
        let n_pages = self.n_pages(n_bytes);
        while self.n_shown < n_pages {
            let offset = self.n_shown * PAGE_BYTES;
            let to = self.file.as_ptr().addr() / PAGE_BYTES * PAGE_BYTES + offset;
            // SAFETY: core 0, as `open` demands. The page holds a byte of the file, so it is RAM; nobody else uses the window.
            unsafe { mmu::map_page(WINDOW + offset, to)? };
            self.n_shown += 1;
        }
        Ok(())
    }

    /// Pages that the first `n_bytes` bytes lie in.
    fn n_pages(&self, n_bytes: usize) -> usize {
        (self.start - WINDOW + n_bytes).div_ceil(PAGE_BYTES)
    }

    /// Addresses of the pages that are not there.
    fn hidden(&self) -> Range<usize> {
        WINDOW + self.n_shown * PAGE_BYTES..WINDOW + self.n_pages(self.file.len()) * PAGE_BYTES
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the bytes are those of `file`, which nobody writes. Where they are not there, to read one ends the run.
        unsafe { core::slice::from_raw_parts(self.start as *const u8, self.file.len()) }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        for page in 0..self.n_shown {
            // SAFETY: core 0, as `open` demands; no slice of this window is left.
            unsafe { mmu::unmap_page(WINDOW + page * PAGE_BYTES) };
        }
    }
}

/// Models of several kinds, and the kernel's own where it has one.
pub fn a_plan_reads_no_page_of_tensor_data(context: &Context) {
    println!(); // the name of the test stands at the line's beginning
    let is_planted = context.args.plant == "touch";
    let (mut n_models, mut n_pages) = (0, 0);
    let mut test = |file: &[u8]| {
        n_models += 1;
        n_pages += plan_without_data(file, is_planted)?;
        Ok(())
    };
    for config in &SynthConfig::KINDS {
        tiny::with_file(config, &mut test).unwrap_or_else(|error| panic!("{error}"));
    }
    match model::bytes(context, ModelSource::Demo).and_then(test) {
        Ok(()) | Err(EngineError::NoDemo) => {}
        Err(error) => panic!("{error}"),
    }
    println!("figure R6 pages, QEMU: 0 of {n_pages} pages of {n_models} models read, for none was mapped");
}

/// Plans while no page of tensor data can be read; the number of these pages, each of which raises a fault.
fn plan_without_data(file: &[u8], is_planted: bool) -> Result<usize, EngineError> {
    let plan = |bytes: &[u8]| {
        let image = Image::parse(bytes)?;
        let config = Config::from_image(&image)?;
        let plan = MemoryPlan::new(&image, &config, &SESSION)?;
        if is_planted {
            black_box(image.tensors().last().map(|tensor| tensor.bytes.last().copied()));
        }
        Ok::<usize, EngineError>(plan.bytes())
    };
    let image = Image::parse(file)?;
    let first = image.tensors().map(|tensor| tensor.bytes.as_ptr().addr()).min();
    let n_metadata = first.map_or(file.len(), |first| first - file.as_ptr().addr());
    // SAFETY: tests run on core 0, one behind the other.
    let mut window = unsafe { Window::open(file, n_metadata) }.expect("tables for a window");
    assert_eq!(plan(window.bytes())?, plan(file)?);

    let hidden = window.hidden();
    for address in hidden.clone().step_by(PAGE_BYTES).flat_map(|page| [page, page + PAGE_BYTES - 1]) {
        // SAFETY: no device answers there.
        let fault = unsafe { try_read(address) }.expect_err("a page of tensor data is mapped");
        assert_eq!((fault.far as usize, fault.direction()), (address, Some(Direction::Read)));
        assert!(matches!(fault.cause(), Some(("translation fault", _))), "{fault}");
    }
    window.show(file.len()).expect("tables for a window");
    assert!(window.bytes() == file, "the window shows another file");
    let n_pages = hidden.len() / PAGE_BYTES;
    assert!(n_pages > LEAST_PAGES, "a model of {n_pages} pages");
    Ok(n_pages)
}
