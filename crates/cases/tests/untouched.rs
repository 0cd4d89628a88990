//! A plan is made without a look at the tensors' data: no page of it can be read while it is made. In QEMU the kernel does the
//! same (`kernel-tests/src/untouched.rs`).
#![cfg(unix)]

use std::ptr::NonNull;

use corelm::config::Config;
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm_cases::synth::{SynthConfig, model_bytes, write_model};

const SESSION: SessionConfig = SessionConfig { n_ctx: 24, n_batch: 8, kv_type: KvType::F16, n_workers: 2 };

/// Pages of memory with a file in them.
struct Pages {
    start: NonNull<libc::c_void>,
    len: usize,
}

impl Pages {
    fn new(file: &[u8]) -> Self {
        let (read_write, private) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new pages, wherever there is room.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), file.len(), read_write, private, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: the pages are this long, ours, and no part of `file`.
        unsafe { start.cast::<u8>().copy_from_nonoverlapping(file.as_ptr(), file.len()) };
        Self { start: NonNull::new(start).unwrap(), len: file.len() }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes were written, and nobody writes others. Where they cannot be read, to read one ends this test.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len) }
    }

    /// Takes away, or gives back, all whole pages behind the first `from` bytes; gives how many these are.
    fn protect(&self, from: usize, protection: libc::c_int) -> usize {
        // SAFETY: asks the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let from = from.next_multiple_of(page);
        let len = self.len.saturating_sub(from);
        // SAFETY: these pages are ours.
        let status = unsafe { libc::mprotect(self.start.as_ptr().byte_add(from), len, protection) };
        assert_eq!(status, 0);
        len.div_ceil(page)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the pages are ours, and nobody borrows them any more.
        unsafe { libc::munmap(self.start.as_ptr(), self.len) };
    }
}

fn models() -> impl Iterator<Item = Vec<u8>> {
    SynthConfig::KINDS.into_iter().map(|config| {
        let mut file = vec![0; model_bytes(&config).unwrap() as usize];
        assert!(write_model(&config, &mut file[..]).unwrap().is_empty());
        file
    })
}

#[test]
fn a_plan_reads_no_page_of_tensor_data() {
    let mut n_pages = 0;
    for file in models() {
        let plan = |bytes: &[u8]| {
            let image = Image::parse(bytes).unwrap();
            let config = Config::from_image(&image).unwrap();
            MemoryPlan::new(&image, &config, &SESSION).unwrap().bytes()
        };
        let image = Image::parse(&file).unwrap();
        let first = image.tensors().map(|tensor| tensor.bytes.as_ptr().addr()).min().unwrap();
        let data = first - file.as_ptr().addr();
        let pages = Pages::new(&file);
        let n = pages.protect(data, libc::PROT_NONE);
        assert!(n > 10, "a model of {n} pages");
        assert_eq!(plan(pages.bytes()), plan(&file));
        pages.protect(data, libc::PROT_READ);
        assert_eq!(pages.bytes(), file);
        n_pages += n;
    }
    println!("figure R6 pages: 0 of {n_pages} pages of four models read, for none could be");
}

/// The pages are out of reach: another process that reads one ends by a signal.
#[test]
fn a_page_that_is_taken_away_cannot_be_read() {
    let pages = Pages::new(&[7; 40_000]);
    assert!(pages.protect(0, libc::PROT_NONE) > 2);
    // SAFETY: the child calls nothing but these two functions, and reads a byte.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            // The usual end of a fault, without a word of Rust's handler.
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
            pages.start.as_ptr().cast::<u8>().read_volatile();
            libc::_exit(0);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        status
    };
    assert!(libc::WIFSIGNALED(status), "{status}");
}
