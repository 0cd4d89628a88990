//! Reading an F16 cache: for one query 64 values of a row at a time, for four queries 16.
//!
//! Results are those of the generic routines, bit for bit, which also take what is too narrow here.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{F32x8, load64, neon};
use crate::block::F16;
use crate::lanes::Lanes;
use crate::panel::is_enough;
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
fn gemm(dst: &mut TileMut<'_>, lhs: &[f32], rhs: &Rows<'_, F16>) {
    let k = rhs.cols();
    if dst.rows() == 1
        && let Some(to) = dst.row_mut(0)
        && let ([x], []) = lhs.as_chunks()
        && let (rows, []) = rhs.blocks().as_chunks()
        && k == STRIP
    {
        return dots(to, x, rows);
    }
    let fours = if k > 0 && k.is_multiple_of(16) { dst.rows() / 4 } else { 0 };
    for (i, x) in lhs.chunks_exact((4 * k).max(1)).take(fours).enumerate() {
        four_dots(dst, 4 * i, x, *rhs);
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

/// Sixteen halves, loaded before into v16 and v17, as f32 in v18 to v21.
macro_rules! widen16 {
    () => {
        "fcvtl v18.4s, v16.4h\nfcvtl2 v19.4s, v16.8h\nfcvtl v20.4s, v17.4h\nfcvtl2 v21.4s, v17.8h\n"
    };
}

/// `fmla` of the sixteen values in v18 to v21 with four registers, to four of results.
macro_rules! fmlas {
    ($([$a:literal $b:literal $c:literal $d:literal] [$w:literal $x:literal $y:literal $z:literal])*) => {
        concat!($(
            "fmla v", $a, ".4s, v18.4s, v", $w, "\n",
            "fmla v", $b, ".4s, v19.4s, v", $x, "\n",
            "fmla v", $c, ".4s, v20.4s, v", $y, "\n",
            "fmla v", $d, ".4s, v21.4s, v", $z, "\n",
        )*)
    };
}

/// Four registers of a sum to its first, even ones and odd ones apart.
macro_rules! adds {
    ($([$a:literal $b:literal $c:literal $d:literal])*) => {
        concat!($(
            "fadd v", $a, ".4s, v", $a, ".4s, v", $c, ".4s\n",
            "fadd v", $b, ".4s, v", $b, ".4s, v", $d, ".4s\n",
            "fadd v", $a, ".4s, v", $a, ".4s, v", $b, ".4s\n",
        )*)
    };
}

/// The dot products of four rows of `x` with each of `rhs`, for the rows of `dst` from `first` on.
///
/// One block of assembly: sixteen sums and what they are made of fill the registers, and the compiler moves every group
/// that a load wants side by side. Sums are added up as `Floats` does.
#[inline]
#[target_feature(enable = "neon")]
fn four_dots(dst: &mut TileMut<'_>, first: usize, x: &[f32], rhs: Rows<'_, F16>) {
    let k = rhs.cols();
    let Some([a, b, c, d]) = dst.rows_mut::<4>(first) else { return };
    let n = rhs.rows().min(a.len()).min(b.len()).min(c.len()).min(d.len());
    if n == 0 || k == 0 || !k.is_multiple_of(16) || x.len() < 4 * k {
        return;
    }
    let (zeros, row_bytes) = ([0f32; 16], k * size_of::<f32>());
    // SAFETY: reads `n` rows of `rhs`, four of `x` and the zeros; writes `n` results of each of four rows.
    unsafe {
        asm!(
            "2:",
            "ld1 {{v0.4s-v3.4s}}, [{zeros}]",
            "ld1 {{v4.4s-v7.4s}}, [{zeros}]",
            "ld1 {{v8.4s-v11.4s}}, [{zeros}]",
            "ld1 {{v12.4s-v15.4s}}, [{zeros}]",
            "mov {i}, {k}",
            "3:",
            "ld1 {{v16.16b-v17.16b}}, [{w}], #32",
            "ld1 {{v24.4s-v27.4s}}, [{x}], {stride}",
            "ld1 {{v28.4s-v31.4s}}, [{x}], {stride}",
            widen16!(),
            fmlas!([0 1 2 3] ["24.4s" "25.4s" "26.4s" "27.4s"]),
            "ld1 {{v24.4s-v27.4s}}, [{x}], {stride}",
            fmlas!([4 5 6 7] ["28.4s" "29.4s" "30.4s" "31.4s"]),
            "ld1 {{v28.4s-v31.4s}}, [{x}], {back}",
            fmlas!([8 9 10 11] ["24.4s" "25.4s" "26.4s" "27.4s"]),
            fmlas!([12 13 14 15] ["28.4s" "29.4s" "30.4s" "31.4s"]),
            "subs {i}, {i}, #16",
            "b.ne 3b",
            "sub {x}, {x}, {stride}",
            adds!([0 1 2 3] [4 5 6 7] [8 9 10 11] [12 13 14 15]),
            "zip1 v16.2d, v0.2d, v4.2d",
            "zip2 v17.2d, v0.2d, v4.2d",
            "zip1 v18.2d, v8.2d, v12.2d",
            "zip2 v19.2d, v8.2d, v12.2d",
            "fadd v16.4s, v16.4s, v17.4s",
            "fadd v18.4s, v18.4s, v19.4s",
            "faddp v16.4s, v16.4s, v18.4s",
            "st1 {{v16.s}}[0], [{a}], #4",
            "st1 {{v16.s}}[1], [{b}], #4",
            "st1 {{v16.s}}[2], [{c}], #4",
            "st1 {{v16.s}}[3], [{d}], #4",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            n = inout(reg) n => _, k = in(reg) k, i = out(reg) _, zeros = in(reg) zeros.as_ptr(),
            w = inout(reg) rhs.blocks().as_ptr() => _, x = inout(reg) x.as_ptr() => _,
            stride = in(reg) row_bytes, back = in(reg) 64usize.wrapping_sub(row_bytes.wrapping_mul(3)),
            a = inout(reg) a.as_mut_ptr() => _, b = inout(reg) b.as_mut_ptr() => _,
            c = inout(reg) c.as_mut_ptr() => _, d = inout(reg) d.as_mut_ptr() => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
            out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _,
            out("v14") _, out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _,
            out("v21") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            out("v30") _, out("v31") _,
            options(nostack)
        );
    }
}

/// `dst[r] += p[r * stride..] . rows`; here for one row of `dst` whose length is a multiple of 64, and for four rows at a
/// time whose length is a multiple of 16.
#[target_feature(enable = "neon")]
pub(super) fn accumulate(dst: &mut [f32], p: &[f32], stride: usize, rows: &Rows<'_, F16>) {
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
    for (dst, p) in done.chunks_exact_mut((4 * width).max(1)).zip(p_done.chunks((4 * stride).max(1))) {
        accumulate_four(dst, p, stride, *rows);
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

/// One position of [`accumulate_four`]: its value `$lane` of each row's weights, by sixteen values of it.
macro_rules! position {
    ($($lane:literal)*) => {
        concat!($(
            "ld1 {{v16.16b-v17.16b}}, [{w}], {w_stride}\n",
            widen16!(),
            position!(@fmlas $lane, [0 1 2 3] 24, [4 5 6 7] 25, [8 9 10 11] 26, [12 13 14 15] 27),
        )*)
    };
    (@fmlas $lane:literal, $($acc:tt $p:literal),*) => { concat!($(position!(@one $lane, $acc $p),)*) };
    (@one $lane:literal, [$a:literal $b:literal $c:literal $d:literal] $p:literal) => {
        concat!(
            "fmla v", $a, ".4s, v18.4s, v", $p, ".s[", $lane, "]\n",
            "fmla v", $b, ".4s, v19.4s, v", $p, ".s[", $lane, "]\n",
            "fmla v", $c, ".4s, v20.4s, v", $p, ".s[", $lane, "]\n",
            "fmla v", $d, ".4s, v21.4s, v", $p, ".s[", $lane, "]\n",
        )
    };
}

/// Loads numbers of four rows to v24 to v27 and steps on to the next.
macro_rules! load_weights {
    ($load:literal, $back:literal) => {
        concat!(
            $load,
            " {{v24.4s}}, [{p}], {p_stride}\n",
            $load,
            " {{v25.4s}}, [{p}], {p_stride}\n",
            $load,
            " {{v26.4s}}, [{p}], {p_stride}\n",
            $load,
            " {{v27.4s}}, [{p}], {",
            $back,
            "}\n",
        )
    };
}

/// `dst[r] += p[r * stride..] . rows` for four rows of `dst`, whose length is a multiple of 16.
///
/// Sixteen values of each in registers, four positions at a time; one block of assembly, as [`four_dots`].
#[inline]
#[target_feature(enable = "neon")]
fn accumulate_four(dst: &mut [f32], p: &[f32], stride: usize, rows: Rows<'_, F16>) {
    let (n, width) = (rows.rows(), rows.cols());
    if n == 0 || dst.len() < 4 * width || !is_enough(p.len(), stride, 4, n) {
        return;
    }
    let (row_bytes, p_bytes) = (width * size_of::<f32>(), stride.wrapping_mul(size_of::<f32>()));
    for at in (0..width / 16).map(|strip| 16 * strip) {
        let to = dst.as_mut_ptr().wrapping_add(at);
        // SAFETY: reads 16 values of `n` rows and `n` weights for each of four rows; goes over 16 values of four rows.
        unsafe {
            asm!(
                "ld1 {{v0.4s-v3.4s}}, [{from}], {stride}",
                "ld1 {{v4.4s-v7.4s}}, [{from}], {stride}",
                "ld1 {{v8.4s-v11.4s}}, [{from}], {stride}",
                "ld1 {{v12.4s-v15.4s}}, [{from}]",
                "cbz {fours}, 3f",
                "2:",
                load_weights!("ld1", "next_four"),
                position!(0 1 2 3),
                "subs {fours}, {fours}, #1",
                "b.ne 2b",
                "3:",
                "cbz {ones}, 5f",
                "4:",
                load_weights!("ld1r", "next_one"),
                position!(0),
                "subs {ones}, {ones}, #1",
                "b.ne 4b",
                "5:",
                "st1 {{v0.4s-v3.4s}}, [{to}], {stride}",
                "st1 {{v4.4s-v7.4s}}, [{to}], {stride}",
                "st1 {{v8.4s-v11.4s}}, [{to}], {stride}",
                "st1 {{v12.4s-v15.4s}}, [{to}]",
                from = inout(reg) to => _, to = inout(reg) to => _, stride = in(reg) row_bytes,
                fours = inout(reg) n / 4 => _, ones = inout(reg) n % 4 => _,
                p = inout(reg) p.as_ptr() => _, p_stride = in(reg) p_bytes,
                next_four = in(reg) 16usize.wrapping_sub(p_bytes.wrapping_mul(3)),
                next_one = in(reg) 4usize.wrapping_sub(p_bytes.wrapping_mul(3)),
                w = inout(reg) rows.blocks().as_ptr().wrapping_add(at) => _,
                w_stride = in(reg) width * size_of::<F16>(),
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _,
                out("v13") _, out("v14") _, out("v15") _, out("v16") _, out("v17") _, out("v18") _,
                out("v19") _, out("v20") _, out("v21") _, out("v24") _, out("v25") _, out("v26") _,
                out("v27") _,
                options(nostack)
            );
        }
    }
}
