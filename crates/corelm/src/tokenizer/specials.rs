//! The search for tokens that stand in the text as a whole: user-defined ones always, control tokens when the caller
//! says so.
//!
//! Longer tokens go first, in all of the text, as in llama.cpp; of equally long ones the first in the text, where llama.cpp has
//! an order of its own that shows only where such tokens overlap.

use super::hash::TextHash;
use super::prompt::Contents;
use super::vocab::{TokenKind, Vocab};
use crate::Token;
use crate::error::ModelError;
use crate::gguf::{Image, limits::Limit};

/// Bounds the work at each byte of a text.
const MAX_BYTES: Limit = Limit { what: "bytes of a control or user-defined token", max: 255 };

/// Which control tokens a text may contain. User-defined tokens are text, not control, and always found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials<'t> {
    /// None: whatever the text says, it stays text. For everything that users and files bring.
    Never,
    /// All of them. For prompts that the program itself wrote.
    All,
    /// These.
    Only(&'t [Token]),
    /// All of them, but none that a byte of content belongs to: see [`Prompt`](super::Prompt).
    Outside(Contents<'t>),
}

impl Specials<'_> {
    /// Whether a token of this kind may be anywhere in a text.
    fn knows(kind: TokenKind) -> bool {
        matches!(kind, TokenKind::UserDefined | TokenKind::Control | TokenKind::Unknown)
    }

    /// Whether `token` may be what the text says at `start`.
    fn allows(self, token: Token, kind: TokenKind, start: usize, name: &[u8]) -> bool {
        let touches = |contents: Contents<'_>| contents.touches(start, start.saturating_add(name.len()));
        match (kind, self) {
            (TokenKind::UserDefined, Self::Outside(contents)) => {
                !touches(contents) || !contents.is_markup(name)
            }
            (TokenKind::UserDefined, _) | (TokenKind::Control | TokenKind::Unknown, Self::All) => true,
            (TokenKind::Control | TokenKind::Unknown, Self::Only(tokens)) => tokens.contains(&token),
            (TokenKind::Control | TokenKind::Unknown, Self::Outside(contents)) => !touches(contents),
            _ => false,
        }
    }
}

/// What narrows the search: how such tokens begin and how long they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpecialIndex {
    user_defined: Shape,
    all: Shape,
    /// Phi-3: white space behind such a token belongs to it, but for the tokens of [`KEEPS_SPACE`].
    takes_space: bool,
}

const KEEPS_SPACE: [&[u8]; 3] = [b"<unk>", b"<s>", b"<|endoftext|>"];

/// Sets of first bytes, of second ones and of lengths.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    first: ByteSet,
    /// The first bytes one by one, if they are no more.
    few: Option<[u8; FEW]>,
    /// What follows them.
    second: ByteSet,
    lengths: ByteSet,
}

const FEW: usize = 3;
/// Bytes of text that are looked at together.
const CHUNK: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    #[inline]
    fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }

    /// All that is in it, some of it more than once; `None` when it is empty or that is more than fits.
    fn few(&self) -> Option<[u8; FEW]> {
        let mut bytes = (0..=u8::MAX).filter(|&byte| self.contains(byte));
        let mut few = [bytes.next()?; FEW];
        for (slot, byte) in few.iter_mut().skip(1).zip(&mut bytes) {
            *slot = byte;
        }
        bytes.next().is_none().then_some(few)
    }

    fn max(&self) -> u8 {
        let top = |(i, bits): (usize, &u64)| Some((i as u8) << 6 | bits.checked_ilog2()? as u8);
        self.0.iter().enumerate().rev().find_map(top).unwrap_or(0)
    }
}

/// In a mark: a token begins here.
const BEGINS: u16 = 1 << 15;
/// In a mark: a token lies here.
const TAKEN: u16 = 1 << 14;
/// In a mark: bytes of the token that begins, or might begin, here.
const LENGTH: u16 = 0xFF;

/// A token found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it begins.
    pub start: usize,
    /// Where the text goes on.
    pub end: usize,
    /// The token.
    pub token: Token,
}

impl SpecialIndex {
    /// Looks through a vocabulary.
    ///
    /// # Errors
    ///
    /// [`ModelError::Limit`] when such a token is too long, [`ModelError::WrongType`] for a name that is no string.
    pub fn new(image: &Image<'_>, vocab: &Vocab<'_, '_>) -> Result<Self, ModelError> {
        let name = image.bytes("general.name")?.unwrap_or_default();
        let has = |part: &[u8]| name.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part));
        let mut index = Self { takes_space: has(b"phi-3") || has(b"phi3"), ..Self::default() };
        for (token, kind) in vocab.kinds().filter(|&(_, kind)| Specials::knows(kind)) {
            let text = vocab.text(token).unwrap_or_default();
            MAX_BYTES.check(text.len() as u64)?;
            index.all.insert(text);
            if kind == TokenKind::UserDefined {
                index.user_defined.insert(text);
            }
        }
        Ok(index)
    }

    /// Bytes of `text` of which is certain, whatever follows, where in them such tokens lie.
    pub fn n_certain(&self, vocab: &Vocab<'_, '_>, text: &[u8], specials: Specials<'_>) -> usize {
        let search = self.search(vocab, text, specials);
        // Tokens that begin before are in the text whole; none of them may reach beyond.
        let mut end = text.len().saturating_sub(search.max.saturating_sub(1));
        let mut at = end;
        while let Some(before) = at.checked_sub(1).filter(|&at| at.saturating_add(search.max) > end) {
            at = before;
            if at.saturating_add(search.longest(at, search.max).into()) > end {
                end = at;
            }
        }
        end
    }

    fn search<'s, 'a, 'm>(
        &'s self,
        vocab: &'s Vocab<'a, 'm>,
        text: &'s [u8],
        specials: Specials<'s>,
    ) -> Search<'s, 'a, 'm> {
        let shape = match specials {
            Specials::Never => &self.user_defined,
            _ => &self.all,
        };
        Search { vocab, text, specials, shape, max: usize::from(shape.lengths.max()) }
    }

    /// Writes into `marks`, one for each byte of `text`, where tokens lie; false when there is none and `marks` mean
    /// nothing.
    ///
    /// Work at a byte is bounded by the longest such token, whatever the text.
    pub fn mark(
        &self,
        vocab: &Vocab<'_, '_>,
        text: &[u8],
        specials: Specials<'_>,
        marks: &mut [u16],
    ) -> bool {
        let search = self.search(vocab, text, specials);
        let (mut lengths, mut n_written) = (ByteSet::default(), 0);
        for (at, len) in search.candidates() {
            if let Some([between @ .., mark]) = marks.get_mut(n_written..=at) {
                between.fill(0);
                *mark = len.into();
            }
            lengths.insert(len);
            n_written = at.wrapping_add(1); // at most the length of the text
        }
        if n_written == 0 {
            return false;
        }
        marks.get_mut(n_written..).unwrap_or_default().fill(0);
        let mut found = false;
        for len in (1..=lengths.max()).rev() {
            if lengths.contains(len) {
                found |= search.take(len, marks, &mut lengths);
            }
        }
        found
    }

    /// The next marked token at or behind `from`.
    pub fn next(&self, vocab: &Vocab<'_, '_>, text: &[u8], marks: &[u16], from: usize) -> Option<Found> {
        let marks = marks.get(from..text.len())?;
        let (skipped, found) = marks.split_at_checked(marks.iter().position(|mark| mark & BEGINS != 0)?)?;
        let len = usize::from(found.first()? & LENGTH);
        let start = from.checked_add(skipped.len())?;
        let mut end = start.checked_add(len)?;
        let name = text.get(start..end)?;
        if self.takes_space && !KEEPS_SPACE.contains(&name) {
            let behind = text.get(end..)?.iter().zip(found.get(len..)?);
            let is_white =
                |&(byte, mark): &(&u8, &u16)| matches!(byte, b' ' | b'\t'..=b'\r') && mark & TAKEN == 0;
            end = end.checked_add(behind.take_while(is_white).count())?;
        }
        Some(Found { start, end, token: vocab.find(name)? })
    }
}

impl Shape {
    fn insert(&mut self, token: &[u8]) {
        let Some((&first, behind)) = token.split_first() else { return };
        self.lengths.insert(u8::try_from(token.len()).unwrap_or_default());
        behind.first().into_iter().for_each(|&second| self.second.insert(second));
        if !self.first.contains(first) {
            self.first.insert(first);
            self.few = self.first.few();
        }
    }

    /// Whether one of a few bytes may be the first of a token. Most texts are passed over so, many bytes at a time.
    #[inline]
    fn may_begin_in(&self, bytes: &[u8]) -> bool {
        let Some(few) = self.few else { return true };
        let begins = |byte: u8| few.iter().fold(0, |any, &first| any | u8::from(byte == first));
        bytes.iter().fold(0, |any, &byte| any | begins(byte)) != 0
    }
}

struct Search<'s, 'a, 'm> {
    vocab: &'s Vocab<'a, 'm>,
    text: &'s [u8],
    specials: Specials<'s>,
    shape: &'s Shape,
    max: usize,
}

impl Search<'_, '_, '_> {
    /// Where such tokens begin, with the bytes of the longest one, from left to right.
    fn candidates(&self) -> impl Iterator<Item = (usize, u8)> {
        let n = self.text.len();
        let chunks = (0..n).step_by(CHUNK).zip(self.text.chunks(CHUNK));
        let chunks = chunks.filter(|(_, chunk)| self.max > 0 && self.shape.may_begin_in(chunk));
        let bytes = chunks.flat_map(move |(at, chunk)| (at..n).zip(chunk));
        let begins = bytes.filter(|&(at, &byte)| self.shape.first.contains(byte) && self.goes_on(at));
        begins.map(|(at, _)| (at, self.longest(at, self.max))).filter(|&(_, len)| len > 0)
    }

    /// Whether a token whose first byte is at `at` might have the next one, or end before.
    fn goes_on(&self, at: usize) -> bool {
        let next = self.text.get(at.wrapping_add(1)); // at most the length of the text
        self.shape.lengths.contains(1) || next.is_some_and(|&byte| self.shape.second.contains(byte))
    }

    /// Bytes of the longest token at `at` of at most `max` bytes; 0 when there is none.
    #[inline]
    fn longest(&self, at: usize, max: usize) -> u8 {
        let rest = self.text.get(at..).unwrap_or_default();
        let (mut hash, mut longest) = (TextHash::default(), 0);
        for (len, &byte) in (1..=u8::MAX).zip(rest.iter().take(max)) {
            hash = hash.push(byte);
            if self.shape.lengths.contains(len) {
                let text = rest.get(..len.into()).unwrap_or_default();
                let token = self.vocab.find_by(hash, |other| other == text);
                let allows = |token| self.specials.allows(token, self.vocab.kind(token), at, text);
                if token.is_some_and(allows) {
                    longest = len;
                }
            }
        }
        longest
    }

    /// Takes the tokens of `len` bytes, from left to right, that overlap none taken before. Where one does, the next
    /// shorter token that fits becomes the candidate.
    fn take(&self, len: u8, marks: &mut [u16], lengths: &mut ByteSet) -> bool {
        let mut found = false;
        for at in 0..self.text.len() {
            let candidate =
                marks.get(at).is_some_and(|mark| mark & !LENGTH == 0 && mark & LENGTH == u16::from(len));
            let span = marks.get_mut(at..).and_then(|m| m.get_mut(..len.into())).unwrap_or_default();
            if !candidate {
                continue;
            }
            match span.iter().position(|mark| mark & TAKEN != 0) {
                None => {
                    span.iter_mut().for_each(|mark| *mark |= TAKEN);
                    if let Some(first) = span.first_mut() {
                        *first |= BEGINS;
                    }
                    found = true;
                }
                Some(room) => {
                    let shorter = self.longest(at, room);
                    if let Some(first) = span.first_mut() {
                        *first = shorter.into();
                    }
                    lengths.insert(shorter);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bytes_are_listed() {
        let mut set = ByteSet::default();
        assert_eq!(set.few(), None);
        set.insert(b'<');
        assert_eq!(set.few(), Some([b'<'; FEW]));
        (b'a'..).take(FEW - 1).for_each(|byte| set.insert(byte));
        assert_eq!(set.few(), Some([b'<', b'a', b'b']));
        set.insert(b'c');
        assert_eq!(set.few(), None);
    }

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        let (mut set, bytes) = (ByteSet::default(), [3, 64, 0, 191, 63, 255, 128]);
        for n in 0..=bytes.len() {
            let put_in = bytes.get(..n).unwrap();
            assert!((0..=u8::MAX).all(|byte| set.contains(byte) == put_in.contains(&byte)), "{put_in:?}");
            assert_eq!(set.max(), put_in.iter().copied().max().unwrap_or(0));
            bytes.get(n).into_iter().for_each(|&byte| set.insert(byte));
        }
    }
}
