//! Blocks: the values of a weight file as they lie in its bytes.
//!
//! Every type here has alignment 1, is little-endian whatever the CPU, and accepts any byte pattern, so a slice of them
//! can be borrowed from a file at any address. Layouts are ggml's (`ggml-common.h`): 32 values per quantized block.

use core::num::NonZeroUsize;

/// Values in one quantized block.
pub const QK: usize = 32;

/// An f32 of a file: little-endian, alignment 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F32([u8; 4]);

/// An IEEE 754 half of a file: little-endian, alignment 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16([u8; 2]);

/// A bfloat16 (the upper half of an f32) of a file: little-endian, alignment 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16([u8; 2]);

/// Thirty-two values `d * (nibble - 8)`; low nibbles are values 0–15, high nibbles 16–31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Scale.
    pub d: F16,
    /// Nibbles: byte `i` holds value `i` (low) and value `i + 16` (high).
    pub qs: [u8; QK / 2],
}

/// Thirty-two values `d * nibble + m`; nibbles lie as in [`BlockQ4_0`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: F16,
    /// Least value.
    pub m: F16,
    /// Nibbles: byte `i` holds value `i` (low) and value `i + 16` (high).
    pub qs: [u8; QK / 2],
}

/// Thirty-two values `d * q`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: F16,
    /// Quants.
    pub qs: [i8; QK],
}

const _: () = assert!(size_of::<F32>() == 4 && align_of::<F32>() == 1);
const _: () = assert!(size_of::<F16>() == 2 && align_of::<F16>() == 1);
const _: () = assert!(size_of::<Bf16>() == 2 && align_of::<Bf16>() == 1);
const _: () = assert!(size_of::<BlockQ4_0>() == 18 && align_of::<BlockQ4_0>() == 1);
const _: () = assert!(size_of::<BlockQ4_1>() == 20 && align_of::<BlockQ4_1>() == 1);
const _: () = assert!(size_of::<BlockQ8_0>() == 34 && align_of::<BlockQ8_0>() == 1);

/// A tensor type of GGUF that this crate computes with; the numbers are the file format's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GgmlType {
    /// [`F32`]
    F32 = 0,
    /// [`F16`]
    F16 = 1,
    /// [`BlockQ4_0`]
    Q4_0 = 2,
    /// [`BlockQ4_1`]
    Q4_1 = 3,
    /// [`BlockQ8_0`]
    Q8_0 = 8,
    /// [`Bf16`]
    BF16 = 30,
    /// Q4_0 in panels of sixteen rows; a number of ours, far from ggml's, so that other readers refuse it by name.
    Q4_0X16 = PACKED + 2,
    /// Q4_1 in panels of sixteen rows.
    Q4_1X16 = PACKED + 3,
    /// Q8_0 in panels of sixteen rows.
    Q8_0X16 = PACKED + 8,
}

/// What is added to a type's number when its rows lie in panels.
const PACKED: isize = 0x1600;

impl GgmlType {
    /// The type with this number, or `None` when it is not one of ours.
    pub const fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            30 => Self::BF16,
            0x1602 => Self::Q4_0X16,
            0x1603 => Self::Q4_1X16,
            0x1608 => Self::Q8_0X16,
            _ => return None,
        })
    }

    /// The number of this type in a file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The name, spelled as other tools spell it: `q4_0`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q8_0 => "q8_0",
            Self::BF16 => "bf16",
            Self::Q4_0X16 => "q4_0x16",
            Self::Q4_1X16 => "q4_1x16",
            Self::Q8_0X16 => "q8_0x16",
        }
    }

    /// Values in one block.
    pub const fn block_values(self) -> NonZeroUsize {
        const ONE: NonZeroUsize = NonZeroUsize::MIN;
        const QK32: NonZeroUsize = NonZeroUsize::MIN.saturating_add(QK - 1);
        match self {
            Self::F32 | Self::F16 | Self::BF16 => ONE,
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 | Self::Q4_0X16 | Self::Q4_1X16 | Self::Q8_0X16 => QK32,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> NonZeroUsize {
        let bytes = match self {
            Self::F32 => size_of::<F32>(),
            Self::F16 => size_of::<F16>(),
            Self::BF16 => size_of::<Bf16>(),
            Self::Q4_0 | Self::Q4_0X16 => size_of::<BlockQ4_0>(),
            Self::Q4_1 | Self::Q4_1X16 => size_of::<BlockQ4_1>(),
            Self::Q8_0 | Self::Q8_0X16 => size_of::<BlockQ8_0>(),
        };
        NonZeroUsize::MIN.saturating_add(bytes - 1)
    }

    /// The same type with its rows in panels of sixteen, where there is one.
    pub const fn packed(self) -> Option<Self> {
        match self {
            Self::Q4_0 => Some(Self::Q4_0X16),
            Self::Q4_1 => Some(Self::Q4_1X16),
            Self::Q8_0 => Some(Self::Q8_0X16),
            _ => None,
        }
    }

    /// Bytes of a row of `cols` values; `None` when `cols` is no whole number of blocks or the product overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if cols % self.block_values() != 0 {
            return None;
        }
        (cols / self.block_values()).checked_mul(self.block_bytes().get())
    }
}

/// What a row of a [`Rows`](crate::Rows) is made of.
///
/// # Safety
///
/// The type has alignment 1, no padding, and every byte pattern is a valid value: slices of it are cast from file bytes.
pub unsafe trait Block: Copy + Send + Sync + 'static {
    /// The type's number and name.
    const TYPE: GgmlType;
    /// Values in one block.
    const VALUES: usize;
    /// A block that decodes to zeros; its bytes are all zero except for Q4_0's, whose nibbles are 8.
    const ZERO: Self;
}

// SAFETY: (all six) byte arrays and `repr(C)` structs of them, alignment 1 and size asserted above, no padding.
unsafe impl Block for F32 {
    const TYPE: GgmlType = GgmlType::F32;
    const VALUES: usize = 1;
    const ZERO: Self = F32([0; 4]);
}
// SAFETY: as above.
unsafe impl Block for F16 {
    const TYPE: GgmlType = GgmlType::F16;
    const VALUES: usize = 1;
    const ZERO: Self = F16([0; 2]);
}
// SAFETY: as above.
unsafe impl Block for Bf16 {
    const TYPE: GgmlType = GgmlType::BF16;
    const VALUES: usize = 1;
    const ZERO: Self = Bf16([0; 2]);
}
// SAFETY: as above.
unsafe impl Block for BlockQ4_0 {
    const TYPE: GgmlType = GgmlType::Q4_0;
    const VALUES: usize = QK;
    const ZERO: Self = BlockQ4_0 { d: F16([0; 2]), qs: [0x88; QK / 2] };
}
// SAFETY: as above.
unsafe impl Block for BlockQ4_1 {
    const TYPE: GgmlType = GgmlType::Q4_1;
    const VALUES: usize = QK;
    const ZERO: Self = BlockQ4_1 { d: F16([0; 2]), m: F16([0; 2]), qs: [0; QK / 2] };
}
// SAFETY: as above.
unsafe impl Block for BlockQ8_0 {
    const TYPE: GgmlType = GgmlType::Q8_0;
    const VALUES: usize = QK;
    const ZERO: Self = BlockQ8_0 { d: F16([0; 2]), qs: [0; QK] };
}

impl F32 {
    /// Stores `x`.
    pub const fn new(x: f32) -> Self {
        Self(x.to_le_bytes())
    }

    /// The value.
    pub const fn to_f32(self) -> f32 {
        f32::from_le_bytes(self.0)
    }
}

impl Bf16 {
    /// Rounds `x` to the nearest bfloat16, ties to even; a NaN stays one.
    pub const fn new(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = if x.is_nan() {
            (bits >> 16) | 0x40
        } else {
            // Carries out of the mantissa go to the exponent, as they should; f32::MAX becomes infinity.
            (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16
        };
        Self((rounded as u16).to_le_bytes())
    }

    /// The value (exact).
    pub const fn to_f32(self) -> f32 {
        f32::from_bits((u16::from_le_bytes(self.0) as u32) << 16)
    }
}

/// All ones where `a < b`, else zero; for numbers below 2^31.
const fn is_less(a: u32, b: u32) -> u32 {
    (a.wrapping_sub(b).cast_signed() >> 31).cast_unsigned()
}

/// `a` where `mask` is all ones, `b` where it is zero.
const fn choose(mask: u32, a: u32, b: u32) -> u32 {
    b ^ ((a ^ b) & mask)
}

impl F16 {
    /// Rounds `x` to the nearest half, ties to even; what is too large becomes infinity, a NaN stays one (and quiet).
    ///
    /// All cases are computed and one is chosen by masks, so that a loop over halves can be vectorised and every number takes
    /// the same instructions.
    pub const fn new(x: f32) -> Self {
        let bits = x.to_bits();
        let sign = (bits >> 16) & 0x8000;
        let magnitude = bits & 0x7fff_ffff;
        // Round to even at bit 13 and move the exponent's bias from 127 to 15.
        let normal =
            magnitude.wrapping_add(0xfff + ((magnitude >> 13) & 1)).wrapping_sub((127 - 15) << 23) >> 13;
        // Below 2^-14 the last place is 2^-24, as it is for an f32 in 0.5..1: the addition rounds.
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
        let nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
        let half = choose(is_less(magnitude, 0x3880_0000), subnormal, normal);
        let half = choose(is_less(magnitude, 0x4780_0000), half, 0x7c00); // 65536 and up
        let half = choose(is_less(0x7f80_0000, magnitude), nan, half);
        Self(((sign | half) as u16).to_le_bytes())
    }

    /// The value with these bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits.to_le_bytes())
    }

    /// The bits.
    pub const fn to_bits(self) -> u16 {
        u16::from_le_bytes(self.0)
    }

    /// The value (exact, subnormals included; a signalling NaN becomes quiet).
    pub const fn to_f32(self) -> f32 {
        const MIN_NORMAL: u32 = (127 - 14) << 23;
        let bits = self.to_bits() as u32;
        let magnitude = bits & 0x7fff;
        let normal = (magnitude << 13) + ((127 - 15) << 23);
        // 2^-14 (1 + m / 1024) - 2^-14: no subnormal f32 on the way, so flush-to-zero modes do not matter.
        let subnormal = f32::from_bits((magnitude << 13) + MIN_NORMAL) - f32::from_bits(MIN_NORMAL);
        let special = (magnitude << 13) | 0x7f80_0000 | (((magnitude > 0x7c00) as u32) << 22);
        let value = if magnitude >= 0x7c00 {
            special
        } else if magnitude < 0x400 {
            subnormal.to_bits()
        } else {
            normal
        };
        f32::from_bits(((bits & 0x8000) << 16) | value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every half, against the `half` crate; NaNs are compared as NaN with the same sign and quiet payload.
    #[test]
    fn every_f16_converts_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (F16::from_bits(bits).to_f32(), half::f16::from_bits(bits).to_f32());
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{bits:#06x}");
            let back = F16::new(ours).to_bits();
            let want = if ours.is_nan() { bits | 0x200 } else { bits };
            assert_eq!(back, want, "{bits:#06x}");
        }
    }

    /// The points between two neighbouring halves where rounding turns, and one f32 step to either side.
    #[test]
    fn f16_rounds_to_nearest_even() {
        for bits in 0..0x7c00u16 {
            let (low, high) = (F16::from_bits(bits).to_f32(), F16::from_bits(bits + 1).to_f32());
            let high = if high.is_infinite() { 65536.0 } else { high };
            let middle = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
            for x in [middle.next_down(), middle, middle.next_up(), low.next_up()] {
                for x in [x, -x] {
                    assert_eq!(F16::new(x).to_bits(), half::f16::from_f32(x).to_bits(), "{x:e}");
                }
            }
        }
        for x in [f32::MAX, f32::INFINITY, f32::MIN_POSITIVE, 1e-40, 0.0, 65519.99, 65520.0] {
            assert_eq!(F16::new(x).to_bits(), half::f16::from_f32(x).to_bits(), "{x:e}");
        }
    }

    #[test]
    fn bf16_agrees_with_half() {
        for bits in 0..=u16::MAX {
            let x = half::bf16::from_bits(bits);
            let ours = Bf16(bits.to_le_bytes()).to_f32();
            assert!(ours.to_bits() == x.to_f32().to_bits() || ours.is_nan() && x.is_nan());
            for low in [0u32, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits((u32::from(bits) << 16) | low);
                assert_eq!(u16::from_le_bytes(Bf16::new(x).0), half::bf16::from_f32(x).to_bits(), "{x:e}");
            }
        }
    }

    #[test]
    fn types_know_their_sizes() {
        let types = [
            (GgmlType::F32, 0, 1, 4),
            (GgmlType::F16, 1, 1, 2),
            (GgmlType::Q4_0, 2, 32, 18),
            (GgmlType::Q4_1, 3, 32, 20),
            (GgmlType::Q8_0, 8, 32, 34),
            (GgmlType::BF16, 30, 1, 2),
        ];
        for (ty, id, values, bytes) in types {
            assert_eq!(GgmlType::from_id(id), Some(ty));
            assert_eq!((ty.id(), ty.block_values().get(), ty.block_bytes().get()), (id, values, bytes));
            assert_eq!(ty.row_bytes(64), Some(64 / values * bytes));
            assert_eq!(ty.row_bytes(usize::MAX / 32 * 32).is_some(), values > bytes);
        }
        assert_eq!(GgmlType::from_id(4), None);
        assert_eq!(GgmlType::Q4_0.row_bytes(33), None);
    }
}
