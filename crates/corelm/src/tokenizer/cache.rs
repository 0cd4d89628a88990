//! [`PieceCache`]: the tokens of short pieces met lately. Most pieces of a text are words that it has had before.

use super::output::Output;
use super::short::Short;
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::ArenaError;

/// Pieces of more tokens are not kept, unless all but the first are the same: white space often is.
const MAX_TOKENS: usize = 6;
/// Tokens are below 2^20.
const TOKEN_BITS: u32 = 20;
/// 2 KiB, enough for what comes back in a short text.
const MIN_ENTRIES: usize = 64;
/// 1 MiB, more than the second cache of most CPUs. Sources have so many different pieces, and merging one anew takes longer
/// than to wait for it.
const MAX_ENTRIES: usize = 32_768;

/// The tokens of a piece in two numbers: three in each, the first lowest, and how many at the top of the first. Of more
/// than six the first two are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept(u64, u64);

/// Where the number of tokens stands.
const COUNT_AT: u32 = 60;

/// Direct-mapped: a piece has one place, and the latest is kept.
#[derive(Debug)]
pub struct PieceCache<'s> {
    entries: &'s mut [(Short, Kept)],
    /// Of the tokenizer whose tokens these are.
    fingerprint: u64,
}

/// Where the tokens of a piece go: to the caller, and to be kept.
pub struct Sink<'o, 't> {
    out: &'o mut Output<'t>,
    tokens: [Token; MAX_TOKENS],
    len: usize,
    /// All but the first are the same.
    is_run: bool,
}

impl<'o, 't> Sink<'o, 't> {
    #[inline]
    fn new(out: &'o mut Output<'t>) -> Self {
        Self { out, tokens: [0; MAX_TOKENS], len: 0, is_run: true }
    }

    /// The next token of the piece.
    #[inline]
    pub fn push(&mut self, token: Token) {
        self.out.push(token);
        if let Some(slot) = self.tokens.get_mut(self.len) {
            *slot = token;
        }
        self.len = self.len.saturating_add(1);
        self.is_run &= self.len <= 2 || token == self.tokens[1];
    }

    /// What is kept of them, if that can be.
    #[inline]
    fn kept(&self) -> Option<Kept> {
        let most = if self.is_run { Short::MAX } else { MAX_TOKENS };
        (self.len <= most).then(|| Kept::new(self.tokens, self.len))
    }
}

impl Kept {
    #[inline]
    fn new(tokens: [Token; MAX_TOKENS], len: usize) -> Self {
        let three = |a, b, c| u64::from(a) | u64::from(b) << TOKEN_BITS | u64::from(c) << (2 * TOKEN_BITS);
        let [a, b, c, d, e, f] = tokens;
        Self(three(a, b, c) | (len as u64) << COUNT_AT, three(d, e, f))
    }

    /// One token.
    #[inline]
    fn one(token: Token) -> Self {
        Self(u64::from(token) | 1 << COUNT_AT, 0)
    }

    /// Gives the tokens in their order.
    #[inline]
    fn give(self, out: &mut Output<'_>) {
        let token = |three: u64| (three & ((1 << TOKEN_BITS) - 1)) as Token;
        let mut left = self.0 >> COUNT_AT;
        if left == 1 {
            out.push(token(self.0));
            return;
        }
        if left > MAX_TOKENS as u64 {
            out.push(token(self.0));
            (1..left).for_each(|_| out.push(token(self.0 >> TOKEN_BITS)));
            return;
        }
        for mut three in [self.0, self.1] {
            for _ in 0..left.min(3) {
                out.push(token(three));
                three >>= TOKEN_BITS;
            }
            left = left.saturating_sub(3);
        }
    }
}

impl<'s> PieceCache<'s> {
    /// Adds what [`PieceCache::new`] allocates.
    pub fn layout(n_symbols: usize, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<(Short, Kept)>(n_entries(n_symbols))
    }

    /// For texts that begin as up to `n_symbols`; of no use where that is 0.
    pub fn new(n_symbols: usize, arena: &mut Arena<'s>) -> Result<Self, ArenaError> {
        let entries = arena.alloc(n_entries(n_symbols), (Short::default(), Kept::default()))?;
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
        self.entries.fill((Short::default(), Kept::default()));
        core::hint::black_box(&mut *self.entries); // the zeros are meant for whoever has the memory next
    }

    /// Gives `out` the tokens of the piece of `len` bytes that `text` begins with: those kept, or the one that it is by
    /// `whole`, which is asked about short ones only, or those that `encode` makes of it.
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
        whole: impl FnOnce(Short) -> Option<Token>,
        encode: impl FnOnce(&mut Sink<'_, '_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(short) = Short::new(text, len) else {
            return encode(&mut Sink::new(out));
        };
        let place = self.entries.get_mut(short.place(self.entries.len()));
        if let Some((known, kept)) = &place
            && *known == short
        {
            kept.give(out);
            return Ok(());
        }
        let kept = if let Some(token) = whole(short) {
            out.push(token);
            Some(Kept::one(token))
        } else {
            let mut sink = Sink::new(out);
            encode(&mut sink)?;
            sink.kept()
        };
        if let Some((entry, kept)) = place.zip(kept) {
            *entry = (short, kept);
        }
        Ok(())
    }
}

fn n_entries(n_symbols: usize) -> usize {
    if n_symbols == 0 { 0 } else { (n_symbols / 2).clamp(MIN_ENTRIES, MAX_ENTRIES) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::mem::MaybeUninit;
    use std::vec::Vec;

    #[test]
    fn tokens_come_back_while_they_fit() {
        let mut region = [MaybeUninit::uninit(); 1 << 14];
        let mut cache = PieceCache::new(512, &mut Arena::new(&mut region)).unwrap();
        let through = |cache: &mut PieceCache<'_>, text: &[u8], fresh: &[Token]| {
            let mut tokens = [0; 16];
            let mut out = Output::new(&mut tokens);
            let mut is_fresh = false;
            let encoded = cache.through(
                text,
                text.len(),
                &mut out,
                |_| None,
                |sink| {
                    is_fresh = true;
                    fresh.iter().for_each(|&token| sink.push(token));
                    Ok::<_, ()>(())
                },
            );
            assert_eq!(encoded, Ok(()));
            let n = out.finish().unwrap();
            (tokens[..n].to_vec(), is_fresh)
        };
        for n in 0..9 {
            let text = [n as u8; 9];
            let all: Vec<Token> = (0..n as Token).map(|i| (1 << TOKEN_BITS) - 1 - i).collect();
            assert_eq!(through(&mut cache, &text, &all), (all.clone(), true));
            assert_eq!(through(&mut cache, &text, &all), (all, n > MAX_TOKENS), "{n}");
        }
        for n in 2..=Short::MAX {
            let text = [b'a' + n as u8; Short::MAX];
            let mut all = [5].repeat(n);
            all[0] = 7;
            assert_eq!(through(&mut cache, &text, &all), (all.clone(), true));
            assert_eq!(through(&mut cache, &text, &all), (all.clone(), false), "{n}");
            all[n - 1] = 8;
            assert_eq!(through(&mut cache, &text[1..], &all), (all.clone(), true));
            assert_eq!(through(&mut cache, &text[1..], &all), (all, n > MAX_TOKENS), "{n}");
        }
        cache.serve(7);
        assert_eq!(through(&mut cache, &[1; 9], &[5]), ([5].to_vec(), true));
    }
}
