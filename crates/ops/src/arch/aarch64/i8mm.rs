//! Advanced SIMD with SMMLA: two rows of weights by two rows of activations, eight products to a lane of 32 bits.
//!
//! What comes out of it are pairs: two columns of two rows in a register. Results stay so from panel to panel; rows and
//! columns are put in order behind the last one, so that nothing but multiplication and scaling is left for a panel.

use core::arch::aarch64::*;
use core::arch::asm;

use super::dotprod::{self, accumulate_one};
use super::neon::panels::{Quants, Scales, Sixteen, Weights};
use crate::arch::aarch64::spill_as;
use crate::cpu::Feature;
use crate::panel::{BlockQ8, Kernel, Results, is_enough};
use crate::table::{Backend, OpTable};
use crate::workspace::{Line, Spill};

/// One row of activations would leave half of each product unused: it goes by SDOT.
pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::NeonI8mm,
    needs: dotprod::TABLE.needs.union(Feature::I8MM),
    q8_0: Kernel { accumulate, finish: Some(unpair), ..dotprod::TABLE.q8_0 },
    q4_0: Kernel { accumulate, finish: Some(unpair), ..dotprod::TABLE.q4_0 },
    q4_1: Kernel { accumulate, finish: Some(unpair), ..dotprod::TABLE.q4_1 },
    ..dotprod::TABLE
};

/// Rows of activations at a time.
const ROWS: usize = 4;

/// Eight rows of a panel, as [`multiply`] reads them: columns `2 * i` and `2 * i + 1` in register `i`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Eight {
    /// Eights of quants.
    qs: [Sixteen<int8x16_t>; 4],
    /// Scales of both columns, twice.
    d: Sixteen<float32x4_t>,
}

/// A panel, as it is read.
#[repr(C)]
struct Unpacked {
    /// Rows 0 to 7, then rows 8 to 15.
    eights: [Eight; 2],
    /// Least values of both columns, twice, of the same rows; zeros where a panel has none.
    m: [Sixteen<float32x4_t>; 2],
}

/// Lines of the workspace: a panel, as it is read.
pub(super) const SPILL_LINES: usize = size_of::<Unpacked>().div_ceil(size_of::<Line>());

#[target_feature(enable = "neon,dotprod,i8mm")]
fn accumulate<W: Weights>(
    acc: &mut [Results],
    x: &[BlockQ8],
    stride: usize,
    panels: &[W],
    spill: &mut Spill,
) {
    if !is_enough(x.len(), stride, panels.len(), acc.len()) {
        return;
    }
    let (tiles, rest) = acc.as_chunks_mut::<ROWS>();
    if !tiles.is_empty() {
        // SAFETY: bytes and f32.
        accumulate_tiles(tiles, x, stride, panels, unsafe { spill_as(spill) });
    }
    let first = tiles.len() * ROWS;
    for (i, acc) in rest.iter_mut().enumerate() {
        // SAFETY: `x` is enough.
        unsafe { accumulate_one(acc, x.get(first + i..).unwrap_or(&[]), stride, panels) };
    }
}

/// Whole tiles. Apart from the rest, which needs no registers saved; `x` is enough.
#[inline(never)]
#[target_feature(enable = "neon,dotprod,i8mm")]
fn accumulate_tiles<W: Weights>(
    tiles: &mut [[Results; ROWS]],
    x: &[BlockQ8],
    stride: usize,
    panels: &[W],
    room: &mut Unpacked,
) {
    for (b, panel) in panels.iter().enumerate() {
        let x = x.get(b * stride..).unwrap_or_default().as_chunks().0;
        let multiply = if W::HAS_LEAST { multiply_and_add_least } else { multiply };
        *room = unpack(panel);
        multiply(tiles, x, room);
    }
}

#[inline]
#[target_feature(enable = "neon,dotprod,i8mm")]
fn unpack<W: Weights>(panel: &W) -> Unpacked {
    let (quants, Scales { d, m }) = (panel.quants().zipped(), panel.scales());
    let quants =
        |i: usize| [0, 2, 4, 6].map(|g| quants.group(g + i).map(|q| vsubq_s8(q, vdupq_n_s8(W::ZERO))));
    let [a, b, c, e] = d;
    let eights = [Eight { qs: quants(0), d: twice(a, b) }, Eight { qs: quants(1), d: twice(c, e) }];
    let [a, b, c, d] = m.unwrap_or([vdupq_n_f32(0.0); 4]);
    Unpacked { eights, m: [twice(a, b), twice(c, d)] }
}

/// Pairs of lanes, each twice.
#[inline]
#[target_feature(enable = "neon,dotprod,i8mm")]
fn twice(a: float32x4_t, b: float32x4_t) -> Sixteen<float32x4_t> {
    let two = |x| {
        let x = vreinterpretq_f64_f32(x);
        [vdupq_laneq_f64::<0>(x), vdupq_laneq_f64::<1>(x)].map(|x| vreinterpretq_f32_f64(x))
    };
    let ([a, b], [c, d]) = (two(a), two(b));
    [a, b, c, d]
}

/// `zip1` and `zip2` of two registers of doubles.
macro_rules! zips {
    ($([$low:literal $high:literal] = [$a:literal $b:literal])*) => {
        concat!($(
            "zip1 v", $low, ".2d, v", $a, ".2d, v", $b, ".2d\n",
            "zip2 v", $high, ".2d, v", $a, ".2d, v", $b, ".2d\n",
        )*)
    };
}

/// Pairs to results in order: of whole tiles, whose pairs are columns 0 to 7 of rows 0 and 1, of rows 2 and 3, and columns
/// 8 to 15.
#[target_feature(enable = "neon,dotprod,i8mm")]
fn unpair(acc: &mut [Results]) {
    for tile in acc.as_chunks_mut::<ROWS>().0 {
        // SAFETY: reads and writes the 256 bytes of the tile.
        unsafe {
            asm!(
                "ld1 {{v16.4s-v19.4s}}, [{from}], #64",
                "ld1 {{v20.4s-v23.4s}}, [{from}], #64",
                "ld1 {{v24.4s-v27.4s}}, [{from}], #64",
                "ld1 {{v28.4s-v31.4s}}, [{from}]",
                zips!([0 4] = [16 17] [1 5] = [18 19] [2 6] = [24 25] [3 7] = [26 27]),
                "st1 {{v0.4s-v3.4s}}, [{to}], #64",
                "st1 {{v4.4s-v7.4s}}, [{to}], #64",
                zips!([0 4] = [20 21] [1 5] = [22 23] [2 6] = [28 29] [3 7] = [30 31]),
                "st1 {{v0.4s-v3.4s}}, [{to}], #64",
                "st1 {{v4.4s-v7.4s}}, [{to}]",
                from = inout(reg) tile.as_ptr() => _, to = inout(reg) tile.as_mut_ptr() => _,
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                out("v7") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
                out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _,
                out("v29") _, out("v30") _, out("v31") _,
                options(nostack, preserves_flags)
            );
        }
    }
}

/// `smmla $acc, $x, $w` for an eight of quants of two pairs of rows.
macro_rules! smmlas {
    ($x:literal, [$($acc:literal)*], [$($w:literal)*]) => {
        concat!($("smmla v", $acc, ".4s, v", $x, ".16b, v", $w, ".16b\n",)*)
    };
    ($x:literal, $y:literal, $w:tt) => {
        concat!(smmlas!($x, [0 1 2 3], $w), smmlas!($y, [4 5 6 7], $w))
    };
}

/// `$instruction` with vectors of four, for each list of registers.
macro_rules! fours {
    ($instruction:literal: $([$first:literal $($other:literal)*])*) => {
        concat!($($instruction, " v", $first, ".4s" $(, ", v", $other, ".4s")*, "\n",)*)
    };
}

/// Loads a block of a row: its eights of quants to half `$i` of four registers, `$first` to `$last`, and scale and offset to
/// that of `$d`.
macro_rules! load_row {
    ($d:literal, [$first:literal $last:literal], $i:literal) => {
        concat!(
            "ld1 {{v",
            $d,
            ".d}}[",
            $i,
            "], [{x}], #8\n",
            "ld4 {{v",
            $first,
            ".d-v",
            $last,
            ".d}}[",
            $i,
            "], [{x}], #32\n",
        )
    };
}

/// Adds the products with eight columns: `$end` runs behind their scaling, when the results are in v24 to v31; the next
/// weights are `$step` behind the last of these.
macro_rules! add_eight {
    ($step:literal, $end:expr) => {
        concat!(
            "ld1 {{v0.4s-v3.4s}}, [{zeros}]\n",
            "ld1 {{v4.4s-v7.4s}}, [{zeros}]\n",
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64\n",
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64\n",
            smmlas!(16, 20, [24 25 26 27]),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64\n",
            smmlas!(17, 21, [28 29 30 31]),
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64\n",
            smmlas!(18, 22, [24 25 26 27]),
            "ld1 {{v8.4s-v11.4s}}, [{w}], ", $step, "\n",
            "ld1 {{v24.4s-v27.4s}}, [{from}], #64\n",
            smmlas!(19, 23, [28 29 30 31]),
            "ld1 {{v28.4s-v31.4s}}, [{from}], #64\n",
            fours!("scvtf": [0 0] [1 1] [2 2] [3 3] [4 4] [5 5] [6 6] [7 7]),
            // sums * (d_x * d) + acc
            fours!("fmul": [12 8 14] [13 9 14]),
            fours!("fmla": [24 0 12] [25 1 13]),
            fours!("fmul": [12 10 14] [13 11 14] [8 8 15] [9 9 15] [10 10 15] [11 11 15]),
            fours!("fmla": [26 2 12] [27 3 13] [28 4 8] [29 5 9] [30 6 10] [31 7 11]),
            $end,
            "st1 {{v24.4s-v27.4s}}, [{to}], #64\n",
            "st1 {{v28.4s-v31.4s}}, [{to}], #64\n",
        )
    };
}

/// What sums start with.
static ZEROS: [i32; 16] = [0; 16];

/// Defines the loop over tiles: `$start` runs at the start of one, when v12 and v13 hold scales and offsets of its rows,
/// `$end` as in [`add_eight`]; both have `$operands` more.
macro_rules! define_multiply {
    ($name:ident($tiles:ident, $x:ident, $w:ident), $start:expr, $end:expr, {$($operands:tt)*}) => {
        /// Adds the products of a panel with `tiles.len()` times four rows of activations to their pairs.
        ///
        /// One block of assembly: all registers are in use, and the compiler's order of loads would spill half of them.
        #[inline]
        #[target_feature(enable = "neon,dotprod,i8mm")]
        fn $name($tiles: &mut [[Results; ROWS]], $x: &[[BlockQ8; ROWS]], $w: &Unpacked) {
            let n = $tiles.len().min($x.len());
            if n == 0 {
                return;
            }
            // SAFETY: reads the blocks of `n` times four rows, all of `w` and the zeros, goes over the results of as many
            // rows and over what the operands say.
            unsafe {
                asm!(
                    "2:",
                    // Eights of quants of both rows of a pair, side by side.
                    load_row!(12, [16 19], 0),
                    load_row!(12, [16 19], 1),
                    load_row!(13, [20 23], 0),
                    load_row!(13, [20 23], 1),
                    "trn1 v14.4s, v12.4s, v12.4s",
                    "trn1 v15.4s, v13.4s, v13.4s",
                    $start,
                    add_eight!("#64", $end),
                    add_eight!("{back}", $end),
                    "subs {n}, {n}, #1",
                    "b.ne 2b",
                    n = inout(reg) n => _, x = inout(reg) $x.as_ptr() => _,
                    from = inout(reg) $tiles.as_ptr() => _, to = inout(reg) $tiles.as_mut_ptr() => _,
                    w = inout(reg) $w.eights.as_ptr() => _,
                    back = in(reg) size_of::<Sixteen<float32x4_t>>().wrapping_sub(size_of_val(&$w.eights)),
                    zeros = in(reg) &raw const ZEROS,
                    $($operands)*
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                    out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _,
                    out("v13") _, out("v14") _, out("v15") _, out("v16") _, out("v17") _, out("v18") _,
                    out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _,
                    out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _,
                    out("v31") _,
                    options(nostack)
                );
            }
        }
    };
}

define_multiply!(multiply(tiles, x, w), "", "", {});
define_multiply!(
    multiply_and_add_least(tiles, x, w),
    // sum_x * d_x of both rows of a pair, each twice, to memory
    concat!(
        "trn2 v12.4s, v12.4s, v12.4s\n",
        "trn2 v13.4s, v13.4s, v13.4s\n",
        fours!("scvtf": [12 12] [13 13]),
        "fmov v24.4s, #-0.125\n",
        fours!("fmul": [12 12 24] [13 13 24] [12 12 14] [13 13 15]),
        "st1 {{v12.4s-v13.4s}}, [{least}]\n",
        "mov {m}, {least_w}\n",
    ),
    concat!(
        "ld1 {{v12.4s-v13.4s}}, [{least}]\n",
        "ld1 {{v8.4s-v11.4s}}, [{m}], #64\n",
        fours!("fmla": [24 8 12] [25 9 12] [26 10 12] [27 11 12] [28 8 13] [29 9 13] [30 10 13] [31 11 13]),
    ),
    { least = in(reg) [0f32; 8].as_mut_ptr(), least_w = in(reg) w.m.as_ptr(), m = out(reg) _, }
);
