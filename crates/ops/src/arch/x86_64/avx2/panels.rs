//! Integer products of AVX2: eight rows to a register, sums of four in 16-bit pairs, exact for every quant.

use core::arch::x86_64::*;

use crate::block::{BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, QK};
use crate::panel::{
    BlockQ8, Kernel, PANEL_ROWS, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results, by_sixteens, is_enough,
};
use crate::workspace::Spill;

pub(in crate::arch::x86_64) const Q4_0: Kernel<PanelQ4_0> = Kernel {
    dot: dot_q4_0,
    pack: pack_q4_0,
    accumulate: accumulate_q4_0,
    accumulate_two: None,
    two_streams: Some(two_streams_q4_0),
    finish: None,
    one_row: Some(one_row_q4_0),
};
pub(in crate::arch::x86_64) const Q4_1: Kernel<PanelQ4_1> = Kernel {
    dot: dot_q4_1,
    pack: pack_q4_1,
    accumulate: accumulate_q4_1,
    accumulate_two: None,
    two_streams: Some(two_streams_q4_1),
    finish: None,
    one_row: Some(one_row_q4_1),
};
pub(in crate::arch::x86_64) const Q8_0: Kernel<PanelQ8_0> = Kernel {
    dot: dot_q8_0,
    pack: pack_q8_0,
    accumulate: accumulate_q8_0,
    accumulate_two: None,
    two_streams: Some(two_streams_q8_0),
    finish: None,
    one_row: Some(one_row_q8_0),
};

/// Loads 32 bytes.
#[inline(always)]
pub(in crate::arch::x86_64) fn load32<T>(from: &T) -> __m256i {
    const { assert!(size_of::<T>() >= 32) };
    // SAFETY: `T` is that long; the load is unaligned. AVX is on in every function that calls this.
    unsafe { _mm256_loadu_si256(core::ptr::from_ref(from).cast()) }
}

/// Eight halves as f32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch::x86_64) fn widen(halves: &[F16; 8]) -> __m256 {
    // SAFETY: 16 bytes are there; the load is unaligned.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.as_ptr().cast()) })
}

/// Sixteen rows of blocks in memory.
#[derive(Clone, Copy)]
pub(in crate::arch::x86_64) struct SixteenRows {
    /// Rows 0, 4, 8 and 12.
    fours: [*const u8; 4],
    /// Bytes from a row to the next.
    stride: usize,
}

impl SixteenRows {
    /// Rows that start at `blocks`, `stride` blocks apart, with `n` blocks each; `None` when there are fewer.
    #[inline(always)]
    pub(in crate::arch::x86_64) fn new<B>(blocks: &[B], stride: usize, n: usize) -> Option<Self> {
        if !is_enough(blocks.len(), stride, PANEL_ROWS, n) {
            return None;
        }
        let (first, stride) = (blocks.as_ptr().cast::<u8>(), stride.wrapping_mul(size_of::<B>()));
        let fours = [0, 4, 8, 12].map(|row| first.wrapping_add(stride.wrapping_mul(row)));
        Some(Self { fours, stride })
    }

    /// Where `offset` bytes into row `r`, below 16, lie. Four bases and a stride make the addresses of all rows without
    /// a register for each.
    #[inline(always)]
    pub(in crate::arch::x86_64) fn at(&self, r: usize, offset: usize) -> *const u8 {
        self.fours[(r / 4) % 4].wrapping_add(self.stride.wrapping_mul(r % 4)).wrapping_add(offset)
    }
}

/// Asks for `N` blocks, `ahead` blocks behind the first of `blocks`.
#[inline(always)]
pub(in crate::arch::x86_64) fn prefetch<const N: usize, B>(blocks: &[B], ahead: usize) {
    let from = blocks.as_ptr().wrapping_add(ahead).cast::<i8>();
    for line in (0..N * size_of::<B>()).step_by(64) {
        // SAFETY: a prefetch never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line)) };
    }
}

/// Bytes from a panel to what is asked for while it is used: about as long as memory takes at a few bytes a cycle.
const AHEAD: usize = 4096;

/// Asks for the panel that is used some panels later, in the order of memory.
#[inline(always)]
pub(in crate::arch::x86_64) fn prefetch_panel<P>(panel: &P) {
    let from = core::ptr::from_ref(panel).cast::<i8>().wrapping_add(AHEAD);
    for line in (0..size_of::<P>()).step_by(64) {
        // SAFETY: a prefetch never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line)) };
    }
}

/// Copies one half of each row, `offset` bytes into it, to `to`.
///
/// # Safety
///
/// The rows have two bytes there.
#[inline(always)]
pub(in crate::arch::x86_64) unsafe fn gather_halves(
    rows: &SixteenRows,
    offset: usize,
    to: &mut [F16; PANEL_ROWS],
) {
    for (r, to) in to.iter_mut().enumerate() {
        // SAFETY: as the caller says; halves have alignment 1.
        *to = unsafe { *rows.at(r, offset).cast::<F16>() };
    }
}

/// The fours of 16 bytes of each row of a half, `offset` bytes into it, one row beside the other: a transposition of 8 by 4
/// words.
///
/// # Safety
///
/// The rows have 16 bytes there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn transpose(rows: &SixteenRows, offset: usize, half: usize) -> [__m256i; 4] {
    // Rows `r` and `r + 4` of this half, in one register.
    let pair = |r: usize| {
        let r = r + 8 * half;
        // SAFETY: as the caller says; the loads are unaligned.
        unsafe {
            let low = _mm_loadu_si128(rows.at(r, offset).cast());
            _mm256_set_m128i(_mm_loadu_si128(rows.at(r + 4, offset).cast()), low)
        }
    };
    let (a, b, c, d) = (pair(0), pair(1), pair(2), pair(3));
    let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab_low, cd_low),
        _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// The same of both halves, to memory.
///
/// # Safety
///
/// As [`transpose`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn interleave<T>(rows: &SixteenRows, offset: usize, to: &mut [[[T; 4]; PANEL_ROWS]; 4]) {
    const { assert!(size_of::<T>() == 1) };
    for half in 0..2 {
        // SAFETY: as the caller says.
        let groups = unsafe { transpose(rows, offset, half) };
        for (group, to) in groups.into_iter().zip(&mut *to) {
            // SAFETY: a group is 64 bytes, a half of it 32; the store is unaligned.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast::<__m256i>().add(half), group) };
        }
    }
}

/// Defines `pack_q4_0`, `pack_q4_1` and `pack_q8_0` with some CPU features and their `interleave`.
macro_rules! define_pack {
    ($feature:meta, $interleave:path) => {
        #[$feature]
        fn pack_q4_0(panels: &mut [PanelQ4_0], blocks: &[BlockQ4_0], stride: usize, ahead: usize) {
            let Some(rows) = SixteenRows::new(blocks, stride, panels.len()) else { return };
            for (b, panel) in panels.iter_mut().enumerate() {
                let at = b * size_of::<BlockQ4_0>();
                prefetch::<PANEL_ROWS, _>(blocks, ahead + b * PANEL_ROWS);
                // SAFETY: every row has block `b`.
                unsafe {
                    gather_halves(&rows, at, &mut panel.d);
                    $interleave(&rows, at + 2, &mut panel.qs);
                }
            }
        }

        #[$feature]
        fn pack_q4_1(panels: &mut [PanelQ4_1], blocks: &[BlockQ4_1], stride: usize, ahead: usize) {
            let Some(rows) = SixteenRows::new(blocks, stride, panels.len()) else { return };
            for (b, panel) in panels.iter_mut().enumerate() {
                let at = b * size_of::<BlockQ4_1>();
                prefetch::<PANEL_ROWS, _>(blocks, ahead + b * PANEL_ROWS);
                // SAFETY: every row has block `b`.
                unsafe {
                    gather_halves(&rows, at, &mut panel.d);
                    gather_halves(&rows, at + 2, &mut panel.m);
                    $interleave(&rows, at + 4, &mut panel.qs);
                }
            }
        }

        #[$feature]
        fn pack_q8_0(panels: &mut [PanelQ8_0], blocks: &[BlockQ8_0], stride: usize, ahead: usize) {
            let Some(rows) = SixteenRows::new(blocks, stride, panels.len()) else { return };
            for (b, panel) in panels.iter_mut().enumerate() {
                let at = b * size_of::<BlockQ8_0>();
                prefetch::<PANEL_ROWS, _>(blocks, ahead + b * PANEL_ROWS);
                // SAFETY: every row has block `b`.
                unsafe {
                    gather_halves(&rows, at, &mut panel.d);
                    for (half, qs) in panel.qs.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                        $interleave(&rows, at + 2 + 16 * half, qs);
                    }
                }
            }
        }
    };
}
pub(in crate::arch::x86_64) use define_pack;

define_pack!(target_feature(enable = "avx2,fma,f16c"), interleave);

/// A register of eight rows' groups: quants of four neighbouring places of each.
type Groups<const N: usize> = [__m256i; N];

/// The nibbles of eight rows: low ones are values 0–15, high ones 16–31.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch::x86_64) fn load_nibbles(qs: &[[[u8; 4]; PANEL_ROWS]; 4], half: usize) -> Groups<8> {
    split_nibbles(qs.each_ref().map(|group| {
        // SAFETY: a group is 64 bytes, a half of it 32 (`half` is 0 or 1); the load is unaligned.
        unsafe { _mm256_loadu_si256(group.as_ptr().cast::<__m256i>().add(half)) }
    }))
}

/// The same of what is loaded already.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn split_nibbles([a, b, c, d]: [__m256i; 4]) -> Groups<8> {
    let mask = _mm256_set1_epi8(15);
    let [e, f, g, h] = [a, b, c, d].map(|x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), mask));
    let [a, b, c, d] = [a, b, c, d].map(|x| _mm256_and_si256(x, mask));
    [a, b, c, d, e, f, g, h]
}

/// Four quants of `x`, in every lane of 32 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch::x86_64) fn splat_group(x: &BlockQ8, group: usize) -> __m256i {
    // SAFETY: `group` is below 8, so the four bytes are there; the read is unaligned.
    _mm256_set1_epi32(unsafe { x.qs.as_ptr().cast::<i32>().add(group).read_unaligned() })
}

/// The sums of nibbles and activations for eight rows, `start` added.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_nibbles(w: &Groups<8>, x: &BlockQ8, start: i32) -> __m256 {
    // Eight pairs of at most 2 * 15 * 127 fit 16 bits.
    let mut pairs = _mm256_maddubs_epi16(w[0], splat_group(x, 0));
    for (group, w) in w.iter().enumerate().skip(1) {
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(*w, splat_group(x, group)));
    }
    let sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    _mm256_cvtepi32_ps(_mm256_add_epi32(sums, _mm256_set1_epi32(start)))
}

/// `sums` and what group `group` of signed quants of eight rows, `w`, adds to them with each row of activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_bytes<const N: usize>(
    mut sums: [__m256i; N],
    w: __m256i,
    x: [&BlockQ8; N],
    group: usize,
) -> [__m256i; N] {
    let magnitudes = _mm256_abs_epi8(w);
    for (sum, x) in sums.iter_mut().zip(x) {
        // A pair is at most 2 * 128 * 127 = 32512, as 8-bit magnitudes take -128.
        let pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(splat_group(x, group), w));
        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    sums
}

/// The rows of `x` that meet panel `b`.
///
/// # Safety
///
/// `is_enough(x.len(), stride, n_panels, n_rows)` with `b < n_panels`.
#[inline(always)]
pub(in crate::arch::x86_64) unsafe fn rows_of(
    x: &[BlockQ8],
    stride: usize,
    n_rows: usize,
    b: usize,
) -> &[BlockQ8] {
    // SAFETY: as the caller says.
    unsafe { x.get_unchecked(b * stride..).get_unchecked(..n_rows) }
}

/// Runs `$step` for every panel, half of a panel and row of activations: `$acc` the eight results, `$x` the row's block,
/// `$w` what `$unpack` made of the half.
macro_rules! accumulate_halves {
    ($acc:ident, $x:ident, $stride:ident, $panels:ident,
        |$panel:ident, $half:ident| $unpack:expr, |$sum:ident, $row:ident, $w:ident| $step:expr) => {
        if !is_enough($x.len(), $stride, $panels.len(), $acc.len()) {
            return;
        }
        for (b, $panel) in $panels.iter().enumerate() {
            // SAFETY: `x` is enough.
            let rows = unsafe { rows_of($x, $stride, $acc.len(), b) };
            $crate::arch::x86_64::avx2::panels::prefetch_panel($panel);
            for $half in 0..2 {
                let $w = $unpack;
                for (acc, $row) in $acc.iter_mut().zip(rows) {
                    // SAFETY: eight of sixteen results; load and store are unaligned.
                    unsafe {
                        let to = acc.as_mut_ptr().add(8 * $half);
                        let $sum = _mm256_loadu_ps(to);
                        _mm256_storeu_ps(to, $step);
                    }
                }
            }
        }
    };
}
pub(in crate::arch::x86_64) use accumulate_halves;

/// Scales of eight rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch::x86_64) fn scales(d: &[F16; PANEL_ROWS], half: usize) -> __m256 {
    widen(d.as_chunks::<8>().0.get(half).unwrap_or(&[F16::from_bits(0); 8]))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn accumulate_q4_0(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[PanelQ4_0], _: &mut Spill) {
    accumulate_halves!(
        acc,
        x,
        stride,
        panels,
        |panel, half| (scales(&panel.d, half), load_nibbles(&panel.qs, half)),
        |acc, x, w| _mm256_fmadd_ps(
            sum_nibbles(&w.1, x, x.offset),
            _mm256_mul_ps(w.0, _mm256_set1_ps(x.d)),
            acc
        )
    );
}

#[target_feature(enable = "avx2,fma,f16c")]
fn accumulate_q4_1(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[PanelQ4_1], _: &mut Spill) {
    accumulate_halves!(
        acc,
        x,
        stride,
        panels,
        |panel, half| (scales(&panel.d, half), scales(&panel.m, half), load_nibbles(&panel.qs, half)),
        |acc, x, w| {
            let acc = _mm256_fmadd_ps(sum_nibbles(&w.2, x, 0), _mm256_mul_ps(w.0, _mm256_set1_ps(x.d)), acc);
            _mm256_fmadd_ps(_mm256_set1_ps(x.offset as f32 * -0.125 * x.d), w.1, acc)
        }
    );
}

/// `acc` and what a block of activations and half a panel add to it. The functions for several rows of activations say the
/// same in their loops: as calls of these, inlined or not, they run out of registers (`gemm/q4_0x16` of `cargo xtask counts`).
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_q4_0(acc: __m256, x: &BlockQ8, panel: &PanelQ4_0, half: usize) -> __m256 {
    let d = _mm256_mul_ps(scales(&panel.d, half), _mm256_set1_ps(x.d));
    _mm256_fmadd_ps(sum_nibbles(&load_nibbles(&panel.qs, half), x, x.offset), d, acc)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_q4_1(acc: __m256, x: &BlockQ8, panel: &PanelQ4_1, half: usize) -> __m256 {
    let d = _mm256_mul_ps(scales(&panel.d, half), _mm256_set1_ps(x.d));
    let acc = _mm256_fmadd_ps(sum_nibbles(&load_nibbles(&panel.qs, half), x, 0), d, acc);
    _mm256_fmadd_ps(_mm256_set1_ps(x.offset as f32 * -0.125 * x.d), scales(&panel.m, half), acc)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_q8_0(acc: __m256, x: &BlockQ8, panel: &PanelQ8_0, half: usize) -> __m256 {
    let mut sums = [_mm256_setzero_si256()];
    for (group, w) in panel.qs.iter().enumerate() {
        // SAFETY: a group is 64 bytes, a half of it 32; the load is unaligned.
        let w = unsafe { _mm256_loadu_si256(w.as_ptr().cast::<__m256i>().add(half)) };
        sums = add_bytes(sums, w, [x], group);
    }
    let d = _mm256_mul_ps(scales(&panel.d, half), _mm256_set1_ps(x.d));
    _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[0]), d, acc)
}

/// Defines what is a [`TwoStreams`](crate::panel::TwoStreams) by what adds up eight results.
macro_rules! define_two_streams {
    ($($name:ident = $add:ident of $panels:ty;)*) => {
        $(
            #[target_feature(enable = "avx2,fma,f16c")]
            fn $name(results: [&mut Results; 2], x: &[BlockQ8], [first, second]: [&[$panels]; 2]) {
                let mut sums = [[_mm256_setzero_ps(); 2]; 2];
                for ((first, second), x) in first.iter().zip(second).zip(x) {
                    for (panel, sums) in [first, second].into_iter().zip(&mut sums) {
                        prefetch_panel(panel);
                        for (half, sum) in sums.iter_mut().enumerate() {
                            *sum = $add(*sum, x, panel, half);
                        }
                    }
                }
                for (results, sums) in results.into_iter().zip(sums) {
                    for (to, sum) in results.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
                        // SAFETY: eight results; the store is unaligned.
                        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), sum) };
                    }
                }
            }
        )*
    };
}

define_two_streams! {
    two_streams_q4_0 = add_q4_0 of PanelQ4_0;
    two_streams_q4_1 = add_q4_1 of PanelQ4_1;
    two_streams_q8_0 = add_q8_0 of PanelQ8_0;
}

/// Rows of activations that meet a panel of Q8_0 together. With one half of sixteen results of each, their sums and a
/// group of quants they fit the registers, which the quants of a half and their magnitudes do not: those would wait on
/// the stack, and a register that lies across two of its pages takes very long to get back.
const TOGETHER: usize = 3;

#[target_feature(enable = "avx2,fma,f16c")]
fn accumulate_q8_0(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[PanelQ8_0], _: &mut Spill) {
    if !is_enough(x.len(), stride, panels.len(), acc.len()) {
        return;
    }
    let (threes, rest) = acc.as_chunks_mut::<TOGETHER>();
    let mut first = 0;
    for acc in threes {
        // SAFETY: `x` is enough.
        unsafe { add_rows::<TOGETHER, 1>(acc, x, first, stride, panels) };
        first += TOGETHER;
    }
    for acc in rest.as_chunks_mut::<1>().0 {
        // SAFETY: as above.
        unsafe { add_rows::<1, 2>(acc, x, first, stride, panels) };
        first += 1;
    }
}

/// [`accumulate_q8_0`] for `N` rows of activations from row `first` on, `H` halves of the panels at a time.
///
/// # Safety
///
/// `is_enough(x.len(), stride, panels.len(), first + N)`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_rows<const N: usize, const H: usize>(
    acc: &mut [Results; N],
    x: &[BlockQ8],
    first: usize,
    stride: usize,
    panels: &[PanelQ8_0],
) {
    for start in (0..2).step_by(H) {
        let mut halves = acc.each_mut().map(|acc| acc.as_mut_ptr().wrapping_add(8 * start));
        // SAFETY: results are sixteen, halves of them eight; the loads are unaligned.
        let load = |at: *mut f32, half: usize| unsafe { _mm256_loadu_ps(at.wrapping_add(8 * half)) };
        let mut results: [[__m256; N]; H] = core::array::from_fn(|half| halves.map(|at| load(at, half)));
        for (b, panel) in panels.iter().enumerate() {
            if first == 0 && start == 0 {
                prefetch_panel(panel);
            }
            // SAFETY: `x` is enough.
            let rows = unsafe { rows_of(x, stride, first + N, b).get_unchecked(first..) };
            // SAFETY: they are `N`.
            let rows: [&BlockQ8; N] = core::array::from_fn(|i| unsafe { rows.get_unchecked(i) });
            for (half, results) in (start..).zip(&mut results) {
                let mut sums = [_mm256_setzero_si256(); N];
                for (group, w) in panel.qs.iter().enumerate() {
                    // SAFETY: a group is 64 bytes, a half of it 32; the load is unaligned.
                    let w = unsafe { _mm256_loadu_si256(w.as_ptr().cast::<__m256i>().add(half)) };
                    sums = add_bytes(sums, w, rows, group);
                }
                let d = scales(&panel.d, half);
                for ((result, sum), x) in results.iter_mut().zip(sums).zip(rows) {
                    let d = _mm256_mul_ps(d, _mm256_set1_ps(x.d));
                    *result = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), d, *result);
                }
            }
        }
        for results in results {
            for (to, result) in halves.iter_mut().zip(results) {
                // SAFETY: as the loads.
                unsafe { _mm256_storeu_ps(*to, result) };
                *to = to.wrapping_add(8);
            }
        }
    }
}

/// Runs `$step` for both halves of sixteen rows of weights as they lie in a file and every block of one row of activations:
/// `$acc` the eight results, `$x` the block, `$half` which half, `$at` where the blocks begin in their rows.
///
/// Addresses and quants of eight rows fit the registers.
macro_rules! sixteen_rows {
    ($acc:ident, $x:ident, $blocks:ident, $stride:ident,
        |$rows:ident, $at:ident, $sum:ident, $row:ident, $half:ident| $step:expr) => {
        let Some($rows) = &SixteenRows::new($blocks, $stride, $x.len()) else { return };
        for ($half, acc) in $acc.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // SAFETY: eight results; the load is unaligned.
            let mut $sum = unsafe { _mm256_loadu_ps(acc.as_ptr()) };
            for (b, $row) in $x.iter().enumerate() {
                let $at = b * block_size($blocks);
                prefetch::<8, _>($blocks, $stride * PANEL_ROWS + ($stride * $half + b) * 8);
                // SAFETY: every row has block `b`.
                $sum = unsafe { $step };
            }
            // SAFETY: as the load.
            unsafe { _mm256_storeu_ps(acc.as_mut_ptr(), $sum) };
        }
    };
}

/// Bytes of one of `blocks`.
#[inline(always)]
pub(in crate::arch::x86_64) const fn block_size<B>(_: &[B]) -> usize {
    size_of::<B>()
}

/// Halves of eight rows, `offset` bytes into them, as f32.
///
/// # Safety
///
/// The rows have two bytes there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_scales(rows: &SixteenRows, offset: usize, half: usize) -> __m256 {
    // SAFETY: as the caller says; halves have alignment 1.
    widen(&core::array::from_fn(|r| unsafe { *rows.at(r + 8 * half, offset).cast::<F16>() }))
}

by_sixteens! {
    one_row_q4_0 = sixteen_rows_q4_0 of BlockQ4_0;
    one_row_q4_1 = sixteen_rows_q4_1 of BlockQ4_1;
    one_row_q8_0 = sixteen_rows_q8_0 of BlockQ8_0;
}

#[target_feature(enable = "avx2,fma,f16c")]
fn sixteen_rows_q4_0(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ4_0], stride: usize) {
    sixteen_rows!(acc, x, blocks, stride, |rows, at, acc, x, half| {
        let w = split_nibbles(transpose(rows, at + 2, half));
        let d = _mm256_mul_ps(load_scales(rows, at, half), _mm256_set1_ps(x.d));
        _mm256_fmadd_ps(sum_nibbles(&w, x, x.offset), d, acc)
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
fn sixteen_rows_q4_1(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ4_1], stride: usize) {
    sixteen_rows!(acc, x, blocks, stride, |rows, at, acc, x, half| {
        let w = split_nibbles(transpose(rows, at + 4, half));
        let d = _mm256_mul_ps(load_scales(rows, at, half), _mm256_set1_ps(x.d));
        let acc = _mm256_fmadd_ps(sum_nibbles(&w, x, 0), d, acc);
        let least = _mm256_set1_ps(x.offset as f32 * -0.125 * x.d);
        _mm256_fmadd_ps(least, load_scales(rows, at + 2, half), acc)
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
fn sixteen_rows_q8_0(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ8_0], stride: usize) {
    sixteen_rows!(acc, x, blocks, stride, |rows, at, acc, x, half| {
        let mut sums = [_mm256_setzero_si256()];
        for (first, offset) in [(0, 2), (4, 18)] {
            for (group, w) in (first..).zip(transpose(rows, at + offset, half)) {
                sums = add_bytes(sums, w, [x], group);
            }
        }
        let d = _mm256_mul_ps(load_scales(rows, at, half), _mm256_set1_ps(x.d));
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[0]), d, acc)
    });
}

/// The sum of eight integers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_across(x: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}

/// The sum of products of all quants: 16-bit pairs of -128 by -128 fit 32 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_quants(x: __m256i, w: __m256i) -> i32 {
    let low = |x| _mm256_cvtepi8_epi16(_mm256_castsi256_si128(x));
    let high = |x| _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(x));
    sum_across(_mm256_add_epi32(_mm256_madd_epi16(low(x), low(w)), _mm256_madd_epi16(high(x), high(w))))
}

/// One half as f32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen_one(d: F16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(d.to_bits()))))
}

/// `a * b + c` in one rounding.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)))
}

/// The nibbles of a block, 0–15, in the order of its values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn nibbles(qs: &[u8; QK / 2]) -> __m256i {
    // SAFETY: 16 bytes are there; the load is unaligned.
    let packed = unsafe { _mm_loadu_si128(qs.as_ptr().cast()) };
    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed), _mm256_set1_epi8(15))
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch::x86_64) fn dot_q8_0(x: &[BlockQ8_0], w: &[BlockQ8_0]) -> f32 {
    let blocks = x.iter().zip(w);
    blocks.fold(0.0, |acc, (x, w)| {
        let sum = dot_quants(load32(&x.qs), load32(&w.qs));
        fused(sum as f32, widen_one(x.d) * widen_one(w.d), acc)
    })
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch::x86_64) fn dot_q4_0(x: &[BlockQ8_0], w: &[BlockQ4_0]) -> f32 {
    let blocks = x.iter().zip(w);
    blocks.fold(0.0, |acc, (x, w)| {
        let sum = dot_quants(load32(&x.qs), _mm256_sub_epi8(nibbles(&w.qs), _mm256_set1_epi8(8)));
        fused(sum as f32, widen_one(x.d) * widen_one(w.d), acc)
    })
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch::x86_64) fn dot_q4_1(x: &[BlockQ8_0], w: &[BlockQ4_1]) -> f32 {
    let blocks = x.iter().zip(w);
    blocks.fold(0.0, |acc, (x, w)| {
        let (quants, dx) = (load32(&x.qs), widen_one(x.d));
        let acc = fused(dot_quants(quants, nibbles(&w.qs)) as f32, dx * widen_one(w.d), acc);
        let sum = dot_quants(quants, _mm256_set1_epi8(1));
        fused(sum as f32 * dx, widen_one(w.m), acc)
    })
}
