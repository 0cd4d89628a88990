//! Products of quantized weights by SMULL and SADALP.

use core::arch::aarch64::*;
use core::arch::asm;

use super::load_nibbles;
use super::panels::{
    Group, Quants, Scales, Sixteen, Unpacked, Weights, define_accumulate, define_accumulate_one, for_lanes,
    load_quants, load_results, store_results,
};
use super::rows::{
    SixteenRows, define_dot, define_one_row, fused, pack_q4_0, pack_q4_1, pack_q8_0, split_nibbles, widen_one,
};
use crate::arch::aarch64::spill_as;
use crate::block::{BlockQ4_0, BlockQ4_1, BlockQ8_0};
use crate::panel::{BlockQ8, Kernel, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results, is_enough, sixteens};
use crate::workspace::Spill;

pub(super) const Q4_0: Kernel<PanelQ4_0> = Kernel {
    dot: dot_q4_0,
    pack: pack_q4_0,
    accumulate,
    accumulate_two: None,
    two_streams: None,
    finish: None,
    one_row: Some(one_row_q4_0),
};
pub(super) const Q4_1: Kernel<PanelQ4_1> = Kernel {
    dot: dot_q4_1,
    pack: pack_q4_1,
    accumulate,
    accumulate_two: None,
    two_streams: None,
    finish: None,
    one_row: Some(one_row_q4_1),
};
pub(super) const Q8_0: Kernel<PanelQ8_0> = Kernel {
    dot: dot_q8_0,
    pack: pack_q8_0,
    accumulate,
    accumulate_two: None,
    two_streams: None,
    finish: None,
    one_row: Some(one_row_q8_0),
};

/// Defines a product of bytes that 16-bit lanes take. In assembly: of intrinsics the compiler makes widenings and products
/// of 16 bits, twice as many instructions, when it knows that nibbles are small.
macro_rules! byte_products {
    ($($(#[$doc:meta])* $name:ident($($acc:ident)?) = $instruction:literal;)*) => {
        $(
            $(#[$doc])*
            #[inline]
            #[target_feature(enable = "neon")]
            fn $name($(mut $acc: int16x8_t,)? a: int8x16_t, b: int8x16_t) -> int16x8_t {
                byte_products!(@asm $instruction, a, b $(, $acc)?)
            }
        )*
    };
    (@asm $instruction:literal, $a:ident, $b:ident, $acc:ident) => {{
        // SAFETY: touches only the three registers named.
        unsafe {
            asm!($instruction, inout(vreg) $acc, in(vreg) $a, in(vreg) $b,
                options(pure, nomem, nostack, preserves_flags));
        }
        $acc
    }};
    (@asm $instruction:literal, $a:ident, $b:ident) => {{
        let products;
        // SAFETY: touches only the three registers named.
        unsafe {
            asm!($instruction, lateout(vreg) products, in(vreg) $a, in(vreg) $b,
                options(pure, nomem, nostack, preserves_flags));
        }
        products
    }};
}

byte_products! {
    /// `a[i] * b[i]` of the low eight.
    smull() = "smull {0:v}.8h, {1:v}.8b, {2:v}.8b";
    /// `a[i] * b[i]` of the high eight.
    smull2() = "smull2 {0:v}.8h, {1:v}.16b, {2:v}.16b";
    /// `acc[i] + a[i] * b[i]` of the low eight.
    smlal(acc) = "smlal {0:v}.8h, {1:v}.8b, {2:v}.8b";
    /// `acc[i] + a[i] * b[i]` of the high eight.
    smlal2(acc) = "smlal2 {0:v}.8h, {1:v}.16b, {2:v}.16b";
}

define_accumulate_one!(target_feature(enable = "neon"), sums_of_one);
define_accumulate!(target_feature(enable = "neon"), 2, tile);

/// The sums of products for one row of activations.
#[inline]
#[target_feature(enable = "neon")]
fn sums_of_one<W: Weights>(x: &BlockQ8, groups: impl Fn(usize) -> Group) -> Sixteen<int32x4_t> {
    if W::IS_NARROW {
        let quants = load_quants(&x.qs);
        let mut sums = [vdupq_n_s16(0); 8];
        for_lanes!(add_narrow(&mut sums, quants, &groups));
        add_across(&sums, W::start(x))
    } else {
        let [sums] = sums_of_wide([x], groups);
        sums
    }
}

/// The sums of products for two rows of activations.
#[inline]
#[target_feature(enable = "neon")]
fn tile<W: Weights>(x: &[BlockQ8; 2], w: &Unpacked) -> [Sixteen<int32x4_t>; 2] {
    if W::IS_NARROW {
        let [a, b] = narrow_tile(x, w);
        let [x, y] = x;
        [add_across(&a, W::start(x)), add_across(&b, W::start(y))]
    } else {
        sums_of_wide(x.each_ref(), |g| w[g % 8])
    }
}

/// Adds up the four products of each row of a panel; 16 bits hold the sums of two (16 * 15 * 127).
#[inline]
#[target_feature(enable = "neon")]
fn add_across([a, b, c, d, e, f, g, h]: &[int16x8_t; 8], start: i32) -> Sixteen<int32x4_t> {
    [(a, b), (c, d), (e, f), (g, h)].map(|(a, b)| vpadalq_s16(vdupq_n_s32(start), vpaddq_s16(*a, *b)))
}

/// The instructions of [`narrow_tile`] for one group: `$mul $acc, $w, $x`, each for both halves.
macro_rules! byte_rows {
    ($mul:literal, $x:literal, [$($acc:literal $acc2:literal)*], [$($w:literal)*]) => {
        concat!($(
            $mul, " v", $acc, ".8h, v", $w, ".8b, v", $x, ".8b\n",
            $mul, "2 v", $acc2, ".8h, v", $w, ".16b, v", $x, ".16b\n",
        )*)
    };
    ($mul:literal, $x:literal, $y:literal, $w:tt) => {
        concat!(
            byte_rows!($mul, $x, [0 1 2 3 4 5 6 7], $w),
            byte_rows!($mul, $y, [8 9 10 11 12 13 14 15], $w)
        )
    };
}

/// The products of two rows of activations with all groups, added up in 16 bits (8 * 15 * 127).
///
/// One block of assembly: all registers are in use, and the compiler's order of loads spills half of them.
#[inline]
#[target_feature(enable = "neon")]
fn narrow_tile(x: &[BlockQ8; 2], w: &Unpacked) -> [[int16x8_t; 8]; 2] {
    let [x, y] = x.each_ref().map(|x| x.qs.as_ptr());
    let (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);
    // SAFETY: reads the quants of both rows, by words, to which blocks are aligned, and the 512 bytes of `w`.
    unsafe {
        asm!(
            "ld4r {{v16.4s-v19.4s}}, [{x}], #16",
            "ld4r {{v20.4s-v23.4s}}, [{y}], #16",
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            byte_rows!("smull", 16, 20, [24 25 26 27]),
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64",
            byte_rows!("smlal", 17, 21, [28 29 30 31]),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            byte_rows!("smlal", 18, 22, [24 25 26 27]),
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64",
            byte_rows!("smlal", 19, 23, [28 29 30 31]),
            "ld4r {{v16.4s-v19.4s}}, [{x}]",
            "ld4r {{v20.4s-v23.4s}}, [{y}]",
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            byte_rows!("smlal", 16, 20, [24 25 26 27]),
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64",
            byte_rows!("smlal", 17, 21, [28 29 30 31]),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            byte_rows!("smlal", 18, 22, [24 25 26 27]),
            "ld1 {{v28.16b-v31.16b}}, [{w}]",
            byte_rows!("smlal", 19, 23, [28 29 30 31]),
            x = inout(reg) x => _, y = inout(reg) y => _, w = inout(reg) w.as_ptr() => _,
            out("v0") a, out("v1") b, out("v2") c, out("v3") d, out("v4") e, out("v5") f, out("v6") g, out("v7") h,
            out("v8") i, out("v9") j, out("v10") k, out("v11") l, out("v12") m, out("v13") n, out("v14") o,
            out("v15") p, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
            out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _,
            out("v29") _, out("v30") _, out("v31") _,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]]
}

/// The sums of bytes: 16 bits hold those of two groups (2 * 128 * 127).
#[inline]
#[target_feature(enable = "neon")]
fn sums_of_wide<const T: usize>(
    x: [&BlockQ8; T],
    groups: impl Fn(usize) -> Group,
) -> [Sixteen<int32x4_t>; T] {
    let mut wide = [[vdupq_n_s32(0); 8]; T];
    for_lanes!(add_wide(&mut wide, &x.map(|x| load_quants(&x.qs)), &groups));
    wide.map(|[a, b, c, d, e, f, g, h]| [(a, b), (c, d), (e, f), (g, h)].map(|(a, b)| vpaddq_s32(a, b)))
}

/// Activations `4 * LANE..4 * LANE + 4` of 16, four times.
#[inline]
#[target_feature(enable = "neon")]
fn splat<const LANE: i32>(x: int8x16_t) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(x)))
}

/// Adds the products of groups `LANE` and `LANE + 4`; the first call starts.
#[inline]
#[target_feature(enable = "neon")]
fn add_narrow<const LANE: i32>(
    sums: &mut [int16x8_t; 8],
    [x, y]: [int8x16_t; 2],
    groups: &impl Fn(usize) -> Group,
) {
    let (low, high) = (groups(LANE as usize), groups(4 + LANE as usize));
    let (x, y) = (splat::<LANE>(x), splat::<LANE>(y));
    for (([a, b], low), high) in sums.as_chunks_mut().0.iter_mut().zip(low).zip(high) {
        (*a, *b) =
            if LANE == 0 { (smull(low, x), smull2(low, x)) } else { (smlal(*a, low, x), smlal2(*b, low, x)) };
        (*a, *b) = (smlal(*a, high, y), smlal2(*b, high, y));
    }
}

/// As [`add_narrow`], to 32 bits.
#[inline]
#[target_feature(enable = "neon")]
fn add_wide<const LANE: i32>(
    sums: &mut [[int32x4_t; 8]],
    x: &[[int8x16_t; 2]],
    groups: &impl Fn(usize) -> Group,
) {
    let (low, high) = (groups(LANE as usize), groups(4 + LANE as usize));
    for (sums, [x_low, x_high]) in sums.iter_mut().zip(x) {
        let (x_low, x_high) = (splat::<LANE>(*x_low), splat::<LANE>(*x_high));
        for (([a, b], low), high) in sums.as_chunks_mut().0.iter_mut().zip(low).zip(high) {
            let pairs = smlal(smull(low, x_low), high, x_high);
            let more = smlal2(smull2(low, x_low), high, x_high);
            (*a, *b) = if LANE == 0 {
                (vpaddlq_s16(pairs), vpaddlq_s16(more))
            } else {
                (vpadalq_s16(*a, pairs), vpadalq_s16(*b, more))
            };
        }
    }
}

define_one_row!(target_feature(enable = "neon"), four_narrow, four_wide);

/// The sums of four rows of nibbles, `start` added: pairs across lanes fit 16 bits twice (16 * 15 * 127).
#[inline]
#[target_feature(enable = "neon")]
fn four_narrow([x, y]: [int8x16_t; 2], rows: [[int8x16_t; 2]; 4], start: i32) -> int32x4_t {
    let [a, b, c, d] = rows.map(|[w, v]| smlal2(smlal(smlal2(smull(w, x), w, x), v, y), v, y));
    let pairs = vpaddq_s16(vpaddq_s16(a, b), vpaddq_s16(c, d));
    vpadalq_s16(vdupq_n_s32(start), pairs)
}

/// The sums of four rows of bytes, `start` added: two products fit 16 bits (2 * 128 * 127).
#[inline]
#[target_feature(enable = "neon")]
fn four_wide([x, y]: [int8x16_t; 2], rows: [[int8x16_t; 2]; 4], start: i32) -> int32x4_t {
    let [a, b, c, d] =
        rows.map(|[w, v]| vpadalq_s16(vpaddlq_s16(smlal2(smull(w, x), w, x)), smlal2(smull(v, y), v, y)));
    vaddq_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)), vdupq_n_s32(start))
}

define_dot!(target_feature(enable = "neon"), dot_quants);

/// The sum of products of all quants, -128 among them.
#[inline]
#[target_feature(enable = "neon")]
fn dot_quants([a, b]: [int8x16_t; 2], [c, d]: [int8x16_t; 2]) -> i32 {
    let sums = vpadalq_s16(vpaddlq_s16(smull(a, c)), smull2(a, c));
    vaddvq_s32(vpadalq_s16(vpadalq_s16(sums, smull(b, d)), smull2(b, d)))
}
