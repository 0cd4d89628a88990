//! Integer products of AVX-512 VNNI: sixteen rows of weights to a register.

use core::arch::x86_64::*;

use crate::arch::x86_64::avx2::panels::{self, SixteenRows, define_pack, gather_halves, prefetch};
use crate::block::{BlockQ4_0, BlockQ4_1, BlockQ8_0, F16};
use crate::panel::{
    BlockQ8, Kernel, OneRow, PANEL_ROWS, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results, is_enough,
};

pub(super) const Q4_0: Kernel<PanelQ4_0> =
    Kernel { dot: panels::dot_q4_0, pack: pack_q4_0, accumulate: accumulate_q4_0 };
pub(super) const Q4_1: Kernel<PanelQ4_1> =
    Kernel { dot: panels::dot_q4_1, pack: pack_q4_1, accumulate: accumulate_q4_1 };
pub(super) const Q8_0: Kernel<PanelQ8_0> =
    Kernel { dot: panels::dot_q8_0, pack: pack_q8_0, accumulate: accumulate_q8_0 };

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
fn load_group<T>(group: &[[T; 4]; PANEL_ROWS]) -> __m512i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: 64 bytes are there; the load is unaligned.
    unsafe { _mm512_loadu_si512(group.as_ptr().cast()) }
}

/// The nibbles of sixteen rows: low ones are values 0–15, high ones 16–31.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn load_nibbles(qs: &[[[u8; 4]; PANEL_ROWS]; 4]) -> [__m512i; 8] {
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
fn scales(d: &[F16; PANEL_ROWS]) -> __m512 {
    _mm512_cvtph_ps(panels::load32(d))
}

/// Runs `$step` for every panel and row of activations: `$acc` its sixteen results, `$x` its block, `$w` what `$unpack`
/// made of the panel.
macro_rules! accumulate {
    ($acc:ident, $x:ident, $stride:ident, $panels:ident,
        |$panel:ident| $unpack:expr, |$sum:ident, $row:ident, $w:ident| $step:expr) => {
        if !is_enough($x.len(), $stride, $panels.len(), $acc.len()) {
            return;
        }
        for (b, $panel) in $panels.iter().enumerate() {
            // SAFETY: `x` is enough.
            let rows = unsafe { panels::rows_of($x, $stride, $acc.len(), b) };
            panels::prefetch_panel($panel);
            let $w = $unpack;
            for (acc, $row) in $acc.iter_mut().zip(rows) {
                // SAFETY: sixteen results; load and store are unaligned.
                unsafe {
                    let $sum = _mm512_loadu_ps(acc.as_ptr());
                    _mm512_storeu_ps(acc.as_mut_ptr(), $step);
                }
            }
        }
    };
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn accumulate_q4_0(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[PanelQ4_0]) {
    accumulate!(acc, x, stride, panels, |panel| (scales(&panel.d), load_nibbles(&panel.qs)), |acc, x, w| {
        let sums = sum_groups(&w.1, x, _mm512_set1_epi32(x.offset));
        _mm512_fmadd_ps(sums, _mm512_mul_ps(w.0, _mm512_set1_ps(x.d)), acc)
    });
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn accumulate_q4_1(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[PanelQ4_1]) {
    accumulate!(
        acc,
        x,
        stride,
        panels,
        |panel| (scales(&panel.d), scales(&panel.m), load_nibbles(&panel.qs)),
        |acc, x, w| {
            let sums = sum_groups(&w.2, x, _mm512_setzero_si512());
            let acc = _mm512_fmadd_ps(sums, _mm512_mul_ps(w.0, _mm512_set1_ps(x.d)), acc);
            _mm512_fmadd_ps(_mm512_set1_ps(x.offset as f32 * -0.125 * x.d), w.1, acc)
        }
    );
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn accumulate_q8_0(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[PanelQ8_0]) {
    accumulate!(
        acc,
        x,
        stride,
        panels,
        |panel| {
            // 128 more, which 16 times the offset takes off again.
            let more = _mm512_set1_epi8(-128);
            (scales(&panel.d), panel.qs.each_ref().map(|group| _mm512_xor_si512(load_group(group), more)))
        },
        |acc, x, w| {
            let start = _mm512_slli_epi32::<4>(_mm512_set1_epi32(x.offset));
            let sums = sum_groups(&w.1, x, start);
            _mm512_fmadd_ps(sums, _mm512_mul_ps(w.0, _mm512_set1_ps(x.d)), acc)
        }
    );
}

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
macro_rules! one_row {
    ($acc:ident, $x:ident, $blocks:ident, $stride:ident,
        |$rows:ident, $at:ident, $sum:ident, $row:ident| $step:expr) => {
        let Some($rows) = &SixteenRows::new($blocks, $stride, $x.len()) else { return };
        // SAFETY: sixteen results; the load is unaligned.
        let mut $sum = unsafe { _mm512_loadu_ps($acc.as_ptr()) };
        for (b, $row) in $x.iter().enumerate() {
            let $at = b * panels::block_size($blocks);
            prefetch($blocks, ($stride + b) * PANEL_ROWS);
            // SAFETY: every row has block `b`.
            $sum = unsafe { $step };
        }
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps($acc.as_mut_ptr(), $sum) };
    };
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn one_row_q4_0(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ4_0], stride: usize) {
    one_row!(acc, x, blocks, stride, |rows, at, sum, x| {
        let w = split_nibbles(transpose(rows, at + 2));
        let d = _mm512_mul_ps(load_scales(rows, at), _mm512_set1_ps(x.d));
        _mm512_fmadd_ps(sum_groups(&w, x, _mm512_set1_epi32(x.offset)), d, sum)
    });
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn one_row_q4_1(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ4_1], stride: usize) {
    one_row!(acc, x, blocks, stride, |rows, at, sum, x| {
        let w = split_nibbles(transpose(rows, at + 4));
        let d = _mm512_mul_ps(load_scales(rows, at), _mm512_set1_ps(x.d));
        let sum = _mm512_fmadd_ps(sum_groups(&w, x, _mm512_setzero_si512()), d, sum);
        let least = _mm512_set1_ps(x.offset as f32 * -0.125 * x.d);
        _mm512_fmadd_ps(least, load_scales(rows, at + 2), sum)
    });
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn one_row_q8_0(acc: &mut Results, x: &[BlockQ8], blocks: &[BlockQ8_0], stride: usize) {
    one_row!(acc, x, blocks, stride, |rows, at, sum, x| {
        let ([a, b, c, d], [e, f, g, h]) = (transpose(rows, at + 2), transpose(rows, at + 18));
        // 128 more, which 16 times the offset takes off again.
        let w = [a, b, c, d, e, f, g, h].map(|w| _mm512_xor_si512(w, _mm512_set1_epi8(-128)));
        let scales = _mm512_mul_ps(load_scales(rows, at), _mm512_set1_ps(x.d));
        _mm512_fmadd_ps(sum_groups(&w, x, _mm512_set1_epi32(16 * x.offset)), scales, sum)
    });
}

/// What multiplies one row of activations faster than panels that it would have to make.
pub(super) const ONE_ROW: OneRow =
    OneRow { q8_0: Some(one_row_q8_0), q4_0: Some(one_row_q4_0), q4_1: Some(one_row_q4_1) };
