//! Generation as callers see it, on a real model of `../shared`: text, stop strings, slices, cancellation.

use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::Path;

use corelm::Token;
use corelm::arena::Arena;
use corelm::config::Config;
use corelm::generate::{Event, GenerateError, Generation, GenerationConfig, Generator, StopReason};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::{Session, SessionError};
use corelm::tokenizer::Tokenizer;
use corelm::weights::Weights;

/// "Once upon a time", and what llama.cpp goes on with (`golden/stories260K-f32.json`).
const PROMPT: [Token; 5] = [1, 403, 407, 261, 378];

fn model() -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/stories260K-f32.gguf");
    if path.exists() {
        return Some(std::fs::read(path).unwrap());
    }
    assert!(std::env::var_os("CI").is_none(), "no ../shared, which CI must have");
    eprintln!("skipped: no ../shared");
    None
}

const CONFIG: GenerationConfig<'static> = GenerationConfig { max_tokens: 24, stop: &[], ignores_eog: false };

/// Runs `drive` over a generator with a context of `n_ctx`.
fn with_generator<R>(
    bytes: &[u8],
    n_ctx: usize,
    prompt: &[Token],
    config: GenerationConfig<'_>,
    drive: impl FnOnce(Generator<'_, '_, '_>) -> R,
) -> Result<R, GenerateError> {
    let image = Image::parse(bytes).unwrap();
    let shape = Config::from_image(&image).unwrap();
    let session_config = SessionConfig { n_ctx, n_batch: 3, kv_type: KvType::F32, n_workers: 1 };
    let plan = MemoryPlan::new(&image, &shape, &session_config).unwrap();
    let mut region = vec![MaybeUninit::uninit(); plan.bytes()];
    let mut arena = Arena::new(&mut region);
    let weights = Weights::resolve(&image, &shape, &mut arena).unwrap();
    let tokenizer = Tokenizer::new(&image, &mut arena).unwrap();
    let mut session = Session::new(Ops::scalar(), &Single, &shape, weights, &plan, &mut arena).unwrap();
    let mut sampler = Sampler::new(SamplingConfig::GREEDY, shape.vocab_size, &mut arena).unwrap();
    assert_eq!(arena.stats().used, arena.stats().capacity, "the plan is exact");
    Ok(drive(Generator::new(&mut session, &tokenizer, &mut sampler, prompt, config)?))
}

/// Text and outcome of a run that is never cancelled, in slices of `budget`.
fn run(bytes: &[u8], n_ctx: usize, config: GenerationConfig<'_>, budget: u32) -> (String, Generation) {
    with_generator(bytes, n_ctx, &PROMPT, config, |mut generator| {
        let mut text = String::new();
        let mut receiver = |event: Event<'_>| {
            if let Event::Text(part) = event {
                text.push_str(part);
            }
            ControlFlow::Continue(())
        };
        loop {
            let polled = generator.poll(NonZeroU32::new(budget).unwrap(), &mut receiver).unwrap();
            if let Some(generation) = polled {
                return (text, generation);
            }
        }
    })
    .unwrap()
}

#[test]
fn text_is_the_same_in_slices_of_any_size() {
    let Some(bytes) = model() else { return };
    let (text, generation) = run(&bytes, 64, CONFIG, u32::MAX);
    assert!(text.starts_with(", there was a little girl named Lily."), "{text}");
    assert_eq!(generation, Generation { n_prompt: 5, n_generated: 24, reason: StopReason::MaxTokens });
    for budget in [1, 7, 100] {
        assert_eq!(run(&bytes, 64, CONFIG, budget), (text.clone(), generation), "budget {budget}");
    }
}

#[test]
fn stop_strings_are_not_shown() {
    let Some(bytes) = model() else { return };
    let config = GenerationConfig { stop: &["never", "girl named"], ..CONFIG };
    let (text, generation) = run(&bytes, 64, config, u32::MAX);
    assert_eq!((text.as_str(), generation.reason), (", there was a little ", StopReason::StopString(1)));
}

#[test]
fn a_full_context_ends_the_text_and_a_longer_prompt_is_refused() {
    let Some(bytes) = model() else { return };
    let (text, generation) = run(&bytes, 9, CONFIG, u32::MAX);
    assert_eq!((generation.n_generated, generation.reason), (5, StopReason::ContextFull));
    assert!(!text.is_empty());
    let refused = with_generator(&bytes, 4, &PROMPT, CONFIG, |_| ()).unwrap_err();
    assert_eq!(refused, GenerateError::Session(SessionError::ContextFull { need: 5, n_ctx: 4 }));
    let empty = with_generator(&bytes, 4, &[], CONFIG, |_| ()).unwrap_err();
    assert_eq!(empty, GenerateError::Session(SessionError::NoTokens));
    // In the second batch, and refused before the first one runs.
    let odd = with_generator(&bytes, 64, &[1, 403, 407, 512], CONFIG, |_| ()).unwrap_err();
    assert_eq!(odd, GenerateError::Session(SessionError::NoSuchToken { token: 512, vocab_size: 512 }));
}

#[test]
fn the_receiver_can_cancel_and_no_token_is_no_text() {
    let Some(bytes) = model() else { return };
    let mut n_events = 0;
    let generation = with_generator(&bytes, 64, &PROMPT, CONFIG, |generator| {
        generator.run(&mut |_| {
            n_events += 1;
            if n_events == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    assert_eq!(generation.unwrap().unwrap().reason, StopReason::Cancelled);
    assert_eq!(n_events, 4);

    let (text, generation) = run(&bytes, 64, GenerationConfig { max_tokens: 0, ..CONFIG }, u32::MAX);
    assert_eq!((text.as_str(), generation.n_generated, generation.reason), ("", 0, StopReason::MaxTokens));
}
