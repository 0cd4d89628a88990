//! Writes models with random weights and a real tokenizer: any shape, any type, byte for byte the same everywhere.
//!
//! Weights deviate by `1 / sqrt(cols)`, so that activations keep their size from layer to layer and greedy choices differ
//! from step to step.

mod vocabulary;

use core::fmt;

use corelm::config::Architecture;
use corelm::gguf::Value;
use corelm::gguf::writer::{Sink, SinkFull, WriteError, Writer};
use corelm::ops::GgmlType;

pub use vocabulary::{Kind, TokenText, Tokenizer, Vocabulary};

use crate::random::Random;
use crate::text::Text;
use crate::weights;

/// What the model is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SynthConfig {
    /// The architecture.
    pub arch: Architecture,
    /// The tokenizer it carries.
    pub tokenizer: Tokenizer,
    /// Type of the matrices; vectors are F32.
    pub ty: GgmlType,
    /// Width.
    pub dim: usize,
    /// Width of the feed-forward part.
    pub hidden_dim: usize,
    /// Layers.
    pub n_layers: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Context length.
    pub n_ctx: usize,
    /// Seed of the weights.
    pub seed: u64,
}

impl SynthConfig {
    /// 2 layers, 64 wide: small enough for every test.
    pub const TINY: SynthConfig = SynthConfig {
        arch: Architecture::Llama,
        tokenizer: Tokenizer::Bpe,
        ty: GgmlType::Q4_0,
        dim: 64,
        hidden_dim: 96,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        vocab_size: 512,
        n_ctx: 128,
        seed: 1,
    };
    /// 6 layers, 384 wide, 32 000 tokens: the model of the benchmark cases, 20 MB at Q4_0.
    pub const SEED: SynthConfig = SynthConfig {
        dim: 384,
        hidden_dim: 1536,
        n_layers: 6,
        n_heads: 6,
        n_kv_heads: 6,
        vocab_size: 32_000,
        n_ctx: 512,
        ..SynthConfig::TINY
    };
    /// Small ones that differ in architecture, tokenizer and type.
    pub const KINDS: [SynthConfig; 4] = [
        SynthConfig::kind(Architecture::Llama, Tokenizer::Bpe, GgmlType::Q4_0),
        SynthConfig::kind(Architecture::Llama, Tokenizer::Spm, GgmlType::F32),
        SynthConfig::kind(Architecture::Qwen2, Tokenizer::Bpe, GgmlType::Q8_0),
        SynthConfig::kind(Architecture::Gpt2, Tokenizer::Bpe, GgmlType::F16),
    ];
    /// TinyLlama 1.1B.
    pub const TINYLLAMA: SynthConfig = SynthConfig {
        tokenizer: Tokenizer::Spm,
        dim: 2048,
        hidden_dim: 5632,
        n_layers: 22,
        n_heads: 32,
        n_kv_heads: 4,
        vocab_size: 32_000,
        n_ctx: 2048,
        ..SynthConfig::TINY
    };

    const fn kind(arch: Architecture, tokenizer: Tokenizer, ty: GgmlType) -> SynthConfig {
        let small = SynthConfig { vocab_size: 400, n_ctx: 32, ..SynthConfig::TINY };
        let n_kv_heads = if matches!(arch, Architecture::Gpt2) { small.n_heads } else { small.n_kv_heads };
        SynthConfig { arch, tokenizer, ty, n_kv_heads, ..small }
    }
}

/// Why no model was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SynthError {
    /// No vocabulary of this size: it begins at `smallest` and ends above 300 000.
    Vocabulary {
        /// The smallest one.
        smallest: usize,
    },
    /// A number of the shape is 0, or one does not divide another as it must.
    Shape(&'static str),
    /// The writer refused, or its sink was full.
    Write(WriteError),
}

impl fmt::Display for SynthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SynthError::Vocabulary { smallest } => {
                write!(f, "the vocabulary must have {smallest} to 300000 tokens")
            }
            SynthError::Shape(what) => f.write_str(what),
            SynthError::Write(error) => error.fmt(f),
        }
    }
}

impl From<WriteError> for SynthError {
    fn from(error: WriteError) -> SynthError {
        SynthError::Write(error)
    }
}

/// Writes the model to `sink` and gives the sink back.
///
/// # Errors
///
/// [`SynthError`].
pub fn write_model<S: Sink>(config: &SynthConfig, sink: S) -> Result<S, SynthError> {
    write(config, sink, true)
}

/// How many bytes [`write_model`] writes.
///
/// # Errors
///
/// [`SynthError`].
pub fn model_bytes(config: &SynthConfig) -> Result<u64, SynthError> {
    struct Count(u64);
    impl Sink for Count {
        fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
            self.0 += bytes.len() as u64;
            Ok(())
        }
    }
    Ok(write(config, Count(0), false)?.0)
}

/// [`write_model`], with zeros for weights where only their number counts.
fn write<S: Sink>(config: &SynthConfig, sink: S, has_weights: bool) -> Result<S, SynthError> {
    let vocabulary = config.check()?;
    let mut n_tensors = 0;
    config.for_each_tensor(&mut |_| {
        n_tensors += 1;
        Ok::<(), SynthError>(())
    })?;
    let mut writer = Writer::new(sink, config.n_keys(), n_tensors)?;
    config.write_shape(&mut writer)?;
    write_vocabulary(&vocabulary, config.arch, &mut writer)?;
    config.for_each_tensor(&mut |tensor| {
        // A vector has one dimension; the length of a row comes first.
        let dims = [tensor.cols as u64, tensor.rows as u64];
        let dims = if tensor.is_vector() { &dims[..1] } else { &dims[..] };
        writer.tensor(tensor.name.as_str(), dims, tensor.ty(config))
    })?;
    let mut seeds = Random::new(config.seed);
    config.for_each_tensor(&mut |tensor| {
        let random = Random::new(seeds.bits());
        write_data(tensor, config, has_weights.then_some(random), &mut writer)
    })?;
    Ok(writer.finish()?)
}

/// How a tensor's values are drawn.
#[derive(Clone, Copy, Debug)]
enum Draw {
    /// Evenly around 0, in the type of the model's matrices.
    Matrix,
    /// Evenly around 1, a tenth up or down: the weight of a norm.
    Norm,
    /// Evenly around 0, a twentieth up or down: a bias.
    Bias,
}

/// One tensor of a model.
#[derive(Clone, Copy, Debug)]
struct Tensor {
    name: Text<40>,
    /// Values in a row, and rows (1 for a vector).
    cols: usize,
    rows: usize,
    draw: Draw,
}

impl Tensor {
    fn is_vector(&self) -> bool {
        self.rows == 1
    }

    fn ty(&self, config: &SynthConfig) -> GgmlType {
        match self.draw {
            Draw::Matrix => config.ty,
            Draw::Norm | Draw::Bias => GgmlType::F32,
        }
    }
}

impl SynthConfig {
    /// Values of one head.
    fn head_dim(&self) -> usize {
        self.dim.checked_div(self.n_heads).unwrap_or(0)
    }

    /// Whether the output matrix is the embedding.
    fn is_tied(&self) -> bool {
        self.arch != Architecture::Llama
    }

    fn check(&self) -> Result<Vocabulary, SynthError> {
        let shape = |holds: bool, what| if holds { Ok(()) } else { Err(SynthError::Shape(what)) };
        let block = self.ty.block_values().get();
        let sizes = [self.dim, self.hidden_dim, self.n_layers, self.n_heads, self.n_kv_heads, self.n_ctx];
        shape(!sizes.contains(&0), "every number of the shape must be at least 1")?;
        shape(self.dim.is_multiple_of(self.n_heads), "the width must be a multiple of the heads")?;
        shape(self.head_dim().is_multiple_of(2), "the width of a head must be even")?;
        shape(
            self.n_heads.is_multiple_of(self.n_kv_heads),
            "the heads must be a multiple of the key and value heads",
        )?;
        shape(
            self.dim.is_multiple_of(block) && self.hidden_dim.is_multiple_of(block),
            "width and feed-forward width must be multiples of the type's block",
        )?;
        let gpt2_has_all_heads = self.arch != Architecture::Gpt2 || self.n_heads == self.n_kv_heads;
        shape(gpt2_has_all_heads, "gpt2 has as many key and value heads as heads")?;
        shape(
            self.arch == Architecture::Llama || self.tokenizer == Tokenizer::Bpe,
            "qwen2 and gpt2 carry a byte-level tokenizer",
        )?;
        let smallest = Vocabulary::smallest(self.tokenizer);
        Vocabulary::new(self.tokenizer, self.vocab_size).ok_or(SynthError::Vocabulary { smallest })
    }

    /// Gives every tensor to `each`, in the order of the file.
    fn for_each_tensor<E>(&self, each: &mut dyn FnMut(&Tensor) -> Result<(), E>) -> Result<(), E> {
        let (dim, hidden_dim) = (self.dim, self.hidden_dim);
        let kv_dim = self.head_dim() * self.n_kv_heads;
        let is_gpt2 = self.arch == Architecture::Gpt2;
        let mut matrix = |layer: Option<usize>, part: &str, rows, cols| {
            each(&Tensor { name: tensor_name(layer, part, "weight"), cols, rows, draw: Draw::Matrix })
        };
        matrix(None, "token_embd", self.vocab_size, dim)?;
        if !self.is_tied() {
            matrix(None, "output", self.vocab_size, dim)?;
        }
        for layer in (0..self.n_layers).map(Some) {
            if is_gpt2 {
                matrix(layer, "attn_qkv", dim + 2 * kv_dim, dim)?;
            } else {
                matrix(layer, "attn_q", dim, dim)?;
                matrix(layer, "attn_k", kv_dim, dim)?;
                matrix(layer, "attn_v", kv_dim, dim)?;
                matrix(layer, "ffn_gate", hidden_dim, dim)?;
            }
            matrix(layer, "attn_output", dim, dim)?;
            matrix(layer, "ffn_up", hidden_dim, dim)?;
            matrix(layer, "ffn_down", dim, hidden_dim)?;
        }
        let mut vector = |layer: Option<usize>, part: &str, kind: &str, cols, draw| {
            each(&Tensor { name: tensor_name(layer, part, kind), cols, rows: 1, draw })
        };
        vector(None, "output_norm", "weight", dim, Draw::Norm)?;
        if is_gpt2 {
            vector(None, "output_norm", "bias", dim, Draw::Bias)?;
        }
        for layer in (0..self.n_layers).map(Some) {
            vector(layer, "attn_norm", "weight", dim, Draw::Norm)?;
            vector(layer, "ffn_norm", "weight", dim, Draw::Norm)?;
            let biases: &[(&str, usize)] = match self.arch {
                Architecture::Gpt2 => &[
                    ("attn_norm", dim),
                    ("ffn_norm", dim),
                    ("attn_qkv", dim + 2 * kv_dim),
                    ("attn_output", dim),
                    ("ffn_up", hidden_dim),
                    ("ffn_down", dim),
                ],
                Architecture::Qwen2 => &[("attn_q", dim), ("attn_k", kv_dim), ("attn_v", kv_dim)],
                _ => &[],
            };
            for &(part, cols) in biases {
                vector(layer, part, "bias", cols, Draw::Bias)?;
            }
        }
        if is_gpt2 {
            // Positions are learned, and as F32 as in every file of this architecture.
            let name = tensor_name(None, "position_embd", "weight");
            each(&Tensor { name, cols: dim, rows: self.n_ctx, draw: Draw::Bias })?;
        }
        Ok(())
    }
}

impl SynthConfig {
    /// How many keys [`write_shape`](Self::write_shape) and [`write_vocabulary`] write; the writer checks it.
    fn n_keys(&self) -> u64 {
        let shape = if self.arch == Architecture::Gpt2 { 10 } else { 12 };
        shape + 8
    }

    /// Writes the keys that say the architecture and its numbers.
    fn write_shape<S: Sink>(&self, writer: &mut Writer<S>) -> Result<(), WriteError> {
        let arch = self.arch.name();
        writer.value("general.architecture", Value::String(arch.as_bytes()))?;
        writer.value("general.name", Value::String(b"synthetic"))?;
        let key = |name: &str| Text::<64>::format(format_args!("{arch}.{name}"));
        for (name, number) in [
            ("vocab_size", self.vocab_size),
            ("context_length", self.n_ctx),
            ("embedding_length", self.dim),
            ("block_count", self.n_layers),
            ("feed_forward_length", self.hidden_dim),
            ("attention.head_count", self.n_heads),
            ("attention.head_count_kv", self.n_kv_heads),
        ] {
            writer.value(key(name).as_str(), Value::U32(u32::try_from(number).unwrap_or(u32::MAX)))?;
        }
        if self.arch == Architecture::Gpt2 {
            return writer.value(key("attention.layer_norm_epsilon").as_str(), Value::F32(1e-5));
        }
        writer.value(key("attention.layer_norm_rms_epsilon").as_str(), Value::F32(1e-5))?;
        let n_dims = u32::try_from(self.head_dim()).unwrap_or(u32::MAX);
        writer.value(key("rope.dimension_count").as_str(), Value::U32(n_dims))?;
        writer.value(key("rope.freq_base").as_str(), Value::F32(10_000.0))
    }
}

/// Writes the keys of the tokenizer.
fn write_vocabulary<S: Sink>(
    vocabulary: &Vocabulary,
    arch: Architecture,
    writer: &mut Writer<S>,
) -> Result<(), WriteError> {
    let ids = 0..vocabulary.size();
    let token = |id| vocabulary.token(id).unwrap_or((Text::EMPTY, Kind::Normal));
    let kinds = ids.clone().map(|id| token(id).1 as i32);
    writer.strings("tokenizer.ggml.tokens", ids.clone().map(|id| token(id).0))?;
    writer.i32s("tokenizer.ggml.token_type", kinds)?;
    writer.value("tokenizer.ggml.bos_token_id", Value::U32(vocabulary.bos()))?;
    writer.value("tokenizer.ggml.eos_token_id", Value::U32(vocabulary.eos()))?;
    match vocabulary.tokenizer() {
        Tokenizer::Spm => {
            writer.value("tokenizer.ggml.model", Value::String(b"llama"))?;
            writer.f32s("tokenizer.ggml.scores", ids.map(|id| vocabulary.score(id)))?;
            writer.value("tokenizer.ggml.unknown_token_id", Value::U32(0))?;
            writer.value("tokenizer.ggml.add_bos_token", Value::Bool(true))
        }
        Tokenizer::Bpe => {
            let pre: &[u8] = match arch {
                Architecture::Gpt2 => b"gpt-2",
                Architecture::Qwen2 => b"qwen2",
                _ => b"llama-bpe",
            };
            writer.value("tokenizer.ggml.model", Value::String(b"gpt2"))?;
            writer.value("tokenizer.ggml.pre", Value::String(pre))?;
            writer.value("tokenizer.ggml.add_bos_token", Value::Bool(arch == Architecture::Llama))?;
            let merges = (0..vocabulary.n_merges()).map(|rank| {
                let (left, right) = vocabulary.merge(rank).unwrap_or((Text::EMPTY, Text::EMPTY));
                Text::<33>::format(format_args!("{left} {right}"))
            });
            writer.strings("tokenizer.ggml.merges", merges)
        }
    }
}

/// Writes the values of one tensor, in pieces; zeros without `random`.
fn write_data<S: Sink>(
    tensor: &Tensor,
    config: &SynthConfig,
    mut random: Option<Random>,
    writer: &mut Writer<S>,
) -> Result<(), WriteError> {
    let ty = tensor.ty(config);
    let mut n_blocks = tensor.rows * (tensor.cols / ty.block_values());
    let deviation = 1.0 / libm::sqrtf(tensor.cols as f32);
    let mut buffer = [0u8; 1024];
    let per_piece = buffer.len() / ty.block_bytes();
    while n_blocks > 0 {
        let n = n_blocks.min(per_piece);
        let piece = buffer.get_mut(..n * ty.block_bytes().get()).unwrap_or_default();
        match (&mut random, tensor.draw) {
            (None, _) => {}
            (Some(random), Draw::Matrix) => weights::fill(piece, ty, deviation, random),
            (Some(random), Draw::Norm | Draw::Bias) => {
                let (middle, spread) =
                    if matches!(tensor.draw, Draw::Norm) { (1.0, 0.1) } else { (0.0, 0.05) };
                for value in piece.as_chunks_mut::<4>().0 {
                    *value = (middle + spread * random.unit()).to_le_bytes();
                }
            }
        }
        writer.data(piece)?;
        n_blocks -= n;
    }
    writer.end_tensor()
}

fn tensor_name(layer: Option<usize>, part: &str, kind: &str) -> Text<40> {
    match layer {
        Some(layer) => Text::format(format_args!("blk.{layer}.{part}.{kind}")),
        None => Text::format(format_args!("{part}.{kind}")),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use corelm::config::Config;
    use corelm::gguf::Image;

    use super::*;

    fn bytes(config: &SynthConfig) -> std::vec::Vec<u8> {
        let mut bytes = std::vec![0u8; model_bytes(config).unwrap() as usize];
        let rest = write_model(config, &mut bytes[..]).unwrap();
        assert!(rest.is_empty());
        bytes
    }

    #[test]
    fn every_shape_is_a_model_the_engine_takes() {
        for arch in [Architecture::Llama, Architecture::Qwen2, Architecture::Gpt2] {
            for ty in
                [GgmlType::F32, GgmlType::F16, GgmlType::BF16, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0]
            {
                let n_kv_heads = if arch == Architecture::Gpt2 { 4 } else { 2 };
                let config = SynthConfig { arch, ty, n_kv_heads, ..SynthConfig::TINY };
                let bytes = bytes(&config);
                let image = Image::parse(&bytes).unwrap();
                let have = Config::from_image(&image).unwrap();
                assert_eq!((have.arch, have.dim, have.vocab_size), (arch, 64, 512));
                assert_eq!((have.n_layers, have.n_heads, have.n_kv_heads), (2, 4, n_kv_heads));
            }
        }
    }

    #[test]
    fn equal_seeds_give_equal_files_and_others_do_not() {
        let (one, two) = (SynthConfig::TINY, SynthConfig { seed: 2, ..SynthConfig::TINY });
        assert!(bytes(&one) == bytes(&one));
        assert!(bytes(&one) != bytes(&two));
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        for bad in [
            SynthConfig { dim: 0, ..SynthConfig::TINY },
            SynthConfig { n_heads: 3, ..SynthConfig::TINY },
            SynthConfig { n_kv_heads: 3, ..SynthConfig::TINY },
            SynthConfig { hidden_dim: 100, ..SynthConfig::TINY },
            SynthConfig { vocab_size: 200, ..SynthConfig::TINY },
            SynthConfig { arch: Architecture::Gpt2, ..SynthConfig::TINY },
            SynthConfig { arch: Architecture::Qwen2, tokenizer: Tokenizer::Spm, ..SynthConfig::TINY },
        ] {
            assert!(model_bytes(&bad).is_err(), "{bad:?}");
        }
    }
}
