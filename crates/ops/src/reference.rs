//! What every operation means, in f64: the oracle of the tests, here and in the cases. Slow, plain, and never called by
//! the library itself.
//!
//! Functions that tests compare within a bound give it too: the result and the sum of the magnitudes that were added,
//! of which rounding errors are a fraction. Transcendental functions are `libm`'s f64 ones, right to an ulp or two.

use crate::block::{Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, QK};

/// A row of any type, value by value.
pub trait Decode {
    /// Values in the row.
    fn n_values(&self) -> usize;
    /// Value `i`; 0 behind the end.
    fn value(&self, i: usize) -> f64;
}

macro_rules! decode {
    ($ty:ty, $block_values:expr, |$row:ident, $i:ident| $value:expr) => {
        impl Decode for [$ty] {
            fn n_values(&self) -> usize {
                self.len() * $block_values
            }
            fn value(&self, $i: usize) -> f64 {
                let $row = self;
                $value.map_or(0.0, f64::from)
            }
        }
    };
}
decode!(f32, 1, |row, i| row.get(i).copied());
decode!(F32, 1, |row, i| row.get(i).map(|x| x.to_f32()));
decode!(F16, 1, |row, i| row.get(i).map(|x| x.to_f32()));
decode!(Bf16, 1, |row, i| row.get(i).map(|x| x.to_f32()));
decode!(BlockQ4_0, QK, |row, i| row
    .get(i / QK)
    .map(|b| { f64::from(b.d.to_f32()) * (f64::from(nibble(&b.qs, i % QK)) - 8.0) }));
decode!(BlockQ4_1, QK, |row, i| row
    .get(i / QK)
    .map(|b| { f64::from(b.d.to_f32()) * f64::from(nibble(&b.qs, i % QK)) + f64::from(b.m.to_f32()) }));
decode!(BlockQ8_0, QK, |row, i| row
    .get(i / QK)
    .map(|b| { f64::from(b.d.to_f32()) * b.qs.get(i % QK).map_or(0.0, |q| f64::from(*q)) }));

/// Value `i` of a block of nibbles: byte `i` low for the first sixteen, byte `i - 16` high for the rest.
fn nibble(qs: &[u8; QK / 2], i: usize) -> u8 {
    match i.checked_sub(QK / 2) {
        None => qs.get(i).map_or(0, |q| q & 15),
        Some(i) => qs.get(i).map_or(0, |q| q >> 4),
    }
}

/// `lhs . rhs`, and the sum of `|lhs[i] * rhs[i]|`.
pub fn dot<L: Decode + ?Sized, R: Decode + ?Sized>(lhs: &L, rhs: &R) -> (f64, f64) {
    let products = (0..lhs.n_values().min(rhs.n_values())).map(|i| lhs.value(i) * rhs.value(i));
    products.fold((0.0, 0.0), |(sum, magnitude), x| (sum + x, magnitude + x.abs()))
}

/// The integer part of the product of two Q8_0 blocks.
pub fn dot_quants_q8_0(lhs: &BlockQ8_0, rhs: &BlockQ8_0) -> i32 {
    lhs.qs.iter().zip(&rhs.qs).map(|(x, w)| i32::from(*x) * i32::from(*w)).sum()
}

/// The integer part of the product of a Q8_0 with a Q4_0 block.
pub fn dot_quants_q4_0(lhs: &BlockQ8_0, rhs: &BlockQ4_0) -> i32 {
    lhs.qs.iter().enumerate().map(|(i, x)| i32::from(*x) * (i32::from(nibble(&rhs.qs, i)) - 8)).sum()
}

/// `dst[i] = row[i]`.
pub fn dequantize<R: Decode + ?Sized>(dst: &mut [f64], row: &R) {
    dst.iter_mut().enumerate().for_each(|(i, x)| *x = row.value(i));
}

/// `dst[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]`
pub fn rms_norm(dst: &mut [f64], x: &[f32], weight: &[F32], eps: f32) {
    let squares: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let scale = 1.0 / libm::sqrt(squares / x.len() as f64 + f64::from(eps));
    for ((dst, x), w) in dst.iter_mut().zip(x).zip(weight) {
        *dst = f64::from(*x) * scale * f64::from(w.to_f32());
    }
}

/// `dst[i] = (x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i]`
pub fn layer_norm(dst: &mut [f64], x: &[f32], weight: &[F32], bias: &[F32], eps: f32) {
    let n = x.len() as f64;
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let variance = x.iter().map(|x| (f64::from(*x) - mean) * (f64::from(*x) - mean)).sum::<f64>() / n;
    let scale = 1.0 / libm::sqrt(variance + f64::from(eps));
    for (((dst, x), w), b) in dst.iter_mut().zip(x).zip(weight).zip(bias) {
        *dst = (f64::from(*x) - mean) * scale * f64::from(w.to_f32()) + f64::from(b.to_f32());
    }
}

/// `dst[i] = e^(x[i] - max) / sum`
pub fn softmax(dst: &mut [f64], x: &[f64]) {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    dst.iter_mut().zip(x).for_each(|(dst, x)| *dst = libm::exp(x - max));
    let sum: f64 = dst.iter().sum();
    dst.iter_mut().for_each(|x| *x /= sum);
}

/// `x / (1 + e^-x)`
pub fn silu(x: f64) -> f64 {
    x / (1.0 + libm::exp(-x))
}

/// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`
pub fn gelu(x: f64) -> f64 {
    let z = libm::sqrt(core::f64::consts::FRAC_2_PI) * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + libm::tanh(z))
}

/// The pair `(a, b)` at pair index `i` of `n_pairs`, turned by `pos * base^(-i / n_pairs)`.
pub fn rope_pair((a, b): (f64, f64), pos: u32, base: f64, i: usize, n_pairs: usize) -> (f64, f64) {
    let angle = f64::from(pos) * libm::pow(base, -(i as f64) / n_pairs as f64);
    let (sin, cos) = libm::sincos(angle);
    (a * cos - b * sin, a * sin + b * cos)
}

/// `sum over j of softmax(q . keys[j] * scale)_j * values[j][d]`; `scores` is scratch, one per position.
pub fn attend<'r, K: Decode + ?Sized + 'r, V: Decode + ?Sized + 'r>(
    dst: &mut [f64],
    q: &[f32],
    keys: impl Iterator<Item = &'r K>,
    values: impl Iterator<Item = &'r V>,
    scale: f32,
    scores: &mut [f64],
) {
    scores.iter_mut().zip(keys).for_each(|(s, k)| *s = dot(q, k).0 * f64::from(scale));
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores.iter_mut().for_each(|s| *s = libm::exp(*s - max));
    let sum: f64 = scores.iter().sum();
    dst.fill(0.0);
    for (p, v) in scores.iter().zip(values) {
        dst.iter_mut().enumerate().for_each(|(i, x)| *x += p / sum * v.value(i));
    }
}
