//! What the kernel promises the engine, checked on the machine itself: part of `mode=test`.

use alloc::alloc::{Layout, alloc, dealloc};
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use corelm::generate::GenerationConfig;
use corelm::ops::Workers;
use corelm::tokenizer::Specials;

use crate::args::ModelSource;
use crate::board::Context;
use crate::boot;
use crate::counter::{CycleCounter, Timer};
use crate::depth;
use crate::exceptions::try_read;
use crate::heap;
use crate::model::{Engine, EngineError, with_engine};
use crate::syndrome::Direction;
use crate::untouched;

/// One check; it panics when the promise is broken.
pub struct SelfTest {
    /// Name, as printed.
    pub name: &'static str,
    /// The check.
    pub run: fn(&Context),
}

/// All checks.
pub const TESTS: &[SelfTest] = &[
    SelfTest { name: "null_page_faults", run: null_page_faults },
    SelfTest { name: "guard_pages_fault", run: guard_pages_fault },
    SelfTest { name: "counters_go_up", run: counters_go_up },
    SelfTest { name: "heap_blocks_are_aligned_and_apart", run: heap_blocks_are_aligned_and_apart },
    SelfTest { name: "heap_refuses_what_it_has_not", run: heap_refuses_what_it_has_not },
    SelfTest { name: "each_block_that_is_refused_is_an_error", run: each_block_that_is_refused_is_an_error },
    SelfTest { name: "a_deep_frame_is_seen", run: depth::a_deep_frame_is_seen },
    SelfTest { name: "engine_tells_its_stack", run: depth::engine },
    SelfTest {
        name: "a_plan_reads_no_page_of_tensor_data",
        run: untouched::a_plan_reads_no_page_of_tensor_data,
    },
    SelfTest { name: "each_part_runs_once_on_its_own_core", run: each_part_runs_once_on_its_own_core },
];

fn null_page_faults(_: &Context) {
    for address in [0, 8, 4095] {
        // SAFETY: nothing is mapped in page 0.
        let fault = unsafe { try_read(address) }.expect_err("page 0 is mapped");
        assert_eq!((fault.far as usize, fault.direction()), (address, Some(Direction::Read)));
        assert!(matches!(fault.cause(), Some(("translation fault", _))), "{fault}");
    }
}

fn guard_pages_fault(_: &Context) {
    for page in (0..boot::MAX_CORES).flat_map(boot::guard_pages) {
        for address in [page.start, page.end - 1] {
            // SAFETY: a guard page is memory, if it is mapped at all.
            assert!(unsafe { try_read(address) }.is_err(), "guard page at {address:#x} is mapped");
        }
        // SAFETY: the bytes around a guard page are the kernel's data.
        assert!(unsafe { try_read(page.start - 1).and(try_read(page.end)) }.is_ok());
    }
}

fn counters_go_up(_: &Context) {
    let (cycles, ticks) = (CycleCounter.now(), Timer.now());
    for n in 0..100_000_u32 {
        core::hint::black_box(n);
    }
    assert!(CycleCounter.now() > cycles, "the cycle counter stands still");
    assert!(Timer.now() > ticks, "the timer stands still");
    assert!(Timer.hz() > 0, "the firmware set no timer frequency");
}

fn heap_blocks_are_aligned_and_apart(_: &Context) {
    let layouts = [(1, 1), (24, 8), (100, 64), (4096, 4096)]
        .map(|(bytes, align)| Layout::from_size_align(bytes, align).expect("a valid layout"));
    // SAFETY: no layout is empty.
    let blocks = layouts.map(|layout| (unsafe { alloc(layout) }, layout));
    for (n, (block, layout)) in blocks.iter().enumerate() {
        assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()));
        // SAFETY: the block is ours and this long.
        unsafe { block.write_bytes(n as u8, layout.size()) };
    }
    for (n, (block, layout)) in blocks.into_iter().enumerate() {
        // SAFETY: the block was written above and nobody else may have touched it.
        assert!((0..layout.size()).all(|at| unsafe { block.add(at).read() } == n as u8));
        // SAFETY: allocated above with this layout.
        unsafe { dealloc(block, layout) };
    }
}

fn heap_refuses_what_it_has_not(context: &Context) {
    let layout = Layout::from_size_align(context.machine.ram_bytes(), 64).expect("a valid layout");
    // SAFETY: the layout is not empty.
    assert!(core::hint::black_box(unsafe { alloc(layout) }).is_null(), "the heap is larger than memory");
}

/// A model is loaded and asked with one block after the other refused: an error, nothing lost, and the next time it works.
fn each_block_that_is_refused_is_an_error(context: &Context) {
    let until = GenerationConfig { max_tokens: 2, stop: &[], ignores_eog: true };
    let ask = |engine: &mut Engine<'_, '_>| {
        engine.generate("kernel", Specials::Never, until, &mut |_| ControlFlow::Continue(())).map(|_| ())
    };
    let used = heap::usage().used_bytes;
    let mut n_refused = 0;
    loop {
        heap::refuse_behind(n_refused);
        let answer = with_engine(context, ModelSource::Demo, ask).flatten();
        heap::refuse_behind(usize::MAX);
        assert_eq!(heap::usage().used_bytes, used, "bytes are lost behind block {n_refused}");
        match answer {
            Ok(()) => break,
            Err(EngineError::NoDemo) => return,
            Err(EngineError::Memory { .. }) => n_refused += 1,
            Err(error) => panic!("block {n_refused} is refused, and: {error}"),
        }
    }
    assert!(n_refused >= 2, "a model takes at least two blocks");
}

fn each_part_runs_once_on_its_own_core(context: &Context) {
    let count = context.team.count();
    for _ in 0..200 {
        let runs = [const { AtomicUsize::new(0) }; boot::MAX_CORES];
        let cores = [const { AtomicU64::new(u64::MAX) }; boot::MAX_CORES];
        context.team.run(&|part| {
            runs[part].fetch_add(1, Ordering::Relaxed);
            cores[part].store(MPIDR_EL1.get(), Ordering::Relaxed);
        });
        for part in 0..count {
            assert_eq!(runs[part].load(Ordering::Relaxed), 1, "runs of part {part}");
            let core = cores[part].load(Ordering::Relaxed);
            let again = cores[..part].iter().any(|other| other.load(Ordering::Relaxed) == core);
            assert!(!again, "two parts on core {core:#x}");
        }
    }
}
