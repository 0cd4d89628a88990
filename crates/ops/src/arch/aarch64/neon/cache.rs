//! Reading an F16 cache for one query: its keys and its values, 64 of a row at a time.
//!
//! Results are those of the generic routines, bit for bit; those also take what is here too narrow or more than one query.

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

/// `dst (m, n) = lhs (m, k) . rhs (n, k)^T`; here for `m` 1 and `k` 64: `lhs` stays in half of the registers.
#[target_feature(enable = "neon")]
fn gemm(dst: &mut TileMut<'_>, lhs: &[f32], rhs: Rows<'_, F16>) {
    let (strips, rest) = rhs.blocks().as_chunks::<STRIP>();
    let is_here = dst.rows() == 1 && lhs.len() == STRIP && rhs.cols() == STRIP && rest.is_empty();
    let (Some(to), [x], true) = (dst.row_mut(0), lhs.as_chunks().0, is_here) else {
        // SAFETY: NEON is all that the generic routine needs.
        return unsafe { (super::F16_PRODUCT.gemm)(dst, lhs, rhs) };
    };
    let x = load(x);
    for (to, row) in to.iter_mut().zip(strips) {
        // As `Floats` adds up.
        let (mut even, mut odd) = (F32x8::splat(0.0), F32x8::splat(0.0));
        for ([x, y], [w, v]) in x.as_chunks().0.iter().zip(widen(row).as_chunks().0) {
            even = x.mul_add(*w, even);
            odd = y.mul_add(*v, odd);
        }
        *to = even.add(odd).sum();
    }
}

/// `dst += p . rows`; here for one row of `dst` whose length is a multiple of 64.
#[target_feature(enable = "neon")]
pub(super) fn accumulate(dst: &mut [f32], p: &[f32], stride: usize, rows: Rows<'_, F16>) {
    let (n, row_strips) = (rows.rows(), rows.cols() / STRIP);
    let (halves, rest) = rows.blocks().as_chunks::<STRIP>();
    let is_here = dst.len() == rows.cols() && dst.len().is_multiple_of(STRIP) && rest.is_empty();
    let Some(p) = p.get(..n).filter(|_| is_here) else {
        // SAFETY: NEON is all that the generic routine needs.
        return unsafe { (super::wide::LANE_OPS.accumulate_f16)(dst, p, stride, rows) };
    };
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
