//! The codes of errors that damage is answered with.

pub const TRUNCATED: u32 = 100;
pub const LIMIT: u32 = 104;
pub const BAD_ALIGNMENT: u32 = 111;
pub const BAD_DIMS: u32 = 112;
pub const UNSUPPORTED_TYPE: u32 = 114;
pub const RAGGED_ROW: u32 = 115;
pub const MISALIGNED: u32 = 116;
pub const MISSING_KEY: u32 = 118;
pub const WRONG_TYPE: u32 = 119;
pub const OUT_OF_RANGE: u32 = 120;
pub const NOT_DIVISIBLE: u32 = 121;
pub const BAD_FLOAT: u32 = 122;
pub const UNSUPPORTED_ARCHITECTURE: u32 = 123;
pub const UNSUPPORTED_NAME: u32 = 124;
pub const UNSUPPORTED_KEY: u32 = 125;
pub const MISSING_TENSOR: u32 = 126;
pub const WRONG_SHAPE: u32 = 128;
pub const WRONG_TENSOR_TYPE: u32 = 129;
pub const BAD_VOCAB: u32 = 130;
pub const NOT_UTF8_VALUE: u32 = 131;
pub const NON_FINITE: u32 = 304;
