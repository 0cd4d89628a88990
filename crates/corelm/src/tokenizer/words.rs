//! [`Words`]: frequent tokens by the bytes of text that they stand for, so that a piece that is one of them is found by one
//! look at memory. Other ways to find a token take three, one after the other, and most of the time of a short text is
//! spent on waiting for them.

use super::short::Short;
use super::tables::{Lines, Tables};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError};
use crate::gguf::writer::WriteError;

/// A text of up to 12 bytes and its token: the numbers of a [`Short`], in the second of which such texts leave room for the
/// token. None is 0, as no text is empty.
type Entry = [u64; 2];
const TOKEN_AT: u32 = 32;
const TOKEN: u64 = ((1 << 24) - 1) << TOKEN_AT;
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
        let is_right = |entry: &Entry| *entry == FREE || is_token((entry[1] & TOKEN) >> TOKEN_AT);
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
        // A longer text is none of them: it has bytes where entries have tokens.
        let [low, high] = text.numbers();
        for &[other_low, other_high] in self.0.get(first(text, self.0.len())..)?.iter().take(PROBES) {
            if other_low == low && other_high & !TOKEN == high {
                return Some(((other_high & TOKEN) >> TOKEN_AT) as Token);
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
        let [low, high] = text.numbers();
        if high & TOKEN != 0 || text == Short::default() {
            return;
        }
        let entries = self.0.get_mut(first(text, self.0.len())..).unwrap_or_default();
        if let Some(entry) = entries.iter_mut().take(PROBES).find(|entry| **entry == FREE) {
            *entry = [low, high | u64::from(token) << TOKEN_AT];
        }
    }

    /// Ends collecting.
    pub fn finish(self) -> Words<'a> {
        Words(self.0)
    }
}

/// The first of the entries to look at.
#[inline]
fn first(text: Short, n_entries: usize) -> usize {
    text.place(n_entries.saturating_sub(PROBES - 1))
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
