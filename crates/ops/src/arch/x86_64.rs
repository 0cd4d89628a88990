//! x86-64: AVX2 with FMA and F16C.

mod avx2;

use crate::table::OpTable;

/// Everything above scalar, lowest first.
pub(crate) static TABLES: &[OpTable] = &[avx2::TABLE];
