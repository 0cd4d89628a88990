//! From the bytes of a model to tokens, whatever they are.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use corelm::arena::{Arena, Layout};
use corelm::config::{Architecture, Config};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Features, GgmlType, Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::session::{Session, SessionError};
use corelm::tokenizer::{Controls, Specials, Tokenizer};
use corelm::weights::Weights;
use corelm::{Error, Token};
use corelm_cases::synth::{self, SynthConfig, model_bytes, write_model};

const SESSION: SessionConfig = SessionConfig { n_ctx: 24, n_batch: 8, kv_type: KvType::F16, n_workers: 1 };
const TEXT: &[u8] = b"the <s> kernel\xff 1234\n\xe2\x96\x81";

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// By an error, in words, before anything was computed.
    Refused(String),
    /// By numbers that are none.
    NonFinite,
    /// With the greedy tokens of three steps.
    Ran(Vec<Token>),
}

/// Good models of every kind of tokenizer and architecture, each small.
pub fn models() -> Vec<Vec<u8>> {
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
pub fn run(file: &[u8], ops: Ops) -> End {
    try_run(file, ops).unwrap_or_else(|end| end)
}

/// From bytes to weights and an index of the vocabulary, in memory of their own.
#[allow(dead_code, reason = "one of the tests that share this file")]
pub fn load(file: &[u8]) -> Result<(), Error> {
    let image = Image::parse(file)?;
    let config = Config::from_image(&image)?;
    let plan = MemoryPlan::new(&image, &config, &SESSION)?;
    let mut region = vec![MaybeUninit::uninit(); plan.model_bytes()];
    let mut arena = Arena::new(&mut region);
    Weights::resolve(&image, &config, &mut arena)?;
    Tokenizer::new(&image, &mut arena)?;
    Ok(())
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
        assert!(logits.iter().all(|x| x.is_finite()), "numbers that are none, and no error");
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert!(best < tokenizer.vocab_size());
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

/// A number of the environment.
pub fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// A damaged file, by a seed, in lent memory.
pub type Damage<'d> = dyn for<'f> Fn(u64, &'f mut Vec<u8>) -> &'f [u8] + Sync + 'd;

/// How many files ended how.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub n: u64,
    pub n_refused: u64,
    pub n_ran: u64,
    pub n_non_finite: u64,
}

/// Runs as many damaged files as `CORELM_MUTANTS` says, on all cores, and tells them as a figure of `what`; every sixteenth must end the same way twice.
pub fn run_all(what: &str, usual: u64, damage: &Damage<'_>) -> Ends {
    let ops = Ops::best(Features::detect_host());
    let (first, n) = (number("CORELM_SEED", 0), number("CORELM_MUTANTS", usual));
    let (next, refused, ran, non_finite) =
        (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let mut file = Vec::new();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + n {
                return;
            }
            let damaged = damage(seed, &mut file);
            let end = std::panic::catch_unwind(|| run(damaged, ops))
                .unwrap_or_else(|_| panic!("seed {seed} panics: CORELM_SEED={seed} CORELM_MUTANTS=1"));
            if seed % 16 == 0 {
                assert_eq!(run(damaged, ops), end, "seed {seed}");
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
    let [n_refused, n_ran, n_non_finite] = [refused, ran, non_finite].map(AtomicU64::into_inner);
    println!(
        "figure {what}: {n} files: {n_refused} refused, {n_ran} ran, {n_non_finite} not finite; 0 crashes"
    );
    assert_eq!(n_refused + n_ran + n_non_finite, n);
    Ends { n, n_refused, n_ran, n_non_finite }
}
