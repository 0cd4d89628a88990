//! A lock for what all cores share: interrupts are masked first, then the spin lock is taken.
//!
//! In that order, because an interrupt that arrives between taking the lock and masking would find its own core
//! holding it.

use aarch64_cpu::registers::{DAIF, Readable, Writeable};

/// A value behind a spin lock that is only ever held with interrupts masked.
pub struct Lock<T>(spin::Mutex<T>);

impl<T> Lock<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    /// Runs `f` with the value, waiting for another core that holds it.
    ///
    /// Taking the same lock inside `f` never returns.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let daif = DAIF.get();
        DAIF.write(DAIF::D::Masked + DAIF::A::Masked + DAIF::I::Masked + DAIF::F::Masked);
        let result = f(&mut self.0.lock());
        DAIF.set(daif);
        result
    }
}
