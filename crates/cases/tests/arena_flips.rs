//! A bit of a session's memory turns over while it works: it answers, with whatever tokens, or says an error; it never
//! panics, and `reset` makes it what it was.
//!
//! What is turned over is all that a session keeps its values in: cache, intermediates, tokens, the sampler's candidates.
//! The tables of weights and tokenizer are not among it: they are written once, belong to the model's memory, and hold
//! addresses, for which there is no check. A kernel maps them read-only.
//!
//! `CORELM_ARENA_FLIPS=100000` for more, also under AddressSanitizer.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;

use corelm::arena::Arena;
use corelm::config::{Architecture, Config};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Features, GgmlType, Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::{Progress, Session, SessionError};
use corelm::weights::Weights;
use corelm::{Error, Token};
use corelm_cases::synth::{SynthConfig, model_bytes, write_model};

const PROMPT: [Token; 5] = [84, 256, 300, 12, 277];
const N_DRAWN: usize = 3;

/// A memory whose bits turn over under its user.
struct Faulty {
    start: *mut MaybeUninit<u8>,
    len: usize,
}

impl Faulty {
    fn new(len: usize) -> Self {
        let bytes = vec![MaybeUninit::new(0); len].leak();
        Self { start: bytes.as_mut_ptr(), len }
    }

    /// The memory, for its one user.
    fn lend(&self) -> &'static mut [MaybeUninit<u8>] {
        // SAFETY: leaked, this long, and lent once for each `Faulty`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    fn byte(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: within the memory, all of which was initialised. Like a fault of the hardware this asks nobody who
        // borrows it; the engine is not running.
        unsafe { self.start.add(at).cast::<u8>().read_volatile() }
    }

    fn flip(&self, at: usize, bit: u32) {
        let byte = self.byte(at) ^ 1 << bit;
        // SAFETY: as in `byte`.
        unsafe { self.start.add(at).cast::<u8>().write_volatile(byte) };
    }

    /// Where `bytes` lie.
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let held: Vec<u8> = (0..self.len).map(|at| self.byte(at)).collect();
        held.windows(bytes.len()).position(|window| window == bytes)
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }
}

/// What a run gave: all logits and the tokens drawn.
type Answer = (Vec<u32>, Vec<Token>);

/// Runs prompt and draws in slices; `between` is called before each.
fn run(
    session: &mut Session<'_, '_>,
    sampler: &mut Sampler<'_>,
    between: &mut dyn FnMut(),
) -> Result<Answer, Error> {
    let budget = NonZeroU32::new(2).unwrap();
    let mut all = (Vec::new(), Vec::new());
    session.reset();
    sampler.reset(SamplingConfig::BALANCED)?;
    session.begin(&PROMPT)?;
    loop {
        between();
        if black_box(&mut *session).poll(budget)? == Progress::Pending {
            continue;
        }
        between();
        let (session, sampler) = (black_box(&mut *session), black_box(&mut *sampler));
        all.0.extend(session.logits().iter().map(|x| x.to_bits()));
        let token = sampler.sample(session.logits())?;
        assert!((token as usize) < session.vocab_size(), "token {token} is none of the vocabulary");
        sampler.accept(token);
        all.1.push(token);
        if all.1.len() == N_DRAWN {
            return Ok(all);
        }
        session.begin(&[token])?;
    }
}

/// A model, and a session and a sampler on it whose memory is faulty.
fn with_faulty<R>(
    config: SynthConfig,
    kv_type: KvType,
    ops: Ops,
    body: impl FnOnce(&Faulty, &mut Session<'_, '_>, &mut Sampler<'_>) -> R,
) -> R {
    let mut file = vec![0; model_bytes(&config).unwrap() as usize];
    assert!(write_model(&config, &mut file[..]).unwrap().is_empty());
    let image = Image::parse(&file).unwrap();
    let config = Config::from_image(&image).unwrap();
    let wanted = SessionConfig { n_ctx: 12, n_batch: 5, kv_type, n_workers: 1 };
    let plan = MemoryPlan::new(&image, &config, &wanted).unwrap();
    let mut model = vec![MaybeUninit::uninit(); plan.model_bytes()];
    let weights = Weights::resolve(&image, &config, &mut Arena::new(&mut model)).unwrap();
    let memory = Faulty::new(plan.session_bytes());
    let mut arena = Arena::new(memory.lend());
    let mut session = Session::new(ops, &Single, &config, weights, &plan, &mut arena).unwrap();
    let mut sampler = Sampler::new(SamplingConfig::BALANCED, config.vocab_size, &mut arena).unwrap();
    body(&memory, &mut session, &mut sampler)
}

fn models() -> [(SynthConfig, KvType); 4] {
    // Wide enough for the workspace, where nothing is read before it is written, to be about half of the memory.
    let small = SynthConfig {
        n_layers: 1,
        dim: 128,
        hidden_dim: 128,
        n_heads: 4,
        n_kv_heads: 4,
        vocab_size: 400,
        ..SynthConfig::TINY
    };
    [
        (SynthConfig { ty: GgmlType::Q4_0, ..small }, KvType::F16),
        (SynthConfig { ty: GgmlType::F16, arch: Architecture::Qwen2, ..small }, KvType::F32),
        (SynthConfig { ty: GgmlType::Q8_0, ..small }, KvType::Q8_0),
        (SynthConfig { ty: GgmlType::F32, arch: Architecture::Gpt2, ..small }, KvType::F16),
    ]
}

#[test]
fn a_turned_bit_is_an_answer_or_an_error_and_reset_heals() {
    let n_flips = std::env::var("CORELM_ARENA_FLIPS").map_or(1200, |n| n.parse::<usize>().unwrap());
    let backends: Vec<Ops> = Ops::available(Features::detect_host()).collect();
    let n_each = n_flips.div_ceil(backends.len() * models().len());
    let (mut n_same, mut n_other, mut n_errors) = (0, 0, 0);
    for (i, (config, kv_type)) in models().into_iter().enumerate() {
        for &ops in &backends {
            with_faulty(config, kv_type, ops, |memory, session, sampler| {
                let mut n_slices = 0;
                let good = run(session, sampler, &mut || n_slices += 1).unwrap();
                let mut random = Random(i as u64);
                for n in 0..n_each {
                    let (when, bit) = (random.below(n_slices), random.below(8) as u32);
                    // Every second time anywhere, else where something is.
                    let (mut at, mut n_tries) = (random.below(memory.len), if n % 2 == 0 { 0 } else { 2000 });
                    let mut slice = 0;
                    let answer = run(session, sampler, &mut || {
                        if slice == when {
                            while n_tries > 0 && memory.byte(at) == 0 {
                                (at, n_tries) = (random.below(memory.len), n_tries - 1);
                            }
                            memory.flip(at, bit);
                        }
                        slice += 1;
                    });
                    match answer {
                        Ok(answer) if answer == good => n_same += 1,
                        Ok(_) => n_other += 1,
                        Err(_) => n_errors += 1,
                    }
                    let again = run(session, sampler, &mut || ());
                    assert!(again.as_ref() == Ok(&good), "{ops:?}: bit {bit} of byte {at} outlives a reset");
                }
            });
        }
    }
    let n = n_same + n_other + n_errors;
    println!(
        "figure R13 arena: {n} bits flipped: {n_same} answers the same, {n_other} others, {n_errors} errors; all healed"
    );
    assert!(n_same > 0 && n_other > n_flips / 20, "the flips reach nothing");
}

/// The numbers in memory that decide where the engine reads: every bit of every token of a batch.
#[test]
fn a_token_that_is_none_any_more_is_an_error() {
    for (config, kv_type) in models() {
        with_faulty(config, kv_type, Ops::scalar(), |memory, session, _| {
            session.begin(&PROMPT).unwrap();
            let bytes: Vec<u8> = PROMPT.iter().flat_map(|token| token.to_le_bytes()).collect();
            let start = memory.find(&bytes).expect("the tokens are in the session's memory");
            for bit in 0..8 * bytes.len() {
                session.reset();
                session.begin(&PROMPT).unwrap();
                memory.flip(start + bit / 8, bit as u32 % 8);
                let token = PROMPT[bit / 32] ^ 1 << (bit % 32);
                let answer = black_box(&mut *session).poll(NonZeroU32::MAX);
                let want = if token < 400 { Ok(Progress::Ready) } else { Err(SessionError::Poisoned) };
                assert_eq!(answer, want, "bit {bit}: token {token}");
                if answer.is_err() {
                    assert_eq!(session.step(1), Err(SessionError::Poisoned));
                    assert_eq!((session.logits().len(), session.pos()), (0, 0));
                }
            }
        });
    }
}
