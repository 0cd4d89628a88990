//! A pool of threads behind the engine's `Workers`.

use std::num::NonZeroUsize;

use corelm::ops::Workers;

/// The caller's thread and `n - 1` more.
pub struct Pool(corelm_sync::Pool);

impl Pool {
    /// A pool of `n` workers, the caller included.
    pub fn new(n: NonZeroUsize) -> Pool {
        Pool(corelm_sync::Pool::new(n))
    }
}

impl Workers for Pool {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        self.0.run(job);
    }
}
