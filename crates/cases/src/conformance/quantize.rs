//! Conversions: every byte is the format's.

use corelm::ops::reference::Decode;
use corelm::ops::{Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, GgmlType, Matrix, Ops};

use super::Stand;
use crate::data;
use crate::random::Random;

/// Every half, against the crate `half`.
pub fn f16_converts_all_values(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let mut arena = stand.arena();
    let halves = &*arena.alloc_with(65_536, |i| F16::from_bits(i as u16)).expect("test memory");
    let floats = arena.alloc(65_536, 0.0f32).expect("test memory");
    let back = arena.alloc(65_536, F16::from_bits(0)).expect("test memory");
    ops.f32_from_f16(floats, halves);
    ops.f16_from_f32(back, floats);
    for (bits, (have, back)) in (0..=u16::MAX).zip(floats.iter().zip(back)) {
        let want = half::f16::from_bits(bits);
        if want.is_nan() {
            assert!(have.is_nan() && back.to_f32().is_nan(), "{:?} {bits:#06x}", ops.backend());
        } else {
            assert_eq!(have.to_bits(), want.to_f32().to_bits(), "{:?} {bits:#06x}", ops.backend());
            assert_eq!(back.to_bits(), bits, "{:?}", ops.backend());
        }
    }
}

/// The bytes that ggml's definition gives for one block of Q8_0.
fn q8_0(x: &[f32; 32]) -> BlockQ8_0 {
    let d = x.iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
    let id = if d > 0.0 { 1.0 / d } else { 0.0 };
    BlockQ8_0 { d: F16::new(d), qs: x.map(|x| libm::roundf(x * id) as i8) }
}

/// Value `i` to the low nibbles for the first half, to the high ones for the second.
fn pack(quants: [u8; 32]) -> [u8; 16] {
    core::array::from_fn(|i| quants[i] | quants[i + 16] << 4)
}

/// The bytes that ggml's definition gives for one block of Q4_0.
fn q4_0(x: &[f32; 32]) -> BlockQ4_0 {
    let peak = x.iter().fold(0f32, |peak, &x| if x.abs() > peak.abs() { x } else { peak });
    let d = peak / -8.0;
    let id = if d != 0.0 { 1.0 / d } else { 0.0 };
    // In f64, because the reference multiplies and adds with one rounding.
    let quant = |x: f32| ((f64::from(x) * f64::from(id) + 8.5) as f32 as u8).min(15);
    BlockQ4_0 { d: F16::new(d), qs: pack(x.map(quant)) }
}

/// The bytes that ggml's definition gives for one block of Q4_1.
fn q4_1(x: &[f32; 32]) -> BlockQ4_1 {
    let (min, max) = x.iter().fold((f32::MAX, f32::MIN), |(min, max), &x| (min.min(x), max.max(x)));
    let d = (max - min) / 15.0;
    let id = if d > 0.0 { 1.0 / d } else { 0.0 };
    let quant = |x: f32| (((x - min) * id + 0.5) as u8).min(15);
    BlockQ4_1 { d: F16::new(d), m: F16::new(min), qs: pack(x.map(quant)) }
}

/// Quantizes random rows of every length and compares block by block.
fn check<B: Block + PartialEq + core::fmt::Debug>(
    stand: &mut Stand<'_>,
    quantize: impl Fn(Ops, &mut [B], &[f32]),
    want: impl Fn(&[f32; 32]) -> B,
) {
    let ops = stand.ops;
    for n in data::BLOCK_COUNTS {
        let mut arena = stand.arena();
        let src = data::f32s(&mut arena, 32 * n, 30 + n as u64);
        // Rows of very different sizes, one with nothing but zeros.
        for (i, block) in src.chunks_exact_mut(32).enumerate() {
            let size = [1.0, 1e-3, 3e4, 0.0, 1e-6][i % 5];
            // Plain zeros: what the sign of -0.0 does to the scale, references do not agree on.
            block.iter_mut().for_each(|x| *x = if size == 0.0 { 0.0 } else { *x * size });
        }
        let dst = arena.alloc(n, B::ZERO).expect("test memory");
        quantize(ops, dst, src);
        for (i, (have, x)) in dst.iter().zip(src.as_chunks::<32>().0).enumerate() {
            assert_eq!(*have, want(x), "{:?}: block {i} of {n}", ops.backend());
        }
    }
}

pub fn q8_0_bytes_are_exact(stand: &mut Stand<'_>) {
    check(stand, Ops::quantize_q8_0, q8_0);
    // By hand: the scale is 1, halves round away from zero.
    let mut x = [0.0f32; 32];
    (x[0], x[1], x[2], x[3], x[31]) = (127.0, 0.5, -0.5, 2.5, -127.0);
    let mut dst = [BlockQ8_0::ZERO];
    stand.ops.quantize_q8_0(&mut dst, &x);
    let mut want = BlockQ8_0 { d: F16::new(1.0), qs: [0; 32] };
    (want.qs[0], want.qs[1], want.qs[2], want.qs[3], want.qs[31]) = (127, 1, -1, 3, -127);
    assert_eq!(dst, [want], "{:?}", stand.ops.backend());
}

pub fn q4_0_bytes_are_exact(stand: &mut Stand<'_>) {
    check(stand, Ops::quantize_q4_0, q4_0);
    // By hand: the value of largest magnitude is 8, so the scale is -1 and it becomes nibble 0.
    let mut x = [0.0f32; 32];
    (x[0], x[1], x[16], x[17]) = (8.0, -7.0, 1.0, -1.0);
    let mut dst = [BlockQ4_0::ZERO];
    stand.ops.quantize_q4_0(&mut dst, &x);
    let mut want = BlockQ4_0 { d: F16::new(-1.0), qs: [0x88; 16] };
    (want.qs[0], want.qs[1]) = (0x70, 0x9f);
    assert_eq!(dst, [want], "{:?}", stand.ops.backend());
}

pub fn q4_1_bytes_are_exact(stand: &mut Stand<'_>) {
    check(stand, Ops::quantize_q4_1, q4_1);
}

pub fn extreme_inputs_quantize_alike(stand: &mut Stand<'_>) {
    let (ops, scalar) = (stand.ops, Ops::scalar());
    let mut random = Random::new(31);
    let extremes =
        [0.0, -0.0, 1e-45, 1e-38, -1e-39, 65504.0, 1e30, f32::MAX, f32::MIN, f32::NAN, f32::INFINITY];
    for _ in 0..500 {
        let mut x: [f32; 32] = core::array::from_fn(|_| random.unit());
        let size = extremes[random.below(8)];
        x.iter_mut().for_each(|x| *x *= size);
        x[random.below(32)] = extremes[random.below(extremes.len())];
        let (mut have, mut want) = ([BlockQ8_0::ZERO], [BlockQ8_0::ZERO]);
        ops.quantize_q8_0(&mut have, &x);
        scalar.quantize_q8_0(&mut want, &x);
        assert_eq!(have, want, "{:?}: {x:?}", ops.backend());
        let is_finite = x.iter().all(|x| x.is_finite());
        assert!(is_finite || have[0].d.to_f32().is_nan(), "a block with a {x:?} passes for numbers");
        let (mut have, mut want) = ([BlockQ4_0::ZERO], [BlockQ4_0::ZERO]);
        ops.quantize_q4_0(&mut have, &x);
        scalar.quantize_q4_0(&mut want, &x);
        assert_eq!(have, want, "{:?}: {x:?}", ops.backend());
    }
}

fn check_dequantize<B: Block>(stand: &mut Stand<'_>)
where
    [B]: Decode,
{
    let ops = stand.ops;
    for n in [1, 2, 3, 5, 31, 33] {
        for offset in [0, 1, 2, 7] {
            let mut arena = stand.arena();
            let (bytes, blocks) = data::bytes_and_blocks::<B>(&mut arena, n, offset, 32);
            let k = n * B::VALUES;
            let dst = arena.alloc(k, f32::NAN).expect("test memory");
            ops.dequantize(dst, Matrix::new(B::TYPE, bytes, 1, k).expect("a whole row"));
            for (i, have) in dst.iter().enumerate() {
                // A product of a half and a byte is exact in f32; Q4_1 adds once and rounds once.
                let want = blocks.value(i) as f32;
                assert_eq!(have.to_bits(), want.to_bits(), "{:?} {:?}: value {i}", ops.backend(), B::TYPE);
            }
        }
    }
}

pub fn every_type_dequantizes_exactly(stand: &mut Stand<'_>) {
    check_dequantize::<corelm::ops::F32>(stand);
    check_dequantize::<F16>(stand);
    check_dequantize::<corelm::ops::Bf16>(stand);
    check_dequantize::<BlockQ8_0>(stand);
    check_dequantize::<BlockQ4_0>(stand);
    check_dequantize::<BlockQ4_1>(stand);
    // Blocks whose 32 values all differ, so that an order mistaken shows: 0x88 in every byte would hide it.
    let block = BlockQ4_0 { d: F16::new(0.5), qs: core::array::from_fn(|i| (i | (15 - i) << 4) as u8) };
    let mut bytes = [0u8; 18];
    bytes[..2].copy_from_slice(&block.d.to_bits().to_le_bytes());
    bytes[2..].copy_from_slice(&block.qs);
    let mut dst = [0.0f32; 32];
    stand.ops.dequantize(&mut dst, Matrix::new(GgmlType::Q4_0, &bytes, 1, 32).expect("one block"));
    let want = core::array::from_fn(|i| if i < 16 { i as f32 / 2.0 - 4.0 } else { 11.5 - i as f32 / 2.0 });
    assert_eq!(dst, want, "{:?}", stand.ops.backend());
}
