//! A whole model, 6 layers of 384 with 32 000 tokens at Q4_0: steps, batches, generated text.

use core::hint::black_box;
use core::mem::MaybeUninit;
use core::ops::ControlFlow;

use corelm::Token;
use corelm::arena::Arena;
use corelm::config::Config;
use corelm::generate::{Event, GenerateError, GenerationConfig, Generator};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::GgmlType;
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::{Session, SessionError};
use corelm::tokenizer::Tokenizer;

use super::expect;
use crate::bench::{Case, CaseError, Lab, Target};
use crate::model;
use crate::synth::{self, SynthConfig};

/// The model of these cases.
pub const MODEL: SynthConfig = SynthConfig::SEED;

/// Memory that is enough for [`write_model`].
pub const MODEL_BYTES: usize = 24 << 20;

/// Writes [`MODEL`] to the front of `memory`; gives the model and the memory behind it.
///
/// # Errors
///
/// [`CaseError::Memory`] when `memory` is shorter than [`MODEL_BYTES`].
pub fn write_model(memory: &mut [MaybeUninit<u8>]) -> Result<(&[u8], &mut [MaybeUninit<u8>]), CaseError> {
    let (front, rest) = memory.split_at_mut_checked(MODEL_BYTES).ok_or(CaseError::Memory)?;
    let bytes = Arena::new(front).alloc(MODEL_BYTES - Arena::ALIGN, 0u8).map_err(|_| CaseError::Memory)?;
    let n_left = synth::write_model(&MODEL, &mut *bytes).map_err(|_| CaseError::Memory)?.len();
    Ok((bytes.get(..bytes.len() - n_left).unwrap_or_default(), rest))
}

/// Weights that every token meets: the layers' matrices.
const LAYER_WEIGHTS: usize = MODEL.n_layers * (4 * MODEL.dim * MODEL.dim + 3 * MODEL.dim * MODEL.hidden_dim);
/// Weights that a token whose logits are wanted meets as well.
const OUTPUT_WEIGHTS: usize = MODEL.vocab_size * MODEL.dim;

/// A case whose iteration takes `n` tokens through the layers, of which `n_logits` through the output, in `n_passes`
/// over the weights.
const fn case(
    name: &'static str,
    shape: &'static str,
    (n, n_logits, n_passes): (usize, usize, usize),
    body: fn(&mut Lab<'_>) -> Result<(), CaseError>,
) -> Case {
    let blocks = GgmlType::Q4_0;
    let weights = (LAYER_WEIGHTS + OUTPUT_WEIGHTS) / blocks.block_values().get() * blocks.block_bytes().get();
    Case {
        name,
        shape,
        bytes: (n_passes * weights) as u64,
        flops: 2 * (n * LAYER_WEIGHTS + n_logits * OUTPUT_WEIGHTS) as u64,
        target: Target::micros(200_000 * n as u64),
        per_backend: true,
        needs_model: true,
        body,
    }
}

/// `N` tokens, one after the other.
const fn forward<const N: usize>(shape: &'static str) -> Case {
    case("forward/q4_0", shape, (N, N, N), |lab| forward_body(lab, N, 1))
}

/// `N` tokens at once.
const fn prefill<const N: usize>(shape: &'static str) -> Case {
    case("prefill/q4_0", shape, (N, 1, 1), |lab| forward_body(lab, N, N))
}

/// `N` tokens of text behind a prompt of [`PROMPT`]'s length.
const fn generation<const N: usize>(
    name: &'static str,
    shape: &'static str,
    body: fn(&mut Lab<'_>) -> Result<(), CaseError>,
) -> Case {
    let n_steps = PROMPT.len() + N - 1;
    case(name, shape, (n_steps, N, N), body)
}

/// The model cases.
pub const CASES: &[Case] = &[
    forward::<1>("1"),
    forward::<5>("5"),
    forward::<10>("10"),
    forward::<20>("20"),
    prefill::<1>("1"),
    prefill::<2>("2"),
    prefill::<4>("4"),
    prefill::<8>("8"),
    prefill::<16>("16"),
    prefill::<128>("128"),
    generation::<5>("generate/greedy", "5", |lab| generate(lab, 5, SamplingConfig::GREEDY)),
    generation::<10>("generate/greedy", "10", |lab| generate(lab, 10, SamplingConfig::GREEDY)),
    generation::<20>("generate/greedy", "20", |lab| generate(lab, 20, SamplingConfig::GREEDY)),
    generation::<5>("generate/top_k", "5", |lab| generate(lab, 5, TOP_K)),
    generation::<10>("generate/top_k", "10", |lab| generate(lab, 10, TOP_K)),
    generation::<20>("generate/top_k", "20", |lab| generate(lab, 20, TOP_K)),
    generation::<5>("generate/top_p", "5", |lab| generate(lab, 5, TOP_P)),
    generation::<10>("generate/top_p", "10", |lab| generate(lab, 10, TOP_P)),
    generation::<20>("generate/top_p", "20", |lab| generate(lab, 20, TOP_P)),
];

const TOP_K: SamplingConfig =
    SamplingConfig { temperature: 0.8, top_k: 40, seed: 1, ..SamplingConfig::GREEDY };
const TOP_P: SamplingConfig =
    SamplingConfig { temperature: 0.8, top_p: 0.9, seed: 1, ..SamplingConfig::GREEDY };

/// Positions in the context of every case.
const N_CTX: usize = 256;

/// What generation begins with.
const PROMPT: [Token; 4] = [31_998, 500, 1_000, 1_500];

/// The greedy choice after the first `n` of [`token`]'s tokens, on every back-end: the best logit leads by far more than
/// rounding can move.
const CHOICES: [(usize, Token); 9] = [
    (1, 1056),
    (2, 6546),
    (4, 2482),
    (5, 14826),
    (8, 14826),
    (10, 13376),
    (16, 13376),
    (20, 20202),
    (128, 26253),
];

/// The first tokens of greedy generation behind [`PROMPT`].
const GREEDY: [Token; 2] = [11_035, 25_507];

/// Token `i` of the sequence that is fed.
fn token(i: usize) -> Token {
    (i * 7919 + 13) as Token % MODEL.vocab_size as Token
}

fn session_error(error: SessionError) -> CaseError {
    CaseError::Engine(error.code())
}

/// Feeds `n` tokens in batches of `n_batch`.
fn forward_body(lab: &mut Lab<'_>, n: usize, n_batch: usize) -> Result<(), CaseError> {
    let mut arena = Arena::new(lab.memory);
    let mut session =
        model::session(lab.model, (N_CTX, n_batch, KvType::F16), lab.ops, lab.workers, &mut arena)?;
    let mut tokens = [0; 128];
    tokens.iter_mut().enumerate().for_each(|(i, slot)| *slot = token(i));
    let tokens = tokens.get(..n).ok_or(CaseError::Wrong("a longer sequence than there is"))?;
    let run = |session: &mut Session<'_, '_>| -> Result<(), SessionError> {
        session.truncate(0);
        for batch in black_box(tokens).chunks(n_batch) {
            session.prefill(batch)?;
        }
        black_box(session.logits());
        Ok(())
    };
    run(&mut session).map_err(session_error)?;
    expect(CHOICES.contains(&(n, model::argmax(session.logits()))), "another token than always")?;
    lab.bencher.iter(&mut || {
        let _ = run(&mut session);
    });
    Ok(())
}

/// Generates `n` tokens behind [`PROMPT`].
fn generate(lab: &mut Lab<'_>, n: usize, sampling: SamplingConfig) -> Result<(), CaseError> {
    let mut arena = Arena::new(lab.memory);
    let image = Image::parse(lab.model).map_err(|error| CaseError::Engine(error.code()))?;
    let config = Config::from_image(&image).map_err(|error| CaseError::Engine(error.code()))?;
    let tokenizer = Tokenizer::new(&image, &mut arena).map_err(|error| CaseError::Engine(error.code()))?;
    let mut sampler = Sampler::new(sampling, config.vocab_size, &mut arena).map_err(|_| CaseError::Memory)?;
    let shape = (N_CTX, PROMPT.len(), KvType::F16);
    let mut session: Session<'_, '_> = model::session(lab.model, shape, lab.ops, lab.workers, &mut arena)?;
    let until = GenerationConfig { max_tokens: n, stop: &[], ignores_eog: true };
    let mut run = |chosen: &mut [Token]| -> Result<usize, GenerateError> {
        session.truncate(0);
        sampler.reset(sampling)?;
        let mut slots = chosen.iter_mut();
        let generator = Generator::new(&mut session, &tokenizer, &mut sampler, &PROMPT, until)?;
        let generation = generator.run(&mut |event| {
            if let Event::Token { token, .. } = event
                && let Some(slot) = slots.next()
            {
                *slot = token;
            }
            ControlFlow::Continue(())
        })?;
        Ok(generation.n_generated)
    };
    let (mut once, mut twice) = ([0; 20], [0; 20]);
    let n_once = run(&mut once).map_err(|error| CaseError::Engine(error.code()))?;
    let n_twice = run(&mut twice).map_err(|error| CaseError::Engine(error.code()))?;
    expect((n_once, n_twice) == (n, n), "another number of tokens than wanted")?;
    expect(once == twice, "the same seed chose other tokens")?;
    if sampling == SamplingConfig::GREEDY {
        expect(once.starts_with(&GREEDY), "other tokens than always")?;
    } else {
        // Text drawn at random from 40 candidates repeats a token now and then, but never the same one all the time.
        expect(once[..n].iter().any(|&token| token != once[0]), "the same token at every step")?;
    }
    lab.bencher.iter(&mut || {
        let _ = black_box(run(black_box(&mut once)));
    });
    Ok(())
}
