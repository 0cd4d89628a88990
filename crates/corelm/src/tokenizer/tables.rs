//! [`Tables`]: the index of a vocabulary ready in the file, as `corelm pack` puts it there, and used in place.
//!
//! It is a tensor of its own name, of little-endian numbers in lines of 32 bytes. The first line holds a magic number, the
//! version, a hash of the keys that the index was made from and one of all lines behind it. These are the tables of the
//! index as they would lie in an arena, each from a new line on, in an order and of lengths that the vocabulary tells.
//!
//! The hashes find damage and an index of another vocabulary. They keep nobody from making a wrong index on purpose: what
//! must hold whatever the tables say (no number that is no token, no control token out of text) is looked at when they
//! are taken.

use super::hash::mix;
use super::{merges, scores, vocab};
use crate::arena::{Plain, numbers_in};
use crate::error::{ModelError, VocabFault};
use crate::gguf::writer::WriteError;
use crate::gguf::{Image, Value};
use crate::ops::GgmlType;

/// The tensor's name.
pub const TENSOR: &str = "corelm.tokenizer.index";

const MAGIC: u64 = u64::from_le_bytes(*b"corelmTI");
/// Of the tables and their order, of the hash functions, and of what is proved of words. An index of another version is
/// as if it were not there.
const VERSION: u64 = 7;

const LINE: usize = 32;
type Line = [u8; LINE];

/// What all models' indexes are made from. Other keys take no part in it.
const SOURCES: [&str; 6] = [
    super::model::MODEL,
    super::byte_level::PRE,
    vocab::TOKENS,
    vocab::TOKEN_TYPES,
    merges::MERGES,
    scores::SCORES,
];

/// The tables that have not been taken yet.
#[derive(Debug)]
pub struct Tables<'m> {
    head: [u64; 4],
    rest: &'m [u8],
    /// Bytes of the tensor.
    n_bytes: usize,
}

impl<'m> Tables<'m> {
    /// The index that `image` has, if it can be used: if it is of this version, and lies in memory as this machine reads it.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`] when it is no index.
    pub fn find(image: &Image<'m>) -> Result<Option<Self>, ModelError> {
        let Some(tensor) = image.tensor(TENSOR) else { return Ok(None) };
        let Some((head, rest)) = tensor.bytes.split_first_chunk::<LINE>() else { return Err(damaged(0)) };
        let head = words(head);
        let [magic, version, ..] = head;
        if tensor.ty != GgmlType::F32 || magic != MAGIC {
            return Err(damaged(0));
        }
        let is_usable = cfg!(target_endian = "little") && numbers_in::<u64>(rest).is_some();
        let is_whole = rest.len() % LINE == 0;
        if version != VERSION || is_whole && !is_usable {
            return Ok(None);
        }
        let tables = Self { head, rest, n_bytes: tensor.bytes.len() };
        if is_whole { Ok(Some(tables)) } else { Err(damaged(rest.len())) }
    }

    /// Compares the hashes: of all lines, and of the keys.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`] when they differ.
    pub fn check(&self, image: &Image<'m>) -> Result<(), ModelError> {
        let [_, _, of_sources, of_lines] = self.head;
        if hash_of_sources(image) != of_sources {
            return Err(damaged(16));
        }
        if Hash::default().lines(self.rest).value() != of_lines {
            return Err(damaged(24));
        }
        Ok(())
    }

    /// A number that differs, but for chance, from that of other vocabularies with their indexes.
    pub fn fingerprint(&self) -> u64 {
        let [_, _, of_sources, of_lines] = self.head;
        mix(of_sources.rotate_left(29) ^ of_lines)
    }

    /// The next table, of `len` numbers, of each of which `is_right` must say so.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`], with the byte of the index at which it is wrong.
    pub fn take<T: Plain>(
        &mut self,
        len: usize,
        is_right: impl Fn(&T) -> bool,
    ) -> Result<&'m [T], ModelError> {
        let at = self.n_bytes.saturating_sub(self.rest.len());
        let n_bytes = len.checked_mul(size_of::<T>()).ok_or(damaged(at))?;
        let n_filled = n_bytes.checked_next_multiple_of(LINE).ok_or(damaged(at))?;
        let (table, rest) = self.rest.split_at_checked(n_filled).ok_or(damaged(at))?;
        self.rest = rest;
        let table = table.get(..n_bytes).and_then(numbers_in).ok_or(damaged(at))?;
        match table.iter().position(|number| !is_right(number)) {
            Some(i) => Err(damaged(at.saturating_add(i.saturating_mul(size_of::<T>())))),
            None => Ok(table),
        }
    }

    /// Checks that all tables have been taken.
    ///
    /// # Errors
    ///
    /// [`VocabFault::Index`] when there are more.
    pub fn finish(&self) -> Result<(), ModelError> {
        if self.rest.is_empty() { Ok(()) } else { Err(damaged(self.n_bytes.saturating_sub(self.rest.len()))) }
    }
}

fn damaged(at: usize) -> ModelError {
    ModelError::BadVocab { fault: VocabFault::Index, index: at as u64 }
}

/// Takes tables one after the other, to be written or counted.
pub struct Lines<F> {
    write: F,
    hash: Hash,
    line: Line,
    /// Bytes in `line`.
    len: usize,
    pub n_bytes: u64,
}

impl<F: FnMut(&[u8]) -> Result<(), WriteError>> Lines<F> {
    pub fn new(write: F) -> Self {
        Self { write, hash: Hash::default(), line: [0; LINE], len: 0, n_bytes: 0 }
    }

    /// Writes the first line, which tells the hash of those behind it.
    pub fn head(&mut self, image: &Image<'_>, of_lines: u64) -> Result<(), WriteError> {
        self.table([MAGIC, VERSION, hash_of_sources(image), of_lines].map(u64::to_le_bytes).into_iter())
    }

    /// A table of numbers, given as their bytes.
    pub fn table<const N: usize>(
        &mut self,
        numbers: impl Iterator<Item = [u8; N]>,
    ) -> Result<(), WriteError> {
        for byte in numbers.flatten() {
            if let Some(slot) = self.line.get_mut(self.len) {
                *slot = byte;
            }
            self.len = self.len.wrapping_add(1); // at most a line
            if self.len == LINE {
                self.end_line()?;
            }
        }
        if self.len == 0 { Ok(()) } else { self.end_line() }
    }

    fn end_line(&mut self) -> Result<(), WriteError> {
        let line = core::mem::replace(&mut self.line, [0; LINE]);
        self.len = 0;
        self.n_bytes = self.n_bytes.saturating_add(LINE as u64);
        self.hash.line(&line);
        (self.write)(&line)
    }

    /// The hash of all lines so far.
    pub fn hash(&self) -> u64 {
        self.hash.value()
    }
}

/// A hash of lines that is as fast as memory: for each of the four words of a line a number of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Hash([u64; 4]);

impl Hash {
    #[inline]
    fn line(&mut self, line: &Line) {
        for (lane, word) in self.0.iter_mut().zip(words(line)) {
            *lane = mix(lane.rotate_left(29) ^ word);
        }
    }

    /// All of `bytes`, filled up with zeros to a whole line.
    fn lines(mut self, bytes: &[u8]) -> Self {
        let (lines, rest) = bytes.as_chunks();
        lines.iter().for_each(|line| self.line(line));
        if !rest.is_empty() {
            let mut line = [0; LINE];
            line.iter_mut().zip(rest).for_each(|(slot, &byte)| *slot = byte);
            self.line(&line);
        }
        self
    }

    fn value(self) -> u64 {
        self.0.iter().fold(1, |all: u64, &lane| mix(all.rotate_left(29) ^ lane ^ lane >> 32))
    }
}

fn words(line: &Line) -> [u64; 4] {
    let (words, _) = line.as_chunks();
    let mut numbers = [0; 4];
    numbers.iter_mut().zip(words).for_each(|(number, word)| *number = u64::from_le_bytes(*word));
    numbers
}

/// The hash of what the index is made from: of each key whether it is there, its type, its length and its bytes.
fn hash_of_sources(image: &Image<'_>) -> u64 {
    let hash = SOURCES.iter().fold(Hash::default(), |hash, key| {
        let (ty, len, bytes) = match image.get(key) {
            Some(Value::String(text)) => (1, text.len(), text),
            Some(Value::Array(array)) => (2 + u64::from(array.element().id()), array.len(), array.bytes()),
            Some(_) | None => (0, 0, &[][..]),
        };
        let mut hash = hash;
        let head = [ty, len as u64, bytes.len() as u64, 0].map(u64::to_le_bytes);
        hash = hash.lines(head.as_flattened());
        hash.lines(bytes)
    });
    hash.value()
}
