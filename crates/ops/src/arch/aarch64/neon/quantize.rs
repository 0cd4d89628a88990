//! f32 to Q8_0, the bytes of `quantize::q8_0`.

use core::arch::aarch64::*;

use super::{load64, neon, store16};
use crate::block::{Block, BlockQ8_0, F16, QK};
use crate::panel::BlockQ8;
use crate::quantize;

#[target_feature(enable = "neon")]
pub(super) fn q8_0(dst: &mut [BlockQ8_0], src: &[f32]) {
    for (block, values) in dst.iter_mut().zip(src.as_chunks::<QK>().0) {
        let Some((d, quants)) = quants(values) else {
            *block = BlockQ8_0 { d: quantize::POISON, ..Block::ZERO };
            continue;
        };
        block.d = F16::from_bits(vget_lane_u16::<0>(vreinterpret_u16_f16(narrow(d))));
        store_quants(&mut block.qs, quants);
    }
}

#[target_feature(enable = "neon")]
pub(super) fn q8(dst: &mut [BlockQ8], stride: usize, src: &[f32]) {
    for (block, values) in dst.iter_mut().step_by(stride.max(1)).zip(src.as_chunks::<QK>().0) {
        let Some((d, quants)) = quants(values) else {
            *block = BlockQ8 { d: f32::NAN, ..BlockQ8::ZERO };
            continue;
        };
        block.d = vgetq_lane_f32::<0>(vcvt_f32_f16(narrow(d)));
        // Pairs of quants fit 16 bits many times over.
        let sum = vaddlvq_s16(vpadalq_s8(vpaddlq_s8(quants[0]), quants[1]));
        block.offset = -8 * sum;
        store_quants(&mut block.qs, quants);
    }
}

/// `d` as a half, rounded to nearest, ties to even.
#[inline]
#[target_feature(enable = "neon")]
fn narrow(d: f32) -> float16x4_t {
    vcvt_f16_f32(vdupq_n_f32(d))
}

#[inline(always)]
fn store_quants(qs: &mut [i8; QK], quants: [int8x16_t; 2]) {
    // SAFETY: 32 bytes, seen as two times 16.
    let to = unsafe { &mut *qs.as_mut_ptr().cast::<[[u8; 16]; 2]>() };
    to.iter_mut().zip(quants).for_each(|(to, q)| store16(to, neon!(vreinterpretq_u8_s8(q))));
}

/// Scale and quants of a block, `None` when it holds an infinity or a NaN. FCVTAS rounds halves away from zero.
#[inline]
#[target_feature(enable = "neon")]
fn quants(values: &[f32; QK]) -> Option<(f32, [int8x16_t; 2])> {
    // SAFETY: 32 f32 are twice 64 bytes.
    let [low, high] = unsafe { &*values.as_ptr().cast::<[[u8; 64]; 2]>() };
    let halves = [load64(low), load64(high)].map(|half| half.map(|x| vreinterpretq_f32_u8(x)));
    // Magnitudes are ordered like their bits.
    let bits = |x| vreinterpretq_u32_f32(vabsq_f32(x));
    let [a, b] =
        halves.map(|[a, b, c, d]| vmaxq_u32(vmaxq_u32(bits(a), bits(b)), vmaxq_u32(bits(c), bits(d))));
    let max = vmaxvq_u32(vmaxq_u32(a, b));
    if quantize::is_non_finite(max) {
        return None;
    }
    let d = f32::from_bits(max) / 127.0;
    let id = quantize::inverse(d);
    let quants = halves.map(|half| {
        let [a, b, c, d] = half.map(|x| vreinterpretq_s16_s32(vcvtaq_s32_f32(vmulq_n_f32(x, id))));
        // The low halves of lanes hold all of it.
        let [a, b] = [vuzp1q_s16(a, b), vuzp1q_s16(c, d)].map(|x| vreinterpretq_s8_s16(x));
        vuzp1q_s8(a, b)
    });
    Some((d, quants))
}
