//! corelm-ops: the numbers of a language model on nothing but `core`.
#![no_std]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod arch;
mod attend;
#[allow(unsafe_code)]
pub mod block;
#[allow(unsafe_code)]
pub mod cpu;
mod lanes;
mod product;
mod quantize;
pub mod reference;
pub mod rope;
mod scalar;
#[allow(unsafe_code)]
pub mod table;
#[allow(unsafe_code)]
pub mod tile;
#[allow(unsafe_code)]
pub mod view;
#[allow(unsafe_code)]
pub mod workers;

pub use attend::MAX_QUANTIZED_HEAD_DIM;
pub use block::{Bf16, Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, GgmlType, QK};
pub use cpu::{Feature, Features};
pub use product::Activations;
pub use table::{Backend, Ops};
pub use tile::TileMut;
pub use view::{Matrix, Rows, ViewError};
pub use workers::{Single, Workers, for_each_chunk, for_each_columns};
