//! The working memory of an encoding and the merging of symbols in it: O(n log n) for any text.

use super::cache::PieceCache;
use super::merges::{Merges, NEVER};
use super::unigram::{self, Lattice};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, TokenizeError};

/// Working memory for texts up to a length. What it takes for each byte of text depends on the model: about 50 bytes
/// where symbols merge, 34 for what is beyond 64 KiB, and 2 KiB at least; 6 or, for a normalizer as NFKC, 26 for a unigram
/// model; else 2. May be used again and again; what it held of texts is overwritten when it is dropped.
#[derive(Debug)]
pub struct Scratch<'s> {
    pub(super) work: Work<'s>,
    /// One for each byte of text: the work of the search for special tokens.
    pub(super) marks: &'s mut [u16],
}

/// What a model works with.
#[derive(Debug)]
pub(super) struct Work<'s> {
    pub chain: Chain<'s>,
    pub cache: PieceCache<'s>,
    pub lattice: Lattice<'s>,
    pub steps: u64,
}

/// What a model needs to work.
#[derive(Clone, Copy, Debug)]
pub(super) enum Needs {
    /// Nothing.
    None,
    /// Symbols that merge.
    Chain,
    /// A lattice.
    Lattice(unigram::Size),
}

impl Needs {
    fn n_symbols(self, text_bytes: usize) -> usize {
        match self {
            Self::Chain => text_bytes.saturating_add(1), // and a space before it
            Self::None | Self::Lattice(_) => 0,
        }
    }

    fn lattice(self) -> Option<unigram::Size> {
        match self {
            Self::Lattice(size) => Some(size),
            Self::None | Self::Chain => None,
        }
    }
}

impl<'s> Scratch<'s> {
    /// Adds what [`Scratch::new`] allocates.
    pub(super) fn layout(needs: Needs, text_bytes: usize, layout: Layout) -> Result<Layout, ArenaError> {
        check_text_bytes(text_bytes)?;
        let n = needs.n_symbols(text_bytes);
        let layout = layout.add::<Symbol>(n)?.add::<u64>(n.saturating_mul(2))?;
        let layout = PieceCache::layout(n, layout)?;
        Lattice::layout(needs.lattice(), text_bytes, layout)?.add::<u16>(text_bytes)
    }

    pub(super) fn new(needs: Needs, text_bytes: usize, arena: &mut Arena<'s>) -> Result<Self, ArenaError> {
        check_text_bytes(text_bytes)?;
        let n = needs.n_symbols(text_bytes);
        let symbols = arena.alloc(n, Symbol::default())?;
        let heap = Heap { entries: arena.alloc(n.saturating_mul(2), 0)?, len: 0, steps: 0 };
        let cache = PieceCache::new(n, arena)?;
        let lattice = Lattice::new(needs.lattice(), text_bytes, arena)?;
        let work = Work { chain: Chain { symbols, len: 0, heap }, cache, lattice, steps: 0 };
        Ok(Self { work, marks: arena.alloc(text_bytes, 0)? })
    }

    /// Bytes of the longest text it serves.
    pub fn text_bytes(&self) -> usize {
        self.marks.len()
    }

    /// Forgets the tokens of pieces met before, so that the next text takes the time of the first.
    pub fn forget(&mut self) {
        self.work.cache.wipe();
    }

    /// Steps of merging, or bytes looked at in search of tokens, since it was made: a measure of work that does not
    /// depend on the machine.
    pub fn steps(&self) -> u64 {
        self.work.chain.heap.steps.wrapping_add(self.work.steps)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        self.work.chain.symbols.fill(Symbol::default());
        self.work.chain.heap.entries.fill(0);
        self.work.cache.wipe();
        self.work.lattice.clear();
        self.marks.fill(0);
        core::hint::black_box(self); // the zeros are meant for whoever has the memory next
    }
}

/// The numbers of a text's symbols fit in 32 bits.
fn check_text_bytes(n: usize) -> Result<(), ArenaError> {
    const MAX_TEXT_BYTES: usize = 1 << 29;
    if n > MAX_TEXT_BYTES { Err(ArenaError::TooLarge) } else { Ok(()) }
}

/// No symbol: past the end of the chain.
const NONE: u32 = u32::MAX;

/// A token in the making, linked to its neighbours.
#[derive(Clone, Copy, Debug, Default)]
struct Symbol {
    token: Token,
    prev: u32,
    next: u32,
    /// When it merges with the next one; [`NEVER`] also when it is gone.
    priority: u32,
}

/// Symbols in the order of the text.
#[derive(Debug)]
pub(super) struct Chain<'s> {
    symbols: &'s mut [Symbol],
    len: usize,
    heap: Heap<'s>,
}

/// Up to this many symbols the next merge is found by looking at all of them, which is faster than a heap.
const SHORT: usize = 32;

impl Chain<'_> {
    /// Takes all symbols out.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Puts a symbol at the end, which merges with the next one at `priority`.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::ScratchFull`], here in symbols.
    #[inline]
    pub fn push(&mut self, token: Token, priority: u32) -> Result<(), TokenizeError> {
        let have = self.symbols.len();
        let full = TokenizeError::ScratchFull { need: have.saturating_add(1), have };
        let symbol = self.symbols.get_mut(self.len).ok_or(full)?;
        (symbol.token, symbol.priority) = (token, priority);
        self.len = self.len.wrapping_add(1); // at most the length of the slice
        Ok(())
    }

    /// Merges until no two neighbours merge, always those of least priority, the leftmost of equal ones; gives what
    /// is left to `out` and leaves the chain empty.
    pub fn merge(&mut self, merges: &Merges<'_, '_>, mut out: impl FnMut(Token)) {
        let symbols = self.symbols.get_mut(..self.len).unwrap_or_default();
        self.len = 0;
        if symbols.len() <= SHORT {
            let n_left = merge_by_looking(symbols, merges, &mut self.heap.steps);
            symbols.iter().take(n_left).for_each(|symbol| out(symbol.token));
            return;
        }
        merge_by_heap(symbols, merges, &mut self.heap);
        let mut at = 0;
        while let Some(symbol) = symbols.get(at as usize) {
            out(symbol.token);
            at = symbol.next;
        }
    }
}

/// Moves what is left to the front; gives how many that are.
fn merge_by_looking(symbols: &mut [Symbol], merges: &Merges<'_, '_>, steps: &mut u64) -> usize {
    let mut rest = symbols;
    loop {
        let (mut least, mut at) = (NEVER, 0usize);
        for (i, symbol) in (0..rest.len()).zip(rest.iter()) {
            if symbol.priority < least {
                (least, at) = (symbol.priority, i);
            }
        }
        *steps = steps.wrapping_add(rest.len() as u64);
        let n_left = rest.len();
        let Some((before, [left, right, after @ ..])) = rest.split_at_mut_checked(at) else { return n_left };
        if least == NEVER {
            return n_left;
        }
        let Some(token) = merges.product(left.token, right.token, least) else { return n_left };
        left.token = token;
        left.priority = after.first().map_or(NEVER, |after| merges.priority(token, after.token));
        if let Some(before) = before.last_mut() {
            before.priority = merges.priority(before.token, token);
        }
        // `right` goes: all behind it move up.
        let mut slot = right;
        for symbol in after {
            *slot = *symbol;
            slot = symbol;
        }
        rest = rest.get_mut(..n_left.saturating_sub(1)).unwrap_or_default();
    }
}

fn merge_by_heap(symbols: &mut [Symbol], merges: &Merges<'_, '_>, heap: &mut Heap<'_>) {
    heap.len = 0;
    let n = symbols.len() as u32; // texts are below 2^29 bytes
    for (at, symbol) in (0..n).zip(symbols.iter_mut()) {
        symbol.prev = at.wrapping_sub(1); // NONE for the first
        symbol.next = if at.wrapping_add(1) < n { at.wrapping_add(1) } else { NONE };
        heap.push(symbol.priority, at);
    }
    // Each merge takes one entry out and puts two in at most: there is room for two for each symbol. An entry that
    // went stale does not fit its symbol any more; one that fits again says the truth again.
    while let Some((priority, at)) = heap.pop() {
        if symbols.get(at as usize).is_none_or(|symbol| symbol.priority != priority) {
            continue;
        }
        let Some(joined) = join(symbols, merges, at) else { return };
        heap.push(joined.priority, at);
        if let Some(before) = symbols.get(joined.prev as usize) {
            heap.push(before.priority, joined.prev);
        }
    }
}

/// Merges symbol `at` with the next one; gives the symbol that came of it.
#[inline]
fn join(symbols: &mut [Symbol], merges: &Merges<'_, '_>, at: u32) -> Option<Symbol> {
    let left = *symbols.get(at as usize)?;
    let right = symbols.get_mut(left.next as usize)?;
    right.priority = NEVER;
    let (next, token) = (right.next, merges.product(left.token, right.token, left.priority)?);
    let mut priority = NEVER;
    if let Some(after) = symbols.get_mut(next as usize) {
        after.prev = at;
        priority = merges.priority(token, after.token);
    }
    let joined = Symbol { token, prev: left.prev, next, priority };
    *symbols.get_mut(at as usize)? = joined;
    if let Some(before) = symbols.get_mut(left.prev as usize) {
        before.priority = merges.priority(before.token, token);
    }
    Some(joined)
}

/// A binary heap of (priority, symbol), least first; of equal priorities the leftmost symbol.
#[derive(Debug)]
struct Heap<'s> {
    /// The priority above, the symbol below.
    entries: &'s mut [u64],
    len: usize,
    steps: u64,
}

impl Heap<'_> {
    /// Adds a symbol, unless it never merges.
    fn push(&mut self, priority: u32, symbol: u32) {
        if priority == NEVER {
            return;
        }
        let entry = u64::from(priority) << 32 | u64::from(symbol);
        let mut hole = self.len;
        self.len = self.len.wrapping_add(1);
        while let Some(parent) = hole.checked_sub(1).map(|i| i / 2) {
            self.steps = self.steps.wrapping_add(1);
            match self.entries.get(parent) {
                Some(&above) if above > entry => self.set(hole, above),
                _ => break,
            }
            hole = parent;
        }
        self.set(hole, entry);
    }

    fn pop(&mut self) -> Option<(u32, u32)> {
        self.len = self.len.checked_sub(1)?;
        let least = *self.entries.first()?;
        let last = *self.entries.get(self.len)?;
        let heap = self.entries.get_mut(..self.len)?;
        let mut hole = 0usize;
        loop {
            self.steps = self.steps.wrapping_add(1);
            let child = hole.wrapping_mul(2).wrapping_add(1);
            let Some(&left) = heap.get(child) else { break };
            let right = heap.get(child.wrapping_add(1)).copied().unwrap_or(u64::MAX);
            if left.min(right) >= last {
                break;
            }
            if let Some(slot) = heap.get_mut(hole) {
                *slot = left.min(right);
            }
            hole = child.wrapping_add(usize::from(right < left));
        }
        self.set(hole, last);
        Some(((least >> 32) as u32, least as u32))
    }

    fn set(&mut self, at: usize, entry: u64) {
        if let Some(slot) = self.entries.get_mut(at) {
            *slot = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::MaybeUninit;

    #[test]
    fn nothing_is_left_behind() {
        let (mut symbols, mut entries, mut marks) = ([Symbol::default(); 2], [7; 4], [7; 1]);
        let heap = Heap { entries: &mut entries, len: 0, steps: 0 };
        let chain = Chain { symbols: &mut symbols, len: 0, heap };
        let mut region = [MaybeUninit::uninit(); 4096];
        let cache = PieceCache::new(1, &mut Arena::new(&mut region)).unwrap();
        let lattice = Lattice::new(None, 1, &mut Arena::new(&mut [])).unwrap();
        let mut scratch = Scratch { work: Work { chain, cache, lattice, steps: 0 }, marks: &mut marks };
        assert_eq!(scratch.work.chain.push(7, NEVER), Ok(()));
        drop(scratch);
        assert_eq!((symbols[0].token, entries, marks), (0, [0; 4], [0; 1]));
    }

    #[test]
    fn the_heap_gives_back_in_order() {
        let mut region = [MaybeUninit::uninit(); 8192];
        let mut arena = Arena::new(&mut region);
        let mut heap = Heap { entries: arena.alloc(500, 0).unwrap(), len: 0, steps: 0 };
        let mut x = 1u32;
        for i in 0..500 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            heap.push(x >> 24, i);
        }
        heap.push(NEVER, 7);
        let mut last = (0, 0);
        for _ in 0..500 {
            let entry = heap.pop().unwrap();
            assert!(entry > last);
            last = entry;
        }
        assert_eq!(heap.pop(), None);
    }
}
