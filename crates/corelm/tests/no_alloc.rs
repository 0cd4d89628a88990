//! The library never allocates: here a global allocator counts what the thread of the test asks for.

#[path = "support/model.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout as HeapLayout, System};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;

use corelm::ops::Single;
use corelm::*;

thread_local! {
    static N_ALLOCS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: HeapLayout) -> *mut u8 {
        N_ALLOCS.set(N_ALLOCS.get() + 1);
        // SAFETY: the caller's promise is the system allocator's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: HeapLayout) {
        // SAFETY: as above; `block` came from `alloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `body` allocates.
fn n_allocs<R>(body: impl FnOnce() -> R) -> (usize, R) {
    let before = N_ALLOCS.get();
    let result = body();
    (N_ALLOCS.get() - before, result)
}

#[test]
fn the_counter_counts() {
    assert_eq!(n_allocs(|| vec![1u8; 100]).0, 1);
}

#[test]
fn from_bytes_to_text_nothing_is_allocated() {
    for name in ["stories260K-q4_0.gguf", "gpt2-tiny-random-f32.gguf", "qwen2-tiny-random-f32.gguf"] {
        let Some(bytes) = support::model(name) else { return };
        for ops in support::backends() {
            for kv_type in [KvType::F32, KvType::F16] {
                let mut region = vec![MaybeUninit::uninit(); 1 << 22];
                let (n, n_chars) = n_allocs(|| generate(&bytes, ops, kv_type, &mut region).unwrap());
                assert_eq!(n, 0, "{name} {ops:?} {kv_type:?}");
                assert!(n_chars > 0, "{name}: no text");
            }
        }
    }
}

/// Generates from a prompt; everything it needs is in `region`. Gives the length of the text.
fn generate(
    model: &[u8],
    ops: corelm::ops::Ops,
    kv_type: KvType,
    region: &mut [MaybeUninit<u8>],
) -> Result<usize, Error> {
    let image = Image::parse(model)?;
    let config = Config::from_image(&image)?;
    let plan =
        MemoryPlan::new(&image, &config, &SessionConfig { n_ctx: 100, n_batch: 4, kv_type, n_workers: 1 })?;
    let mut arena = Arena::new(region);
    let weights = Weights::resolve(&image, &config, &mut arena)?;
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    let mut session = Session::new(ops, &Single, &config, weights, &plan, &mut arena)?;
    let mut sampler = Sampler::new(SamplingConfig::BALANCED, config.vocab_size, &mut arena)?;

    let prompt = "Once upon a time, there was";
    let mut tokens = [0; 64];
    let n_tokens = {
        let mut scratch = tokenizer.scratch(prompt.len(), &mut arena)?;
        tokenizer.encode(prompt.as_bytes(), Specials::Never, &mut scratch, &mut tokens)?
    };
    let until = GenerationConfig { max_tokens: 40, stop: &["never there"], ignores_eog: true };
    let prompt = tokens.get(..n_tokens).unwrap_or_default();
    let mut n_chars = 0;
    Generator::new(&mut session, &tokenizer, &mut sampler, prompt, until)?.run(&mut |event| {
        if let Event::Text(text) = event {
            n_chars += text.chars().count();
        }
        ControlFlow::Continue(())
    })?;
    Ok(n_chars)
}
