//! [`Joints`]: which characters stand next to each other in a token. Where two meet that never do, nothing merges, and a
//! text can be cut.

use super::sentence_piece::SPACE;
use super::tables::{Lines, Tables};
use super::vocab::Vocab;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError};
use crate::gguf::writer::WriteError;

/// A bit for each two kinds of bytes: ASCII characters, of which the space stands for U+2581 too, and all other bytes
/// together. 2 KiB of arena.
#[derive(Clone, Copy, Debug)]
pub struct Joints<'a>(&'a [u32]);

const KINDS: usize = 128;
const N_WORDS: usize = KINDS * KINDS / 32;
/// What is not ASCII; U+007F too.
const OTHER: u8 = 127;

impl<'a> Joints<'a> {
    /// Adds what [`Joints::new`] allocates.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<u32>(N_WORDS)
    }

    /// Looks through the tokens of text.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(vocab: &Vocab<'_, '_>, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        let words = arena.alloc(N_WORDS, 0)?;
        let mut join = |left: u8, right: u8| {
            let (word, bit) = place(left, right);
            if let Some(word) = words.get_mut(word) {
                *word |= 1 << bit;
            }
        };
        join(OTHER, OTHER); // never inside of a character
        for (token, text) in vocab.tokens() {
            if !vocab.kind(token).is_text() {
                continue;
            }
            let (mut last, mut rest) = (None::<[u8; 2]>, text);
            while let Some((&byte, tail)) = rest.split_first() {
                // U+2581 stands in a text as it is, or as a space.
                let (kinds, tail) = match rest.strip_prefix(&SPACE) {
                    Some(tail) => ([OTHER, b' '], tail),
                    None => ([kind(byte); 2], tail),
                };
                for left in last.into_iter().flatten() {
                    kinds.iter().for_each(|&right| join(left, right));
                }
                (last, rest) = (Some(kinds), tail);
            }
        }
        Ok(Self(words))
    }

    /// What was looked through before. It says where text is cut, nothing else.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`](crate::error::VocabFault::Index).
    pub fn found(tables: &mut Tables<'a>) -> Result<Self, ModelError> {
        Ok(Self(tables.take(N_WORDS, |_| true)?))
    }

    /// Gives the table that [`Joints::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        to.table(self.0.iter().map(|word| word.to_le_bytes()))
    }

    /// Bytes of `text` before the first place where nothing merges across; all if there is none.
    #[inline]
    pub fn first_cut(self, text: &[u8]) -> usize {
        let Some((&first, rest)) = text.split_first() else { return 0 };
        let mut left = kind(first);
        for (at, &byte) in (1..).zip(rest) {
            let right = kind(byte);
            let (word, bit) = place(left, right);
            if self.0.get(word).is_some_and(|word| word >> bit & 1 == 0) {
                return at;
            }
            left = right;
        }
        text.len()
    }
}

#[inline]
fn kind(byte: u8) -> u8 {
    byte.min(OTHER)
}

/// The word of a bit, and how far up it is.
#[inline]
fn place(left: u8, right: u8) -> (usize, u32) {
    let bit = usize::from(left) << 7 | usize::from(right);
    (bit / 32, (bit % 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_two_kinds_have_a_bit_of_two_kibibytes() {
        assert_eq!(Joints::layout(Layout::new()).unwrap().used(), 2048);
        let mut words = [0u32; N_WORDS];
        for (left, right) in (0..=OTHER).flat_map(|left| (0..=OTHER).map(move |right| (left, right))) {
            let (word, bit) = place(left, right);
            assert_eq!(words[word] >> bit & 1, 0, "{left} {right}");
            words[word] |= 1 << bit;
        }
        assert_eq!(words, [u32::MAX; N_WORDS]);
    }
}
