//! Memory plan: the exact bytes of a model and a session, before there is any memory and without a look at the weights.

use core::fmt;

use crate::arena::Layout;
use crate::config::Config;
use crate::error::{ArenaError, ModelError};
use crate::forward::{Crew, Scratch, Widths};
use crate::gguf::Image;
use crate::kv_cache::{KvCache, KvError, KvShape, KvType};
use crate::sampler::Sampler;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// The choices a session is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Positions: tokens that the session can hold, at least 1. Beyond the length a model with rotary embedding was
    /// trained on it still runs, but loses the thread; learned positions end there.
    pub n_ctx: usize,
    /// Tokens of one batch, at least 1; more than `n_ctx` counts as `n_ctx`. Scratch, and the time of one unit of
    /// [`Session::poll`](crate::session::Session::poll), grow with it.
    pub n_batch: usize,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Workers that will be lent, the caller among them, at least 1. Each has some memory of its own.
    pub n_workers: usize,
}

/// What a model and one session need.
///
/// One region of [`bytes`](Self::bytes) serves both; a region of [`model_bytes`](Self::model_bytes) and one of
/// [`session_bytes`](Self::session_bytes) for each session serve several sessions. A region may begin at any address;
/// one byte less is an error, and with the planned bytes the arena is used to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    pub(crate) session_config: SessionConfig,
    pub(crate) kv_shape: KvShape,
    model: Layout,
    session: Layout,
    all: Layout,
    packed: Layout,
    items: MemoryItems,
}

/// Bytes that the parts of a plan take from an arena, padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryItems {
    /// Table of the layers' weights; the weights themselves stay in the model's bytes.
    pub weights: usize,
    /// Index of the vocabulary.
    pub tokenizer: usize,
    /// Keys and values.
    pub kv_cache: usize,
    /// Intermediates of a batch, and what workers work in.
    pub scratch: usize,
    /// Candidates of the sampler.
    pub sampler: usize,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// `n_ctx` is 0.
    NoContext,
    /// `n_batch` is 0.
    NoBatch,
    /// `n_workers` is 0.
    NoWorkers,
    /// The model has learned positions, and fewer than `n_ctx`.
    ContextTooLong {
        /// Positions asked for.
        n_ctx: usize,
        /// Positions learned.
        max: usize,
    },
    /// The storage of keys and values does not fit the model's heads.
    Kv(KvError),
    /// The bytes do not fit in `usize`.
    Arena(ArenaError),
    /// The vocabulary is damaged, or a tensor is missing, has no place, or a wrong shape or type.
    Model(ModelError),
}

impl MemoryPlan {
    /// Plans a session over the model in `image`, whose configuration is `config`. Reads metadata, no tensor.
    ///
    /// # Errors
    ///
    /// [`PlanError`] says which of the choices cannot be had.
    pub fn new(image: &Image<'_>, config: &Config, session: &SessionConfig) -> Result<Self, PlanError> {
        if session.n_ctx == 0 {
            return Err(PlanError::NoContext);
        }
        if session.n_batch == 0 {
            return Err(PlanError::NoBatch);
        }
        if session.n_workers == 0 {
            return Err(PlanError::NoWorkers);
        }
        if config.rope.is_none() && session.n_ctx > config.n_ctx_train {
            return Err(PlanError::ContextTooLong { n_ctx: session.n_ctx, max: config.n_ctx_train });
        }
        let session_config = SessionConfig { n_batch: session.n_batch.min(session.n_ctx), ..*session };
        let kv_shape = KvShape {
            n_layers: config.n_layers,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            n_ctx: session.n_ctx,
        };
        let widths = Widths::new(config).ok_or(ArenaError::TooLarge)?;
        let weights = Weights::layout(config, Layout::new())?;
        let packed = Weights::packed_layout(image, config, Layout::new())?;
        let tokenizer = Tokenizer::layout(image, Layout::new())?;
        Weights::check(image, config).map_err(PlanError::Model)?;
        let kv_cache = KvCache::layout(kv_shape, session_config.kv_type)?;
        let scratch = Scratch::layout(widths, session_config.n_batch)?.then(Crew::layout(
            &kv_shape,
            widths,
            &session_config,
        )?)?;
        let sampler = Sampler::layout(config.vocab_size)?;
        let model = weights.then(tokenizer)?;
        let session = kv_cache.then(scratch)?.then(sampler)?;
        let items = MemoryItems {
            weights: weights.used(),
            tokenizer: tokenizer.used(),
            kv_cache: kv_cache.used(),
            scratch: scratch.used(),
            sampler: sampler.used(),
        };
        Ok(Self { session_config, kv_shape, model, session, all: model.then(session)?, packed, items })
    }

    /// Bytes of a region for the model and one session.
    pub fn bytes(&self) -> usize {
        self.all.bytes()
    }

    /// Bytes of a region for the model alone: weights table and tokenizer.
    pub fn model_bytes(&self) -> usize {
        self.model.bytes()
    }

    /// Bytes of a region for one session alone: session and sampler.
    pub fn session_bytes(&self) -> usize {
        self.session.bytes()
    }

    /// Bytes of a region for a packed copy of the weights ([`Weights::pack`]), which is optional. As part of one region
    /// it takes no more than that on top of [`bytes`](Self::bytes).
    pub fn packed_len(&self) -> usize {
        self.packed.bytes()
    }

    /// What takes how much.
    pub fn items(&self) -> MemoryItems {
        self.items
    }

    /// The choices planned for; `n_batch` is at most `n_ctx` here.
    pub fn session_config(&self) -> SessionConfig {
        self.session_config
    }
}

impl PlanError {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::NoContext => 200,
            Self::NoBatch => 201,
            Self::ContextTooLong { .. } => 202,
            Self::NoWorkers => 203,
            Self::Kv(error) => error.code(),
            Self::Arena(error) => error.code(),
            Self::Model(error) => error.code(),
        }
    }
}

impl From<KvError> for PlanError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Arena(error) => Self::Arena(error),
            error => Self::Kv(error),
        }
    }
}

impl From<ArenaError> for PlanError {
    fn from(error: ArenaError) -> Self {
        Self::Arena(error)
    }
}

impl From<ModelError> for PlanError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Memory(error) => Self::Arena(error),
            error => Self::Model(error),
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContext => f.write_str("a context of 0 tokens; at least 1 is needed"),
            Self::NoBatch => f.write_str("a batch of 0 tokens; at least 1 is needed"),
            Self::NoWorkers => f.write_str("0 workers; at least 1 is needed"),
            Self::ContextTooLong { n_ctx, max } => {
                write!(f, "a context of {n_ctx} tokens; the model has learned {max} positions")
            }
            Self::Kv(error) => error.fmt(f),
            Self::Arena(error) => error.fmt(f),
            Self::Model(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PlanError {}
