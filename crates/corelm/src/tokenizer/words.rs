//! [`Words`]: frequent tokens by the bytes of text that they stand for, so that a piece that is one of them is found by one
//! look at memory. Other ways to find a token take three, one after the other, and most of the time of a short text is
//! spent on waiting for them.

use super::hash::mix;
use super::short::Short;
use super::tables::{Lines, Tables};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError};
use crate::gguf::writer::WriteError;

/// Longer texts are not in it.
const MAX_BYTES: usize = 12;

/// A text and its token in two numbers: the first eight bytes; and from the bottom four more, how many they are, and the
/// token. None is 0, as no text is empty.
type Entry = [u64; 2];
const LEN_AT: u32 = 32;
const TOKEN_AT: u32 = 40;
const FREE: Entry = [0, 0];

/// How many entries are looked at. What has no room in so many is left out.
const PROBES: usize = 4;

/// The words, to look up.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(&'a [Entry]);

/// The words while they are collected.
#[derive(Debug)]
pub struct WordsMut<'a>(&'a mut [Entry]);

impl<'a> Words<'a> {
    /// No words.
    pub const NONE: Self = Self(&[]);

    /// Words of `n_words` that were collected before; of each token `is_right` must say so.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`](crate::error::VocabFault::Index) when it does not.
    pub fn found(
        n_words: usize,
        tables: &mut Tables<'a>,
        is_right: impl Fn(Token) -> bool,
    ) -> Result<Self, ModelError> {
        let is_token = |number: u64| Token::try_from(number).is_ok_and(&is_right);
        let is_right = |entry: &Entry| *entry == FREE || is_token(entry[1] >> TOKEN_AT);
        Ok(Self(tables.take(n_entries(n_words), is_right)?))
    }

    /// Gives the table that [`Words::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        to.table(self.0.iter().flatten().map(|number| number.to_le_bytes()))
    }

    /// Adds what [`WordsMut::new`] allocates.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(n_words: usize, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<Entry>(n_entries(n_words))
    }

    /// Bytes of a table of `n_words`.
    pub fn n_bytes(n_words: usize) -> usize {
        n_entries(n_words).saturating_mul(size_of::<Entry>())
    }

    /// The token of a text.
    #[inline]
    pub fn find(self, text: Short) -> Option<Token> {
        let (low, high) = key(text)?;
        for &[other_low, other_high] in self.0.get(first(low, high, self.0.len())..)?.iter().take(PROBES) {
            if other_low == low && other_high & ((1 << TOKEN_AT) - 1) == high {
                return Some((other_high >> TOKEN_AT) as Token);
            }
        }
        None
    }
}

impl<'a> WordsMut<'a> {
    /// Room for `n_words`.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(n_words: usize, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        Ok(Self(arena.alloc(n_entries(n_words), FREE)?))
    }

    /// Adds a text that is not there yet, if there is room where it is looked for.
    pub fn insert(&mut self, text: Short, token: Token) {
        let Some((low, high)) = key(text) else { return };
        let entries = self.0.get_mut(first(low, high, self.0.len())..).unwrap_or_default();
        if let Some(entry) = entries.iter_mut().take(PROBES).find(|entry| **entry == FREE) {
            *entry = [low, high | u64::from(token) << TOKEN_AT];
        }
    }

    /// Ends collecting.
    pub fn finish(self) -> Words<'a> {
        Words(self.0)
    }
}

/// A text as an entry has it.
#[inline]
fn key(text: Short) -> Option<(u64, u64)> {
    let (low, high, len) = text.halves();
    (1..=MAX_BYTES).contains(&len).then_some((low, high | (len as u64) << LEN_AT))
}

/// The first of the entries to look at.
#[inline]
fn first(low: u64, high: u64, n_entries: usize) -> usize {
    let n_firsts = n_entries.saturating_sub(PROBES - 1) as u64;
    let mixed = mix(mix(low) ^ high);
    ((mixed >> 32).wrapping_mul(n_firsts) >> 32) as usize
}

/// Three quarters of them are taken.
fn n_entries(n_words: usize) -> usize {
    n_words.saturating_add(n_words / 3).saturating_add(PROBES)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::mem::MaybeUninit;
    use std::format;

    #[test]
    fn words_are_found_but_for_those_without_room() {
        let mut region = std::vec![MaybeUninit::uninit(); 1 << 16];
        let mut words = WordsMut::new(1000, &mut Arena::new(&mut region)).unwrap();
        let text = |i: u32| format!(" word {i}");
        let short = |text: &str| Short::new(text.as_bytes(), text.len()).unwrap();
        (0..1000).for_each(|i| words.insert(short(&text(i)), i));
        let words = words.finish();
        let found = (0..1000).filter(|&i| words.find(short(&text(i))) == Some(i)).count();
        assert!(found > 900, "{found}");
        assert!((1000..2000).all(|i| words.find(short(&text(i))).is_none()));
        assert!(["", "a word of 13", "a word of 13."].iter().all(|text| words.find(short(text)).is_none()));
    }
}
