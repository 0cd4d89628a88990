//! AVX-512 F, BW, DQ, VL and VNNI: sixteen f32 lanes.

use core::arch::x86_64::*;

use super::avx2;
use crate::block::{Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32};
use crate::cpu::Feature;
use crate::exp::{self, Exponent};
use crate::floats::Floats;
use crate::lanes::{Lanes, Value, lane_ops};
use crate::product::product;
use crate::table::{Backend, OpTable};

pub(super) mod panels;

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::Avx512Vnni,
    needs: avx2::TABLE.needs.union(Feature::AVX512).union(Feature::AVX512_VNNI),
    f32: product!(Floats<F32x16, F32, 16>, 4, 2, 4, target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")),
    f16: product!(Floats<F32x16, F16, 16>, 4, 2, 4, target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")),
    bf16: product!(Floats<F32x16, Bf16, 16>, 4, 2, 4, target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")),
    q8_0: panels::Q8_0,
    q4_0: panels::Q4_0,
    q4_1: panels::Q4_1,
    lanes: LANE_OPS,
    ..avx2::TABLE
};

lane_ops!(F32x16, 16, target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"));

/// A ZMM register of f32. Named only by functions of this file that enable AVX-512 and what is below it.
#[derive(Clone, Copy)]
struct F32x16(__m512);

/// Runs intrinsics inside a method of [`F32x16`].
macro_rules! avx512 {
    ($body:expr) => {
        // SAFETY: AVX-512 is enabled in every function that names this type; pointers come from arrays that are as long as
        // what is loaded or stored, and the loads and stores are unaligned ones.
        unsafe { $body }
    };
}

impl Lanes<16> for F32x16 {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        avx512!(Self(_mm512_set1_ps(x)))
    }
    #[inline(always)]
    fn load(x: &[f32; 16]) -> Self {
        avx512!(Self(_mm512_loadu_ps(x.as_ptr())))
    }
    #[inline(always)]
    fn load_f32(x: &[F32; 16]) -> Self {
        avx512!(Self(_mm512_loadu_ps(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_f16(x: &[F16; 16]) -> Self {
        avx512!(Self(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn load_bf16(x: &[Bf16; 16]) -> Self {
        avx512!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        })
    }
    #[inline(always)]
    fn load_i8(x: &[i8; 16]) -> Self {
        avx512!(Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast())))))
    }
    /// By a masked load: around the calls of a copy every register of a tile would lie on the stack.
    #[inline(always)]
    fn load_padded<V: Value>(x: &[V]) -> Self {
        const { assert!(matches!(size_of::<V>(), 1 | 2 | 4)) };
        let mut padded = [V::ZERO; 16];
        let (from, to) = (x.as_ptr(), padded.as_mut_ptr());
        let mask = ((1u32 << x.len().min(16)) - 1) as u16;
        // SAFETY: AVX-512 is enabled in every function that names this type; as many values as there are, and sixteen at
        // most, are read, and sixteen written.
        unsafe {
            match size_of::<V>() {
                1 => _mm_storeu_si128(to.cast(), _mm_maskz_loadu_epi8(mask, from.cast())),
                2 => _mm256_storeu_si256(to.cast(), _mm256_maskz_loadu_epi16(mask, from.cast())),
                _ => _mm512_storeu_si512(to.cast(), _mm512_maskz_loadu_epi32(mask, from.cast())),
            }
        }
        V::load(&padded)
    }
    #[inline(always)]
    fn widen_f16(x: F16) -> f32 {
        avx512!(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(x.to_bits())))))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        avx512!(_mm512_storeu_ps(to.as_mut_ptr(), self.0));
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [F16; 16]) {
        avx512!({
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), halves);
        });
    }
    #[inline(always)]
    fn add(self, x: Self) -> Self {
        avx512!(Self(_mm512_add_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn sub(self, x: Self) -> Self {
        avx512!(Self(_mm512_sub_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn mul(self, x: Self) -> Self {
        avx512!(Self(_mm512_mul_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn div(self, x: Self) -> Self {
        avx512!(Self(_mm512_div_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn max(self, x: Self) -> Self {
        avx512!(Self(_mm512_max_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn mul_add(self, x: Self, y: Self) -> Self {
        avx512!(Self(_mm512_fmadd_ps(self.0, x.0, y.0)))
    }
    #[inline(always)]
    fn exp(self) -> Self {
        avx512!(exp(self))
    }
    #[inline(always)]
    fn unzip(self, x: Self) -> (Self, Self) {
        avx512!({
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            (Self(_mm512_permutex2var_ps(self.0, even, x.0)), Self(_mm512_permutex2var_ps(self.0, odd, x.0)))
        })
    }
    #[inline(always)]
    fn zip(self, x: Self) -> (Self, Self) {
        avx512!({
            let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
            (
                Self(_mm512_permutex2var_ps(self.0, first, x.0)),
                Self(_mm512_permutex2var_ps(self.0, second, x.0)),
            )
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        avx512!(_mm512_reduce_add_ps(self.0))
    }
    #[inline(always)]
    fn sums<const R: usize, const C: usize>(mut x: [[Self; C]; R], y: [[Self; C]; R]) -> [[f32; C]; R] {
        for (x, y) in x.as_flattened_mut().iter_mut().zip(y.as_flattened()) {
            *x = x.add(*y);
        }
        let mut sums = [[0.0; C]; R];
        let (eights, rest) = sums.as_flattened_mut().as_chunks_mut::<8>();
        let (x_eights, x_rest) = x.as_flattened().as_chunks::<8>();
        eights.iter_mut().zip(x_eights).for_each(|(sums, x)| *sums = avx512!(sum_eight(x)));
        rest.iter_mut().zip(x_rest).for_each(|(sum, x)| *sum = x.sum());
        sums
    }
    #[inline(always)]
    fn max_across(self) -> f32 {
        avx512!({
            let eight = _mm256_max_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }
}

impl Exponent<16> for F32x16 {
    #[inline(always)]
    fn min(self, x: Self) -> Self {
        avx512!(Self(_mm512_min_ps(self.0, x.0)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        avx512!(Self(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn exp2_integer(self) -> Self {
        avx512!({
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
        })
    }
}

/// The sums of eight registers, each added up in the order of [`Lanes::sum`]: lanes `i` and `i + 8`, then `i` and `i + 4`,
/// `i + 2`, `i + 1`, of several registers at a time.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sum_eight(x: &[F32x16; 8]) -> [f32; 8] {
    // Quarters 0 1 or 2 3 of both; then quarters 0 2 or 1 3.
    let halves = |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
    let quarters =
        |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
    let [a, b, c, d, e, f, g, h] = x.map(|x| x.0);
    let (even, odd) = (
        _mm512_castps_pd(quarters(halves(a, c), halves(e, g))), // four lanes of a, c, e, g
        _mm512_castps_pd(quarters(halves(b, d), halves(f, h))),
    );
    let two = _mm512_add_ps(
        _mm512_castpd_ps(_mm512_unpacklo_pd(even, odd)), // two lanes of a, b, c, d, ...
        _mm512_castpd_ps(_mm512_unpackhi_pd(even, odd)),
    );
    let one = _mm512_add_ps(two, _mm512_movehdup_ps(two)); // in every second lane
    let every_second = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    let sums = _mm512_castps512_ps256(_mm512_permutexvar_ps(every_second, one));
    let mut to = [0.0; 8];
    // SAFETY: eight values; the store is unaligned.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), sums) };
    to
}

/// Has its CPU features by itself: in a closure of `lanes` it would be too long to be inlined, and slow.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn exp(x: F32x16) -> F32x16 {
    exp::exp(x)
}
