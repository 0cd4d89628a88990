//! The forward pass: a batch of `m` tokens in, the logits of the last one out.
//!
//! A pass is a sequence of [`Stage`]s, a stage a number of units that do not depend on one another: a token, a token's
//! head, or as many rows of weights as hold about 32 Ki values. What a unit computes depends neither on how many are
//! done at a time, nor on the workers, nor on the tokens beside it, so neither do the results: prefill equals steps bit
//! for bit.
//!
//! Each stage is a function that is not inlined: in one frame the variables of all of them would lie under the deepest, and
//! a kernel's stack is small.
//!
//! Definitions: Vaswani et al. 2017 (attention); Touvron et al. 2023, "LLaMA", section 2.2 (RMSNorm, SwiGLU, rotary
//! embedding); Ainslie et al. 2023 (grouped queries); Radford et al. 2019 (GPT-2). Rotation pairs by architecture and
//! quantized activations are those of ggml.

use core::ops::Range;

use crate::Token;
use crate::config::{Config, RopePairing};
use crate::kv_cache::{KvCache, KvType};
use crate::ops::{Activations, BlockQ8, F32, GgmlType, Matrix, Ops, QK, Rotation};
use crate::weights::Weights;

mod attend;
mod crew;
mod cursor;
mod scratch;

pub(crate) use crew::Crew;
use crew::{product_rows, product_units};
pub(crate) use cursor::{Cursor, Stage};
pub(crate) use scratch::{Scratch, Widths};
use scratch::{row, row_mut};

/// Largest magnitude in the residual stream: beyond it a norm's sum of 65536 squares could overflow, and the norm of
/// nonsense would be a harmless-looking row of zeros.
const LARGEST: f32 = 1e16;

/// The model, its memory and the batch in work.
pub(crate) struct Forward<'a, 'm> {
    pub(crate) ops: Ops,
    pub(crate) crew: Crew<'a>,
    pub(crate) config: Config,
    pub(crate) widths: Widths,
    pub(crate) weights: Weights<'a, 'm>,
    pub(crate) rotation: Rotation<'m>,
    pub(crate) kv: KvCache<'a>,
    pub(crate) s: Scratch<'a>,
    /// Tokens in the batch.
    pub(crate) m: usize,
    pub(crate) wants_logits: bool,
    /// Whether the residual stream (up to [`LARGEST`]) and the logits of this pass are finite so far.
    pub(crate) is_finite: bool,
}

impl Forward<'_, '_> {
    /// Begins a pass over `tokens`, at most as many as the scratch has rows.
    pub(crate) fn begin(&mut self, tokens: &[Token], wants_logits: bool) -> Cursor {
        self.s.tokens.iter_mut().zip(tokens).for_each(|(dst, &token)| *dst = token);
        (self.m, self.wants_logits, self.is_finite) = (tokens.len(), wants_logits, true);
        Cursor::START
    }

    /// Does at most `budget` units from `cursor` on. `None` when shapes disagree, which no checked model brings about.
    pub(crate) fn advance(&mut self, cursor: &mut Cursor, mut budget: usize) -> Option<()> {
        while cursor.stage != Stage::Done {
            let n_units = self.n_units(cursor.stage)?;
            let end = cursor.unit.saturating_add(budget).min(n_units);
            if cursor.unit < end {
                self.run(cursor.stage, cursor.layer, cursor.unit..end)?;
                budget -= end - cursor.unit;
                cursor.unit = end;
            }
            if cursor.unit < n_units {
                return Some(());
            }
            *cursor = cursor.next_stage(self.config.n_layers);
        }
        Some(())
    }

    fn n_units(&self, stage: Stage) -> Option<usize> {
        let (widths, dim, last) = (self.widths, self.widths.dim, usize::from(self.wants_logits));
        Some(match stage {
            Stage::Embed | Stage::AttnNorm | Stage::Rope | Stage::AttnRound | Stage::AttnAdd => self.m,
            Stage::FfnNorm | Stage::Activate | Stage::FfnAdd => self.m,
            Stage::Attend => self.m.checked_mul(self.config.n_kv_heads)?,
            Stage::Qkv => product_units(widths.qkv, dim),
            Stage::AttnOut => product_units(dim, widths.q),
            Stage::FfnUp => product_units(widths.ffn, dim),
            Stage::FfnDown => product_units(dim, widths.hidden),
            Stage::OutputNorm => last,
            Stage::Logits => last * product_units(widths.vocab, dim),
            Stage::Done => 0,
        })
    }

    fn run(&mut self, stage: Stage, layer: usize, units: Range<usize>) -> Option<()> {
        match stage {
            Stage::Embed => self.embed(units),
            Stage::AttnNorm => self.attn_norm(layer, units),
            Stage::Qkv => self.qkv(layer, units),
            Stage::Rope => self.rope(layer, units),
            Stage::Attend => self.attend(layer, units),
            Stage::AttnRound => self.attn_round(layer, units),
            Stage::AttnOut => self.attn_out(layer, units),
            Stage::AttnAdd => self.attn_add(layer, units),
            Stage::FfnNorm => self.ffn_norm(layer, units),
            Stage::FfnUp => self.ffn_up(layer, units),
            Stage::Activate => self.activate(layer, units),
            Stage::FfnDown => self.ffn_down(layer, units),
            Stage::FfnAdd => self.ffn_add(layer, units),
            Stage::OutputNorm => self.output_norm(),
            Stage::Logits => self.logits(units),
            Stage::Done => Some(()),
        }
    }

    /// x = embedding of the token (+ of its position); angles of the position.
    #[inline(never)]
    fn embed(&mut self, tokens: Range<usize>) -> Option<()> {
        let (ops, s, dim) = (self.ops, &mut self.s, self.widths.dim);
        for i in tokens {
            let (token, pos) = (usize::try_from(*s.tokens.get(i)?).ok()?, self.kv.len().checked_add(i)?);
            let x = row_mut(s.x, dim, i)?;
            ops.dequantize(x, embedding(self.weights.tok_embd, token)?); // (dim)
            if let Some(pos_embd) = self.weights.pos_embd {
                let xb = row_mut(s.xb, dim, i)?;
                ops.dequantize(xb, embedding(pos_embd, pos)?); // (dim)
                ops.add(x, xb);
            }
            let cos_sin = row_mut(s.cos_sin, self.widths.rope, i)?; // (rope dims, or none)
            self.rotation.cos_sin(cos_sin, u32::try_from(pos).ok()?);
        }
        Some(())
    }

    /// xb = norm(x)
    fn attn_norm(&mut self, layer: usize, tokens: Range<usize>) -> Option<()> {
        let w = self.weights.layers.get(layer)?;
        self.norm(w.attn_norm, w.attn_norm_bias, tokens, &[&w.attn_q, &w.attn_k, &w.attn_v])
    }

    /// [q | k | v] = xb . [attn_q | attn_k | attn_v]^T
    #[inline(never)]
    fn qkv(&mut self, layer: usize, units: Range<usize>) -> Option<()> {
        let (w, s, widths) = (self.weights.layers.get(layer)?, &mut self.s, self.widths);
        let xb = activations(s.xb, s.xq, self.m, widths.dim)?; // (m, dim)
        let qkv = s.qkv.get_mut(..self.m.checked_mul(widths.qkv)?)?; // (m, q + 2 kv)
        self.crew.product(self.ops, qkv, units, &xb, &[&w.attn_q, &w.attn_k, &w.attn_v])
    }

    /// q, k, v += biases; q and k rotate to their position; k and v go to the cache.
    #[inline(never)]
    fn rope(&mut self, layer: usize, tokens: Range<usize>) -> Option<()> {
        let (w, ops, s, widths) = (self.weights.layers.get(layer)?, self.ops, &mut self.s, self.widths);
        for i in tokens {
            let (q, kv) = row_mut(s.qkv, widths.qkv, i)?.split_at_mut_checked(widths.q)?; // (n_heads * head_dim)
            let (k, v) = kv.split_at_mut_checked(widths.kv)?; // (n_kv_heads * head_dim) each
            for (values, bias) in
                [(&mut *q, w.attn_q_bias), (&mut *k, w.attn_k_bias), (&mut *v, w.attn_v_bias)]
            {
                add_bias(ops, values, bias);
            }
            if let Some(rope) = self.config.rope {
                let cos_sin = row(s.cos_sin, widths.rope, i)?;
                let head_dim = self.config.head_dim.max(1);
                for head in q.chunks_exact_mut(head_dim).chain(k.chunks_exact_mut(head_dim)) {
                    let rotated = head.get_mut(..widths.rope)?;
                    match rope.pairing {
                        RopePairing::Adjacent => ops.rope_norm(rotated, cos_sin),
                        RopePairing::Halves => ops.rope_neox(rotated, cos_sin),
                    }
                }
            }
            if self.kv.kv_type() == KvType::F16 {
                ops.round_to_f16(q); // what meets halves becomes halves, as in ggml
            }
            self.kv.store(ops, layer, i, k, v).ok()?;
        }
        Some(())
    }

    /// att, as its projection reads it.
    #[inline(never)]
    fn attn_round(&mut self, layer: usize, tokens: Range<usize>) -> Option<()> {
        let (w, s) = (self.weights.layers.get(layer)?, &mut self.s);
        for i in tokens {
            round_for(&[&w.attn_output], self.ops, row_mut(s.att, self.widths.q, i)?, s.xq, i, self.m)?;
        }
        Some(())
    }

    /// xb = att . attn_output^T
    #[inline(never)]
    fn attn_out(&mut self, layer: usize, units: Range<usize>) -> Option<()> {
        let (w, s, widths) = (self.weights.layers.get(layer)?, &mut self.s, self.widths);
        let att = activations(s.att, s.xq, self.m, widths.q)?; // (m, n_heads * head_dim)
        let xb = s.xb.get_mut(..self.m.checked_mul(widths.dim)?)?; // (m, dim)
        self.crew.product(self.ops, xb, units, &att, &[&w.attn_output])
    }

    /// x += xb + bias
    fn attn_add(&mut self, layer: usize, tokens: Range<usize>) -> Option<()> {
        let bias = self.weights.layers.get(layer)?.attn_output_bias;
        self.add(bias, tokens)
    }

    /// xb = norm(x)
    fn ffn_norm(&mut self, layer: usize, tokens: Range<usize>) -> Option<()> {
        let w = self.weights.layers.get(layer)?;
        self.norm(w.ffn_norm, w.ffn_norm_bias, tokens, &[&w.ffn_up, w.ffn_gate.as_ref().unwrap_or(&w.ffn_up)])
    }

    /// [gate | up] = xb . [ffn_gate | ffn_up]^T, or up alone.
    #[inline(never)]
    fn ffn_up(&mut self, layer: usize, units: Range<usize>) -> Option<()> {
        let (w, s, widths) = (self.weights.layers.get(layer)?, &mut self.s, self.widths);
        let xb = activations(s.xb, s.xq, self.m, widths.dim)?; // (m, dim)
        let ffn = s.ffn.get_mut(..self.m.checked_mul(widths.ffn)?)?; // (m, hidden_dim or twice)
        match &w.ffn_gate {
            Some(gate) => self.crew.product(self.ops, ffn, units, &xb, &[gate, &w.ffn_up]),
            None => self.crew.product(self.ops, ffn, units, &xb, &[&w.ffn_up]),
        }
    }

    /// h = silu(gate) * up, or gelu(up + bias); in place, then moved up to where row `i` of (m, hidden_dim) lies, or
    /// quantized.
    #[inline(never)]
    fn activate(&mut self, layer: usize, tokens: Range<usize>) -> Option<()> {
        let (w, ops, s, widths) = (self.weights.layers.get(layer)?, self.ops, &mut self.s, self.widths);
        for i in tokens {
            // Rows before this one have moved up already, and its own new place never reaches past its start.
            let (moved, rest) = s.ffn.split_at_mut_checked(widths.ffn.checked_mul(i)?)?;
            let (h, up) = rest.get_mut(..widths.ffn)?.split_at_mut_checked(widths.hidden)?; // (hidden_dim) each
            if w.ffn_gate.is_some() {
                add_bias(ops, h, w.ffn_gate_bias);
                add_bias(ops, up, w.ffn_up_bias);
                ops.silu_mul(h, up);
            } else {
                add_bias(ops, h, w.ffn_up_bias);
                ops.gelu_f16(h);
            }
            round_for(&[&w.ffn_down], ops, h, s.xq, i, self.m)?;
            // Quantized weights read `xq`.
            if !w.ffn_down.is_quantized()
                && let Some(place) = row_mut(moved, widths.hidden, i)
            {
                place.iter_mut().zip(h).for_each(|(dst, h)| *dst = *h);
            }
        }
        Some(())
    }

    /// xb = h . ffn_down^T
    #[inline(never)]
    fn ffn_down(&mut self, layer: usize, units: Range<usize>) -> Option<()> {
        let (w, s, widths) = (self.weights.layers.get(layer)?, &mut self.s, self.widths);
        let h = activations(s.ffn, s.xq, self.m, widths.hidden)?; // (m, hidden_dim)
        let xb = s.xb.get_mut(..self.m.checked_mul(widths.dim)?)?; // (m, dim)
        self.crew.product(self.ops, xb, units, &h, &[&w.ffn_down])
    }

    /// x += xb + bias
    fn ffn_add(&mut self, layer: usize, tokens: Range<usize>) -> Option<()> {
        let bias = self.weights.layers.get(layer)?.ffn_down_bias;
        self.add(bias, tokens)
    }

    /// xb = norm(x of the last token), in the first row.
    #[inline(never)]
    fn output_norm(&mut self) -> Option<()> {
        let (w, s, dim) = (&self.weights, &mut self.s, self.widths.dim);
        let x = row(s.x, dim, self.m.checked_sub(1)?)?;
        let xb = row_mut(s.xb, dim, 0)?;
        norm(self.ops, xb, x, w.output_norm, w.output_norm_bias, self.config.norm_eps); // (dim)
        round_for(&[&w.output], self.ops, xb, s.xq, 0, 1)
    }

    /// logits = xb . output^T
    #[inline(never)]
    fn logits(&mut self, units: Range<usize>) -> Option<()> {
        let (s, dim) = (&mut self.s, self.widths.dim);
        let xb = activations(s.xb, s.xq, 1, dim)?; // (1, dim)
        let rows = product_rows(units.clone(), dim);
        self.crew.product(self.ops, s.logits, units, &xb, &[&self.weights.output])?; // (1, vocab_size)
        let rows = rows.start..rows.end.min(s.logits.len());
        self.is_finite &= self.ops.all_within(s.logits.get(rows)?, f32::MAX);
        Some(())
    }

    /// xb = norm(x) for some tokens, as `readers` read it.
    fn norm(
        &mut self,
        weight: &[F32],
        bias: Option<&[F32]>,
        tokens: Range<usize>,
        readers: &[&Matrix<'_>],
    ) -> Option<()> {
        let (s, dim) = (&mut self.s, self.widths.dim);
        for i in tokens {
            let (xb, x) = (row_mut(s.xb, dim, i)?, row(s.x, dim, i)?);
            norm(self.ops, xb, x, weight, bias, self.config.norm_eps); // (dim)
            round_for(readers, self.ops, xb, s.xq, i, self.m)?;
        }
        Some(())
    }

    /// x += xb + bias for some tokens.
    #[inline(never)]
    fn add(&mut self, bias: Option<&[F32]>, tokens: Range<usize>) -> Option<()> {
        let (s, dim) = (&mut self.s, self.widths.dim);
        for i in tokens {
            let (xb, x) = (row_mut(s.xb, dim, i)?, row_mut(s.x, dim, i)?);
            add_bias(self.ops, xb, bias);
            self.ops.add(x, xb); // (dim)
            self.is_finite &= self.ops.all_within(x, LARGEST);
        }
        Some(())
    }
}

/// Row `i` of an embedding, as a matrix of one row.
fn embedding(matrix: Matrix<'_>, i: usize) -> Option<Matrix<'_>> {
    (i < matrix.rows()).then(|| matrix.slice_rows(i..i.wrapping_add(1)))
}

/// LayerNorm where there is a bias, RMSNorm where there is none.
fn norm(ops: Ops, dst: &mut [f32], x: &[f32], weight: &[F32], bias: Option<&[F32]>, eps: f32) {
    match bias {
        Some(bias) => ops.layer_norm(dst, x, weight, bias, eps),
        None => ops.rms_norm(dst, x, weight, eps),
    }
}

fn add_bias(ops: Ops, x: &mut [f32], bias: Option<&[F32]>) {
    if let Some(bias) = bias {
        ops.add_f32le(x, bias);
    }
}

/// Gives `x` the precision in which products with `weights` read it, as ggml does: quantized weights read row `i` of
/// the `m` in `xq`, where a block with a value that is not finite poisons what it meets; F16 weights read halves.
fn round_for(
    weights: &[&Matrix<'_>],
    ops: Ops,
    x: &mut [f32],
    xq: &mut [BlockQ8],
    i: usize,
    m: usize,
) -> Option<()> {
    if weights.iter().any(|w| w.is_quantized()) {
        let end = m.checked_mul(x.len() / QK)?;
        ops.quantize_q8(xq.get_mut(i..end)?, m, x);
    }
    if weights.iter().any(|w| w.ty() == GgmlType::F16) {
        ops.round_to_f16(x);
    }
    Some(())
}

/// `m` rows of `k` values for a product to read; `xq` counts where the stage before has quantized them.
fn activations<'s>(values: &'s [f32], xq: &'s [BlockQ8], m: usize, k: usize) -> Option<Activations<'s>> {
    let (f32, q8) = (values.get(..m.checked_mul(k)?)?, xq.get(..m.checked_mul(k / QK)?)?);
    Some(Activations { rows: m, f32, q8 })
}
