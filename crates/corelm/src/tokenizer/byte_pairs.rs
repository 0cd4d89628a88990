//! [`BytePairs`]: when two ASCII bytes merge. Merging begins with as many lookups as a piece has bytes, most of which find
//! nothing; in a table of their own they need no search.

use super::merges::{Merges, NEVER};
use super::tables::{Lines, Tables};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError};
use crate::gguf::writer::WriteError;

/// The priority of each two ASCII bytes. 32 KiB of arena.
#[derive(Clone, Copy, Debug)]
pub struct BytePairs<'a>(&'a [u16]);

const KINDS: usize = 128;
const N: usize = KINDS * KINDS;
/// They never merge.
const APART: u16 = u16::MAX;
/// Their priority is another: ask.
const LATE: u16 = u16::MAX - 1;

impl<'a> BytePairs<'a> {
    /// Adds what [`BytePairs::new`] allocates.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`].
    pub fn layout(layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<u16>(N)
    }

    /// Looks all of them up; `bytes` are the tokens of single bytes.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(bytes: &[Token], merges: &Merges<'_, '_>, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        let token = |byte: usize| bytes.get(byte).copied();
        let priority = |pair: usize| match (token(pair / KINDS), token(pair % KINDS)) {
            (Some(left), Some(right)) => merges.priority(left, right),
            _ => NEVER,
        };
        Ok(Self(arena.alloc_with(N, |pair| match priority(pair) {
            NEVER => APART,
            priority => u16::try_from(priority).map_or(LATE, |priority| priority.min(LATE)),
        })?))
    }

    /// What was looked up before.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`](crate::error::VocabFault::Index).
    pub fn found(tables: &mut Tables<'a>) -> Result<Self, ModelError> {
        Ok(Self(tables.take(N, |_| true)?))
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
        let pair = usize::from(left) << 7 | usize::from(right);
        match self.0.get(pair).filter(|_| right.is_ascii()) {
            Some(&APART) => NEVER,
            Some(&priority) if priority < LATE => priority.into(),
            _ => ask(),
        }
    }
}
