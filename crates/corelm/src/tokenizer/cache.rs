//! [`PieceCache`]: the tokens of short pieces met lately. Most pieces of a text are words that it has had before.

use super::output::Output;
use super::short::{Long, Short};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::ArenaError;

/// Pieces of more tokens are not kept, unless all but the first are the same: white space often is.
const MAX_TOKENS: usize = 6;
/// Long pieces of more tokens are not kept.
const MAX_LONG_TOKENS: usize = 12;
/// Tokens are below 2^20.
const TOKEN_BITS: u32 = 20;
/// 2 KiB, enough for what comes back in a short text.
const MIN_ENTRIES: usize = 64;
/// 1 MiB, more than the second cache of most CPUs. Sources have so many different pieces, and merging one anew takes longer
/// than to wait for it.
const MAX_ENTRIES: usize = 32_768;
/// So many times fewer long pieces are kept, each in twice the memory: texts in Latin letters have few.
const FEWER_LONG: usize = 16;

/// The tokens of a piece in two numbers: three in each, the first lowest, and how many at the top of the first. Of more
/// than six the first two are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept(u64, u64);

/// Where the number of tokens stands.
const COUNT_AT: u32 = 60;

/// The same of up to twelve tokens in four numbers.
type LongKept = [u64; 4];

/// Direct-mapped: a piece has one place, and the latest is kept.
#[derive(Debug)]
pub struct PieceCache<'s> {
    entries: &'s mut [(Short, Kept)],
    long: &'s mut [(Long, LongKept)],
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
        let left = self.0 >> COUNT_AT;
        if left == 1 {
            out.push(token(self.0));
            return;
        }
        if left > MAX_TOKENS as u64 {
            out.push(token(self.0));
            (1..left).for_each(|_| out.push(token(self.0 >> TOKEN_BITS)));
            return;
        }
        give_threes(left, &[self.0, self.1], out);
    }
}

/// Gives `n` tokens, of which there are three in each number.
#[inline]
fn give_threes(n: u64, threes: &[u64], out: &mut Output<'_>) {
    let mut left = n;
    for &three in threes {
        let mut rest = three;
        for _ in 0..left.min(3) {
            out.push((rest & ((1 << TOKEN_BITS) - 1)) as Token);
            rest >>= TOKEN_BITS;
        }
        left = left.saturating_sub(3);
    }
}

/// The last `n` tokens of `out`, if they are not too many and there was room for them.
fn kept_of(out: &Output<'_>, n: usize) -> Option<LongKept> {
    let tokens = out.last(n).filter(|_| n <= MAX_LONG_TOKENS)?;
    let mut kept = LongKept::default();
    for (kept, three) in kept.iter_mut().zip(tokens.chunks(3)) {
        *kept = three.iter().rev().fold(0, |rest, &token| rest << TOKEN_BITS | u64::from(token));
    }
    kept[0] |= (n as u64) << COUNT_AT;
    Some(kept)
}

impl<'s> PieceCache<'s> {
    /// Adds what [`PieceCache::new`] allocates.
    pub fn layout(n_symbols: usize, layout: Layout) -> Result<Layout, ArenaError> {
        let n = n_entries(n_symbols);
        layout.add::<(Short, Kept)>(n)?.add::<(Long, LongKept)>(n / FEWER_LONG)
    }

    /// For texts that begin as up to `n_symbols`; of no use where that is 0.
    pub fn new(n_symbols: usize, arena: &mut Arena<'s>) -> Result<Self, ArenaError> {
        let n = n_entries(n_symbols);
        let entries = arena.alloc(n, Default::default())?;
        Ok(Self { entries, long: arena.alloc(n / FEWER_LONG, Default::default())?, fingerprint: 0 })
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
        self.entries.fill(Default::default());
        self.long.fill(Default::default());
        core::hint::black_box(&mut *self); // the zeros are meant for whoever has the memory next
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

    /// The same of a piece that is not short, by tokens kept or those that `encode` makes of it.
    ///
    /// # Errors
    ///
    /// As [`PieceCache::through`].
    #[inline(never)]
    pub fn through_long<E>(
        &mut self,
        text: &[u8],
        len: usize,
        out: &mut Output<'_>,
        encode: impl FnOnce(&mut Sink<'_, '_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(long) = Long::new(text, len) else { return encode(&mut Sink::new(out)) };
        let place = self.long.get_mut(long.place(self.long.len()));
        if let Some((known, kept)) = &place
            && *known == long
        {
            give_threes(kept[0] >> COUNT_AT, kept, out);
            return Ok(());
        }
        let n_before = out.len();
        encode(&mut Sink::new(out))?;
        if let Some((entry, kept)) = place.zip(kept_of(out, out.len().saturating_sub(n_before))) {
            *entry = (long, kept);
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

    #[test]
    fn long_pieces_come_back_too() {
        let mut region = [MaybeUninit::uninit(); 1 << 14];
        let mut cache = PieceCache::new(512, &mut Arena::new(&mut region)).unwrap();
        for (len, n) in [15, 16, 30, 31, 32].into_iter().flat_map(|len| (1..15).map(move |n| (len, n))) {
            let text = [n as u8; 32];
            let all: Vec<Token> = (0..n as Token).map(|i| (1 << TOKEN_BITS) - 1 - i).collect();
            let is_kept = len <= Long::MAX && n <= MAX_LONG_TOKENS;
            for is_first in [true, false] {
                let (mut tokens, mut is_fresh) = ([0; 16], false);
                let mut out = Output::new(&mut tokens);
                let encoded = cache.through_long(&text, len, &mut out, |sink| {
                    is_fresh = true;
                    all.iter().for_each(|&token| sink.push(token));
                    Ok::<_, ()>(())
                });
                assert_eq!((encoded, out.finish()), (Ok(()), Ok(n)));
                assert_eq!((&tokens[..n], is_fresh), (&all[..], is_first || !is_kept), "{n} of {len}");
            }
        }
    }
}
