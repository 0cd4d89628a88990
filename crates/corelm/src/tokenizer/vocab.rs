//! The vocabulary: texts and types in place in the file, and the index from a text to its token.

use super::hash::{Budget, TextHash, probes};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, VocabFault};
use crate::gguf::{Array, Image, ValueType, limits};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";

/// What a token is for; numbers as in GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Whether merges may make the token out of text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Normal | Self::Unused)
    }
}

/// Texts, types and the index. About 10 bytes of arena for each token.
#[derive(Clone, Copy, Debug)]
pub struct Vocab<'a, 'm> {
    texts: Array<'m>,
    /// Little-endian i32s, checked when loading; all are `Normal` when absent.
    types: Option<&'m [u8]>,
    /// Where each token begins in `texts`.
    offsets: &'a [u32],
    /// Open addressing: `token + 1` in the low 21 bits and above them bits of the hash; 0 is free.
    slots: &'a [u32],
}

/// Bits of a slot for `token + 1`, which is at most 2^20.
const TOKEN_BITS: u32 = 21;

impl<'a, 'm> Vocab<'a, 'm> {
    /// Adds what [`Vocab::new`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Vocab::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        let n = tokens(image)?.len();
        Ok(layout.add::<u32>(n)?.add::<u32>(n_slots(n))?)
    }

    /// Checks the tokens of `image` and indexes them.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when tokens are absent, too many, too long, empty or alike, or types are not one for each.
    pub fn new(image: &Image<'m>, arena: &mut Arena<'a>) -> Result<Self, ModelError> {
        let texts = tokens(image)?;
        let n = texts.len();
        let types = token_types(image, n)?;
        let offsets = arena.alloc(n, 0u32)?;
        let slots = arena.alloc(n_slots(n), 0u32)?;
        let mut at = 0;
        for (offset, i) in offsets.iter_mut().zip(0u64..) {
            let bad = |fault| ModelError::BadVocab { fault, index: i };
            let (text, next) = texts.string_at(at).ok_or(bad(VocabFault::ArrayLength))?;
            limits::TOKEN_BYTES.check(text.len() as u64).map_err(|_| bad(VocabFault::TokenLength))?;
            if text.is_empty() {
                return Err(bad(VocabFault::EmptyToken));
            }
            *offset = u32::try_from(at).map_err(|_| bad(VocabFault::TokenLength))?;
            at = next;
        }
        let mut budget = Budget::new(n, texts.bytes().len());
        for (token, &offset) in (0..).zip(&*offsets) {
            let text = texts.string_at(offset as usize).unwrap_or_default().0;
            let view = Vocab { texts, types, offsets, slots };
            let (slot, tag) = view.free_slot(text, token, &mut budget)?;
            if let Some(slot) = slots.get_mut(slot) {
                *slot = tag | (token + 1);
            }
        }
        Ok(Self { texts, types, offsets, slots })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.offsets.len()
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
        let id = self.types.and_then(|types| type_at(types, token as usize));
        id.and_then(TokenKind::from_id).unwrap_or(TokenKind::Normal)
    }

    /// The token with exactly this text.
    pub fn find(&self, text: &[u8]) -> Option<Token> {
        self.find_by(TextHash::of(text.iter().copied()), |other| text == other)
    }

    /// The token with this hash whose text `is_same`.
    #[inline]
    pub fn find_by(&self, hash: TextHash, is_same: impl Fn(&[u8]) -> bool) -> Option<Token> {
        let mixed = hash.mixed();
        for i in probes(mixed, self.slots.len()) {
            let slot = *self.slots.get(i)?;
            let token = (slot & ((1 << TOKEN_BITS) - 1)).checked_sub(1)?;
            if slot >> TOKEN_BITS == tag(mixed) >> TOKEN_BITS && self.text(token).is_some_and(&is_same) {
                return Some(token);
            }
        }
        None
    }

    /// The slot for a new text, and its tag.
    fn free_slot(&self, text: &[u8], token: Token, budget: &mut Budget) -> Result<(usize, u32), ModelError> {
        let index = token as usize;
        let mixed = TextHash::of(text.iter().copied()).mixed();
        for i in probes(mixed, self.slots.len()) {
            budget.spend(1, index)?;
            let slot = self.slots.get(i).copied().unwrap_or_default();
            if slot == 0 {
                return Ok((i, tag(mixed)));
            }
            if slot >> TOKEN_BITS == tag(mixed) >> TOKEN_BITS {
                budget.spend(text.len() / 8, index)?;
                let other = (slot & ((1 << TOKEN_BITS) - 1)).wrapping_sub(1);
                if self.text(other) == Some(text) {
                    return Err(ModelError::BadVocab {
                        fault: VocabFault::DuplicateToken,
                        index: token.into(),
                    });
                }
            }
        }
        Err(ModelError::BadVocab { fault: VocabFault::Collisions, index: token.into() })
    }
}

/// The bits of a hash that a slot keeps, in their place. The high half chose the slot.
fn tag(mixed: u64) -> u32 {
    (mixed as u32) & !((1 << TOKEN_BITS) - 1)
}

/// Two thirds full at most.
fn n_slots(n_tokens: usize) -> usize {
    n_tokens.saturating_add(n_tokens / 2).saturating_add(1)
}

pub(super) fn tokens<'m>(image: &Image<'m>) -> Result<Array<'m>, ModelError> {
    let array = image.array(TOKENS, ValueType::String)?.ok_or(ModelError::MissingKey { key: TOKENS })?;
    limits::VOCAB.check(array.len() as u64)?;
    Ok(array)
}

fn token_types<'m>(image: &Image<'m>, n_tokens: usize) -> Result<Option<&'m [u8]>, ModelError> {
    let Some(array) = image.array(TOKEN_TYPES, ValueType::I32)? else { return Ok(None) };
    let bad = |fault, index: usize| ModelError::BadVocab { fault, index: index as u64 };
    if array.len() != n_tokens {
        return Err(bad(VocabFault::ArrayLength, array.len()));
    }
    let types = array.bytes();
    match (0..n_tokens).find(|&i| type_at(types, i).and_then(TokenKind::from_id).is_none()) {
        Some(i) => Err(bad(VocabFault::TokenType, i)),
        None => Ok(Some(types)),
    }
}

fn type_at(types: &[u8], i: usize) -> Option<u32> {
    types.get(i.checked_mul(4)?..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}
