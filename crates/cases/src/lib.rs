//! What corelm tests and times, once, as data: the same functions run on a host, in an emulator and on boards.
//!
//! - [`TESTS`]: what every back-end must get right;
//! - [`CASES`]: what is timed, with shapes and targets, run by [`bench::run_benchmark_suite`] against any
//!   [`bench::Clock`], or one by one by any [`bench::Bencher`];
//! - [`synth`]: models with random weights and real tokenizers, for both;
//! - [`mutate`]: what damages such a model, to see that nothing worse comes of it than an error.
//!
//! ```
//! use core::mem::MaybeUninit;
//! use corelm::ops::{Ops, Single};
//! use corelm_cases::{Stand, TEST_BYTES, TESTS};
//!
//! let mut memory = vec![MaybeUninit::uninit(); TEST_BYTES]; // or a static, or pages of yours
//! for test in TESTS.iter().filter(|test| test.name.starts_with("quantize::")) {
//!     (test.run)(&mut Stand { ops: Ops::scalar(), workers: &Single, memory: &mut memory });
//!     println!("{} ok", test.name);
//! }
//! ```
//!
//! Nothing here allocates: whoever runs it lends the memory. Unlike the engine, this crate may panic: that is how a test
//! fails.
#![no_std]
#![forbid(unsafe_code)]

pub mod bench;
pub mod cases;
pub mod conformance;
mod data;
mod model;
pub mod mutate;
mod random;
pub mod synth;
mod text;
mod weights;

pub use bench::{BenchmarkConfig, BenchmarkStats, run_benchmark_suite};
pub use cases::CASES;
pub use conformance::{Stand, TEST_BYTES, TESTS, Test};
