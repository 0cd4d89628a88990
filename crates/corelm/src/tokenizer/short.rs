//! [`Short`]: a text of a few bytes as two numbers, which are compared and mapped at once; [`Long`]: the same of more bytes
//! in four.

use super::hash::{mix, mix_otherwise};

/// A text of up to [`Short::MAX`] bytes whole: its bytes and, at the top, its length, so that none is 0 but the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Short(u64, u64);

/// The bits of the first bytes of a text, for every length.
static MASKS: [(u64, u64); Short::MAX + 1] = {
    let mut masks = [(0, 0); Short::MAX + 1];
    let mut len = 0;
    while len <= Short::MAX {
        let mask = (1u128 << (8 * len)) - 1;
        masks[len] = (mask as u64, (mask >> 64) as u64);
        len += 1;
    }
    masks
};

/// Where the length stands in the second number.
const LEN_AT: u32 = 56;

impl Short {
    /// Longer texts are not short.
    pub const MAX: usize = 15;

    /// The first `len` bytes of `text`, if they are not too many; what is behind them is of no matter.
    #[inline]
    pub fn new(text: &[u8], len: usize) -> Option<Self> {
        let (low_mask, high_mask) = *MASKS.get(len)?;
        let (low, high) = match text.first_chunk() {
            Some(bytes) => {
                let all = u128::from_le_bytes(*bytes);
                (all as u64, (all >> 64) as u64)
            }
            None => near_end(text.get(..len)?),
        };
        Some(Self(low & low_mask, high & high_mask | (len as u64) << LEN_AT))
    }

    /// Its bytes, and how many.
    #[inline]
    pub fn bytes(self) -> (u128, usize) {
        let Self(low, high) = self;
        let bytes = u128::from(high & ((1 << LEN_AT) - 1)) << 64 | u128::from(low);
        (bytes, (high >> LEN_AT) as usize)
    }

    /// Its first eight bytes, those behind them, and how many there are in all.
    #[inline]
    pub fn halves(self) -> (u64, u64, usize) {
        (self.0, self.1 & ((1 << LEN_AT) - 1), (self.1 >> LEN_AT) as usize)
    }

    /// The `len` lowest bytes of a number, which has zeros above them.
    #[inline]
    pub fn from_bytes(bytes: u128, len: usize) -> Option<Self> {
        (len <= Self::MAX).then_some(Self(bytes as u64, (bytes >> 64) as u64 | (len as u64) << LEN_AT))
    }

    /// The same with a space put before it, if that is short too.
    #[inline]
    pub fn behind_space(self) -> Option<Self> {
        let (bytes, len) = self.bytes();
        Self::from_bytes(bytes << 8 | u128::from(b' '), len.wrapping_add(1))
    }

    /// Both numbers: its first eight bytes, and those behind them below its length.
    #[inline]
    pub fn numbers(self) -> [u64; 2] {
        [self.0, self.1]
    }

    /// A place for it among `n`, which are fewer than 2^32.
    #[inline]
    pub fn place(self, n: usize) -> usize {
        let mixed = mix(self.0) ^ mix_otherwise(self.1);
        ((mixed >> 32).wrapping_mul(n as u64) >> 32) as usize
    }
}

/// A text of up to [`Long::MAX`] bytes whole, as [`Short`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Long([u64; 4]);

impl Long {
    /// Longer texts are not kept so.
    pub const MAX: usize = 31;

    /// The first `len` bytes of `text`, if they are not too many; what is behind them is of no matter.
    #[inline]
    pub fn new(text: &[u8], len: usize) -> Option<Self> {
        let text = text.get(..len).filter(|_| len <= Self::MAX)?;
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(text).for_each(|(slot, &byte)| *slot = byte);
        let (chunks, _) = bytes.as_chunks();
        let mut numbers = [0; 4];
        numbers.iter_mut().zip(chunks).for_each(|(number, chunk)| *number = u64::from_le_bytes(*chunk));
        numbers[3] |= (len as u64) << LEN_AT;
        Some(Self(numbers))
    }

    /// A place for it among `n`, which are fewer than 2^32.
    #[inline]
    pub fn place(self, n: usize) -> usize {
        let [a, b, c, d] = self.0;
        let mixed = mix(a ^ mix_otherwise(c)) ^ mix_otherwise(b ^ mix(d));
        ((mixed >> 32).wrapping_mul(n as u64) >> 32) as usize
    }
}

/// Whether two texts are the same: without a call, as most texts here are of a few bytes.
#[inline]
pub fn is_same(text: &[u8], other: &[u8]) -> bool {
    fn ends_differ<const N: usize>(text: &[u8], other: &[u8]) -> Option<bool> {
        let firsts = (text.first_chunk::<N>()?, other.first_chunk::<N>()?);
        let lasts = (text.last_chunk::<N>()?, other.last_chunk::<N>()?);
        Some(firsts.0 != firsts.1 || lasts.0 != lasts.1)
    }
    if text.len() != other.len() || text.len() > 16 {
        return text == other;
    }
    let differ = ends_differ::<8>(text, other).or_else(|| ends_differ::<4>(text, other));
    !differ.or_else(|| ends_differ::<2>(text, other)).unwrap_or_else(|| text.first() != other.first())
}

/// As in [`Short::new`], all of a text of up to 15 bytes: as few loads as there can be, which may overlap.
#[inline]
fn near_end(text: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let behind = 8 * (16 - text.len().min(16)) as u32; // bits of the last eight bytes that the first ones have
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last).unbounded_shr(behind));
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let at = 8 * (text.len() & 3) as u32; // where the last four bytes begin
        return (u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << at, 0);
    }
    match *text {
        [a, b, c] => (u64::from_le_bytes([a, b, c, 0, 0, 0, 0, 0]), 0),
        [a, b] => (u64::from_le_bytes([a, b, 0, 0, 0, 0, 0, 0]), 0),
        [a] => (a.into(), 0),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_apart_by_their_bytes_and_length() {
        let text = b"0123456789abcdefgh";
        for len in 1..=Short::MAX {
            let short = Short::new(text, len).unwrap();
            assert_eq!(Short::new(&text[..len], len), Some(short), "whatever comes behind");
            assert_ne!(Short::new(text, len - 1), Some(short));
            assert_ne!(short, Short::default());
            let (bytes, n) = short.bytes();
            assert!(n == len && bytes.to_le_bytes()[..len] == text[..len] && bytes >> (8 * len) == 0);
            assert_eq!(Short::from_bytes(bytes, n), Some(short));
        }
        assert_ne!(Short::new(b"a", 1), Short::new(b"a\0", 2));
        assert_eq!(Short::new(text, Short::MAX + 1), None);
        assert_eq!(Short::new(b"ab", 3), None);
    }

    #[test]
    fn longer_texts_are_told_apart_too() {
        let text = [b'x'; Long::MAX + 1];
        for len in 1..=Long::MAX {
            let long = Long::new(&text, len).unwrap();
            assert_eq!(Long::new(&text[..len], len), Some(long), "whatever comes behind");
            let others = [Long::new(&text, len - 1), Long::new(&[&text[..len - 1], b"y"].concat(), len)];
            assert!(others.iter().all(|other| *other != Some(long)) && long != Long::default());
        }
        assert_eq!((Long::new(&text, Long::MAX + 1), Long::new(b"ab", 3)), (None, None));
    }
}
