//! The portable back-end: every operation in plain Rust, eight lanes wide so that the compiler vectorises it.

use crate::arch;
use crate::block::{Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, QK};
use crate::exp::{self, Exponent};
use crate::floats::Floats;
use crate::lanes::{Lanes, lane_ops, nibbles};
use crate::panel::{self, BlockQ8, Kernel, PANEL_ROWS, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results};
use crate::product::product;
use crate::quantize;
use crate::table::{Backend, OpTable};

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::Scalar,
    needs: crate::cpu::Feature::empty(),
    quantize_q8_0: quantize::q8_0,
    f32: product!(Floats<Wide, F32, 8>, 1, 1, 1),
    f16: product!(Floats<Wide, F16, 8>, 1, 1, 1),
    bf16: product!(Floats<Wide, Bf16, 8>, 1, 1, 1),
    quantize_q8: quantize::q8,
    tiles: None,
    q8_0: Q8_0,
    q4_0: Q4_0,
    q4_1: Q4_1,
    lanes: LANE_OPS,
};

lane_ops!(Wide, 8);

/// The integer part of a product of two blocks.
fn dot_i8(lhs: &[i8; QK], rhs: &[i8; QK]) -> i32 {
    lhs.iter().zip(rhs).map(|(x, w)| i32::from(*x) * i32::from(*w)).sum()
}

/// Runs `step(acc, x, panel)` for every row of activations and every panel.
fn accumulate<P>(
    acc: &mut [Results],
    x: &[BlockQ8],
    stride: usize,
    panels: &[P],
    step: impl Fn(&mut Results, &BlockQ8, &P),
) {
    for (panel, x) in panels.iter().zip(x.chunks(stride.max(1))) {
        acc.iter_mut().zip(x).for_each(|(acc, x)| step(acc, x, panel));
    }
}

/// Products that are added up side by side, before those of each row's four become one: eight 16-bit lanes are what the
/// smallest SIMD registers hold, and the compiler sees it.
const LANES: usize = 8;

/// Adds the products of four activations with each row's four weights, in `T`, which the sums fit.
#[inline(always)]
fn add_products<T: Copy>(
    products: &mut [[T; LANES]; 4 * PANEL_ROWS / LANES],
    x: &[i8],
    group: &[[i8; 4]; PANEL_ROWS],
    add_product: impl Fn(T, i16, i16) -> T,
) {
    let Some(x) = x.first_chunk::<4>() else { return };
    let [a, b, c, d] = x.map(i16::from);
    let x = [a, b, c, d, a, b, c, d];
    for (products, w) in products.iter_mut().zip(group.as_flattened().as_chunks::<LANES>().0) {
        for ((product, w), x) in products.iter_mut().zip(w).zip(x) {
            *product = add_product(*product, i16::from(*w), x);
        }
    }
}

/// `start` plus the sums of each row's four.
#[inline(always)]
fn fold<T: Copy + Into<i32>>(
    start: i32,
    products: &[[T; LANES]; 4 * PANEL_ROWS / LANES],
) -> [i32; PANEL_ROWS] {
    let mut sums = [start; PANEL_ROWS];
    for (sum, products) in sums.iter_mut().zip(products.as_flattened().as_chunks::<4>().0) {
        *sum += products.iter().map(|product| (*product).into()).sum::<i32>();
    }
    sums
}

/// `start` plus the products of activations and nibbles: eight of at most 15 * 127 fit 16 bits.
#[inline(never)]
fn sums_of_nibbles(start: i32, x: &[i8; QK], qs: &[[[u8; 4]; PANEL_ROWS]; 4]) -> [i32; PANEL_ROWS] {
    let mut products = [[0i16; LANES]; 4 * PANEL_ROWS / LANES];
    let add = |sum: i16, w: i16, x: i16| sum.wrapping_add(w.wrapping_mul(x));
    for (g, qs) in qs.iter().enumerate() {
        add_products(
            &mut products,
            x.get(4 * g..).unwrap_or(&[]),
            &qs.map(|q| q.map(|q| (q & 15) as i8)),
            add,
        );
        let high = qs.map(|q| q.map(|q| (q >> 4) as i8));
        add_products(&mut products, x.get(QK / 2 + 4 * g..).unwrap_or(&[]), &high, add);
    }
    fold(start, &products)
}

/// The products of activations and bytes: one of at most 128 * 127 fits 16 bits, two do not.
fn sums_of_bytes(x: &[i8; QK], groups: &[[[i8; 4]; PANEL_ROWS]; 8]) -> [i32; PANEL_ROWS] {
    let mut products = [[0i32; LANES]; 4 * PANEL_ROWS / LANES];
    for (g, group) in groups.iter().enumerate() {
        let x = x.get(4 * g..).unwrap_or(&[]);
        add_products(&mut products, x, group, |sum, w, x| sum + i32::from(w.wrapping_mul(x)));
    }
    fold(0, &products)
}

/// `acc += sums * (d_x * d_w)`
fn add_scaled(acc: &mut Results, sums: [i32; PANEL_ROWS], x: &BlockQ8, d: &[F16; PANEL_ROWS]) {
    // By fours: sixteen halves are more than the registers of a small CPU hold while they are widened.
    let d = arch::halves16(d);
    let d = d.as_chunks::<4>().0;
    for ((acc, sums), d) in acc.as_chunks_mut::<4>().0.iter_mut().zip(sums.as_chunks::<4>().0).zip(d) {
        for ((acc, sum), d) in acc.iter_mut().zip(sums).zip(d) {
            *acc += *sum as f32 * (x.d * F16::from_bits(*d).to_f32());
        }
    }
}

pub(crate) const Q8_0: Kernel<PanelQ8_0> = Kernel {
    dot: |x, w| {
        let blocks = x.iter().zip(w);
        blocks.fold(0.0, |acc, (x, w)| acc + dot_i8(&x.qs, &w.qs) as f32 * (x.d.to_f32() * w.d.to_f32()))
    },
    pack: |panels, blocks, stride, _| panel::gather(panels, blocks, stride, PANEL_ROWS),
    accumulate: |acc, x, stride, panels, _| {
        accumulate(acc, x, stride, panels, |acc, x, w: &PanelQ8_0| {
            add_scaled(acc, sums_of_bytes(&x.qs, &w.qs), x, &w.d);
        });
    },
    accumulate_two: None,
    two_streams: None,
    finish: None,
    one_row: None,
};

pub(crate) const Q4_0: Kernel<PanelQ4_0> = Kernel {
    dot: |x, w| {
        let blocks = x.iter().zip(w);
        blocks.fold(0.0, |acc, (x, w)| {
            let sum = dot_i8(&x.qs, &nibbles(&w.qs).map(|q| q - 8));
            acc + sum as f32 * (x.d.to_f32() * w.d.to_f32())
        })
    },
    pack: |panels, blocks, stride, _| panel::gather(panels, blocks, stride, PANEL_ROWS),
    accumulate: |acc, x, stride, panels, _| {
        accumulate(acc, x, stride, panels, |acc, x, w: &PanelQ4_0| {
            add_scaled(acc, sums_of_nibbles(x.offset, &x.qs, &w.qs), x, &w.d);
        });
    },
    accumulate_two: None,
    two_streams: None,
    finish: None,
    one_row: None,
};

pub(crate) const Q4_1: Kernel<PanelQ4_1> = Kernel {
    dot: |x, w| {
        let blocks = x.iter().zip(w);
        blocks.fold(0.0, |acc, (x, w)| {
            let dx = x.d.to_f32();
            let sum: i32 = x.qs.iter().map(|x| i32::from(*x)).sum();
            let acc = acc + dot_i8(&x.qs, &nibbles(&w.qs)) as f32 * (dx * w.d.to_f32());
            acc + sum as f32 * dx * w.m.to_f32()
        })
    },
    pack: |panels, blocks, stride, _| panel::gather(panels, blocks, stride, PANEL_ROWS),
    accumulate: |acc, x, stride, panels, _| {
        accumulate(acc, x, stride, panels, |acc, x, w: &PanelQ4_1| {
            add_scaled(acc, sums_of_nibbles(0, &x.qs, &w.qs), x, &w.d);
            let least = x.offset as f32 * -0.125 * x.d;
            acc.iter_mut().zip(&w.m).for_each(|(acc, m)| *acc += least * m.to_f32());
        });
    },
    accumulate_two: None,
    two_streams: None,
    finish: None,
    one_row: None,
};

/// Eight f32 in an array.
#[derive(Clone, Copy)]
struct Wide([f32; 8]);

impl Wide {
    #[inline(always)]
    fn zip_with(self, x: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut to = self.0;
        to.iter_mut().zip(x.0).for_each(|(to, x)| *to = f(*to, x));
        Self(to)
    }

    /// Folds halves onto each other: the order a SIMD register is folded in.
    #[inline(always)]
    fn fold(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let [a, b, c, d, e, g, h, i] = self.0;
        f(f(f(a, e), f(c, h)), f(f(b, g), f(d, i)))
    }
}

impl Lanes<8> for Wide {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    fn load(x: &[f32; 8]) -> Self {
        Self(*x)
    }
    #[inline(always)]
    fn load_f32(x: &[F32; 8]) -> Self {
        Self(x.map(F32::to_f32))
    }
    #[inline(always)]
    fn load_f16(x: &[F16; 8]) -> Self {
        Self(x.map(F16::to_f32))
    }
    #[inline(always)]
    fn load_bf16(x: &[Bf16; 8]) -> Self {
        Self(x.map(Bf16::to_f32))
    }
    #[inline(always)]
    fn load_i8(x: &[i8; 8]) -> Self {
        Self(x.map(f32::from))
    }
    #[inline(always)]
    fn widen_f16(x: F16) -> f32 {
        x.to_f32()
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; 8]) {
        *to = self.0;
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [F16; 8]) {
        *to = self.0.map(F16::new);
    }
    #[inline(always)]
    fn add(self, x: Self) -> Self {
        self.zip_with(x, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, x: Self) -> Self {
        self.zip_with(x, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, x: Self) -> Self {
        self.zip_with(x, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, x: Self) -> Self {
        self.zip_with(x, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, x: Self) -> Self {
        self.zip_with(x, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn mul_add(self, x: Self, y: Self) -> Self {
        self.mul(x).add(y)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        exp(self)
    }
    #[inline(always)]
    fn unzip(self, x: Self) -> (Self, Self) {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (self.0, x.0);
        (Self([a, c, e, g, i, k, m, o]), Self([b, d, f, h, j, l, n, p]))
    }
    #[inline(always)]
    fn zip(self, x: Self) -> (Self, Self) {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (self.0, x.0);
        (Self([a, i, b, j, c, k, d, l]), Self([e, m, f, n, g, o, h, p]))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        self.fold(|a, b| a + b)
    }
    #[inline(always)]
    fn max_across(self) -> f32 {
        self.fold(|a, b| if a > b { a } else { b })
    }
}

/// 1.5 * 2^23: with it added, an f32 below 2^22 is an integer in its lowest bits, rounded to the nearest, ties to even.
const TO_INTEGER: f32 = 12_582_912.0;

impl Exponent<8> for Wide {
    #[inline(always)]
    fn min(self, x: Self) -> Self {
        self.zip_with(x, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(|x| (x + TO_INTEGER) - TO_INTEGER))
    }
    /// The integer's lowest bits, biased, become the exponent; all others are shifted out.
    #[inline(always)]
    fn exp2_integer(self) -> Self {
        Self(self.0.map(|n| f32::from_bits((n + TO_INTEGER).to_bits().wrapping_add(127) << 23)))
    }
}

/// One function for all that need it: longer than what else is in their loops.
fn exp(x: Wide) -> Wide {
    exp::exp(x)
}

/// e to the power of one number, on every back-end the same.
pub(crate) fn exp_of(x: f32) -> f32 {
    let [x, ..] = exp(Wide::splat(x)).0;
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance of two neighbours where `x`, positive, is.
    fn ulp(x: f64) -> f64 {
        let x = (x as f32).max(f32::MIN_POSITIVE);
        f64::from(x.next_up()) - f64::from(x)
    }

    /// Numbers from all parts of the range, one of each 1021, against `libm` in f64.
    #[test]
    fn exponentials_are_off_by_less_than_one_place() {
        let (positive, negative) = (0..=0x42b2_0000, 0x8000_0000..=0xc2d2_0000); // to 89, and to -105
        for bits in positive.chain(negative).step_by(1021) {
            let x = f32::from_bits(bits);
            let want = libm::exp(f64::from(x));
            let error = (f64::from(exp_of(x)) - want).abs();
            let is_near = if want <= f64::from(f32::MAX) { error < ulp(want) } else { exp_of(x) >= f32::MAX };
            assert!(is_near, "e^{x:e}: {:e} for {want:e}", exp_of(x));
        }
    }

    #[test]
    fn exponentials_have_their_limits() {
        assert_eq!([0.0, -0.0, 1e-30, -1e-30].map(exp_of), [1.0; 4]);
        assert_eq!([88.73, 89.0, 1e30, f32::MAX, f32::INFINITY].map(exp_of), [f32::INFINITY; 5]);
        assert_eq!([-104.0, -1e30, f32::MIN, f32::NEG_INFINITY].map(exp_of), [0.0; 4]);
        assert_eq!(exp_of(-103.2), f32::from_bits(1));
        assert!(exp_of(f32::NAN).is_nan() && exp_of(-f32::NAN).is_nan());
        assert!(exp_of(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
