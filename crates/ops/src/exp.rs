//! The exponential, written once over the lanes of the back-ends.

use crate::lanes::Lanes;

/// What [`exp`] needs beside [`Lanes`].
pub(crate) trait Exponent<const N: usize>: Lanes<N> {
    /// The smaller of both; `x` where one is NaN.
    fn min(self, x: Self) -> Self;
    /// The nearest integer.
    fn round(self) -> Self;
    /// 2 to the power of integers in -126..=127; anything for anything else.
    fn exp2_integer(self) -> Self;
    /// `self * 2^n` with one rounding, for `self` between 1/2 and 2 and integers `n` in -151..=129.
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        let half = n.mul(Self::splat(0.5)).round();
        self.mul(half.exp2_integer()).mul(n.sub(half).exp2_integer())
    }
}

/// e to the power of each lane, within 1 ulp (of all numbers 0.75 at most where [`mul_add`](Lanes::mul_add) rounds once, and 0.99 where it rounds twice), without a branch: as many instructions for any number.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; the polynomial for `e^r` is Cephes' (`expf.c`). `2^n` is applied in two
/// steps, so that results down to the subnormal numbers and up to the largest are right.
#[inline(always)]
pub(crate) fn exp<L: Exponent<N>, const N: usize>(x: L) -> L {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const FIRST: f32 = 1.987_569_1e-4;
    const COEFFICIENTS: [f32; 5] = [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // In this order a NaN stays one.
    let x = L::splat(89.0).min(L::splat(-104.0).max(x));
    let n = x.mul(L::splat(core::f32::consts::LOG2_E)).round();
    let r = n.mul_add(L::splat(-LN2_LOW), n.mul_add(L::splat(-LN2_HIGH), x));
    let p = COEFFICIENTS.iter().fold(L::splat(FIRST), |p, c| p.mul_add(r, L::splat(*c)));
    p.mul_add(r.mul(r), r).add(L::splat(1.0)).scale(n)
}
