//! x86-64: AVX2 with FMA and F16C, byte dot products above it, and tiles of bytes above these.

mod amx;
mod avx2;
mod avx512;
mod avx_vnni;

use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};

use crate::table::OpTable;

/// Everything above scalar, lowest first.
pub(crate) static TABLES: &[OpTable] = &[avx2::TABLE, avx_vnni::TABLE, avx512::TABLE, amx::TABLE];

/// Whether some table multiplies with two panels at once or by turns; where none does, the loops for it are left out.
pub(crate) const HAS_TWO: bool = true;

/// Whether some table has tiles; where none has, the branches for them are left out.
pub(crate) const HAS_TILES: bool = true;

/// Lines of a workspace that kernels need for what their registers do not hold.
pub(crate) const SPILL_LINES: usize = amx::SPILL_LINES;

/// Asks for the lines of `n` values that will be written: rows lie too far apart for the CPU to guess the next.
#[inline(always)]
pub(crate) fn prefetch_to_write(at: *const f32, n: usize) {
    for i in (0..n).step_by(16) {
        // SAFETY: a prefetch never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.wrapping_add(i).cast()) };
    }
}
