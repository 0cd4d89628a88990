//! aarch64: Advanced SIMD.

mod dotprod;
mod i8mm;
mod neon;

use crate::table::OpTable;

/// Everything above scalar, lowest first.
pub(crate) static TABLES: &[OpTable] = &[neon::TABLE, dotprod::TABLE, i8mm::TABLE];

/// Whether some table multiplies with two panels at once; where none does, the loops for it are left out.
pub(crate) const HAS_TWO: bool = false;

/// Lines of a workspace that tiles need: there are none.
pub(crate) const SUM_LINES: usize = 0;

/// `to = from`, at any addresses and in two instructions, where the compiler would go by pairs of words.
#[inline(always)]
pub(crate) fn copy16(to: &mut [f32; 16], from: &[f32; 16]) {
    neon::panels::store_results(to, neon::panels::load_results(from));
}
