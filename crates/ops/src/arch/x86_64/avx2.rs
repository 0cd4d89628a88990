//! AVX2, FMA and F16C: eight f32 lanes.

use core::arch::x86_64::*;

use crate::block::{Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32};
use crate::cpu::Feature;
use crate::exp::{self, Exponent};
use crate::floats::Floats;
use crate::lanes::{Lanes, lane_ops};
use crate::product::product;
use crate::table::{Backend, OpTable};

pub(super) mod panels;
pub(super) mod quantize;

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::Avx2,
    needs: Feature::AVX2.union(Feature::FMA).union(Feature::F16C),
    quantize_q8_0: quantize::q8_0,
    quantize_q8: quantize::q8,
    tiles: None,
    f32: product!(Floats<F32x8, F32, 8>, 3, 2, 4, target_feature(enable = "avx2,fma,f16c")),
    f16: product!(Floats<F32x8, F16, 8>, 3, 2, 4, target_feature(enable = "avx2,fma,f16c")),
    bf16: product!(Floats<F32x8, Bf16, 8>, 3, 2, 4, target_feature(enable = "avx2,fma,f16c")),
    q8_0: panels::Q8_0,
    q4_0: panels::Q4_0,
    q4_1: panels::Q4_1,
    lanes: LANE_OPS,
};

lane_ops!(F32x8, 8, target_feature(enable = "avx2,fma,f16c"));

/// A YMM register of f32. Named only by functions of this file that enable AVX2, FMA and F16C.
#[derive(Clone, Copy)]
struct F32x8(__m256);

/// Runs intrinsics inside a method of [`F32x8`] or a tile.
macro_rules! avx2 {
    ($body:expr) => {
        // SAFETY: AVX2, FMA and F16C are enabled in every function that names these types; pointers come from arrays
        // that are as long as what is loaded or stored, and the loads and stores are unaligned ones.
        unsafe { $body }
    };
}

impl Lanes<8> for F32x8 {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        avx2!(Self(_mm256_set1_ps(x)))
    }
    #[inline(always)]
    fn load(x: &[f32; 8]) -> Self {
        avx2!(Self(_mm256_loadu_ps(x.as_ptr())))
    }
    #[inline(always)]
    fn load_f32(x: &[F32; 8]) -> Self {
        avx2!(Self(_mm256_loadu_ps(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_f16(x: &[F16; 8]) -> Self {
        avx2!(Self(_mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn load_bf16(x: &[Bf16; 8]) -> Self {
        avx2!({
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)))
        })
    }
    #[inline(always)]
    fn load_i8(x: &[i8; 8]) -> Self {
        avx2!(Self(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(x.as_ptr().cast())))))
    }
    #[inline(always)]
    fn widen_f16(x: F16) -> f32 {
        avx2!(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(x.to_bits())))))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; 8]) {
        avx2!(_mm256_storeu_ps(to.as_mut_ptr(), self.0));
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [F16; 8]) {
        avx2!({
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm_storeu_si128(to.as_mut_ptr().cast(), halves);
        });
    }
    #[inline(always)]
    fn add(self, x: Self) -> Self {
        avx2!(Self(_mm256_add_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn sub(self, x: Self) -> Self {
        avx2!(Self(_mm256_sub_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn mul(self, x: Self) -> Self {
        avx2!(Self(_mm256_mul_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn div(self, x: Self) -> Self {
        avx2!(Self(_mm256_div_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn max(self, x: Self) -> Self {
        avx2!(Self(_mm256_max_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn mul_add(self, x: Self, y: Self) -> Self {
        avx2!(Self(_mm256_fmadd_ps(self.0, x.0, y.0)))
    }
    #[inline(always)]
    fn exp(self) -> Self {
        avx2!(exp(self))
    }
    #[inline(always)]
    fn unzip(self, x: Self) -> (Self, Self) {
        avx2!({
            let even = _mm256_shuffle_ps::<0b10_00_10_00>(self.0, x.0);
            let odd = _mm256_shuffle_ps::<0b11_01_11_01>(self.0, x.0);
            let in_order = |x| _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(x)));
            (Self(in_order(even)), Self(in_order(odd)))
        })
    }
    #[inline(always)]
    fn zip(self, x: Self) -> (Self, Self) {
        avx2!({
            let (low, high) = (_mm256_unpacklo_ps(self.0, x.0), _mm256_unpackhi_ps(self.0, x.0));
            let first = _mm256_permute2f128_ps::<0x20>(low, high);
            (Self(first), Self(_mm256_permute2f128_ps::<0x31>(low, high)))
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        avx2!({
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }
    #[inline(always)]
    fn max_across(self) -> f32 {
        avx2!({
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }
}

impl Exponent<8> for F32x8 {
    #[inline(always)]
    fn min(self, x: Self) -> Self {
        avx2!(Self(_mm256_min_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        avx2!(Self(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn exp2_integer(self) -> Self {
        avx2!({
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        })
    }
}

/// Has its CPU features by itself: in a closure of `lanes` it would be too long to be inlined, and slow.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn exp(x: F32x8) -> F32x8 {
    exp::exp(x)
}
