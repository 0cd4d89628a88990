//! Weights in a file's order: sixteen rows gathered into panels, read as they are by one row of activations, or one by one.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{load32, neon, store32};
use crate::block::{BlockQ4_0, BlockQ4_1, BlockQ8_0, F16};
use crate::panel::{PANEL_ROWS, PanelQ4_0, PanelQ4_1, PanelQ8_0, is_enough};

/// Where one block of each of sixteen rows starts.
#[derive(Clone, Copy)]
pub(in crate::arch::aarch64) struct SixteenRows {
    pub(in crate::arch::aarch64) first: *const u8,
    /// Bytes from a row to the next.
    pub(in crate::arch::aarch64) stride: usize,
}

impl SixteenRows {
    /// Rows that start at `blocks`, `stride` blocks apart, with `n` blocks each; `None` when there are fewer.
    #[inline(always)]
    pub(in crate::arch::aarch64) fn new<B>(blocks: &[B], stride: usize, n: usize) -> Option<Self> {
        if !is_enough(blocks.len(), stride, PANEL_ROWS, n) {
            return None;
        }
        Some(Self { first: blocks.as_ptr().cast(), stride: stride.wrapping_mul(size_of::<B>()) })
    }

    /// What lies `offset` bytes further.
    #[inline(always)]
    pub(in crate::arch::aarch64) fn skip(self, offset: usize) -> Self {
        Self { first: self.first.wrapping_add(offset), ..self }
    }

    /// Whether all of them start at even addresses.
    #[inline(always)]
    pub(in crate::arch::aarch64) fn are_even(self) -> bool {
        self.first.addr().is_multiple_of(2) && self.stride.is_multiple_of(2)
    }

    /// The next half of each row.
    ///
    /// # Safety
    ///
    /// The rows have two bytes there.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::arch::aarch64) unsafe fn halves(self) -> [uint8x16_t; 2] {
        if !self.are_even() {
            // SAFETY: as the caller says.
            return unsafe { self.odd_halves() };
        }
        let (low, high): (uint8x16_t, uint8x16_t);
        // SAFETY: reads two bytes of each row, which the caller says are there, at even addresses.
        unsafe {
            asm!(
                "ld1 {{{a:v}.h}}[0], [{p}], {s}",
                "ld1 {{{a:v}.h}}[1], [{p}], {s}",
                "ld1 {{{a:v}.h}}[2], [{p}], {s}",
                "ld1 {{{a:v}.h}}[3], [{p}], {s}",
                "ld1 {{{a:v}.h}}[4], [{p}], {s}",
                "ld1 {{{a:v}.h}}[5], [{p}], {s}",
                "ld1 {{{a:v}.h}}[6], [{p}], {s}",
                "ld1 {{{a:v}.h}}[7], [{p}], {s}",
                "ld1 {{{b:v}.h}}[0], [{p}], {s}",
                "ld1 {{{b:v}.h}}[1], [{p}], {s}",
                "ld1 {{{b:v}.h}}[2], [{p}], {s}",
                "ld1 {{{b:v}.h}}[3], [{p}], {s}",
                "ld1 {{{b:v}.h}}[4], [{p}], {s}",
                "ld1 {{{b:v}.h}}[5], [{p}], {s}",
                "ld1 {{{b:v}.h}}[6], [{p}], {s}",
                "ld1 {{{b:v}.h}}[7], [{p}], {s}",
                a = out(vreg) low, b = out(vreg) high, p = inout(reg) self.first => _, s = in(reg) self.stride,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        [low, high]
    }

    /// The same at odd addresses, which a CPU told to check alignment does not load halves from.
    ///
    /// # Safety
    ///
    /// The rows have two bytes there.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "neon")]
    unsafe fn odd_halves(self) -> [uint8x16_t; 2] {
        let mut halves = [F16::from_bits(0); PANEL_ROWS];
        for (r, half) in halves.iter_mut().enumerate() {
            // SAFETY: as the caller says; halves have alignment 1.
            *half = unsafe { *self.first.wrapping_add(r.wrapping_mul(self.stride)).cast() };
        }
        // SAFETY: sixteen halves are 32 bytes.
        load32(unsafe { &*halves.as_ptr().cast() })
    }

    /// The next 16 bytes of four rows.
    ///
    /// # Safety
    ///
    /// The rows have 16 bytes there.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::arch::aarch64) unsafe fn four(&mut self) -> [uint8x16_t; 4] {
        let (a, b, c, d);
        // SAFETY: reads 16 bytes of each of four rows, which the caller says are there.
        unsafe {
            asm!(
                "ld1 {{{a:v}.16b}}, [{p}], {s}",
                "ld1 {{{b:v}.16b}}, [{p}], {s}",
                "ld1 {{{c:v}.16b}}, [{p}], {s}",
                "ld1 {{{d:v}.16b}}, [{p}], {s}",
                a = out(vreg) a, b = out(vreg) b, c = out(vreg) c, d = out(vreg) d,
                p = inout(reg) self.first, s = in(reg) self.stride,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        [a, b, c, d]
    }

    /// The fours of the next 16 bytes of each row, one row beside the other.
    ///
    /// # Safety
    ///
    /// The rows have 16 bytes there.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn interleaved(mut self) -> [[uint8x16_t; 4]; 4] {
        // SAFETY: as the caller says.
        let [a, b, c, d] =
            unsafe { [self.four(), self.four(), self.four(), self.four()] }.map(|x| transpose(x));
        [0, 1, 2, 3].map(|g: usize| [a[g % 4], b[g % 4], c[g % 4], d[g % 4]])
    }
}

/// Four words of 32 bits of four rows, turned over: word `i` of all rows in register `i`.
///
/// In zips of words alone: those of 64 bits come out as moves and inserts, two for one.
#[inline]
#[target_feature(enable = "neon")]
fn transpose(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    let [a, b, c, d] = rows.map(|x| vreinterpretq_u32_u8(x));
    let (ac_low, ac_high) = (vzip1q_u32(a, c), vzip2q_u32(a, c));
    let (bd_low, bd_high) = (vzip1q_u32(b, d), vzip2q_u32(b, d));
    [
        vzip1q_u32(ac_low, bd_low),
        vzip2q_u32(ac_low, bd_low),
        vzip1q_u32(ac_high, bd_high),
        vzip2q_u32(ac_high, bd_high),
    ]
    .map(|x| vreinterpretq_u8_u32(x))
}

/// Defines the `pack` of one type of blocks: `$step` gathers one panel from `$rows`, `$at` bytes into them.
macro_rules! pack {
    ($name:ident, $panel:ty, $block:ty, |$to:ident, $rows:ident, $at:ident| $step:expr) => {
        #[target_feature(enable = "neon")]
        pub(in crate::arch::aarch64) fn $name(
            panels: &mut [$panel],
            blocks: &[$block],
            stride: usize,
            _ahead: usize,
        ) {
            let Some($rows) = SixteenRows::new(blocks, stride, panels.len()) else { return };
            for (b, $to) in panels.iter_mut().enumerate() {
                let $at = b * size_of::<$block>();
                // SAFETY: `SixteenRows::new` found this many blocks.
                unsafe { $step }
            }
        }
    };
}

pack!(pack_q4_0, PanelQ4_0, BlockQ4_0, |to, rows, at| {
    store32(&mut to.d, rows.skip(at).halves());
    store256(&mut to.qs, rows.skip(at + 2).interleaved());
});
pack!(pack_q4_1, PanelQ4_1, BlockQ4_1, |to, rows, at| {
    store32(&mut to.d, rows.skip(at).halves());
    store32(&mut to.m, rows.skip(at + 2).halves());
    store256(&mut to.qs, rows.skip(at + 4).interleaved());
});
pack!(pack_q8_0, PanelQ8_0, BlockQ8_0, |to, rows, at| {
    let (low, high) = to.qs.split_at_mut(4);
    store32(&mut to.d, rows.skip(at).halves());
    store256(low, rows.skip(at + 2).interleaved());
    store256(high, rows.skip(at + 18).interleaved());
});

/// Stores 256 bytes at any address: in fixed registers, so that nothing but the stores is left.
///
/// # Safety
///
/// They are there.
#[inline(always)]
unsafe fn store256<T>(to: &mut T, x: [[uint8x16_t; 4]; 4])
where
    T: ?Sized,
{
    let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = x;
    // SAFETY: writes 256 bytes that the caller says are there.
    unsafe {
        asm!(
            "st1 {{v16.16b-v19.16b}}, [{0}], #64",
            "st1 {{v20.16b-v23.16b}}, [{0}], #64",
            "st1 {{v24.16b-v27.16b}}, [{0}], #64",
            "st1 {{v28.16b-v31.16b}}, [{0}]",
            inout(reg) core::ptr::from_mut(to).cast::<u8>() => _,
            in("v16") a, in("v17") b, in("v18") c, in("v19") d, in("v20") e, in("v21") f, in("v22") g,
            in("v23") h, in("v24") i, in("v25") j, in("v26") k, in("v27") l, in("v28") m, in("v29") n,
            in("v30") o, in("v31") p,
            options(nostack, preserves_flags)
        );
    }
}

/// Defines `one_row_q4_0`, `one_row_q4_1` and `one_row_q8_0` of one back-end: `$narrow(x, rows, start)` and `$wide(..)` give the sums of four rows of nibbles and of
/// bytes with the 32 quants `x`, `start` added.
macro_rules! define_one_row {
    ($feature:meta, $narrow:ident, $wide:ident) => {
        #[$feature]
        fn one_row_q4_0(acc: &mut [Results], x: &[BlockQ8], blocks: &[BlockQ4_0], stride: usize) {
            one_row(acc, x, blocks, stride, |x, rows| {
                // SAFETY: a block is here.
                unsafe {
                    let (scales, mut qs) = (Scales::new(rows.halves(), None), rows.skip(2));
                    let quants = load_quants(&x.qs);
                    let mut four = || $narrow(quants, split_nibbles(qs.four()), x.offset);
                    (scales, [four(), four(), four(), four()])
                }
            });
        }

        #[$feature]
        fn one_row_q4_1(acc: &mut [Results], x: &[BlockQ8], blocks: &[BlockQ4_1], stride: usize) {
            one_row(acc, x, blocks, stride, |x, rows| {
                // SAFETY: a block is here.
                unsafe {
                    let (scales, mut qs) =
                        (Scales::new(rows.halves(), Some(rows.skip(2).halves())), rows.skip(4));
                    let quants = load_quants(&x.qs);
                    let mut four = || $narrow(quants, split_nibbles(qs.four()), 0);
                    (scales, [four(), four(), four(), four()])
                }
            });
        }

        #[$feature]
        fn one_row_q8_0(acc: &mut [Results], x: &[BlockQ8], blocks: &[BlockQ8_0], stride: usize) {
            one_row(acc, x, blocks, stride, |x, rows| {
                // SAFETY: a block is here.
                unsafe {
                    let scales = Scales::new(rows.halves(), None);
                    let (mut low, mut high) = (rows.skip(2), rows.skip(18));
                    let quants = load_quants(&x.qs);
                    let both = |low: [uint8x16_t; 4], high: [uint8x16_t; 4]| {
                        [0, 1, 2, 3].map(|i: usize| [low[i % 4], high[i % 4]].map(|x| vreinterpretq_s8_u8(x)))
                    };
                    let mut four = || $wide(quants, both(low.four(), high.four()), 0);
                    (scales, [four(), four(), four(), four()])
                }
            });
        }

        /// Runs `$sums` for every block: it gives scales and sums.
        #[inline]
        #[$feature]
        fn one_row<B>(
            acc: &mut [Results],
            x: &[BlockQ8],
            blocks: &[B],
            stride: usize,
            sums: impl Fn(&BlockQ8, SixteenRows) -> (Scales, Sixteen<int32x4_t>),
        ) {
            for (acc, blocks) in acc.iter_mut().zip(sixteens(blocks, stride)) {
                let Some(rows) = SixteenRows::new(blocks, stride, x.len()) else { return };
                let mut results = load_results(acc);
                for (b, x) in x.iter().enumerate() {
                    let (scales, sums) = sums(x, rows.skip(b * size_of::<B>()));
                    results = scales.add(results, sums, x);
                }
                store_results(acc, results);
            }
        }
    };
}
pub(in crate::arch::aarch64) use define_one_row;

/// The nibbles of four rows: the low ones of each, then the high ones.
#[inline(always)]
pub(in crate::arch::aarch64) fn split_nibbles(rows: [uint8x16_t; 4]) -> [[int8x16_t; 2]; 4] {
    rows.map(|x| {
        neon!([vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8::<4>(x))])
    })
}

/// Defines the products of single rows with some CPU features and their sum of products of 32 quants.
macro_rules! define_dot {
    ($feature:meta, $dot_quants:ident) => {
        #[$feature]
        pub(in crate::arch::aarch64) fn dot_q8_0(x: &[BlockQ8_0], w: &[BlockQ8_0]) -> f32 {
            let blocks = x.iter().zip(w);
            blocks.fold(0.0, |acc, (x, w)| {
                let sum = $dot_quants(load_quants(&x.qs), load_quants(&w.qs));
                fused(sum as f32, widen_one(x.d) * widen_one(w.d), acc)
            })
        }

        #[$feature]
        pub(in crate::arch::aarch64) fn dot_q4_0(x: &[BlockQ8_0], w: &[BlockQ4_0]) -> f32 {
            let blocks = x.iter().zip(w);
            blocks.fold(0.0, |acc, (x, w)| {
                let nibbles = load_nibbles(&w.qs).map(|q| vsubq_s8(q, vdupq_n_s8(8)));
                fused($dot_quants(load_quants(&x.qs), nibbles) as f32, widen_one(x.d) * widen_one(w.d), acc)
            })
        }

        #[$feature]
        pub(in crate::arch::aarch64) fn dot_q4_1(x: &[BlockQ8_0], w: &[BlockQ4_1]) -> f32 {
            let blocks = x.iter().zip(w);
            blocks.fold(0.0, |acc, (x, w)| {
                let (quants, dx) = (load_quants(&x.qs), widen_one(x.d));
                let sum = $dot_quants(quants, load_nibbles(&w.qs));
                let acc = fused(sum as f32, dx * widen_one(w.d), acc);
                let sum = i32::from(vaddlvq_s8(quants[0])) + i32::from(vaddlvq_s8(quants[1]));
                fused(sum as f32 * dx, widen_one(w.m), acc)
            })
        }
    };
}
pub(in crate::arch::aarch64) use define_dot;

/// One half as f32.
#[inline(always)]
pub(in crate::arch::aarch64) fn widen_one(d: F16) -> f32 {
    neon!(vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(d.to_bits())))))
}

/// `a * b + c` in one rounding.
#[inline(always)]
pub(in crate::arch::aarch64) fn fused(a: f32, b: f32, c: f32) -> f32 {
    neon!(vget_lane_f32::<0>(vfma_f32(vdup_n_f32(c), vdup_n_f32(a), vdup_n_f32(b))))
}
