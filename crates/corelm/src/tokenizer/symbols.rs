//! [`Symbols`]: what merging begins with in a byte-level vocabulary: bytes, and characters that become one token for certain.

use super::NO_TOKEN;
use super::byte_map;
use super::byte_pairs::{BytePairs, BytePairsMut};
use super::chars::{Chars, CharsMut, Known};
use super::merges::{Merges, NEVER};
use super::pairs::PairsMut;
use super::scratch::Chain;
use super::tables::{Lines, Tables};
use super::vocab::Vocab;
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError, TokenizeError};
use crate::gguf::writer::WriteError;

/// The tokens of bytes and characters, and when bytes merge.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a> {
    /// The token of each byte; [`NO_TOKEN`] where there is none.
    bytes: &'a [Token],
    pairs: BytePairs<'a>,
    chars: Chars<'a>,
}

/// Their memory, with the tokens of bytes in it.
#[derive(Debug)]
pub struct SymbolsRoom<'a> {
    bytes: &'a [Token],
    pairs: BytePairsMut<'a>,
    chars: &'a mut [u32],
}

/// The same while merges are read, in the order of their ranks.
#[derive(Debug)]
pub struct SymbolsMut<'a, 't> {
    bytes: &'a [Token],
    pairs: BytePairsMut<'a>,
    chars: CharsMut<'a, 't>,
}

impl<'a> Symbols<'a> {
    /// Adds what [`SymbolsRoom::new`] allocates for a vocabulary of `n_tokens`.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(n_tokens: usize, layout: Layout) -> Result<Layout, ArenaError> {
        Chars::layout(n_tokens, BytePairs::layout(layout.add::<Token>(256)?)?)
    }

    /// What was read before.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`](crate::error::VocabFault::Index) when one is not the token of a text.
    pub fn found(vocab: &Vocab<'_, '_>, tables: &mut Tables<'a>) -> Result<Self, ModelError> {
        let bytes = tables.take(256, |&token| vocab.is_text_or_none(token))?;
        let pairs = BytePairs::found(tables, |_| true)?;
        Ok(Self { bytes, pairs, chars: Chars::found(vocab.len(), tables, |token| vocab.is_text(token))? })
    }

    /// Gives the tables that [`Symbols::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        to.table(self.bytes.iter().map(|token| token.to_le_bytes()))?;
        self.pairs.give(to)?;
        self.chars.give(to)
    }

    /// The tokens of all bytes.
    pub fn bytes(self) -> &'a [Token] {
        self.bytes
    }

    /// Puts the symbols of a piece into the empty `chain`, with when they merge.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::NoToken`], [`TokenizeError::ScratchFull`].
    pub fn chain(
        self,
        piece: &[u8],
        merges: &Merges<'_, '_>,
        chain: &mut Chain<'_>,
    ) -> Result<(), TokenizeError> {
        let (mut rest, mut left, mut last) = (piece, NO_TOKEN, 0);
        while let Some(&byte) = rest.first() {
            let char = if byte.is_ascii() { None } else { self.chars.first(rest, last) };
            let (right, n_bytes) = char.unwrap_or_else(|| (self.of_byte(byte), 1));
            if right == NO_TOKEN {
                return Err(TokenizeError::NoToken { byte });
            }
            if left != NO_TOKEN {
                // Where both bytes are ASCII they are symbols.
                let priority = self.pairs.priority(last, byte, || merges.priority(left, right));
                chain.push(left, priority)?;
            }
            let (symbol, behind) = rest.split_at_checked(n_bytes).unwrap_or_default();
            (left, last) = (right, symbol.last().copied().unwrap_or_default());
            rest = behind;
        }
        if left == NO_TOKEN { Ok(()) } else { chain.push(left, NEVER) }
    }

    #[inline]
    fn of_byte(self, byte: u8) -> Token {
        self.bytes.get(usize::from(byte)).copied().unwrap_or(NO_TOKEN)
    }
}

impl<'a> SymbolsRoom<'a> {
    /// Finds the tokens of bytes.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(vocab: &Vocab<'_, '_>, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        let bytes = arena.alloc_with(256, |byte| {
            let token = byte_map::find(vocab, &[byte as u8]);
            token.filter(|&token| vocab.kind(token).is_text()).unwrap_or(NO_TOKEN)
        })?;
        Ok(Self { bytes, pairs: BytePairsMut::new(arena)?, chars: Chars::alloc(vocab.len(), arena)? })
    }
}

impl<'a, 't> SymbolsMut<'a, 't> {
    /// What is free in `arena` is for the time of reading.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(room: SymbolsRoom<'a>, arena: &mut Arena<'t>) -> Result<Self, ArenaError> {
        let SymbolsRoom { bytes, pairs, chars } = room;
        Ok(Self { bytes, pairs, chars: CharsMut::new(chars, arena)? })
    }

    /// The tokens of all bytes.
    pub fn bytes(&self) -> &'a [Token] {
        self.bytes
    }

    /// Takes in the next merge, of two tokens that a vocabulary writes so. `pairs` has it, and `made` what it makes.
    #[inline]
    pub fn see(&mut self, texts: [&[u8]; 2], rank: u32, pairs: &PairsMut<'_>, made: &[Token]) {
        self.pairs.see(texts, rank);
        self.chars.see(texts, rank, Known { bytes: self.bytes, pairs: pairs.so_far(), made });
    }

    /// Ends reading.
    pub fn finish(self) -> Symbols<'a> {
        Symbols { bytes: self.bytes, pairs: self.pairs.finish(), chars: self.chars.finish() }
    }
}
