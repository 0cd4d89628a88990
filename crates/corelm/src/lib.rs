//! Language models on nothing but `core`: GGUF bytes in, text out; no `std`, no `alloc`, no panics on data.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "std")]
extern crate std;

pub mod arena;
pub mod config;
pub mod error;
mod forward;
pub mod generate;
pub mod gguf;
pub mod kv_cache;
pub mod plan;
pub mod sampler;
pub mod session;
pub mod tokenizer;
pub mod weights;

#[doc(inline)]
pub use corelm_ops as ops;

/// The id of a token: an index into the vocabulary.
pub type Token = u32;
