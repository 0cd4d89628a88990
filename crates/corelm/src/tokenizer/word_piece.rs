//! WordPiece (BERT): text is folded and cut into words; a word becomes the longest tokens it consists of, from the left,
//! or the unknown token.
//!
//! In a file the tokens that begin a word begin with U+2581, and the others have no mark. Bytes that are not UTF-8 are
//! dropped, as llama.cpp drops the U+FFFD it reads for them; but it reads overlong forms as the characters they spell,
//! which would let `.` through a filter as C0 AE, and stops the program at code points above U+10FFFF.

use super::encoder::Part;
use super::fold::{Fold, Kind};
use super::output::Output;
use super::prefixes::Prefixes;
use super::sentence_piece::SPACE;
use super::unicode::Char;
use super::vocab::{self, TokenKind, Vocab};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, TokenizeError};
use crate::gguf::Image;

/// What encodes text into the tokens of a WordPiece vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct WordPiece<'a> {
    fold: Fold,
    prefixes: Prefixes<'a>,
    unknown: Option<Token>,
}

impl<'a> WordPiece<'a> {
    /// Adds what [`WordPiece::new`] allocates.
    ///
    /// # Errors
    ///
    /// As [`WordPiece::new`], as far as counts tell.
    pub fn layout(image: &Image<'_>, layout: Layout) -> Result<Layout, ModelError> {
        Ok(Prefixes::layout(vocab::n_text_bytes(vocab::tokens(image)?), layout)?)
    }

    /// Takes in all tokens but control tokens, which text never becomes.
    ///
    /// # Errors
    ///
    /// Those of [`Prefixes::new`], and of keys with values of another type.
    pub fn new(
        image: &Image<'_>,
        vocab: &Vocab<'a, '_>,
        unknown: Option<Token>,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ModelError> {
        let lowers = image.bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let strips = image.bool("tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowers);
        let prefixes = Prefixes::new(vocab, arena, is_found, |text| text.iter().copied())?;
        Ok(Self { fold: Fold { lowers, strips }, prefixes, unknown })
    }

    /// Encodes text without special tokens in it; adds the bytes it looked at to `steps`.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::NoToken`] for a word without tokens where there is no unknown token.
    pub fn encode(
        &self,
        vocab: &Vocab<'_, '_>,
        text: &[u8],
        part: Part,
        steps: &mut u64,
        out: &mut Output<'_>,
    ) -> Result<usize, TokenizeError> {
        let mut rest = text;
        while let Some((word, tail)) = self.first_word(rest) {
            if tail.is_empty() && !part.ends {
                break;
            }
            let n_before = out.len();
            let end = text.len().saturating_sub(tail.len());
            let start = end.saturating_sub(word.len());
            if !self.encode_word(vocab, word, start, steps, out) {
                out.truncate(n_before);
                let byte = word.first().copied().unwrap_or_default();
                out.push_at(self.unknown.ok_or(TokenizeError::NoToken { byte })?, start, end);
            }
            if out.stops_at(n_before) {
                break;
            }
            rest = tail;
        }
        Ok(text.len().saturating_sub(rest.len()))
    }

    /// The first word of a text, and what is behind it.
    fn first_word<'t>(&self, text: &'t [u8]) -> Option<(&'t [u8], &'t [u8])> {
        let (mut begin, mut end) = (None, 0usize);
        while let Some(c) = text.get(end..).and_then(Char::first) {
            let behind = end.wrapping_add(c.len); // in the text
            match (self.letter(c).0, begin) {
                (Kind::Dropped, _) | (Kind::Space, None) => {}
                (Kind::Inner, _) => begin = begin.or(Some(end)),
                (Kind::Alone, None) => return Some((text.get(end..behind)?, text.get(behind..)?)),
                (Kind::Space | Kind::Alone, Some(_)) => break,
            }
            end = behind;
        }
        Some((text.get(begin?..end)?, text.get(end..)?))
    }

    /// Gives the tokens of a word, which begins at `start` of the text; false when there is text left that begins with
    /// none.
    fn encode_word(
        &self,
        vocab: &Vocab<'_, '_>,
        word: &[u8],
        start: usize,
        steps: &mut u64,
        out: &mut Output<'_>,
    ) -> bool {
        let mut rest = Letters { model: self, rest: word, mark: &SPACE, utf8: [0; 4], len: 0 };
        let behind =
            |rest: &Letters<'_, '_>| start.saturating_add(word.len().saturating_sub(rest.rest.len()));
        while rest.clone().next().is_some() {
            let mut longest = None;
            let n_read = self.prefixes.walk(rest.clone(), |len, hash| {
                let is_same = |text: &[u8]| rest.clone().take(len).eq(text.iter().copied());
                let token = vocab.find_by(hash, is_same).filter(|&token| is_found(vocab.kind(token)));
                longest = token.map(|token| (len, token)).or(longest);
            });
            *steps = steps.wrapping_add(n_read);
            let Some((len, token)) = longest else { return false };
            rest.skip_dropped();
            let begin = behind(&rest);
            rest.nth(len.wrapping_sub(1)); // a token has a byte at least
            out.push_at(token, begin, behind(&rest));
        }
        true
    }

    #[inline]
    fn letter(&self, c: Char) -> (Kind, u32) {
        c.code.map_or((Kind::Dropped, 0), |code| self.fold.apply(code))
    }
}

fn is_found(kind: TokenKind) -> bool {
    kind != TokenKind::Control
}

/// The bytes of a word as the vocabulary writes it.
#[derive(Clone)]
struct Letters<'w, 'a> {
    model: &'w WordPiece<'a>,
    rest: &'w [u8],
    /// What is left of the mark of a word's beginning.
    mark: &'static [u8],
    /// The letter that is being given, `len` bytes at the end.
    utf8: [u8; 4],
    len: u8,
}

impl Letters<'_, '_> {
    /// Goes on to the next character that is not dropped.
    fn skip_dropped(&mut self) {
        while self.len == 0
            && let Some(c) = Char::first(self.rest)
            && self.model.letter(c).0 == Kind::Dropped
        {
            self.rest = self.rest.get(c.len..).unwrap_or_default();
        }
    }
}

impl Iterator for Letters<'_, '_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        if let Some((&byte, mark)) = self.mark.split_first() {
            self.mark = mark;
            return Some(byte);
        }
        while self.len == 0 {
            let c = Char::first(self.rest)?;
            self.rest = self.rest.get(c.len..)?;
            if let (Kind::Inner | Kind::Alone, code) = self.model.letter(c) {
                (self.utf8, self.len) = utf8(code);
            }
        }
        self.len = self.len.wrapping_sub(1); // it is not 0
        self.utf8.iter().rev().nth(usize::from(self.len)).copied()
    }
}

/// A code point in UTF-8, at the end of the array, and its length.
#[inline]
fn utf8(code: u32) -> ([u8; 4], u8) {
    let trail = |shift: u32| 0x80 | (code >> shift & 0x3F) as u8;
    match code {
        0..0x80 => ([0, 0, 0, code as u8], 1),
        0x80..0x800 => ([0, 0, 0xC0 | (code >> 6) as u8, trail(0)], 2),
        0x800..0x1_0000 => ([0, 0xE0 | (code >> 12) as u8, trail(6), trail(0)], 3),
        _ => ([0xF0 | (code >> 18 & 7) as u8, trail(12), trail(6), trail(0)], 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_the_bytes_of_the_standard_library() {
        for c in '\0'..=char::MAX {
            let (bytes, len) = utf8(c.into());
            let mut want = [0; 4];
            assert_eq!(bytes.get(4 - usize::from(len)..), Some(c.encode_utf8(&mut want).as_bytes()), "{c:?}");
        }
    }
}
