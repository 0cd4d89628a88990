//! Weights: every tensor of the file in its place in the model, as a view.
//!
//! Names, shapes and what may be absent are those of llama.cpp. One pass over the tensors fills a table of layers in
//! the arena. A tensor that has no place is an error, and so is one whose type or shape is wrong: a default stands only
//! for what is absent.

use crate::arena::{Arena, Layout};
use crate::config::{Architecture, Config};
use crate::error::{ArenaError, ModelError};
use crate::gguf::{Image, TensorInfo};
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
        let nothing = Matrix::new(GgmlType::F32, &[], 0, 1).map_err(|_| ArenaError::TooLarge)?;
        let layers = arena.alloc_with(config.n_layers, |_| LayerWeights::empty(nothing))?;
        let mut tok_embd = nothing;
        let mut pos_embd = None;
        let mut output = None;
        let mut output_norm: Vector<'m> = &[];
        let mut output_norm_bias = None;
        let mut rope_freqs = None;
        let (dim, vocab_size, has_rope) = (config.dim, config.vocab_size, config.rope.is_some());
        for tensor in image.tensors() {
            match tensor.name {
                "token_embd.weight" => tok_embd = matrix(&tensor, vocab_size, dim)?,
                "position_embd.weight" if !has_rope => {
                    pos_embd = Some(matrix(&tensor, config.n_ctx_train, dim)?);
                }
                "output.weight" => output = Some(matrix(&tensor, vocab_size, dim)?),
                "output_norm.weight" => output_norm = vector(&tensor, dim)?,
                "output_norm.bias" if has_norm_bias(config) => output_norm_bias = Some(vector(&tensor, dim)?),
                "rope_freqs.weight" if has_rope => {
                    rope_freqs = Some(vector(&tensor, config.rope.map_or(0, |rope| rope.n_dims / 2))?);
                }
                name => {
                    let no_place = ModelError::UnknownTensor { tensor: tensor.index };
                    let (layer, part) = layer_and_part(name).ok_or(no_place)?;
                    layers.get_mut(layer).ok_or(no_place)?.place(part, &tensor, config)?;
                }
            }
        }
        let missing = |name| ModelError::MissingTensor { name, layer: None };
        if tok_embd.rows() == 0 {
            return Err(missing("token_embd.weight"));
        }
        if output_norm.is_empty() {
            return Err(missing("output_norm.weight"));
        }
        if pos_embd.is_none() && !has_rope {
            return Err(missing("position_embd.weight"));
        }
        if output_norm_bias.is_none() && has_norm_bias(config) {
            return Err(missing("output_norm.bias"));
        }
        for (layer, index) in layers.iter().zip(0..) {
            if let Some(name) = layer.first_missing(config.arch) {
                return Err(ModelError::MissingTensor { name, layer: Some(index) });
            }
        }
        let output = output.unwrap_or(tok_embd);
        Ok(Self { tok_embd, pos_embd, layers, output_norm, output_norm_bias, output, rope_freqs })
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
        let layers = arena.alloc_with(self.layers.len(), |_| LayerWeights::empty(self.tok_embd))?;
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
    fn empty(nothing: Matrix<'m>) -> Self {
        Self {
            attn_norm: &[],
            attn_norm_bias: None,
            attn_q: nothing,
            attn_q_bias: None,
            attn_k: nothing,
            attn_k_bias: None,
            attn_v: nothing,
            attn_v_bias: None,
            attn_output: nothing,
            attn_output_bias: None,
            ffn_norm: &[],
            ffn_norm_bias: None,
            ffn_gate: None,
            ffn_gate_bias: None,
            ffn_up: nothing,
            ffn_up_bias: None,
            ffn_down: nothing,
            ffn_down_bias: None,
        }
    }

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
