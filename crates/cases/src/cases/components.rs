//! The parts of a forward pass, each by itself, at the width of a 384-wide model.

mod products;

use core::hint::black_box;

use corelm::arena::Arena;
use corelm::kv_cache::{KvCache, KvShape, KvType};
use corelm::ops::reference::{self, Decode};
use corelm::ops::{
    Attention, Block, BlockQ4_0, BlockQ8_0, F16, F32, GgmlType, Matrix, Ops, Queries, Rotation, TileMut,
};

use super::expect;
use crate::bench::{Case, CaseError, Lab, Target};
use crate::data;
use products::{dot_cost, dot_f32, dot_float, dot_quantized, gemm, gemm_cost, gemm_packed};

/// Width of the model the shapes come from.
const DIM: usize = 384;
/// Its feed-forward width.
const HIDDEN_DIM: usize = 1536;
/// Its heads, and their width.
const N_HEADS: usize = 6;
const HEAD_DIM: usize = DIM / N_HEADS;
/// Its layers.
const N_LAYERS: usize = 6;
/// Positions attention looks back on.
const N_POSITIONS: usize = 256;

/// A case on one back-end at a time, without a target.
const fn case(
    name: &'static str,
    shape: &'static str,
    (bytes, flops): (usize, usize),
    body: fn(&mut Lab<'_>) -> Result<(), CaseError>,
) -> Case {
    Case {
        name,
        shape,
        bytes: bytes as u64,
        flops: flops as u64,
        target: None,
        per_backend: true,
        needs_model: false,
        body,
    }
}

/// The same with a target in microseconds.
const fn targeted(micros: u64, case: Case) -> Case {
    Case { target: Target::micros(micros), ..case }
}

/// Bytes of `n` values of a type.
const fn bytes_of(ty: GgmlType, n: usize) -> usize {
    n / ty.block_values().get() * ty.block_bytes().get()
}

const fn attention_cost(ty: GgmlType) -> (usize, usize) {
    (2 * bytes_of(ty, N_POSITIONS * DIM) + 8 * DIM, 4 * N_POSITIONS * DIM)
}

/// The component cases.
pub const CASES: &[Case] = &[
    targeted(2, case("dequantize/q4_0", "32", (18 + 128, 64), dequantize::<BlockQ4_0, 1>)),
    case("dequantize/q4_0", "1024", (32 * (18 + 128), 2048), dequantize::<BlockQ4_0, 32>),
    case("dequantize/q8_0", "1024", (32 * (34 + 128), 1024), dequantize::<BlockQ8_0, 32>),
    case("quantize/q8_0", "384", (bytes_of(GgmlType::Q8_0, DIM) + 4 * DIM, 3 * DIM), quantize_q8_0),
    targeted(1, case("dot/f32", "384", dot_cost(GgmlType::F32), dot_f32)),
    case("dot/f16", "384", dot_cost(GgmlType::F16), |lab| dot_float(lab, Ops::dot_f32_f16)),
    targeted(
        1,
        case("dot/q8_0", "384", dot_cost(GgmlType::Q8_0), |lab| dot_quantized(lab, Ops::dot_q8_0_q8_0)),
    ),
    targeted(
        1,
        case("dot/q4_0", "384", dot_cost(GgmlType::Q4_0), |lab| dot_quantized(lab, Ops::dot_q8_0_q4_0)),
    ),
    targeted(500, case("gemv/f32", "384x384", gemm_cost(GgmlType::F32, 1), gemm::<F32, 1>)),
    case("gemv/f16", "384x384", gemm_cost(GgmlType::F16, 1), gemm::<F16, 1>),
    targeted(500, case("gemv/q8_0", "384x384", gemm_cost(GgmlType::Q8_0, 1), gemm::<BlockQ8_0, 1>)),
    targeted(500, case("gemv/q4_0", "384x384", gemm_cost(GgmlType::Q4_0, 1), gemm::<BlockQ4_0, 1>)),
    targeted(
        500,
        case("gemv/q8_0x16", "384x384", gemm_cost(GgmlType::Q8_0X16, 1), gemm_packed::<BlockQ8_0, 1>),
    ),
    targeted(
        500,
        case("gemv/q4_0x16", "384x384", gemm_cost(GgmlType::Q4_0X16, 1), gemm_packed::<BlockQ4_0, 1>),
    ),
    case("gemm/f32", "16x384x384", gemm_cost(GgmlType::F32, 16), gemm::<F32, 16>),
    case("gemm/q8_0", "16x384x384", gemm_cost(GgmlType::Q8_0, 16), gemm::<BlockQ8_0, 16>),
    case("gemm/q4_0", "16x384x384", gemm_cost(GgmlType::Q4_0, 16), gemm::<BlockQ4_0, 16>),
    case("gemm/q8_0x16", "16x384x384", gemm_cost(GgmlType::Q8_0X16, 16), gemm_packed::<BlockQ8_0, 16>),
    case("gemm/q4_0x16", "16x384x384", gemm_cost(GgmlType::Q4_0X16, 16), gemm_packed::<BlockQ4_0, 16>),
    targeted(10, case("layer_norm/f32", "384", (16 * DIM, 8 * DIM), layer_norm)),
    case("rms_norm/f32", "384", (12 * DIM, 4 * DIM), rms_norm),
    case("softmax/f32", "256", (8 * N_POSITIONS, 5 * N_POSITIONS), softmax),
    case("rope/adjacent", "6x64", (12 * DIM, 3 * DIM), |lab| {
        rope(lab, Ops::rope_norm, |i| (2 * i, 2 * i + 1))
    }),
    case("rope/halves", "6x64", (12 * DIM, 3 * DIM), |lab| {
        rope(lab, Ops::rope_neox, |i| (i, i + HEAD_DIM / 2))
    }),
    case("silu_mul/f32", "1536", (12 * HIDDEN_DIM, 5 * HIDDEN_DIM), silu_mul),
    case("gelu/f32", "1536", (8 * HIDDEN_DIM, 10 * HIDDEN_DIM), gelu),
    case("attention/f32", "256x6x64", attention_cost(GgmlType::F32), attention::<F32>),
    case("attention/f16", "256x6x64", attention_cost(GgmlType::F16), attention::<F16>),
    case("attention/q8_0", "256x6x64", attention_cost(GgmlType::Q8_0), attention::<BlockQ8_0>),
    Case {
        per_backend: false,
        ..targeted(1, case("kv_cache/read", "6x256x384", (4 * DIM, 0), kv_cache_read))
    },
    case("kv_cache/store", "6x256x384", (12 * DIM, 0), kv_cache_store),
    Case { per_backend: false, ..targeted(1, case("arena/alloc", "1024", (1024, 0), arena_alloc)) },
];

/// Whether `have` is within the roundings of `n` additions of terms whose magnitudes sum to `magnitude`.
fn is_near(have: f32, want: f64, n: usize, magnitude: f64) -> bool {
    (f64::from(have) - want).abs() <= (n + 64) as f64 * f64::from(f32::EPSILON) * magnitude
}

/// Room for `n` results that begin as something wrong.
fn results<'a>(arena: &mut Arena<'a>, n: usize) -> Result<&'a mut [f32], CaseError> {
    arena.alloc(n, f32::NAN).map_err(|_| CaseError::Memory)
}

fn dequantize<B: Block, const N_BLOCKS: usize>(lab: &mut Lab<'_>) -> Result<(), CaseError>
where
    [B]: Decode,
{
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let (bytes, row) = data::bytes_and_blocks::<B>(&mut arena, N_BLOCKS, 0, 1);
    let n = N_BLOCKS * B::VALUES;
    let matrix = Matrix::new(B::TYPE, bytes, 1, n).map_err(|_| CaseError::Wrong("shape"))?;
    let dst = results(&mut arena, n)?;
    ops.dequantize(dst, matrix);
    expect(dst.iter().enumerate().all(|(i, &x)| f64::from(x) == row.value(i)), "values")?;
    lab.bencher.iter(&mut || {
        ops.dequantize(dst, black_box(matrix));
        black_box(&mut *dst);
    });
    Ok(())
}

fn quantize_q8_0(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let src = &*data::f32s(&mut arena, DIM, 2);
    let dst = arena.alloc(DIM / 32, BlockQ8_0::ZERO).map_err(|_| CaseError::Memory)?;
    ops.quantize_q8_0(dst, src);
    // Half a step of the largest value, and the rounding of the scale to a half.
    expect((0..DIM).all(|i| (dst.value(i) - f64::from(src[i])).abs() < 0.51 / 127.0 + 1e-3), "values")?;
    lab.bencher.iter(&mut || {
        ops.quantize_q8_0(dst, black_box(src));
        black_box(&mut *dst);
    });
    Ok(())
}

fn rms_norm(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let x = &*data::f32s(&mut arena, DIM, 11);
    let weight = data::blocks::<F32>(&mut arena, DIM, 0, 12);
    let dst = results(&mut arena, DIM)?;
    let mut want = [0.0; DIM];
    reference::rms_norm(&mut want, x, weight, 1e-5);
    ops.rms_norm(dst, x, weight, 1e-5);
    expect(dst.iter().zip(want).all(|(&have, want)| is_near(have, want, DIM, want.abs())), "norm")?;
    lab.bencher.iter(&mut || {
        ops.rms_norm(dst, black_box(x), black_box(weight), 1e-5);
        black_box(&mut *dst);
    });
    Ok(())
}

fn layer_norm(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let x = &*data::f32s(&mut arena, DIM, 13);
    let weight = data::blocks::<F32>(&mut arena, DIM, 0, 14);
    let bias = data::blocks::<F32>(&mut arena, DIM, 0, 15);
    let dst = results(&mut arena, DIM)?;
    let mut want = [0.0; DIM];
    reference::layer_norm(&mut want, x, weight, bias, 1e-5);
    ops.layer_norm(dst, x, weight, bias, 1e-5);
    expect(dst.iter().zip(want).all(|(&have, want)| is_near(have, want, DIM, 1.0 + want.abs())), "norm")?;
    lab.bencher.iter(&mut || {
        ops.layer_norm(dst, black_box(x), black_box(weight), black_box(bias), 1e-5);
        black_box(&mut *dst);
    });
    Ok(())
}

fn softmax(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let x = &*data::f32s(&mut arena, N_POSITIONS, 16);
    let dst = results(&mut arena, N_POSITIONS)?;
    let mut run = |x: &[f32]| {
        dst.copy_from_slice(x);
        ops.softmax(dst);
        black_box(&mut *dst).iter().sum::<f32>()
    };
    expect((run(x) - 1.0).abs() < 1e-5, "sum")?;
    let largest = reference_argmax(x);
    expect(largest == reference_argmax(dst), "largest")?;
    lab.bencher.iter(&mut || {
        // The copy is part of the case: softmax works in place, and its own result is no input to time it on.
        dst.copy_from_slice(black_box(x));
        ops.softmax(dst);
        black_box(&mut *dst);
    });
    Ok(())
}

/// The index of the largest value.
fn reference_argmax(x: &[f32]) -> u32 {
    crate::model::argmax(x)
}

fn rope(
    lab: &mut Lab<'_>,
    rope: fn(Ops, &mut [f32], &[f32]),
    pair: fn(usize) -> (usize, usize),
) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let x = &*data::f32s(&mut arena, DIM, 17);
    let cos_sin = arena.alloc(HEAD_DIM, 0.0f32).map_err(|_| CaseError::Memory)?;
    Rotation::new(HEAD_DIM, 10_000.0, 1.0, &[]).cos_sin(cos_sin, 100);
    let turned = arena.alloc_with(DIM, |i| x[i]).map_err(|_| CaseError::Memory)?;
    let run = |x: &mut [f32], cos_sin: &[f32]| {
        for head in x.chunks_exact_mut(HEAD_DIM) {
            rope(ops, head, cos_sin);
        }
    };
    run(turned, cos_sin);
    let is_right = (0..DIM / 2).all(|at| {
        let (head, i) = (at / (HEAD_DIM / 2) * HEAD_DIM, at % (HEAD_DIM / 2));
        let (a, b) = pair(i);
        let (x, turned) = (&x[head..], &turned[head..]);
        let want = reference::rope_pair((x[a].into(), x[b].into()), 100, 10_000.0, i, HEAD_DIM / 2);
        (f64::from(turned[a]) - want.0).abs() < 1e-4 && (f64::from(turned[b]) - want.1).abs() < 1e-4
    });
    expect(is_right, "rotation")?;
    // A rotation keeps its size, so the values may go round and round.
    lab.bencher.iter(&mut || {
        run(turned, black_box(cos_sin));
        black_box(&mut *turned);
    });
    Ok(())
}

fn silu_mul(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let (gate, up) = (&*data::f32s(&mut arena, HIDDEN_DIM, 18), &*data::f32s(&mut arena, HIDDEN_DIM, 19));
    let dst = arena.alloc_with(HIDDEN_DIM, |i| gate[i]).map_err(|_| CaseError::Memory)?;
    ops.silu_mul(dst, up);
    let want = |i: usize| reference::silu(gate[i].into()) * f64::from(up[i]);
    expect(dst.iter().enumerate().all(|(i, &have)| is_near(have, want(i), 0, want(i).abs())), "values")?;
    lab.bencher.iter(&mut || {
        dst.copy_from_slice(black_box(gate));
        ops.silu_mul(dst, black_box(up));
        black_box(&mut *dst);
    });
    Ok(())
}

fn gelu(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let x = &*data::f32s(&mut arena, HIDDEN_DIM, 20);
    let dst = arena.alloc_with(HIDDEN_DIM, |i| x[i]).map_err(|_| CaseError::Memory)?;
    ops.gelu(dst);
    let want = |i: usize| reference::gelu(x[i].into());
    expect(dst.iter().enumerate().all(|(i, &have)| is_near(have, want(i), 0, want(i).abs())), "values")?;
    lab.bencher.iter(&mut || {
        dst.copy_from_slice(black_box(x));
        ops.gelu(dst);
        black_box(&mut *dst);
    });
    Ok(())
}

fn attention<B: Block>(lab: &mut Lab<'_>) -> Result<(), CaseError>
where
    [B]: Decode,
{
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let q = &*data::f32s(&mut arena, DIM, 21);
    let n_blocks = N_POSITIONS * HEAD_DIM / B::VALUES;
    let mut caches = [(None, None); N_HEADS];
    for (head, (keys, values)) in (0..).zip(&mut caches) {
        let mut cache = |seed| {
            let (bytes, _) = data::bytes_and_blocks::<B>(&mut arena, n_blocks, 0, seed);
            Matrix::new(B::TYPE, bytes, N_POSITIONS, HEAD_DIM).ok()
        };
        (*keys, *values) = (cache(100 + head), cache(200 + head));
    }
    let dst = results(&mut arena, DIM)?;
    let scale = 1.0 / libm::sqrtf(HEAD_DIM as f32);
    let workspace = &mut data::attention_workspace(&mut arena, N_POSITIONS, HEAD_DIM);
    let mut run = |dst: &mut [f32], q: &[f32]| {
        for ((dst, q), cache) in dst.chunks_exact_mut(HEAD_DIM).zip(q.chunks_exact(HEAD_DIM)).zip(&caches) {
            if let (Some(keys), Some(values)) = black_box(*cache) {
                let q = Queries { values: q, stride: HEAD_DIM };
                let attention = Attention::new(ops, keys, values, scale);
                attention.attend(&mut TileMut::new(dst, HEAD_DIM), q, workspace);
            }
        }
    };
    run(dst, q);
    // The definition, for the first and the last head. The roundings of a quantized query and of weights to halves move
    // the result by less than a hundredth, another order of values or positions by much more.
    let (mut scores, mut want) = ([0.0; N_POSITIONS], [0.0; HEAD_DIM]);
    for head in [0, N_HEADS - 1] {
        let mut scope = arena.scope();
        let [keys, values] =
            [100, 200].map(|seed| data::blocks::<B>(&mut scope, n_blocks, 0, seed + head as u64));
        let (keys, values) =
            (keys.chunks_exact(HEAD_DIM / B::VALUES), values.chunks_exact(HEAD_DIM / B::VALUES));
        let part = head * HEAD_DIM..(head + 1) * HEAD_DIM;
        reference::attend(&mut want, &q[part.clone()], keys, values, scale, &mut scores);
        let is_near = |(have, want): (&f32, &f64)| (f64::from(*have) - want).abs() < 0.01;
        expect(dst[part].iter().zip(&want).all(is_near), "attention")?;
    }
    lab.bencher.iter(&mut || {
        run(dst, black_box(q));
        black_box(&mut *dst);
    });
    Ok(())
}

/// The cache of the cases: 6 layers, 256 positions, 384 wide, F16, full.
fn kv_cache<'a>(ops: Ops, arena: &mut Arena<'a>) -> Result<KvCache<'a>, CaseError> {
    let shape = KvShape { n_layers: N_LAYERS, n_kv_heads: N_HEADS, head_dim: HEAD_DIM, n_ctx: N_POSITIONS };
    let mut cache = KvCache::new(shape, KvType::F16, arena).map_err(|_| CaseError::Memory)?;
    for pos in 0..N_POSITIONS {
        for layer in 0..N_LAYERS {
            let row = [pos as f32 + layer as f32 / 8.0; DIM];
            cache.store(ops, layer, 0, &row, &row).map_err(|error| CaseError::Engine(error.code()))?;
        }
        cache.advance(1).map_err(|error| CaseError::Engine(error.code()))?;
    }
    Ok(cache)
}

/// The keys and values of one position in one layer, all heads: 2 * 384 halves, summed as integers so that every byte
/// is read. Positions and layers change from run to run.
fn kv_cache_read(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let cache = kv_cache(ops, &mut arena)?;
    let read = |layer: usize, pos: usize| {
        let mut sum = 0u32;
        for head in 0..N_HEADS {
            for matrix in [cache.keys(layer, head, N_POSITIONS), cache.values(layer, head, N_POSITIONS)] {
                let Some(Matrix::F16(rows)) = matrix else { return None };
                sum = rows.row(pos)?.iter().fold(sum, |sum, x| sum.wrapping_add(x.to_bits().into()));
            }
        }
        Some(sum)
    };
    let want = 2 * DIM as u32 * u32::from(F16::new(200.0 + 3.0 / 8.0).to_bits());
    expect(read(3, 200) == Some(want), "what was stored")?;
    let mut at = 0;
    lab.bencher.iter(&mut || {
        at = (at + 1) % (N_LAYERS * N_POSITIONS);
        black_box(read(black_box(at % N_LAYERS), black_box(at / N_LAYERS)));
    });
    Ok(())
}

/// One position in one layer, written over again.
fn kv_cache_store(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let row = &*data::f32s(&mut arena, DIM, 22);
    let mut cache = kv_cache(ops, &mut arena)?;
    cache.truncate(N_POSITIONS - 1);
    let mut layer = 0;
    let mut store = || {
        layer = (layer + 1) % N_LAYERS;
        cache.store(ops, layer, 0, black_box(row), black_box(row))
    };
    store().map_err(|error| CaseError::Engine(error.code()))?;
    lab.bencher.iter(&mut || {
        // Stored above with the same shape, so it cannot fail here.
        let _ = black_box(store());
    });
    Ok(())
}

/// 1 KiB out of an arena, written and given back.
fn arena_alloc(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let mut arena = Arena::new(lab.memory);
    let first = arena.scope().alloc(1024, 1u8).map_err(|_| CaseError::Memory)?.as_ptr().addr();
    let again = arena.scope().alloc(1024, 1u8).map_err(|_| CaseError::Memory)?.as_ptr().addr();
    expect(first == again && first % Arena::ALIGN == 0, "what a scope gave back was not given out again")?;
    lab.bencher.iter(&mut || {
        let mut scope = arena.scope();
        black_box(scope.alloc(black_box(1024), 0u8).map(|slice| slice.as_ptr()).ok());
    });
    Ok(())
}
