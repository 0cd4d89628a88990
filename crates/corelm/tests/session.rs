//! Sessions on the models of `../shared`: the same bits however the work is cut, exact memory, errors that change nothing.

#[path = "support/model.rs"]
mod support;

use std::mem::MaybeUninit;
use std::num::NonZeroU32;

use corelm::arena::Arena;
use corelm::config::Config;
use corelm::error::ArenaError;
use corelm::gguf::Image;
use corelm::kv_cache::{KvError, KvType};
use corelm::ops::{Ops, Single, Workers};
use corelm::plan::{MemoryPlan, PlanError, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::{Progress, Session, SessionError};
use corelm::tokenizer::Tokenizer;
use corelm::weights::Weights;
use support::threads::Threads;
use support::{SMALL, backends, model, with_session};

/// One model of each architecture and each kind of weights.
const MODELS: [&str; 6] = [
    "stories260K-f32.gguf",
    "stories260K-f16.gguf",
    "stories260K-q8_0.gguf",
    "gpt2-tiny-random-q4_0.gguf",
    "llama-tiny-random-q4_0.gguf",
    "qwen2-tiny-random-f32.gguf",
];

/// Tokens that every vocabulary has.
const TOKENS: [u32; 21] = [1, 87, 14, 203, 7, 7, 255, 90, 31, 64, 2, 118, 5, 77, 160, 9, 242, 33, 8, 101, 12];

/// The bits of logits.
fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Logits after each of `TOKENS`, one step at a time.
fn steps(bytes: &[u8], ops: Ops, config: SessionConfig) -> Vec<Vec<u32>> {
    with_session(bytes, ops, &Single, config, |session| {
        TOKENS.iter().map(|&token| bits(session.step(token).unwrap())).collect()
    })
}

#[test]
fn prompts_in_batches_equal_steps() {
    for (name, kv_type) in MODELS.into_iter().zip([KvType::F32, KvType::F16].into_iter().cycle()) {
        let Some(bytes) = model(name) else { return };
        for ops in backends() {
            let want = steps(&bytes, ops, SessionConfig { kv_type, ..SMALL });
            for n_batch in [1, 2, 3, 8, 21, 64] {
                let config = SessionConfig { n_batch, kv_type, ..SMALL };
                with_session(&bytes, ops, &Single, config, |session| {
                    for n in [21, 13, 1] {
                        session.reset();
                        let logits = bits(session.prefill(&TOKENS[..n]).unwrap());
                        assert!(
                            logits == want[n - 1],
                            "{name} {ops:?} {kv_type:?}: {n} in batches of {n_batch}"
                        );
                        assert_eq!(session.pos(), n);
                    }
                    // What the batches stored is what steps store.
                    let logits = bits(session.step(TOKENS[1]).unwrap());
                    assert!(logits == want[1], "{name} {ops:?}: step behind a batch");
                });
            }
        }
    }
}

#[test]
fn any_number_of_workers_gives_the_same_bits() {
    for name in MODELS {
        let Some(bytes) = model(name) else { return };
        for ops in backends() {
            let run = |workers: &dyn Workers| {
                with_session(&bytes, ops, workers, SMALL, |session| {
                    let prompt = bits(session.prefill(&TOKENS).unwrap());
                    (prompt, bits(session.step(3).unwrap()))
                })
            };
            let alone = run(&Single);
            for n in [2, 3, 5] {
                assert!(run(&Threads(n)) == alone, "{name} {ops:?}: {n} workers");
            }
        }
    }
}

#[test]
fn slices_of_any_size_give_the_same_bits() {
    for name in MODELS {
        let Some(bytes) = model(name) else { return };
        let ops = *backends().last().unwrap();
        let want = steps(&bytes, ops, SMALL);
        with_session(&bytes, ops, &Single, SMALL, |session| {
            for budget in [1, 2, 3, 10, 1000, u32::MAX] {
                session.reset();
                session.begin_without_logits(&TOKENS[..8]).unwrap();
                let mut n_slices = poll(session, budget);
                assert_eq!((session.pos(), session.logits().len()), (8, 0));
                session.begin(&TOKENS[8..13]).unwrap();
                n_slices += poll(session, budget);
                assert!(bits(session.logits()) == want[12], "{name}: slices of {budget}");
                assert!(n_slices == 2 || budget < u32::MAX);
                assert!(n_slices > 100 || budget > 1);
            }
        });
    }
}

/// Polls to the end; the position must move there and nowhere else.
fn poll(session: &mut Session<'_, '_>, budget: u32) -> usize {
    let (budget, pos) = (NonZeroU32::new(budget).unwrap(), session.pos());
    for n_slices in 1.. {
        match session.poll(budget).unwrap() {
            Progress::Ready => return n_slices,
            Progress::Pending => assert_eq!((session.pos(), session.is_pending()), (pos, true)),
        }
    }
    unreachable!()
}

#[test]
fn what_is_forgotten_leaves_no_trace() {
    for kv_type in [KvType::F32, KvType::F16] {
        let Some(bytes) = model("stories260K-q4_0.gguf") else { return };
        let want = steps(&bytes, Ops::scalar(), SessionConfig { kv_type, ..SMALL });
        with_session(&bytes, Ops::scalar(), &Single, SessionConfig { kv_type, ..SMALL }, |session| {
            session.prefill(&TOKENS).unwrap();
            session.truncate(30); // longer than the sequence: nothing happens
            assert_eq!(session.pos(), 21);
            session.truncate(5);
            assert_eq!((session.pos(), session.logits().len()), (5, 0));
            session.prefill(&[250, 251, 252]).unwrap();
            session.truncate(5);
            let logits = bits(session.prefill(&TOKENS[5..20]).unwrap());
            assert!(logits == want[19], "{kv_type:?}: run again behind a truncation");
            session.begin(&[99]).unwrap();
            session.poll(NonZeroU32::new(7).unwrap()).unwrap();
            session.cancel();
            assert_eq!((session.pos(), session.is_pending()), (20, false));
            assert!(
                bits(session.step(TOKENS[20]).unwrap()) == want[20],
                "{kv_type:?}: behind a cancelled step"
            );
            session.reset();
            assert!(bits(session.step(TOKENS[0]).unwrap()) == want[0], "{kv_type:?}: behind a reset");
        });
    }
}

/// What a tenant reads in the memory of the one before: a scan of every byte behind a session and a sampler that were
/// dropped, and behind ones that never are, so that the scan is seen to find something.
#[test]
fn dropped_sessions_and_samplers_leave_only_zeros() {
    let Some(bytes) = model("stories260K-q4_0.gguf") else { return };
    let image = Image::parse(&bytes).unwrap();
    let shape = Config::from_image(&image).unwrap();
    for kv_type in [KvType::F32, KvType::F16] {
        let plan = MemoryPlan::new(&image, &shape, &SessionConfig { kv_type, ..SMALL }).unwrap();
        for is_dropped in [true, false] {
            let mut model_region = vec![MaybeUninit::uninit(); plan.model_bytes()];
            let weights = Weights::resolve(&image, &shape, &mut Arena::new(&mut model_region)).unwrap();
            // Bytes between the slices of an arena stay as they were.
            let mut region = vec![MaybeUninit::new(0u8); plan.session_bytes()];
            let mut arena = Arena::new(&mut region);
            let mut session =
                Session::new(Ops::scalar(), &Single, &shape, weights, &plan, &mut arena).unwrap();
            let mut sampler = Sampler::new(SamplingConfig::BALANCED, shape.vocab_size, &mut arena).unwrap();
            sampler.sample(session.prefill(&TOKENS).unwrap()).unwrap();
            TOKENS.iter().for_each(|&token| sampler.accept(token));
            session.begin(&TOKENS[..8]).unwrap(); // and a batch given up in the middle
            session.poll(NonZeroU32::new(50).unwrap()).unwrap();
            if is_dropped {
                drop((session, sampler));
            } else {
                std::mem::forget((session, sampler));
            }
            // SAFETY: all bytes began as zeros, and what is stored over them, numbers and blocks, has no padding.
            let n_left = region.iter().filter(|byte| unsafe { byte.assume_init_read() } != 0).count();
            assert_eq!(n_left == 0, is_dropped, "{kv_type:?}: {n_left} bytes left");
        }
    }
}

#[test]
fn misuse_is_an_error_that_changes_nothing() {
    let Some(bytes) = model("stories260K-f32.gguf") else { return };
    let config = SessionConfig { n_ctx: 10, ..SMALL };
    with_session(&bytes, Ops::scalar(), &Single, config, |session| {
        let budget = NonZeroU32::new(1).unwrap();
        assert_eq!(session.poll(budget), Err(SessionError::NothingPending));
        assert_eq!(session.prefill(&[]), Err(SessionError::NoTokens));
        assert_eq!(session.begin(&[1; 9]), Err(SessionError::BatchTooLong { n_tokens: 9, n_batch: 8 }));
        let no_token = SessionError::NoSuchToken { token: 512, vocab_size: 512 };
        assert_eq!(session.prefill(&[1, 2, 512]), Err(no_token));
        assert_eq!(session.step(u32::MAX).map(<[f32]>::len).map_err(SessionError::code), Err(303));
        let full = SessionError::ContextFull { need: 11, n_ctx: 10 };
        assert_eq!(session.prefill(&[1; 11]), Err(full));
        assert_eq!(full.to_string(), "context is full: 11 positions needed, 10 there are");
        assert_eq!((session.pos(), session.stats().n_tokens), (0, 0));

        session.begin(&[1, 2]).unwrap();
        assert_eq!(session.begin(&[1]), Err(SessionError::BatchPending));
        assert_eq!(session.step(1), Err(SessionError::BatchPending));
        while session.poll(budget).unwrap() == Progress::Pending {}
        assert_eq!(session.poll(budget), Err(SessionError::NothingPending));

        // The last position can be used, and no more; what is full stays as it is.
        let last = bits(session.prefill(&TOKENS[..8]).unwrap());
        assert_eq!(session.step(1), Err(full));
        assert_eq!(session.pos(), 10);
        session.truncate(9);
        assert!(bits(session.step(TOKENS[7]).unwrap()) == last);
        assert_eq!(session.stats().kv.high_water, 10);
    });
}

#[test]
fn damaged_weights_are_an_error_and_not_a_token() {
    let Some(bytes) = model("stories260K-f32.gguf") else { return };
    let mut damaged = bytes.clone();
    let at = {
        let image = Image::parse(&bytes).unwrap();
        let tensor = image.tensor("blk.2.ffn_down.weight").unwrap();
        tensor.bytes.as_ptr().addr() - bytes.as_ptr().addr()
    };
    for nonsense in [f32::NAN, f32::INFINITY, f32::MAX] {
        damaged[at..at + 4].copy_from_slice(&nonsense.to_le_bytes());
        with_session(&damaged, Ops::scalar(), &Single, SMALL, |session| {
            assert_eq!(session.prefill(&TOKENS), Err(SessionError::NonFinite { pos: 0 }), "{nonsense}");
            assert_eq!((session.pos(), session.is_pending(), session.logits().len()), (0, false, 0));
            assert_eq!(
                session.step(1),
                Err(SessionError::NonFinite { pos: 0 }),
                "{nonsense}: and it stays usable"
            );
        });
    }
}

#[test]
fn plans_are_exact_at_every_address() {
    for name in ["stories260K-q4_0.gguf", "gpt2-tiny-random-f32.gguf", "qwen2-tiny-random-f32.gguf"] {
        let Some(bytes) = model(name) else { return };
        let image = Image::parse(&bytes).unwrap();
        let config = Config::from_image(&image).unwrap();
        for (n_ctx, n_batch, kv_type) in [(1, 1, KvType::F32), (33, 64, KvType::F16), (100, 7, KvType::F32)] {
            let wanted = SessionConfig { n_ctx, n_batch, kv_type, n_workers: 1 };
            let plan = MemoryPlan::new(&image, &config, &wanted).unwrap();
            assert_eq!(plan.bytes() + 63, plan.model_bytes() + plan.session_bytes());
            let mut region = vec![MaybeUninit::new(0xa5u8); plan.bytes() + 64];
            for base in 0..64 {
                let mut fill = |len: usize| -> Result<usize, u32> {
                    let mut arena = Arena::new(&mut region[base..base + len]);
                    let weights = Weights::resolve(&image, &config, &mut arena).map_err(|e| e.code())?;
                    Tokenizer::new(&image, &mut arena).map_err(|e| e.code())?;
                    Session::new(Ops::scalar(), &Single, &config, weights, &plan, &mut arena)
                        .map_err(|e| e.code())?
                        .step(1)
                        .map_err(|e| e.code())?;
                    Sampler::new(SamplingConfig::GREEDY, config.vocab_size, &mut arena)
                        .map_err(|e| e.code())?;
                    Ok(arena.stats().used)
                };
                let items = plan.items();
                let sum = items.weights + items.tokenizer + items.kv_cache + items.scratch + items.sampler;
                assert_eq!(fill(plan.bytes()), Ok(sum), "{name} base {base}");
                let out_of_memory = ArenaError::OutOfMemory { need: 0, have: 0 }.code();
                assert_eq!(fill(plan.bytes() - 1), Err(out_of_memory), "{name} base {base}");
            }
        }
    }
}

#[test]
fn more_workers_than_planned_are_refused() {
    let Some(bytes) = model("stories260K-f32.gguf") else { return };
    let image = Image::parse(&bytes).unwrap();
    let config = Config::from_image(&image).unwrap();
    let plan = MemoryPlan::new(&image, &config, &SessionConfig { n_workers: 2, ..SMALL }).unwrap();
    for n_workers in 1..4 {
        let mut region = vec![MaybeUninit::uninit(); plan.bytes()];
        let mut arena = Arena::new(&mut region);
        let weights = Weights::resolve(&image, &config, &mut arena).unwrap();
        let workers = Threads(n_workers);
        let session = Session::new(Ops::scalar(), &workers, &config, weights, &plan, &mut arena);
        let want = (n_workers > 2).then_some(SessionError::TooManyWorkers { n_workers, planned: 2 });
        assert_eq!(session.err(), want);
    }
}

#[test]
fn plans_refuse_what_cannot_be() {
    let Some(bytes) = model("gpt2-tiny-random-f32.gguf") else { return };
    let image = Image::parse(&bytes).unwrap();
    let config = Config::from_image(&image).unwrap();
    let plan = |n_ctx, n_batch, kv_type| {
        MemoryPlan::new(&image, &config, &SessionConfig { n_ctx, n_batch, kv_type, n_workers: 1 }).map(|_| ())
    };
    assert_eq!(plan(128, 1, KvType::F16), Ok(()));
    assert_eq!(plan(129, 1, KvType::F16), Err(PlanError::ContextTooLong { n_ctx: 129, max: 128 }));
    assert_eq!(plan(0, 1, KvType::F16), Err(PlanError::NoContext));
    assert_eq!(plan(1, 0, KvType::F16), Err(PlanError::NoBatch));
    let idle = SessionConfig { n_ctx: 1, n_batch: 1, kv_type: KvType::F16, n_workers: 0 };
    assert_eq!(MemoryPlan::new(&image, &config, &idle), Err(PlanError::NoWorkers));
    let ragged = KvError::RaggedHead { head_dim: 16, block: 32 };
    assert_eq!(plan(8, 1, KvType::Q8_0), Err(PlanError::Kv(ragged)));

    let Some(bytes) = model("stories260K-f32.gguf") else { return };
    let image = Image::parse(&bytes).unwrap();
    let config = Config::from_image(&image).unwrap();
    let huge =
        SessionConfig { n_ctx: usize::MAX / 2, n_batch: usize::MAX, kv_type: KvType::F16, n_workers: 1 };
    assert_eq!(MemoryPlan::new(&image, &config, &huge), Err(PlanError::Arena(ArenaError::TooLarge)));
    let many = SessionConfig { n_workers: usize::MAX, ..SMALL };
    assert_eq!(MemoryPlan::new(&image, &config, &many), Err(PlanError::Arena(ArenaError::TooLarge)));
    for (n_ctx, n_batch, planned) in [(8, 100, 8), (100, 8, 8), (8, 8, 8)] {
        let plan = MemoryPlan::new(&image, &config, &SessionConfig { n_ctx, n_batch, ..SMALL }).unwrap();
        assert_eq!(plan.session_config(), SessionConfig { n_ctx, n_batch: planned, ..SMALL });
    }
}

#[test]
fn nothing_of_a_session_is_left_in_its_memory() {
    let Some(bytes) = model("stories260K-f16.gguf") else { return };
    let image = Image::parse(&bytes).unwrap();
    let config = Config::from_image(&image).unwrap();
    let plan = MemoryPlan::new(&image, &config, &SMALL).unwrap();
    let mut model_region = vec![MaybeUninit::uninit(); plan.model_bytes()];
    let weights = Weights::resolve(&image, &config, &mut Arena::new(&mut model_region)).unwrap();
    let mut region = vec![MaybeUninit::new(0u8); plan.session_bytes()];
    let mut arena = Arena::new(&mut region);
    let mut session = Session::new(Ops::scalar(), &Single, &config, weights, &plan, &mut arena).unwrap();
    session.prefill(&TOKENS).unwrap();
    assert!(session.logits().iter().all(|&x| x != 0.0));
    drop(session);
    // SAFETY: every byte was initialised above, and initialised bytes stay so.
    let left = region.iter().filter(|byte| unsafe { byte.assume_init() } != 0).count();
    assert_eq!(left, 0);
}

/// The region for packed weights is exact at any address, up to what padding may take.
#[test]
fn packed_weights_take_what_is_planned() {
    for name in ["stories260K-q8_0.gguf", "gpt2-tiny-random-q4_0.gguf", "stories260K-f32.gguf"] {
        let Some(bytes) = model(name) else { return };
        let image = Image::parse(&bytes).unwrap();
        let config = Config::from_image(&image).unwrap();
        let plan = MemoryPlan::new(&image, &config, &SMALL).unwrap();
        let mut region = vec![MaybeUninit::uninit(); plan.model_bytes()];
        let weights = Weights::resolve(&image, &config, &mut Arena::new(&mut region)).unwrap();
        let pack = |n: usize, ops| {
            let mut packed = vec![MaybeUninit::uninit(); n];
            let mut arena = Arena::new(&mut packed);
            weights.pack(ops, &mut arena).map(|_| arena.stats().used)
        };
        // Not more than all tensors, the table of them, and the padding of three for each.
        let n_bytes: usize = image.tensors().map(|tensor| tensor.bytes.len() + 3 * 64).sum();
        assert!(plan.packed_len() <= n_bytes + plan.model_bytes(), "{}", plan.packed_len());
        for ops in backends() {
            let used = pack(plan.packed_len(), ops).unwrap();
            assert!(used > 0 && used <= plan.packed_len(), "{used} of {}", plan.packed_len());
            let error = pack(used / 2, ops).unwrap_err();
            assert!(matches!(error, ArenaError::OutOfMemory { .. }), "{error}");
        }
    }
}
