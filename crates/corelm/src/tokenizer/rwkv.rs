//! RWKV's tokenizer: the longest token that the rest of the text begins with, again and again.
//!
//! A file writes the bytes of a token with escapes, as Python writes byte strings: `\n`, `\\`, `\xe4`.

use super::encoder::Part;
use super::hash::{Budget, TextHash};
use super::output::Output;
use super::prefixes::Prefixes;
use super::slots::{Slots, SlotsMut};
use super::vocab::{self, TokenKind, Vocab};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, TokenizeError};
use crate::gguf::Image;

/// What encodes text into the tokens of an RWKV vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Rwkv<'a> {
    /// By unescaped text.
    slots: Slots<'a>,
    prefixes: Prefixes<'a>,
    unknown: Option<Token>,
}

impl<'a> Rwkv<'a> {
    /// Adds what [`Rwkv::new`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Rwkv::new`], as far as counts tell.
    pub fn layout(image: &Image<'_>, layout: Layout) -> Result<Layout, ModelError> {
        let texts = vocab::tokens(image)?;
        let layout = layout.add::<u32>(Slots::len_for(texts.len()))?;
        Ok(Prefixes::layout(vocab::n_text_bytes(texts), layout)?)
    }

    /// Indexes all tokens but control tokens, which text never becomes, by the bytes that they stand for; of those that
    /// stand for the same the last counts.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when tokens are too long, or were made to collide.
    pub fn new(
        vocab: &Vocab<'a, '_>,
        unknown: Option<Token>,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ModelError> {
        let mut slots = SlotsMut::new(vocab.len(), arena)?;
        let mut budget = Budget::new(vocab.len(), vocab.n_bytes());
        for token in (0..vocab.len()).rev() {
            let token = token as Token; // below 2^20
            let text = vocab.text(token).unwrap_or_default();
            if is_found(vocab.kind(token)) {
                let hash = TextHash::of(Unescaped(text));
                let is_same =
                    |other| vocab.text(other).is_some_and(|other| Unescaped(other).eq(Unescaped(text)));
                slots.insert(hash, token, text.len(), &mut budget, is_same)?;
            }
        }
        let prefixes = Prefixes::new(vocab, arena, is_found, Unescaped)?;
        let unknown = unknown.filter(|&token| is_found(vocab.kind(token)));
        Ok(Self { slots: slots.finish(), prefixes, unknown })
    }

    /// Encodes text without special tokens in it; adds the bytes it looked at to `steps`.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::NoToken`] for a byte with which no token begins, where there is no unknown token.
    pub fn encode(
        &self,
        vocab: &Vocab<'_, '_>,
        text: &[u8],
        part: Part,
        steps: &mut u64,
        out: &mut Output<'_>,
    ) -> Result<usize, TokenizeError> {
        let mut rest = text;
        while let Some(&byte) = rest.first() {
            if rest.len() < self.prefixes.longest() && !part.ends {
                break;
            }
            let mut longest = None;
            let n_read = self.prefixes.walk(rest.iter().copied(), |len, hash| {
                let part = rest.get(..len).unwrap_or_default();
                let is_same =
                    |token| vocab.text(token).is_some_and(|text| Unescaped(text).eq(part.iter().copied()));
                longest = self.slots.find(hash, is_same).map(|token| (len, token)).or(longest);
            });
            *steps = steps.wrapping_add(n_read);
            let (len, token) = match (longest, self.unknown) {
                (Some(longest), _) => longest,
                (None, Some(unknown)) => (1, unknown),
                (None, None) => return Err(TokenizeError::NoToken { byte }),
            };
            let n_before = out.len();
            let start = text.len().saturating_sub(rest.len());
            out.push_at(token, start, start.saturating_add(len));
            if out.stops_at(n_before) {
                break;
            }
            rest = rest.get(len..).unwrap_or_default();
        }
        Ok(text.len().saturating_sub(rest.len()))
    }
}

fn is_found(kind: TokenKind) -> bool {
    kind != TokenKind::Control
}

/// The bytes that an escaped text stands for.
#[derive(Clone, Debug)]
pub struct Unescaped<'t>(pub &'t [u8]);

impl Iterator for Unescaped<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        next_unescaped(&mut self.0)
    }
}

/// Takes the next byte off an escaped text. An escape that is cut short ends the text.
#[inline]
pub fn next_unescaped(text: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = match **text {
        [b'\\', b'x', high, low, ref rest @ ..] => ((hex(high) << 4).wrapping_add(hex(low)), rest),
        [b'\\', b'x', ..] | [b'\\'] | [] => return None,
        [b'\\', b't', ref rest @ ..] => (b'\t', rest),
        [b'\\', b'n', ref rest @ ..] => (b'\n', rest),
        [b'\\', b'r', ref rest @ ..] => (b'\r', rest),
        [b'\\', byte, ref rest @ ..] | [byte, ref rest @ ..] => (byte, rest),
    };
    *text = rest;
    Some(byte)
}

/// Files write small digits. What is none counts as llama.cpp counts it.
fn hex(digit: u8) -> u8 {
    match digit {
        b'a'..=0x7F => digit.wrapping_sub(b'a').wrapping_add(10),
        _ => digit.wrapping_sub(b'0'),
    }
}
