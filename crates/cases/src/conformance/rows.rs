//! Norms, softmax and rotary positions against their definitions.

use corelm::ops::reference::{self, Decode};
use corelm::ops::{F32, Ops};

use super::Stand;
use crate::data::{self, VALUE_COUNTS, assert_near};

const EPS: f64 = f32::EPSILON as f64;
/// The epsilon of the norms.
const NORM_EPS: f32 = 1e-5;

pub fn rms_norm_matches_reference(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    for n in VALUE_COUNTS {
        for size in [1.0f32, 1e-4, 1e4, 0.0] {
            let mut arena = stand.arena();
            let x = data::f32s(&mut arena, n, 40);
            x.iter_mut().for_each(|x| *x *= size);
            let weight = data::blocks::<F32>(&mut arena, n, 1, 41);
            let dst = arena.alloc(n, f32::NAN).expect("test memory");
            ops.rms_norm(dst, x, weight, NORM_EPS);
            let want = arena.alloc(n, 0.0f64).expect("test memory");
            reference::rms_norm(want, x, weight, NORM_EPS);
            for (i, (have, &mut want)) in dst.iter().zip(want).enumerate() {
                // The squares are positive: their sum keeps the relative error of n additions.
                let bound = (n + 16) as f64 * EPS * want.abs();
                assert_near(*have, want, bound, format_args!("{:?}, {i} of {n} x {size}", ops.backend()));
            }
        }
    }
}

pub fn layer_norm_matches_reference(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    for n in VALUE_COUNTS {
        for shift in [0.0f32, 3.0] {
            let mut arena = stand.arena();
            let x = data::f32s(&mut arena, n, 42);
            x.iter_mut().for_each(|x| *x += shift);
            let weight = data::blocks::<F32>(&mut arena, n, 1, 43);
            let bias = data::blocks::<F32>(&mut arena, n, 3, 44);
            let dst = arena.alloc(n, f32::NAN).expect("test memory");
            ops.layer_norm(dst, x, weight, bias, NORM_EPS);
            let wants = arena.alloc(n, 0.0f64).expect("test memory");
            reference::layer_norm(wants, x, weight, bias, NORM_EPS);
            let count = n.max(1) as f64;
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
            let magnitude = x.iter().map(|&x| f64::from(x).abs()).sum::<f64>() / count;
            let variance =
                x.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum::<f64>() / count;
            let scale = 1.0 / libm::sqrt(variance + f64::from(NORM_EPS));
            // The mean is off by n roundings of the sum; every difference inherits that.
            let relative = (n + 16) as f64 * EPS;
            for (i, (have, &mut want)) in dst.iter().zip(wants).enumerate() {
                let (x, weight) = (f64::from(x[i]), weight.value(i));
                // A mean off by e moves the deviation by e * e alone, but relative to its square that may be much.
                let off = relative * magnitude * scale;
                let spread = (x - mean).abs() * scale * weight.abs();
                let bound = relative * (spread + want.abs()) + off * weight.abs() + off * off * spread;
                assert_near(*have, want, bound, format_args!("{:?}, {i} of {n} + {shift}", ops.backend()));
            }
        }
    }
}

pub fn softmax_matches_reference(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    for n in VALUE_COUNTS {
        for size in [1.0f32, 30.0] {
            let mut arena = stand.arena();
            let x = &*data::f32s(&mut arena, n, 45);
            let have = arena.alloc_with(n, |i| x[i] * size).expect("test memory");
            let max = have.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponents = arena.alloc_with(n, |i| f64::from(x[i] * size)).expect("test memory");
            let want = arena.alloc(n, 0.0f64).expect("test memory");
            reference::softmax(want, exponents);
            ops.softmax(have);
            for (i, (have, &mut want)) in have.iter().zip(want).enumerate() {
                // The exponent is rounded once, which e^x turns into a relative error in proportion to it.
                let bound = (n as f64 + 16.0 + 2.0 * f64::from(max - x[i] * size)) * EPS * want;
                assert_near(*have, want, bound, format_args!("{:?}, {i} of {n} x {size}", ops.backend()));
            }
        }
    }
}

pub fn softmax_survives_extremes(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    for n in [1, 4, 7, 8, 9, 40] {
        for extreme in [f32::MAX, f32::MIN, 1e30, -1e30, 0.0, 88.0, -104.0] {
            let mut arena = stand.arena();
            let x = arena.alloc(n, extreme).expect("test memory");
            ops.softmax(x);
            for have in x.iter() {
                let bound = (n + 16) as f64 * EPS / n as f64;
                assert_near(
                    *have,
                    1.0 / n as f64,
                    bound,
                    format_args!("{:?}, {n} x {extreme}", ops.backend()),
                );
            }
            if n > 1 {
                let x = arena.alloc(n, f32::NEG_INFINITY).expect("test memory");
                x[n / 2] = extreme;
                ops.softmax(x);
                for (i, have) in x.iter().enumerate() {
                    let want = if i == n / 2 { 1.0 } else { 0.0 };
                    assert_eq!(*have, want, "{:?}: {i} of {n}, {extreme} among -inf", ops.backend());
                }
            }
        }
    }
}

pub fn broken_numbers_show_in_rows(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    for n in [1, 7, 8, 9, 40] {
        for place in [0, n / 2, n - 1] {
            let mut arena = stand.arena();
            let x = data::f32s(&mut arena, n, 47);
            let weight = data::blocks::<F32>(&mut arena, n, 0, 48);
            x[place] = f32::NAN;
            let about = format_args!("{:?}: NaN at {place} of {n}", ops.backend());
            let dst = arena.alloc(n, 0.0f32).expect("test memory");
            ops.rms_norm(dst, x, weight, NORM_EPS);
            assert!(dst.iter().all(|x| x.is_nan()), "{about}: rms_norm gave {dst:?}");
            ops.layer_norm(dst, x, weight, weight, NORM_EPS);
            assert!(dst.iter().all(|x| x.is_nan()), "{about}: layer_norm gave {dst:?}");
            ops.softmax(x);
            assert!(x.iter().all(|x| x.is_nan()), "{about}: softmax gave {x:?}");
        }
    }
}

/// Rotates rows of all widths; `pair(i, n)` says where the two values of pair `i` of `n` lie.
fn check_rope(
    stand: &mut Stand<'_>,
    rope: impl Fn(Ops, &mut [f32], &[f32]),
    pair: impl Fn(usize, usize) -> (usize, usize),
) {
    let ops = stand.ops;
    for n_pairs in [1, 2, 3, 4, 5, 7, 8, 9, 16, 32, 33, 64] {
        for n_rest in [0, 2, 10] {
            let mut arena = stand.arena();
            let x = &*data::f32s(&mut arena, 2 * n_pairs + n_rest, 46);
            let turned = arena.alloc_with(x.len(), |i| x[i]).expect("test memory");
            let angle = |i: usize| 0.37 * (i as f64 + 1.0);
            let cos_sin = arena
                .alloc_with(2 * n_pairs, |i| match i.checked_sub(n_pairs) {
                    None => libm::cos(angle(i)) as f32,
                    Some(i) => libm::sin(angle(i)) as f32,
                })
                .expect("test memory");
            rope(ops, turned, cos_sin);
            for i in 0..n_pairs {
                let (a, b) = pair(i, n_pairs);
                let (cos, sin) = (f64::from(cos_sin[i]), f64::from(cos_sin[n_pairs + i]));
                let (xa, xb) = (f64::from(x[a]), f64::from(x[b]));
                let bound = 4.0 * EPS * (xa.abs() + xb.abs());
                let about = format_args!("{:?}: pair {i} of {n_pairs}", ops.backend());
                assert_near(turned[a], xa * cos - xb * sin, bound, about);
                assert_near(turned[b], xa * sin + xb * cos, bound, about);
            }
            assert_eq!(turned[2 * n_pairs..], x[2 * n_pairs..], "{:?}: what is not turned", ops.backend());
        }
    }
}

pub fn rope_pairs_neighbours(stand: &mut Stand<'_>) {
    check_rope(stand, Ops::rope_norm, |i, _| (2 * i, 2 * i + 1));
}

pub fn rope_pairs_halves(stand: &mut Stand<'_>) {
    check_rope(stand, Ops::rope_neox, |i, n| (i, i + n));
}
