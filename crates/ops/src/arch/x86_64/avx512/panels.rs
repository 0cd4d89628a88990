//! Integer products of AVX-512 VNNI: sixteen rows of weights to a register.

use core::arch::x86_64::*;

use crate::arch::x86_64::avx2::panels::{self, SixteenRows, define_pack, gather_halves, prefetch};
use crate::block::{BlockQ4_0, BlockQ4_1, BlockQ8_0, F16};
use crate::panel::{
    BlockQ8, Kernel, PANEL_ROWS, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results, by_sixteens, is_enough,
};
use crate::workspace::Spill;

pub(super) const Q4_0: Kernel<PanelQ4_0> = Kernel {
    dot: panels::dot_q4_0,
    pack: pack_q4_0,
    accumulate: accumulate_q4_0,
    accumulate_two: Some(accumulate_two_q4_0),
    two_streams: Some(two_streams_q4_0),
    finish: None,
    one_row: Some(one_row_q4_0),
};
pub(super) const Q4_1: Kernel<PanelQ4_1> = Kernel {
    dot: panels::dot_q4_1,
    pack: pack_q4_1,
    accumulate: accumulate_q4_1,
    accumulate_two: Some(accumulate_two_q4_1),
    two_streams: Some(two_streams_q4_1),
    finish: None,
    one_row: Some(one_row_q4_1),
};
pub(super) const Q8_0: Kernel<PanelQ8_0> = Kernel {
    dot: panels::dot_q8_0,
    pack: pack_q8_0,
    accumulate: accumulate_q8_0,
    accumulate_two: Some(accumulate_two_q8_0),
    two_streams: Some(two_streams_q8_0),
    finish: None,
    one_row: Some(one_row_q8_0),
};

/// The fours of 16 bytes of each row, `offset` bytes into it, one row beside the other: a transposition of 16 by 4 words.
///
/// # Safety
///
/// The rows have 16 bytes there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn transpose(rows: &SixteenRows, offset: usize) -> [__m512i; 4] {
    // SAFETY: as the caller says; the load is unaligned.
    let load = |r: usize| unsafe { _mm_loadu_si128(rows.at(r, offset).cast()) };
    // Register r: rows r, r + 4, r + 8, r + 12, so that rows come out in order.
    let four = |r: usize| {
        let x = _mm512_castsi128_si512(load(r));
        let x = _mm512_inserti32x4::<1>(x, load(r + 4));
        let x = _mm512_inserti32x4::<2>(x, load(r + 8));
        _mm512_inserti32x4::<3>(x, load(r + 12))
    };
    let (a, b, c, d) = (four(0), four(1), four(2), four(3));
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// The same, to memory.
///
/// # Safety
///
/// As [`transpose`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn interleave<T>(rows: &SixteenRows, offset: usize, to: &mut [[[T; 4]; PANEL_ROWS]; 4]) {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: as the caller says.
    let groups = unsafe { transpose(rows, offset) };
    for (group, to) in groups.into_iter().zip(to) {
        // SAFETY: a group is 64 bytes; the store is unaligned.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), group) };
    }
}

define_pack!(
    target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"),
    interleave
);

/// Four quants of each of sixteen rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::arch::x86_64) fn load_group<T>(group: &[[T; 4]; PANEL_ROWS]) -> __m512i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: 64 bytes are there; the load is unaligned.
    unsafe { _mm512_loadu_si512(group.as_ptr().cast()) }
}

/// The nibbles of sixteen rows: low ones are values 0–15, high ones 16–31.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::arch::x86_64) fn load_nibbles(qs: &[[[u8; 4]; PANEL_ROWS]; 4]) -> [__m512i; 8] {
    split_nibbles(qs.each_ref().map(|group| load_group(group)))
}

/// The same of what is loaded already.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn split_nibbles([a, b, c, d]: [__m512i; 4]) -> [__m512i; 8] {
    let mask = _mm512_set1_epi8(15);
    let [e, f, g, h] = [a, b, c, d].map(|x| _mm512_and_si512(_mm512_srli_epi16::<4>(x), mask));
    let [a, b, c, d] = [a, b, c, d].map(|x| _mm512_and_si512(x, mask));
    [a, b, c, d, e, f, g, h]
}

/// Four quants of `x`, in every lane of 32 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn splat_group(x: &BlockQ8, group: usize) -> __m512i {
    // SAFETY: `group` is below 8, so the four bytes are there; the read is unaligned.
    _mm512_set1_epi32(unsafe { x.qs.as_ptr().cast::<i32>().add(group).read_unaligned() })
}

/// The sums of unsigned quants and activations for sixteen rows, `start` added. Two chains, for the latency.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sum_groups(w: &[__m512i; 8], x: &BlockQ8, start: __m512i) -> __m512 {
    let (mut even, mut odd) = (start, _mm512_setzero_si512());
    for (pair, w) in w.as_chunks::<2>().0.iter().enumerate() {
        even = _mm512_dpbusd_epi32(even, w[0], splat_group(x, 2 * pair));
        odd = _mm512_dpbusd_epi32(odd, w[1], splat_group(x, 2 * pair + 1));
    }
    _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd))
}

/// Scales of sixteen rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::arch::x86_64) fn scales(d: &[F16; PANEL_ROWS]) -> __m512 {
    _mm512_cvtph_ps(panels::load32(d))
}

/// Rows of activations that meet two panels together: eight chains of sums, so that none waits for itself.
const TOGETHER: usize = 4;

/// The sums of unsigned quants of two panels and some rows of activations, `start` of each row added. What is read of a
/// row serves both panels.
///
/// `x` is a slice: of an array LLVM knows that it is all there, and loads sixteen bytes to shuffle instead of four to
/// broadcast.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sum_two<const N: usize>(w: [&[__m512i; 8]; 2], x: &[BlockQ8], start: [__m512i; N]) -> [[__m512; 2]; N] {
    let mut sums = start.map(|start| [start; 2]);
    for (group, (left, right)) in w[0].iter().zip(w[1]).enumerate() {
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = splat_group(x, group);
            *sums = [_mm512_dpbusd_epi32(sums[0], *left, x), _mm512_dpbusd_epi32(sums[1], *right, x)];
        }
    }
    sums.map(|sums| sums.map(|sum| _mm512_cvtepi32_ps(sum)))
}

/// Defines `$one` and `$two`, the accumulation of one and of two panels, and `$streams`, one row's products with two.
/// `$unpack` makes of a panel its scales `$w` and unsigned quants; `$start` is what the sums for the block `$x` begin with;
/// `$step` the results behind the block, of those before it, `$acc`, and the sums.
macro_rules! define_accumulate {
    ($one:ident, $two:ident, $streams:ident, $ty:ty, |$panel:ident| $unpack:expr,
        |$x:ident| $start:expr, |$acc:ident, $sum:ident, $w:ident| $step:expr) => {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn $one(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[$ty], _: &mut Spill) {
            if !is_enough(x.len(), stride, panels.len(), acc.len()) {
                return;
            }
            for (b, $panel) in panels.iter().enumerate() {
                // SAFETY: `x` is enough.
                let rows = unsafe { panels::rows_of(x, stride, acc.len(), b) };
                panels::prefetch_panel($panel);
                let ($w, quants) = $unpack;
                for (acc, $x) in acc.iter_mut().zip(rows) {
                    let ($acc, $sum) = (load_results(acc), sum_groups(&quants, $x, $start));
                    store_results(acc, $step);
                }
            }
        }

        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        #[allow(unused_variables)] // not all sums begin with something of the block
        fn $two(acc: &mut [[Results; 2]], x: &[BlockQ8], stride: usize, panels: [&[$ty]; 2], _: &mut Spill) {
            if !is_enough(x.len(), stride, panels[0].len(), acc.len()) {
                return;
            }
            let (many, few) = acc.as_chunks_mut::<TOGETHER>();
            let n_rows = many.len() * TOGETHER + few.len();
            for (b, (left, right)) in panels[0].iter().zip(panels[1]).enumerate() {
                // SAFETY: `x` is enough.
                let rows = unsafe { panels::rows_of(x, stride, n_rows, b) };
                let rows = rows.as_chunks::<TOGETHER>();
                let [left, right] = [left, right].map(|$panel| {
                    panels::prefetch_panel($panel);
                    $unpack
                });
                let quants = [&left.1, &right.1];
                let add = |acc: &mut [Results; 2], $x: &BlockQ8, sums: [__m512; 2]| {
                    for ((acc, $sum), $w) in acc.iter_mut().zip(sums).zip([left.0, right.0]) {
                        let $acc = load_results(acc);
                        store_results(acc, $step);
                    }
                };
                for (acc, x) in many.iter_mut().zip(rows.0) {
                    let sums = sum_two(quants, x, x.each_ref().map(|$x| $start));
                    acc.iter_mut().zip(x).zip(sums).for_each(|((acc, x), sums)| add(acc, x, sums));
                }
                for (acc, $x) in few.iter_mut().zip(rows.1) {
                    let [sums] = sum_two(quants, core::slice::from_ref($x), [$start]);
                    add(acc, $x, sums);
                }
            }
        }

        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn $streams(results: [&mut Results; 2], x: &[BlockQ8], [first, second]: [&[$ty]; 2]) {
            let mut totals = [_mm512_setzero_ps(); 2];
            for ((first, second), $x) in first.iter().zip(second).zip(x) {
                for ($panel, total) in [first, second].into_iter().zip(&mut totals) {
                    panels::prefetch_panel($panel);
                    let ($w, quants) = $unpack;
                    let ($acc, $sum) = (*total, sum_groups(&quants, $x, $start));
                    *total = $step;
                }
            }
            results.into_iter().zip(totals).for_each(|(to, total)| store_results(to, total));
        }
    };
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn load_results(acc: &Results) -> __m512 {
    // SAFETY: sixteen results; the load is unaligned.
    unsafe { _mm512_loadu_ps(acc.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn store_results(acc: &mut Results, to: __m512) {
    // SAFETY: sixteen results; the store is unaligned.
    unsafe { _mm512_storeu_ps(acc.as_mut_ptr(), to) }
}

define_accumulate!(
    accumulate_q4_0,
    accumulate_two_q4_0,
    two_streams_q4_0,
    PanelQ4_0,
    |panel| (scales(&panel.d), load_nibbles(&panel.qs)),
    |x| _mm512_set1_epi32(x.offset),
    |acc, sum, d| _mm512_fmadd_ps(sum, _mm512_mul_ps(d, _mm512_set1_ps(x.d)), acc)
);

define_accumulate!(
    accumulate_q4_1,
    accumulate_two_q4_1,
    two_streams_q4_1,
    PanelQ4_1,
    |panel| ([scales(&panel.d), scales(&panel.m)], load_nibbles(&panel.qs)),
    |x| _mm512_setzero_si512(),
    |acc, sum, w| {
        let acc = _mm512_fmadd_ps(sum, _mm512_mul_ps(w[0], _mm512_set1_ps(x.d)), acc);
        _mm512_fmadd_ps(_mm512_set1_ps(x.offset as f32 * -0.125 * x.d), w[1], acc)
    }
);

define_accumulate!(
    accumulate_q8_0,
    accumulate_two_q8_0,
    two_streams_q8_0,
    PanelQ8_0,
    |panel| {
        // 128 more, which 16 times the offset takes off again.
        let more = _mm512_set1_epi8(-128);
        (scales(&panel.d), panel.qs.each_ref().map(|group| _mm512_xor_si512(load_group(group), more)))
    },
    |x| _mm512_set1_epi32(16 * x.offset),
    |acc, sum, d| _mm512_fmadd_ps(sum, _mm512_mul_ps(d, _mm512_set1_ps(x.d)), acc)
);

/// One half of each row, `offset` bytes into it, as f32.
///
/// # Safety
///
/// The rows have two bytes there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn load_scales(rows: &SixteenRows, offset: usize) -> __m512 {
    let mut halves = [F16::from_bits(0); PANEL_ROWS];
    // SAFETY: as the caller says.
    unsafe { gather_halves(rows, offset, &mut halves) };
    scales(&halves)
}

/// Runs `$step` for every block of one row of activations and sixteen rows of weights as they lie in a file: `$acc` the
/// results, `$x` the block, `$at` where the blocks begin in their rows.
macro_rules! sixteen_rows {
    ($acc:ident, $x:ident, $blocks:ident, $stride:ident,
        |$rows:ident, $at:ident, $sum:ident, $row:ident| $step:expr) => {
        let Some($rows) = &SixteenRows::new($blocks, $stride, $x.len()) else { return };
        // SAFETY: sixteen results; the load is unaligned.
        let mut $sum = unsafe { _mm512_loadu_ps($acc.as_ptr()) };
        for (b, $row) in $x.iter().enumerate() {
            let $at = b * panels::block_size($blocks);
            prefetch::<PANEL_ROWS, _>($blocks, ($stride + b) * PANEL_ROWS);
            // SAFETY: every row has block `b`.
            $sum = unsafe { $step };
        }
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps($acc.as_mut_ptr(), $sum) };
    };
}

by_sixteens! {
    one_row_q4_0 = sixteen_rows_q4_0 of BlockQ4_0;
    one_row_q4_1 = sixteen_rows_q4_1 of BlockQ4_1;
    one_row_q8_0 = sixteen_rows_q8_0 of BlockQ8_0;
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sixteen_rows_q4_0(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ4_0], stride: usize) {
    sixteen_rows!(acc, x, blocks, stride, |rows, at, sum, x| {
        let w = split_nibbles(transpose(rows, at + 2));
        let d = _mm512_mul_ps(load_scales(rows, at), _mm512_set1_ps(x.d));
        _mm512_fmadd_ps(sum_groups(&w, x, _mm512_set1_epi32(x.offset)), d, sum)
    });
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sixteen_rows_q4_1(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ4_1], stride: usize) {
    sixteen_rows!(acc, x, blocks, stride, |rows, at, sum, x| {
        let w = split_nibbles(transpose(rows, at + 4));
        let d = _mm512_mul_ps(load_scales(rows, at), _mm512_set1_ps(x.d));
        let sum = _mm512_fmadd_ps(sum_groups(&w, x, _mm512_setzero_si512()), d, sum);
        let least = _mm512_set1_ps(x.offset as f32 * -0.125 * x.d);
        _mm512_fmadd_ps(least, load_scales(rows, at + 2), sum)
    });
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sixteen_rows_q8_0(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ8_0], stride: usize) {
    sixteen_rows!(acc, x, blocks, stride, |rows, at, sum, x| {
        let ([a, b, c, d], [e, f, g, h]) = (transpose(rows, at + 2), transpose(rows, at + 18));
        // 128 more, which 16 times the offset takes off again.
        let w = [a, b, c, d, e, f, g, h].map(|w| _mm512_xor_si512(w, _mm512_set1_epi8(-128)));
        let scales = _mm512_mul_ps(load_scales(rows, at), _mm512_set1_ps(x.d));
        _mm512_fmadd_ps(sum_groups(&w, x, _mm512_set1_epi32(16 * x.offset)), scales, sum)
    });
}
