//! Numbers at the ends of their range, in weights and activations: subnormal, as large as a half can be, and none at all.

use corelm::arena::Arena;
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::reference::{dot_quants_q4_0, dot_quants_q8_0};
use corelm::ops::{
    Activations, Backend, BlockQ4_0, BlockQ8, BlockQ8_0, F16, F32, GgmlType, Matrix, QK, Rows, TileMut,
};
use corelm::session::SessionError;

use super::Stand;
use super::engine::PROMPT;
use super::matmul::{Operands, TYPES};
use crate::data::{self, assert_near};
use crate::model;
use crate::random::Random;
use crate::synth::SynthConfig;

const EPS: f64 = f32::EPSILON as f64;

/// Scales of every kind: subnormal ones, the least and the largest normal ones, zeros, infinities, a NaN and one that
/// signals.
const SCALES: [u16; 13] =
    [0x0001, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x0000, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0xfd01];

/// Halves in the head of a quantized block: its scale, and its least value if it has one.
fn n_halves(ty: GgmlType) -> usize {
    if ty == GgmlType::Q4_1 { 2 } else { 1 }
}

/// What a product of rows is by its definition, block after block, and the sum of the magnitudes: each sum of quants by
/// both scales, so that an infinite scale is an infinity or, where the quants cancel, a NaN.
fn product(x: &[BlockQ8_0], w: Matrix<'_>, row: usize) -> (f64, f64) {
    let none = (0, F16::from_bits(0));
    let terms = |b: usize| match w {
        Matrix::Q8_0(w) => {
            let w = &w.row(row).expect("a row")[b];
            [(dot_quants_q8_0(&x[b], w), w.d), none]
        }
        Matrix::Q4_0(w) => {
            let w = &w.row(row).expect("a row")[b];
            [(dot_quants_q4_0(&x[b], w), w.d), none]
        }
        Matrix::Q4_1(w) => {
            let w = &w.row(row).expect("a row")[b];
            let sum = x[b].qs.iter().map(|q| i32::from(*q)).sum::<i32>();
            let around_eight = dot_quants_q4_0(&x[b], &BlockQ4_0 { d: w.d, qs: w.qs });
            [(around_eight + 8 * sum, w.d), (sum, w.m)]
        }
        _ => panic!("not a type of blocks with scales"),
    };
    let terms = (0..x.len()).flat_map(|b| {
        let d = f64::from(x[b].d.to_f32());
        terms(b).map(|(sum, scale)| f64::from(sum) * (d * f64::from(scale.to_f32())))
    });
    terms.fold((0.0, 0.0), |(sum, magnitude), x| (sum + x, magnitude + x.abs()))
}

/// What [`scales_of_every_kind_are_what_they_say`] finds, for Q8_0, Q4_0 and Q4_1, on all back-ends but the portable one.
const BITS: [u64; 3] = [0xb9d8_83be_9fdd_a96e, 0xf6d6_a8cf_b502_e769, 0xf561_0447_aa07_9c28];

pub fn scales_of_every_kind_are_what_they_say(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let (n_blocks, mut found) = (3, [0; 3]);
    for (found, ty) in found.iter_mut().zip([GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1]) {
        // Each scale in each block of a row, and in each place of the head.
        let n = SCALES.len() * n_blocks * n_halves(ty);
        let change = |bytes: &mut [u8]| {
            for (i, row) in bytes.chunks_exact_mut(n_blocks * ty.block_bytes().get()).enumerate() {
                let (block, half) = (i / SCALES.len() % n_blocks, i / SCALES.len() / n_blocks);
                let at = block * ty.block_bytes().get() + 2 * half;
                row[at..at + 2].copy_from_slice(&SCALES[i % SCALES.len()].to_le_bytes());
            }
        };
        for m in [1, 3, 17] {
            let mut arena = stand.arena();
            let operands = Operands::with(&mut arena, ops, ty, (m, n, n_blocks * QK), change);
            for rhs in operands.orders(&mut arena, ops) {
                let dst = arena.alloc(m * n, 0f32).expect("test memory");
                let workspace = &mut data::workspace(&mut arena);
                ops.gemm(&mut TileMut::new(dst, n), &operands.lhs, rhs, workspace);
                let mut hash = data::Hash::EMPTY;
                for (at, have) in dst.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let (want, magnitude) =
                        product(&operands.q8_0[i * n_blocks..][..n_blocks], operands.rhs, j);
                    let dot = operands.dot(ops, i, j);
                    let about = format_args!("{ops:?} {:?} ({i}, {j}) of ({m}, {n})", rhs.ty());
                    if want.is_finite() {
                        let bound = (2 * n_blocks + 8) as f64 * EPS * magnitude;
                        assert_near(*have, want, bound, about);
                        assert_eq!(have.to_bits(), dot.to_bits(), "{about}: {have:e}, alone {dot:e}");
                    } else {
                        // A number of one kind; which NaN it is, no one says.
                        let is_same =
                            |x: f32| x.is_nan() == want.is_nan() && (x.is_nan() || f64::from(x) == want);
                        assert!(is_same(*have) && is_same(dot), "{about}: {have}, alone {dot}, for {want}");
                    }
                    hash = hash.with(if have.is_nan() { f32::NAN } else { *have });
                }
                if m == 17 {
                    *found = hash.0;
                }
            }
        }
    }
    assert!(ops.backend() == Backend::Scalar || found == BITS, "{ops:?}: {found:#x?}");
}

/// A row of activations that is no row of numbers, or too large for a scale, gives no number, and its neighbours in a
/// tile theirs.
pub fn a_broken_row_breaks_no_other(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let ((m, n, k), broken) = ((17, 19, 64), 3);
    for ty in TYPES {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            if bad == f32::MAX && ty.packed().is_none() {
                continue; // a number among floats
            }
            let mut arena = stand.arena();
            let operands = Operands::new(&mut arena, ops, ty, (m, n, k));
            let f32 = arena.alloc_with(m * k, |i| operands.lhs.f32[i]).expect("test memory");
            f32[broken * k + 40] = bad;
            let q8 = arena.alloc(operands.lhs.q8.len(), BlockQ8::ZERO).expect("test memory");
            for (i, row) in f32.chunks_exact(k).enumerate().take(q8.len()) {
                ops.quantize_q8(&mut q8[i..], m, row);
            }
            for rhs in operands.orders(&mut arena, ops) {
                let dst = arena.alloc(m * n, 0f32).expect("test memory");
                let workspace = &mut data::workspace(&mut arena);
                let lhs = Activations { rows: m, f32, q8 };
                ops.gemm(&mut TileMut::new(dst, n), &lhs, rhs, workspace);
                for (at, have) in dst.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let is_right = match i == broken {
                        true => !have.is_finite(),
                        false => have.to_bits() == operands.dot(ops, i, j).to_bits(),
                    };
                    assert!(is_right, "{ops:?} {:?}: {bad}, ({i}, {j}) {have}", rhs.ty());
                }
            }
        }
    }
}

/// `n` integers from -8 to 8.
fn integers<'a>(arena: &mut Arena<'a>, n: usize, seed: u64) -> &'a [f32] {
    let mut random = Random::new(seed);
    arena.alloc_with(n, |_| random.below(17) as f32 - 8.0).expect("test memory")
}

/// Small multiples of `unit` as bytes of type `ty`, at an odd address: exact in every type whose numbers reach that far.
fn multiples<'a>(arena: &mut Arena<'a>, integers: &[f32], ty: GgmlType, unit: f32) -> &'a [u8] {
    let size = ty.block_bytes().get();
    let bytes = arena.alloc(1 + integers.len() * size, 0u8).expect("test memory");
    for (value, x) in bytes[1..].chunks_exact_mut(size).zip(integers) {
        let x = x * unit;
        match ty {
            GgmlType::F16 => value.copy_from_slice(&half::f16::from_f32(x).to_le_bytes()),
            // The upper half is all of it.
            GgmlType::BF16 => value.copy_from_slice(&x.to_le_bytes()[2..]),
            _ => value.copy_from_slice(&x.to_le_bytes()),
        }
    }
    &bytes[1..]
}

/// The least number above zero, and that of halves and of bfloat16.
const LEAST: f32 = f32::from_bits(1);
const LEAST_OF: [(GgmlType, f32); 3] =
    [(GgmlType::F32, LEAST), (GgmlType::F16, 1.0 / 16_777_216.0), (GgmlType::BF16, f32::from_bits(1 << 16))];

/// Sums of small multiples of the least numbers are exact in any order, so there is one answer; and none of it is zero
/// for being small.
fn check_subnormal(stand: &mut Stand<'_>, ty: GgmlType, (x_unit, w_unit): (f32, f32)) {
    let ops = stand.ops;
    let unit = f64::from(x_unit) * f64::from(w_unit);
    for (m, n, k) in [(1, 5, 3), (1, 17, 45), (3, 7, 45), (5, 3, 64)] {
        let mut arena = stand.arena();
        let (x, w) = (integers(&mut arena, m * k, 80), integers(&mut arena, n * k, 81));
        let f32 = &*arena.alloc_with(m * k, |i| x[i] * x_unit).expect("test memory");
        let bytes = multiples(&mut arena, w, ty, w_unit);
        let dst = arena.alloc(m * n, f32::NAN).expect("test memory");
        let mut check =
            |what: &str, run: &mut dyn FnMut(&mut [f32]), term: &dyn Fn(usize, usize, usize) -> f32| {
                run(dst);
                for (at, have) in dst.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let sum: f32 = (0..k).map(|p| term(i, j, p)).sum();
                    let about = format_args!("{ops:?} {ty:?}: {what}, ({i}, {j}) of ({m}, {n}, {k})");
                    assert_eq!(f64::from(*have), f64::from(sum) * unit, "{about}");
                }
            };
        let workspace = &mut data::workspace(&mut arena);
        let weights = Matrix::new(ty, bytes, n, k).expect("a whole matrix");
        let lhs = Activations { rows: m, f32, q8: &[] };
        let mut run = |dst: &mut [f32]| ops.gemm(&mut TileMut::new(dst, n), &lhs, weights, workspace);
        check("product", &mut run, &|i, j, p| x[i * k + p] * w[j * k + p]);
        // As the values of a cache, (m, k) . (k, n).
        let values = Matrix::new(ty, bytes, k, n).expect("a whole matrix");
        let mut run = |dst: &mut [f32]| {
            dst.fill(0.0);
            ops.accumulate(dst, f32, k, values);
        };
        check("values", &mut run, &|i, j, p| x[i * k + p] * w[p * n + j]);
    }
}

pub fn subnormal_numbers_are_numbers(stand: &mut Stand<'_>) {
    for (ty, least) in LEAST_OF {
        check_subnormal(stand, ty, (LEAST, 1.0));
        check_subnormal(stand, ty, (1.0, least));
    }
    let ops = stand.ops;
    for n in [1, 7, 8, 9, 33] {
        let mut arena = stand.arena();
        let (x, y, z) =
            (integers(&mut arena, n, 82), integers(&mut arena, n, 83), integers(&mut arena, n, 84));
        let bytes = multiples(&mut arena, z, GgmlType::F32, LEAST);
        let bias = Rows::<F32>::from_bytes(bytes, 1, n).expect("a row").blocks();
        let small = &*arena.alloc_with(n, |i| y[i] * LEAST).expect("test memory");
        let dst = arena.alloc(n, 0f32).expect("test memory");
        let mut check = |what: &str, run: &dyn Fn(&mut [f32]), want: &dyn Fn(usize) -> f32| {
            dst.iter_mut().zip(x).for_each(|(dst, x)| *dst = x * LEAST);
            run(dst);
            for (i, have) in dst.iter().enumerate() {
                let want = f64::from(want(i)) * f64::from(LEAST);
                assert_eq!(f64::from(*have), want, "{ops:?}: {what}, {i} of {n}");
            }
        };
        check("add", &|dst| ops.add(dst, small), &|i| x[i] + y[i]);
        check("add_f32le", &|dst| ops.add_f32le(dst, bias), &|i| x[i] + z[i]);
        check("mul", &|dst| ops.mul(dst, y), &|i| x[i] * y[i]);
        check("scale", &|dst| ops.scale(dst, 3.0), &|i| x[i] * 3.0);
        check("axpy", &|dst| ops.axpy(dst, -3.0, small), &|i| x[i] - 3.0 * y[i]);
        // Scaled up by 1 / sqrt(eps), which rounds to a multiple of the least number twice.
        let ones = multiples(&mut arena, &[1.0; 33][..n], GgmlType::F32, 1.0);
        let ones = Rows::<F32>::from_bytes(ones, 1, n).expect("a row").blocks();
        ops.rms_norm(dst, small, ones, 1e-5);
        for (i, have) in dst.iter().enumerate() {
            let want = f64::from(y[i]) * f64::from(LEAST) / libm::sqrt(f64::from(1e-5f32));
            let bound = 16.0 * EPS * want.abs() + f64::from(LEAST);
            assert_near(*have, want, bound, format_args!("{ops:?}: rms_norm, {i} of {n}"));
        }
    }
}

/// The tensor whose first number is damaged: all rows of the activations meet it.
const DAMAGED: &str = "blk.0.ffn_up.weight";

/// A scale that is no number is an error of the step, whatever the back-end and the order of the weights; a subnormal one
/// is a number.
pub fn broken_weights_are_an_error(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    for ty in TYPES {
        let config = SynthConfig { ty, n_layers: 1, ..SynthConfig::TINY };
        let (memory, spare) = stand.memory.split_at_mut(2 << 20);
        let mut arena = Arena::new(memory);
        let bytes = model::write(&config, &mut arena).expect("test memory");
        let at = {
            let image = Image::parse(bytes).expect("a model");
            let tensor = image.tensor(DAMAGED).expect("a tensor");
            tensor.bytes.as_ptr().addr() - bytes.as_ptr().addr()
        };
        let damaged = arena.alloc_with(bytes.len(), |i| bytes[i]).expect("test memory");
        // As a half, as the upper half of an f32, as an f32.
        for (half, single) in
            [(0x7e00u16, f32::NAN), (0x7c00, f32::INFINITY), (0xfc00, f32::NEG_INFINITY), (1, 1e-40)]
        {
            for place in 0..n_halves(ty) {
                match ty {
                    GgmlType::F32 => damaged[at..at + 4].copy_from_slice(&single.to_le_bytes()),
                    GgmlType::BF16 => damaged[at..at + 2].copy_from_slice(&single.to_le_bytes()[2..]),
                    _ => damaged[at + 2 * place..at + 2 * place + 2].copy_from_slice(&half.to_le_bytes()),
                }
                for is_packed in [false, true] {
                    let mut arena = Arena::new(&mut *spare);
                    let shape = (16, 4, KvType::F16);
                    let session = match is_packed {
                        true => model::packed_session(damaged, shape, ops, workers, &mut arena),
                        false => model::session(damaged, shape, ops, workers, &mut arena),
                    };
                    let mut session = session.expect("a session");
                    let about =
                        format_args!("{ops:?} {ty:?}: {single} for number {place}, packed: {is_packed}");
                    for pos in 0..2 {
                        let answer = session.prefill(&PROMPT[..3]).map(<[f32]>::len);
                        let want = if single.is_finite() {
                            Ok(512)
                        } else {
                            Err(SessionError::NonFinite { pos: 0 })
                        };
                        assert_eq!(answer, want, "{about}, {pos}");
                    }
                }
                damaged[at..at + 4].copy_from_slice(&bytes[at..at + 4]);
            }
        }
    }
}
