//! Damaged models, taken all the way from bytes to tokens: an error or tokens, never a panic, and the same each time.
//!
//! `CORELM_MUTANTS=1000000 cargo test --release -p corelm-cases --test mutants` goes through as many; `CORELM_SEED` begins
//! elsewhere.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::config::{Architecture, Config};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::cpu::Features;
use corelm::ops::{GgmlType, Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::session::{Session, SessionError};
use corelm::tokenizer::{Controls, Specials, Tokenizer};
use corelm::weights::Weights;
use corelm_cases::mutate::mutate;
use corelm_cases::synth::{self, SynthConfig, model_bytes, write_model};

const SESSION: SessionConfig = SessionConfig { n_ctx: 24, n_batch: 8, kv_type: KvType::F16, n_workers: 1 };
const TEXT: &[u8] = b"the <s> kernel\xff 1234\n\xe2\x96\x81";

/// How a mutant ended.
#[derive(Clone, Debug, PartialEq)]
enum End {
    /// By an error, in words, before anything was computed.
    Refused(String),
    /// By numbers that are none.
    NonFinite,
    /// With the greedy tokens of three steps.
    Ran(Vec<Token>),
}

/// Good models of every kind of tokenizer and architecture, each small.
fn models() -> Vec<Vec<u8>> {
    let small = SynthConfig { vocab_size: 400, n_ctx: 32, hidden_dim: 64, ..SynthConfig::TINY };
    let kinds = [
        (Architecture::Llama, synth::Tokenizer::Bpe, GgmlType::Q4_0),
        (Architecture::Llama, synth::Tokenizer::Spm, GgmlType::Q8_0),
        (Architecture::Qwen2, synth::Tokenizer::Bpe, GgmlType::F16),
        (Architecture::Gpt2, synth::Tokenizer::Bpe, GgmlType::Q4_1),
    ];
    let write = |(arch, tokenizer, ty)| {
        let n_kv_heads = if arch == Architecture::Gpt2 { small.n_heads } else { small.n_kv_heads };
        let config = SynthConfig { arch, tokenizer, ty, n_kv_heads, ..small };
        let mut file = vec![0; model_bytes(&config).unwrap() as usize];
        let n_left = write_model(&config, &mut file[..]).unwrap().len();
        assert_eq!(n_left, 0);
        file
    };
    kinds.into_iter().map(write).collect()
}

/// From bytes to tokens.
fn run(file: &[u8], ops: Ops) -> End {
    try_run(file, ops).unwrap_or_else(|end| end)
}

fn try_run(file: &[u8], ops: Ops) -> Result<End, End> {
    let refused = |error: &dyn std::fmt::Display| End::Refused(error.to_string());
    let image = Image::parse(file).map_err(|error| refused(&error))?;
    let config = Config::from_image(&image).map_err(|error| refused(&error))?;
    let plan = MemoryPlan::new(&image, &config, &SESSION).map_err(|error| refused(&error))?;
    // Everything in a file stands in it: a plan for one of some 100 KB cannot be for more than a few times that.
    assert!(plan.bytes() < 16 << 20, "{} bytes for a file of {}", plan.bytes(), file.len());
    let mut region = vec![MaybeUninit::uninit(); plan.bytes()];
    let mut arena = Arena::new(&mut region);
    let weights = Weights::resolve(&image, &config, &mut arena).map_err(|error| refused(&error))?;
    let tokenizer = Tokenizer::new(&image, &mut arena).map_err(|error| refused(&error))?;
    let mut session =
        Session::new(ops, &Single, &config, weights, &plan, &mut arena).map_err(|error| refused(&error))?;
    let mut tokens = encode(&tokenizer);
    tokens.truncate(SESSION.n_ctx - 4);
    if tokens.is_empty() {
        tokens.push(0);
    }
    let finite = |error| match error {
        SessionError::NonFinite { .. } => End::NonFinite,
        error => panic!("{error}"),
    };
    let mut logits = session.prefill(&tokens).map_err(finite)?;
    let mut generated = Vec::new();
    for _ in 0..3 {
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        generated.push(best as Token);
        logits = session.step(best as Token).map_err(finite)?;
    }
    let mut text = [0; 1 << 12];
    if let Err(error) = tokenizer.decode(&generated, Controls::Show, &mut text) {
        assert!(matches!(error, corelm::TokenizeError::OutputFull { .. }), "{error}");
    }
    Ok(End::Ran(generated))
}

/// The tokens of a text, once without control tokens and once with them; none where the vocabulary lacks a byte.
fn encode(tokenizer: &Tokenizer<'_, '_>) -> Vec<Token> {
    let layout = tokenizer.scratch_layout(TEXT.len(), Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut scratch = tokenizer.scratch(TEXT.len(), &mut Arena::new(&mut region)).unwrap();
    let (mut tokens, mut out) = (Vec::new(), [0; 128]);
    for specials in [Specials::Never, Specials::All] {
        if let Ok(n) = tokenizer.encode(TEXT, specials, &mut scratch, &mut out) {
            tokens.extend_from_slice(&out[..n]);
        }
    }
    assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab_size()));
    tokens
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// A good model of `models`, damaged by a seed, in the middle of `file`.
fn mutant<'f>(models: &[Vec<u8>], seed: u64, file: &'f mut Vec<u8>) -> &'f [u8] {
    let good = &models[seed as usize % models.len()];
    file.clear();
    file.push(0); // so that nothing lies where it would be aligned
    file.extend_from_slice(good);
    file.resize(1 + good.len() + 4096, 0);
    let len = mutate(&mut file[1..], good.len(), seed);
    &file[1..1 + len]
}

/// Seeds that went wrong once: a plan of 28 MB, for a width that no tensor has.
const FOUND: [u64; 1] = [1_210_411];

#[test]
fn mutants_that_went_wrong_once_do_not_again() {
    let (models, mut file) = (models(), Vec::new());
    for seed in FOUND {
        run(mutant(&models, seed, &mut file), Ops::best(Features::detect_host()));
    }
}

#[test]
fn mutants_end_with_an_error_or_tokens() {
    let models = models();
    let ops = Ops::best(Features::detect_host());
    for model in &models {
        assert!(matches!(run(model, ops), End::Ran(_)), "{:?}", run(model, ops));
    }
    let (first, n) = (number("CORELM_SEED", 0), number("CORELM_MUTANTS", 20_000));
    let (next, refused, ran, non_finite) =
        (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let mut file = Vec::new();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + n {
                return;
            }
            let mutant = mutant(&models, seed, &mut file);
            let end = std::panic::catch_unwind(|| run(mutant, ops))
                .unwrap_or_else(|_| panic!("seed {seed} panics: CORELM_SEED={seed} CORELM_MUTANTS=1"));
            if seed % 16 == 0 {
                assert_eq!(run(mutant, ops), end, "seed {seed}");
            }
            let count = match end {
                End::Refused(_) => &refused,
                End::NonFinite => &non_finite,
                End::Ran(_) => &ran,
            };
            count.fetch_add(1, Relaxed);
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| {
            scope.spawn(work);
        });
    });
    let [refused, ran, non_finite] = [refused, ran, non_finite].map(|count| count.into_inner());
    println!("{n} mutants: {refused} refused, {ran} ran, {non_finite} gave numbers that are none");
    assert_eq!(refused + ran + non_finite, n);
    if n >= 1000 {
        assert!(refused > n / 4 && ran > n / 10 && non_finite > 0, "the mutants are of one kind");
    }
}
