//! [`Wholes`]: the tokens that their own text becomes, so that a piece that is one of them need not be merged.
//!
//! Of a token that two others merge into this is certain if the text of each of them becomes it, and if, while they are
//! made, nothing merges across the place where they meet. What stands there changes from characters to the two tokens: these
//! pairs are looked up, once for each token, when the index is built. Nearly all tokens of a trained vocabulary pass;
//! the others are merged as any text.

use super::merges::Merges;
use super::tables::{Lines, Tables};
use super::words::Words;
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError};
use crate::gguf::writer::WriteError;

/// A bit for each token.
#[derive(Clone, Copy, Debug)]
pub struct Wholes<'a>(&'a [u32]);

/// The same while it is found out, with what else that takes.
#[derive(Debug)]
pub struct WholesMut<'a, 't> {
    bits: &'a mut [u32],
    /// For each token the slot of the pair that it is made of.
    slots: &'t mut [u32],
}

/// Beside the slot: the text of the token becomes the token.
const WHOLE: u32 = 1 << 31;
/// No slot: made of no pair, or of none that is known. Slots are fewer: texts have less than 2^27 bytes, merges are 2^24.
const NO_SLOT: u32 = WHOLE - 1;

/// Pairs that are tried for a token: of a hostile vocabulary's there may be as many as bytes.
const MAX_PAIRS: usize = 8;

impl<'a> Wholes<'a> {
    /// Adds what [`Wholes::alloc`] allocates for `n_tokens`.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(n_tokens: usize, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<u32>(n_groups(n_tokens))
    }

    /// Room for the bits of `n_tokens`.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn alloc(n_tokens: usize, arena: &mut Arena<'a>) -> Result<&'a mut [u32], ArenaError> {
        arena.alloc(n_groups(n_tokens), 0)
    }

    /// What was found out of `n_tokens` before. One that is called whole in vain stands in place of other tokens, but of
    /// the same text.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`](crate::error::VocabFault::Index).
    pub fn found(n_tokens: usize, tables: &mut Tables<'a>) -> Result<Self, ModelError> {
        Ok(Self(tables.take(n_groups(n_tokens), |_| true)?))
    }

    /// Gives the table that [`Wholes::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        to.table(self.0.iter().map(|bits| bits.to_le_bytes()))
    }

    /// Whether the text of `token` becomes `token`.
    #[inline]
    pub fn has(self, token: Token) -> bool {
        self.0.get(token as usize / 32).is_some_and(|bits| bits >> (token % 32) & 1 != 0)
    }
}

impl<'a, 't> WholesMut<'a, 't> {
    /// Bytes that finding out takes for each token, besides the bits.
    pub const BYTES: usize = size_of::<u32>();

    /// Nothing is known of `n_tokens`, whose bits these are.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(n_tokens: usize, bits: &'a mut [u32], arena: &mut Arena<'t>) -> Result<Self, ArenaError> {
        Ok(Self { bits, slots: arena.alloc(n_tokens, NO_SLOT)? })
    }

    /// `token` is a symbol, one that merging begins with.
    pub fn add_symbol(&mut self, token: Token) {
        if let Some(slot) = self.slots.get_mut(token as usize) {
            *slot = WHOLE | NO_SLOT;
        }
    }

    /// `token`, unless something is known of it, may be made of the pair in `slot`.
    pub fn add_pair(&mut self, token: Token, slot: u32) {
        if let Some(of) = self.slots.get_mut(token as usize).filter(|of| **of == NO_SLOT) {
            *of = slot & NO_SLOT;
        }
    }

    /// Looks whether the texts of `tokens` become them: those that they are made of go first. Of one that does not by the
    /// pair it may be made of, `slots` gives others.
    pub fn prove<I: Iterator<Item = u32>>(
        mut self,
        tokens: impl Iterator<Item = Token>,
        merges: &Merges<'_, '_>,
        slots: impl Fn(Token) -> I,
    ) -> Wholes<'a> {
        for token in tokens {
            if self.prove_one(token, merges) {
                continue;
            }
            for slot in slots(token).take(MAX_PAIRS) {
                let Some(of) = self.slots.get_mut(token as usize) else { break };
                *of = slot & NO_SLOT;
                if self.prove_one(token, merges) {
                    break;
                }
            }
        }
        for (bits, slots) in self.bits.iter_mut().zip(self.slots.chunks(32)) {
            *bits = slots.iter().rev().fold(0, |bits, slot| bits << 1 | slot >> 31);
        }
        Wholes(self.bits)
    }

    /// A token is whole if it is made of two that are, each made before it, and undisturbed.
    fn prove_one(&mut self, token: Token, merges: &Merges<'_, '_>) -> bool {
        let Some(made) = self.made(token, merges) else { return false };
        let (of_left, of_right) = (self.made(made.left, merges), self.made(made.right, merges));
        let has = |part: Token| self.slots.get(part as usize).is_some_and(|slot| slot & WHOLE != 0);
        // Of two of the same priority the one on the left is first.
        let is_whole = has(made.left)
            && has(made.right)
            && of_left.is_none_or(|of| of.priority <= made.priority)
            && of_right.is_none_or(|of| of.priority < made.priority)
            && self.is_undisturbed(made, of_left, of_right, merges);
        if let Some(slot) = self.slots.get_mut(token as usize).filter(|_| is_whole) {
            *slot |= WHOLE;
        }
        is_whole
    }

    /// Whether nothing merges across the place where the parts of a token meet, while they are made.
    ///
    /// Goes back in time from when they merge: `left` and `right` are what meets, and each ends at the priority at which it
    /// merges into what was looked at before.
    fn is_undisturbed(
        &self,
        made: Made,
        mut of_left: Option<Made>,
        mut of_right: Option<Made>,
        merges: &Merges<'_, '_>,
    ) -> bool {
        let Made { mut left, mut right, priority } = made;
        let (mut left_ends, mut right_ends) = (priority, priority);
        loop {
            // The one that was made last goes; of two of the same priority the one on the right.
            match (of_left, of_right) {
                (None, None) => return true,
                (Some(of), other) if other.is_none_or(|other| of.priority > other.priority) => {
                    (left, left_ends) = (of.right, of.priority);
                    of_left = self.made(left, merges);
                }
                (_, Some(of)) => {
                    (right, right_ends) = (of.left, of.priority);
                    of_right = self.made(right, merges);
                }
                (Some(_), None) => return false, // the second arm has it
            }
            let across = merges.priority(left, right);
            if across < left_ends && across <= right_ends {
                return false;
            }
        }
    }

    /// How `token` is made, unless it is a symbol or nothing is known of it.
    fn made(&self, token: Token, merges: &Merges<'_, '_>) -> Option<Made> {
        let slot = *self.slots.get(token as usize)? & NO_SLOT;
        let (left, right, priority) = merges.at(slot)?;
        Some(Made { left, right, priority })
    }
}

/// The merge that a token comes of.
#[derive(Clone, Copy, Debug)]
struct Made {
    left: Token,
    right: Token,
    priority: u32,
}

/// Of how many of `n_tokens` it is found out, the most frequent ones, as a proof takes time when the index is built; and
/// proofs take the memory that `n_words` have afterwards.
pub fn n_proved(n_tokens: usize, n_words: usize) -> usize {
    const MOST: usize = 1 << 15;
    n_tokens.min(MOST).min(Words::n_bytes(n_words) / WholesMut::BYTES)
}

fn n_groups(n_tokens: usize) -> usize {
    n_tokens.div_ceil(32)
}
