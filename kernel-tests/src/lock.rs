//! A lock for what all cores share, held with interrupts masked.

use aarch64_cpu::registers::{DAIF, Readable, Writeable};
use corelm_sync::Mask;

/// A value behind a spin lock.
pub type Lock<T> = corelm_sync::Lock<T, Interrupts>;

/// Everything that may interrupt a core.
#[derive(Debug)]
pub struct Interrupts;

impl Mask for Interrupts {
    type Before = u64;

    fn mask() -> u64 {
        let before = DAIF.get();
        DAIF.write(DAIF::D::Masked + DAIF::A::Masked + DAIF::I::Masked + DAIF::F::Masked);
        before
    }

    fn restore(before: u64) {
        DAIF.set(before);
    }
}
