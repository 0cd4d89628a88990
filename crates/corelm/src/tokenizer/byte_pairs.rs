//! [`BytePairs`]: when two ASCII bytes merge. Merging begins with as many lookups as a piece has bytes, most of which find
//! nothing; in a table of their own they need no search.

use super::byte_map;
use super::merges::NEVER;
use super::tables::{Lines, Tables};
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError};
use crate::gguf::writer::WriteError;

/// The priority of each two ASCII bytes. 32 KiB of arena.
#[derive(Clone, Copy, Debug)]
pub struct BytePairs<'a>(&'a [u16]);

/// The same while merges are read, in the order of their ranks.
#[derive(Debug)]
pub struct BytePairsMut<'a>(&'a mut [u16]);

const KINDS: usize = 128;
const N: usize = KINDS * KINDS;
/// They never merge.
const APART: u16 = u16::MAX;
/// Their priority is another: ask.
const LATE: u16 = u16::MAX - 1;

impl<'a> BytePairs<'a> {
    /// Adds what [`BytePairsMut::new`] allocates.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<u16>(N)
    }

    /// Those that `priority` tells of each two ASCII bytes.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(arena: &mut Arena<'a>, priority: impl Fn(u8, u8) -> u32) -> Result<Self, ArenaError> {
        let pair = |place: usize| ((place / KINDS) as u8, (place % KINDS) as u8);
        Ok(Self(arena.alloc_with(N, |place| {
            let (left, right) = pair(place);
            narrow(priority(left, right))
        })?))
    }

    /// What was read before; of each priority `is_right` must say so.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`](crate::error::VocabFault::Index) when it does not.
    pub fn found(tables: &mut Tables<'a>, is_right: impl Fn(u32) -> bool) -> Result<Self, ModelError> {
        Ok(Self(tables.take(N, |&priority: &u16| priority >= LATE || is_right(priority.into()))?))
    }

    /// Gives the table that [`BytePairs::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        to.table(self.0.iter().map(|priority| priority.to_le_bytes()))
    }

    /// When two bytes merge; `ask` tells it of those that are not here.
    #[inline]
    pub fn priority(self, left: u8, right: u8, ask: impl FnOnce() -> u32) -> u32 {
        match self.0.get(place(left, right)) {
            Some(&APART) => NEVER,
            Some(&priority) if priority < LATE => priority.into(),
            _ => ask(),
        }
    }
}

impl<'a> BytePairsMut<'a> {
    /// No two bytes merge.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        Ok(Self(arena.alloc(N, APART)?))
    }

    /// Takes in a merge of two tokens that a vocabulary writes so, if each is an ASCII byte.
    #[inline]
    pub fn see(&mut self, [left, right]: [&[u8]; 2], rank: u32) {
        if left.len() > 2 || right.len() > 2 {
            return;
        }
        let (Some(left), Some(right)) = (byte_map::read_one(left), byte_map::read_one(right)) else { return };
        if let Some(priority) = self.0.get_mut(place(left, right)).filter(|priority| **priority == APART) {
            *priority = narrow(rank);
        }
    }

    /// Ends reading.
    pub fn finish(self) -> BytePairs<'a> {
        BytePairs(self.0)
    }
}

/// A priority as the table has it.
fn narrow(priority: u32) -> u16 {
    let near = u16::try_from(priority).map_or(LATE, |priority| priority.min(LATE));
    if priority == NEVER { APART } else { near }
}

/// The place of two bytes; none that is there if one is not ASCII.
#[inline]
fn place(left: u8, right: u8) -> usize {
    if right.is_ascii() { usize::from(left) * KINDS + usize::from(right) } else { N }
}
