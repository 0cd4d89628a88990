//! Hashing for the two tables of the index, and the bounds that keep a hostile vocabulary from making them slow.

use crate::error::{ModelError, VocabFault};

/// An odd constant with bits everywhere (2^64 divided by the golden ratio).
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
/// The factor of the polynomial: odd, so that [`TextHash::without_suffix`] can divide by it.
const FACTOR: u64 = 0xD129_42F0_1AA3_2AD5;
/// `FACTOR * INVERSE` is 1 modulo 2^64.
const INVERSE: u64 = inverse(FACTOR);

/// The hash of a text, as a polynomial modulo 2^64: it grows by bytes at either end, and loses a suffix, in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextHash(u64);

impl TextHash {
    /// The hash of `text`.
    #[inline]
    pub fn of(text: impl IntoIterator<Item = u8>) -> Self {
        text.into_iter().fold(Self::default(), Self::push)
    }

    /// The hash of a slice.
    #[inline]
    pub fn of_bytes(text: &[u8]) -> Self {
        Self::default().push_all(text)
    }

    /// The hash with all of `text` behind. Four bytes are multiplied at once: one after the other each would wait for the
    /// product of the one before.
    #[inline]
    pub fn push_all(self, text: &[u8]) -> Self {
        const F2: u64 = FACTOR.wrapping_mul(FACTOR);
        const F3: u64 = F2.wrapping_mul(FACTOR);
        const F4: u64 = F2.wrapping_mul(F2);
        /// What four bytes of 0 add.
        const ZEROS: u64 = 1u64.wrapping_add(FACTOR).wrapping_add(F2).wrapping_add(F3);
        let (fours, rest) = text.as_chunks();
        let mut hash = self.0;
        for &[a, b, c, d] in fours {
            let product = |byte: u8, factor: u64| u64::from(byte).wrapping_mul(factor);
            let front = product(a, F3).wrapping_add(product(b, F2));
            let back = product(c, FACTOR).wrapping_add(u64::from(d));
            hash = hash.wrapping_mul(F4).wrapping_add(front).wrapping_add(back.wrapping_add(ZEROS));
        }
        rest.iter().copied().fold(Self(hash), Self::push)
    }

    /// The hash with `byte` behind.
    #[inline]
    pub fn push(self, byte: u8) -> Self {
        Self(self.0.wrapping_mul(FACTOR).wrapping_add(u64::from(byte) + 1))
    }

    /// Mixed, so that every bit depends on the whole text.
    #[inline]
    pub fn mixed(self) -> u64 {
        let mixed = mix(self.0 ^ self.0 >> 32);
        mixed ^ mixed >> 29
    }
}

/// A suffix that grows to the left, and the hashes of both parts of the text it is taken from.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    prefix: u64,
    suffix: u64,
    /// `FACTOR` to the length of the suffix.
    power: u64,
    /// Its inverse.
    inverse: u64,
    whole: u64,
}

impl Split {
    /// All of a text as prefix, nothing as suffix.
    pub fn new(whole: TextHash) -> Self {
        Self { prefix: whole.0, suffix: 0, power: 1, inverse: 1, whole: whole.0 }
    }

    /// Moves the last byte of the prefix to the suffix.
    pub fn move_left(&mut self, byte: u8) {
        self.suffix = self.suffix.wrapping_add(self.power.wrapping_mul(u64::from(byte) + 1));
        self.power = self.power.wrapping_mul(FACTOR);
        self.inverse = self.inverse.wrapping_mul(INVERSE);
        self.prefix = self.whole.wrapping_sub(self.suffix).wrapping_mul(self.inverse);
    }

    /// Hashes of the two parts.
    pub fn parts(self) -> (TextHash, TextHash) {
        (TextHash(self.prefix), TextHash(self.suffix))
    }
}

/// A number whose high half depends on all of `x`.
#[inline]
pub fn mix(x: u64) -> u64 {
    x.wrapping_mul(ODD)
}

/// Another such number.
#[inline]
pub fn mix_otherwise(x: u64) -> u64 {
    x.wrapping_mul(FACTOR)
}

/// The slots to look at for a mixed hash, in order: linear probing over `n_slots`, at most [`MAX_PROBES`].
#[inline]
pub fn probes(mixed: u64, n_slots: usize) -> impl Iterator<Item = usize> {
    let mut next = first_slot(mixed, n_slots);
    (0..n_slots.min(MAX_PROBES)).map(move |_| {
        let slot = next;
        next = slot.wrapping_add(1);
        if next == n_slots {
            next = 0;
        }
        slot
    })
}

/// The first of them: the high half of the hash scaled to the size of the table, which may be any below 2^32.
#[inline]
pub fn first_slot(mixed: u64, n_slots: usize) -> usize {
    ((mixed >> 32).wrapping_mul(n_slots as u64) >> 32) as usize
}

/// A lookup looks at no more slots. By chance, at the loads used here, a run this long does not come up.
pub const MAX_PROBES: usize = 1024;

/// Work that building the index may take: each unit is a slot looked at or eight bytes compared.
///
/// An ordinary vocabulary needs some 4 units for each entry; one that was made to collide is refused.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// For a table of `n_entries` made from `n_bytes` of text.
    pub fn new(n_entries: usize, n_bytes: usize) -> Self {
        Self {
            left: (n_entries as u64).saturating_mul(64).saturating_add((n_bytes as u64).saturating_mul(8)),
        }
    }

    /// Takes `units` off.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Collisions`] when nothing is left.
    pub fn spend(&mut self, units: usize, index: usize) -> Result<(), ModelError> {
        match self.left.checked_sub(units as u64) {
            Some(left) => self.left = left,
            None => return Err(ModelError::BadVocab { fault: VocabFault::Collisions, index: index as u64 }),
        }
        Ok(())
    }
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the bits that are right.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd; // right in 3 bits
    let mut bits = 3;
    while bits < 64 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        bits *= 2;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_hash_as_their_bytes() {
        let text = b"\0abcabc\xff, any";
        for len in 0..=text.len() {
            let (left, right) = text.split_at(len);
            assert_eq!(TextHash::of_bytes(left), TextHash::of(left.iter().copied()));
            assert_eq!(TextHash::of_bytes(left).push_all(right), TextHash::of(*text));
        }
    }

    #[test]
    fn splits_hash_as_their_parts() {
        let text = b"\0abcabc\xff";
        let mut split = Split::new(TextHash::of(*text));
        for at in (0..text.len()).rev() {
            split.move_left(text[at]);
            let (prefix, suffix) = text.split_at(at);
            assert_eq!(
                split.parts(),
                (TextHash::of(prefix.iter().copied()), TextHash::of(suffix.iter().copied()))
            );
        }
    }

    #[test]
    fn probes_visit_each_slot_once() {
        for (hash, n) in [(0, 5), (u64::MAX, 5), (1 << 63, 1), (7, 0)] {
            let mut seen = [0; 8];
            probes(hash, n).for_each(|i| seen[i] += 1);
            assert!(seen.iter().enumerate().all(|(i, &times)| times == usize::from(i < n)));
        }
        assert_eq!(probes(mix(1), 1 << 20).count(), MAX_PROBES);
    }
}
