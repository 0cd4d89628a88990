//! f32 to blocks, the way ggml's reference does it. Portable; back-ends must give the same bytes.
//!
//! A block that holds an infinity or a NaN gets a NaN for its scale and quants that decode to zero, so that it poisons
//! whatever it meets instead of passing for a number.

use crate::block::{Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, QK};
use crate::panel::BlockQ8;

/// The bits of the largest magnitude; as integers they are ordered like the magnitudes, with infinity and NaN on top.
pub(crate) fn max_magnitude_bits(x: &[f32; QK]) -> u32 {
    x.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff))
}

/// Whether bits of a magnitude are infinity or NaN.
pub(crate) fn is_non_finite(magnitude_bits: u32) -> bool {
    magnitude_bits >= 0x7f80_0000
}

/// `1 / d`, and 0 where `d` is no normal number (its half is zero then, whatever the quants).
pub(crate) fn inverse(d: f32) -> f32 {
    if d.abs() >= f32::MIN_POSITIVE { 1.0 / d } else { 0.0 }
}

/// The scale of a block that cannot be quantized.
pub(crate) const POISON: F16 = F16::from_bits(0x7e00);

/// `d = max |x| / 127`, `q = round(x / d)`, halves away from zero.
pub(crate) fn q8_0(dst: &mut [BlockQ8_0], src: &[f32]) {
    dst.iter_mut().zip(src.as_chunks::<QK>().0).for_each(|(block, x)| *block = block_q8_0(x));
}

/// The same for products: block `b` goes to `dst[b * stride]`.
pub(crate) fn q8(dst: &mut [BlockQ8], stride: usize, src: &[f32]) {
    let dst = dst.iter_mut().step_by(stride.max(1));
    dst.zip(src.as_chunks::<QK>().0).for_each(|(block, x)| *block = BlockQ8::new(&block_q8_0(x)));
}

fn block_q8_0(x: &[f32; QK]) -> BlockQ8_0 {
    let max = max_magnitude_bits(x);
    if is_non_finite(max) {
        return BlockQ8_0 { d: POISON, ..Block::ZERO };
    }
    let d = f32::from_bits(max) / 127.0;
    let id = inverse(d);
    BlockQ8_0 { d: F16::new(d), qs: x.map(|x| libm::roundf(x * id) as i8) }
}

/// `d` = the value of largest magnitude `/ -8`, `q = min(15, trunc(x / d + 8.5))` with one rounding before `trunc`.
pub(crate) fn q4_0(dst: &mut [BlockQ4_0], src: &[f32]) {
    for (block, x) in dst.iter_mut().zip(src.as_chunks::<QK>().0) {
        let max = max_magnitude_bits(x);
        if is_non_finite(max) {
            *block = BlockQ4_0 { d: POISON, ..Block::ZERO };
            continue;
        }
        // The first of several equal magnitudes gives the sign.
        let peak = x.iter().find(|x| x.to_bits() & 0x7fff_ffff == max).copied().unwrap_or(0.0);
        let d = peak / -8.0;
        let id = inverse(d);
        // The product is exact in f64, so the sum is rounded as a fused multiply-add rounds it.
        let quant = |x: f32| ((f64::from(x) * f64::from(id) + 8.5) as f32 as u8).min(15);
        block.d = F16::new(d);
        pack_nibbles(&mut block.qs, x, quant);
    }
}

/// `m = min x`, `d = (max x - m) / 15`, `q = min(15, trunc((x - m) / d + 0.5))`.
pub(crate) fn q4_1(dst: &mut [BlockQ4_1], src: &[f32]) {
    for (block, x) in dst.iter_mut().zip(src.as_chunks::<QK>().0) {
        if is_non_finite(max_magnitude_bits(x)) {
            *block = BlockQ4_1 { d: POISON, m: POISON, ..Block::ZERO };
            continue;
        }
        let min = x.iter().copied().fold(f32::INFINITY, f32::min);
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let d = (max - min) / 15.0;
        let id = inverse(d);
        let quant = |x: f32| (((x - min) * id + 0.5) as u8).min(15);
        (block.d, block.m) = (F16::new(d), F16::new(min));
        pack_nibbles(&mut block.qs, x, quant);
    }
}

/// Values 0–15 to the low nibbles, 16–31 to the high ones.
fn pack_nibbles(qs: &mut [u8; QK / 2], x: &[f32; QK], quant: impl Fn(f32) -> u8) {
    let (low, high) = x.split_at(QK / 2);
    for ((q, low), high) in qs.iter_mut().zip(low).zip(high) {
        *q = quant(*low) | (quant(*high) << 4);
    }
}
