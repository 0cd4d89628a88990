//! corelm-ops: the numbers of a language model on nothing but `core`.
//!
//! No allocation, no locks, no globals, no panic in release, and no clock: routines over slices of the caller.
//!
//! # Map
//!
//! | module | what |
//! |---|---|
//! | [`block`] | values of a weight file as they lie in its bytes: F32, F16, BF16, Q4_0, Q4_1, Q8_0 |
//! | [`view`] | matrices of them, borrowed from bytes that are checked once |
//! | [`panel`] | rows of quantized weights sixteen at a time, and the products that read them |
//! | [`tile`], [`workers`] | parts of a result that several cores write at once; the cores an embedder lends |
//! | [`workspace`] | memory that each of them works in |
//! | [`cpu`] | what the CPU offers and the system has switched on |
//! | [`table`] | [`Ops`]: every operation, of the back-end chosen at run time |
//! | `rope` | angles of rotary position embedding |
//! | [`mod@reference`] | what each operation means, in f64: the oracle of the tests |
//! | `scalar`, `arch` | the back-ends: portable, AVX2 and above, NEON with and without SDOT and SMMLA; `lanes` and `floats` have what they share, `product` the loops around their register tiles |
//!
//! # Example
//!
//! A matrix of Q4_0 weights times a vector, on whatever this CPU does best:
//!
//! ```
//! use corelm_ops::*;
//!
//! # #[cfg(feature = "std")]
//! let features = Features::detect_host(); // in a kernel: `unsafe { Features::detect_el1() }`
//! # #[cfg(not(feature = "std"))]
//! # let features = Features::empty();
//! let ops = Ops::best(features);
//!
//! // Weights lie in a file as blocks of 32 values: here 3 rows of 64, quantized from f32.
//! let values: [f32; 3 * 64] = core::array::from_fn(|i| (i % 7) as f32 - 3.0);
//! let mut blocks = [BlockQ4_0::ZERO; 3 * 2];
//! ops.quantize_q4_0(&mut blocks, &values);
//! let weights = Matrix::Q4_0(Rows::from_blocks(&blocks, 64)?);
//!
//! // Quantized weights meet quantized activations.
//! let x = [0.5f32; 64];
//! let mut xq = [BlockQ8::ZERO; 2];
//! ops.quantize_q8(&mut xq, 1, &x);
//! let mut y = [0.0f32; 3];
//! let mut lines = [Line::ZERO; Workspace::LINES];
//! let workspace = &mut Workspace::new(&mut lines);
//! ops.gemm(&mut TileMut::new(&mut y, 3), &Activations { rows: 1, f32: &x, q8: &xq }, weights, workspace);
//!
//! let exact: f32 = values[..64].iter().sum::<f32>() * 0.5;
//! assert!((y[0] - exact).abs() < 1.5, "{} for {exact}", y[0]);
//! # Ok::<(), ViewError>(())
//! ```
//!
//! # Numbers
//!
//! Blocks are ggml's, bit for bit. Quantized weights meet activations quantized to Q8_0 in every back-end, so the integer
//! part of each block's product is the same everywhere, and so is every product of the SIMD back-ends: blocks are added in
//! their order, each by one fused multiply-add. Float weights meet f32 activations, and each back-end adds in an order of its
//! own, always the same one: a row of [`Ops::gemm`] is the dot product of the two rows bit for bit, whatever the number of
//! rows, the tile, the packing, or the workers.
#![no_std]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod arch;
mod attend;
#[allow(unsafe_code)]
pub mod block;
#[allow(unsafe_code)]
pub mod cpu;
mod exp;
mod floats;
mod lanes;
#[allow(unsafe_code)]
pub mod panel;
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
#[allow(unsafe_code)]
pub mod workspace;

pub use attend::{Attention, POSITIONS, QUERIES, Queries, cell_len};
pub use block::{Bf16, Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, GgmlType, QK};
pub use cpu::{Feature, Features};
pub use panel::{BlockQ8, PANEL_ROWS, Panel};
pub use product::Activations;
pub use rope::Rotation;
pub use table::{Backend, Ops};
pub use tile::TileMut;
pub use view::{Matrix, Packed, Rows, ViewError};
pub use workers::{PartSize, Single, Workers, for_each_tile};
pub use workspace::{Line, Workspace};
