//! Normalization before a unigram model: replacements by the file's map, and spaces as U+2581.

use super::charsmap::Charsmap;
use crate::arena::{Arena, Layout};
use crate::error::ModelError;
use crate::gguf::{Image, ValueType};
use crate::tokenizer::hash::{Budget, TextHash};
use crate::tokenizer::sentence_piece::SPACE;
use crate::tokenizer::slots::{Slots, SlotsMut};
use crate::tokenizer::unicode::is_continuation;
use crate::tokenizer::vocab::{self, TokenKind, Vocab};

/// U+FFFD, for a byte that is no part of a character.
const REPLACEMENT: [u8; 3] = [0xEF, 0xBF, 0xBD];

/// The normalizer of a vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Normalizer<'a, 'm> {
    charsmap: Option<Charsmap<'m>>,
    /// All beginnings of user-defined tokens. Text that is one passes as it is.
    user_defined: Slots<'a>,
    growth: usize,
    adds_space: bool,
    merges_spaces: bool,
}

impl<'a, 'm> Normalizer<'a, 'm> {
    /// Adds what [`Normalizer::new`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Normalizer::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        Ok(layout.add::<u32>(Slots::len_for(n_user_defined_bytes(image)?))?)
    }

    /// Reads the map and the options, and indexes the beginnings of user-defined tokens.
    ///
    /// # Errors
    ///
    /// Those of [`Charsmap::new`] and of keys with values of another type; [`ModelError::BadVocab`] when beginnings
    /// were made to collide.
    pub fn new(image: &Image<'m>, vocab: &Vocab<'a, 'm>, arena: &mut Arena<'a>) -> Result<Self, ModelError> {
        let n_bytes = n_user_defined_bytes(image)?;
        let mut slots = SlotsMut::new(n_bytes, arena)?;
        let mut budget = Budget::new(n_bytes, n_bytes);
        let mut is_ascii = true;
        for (token, text) in vocab.tokens() {
            if vocab.kind(token) != TokenKind::UserDefined {
                continue;
            }
            is_ascii &= text.is_ascii();
            let mut hash = TextHash::default();
            for (len, &byte) in (1..=text.len()).zip(text) {
                hash = hash.push(byte);
                slots.insert(hash, token, len, &mut budget, |other| begins(vocab, other, text.get(..len)))?;
            }
        }
        let charsmap = Charsmap::new(image)?;
        Ok(Self {
            charsmap,
            user_defined: slots.finish(),
            growth: growth(charsmap, is_ascii),
            adds_space: image.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(false),
            merges_spaces: image.bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false),
        })
    }

    /// Whether a space goes before a text.
    pub fn adds_space(&self) -> bool {
        self.adds_space
    }

    /// Characters that a byte of text can become, one before all of it apart.
    pub fn growth(&self) -> usize {
        self.growth
    }

    /// The bytes of the normalized text.
    pub fn run<'t>(&'t self, vocab: &'t Vocab<'t, 't>, text: &'t [u8]) -> Normalized<'t> {
        Normalized {
            normalizer: *self,
            vocab,
            rest: text,
            part: &[],
            part_len: 0,
            space: &[],
            is_added: false,
            in_word: false,
            has_begun: false,
        }
    }

    /// Where the bytes of the normalized text come from.
    pub fn source<'t>(&'t self, vocab: &'t Vocab<'t, 't>, text: &'t [u8]) -> Source<'t> {
        Source { normalized: self.run(vocab, text), text_bytes: text.len(), end: 0 }
    }

    /// What a text begins with, normalized, and how many bytes that were: at least one.
    fn first<'t>(&self, vocab: &Vocab<'_, '_>, text: &'t [u8]) -> (&'t [u8], usize)
    where
        'm: 't,
    {
        let whole = |len: usize| (text.get(..len).unwrap_or(text), len.max(1));
        match self.user_defined_len(vocab, text) {
            0 => {}
            len => return whole(len),
        }
        if let Some((len, replacement)) = self.charsmap.and_then(|map| map.longest(text)) {
            return (replacement, len.max(1));
        }
        match lenient_char_len(text) {
            Some(len) => whole(len),
            None => (&REPLACEMENT, 1),
        }
    }

    /// Bytes of the longest beginning of a user-defined token, be it all of it or not, that `text` begins with.
    fn user_defined_len(&self, vocab: &Vocab<'_, '_>, text: &[u8]) -> usize {
        let mut hash = TextHash::default();
        let mut begins_one = |(len, &byte): (usize, &u8)| {
            hash = hash.push(byte);
            self.user_defined.find(hash, |token| begins(vocab, token, text.get(..len))).is_some()
        };
        (1..=text.len()).zip(text).take_while(|&part| begins_one(part)).last().map_or(0, |(len, _)| len)
    }
}

/// The bytes of a normalized text, one by one.
#[derive(Clone, Debug)]
pub struct Normalized<'t> {
    normalizer: Normalizer<'t, 't>,
    vocab: &'t Vocab<'t, 't>,
    rest: &'t [u8],
    /// What is left of the last part, with spaces still spaces.
    part: &'t [u8],
    /// Bytes of the text that it came of.
    part_len: usize,
    /// What is left of U+2581.
    space: &'static [u8],
    /// It stands for no byte of the part: what it goes before is all there still.
    is_added: bool,
    in_word: bool,
    /// A space was put before a word.
    has_begun: bool,
}

impl Iterator for Normalized<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        loop {
            if let Some((&byte, rest)) = self.space.split_first() {
                self.space = rest;
                return Some(byte);
            }
            let Some((&byte, part)) = self.part.split_first() else {
                if self.rest.is_empty() {
                    return None;
                }
                (self.part, self.part_len) = self.normalizer.first(self.vocab, self.rest);
                self.rest = self.rest.get(self.part_len..).unwrap_or_default();
                continue;
            };
            let merges = self.normalizer.merges_spaces;
            if byte == b' ' {
                self.part = part;
                (self.in_word, self.is_added) = (false, false);
                self.space = if merges { &[] } else { &SPACE };
                continue;
            }
            if !self.in_word {
                self.in_word = true;
                if merges || (self.normalizer.adds_space && !self.has_begun) {
                    (self.has_begun, self.is_added) = (true, true);
                    self.space = &SPACE;
                    continue;
                }
            }
            (self.part, self.is_added) = (part, false);
            return Some(byte);
        }
    }
}

/// The text that a normalized text is made of, part by part.
pub struct Source<'t> {
    normalized: Normalized<'t>,
    text_bytes: usize,
    /// Of the last part taken.
    end: usize,
}

impl Source<'_> {
    /// Where in the text the next `n` normalized bytes come from. Spaces that became one belong to it; one inside a
    /// replacement comes from where all of that does.
    pub fn take(&mut self, n: usize) -> (usize, usize) {
        let mut start = None;
        for _ in 0..n {
            if self.normalized.next().is_none() {
                break;
            }
            let end = self.text_bytes.saturating_sub(self.normalized.rest.len());
            let begin = end.saturating_sub(self.normalized.part_len);
            let is_added = self.normalized.is_added;
            let follows_spaces = is_added && self.end > 0 && self.normalized.normalizer.merges_spaces;
            start = start.or(Some(if follows_spaces { self.end.min(begin) } else { begin }));
            self.end = self.end.max(if is_added { begin } else { end });
        }
        (start.unwrap_or(self.end), self.end)
    }
}

/// Whether the text of a token begins with `part`.
fn begins(vocab: &Vocab<'_, '_>, token: u32, part: Option<&[u8]>) -> bool {
    let text = vocab.text(token).unwrap_or_default();
    part.is_some_and(|part| text.starts_with(part))
}

/// Characters that a byte of text can become.
///
/// A byte becomes one at most when all parts of a normalized text are whole characters. The map can say otherwise, and so
/// can a user-defined token when its beginning cuts a character: then count bytes, of which a space has three and a byte
/// that is no part of a character, too.
fn growth(charsmap: Option<Charsmap<'_>>, is_ascii: bool) -> usize {
    let is_whole = is_ascii && charsmap.is_none_or(|map| map.is_utf8());
    let (least, of_space) = if is_whole { (1, 1) } else { (3, 3) };
    let counts = |byte: &u8| !is_whole || !(0x80..0xC0).contains(byte);
    let count = |text: &[u8]| {
        let weigh = |byte: &u8| if *byte == b' ' { of_space } else { 1 };
        text.iter().filter(|byte| counts(byte)).map(weigh).fold(0, usize::saturating_add)
    };
    charsmap.map_or(least, |map| map.growth(count).max(least))
}

/// Bytes of the character that `text` begins with, if the right number of continuation bytes follows the first one.
fn lenient_char_len(text: &[u8]) -> Option<usize> {
    let len = match text.first()? {
        0..0x80 => 1,
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0..0xF8 => 4,
        _ => return None,
    };
    text.get(1..len)?.iter().all(|&byte| is_continuation(byte)).then_some(len)
}

/// Bytes of all tokens that the file calls user-defined.
fn n_user_defined_bytes(image: &Image<'_>) -> Result<usize, ModelError> {
    let Some(types) = image.array(vocab::TOKEN_TYPES, ValueType::I32)? else { return Ok(0) };
    let user_defined = (TokenKind::UserDefined as u32).to_le_bytes();
    let types = types.bytes().as_chunks().0.iter();
    let texts = vocab::tokens(image)?.strings().zip(types).filter(|(_, ty)| **ty == user_defined);
    Ok(texts.map(|(text, _)| text.len()).fold(0, usize::saturating_add))
}
