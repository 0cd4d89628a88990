//! Which two neighbours merge into which token, and which merge comes first: by rank in a list (byte-level BPE), or by
//! the score of the token they make (SentencePiece).

use super::hash::{Budget, MAX_PROBES, Split, TextHash, mix, probes};
use super::scores::Scores;
use super::vocab::{self, Vocab};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, VocabFault};
use crate::gguf::{Array, Image, ValueType, limits::Limit};

const MERGES: &str = "tokenizer.ggml.merges";

/// Ranks are kept in 24 bits, and the largest of these marks a free slot.
const MAX_MERGES: Limit = Limit { what: "number of merges", max: (1 << VALUE_BITS) - 2 };

/// The priority of two symbols that do not merge; all others are below it. Merges go from low to high.
pub const NEVER: u32 = u32::MAX;

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
    /// A pair's value is the token it makes; here are the scores of all tokens.
    Score(Scores<'m>),
}

impl<'a, 'm> Merges<'a, 'm> {
    /// Adds what [`Merges::by_rank`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Merges::by_rank`], as far as counts tell.
    pub fn layout_by_rank(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        let n = merges(image)?.len();
        Ok(layout.add::<Token>(n)?.add::<u64>(n_rank_slots(n))?)
    }

    /// The merges that the file lists, the first of them first; of equal ones the first counts.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when the list is absent or too long, or an entry is not two tokens and a space between that make
    /// a token together.
    pub fn by_rank(
        image: &Image<'m>,
        vocab: &Vocab<'a, 'm>,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ModelError> {
        let list = merges(image)?;
        let made = arena.alloc(list.len(), 0)?;
        let mut pairs = PairsMut::new(n_rank_slots(list.len()), arena)?;
        let mut budget = Budget::new(list.len(), list.bytes().len());
        let mut last: Token = 0;
        for ((text, made), rank) in list.strings().zip(made.iter_mut()).zip(0u32..) {
            let bad = |fault| ModelError::BadVocab { fault, index: rank.into() };
            // A space may be the first character of the left part, never the last of it.
            let space = text.iter().skip(1).position(|&b| b == b' ').ok_or(bad(VocabFault::MergeFormat))?;
            let (left, right) = text.split_at_checked(space + 1).ok_or(bad(VocabFault::MergeFormat))?;
            let right =
                right.get(1..).filter(|right| !right.is_empty()).ok_or(bad(VocabFault::MergeFormat))?;
            budget.spend(text.len() / 4, rank as usize)?;
            // Merges stand in the order of the tokens that they make, in most files, which saves most of the searches.
            let is_product = |t: &[u8]| t.strip_prefix(left).is_some_and(|end| end == right);
            let is_guess = |token: &Token| vocab.text(*token).is_some_and(is_product);
            let product = [last, last.wrapping_add(1)].into_iter().find(is_guess).or_else(|| {
                let both = TextHash::of(left.iter().chain(right).copied());
                vocab.find_by(both, is_product)
            });
            let (Some(left), Some(right), Some(product)) = (vocab.find(left), vocab.find(right), product)
            else {
                return Err(bad(VocabFault::MergeToken));
            };
            last = product;
            *made = product;
            if [left, right, product].iter().all(|&token| vocab.kind(token).is_text()) {
                pairs.insert(left, right, rank, rank as usize, &mut budget)?;
            }
        }
        let made_of = made.iter().map(|&token| u64::from(token));
        let fingerprint = fingerprint(pairs.0.iter().copied().chain(made_of));
        Ok(Self { pairs: Pairs(pairs.0), order: Order::Rank(made), fingerprint })
    }

    /// Adds what [`Merges::by_score`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Vocab::layout`].
    pub fn layout_by_score(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        Ok(layout.add::<u64>(n_score_slots(vocab::tokens(image)?))?)
    }

    /// Every way to make a token of two others; the one of highest score comes first.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when scores are absent, not one for each token or not finite.
    pub fn by_score(
        image: &Image<'m>,
        vocab: &Vocab<'a, 'm>,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ModelError> {
        let scores = Scores::new(image, vocab.len())?;
        let mut pairs = PairsMut::new(n_score_slots(vocab.texts()), arena)?;
        let mut budget = Budget::new(vocab.len(), vocab.texts().bytes().len());
        for (token, text) in (0..).zip(vocab.texts().strings()) {
            let index = token as usize;
            if !vocab.kind(token).is_text() {
                continue;
            }
            let mut split = Split::new(TextHash::of(text.iter().copied()));
            for (at, &byte) in text.iter().enumerate().skip(1).rev() {
                split.move_left(byte);
                if is_continuation(byte) {
                    continue;
                }
                let Some((left, right)) = text.split_at_checked(at) else { continue };
                let find = |hash, part: &[u8]| {
                    vocab.find_by(hash, |t| t == part).filter(|&t| vocab.kind(t).is_text())
                };
                let (left_hash, right_hash) = split.parts();
                let Some(left) = find(left_hash, left) else { continue };
                let Some(right) = find(right_hash, right) else { continue };
                budget.spend(text.len() / 8, index)?;
                pairs.insert(left, right, token, index, &mut budget)?;
            }
        }
        let fingerprint = fingerprint(pairs.0.iter().copied().chain(scores.bits()));
        Ok(Self { pairs: Pairs(pairs.0), order: Order::Score(scores), fingerprint })
    }

    /// A number that differs, but for chance, from that of other merges.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// When `left` and `right` merge: [`NEVER`], or a number below it.
    #[inline]
    pub fn priority(&self, left: Token, right: Token) -> u32 {
        match (self.pairs.find(left, right), self.order) {
            (None, _) => NEVER,
            (Some(rank), Order::Rank(_)) => rank,
            (Some(token), Order::Score(scores)) => falling(scores.get(token)),
        }
    }

    /// The token that `left` and `right`, whose priority this is, merge into.
    #[inline]
    pub fn product(&self, left: Token, right: Token, priority: u32) -> Option<Token> {
        match self.order {
            Order::Rank(made) => made.get(priority as usize).copied(),
            Order::Score(_) => self.pairs.find(left, right),
        }
    }
}

/// A map from pairs of tokens to 24 bits: in a slot the left token, the right one and the value, from the top.
#[derive(Clone, Copy, Debug)]
struct Pairs<'a>(&'a [u64]);

/// The same while it is filled.
struct PairsMut<'a>(&'a mut [u64]);

const VALUE_BITS: u32 = 24;
const FREE: u64 = u64::MAX;

impl Pairs<'_> {
    #[inline]
    fn find(&self, left: Token, right: Token) -> Option<u32> {
        let key = key(left, right);
        for i in probes(mix(key), self.0.len()) {
            let slot = *self.0.get(i)?;
            if slot == FREE {
                return None;
            }
            if slot >> VALUE_BITS == key {
                return Some((slot & ((1 << VALUE_BITS) - 1)) as u32);
            }
        }
        None
    }
}

impl<'a> PairsMut<'a> {
    fn new(n_slots: usize, arena: &mut Arena<'a>) -> Result<Self, ModelError> {
        Ok(Self(arena.alloc(n_slots, FREE)?))
    }

    /// Adds a pair that is not there yet.
    fn insert(
        &mut self,
        left: Token,
        right: Token,
        value: u32,
        index: usize,
        budget: &mut Budget,
    ) -> Result<(), ModelError> {
        let key = key(left, right);
        let n_slots = self.0.len();
        for i in probes(mix(key), n_slots) {
            budget.spend(1, index)?;
            match self.0.get_mut(i) {
                Some(slot) if *slot == FREE => {
                    *slot = key << VALUE_BITS | u64::from(value);
                    return Ok(());
                }
                Some(slot) if *slot >> VALUE_BITS == key => return Ok(()),
                _ => {}
            }
        }
        budget.spend(MAX_PROBES, index)?;
        Err(ModelError::BadVocab { fault: VocabFault::Collisions, index: index as u64 })
    }
}

/// Tokens are below 2^20.
#[inline]
fn key(left: Token, right: Token) -> u64 {
    u64::from(left) << 20 | u64::from(right)
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

/// Seven quarters of the merges: a pair that is not there, as most are, takes 3 probes to find out, not 5 as with six.
fn n_rank_slots(n_merges: usize) -> usize {
    n_merges.saturating_add(n_merges / 4 * 3).saturating_add(1)
}

/// Five quarters of the places where tokens can be cut in two. In trained vocabularies half of the places or fewer give
/// two tokens.
fn n_score_slots(texts: Array<'_>) -> usize {
    let inner = |text: &[u8]| text.iter().skip(1).filter(|&&b| !is_continuation(b)).count();
    let n = texts.strings().map(inner).fold(0, usize::saturating_add);
    n.saturating_add(n / 4).saturating_add(1)
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
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
