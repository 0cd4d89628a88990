//! Weights: every tensor of the file in its place in the model, as a view.
//!
//! Names, shapes and what may be absent are those of llama.cpp. One pass over the tensors fills a table of layers in
//! the arena. A tensor that has no place is an error, and so is one whose type or shape is wrong: a default stands only
//! for what is absent.

use crate::arena::{Arena, Layout};
use crate::config::{Architecture, Config};
use crate::error::{ArenaError, ModelError};
use crate::gguf::{Image, TensorInfo};
use crate::tokenizer;
use corelm_ops::{F32, GgmlType, Matrix, Ops, Rows};

/// A vector of the file: a norm, a bias, frequency factors.
pub type Vector<'m> = &'m [F32];

/// The weights of a model: matrices are (rows, columns) = (out, in).
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, 'm> {
    /// Token embedding (vocab_size, dim).
    pub tok_embd: Matrix<'m>,
    /// Position embedding (n_ctx_train, dim) where positions are learned.
    pub pos_embd: Option<Matrix<'m>>,
    /// The layers, first to last.
    pub layers: &'a [LayerWeights<'m>],
    /// Weight of the last norm (dim).
    pub output_norm: Vector<'m>,
    /// Its bias (dim), for LayerNorm.
    pub output_norm_bias: Option<Vector<'m>>,
    /// Output (vocab_size, dim): the token embedding when the file has none of its own.
    pub output: Matrix<'m>,
    /// What the frequency of each RoPE pair is divided by (rope.n_dims / 2).
    pub rope_freqs: Option<Vector<'m>>,
}

/// The weights of one layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights<'m> {
    /// Weight of the norm before attention (dim).
    pub attn_norm: Vector<'m>,
    /// Its bias (dim), for LayerNorm.
    pub attn_norm_bias: Option<Vector<'m>>,
    /// Queries (q_dim, dim).
    pub attn_q: Matrix<'m>,
    /// (q_dim)
    pub attn_q_bias: Option<Vector<'m>>,
    /// Keys (kv_dim, dim).
    pub attn_k: Matrix<'m>,
    /// (kv_dim)
    pub attn_k_bias: Option<Vector<'m>>,
    /// Values (kv_dim, dim).
    pub attn_v: Matrix<'m>,
    /// (kv_dim)
    pub attn_v_bias: Option<Vector<'m>>,
    /// Output of attention (dim, q_dim).
    pub attn_output: Matrix<'m>,
    /// (dim)
    pub attn_output_bias: Option<Vector<'m>>,
    /// Weight of the norm before the feed-forward layer (dim).
    pub ffn_norm: Vector<'m>,
    /// Its bias (dim), for LayerNorm.
    pub ffn_norm_bias: Option<Vector<'m>>,
    /// Gate (hidden_dim, dim), for SwiGLU.
    pub ffn_gate: Option<Matrix<'m>>,
    /// (hidden_dim)
    pub ffn_gate_bias: Option<Vector<'m>>,
    /// Up (hidden_dim, dim).
    pub ffn_up: Matrix<'m>,
    /// (hidden_dim)
    pub ffn_up_bias: Option<Vector<'m>>,
    /// Down (dim, hidden_dim).
    pub ffn_down: Matrix<'m>,
    /// (dim)
    pub ffn_down_bias: Option<Vector<'m>>,
}

impl<'a, 'm> Weights<'a, 'm> {
    /// What [`Weights::resolve`] takes from an arena, added to `layout`.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(config: &Config, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<LayerWeights<'m>>(config.n_layers)
    }

    /// Finds the place of every tensor of `image`; the table of layers comes from `arena`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when a tensor is missing, has no place, or is of a wrong shape or type, or the arena is full.
    pub fn resolve(image: &Image<'m>, config: &Config, arena: &mut Arena<'a>) -> Result<Self, ModelError> {
        let layers = arena.alloc_with(config.n_layers, |_| LayerWeights::NONE)?;
        let mut weights = Self::NONE;
        for tensor in image.tensors() {
            weights.place(&tensor, config, |layer| layers.get_mut(layer))?;
        }
        weights.complete(config)?;
        for (layer, index) in layers.iter().zip(0..u32::MAX) {
            if let Some(name) = layer.first_missing(config.arch) {
                return Err(ModelError::MissingTensor { name, layer: Some(index) });
            }
        }
        Ok(Self { layers, ..weights })
    }

    /// Checks every tensor as [`Weights::resolve`] does, and that there are as many layers as `config` says: so nobody asks
    /// for more memory than a model of the file's size can need.
    ///
    /// # Errors
    ///
    /// As [`Weights::resolve`].
    #[inline(never)] // a frame of its own, which nothing stands on
    pub(crate) fn check(image: &Image<'m>, config: &Config) -> Result<(), ModelError> {
        let (mut weights, mut n_layers) = (Self::NONE, 0u32);
        for tensor in image.tensors() {
            let mut any = LayerWeights::NONE;
            weights.place(&tensor, config, |layer| (layer < config.n_layers).then_some(&mut any))?;
            n_layers = n_layers.saturating_add(u32::from(!any.attn_norm.is_empty()));
        }
        weights.complete(config)?;
        if (n_layers as usize) < config.n_layers {
            return Err(ModelError::MissingTensor { name: "attn_norm.weight", layer: Some(n_layers) });
        }
        Ok(())
    }

    const NONE: Self = Self {
        tok_embd: Matrix::NONE,
        pos_embd: None,
        layers: &[],
        output_norm: &[],
        output_norm_bias: None,
        output: Matrix::NONE,
        rope_freqs: None,
    };

    /// Puts `tensor` where it belongs, here or in the layer that `layer` gives for its number.
    fn place<'l>(
        &mut self,
        tensor: &TensorInfo<'m>,
        config: &Config,
        layer: impl FnOnce(usize) -> Option<&'l mut LayerWeights<'m>>,
    ) -> Result<(), ModelError>
    where
        'm: 'l,
    {
        let (dim, vocab_size, has_rope) = (config.dim, config.vocab_size, config.rope.is_some());
        match tensor.name {
            "token_embd.weight" => self.tok_embd = matrix(tensor, vocab_size, dim)?,
            "position_embd.weight" if !has_rope => {
                self.pos_embd = Some(matrix(tensor, config.n_ctx_train, dim)?);
            }
            "output.weight" => self.output = matrix(tensor, vocab_size, dim)?,
            "output_norm.weight" => self.output_norm = vector(tensor, dim)?,
            "output_norm.bias" if has_norm_bias(config) => self.output_norm_bias = Some(vector(tensor, dim)?),
            "rope_freqs.weight" if has_rope => {
                self.rope_freqs = Some(vector(tensor, config.rope.map_or(0, |rope| rope.n_dims / 2))?);
            }
            // The tokenizer's.
            tokenizer::INDEX_TENSOR => {}
            name => {
                let no_place = ModelError::UnknownTensor { tensor: tensor.index };
                let (number, part) = layer_and_part(name).ok_or(no_place)?;
                layer(number).ok_or(no_place)?.place(part, tensor, config)?;
            }
        }
        Ok(())
    }

    /// Checks that nothing outside the layers is missing.
    fn complete(&mut self, config: &Config) -> Result<(), ModelError> {
        let has_rope = config.rope.is_some();
        let missing = [
            ("token_embd.weight", self.tok_embd.rows() == 0),
            ("output_norm.weight", self.output_norm.is_empty()),
            ("position_embd.weight", self.pos_embd.is_none() && !has_rope),
            ("output_norm.bias", self.output_norm_bias.is_none() && has_norm_bias(config)),
        ];
        if let Some((name, _)) = missing.into_iter().find(|(_, is_missing)| *is_missing) {
            return Err(ModelError::MissingTensor { name, layer: None });
        }
        if self.output.rows() == 0 {
            self.output = self.tok_embd;
        }
        Ok(())
    }
}

impl<'a> Weights<'a, 'a> {
    /// What [`Weights::pack`] takes from an arena at most, added to `layout`: a table of layers and the quantized matrices.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn packed_layout(image: &Image<'_>, config: &Config, layout: Layout) -> Result<Layout, ArenaError> {
        let has_output = image.tensors().any(|tensor| tensor.name == "output.weight");
        let is_copied = |tensor: &TensorInfo<'_>| {
            tensor.ty.packed().is_some() && !(has_output && tensor.name == "token_embd.weight")
        };
        let layout = Self::layout(config, layout)?;
        image.tensors().filter(is_copied).try_fold(layout, |layout, tensor| {
            // A fused matrix becomes three, each of which begins on a line of its own.
            layout.add::<u8>(tensor.bytes.len())?.add::<u8>(1)?.add::<u8>(1)
        })
    }

    /// Copies the quantized matrices to `arena`, with their rows in panels ([`Ops::pack`]): products are faster then, and
    /// the same bit for bit. The model's bytes are no longer read for them, except for the rows of embeddings.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when `arena` has less than [`MemoryPlan::packed_len`](crate::MemoryPlan::packed_len).
    pub fn pack(&self, ops: Ops, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        let output = pack(self.output, ops, arena)?;
        let layers = arena.alloc_with(self.layers.len(), |_| LayerWeights::NONE)?;
        for (packed, layer) in layers.iter_mut().zip(self.layers) {
            *packed = *layer;
            let matrices = [
                &mut packed.attn_q,
                &mut packed.attn_k,
                &mut packed.attn_v,
                &mut packed.attn_output,
                &mut packed.ffn_up,
                &mut packed.ffn_down,
            ];
            for matrix in matrices.into_iter().chain(&mut packed.ffn_gate) {
                *matrix = pack(*matrix, ops, arena)?;
            }
        }
        Ok(Self { layers, output, ..*self })
    }
}

/// `matrix` in panels, if its type has them.
fn pack<'a>(matrix: Matrix<'a>, ops: Ops, arena: &mut Arena<'a>) -> Result<Matrix<'a>, ArenaError> {
    if matrix.ty().packed().is_none() {
        return Ok(matrix);
    }
    let bytes = matrix.ty().row_bytes(matrix.cols()).and_then(|row| row.checked_mul(matrix.rows()));
    let copy = arena.alloc(bytes.ok_or(ArenaError::TooLarge)?, 0u8)?;
    ops.pack(copy, matrix).map_err(|_| ArenaError::TooLarge)
}

impl<'m> LayerWeights<'m> {
    const NONE: Self = Self {
        attn_norm: &[],
        attn_norm_bias: None,
        attn_q: Matrix::NONE,
        attn_q_bias: None,
        attn_k: Matrix::NONE,
        attn_k_bias: None,
        attn_v: Matrix::NONE,
        attn_v_bias: None,
        attn_output: Matrix::NONE,
        attn_output_bias: None,
        ffn_norm: &[],
        ffn_norm_bias: None,
        ffn_gate: None,
        ffn_gate_bias: None,
        ffn_up: Matrix::NONE,
        ffn_up_bias: None,
        ffn_down: Matrix::NONE,
        ffn_down_bias: None,
    };

    /// Puts `tensor`, named `blk.N.{part}`, where it belongs.
    #[inline(never)] // a frame of its own keeps that of `resolve` small
    fn place(&mut self, part: &str, tensor: &TensorInfo<'m>, config: &Config) -> Result<(), ModelError> {
        let Config { dim, hidden_dim, .. } = *config;
        let (q_dim, kv_dim) = (config.q_dim(), config.kv_dim());
        let (k_end, v_end) =
            (q_dim.saturating_add(kv_dim), q_dim.saturating_add(kv_dim).saturating_add(kv_dim));
        let has_gate = config.arch != Architecture::Gpt2;
        let no_place = Err(ModelError::UnknownTensor { tensor: tensor.index });
        match part {
            "attn_norm.weight" => self.attn_norm = vector(tensor, dim)?,
            "attn_norm.bias" if has_norm_bias(config) => self.attn_norm_bias = Some(vector(tensor, dim)?),
            // Fused: the rows of queries, then of keys, then of values.
            "attn_qkv.weight" => {
                if self.attn_q.rows() != 0 || self.attn_k.rows() != 0 || self.attn_v.rows() != 0 {
                    return no_place;
                }
                let fused = matrix(tensor, v_end, dim)?;
                self.attn_q = fused.slice_rows(0..q_dim);
                self.attn_k = fused.slice_rows(q_dim..k_end);
                self.attn_v = fused.slice_rows(k_end..v_end);
            }
            "attn_qkv.bias" => {
                if self.attn_q_bias.is_some() || self.attn_k_bias.is_some() || self.attn_v_bias.is_some() {
                    return no_place;
                }
                let fused = vector(tensor, v_end)?;
                self.attn_q_bias = fused.get(..q_dim);
                self.attn_k_bias = fused.get(q_dim..k_end);
                self.attn_v_bias = fused.get(k_end..);
            }
            "attn_q.weight" if self.attn_q.rows() == 0 => self.attn_q = matrix(tensor, q_dim, dim)?,
            "attn_q.bias" if self.attn_q_bias.is_none() => self.attn_q_bias = Some(vector(tensor, q_dim)?),
            "attn_k.weight" if self.attn_k.rows() == 0 => self.attn_k = matrix(tensor, kv_dim, dim)?,
            "attn_k.bias" if self.attn_k_bias.is_none() => self.attn_k_bias = Some(vector(tensor, kv_dim)?),
            "attn_v.weight" if self.attn_v.rows() == 0 => self.attn_v = matrix(tensor, kv_dim, dim)?,
            "attn_v.bias" if self.attn_v_bias.is_none() => self.attn_v_bias = Some(vector(tensor, kv_dim)?),
            "attn_output.weight" => self.attn_output = matrix(tensor, dim, q_dim)?,
            "attn_output.bias" => self.attn_output_bias = Some(vector(tensor, dim)?),
            "ffn_norm.weight" => self.ffn_norm = vector(tensor, dim)?,
            "ffn_norm.bias" if has_norm_bias(config) => self.ffn_norm_bias = Some(vector(tensor, dim)?),
            "ffn_gate.weight" if has_gate => self.ffn_gate = Some(matrix(tensor, hidden_dim, dim)?),
            "ffn_gate.bias" if has_gate => self.ffn_gate_bias = Some(vector(tensor, hidden_dim)?),
            "ffn_up.weight" => self.ffn_up = matrix(tensor, hidden_dim, dim)?,
            "ffn_up.bias" => self.ffn_up_bias = Some(vector(tensor, hidden_dim)?),
            "ffn_down.weight" => self.ffn_down = matrix(tensor, dim, hidden_dim)?,
            "ffn_down.bias" => self.ffn_down_bias = Some(vector(tensor, dim)?),
            _ => return no_place,
        }
        Ok(())
    }

    /// The first tensor that `arch` needs and that has not been placed.
    #[inline(never)] // as above
    fn first_missing(&self, arch: Architecture) -> Option<&'static str> {
        let (is_gpt2, is_qwen2) = (arch == Architecture::Gpt2, arch == Architecture::Qwen2);
        [
            ("attn_norm.weight", self.attn_norm.is_empty()),
            ("attn_norm.bias", is_gpt2 && self.attn_norm_bias.is_none()),
            ("attn_q.weight", self.attn_q.rows() == 0),
            ("attn_q.bias", (is_gpt2 || is_qwen2) && self.attn_q_bias.is_none()),
            ("attn_k.weight", self.attn_k.rows() == 0),
            ("attn_k.bias", (is_gpt2 || is_qwen2) && self.attn_k_bias.is_none()),
            ("attn_v.weight", self.attn_v.rows() == 0),
            ("attn_v.bias", (is_gpt2 || is_qwen2) && self.attn_v_bias.is_none()),
            ("attn_output.weight", self.attn_output.rows() == 0),
            ("attn_output.bias", is_gpt2 && self.attn_output_bias.is_none()),
            ("ffn_norm.weight", self.ffn_norm.is_empty()),
            ("ffn_norm.bias", is_gpt2 && self.ffn_norm_bias.is_none()),
            ("ffn_gate.weight", !is_gpt2 && self.ffn_gate.is_none()),
            ("ffn_up.weight", self.ffn_up.rows() == 0),
            ("ffn_up.bias", is_gpt2 && self.ffn_up_bias.is_none()),
            ("ffn_down.weight", self.ffn_down.rows() == 0),
            ("ffn_down.bias", is_gpt2 && self.ffn_down_bias.is_none()),
        ]
        .into_iter()
        .find(|part| part.1)
        .map(|part| part.0)
    }
}

/// Whether the norms are LayerNorms, which add a bias.
fn has_norm_bias(config: &Config) -> bool {
    config.arch == Architecture::Gpt2
}

/// Takes `blk.N.part` apart; the number must be written the one way numbers are.
fn layer_and_part(name: &str) -> Option<(usize, &str)> {
    let (number, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let is_canonical = matches!(number.as_bytes(), [b'0'] | [b'1'..=b'9', ..]);
    let is_digits = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_canonical && is_digits)?, part))
}

/// The tensor as a matrix, if it has this shape.
fn matrix<'m>(tensor: &TensorInfo<'m>, rows: usize, cols: usize) -> Result<Matrix<'m>, ModelError> {
    check_shape(tensor, rows, cols)?;
    Matrix::new(tensor.ty, tensor.bytes, rows, cols).map_err(|_| wrong_shape(tensor, rows, cols))
}

/// The tensor as a vector, if it has this length and is F32.
fn vector<'m>(tensor: &TensorInfo<'m>, len: usize) -> Result<Vector<'m>, ModelError> {
    check_shape(tensor, 1, len)?;
    if tensor.ty != GgmlType::F32 {
        return Err(ModelError::WrongTensorType { tensor: tensor.index, id: tensor.ty.id() });
    }
    Ok(Rows::from_bytes(tensor.bytes, 1, len).map_err(|_| wrong_shape(tensor, 1, len))?.blocks())
}

/// Dimensions beyond the second may be there if they are 1.
fn check_shape(tensor: &TensorInfo<'_>, rows: usize, cols: usize) -> Result<(), ModelError> {
    if tensor.dims == [cols as u64, rows as u64, 1, 1] {
        return Ok(());
    }
    Err(wrong_shape(tensor, rows, cols))
}

fn wrong_shape(tensor: &TensorInfo<'_>, rows: usize, cols: usize) -> ModelError {
    let [have_cols, have_rows @ ..] = tensor.dims;
    let have_rows = have_rows.iter().fold(1, |product: u64, &dim| product.saturating_mul(dim));
    ModelError::WrongShape {
        tensor: tensor.index,
        want: (rows as u64, cols as u64),
        have: (have_rows, have_cols),
    }
}
