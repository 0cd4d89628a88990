//! Equal inputs give equal bits: however a prompt is cut, on any number of workers, in any build, on any machine.
//!
//! The hashes in `determinism/logits.txt` are data. A change that moves a bit of a logit shows here, and is either a bug or
//! says so by recording others.

use core::fmt::Write;
use core::num::NonZeroU32;

use corelm::Token;
use corelm::arena::Arena;
use corelm::gguf::{Digest, Sha256};
use corelm::kv_cache::KvType;
use corelm::ops::{Backend, Single, Workers};
use corelm::session::{Progress, Session, SessionError};

use super::Stand;
use super::engine::{GOLDEN, PROMPT, WIDE_HEADS};
use crate::model;
use crate::random::Random;
use crate::synth::SynthConfig;
use crate::text::Text;

/// What was recorded: model, back-ends, hash of all logits.
const RECORDED: &str = include_str!("determinism/logits.txt");

/// The models, by their names in the record, with what follows [`PROMPT`] and the type of the cache.
fn models() -> [(&'static str, SynthConfig, [Token; 8], KvType); 6] {
    let [llama_q4_0, llama_f16, qwen2_q8_0, gpt2_q4_0, gpt2_f32] = GOLDEN;
    let model = |name, (config, ids), kv_type| (name, config, ids, kv_type);
    [
        model("llama_q4_0", llama_q4_0, KvType::F16),
        model("llama_f16", llama_f16, KvType::F16),
        model("qwen2_q8_0", qwen2_q8_0, KvType::F32),
        model("gpt2_q4_0", gpt2_q4_0, KvType::F16),
        model("gpt2_f32", gpt2_f32, KvType::F32),
        model("llama_q4_0_cache_q8_0", (WIDE_HEADS, [1, 500, 33, 33, 260, 7, 301, 12]), KvType::Q8_0),
    ]
}

/// Back-ends that give the same bits, by the first of them.
fn family(backend: Backend) -> &'static str {
    match backend {
        Backend::Neon | Backend::NeonDotprod | Backend::NeonI8mm => "neon",
        Backend::Avx2 | Backend::AvxVnni => "avx2",
        Backend::Avx512Vnni | Backend::Amx => "avx512_vnni",
        other => other.name(),
    }
}

/// The hash recorded for `model` in `family`, if there is one.
fn recorded(model: &str, family: &str) -> Option<Digest> {
    let fields = |line: &'static str| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?, words.next()?))
    };
    let mut lines = RECORDED.lines().filter(|line| !line.starts_with('#')).filter_map(fields);
    let (_, _, hash) = lines.find(|&(name, backends, _)| (name, backends) == (model, family))?;
    Some(Digest::from_hex(hash).expect("a hash in logits.txt"))
}

/// How the work on a prompt is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    n_batch: usize,
    /// Units of a slice.
    budget: u32,
    /// Whether the work is the caller's alone.
    is_alone: bool,
}

const CUTS: [Cut; 5] = [
    Cut { n_batch: 9, budget: u32::MAX, is_alone: false },
    Cut { n_batch: 9, budget: u32::MAX, is_alone: false },
    Cut { n_batch: 1, budget: u32::MAX, is_alone: true },
    Cut { n_batch: 4, budget: 7, is_alone: false },
    Cut { n_batch: 9, budget: 1, is_alone: true },
];

pub fn logits_have_the_recorded_hash(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    let family = family(ops.backend());
    let mut others = Text::<1024>::EMPTY;
    for (name, config, ids, kv_type) in models() {
        let (memory, spare) = stand.memory.split_at_mut(2 << 20);
        let bytes = model::write(&config, &mut Arena::new(memory)).expect("test memory");
        let mut first = None;
        for cut in CUTS {
            let workers = if cut.is_alone { &Single as &dyn Workers } else { workers };
            let mut arena = Arena::new(spare);
            let shape = (32, cut.n_batch, kv_type);
            let mut session = model::session(bytes, shape, ops, workers, &mut arena).expect("a session");
            let have = hash(&mut session, &ids, cut).expect("logits");
            let want = *first.get_or_insert(have);
            assert!(have == want, "{name}, {ops:?}, {cut:?}: {have}, and {want} when cut as {:?}", CUTS[0]);
        }
        if let (Some(have), Some(want)) = (first, recorded(name, family))
            && have != want
        {
            writeln!(others, "{name} {family} {have}").expect("room for a line of each model");
        }
    }
    assert!(others.as_str().is_empty(), "{ops:?} does not give what is recorded, but\n{others}");
}

/// The hash of all logits behind [`PROMPT`] and behind each of `ids`.
fn hash(session: &mut Session<'_, '_>, ids: &[Token], cut: Cut) -> Result<Digest, SessionError> {
    let mut hash = Sha256::new();
    let mut put = |logits: &[f32]| logits.iter().for_each(|x| hash.update(&x.to_bits().to_le_bytes()));
    let n_batches = PROMPT.len().div_ceil(cut.n_batch);
    for (i, batch) in PROMPT.chunks(cut.n_batch).enumerate() {
        if i + 1 < n_batches {
            session.begin_without_logits(batch)?
        } else {
            session.begin(batch)?
        }
        poll(session, cut)?;
    }
    put(session.logits());
    for id in ids {
        session.begin(&[*id])?;
        poll(session, cut)?;
        put(session.logits());
    }
    Ok(hash.finish())
}

fn poll(session: &mut Session<'_, '_>, cut: Cut) -> Result<(), SessionError> {
    let budget = NonZeroU32::new(cut.budget).unwrap_or(NonZeroU32::MIN);
    while session.poll(budget)? == Progress::Pending {}
    Ok(())
}

/// Two sessions on one model whose slices alternate at random give each what it gives alone.
pub fn interleaved_sessions_equal_each_alone(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    let other: [Token; 9] = [301, 5, 84, 84, 400, 256, 33, 2, 499];
    let mut random = Random::new(91);
    for (name, config, _, kv_type) in models() {
        let (memory, spare) = stand.memory.split_at_mut(2 << 20);
        let bytes = model::write(&config, &mut Arena::new(memory)).expect("test memory");
        let mut arena = Arena::new(spare);
        let mut both = [PROMPT, other].map(|prompt| {
            let session =
                model::session(bytes, (16, 3, kv_type), ops, workers, &mut arena).expect("a session");
            (session, prompt)
        });
        let alone = [0, 1].map(|i| {
            let (session, prompt) = &mut both[i];
            let logits = session.prefill(prompt).expect("a prompt");
            let logits = arena.alloc_with(logits.len(), |i| logits[i]).expect("test memory");
            session.reset();
            logits
        });
        let mut n_fed = [0, 0];
        while n_fed != [PROMPT.len(); 2] || both.iter().any(|(session, _)| session.is_pending()) {
            let i = random.below(2);
            let (session, prompt) = &mut both[i];
            if session.is_pending() {
                let budget = NonZeroU32::new(1 + random.below(6) as u32).unwrap_or(NonZeroU32::MIN);
                session.poll(budget).expect("a slice");
            } else if n_fed[i] < prompt.len() {
                session.begin(&prompt[n_fed[i]..][..3]).expect("a batch");
                n_fed[i] += 3;
            }
        }
        for (i, (session, _)) in both.iter().enumerate() {
            let (have, want) = (session.logits().iter(), alone[i].iter());
            assert!(
                have.map(|x| x.to_bits()).eq(want.map(|x| x.to_bits())),
                "{name}, {ops:?}: session {i} differs"
            );
        }
        assert!(alone[0] != alone[1], "{name}: the sessions cannot be told apart");
    }
}

/// Every model is recorded for the back-ends that CI has, and one bit of a logit is another hash.
pub fn every_model_is_recorded(stand: &mut Stand<'_>) {
    for (name, ..) in models() {
        for family in ["scalar", "neon", "avx2"] {
            assert!(recorded(name, family).is_some(), "no hash of {name} for {family}");
        }
    }
    let logits = crate::data::f32s(&mut stand.arena(), 512, 90);
    let hash = |logits: &[f32]| {
        let mut hash = Sha256::new();
        logits.iter().for_each(|x| hash.update(&x.to_bits().to_le_bytes()));
        hash.finish()
    };
    let before = hash(logits);
    for (i, bit) in [(0, 0), (255, 31), (511, 1)] {
        let whole = logits[i];
        logits[i] = f32::from_bits(whole.to_bits() ^ 1 << bit);
        assert!(hash(logits) != before, "bit {bit} of logit {i} does not show");
        logits[i] = whole;
    }
    assert!(hash(logits) == before);
}
