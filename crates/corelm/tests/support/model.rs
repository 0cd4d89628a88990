//! Models of `../shared` for tests, and sessions over them.
#![allow(dead_code)] // every test binary uses a part

use std::mem::MaybeUninit;
use std::path::PathBuf;

use corelm::arena::Arena;
use corelm::config::Config;
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Features, Ops, Workers};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::session::Session;
use corelm::weights::Weights;

#[path = "../../../cases/tests/support/threads.rs"]
pub mod threads;

/// The folder of models, or `None` with a message where there is none; in CI that is a failure.
pub fn models() -> Option<PathBuf> {
    let models = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/models"));
    if models.is_dir() {
        return Some(models);
    }
    assert!(std::env::var_os("CI").is_none(), "no ../shared, which CI must have");
    eprintln!("skipped: no ../shared");
    None
}

/// The bytes of one of them.
pub fn model(name: &str) -> Option<Vec<u8>> {
    Some(std::fs::read(models()?.join(name)).unwrap())
}

/// Every back-end of this CPU.
pub fn backends() -> Vec<Ops> {
    Ops::available(Features::detect_host()).collect()
}

/// A session's choices for short tests.
pub const SMALL: SessionConfig = SessionConfig { n_ctx: 128, n_batch: 8, kv_type: KvType::F32, n_workers: 1 };

/// Runs `body` with a session over the model in `bytes`, in a region of exactly the planned size.
pub fn with_session<R>(
    bytes: &[u8],
    ops: Ops,
    workers: &dyn Workers,
    config: SessionConfig,
    body: impl FnOnce(&mut Session<'_, '_>) -> R,
) -> R {
    let image = Image::parse(bytes).unwrap();
    let shape = Config::from_image(&image).unwrap();
    let config = SessionConfig { n_workers: workers.count(), ..config };
    let plan = MemoryPlan::new(&image, &shape, &config).unwrap();
    let mut region = vec![MaybeUninit::uninit(); plan.bytes()];
    let mut arena = Arena::new(&mut region);
    let weights = Weights::resolve(&image, &shape, &mut arena).unwrap();
    let mut session = Session::new(ops, workers, &shape, weights, &plan, &mut arena).unwrap();
    body(&mut session)
}
