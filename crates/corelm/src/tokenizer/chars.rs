//! [`Chars`]: characters of two or three bytes that merging may begin with, each as one token. To merge their bytes first
//! is most of the work for texts that are not in Latin letters.
//!
//! Whatever stands around a character, its bytes merge by themselves if at each step the merge that is due inside comes
//! before all merges of what is first or last in it with something outside; and outside there are whole characters. From
//! there on all goes as it would have, if no merge that the character takes part in comes before those that make it.
//! What first bytes merge with outside differs: of each character it is known behind which kinds of bytes all this is so.

use super::NO_TOKEN;
use super::byte_map;
use super::merges::NEVER;
use super::pairs::Pairs;
use super::tables::{Lines, Tables};
use super::unicode::{Char, is_continuation};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError};
use crate::gguf::writer::WriteError;

/// At each place, which some characters share, the token of the one that merges make first, and above the token what tells
/// it from the others and behind what it is not to be taken whole. 64 KiB of arena; nothing in small vocabularies.
#[derive(Clone, Copy, Debug)]
pub struct Chars<'a>(&'a [u32]);

const N: usize = 1 << 14;
/// Smaller vocabularies have few such characters, and lend less than [`CharsMut`] takes: what words are to have.
const MIN_TOKENS: usize = 1 << 14;
const FREE: u32 = u32::MAX;
/// Tokens are below 2^20.
const TOKEN_BITS: u32 = 20;
/// In place of a token: the character does not merge by itself.
const APART: Token = (1 << TOKEN_BITS) - 1;
/// Above a token, the bits of the code point that the place does not tell.
const MARK: u32 = 3 << TOKEN_BITS;
/// Above those, a bit for each kind of bytes that may stand before the character: 1 if it is not to be taken whole there.
const BEFORE_AT: u32 = TOKEN_BITS + 2;
/// Kinds of bytes that may stand before a character.
const N_BEFORE: usize = 10;

impl<'a> Chars<'a> {
    /// Adds what [`Chars::alloc`] allocates.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(n_tokens: usize, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<u32>(n_cells(n_tokens))
    }

    /// Places for a vocabulary of `n_tokens`, all free.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn alloc(n_tokens: usize, arena: &mut Arena<'a>) -> Result<&'a mut [u32], ArenaError> {
        arena.alloc(n_cells(n_tokens), FREE)
    }

    /// What was found out before; of each token `is_right` must say so.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`](crate::error::VocabFault::Index) when it does not.
    pub fn found(
        n_tokens: usize,
        tables: &mut Tables<'a>,
        is_right: impl Fn(Token) -> bool,
    ) -> Result<Self, ModelError> {
        Ok(Self(tables.take(n_cells(n_tokens), |&cell| cell & APART == APART || is_right(cell & APART))?))
    }

    /// Gives the table that [`Chars::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        to.table(self.0.iter().map(|cell| cell.to_le_bytes()))
    }

    /// The token of the character that `text` begins with and how many bytes it has, if merging may begin with it behind
    /// `before`, which is 0 for none.
    #[inline]
    pub fn first(self, text: &[u8], before: u8) -> Option<(Token, usize)> {
        let (code, len) = code_point(text)?;
        let (place, mark) = cell_of(code);
        let cell = *self.0.get(place)?;
        let is_whole = (cell ^ mark) & MARK == 0 && cell & APART != APART;
        let is_free = before < 0xC0 && cell >> BEFORE_AT >> kind_before(before) & 1 == 0;
        let is_last = text.get(len).is_none_or(|&byte| !is_continuation(byte));
        (is_whole && is_free && is_last).then_some((cell & APART, len))
    }
}

/// The same while merges are read, in the order of their ranks.
#[derive(Debug)]
pub struct CharsMut<'a, 't> {
    cells: &'a mut [u32],
    /// For each part of a character, its first or last one or two bytes, the rank of the first merge with something outside;
    /// for the first ones by kinds of what is before them.
    taken: &'t mut [u32],
}

/// Last parts, and first ones behind each kind of bytes.
const N_PARTS: usize = (1 + N_BEFORE) * N_OF_KIND;
/// A byte, and two.
const N_OF_KIND: usize = 64 + 64 * 64;

/// The merges read so far, by tokens.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub bytes: &'a [Token],
    pub pairs: Pairs<'a>,
    pub made: &'a [Token],
}

/// What the writing of a few bytes is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// The first bytes of a character, by their place.
    Head(usize),
    /// The last bytes.
    Tail(usize),
    /// All of it; the third byte may be 0.
    Whole([u8; 3]),
}

impl<'a, 't> CharsMut<'a, 't> {
    /// Of [`Chars::alloc`]; what is free in `arena` is for the time of reading.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(cells: &'a mut [u32], arena: &mut Arena<'t>) -> Result<Self, ArenaError> {
        let n_parts = if cells.is_empty() { 0 } else { N_PARTS };
        Ok(Self { cells, taken: arena.alloc(n_parts, NEVER)? })
    }

    /// Takes in the next merge, of two tokens that a vocabulary writes so; `known` has it.
    #[inline]
    pub fn see(&mut self, texts: [&[u8]; 2], rank: u32, known: Known<'_>) {
        if !self.cells.is_empty() && texts.into_iter().any(Part::may_be) {
            self.look(texts, rank, known);
        }
    }

    #[inline(never)]
    fn look(&mut self, [left, right]: [&[u8]; 2], rank: u32, known: Known<'_>) {
        let part_of = |text| if Part::may_be(text) { Part::of(&[text]) } else { None };
        let (left_part, right_part) = (part_of(left), part_of(right));
        for part in [left_part, right_part] {
            if let Some(Part::Whole(bytes)) = part {
                self.keep(bytes, APART); // unless it is made
            }
        }
        // With something that begins with a whole character, or with something that ends in one.
        if let Some(Part::Tail(part)) = left_part
            && !byte_map::decode(right).is_some_and(|(byte, _)| is_continuation(byte))
        {
            self.take(part, rank);
        }
        if let Some(Part::Head(part)) = right_part
            && let Some(before) = byte_map::read_last(left).filter(|&byte| byte < 0xC0)
        {
            self.take(head_behind(kind_before(before), part), rank);
        }
        if let (Some(Part::Head(_)), Some(Part::Tail(_))) = (left_part, right_part)
            && let Some(Part::Whole(bytes)) = Part::of(&[left, right])
            && let Some(kept) = self.made_alone(bytes, known)
        {
            self.keep(bytes, kept);
        }
    }

    /// Keeps what is found out first of the characters that share a place.
    fn keep(&mut self, bytes: [u8; 3], kept: u32) {
        let Some((code, _)) = code_point(&bytes) else { return };
        let (place, mark) = cell_of(code);
        if let Some(cell) = self.cells.get_mut(place).filter(|cell| **cell == FREE) {
            *cell = mark | kept;
        }
    }

    /// A part of a character merges with something outside of it.
    fn take(&mut self, part: usize, rank: u32) {
        if let Some(taken) = self.taken.get_mut(part) {
            *taken = rank.min(*taken);
        }
    }

    /// The token that the bytes of a character, of which the third may be 0, become by themselves by the merges known,
    /// with the bits of what is not to stand before it.
    fn made_alone(&self, bytes: [u8; 3], known: Known<'_>) -> Option<u32> {
        let token = |byte: u8| known.bytes.get(usize::from(byte)).copied().filter(|&token| token != NO_TOKEN);
        let [first, middle, last] = bytes;
        let (a, b) = (token(first)?, token(middle)?);
        if last == 0 {
            let (rank, whole) = known.merge(a, b)?;
            return Some(self.due(rank, &[first], &[middle])? | whole);
        }
        let c = token(last)?;
        let (head, tail) = (known.merge(a, b), known.merge(b, c));
        let rank_of = |merge: Option<(u32, Token)>| merge.map_or(NEVER, |(rank, _)| rank);
        let due = self.due(rank_of(head).min(rank_of(tail)), &[first], &[last])?;
        if rank_of(head) <= rank_of(tail) {
            let (rank, whole) = known.merge(head?.1, c)?;
            Some(due | self.due(rank, &[first, middle], &[last])? | whole)
        } else {
            let (rank, whole) = known.merge(a, tail?.1)?;
            Some(due | self.due(rank, &[first], &[middle, last])? | whole)
        }
    }

    /// Behind what a merge of this rank inside of a character does not come before all with what is outside of its first
    /// part, as bits of a cell; none if it does not come before those of its last.
    fn due(&self, rank: u32, head: &[u8], tail: &[u8]) -> Option<u32> {
        let is_before = |place: usize| self.taken.get(place).is_some_and(|&taken| rank < taken);
        let (head, tail) = (place_of(head)?, place_of(tail)?);
        let not_behind = (0..N_BEFORE as u32).filter(|&kind| !is_before(head_behind(kind, head)));
        is_before(tail).then(|| not_behind.fold(0, |bits, kind| bits | 1 << kind << BEFORE_AT))
    }

    /// Ends reading.
    pub fn finish(self) -> Chars<'a> {
        Chars(self.cells)
    }
}

impl Known<'_> {
    /// The rank of a merge, and what it makes.
    fn merge(self, left: Token, right: Token) -> Option<(u32, Token)> {
        let rank = self.pairs.find(left, right)?;
        Some((rank, *self.made.get(rank as usize)?))
    }
}

impl Part {
    /// Whether a text may be one: most begin with ASCII, a space among it.
    #[inline]
    fn may_be(text: &[u8]) -> bool {
        text.len() <= 6 && matches!(*text, [0xC2 | 0xC3 | 0xC5, ..] | [0xC4, 0xA2..=0xBF, ..])
    }

    /// What a vocabulary writes as these texts, one behind the other.
    fn of(texts: &[&[u8]]) -> Option<Self> {
        let (mut bytes, mut n) = ([0; 3], 0usize);
        for text in texts {
            let mut rest = *text;
            while !rest.is_empty() {
                let (byte, behind) = byte_map::decode(rest)?;
                *bytes.get_mut(n)? = byte;
                n = n.wrapping_add(1); // at most 3
                rest = behind;
            }
        }
        let part = bytes.get(..n)?;
        let (&first, inner) = part.split_first()?;
        if first.is_ascii() || !inner.iter().all(|&byte| is_continuation(byte)) {
            return None;
        }
        match code_point(part) {
            Some((_, len)) => (len == n).then_some(Self::Whole(bytes)),
            None if is_continuation(first) => place_of(part).map(Self::Tail),
            None => place_of(part).map(Self::Head),
        }
    }
}

/// The place of a part in [`CharsMut::taken`], if it is one or two bytes: that of last ones.
fn place_of(part: &[u8]) -> Option<usize> {
    let low = |byte: u8| usize::from(byte & 0x3F);
    match *part {
        [a] => Some(low(a)),
        [a, b] => Some(64 + 64 * low(a) + low(b)),
        _ => None,
    }
}

/// The same of a first part behind a kind of bytes.
fn head_behind(kind: u32, place: usize) -> usize {
    // Below a hundred thousand.
    (kind as usize).wrapping_add(1).wrapping_mul(N_OF_KIND).wrapping_add(place)
}

/// The kind of a byte that stands before a character: a space, another of ASCII, or one of the eight of others.
#[inline]
fn kind_before(byte: u8) -> u32 {
    match byte {
        b' ' => 0,
        0..0x80 => 1,
        _ => 2 + u32::from(byte & 7),
    }
}

/// The code point of the character that `text` begins with, and its bytes, if it has two or three.
#[inline]
fn code_point(text: &[u8]) -> Option<(u32, usize)> {
    let Char { code, len } = Char::first(text)?;
    Some((code.filter(|_| len == 2 || len == 3)?, len))
}

/// The place of a character, and what tells it from the others there.
#[inline]
fn cell_of(code: u32) -> (usize, u32) {
    (code as usize % N, code / N as u32 * (APART + 1)) // below 2^16, so that two bits are left
}

fn n_cells(n_tokens: usize) -> usize {
    if n_tokens < MIN_TOKENS { 0 } else { N }
}
