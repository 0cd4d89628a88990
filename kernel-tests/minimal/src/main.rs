//! The engine and next to nothing else: what `cargo xtask size` links and measures.
//!
//! It is never booted. Its entry takes the two regions and a prompt from whoever would boot it, so that everything the
//! engine can do for a model from outside stays reachable, and nothing of a console or a heap is counted.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel {
    use core::mem::MaybeUninit;
    use core::ops::ControlFlow;
    use core::panic::PanicInfo;
    use core::slice;

    use corelm::arena::Arena;
    use corelm::config::Config;
    use corelm::generate::{Event, GenerationConfig, Generator};
    use corelm::gguf::Image;
    use corelm::kv_cache::KvType;
    use corelm::ops::{Features, Ops, Single};
    use corelm::plan::{MemoryPlan, SessionConfig};
    use corelm::sampler::{Sampler, SamplingConfig};
    use corelm::session::Session;
    use corelm::tokenizer::{Specials, Tokenizer};
    use corelm::weights::Weights;

    /// Longest prompt, in bytes and in tokens, and most tokens generated.
    const MAX_PROMPT: usize = 256;

    /// What is lent to the engine for one call.
    #[repr(C)]
    pub struct Request {
        model: *const u8,
        model_bytes: usize,
        memory: *mut MaybeUninit<u8>,
        memory_bytes: usize,
        prompt: *const u8,
        prompt_bytes: usize,
        text: *mut u8,
        text_bytes: usize,
    }

    /// Continues the prompt and returns the bytes of the text, or `usize::MAX` when something was refused.
    ///
    /// # Safety
    ///
    /// Runs at EL1 with FP/SIMD on; each pointer is valid for its bytes, and `memory` and `text` for writing.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn _start(request: &Request) -> usize {
        // SAFETY: the caller vouches for the pointers.
        let (model, memory, prompt, text) = unsafe {
            (
                slice::from_raw_parts(request.model, request.model_bytes),
                slice::from_raw_parts_mut(request.memory, request.memory_bytes),
                slice::from_raw_parts(request.prompt, request.prompt_bytes),
                slice::from_raw_parts_mut(request.text, request.text_bytes),
            )
        };
        // SAFETY: the caller runs at EL1 with FP/SIMD on.
        let ops = Ops::best(unsafe { Features::detect_el1() });
        generate(ops, model, memory, prompt, text).unwrap_or(usize::MAX)
    }

    fn generate(
        ops: Ops,
        model: &[u8],
        memory: &mut [MaybeUninit<u8>],
        prompt: &[u8],
        text: &mut [u8],
    ) -> Option<usize> {
        let image = Image::parse(model).ok()?;
        let config = Config::from_image(&image).ok()?;
        let session_config =
            SessionConfig { n_ctx: 2 * MAX_PROMPT, n_batch: 16, kv_type: KvType::F16, n_workers: 1 };
        let plan = MemoryPlan::new(&image, &config, &session_config).ok()?;
        let mut arena = Arena::new(memory);
        let weights = Weights::resolve(&image, &config, &mut arena).ok()?;
        let tokenizer = Tokenizer::new(&image, &mut arena).ok()?;
        let mut session = Session::new(ops, &Single, &config, weights, &plan, &mut arena).ok()?;
        let mut sampler = Sampler::new(SamplingConfig::BALANCED, tokenizer.vocab_size(), &mut arena).ok()?;

        let tokens = arena.alloc(MAX_PROMPT, 0).ok()?;
        let mut scratch = tokenizer.scratch(MAX_PROMPT, &mut arena).ok()?;
        let n = tokenizer.encode(prompt, Specials::Never, &mut scratch, tokens).ok()?;
        let config = GenerationConfig { max_tokens: MAX_PROMPT, stop: &["\n"], ignores_eog: false };
        let prompt = tokens.get(..n)?;
        let generator = Generator::new(&mut session, &tokenizer, &mut sampler, prompt, config).ok()?;
        let mut written = 0;
        generator
            .run(&mut |event| {
                if let Event::Text(piece) = event {
                    for byte in piece.bytes() {
                        let Some(slot) = text.get_mut(written) else { return ControlFlow::Break(()) };
                        *slot = byte;
                        written += 1;
                    }
                }
                ControlFlow::Continue(())
            })
            .ok()?;
        Some(written)
    }

    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        loop {}
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("a kernel: type `cargo xtask size`");
}
