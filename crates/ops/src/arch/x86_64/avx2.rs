//! AVX2, FMA and F16C: eight f32 lanes; integer products in 16-bit pairs, exact for every quant.

use core::arch::x86_64::*;

use crate::arch::exp::{self, Exponent};
use crate::arch::integer_tile::integer_tile;
use crate::block::{Bf16, Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, QK};
use crate::cpu::Feature;
use crate::floats::Floats;
use crate::lanes::{Lanes, lane_ops};
use crate::product::product;
use crate::quantize;
use crate::table::{Backend, OpTable};

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::Avx2,
    needs: Feature::AVX2.union(Feature::FMA).union(Feature::F16C),
    quantize_q8_0,
    f32: product!(Floats<F32x8, F32, 8>, 3, 2, 4, target_feature(enable = "avx2,fma,f16c")),
    f16: product!(Floats<F32x8, F16, 8>, 3, 2, 4, target_feature(enable = "avx2,fma,f16c")),
    bf16: product!(Floats<F32x8, Bf16, 8>, 3, 2, 4, target_feature(enable = "avx2,fma,f16c")),
    q8_0: product!(Q8_0, 4, 2, 4, target_feature(enable = "avx2,fma,f16c")),
    q4_0: product!(Q4_0, 4, 2, 4, target_feature(enable = "avx2,fma,f16c")),
    q4_1: product!(Q4_1, 4, 2, 4, target_feature(enable = "avx2,fma,f16c")),
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

/// Rounds halves away from zero like `quantize::q8_0`: adds the f32 below 1/2 with the value's sign, then truncates.
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize_q8_0(dst: &mut [BlockQ8_0], src: &[f32]) {
    let sign = _mm256_set1_ps(-0.0);
    let below_half = _mm256_set1_ps(0.5f32.next_down());
    for (block, values) in dst.iter_mut().zip(src.as_chunks::<QK>().0) {
        let (quarters, _) = values.as_chunks::<8>();
        let mut x = [_mm256_setzero_ps(); 4];
        x.iter_mut().zip(quarters).for_each(|(x, quarter)| *x = F32x8::load(quarter).0);
        // Magnitudes are ordered like their bits.
        let max = x.map(|x| _mm256_castps_si256(_mm256_andnot_ps(sign, x)));
        let max = max.into_iter().fold(_mm256_setzero_si256(), |a, b| _mm256_max_epu32(a, b));
        let max = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256::<1>(max));
        let max = _mm_max_epu32(max, _mm_shuffle_epi32::<0b01_00_11_10>(max));
        let max = _mm_max_epu32(max, _mm_shuffle_epi32::<0b10_11_00_01>(max));
        let max = _mm_cvtsi128_si32(max).cast_unsigned();
        if quantize::is_non_finite(max) {
            *block = BlockQ8_0 { d: quantize::POISON, ..Block::ZERO };
            continue;
        }
        let d = f32::from_bits(max) / 127.0;
        let id = _mm256_set1_ps(quantize::inverse(d));
        let [a, b, c, e] = x.map(|x| {
            let x = _mm256_mul_ps(x, id);
            _mm256_cvttps_epi32(_mm256_add_ps(x, _mm256_or_ps(below_half, _mm256_and_ps(sign, x))))
        });
        let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, e));
        let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        block.d = F16::new(d);
        // SAFETY: the quants are 32 bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(block.qs.as_mut_ptr().cast(), bytes) };
    }
}

/// The sum of the lanes of a tile's accumulator.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum(acc: __m256) -> f32 {
    F32x8(acc).sum()
}

/// All lanes hold the scale.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn splat_f16(d: F16) -> __m256 {
    _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(d.to_bits()))))
}

/// The quants of a block in their order.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_quants(qs: &[i8; QK]) -> __m256i {
    // SAFETY: 32 bytes are there; the load is unaligned.
    unsafe { _mm256_loadu_si256(qs.as_ptr().cast()) }
}

/// The same as two registers of sixteen 16-bit values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_quants_wide(qs: &[i8; QK]) -> [__m256i; 2] {
    let all = load_quants(qs);
    [
        _mm256_cvtepi8_epi16(_mm256_castsi256_si128(all)),
        _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(all)),
    ]
}

/// The nibbles of a block, 0–15, in the order of its values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_nibbles(qs: &[u8; QK / 2]) -> __m256i {
    // SAFETY: 16 bytes are there; the load is unaligned.
    let packed = unsafe { _mm_loadu_si128(qs.as_ptr().cast()) };
    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed), _mm256_set1_epi8(15))
}

integer_tile!(
    Q8_0,
    BlockQ8_0,
    target_feature(enable = "avx2,fma,f16c"),
    _mm256_setzero_ps() => sum,
    |x| (splat_f16(x.d), load_quants_wide(&x.qs)),
    |w| (splat_f16(w.d), load_quants_wide(&w.qs)),
    |acc, x, w| {
        // 16-bit pairs: 2 * 128 * 128 fits 32 bits.
        let sums = _mm256_add_epi32(_mm256_madd_epi16(x.1[0], w.1[0]), _mm256_madd_epi16(x.1[1], w.1[1]));
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(x.0, w.0), *acc)
    }
);

integer_tile!(
    Q4_0,
    BlockQ4_0,
    target_feature(enable = "avx2,fma,f16c"),
    _mm256_setzero_ps() => sum,
    |x| {
        let quants = load_quants(&x.qs);
        (splat_f16(x.d), quants, _mm256_maddubs_epi16(_mm256_set1_epi8(8), quants))
    },
    |w| (splat_f16(w.d), load_nibbles(&w.qs)),
    |acc, x, w| {
        // nibble * x - 8 * x in 16-bit pairs: at most 2 * 15 * 128 and 2 * 8 * 128 in magnitude.
        let pairs = _mm256_sub_epi16(_mm256_maddubs_epi16(w.1, x.1), x.2);
        let sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(x.0, w.0), *acc)
    }
);

integer_tile!(
    Q4_1,
    BlockQ4_1,
    target_feature(enable = "avx2,fma,f16c"),
    _mm256_setzero_ps() => sum,
    |x| {
        let quants = load_quants(&x.qs);
        let sums = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), quants), _mm256_set1_epi16(1));
        (splat_f16(x.d), quants, _mm256_cvtepi32_ps(sums))
    },
    |w| (splat_f16(w.d), splat_f16(w.m), load_nibbles(&w.qs)),
    |acc, x, w| {
        let sums = _mm256_madd_epi16(_mm256_maddubs_epi16(w.2, x.1), _mm256_set1_epi16(1));
        let acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(x.0, w.0), *acc);
        _mm256_fmadd_ps(x.2, _mm256_mul_ps(x.0, w.1), acc)
    }
);
