//! The back-ends of this architecture. Soft-float targets have none: they would turn vector code into library calls.

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(crate) use x86_64::TABLES;

/// Everything above scalar, lowest first.
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
pub(crate) static TABLES: &[crate::table::OpTable] = &[];
