//! aarch64: Advanced SIMD.

mod dotprod;
mod i8mm;
mod neon;

use crate::table::OpTable;

/// Everything above scalar, lowest first.
pub(crate) static TABLES: &[OpTable] = &[neon::TABLE, dotprod::TABLE, i8mm::TABLE];
