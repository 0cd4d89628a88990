//! The portable back-end: every operation in plain Rust, eight lanes wide so that the compiler vectorises it.

use crate::block::{Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, QK};
use crate::floats::Floats;
use crate::lanes::{Lanes, lane_ops, nibbles};
use crate::product::{Micro, product, shortest};
use crate::quantize;
use crate::table::{Backend, OpTable};

/// Rows of activations that share one unpacking of a weight block.
const MR: usize = 4;

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::Scalar,
    needs: crate::cpu::Feature::empty(),
    quantize_q8_0: quantize::q8_0,
    f32: product!(Floats<Wide, F32, 8>, 1, 1, 1),
    f16: product!(Floats<Wide, F16, 8>, 1, 1, 1),
    bf16: product!(Floats<Wide, Bf16, 8>, 1, 1, 1),
    q8_0: product!(Q8_0, MR, 1, 1),
    q4_0: product!(Q4_0, MR, 1, 1),
    q4_1: product!(Q4_1, MR, 1, 1),
    lanes: LANE_OPS,
};

lane_ops!(Wide, 8);

/// The integer part of a product of two blocks.
fn dot_i8(lhs: &[i8; QK], rhs: &[i8; QK]) -> i32 {
    lhs.iter().zip(rhs).map(|(x, w)| i32::from(*x) * i32::from(*w)).sum()
}

/// Tiles of Q8_0 activations with weights of a block type: `acc += block(w, x)` in the order of the blocks.
fn tile<R: Copy, U, const M: usize, const N: usize>(
    lhs: [&[BlockQ8_0]; M],
    rhs: [&[R]; N],
    unpack: impl Fn(&R) -> U,
    block: impl Fn(f32, &BlockQ8_0, &U) -> f32,
) -> [[f32; N]; M] {
    let mut acc = [[0.0; N]; M];
    for b in 0..shortest(&lhs, &rhs) {
        for (j, w) in rhs.iter().enumerate() {
            let Some(w) = w.get(b).map(&unpack) else { continue };
            for (acc, x) in acc.iter_mut().zip(lhs) {
                if let (Some(acc), Some(x)) = (acc.get_mut(j), x.get(b)) {
                    *acc = block(*acc, x, &w);
                }
            }
        }
    }
    acc
}

struct Q8_0;

impl Micro for Q8_0 {
    type Lhs = BlockQ8_0;
    type Rhs = BlockQ8_0;

    fn tile<const M: usize, const N: usize>(lhs: [&[BlockQ8_0]; M], rhs: [&[BlockQ8_0]; N]) -> [[f32; N]; M] {
        tile(
            lhs,
            rhs,
            |w| (w.d.to_f32(), w.qs),
            |acc, x, (d, w)| acc + dot_i8(&x.qs, w) as f32 * (x.d.to_f32() * d),
        )
    }
}

struct Q4_0;

impl Micro for Q4_0 {
    type Lhs = BlockQ8_0;
    type Rhs = BlockQ4_0;

    fn tile<const M: usize, const N: usize>(lhs: [&[BlockQ8_0]; M], rhs: [&[BlockQ4_0]; N]) -> [[f32; N]; M] {
        tile(
            lhs,
            rhs,
            |w| (w.d.to_f32(), nibbles(&w.qs).map(|q| q - 8)),
            |acc, x, (d, w)| acc + dot_i8(&x.qs, w) as f32 * (x.d.to_f32() * d),
        )
    }
}

struct Q4_1;

impl Micro for Q4_1 {
    type Lhs = BlockQ8_0;
    type Rhs = BlockQ4_1;

    fn tile<const M: usize, const N: usize>(lhs: [&[BlockQ8_0]; M], rhs: [&[BlockQ4_1]; N]) -> [[f32; N]; M] {
        tile(
            lhs,
            rhs,
            |w| (w.d.to_f32(), w.m.to_f32(), nibbles(&w.qs)),
            |acc, x, (d, m, w)| {
                let dx = x.d.to_f32();
                let sum: i32 = x.qs.iter().map(|x| i32::from(*x)).sum();
                acc + dot_i8(&x.qs, w) as f32 * (dx * d) + sum as f32 * (dx * m)
            },
        )
    }
}

/// Eight f32 in an array.
#[derive(Clone, Copy)]
struct Wide([f32; 8]);

impl Wide {
    #[inline(always)]
    fn zip_with(self, x: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut to = self.0;
        to.iter_mut().zip(x.0).for_each(|(to, x)| *to = f(*to, x));
        Self(to)
    }

    /// Folds halves onto each other: the order a SIMD register is folded in.
    #[inline(always)]
    fn fold(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let [a, b, c, d, e, g, h, i] = self.0;
        f(f(f(a, e), f(c, h)), f(f(b, g), f(d, i)))
    }
}

impl Lanes<8> for Wide {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    fn load(x: &[f32; 8]) -> Self {
        Self(*x)
    }
    #[inline(always)]
    fn load_f32(x: &[F32; 8]) -> Self {
        Self(x.map(F32::to_f32))
    }
    #[inline(always)]
    fn load_f16(x: &[F16; 8]) -> Self {
        Self(x.map(F16::to_f32))
    }
    #[inline(always)]
    fn load_bf16(x: &[Bf16; 8]) -> Self {
        Self(x.map(Bf16::to_f32))
    }
    #[inline(always)]
    fn load_i8(x: &[i8; 8]) -> Self {
        Self(x.map(f32::from))
    }
    #[inline(always)]
    fn widen_f16(x: F16) -> f32 {
        x.to_f32()
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; 8]) {
        *to = self.0;
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [F16; 8]) {
        *to = self.0.map(F16::new);
    }
    #[inline(always)]
    fn add(self, x: Self) -> Self {
        self.zip_with(x, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, x: Self) -> Self {
        self.zip_with(x, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, x: Self) -> Self {
        self.zip_with(x, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, x: Self) -> Self {
        self.zip_with(x, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, x: Self) -> Self {
        self.zip_with(x, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn mul_add(self, x: Self, y: Self) -> Self {
        self.mul(x).add(y)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        Self(self.0.map(libm::expf))
    }
    #[inline(always)]
    fn unzip(self, x: Self) -> (Self, Self) {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (self.0, x.0);
        (Self([a, c, e, g, i, k, m, o]), Self([b, d, f, h, j, l, n, p]))
    }
    #[inline(always)]
    fn zip(self, x: Self) -> (Self, Self) {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (self.0, x.0);
        (Self([a, i, b, j, c, k, d, l]), Self([e, m, f, n, g, o, h, p]))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        self.fold(|a, b| a + b)
    }
    #[inline(always)]
    fn max_across(self) -> f32 {
        self.fold(|a, b| if a > b { a } else { b })
    }
}
