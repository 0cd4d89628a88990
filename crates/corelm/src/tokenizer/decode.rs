//! From tokens back to bytes, and from bytes to text that is never cut inside a character.

use super::short::Short;
use super::vocab::TokenKind;
use super::{Tokenizer, byte_map, rwkv, sentence_piece};
use crate::Token;
use crate::error::TokenizeError;

/// The bytes of one token.
#[derive(Clone, Debug, Default)]
pub struct Piece<'m> {
    rest: &'m [u8],
    form: Form,
}

/// How a vocabulary writes the text of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    #[default]
    Plain,
    /// A printable character for each byte (GPT-2).
    ByteMap,
    /// U+2581 for a space (SentencePiece, and WordPiece in GGUF files).
    SpaceMark,
    /// Escapes as Python's (RWKV).
    Escaped,
}

impl Form {
    /// The bytes that a text stands for, in a number, and how many they are, where they are easy to find, as those of most
    /// tokens are.
    #[inline(always)]
    fn at_once(self, text: Short) -> Option<(u128, usize)> {
        const HIGH: u128 = u128::MAX / 0xFF * 0x80;
        let (text, len) = text.bytes();
        // ASCII stands for itself in all forms but one. In front of it a space may be written otherwise.
        let (mark, mark_len) = match self {
            Self::Plain => return Some((text, len)),
            Self::ByteMap => (number(byte_map::encode(b' ')), 2),
            Self::SpaceMark => (number(sentence_piece::SPACE), sentence_piece::SPACE.len()),
            Self::Escaped => return None,
        };
        // Words with a space and without take turns as they like: a branch would be foreseen by no processor.
        let behind = text >> (8 * mark_len);
        let is_led = text ^ behind << (8 * mark_len) == mark;
        let (bytes, n_less) =
            if is_led { (behind << 8 | u128::from(b' '), mark_len.wrapping_sub(1)) } else { (text, 0) };
        // Behind a mark of SentencePiece's every other character stands for itself.
        let is_easy =
            bytes & HIGH == 0 || self == Self::SpaceMark && !has_byte(bytes, sentence_piece::SPACE[0]);
        is_easy.then_some((bytes, len.wrapping_sub(n_less)))
    }
}

/// Whether one of the bytes of a number is `byte`.
#[inline]
fn has_byte(bytes: u128, byte: u8) -> bool {
    const ONES: u128 = u128::MAX / 0xFF;
    let differ = bytes ^ (ONES * u128::from(byte));
    differ.wrapping_sub(ONES) & !differ & (ONES * 0x80) != 0
}

impl<'m> Piece<'m> {
    pub(super) fn new(rest: &'m [u8], form: Form) -> Self {
        Self { rest, form }
    }

    /// The piece of one byte.
    pub(super) fn byte(byte: u8) -> Self {
        const BYTES: [u8; 256] = {
            let mut bytes = [0; 256];
            let mut i = 0;
            while i < 256 {
                bytes[i] = i as u8;
                i += 1;
            }
            bytes
        };
        static ALL: [u8; 256] = BYTES;
        Self {
            rest: ALL.get(usize::from(byte)..).and_then(|b| b.get(..1)).unwrap_or_default(),
            form: Form::Plain,
        }
    }

    /// The piece without the space it begins with, if it does.
    pub(super) fn without_space(self) -> Self {
        let mut shorter = self.clone();
        if shorter.next() == Some(b' ') { shorter } else { self }
    }
}

impl Iterator for Piece<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        if self.form == Form::Escaped {
            return rwkv::next_unescaped(&mut self.rest);
        }
        let (&first, rest) = self.rest.split_first()?;
        // What stands for nothing else is taken as it is: nothing of a vocabulary's text gets lost.
        match self.form {
            _ if first.is_ascii() => {}
            Form::ByteMap => {
                let (byte, rest) = mapped(self.rest)?;
                self.rest = rest;
                return Some(byte);
            }
            Form::SpaceMark => {
                if let Some(rest) = self.rest.strip_prefix(&sentence_piece::SPACE) {
                    self.rest = rest;
                    return Some(b' ');
                }
            }
            Form::Plain | Form::Escaped => {}
        }
        self.rest = rest;
        Some(first)
    }

    /// What [`Piece::next`] gives, with the form decided once.
    #[inline]
    fn fold<B, F: FnMut(B, u8) -> B>(mut self, init: B, mut f: F) -> B {
        let mut folded = init;
        match self.form {
            Form::Plain => return self.rest.iter().copied().fold(folded, f),
            Form::ByteMap => {
                while let Some((byte, rest)) = mapped(self.rest) {
                    folded = f(folded, byte);
                    self.rest = rest;
                }
            }
            Form::SpaceMark | Form::Escaped => {
                for byte in self {
                    folded = f(folded, byte);
                }
            }
        }
        folded
    }
}

/// Bytes as the lowest of a number.
const fn number<const N: usize>(bytes: [u8; N]) -> u128 {
    let mut number = 0;
    let mut i = N;
    while let Some(next) = i.checked_sub(1) {
        number = number << 8 | bytes[next] as u128;
        i = next;
    }
    number
}

/// The byte that text of [`Form::ByteMap`] begins with, and the text behind it.
#[inline]
fn mapped(text: &[u8]) -> Option<(u8, &[u8])> {
    byte_map::decode(text).or_else(|| text.split_first().map(|(&first, rest)| (first, rest)))
}

/// Whether decoding shows control tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controls {
    /// By their names, as `<|im_end|>`.
    Show,
    /// Not at all.
    Hide,
}

/// Gives the bytes of one token after another, as part of one text.
///
/// Takes off the space that a SentencePiece or unigram model puts before text, which depends on what was before.
#[derive(Clone, Debug)]
pub struct Decoder<'t, 'a, 'm> {
    tokenizer: &'t Tokenizer<'a, 'm>,
    controls: Controls,
    /// Text begins here: behind nothing, a control token or a user-defined one.
    at_start: bool,
}

impl<'t, 'a, 'm> Decoder<'t, 'a, 'm> {
    pub(super) fn new(tokenizer: &'t Tokenizer<'a, 'm>, controls: Controls) -> Self {
        Self { tokenizer, controls, at_start: true }
    }

    /// The decoder of text that goes on from other text, as what is generated does: no space is taken off.
    pub fn continuing(mut self) -> Self {
        self.at_start = false;
        self
    }

    /// The bytes of the next token; `None` for a number that is no token.
    pub fn piece(&mut self, token: Token) -> Option<Piece<'m>> {
        let Tokenizer { vocab, model, .. } = self.tokenizer;
        let kind = vocab.kind(token);
        let piece = model.piece(vocab.text(token)?, kind);
        let was_start = core::mem::replace(&mut self.at_start, false);
        if model.adds_space() {
            self.at_start = match kind {
                TokenKind::Control | TokenKind::UserDefined => true,
                TokenKind::Unknown => model.knows_all_text(),
                _ => false,
            };
            if was_start && kind.is_text() {
                return Some(piece.without_space());
            }
        }
        Some(self.shown(piece, kind))
    }

    /// Gives `out` the bytes of the first tokens, as many as are text that goes on, as most are, and gives the others:
    /// the first of them is left to [`Decoder::piece`].
    pub(super) fn words<'k>(&self, tokens: &'k [Token], out: &mut DecodedText<'_>) -> &'k [Token] {
        if self.at_start {
            return tokens;
        }
        // For each form a loop of its own.
        match self.tokenizer.model.form() {
            Form::Plain => self.words_in(Form::Plain, tokens, out),
            Form::ByteMap => self.words_in(Form::ByteMap, tokens, out),
            Form::SpaceMark => self.words_in(Form::SpaceMark, tokens, out),
            Form::Escaped => self.words_in(Form::Escaped, tokens, out),
        }
    }

    /// As [`Decoder::words`], of a vocabulary that writes text so.
    #[inline(always)]
    fn words_in<'k>(&self, form: Form, tokens: &'k [Token], out: &mut DecodedText<'_>) -> &'k [Token] {
        let vocab = &self.tokenizer.vocab;
        let mut rest = tokens;
        while let Some((&token, behind)) = rest.split_first()
            && vocab.kind(token).is_text()
        {
            let at_once = vocab.short_text(token).and_then(|text| form.at_once(text));
            if !at_once.is_some_and(|bytes| out.push_at_once(bytes)) {
                let Some(text) = vocab.text(token) else { break };
                Piece::new(text, form).for_each(|byte| out.push(byte));
            }
            rest = behind;
        }
        rest
    }

    fn shown(&self, piece: Piece<'m>, kind: TokenKind) -> Piece<'m> {
        let is_hidden = kind == TokenKind::Control && self.controls == Controls::Hide;
        if is_hidden { Piece::default() } else { piece }
    }
}

/// Where decoded bytes go: as many as there is room for.
pub(super) struct DecodedText<'o> {
    out: &'o mut [u8],
    len: usize,
}

impl<'o> DecodedText<'o> {
    pub fn new(out: &'o mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    pub fn push(&mut self, byte: u8) {
        if let Some(slot) = self.out.get_mut(self.len) {
            *slot = byte;
        }
        self.len = self.len.saturating_add(1);
    }

    /// Adds the `n` lowest bytes of a number, if there is room for all of it: what is above them the next ones go over.
    #[inline]
    fn push_at_once(&mut self, (bytes, n): (u128, usize)) -> bool {
        let room = self.out.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut);
        let has_room = room.is_some();
        if let Some(room) = room {
            *room = bytes.to_le_bytes();
            self.len = self.len.saturating_add(n);
        }
        has_room
    }

    /// The number of bytes.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::OutputFull`] when there was no room for all.
    pub fn finish(self) -> Result<usize, TokenizeError> {
        let (need, have) = (self.len, self.out.len());
        if need > have { Err(TokenizeError::OutputFull { need, have }) } else { Ok(need) }
    }
}

/// A part of a stream of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'b> {
    /// Whole characters.
    Text(&'b str),
    /// Bytes that are no UTF-8; a program that wants text prints U+FFFD for them.
    Invalid(&'b [u8]),
}

impl<'b> Chunk<'b> {
    /// The bytes of either.
    pub fn bytes(self) -> &'b [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Invalid(bytes) => bytes,
        }
    }
}

/// Cuts a stream of bytes into whole characters: what is not complete yet is held back. Loses nothing: all chunks
/// together are all bytes.
///
/// ```
/// use corelm::tokenizer::{Chunk, Utf8Stream};
///
/// let mut stream = Utf8Stream::new();
/// assert_eq!(stream.next(&mut [b'a', 0xC3].into_iter()), Some(Chunk::Text("a")));
/// assert_eq!(stream.next(&mut [].into_iter()), None);
/// assert_eq!(stream.next(&mut [0xA9].into_iter()), Some(Chunk::Text("é")));
/// assert_eq!(stream.finish(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Utf8Stream {
    buffer: [u8; 64],
    len: usize,
    /// Bytes at the front that the last chunk gave.
    given: usize,
}

impl Default for Utf8Stream {
    fn default() -> Self {
        Self::new()
    }
}

impl Utf8Stream {
    /// An empty stream.
    pub const fn new() -> Self {
        Self { buffer: [0; 64], len: 0, given: 0 }
    }

    /// Takes bytes and gives the next chunk; `None` when they are used up and what is left is an incomplete character.
    /// To be called until it says so.
    pub fn next(&mut self, bytes: &mut impl Iterator<Item = u8>) -> Option<Chunk<'_>> {
        self.drop_given();
        while let Some(slot) = self.buffer.get_mut(self.len) {
            let Some(byte) = bytes.next() else { break };
            *slot = byte;
            self.len = self.len.wrapping_add(1); // at most 64
        }
        let bytes = self.buffer.get(..self.len)?;
        let (valid, invalid) = match str::from_utf8(bytes) {
            Ok(_) => (self.len, 0),
            Err(error) => (error.valid_up_to(), error.error_len().unwrap_or(0)),
        };
        self.given = if valid > 0 { valid } else { invalid };
        let chunk = bytes.get(..self.given).filter(|chunk| !chunk.is_empty())?;
        Some(str::from_utf8(chunk).map_or(Chunk::Invalid(chunk), Chunk::Text))
    }

    /// Ends the stream: the incomplete character that is left, if any. The stream is empty afterwards.
    pub fn finish(&mut self) -> Option<Chunk<'_>> {
        self.drop_given();
        self.given = self.len;
        self.buffer.get(..self.len).filter(|bytes| !bytes.is_empty()).map(Chunk::Invalid)
    }

    fn drop_given(&mut self) {
        let (given, len) = (self.given, self.len);
        if given > 0 && given < len {
            self.buffer.rotate_left(given.min(64));
        }
        self.len = len.saturating_sub(given);
        self.given = 0;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn at_once(form: Form, text: &str) -> Option<(u128, usize)> {
        form.at_once(Short::new(text.as_bytes(), text.len())?)
    }

    /// What most tokens are found by: if it gave nothing, all of them would be found, only later.
    #[test]
    fn bytes_at_once_are_those_one_by_one() {
        let easy = [
            (Form::Plain, "a\u{e9}"),
            (Form::ByteMap, "ab"),
            (Form::ByteMap, "\u{120}ab"),
            (Form::ByteMap, "\u{120}"),
            (Form::SpaceMark, "\u{2581}ab"),
            (Form::SpaceMark, "ab"),
            (Form::SpaceMark, "\u{2581}a\u{e9}"),
            (Form::SpaceMark, "\u{e9}"),
        ];
        for (form, text) in easy {
            let (bytes, len) = at_once(form, text).unwrap();
            let bytes: Vec<u8> = bytes.to_le_bytes().into_iter().take(len).collect();
            assert_eq!(bytes, Piece::new(text.as_bytes(), form).collect::<Vec<u8>>(), "{text}");
        }
        for (form, text) in
            [(Form::Escaped, "ab"), (Form::ByteMap, "\u{120}\u{e9}"), (Form::SpaceMark, "a\u{2581}")]
        {
            assert_eq!(at_once(form, text), None, "{text}");
        }
    }

    /// Feeds `bytes` in parts of `step`; the text with invalid bytes as U+FFFD, and all bytes.
    fn stream(bytes: &[u8], step: usize) -> (String, Vec<u8>) {
        let (mut text, mut all) = (String::new(), Vec::new());
        let mut add = |chunk: Chunk<'_>| {
            match chunk {
                Chunk::Text(part) => text.push_str(part),
                Chunk::Invalid(_) => text.push('\u{FFFD}'),
            }
            all.extend_from_slice(chunk.bytes());
        };
        let mut stream = Utf8Stream::new();
        for part in bytes.chunks(step) {
            let mut part = part.iter().copied();
            while let Some(chunk) = stream.next(&mut part) {
                add(chunk);
            }
        }
        if let Some(chunk) = stream.finish() {
            add(chunk);
        }
        (text, all)
    }

    #[test]
    fn streams_are_whole_characters_and_lose_nothing() {
        let mut bytes = "aé字😀 ".repeat(40).into_bytes();
        bytes.extend_from_slice(&[
            0xC0, 0xAE, b'x', 0xED, 0xA0, 0x80, 0xF0, 0x9F, 0x98, b'y', 0xFF, 0xE5, 0xAD,
        ]);
        for step in [1, 2, 3, 7, 63, 64, 65, 1000] {
            let (text, all) = stream(&bytes, step);
            assert_eq!(all, bytes, "step {step}");
            assert_eq!(text, String::from_utf8_lossy(&bytes), "step {step}");
        }
    }

    #[test]
    fn pieces_undo_how_the_vocabulary_writes() {
        let bytes = |text: &'static str, form| Piece::new(text.as_bytes(), form).collect::<Vec<u8>>();
        assert_eq!(bytes("ĠaĊ字", Form::ByteMap), " a\n字".as_bytes());
        assert_eq!(bytes("▁a▁▁", Form::SpaceMark), b" a  ");
        assert_eq!(bytes("\\n\\xe5\\xad\\x97\\'\\\\", Form::Escaped), "\n字'\\".as_bytes());
        assert_eq!(bytes("▁", Form::Plain), "▁".as_bytes());
        for text in [
            "Ġab",
            "ab",
            "",
            "▁▁a",
            "▁ab",
            "ab▁",
            "Ċ",
            "Ġ",
            "aĠ",
            "Ġé",
            "字",
            "aaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaa",
        ] {
            for form in [Form::Plain, Form::ByteMap, Form::SpaceMark, Form::Escaped] {
                let piece = Piece::new(text.as_bytes(), form);
                if let Some((number, n)) = at_once(form, text) {
                    assert_eq!(number.to_le_bytes()[..n], piece.collect::<Vec<_>>(), "{text} {form:?}");
                    assert_eq!(number.checked_shr(8 * n as u32), Some(0).filter(|_| n < 16));
                } else {
                    assert!(form == Form::Escaped || text.len() > 15 || !text.is_ascii(), "{text} {form:?}");
                }
            }
        }
        assert_eq!(Piece::byte(0xFE).collect::<Vec<_>>(), [0xFE]);
        assert_eq!(Piece::new("▁ a".as_bytes(), Form::SpaceMark).without_space().collect::<Vec<_>>(), b" a");
        assert_eq!(Piece::new(b"a", Form::SpaceMark).without_space().collect::<Vec<_>>(), b"a");
    }
}
