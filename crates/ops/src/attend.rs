//! Attention of one query head, streaming over a KV cache.

use crate::block::QK;
use crate::panel::BlockQ8;
use crate::product::Activations;
use crate::table::Ops;
use crate::tile::TileMut;
use crate::view::Matrix;

/// The widest head a Q8_0 cache is read with: the query is quantized into a buffer of this many values on the stack.
pub const MAX_QUANTIZED_HEAD_DIM: usize = 512;

/// Positions whose scores are on the stack at once.
const CHUNK: usize = 64;

/// See [`Ops::attend`].
pub(crate) fn attend(ops: Ops, dst: &mut [f32], q: &[f32], keys: Matrix<'_>, values: Matrix<'_>, scale: f32) {
    let mut q8 = [BlockQ8::ZERO; MAX_QUANTIZED_HEAD_DIM / QK];
    let q8 = q8.get_mut(..q.len() / QK).unwrap_or(&mut []);
    if keys.is_quantized() {
        debug_assert!(q.len() <= MAX_QUANTIZED_HEAD_DIM, "attend: head too wide for a quantized cache");
        ops.quantize_q8(q8, 1, q);
    }
    let lhs = Activations { rows: 1, f32: q, q8 };

    dst.fill(0.0);
    match keys {
        Matrix::F16(_) => attend_f16(ops, dst, &lhs, keys, values, scale),
        _ => attend_online(ops, dst, &lhs, keys, values, scale),
    }
}

/// One pass over the positions with a running maximum (Milakov and Gimelshein 2018).
fn attend_online(
    ops: Ops,
    dst: &mut [f32],
    q: &Activations<'_>,
    keys: Matrix<'_>,
    values: Matrix<'_>,
    scale: f32,
) {
    let mut scores = [0.0; CHUNK];
    let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
    let n = keys.rows().min(values.rows());
    for start in (0..n).step_by(CHUNK) {
        let end = (start + CHUNK).min(n);
        let Some(p) = scores.get_mut(..end - start) else { return };
        ops.gemm(&mut TileMut::new(p, end - start), q, keys.slice_rows(start..end));
        let (new_max, chunk_sum) = ops.softmax_chunk(p, scale, max);
        // What was summed under the old maximum shrinks to the new one; at first that is nothing, e^-inf.
        if new_max != max {
            let shrink = libm::expf(max - new_max);
            ops.scale(dst, shrink);
            sum *= shrink;
        }
        (max, sum) = (new_max, sum + chunk_sum);
        ops.accumulate(dst, p, values.slice_rows(start..end));
    }
    if n > 0 {
        ops.scale(dst, 1.0 / sum);
    }
}

/// Weights rounded to halves, as ggml rounds what meets a half: they must be final before that, so the scores are made
/// twice, for the maximum and sum first.
fn attend_f16(
    ops: Ops,
    dst: &mut [f32],
    q: &Activations<'_>,
    keys: Matrix<'_>,
    values: Matrix<'_>,
    scale: f32,
) {
    let mut scores = [0.0; CHUNK];
    let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
    let n = keys.rows().min(values.rows());
    for start in (0..n).step_by(CHUNK) {
        let end = (start + CHUNK).min(n);
        let Some(p) = scores.get_mut(..end - start) else { return };
        ops.gemm(&mut TileMut::new(p, end - start), q, keys.slice_rows(start..end));
        let (new_max, chunk_sum) = ops.softmax_chunk(p, scale, max);
        let shrink = if new_max == max { 1.0 } else { libm::expf(max - new_max) };
        (max, sum) = (new_max, sum * shrink + chunk_sum);
    }
    for start in (0..n).step_by(CHUNK) {
        let end = (start + CHUNK).min(n);
        let Some(p) = scores.get_mut(..end - start) else { return };
        ops.gemm(&mut TileMut::new(p, end - start), q, keys.slice_rows(start..end));
        ops.softmax_chunk(p, scale, max);
        ops.scale(p, 1.0 / sum);
        ops.round_to_f16(p);
        ops.accumulate(dst, p, values.slice_rows(start..end));
    }
}
