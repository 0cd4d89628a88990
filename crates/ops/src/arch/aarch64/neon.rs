//! Advanced SIMD as every aarch64 CPU has it: eight f32 lanes in two registers; integer products by SMULL and SADALP.

mod cache;
pub(super) mod panels;
mod products;
mod quantize;
pub(super) mod rows;
mod wide;

pub(crate) use wide::all_within;

use core::arch::aarch64::*;
use core::arch::asm;

use crate::block::{Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, QK};
use crate::cpu::Feature;
use crate::exp::{self, Exponent};
use crate::floats::Floats;
use crate::lanes::{Lanes, lane_ops};
use crate::product::{Product, product};
use crate::table::{Backend, OpTable};

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::Neon,
    needs: Feature::NEON,
    quantize_q8_0: quantize::q8_0,
    f32: product!(Floats<F32x8, F32, 8>, 2, 2, 4, target_feature(enable = "neon")),
    f16: cache::F16_PRODUCT,
    bf16: product!(Floats<F32x8, Bf16, 8>, 2, 2, 4, target_feature(enable = "neon")),
    quantize_q8: quantize::q8,
    tiles: None,
    q8_0: products::Q8_0,
    q4_0: products::Q4_0,
    q4_1: products::Q4_1,
    lanes: wide::OPS,
};

/// Products with F16 weights of any shape.
const F16_PRODUCT: Product<F16> = product!(Floats<F32x8, F16, 8>, 2, 2, 4, target_feature(enable = "neon"));

lane_ops!(F32x8, 8, target_feature(enable = "neon"));

/// Loads 16 bytes at any address: all vector loads of this crate go through here or [`load8`].
///
/// LD1 of bytes never faults on alignment, not even under `SCTLR_EL1.A`. In assembly, because targets with
/// `+strict-align` (`aarch64-unknown-none`) turn `vld1q_u8` into sixteen byte loads.
#[inline(always)]
fn load16(bytes: &[u8; 16]) -> uint8x16_t {
    let loaded;
    // SAFETY: reads the 16 bytes of the array, whose address is passed, and touches nothing else.
    unsafe {
        asm!("ld1 {{{0:v}.16b}}, [{1}]", out(vreg) loaded, in(reg) bytes.as_ptr(),
            options(pure, readonly, nostack, preserves_flags));
    }
    loaded
}

/// Loads 8 bytes at any address; see [`load16`].
#[inline(always)]
fn load8(bytes: &[u8; 8]) -> uint8x8_t {
    let loaded;
    // SAFETY: reads the 8 bytes of the array, whose address is passed, and touches nothing else.
    unsafe {
        asm!("ld1 {{{0:v}.8b}}, [{1}]", out(vreg) loaded, in(reg) bytes.as_ptr(),
            options(pure, readonly, nostack, preserves_flags));
    }
    loaded
}

/// Loads 32 bytes at any address; see [`load16`].
#[inline(always)]
fn load32(bytes: &[u8; 32]) -> [uint8x16_t; 2] {
    let (low, high);
    // SAFETY: reads the 32 bytes of the array, whose address is passed, and touches nothing else.
    unsafe {
        asm!("ld1 {{{0:v}.16b}}, [{2}], #16", "ld1 {{{1:v}.16b}}, [{2}]", out(vreg) low, out(vreg) high,
            inout(reg) bytes.as_ptr() => _, options(pure, readonly, nostack, preserves_flags));
    }
    [low, high]
}

/// Loads 64 bytes at any address; see [`load16`]. The instruction wants neighbouring registers.
#[inline(always)]
fn load64(bytes: &[u8; 64]) -> [uint8x16_t; 4] {
    let (a, b, c, d);
    // SAFETY: reads the 64 bytes of the array, whose address is passed, and touches nothing else.
    unsafe {
        asm!("ld1 {{v16.16b-v19.16b}}, [{0}]", in(reg) bytes.as_ptr(), out("v16") a, out("v17") b, out("v18") c,
            out("v19") d, options(pure, readonly, nostack, preserves_flags));
    }
    [a, b, c, d]
}

/// Stores 64 bytes at any address; see [`load64`].
#[inline(always)]
fn store64(bytes: &mut [u8; 64], [a, b, c, d]: [uint8x16_t; 4]) {
    // SAFETY: writes the 64 bytes of the array, whose address is passed, and touches nothing else.
    unsafe {
        asm!("st1 {{v16.16b-v19.16b}}, [{0}]", in(reg) bytes.as_mut_ptr(), in("v16") a, in("v17") b, in("v18") c,
            in("v19") d, options(nostack, preserves_flags));
    }
}

/// Stores 32 bytes at any address; see [`load64`].
#[inline(always)]
fn store32<T>(to: &mut T, [a, b]: [uint8x16_t; 2]) {
    const { assert!(size_of::<T>() == 32) };
    // SAFETY: writes the 32 bytes of `to`, whose address is passed, and touches nothing else.
    unsafe {
        asm!("st1 {{v0.16b-v1.16b}}, [{0}]", in(reg) core::ptr::from_mut(to), in("v0") a, in("v1") b,
            options(nostack, preserves_flags));
    }
}

/// Stores 16 bytes at any address; see [`load16`].
#[inline(always)]
fn store16(bytes: &mut [u8; 16], x: uint8x16_t) {
    // SAFETY: writes the 16 bytes of the array, whose address is passed, and touches nothing else.
    unsafe {
        asm!("st1 {{{0:v}.16b}}, [{1}]", in(vreg) x, in(reg) bytes.as_mut_ptr(),
            options(nostack, preserves_flags));
    }
}

/// Runs intrinsics.
macro_rules! neon {
    ($body:expr) => {
        // SAFETY: NEON is enabled in every function that names these types; there is no memory access but through
        // casts of an array's address to the same number of bytes.
        unsafe { $body }
    };
}

use neon;

/// The nibbles of a block, 0–15: the low ones, then the high ones.
#[inline(always)]
pub(super) fn load_nibbles(qs: &[u8; QK / 2]) -> [int8x16_t; 2] {
    let packed = load16(qs);
    neon!([
        vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(15))),
        vreinterpretq_s8_u8(vshrq_n_u8::<4>(packed))
    ])
}

/// Two registers of four f32.
#[derive(Clone, Copy)]
struct F32x8(float32x4_t, float32x4_t);

impl F32x8 {
    #[inline(always)]
    fn zip_with(self, x: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(f(self.0, x.0), f(self.1, x.1))
    }

    /// Loads 32 bytes.
    #[inline(always)]
    fn load32(bytes: &[[u8; 16]; 2]) -> Self {
        let [low, high] = bytes;
        neon!(Self(vreinterpretq_f32_u8(load16(low)), vreinterpretq_f32_u8(load16(high))))
    }

    /// Eight halves as f32.
    #[inline(always)]
    fn from_f16(halves: uint8x16_t) -> Self {
        neon!({
            let halves = vreinterpretq_f16_u8(halves);
            Self(vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves))
        })
    }

    /// Eight bfloat16 as f32.
    #[inline(always)]
    fn from_bf16(halves: uint8x16_t) -> Self {
        neon!({
            let halves = vreinterpretq_u16_u8(halves);
            let low = vshll_n_u16::<16>(vget_low_u16(halves));
            Self(vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(vshll_high_n_u16::<16>(halves)))
        })
    }

    /// Eight integers as f32.
    #[inline(always)]
    fn from_i16(x: int16x8_t) -> Self {
        neon!({
            let low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(x)));
            Self(low, vcvtq_f32_s32(vmovl_high_s16(x)))
        })
    }

    /// Halves, rounded to nearest, ties to even.
    #[inline(always)]
    fn to_f16(self) -> uint8x16_t {
        neon!(vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(self.0), self.1)))
    }
}

impl Lanes<8> for F32x8 {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        neon!(Self(vdupq_n_f32(x), vdupq_n_f32(x)))
    }
    #[inline(always)]
    fn load(x: &[f32; 8]) -> Self {
        Self::load32(neon!(&*x.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_f32(x: &[F32; 8]) -> Self {
        Self::load32(neon!(&*x.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_f16(x: &[F16; 8]) -> Self {
        Self::from_f16(load16(neon!(&*x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_bf16(x: &[Bf16; 8]) -> Self {
        Self::from_bf16(load16(neon!(&*x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_i8(x: &[i8; 8]) -> Self {
        neon!(Self::from_i16(vmovl_s8(vreinterpret_s8_u8(load8(&*x.as_ptr().cast())))))
    }
    #[inline(always)]
    fn widen_f16(x: F16) -> f32 {
        neon!(vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(x.to_bits())))))
    }
    #[inline(always)]
    fn nibbles(qs: &[u8; QK / 2]) -> [i8; QK] {
        let mut all = [0i8; QK];
        let [low, high] = load_nibbles(qs);
        neon!({
            let [to_low, to_high] = &mut *all.as_mut_ptr().cast::<[[u8; 16]; 2]>();
            store16(to_low, vreinterpretq_u8_s8(low));
            store16(to_high, vreinterpretq_u8_s8(high));
        });
        all
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; 8]) {
        neon!({
            let [low, high] = &mut *to.as_mut_ptr().cast::<[[u8; 16]; 2]>();
            store16(low, vreinterpretq_u8_f32(self.0));
            store16(high, vreinterpretq_u8_f32(self.1));
        });
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [F16; 8]) {
        store16(neon!(&mut *to.as_mut_ptr().cast()), self.to_f16());
    }
    #[inline(always)]
    fn add(self, x: Self) -> Self {
        self.zip_with(x, |a, b| neon!(vaddq_f32(a, b)))
    }
    #[inline(always)]
    fn sub(self, x: Self) -> Self {
        self.zip_with(x, |a, b| neon!(vsubq_f32(a, b)))
    }
    #[inline(always)]
    fn mul(self, x: Self) -> Self {
        self.zip_with(x, |a, b| neon!(vmulq_f32(a, b)))
    }
    #[inline(always)]
    fn div(self, x: Self) -> Self {
        self.zip_with(x, |a, b| neon!(vdivq_f32(a, b)))
    }
    #[inline(always)]
    fn max(self, x: Self) -> Self {
        self.zip_with(x, |a, b| neon!(vmaxq_f32(a, b)))
    }
    #[inline(always)]
    fn mul_add(self, x: Self, y: Self) -> Self {
        neon!(Self(vfmaq_f32(y.0, self.0, x.0), vfmaq_f32(y.1, self.1, x.1)))
    }
    #[inline(always)]
    fn exp(self) -> Self {
        neon!(exp(self))
    }
    #[inline(always)]
    fn unzip(self, x: Self) -> (Self, Self) {
        neon!((
            Self(vuzp1q_f32(self.0, self.1), vuzp1q_f32(x.0, x.1)),
            Self(vuzp2q_f32(self.0, self.1), vuzp2q_f32(x.0, x.1)),
        ))
    }
    #[inline(always)]
    fn zip(self, x: Self) -> (Self, Self) {
        neon!((
            Self(vzip1q_f32(self.0, x.0), vzip2q_f32(self.0, x.0)),
            Self(vzip1q_f32(self.1, x.1), vzip2q_f32(self.1, x.1)),
        ))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        neon!({
            let four = vaddq_f32(self.0, self.1);
            vaddv_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        })
    }
    #[inline(always)]
    fn max_across(self) -> f32 {
        neon!(vmaxvq_f32(vmaxq_f32(self.0, self.1)))
    }
}

impl Exponent<8> for F32x8 {
    #[inline(always)]
    fn min(self, x: Self) -> Self {
        self.zip_with(x, |a, b| neon!(vminq_f32(a, b)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        neon!(Self(vrndnq_f32(self.0), vrndnq_f32(self.1)))
    }
    #[inline(always)]
    fn exp2_integer(self) -> Self {
        let power = |n| {
            neon!({
                let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
            })
        };
        Self(power(self.0), power(self.1))
    }
    /// The first half of `n` goes to the exponent as it is, which is exact; a NaN counts as 0.
    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        let scale = |x, n| {
            neon!({
                let n = vcvtq_s32_f32(n);
                let half = vshrq_n_s32::<1>(n);
                let x = vaddq_s32(vreinterpretq_s32_f32(x), vshlq_n_s32::<23>(half));
                let rest =
                    vaddq_s32(vshlq_n_s32::<23>(vsubq_s32(n, half)), vreinterpretq_s32_f32(vdupq_n_f32(1.0)));
                vmulq_f32(vreinterpretq_f32_s32(x), vreinterpretq_f32_s32(rest))
            })
        };
        Self(scale(self.0, n.0), scale(self.1, n.1))
    }
}

/// One function for all that need it: eight times as long as what else is in their loops.
#[inline]
#[target_feature(enable = "neon")]
fn exp(x: F32x8) -> F32x8 {
    exp::exp(x)
}
