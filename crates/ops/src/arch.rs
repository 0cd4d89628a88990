//! The back-ends of this architecture. Soft-float targets have none: they would turn vector code into library calls.

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod aarch64;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(crate) use aarch64::{HAS_TILES, HAS_TWO, SPILL_LINES, TABLES, all_within, copy16, halves16};

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(crate) use x86_64::{HAS_TILES, HAS_TWO, SPILL_LINES, TABLES, prefetch_to_write};

#[cfg(not(any(
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "x86_64", target_feature = "sse2")
)))]
mod none {
    /// Everything above scalar, lowest first.
    pub(crate) static TABLES: &[crate::table::OpTable] = &[];
    /// Whether some table multiplies with two panels at once.
    pub(crate) const HAS_TWO: bool = false;
    /// Whether some table has tiles.
    pub(crate) const HAS_TILES: bool = false;
    /// Lines of a workspace that kernels need for what their registers do not hold.
    pub(crate) const SPILL_LINES: usize = 0;
}
#[cfg(not(any(
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "x86_64", target_feature = "sse2")
)))]
pub(crate) use none::{HAS_TILES, HAS_TWO, SPILL_LINES, TABLES};

/// Whether no magnitude is above `largest` and nothing is NaN. Without an early way out, so that it vectorises.
#[cfg(not(all(target_arch = "aarch64", target_feature = "neon")))]
#[inline(always)]
pub(crate) fn all_within(x: &[f32], largest: f32) -> bool {
    x.iter().fold(true, |all, x| all & (x.abs() <= largest))
}

/// `to = from`.
#[cfg(not(all(target_arch = "aarch64", target_feature = "neon")))]
#[inline(always)]
pub(crate) fn copy16(to: &mut [f32; 16], from: &[f32; 16]) {
    *to = *from;
}

/// The bits of halves at any address.
#[cfg(not(all(target_arch = "aarch64", target_feature = "neon")))]
#[inline(always)]
pub(crate) fn halves16(from: &[crate::block::F16; 16]) -> [u16; 16] {
    from.map(crate::block::F16::to_bits)
}

/// Asks for the lines of `n` values that will be written: rows lie too far apart for the CPU to guess the next.
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
#[inline(always)]
pub(crate) fn prefetch_to_write(_: *const f32, _: usize) {}
