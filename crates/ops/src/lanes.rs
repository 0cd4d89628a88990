//! The f32 row operations, written once over [`Lanes`] and instantiated by every back-end inside a function that has
//! its CPU features enabled (see [`lane_ops!`]).
//!
//! A reduction keeps `N` partial results (twice that in the tiles of [`Floats`]) and folds them at the end in a fixed order; a
//! row's tail is padded with zeros. So a result depends on the back-end and the row alone.

use crate::block::{Bf16, Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, QK};
use crate::floats::Floats;
use crate::product;
use crate::view::Rows;

/// `N` f32 side by side in a register.
///
/// The methods are instructions of one CPU feature: types other than the portable one may be named only inside functions
/// that enable it. Everything generic over lanes is `#[inline(always)]` for the same reason.
pub(crate) trait Lanes<const N: usize>: Copy {
    fn splat(x: f32) -> Self;
    fn load(x: &[f32; N]) -> Self;
    fn load_f32(x: &[F32; N]) -> Self;
    fn load_f16(x: &[F16; N]) -> Self;
    fn load_bf16(x: &[Bf16; N]) -> Self;
    fn load_i8(x: &[i8; N]) -> Self;
    /// One half, as the CPU converts it.
    fn widen_f16(x: F16) -> f32;
    /// The nibbles of a block, 0–15, in the order of its values.
    #[inline(always)]
    fn nibbles(qs: &[u8; QK / 2]) -> [i8; QK] {
        nibbles(qs)
    }
    /// Up to `N` values, the rest zeros.
    #[inline(always)]
    fn load_padded<V: Value>(x: &[V]) -> Self {
        let mut padded = [V::ZERO; N];
        padded.iter_mut().zip(x).for_each(|(p, x)| *p = *x);
        V::load(&padded)
    }
    fn store(self, to: &mut [f32; N]);
    fn store_f16(self, to: &mut [F16; N]);
    fn add(self, x: Self) -> Self;
    fn sub(self, x: Self) -> Self;
    fn mul(self, x: Self) -> Self;
    fn div(self, x: Self) -> Self;
    fn max(self, x: Self) -> Self;
    /// `self * x + y`, in one rounding where the CPU can.
    fn mul_add(self, x: Self, y: Self) -> Self;
    /// e to the power of each lane; 0 far below, infinity far above, NaN for NaN.
    fn exp(self) -> Self;
    /// The even and the odd values of the `2 * N` in `self` and `x`.
    fn unzip(self, x: Self) -> (Self, Self);
    /// The inverse of [`unzip`](Self::unzip).
    fn zip(self, x: Self) -> (Self, Self);
    /// The sum of the lanes, in a fixed order.
    fn sum(self) -> f32;
    /// The sums of several, each of two registers, in that order.
    #[inline(always)]
    fn sums<const R: usize, const C: usize>(x: [[Self; C]; R], y: [[Self; C]; R]) -> [[f32; C]; R] {
        let mut sums = [[0.0; C]; R];
        for ((sums, x), y) in sums.iter_mut().zip(x).zip(y) {
            sums.iter_mut().zip(x).zip(y).for_each(|((sum, x), y)| *sum = x.add(y).sum());
        }
        sums
    }
    /// The largest lane.
    fn max_across(self) -> f32;
}

/// What a row of values can be made of; zero is all bytes zero.
pub(crate) trait Value: Copy {
    const ZERO: Self;
    fn load<L: Lanes<N>, const N: usize>(x: &[Self; N]) -> L;
}

macro_rules! value {
    ($ty:ty, $zero:expr, $load:ident) => {
        impl Value for $ty {
            const ZERO: Self = $zero;
            #[inline(always)]
            fn load<L: Lanes<N>, const N: usize>(x: &[Self; N]) -> L {
                L::$load(x)
            }
        }
    };
}
value!(f32, 0.0, load);
value!(F32, F32::new(0.0), load_f32);
value!(F16, F16::from_bits(0), load_f16);
value!(Bf16, Bf16::new(0.0), load_bf16);
value!(i8, 0, load_i8);

/// The table entries that [`lane_ops!`] makes; see the methods of [`Ops`](crate::Ops) of the same names.
#[derive(Clone, Copy)]
#[allow(clippy::type_complexity)]
pub(crate) struct LaneOps {
    pub dot_f32: unsafe fn(&[f32], &[f32]) -> f32,
    pub f32_from_f16: unsafe fn(&mut [f32], &[F16]),
    pub f32_from_bf16: unsafe fn(&mut [f32], &[Bf16]),
    pub f32_from_f32le: unsafe fn(&mut [f32], &[F32]),
    pub f16_from_f32: unsafe fn(&mut [F16], &[f32]),
    pub add: unsafe fn(&mut [f32], &[f32]),
    pub add_f32le: unsafe fn(&mut [f32], &[F32]),
    pub mul: unsafe fn(&mut [f32], &[f32]),
    pub scale: unsafe fn(&mut [f32], f32),
    pub axpy: unsafe fn(&mut [f32], f32, &[f32]),
    pub silu: unsafe fn(&mut [f32]),
    pub gelu: unsafe fn(&mut [f32]),
    pub silu_mul: unsafe fn(&mut [f32], &[f32]),
    pub rms_norm: unsafe fn(&mut [f32], &[f32], &[F32], f32),
    pub layer_norm: unsafe fn(&mut [f32], &[f32], &[F32], &[F32], f32),
    pub softmax: unsafe fn(&mut [f32]),
    pub softmax_chunk: unsafe fn(&mut [f32], f32, f32) -> (f32, f32),
    pub rope_norm: unsafe fn(&mut [f32], &[f32]),
    pub rope_neox: unsafe fn(&mut [f32], &[f32]),
    pub accumulate_f32: unsafe fn(&mut [f32], &[f32], usize, &Rows<'_, F32>),
    pub accumulate_f16: unsafe fn(&mut [f32], &[f32], usize, &Rows<'_, F16>),
    pub accumulate_bf16: unsafe fn(&mut [f32], &[f32], usize, &Rows<'_, Bf16>),
    pub accumulate_q8_0: unsafe fn(&mut [f32], &[f32], usize, &Rows<'_, BlockQ8_0>),
    pub dequantize_q8_0: unsafe fn(&mut [f32], &[BlockQ8_0]),
    pub dequantize_q4_0: unsafe fn(&mut [f32], &[BlockQ4_0]),
    pub dequantize_q4_1: unsafe fn(&mut [f32], &[BlockQ4_1]),
}

/// Defines `LANE_OPS`, every row operation instantiated for one type of lanes with one set of CPU features.
macro_rules! lane_ops {
    ($lanes:ty, $n:literal $(, $feature:meta)?) => {
        lane_ops! { @define $lanes, $n, [$($feature)?],
            dot_f32(lhs: &[f32], rhs: &[f32]) -> f32 = dot_f32;
            f32_from_f16(dst: &mut [f32], src: &[F16]) = widen;
            f32_from_bf16(dst: &mut [f32], src: &[Bf16]) = widen;
            f32_from_f32le(dst: &mut [f32], src: &[F32]) = widen;
            f16_from_f32(dst: &mut [F16], src: &[f32]) = narrow_f16;
            add(dst: &mut [f32], x: &[f32]) = add;
            add_f32le(dst: &mut [f32], x: &[F32]) = add;
            mul(dst: &mut [f32], x: &[f32]) = mul;
            scale(dst: &mut [f32], s: f32) = scale;
            axpy(dst: &mut [f32], a: f32, x: &[f32]) = axpy;
            silu(x: &mut [f32]) = silu;
            gelu(x: &mut [f32]) = gelu;
            silu_mul(gate: &mut [f32], up: &[f32]) = silu_mul;
            rms_norm(dst: &mut [f32], x: &[f32], weight: &[F32], eps: f32) = rms_norm;
            layer_norm(dst: &mut [f32], x: &[f32], weight: &[F32], bias: &[F32], eps: f32) = layer_norm;
            softmax(x: &mut [f32]) = softmax;
            softmax_chunk(x: &mut [f32], scale: f32, floor: f32) -> (f32, f32) = softmax_chunk;
            rope_norm(x: &mut [f32], cos_sin: &[f32]) = rope_norm;
            rope_neox(x: &mut [f32], cos_sin: &[f32]) = rope_neox;
            accumulate_f32(dst: &mut [f32], p: &[f32], stride: usize, rows: &$crate::view::Rows<'_, F32>) = accumulate;
            accumulate_f16(dst: &mut [f32], p: &[f32], stride: usize, rows: &$crate::view::Rows<'_, F16>) = accumulate;
            accumulate_bf16(dst: &mut [f32], p: &[f32], stride: usize, rows: &$crate::view::Rows<'_, Bf16>) = accumulate;
            accumulate_q8_0(dst: &mut [f32], p: &[f32], stride: usize, rows: &$crate::view::Rows<'_, BlockQ8_0>) = accumulate;
            dequantize_q8_0(dst: &mut [f32], src: &[BlockQ8_0]) = dequantize_q8_0;
            dequantize_q4_0(dst: &mut [f32], src: &[BlockQ4_0]) = dequantize_q4_0;
            dequantize_q4_1(dst: &mut [f32], src: &[BlockQ4_1]) = dequantize_q4_1;
        }
    };
    (@define $lanes:ty, $n:literal, $feature:tt,
        $($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $body:ident;)*) => {
        $(lane_ops! { @fn $lanes, $n, $feature, $name($($arg: $ty),*) $(-> $ret)?, $body })*
        pub(crate) const LANE_OPS: $crate::lanes::LaneOps = $crate::lanes::LaneOps { $($name),* };
    };
    (@fn $lanes:ty, $n:literal, [$($feature:meta)?],
        $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?, $body:ident) => {
        $(#[$feature])?
        fn $name($($arg: $ty),*) $(-> $ret)? {
            $crate::lanes::$body::<$lanes, $n>($($arg),*)
        }
    };
}
pub(crate) use lane_ops;

/// `dst[i] = f(dst[i], x[i])`.
#[inline(always)]
fn zip_map<L: Lanes<N>, const N: usize>(dst: &mut [f32], x: &[impl Value], f: impl Fn(L, L) -> L) {
    let ((dst, dst_tail), (x, x_tail)) = (dst.as_chunks_mut::<N>(), x.as_chunks::<N>());
    for (dst, x) in dst.iter_mut().zip(x) {
        f(L::load(dst), Value::load(x)).store(dst);
    }
    if !dst_tail.is_empty() {
        store_front(f(L::load_padded(dst_tail), L::load_padded(x_tail)), dst_tail);
    }
}

/// `x[i] = f(x[i])`.
#[inline(always)]
fn map<L: Lanes<N>, const N: usize>(x: &mut [f32], f: impl Fn(L) -> L) {
    let (x, tail) = x.as_chunks_mut::<N>();
    for x in x {
        f(L::load(x)).store(x);
    }
    if !tail.is_empty() {
        store_front(f(L::load_padded(tail)), tail);
    }
}

/// Folds `x` into one register; the tail comes last, padded with `pad`.
#[inline(always)]
fn fold<L: Lanes<N>, const N: usize>(x: &[f32], pad: f32, start: L, f: impl Fn(L, L) -> L) -> L {
    let (x, tail) = x.as_chunks::<N>();
    let acc = x.iter().fold(start, |acc, x| f(acc, L::load(x)));
    if tail.is_empty() {
        return acc;
    }
    let mut padded = [pad; N];
    padded.iter_mut().zip(tail).for_each(|(p, x)| *p = *x);
    f(acc, L::load(&padded))
}

/// Stores the first lanes, as many as `to` holds.
#[inline(always)]
fn store_front<L: Lanes<N>, const N: usize>(x: L, to: &mut [f32]) {
    let mut all = [0.0; N];
    x.store(&mut all);
    to.iter_mut().zip(all).for_each(|(to, x)| *to = x);
}

#[inline(always)]
pub(crate) fn dot_f32<L: Lanes<N>, const N: usize>(lhs: &[f32], rhs: &[f32]) -> f32 {
    product::dot::<Floats<L, f32, N>>(lhs, rhs)
}

#[inline(always)]
pub(crate) fn widen<L: Lanes<N>, const N: usize>(dst: &mut [f32], src: &[impl Value]) {
    zip_map::<L, N>(dst, src, |_, x| x);
}

#[inline(always)]
pub(crate) fn narrow_f16<L: Lanes<N>, const N: usize>(dst: &mut [F16], src: &[f32]) {
    let ((dst, dst_tail), (src, src_tail)) = (dst.as_chunks_mut::<N>(), src.as_chunks::<N>());
    for (dst, src) in dst.iter_mut().zip(src) {
        L::load(src).store_f16(dst);
    }
    let mut last = [F16::from_bits(0); N];
    L::load_padded(src_tail).store_f16(&mut last);
    dst_tail.iter_mut().zip(last).for_each(|(to, x)| *to = x);
}

#[inline(always)]
pub(crate) fn add<L: Lanes<N>, const N: usize>(dst: &mut [f32], x: &[impl Value]) {
    zip_map::<L, N>(dst, x, L::add);
}

#[inline(always)]
pub(crate) fn mul<L: Lanes<N>, const N: usize>(dst: &mut [f32], x: &[f32]) {
    zip_map::<L, N>(dst, x, L::mul);
}

#[inline(always)]
pub(crate) fn scale<L: Lanes<N>, const N: usize>(dst: &mut [f32], s: f32) {
    let s = L::splat(s);
    map::<L, N>(dst, |x| x.mul(s));
}

#[inline(always)]
pub(crate) fn axpy<L: Lanes<N>, const N: usize>(dst: &mut [f32], a: f32, x: &[f32]) {
    let a = L::splat(a);
    zip_map::<L, N>(dst, x, |dst, x| x.mul_add(a, dst));
}

/// `x / (1 + e^-x)`.
#[inline(always)]
fn silu_lanes<L: Lanes<N>, const N: usize>(x: L) -> L {
    x.div(L::splat(0.0).sub(x).exp().add(L::splat(1.0)))
}

#[inline(always)]
pub(crate) fn silu<L: Lanes<N>, const N: usize>(x: &mut [f32]) {
    map::<L, N>(x, silu_lanes::<L, N>);
}

#[inline(always)]
pub(crate) fn silu_mul<L: Lanes<N>, const N: usize>(gate: &mut [f32], up: &[f32]) {
    zip_map::<L, N>(gate, up, |gate, up| silu_lanes::<L, N>(gate).mul(up));
}

/// `x / (1 + e^(-2 z))` with `z = sqrt(2 / pi) * (x + 0.044715 x^3)`, which is `x / 2 * (1 + tanh z)`.
#[inline(always)]
pub(crate) fn gelu<L: Lanes<N>, const N: usize>(x: &mut [f32]) {
    const LINEAR: f32 = -1.595_769; // -2 sqrt(2 / pi)
    const CUBIC: f32 = LINEAR * 0.044_715;
    let (linear, cubic, one) = (L::splat(LINEAR), L::splat(CUBIC), L::splat(1.0));
    map::<L, N>(x, |x| x.div(x.mul(x).mul_add(cubic, linear).mul(x).exp().add(one)));
}

/// `1 / n`, and 1 for an empty row.
fn inverse_of(n: usize) -> f32 {
    1.0 / n.max(1) as f32
}

#[inline(always)]
pub(crate) fn rms_norm<L: Lanes<N>, const N: usize>(dst: &mut [f32], x: &[f32], weight: &[F32], eps: f32) {
    let squares = fold::<L, N>(x, 0.0, L::splat(0.0), |acc, x| x.mul_add(x, acc)).sum();
    let scale = L::splat(1.0 / libm::sqrtf(squares * inverse_of(x.len()) + eps));
    zip_map::<L, N>(dst, x, |_, x| x.mul(scale));
    zip_map::<L, N>(dst, weight, L::mul);
}

#[inline(always)]
pub(crate) fn layer_norm<L: Lanes<N>, const N: usize>(
    dst: &mut [f32],
    x: &[f32],
    weight: &[F32],
    bias: &[F32],
    eps: f32,
) {
    let mean = fold::<L, N>(x, 0.0, L::splat(0.0), L::add).sum() * inverse_of(x.len());
    let shift = L::splat(mean);
    // The padding is the mean, so that it adds nothing to the variance.
    let squares =
        fold::<L, N>(x, mean, L::splat(0.0), |acc, x| x.sub(shift).mul_add(x.sub(shift), acc)).sum();
    let scale = L::splat(1.0 / libm::sqrtf(squares * inverse_of(x.len()) + eps));
    zip_map::<L, N>(dst, x, |_, x| x.sub(shift).mul(scale));
    zip_map::<L, N>(dst, weight, L::mul);
    zip_map::<L, N>(dst, bias, L::add);
}

#[inline(always)]
pub(crate) fn softmax<L: Lanes<N>, const N: usize>(x: &mut [f32]) {
    let (_, sum) = softmax_chunk::<L, N>(x, 1.0, f32::NEG_INFINITY);
    scale::<L, N>(x, 1.0 / sum);
}

/// `x[i] = e^(x[i] * scale - max)` where `max` is the largest `x[i] * scale` or `floor`; returns `max` and the sum.
#[inline(always)]
pub(crate) fn softmax_chunk<L: Lanes<N>, const N: usize>(
    x: &mut [f32],
    scale: f32,
    floor: f32,
) -> (f32, f32) {
    let scale = L::splat(scale);
    // A value padded with another of the row leaves the largest as it is.
    let pad = x.first().copied().unwrap_or(floor);
    let max = fold::<L, N>(x, pad, L::splat(floor), |acc, x| acc.max(x.mul(scale))).max_across();
    let shift = L::splat(max);
    map::<L, N>(x, |x| x.mul(scale).sub(shift).exp());
    (max, fold::<L, N>(x, 0.0, L::splat(0.0), L::add).sum())
}

/// Turns the pairs `(a, b)` by the angles whose cosines and sines are given.
#[inline(always)]
fn rotate<L: Lanes<N>, const N: usize>(a: L, b: L, cos: L, sin: L) -> (L, L) {
    (a.mul(cos).sub(b.mul(sin)), a.mul(sin).add(b.mul(cos)))
}

#[inline(always)]
pub(crate) fn rope_norm<L: Lanes<N>, const N: usize>(x: &mut [f32], cos_sin: &[f32]) {
    let (cos, sin) = cos_sin.split_at(cos_sin.len() / 2);
    let (pairs, _) = x.as_chunks_mut::<2>();
    let n = pairs.len().min(cos.len());
    let Some(pairs) = pairs.get_mut(..n) else { return };
    let (blocks, tail) = pairs.as_chunks_mut::<N>();
    let ((cos, cos_tail), (sin, sin_tail)) = (cos.as_chunks::<N>(), sin.as_chunks::<N>());
    for ((x, cos), sin) in blocks.iter_mut().zip(cos).zip(sin) {
        let (halves, _) = x.as_flattened_mut().as_chunks_mut::<N>();
        if let [low, high] = halves {
            let (a, b) = L::load(low).unzip(L::load(high));
            let (a, b) = rotate(a, b, L::load(cos), L::load(sin));
            let (new_low, new_high) = a.zip(b);
            new_low.store(low);
            new_high.store(high);
        }
    }
    for (([a, b], cos), sin) in tail.iter_mut().zip(cos_tail).zip(sin_tail) {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    }
}

#[inline(always)]
pub(crate) fn rope_neox<L: Lanes<N>, const N: usize>(x: &mut [f32], cos_sin: &[f32]) {
    let (cos, sin) = cos_sin.split_at(cos_sin.len() / 2);
    let Some((a, rest)) = x.split_at_mut_checked(cos.len()) else { return };
    let Some(b) = rest.get_mut(..cos.len()) else { return };
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks_mut::<N>(), b.as_chunks_mut::<N>());
    let ((cos, cos_tail), (sin, sin_tail)) = (cos.as_chunks::<N>(), sin.as_chunks::<N>());
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        let (new_a, new_b) = rotate(L::load(a), L::load(b), L::load(cos), L::load(sin));
        new_a.store(a);
        new_b.store(b);
    }
    for (((a, b), cos), sin) in a_tail.iter_mut().zip(b_tail).zip(cos_tail).zip(sin_tail) {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    }
}

/// A row of values that attention adds up: registers at any place of it.
pub(crate) trait ValueRow: Block {
    /// Values `c * N..` of a row times `p`'s partner: the register, and what `p` is to be multiplied by.
    fn register<L: Lanes<N>, const N: usize>(row: &[Self], c: usize) -> (L, f32);
    /// The values behind the last whole register, the rest zeros.
    fn rest<L: Lanes<N>, const N: usize>(row: &[Self]) -> L;
}

macro_rules! value_row {
    ($ty:ty) => {
        impl ValueRow for $ty {
            #[inline(always)]
            fn register<L: Lanes<N>, const N: usize>(row: &[Self], c: usize) -> (L, f32) {
                (row.as_chunks::<N>().0.get(c).map_or(L::splat(0.0), |x| Value::load(x)), 1.0)
            }
            #[inline(always)]
            fn rest<L: Lanes<N>, const N: usize>(row: &[Self]) -> L {
                L::load_padded(row.as_chunks::<N>().1)
            }
        }
    };
}
value_row!(F32);
value_row!(F16);
value_row!(Bf16);

impl ValueRow for BlockQ8_0 {
    #[inline(always)]
    fn register<L: Lanes<N>, const N: usize>(row: &[Self], c: usize) -> (L, f32) {
        let (block, part) = (c / (QK / N), c % (QK / N));
        let quants = |block: &Self| block.qs.as_chunks::<N>().0.get(part).map(|x| L::load_i8(x));
        let Some(block) = row.get(block) else { return (L::splat(0.0), 0.0) };
        (quants(block).unwrap_or(L::splat(0.0)), L::widen_f16(block.d))
    }
    #[inline(always)]
    fn rest<L: Lanes<N>, const N: usize>(_: &[Self]) -> L {
        L::splat(0.0)
    }
}

/// `dst[r] += p[r * stride..] . rows` for as many rows of `dst` as there are.
#[inline(always)]
pub(crate) fn accumulate<L: Lanes<N>, const N: usize>(
    dst: &mut [f32],
    p: &[f32],
    stride: usize,
    rows: &Rows<'_, impl ValueRow>,
) {
    let width = rows.cols().max(1);
    let fours = dst.chunks_mut(width.saturating_mul(4)).zip(p.chunks(stride.saturating_mul(4).max(1)));
    for (dst, p) in fours {
        if dst.len() / width >= 4 {
            accumulate_rows::<L, N, 4>(dst, p, stride, *rows);
            continue;
        }
        for (dst, p) in dst.chunks_mut(width).zip(p.chunks(stride.max(1))) {
            accumulate_rows::<L, N, 1>(dst, p, stride, *rows);
        }
    }
}

/// Registers of a row of `dst` that stay in the CPU while the rows pass by.
const STRIP: usize = 2;

/// The same for `M` rows of `dst`, which share what is loaded of `rows`.
#[inline(always)]
fn accumulate_rows<L: Lanes<N>, const N: usize, const M: usize>(
    dst: &mut [f32],
    p: &[f32],
    stride: usize,
    rows: Rows<'_, impl ValueRow>,
) {
    let (width, n) = (rows.cols(), rows.rows());
    let weights: [&[f32]; M] =
        core::array::from_fn(|m| p.get(m * stride..).and_then(|p| p.get(..n)).unwrap_or(&[]));
    if weights.iter().any(|p| p.len() != n) {
        return;
    }
    let n_chunks = width / N;
    let mut c = 0;
    while c < n_chunks {
        // The last strip may be narrower; its second register is then the first again and is not stored.
        let columns: [usize; STRIP] = core::array::from_fn(|s| (c + s).min(n_chunks - 1));
        let mut acc = [[L::splat(0.0); STRIP]; M];
        for (m, acc) in acc.iter_mut().enumerate() {
            for (acc, c) in acc.iter_mut().zip(columns) {
                let at = dst.get(m * width + c * N..).and_then(|x| x.first_chunk());
                *acc = at.map_or(L::splat(0.0), |x| L::load(x));
            }
        }
        for (j, row) in rows.iter().enumerate() {
            let x = columns.map(|c| ValueRow::register::<L, N>(row, c));
            for (acc, p) in acc.iter_mut().zip(weights) {
                let p = p.get(j).copied().unwrap_or(0.0);
                for (acc, (x, d)) in acc.iter_mut().zip(x) {
                    *acc = x.mul_add(L::splat(p * d), *acc);
                }
            }
        }
        for (m, acc) in acc.iter().enumerate() {
            for (acc, c) in acc.iter().zip(columns) {
                let at = dst.get_mut(m * width + c * N..).and_then(|x| x.first_chunk_mut());
                if let Some(at) = at {
                    acc.store(at);
                }
            }
        }
        c += STRIP;
    }
    if width % N != 0 {
        let mut acc = [L::splat(0.0); M];
        for (m, acc) in acc.iter_mut().enumerate() {
            *acc = L::load_padded(dst.get(m * width + n_chunks * N..(m + 1) * width).unwrap_or(&[]));
        }
        for (j, row) in rows.iter().enumerate() {
            let x: L = ValueRow::rest(row);
            for (acc, p) in acc.iter_mut().zip(weights) {
                *acc = x.mul_add(L::splat(p.get(j).copied().unwrap_or(0.0)), *acc);
            }
        }
        for (m, acc) in acc.into_iter().enumerate() {
            store_front(acc, dst.get_mut(m * width + n_chunks * N..(m + 1) * width).unwrap_or(&mut []));
        }
    }
}

#[inline(always)]
pub(crate) fn dequantize_q8_0<L: Lanes<N>, const N: usize>(dst: &mut [f32], src: &[BlockQ8_0]) {
    for (dst, block) in dst.as_chunks_mut::<QK>().0.iter_mut().zip(src) {
        let d = L::splat(L::widen_f16(block.d));
        for (dst, x) in dst.as_chunks_mut::<N>().0.iter_mut().zip(block.qs.as_chunks::<N>().0) {
            L::load_i8(x).mul(d).store(dst);
        }
    }
}

#[inline(always)]
pub(crate) fn dequantize_q4_0<L: Lanes<N>, const N: usize>(dst: &mut [f32], src: &[BlockQ4_0]) {
    for (dst, block) in dst.as_chunks_mut::<QK>().0.iter_mut().zip(src) {
        let d = L::splat(L::widen_f16(block.d));
        let quants = L::nibbles(&block.qs).map(|q| q - 8);
        for (dst, x) in dst.as_chunks_mut::<N>().0.iter_mut().zip(quants.as_chunks::<N>().0) {
            L::load_i8(x).mul(d).store(dst);
        }
    }
}

#[inline(always)]
pub(crate) fn dequantize_q4_1<L: Lanes<N>, const N: usize>(dst: &mut [f32], src: &[BlockQ4_1]) {
    for (dst, block) in dst.as_chunks_mut::<QK>().0.iter_mut().zip(src) {
        let (d, m) = (L::splat(L::widen_f16(block.d)), L::splat(L::widen_f16(block.m)));
        for (dst, x) in dst.as_chunks_mut::<N>().0.iter_mut().zip(L::nibbles(&block.qs).as_chunks::<N>().0) {
            // The product is exact (11 by 4 bits), so one rounding or two are the same.
            L::load_i8(x).mul_add(d, m).store(dst);
        }
    }
}

/// The nibbles of a block, 0–15, in the order of its values.
#[inline(always)]
pub(crate) fn nibbles(qs: &[u8; QK / 2]) -> [i8; QK] {
    let mut all = [0; QK];
    let (low, high) = all.split_at_mut(QK / 2);
    for ((low, high), q) in low.iter_mut().zip(high).zip(qs) {
        (*low, *high) = ((q & 15) as i8, (q >> 4) as i8);
    }
    all
}
