//! [`PieceCache`]: the tokens of pieces met lately. Most pieces of a text are words that it has had before.

use super::hash::mix;
use super::output::Output;
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::ArenaError;

/// Longer pieces are not kept.
const MAX_PIECE_BYTES: usize = 15;
/// Pieces of more tokens are not kept.
const MAX_TOKENS: u32 = 6;
/// Tokens are below 2^20.
const TOKEN_BITS: u32 = 20;
/// 128 KiB, which stay in the second cache.
const MAX_ENTRIES: usize = 4096;

/// A piece whole, in one number: its bytes and, at the top, its length, so that none is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key(u128);

/// The tokens of a piece in one number: how many, and each in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tokens(u128);

/// Bits of the number of tokens. More than [`MAX_TOKENS`] means that they are not all there.
const COUNT_BITS: u32 = 4;

/// Direct-mapped: a piece has one place, and the latest is kept.
#[derive(Debug)]
pub struct PieceCache<'s> {
    entries: &'s mut [(Key, Tokens)],
    /// Of the tokenizer whose tokens these are.
    fingerprint: u64,
}

/// Where the tokens of a piece go: to the caller, and to be kept.
pub struct Sink<'o, 't> {
    out: &'o mut Output<'t>,
    tokens: Tokens,
}

impl Sink<'_, '_> {
    /// The next token of the piece.
    #[inline]
    pub fn push(&mut self, token: Token) {
        self.out.push(token);
        self.tokens.push(token);
    }
}

impl Key {
    /// The first `len` bytes of `text`, if they are not too many; what is behind them is of no matter.
    #[inline]
    fn new(text: &[u8], len: usize) -> Option<Self> {
        if len > MAX_PIECE_BYTES {
            return None;
        }
        let all = match text.first_chunk() {
            Some(bytes) => u128::from_le_bytes(*bytes),
            None => text.iter().rev().fold(0, |all, &byte| all << 8 | u128::from(byte)),
        };
        let mask = (1u128 << (8 * len)).wrapping_sub(1);
        Some(Self(all & mask | (len as u128) << 120))
    }
}

impl Tokens {
    /// Adds a token behind the others.
    #[inline]
    fn push(&mut self, token: Token) {
        let n = self.len();
        if n < MAX_TOKENS {
            self.0 |= u128::from(token) << (COUNT_BITS + n * TOKEN_BITS);
        }
        self.0 += u128::from(n <= MAX_TOKENS);
    }

    fn len(self) -> u32 {
        (self.0 & ((1 << COUNT_BITS) - 1)) as u32
    }

    /// The tokens in their order.
    #[inline]
    fn iter(self) -> impl Iterator<Item = Token> {
        let token = move |i| self.0 >> (COUNT_BITS + i * TOKEN_BITS) & ((1 << TOKEN_BITS) - 1);
        (0..self.len().min(MAX_TOKENS)).map(move |i| token(i) as Token)
    }
}

impl<'s> PieceCache<'s> {
    /// Adds what [`PieceCache::new`] allocates.
    pub fn layout(n_symbols: usize, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<(Key, Tokens)>(n_entries(n_symbols))
    }

    /// For texts that begin as up to `n_symbols`; of no use where that is 0.
    pub fn new(n_symbols: usize, arena: &mut Arena<'s>) -> Result<Self, ArenaError> {
        let entries = arena.alloc(n_entries(n_symbols), (Key::default(), Tokens::default()))?;
        Ok(Self { entries, fingerprint: 0 })
    }

    /// Forgets what another tokenizer made.
    pub fn serve(&mut self, fingerprint: u64) {
        if self.fingerprint != fingerprint {
            self.wipe();
            self.fingerprint = fingerprint;
        }
    }

    /// Forgets everything.
    pub fn wipe(&mut self) {
        self.entries.fill((Key::default(), Tokens::default()));
        core::hint::black_box(&mut *self.entries); // the zeros are meant for whoever has the memory next
    }

    /// Gives `out` the tokens of the piece that `text` begins with: those kept, or those that `encode` makes of it.
    ///
    /// # Errors
    ///
    /// Those of `encode`; what it made before that is given and not kept.
    #[inline]
    pub fn through<E>(
        &mut self,
        text: &[u8],
        len: usize,
        out: &mut Output<'_>,
        encode: impl FnOnce(&mut Sink<'_, '_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let key = Key::new(text, len);
        if let Some(tokens) = key.and_then(|key| self.get(key)) {
            tokens.iter().for_each(|token| out.push(token));
            return Ok(());
        }
        let mut sink = Sink { out, tokens: Tokens::default() };
        encode(&mut sink)?;
        if let Some(key) = key {
            self.put(key, sink.tokens);
        }
        Ok(())
    }

    #[inline]
    fn get(&self, key: Key) -> Option<Tokens> {
        let (kept, tokens) = *self.entries.get(self.place(key))?;
        (kept == key).then_some(tokens)
    }

    /// Keeps the tokens of a piece, unless they are too many.
    #[inline]
    fn put(&mut self, key: Key, tokens: Tokens) {
        let place = self.place(key);
        if let Some(entry) = self.entries.get_mut(place).filter(|_| tokens.len() <= MAX_TOKENS) {
            *entry = (key, tokens);
        }
    }

    fn place(&self, Key(key): Key) -> usize {
        let mixed = mix((key ^ key >> 64) as u64 ^ (key >> 64) as u64 >> 29);
        (mixed >> 40) as usize & self.entries.len().wrapping_sub(1)
    }
}

/// A power of two, or none.
fn n_entries(n_symbols: usize) -> usize {
    if n_symbols == 0 { 0 } else { (n_symbols / 8).clamp(1, MAX_ENTRIES).next_power_of_two() }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::mem::MaybeUninit;
    use std::vec::Vec;

    #[test]
    fn pieces_are_told_apart_by_their_bytes_and_length() {
        let text = b"0123456789abcdefgh";
        for len in 1..=MAX_PIECE_BYTES {
            let key = Key::new(text, len).unwrap();
            assert_eq!(Key::new(&text[..len], len), Some(key), "whatever comes behind");
            assert_ne!(Key::new(text, len - 1), Some(key));
            assert_ne!(key, Key::default());
        }
        assert_ne!(Key::new(b"a", 1), Key::new(b"a\0", 2));
        assert_eq!(Key::new(text, MAX_PIECE_BYTES + 1), None);
    }

    #[test]
    fn tokens_come_back_while_they_fit() {
        let mut region = [MaybeUninit::uninit(); 1 << 12];
        let mut cache = PieceCache::new(512, &mut Arena::new(&mut region)).unwrap();
        for n in 1..9 {
            let (mut tokens, key) = (Tokens::default(), Key::new(&[n as u8; 16], n).unwrap());
            let all: Vec<Token> = (0..n as Token).map(|i| (1 << TOKEN_BITS) - 1 - i).collect();
            all.iter().for_each(|&token| tokens.push(token));
            assert_eq!(cache.get(key), None);
            cache.put(key, tokens);
            let kept = cache.get(key).map(|tokens| tokens.iter().collect::<Vec<_>>());
            assert_eq!(kept, (n <= MAX_TOKENS as usize).then_some(all), "{n}");
        }
        cache.serve(7);
        assert!((1..9).all(|n| cache.get(Key::new(&[n as u8; 16], n).unwrap()).is_none()));
    }
}
