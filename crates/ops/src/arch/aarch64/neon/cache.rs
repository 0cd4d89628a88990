//! Reading an F16 cache: for one query 64 values of a row at a time, for four queries 16.
//!
//! Results are those of the generic routines, bit for bit, which also take what is too narrow here.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{F32x8, load64, neon};
use crate::block::F16;
use crate::lanes::Lanes;
use crate::product::Product;
use crate::tile::TileMut;
use crate::view::Rows;

/// Values of a row that are in registers at once.
const STRIP: usize = 64;

/// 64 values, eight to a [`F32x8`].
type Strip = [F32x8; STRIP / 8];

/// Products with F16 weights.
pub(super) const F16_PRODUCT: Product<F16> = Product { gemm, ..super::F16_PRODUCT };

/// 64 halves as f32.
#[inline(always)]
fn widen(halves: &[F16; STRIP]) -> Strip {
    let (a, b, c, d, e, f, g, h);
    // SAFETY: reads the 128 bytes of the array, whose address is passed, and touches nothing else.
    unsafe {
        asm!(
            "ld1 {{v16.16b-v19.16b}}, [{0}], #64",
            "ld1 {{v20.16b-v23.16b}}, [{0}]",
            inout(reg) halves.as_ptr() => _, out("v16") a, out("v17") b, out("v18") c, out("v19") d,
            out("v20") e, out("v21") f, out("v22") g, out("v23") h,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    [a, b, c, d, e, f, g, h].map(F32x8::from_f16)
}

/// 64 f32.
#[inline(always)]
fn load(x: &[f32; STRIP]) -> Strip {
    // SAFETY: 64 f32 are four times 64 bytes.
    let quarters = unsafe { &*x.as_ptr().cast::<[[u8; 64]; 4]>() };
    let [[a, b], [c, d], [e, f], [g, h]] = quarters.each_ref().map(|quarter| {
        let [a, b, c, d] = load64(quarter).map(|x| neon!(vreinterpretq_f32_u8(x)));
        [F32x8(a, b), F32x8(c, d)]
    });
    [a, b, c, d, e, f, g, h]
}

/// `dst (m, n) = lhs (m, k) . rhs (n, k)^T`; here for `m` 1 and `k` 64, where `lhs` stays in half of the registers, and for
/// four rows at a time and `k` a multiple of 16.
#[target_feature(enable = "neon")]
fn gemm(dst: &mut TileMut<'_>, lhs: &[f32], rhs: Rows<'_, F16>) {
    let k = rhs.cols();
    if dst.rows() == 1
        && let Some(to) = dst.row_mut(0)
        && let ([x], []) = lhs.as_chunks()
        && let (rows, []) = rhs.blocks().as_chunks()
        && k == STRIP
    {
        return dots(to, x, rows);
    }
    let fours = if k.is_multiple_of(16) { dst.rows() / 4 } else { 0 };
    for (i, x) in lhs.chunks_exact((4 * k).max(1)).take(fours).enumerate() {
        four_dots(dst, 4 * i, x, rhs);
    }
    let done = 4 * fours;
    let (rows, cols) = (dst.rows(), dst.cols());
    let rest = lhs.get(done * k..).unwrap_or_default();
    // SAFETY: NEON is all that the generic routine needs.
    unsafe { (super::F16_PRODUCT.gemm)(&mut dst.reborrow().slice(done..rows, 0..cols), rest, rhs) }
}

/// The dot products of `x` with each of `rows`.
#[inline(always)]
fn dots(to: &mut [f32], x: &[f32; STRIP], rows: &[[F16; STRIP]]) {
    let x = load(x);
    for (to, row) in to.iter_mut().zip(rows) {
        // As `Floats` adds up.
        let (mut even, mut odd) = (F32x8::splat(0.0), F32x8::splat(0.0));
        for ([x, y], [w, v]) in x.as_chunks().0.iter().zip(widen(row).as_chunks().0) {
            even = x.mul_add(*w, even);
            odd = y.mul_add(*v, odd);
        }
        *to = even.add(odd).sum();
    }
}

/// The dot products of four rows of `x` with each of `rhs`, for the rows of `dst` from `first` on.
#[inline(always)]
fn four_dots(dst: &mut TileMut<'_>, first: usize, x: &[f32], rhs: Rows<'_, F16>) {
    let (chunks, _) = x.as_chunks::<16>();
    let mut rows = chunks.chunks_exact((rhs.cols() / 16).max(1));
    let x: [&[[f32; 16]]; 4] = core::array::from_fn(|_| rows.next().unwrap_or_default());
    let Some(mut to) = dst.rows_mut::<4>(first) else { return };
    for (col, row) in rhs.iter().enumerate() {
        let mut acc = [[F32x8::splat(0.0); 2]; 4];
        for (c, w) in row.as_chunks::<16>().0.iter().enumerate() {
            let w = widen16(w);
            for (acc, x) in acc.iter_mut().zip(x) {
                let Some(x) = x.get(c) else { return };
                let x = load_two(x);
                *acc = [x[0].mul_add(w[0], acc[0]), x[1].mul_add(w[1], acc[1])];
            }
        }
        for (to, [even, odd]) in to.iter_mut().zip(acc) {
            if let Some(to) = to.get_mut(col) {
                *to = even.add(odd).sum();
            }
        }
    }
}

/// Sixteen halves as f32.
#[inline(always)]
fn widen16(halves: &[F16; 16]) -> [F32x8; 2] {
    // SAFETY: 16 halves are 32 bytes.
    super::load32(unsafe { &*halves.as_ptr().cast() }).map(F32x8::from_f16)
}

/// Sixteen f32.
#[inline(always)]
fn load_two(x: &[f32; 16]) -> [F32x8; 2] {
    // SAFETY: 16 f32 are 64 bytes.
    let [a, b, c, d] = load64(unsafe { &*x.as_ptr().cast() }).map(|x| neon!(vreinterpretq_f32_u8(x)));
    [F32x8(a, b), F32x8(c, d)]
}

/// `dst[r] += p[r * stride..] . rows`; here for one row of `dst` whose length is a multiple of 64, and for four rows at a
/// time whose length is a multiple of 16.
#[target_feature(enable = "neon")]
pub(super) fn accumulate(dst: &mut [f32], p: &[f32], stride: usize, rows: Rows<'_, F16>) {
    let (n, width) = (rows.rows(), rows.cols().max(1));
    if dst.len() == width
        && width.is_multiple_of(STRIP)
        && let (halves, []) = rows.blocks().as_chunks::<STRIP>()
        && let Some(p) = p.get(..n)
    {
        return accumulate_one(dst, p, halves, width / STRIP);
    }
    let fours = if width.is_multiple_of(16) { dst.len() / width / 4 } else { 0 };
    let (done, rest) = dst.split_at_mut_checked(fours * 4 * width).unwrap_or_default();
    let (p_done, p_rest) = p.split_at_checked(fours * 4 * stride).unwrap_or((p, &[]));
    for (dst, p) in done.chunks_exact_mut(4 * width).zip(p_done.chunks((4 * stride).max(1))) {
        let p: [&[f32]; 4] =
            core::array::from_fn(|i| p.get(i * stride..).and_then(|p| p.get(..n)).unwrap_or_default());
        accumulate_four(dst, p, rows.blocks().as_chunks().0, width / 16);
    }
    // SAFETY: NEON is all that the generic routine needs.
    unsafe { (super::wide::LANE_OPS.accumulate_f16)(rest, p_rest, stride, rows) }
}

#[inline(always)]
fn accumulate_one(dst: &mut [f32], p: &[f32], halves: &[[F16; STRIP]], row_strips: usize) {
    for (s, dst) in dst.as_chunks_mut::<STRIP>().0.iter_mut().enumerate() {
        let mut acc = load(dst);
        let strips = halves.get(s..).unwrap_or(&[]).iter().step_by(row_strips.max(1));
        for (x, p) in strips.zip(p) {
            let p = F32x8::splat(*p);
            for (acc, x) in acc.iter_mut().zip(widen(x)) {
                *acc = x.mul_add(p, *acc);
            }
        }
        for (acc, to) in acc.iter().zip(dst.as_chunks_mut().0) {
            acc.store(to);
        }
    }
}

/// `dst` are four rows; `halves` are rows of `row_strips` each.
#[inline(always)]
fn accumulate_four(dst: &mut [f32], p: [&[f32]; 4], halves: &[[F16; 16]], row_strips: usize) {
    for s in 0..row_strips {
        let mut acc = [[F32x8::splat(0.0); 2]; 4];
        let mut rows = dst.as_chunks::<16>().0.iter().skip(s).step_by(row_strips);
        acc.iter_mut().zip(&mut rows).for_each(|(acc, row)| *acc = load_two(row));

        let mut strips = halves.get(s..).unwrap_or_default().iter().step_by(row_strips);
        let (fours, rest) = (p.map(|p| p.as_chunks::<4>().0), p.map(|p| p.as_chunks::<4>().1));
        for j in 0..fours.first().map_or(0, |p| p.len()) {
            let p = fours.map(|p| p.get(j).map_or(neon!(vdupq_n_f32(0.0)), load_four));
            macro_rules! position {
                ($($lane:literal)*) => {$(
                    let Some(x) = strips.next() else { return };
                    let x = widen16(x);
                    for (acc, p) in acc.iter_mut().zip(p) {
                        for (acc, x) in acc.iter_mut().zip(x) {
                            *acc = neon!(F32x8(
                                vfmaq_laneq_f32::<$lane>(acc.0, x.0, p),
                                vfmaq_laneq_f32::<$lane>(acc.1, x.1, p),
                            ));
                        }
                    }
                )*};
            }
            position!(0 1 2 3);
        }
        for (j, x) in strips.enumerate() {
            let x = widen16(x);
            for (acc, p) in acc.iter_mut().zip(rest) {
                let Some(p) = p.get(j) else { break };
                *acc = [0, 1].map(|i| x[i].mul_add(F32x8::splat(*p), acc[i]));
            }
        }
        for (acc, row) in acc.into_iter().zip(dst.as_chunks_mut::<8>().0.chunks_exact_mut(2 * row_strips)) {
            let Some([low, high]) = row.get_mut(2 * s..2 * s + 2) else { return };
            acc[0].store(low);
            acc[1].store(high);
        }
    }
}

/// Four f32.
#[inline(always)]
fn load_four(x: &[f32; 4]) -> float32x4_t {
    neon!(vreinterpretq_f32_u8(super::load16(&*x.as_ptr().cast())))
}
