//! Advanced SIMD with SDOT: four products to a lane of 32 bits.

use core::arch::aarch64::*;
use core::arch::asm;
use core::mem::offset_of;

use super::neon::panels::{
    Group, Quants, Scales, Sixteen, Unpacked, Weights, define_accumulate, define_accumulate_one, for_lanes,
    load_quants, load_results, store_results,
};
use super::neon::rows::{SixteenRows, define_dot, define_one_row, fused, split_nibbles, widen_one};
use super::neon::{self, load_nibbles};
use crate::arch::aarch64::spill_as;
use crate::block::{BlockQ4_0, BlockQ4_1, BlockQ8_0, F16};
use crate::cpu::Feature;
use crate::panel::{BlockQ8, Kernel, PANEL_ROWS, Results, is_enough, sixteens};
use crate::table::{Backend, OpTable};
use crate::workspace::Spill;

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::NeonDotprod,
    needs: neon::TABLE.needs.union(Feature::DOTPROD),
    q8_0: Kernel { dot: dot_q8_0, accumulate, one_row: Some(one_row_q8_0), ..neon::TABLE.q8_0 },
    q4_0: Kernel { dot: dot_q4_0, accumulate, one_row: Some(sixteen_rows_q4_0), ..neon::TABLE.q4_0 },
    q4_1: Kernel { dot: dot_q4_1, accumulate, one_row: Some(one_row_q4_1), ..neon::TABLE.q4_1 },
    ..neon::TABLE
};

define_accumulate_one!(target_feature(enable = "neon,dotprod"), sums_of_one);
define_accumulate!(target_feature(enable = "neon,dotprod"), 4, tile);
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

/// The sums of products for one row of activations.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sums_of_one<W: Weights>(x: &BlockQ8, groups: impl Fn(usize) -> Group) -> Sixteen<int32x4_t> {
    let mut sums = [vdupq_n_s32(W::start(x)); 4];
    for_lanes!(add(&mut sums, load_quants(&x.qs), &groups));
    sums
}

/// Adds the products of groups `LANE` and `LANE + 4`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add<const LANE: i32>(
    sums: &mut Sixteen<int32x4_t>,
    [x, y]: [int8x16_t; 2],
    groups: &impl Fn(usize) -> Group,
) {
    sums.iter_mut().zip(groups(LANE as usize)).for_each(|(sum, w)| *sum = sdot_lane::<LANE>(*sum, w, x));
    sums.iter_mut().zip(groups(4 + LANE as usize)).for_each(|(sum, w)| *sum = sdot_lane::<LANE>(*sum, w, y));
}

/// The instructions of [`tile`] for one group: `sdot $acc, $w, $x[$lane]`.
macro_rules! sdots {
    ($lane:literal, $x:literal, [$($acc:literal)*], [$($w:literal)*]) => {
        concat!($("sdot v", $acc, ".4s, v", $w, ".16b, v", $x, ".4b[", $lane, "]\n",)*)
    };
    ($lane:literal, [$a:literal $b:literal $c:literal $d:literal], $w:tt) => {
        concat!(
            sdots!($lane, $a, [0 1 2 3], $w),
            sdots!($lane, $b, [4 5 6 7], $w),
            sdots!($lane, $c, [8 9 10 11], $w),
            sdots!($lane, $d, [12 13 14 15], $w)
        )
    };
}

/// The sums of products for four rows of activations.
///
/// One block of assembly: all registers are in use, and the compiler's order of loads spills half of them.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn tile<W: Weights>(x: &[BlockQ8; 4], w: &Unpacked) -> [Sixteen<int32x4_t>; 4] {
    let [mut s, mut t, mut u, mut v] = x.each_ref().map(|x| [vdupq_n_s32(W::start(x)); 4]);
    let first = x.as_ptr().cast::<u8>().wrapping_add(offset_of!(BlockQ8, qs));
    // SAFETY: reads the quants of four rows, each a block further, and the 512 bytes of `w`.
    unsafe {
        asm!(
            "ld1 {{v16.16b-v17.16b}}, [{x}], {stride}",
            "ld1 {{v18.16b-v19.16b}}, [{x}], {stride}",
            "ld1 {{v20.16b-v21.16b}}, [{x}], {stride}",
            "ld1 {{v22.16b-v23.16b}}, [{x}]",
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64",
            sdots!(0, [16 18 20 22], [24 25 26 27]),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            sdots!(1, [16 18 20 22], [28 29 30 31]),
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64",
            sdots!(2, [16 18 20 22], [24 25 26 27]),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            sdots!(3, [16 18 20 22], [28 29 30 31]),
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64",
            sdots!(0, [17 19 21 23], [24 25 26 27]),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            sdots!(1, [17 19 21 23], [28 29 30 31]),
            "ld1 {{v28.16b-v31.16b}}, [{w}]",
            sdots!(2, [17 19 21 23], [24 25 26 27]),
            sdots!(3, [17 19 21 23], [28 29 30 31]),
            x = inout(reg) first => _, stride = in(reg) size_of::<BlockQ8>(),
            w = inout(reg) w.as_ptr() => _,
            inout("v0") s[0], inout("v1") s[1], inout("v2") s[2], inout("v3") s[3],
            inout("v4") t[0], inout("v5") t[1], inout("v6") t[2], inout("v7") t[3],
            inout("v8") u[0], inout("v9") u[1], inout("v10") u[2], inout("v11") u[3],
            inout("v12") v[0], inout("v13") v[1], inout("v14") v[2], inout("v15") v[3],
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _,
            out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            out("v30") _, out("v31") _,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    [s, t, u, v]
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

/// The instructions of [`add_rows_q4_0`] that load the next four rows: the nibbles of each to an odd register, the 16 bytes
/// before them to the one before it, whose last two are the scale. From the last row it is `$step` to the next.
macro_rules! load_four {
    ($step:literal) => {
        concat!(
            "ld1 {{v0.16b-v1.16b}}, [{q}], {stride}\n",
            "ld1 {{v2.16b-v3.16b}}, [{q}], {stride}\n",
            "ld1 {{v4.16b-v5.16b}}, [{q}], {stride}\n",
            "ld1 {{v6.16b-v7.16b}}, [{q}], {",
            $step,
            "}\n",
        )
    };
}

/// Adds to `$acc` the sums of four rows, loaded before, by their scales; `$next` runs once the rows are done with.
macro_rules! add_four {
    ($acc:literal, $next:expr) => {
        concat!(
            "zip2 v31.8h, v0.8h, v2.8h\n",
            "zip2 v30.8h, v4.8h, v6.8h\n",
            "zip2 v31.4s, v31.4s, v30.4s\n",
            "ld1 {{v20.4s-v23.4s}}, [{starts}]\n",
            "and v0.16b, v1.16b, v24.16b\n",
            "and v2.16b, v3.16b, v24.16b\n",
            "and v4.16b, v5.16b, v24.16b\n",
            "and v6.16b, v7.16b, v24.16b\n",
            "ushr v1.16b, v1.16b, #4\n",
            "ushr v3.16b, v3.16b, #4\n",
            "ushr v5.16b, v5.16b, #4\n",
            "ushr v7.16b, v7.16b, #4\n",
            "sdot v20.4s, v0.16b, v25.16b\n",
            "sdot v21.4s, v2.16b, v25.16b\n",
            "sdot v22.4s, v4.16b, v25.16b\n",
            "sdot v23.4s, v6.16b, v25.16b\n",
            "sdot v20.4s, v1.16b, v26.16b\n",
            "sdot v21.4s, v3.16b, v26.16b\n",
            "sdot v22.4s, v5.16b, v26.16b\n",
            "sdot v23.4s, v7.16b, v26.16b\n",
            $next,
            "fcvtl2 v31.4s, v31.8h\n",
            "addp v20.4s, v20.4s, v21.4s\n",
            "addp v22.4s, v22.4s, v23.4s\n",
            "fmul v31.4s, v31.4s, v27.4s\n",
            "addp v20.4s, v20.4s, v22.4s\n",
            "fsub v20.4s, v20.4s, v28.4s\n",
            "fmla v",
            $acc,
            ".4s, v20.4s, v31.4s\n",
        )
    };
}

/// Adds the sums of sixteen rows, and goes on to the next block.
macro_rules! add_block {
    () => {
        concat!(
            load_four!("stride"),
            "ld2r {{v27.4s, v28.4s}}, [{d}], {size}\n",
            "ld1 {{v25.16b-v26.16b}}, [{qs}], {size}\n",
            "sub v28.4s, v29.4s, v28.4s\n",
            add_four!(16, load_four!("stride")),
            add_four!(17, load_four!("stride")),
            add_four!(18, load_four!("back")),
            add_four!(19, ""),
        )
    };
}

/// The bits of 1.5 * 2^23: with a sum of quants added to them they are those of the f32 that is as much larger, exactly, so
/// that one subtraction makes an f32 of the sum and adds the offset.
const BIAS: i32 = 12_582_912f32.to_bits().cast_signed();

/// What the sums of four rows start with.
static STARTS: [[i32; 4]; 4] = [[BIAS, 0, 0, 0]; 4];

/// As [`one_row_q4_0`], by fewer instructions.
#[target_feature(enable = "neon,dotprod")]
fn sixteen_rows_q4_0(acc: &mut [Results], x: &[BlockQ8], blocks: &[BlockQ4_0], stride: usize) {
    let n = acc.len().min(sixteens(blocks, stride).len());
    let Some((first, acc)) = acc.get_mut(..n).and_then(|acc| acc.split_at_mut_checked(1)) else { return };
    let Some((x_first, x_rest)) = x.split_at_checked(1).filter(|_| x.len() <= stride) else { return };
    let Some(rows) = SixteenRows::new(blocks, stride, x.len()) else { return };
    // Before the very first block there may be nothing.
    one_row_q4_0(first, x_first, blocks, stride);
    // SAFETY: every row has a block for each of `x`, and before these there is another one.
    unsafe {
        add_rows_q4_0(first, x_rest, rows.skip(size_of::<BlockQ4_0>()));
        add_rows_q4_0(acc, x, rows.skip(rows.stride.wrapping_mul(PANEL_ROWS)));
    }
}

/// Adds the products of one row of activations with `acc.len()` sixteens of rows.
///
/// One block of assembly: four sums are started by one load, and scaled before the next four. Two blocks at a time, of which
/// an odd number begins with the second.
///
/// # Safety
///
/// The rows have as many blocks as `x`, and 14 bytes before the first of them can be read.
#[inline(never)]
#[target_feature(enable = "neon,dotprod")]
unsafe fn add_rows_q4_0(acc: &mut [Results], x: &[BlockQ8], rows: SixteenRows) {
    const BLOCK: usize = size_of::<BlockQ4_0>();
    if acc.is_empty() || x.is_empty() {
        return;
    }
    let stride = rows.stride;
    // SAFETY: reads `x`, `x.len()` blocks of as many sixteens of rows as there are results, each with 14 bytes before it,
    // and the table; goes over the results.
    unsafe {
        asm!(
            "ld1r {{v29.4s}}, [{starts}]",
            "movi v24.16b, #15",
            "2:",
            "ld1 {{v16.4s-v19.4s}}, [{acc}]",
            "mov {d}, {x}",
            "add {qs}, {x}, #{qs_at}",
            "tbnz {n}, #0, 4f",
            "3:",
            add_block!(),
            "4:",
            add_block!(),
            "cmp {d}, {end}",
            "b.ne 3b",
            "st1 {{v16.4s-v19.4s}}, [{acc}], #64",
            "add {q}, {q}, {next}",
            "cmp {acc}, {acc_end}",
            "b.ne 2b",
            acc = inout(reg) acc.as_mut_ptr() => _, acc_end = in(reg) acc.as_ptr_range().end,
            x = in(reg) x.as_ptr(), end = in(reg) x.as_ptr_range().end, d = out(reg) _, qs = out(reg) _,
            qs_at = const offset_of!(BlockQ8, qs), size = in(reg) size_of::<BlockQ8>(),
            n = in(reg) x.len(), starts = in(reg) &raw const STARTS,
            q = inout(reg) rows.first.wrapping_add(size_of::<F16>()).wrapping_sub(16) => _,
            stride = in(reg) stride,
            back = in(reg) BLOCK.wrapping_sub(stride.wrapping_mul(PANEL_ROWS - 1)),
            next = in(reg) stride.wrapping_mul(PANEL_ROWS).wrapping_sub(x.len().wrapping_mul(BLOCK)),
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
            out("v7") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _,
            out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack)
        );
    }
}
