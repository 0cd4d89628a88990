//! aarch64: Advanced SIMD.

mod dotprod;
mod i8mm;
mod neon;

use core::mem;

use crate::block::F16;
use crate::table::OpTable;
use crate::workspace::{Line, Spill};

pub(crate) use neon::all_within;

/// Everything above scalar, lowest first.
pub(crate) static TABLES: &[OpTable] = &[neon::TABLE, dotprod::TABLE, i8mm::TABLE];

/// Whether some table multiplies with two panels at once or by turns; where none does, the loops for it are left out.
pub(crate) const HAS_TWO: bool = false;

/// Whether some table has tiles.
pub(crate) const HAS_TILES: bool = false;

/// Lines of a workspace that kernels need for what their registers do not hold.
pub(crate) const SPILL_LINES: usize = i8mm::SPILL_LINES;

/// `to = from`, at any addresses and in two instructions, where the compiler would go by pairs of words.
#[inline(always)]
pub(crate) fn copy16(to: &mut [f32; 16], from: &[f32; 16]) {
    neon::panels::store_results(to, neon::panels::load_results(from));
}

/// The bits of halves at any address.
///
/// Of a loop by fours LLVM makes an LD4 of halves, which faults at an odd address under `SCTLR_EL1.A`, and does so where
/// the target has `+strict-align` too (Rust 1.95, fat LTO). So portable code that goes by fours reads halves here.
#[inline(always)]
pub(crate) fn halves16(from: &[F16; 16]) -> [u16; 16] {
    // SAFETY: 32 bytes either way, and every pattern of them is sixteen u16.
    unsafe { mem::transmute(neon::panels::load_halves(from)) }
}

/// The lines of `spill` as a `T`.
///
/// # Safety
///
/// Every pattern of bytes is a `T`, and it has no padding.
#[inline(always)]
unsafe fn spill_as<T>(spill: &mut Spill) -> &mut T {
    const { assert!(size_of::<T>() <= size_of::<Spill>() && align_of::<T>() <= align_of::<Line>()) };
    // SAFETY: large and aligned enough, as just checked; both types take every pattern, as the caller says of `T`.
    unsafe { &mut *spill.as_mut_ptr().cast() }
}
