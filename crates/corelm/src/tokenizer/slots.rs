//! An index from texts to tokens: open addressing over numbers of 32 bits, while the texts stay where they are.

use super::hash::{Budget, TextHash, first_slot, probes};
use crate::Token;
use crate::arena::Arena;
use crate::error::{ArenaError, ModelError, VocabFault};

/// Bits of a slot for `token + 1`, which is at most 2^20; above them bits of the hash. 0 is a free slot.
const TOKEN_BITS: u32 = 21;
const TOKEN: u32 = (1 << TOKEN_BITS) - 1;
const FREE: u32 = 0;

/// The index, to look up.
#[derive(Clone, Copy, Debug)]
pub struct Slots<'a>(&'a [u32]);

/// The index while it is filled.
#[derive(Debug)]
pub struct SlotsMut<'a>(&'a mut [u32]);

impl<'a> Slots<'a> {
    /// Slots that were filled before. Whatever they say, [`Slots::find`] compares.
    pub fn found(slots: &'a [u32]) -> Self {
        Self(slots)
    }

    /// All of them.
    pub fn numbers(self) -> &'a [u32] {
        self.0
    }

    /// Slots for `n_entries`: two thirds full at most.
    pub fn len_for(n_entries: usize) -> usize {
        n_entries.saturating_add(n_entries / 2).saturating_add(1)
    }

    /// The token that [`Slots::find`] looks at first, if any.
    #[inline]
    pub fn first(self, hash: TextHash) -> Option<Token> {
        let slot = *self.0.get(first_slot(hash.mixed(), self.0.len()))?;
        (slot & TOKEN).checked_sub(1)
    }

    /// The token with this hash whose text `is_same`.
    #[inline]
    pub fn find(self, hash: TextHash, is_same: impl Fn(Token) -> bool) -> Option<Token> {
        let mixed = hash.mixed();
        for i in probes(mixed, self.0.len()) {
            let slot = *self.0.get(i)?;
            if slot == FREE {
                return None;
            }
            // Where the tags are the same, their difference is what is below them.
            let token = (slot ^ tag(mixed)).wrapping_sub(1);
            if token < TOKEN && is_same(token) {
                return Some(token);
            }
        }
        None
    }
}

impl<'a> SlotsMut<'a> {
    /// Room for `n_entries`: allocates [`Slots::len_for`] of them.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(n_entries: usize, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        Ok(Self(arena.alloc(Slots::len_for(n_entries), FREE)?))
    }

    /// Adds a token by a text of `n_bytes`; false when a token whose text `is_same` is there, which stays.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Collisions`] when the budget is spent.
    pub fn insert(
        &mut self,
        hash: TextHash,
        token: Token,
        n_bytes: usize,
        budget: &mut Budget,
        is_same: impl Fn(Token) -> bool,
    ) -> Result<bool, ModelError> {
        let (mixed, index) = (hash.mixed(), token as usize);
        let mut n_units = 0usize;
        for i in probes(mixed, self.0.len()) {
            n_units = n_units.wrapping_add(1);
            let Some(slot) = self.0.get_mut(i) else { break };
            if *slot == FREE {
                *slot = tag(mixed) | token.wrapping_add(1); // tokens are below 2^20
                budget.spend(n_units, index)?;
                return Ok(true);
            }
            let other = (*slot ^ tag(mixed)).wrapping_sub(1);
            if other < TOKEN {
                n_units = n_units.saturating_add(n_bytes / 8);
                if is_same(other) {
                    return Ok(false);
                }
            }
        }
        Err(ModelError::BadVocab { fault: VocabFault::Collisions, index: token.into() })
    }

    /// Ends filling.
    pub fn finish(self) -> Slots<'a> {
        Slots(self.0)
    }
}

/// The bits of a hash that a slot keeps, in their place. The high half chose the slot.
fn tag(mixed: u64) -> u32 {
    (mixed as u32) & !TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_two_thirds_full_at_most_and_hardly_less() {
        for n in 1..1000 {
            let full = n as f64 / Slots::len_for(n) as f64;
            assert!(full < 2.0 / 3.0 && full > 2.0 / 3.0 - 1.0 / n as f64, "{n}: {full}");
        }
    }
}
