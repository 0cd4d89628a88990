//! Dot products of every type against their definition.

use corelm::ops::reference::{self, Decode};
use corelm::ops::{Bf16, Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, Ops};

use super::Stand;
use crate::data::{self, BLOCK_COUNTS, VALUE_COUNTS, assert_near};

const EPS: f64 = f32::EPSILON as f64;

/// Compares `dot` of f32 activations and weights of type `B` with the definition.
fn check_float<B: Block>(stand: &mut Stand<'_>, dot: impl Fn(Ops, &[f32], &[B]) -> f32)
where
    [B]: Decode,
{
    let ops = stand.ops;
    for n in VALUE_COUNTS {
        let mut arena = stand.arena();
        let lhs = &*data::f32s(&mut arena, n, 1);
        let rhs = data::blocks::<B>(&mut arena, n, 0, 2);
        let (want, magnitude) = reference::dot(lhs, rhs);
        // Each product is rounded once and passes through at most n additions, in whatever order.
        let bound = (n + 8) as f64 * EPS * magnitude;
        assert_near(dot(ops, lhs, rhs), want, bound, format_args!("{:?}, {n} values", ops.backend()));
    }
}

/// Compares `dot` of Q8_0 activations and quantized weights with the definition.
fn check_quantized<B: Block>(stand: &mut Stand<'_>, dot: impl Fn(Ops, &[BlockQ8_0], &[B]) -> f32)
where
    [B]: Decode,
{
    let ops = stand.ops;
    for n in BLOCK_COUNTS {
        let mut arena = stand.arena();
        let lhs = data::blocks::<BlockQ8_0>(&mut arena, n, 0, 3);
        let rhs = data::blocks::<B>(&mut arena, n, 0, 4);
        let (want, magnitude) = reference::dot(lhs, rhs);
        // Integer sums are exact, so only a handful of roundings for each block and one addition for each remain.
        let bound = (n + 8) as f64 * EPS * magnitude;
        assert_near(dot(ops, lhs, rhs), want, bound, format_args!("{:?}, {n} blocks", ops.backend()));
    }
}

pub fn f32_dot_matches_reference(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    for n in VALUE_COUNTS {
        let mut arena = stand.arena();
        let (lhs, rhs) = (&*data::f32s(&mut arena, n, 5), &*data::f32s(&mut arena, n, 6));
        let (want, magnitude) = reference::dot(lhs, rhs);
        let bound = (n + 8) as f64 * EPS * magnitude;
        assert_near(ops.dot_f32(lhs, rhs), want, bound, format_args!("{:?}, {n} values", ops.backend()));
    }
}

pub fn f16_dot_matches_reference(stand: &mut Stand<'_>) {
    check_float::<F16>(stand, Ops::dot_f32_f16);
}

pub fn bf16_dot_matches_reference(stand: &mut Stand<'_>) {
    check_float::<Bf16>(stand, Ops::dot_f32_bf16);
}

pub fn q8_0_dot_matches_reference(stand: &mut Stand<'_>) {
    check_quantized::<BlockQ8_0>(stand, Ops::dot_q8_0_q8_0);
}

pub fn q4_0_dot_matches_reference(stand: &mut Stand<'_>) {
    check_quantized::<BlockQ4_0>(stand, Ops::dot_q8_0_q4_0);
}

pub fn q4_1_dot_matches_reference(stand: &mut Stand<'_>) {
    check_quantized::<BlockQ4_1>(stand, Ops::dot_q8_0_q4_1);
}

/// Moves both operands over every offset within a cache line; the bits must not change.
fn check_addresses<B: Block>(stand: &mut Stand<'_>, dot: impl Fn(Ops, &[BlockQ8_0], &[B]) -> f32) {
    let ops = stand.ops;
    let mut want = None;
    for offset in 0..64 {
        let mut arena = stand.arena();
        let lhs = data::blocks::<BlockQ8_0>(&mut arena, 9, offset, 7);
        let rhs = data::blocks::<B>(&mut arena, 9, 63 - offset, 8);
        let have = dot(ops, lhs, rhs).to_bits();
        assert_eq!(have, *want.get_or_insert(have), "{:?}, offset {offset}", ops.backend());
    }
}

pub fn dot_is_the_same_at_every_address(stand: &mut Stand<'_>) {
    check_addresses::<BlockQ8_0>(stand, Ops::dot_q8_0_q8_0);
    check_addresses::<BlockQ4_0>(stand, Ops::dot_q8_0_q4_0);
    check_addresses::<BlockQ4_1>(stand, Ops::dot_q8_0_q4_1);
    let ops = stand.ops;
    let mut want = None;
    for offset in 0..16 {
        let mut arena = stand.arena();
        let lhs = &mut data::f32s(&mut arena, 16 + 77, 0)[offset..][..77];
        lhs.copy_from_slice(data::f32s(&mut arena, 77, 9));
        let rhs = data::blocks::<F16>(&mut arena, 77, 2 * offset + 1, 10);
        let have = ops.dot_f32_f16(lhs, rhs).to_bits();
        assert_eq!(have, *want.get_or_insert(have), "{:?}, offset {offset}", ops.backend());
    }
}

pub fn extreme_blocks_stay_exact(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let one = F16::new(1.0);
    // The smallest subnormal (2^-24) must not become zero; 65504 is the largest scale there is.
    for d in [one, F16::new(-1.0), F16::from_bits(1), F16::from_bits(0x8001), F16::from_bits(0x7bff)] {
        for (q, nibbles, n4) in [(-128i8, 0x00u8, -8i32), (127, 0xff, 7), (-128, 0xff, 7), (127, 0x00, -8)] {
            let lhs = [BlockQ8_0 { d: one, qs: [q; 32] }; 3];
            let q8 = [BlockQ8_0 { d, qs: [q; 32] }; 3];
            let q4 = [BlockQ4_0 { d, qs: [nibbles; 16] }; 3];
            let about = format_args!("{:?}, quants {q} and {n4}, scale {:e}", ops.backend(), d.to_f32());
            let (q, scale) = (f64::from(q), f64::from(d.to_f32()));
            // The integers are below 2^24. With scales of 65504 their products have too many digits for an f32, and the
            // six roundings of three blocks remain.
            let bound = |want: f64| if d.to_bits() == 0x7bff { 6.0 * EPS * want.abs() } else { 0.0 };
            let (square, product) = (96.0 * q * q * scale, 96.0 * q * f64::from(n4) * scale);
            assert_near(ops.dot_q8_0_q8_0(&lhs, &q8), square, bound(square), about);
            assert_near(ops.dot_q8_0_q4_0(&lhs, &q4), product, bound(product), about);
        }
    }
    let zero = [BlockQ4_0 { d: F16::new(0.0), qs: [0xff; 16] }; 5];
    assert_eq!(ops.dot_q8_0_q4_0(&[BlockQ8_0 { d: one, qs: [-128; 32] }; 5], &zero), 0.0);
}

pub fn nibbles_lie_in_ggml_order(stand: &mut Stand<'_>) {
    for i in 0..32 {
        let mut lhs = [BlockQ8_0 { d: F16::new(1.0), qs: [0; 32] }];
        lhs[0].qs[i] = 1;
        // Nibble j holds value j % 16 - 8, except that the upper half counts down: no permutation maps it to itself.
        let rhs = [BlockQ4_0 { d: F16::new(1.0), qs: core::array::from_fn(|j| (j | (15 - j) << 4) as u8) }];
        let want = if i < 16 { i as f32 - 8.0 } else { 23.0 - i as f32 };
        assert_eq!(stand.ops.dot_q8_0_q4_0(&lhs, &rhs), want, "value {i}");
    }
}

pub fn non_finite_values_come_through(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    for n in [1, 5, 8, 33, 100] {
        for place in [0, n / 2, n - 1] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut arena = stand.arena();
                let lhs = data::f32s(&mut arena, n, 11);
                let rhs = &*arena.alloc(n, 1.0f32).expect("test memory");
                lhs[place] = bad;
                let have = ops.dot_f32(lhs, rhs);
                assert!(!have.is_finite(), "{:?}: {bad} at {place} of {n} gave {have}", ops.backend());
            }
        }
    }
    for bits in [0x7c00, 0xfc00, 0x7e00] {
        let lhs = [BlockQ8_0 { d: F16::new(1.0), qs: [1; 32] }; 3];
        let mut rhs = [BlockQ4_0 { d: F16::new(1.0), qs: [0x99; 16] }; 3];
        rhs[1].d = F16::from_bits(bits);
        assert!(!ops.dot_q8_0_q4_0(&lhs, &rhs).is_finite(), "{:?}: scale {bits:#x}", ops.backend());
    }
}
