//! Advanced SIMD with SMMLA: two rows of weights by two rows of activations, eight products to a lane of 32 bits.

use core::arch::aarch64::*;
use core::arch::asm;
use core::mem::{MaybeUninit, offset_of};

use super::dotprod::{self, accumulate_one};
use super::neon::panels::{
    Quants, Sixteen, Unpacked, Weights, define_accumulate, load_results, store_results,
};
use crate::cpu::Feature;
use crate::panel::{BlockQ8, Kernel, Results, is_enough};
use crate::table::{Backend, OpTable};

/// One row of activations would leave half of each product unused: it goes by SDOT.
pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::NeonI8mm,
    needs: dotprod::TABLE.needs.union(Feature::I8MM),
    q8_0: Kernel { accumulate, ..dotprod::TABLE.q8_0 },
    q4_0: Kernel { accumulate, ..dotprod::TABLE.q4_0 },
    q4_1: Kernel { accumulate, ..dotprod::TABLE.q4_1 },
    ..dotprod::TABLE
};

define_accumulate!(target_feature(enable = "neon,dotprod,i8mm"), 4, unpack, tile);

/// Eights of quants, two rows to a register: groups `2 * i` and `2 * i + 1` side by side make two of them.
#[inline]
#[target_feature(enable = "neon,dotprod,i8mm")]
fn unpack(quants: impl Quants) -> Unpacked {
    let quants = quants.zipped();
    [0, 1, 2, 3, 4, 5, 6, 7].map(|g| quants.group(g))
}

/// The instructions of [`tile`] for an eight of four pairs of rows: `smmla $acc, $x, $w`.
macro_rules! smmlas {
    ($x:literal, [$($acc:literal)*], [$($w:literal)*]) => {
        concat!($("smmla v", $acc, ".4s, v", $x, ".16b, v", $w, ".16b\n",)*)
    };
    (low, $x:literal, $y:literal, $w:tt) => {
        concat!(smmlas!($x, [0 1 2 3], $w), smmlas!($y, [8 9 10 11], $w))
    };
    (high, $x:literal, $y:literal, $w:tt) => {
        concat!(smmlas!($x, [4 5 6 7], $w), smmlas!($y, [12 13 14 15], $w))
    };
}

/// The sums of products for four rows of activations.
///
/// One block of assembly: all registers are in use, and the compiler's order of loads would spill half of them.
#[inline]
#[target_feature(enable = "neon,dotprod,i8mm")]
fn tile<W: Weights>(x: &[BlockQ8; 4], w: &Unpacked) -> [Sixteen<int32x4_t>; 4] {
    // Two rows in a register, as they come out.
    let start = |a, b| vcombine_s32(vdup_n_s32(W::start(a)), vdup_n_s32(W::start(b)));
    let [a, b, c, d] = x;
    let (mut low, mut high) = ([start(a, b); 8], [start(c, d); 8]);
    let first = x.as_ptr().cast::<u8>().wrapping_add(offset_of!(BlockQ8, qs));
    // SAFETY: reads the quants of four rows, each a block further, and the 512 bytes of `w`.
    unsafe {
        asm!(
            "ld1 {{v24.16b-v25.16b}}, [{x}], {stride}",
            "ld1 {{v26.16b-v27.16b}}, [{x}], {stride}",
            "ld1 {{v28.16b-v29.16b}}, [{x}], {stride}",
            "ld1 {{v30.16b-v31.16b}}, [{x}]",
            "zip1 v16.2d, v24.2d, v26.2d",
            "zip2 v17.2d, v24.2d, v26.2d",
            "zip1 v18.2d, v25.2d, v27.2d",
            "zip2 v19.2d, v25.2d, v27.2d",
            "zip1 v20.2d, v28.2d, v30.2d",
            "zip2 v21.2d, v28.2d, v30.2d",
            "zip1 v22.2d, v29.2d, v31.2d",
            "zip2 v23.2d, v29.2d, v31.2d",
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64",
            smmlas!(low, 16, 20, [24 25 26 27]),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            smmlas!(high, 16, 20, [28 29 30 31]),
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64",
            smmlas!(low, 17, 21, [24 25 26 27]),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            smmlas!(high, 17, 21, [28 29 30 31]),
            "ld1 {{v28.16b-v31.16b}}, [{w}], #64",
            smmlas!(low, 18, 22, [24 25 26 27]),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            smmlas!(high, 18, 22, [28 29 30 31]),
            "ld1 {{v28.16b-v31.16b}}, [{w}]",
            smmlas!(low, 19, 23, [24 25 26 27]),
            smmlas!(high, 19, 23, [28 29 30 31]),
            // Rows of activations apart: sums of rows 2 * i and 2 * i + 1 come from two registers.
            "zip2 v24.2d, v0.2d, v1.2d",
            "zip1 v0.2d, v0.2d, v1.2d",
            "zip2 v25.2d, v2.2d, v3.2d",
            "zip1 v1.2d, v2.2d, v3.2d",
            "zip2 v26.2d, v4.2d, v5.2d",
            "zip1 v2.2d, v4.2d, v5.2d",
            "zip2 v27.2d, v6.2d, v7.2d",
            "zip1 v3.2d, v6.2d, v7.2d",
            "zip2 v28.2d, v8.2d, v9.2d",
            "zip1 v8.2d, v8.2d, v9.2d",
            "zip2 v29.2d, v10.2d, v11.2d",
            "zip1 v9.2d, v10.2d, v11.2d",
            "zip2 v30.2d, v12.2d, v13.2d",
            "zip1 v10.2d, v12.2d, v13.2d",
            "zip2 v31.2d, v14.2d, v15.2d",
            "zip1 v11.2d, v14.2d, v15.2d",
            x = inout(reg) first => _, stride = in(reg) size_of::<BlockQ8>(),
            w = inout(reg) w.as_ptr() => _,
            inout("v0") low[0], inout("v1") low[1], inout("v2") low[2], inout("v3") low[3],
            inout("v4") low[4] => _, inout("v5") low[5] => _, inout("v6") low[6] => _, inout("v7") low[7] => _,
            inout("v8") high[0], inout("v9") high[1], inout("v10") high[2], inout("v11") high[3],
            inout("v12") high[4] => _, inout("v13") high[5] => _, inout("v14") high[6] => _,
            inout("v15") high[7] => _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _,
            out("v23") _, out("v24") low[4], out("v25") low[5], out("v26") low[6], out("v27") low[7],
            out("v28") high[4], out("v29") high[5], out("v30") high[6], out("v31") high[7],
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (low, high);
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]]
}
