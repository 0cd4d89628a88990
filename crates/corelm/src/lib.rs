//! corelm: language models on nothing but `core`.
//!
//! GGUF bytes in, text out; no `std`, no `alloc`, no locks, no threads, no clock, and no panic that bytes, tokens or
//! settings from outside can reach. The caller owns two regions: the model (`'m`), read in place at any address, and an
//! arena (`'a`) whose exact size is known before it is touched.
//!
//! ```text
//! &'m [u8] --gguf::Image--> Image --config::Config--> Config --plan::MemoryPlan--> bytes --the caller--> arena::Arena<'a>
//!                                \--weights::Weights--> views    \--tokenizer::Tokenizer--> text <-> tokens
//! session::Session: tokens --forward, kv_cache::KvCache--> logits --sampler::Sampler--> token      generate: text to text
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`gguf`] | model files: checked in one bounded pass, handed out as slices; and written |
//! | [`config`], [`weights`] | the shape of a model, and its tensors in their places |
//! | [`plan`], [`arena`] | how much memory, and the memory |
//! | [`session`], [`kv_cache`] | the forward pass, in slices if the caller wants, over a sequence of tokens |
//! | [`tokenizer`], [`sampler`], [`generate`] | text to tokens and back, logits to tokens, and all of it together |
//! | [`chat`] | conversations to prompts, by the model's chat template |
//! | [`ops`] | the numbers: quantized blocks, SIMD back-ends, workers |
//! | [`error`] | what is wrong with a file, with memory, with a text |
//!
//! From a file to text:
//!
//! ```
//! use core::mem::MaybeUninit;
//! use core::ops::ControlFlow;
//! use corelm::ops::{Ops, Single};
//! use corelm::*;
//!
//! fn tell(model: &[u8], prompt: &str, print: &mut dyn FnMut(&str)) -> Result<(), Error> {
//!     let image = Image::parse(model)?;
//!     let config = Config::from_image(&image)?;
//!     let wanted = SessionConfig { n_ctx: 256, n_batch: 32, kv_type: KvType::F16, n_workers: 1 };
//!     let plan = MemoryPlan::new(&image, &config, &wanted)?;
//!     let mut region = vec![MaybeUninit::uninit(); plan.bytes()]; // or a static, or pages of yours
//!     let mut arena = Arena::new(&mut region);
//!     let weights = Weights::resolve(&image, &config, &mut arena)?;
//!     let tokenizer = Tokenizer::new(&image, &mut arena)?;
//!     let mut session = Session::new(Ops::scalar(), &Single, &config, weights, &plan, &mut arena)?;
//!     let mut sampler = Sampler::new(SamplingConfig::GREEDY, config.vocab_size, &mut arena)?;
//!
//!     let layout = tokenizer.scratch_layout(prompt.len(), Layout::new())?;
//!     let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
//!     let mut scratch = tokenizer.scratch(prompt.len(), &mut Arena::new(&mut region))?;
//!     let mut tokens = vec![0; prompt.len() + 2]; // none is shorter than a byte; BOS and a space may go before
//!     let n_tokens =
//!         tokenizer.encode_with_bos(prompt.as_bytes(), Specials::Never, &mut scratch, &mut tokens)?;
//!
//!     let until = GenerationConfig { max_tokens: 16, stop: &["\n"], ignores_eog: false };
//!     Generator::new(&mut session, &tokenizer, &mut sampler, &tokens[..n_tokens], until)?.run(&mut |event| {
//!         if let Event::Text(text) = event {
//!             print(text);
//!         }
//!         ControlFlow::Continue(())
//!     })?;
//!     Ok(())
//! }
//!
//! assert!(tell(b"not a model, but longer than a header", "Once", &mut |_| ()).is_err());
//! # if let Ok(model) = std::fs::read("../../../shared/models/stories260K-f32.gguf") {
//! #     let mut text = String::new();
//! #     tell(&model, "Once upon a time", &mut |piece| text.push_str(piece)).unwrap();
//! #     assert!(text.starts_with(", there was a"), "{text}");
//! # }
//! ```
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "std")]
extern crate std;

pub mod arena;
pub mod chat;
pub mod config;
pub mod error;
mod forward;
pub mod generate;
pub mod gguf;
pub mod kv_cache;
pub mod plan;
pub mod sampler;
pub mod session;
mod text;
pub mod tokenizer;
pub mod weights;

#[doc(inline)]
pub use corelm_ops as ops;

#[doc(no_inline)]
pub use {
    arena::{Arena, Layout},
    chat::{ChatError, ChatTemplate, Message, Role},
    config::{Architecture, Config},
    error::{ArenaError, Error, ModelError, TokenizeError},
    generate::{Event, GenerateError, Generation, GenerationConfig, Generator, StopReason},
    gguf::Image,
    kv_cache::KvType,
    plan::{MemoryPlan, PlanError, SessionConfig},
    sampler::{Sampler, SamplerError, SamplingConfig},
    session::{Progress, Session, SessionError},
    tokenizer::{Specials, Tokenizer},
    weights::Weights,
};

/// The id of a token: an index into the vocabulary.
pub type Token = u32;
