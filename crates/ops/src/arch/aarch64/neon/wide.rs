//! Sixteen f32 lanes in four registers, for the row operations: twice as many values share what a loop does beside its
//! arithmetic, and one instruction loads four registers.

use core::arch::aarch64::*;

use super::{F32x8, load16, load32, load64, neon, store32, store64};
use crate::block::{Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, QK};
use crate::exp::{self, Exponent};
use crate::lanes::{LaneOps, Lanes, lane_ops};

/// Everything but the dot product, which float weights share, and what `cache.rs` does.
pub(super) const OPS: LaneOps =
    LaneOps { dot_f32: super::LANE_OPS.dot_f32, accumulate_f16: super::cache::accumulate, ..LANE_OPS };

lane_ops!(F32x16, 16, target_feature(enable = "neon"));

/// Four registers of four f32.
#[derive(Clone, Copy)]
struct F32x16(F32x8, F32x8);

impl F32x16 {
    #[inline(always)]
    fn zip_with(self, x: Self, f: impl Fn(F32x8, F32x8) -> F32x8) -> Self {
        Self(f(self.0, x.0), f(self.1, x.1))
    }

    /// Loads 64 bytes.
    #[inline(always)]
    fn load64(bytes: &[u8; 64]) -> Self {
        let [a, b, c, d] = load64(bytes).map(|x| neon!(vreinterpretq_f32_u8(x)));
        Self(F32x8(a, b), F32x8(c, d))
    }
}

/// Whether no magnitude is above `largest` and nothing is NaN: FMAX gives a NaN for a NaN.
#[inline(always)]
pub(crate) fn all_within(x: &[f32], largest: f32) -> bool {
    let magnitudes = |x: F32x16| {
        let abs = |F32x8(a, b)| neon!(F32x8(vabsq_f32(a), vabsq_f32(b)));
        F32x16(abs(x.0), abs(x.1))
    };
    let (chunks, rest) = x.as_chunks();
    let max = chunks.iter().fold(F32x16::splat(0.0), |max, x| max.max(magnitudes(F32x16::load(x))));
    rest.iter().fold(max.max_across() <= largest, |all, x| all & (x.abs() <= largest))
}

impl Lanes<16> for F32x16 {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self(F32x8::splat(x), F32x8::splat(x))
    }
    #[inline(always)]
    fn load(x: &[f32; 16]) -> Self {
        Self::load64(neon!(&*x.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_f32(x: &[F32; 16]) -> Self {
        Self::load64(neon!(&*x.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_f16(x: &[F16; 16]) -> Self {
        let [low, high] = load32(neon!(&*x.as_ptr().cast()));
        Self(F32x8::from_f16(low), F32x8::from_f16(high))
    }
    #[inline(always)]
    fn load_bf16(x: &[Bf16; 16]) -> Self {
        let [low, high] = load32(neon!(&*x.as_ptr().cast()));
        Self(F32x8::from_bf16(low), F32x8::from_bf16(high))
    }
    #[inline(always)]
    fn load_i8(x: &[i8; 16]) -> Self {
        neon!({
            let bytes = vreinterpretq_s8_u8(load16(&*x.as_ptr().cast()));
            Self(F32x8::from_i16(vmovl_s8(vget_low_s8(bytes))), F32x8::from_i16(vmovl_high_s8(bytes)))
        })
    }
    #[inline(always)]
    fn widen_f16(x: F16) -> f32 {
        F32x8::widen_f16(x)
    }
    #[inline(always)]
    fn nibbles(qs: &[u8; QK / 2]) -> [i8; QK] {
        F32x8::nibbles(qs)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        let x = [self.0.0, self.0.1, self.1.0, self.1.1];
        store64(neon!(&mut *to.as_mut_ptr().cast()), x.map(|x| neon!(vreinterpretq_u8_f32(x))));
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [F16; 16]) {
        store32(to, [self.0.to_f16(), self.1.to_f16()]);
    }
    #[inline(always)]
    fn add(self, x: Self) -> Self {
        self.zip_with(x, F32x8::add)
    }
    #[inline(always)]
    fn sub(self, x: Self) -> Self {
        self.zip_with(x, F32x8::sub)
    }
    #[inline(always)]
    fn mul(self, x: Self) -> Self {
        self.zip_with(x, F32x8::mul)
    }
    #[inline(always)]
    fn div(self, x: Self) -> Self {
        self.zip_with(x, F32x8::div)
    }
    #[inline(always)]
    fn max(self, x: Self) -> Self {
        self.zip_with(x, F32x8::max)
    }
    #[inline(always)]
    fn mul_add(self, x: Self, y: Self) -> Self {
        Self(self.0.mul_add(x.0, y.0), self.1.mul_add(x.1, y.1))
    }
    #[inline(always)]
    fn exp(self) -> Self {
        neon!(exp(self))
    }
    #[inline(always)]
    fn unzip(self, x: Self) -> (Self, Self) {
        let ((a, b), (c, d)) = (self.0.unzip(self.1), x.0.unzip(x.1));
        (Self(a, c), Self(b, d))
    }
    #[inline(always)]
    fn zip(self, x: Self) -> (Self, Self) {
        let ((a, b), (c, d)) = (self.0.zip(x.0), self.1.zip(x.1));
        (Self(a, b), Self(c, d))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        self.0.add(self.1).sum()
    }
    #[inline(always)]
    fn max_across(self) -> f32 {
        self.0.max(self.1).max_across()
    }
}

impl Exponent<16> for F32x16 {
    #[inline(always)]
    fn min(self, x: Self) -> Self {
        self.zip_with(x, F32x8::min)
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.round(), self.1.round())
    }
    #[inline(always)]
    fn exp2_integer(self) -> Self {
        Self(self.0.exp2_integer(), self.1.exp2_integer())
    }
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        self.zip_with(n, F32x8::scale)
    }
}

/// See [`exp::exp`].
#[inline]
#[target_feature(enable = "neon")]
fn exp(x: F32x16) -> F32x16 {
    exp::exp(x)
}
