//! A reader that consumes little-endian fields from the front of a byte slice and knows its offset in the file.

use super::limits::{self, Limit};
use crate::error::ModelError;

/// Bytes not yet read, and where they lie in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'m> {
    rest: &'m [u8],
    offset: u64,
}

impl<'m> Cursor<'m> {
    pub fn new(rest: &'m [u8], offset: u64) -> Self {
        Self { rest, offset }
    }

    /// Where the next byte lies in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The same in 32 bits, in which every offset in the metadata fits.
    pub fn place(&self) -> u32 {
        u32::try_from(self.offset).unwrap_or(u32::MAX)
    }

    /// At a place behind this one; at the end where there are no such bytes.
    pub fn at(mut self, place: u32) -> Self {
        let n = u64::from(place).saturating_sub(self.offset);
        if self.bytes(n).is_err() {
            self.rest = &[];
        }
        self
    }

    /// Bytes left.
    pub fn left(&self) -> u64 {
        self.rest.len() as u64
    }

    /// The next `n` bytes; nothing is added to `n`, so no number wraps.
    pub fn bytes(&mut self, n: u64) -> Result<&'m [u8], ModelError> {
        let split = usize::try_from(n).ok().and_then(|n| self.rest.split_at_checked(n));
        let (taken, rest) = split.ok_or_else(|| self.truncated(n))?;
        self.rest = rest;
        self.offset = limits::METADATA_BYTES.check(self.offset.saturating_add(n))?;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        self.bytes(N as u64)?.first_chunk().copied().ok_or_else(|| self.truncated(N as u64))
    }

    pub fn u32(&mut self) -> Result<u32, ModelError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, ModelError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string: its length as u64, then its bytes.
    pub fn string(&mut self) -> Result<&'m [u8], ModelError> {
        let len = self.u64()?;
        self.bytes(len)
    }

    /// A key or a tensor name: a string of 1 to `limit` bytes of UTF-8.
    pub fn name(&mut self, limit: Limit) -> Result<&'m str, ModelError> {
        let at_length = self.offset;
        let bytes = self.string()?;
        limit.check(bytes.len() as u64)?;
        if bytes.is_empty() {
            return Err(ModelError::EmptyName { offset: at_length });
        }
        str::from_utf8(bytes).map_err(|_| ModelError::NotUtf8 { offset: at_length.saturating_add(8) })
    }

    /// Checks that `count` things of at least `least` bytes can follow.
    pub fn expect(&self, count: u64, least: u64) -> Result<(), ModelError> {
        match count.checked_mul(least) {
            Some(need) if need <= self.left() => Ok(()),
            need => Err(self.truncated(need.unwrap_or(u64::MAX))),
        }
    }

    fn truncated(&self, need: u64) -> ModelError {
        ModelError::Truncated { offset: self.offset, need, have: self.left() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_not_there_is_the_end() {
        let cursor = Cursor::new(&[1, 2, 3, 4, 5], 10);
        assert_eq!(cursor.at(11).u32(), Ok(u32::from_le_bytes([2, 3, 4, 5])));
        assert_eq!((cursor.at(15).left(), cursor.at(16).left(), cursor.at(u32::MAX).left()), (0, 0, 0));
        assert_eq!(cursor.at(3).place(), 10, "nothing before the first place");
    }
}
