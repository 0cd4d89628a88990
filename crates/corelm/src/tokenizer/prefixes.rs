//! The tokens that a text begins with: which lengths to look up, and where to stop.
//!
//! A filter says so of the hash of a beginning. It may say yes too often, which costs a step; what it lets through is
//! looked up and compared. Without the filter, which is to look up every length up to that of the longest token, the
//! same texts take WordPiece 1.2 to 2 times as long, a unigram model 6 to 16 times and RWKV 35 to 67 times.

use super::hash::TextHash;
use super::vocab::{TokenKind, Vocab};
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError};
use crate::gguf::limits::Limit;

/// Bounds the work at each byte of a text, whatever the vocabulary.
const MAX_BYTES: Limit = Limit { what: "bytes of a token that is found in text", max: 255 };

/// In a cell: a text with this hash is a token.
const ENDS: u64 = 1;
/// In a cell: a longer token begins with a text of this hash.
const GOES_ON: u64 = 2;

/// A filter over all beginnings of tokens. A byte of arena for each byte of their texts.
#[derive(Clone, Copy, Debug)]
pub struct Prefixes<'a> {
    /// Cells of two bits.
    words: &'a [u64],
    /// Bytes of the longest token: at most [`MAX_BYTES`].
    longest: usize,
}

const CELLS: usize = 32;

impl<'a> Prefixes<'a> {
    /// Adds what [`Prefixes::new`] allocates for texts of `n_bytes`.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(n_bytes: usize, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<u64>(n_words(n_bytes))
    }

    /// Takes in the tokens whose kind `is_found` in text; `bytes` gives the bytes that a token's text stands for, no
    /// more than it has.
    ///
    /// # Errors
    ///
    /// [`ModelError::Limit`] when a token is too long, [`ModelError::Memory`].
    pub fn new<'m, I: Iterator<Item = u8>>(
        vocab: &Vocab<'a, 'm>,
        arena: &mut Arena<'a>,
        is_found: impl Fn(TokenKind) -> bool,
        bytes: impl Fn(&'m [u8]) -> I,
    ) -> Result<Self, ModelError> {
        let words = arena.alloc(n_words(vocab.n_bytes()), 0)?;
        let mut longest = 0usize;
        for (token, text) in vocab.tokens() {
            if !is_found(vocab.kind(token)) {
                continue;
            }
            let (mut hash, mut len) = (TextHash::default(), 0usize);
            for byte in bytes(text) {
                if len > 0 {
                    mark(words, hash, GOES_ON);
                }
                hash = hash.push(byte);
                len = len.saturating_add(1);
            }
            mark(words, hash, ENDS);
            MAX_BYTES.check(len as u64)?;
            longest = longest.max(len);
        }
        Ok(Self { words, longest })
    }

    /// Bytes of the longest token.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Reads `text` and gives to `found` every length, and the hash of as many bytes, that may be a token: all that
    /// are, from the shortest to the longest. Returns how many bytes it read.
    #[inline]
    pub fn walk(&self, text: impl Iterator<Item = u8>, mut found: impl FnMut(usize, TextHash)) -> u64 {
        let (mut hash, mut len) = (TextHash::default(), 0usize);
        for byte in text.take(self.longest) {
            hash = hash.push(byte);
            len = len.wrapping_add(1); // at most `longest`
            let (word, shift) = place(self.words.len(), hash);
            let cell = self.words.get(word).map_or(0, |word| word >> shift);
            if cell & ENDS != 0 {
                found(len, hash);
            }
            if cell & GOES_ON == 0 {
                break;
            }
        }
        len as u64
    }
}

fn mark(words: &mut [u64], hash: TextHash, bit: u64) {
    let (word, shift) = place(words.len(), hash);
    if let Some(word) = words.get_mut(word) {
        *word |= bit << shift;
    }
}

/// The word of a hash's cell, and how far up it is.
#[inline]
fn place(n_words: usize, hash: TextHash) -> (usize, u32) {
    let n_cells = n_words.wrapping_mul(CELLS) as u64; // texts are below 2^26 bytes
    let cell = ((hash.mixed() >> 32).wrapping_mul(n_cells) >> 32) as usize;
    (cell / CELLS, (cell % CELLS * 2) as u32)
}

fn n_words(n_bytes: usize) -> usize {
    n_bytes / 8 + 1
}
