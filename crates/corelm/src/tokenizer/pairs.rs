//! [`Pairs`]: a map from two tokens to a number, by open addressing.

use super::hash::{Budget, MAX_PROBES, mix, probes};
use super::tables::Tables;
use crate::Token;
use crate::arena::Arena;
use crate::error::{ArenaError, ModelError, VocabFault};

/// Bits of a value.
pub const VALUE_BITS: u32 = 24;
/// Tokens are below 2^20.
const TOKEN_BITS: u32 = 20;
const FREE: u64 = u64::MAX;

/// The map, to look up: in a slot the left token, the right one and the value, from the top.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a>(&'a [u64]);

/// The map while it is filled.
#[derive(Debug)]
pub struct PairsMut<'a>(&'a mut [u64]);

impl<'a> Pairs<'a> {
    /// A map of `n_slots` that was filled before; of each value `is_right` must say so.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`] when it does not.
    pub fn found(
        n_slots: usize,
        tables: &mut Tables<'a>,
        is_right: impl Fn(u32) -> bool,
    ) -> Result<Self, ModelError> {
        let is_right = |&slot: &u64| slot == FREE || is_right(low(slot, VALUE_BITS));
        Ok(Self(tables.take(n_slots, is_right)?))
    }

    /// The value of a pair.
    #[inline]
    pub fn find(self, left: Token, right: Token) -> Option<u32> {
        let key = key(left, right);
        for i in probes(mix(key), self.0.len()) {
            let slot = *self.0.get(i)?;
            if slot == FREE {
                return None;
            }
            if slot >> VALUE_BITS == key {
                return Some(low(slot, VALUE_BITS));
            }
        }
        None
    }

    /// The pair in a slot, and its value.
    #[inline]
    pub fn at(self, slot: u32) -> Option<(Token, Token, u32)> {
        let slot = *self.0.get(slot as usize)?;
        let key = slot >> VALUE_BITS;
        Some((low(key >> TOKEN_BITS, TOKEN_BITS), low(key, TOKEN_BITS), low(slot, VALUE_BITS)))
    }

    /// All that is in it, as numbers.
    pub fn numbers(self) -> impl Iterator<Item = u64> + use<'a> {
        self.0.iter().copied()
    }
}

impl<'a> PairsMut<'a> {
    /// An empty map.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(n_slots: usize, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        Ok(Self(arena.alloc(n_slots, FREE)?))
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
        let n_slots = self.0.len();
        let mut n_units = 0usize;
        for i in probes(mix(key), n_slots) {
            n_units = n_units.wrapping_add(1);
            let Some(slot) = self.0.get_mut(i) else { break };
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

    /// Ends filling.
    pub fn finish(self) -> Pairs<'a> {
        Pairs(self.0)
    }
}

#[inline]
fn key(left: Token, right: Token) -> u64 {
    u64::from(left) << TOKEN_BITS | u64::from(right)
}

#[inline]
fn low(x: u64, bits: u32) -> u32 {
    (x & ((1 << bits) - 1)) as u32
}
