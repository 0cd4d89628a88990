//! Random weights as the bytes of any type: what the synthetic model and the tests are made of.

use corelm::ops::{F16, GgmlType};

use crate::random::Random;

/// Fills `bytes` with whole blocks of type `ty` whose values have a standard deviation of about `deviation`; a rest
/// shorter than a block becomes zero.
///
/// The integers of quantized blocks are drawn evenly and the scale follows from their deviation, so nothing has to be
/// quantized: 20 MB of Q4_0 take as long as 20 MB of random bits.
pub fn fill(bytes: &mut [u8], ty: GgmlType, deviation: f32, random: &mut Random) {
    // Evenly drawn values in -1..1 deviate by 1/sqrt(3), the integers 0..16 by 4.61, those of -128..128 by 73.9.
    let (even, nibble, byte) = (deviation * 1.732, deviation / 4.61, deviation / 73.9);
    let mut blocks = bytes.chunks_exact_mut(ty.block_bytes().get());
    for block in &mut blocks {
        // A quarter up or down, so that no two blocks share a scale by construction.
        let vary = 1.0 + 0.25 * random.unit();
        match ty {
            GgmlType::F32 => put(block, &(even * random.unit()).to_le_bytes(), random),
            GgmlType::F16 => put(block, &half(even * random.unit()), random),
            GgmlType::BF16 => {
                // The upper half of an f32; rounding towards zero is as random as any.
                let [_, _, low, high] = (even * random.unit()).to_le_bytes();
                put(block, &[low, high], random);
            }
            // Nibbles are -8 to 7, so their mean is not 0; a scale of either sign makes that of the values 0, without
            // which all rows would point the same way.
            GgmlType::Q4_0 => {
                let sign = if random.bits() & 1 == 0 { 1.0 } else { -1.0 };
                put(block, &half(sign * nibble * vary), random);
            }
            GgmlType::Q8_0 => put(block, &half(byte * vary), random),
            GgmlType::Q4_1 => {
                let [d0, d1] = half(nibble * vary);
                let [m0, m1] = half(-7.5 * nibble * vary);
                put(block, &[d0, d1, m0, m1], random);
            }
            _ => block.fill(0),
        }
    }
    blocks.into_remainder().fill(0);
}

fn half(value: f32) -> [u8; 2] {
    F16::new(value).to_bits().to_le_bytes()
}

/// Writes `head` to the front of `block` and random bits to the rest.
fn put(block: &mut [u8], head: &[u8], random: &mut Random) {
    let Some((front, rest)) = block.split_at_mut_checked(head.len()) else { return };
    front.copy_from_slice(head);
    for chunk in rest.chunks_mut(8) {
        let bits = random.bits().to_le_bytes();
        chunk.iter_mut().zip(bits).for_each(|(byte, bit)| *byte = bit);
    }
}
