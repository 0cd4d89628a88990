//! Panels as the kernels of all back-ends read them, and the loops around those kernels.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{load32, load64, neon, store64};
use crate::block::{F16, QK};
use crate::panel::{BlockQ8, PANEL_ROWS, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results};

/// Four quants of each of sixteen rows: rows `4 * i..4 * i + 4` in register `i`.
pub(in crate::arch::aarch64) type Group = [int8x16_t; 4];

/// All groups of a panel, a byte to each quant.
pub(in crate::arch::aarch64) type Unpacked = [Group; 8];

/// Sixteen numbers, one for each row of a panel.
pub(in crate::arch::aarch64) type Sixteen<T> = [T; 4];

/// A panel.
pub(in crate::arch::aarch64) trait Weights: Copy {
    /// Whether 16 bits hold the sum of eight products.
    const IS_NARROW: bool;
    /// The quant that means zero.
    const ZERO: i8;
    /// Whether there are least values.
    const HAS_LEAST: bool;
    /// The quants.
    fn quants(&self) -> impl Quants;
    /// Loads the scales.
    fn scales(&self) -> Scales;
    /// What the sum of a block starts with.
    fn start(x: &BlockQ8) -> i32;
}

/// The quants of a panel.
pub(in crate::arch::aarch64) trait Quants: Copy {
    /// Group `g`, below 8.
    fn group(&self, g: usize) -> Group;
    /// The same with groups `2 * i` and `2 * i + 1` merged: their quants of rows 0 to 7, side by side, then of rows 8 to 15.
    fn zipped(self) -> impl Quants;
}

impl Weights for PanelQ4_0 {
    const IS_NARROW: bool = true;
    const ZERO: i8 = 8;
    const HAS_LEAST: bool = false;
    #[inline(always)]
    fn quants(&self) -> impl Quants {
        Nibbles(load256(&self.qs))
    }
    #[inline(always)]
    fn scales(&self) -> Scales {
        Scales::new(load_halves(&self.d), None)
    }
    #[inline(always)]
    fn start(x: &BlockQ8) -> i32 {
        x.offset
    }
}

impl Weights for PanelQ4_1 {
    const IS_NARROW: bool = true;
    const ZERO: i8 = 0;
    const HAS_LEAST: bool = true;
    #[inline(always)]
    fn quants(&self) -> impl Quants {
        Nibbles(load256(&self.qs))
    }
    #[inline(always)]
    fn scales(&self) -> Scales {
        Scales::new(load_halves(&self.d), Some(load_halves(&self.m)))
    }
    #[inline(always)]
    fn start(_: &BlockQ8) -> i32 {
        0
    }
}

impl Weights for PanelQ8_0 {
    const IS_NARROW: bool = false;
    const ZERO: i8 = 0;
    const HAS_LEAST: bool = false;
    #[inline(always)]
    fn quants(&self) -> impl Quants {
        &self.qs
    }
    #[inline(always)]
    fn scales(&self) -> Scales {
        Scales::new(load_halves(&self.d), None)
    }
    #[inline(always)]
    fn start(_: &BlockQ8) -> i32 {
        0
    }
}

/// Groups 0 to 3 in the low nibbles, 4 to 7 in the high ones.
#[derive(Clone, Copy)]
struct Nibbles([[uint8x16_t; 4]; 4]);

impl Quants for Nibbles {
    #[inline(always)]
    fn group(&self, g: usize) -> Group {
        let packed = self.0[g % 4];
        if g < 4 {
            packed.map(|x| neon!(vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15)))))
        } else {
            packed.map(|x| neon!(vreinterpretq_s8_u8(vshrq_n_u8::<4>(x))))
        }
    }
    #[inline(always)]
    fn zipped(self) -> impl Quants {
        Self(zip(&self.0))
    }
}

/// Bytes in memory, a group at a time: all of them are as much as there are registers.
impl Quants for &[[[i8; 4]; PANEL_ROWS]; 8] {
    #[inline(always)]
    fn group(&self, g: usize) -> Group {
        // SAFETY: a group is 64 bytes.
        let group: &[u8; 64] = unsafe { &*self[g % 8].as_ptr().cast() };
        load64(group).map(|x| neon!(vreinterpretq_s8_u8(x)))
    }
    #[inline(always)]
    fn zipped(self) -> impl Quants {
        // SAFETY: eight groups of 64 bytes are twice 256.
        let halves: &[[u8; 256]; 2] = unsafe { &*self.as_ptr().cast() };
        Bytes(halves.each_ref().map(|half| zip(&load256(half))))
    }
}

/// Bytes: groups 0 to 3, then 4 to 7.
#[derive(Clone, Copy)]
struct Bytes([[[uint8x16_t; 4]; 4]; 2]);

impl Quants for Bytes {
    #[inline(always)]
    fn group(&self, g: usize) -> Group {
        self.0[g / 4 % 2][g % 4].map(|x| neon!(vreinterpretq_s8_u8(x)))
    }
    #[inline(always)]
    fn zipped(self) -> impl Quants {
        let [low, high] = &self.0;
        Self([zip(low), zip(high)])
    }
}

/// Loads 256 bytes at any address: with fixed registers, so that nothing but the loads is left.
#[inline(always)]
fn load256<T>(from: &T) -> [[uint8x16_t; 4]; 4] {
    const { assert!(size_of::<T>() == 256) };
    let (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);
    // SAFETY: reads the 256 bytes of `from`, whose address is passed.
    unsafe {
        asm!(
            "ld1 {{v16.16b-v19.16b}}, [{0}], #64",
            "ld1 {{v20.16b-v23.16b}}, [{0}], #64",
            "ld1 {{v24.16b-v27.16b}}, [{0}], #64",
            "ld1 {{v28.16b-v31.16b}}, [{0}]",
            inout(reg) core::ptr::from_ref(from) => _,
            out("v16") a, out("v17") b, out("v18") c, out("v19") d, out("v20") e, out("v21") f, out("v22") g,
            out("v23") h, out("v24") i, out("v25") j, out("v26") k, out("v27") l, out("v28") m, out("v29") n,
            out("v30") o, out("v31") p,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]]
}

/// Words of neighbouring groups side by side.
#[inline(always)]
fn zip([a, b, c, d]: &[[uint8x16_t; 4]; 4]) -> [[uint8x16_t; 4]; 4] {
    let low =
        |a, b| neon!(vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b))));
    let high =
        |a, b| neon!(vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b))));
    let half =
        |[a, b]: [uint8x16_t; 2], [c, d]: [uint8x16_t; 2]| [low(a, c), high(a, c), low(b, d), high(b, d)];
    let both = |[a, b, c, d]: [uint8x16_t; 4], [e, f, g, h]: [uint8x16_t; 4]| {
        [half([a, b], [e, f]), half([c, d], [g, h])]
    };
    let ([e, f], [g, h]) = (both(*a, *b), both(*c, *d));
    [e, f, g, h]
}

/// The halves of a panel as they are.
#[inline(always)]
pub(in crate::arch::aarch64) fn load_halves(d: &[F16; PANEL_ROWS]) -> [uint8x16_t; 2] {
    // SAFETY: 32 bytes.
    load32(unsafe { &*d.as_ptr().cast() })
}

/// Halves as f32.
#[inline(always)]
fn widen(halves: [uint8x16_t; 2]) -> Sixteen<float32x4_t> {
    neon!({
        let [a, b] = halves.map(|x| vreinterpretq_f16_u8(x));
        let (low, high) = (vcvt_f32_f16(vget_low_f16(a)), vcvt_f32_f16(vget_low_f16(b)));
        [low, vcvt_high_f32_f16(a), high, vcvt_high_f32_f16(b)]
    })
}

/// Scales and least values of a panel.
#[derive(Clone, Copy)]
pub(in crate::arch::aarch64) struct Scales {
    pub(in crate::arch::aarch64) d: Sixteen<float32x4_t>,
    pub(in crate::arch::aarch64) m: Option<Sixteen<float32x4_t>>,
}

impl Scales {
    #[inline(always)]
    pub(in crate::arch::aarch64) fn new(d: [uint8x16_t; 2], m: Option<[uint8x16_t; 2]>) -> Self {
        Self { d: widen(d), m: m.map(widen) }
    }

    /// `acc = sums * (d_x * d) + acc`, and then `acc = sum_x * d_x * m + acc` where there is an `m`.
    #[inline(always)]
    pub(in crate::arch::aarch64) fn add(
        &self,
        mut acc: Sixteen<float32x4_t>,
        sums: Sixteen<int32x4_t>,
        x: &BlockQ8,
    ) -> Sixteen<float32x4_t> {
        for ((acc, sum), d) in acc.iter_mut().zip(sums).zip(self.d) {
            *acc = neon!(vfmaq_f32(*acc, vcvtq_f32_s32(sum), vmulq_n_f32(d, x.d)));
        }
        if let Some(m) = self.m {
            let least = x.offset as f32 * -0.125 * x.d;
            acc.iter_mut().zip(m).for_each(|(acc, m)| *acc = neon!(vfmaq_n_f32(*acc, m, least)));
        }
        acc
    }
}

/// Loads sixteen results.
#[inline(always)]
pub(in crate::arch::aarch64) fn load_results(from: &Results) -> Sixteen<float32x4_t> {
    // SAFETY: sixteen f32 are 64 bytes.
    load64(unsafe { &*from.as_ptr().cast() }).map(|x| neon!(vreinterpretq_f32_u8(x)))
}

/// Stores sixteen results.
#[inline(always)]
pub(in crate::arch::aarch64) fn store_results(to: &mut Results, x: Sixteen<float32x4_t>) {
    // SAFETY: sixteen f32 are 64 bytes.
    store64(unsafe { &mut *to.as_mut_ptr().cast() }, x.map(|x| neon!(vreinterpretq_u8_f32(x))));
}

/// The quants of activations.
#[inline(always)]
pub(in crate::arch::aarch64) fn load_quants(qs: &[i8; QK]) -> [int8x16_t; 2] {
    // SAFETY: 32 bytes.
    load32(unsafe { &*qs.as_ptr().cast() }).map(|x| neon!(vreinterpretq_s8_u8(x)))
}

/// Defines `accumulate_one::<W>` of one back-end, for one row of activations: `$sums::<W>(x, groups)` gives what a block
/// makes with a panel whose group `g` is `groups(g)`.
macro_rules! define_accumulate_one {
    ($feature:meta, $sums:ident) => {
        /// One row, its results in registers all the way.
        ///
        /// # Safety
        ///
        /// `x` has `panels.len()` blocks, `stride` apart.
        #[$feature]
        pub(in crate::arch::aarch64) unsafe fn accumulate_one<W: Weights>(
            acc: &mut Results,
            x: &[BlockQ8],
            stride: usize,
            panels: &[W],
        ) {
            let mut results = load_results(acc);
            for (b, panel) in panels.iter().enumerate() {
                // SAFETY: as the caller says.
                let x = unsafe { x.get_unchecked(b * stride) };
                let quants = panel.quants();
                let sums = $sums::<W>(x, |g| quants.group(g));
                results = panel.scales().add(results, sums, x);
            }
            store_results(acc, results);
        }
    };
}
pub(in crate::arch::aarch64) use define_accumulate_one;

/// Defines `accumulate::<W>` of one back-end: `$tile::<W>(x, weights)` gives the sums for `$rows` rows of activations at
/// once; `accumulate_one` does those that are left.
macro_rules! define_accumulate {
    ($feature:meta, $rows:literal, $tile:ident) => {
        #[$feature]
        pub(in crate::arch::aarch64) fn accumulate<W: Weights>(
            acc: &mut [Results],
            x: &[BlockQ8],
            stride: usize,
            panels: &[W],
            spill: &mut Spill,
        ) {
            if !is_enough(x.len(), stride, panels.len(), acc.len()) {
                return;
            }
            let (tiles, rest) = acc.as_chunks_mut::<$rows>();
            if !tiles.is_empty() {
                // SAFETY: bytes.
                accumulate_tiles(tiles, x, stride, panels, unsafe { spill_as(spill) });
            }
            let first = tiles.len() * $rows;
            for (i, acc) in rest.iter_mut().enumerate() {
                // SAFETY: `x` is enough.
                unsafe { accumulate_one(acc, x.get(first + i..).unwrap_or(&[]), stride, panels) };
            }
        }

        /// Whole tiles. Apart from the rest, which needs no registers saved; `x` is enough.
        #[inline(never)]
        #[$feature]
        fn accumulate_tiles<W: Weights>(
            tiles: &mut [[Results; $rows]],
            x: &[BlockQ8],
            stride: usize,
            panels: &[W],
            room: &mut Unpacked,
        ) {
            for (b, panel) in panels.iter().enumerate() {
                let Some(x) = x.get(b * stride..) else { return };
                let scales = panel.scales();
                let quants = panel.quants();
                room.iter_mut().enumerate().for_each(|(g, room)| *room = quants.group(g));
                for (acc, x) in tiles.iter_mut().zip(x.as_chunks().0) {
                    let sums = $tile::<W>(x, room);
                    for ((acc, sums), x) in acc.iter_mut().zip(sums).zip(x) {
                        store_results(acc, scales.add(load_results(acc), sums, x));
                    }
                }
            }
        }
    };
}
pub(in crate::arch::aarch64) use define_accumulate;

/// Calls `$step::<LANE>` for the lanes 0 to 3.
macro_rules! for_lanes {
    ($step:ident($($arg:expr),*)) => {
        $step::<0>($($arg),*);
        $step::<1>($($arg),*);
        $step::<2>($($arg),*);
        $step::<3>($($arg),*);
    };
}

pub(in crate::arch::aarch64) use for_lanes;
