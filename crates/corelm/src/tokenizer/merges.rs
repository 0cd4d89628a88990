//! Which two neighbours merge into which token, and which merge comes first: by rank in a list (byte-level BPE), or by
//! the score of the token they make (SentencePiece).

use super::NO_TOKEN;
use super::hash::{Budget, Split, TextHash, mix};
use super::listed::{AT_ONCE, Listed};
use super::pairs::{Pairs, PairsMut, Size, VALUE_BITS};
use super::scores::Scores;
use super::sentence_piece::SPACE;
use super::symbols::{Symbols, SymbolsMut, SymbolsRoom};
use super::tables::{Lines, Tables};
use super::unicode::is_continuation;
use super::vocab::{self, Vocab};
use super::wholes::{Wholes, WholesMut};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, VocabFault};
use crate::gguf::writer::WriteError;
use crate::gguf::{Array, Image, ValueType, limits::Limit};

pub(super) const MERGES: &str = "tokenizer.ggml.merges";

/// Ranks are kept in 24 bits, and the largest of these marks a free slot.
const MAX_MERGES: Limit = Limit { what: "number of merges", max: (1 << VALUE_BITS) - 2 };

/// The priority of two symbols that do not merge; all others are below it. Merges go from low to high.
pub const NEVER: u32 = u32::MAX;

/// The most spaces that are one token in trained vocabularies, and their text.
const MAX_RUN: usize = 16;
const RUN: [[u8; SPACE.len()]; MAX_RUN] = [SPACE; MAX_RUN];

/// All merges of a vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Merges<'a, 'm> {
    pairs: Pairs<'a>,
    order: Order<'a, 'm>,
    fingerprint: u64,
}

#[derive(Clone, Copy, Debug)]
enum Order<'a, 'm> {
    /// A pair's value is its rank; here is the token that each rank makes. 18 bytes of arena for each merge.
    Rank(&'a [Token]),
    /// The same, where these tokens are one behind the other from the first on, as most vocabularies have it.
    InARow(&'a [Token], Token),
    /// A pair's value is the token it makes, with [`LATE`] if its score is the least of all; here are the scores of all
    /// tokens.
    Score(Scores<'m>),
    /// The same, where scores fall from token to token but for those that are late, as trained vocabularies have it: then a
    /// token says itself when it is made.
    Token(Scores<'m>),
}

/// The bit of a value, above those of any token, that says so. It is the priority of all such tokens, which are runs of
/// spaces in trained vocabularies, where tokens are priorities.
const LATE: u32 = 1 << (VALUE_BITS - 1);

impl<'a> Order<'a, '_> {
    fn by_rank(made: &'a [Token]) -> Self {
        let first = made.first().copied().unwrap_or(NO_TOKEN);
        let ranks = 0..made.len() as u32; // fewer than 2^24
        let is_row = made.iter().zip(ranks).all(|(&token, rank)| token == first.wrapping_add(rank));
        if is_row && first != NO_TOKEN { Self::InARow(made, first) } else { Self::Rank(made) }
    }
}

impl<'a, 'm> Merges<'a, 'm> {
    /// Adds what [`Merges::by_rank`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Merges::by_rank`], as far as counts tell.
    pub fn layout_by_rank(image: &Image<'m>, n_wholes: usize, layout: Layout) -> Result<Layout, ModelError> {
        let n = merges(image)?.len();
        Ok(Pairs::layout(by_rank_size(n), Wholes::layout(n_wholes, layout)?.add::<Token>(n)?)?)
    }

    /// The merges that the file lists, the first of them first; of equal ones the first counts. What merging begins with
    /// is read with them. Which of the first `n_wholes` tokens their text becomes is looked at too, which takes
    /// [`WholesMut::BYTES`] of what is free for each.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when the list is absent or too long, or an entry is not two tokens and a space between that make
    /// a token together.
    pub fn by_rank(
        image: &Image<'m>,
        vocab: &Vocab<'a, 'm>,
        symbols: SymbolsRoom<'a>,
        n_wholes: usize,
        arena: &mut Arena<'a>,
    ) -> Result<(Self, Symbols<'a>, Wholes<'a>), ModelError> {
        let list = merges(image)?;
        let wholes = Wholes::alloc(n_wholes, arena)?;
        let made = arena.alloc(list.len(), NO_TOKEN)?;
        let mut pairs = PairsMut::new(by_rank_size(list.len()), arena)?;
        let mut free = arena.scope();
        let mut symbols = SymbolsMut::new(symbols, &mut free)?;
        let mut wholes = WholesMut::new(n_wholes, wholes, &mut free)?;
        symbols.bytes().iter().for_each(|&token| wholes.add_symbol(token));
        let mut budget = Budget::new(list.len(), list.bytes().len());
        let (mut texts, mut rank, mut last) = (list.strings(), 0, 0);
        let mut next = [None; AT_ONCE];
        while (rank as usize) < list.len() {
            Listed::read(&mut texts, vocab, &mut next);
            for listed in next.iter().take(list.len().saturating_sub(rank as usize)) {
                let bad = |fault| ModelError::BadVocab { fault, index: rank.into() };
                let listed = listed.as_ref().ok_or(bad(VocabFault::MergeFormat))?;
                budget.spend(listed.len() / 4, rank as usize)?;
                let (left, right, product) = listed.find(vocab, last).ok_or(bad(VocabFault::MergeToken))?;
                last = product;
                if [left, right, product].iter().all(|&token| vocab.kind(token).is_text()) {
                    if let Some(made) = made.get_mut(rank as usize) {
                        *made = product;
                    }
                    if let Some(slot) = pairs.insert(left, right, rank, rank as usize, &mut budget)? {
                        wholes.add_pair(product, slot);
                    }
                    symbols.see(listed.texts(), rank, &pairs, made);
                }
                rank = rank.wrapping_add(1); // as long as the list
            }
        }
        let symbols = symbols.finish();
        let made_of = made.iter().map(|&token| u64::from(token));
        let pairs = pairs.finish();
        let fingerprint = fingerprint(pairs.numbers().chain(made_of));
        let merges = Self { pairs, order: Order::by_rank(made), fingerprint };
        Ok((merges, symbols, wholes.prove(made.iter().copied(), &merges, |_| None.into_iter())))
    }

    /// Adds what [`Merges::by_score`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Vocab::layout`].
    pub fn layout_by_score(image: &Image<'m>, n_wholes: usize, layout: Layout) -> Result<Layout, ModelError> {
        Ok(Pairs::layout(by_score_size(vocab::tokens(image)?), Wholes::layout(n_wholes, layout)?)?)
    }

    /// Every way to make a token of two others; the one of highest score comes first. `is_symbol` says of a text
    /// whether merging begins with it.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when scores are absent, not one for each token or not finite.
    pub fn by_score(
        image: &Image<'m>,
        vocab: &Vocab<'a, 'm>,
        is_symbol: impl Fn(&[u8]) -> bool,
        n_wholes: usize,
        arena: &mut Arena<'a>,
    ) -> Result<(Self, Wholes<'a>), ModelError> {
        let scores = Scores::new(image, vocab.len())?;
        let wholes = Wholes::alloc(n_wholes, arena)?;
        let mut pairs = PairsMut::new(by_score_size(vocab.texts()), arena)?;
        let mut wholes = WholesMut::new(n_wholes, wholes, &mut arena.scope())?;
        let mut budget = Budget::new(vocab.len(), vocab.texts().bytes().len());
        let ready_at =
            |token: Token, text: &[u8]| if is_symbol(text) { 0 } else { falling(scores.get(token)) };
        let (least, mut last, mut falls) = (scores.least(), f32::INFINITY, true);
        for (token, text) in vocab.tokens() {
            let index = token as usize;
            if !vocab.kind(token).is_text() {
                continue;
            }
            if is_symbol(text) {
                wholes.add_symbol(token);
                continue;
            }
            let score = scores.get(token);
            let value = if score > least { token } else { token | LATE };
            let (mut earliest, mut likeliest) = (NEVER, None);
            for [(left, left_text), (right, right_text)] in halves(vocab, text) {
                budget.spend(text.len() / 8, index)?;
                let slot = pairs.insert(left, right, value, index, &mut budget)?;
                // Most likely the token comes of the parts that are there first.
                let ready = ready_at(left, left_text).max(ready_at(right, right_text));
                if let Some(slot) = slot.filter(|_| ready < earliest) {
                    (earliest, likeliest) = (ready, Some(slot));
                }
            }
            if let Some(slot) = likeliest {
                wholes.add_pair(token, slot);
                if score > least {
                    falls &= score < last;
                    last = score;
                }
            }
        }
        let pairs = pairs.finish();
        let fingerprint = fingerprint(pairs.numbers().chain(scores.bits()));
        let order = if falls { Order::Token(scores) } else { Order::Score(scores) };
        let merges = Self { pairs, order, fingerprint };
        let slots = |token| {
            let text = vocab.text(token).filter(|_| vocab.is_text(token)).unwrap_or_default();
            halves(vocab, text).filter_map(|[left, right]| merges.pairs.slot(left.0, right.0))
        };
        // Runs of spaces may all have one score, so that the longer ones come first; they have another turn.
        let runs =
            (2..=MAX_RUN).filter_map(|n| vocab.find(RUN.as_flattened().get(..n.wrapping_mul(SPACE.len()))?));
        Ok((merges, wholes.prove((0..vocab.len() as Token).chain(runs), &merges, slots)))
    }

    /// The merges of [`Merges::by_rank`] that were indexed before.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`] when one makes what is no text. Those of a list that is absent or too long.
    pub fn found_by_rank(
        image: &Image<'m>,
        vocab: &Vocab<'_, 'm>,
        tables: &mut Tables<'m>,
    ) -> Result<Self, ModelError>
    where
        'm: 'a,
    {
        let n = merges(image)?.len();
        let made = tables.take(n, |&token| vocab.is_text_or_none(token))?;
        let pairs = Pairs::found(by_rank_size(n), tables, |_| true)?;
        Ok(Self { pairs, order: Order::by_rank(made), fingerprint: tables.fingerprint() })
    }

    /// The merges of [`Merges::by_score`] that were indexed before.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`] when one makes what is no text. Those of scores that are absent or wrong.
    pub fn found_by_score(
        image: &Image<'m>,
        vocab: &Vocab<'_, 'm>,
        tables: &mut Tables<'m>,
    ) -> Result<Self, ModelError>
    where
        'm: 'a,
    {
        let scores = Scores::new(image, vocab.len())?;
        let falls = tables.take(1, |&flag: &u32| flag <= 1)?.contains(&1);
        let order = if falls { Order::Token(scores) } else { Order::Score(scores) };
        let is_text = |value| vocab.is_text(value & !LATE);
        let pairs = Pairs::found(by_score_size(vocab.texts()), tables, is_text)?;
        Ok(Self { pairs, order, fingerprint: tables.fingerprint() })
    }

    /// Gives the tables that [`Merges::found_by_rank`] and [`Merges::found_by_score`] take.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        &self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        match self.order {
            Order::Rank(made) | Order::InARow(made, _) => {
                to.table(made.iter().map(|token| token.to_le_bytes()))?;
            }
            Order::Score(_) => to.table([0u32.to_le_bytes()].into_iter())?,
            Order::Token(_) => to.table([1u32.to_le_bytes()].into_iter())?,
        }
        self.pairs.give(to)
    }

    /// A number that differs, but for chance, from that of other merges.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// When `left` and `right` merge: [`NEVER`], or a number below it.
    #[inline]
    pub fn priority(&self, left: Token, right: Token) -> u32 {
        self.pairs.find(left, right).map_or(NEVER, |value| self.priority_of(value))
    }

    /// The same of a pair's value: a rank, or the token that comes of it.
    #[inline]
    fn priority_of(&self, value: u32) -> u32 {
        match self.order {
            Order::Rank(_) | Order::InARow(..) => value,
            Order::Score(scores) => falling(scores.get(value & !LATE)),
            Order::Token(_) => value.min(LATE),
        }
    }

    /// A number that falls as a token's score rises; 0 where there are no scores.
    pub fn falling_score(&self, token: Token) -> u32 {
        match self.order {
            Order::Rank(_) | Order::InARow(..) => 0,
            Order::Score(scores) | Order::Token(scores) => falling(scores.get(token)),
        }
    }

    /// The pair in a slot, and when it merges.
    pub fn at(&self, slot: u32) -> Option<(Token, Token, u32)> {
        let (left, right, value) = self.pairs.at(slot)?;
        Some((left, right, self.priority_of(value)))
    }

    /// The token that `left` and `right`, whose priority this is, merge into.
    #[inline]
    pub fn product(&self, left: Token, right: Token, priority: u32) -> Option<Token> {
        match self.order {
            Order::Rank(made) => made.get(priority as usize).copied().filter(|&token| token != NO_TOKEN),
            // Without a look at them: the next pairs are looked up by what comes of this one.
            Order::InARow(made, first) => {
                ((priority as usize) < made.len()).then(|| first.wrapping_add(priority))
            }
            Order::Token(_) if priority < LATE => Some(priority),
            Order::Score(_) | Order::Token(_) => self.pairs.find(left, right).map(|value| value & !LATE),
        }
    }
}

/// The tokens of text, with their texts, that `text` is cut into at one place, for each place from the last on.
#[inline]
fn halves<'t>(vocab: &Vocab<'_, '_>, text: &'t [u8]) -> impl Iterator<Item = [(Token, &'t [u8]); 2]> {
    let mut split = Split::new(TextHash::of(text.iter().copied()));
    (1..text.len()).rev().filter_map(move |at| {
        let byte = text.get(at).copied()?;
        split.move_left(byte);
        let (left, right) = text.split_at_checked(at).filter(|_| !is_continuation(byte))?;
        let (left_hash, right_hash) = split.parts();
        let find =
            |hash, part: &[u8]| vocab.find_by(hash, |t| t == part).filter(|&t| vocab.kind(t).is_text());
        Some([(find(left_hash, left)?, left), (find(right_hash, right)?, right)])
    })
}

/// A number made of all the others and their order.
pub fn fingerprint(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(1, |all, x| mix(all.rotate_left(29) ^ x))
}

/// A number that falls as the score rises; below [`NEVER`] for finite scores. Zeros of both signs are equal.
fn falling(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits }
}

/// Thirteen eighths of the merges as slots.
fn by_rank_size(n_merges: usize) -> Size {
    let slots = n_merges.saturating_add(n_merges / 8 * 5).saturating_add(1);
    Size { slots, filtered: n_merges }
}

/// Seventeen sixteenths of the places where tokens can be cut in two as slots. In trained vocabularies half of the places
/// or fewer give two tokens.
fn by_score_size(texts: Array<'_>) -> Size {
    let inner = texts.strings().flat_map(|text| text.iter().skip(1)).filter(|&&b| !is_continuation(b));
    let n = inner.fold(0, |n: usize, _| n.saturating_add(1));
    Size { slots: n.saturating_add(n / 16).saturating_add(1), filtered: n / 2 }
}

fn merges<'m>(image: &Image<'m>) -> Result<Array<'m>, ModelError> {
    let list = image.array(MERGES, ValueType::String)?.ok_or(ModelError::MissingKey { key: MERGES })?;
    MAX_MERGES.check(list.len() as u64)?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_fall_as_scores_rise() {
        let scores = [f32::MIN, -3.5, -1e-30, 0.0, 1e-30, 2.0, f32::MAX];
        assert!(scores.is_sorted_by(|a, b| falling(*a) > falling(*b)));
        assert_eq!(falling(-0.0), falling(0.0));
        assert!(falling(f32::MIN) < NEVER);
    }
}
