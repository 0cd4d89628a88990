//! A model in lent memory, and a session on it.

use corelm::arena::Arena;
use corelm::config::Config;
use corelm::error::ArenaError;
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Ops, Workers};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::session::Session;
use corelm::weights::Weights;

use crate::bench::CaseError;
use crate::synth::{self, SynthConfig, SynthError};

/// Writes the model of `config` into `arena`.
pub fn write<'a>(config: &SynthConfig, arena: &mut Arena<'a>) -> Result<&'a [u8], CaseError> {
    let no_room = |_| CaseError::Memory;
    let n_bytes = synth::model_bytes(config).map_err(|_| CaseError::Wrong("no such model"))?;
    let bytes = arena.alloc(usize::try_from(n_bytes).unwrap_or(usize::MAX), 0u8).map_err(no_room)?;
    synth::write_model(config, &mut *bytes).map_err(|error| match error {
        SynthError::Write(error) => CaseError::Engine(error.code()),
        _ => CaseError::Wrong("no such model"),
    })?;
    Ok(bytes)
}

/// A session on the model in `bytes`, out of `arena`.
pub fn session<'a, 'm: 'a>(
    bytes: &'m [u8],
    shape: (usize, usize, KvType),
    ops: Ops,
    workers: &'a dyn Workers,
    arena: &mut Arena<'a>,
) -> Result<Session<'a, 'm>, CaseError> {
    session_on(bytes, shape, ops, workers, arena, |weights, _| Ok(weights))
}

/// The same, on weights in panels, which lie in `arena` too.
pub fn packed_session<'a>(
    bytes: &'a [u8],
    shape: (usize, usize, KvType),
    ops: Ops,
    workers: &'a dyn Workers,
    arena: &mut Arena<'a>,
) -> Result<Session<'a, 'a>, CaseError> {
    session_on(bytes, shape, ops, workers, arena, |weights, arena| weights.pack(ops, arena))
}

/// A session on what `prepare` makes of the weights.
fn session_on<'a, 'm: 'a>(
    bytes: &'m [u8],
    (n_ctx, n_batch, kv_type): (usize, usize, KvType),
    ops: Ops,
    workers: &'a dyn Workers,
    arena: &mut Arena<'a>,
    prepare: impl FnOnce(Weights<'a, 'm>, &mut Arena<'a>) -> Result<Weights<'a, 'm>, ArenaError>,
) -> Result<Session<'a, 'm>, CaseError> {
    let image = Image::parse(bytes).map_err(|error| CaseError::Engine(error.code()))?;
    let config = Config::from_image(&image).map_err(|error| CaseError::Engine(error.code()))?;
    let wanted = SessionConfig { n_ctx, n_batch, kv_type, n_workers: workers.count() };
    let plan = MemoryPlan::new(&image, &config, &wanted).map_err(|error| CaseError::Engine(error.code()))?;
    let weights = Weights::resolve(&image, &config, arena).map_err(|_| CaseError::Memory)?;
    let weights = prepare(weights, arena).map_err(|_| CaseError::Memory)?;
    Session::new(ops, workers, &config, weights, &plan, arena).map_err(|_| CaseError::Memory)
}

/// The index of the largest value, the first of several.
pub fn argmax(values: &[f32]) -> u32 {
    let best = values.iter().enumerate().fold(
        (0, f32::NEG_INFINITY),
        |best, (i, &x)| {
            if x > best.1 { (i, x) } else { best }
        },
    );
    best.0 as u32
}
