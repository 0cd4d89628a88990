//! Every operation of every back-end this CPU has, against its meaning in f64.
//!
//! Bounds: a float sum of `n` products in any order, each rounded at most twice, is off by at most `(n + 2) eps` of the
//! sum of magnitudes (Higham 2002, section 3.1); what follows adds a few `eps` of the result.
#![cfg(feature = "std")]

use corelm_ops::reference::{self, Decode};
use corelm_ops::*;

const EPS: f64 = f32::EPSILON as f64;

/// Lengths around every register, tile and block there is.
const LENGTHS: [usize; 14] = [0, 1, 2, 3, 7, 8, 9, 15, 17, 31, 32, 33, 100, 384];

fn all() -> impl Iterator<Item = Ops> {
    Ops::available(Features::detect_host())
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// In -1..1.
    fn f32(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
    fn f32s(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.f32()).collect()
    }
    fn f32les(&mut self, n: usize) -> Vec<F32> {
        (0..n).map(|_| F32::new(self.f32())).collect()
    }
    /// Bytes of blocks with any quants (extremes among them) and sane scales.
    fn blocks(&mut self, ty: GgmlType, n_blocks: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for i in 0..n_blocks {
            let start = bytes.len();
            let fill = [None, None, None, Some(0x80), Some(0xff), Some(0x00)][i % 6];
            bytes.extend((0..ty.block_bytes().get()).map(|_| fill.unwrap_or(self.next() as u8)));
            let mut scale = |at: usize| {
                let d = if i % 7 == 5 { 0.0 } else { self.f32() };
                bytes[start + at..start + at + 2].copy_from_slice(&F16::new(d).to_bits().to_le_bytes());
            };
            match ty {
                GgmlType::F16 | GgmlType::Q4_0 | GgmlType::Q8_0 => scale(0),
                GgmlType::Q4_1 => {
                    scale(0);
                    scale(2);
                }
                _ => {
                    let x = self.f32().to_le_bytes();
                    let from = 4 - ty.block_bytes().get();
                    bytes.truncate(start);
                    bytes.extend(&x[from..]);
                }
            }
        }
        bytes
    }
}

const TYPES: [GgmlType; 6] =
    [GgmlType::F32, GgmlType::F16, GgmlType::BF16, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0];

fn blocks<B: Block>(bytes: &[u8]) -> &[B] {
    Rows::from_bytes(bytes, bytes.len() / size_of::<B>(), B::VALUES).unwrap().blocks()
}

fn quantized(ops: Ops, x: &[f32]) -> Vec<BlockQ8_0> {
    let mut q = vec![BlockQ8_0::ZERO; x.len() / QK];
    ops.quantize_q8_0(&mut q, x);
    q
}

/// Rows of `k` values as products read them.
fn activations(ops: Ops, x: &[f32], k: usize) -> Vec<BlockQ8> {
    let m = x.len() / k;
    let mut q = vec![BlockQ8::ZERO; x.len() / QK];
    x.chunks(k).enumerate().for_each(|(i, x)| ops.quantize_q8(&mut q[i..], m, x));
    q
}

fn close(got: f32, want: f64, bound: f64, what: &str) {
    let error = (f64::from(got) - want).abs();
    assert!(error <= bound, "{what}: {got:e} for {want:e}, off by {error:e}, bound {bound:e}");
}

/// The product of two rows as the reference has it, and the magnitude of its terms.
fn reference_dot(x: &[f32], q: &[BlockQ8_0], w: Matrix<'_>) -> (f64, f64) {
    match w {
        Matrix::F32(w) => reference::dot(x, w.blocks()),
        Matrix::F16(w) => reference::dot(x, w.blocks()),
        Matrix::Bf16(w) => reference::dot(x, w.blocks()),
        Matrix::Q4_0(w) => reference::dot(q, w.blocks()),
        Matrix::Q4_1(w) => {
            // The two parts of `d * q + m` are summed apart: they may cancel.
            let shift = |w: &BlockQ4_1| BlockQ4_1 { m: F16::new(0.0), ..*w };
            let flat = |w: &BlockQ4_1| BlockQ4_1 { d: F16::new(0.0), ..*w };
            let a = reference::dot(q, &w.blocks().iter().map(shift).collect::<Vec<_>>()[..]);
            let b = reference::dot(q, &w.blocks().iter().map(flat).collect::<Vec<_>>()[..]);
            (a.0 + b.0, a.1 + b.1)
        }
        Matrix::Q8_0(w) => reference::dot(q, w.blocks()),
        _ => unreachable!(),
    }
}

fn ops_dot(ops: Ops, x: &[f32], q: &[BlockQ8_0], w: Matrix<'_>) -> f32 {
    match w {
        Matrix::F32(w) => ops.dot_f32(x, &w.blocks().iter().map(|w| w.to_f32()).collect::<Vec<_>>()),
        Matrix::F16(w) => ops.dot_f32_f16(x, w.blocks()),
        Matrix::Bf16(w) => ops.dot_f32_bf16(x, w.blocks()),
        Matrix::Q4_0(w) => ops.dot_q8_0_q4_0(q, w.blocks()),
        Matrix::Q4_1(w) => ops.dot_q8_0_q4_1(q, w.blocks()),
        Matrix::Q8_0(w) => ops.dot_q8_0_q8_0(q, w.blocks()),
        _ => unreachable!(),
    }
}

#[test]
fn gemm_is_dot_and_dot_is_right() {
    let lines = &mut [Line::ZERO; Workspace::LINES];
    let mut rng = Rng(1);
    for ops in all() {
        for ty in TYPES {
            for k in [1usize, 3, 7, 8, 9, 16, 31, 32, 64, 96, 100, 224, 1024] {
                if k % ty.block_values() != 0 {
                    continue;
                }
                for (m, n) in [
                    (1, 1),
                    (1, 3),
                    (1, 4),
                    (1, 9),
                    (2, 2),
                    (3, 5),
                    (4, 4),
                    (5, 7),
                    (8, 11),
                    (16, 16),
                    (37, 20),
                ] {
                    let bytes = rng.blocks(ty, n * k / ty.block_values());
                    let w = Matrix::new(ty, &bytes, n, k).unwrap();
                    let x = rng.f32s(m * k);
                    let q = if w.is_quantized() { quantized(ops, &x) } else { Vec::new() };
                    let q8 = if w.is_quantized() { activations(ops, &x, k) } else { Vec::new() };
                    let mut dst = vec![f32::NAN; m * n];
                    let lhs = Activations { rows: m, f32: &x, q8: &q8 };
                    ops.gemm(&mut TileMut::new(&mut dst, n), &lhs, w, &mut Workspace::new(lines));
                    for (i, got) in dst.iter().enumerate() {
                        let (row, col) = (i / n, i % n);
                        let x = &x[row * k..][..k];
                        let q = if q.is_empty() { &q[..] } else { &q[row * k / QK..][..k / QK] };
                        let w = w.slice_rows(col..col + 1);
                        let what = format!("{ops:?} {ty:?} k={k} {m}x{n} at {row},{col}");
                        let dot = ops_dot(ops, x, q, w);
                        assert_eq!(got.to_bits(), dot.to_bits(), "{what}");
                        let (want, magnitude) = reference_dot(x, q, w);
                        close(dot, want, (k + 2) as f64 * EPS * magnitude, &what);
                    }
                }
            }
        }
    }
}

/// Weights in panels give the bits of weights row by row, whole and cut anywhere, and decode to the same values.
#[test]
fn packing_changes_nothing() {
    let lines = &mut [Line::ZERO; Workspace::LINES];
    let mut rng = Rng(11);
    for ops in all() {
        for ty in [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0] {
            for (m, n, k) in
                [(1, 16, 32), (1, 33, 64), (3, 47, 320), (5, 5, 96), (40, 64, 288), (70, 33, 1024)]
            {
                let bytes = rng.blocks(ty, n * k / ty.block_values());
                let plain = Matrix::new(ty, &bytes, n, k).unwrap();
                // At an odd address, as in a file.
                let mut packed = vec![0; 1 + bytes.len()];
                assert!(ops.pack(&mut packed[2..], plain).is_err());
                let packed = ops.pack(&mut packed[1..], plain).unwrap();
                assert_eq!((packed.rows(), packed.cols(), Some(packed.ty())), (n, k, ty.packed()));
                assert!(ops.pack(&mut vec![0; bytes.len()], packed).is_err());
                let (mut want, mut have) = (vec![0.0; n * k], vec![1.0; n * k]);
                ops.dequantize(&mut want, plain);
                ops.dequantize(&mut have, packed);
                assert_eq!(bits(&have), bits(&want), "{ops:?} {ty:?}");
                let q8 = activations(ops, &rng.f32s(m * k), k);
                let lhs = Activations { rows: m, f32: &[], q8: &q8 };
                for (start, end) in [(0, n), (0, n / 2), (n / 3, n), (1, n - 1), (n - 1, n)] {
                    let width = end - start;
                    let (mut want, mut have) = (vec![0.0; m * width], vec![1.0; m * width]);
                    ops.gemm(
                        &mut TileMut::new(&mut want, width),
                        &lhs,
                        plain.slice_rows(start..end),
                        &mut Workspace::new(lines),
                    );
                    ops.gemm(
                        &mut TileMut::new(&mut have, width),
                        &lhs,
                        packed.slice_rows(start..end),
                        &mut Workspace::new(lines),
                    );
                    assert_eq!(bits(&have), bits(&want), "{ops:?} {ty:?} {m}x{n}x{k} {start}..{end}");
                }
            }
        }
    }
}

/// Memory for attention over `n` positions.
/// For attention of some tokens' heads, one after the other, over all of the cache.
fn lines(n: usize, head_dim: usize, ty: GgmlType) -> Vec<Line> {
    vec![Line::ZERO; Workspace::lines(n, head_dim, ty).unwrap()]
}

/// What `heads` heads of each of `tokens` tokens get, `q` (tokens, heads, head_dim).
fn attend(attention: &Attention<'_>, q: &[f32], tokens: usize, lines: &mut [Line]) -> Vec<f32> {
    let (mut dst, stride) = (vec![f32::NAN; q.len()], q.len() / tokens);
    let q = Queries { values: q, stride };
    attention.attend(&mut TileMut::new(&mut dst, stride), q, &mut Workspace::new(lines));
    dst
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// `-128` and the end nibbles in every lane: integer parts must not saturate, so a single block is right to one rounding.
#[test]
fn integer_parts_are_exact() {
    let one = F16::new(1.0);
    for ops in all() {
        for (x, w) in [(-128, -128), (-128, 127), (127, 127), (-128, 1), (127, -128)] {
            let (x, w) = (BlockQ8_0 { d: one, qs: [x; 32] }, BlockQ8_0 { d: one, qs: [w; 32] });
            assert_eq!(ops.dot_q8_0_q8_0(&[x], &[w]), reference::dot_quants_q8_0(&x, &w) as f32, "{ops:?}");
            for nibbles in [0x00, 0xff, 0x0f, 0xf0, 0x88] {
                let w = BlockQ4_0 { d: one, qs: [nibbles; 16] };
                assert_eq!(
                    ops.dot_q8_0_q4_0(&[x], &[w]),
                    reference::dot_quants_q4_0(&x, &w) as f32,
                    "{ops:?}"
                );
                let w = BlockQ4_1 { d: one, m: one, qs: [nibbles; 16] };
                assert_eq!(f64::from(ops.dot_q8_0_q4_1(&[x], &[w])), reference::dot(&[x][..], &[w][..]).0);
            }
        }
        // One value at a time: the order of the nibbles.
        for i in 0..32 {
            let mut x = BlockQ8_0 { d: one, qs: [0; 32] };
            x.qs[i] = 1;
            let w = BlockQ4_0 { d: one, qs: std::array::from_fn(|i| (15 - i as u8) << 4 | i as u8) };
            let want = if i < 16 { i as f32 } else { 31.0 - i as f32 } - 8.0;
            assert_eq!(ops.dot_q8_0_q4_0(&[x], &[w]), want, "{ops:?} {i}");
        }
    }
}

#[test]
fn quantizing_gives_the_same_bytes_everywhere() {
    let mut rng = Rng(2);
    let mut rows: Vec<Vec<f32>> = (0..200).map(|_| rng.f32s(96)).collect();
    // Exact halves (ties), subnormal scales, zeros, extremes and what is no number.
    rows.push((0..96).map(|i| if i % 32 == 0 { 127.0 } else { i as f32 - 48.5 }).collect());
    rows.push((0..96).map(|i| if i % 32 == 0 { 127.0 } else { (0.5f32 + i as f32).next_down() }).collect());
    for x in [0.0, -0.0, f32::MAX, f32::MIN_POSITIVE, 1e-40, 1e-42, 3e-39, f32::INFINITY, f32::NAN, -f32::NAN]
    {
        rows.push((0..96).map(|i| if i == 40 { x } else { 0.0 }).collect());
        rows.push((0..96).map(|i| if i % 2 == 0 { x } else { -x / 3.0 }).collect());
    }
    for row in rows {
        let want = quantized(Ops::scalar(), &row);
        for ops in all() {
            assert_eq!(quantized(ops, &row), want, "{ops:?} {row:?}");
        }
        for (x, b) in row.chunks(32).zip(&want) {
            if x.iter().all(|x| x.abs() < 1e6) {
                let step = f64::from(b.d.to_f32());
                for (i, x) in x.iter().enumerate() {
                    let got = std::slice::from_ref(b).value(i);
                    // Half a step, the rounding of the scale (127 halves of an ulp) and scales below the least half.
                    let bound = step * (0.5 + 127.0 / 2048.0) + 127.0 / (1u64 << 24) as f64;
                    assert!((f64::from(*x) - got).abs() <= bound, "{x} {got}");
                }
            } else if x.iter().any(|x| !x.is_finite()) {
                assert!(b.d.to_f32().is_nan() && b.qs == [0; 32]);
            }
        }
    }
}

#[test]
fn dequantizing_is_exact() {
    let mut rng = Rng(3);
    for ty in TYPES {
        let n = 9 * ty.block_values().get();
        let bytes = rng.blocks(ty, 9);
        let mut want = vec![0.0; n];
        match ty {
            GgmlType::F32 => reference::dequantize(&mut want, blocks::<F32>(&bytes)),
            GgmlType::F16 => reference::dequantize(&mut want, blocks::<F16>(&bytes)),
            GgmlType::BF16 => reference::dequantize(&mut want, blocks::<Bf16>(&bytes)),
            GgmlType::Q4_0 => reference::dequantize(&mut want, blocks::<BlockQ4_0>(&bytes)),
            GgmlType::Q4_1 => reference::dequantize(&mut want, blocks::<BlockQ4_1>(&bytes)),
            _ => reference::dequantize(&mut want, blocks::<BlockQ8_0>(&bytes)),
        }
        for ops in all() {
            let mut got = vec![f32::NAN; n];
            ops.dequantize(&mut got, Matrix::new(ty, &bytes, 1, n).unwrap());
            for (got, want) in got.iter().zip(&want) {
                assert_eq!(*got, *want as f32, "{ops:?} {ty:?}");
            }
        }
    }
}

#[test]
fn halves_convert_exactly() {
    let halves: Vec<F16> = (0..=u16::MAX).map(F16::from_bits).collect();
    let floats: Vec<f32> = halves.iter().map(|h| h.to_f32()).collect();
    let mut rng = Rng(4);
    let mut any: Vec<f32> = (0..100_003).map(|_| f32::from_bits(rng.next() as u32)).collect();
    for pair in floats[..0x7c01].windows(2) {
        any.extend([(pair[0] + pair[1]) / 2.0, ((pair[0] + pair[1]) / 2.0).next_up()]);
    }
    for ops in all() {
        for offset in 0..4 {
            let mut got = vec![0.0; halves.len() - offset];
            ops.f32_from_f16(&mut got, &halves[offset..]);
            assert!(got.iter().zip(&floats[offset..]).all(|(a, b)| a.to_bits() == b.to_bits()), "{ops:?}");
        }
        let mut got = vec![F16::default(); any.len()];
        ops.f16_from_f32(&mut got, &any);
        for (got, x) in got.iter().zip(&any) {
            let want = F16::new(*x);
            assert!(*got == want || x.is_nan() && got.to_f32().is_nan(), "{ops:?} {x:e}");
        }
    }
}

#[test]
fn element_wise_operations_are_right() {
    let mut rng = Rng(5);
    for ops in all() {
        for n in LENGTHS {
            let (x, y, w) = (rng.f32s(n), rng.f32s(n), rng.f32les(n));
            let check =
                |name: &str, f: &dyn Fn(&mut [f32]), want: &dyn Fn(f64, f64, f64) -> f64, ulps: f64| {
                    let mut dst = x.clone();
                    f(&mut dst);
                    for i in 0..n {
                        let (x, y, w) = (f64::from(x[i]), f64::from(y[i]), f64::from(w[i].to_f32()));
                        let bound = ulps * EPS * want(x, y, w).abs().max(1e-30) + 1e-37;
                        close(dst[i], want(x, y, w), bound, &format!("{ops:?} {name} {n}"));
                    }
                };
            check("mul", &|d| ops.mul(d, &y), &|x, y, _| x * y, 1.0);
            check("scale", &|d| ops.scale(d, 1.5), &|x, _, _| x * 1.5, 1.0);
            check("add", &|d| ops.add(d, &y), &|x, y, _| x + y, 1.0);
            check("add_f32le", &|d| ops.add_f32le(d, &w), &|x, _, w| x + w, 1.0);
            check("silu", &|d| ops.silu(d), &|x, _, _| reference::silu(x), 6.0);
            check("gelu", &|d| ops.gelu(d), &|x, _, _| reference::gelu(x), 12.0);
            // Halves: the argument moves by 2^-11 of itself, where the slope is at most 1.13, and so does the result.
            let mut halves = x.clone();
            ops.gelu_f16(&mut halves);
            for (got, x) in halves.iter().zip(&x) {
                let bound = 2.2 * 2f64.powi(-11) * f64::from(x.abs()) + 2f64.powi(-24);
                close(*got, reference::gelu(f64::from(*x)), bound, &format!("{ops:?} gelu_f16 {n}"));
            }
            check("silu_mul", &|d| ops.silu_mul(d, &y), &|x, y, _| reference::silu(x) * y, 7.0);
            let mut dst = x.clone();
            ops.axpy(&mut dst, 0.7, &y);
            for i in 0..n {
                let (x, p) = (f64::from(x[i]), f64::from(y[i]) * f64::from(0.7f32));
                close(dst[i], x + p, EPS * (x.abs() + p.abs()), "axpy");
            }
        }
    }
}

/// The exponential over its whole range, by way of the sigmoid's numerator: `softmax_chunk` with a floor of 0 is `e^x`.
#[test]
fn exp_is_right_everywhere() {
    for ops in all() {
        let mut worst = 0.0f64;
        for i in 0..400_000 {
            let x = -104.5 + 104.5 * i as f32 / 400_000.0;
            let mut got = [x, x, -1.0];
            ops.softmax_chunk(&mut got, 1.0, 0.0);
            let want = f64::from(x).exp();
            // Below the normal numbers the error is absolute: half of the least subnormal, or all where they are flushed.
            let ulp = if want >= f64::from(f32::MIN_POSITIVE) {
                want * EPS
            } else {
                f64::from(f32::MIN_POSITIVE) * EPS
            };
            worst = worst.max((f64::from(got[0]) - want).abs() / ulp);
            assert_eq!(got[0].to_bits(), got[1].to_bits());
        }
        println!("{ops:?}: exp is off by {worst:.2} ulp at most");
        assert!(worst <= 1.0, "{ops:?}: {worst} ulp");
        let special = |x: f32| {
            let mut got = [x; 3];
            ops.silu(&mut got);
            got[1]
        };
        assert!(special(f32::NAN).is_nan());
        assert_eq!((special(100.0), special(1e30), special(f32::INFINITY)), (100.0, 1e30, f32::INFINITY));
        assert!(special(-100.0).abs() < 1e-36 && special(-1e30).abs() < 1e-36);
    }
}

#[test]
fn norms_are_right() {
    let mut rng = Rng(6);
    for ops in all() {
        for n in LENGTHS {
            let (x, w, b) = (rng.f32s(n), rng.f32les(n), rng.f32les(n));
            let (mut got, mut want) = (vec![f32::NAN; n], vec![0.0; n]);
            ops.rms_norm(&mut got, &x, &w, 1e-5);
            reference::rms_norm(&mut want, &x, &w, 1e-5);
            for (got, want) in got.iter().zip(&want) {
                close(*got, *want, (n + 8) as f64 * EPS * want.abs(), &format!("{ops:?} rms_norm {n}"));
            }
            ops.layer_norm(&mut got, &x, &w, &b, 1e-5);
            reference::layer_norm(&mut want, &x, &w, &b, 1e-5);
            // The mean is off by n eps of values up to 1, and the row is scaled by at most 1 / sqrt(variance).
            let variance = x.iter().map(|x| f64::from(x * x)).sum::<f64>() / n as f64;
            let bound = (4 * n + 16) as f64 * EPS * (2.0 + 4.0 / (variance + 1e-5).sqrt());
            for (got, want) in got.iter().zip(&want) {
                close(*got, *want, if n == 1 { 1e-4 } else { bound }, &format!("{ops:?} layer_norm {n}"));
            }
        }
    }
}

#[test]
fn softmax_is_right() {
    let mut rng = Rng(7);
    for ops in all() {
        for n in LENGTHS {
            for range in [1.0f32, 30.0, 1e4] {
                let x: Vec<f32> = rng.f32s(n).iter().map(|x| x * range).collect();
                let (mut got, mut want) = (x.clone(), vec![0.0; n]);
                ops.softmax(&mut got);
                reference::softmax(&mut want, &x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
                for (got, want) in got.iter().zip(&want) {
                    let bound = (n as f64 + 8.0 + f64::from(range)) * EPS * want + 1e-37;
                    close(*got, *want, bound, &format!("{ops:?} softmax {n}"));
                }
            }
        }
        let mut x = [1.0, f32::NAN, 2.0, 3.0];
        ops.softmax(&mut x);
        assert!(x.iter().all(|x| x.is_nan()), "{ops:?} {x:?}");
        let mut x = [0.0, f32::NEG_INFINITY, 0.0];
        ops.softmax(&mut x);
        assert_eq!(x, [0.5, 0.0, 0.5], "{ops:?}");
    }
}

#[test]
fn rope_turns_both_kinds_of_pairs() {
    let mut rng = Rng(8);
    for ops in all() {
        for (head_dim, n) in
            [(2, 2), (8, 8), (10, 6), (16, 16), (64, 64), (80, 80), (80, 32), (100, 98), (128, 128)]
        {
            for pos in [0u32, 1, 77, 4095, 1_000_000] {
                let mut cos_sin = vec![0.0; n];
                Rotation::new(n, 10_000.0, 1.0, &[]).cos_sin(&mut cos_sin, pos);
                let x = rng.f32s(head_dim);
                let (mut norm, mut neox) = (x.clone(), x.clone());
                ops.rope_norm(&mut norm, &cos_sin);
                ops.rope_neox(&mut neox, &cos_sin);
                let ratio = 10_000f64.powf(-2.0 / n as f64);
                for i in 0..n / 2 {
                    // The exponent is rounded (ln 10000 times its error in the ratio), the ratio and each product of
                    // the angle too: pair i's angle is off by at most 4 i eps of itself. Five more roundings follow.
                    let angle = f64::from(pos) * ratio.powi(i as i32);
                    let bound = (angle * 4.0 * i as f64 + 8.0) * EPS;
                    for (got, (a, b)) in [(&norm, (2 * i, 2 * i + 1)), (&neox, (i, i + n / 2))] {
                        let pair = (f64::from(x[a]), f64::from(x[b]));
                        let want = reference::rope_pair(pair, pos, 10_000.0, i, n / 2);
                        close(got[a], want.0, bound, &format!("{ops:?} {head_dim} {n} {pos} {i}"));
                        close(got[b], want.1, bound, &format!("{ops:?} {head_dim} {n} {pos} {i}"));
                    }
                }
                assert_eq!((&norm[n..], &neox[n..]), (&x[n..], &x[n..]));
            }
        }
    }
}

#[test]
fn attention_is_right() {
    let mut rng = Rng(9);
    for ops in all() {
        for (ty, head_dim) in [
            (GgmlType::F32, 8),
            (GgmlType::F32, 64),
            (GgmlType::F32, 80),
            (GgmlType::F32, 3),
            (GgmlType::F16, 64),
            (GgmlType::F16, 100),
            (GgmlType::F16, 256),
            (GgmlType::BF16, 40),
            (GgmlType::Q8_0, 32),
            (GgmlType::Q8_0, 64),
            (GgmlType::Q8_0, 512),
        ] {
            for n in [0usize, 1, 2, 63, 64, 65, POSITIONS, POSITIONS + 1, 2 * POSITIONS + 9] {
                let (k, v) = (rng.blocks(ty, n * head_dim), rng.blocks(ty, n * head_dim));
                let keys = Matrix::new(ty, &k, n, head_dim).unwrap();
                let values = Matrix::new(ty, &v, n, head_dim).unwrap();
                let (mut kf, mut vf) = (vec![0.0; n * head_dim], vec![0.0; n * head_dim]);
                ops.dequantize(&mut kf, keys);
                ops.dequantize(&mut vf, values);
                let q = rng.f32s(head_dim);
                let mut q_seen = q.clone();
                if ty == GgmlType::Q8_0 {
                    let blocks = quantized(ops, &q);
                    ops.dequantize(&mut q_seen, Matrix::Q8_0(Rows::from_blocks(&blocks, head_dim).unwrap()));
                }
                let magnitude = kf.iter().fold(1.0f64, |m, x| m.max(f64::from(x.abs())));
                let scale = (1.0 / magnitude) as f32;
                let mut want = vec![0.0; head_dim];
                let lines = &mut lines(n, head_dim, ty);
                let attention = Attention::new(ops, keys, values, scale);
                let got = attend(&attention, &q, 1, lines);
                let mut scores = vec![0.0; n];
                let (kr, vr) = (kf.chunks(head_dim), vf.chunks(head_dim));
                reference::attend(&mut want, &q_seen, kr, vr, scale, &mut scores);
                // Scores are off by (head_dim + 2) eps of at most head_dim; weights by that much, relatively.
                let score_error = (head_dim + 4) as f64 * EPS * head_dim as f64;
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    let largest =
                        vf.iter().skip(i).step_by(head_dim).fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
                    // Weights rounded to halves: by 2^-11 of themselves, or 2^-25 where they are subnormal.
                    let halves =
                        if ty == GgmlType::F16 { 2f64.powi(-11) + n as f64 * 2f64.powi(-25) } else { 0.0 };
                    let bound = (2.0 * score_error + (n + 16) as f64 * EPS + halves) * largest;
                    close(*got, *want, bound, &format!("{ops:?} {ty:?} {head_dim} {n}"));
                }
            }
        }
    }
}

/// Heads and tokens that pass over a cache together, and blocks of positions done one by one, change no bit.
#[test]
fn attention_is_the_same_however_it_is_cut() {
    const MOST: usize = 2 * POSITIONS + 3;
    let mut rng = Rng(11);
    for ops in all() {
        for (ty, head_dim) in [(GgmlType::F32, 24), (GgmlType::F16, 64), (GgmlType::Q8_0, 32)] {
            let (k, v) = (rng.blocks(ty, MOST * head_dim), rng.blocks(ty, MOST * head_dim));
            let matrix = |bytes, n| Matrix::new(ty, bytes, MOST, head_dim).unwrap().slice_rows(0..n);
            let attention = |n| Attention::new(ops, matrix(&k, n), matrix(&v, n), 0.01);
            let lines = &mut lines(MOST, head_dim, ty);
            for (tokens, heads) in [(1, 1), (1, 13), (2, 7), (5, 3), (4, 4), (30, 1)] {
                for n in [tokens, 40, POSITIONS, POSITIONS + 2, MOST] {
                    let width = heads * head_dim;
                    let q = rng.f32s(tokens * width);
                    let together = attend(&attention(n), &q, tokens, lines);
                    for (i, (q, together)) in q.chunks(head_dim).zip(together.chunks(head_dim)).enumerate() {
                        let seen = n + 1 + i / heads - tokens;
                        let alone = attend(&attention(seen), q, 1, lines);
                        assert_eq!(bits(together), bits(&alone), "{ops:?} {ty:?} {tokens} {heads} {n} {i}");
                    }
                    let (q, want) = (&q[(tokens - 1) * width..], &together[(tokens - 1) * width..]);
                    if heads > QUERIES {
                        continue;
                    }
                    let in_blocks = attend_in_blocks(&attention(n), q, n.div_ceil(POSITIONS), heads, lines);
                    assert_eq!(bits(&in_blocks), bits(want), "{ops:?} {ty:?} {heads} {n}");
                }
            }
        }
    }
}

/// What the heads of one token get, the last block first where that is allowed.
fn attend_in_blocks(
    attention: &Attention<'_>,
    q: &[f32],
    n_blocks: usize,
    heads: usize,
    lines: &mut [Line],
) -> Vec<f32> {
    let (width, workspace) = (attention.columns(n_blocks).start, &mut Workspace::new(lines));
    let mut cells = vec![f32::NAN; heads * width];
    for block in (0..n_blocks).rev() {
        let cells = TileMut::new(&mut cells, width).slice(0..heads, attention.columns(block));
        attention.weigh(cells, q, block, workspace);
    }
    cells.chunks_mut(width).for_each(|cells| attention.fold(cells));
    for block in (0..if attention.is_rounded() { n_blocks } else { 0 }).rev() {
        let cells = TileMut::new(&mut cells, width).slice(0..heads, attention.columns(block));
        attention.round(cells, block, workspace);
    }
    let mut dst = vec![f32::NAN; q.len()];
    for (dst, cells) in dst.chunks_mut(q.len() / heads).zip(cells.chunks_mut(width)) {
        attention.gather(dst, cells);
    }
    dst
}

/// Weights at every address: nothing may depend on alignment.
#[test]
fn alignment_does_not_matter() {
    let lines = &mut [Line::ZERO; Workspace::LINES];
    let mut rng = Rng(10);
    for ops in all() {
        for ty in TYPES {
            let (n, k) = (5, 96);
            let bytes = rng.blocks(ty, n * k / ty.block_values());
            let x = rng.f32s(k);
            let q8 = if k % QK == 0 { activations(ops, &x, k) } else { Vec::new() };
            let mut run = |bytes: &[u8]| {
                let mut dst = vec![0.0; n];
                let w = Matrix::new(ty, bytes, n, k).unwrap();
                ops.gemm(
                    &mut TileMut::new(&mut dst, n),
                    &Activations { rows: 1, f32: &x, q8: &q8 },
                    w,
                    &mut Workspace::new(lines),
                );
                dst
            };
            let want = run(&bytes);
            for offset in 1..16 {
                let moved: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
                assert_eq!(run(&moved[offset..]), want, "{ops:?} {ty:?} +{offset}");
            }
        }
    }
}

/// What is no number does not vanish on the way through a quantized product, an activation or a cache.
#[test]
fn non_finite_values_spread() {
    for ops in all() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [0.25f32; 64];
            x[37] = bad;
            let q = quantized(ops, &x);
            let weights = [BlockQ4_0 { d: F16::new(1.0), qs: [0x19; 16] }; 2];
            assert!(!ops.dot_q8_0_q4_0(&q, &weights).is_finite(), "{ops:?} {bad}");
            assert!(!ops.dot_f32(&x, &[0.0; 64]).is_finite(), "{ops:?} {bad}");
            let mut half = [F16::default(); 64];
            ops.f16_from_f32(&mut half, &x);
            assert!(!ops.dot_f32_f16(&[1.0; 64], &half).is_finite(), "{ops:?} {bad}");
            let values = Matrix::F16(Rows::from_blocks(&half, 64).unwrap());
            let attention = Attention::new(ops, values, values, 1.0);
            let y = attend(&attention, &[0.1; 64], 1, &mut lines(1, 64, GgmlType::F16));
            assert!(!y[37].is_finite(), "{ops:?} {bad}");
        }
        let weights = [BlockQ8_0 { d: F16::from_bits(0x7e00), qs: [0; 32] }];
        assert!(ops.dot_q8_0_q8_0(&quantized(ops, &[0.0; 32]), &weights).is_nan(), "{ops:?}");
    }
}
