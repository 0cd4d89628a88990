//! [`Wholes`]: the tokens that their own text becomes, so that a piece that is one of them need not be merged.
//!
//! Of a token that two others merge into this is certain if the text of each of them becomes it, and if, while they are
//! made, nothing merges across the place where they meet. What stands there changes from characters to the two tokens: these
//! pairs are looked up, once for each token, when the index is built. Nearly all tokens of a trained vocabulary pass;
//! the others are merged as any text.

use super::merges::Merges;
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::ArenaError;

/// For each token the slot of the pair that it is made of.
#[derive(Debug)]
pub struct Wholes<'a>(&'a mut [u32]);

/// Beside the slot: the text of the token becomes the token.
const WHOLE: u32 = 1 << 31;
/// Beside the slot: the left token of the pair is a symbol.
const LEFT_SYMBOL: u32 = 1 << 30;
/// Beside the slot: the right one is.
const RIGHT_SYMBOL: u32 = 1 << 29;
/// No slot: made of no pair, or of none that is known. Slots are fewer: texts have less than 2^27 bytes, merges are 2^24.
const NO_SLOT: u32 = RIGHT_SYMBOL - 1;

impl<'a> Wholes<'a> {
    /// Adds what [`Wholes::new`] allocates.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(n_tokens: usize, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<u32>(n_tokens)
    }

    /// Whether the text of `token` becomes `token`.
    pub fn has(&self, token: Token) -> bool {
        self.0.get(token as usize).is_some_and(|slot| slot & WHOLE != 0)
    }

    /// Nothing is known of `n_tokens`.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(n_tokens: usize, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        Ok(Self(arena.alloc(n_tokens, NO_SLOT)?))
    }

    /// `token` is a symbol, one that merging begins with.
    pub fn add_symbol(&mut self, token: Token) {
        if let Some(of) = self.0.get_mut(token as usize) {
            *of = WHOLE | NO_SLOT;
        }
    }

    /// `token`, unless something is known of it, may be made of the pair in `slot`, of which these are symbols.
    pub fn add_pair(&mut self, token: Token, slot: u32, left_is_symbol: bool, right_is_symbol: bool) {
        if let Some(of) = self.0.get_mut(token as usize).filter(|of| **of == NO_SLOT) {
            let flag = |is_set, flag| if is_set { flag } else { 0 };
            *of = slot & NO_SLOT | flag(left_is_symbol, LEFT_SYMBOL) | flag(right_is_symbol, RIGHT_SYMBOL);
        }
    }

    /// Looks whether the texts of `tokens` become them: those that they are made of go first.
    pub fn prove_all(&mut self, tokens: impl Iterator<Item = Token>, merges: &Merges<'_, '_>) {
        let n = self.0.len();
        tokens.filter(|&token| (token as usize) < n).for_each(|token| self.prove(token, merges));
    }

    fn prove(&mut self, token: Token, merges: &Merges<'_, '_>) {
        let Some(made) = self.made(token, merges) else { return };
        let flags = self.0.get(token as usize).copied().unwrap_or_default();
        let is_ready = |part: Token, of: Option<Made>, symbol: u32| {
            (flags & symbol != 0 || self.has(part)) && of.is_none_or(|of| of.priority < made.priority)
        };
        let (of_left, of_right) = (self.made(made.left, merges), self.made(made.right, merges));
        if is_ready(made.left, of_left, LEFT_SYMBOL)
            && is_ready(made.right, of_right, RIGHT_SYMBOL)
            && self.is_undisturbed(made, of_left, of_right, merges)
            && let Some(of) = self.0.get_mut(token as usize)
        {
            *of |= WHOLE;
        }
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
        let slot = *self.0.get(token as usize)? & NO_SLOT;
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
