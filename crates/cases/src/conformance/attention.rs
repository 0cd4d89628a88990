//! Attention of one head against its definition, for every type of cache.

use corelm::ops::reference::{self, Decode};
use corelm::ops::{
    Attention, Block, BlockQ8_0, GgmlType, Matrix, POSITIONS, QUERIES, Queries, TileMut, Workspace,
};

use super::Stand;
use crate::data::{self, assert_near};
use crate::random::Random;
use crate::weights;

const EPS: f64 = f32::EPSILON as f64;
/// Spacing of halves at 1, and of the subnormal ones.
const HALF_EPS: f64 = 1.0 / 1024.0;
const TINY_HALF: f64 = 1.0 / 16_777_216.0;

/// What the heads of `tokens` tokens get, `q` and `dst` (tokens, heads, head_dim).
fn attend(
    attention: &Attention<'_>,
    dst: &mut [f32],
    q: &[f32],
    tokens: usize,
    workspace: &mut Workspace<'_>,
) {
    let stride = q.len() / tokens;
    attention.attend(&mut TileMut::new(dst, stride), Queries { values: q, stride }, workspace);
}

/// Compares attention over caches of type `B` with the definition.
fn check<B: Block>(stand: &mut Stand<'_>)
where
    [B]: Decode,
{
    let ops = stand.ops;
    let few: &[usize] = &[1, 65];
    let widths = [32, 64, 96].map(|head_dim| (head_dim, &[1, 2, 3, 63, 64, 65, 130, 256][..]));
    let others = [1, 7, 33, 80, 100, 128, 256].map(|head_dim| (head_dim, few));
    for (head_dim, lengths) in widths.into_iter().chain(others) {
        if head_dim % B::VALUES != 0 {
            continue; // no such cache
        }
        for &n in lengths {
            let mut arena = stand.arena();
            let q = &*data::f32s(&mut arena, head_dim, 60);
            let dst = arena.alloc(head_dim, f32::NAN).expect("test memory");
            let n_blocks = n * head_dim / B::VALUES;
            let (keys, values) = (
                data::blocks::<B>(&mut arena, n_blocks, 0, 61),
                data::blocks::<B>(&mut arena, n_blocks, 0, 62),
            );
            let mut matrix = |seed| {
                let bytes = arena.alloc(n_blocks * size_of::<B>(), 0u8).expect("test memory");
                weights::fill(bytes, B::TYPE, 0.5, &mut Random::new(seed));
                Matrix::new(B::TYPE, bytes, n, head_dim).expect("a whole matrix")
            };
            let (key_matrix, value_matrix) = (matrix(61), matrix(62));
            let scale = 1.0 / libm::sqrtf(head_dim as f32);
            let workspace = &mut data::attention_workspace(&mut arena, n, head_dim);
            let attention = Attention::new(ops, key_matrix, value_matrix, scale);
            attend(&attention, dst, q, 1, workspace);

            // A quantized cache is met by a quantized query, as in every product with quantized weights.
            let mut quantized = [BlockQ8_0::ZERO; 8];
            let quantized = &mut quantized[..head_dim / 32];
            ops.quantize_q8_0(quantized, &q[..head_dim / 32 * 32]);
            let scores = arena
                .alloc_with(n, |p| {
                    let key = &keys[p * n_blocks / n..][..n_blocks / n];
                    let (dot, magnitude) = match B::TYPE {
                        GgmlType::Q8_0 => reference::dot(&*quantized, key),
                        _ => reference::dot(q, key),
                    };
                    (dot * f64::from(scale), magnitude * f64::from(scale))
                })
                .expect("test memory");
            let max = scores.iter().map(|score| score.0).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| libm::exp(score.0 - max)).sum();
            // A score is off by the roundings of its dot product; e^x makes that a relative error of its weight, which
            // the sum of the weights inherits.
            let score_error =
                scores.iter().map(|score| score.1).fold(0.0, f64::max) * (head_dim + 8) as f64 * EPS;
            // What meets halves is rounded to halves: a weight by 2^-11 of itself, by 2^-25 where it is subnormal.
            let (half, tiny) =
                if B::TYPE == GgmlType::F16 { (HALF_EPS / 2.0, TINY_HALF / 2.0) } else { (0.0, 0.0) };
            let relative = 2.0 * score_error + (2 * n + 64) as f64 * EPS + half;
            for (i, have) in dst.iter().enumerate() {
                let terms =
                    (0..n).map(|p| libm::exp(scores[p].0 - max) / sum * values.value(p * head_dim + i));
                let (want, magnitude) =
                    terms.fold((0.0, 0.0), |(sum, magnitude), x| (sum + x, magnitude + x.abs()));
                let about =
                    format_args!("{:?} {:?}: {i} of {head_dim}, {n} positions", ops.backend(), B::TYPE);
                let spread: f64 = (0..n).map(|p| values.value(p * head_dim + i).abs()).sum();
                assert_near(*have, want, relative * magnitude + tiny * spread, about);
            }
        }
    }
}

pub fn attend_matches_reference(stand: &mut Stand<'_>) {
    check::<corelm::ops::F32>(stand);
    check::<corelm::ops::F16>(stand);
    check::<BlockQ8_0>(stand);
}

/// Heads and tokens that pass over a cache together get what they get alone.
pub fn attend_together_is_attend_alone(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    for ty in [GgmlType::F32, GgmlType::F16, GgmlType::Q8_0] {
        // One head, and more heads to a key than pass by at a time.
        let shapes = [
            (64, 5, 3, 40),
            (64, 13, 1, POSITIONS + 4),
            (80, 1, QUERIES + 3, 9),
            (96, 3, 5, 9),
            (128, 1, QUERIES + 1, 1),
            (256, 1, QUERIES + 1, 9),
        ];
        for (head_dim, tokens, heads, n) in shapes {
            if head_dim % ty.block_values() != 0 {
                continue; // no such cache
            }
            let mut arena = stand.arena();
            let mut matrix = |seed| {
                let len = ty.row_bytes(head_dim).expect("whole blocks") * n;
                let bytes = arena.alloc(len, 0u8).expect("test memory");
                weights::fill(bytes, ty, 0.5, &mut Random::new(seed));
                Matrix::new(ty, bytes, n, head_dim).expect("a whole matrix")
            };
            let (keys, values) = (matrix(64), matrix(65));
            let q = &*data::f32s(&mut arena, tokens * heads * head_dim, 66);
            let together = arena.alloc(q.len(), f32::NAN).expect("test memory");
            let alone = arena.alloc(head_dim, f32::NAN).expect("test memory");
            let workspace = &mut data::attention_workspace(&mut arena, n, head_dim);
            attend(&Attention::new(ops, keys, values, 0.125), together, q, tokens, workspace);
            for (i, (q, together)) in q.chunks(head_dim).zip(together.chunks(head_dim)).enumerate() {
                let seen = 0..n + 1 + i / heads - tokens;
                let attention =
                    Attention::new(ops, keys.slice_rows(seen.clone()), values.slice_rows(seen), 0.125);
                attend(&attention, alone, q, 1, workspace);
                assert_eq!(
                    together,
                    alone,
                    "{:?} {ty:?}: query {i} of {tokens} x {heads} x {head_dim}",
                    ops.backend()
                );
            }
        }
    }
}

pub fn attend_over_one_position_copies_it(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let mut arena = stand.arena();
    let value = &*data::f32s(&mut arena, 64, 63);
    let bytes = arena.alloc(256, 0u8).expect("test memory");
    for (to, x) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(value) {
        *to = x.to_le_bytes();
    }
    let matrix = Matrix::new(GgmlType::F32, bytes, 1, 64).expect("a whole row");
    // Whatever the score, even one whose exponential overflows: the weight of a single position is 1.
    for size in [0.0f32, 1.0, 1e4, -1e4] {
        let q = &*arena.alloc_with(64, |i| value[i] * size).expect("test memory");
        let dst = arena.alloc(64, f32::NAN).expect("test memory");
        let workspace = &mut data::attention_workspace(&mut arena, 1, 64);
        attend(&Attention::new(ops, matrix, matrix, 1.0), dst, q, 1, workspace);
        assert_eq!(dst, value, "{:?}, query x {size}", ops.backend());
    }
}
