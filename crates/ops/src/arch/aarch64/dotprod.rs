//! Advanced SIMD with SDOT: four products to a lane of 32 bits.

use core::arch::aarch64::*;
use core::arch::asm;

use super::neon::panels::{
    EMPTY, Group, Scales, Sixteen, SixteenRows, Weights, define_accumulate, define_dot, define_one_row,
    for_lanes, fused, load_quants, load_results, split_nibbles, store_results, widen_one,
};
use super::neon::{self, load_nibbles};
use crate::block::{BlockQ4_0, BlockQ4_1, BlockQ8_0};
use crate::cpu::Feature;
use crate::panel::{BlockQ8, Kernel, OneRow, Results, is_enough};
use crate::table::{Backend, OpTable};

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::NeonDotprod,
    needs: neon::TABLE.needs.union(Feature::DOTPROD),
    q8_0: Kernel { dot: dot_q8_0, accumulate, ..neon::TABLE.q8_0 },
    q4_0: Kernel { dot: dot_q4_0, accumulate, ..neon::TABLE.q4_0 },
    q4_1: Kernel { dot: dot_q4_1, accumulate, ..neon::TABLE.q4_1 },
    one_row: ONE_ROW,
    ..neon::TABLE
};

define_accumulate!(target_feature(enable = "neon,dotprod"), 4, sums);
define_one_row!(target_feature(enable = "neon,dotprod"), four, four);
define_dot!(target_feature(enable = "neon,dotprod"), dot_quants);

/// `acc[i] += a[4i..4i + 4] . b[4 * LANE..4 * LANE + 4]` (Arm ARM, SDOT by element). In assembly until the intrinsic is
/// stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot_lane<const LANE: i32>(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: FEAT_DotProd is enabled here and SDOT touches only the three registers named.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{lane}]", inout(vreg) acc, in(vreg) a, in(vreg) b,
            lane = const LANE, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// `acc[i] += a[4i..4i + 4] . b[4i..4i + 4]` (Arm ARM, SDOT vector).
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: FEAT_DotProd is enabled here and SDOT touches only the three registers named.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) acc, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The sums of products for `T` rows of activations.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sums<W: Weights, const T: usize>(
    x: [&BlockQ8; T],
    groups: impl Fn(usize) -> Group,
) -> [Sixteen<int32x4_t>; T] {
    let mut sums = x.map(|x| [vdupq_n_s32(W::start(x)); 4]);
    let x = x.map(|x| load_quants(&x.qs));
    for_lanes!(add(&mut sums, &x, &groups));
    sums
}

/// Adds the products of groups `LANE` and `LANE + 4`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add<const LANE: i32>(
    sums: &mut [Sixteen<int32x4_t>],
    x: &[[int8x16_t; 2]],
    groups: &impl Fn(usize) -> Group,
) {
    let (low, high) = (groups(LANE as usize), groups(4 + LANE as usize));
    for (sums, [x_low, x_high]) in sums.iter_mut().zip(x) {
        sums.iter_mut().zip(low).for_each(|(sum, w)| *sum = sdot_lane::<LANE>(*sum, w, *x_low));
        sums.iter_mut().zip(high).for_each(|(sum, w)| *sum = sdot_lane::<LANE>(*sum, w, *x_high));
    }
}

/// The sum of products of all quants.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_quants([a, b]: [int8x16_t; 2], [c, d]: [int8x16_t; 2]) -> i32 {
    vaddvq_s32(sdot(sdot(vdupq_n_s32(0), a, c), b, d))
}

/// The sums of four rows, `start` added.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn four([x, y]: [int8x16_t; 2], rows: [[int8x16_t; 2]; 4], start: i32) -> int32x4_t {
    let start = vsetq_lane_s32::<0>(start, vdupq_n_s32(0));
    let [a, b, c, d] = rows.map(|[w, v]| sdot(sdot(start, w, x), v, y));
    vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))
}
