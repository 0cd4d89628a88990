//! A small synthetic model and a session on it, for what is tested of the engine as a whole.

use corelm::arena::Arena;
use corelm::config::Config;
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::session::Session;
use corelm::weights::Weights;
use corelm_cases::synth::{self, SynthConfig};

use crate::model::{self, EngineError};

/// Runs `body` with the bytes of the model of `config`.
///
/// # Errors
///
/// `Memory` when there is too little, `Broken` when there is no such model, and the errors of `body`.
pub fn with_file<R>(
    config: &SynthConfig,
    body: impl FnOnce(&[u8]) -> Result<R, EngineError>,
) -> Result<R, EngineError> {
    let none = |_| EngineError::Broken("no such synthetic model");
    let n_bytes = synth::model_bytes(config).map_err(none)?;
    let mut block = model::block(usize::try_from(n_bytes).unwrap_or(usize::MAX))?;
    let bytes = block.zeroed();
    synth::write_model(config, &mut *bytes).map_err(none)?;
    body(bytes)
}

/// Runs `body` with a session on the model in `file`, of `n_ctx` positions in a cache of F16 on the calling core.
///
/// # Errors
///
/// Those of the engine, and of `body`.
pub fn with_session<R>(
    file: &[u8],
    ops: Ops,
    n_ctx: usize,
    body: impl FnOnce(&mut Session<'_, '_>) -> Result<R, EngineError>,
) -> Result<R, EngineError> {
    let image = Image::parse(file)?;
    let config = Config::from_image(&image)?;
    let wanted = SessionConfig { n_ctx, n_batch: 8, kv_type: KvType::F16, n_workers: 1 };
    let plan = MemoryPlan::new(&image, &config, &wanted)?;
    let mut region = model::block(plan.bytes())?;
    let mut arena = Arena::new(region.bytes());
    let weights = Weights::resolve(&image, &config, &mut arena)?;
    body(&mut Session::new(ops, &Single, &config, weights, &plan, &mut arena)?)
}
