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
