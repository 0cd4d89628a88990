//! The vocabulary: texts and types in place in the file, and the index from a text to its token.

use super::hash::{Budget, TextHash};
use super::short::{Short, is_same};
use super::slots::{Slots, SlotsMut};
use super::tables::{Lines, Tables};
use super::{NO_TOKEN, names};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, VocabFault};
use crate::gguf::writer::WriteError;
use crate::gguf::{Array, Image, ValueType, limits};

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(super) const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";

/// What a token is for; numbers as in GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// Stands for text that has no token.
    Unknown = 2,
    /// Steers the model; text never becomes one unless the caller asks for it.
    Control = 3,
    /// A text that is always one token, wherever it stands.
    UserDefined = 4,
    /// Not used in training; else as `Normal`.
    Unused = 5,
    /// A single byte, for text that has no token of its own (SentencePiece).
    Byte = 6,
}

impl TokenKind {
    fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// Of a number that was checked.
    #[inline]
    fn of(number: u8) -> Self {
        Self::from_id(number.into()).unwrap_or(Self::Normal)
    }

    /// Whether merges may make the token out of text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Normal | Self::Unused)
    }
}

/// Texts, kinds and the index. About 11 bytes of arena for each token.
#[derive(Clone, Copy, Debug)]
pub struct Vocab<'a, 'm> {
    texts: Array<'m>,
    /// Numbers as in GGUF.
    kinds: &'a [u8],
    /// Where each token begins in `texts`.
    offsets: &'a [u32],
    slots: Slots<'a>,
}

impl<'a, 'm> Vocab<'a, 'm> {
    /// Adds what [`Vocab::new`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Vocab::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        let n = tokens(image)?.len();
        Ok(layout.add::<u8>(n)?.add::<u32>(n)?.add::<u32>(Slots::len_for(n))?)
    }

    /// Checks the tokens of `image` and indexes them.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when tokens are absent, too many, too long, empty or alike, or types are not one for each.
    pub fn new(image: &Image<'m>, arena: &mut Arena<'a>) -> Result<Self, ModelError> {
        let texts = tokens(image)?;
        let n = texts.len();
        let kinds = arena.alloc(n, TokenKind::Normal as u8)?;
        read_kinds(image, kinds)?;
        let offsets = arena.alloc(n, 0u32)?;
        let mut slots = SlotsMut::new(n, arena)?;
        let mut budget = Budget::new(n, texts.bytes().len());
        let text_at = |offset: u32| texts.string_at(offset as usize).unwrap_or_default().0;
        let mut at = 0;
        for token in 0..n as Token {
            let bad = |fault| ModelError::BadVocab { fault, index: token.into() };
            let (text, next) = texts.string_at(at).ok_or(bad(VocabFault::ArrayLength))?;
            check_text(text, token.into())?;
            if let Some(offset) = offsets.get_mut(token as usize) {
                *offset = u32::try_from(at).map_err(|_| bad(VocabFault::TokenLength))?;
            }
            at = next;
            let is_same =
                |other: Token| offsets.get(other as usize).is_some_and(|&at| is_same(text_at(at), text));
            if !slots.insert(TextHash::of_bytes(text), token, text.len(), &mut budget, is_same)? {
                return Err(bad(VocabFault::DuplicateToken));
            }
        }
        let slots = slots.finish();
        for text in names::all() {
            let token = Vocab { texts, kinds, offsets, slots }.find(text.as_bytes());
            if let Some(kind) = token.and_then(|token| kinds.get_mut(token as usize)) {
                *kind = TokenKind::Control as u8;
            }
        }
        Ok(Self { texts, kinds, offsets, slots })
    }

    /// Checks the tokens of `image`, of which an index is ready.
    ///
    /// # Errors
    ///
    /// As [`Vocab::new`], but that tokens may be alike: the first of them that the index finds is taken then.
    /// [`VocabFault::Index`] when the index says other than the file of where tokens are and of what kinds.
    pub fn found(image: &Image<'m>, tables: &mut Tables<'m>) -> Result<Self, ModelError>
    where
        'm: 'a,
    {
        let texts = tokens(image)?;
        let n = texts.len();
        let (kinds, offsets) = (tables.take(n, |_| true)?, tables.take(n, |_| true)?);
        let slots = Slots::found(tables.take(Slots::len_for(n), |_| true)?);
        let types = types(image, n)?;
        let mut types = types.map(|types| types.bytes().as_chunks().0).unwrap_or_default().iter();
        let mut at = 0;
        for ((&kind, &offset), index) in kinds.iter().zip(offsets).zip(0..n as u64) {
            let bad = |fault| ModelError::BadVocab { fault, index };
            let (text, next) = texts.string_at(at).ok_or(bad(VocabFault::ArrayLength))?;
            check_text(text, index)?;
            let ty = types.next().map_or(TokenKind::Normal as u32, |id| u32::from_le_bytes(*id));
            // What the names say goes before.
            let ty = if names::is_known(text) { TokenKind::Control as u32 } else { ty };
            if offset as usize != at || u32::from(kind) != ty || TokenKind::from_id(ty).is_none() {
                return Err(bad(VocabFault::Index));
            }
            at = next;
        }
        Ok(Self { texts, kinds, offsets, slots })
    }

    /// Gives the tables that [`Vocab::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        &self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        to.table(self.kinds.iter().map(|&kind| [kind]))?;
        to.table(self.offsets.iter().map(|offset| offset.to_le_bytes()))?;
        to.table(self.slots.numbers().iter().map(|slot| slot.to_le_bytes()))
    }

    /// Whether text may become a token, or none at all: what tables have for the token of something.
    pub fn is_text_or_none(&self, token: Token) -> bool {
        token == NO_TOKEN || self.is_text(token)
    }

    /// Whether there is such a token, and merges may make it out of text.
    pub fn is_text(&self, token: Token) -> bool {
        (token as usize) < self.len() && self.kind(token).is_text()
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of all texts together.
    pub fn n_bytes(&self) -> usize {
        n_text_bytes(self.texts)
    }

    /// All tokens and their texts.
    pub fn tokens(&self) -> impl Iterator<Item = (Token, &'m [u8])> + use<'m> {
        (0..self.len() as Token).zip(self.texts.strings()) // tokens are below 2^20
    }

    /// All tokens and what they are for.
    pub fn kinds(&self) -> impl Iterator<Item = (Token, TokenKind)> + use<'a> {
        (0..self.len() as Token).zip(self.kinds.iter().map(|&kind| TokenKind::of(kind)))
    }

    /// All texts, in the order of the tokens.
    pub fn texts(&self) -> Array<'m> {
        self.texts
    }

    /// The text of a token as it stands in the file.
    #[inline]
    pub fn text(&self, token: Token) -> Option<&'m [u8]> {
        self.texts.string_at(*self.offsets.get(token as usize)? as usize).map(|(text, _)| text)
    }

    /// What a token is for.
    #[inline]
    pub fn kind(&self, token: Token) -> TokenKind {
        self.kinds.get(token as usize).map_or(TokenKind::Normal, |&kind| TokenKind::of(kind))
    }

    /// The token with exactly this text.
    pub fn find(&self, text: &[u8]) -> Option<Token> {
        self.find_hashed(TextHash::of_bytes(text), text)
    }

    /// The same of a text whose hash is known.
    #[inline]
    pub fn find_hashed(&self, hash: TextHash, text: &[u8]) -> Option<Token> {
        self.find_by(hash, |other| is_same(text, other))
    }

    /// Looks where [`Vocab::find_hashed`] will look first, so that it need not wait for memory: processors wait for many
    /// such looks at once. What it gives has no meaning.
    #[inline]
    pub fn touch(&self, hash: TextHash) -> u8 {
        let offset = self.slots.first(hash).and_then(|token| self.offsets.get(token as usize));
        offset.and_then(|&at| self.texts.bytes().get(at as usize)).copied().unwrap_or_default()
    }

    /// The same of a short text.
    pub fn find_short(&self, text: Short) -> Option<Token> {
        let (bytes, len) = text.bytes();
        let hash = TextHash::of(bytes.to_le_bytes().into_iter().take(len));
        self.slots.find(hash, |token| self.short_text(token) == Some(text))
    }

    /// The text of a token that has few bytes.
    #[inline]
    pub fn short_text(&self, token: Token) -> Option<Short> {
        let at = *self.offsets.get(token as usize)? as usize;
        let (len, text) = self.texts.bytes().get(at..)?.split_first_chunk()?;
        Short::new(text, usize::try_from(u64::from_le_bytes(*len)).ok()?)
    }

    /// The token with this hash whose text `is_same`.
    #[inline]
    pub fn find_by(&self, hash: TextHash, is_same: impl Fn(&[u8]) -> bool) -> Option<Token> {
        self.slots.find(hash, |token| self.text(token).is_some_and(&is_same))
    }
}

/// Bytes of all texts together.
pub(super) fn n_text_bytes(texts: Array<'_>) -> usize {
    const LENGTH_BYTES: usize = 8; // before each in the file
    texts.bytes().len().saturating_sub(texts.len().saturating_mul(LENGTH_BYTES))
}

pub(super) fn tokens<'m>(image: &Image<'m>) -> Result<Array<'m>, ModelError> {
    let array = image.array(TOKENS, ValueType::String)?.ok_or(ModelError::MissingKey { key: TOKENS })?;
    limits::VOCAB.check(array.len() as u64)?;
    Ok(array)
}

/// Types of `n` tokens, if there are any.
fn types<'m>(image: &Image<'m>, n: usize) -> Result<Option<Array<'m>>, ModelError> {
    match image.array(TOKEN_TYPES, ValueType::I32)? {
        Some(types) if types.len() != n => {
            Err(ModelError::BadVocab { fault: VocabFault::ArrayLength, index: types.len() as u64 })
        }
        types => Ok(types),
    }
}

fn check_text(text: &[u8], index: u64) -> Result<(), ModelError> {
    let bad = |fault| ModelError::BadVocab { fault, index };
    limits::TOKEN_BYTES.check(text.len() as u64).map_err(|_| bad(VocabFault::TokenLength))?;
    if text.is_empty() { Err(bad(VocabFault::EmptyToken)) } else { Ok(()) }
}

/// All are `Normal` when the file says nothing.
fn read_kinds(image: &Image<'_>, kinds: &mut [u8]) -> Result<(), ModelError> {
    let Some(types) = types(image, kinds.len())? else { return Ok(()) };
    let bad = |fault, index| ModelError::BadVocab { fault, index };
    for ((kind, id), index) in kinds.iter_mut().zip(types.bytes().as_chunks().0).zip(0..types.len() as u64) {
        let id = u32::from_le_bytes(*id);
        *kind = TokenKind::from_id(id).ok_or(bad(VocabFault::TokenType, index))? as u8;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::gguf::writer::Writer;
    use crate::tokenizer::hash::first_slot;
    use core::mem::MaybeUninit;
    use std::vec;
    use std::vec::Vec;

    fn load(texts: &[Vec<u8>]) -> Result<(), ModelError> {
        let mut file = vec![0; 1 << 16];
        let mut writer = Writer::new(&mut file[..], 1, 0).unwrap();
        writer.strings(TOKENS, texts.iter()).unwrap();
        let left = writer.finish().unwrap().len();
        let image = Image::parse(&file[..(1 << 16) - left])?;
        let mut region = vec![MaybeUninit::uninit(); Vocab::layout(&image, Layout::new())?.bytes()];
        let vocab = Vocab::new(&image, &mut Arena::new(&mut region))?;
        assert!((0..).zip(texts).all(|(token, text)| vocab.find(text) == Some(token)));
        Ok(())
    }

    /// Texts chosen for the slots they want: a hundred of them in a row are indexed, thousands are refused.
    #[test]
    fn texts_made_to_collide_are_refused() {
        let wants_first_slots =
            |text: &Vec<u8>| first_slot(TextHash::of_bytes(text).mixed(), Slots::len_for(3000)) < 20;
        let texts: Vec<Vec<u8>> =
            (0u32..).map(|i| i.to_le_bytes().to_vec()).filter(wants_first_slots).take(3000).collect();
        assert_eq!(load(&texts[..100]), Ok(()));
        let Err(ModelError::BadVocab { fault: VocabFault::Collisions, index }) = load(&texts) else {
            panic!()
        };
        assert!((300..1100).contains(&index), "{index}");
    }
}
