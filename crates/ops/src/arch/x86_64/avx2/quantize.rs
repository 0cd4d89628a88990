//! f32 to Q8_0, the bytes of `quantize::q8_0`.

use core::arch::x86_64::*;

use crate::block::{Block, BlockQ8_0, F16, QK};
use crate::panel::BlockQ8;
use crate::quantize;

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch::x86_64) fn q8_0(dst: &mut [BlockQ8_0], src: &[f32]) {
    for (block, values) in dst.iter_mut().zip(src.as_chunks::<QK>().0) {
        let Some((d, quants)) = quants(values) else {
            *block = BlockQ8_0 { d: quantize::POISON, ..Block::ZERO };
            continue;
        };
        let half = _mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(d));
        block.d = F16::from_bits(_mm_cvtsi128_si32(half) as u16);
        // SAFETY: the quants are 32 bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(block.qs.as_mut_ptr().cast(), quants) };
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch::x86_64) fn q8(dst: &mut [BlockQ8], stride: usize, src: &[f32]) {
    for (block, values) in dst.iter_mut().step_by(stride.max(1)).zip(src.as_chunks::<QK>().0) {
        let Some((d, quants)) = quants(values) else {
            *block = BlockQ8 { d: f32::NAN, ..BlockQ8::ZERO };
            continue;
        };
        let half = _mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(d));
        let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), quants);
        let eights = _mm256_madd_epi16(pairs, _mm256_set1_epi16(-8));
        let four = _mm_add_epi32(_mm256_castsi256_si128(eights), _mm256_extracti128_si256::<1>(eights));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
        block.d = _mm_cvtss_f32(_mm_cvtph_ps(half));
        block.offset = _mm_cvtsi128_si32(one);
        // SAFETY: the quants are 32 bytes; the store is unaligned.
        unsafe { _mm256_storeu_si256(block.qs.as_mut_ptr().cast(), quants) };
    }
}

/// Scale and quants of a block, `None` when it holds an infinity or a NaN.
///
/// Rounds halves away from zero: adds the f32 below 1/2 with the value's sign, then truncates.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn quants(values: &[f32; QK]) -> Option<(f32, __m256i)> {
    let sign = _mm256_set1_ps(-0.0);
    let below_half = _mm256_set1_ps(0.5f32.next_down());
    let mut x = [_mm256_setzero_ps(); 4];
    for (x, quarter) in x.iter_mut().zip(values.as_chunks::<8>().0) {
        // SAFETY: eight values are there; the load is unaligned.
        *x = unsafe { _mm256_loadu_ps(quarter.as_ptr()) };
    }
    // Magnitudes are ordered like their bits.
    let max = x.map(|x| _mm256_castps_si256(_mm256_andnot_ps(sign, x)));
    let max = max.into_iter().fold(_mm256_setzero_si256(), |a, b| _mm256_max_epu32(a, b));
    let max = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256::<1>(max));
    let max = _mm_max_epu32(max, _mm_shuffle_epi32::<0b01_00_11_10>(max));
    let max = _mm_max_epu32(max, _mm_shuffle_epi32::<0b10_11_00_01>(max));
    let max = _mm_cvtsi128_si32(max).cast_unsigned();
    if quantize::is_non_finite(max) {
        return None;
    }
    let d = f32::from_bits(max) / 127.0;
    let id = _mm256_set1_ps(quantize::inverse(d));
    let [a, b, c, e] = x.map(|x| {
        let x = _mm256_mul_ps(x, id);
        _mm256_cvttps_epi32(_mm256_add_ps(x, _mm256_or_ps(below_half, _mm256_and_ps(sign, x))))
    });
    let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, e));
    Some((d, _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))))
}
