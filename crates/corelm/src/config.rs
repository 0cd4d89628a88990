//! The shape of a model: read from metadata, every number checked once.
//!
//! Keys are those of the GGUF specification under `{architecture}.`; what llama.cpp reads and this engine does not do
//! (experts, layers that differ, other scalings of RoPE) is refused rather than ignored.

use crate::error::{ModelError, ShortName, VocabFault};
use crate::gguf::limits::{self, Limit};
use crate::gguf::{Image, Value};
use crate::ops::cpu::with_default_floats;
use core::num::NonZeroUsize;

/// The architectures that this engine computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// RMSNorm, RoPE of adjacent pairs, grouped-query attention, SwiGLU (Touvron et al. 2023).
    Llama,
    /// As llama with biases on Q, K, V and RoPE of halves (Yang et al. 2024).
    Qwen2,
    /// LayerNorm with bias, learned positions, GELU (Radford et al. 2019).
    Gpt2,
}

/// Which values rotate together in RoPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// `2i` and `2i + 1`.
    Adjacent,
    /// `i` and `i + n / 2` ("NeoX").
    Halves,
}

/// Rotary position embedding (Su et al. 2021).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeConfig {
    /// Which values rotate together.
    pub pairing: RopePairing,
    /// Values of each head that rotate, from the first; even, 2..=head_dim.
    pub n_dims: usize,
    /// Pair `i` turns by `base^(-2i / n_dims)` radians for each position.
    pub base: f32,
    /// What positions are multiplied by: the inverse of the factor of linear scaling.
    pub scale: f32,
}

/// The shape of a model. Made only by [`Config::from_image`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The architecture.
    pub arch: Architecture,
    /// Width of the residual stream, 1..=65536.
    pub dim: usize,
    /// Width of the feed-forward layer, 1..=65536.
    pub hidden_dim: usize,
    /// Layers, 1..=512.
    pub n_layers: usize,
    /// Query heads; at most `dim`.
    pub n_heads: usize,
    /// Key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// `n_heads / n_kv_heads`: query heads that share a key/value head.
    pub group: NonZeroUsize,
    /// Width of a head; `n_heads * head_dim` is at most 65536 and need not be `dim`.
    pub head_dim: usize,
    /// Tokens, and rows of the embedding; 1..=2^20.
    pub vocab_size: usize,
    /// Positions the model was trained for; with learned positions no more are possible.
    pub n_ctx_train: usize,
    /// Added to the variance in norms; in (0, 1].
    pub norm_eps: f32,
    /// Rotary positions; `None` when positions are learned.
    pub rope: Option<RopeConfig>,
}

impl Architecture {
    /// Its name in `general.architecture`, and the prefix of its keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Gpt2 => "gpt2",
        }
    }

    /// Reads `general.architecture`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when it is absent, no UTF-8 string, or not known.
    pub fn from_image(image: &Image<'_>) -> Result<Self, ModelError> {
        const KEY: &str = "general.architecture";
        let bytes = image.require(KEY)?.to_bytes(KEY)?;
        let name = str::from_utf8(bytes).map_err(|_| ModelError::NotUtf8Value { key: KEY })?;
        [Self::Llama, Self::Qwen2, Self::Gpt2]
            .into_iter()
            .find(|arch| arch.name() == name)
            .ok_or(ModelError::UnsupportedArchitecture { name: ShortName::new(bytes) })
    }
}

impl Config {
    /// Width of all query heads: `n_heads * head_dim`.
    pub const fn q_dim(&self) -> usize {
        self.n_heads.saturating_mul(self.head_dim) // checked to be at most 65536
    }

    /// Width of all key or value heads: `n_kv_heads * head_dim`.
    pub const fn kv_dim(&self) -> usize {
        self.n_kv_heads.saturating_mul(self.head_dim)
    }

    /// Reads the shape from the metadata of `image`, the vocabulary size from its embedding.
    ///
    /// # Errors
    ///
    /// [`ModelError`] naming the key that is absent, of the wrong type, out of its range or not supported.
    pub fn from_image(image: &Image<'_>) -> Result<Self, ModelError> {
        with_default_floats(|| Self::read(image))
    }

    fn read(image: &Image<'_>) -> Result<Self, ModelError> {
        let arch = Architecture::from_image(image)?;
        let keys = Keys { image, arch };
        let n_layers = keys.size("block_count", limits::LAYERS)?;
        let dim = keys.size("embedding_length", limits::WIDTH)?;
        let hidden_dim = keys.layer_size("feed_forward_length", n_layers, 1..=u32::MAX)?;
        let hidden_dim = limits::WIDTH.check_u32(hidden_dim.into())? as usize;
        let n_ctx_train =
            keys.size("context_length", Limit { what: "context length", max: u32::MAX.into() })?;

        let n_heads = keys.layer_size("attention.head_count", n_layers, 1..=at_most(dim))?;
        let n_kv_heads = match keys.get("attention.head_count_kv") {
            Some(_) => keys.layer_size("attention.head_count_kv", n_layers, 1..=n_heads)?,
            None => n_heads,
        };
        let group = exact_quotient(n_heads as usize, n_kv_heads as usize, "attention.head_count_kv")?;
        let head_dim = match keys.get("attention.key_length") {
            Some(_) => keys.size("attention.key_length", limits::WIDTH)?,
            None => exact_quotient(dim, n_heads as usize, "attention.head_count")?.get(),
        };
        let value_length = keys.optional_u32("attention.value_length")?;
        if value_length.is_some_and(|length| length as usize != head_dim) {
            return Err(ModelError::UnsupportedKey { key: "attention.value_length" });
        }
        limits::WIDTH.check(u64::from(n_heads).saturating_mul(head_dim as u64))?;
        keys.refuse_what_is_not_done()?;

        Ok(Self {
            arch,
            dim,
            hidden_dim,
            n_layers,
            n_heads: n_heads as usize,
            n_kv_heads: n_kv_heads as usize,
            group,
            head_dim,
            vocab_size: keys.vocab_size()?,
            n_ctx_train,
            norm_eps: keys.norm_eps()?,
            rope: match arch {
                Architecture::Llama => Some(keys.rope(RopePairing::Adjacent, head_dim)?),
                Architecture::Qwen2 => Some(keys.rope(RopePairing::Halves, head_dim)?),
                Architecture::Gpt2 => None,
            },
        })
    }
}

/// The keys of one architecture.
struct Keys<'i, 'm> {
    image: &'i Image<'m>,
    arch: Architecture,
}

impl<'m> Keys<'_, 'm> {
    /// The value of `{arch}.{key}`.
    fn get(&self, key: &str) -> Option<Value<'m>> {
        let suffix = |name: &'m str| name.strip_prefix(self.arch.name())?.strip_prefix('.');
        self.image.metadata().find(|entry| suffix(entry.0) == Some(key)).map(|entry| entry.1)
    }

    fn require(&self, key: &'static str) -> Result<Value<'m>, ModelError> {
        self.get(key).ok_or(ModelError::MissingKey { key })
    }

    fn optional_u32(&self, key: &'static str) -> Result<Option<u32>, ModelError> {
        self.get(key).map(|value| value.to_u32(key, 0, u32::MAX)).transpose()
    }

    fn optional_f32(&self, key: &'static str) -> Result<Option<f32>, ModelError> {
        self.get(key).map(|value| value.to_f32(key)).transpose()
    }

    /// A size that must be there: 1..=`limit`.
    fn size(&self, key: &'static str, limit: Limit) -> Result<usize, ModelError> {
        match self.require(key)?.to_u32(key, 1, u32::MAX) {
            Ok(value) => Ok(limit.check_u32(value.into())? as usize),
            Err(ModelError::OutOfRange { key, value, min, .. }) => {
                Err(ModelError::OutOfRange { key, value, min, max: limit.max })
            }
            Err(error) => Err(error),
        }
    }

    /// A size that may be given for each layer, if it is the same in all.
    fn layer_size(
        &self,
        key: &'static str,
        n_layers: usize,
        range: core::ops::RangeInclusive<u32>,
    ) -> Result<u32, ModelError> {
        let value = match self.require(key)? {
            Value::Array(array) => {
                if array.len() != n_layers {
                    let (value, n_layers) = (array.len() as u64, n_layers as u64);
                    return Err(ModelError::OutOfRange { key, value, min: n_layers, max: n_layers });
                }
                let first = array.iter().next().ok_or(ModelError::MissingKey { key })?;
                if array.iter().any(|value| value.integer_bits() != first.integer_bits()) {
                    return Err(ModelError::UnsupportedKey { key });
                }
                first
            }
            value => value,
        };
        value.to_u32(key, *range.start(), *range.end())
    }

    /// Rows of the embedding; the metadata must agree where it says a number.
    fn vocab_size(&self) -> Result<usize, ModelError> {
        let name = "token_embd.weight";
        let embedding = self.image.tensor(name).ok_or(ModelError::MissingTensor { name, layer: None })?;
        let [_, rows, ..] = embedding.dims;
        let rows = limits::VOCAB.check_u32(rows)?;
        let announced = self.optional_u32("vocab_size")?.map(u64::from);
        let n_tokens = match self.image.get("tokenizer.ggml.tokens") {
            Some(Value::Array(tokens)) => Some(tokens.len() as u64),
            _ => None, // the tokenizer's error, not the shape's
        };
        for index in [announced, n_tokens].into_iter().flatten() {
            if index != u64::from(rows) {
                return Err(ModelError::BadVocab { fault: VocabFault::TokenCount, index });
            }
        }
        Ok(rows as usize)
    }

    fn norm_eps(&self) -> Result<f32, ModelError> {
        let key = match self.arch {
            Architecture::Llama | Architecture::Qwen2 => "attention.layer_norm_rms_epsilon",
            Architecture::Gpt2 => "attention.layer_norm_epsilon",
        };
        let eps = self.require(key)?.to_f32(key)?;
        check_float(key, eps, eps > 0.0 && eps <= 1.0)
    }

    fn rope(&self, pairing: RopePairing, head_dim: usize) -> Result<RopeConfig, ModelError> {
        let key = "rope.dimension_count";
        let max = at_most(head_dim);
        let n_dims = self.get(key).map_or(Ok(max), |value| value.to_u32(key, 2, max))?;
        if n_dims % 2 != 0 {
            return Err(ModelError::NotDivisible { key, value: n_dims.into(), by: 2 });
        }
        let key = "rope.freq_base";
        let base = self.optional_f32(key)?.unwrap_or(10_000.0);
        let base = check_float(key, base, base >= 1.0)?;
        Ok(RopeConfig { pairing, n_dims: n_dims as usize, base, scale: self.rope_scale()? })
    }

    /// The inverse of the factor of linear scaling, 1 when there is none.
    fn rope_scale(&self) -> Result<f32, ModelError> {
        let key = "rope.scaling.attn_factor";
        let attn_factor = self.optional_f32(key)?.unwrap_or(1.0);
        if check_float(key, attn_factor, true)? != 1.0 {
            return Err(ModelError::UnsupportedKey { key });
        }
        let key = "rope.scaling.type";
        let scaling = self.get(key).map(|value| value.to_bytes(key)).transpose()?;
        // Checked even where it does not count: a damaged number is an error, and no absent one.
        let new = self.inverse_factor("rope.scaling.factor")?;
        let old = self.inverse_factor("rope.scale_linear")?;
        match scaling {
            Some(b"none") => Ok(1.0),
            None | Some(b"linear") => Ok(new.or(old).unwrap_or(1.0)),
            Some(name) => Err(ModelError::UnsupportedName { key, name: ShortName::new(name) }),
        }
    }

    fn inverse_factor(&self, key: &'static str) -> Result<Option<f32>, ModelError> {
        let Some(factor) = self.optional_f32(key)? else { return Ok(None) };
        let inverse = 1.0 / factor;
        check_float(key, factor, factor > 0.0 && inverse > 0.0 && inverse.is_finite())?;
        Ok(Some(inverse))
    }

    fn refuse_what_is_not_done(&self) -> Result<(), ModelError> {
        for key in ["expert_count", "expert_used_count"] {
            if self.optional_u32(key)?.is_some_and(|n_experts| n_experts > 0) {
                return Err(ModelError::UnsupportedKey { key });
            }
        }
        let key = "attention.causal";
        match self.get(key).map(|value| value.to_bool(key)).transpose()? {
            Some(false) => Err(ModelError::UnsupportedKey { key }),
            _ => Ok(()),
        }
    }
}

fn at_most(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// `value / by`, which must come out even and not be 0.
fn exact_quotient(value: usize, by: usize, key: &'static str) -> Result<NonZeroUsize, ModelError> {
    let uneven = ModelError::NotDivisible { key, value: value as u64, by: by as u64 };
    let by = NonZeroUsize::new(by).ok_or(uneven)?;
    match NonZeroUsize::new(value / by) {
        Some(quotient) if value % by == 0 => Ok(quotient),
        _ => Err(uneven),
    }
}

fn check_float(key: &'static str, value: f32, is_in_range: bool) -> Result<f32, ModelError> {
    if value.is_finite() && is_in_range {
        return Ok(value);
    }
    Err(ModelError::BadFloat { key, bits: value.to_bits() })
}
