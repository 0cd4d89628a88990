//! The back-ends of this architecture. Soft-float targets have none: they would turn vector code into library calls.

use crate::table::OpTable;

/// Everything above scalar, lowest first.
pub(crate) static TABLES: &[OpTable] = &[];
