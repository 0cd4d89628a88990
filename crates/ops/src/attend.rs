//! Attention of a few query heads that share a key and value head, streaming over a KV cache.
//!
//! Keys and values are read once. Where weights need not be rounded, a running maximum lets them pass by chunk after
//! chunk. Before values of F16 weights are halves, as in ggml, and must be final before they are rounded: there the scores
//! of all positions are kept in the caller's memory in between.

use crate::block::QK;
use crate::product::Activations;
use crate::table::Ops;
use crate::tile::TileMut;
use crate::view::Matrix;
use crate::workspace::{ProductSpace, QUERIES, Workspace};

/// Positions whose scores are on the stack at once.
const CHUNK: usize = 32;

/// See [`Ops::attend`].
pub(crate) fn attend(
    ops: Ops,
    dst: &mut [f32],
    q: &[f32],
    keys: Matrix<'_>,
    values: Matrix<'_>,
    scale: f32,
    workspace: &mut Workspace<'_>,
) {
    let head_dim = keys.cols();
    let n_blocks = head_dim / QK;
    let Workspace { product, q8, scores } = workspace;
    debug_assert!(
        !keys.is_quantized() || QUERIES * n_blocks <= q8.len(),
        "attend: head too wide for a quantized cache"
    );
    let width = QUERIES.saturating_mul(head_dim).max(1);
    for (dst, q) in dst.chunks_mut(width).zip(q.chunks(width)) {
        let rows = q.len().checked_div(head_dim).unwrap_or(0);
        let Some(q8) = q8.get_mut(..if keys.is_quantized() { rows * n_blocks } else { 0 }) else { return };
        if keys.is_quantized() {
            for (i, q) in q.chunks_exact(head_dim.max(1)).enumerate() {
                ops.quantize_q8(q8.get_mut(i..).unwrap_or(&mut []), rows, q);
            }
        }
        let q = Activations { rows, f32: q, q8 };
        match values {
            Matrix::F16(_) => attend_rounded(ops, dst, &q, keys, values, scale, product, scores),
            _ => attend_online(ops, dst, &q, keys, values, scale, product),
        }
    }
}

/// Weights rounded to halves: all scores, then their softmax, then the values.
#[inline(never)] // frames of their own: only one of the two is ever on the stack
#[allow(clippy::too_many_arguments)] // operands, and the parts of one workspace
fn attend_rounded(
    ops: Ops,
    dst: &mut [f32],
    q: &Activations<'_>,
    keys: Matrix<'_>,
    values: Matrix<'_>,
    scale: f32,
    space: &mut ProductSpace<'_>,
    scores: &mut [f32],
) {
    dst.fill(0.0);
    let n = keys.rows().min(values.rows());
    let Some(p) = scores.get_mut(..q.rows * n).filter(|p| !p.is_empty()) else { return };
    ops.gemm_in(&mut TileMut::new(p, n), q, keys, space);
    for p in p.chunks_exact_mut(n.max(1)) {
        let (_, sum) = ops.softmax_chunk(p, scale, f32::NEG_INFINITY);
        ops.scale(p, 1.0 / sum);
        ops.round_to_f16(p);
    }
    ops.accumulate(dst, p, n, values);
}

/// One pass over the positions with a running maximum for each query (Milakov and Gimelshein 2018).
#[inline(never)]
fn attend_online(
    ops: Ops,
    dst: &mut [f32],
    q: &Activations<'_>,
    keys: Matrix<'_>,
    values: Matrix<'_>,
    scale: f32,
    space: &mut ProductSpace<'_>,
) {
    let mut scores = [0.0; QUERIES * CHUNK];
    let (mut max, mut sum) = ([f32::NEG_INFINITY; QUERIES], [0.0; QUERIES]);
    let head_dim = keys.cols().max(1);
    let n = keys.rows().min(values.rows());
    dst.fill(0.0);
    for start in (0..n).step_by(CHUNK) {
        let end = (start + CHUNK).min(n);
        let Some(p) = scores.get_mut(..q.rows * CHUNK) else { return };
        let (mut tile, _) = TileMut::new(p, CHUNK).split_at_col(end - start);
        ops.gemm_in(&mut tile, q, keys.slice_rows(start..end), space);
        let rows = p.chunks_exact_mut(CHUNK).zip(dst.chunks_exact_mut(head_dim));
        for ((p, dst), (max, sum)) in rows.zip(max.iter_mut().zip(&mut sum)) {
            let Some(p) = p.get_mut(..end - start) else { return };
            let (new_max, chunk_sum) = ops.softmax_chunk(p, scale, *max);
            // What was summed under the old maximum shrinks to the new one; at first that is nothing, e^-inf.
            if new_max != *max {
                let shrink = libm::expf(*max - new_max);
                ops.scale(dst, shrink);
                *sum *= shrink;
            }
            (*max, *sum) = (new_max, *sum + chunk_sum);
        }
        ops.accumulate(dst, p, CHUNK, values.slice_rows(start..end));
    }
    if n > 0 {
        for (dst, sum) in dst.chunks_exact_mut(head_dim).zip(sum) {
            ops.scale(dst, 1.0 / sum);
        }
    }
}
