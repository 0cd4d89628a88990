//! What is done to each value by itself.

use corelm::ops::{F16, F32, reference};

use super::Stand;
use crate::data::{self, VALUE_COUNTS, assert_near};

const EPS: f64 = f32::EPSILON as f64;
/// Where e^-x overflows, x / (1 + e^-x) is 0 instead of something below 90 / `f32::MAX`.
const TINY: f64 = 90.0 / f32::MAX as f64;

/// Values from -100 to 100, denser around 0, and the special ones.
fn sweep(i: usize) -> f32 {
    const SPECIAL: [f32; 8] = [0.0, -0.0, 1e-30, -1e-30, 88.8, -88.8, 1e4, -1e4];
    match SPECIAL.get(i) {
        Some(&x) => x,
        None => {
            let x = (i as f32 - 1000.0) / 1000.0;
            100.0 * x * x * x
        }
    }
}

const N_SWEEP: usize = 2003;

pub fn silu_matches_reference(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let mut arena = stand.arena();
    let have = arena.alloc_with(N_SWEEP, sweep).expect("test memory");
    ops.silu(have);
    for (i, have) in have.iter().enumerate() {
        let want = reference::silu(sweep(i).into());
        let bound = 16.0 * EPS * want.abs() + TINY;
        assert_near(*have, want, bound, format_args!("{:?}, silu({})", ops.backend(), sweep(i)));
    }
    let up = &*data::f32s(&mut arena, N_SWEEP, 50);
    let have = arena.alloc_with(N_SWEEP, sweep).expect("test memory");
    ops.silu_mul(have, up);
    for (i, have) in have.iter().enumerate() {
        let want = reference::silu(sweep(i).into()) * f64::from(up[i]);
        let bound = 17.0 * EPS * want.abs() + TINY;
        assert_near(*have, want, bound, format_args!("{:?}, silu({}) * {}", ops.backend(), sweep(i), up[i]));
    }
}

pub fn gelu_matches_reference(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let mut arena = stand.arena();
    let have = arena.alloc_with(N_SWEEP, sweep).expect("test memory");
    ops.gelu(have);
    for (i, have) in have.iter().enumerate() {
        let x = f64::from(sweep(i));
        // x / 2 * (1 + tanh z), written so that nothing cancels.
        let twice = 2.0 * libm::sqrt(2.0 / core::f64::consts::PI) * (x + 0.044715 * x * x * x);
        let want = x / (1.0 + libm::exp(-twice));
        // Four roundings of the exponent become a relative error in proportion to it where e^-2z counts.
        let amplified = if twice < 0.0 { 4.0 * twice.abs() } else { 4.0 };
        let bound = (16.0 + amplified) * EPS * want.abs() + TINY;
        assert_near(*have, want, bound, format_args!("{:?}, gelu({x})", ops.backend()));
    }
}

pub fn rounding_to_halves_is_exact(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let mut arena = stand.arena();
    for n in VALUE_COUNTS {
        let mut arena = arena.scope();
        let x = data::f32s(&mut arena, n, 54);
        // From subnormal halves to ones too large.
        x.iter_mut().enumerate().for_each(|(i, x)| *x *= [1.0, 1e-7, 1e5, 1e-5, 3e-8][i % 5]);
        let have = arena.alloc_with(n, |i| x[i]).expect("test memory");
        ops.round_to_f16(have);
        for (have, x) in have.iter().zip(x.iter()) {
            assert_eq!(have.to_bits(), F16::new(*x).to_f32().to_bits(), "{:?}: {x:e} of {n}", ops.backend());
        }
    }
    let have = arena.alloc_with(N_SWEEP, sweep).expect("test memory");
    ops.gelu_f16(have);
    for (i, have) in have.iter().enumerate() {
        let x = sweep(i);
        let half = f64::from(F16::new(x).to_f32());
        // Half a step of the halves around the result, or half a subnormal one; where the argument is large, itself.
        let want = if x >= 10.0 { x.into() } else { reference::gelu(half) };
        let bound = want.abs() / 2048.0 * 1.01 + 0.5 / 16_777_216.0 + (64.0 * EPS * half * half).abs();
        assert_near(*have, want, bound, format_args!("{:?}, gelu_f16({x})", ops.backend()));
    }
}

pub fn arithmetic_is_exact(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    for n in VALUE_COUNTS {
        let mut arena = stand.arena();
        let (x, y) = (&*data::f32s(&mut arena, n, 51), &*data::f32s(&mut arena, n, 52));
        let bias = data::blocks::<F32>(&mut arena, n, 1, 53);
        let dst = arena.alloc(n, 0.0f32).expect("test memory");
        // One rounding has one result, so these agree to the bit.
        let mut check = |what: &str, run: &dyn Fn(&mut [f32]), want: &dyn Fn(usize) -> f32| {
            dst.copy_from_slice(x);
            run(dst);
            for (i, have) in dst.iter().enumerate() {
                assert_eq!(have.to_bits(), want(i).to_bits(), "{:?}: {what}, {i} of {n}", ops.backend());
            }
        };
        check("add", &|dst| ops.add(dst, y), &|i| x[i] + y[i]);
        check("add_f32le", &|dst| ops.add_f32le(dst, bias), &|i| x[i] + bias[i].to_f32());
        check("mul", &|dst| ops.mul(dst, y), &|i| x[i] * y[i]);
        check("scale", &|dst| ops.scale(dst, 0.37), &|i| x[i] * 0.37);
        // With or without a rounding in between.
        dst.copy_from_slice(x);
        ops.axpy(dst, 0.37, y);
        for (i, have) in dst.iter().enumerate() {
            let product = f64::from(0.37f32) * f64::from(y[i]);
            let want = f64::from(x[i]) + product;
            let bound = EPS * (product.abs() + want.abs());
            assert_near(*have, want, bound, format_args!("{:?}: axpy, {i} of {n}", ops.backend()));
        }
    }
}
