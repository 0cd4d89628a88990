//! corelm-ops: the numbers of a language model on nothing but `core`.
#![no_std]

pub mod block;
pub mod tile;
pub mod view;
pub mod workers;

pub use block::{Bf16, Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, GgmlType, QK};
pub use tile::TileMut;
pub use view::{Matrix, Rows, ViewError};
pub use workers::{Single, Workers, for_each_chunk, for_each_columns};
