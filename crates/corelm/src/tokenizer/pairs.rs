//! [`Pairs`]: a map from two tokens to a number, by open addressing.

use super::hash::{Budget, MAX_PROBES, first_slot, mix, probes};
use super::tables::{Lines, Tables};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError, VocabFault};
use crate::gguf::writer::WriteError;

/// Bits of a value.
pub const VALUE_BITS: u32 = 24;
/// Tokens are below 2^20.
const TOKEN_BITS: u32 = 20;
const FREE: u64 = u64::MAX;

/// Of what size a map is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Of 8 bytes each.
    pub slots: usize,
    /// Pairs that the filter is for, which takes a byte for each.
    pub filtered: usize,
}

/// The map, to look up: in a slot the left token, the right one and the value, from the top.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    slots: &'a [u64],
    filter: Filter<&'a [u64]>,
}

/// The map while it is filled.
#[derive(Debug)]
pub struct PairsMut<'a> {
    slots: &'a mut [u64],
    filter: Filter<&'a mut [u64]>,
}

/// Bits that are set for the pairs in a map. Most pairs that are looked up are not there: of more than 14 in 15 of them this tells
/// so with one look at a table that lies nearer than the map, as it is a thirteenth of it or less.
#[derive(Clone, Copy, Debug)]
struct Filter<T>(T);

impl<'a> Pairs<'a> {
    /// Adds what [`PairsMut::new`] allocates.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(size: Size, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<u64>(size.slots)?.add::<u64>(n_words(size))
    }

    /// A map that was filled before; of each value `is_right` must say so.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`] when it does not.
    pub fn found(
        size: Size,
        tables: &mut Tables<'a>,
        is_right: impl Fn(u32) -> bool,
    ) -> Result<Self, ModelError> {
        let is_right = |&slot: &u64| slot == FREE || is_right(low(slot, VALUE_BITS));
        let slots = tables.take(size.slots, is_right)?;
        Ok(Self { slots, filter: Filter(tables.take(n_words(size), |_| true)?) })
    }

    /// Gives the tables that [`Pairs::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        to.table(self.slots.iter().map(|slot| slot.to_le_bytes()))?;
        to.table(self.filter.0.iter().map(|word| word.to_le_bytes()))
    }

    /// The value of a pair.
    #[inline]
    pub fn find(self, left: Token, right: Token) -> Option<u32> {
        self.look_up(left, right).map(|(_, value)| value)
    }

    /// The slot of a pair.
    pub fn slot(self, left: Token, right: Token) -> Option<u32> {
        u32::try_from(self.look_up(left, right)?.0).ok()
    }

    /// The slot of a pair, and its value.
    #[inline]
    fn look_up(self, left: Token, right: Token) -> Option<(usize, u32)> {
        let key = key(left, right);
        let mixed = mix(key);
        if !self.filter.passes(mixed) {
            return None;
        }
        for i in probes(mixed, self.slots.len()) {
            let slot = *self.slots.get(i)?;
            if slot == FREE {
                return None;
            }
            if slot >> VALUE_BITS == key {
                return Some((i, low(slot, VALUE_BITS)));
            }
        }
        None
    }

    /// The pair in a slot, and its value.
    #[inline]
    pub fn at(self, slot: u32) -> Option<(Token, Token, u32)> {
        let slot = *self.slots.get(slot as usize)?;
        let key = slot >> VALUE_BITS;
        Some((low(key >> TOKEN_BITS, TOKEN_BITS), low(key, TOKEN_BITS), low(slot, VALUE_BITS)))
    }

    /// The pairs and their values, as numbers.
    pub fn numbers(self) -> impl Iterator<Item = u64> + use<'a> {
        self.slots.iter().copied()
    }
}

impl<'a> PairsMut<'a> {
    /// An empty map.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(size: Size, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        let slots = arena.alloc(size.slots, FREE)?;
        Ok(Self { slots, filter: Filter(arena.alloc(n_words(size), 0)?) })
    }

    /// Adds a pair and gives its slot; `None` for one that is there, which stays.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Collisions`] when the budget is spent.
    pub fn insert(
        &mut self,
        left: Token,
        right: Token,
        value: u32,
        index: usize,
        budget: &mut Budget,
    ) -> Result<Option<u32>, ModelError> {
        let key = key(left, right);
        let mixed = mix(key);
        self.filter.add(mixed);
        let mut n_units = 0usize;
        for i in probes(mixed, self.slots.len()) {
            n_units = n_units.wrapping_add(1);
            let Some(slot) = self.slots.get_mut(i) else { break };
            if *slot == FREE {
                *slot = key << VALUE_BITS | u64::from(value);
                budget.spend(n_units, index)?;
                return Ok(u32::try_from(i).ok());
            }
            if *slot >> VALUE_BITS == key {
                budget.spend(n_units, index)?;
                return Ok(None);
            }
        }
        budget.spend(MAX_PROBES, index)?;
        Err(ModelError::BadVocab { fault: VocabFault::Collisions, index: index as u64 })
    }

    /// What is there so far.
    pub fn so_far(&self) -> Pairs<'_> {
        Pairs { slots: self.slots, filter: Filter(self.filter.0) }
    }

    /// Ends filling.
    pub fn finish(self) -> Pairs<'a> {
        Pairs { slots: self.slots, filter: Filter(self.filter.0) }
    }
}

impl Filter<&[u64]> {
    /// False of most hashes that were not added, of none that was.
    #[inline]
    fn passes(self, mixed: u64) -> bool {
        let (word, bits) = place(mixed, self.0.len());
        self.0.get(word).is_none_or(|word| word & bits == bits)
    }
}

impl Filter<&mut [u64]> {
    #[inline]
    fn add(&mut self, mixed: u64) {
        let (word, bits) = place(mixed, self.0.len());
        if let Some(word) = self.0.get_mut(word) {
            *word |= bits;
        }
    }
}

/// A word of `n`, and two of its bits.
#[inline]
fn place(mixed: u64, n: usize) -> (usize, u64) {
    (first_slot(mixed, n), 1 << (mixed >> 16 & 63) | 1 << (mixed >> 22 & 63))
}

fn n_words(size: Size) -> usize {
    size.filtered.div_ceil(8)
}

#[inline]
fn key(left: Token, right: Token) -> u64 {
    u64::from(left) << TOKEN_BITS | u64::from(right)
}

#[inline]
fn low(x: u64, bits: u32) -> u32 {
    (x & ((1 << bits) - 1)) as u32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::mem::MaybeUninit;

    #[test]
    fn the_filter_answers_most_lookups_in_vain_and_no_others() {
        const N: u32 = 10_000;
        let mut region = std::vec![MaybeUninit::uninit(); 1 << 18];
        let size = Size { slots: 16_250, filtered: N as usize };
        let mut pairs = PairsMut::new(size, &mut Arena::new(&mut region)).unwrap();
        let mut budget = Budget::new(N as usize, 0);
        for i in 0..N {
            pairs.insert(i, i * 7 % N, i, 0, &mut budget).unwrap();
        }
        let pairs = pairs.finish();
        assert!((0..N).all(|i| pairs.find(i, i * 7 % N) == Some(i)));
        let passed = (0..N).filter(|&i| pairs.filter.passes(mix(key(i, i * 7 % N + N)))).count();
        assert!(passed < N as usize / 15, "{passed}");
        assert!((0..N).all(|i| pairs.find(i, i * 7 % N + N).is_none()));
    }
}
