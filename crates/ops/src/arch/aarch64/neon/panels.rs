//! Products of quantized weights by SMULL and SADALP, and what the other back-ends share: gathering panels, scales, the
//! products of single rows.

use core::arch::aarch64::*;
use core::arch::asm;
use core::mem::MaybeUninit;

use super::{load_nibbles, load32, load64, neon, store32, store64};
use crate::block::{BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, QK};
use crate::panel::{
    BlockQ8, Kernel, OneRow, PANEL_ROWS, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results, is_enough,
};

pub(in crate::arch::aarch64) const Q4_0: Kernel<PanelQ4_0> =
    Kernel { dot: dot_q4_0, pack: pack_q4_0, accumulate };
pub(in crate::arch::aarch64) const Q4_1: Kernel<PanelQ4_1> =
    Kernel { dot: dot_q4_1, pack: pack_q4_1, accumulate };
pub(in crate::arch::aarch64) const Q8_0: Kernel<PanelQ8_0> =
    Kernel { dot: dot_q8_0, pack: pack_q8_0, accumulate };

/// Four quants of each of sixteen rows: rows `4 * i..4 * i + 4` in register `i`.
pub(in crate::arch::aarch64) type Group = [int8x16_t; 4];

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

/// Where one block of each of sixteen rows starts.
#[derive(Clone, Copy)]
pub(in crate::arch::aarch64) struct SixteenRows {
    first: *const u8,
    /// Bytes from a row to the next.
    stride: usize,
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

    /// The next half of each row.
    ///
    /// # Safety
    ///
    /// The rows have two bytes there.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::arch::aarch64) unsafe fn halves(self) -> [uint8x16_t; 2] {
        if !self.first.addr().is_multiple_of(2) || !self.stride.is_multiple_of(2) {
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

/// Defines the `pack` of one type of blocks: `$step` gathers one panel from `$rows`, `$at` bytes into them.
macro_rules! pack {
    ($name:ident, $panel:ty, $block:ty, |$to:ident, $rows:ident, $at:ident| $step:expr) => {
        #[target_feature(enable = "neon")]
        fn $name(panels: &mut [$panel], blocks: &[$block], stride: usize, _ahead: usize) {
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

/// All groups of a panel, a byte to each quant.
pub(in crate::arch::aarch64) type Unpacked = [Group; 8];

/// Sixteen numbers, one for each row of a panel.
pub(in crate::arch::aarch64) type Sixteen<T> = [T; 4];

/// A panel as the kernels read it.
pub(in crate::arch::aarch64) trait Weights: Copy {
    /// Whether 16 bits hold the sum of eight products.
    const IS_NARROW: bool;
    /// What quants are unpacked from.
    type Bytes: Copy;
    /// The scales.
    fn d(&self) -> &[F16; PANEL_ROWS];
    /// The least values, where there are any.
    fn m(&self) -> Option<&[F16; PANEL_ROWS]>;
    /// What the sum of a block starts with.
    fn start(x: &BlockQ8) -> i32;
    /// Loads the quants.
    fn bytes(&self) -> Self::Bytes;
    /// Group `g`, below 8.
    fn group(bytes: &Self::Bytes, g: usize) -> Group;
    /// The same with groups `2 * i` and `2 * i + 1` merged: their quants of rows 0 to 7, side by side, then of rows 8 to 15.
    fn zip(bytes: &Self::Bytes) -> Self::Bytes;
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

/// Stores 256 bytes at any address; see [`load256`].
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

/// Group `g` of nibbles: of the low ones, then of the high ones.
#[inline(always)]
fn nibble_group(bytes: &[[uint8x16_t; 4]; 4], g: usize) -> Group {
    let mask = neon!(vdupq_n_u8(15));
    let packed = bytes[g % 4];
    if g < 4 {
        packed.map(|x| neon!(vreinterpretq_s8_u8(vandq_u8(x, mask))))
    } else {
        packed.map(|x| neon!(vreinterpretq_s8_u8(vshrq_n_u8::<4>(x))))
    }
}

macro_rules! weights {
    ($panel:ty, $is_narrow:literal, $bytes:ty, |$it:ident| $m:expr, |$x:ident| $start:expr, $load:expr, $group:expr, $zip:expr) => {
        impl Weights for $panel {
            const IS_NARROW: bool = $is_narrow;
            type Bytes = $bytes;
            #[inline(always)]
            fn d(&self) -> &[F16; PANEL_ROWS] {
                &self.d
            }
            #[inline(always)]
            fn m(&self) -> Option<&[F16; PANEL_ROWS]> {
                let $it = self;
                $m
            }
            #[inline(always)]
            fn start($x: &BlockQ8) -> i32 {
                $start
            }
            #[inline(always)]
            fn bytes(&self) -> Self::Bytes {
                let $it = self;
                $load
            }
            #[inline(always)]
            fn group(bytes: &Self::Bytes, g: usize) -> Group {
                $group(bytes, g)
            }
            #[inline(always)]
            fn zip(bytes: &Self::Bytes) -> Self::Bytes {
                $zip(bytes)
            }
        }
    };
}

weights!(
    PanelQ4_0,
    true,
    [[uint8x16_t; 4]; 4],
    |_it| None,
    |x| x.offset,
    load256(&_it.qs),
    nibble_group,
    zip
);
weights!(PanelQ4_1, true, [[uint8x16_t; 4]; 4], |it| Some(&it.m), |_x| 0, load256(&it.qs), nibble_group, zip);
weights!(
    PanelQ8_0,
    false,
    [[[uint8x16_t; 4]; 4]; 2],
    |_it| None,
    |_x| 0,
    {
        let (halves, _) = _it.qs.as_chunks::<4>();
        [load256(&halves[0]), load256(&halves[1])]
    },
    |bytes: &[[[uint8x16_t; 4]; 4]; 2], g: usize| bytes[g / 4 % 2][g % 4]
        .map(|x| neon!(vreinterpretq_s8_u8(x))),
    |[low, high]: &[[[uint8x16_t; 4]; 4]; 2]| [zip(low), zip(high)]
);

/// The halves of a panel as they are.
#[inline(always)]
fn load_halves(d: &[F16; PANEL_ROWS]) -> [uint8x16_t; 2] {
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
    d: Sixteen<float32x4_t>,
    m: Option<Sixteen<float32x4_t>>,
}

impl Scales {
    #[inline(always)]
    pub(in crate::arch::aarch64) fn of(panel: &impl Weights) -> Self {
        Self::new(load_halves(panel.d()), panel.m().map(load_halves))
    }

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
                let bytes = panel.bytes();
                let sums = $sums::<W>(x, |g| W::group(&bytes, g));
                results = Scales::of(panel).add(results, sums, x);
            }
            store_results(acc, results);
        }
    };
}
pub(in crate::arch::aarch64) use define_accumulate_one;

/// Defines `accumulate::<W>` of one back-end: `$tile::<W>(x, weights)` gives the sums for `$rows` rows of activations at
/// once, of weights that `$unpack` put in order; `accumulate_one` does those that are left.
macro_rules! define_accumulate {
    ($feature:meta, $rows:literal, $unpack:ident, $tile:ident) => {
        #[$feature]
        pub(in crate::arch::aarch64) fn accumulate<W: Weights>(
            acc: &mut [Results],
            x: &[BlockQ8],
            stride: usize,
            panels: &[W],
        ) {
            if !is_enough(x.len(), stride, panels.len(), acc.len()) {
                return;
            }
            let (tiles, rest) = acc.as_chunks_mut::<$rows>();
            if !tiles.is_empty() {
                accumulate_tiles(tiles, x, stride, panels);
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
        ) {
            let mut room = MaybeUninit::<Unpacked>::uninit();
            for (b, panel) in panels.iter().enumerate() {
                let Some(x) = x.get(b * stride..) else { return };
                let scales = Scales::of(panel);
                let room = room.write($unpack::<W>(&panel.bytes()));
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

/// All groups in their order.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::arch::aarch64) fn unpack<W: Weights>(bytes: &W::Bytes) -> Unpacked {
    [0, 1, 2, 3, 4, 5, 6, 7].map(|g| W::group(bytes, g))
}

/// Defines `one_row_q4_0` and so on of one back-end: `$sum::<W>(x, rows, start)` gives the sums of four rows, from their
/// `x` and registers `rows(i)` of 32 quants.
macro_rules! define_one_row {
    ($feature:meta, $narrow:ident, $wide:ident) => {
        pub(in crate::arch::aarch64) const ONE_ROW: OneRow =
            OneRow { q8_0: Some(one_row_q8_0), q4_0: Some(one_row_q4_0), q4_1: Some(one_row_q4_1) };

        #[$feature]
        fn one_row_q4_0(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ4_0], stride: usize) {
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
        fn one_row_q4_1(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ4_1], stride: usize) {
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
        fn one_row_q8_0(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ8_0], stride: usize) {
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
            acc: &mut Results,
            x: &[BlockQ8],
            blocks: &[B],
            stride: usize,
            sums: impl Fn(&BlockQ8, SixteenRows) -> (Scales, Sixteen<int32x4_t>),
        ) {
            let Some(rows) = SixteenRows::new(blocks, stride, x.len()) else { return };
            let mut results = load_results(acc);
            for (b, x) in x.iter().enumerate() {
                let (scales, sums) = sums(x, rows.skip(b * size_of::<B>()));
                results = scales.add(results, sums, x);
            }
            store_results(acc, results);
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
define_accumulate!(target_feature(enable = "neon"), 2, unpack, tile);

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
