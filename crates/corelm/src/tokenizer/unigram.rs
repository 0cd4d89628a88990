//! Unigram language models (T5, XLM-R): of all ways to cut a normalized text into tokens, the one with the greatest sum
//! of scores, by Viterbi's algorithm.
//!
//! Sums are `f64`s from the left, and of equal ones the first found counts, as in llama.cpp: so tokens are the same ones
//! to the last. Text without a token costs a score far below all others and becomes the unknown token, once for a run of
//! it. Bytes that are not UTF-8 are U+FFFD each; overlong forms, surrogates and what lies above U+10FFFF pass as one
//! character without a token.

mod charsmap;
mod lattice;
mod normalize;

pub use lattice::{Lattice, Size};

use super::NO_TOKEN;
use super::encoder::Part;
use super::output::Output;
use super::prefixes::Prefixes;
use super::scores::Scores;
use super::vocab::{self, TokenKind, Vocab};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, TokenizeError};
use crate::gguf::Image;
use crate::ops::cpu::with_default_floats;
use lattice::{Link, Ways};
use normalize::Normalizer;

/// How far below the least score of a token the score of unknown text is.
const UNKNOWN_PENALTY: f32 = 10.0;

/// What encodes text into the tokens of a unigram vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Unigram<'a, 'm> {
    normalizer: Normalizer<'a, 'm>,
    prefixes: Prefixes<'a>,
    scores: Scores<'m>,
    unknown: Option<Token>,
    unknown_score: f64,
}

impl<'a, 'm> Unigram<'a, 'm> {
    /// Adds what [`Unigram::new`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Unigram::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        let layout = Normalizer::layout(image, layout)?;
        Ok(Prefixes::layout(vocab::n_text_bytes(vocab::tokens(image)?), layout)?)
    }

    /// Reads scores and the normalizer's map, and takes in the tokens of text.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when scores are absent or not finite, the map is damaged, or a token is too long.
    pub fn new(
        image: &Image<'m>,
        vocab: &Vocab<'a, 'm>,
        unknown: Option<Token>,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ModelError> {
        let scores = Scores::new(image, vocab.len())?;
        let tokens = 0..vocab.len() as Token; // below 2^20
        let normal = tokens.filter(|&token| vocab.kind(token) == TokenKind::Normal);
        let least = normal.map(|token| scores.get(token)).fold(f32::MAX, f32::min);
        Ok(Self {
            normalizer: Normalizer::new(image, vocab, arena)?,
            prefixes: Prefixes::new(vocab, arena, is_found, |text| text.iter().copied())?,
            scores,
            // Text without a token must not become a control token, whatever the file calls unknown.
            unknown: unknown.filter(|&token| vocab.kind(token) != TokenKind::Control),
            unknown_score: with_default_floats(|| f64::from(least - UNKNOWN_PENALTY)),
        })
    }

    /// Whether a space goes before every fragment of text.
    pub fn adds_space(&self) -> bool {
        self.normalizer.adds_space()
    }

    /// The lattice that texts need.
    pub fn size(&self) -> Size {
        Size { reach: self.prefixes.longest(), growth: self.normalizer.growth() }
    }

    /// Encodes text without special tokens in it; adds the bytes it looked at to `steps`.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::ScratchFull`]; [`TokenizeError::NoToken`] where there is no unknown token.
    pub fn encode(
        &self,
        vocab: &Vocab<'_, '_>,
        text: &[u8],
        part: Part,
        lattice: &mut Lattice<'_>,
        steps: &mut u64,
        out: &mut Output<'_>,
    ) -> Result<usize, TokenizeError> {
        if !part.ends || text.is_empty() {
            return Ok(0); // what follows can change all of it
        }
        let n_before = out.len();
        let mut normalized = self.normalizer.run(vocab, text);
        lattice.start(self.size(), text.len())?;
        with_default_floats(|| {
            loop {
                lattice.window.fill(&mut normalized);
                let score = lattice.arrive()?;
                let rest = lattice.window.text();
                let Some(&first) = rest.first() else { return Ok(()) };
                let len = char_len(first).min(rest.len());
                let n_read = self.offer_tokens(vocab, rest, len, score, &mut lattice.ways);
                *steps = steps.wrapping_add(n_read);
                lattice.advance(len);
            }
        })?;
        lattice.turn(|link| n_chars(vocab, link));
        self.give(vocab, text, lattice, out)?;
        Ok(if out.stops_at(n_before) { 0 } else { text.len() })
    }

    /// Offers all ways that go on from here, with the score of the way to here: every token that `rest` begins with,
    /// and unknown text when none of them is the first character, of `len` bytes.
    #[inline]
    fn offer_tokens(
        &self,
        vocab: &Vocab<'_, '_>,
        rest: &[u8],
        len: usize,
        score: f64,
        ways: &mut Ways<'_>,
    ) -> u64 {
        let mut is_known = false;
        let n_read = self.prefixes.walk(rest.iter().copied(), |n, hash| {
            let token = vocab.find_by(hash, |text| rest.get(..n) == Some(text));
            let Some(token) = token.filter(|&token| is_found(vocab.kind(token))) else { return };
            is_known |= n == len;
            let own = if vocab.kind(token) == TokenKind::UserDefined { 0.0 } else { self.scores.get(token) };
            ways.offer(n, score + f64::from(own), Link::token(token));
        });
        if !is_known {
            let first = rest.first().copied().unwrap_or_default();
            ways.offer(len, score + self.unknown_score, Link::unknown(first));
        }
        n_read
    }

    /// Gives the tokens of the best way; one for a run of unknown text.
    fn give(
        &self,
        vocab: &Vocab<'_, '_>,
        text: &[u8],
        lattice: &Lattice<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TokenizeError> {
        let mut source = out.has_spans().then(|| self.normalizer.source(vocab, text));
        let mut was_unknown = false;
        for link in lattice.way(|link| n_chars(vocab, link)) {
            let n_bytes = match link.unknown_byte() {
                Some(first) => char_len(first),
                None => link.as_token().and_then(|token| vocab.text(token)).map_or(0, <[u8]>::len),
            };
            let (start, end) = source.as_mut().map_or((0, 0), |source| source.take(n_bytes));
            let token = match link.unknown_byte() {
                Some(byte) => self.unknown.ok_or(TokenizeError::NoToken { byte })?,
                None => link.as_token().unwrap_or(NO_TOKEN),
            };
            let is_unknown = self.unknown == Some(token);
            if is_unknown && was_unknown {
                out.extend(end);
            } else {
                out.push_at(token, start, end);
            }
            was_unknown = is_unknown;
        }
        Ok(())
    }
}

fn is_found(kind: TokenKind) -> bool {
    kind.is_text() || kind == TokenKind::UserDefined
}

/// Bytes of the character that `first` begins, going by this byte alone.
#[inline]
fn char_len(first: u8) -> usize {
    match first {
        0..0xC0 => 1,
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0.. => 4,
    }
}

/// Characters that a link goes over: at least one.
fn n_chars(vocab: &Vocab<'_, '_>, link: Link) -> usize {
    let mut rest = link.as_token().and_then(|token| vocab.text(token)).unwrap_or_default();
    let mut n = 0usize;
    while let Some(&first) = rest.first() {
        rest = rest.get(char_len(first)..).unwrap_or_default();
        n = n.wrapping_add(1);
    }
    n.max(1)
}
