//! Where pieces begin among the next 64 bytes, found out for all of them at once: in ASCII text the neighbours of a byte
//! tell it, but for a few pieces that a [`Rule`] leaves to the scanner. A scanner's branches follow the text, and no
//! processor foresees those; here are next to none.

use super::scan::{after, behind};

/// What is known of 64 bytes: a bit for each, the first one lowest.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    /// `[A-Za-z]`
    pub letters: u64,
    /// `[0-9]`
    pub digits: u64,
    /// `\s`
    pub white: u64,
    /// `[\r\n]`, which is white.
    pub newlines: u64,
    /// A space, which is white.
    pub spaces: u64,
    /// `'`
    pub apostrophes: u64,
    /// No ASCII, or behind the text.
    open: u64,
}

/// How the pieces of an expression follow from kinds of bytes.
pub trait Rule {
    /// Where pieces begin. The first byte begins one whatever is said of it. Wrong may be what is said of the inside of a
    /// piece that is left to the scanner, of [`Rule::opens`], and of white space before that but for its first byte.
    fn begins(kinds: &Kinds) -> u64;

    /// Where a piece that begins is left to the scanner.
    fn leaves(kinds: &Kinds) -> u64;

    /// Bytes of which more must be known than their neighbours tell.
    fn opens(kinds: &Kinds) -> u64;
}

impl Kinds {
    /// Of the bytes that a text begins with.
    #[inline(always)]
    fn of(text: &[u8]) -> Self {
        let mut copy = [0x80; 64];
        let bytes = text.first_chunk().unwrap_or_else(|| {
            copy.iter_mut().zip(text).for_each(|(slot, &byte)| *slot = byte);
            &copy
        });
        // Three bits gathered cost less than the seven sets that they tell apart.
        let mut kinds = [0; 64];
        kinds.iter_mut().zip(bytes).for_each(|(slot, &byte)| *slot = kind(byte));
        let (low, middle, high) = (gather(&kinds, 0), gather(&kinds, 1), gather(&kinds, 2));
        Self {
            letters: !high & middle & !low,
            digits: !high & middle & low,
            white: high & !(middle & low),
            newlines: high & middle & !low,
            spaces: high & !middle & !low,
            apostrophes: !high & !middle & low,
            open: high & middle & low,
        }
    }

    /// `[^\s\p{L}\p{N}]`
    #[inline(always)]
    pub fn rest(&self) -> u64 {
        !(self.letters | self.digits | self.white)
    }
}

/// A number of three bits for what a byte is, by masks: a branch each would follow the text.
#[inline(always)]
fn kind(byte: u8) -> u8 {
    let if_so = |is_so: bool, kind: u8| u8::from(is_so).wrapping_neg() & kind;
    let apostrophe = if_so(byte == b'\'', 1);
    let letter = if_so((byte | 0x20).wrapping_sub(b'a') < 26, 2);
    let digit = if_so(byte.wrapping_sub(b'0') < 10, 3);
    let space = if_so(byte == b' ', 4);
    let blank = if_so(byte.wrapping_sub(b'\t') < 5, 5);
    let newline = if_so((byte == b'\n') | (byte == b'\r'), 5 ^ 6); // which is among the blanks
    let open = if_so(!byte.is_ascii(), 7);
    apostrophe | letter | digit | space | blank ^ newline | open
}

/// Bit `bit` of each number.
#[inline(always)]
fn gather(numbers: &[u8; 64], bit: u32) -> u64 {
    let (chunks, _) = numbers.as_chunks();
    // Of eight bytes next to each other bit 8i moves to bit 56 + i.
    let bits = |chunk: &[u8; 8]| {
        let lowest = u64::from_le_bytes(*chunk) >> bit & 0x0101_0101_0101_0101;
        lowest.wrapping_mul(0x0102_0408_1020_4080) >> 56
    };
    chunks.iter().rev().fold(0, |all, chunk| all << 8 | bits(chunk))
}

/// The pieces that begin among 64 bytes of a text.
#[derive(Clone, Copy, Debug)]
pub struct Starts {
    from: usize,
    /// Where a piece begins for certain.
    begins: u64,
    /// Where a piece that begins is left to the scanner.
    leaves: u64,
    /// Before this place it is of no use to look anew.
    scanned: usize,
    /// Bytes of the text.
    text_len: usize,
}

impl Starts {
    /// Nothing is known.
    pub const NONE: Self = Self { from: 0, begins: 0, leaves: 0, scanned: 0, text_len: 0 };

    /// Writes where pieces end to `ends`, the first of which begins at `at`, as many as there is room for. When there are
    /// fewer, a 0 follows. `scan` gives where the piece ends that begins at a place.
    #[inline(always)]
    pub fn cut<R: Rule>(
        &mut self,
        text: &[u8],
        at: usize,
        ends: &mut [usize],
        scan: impl Fn(&[u8], usize) -> usize,
    ) {
        let mut at = at;
        let mut slots = ends.iter_mut();
        loop {
            let mut found = if at < text.len() { self.ends::<R>(text, at) } else { 0 };
            if found == 0 {
                let Some(slot) = slots.next() else { return };
                if at >= text.len() {
                    *slot = 0;
                    return;
                }
                at = scan(text, at);
                *slot = at;
            }
            let first = behind(at, 1);
            while found != 0 {
                let Some(slot) = slots.next() else { return };
                at = behind(first, found.trailing_zeros() as usize);
                *slot = at;
                found &= found.wrapping_sub(1);
            }
        }
    }

    /// Where the piece that begins at `at` and those behind it end: a bit for each place from `at + 1` on. There is none
    /// when the first one is left to the scanner.
    #[inline(always)]
    fn ends<R: Rule>(&mut self, text: &[u8], at: usize) -> u64 {
        let is_known = self.text_len == text.len();
        let mut i = at.wrapping_sub(self.from);
        if !is_known || i >= 64 || self.begins >> i >> 1 == 0 {
            if is_known && at < self.scanned {
                return 0;
            }
            *self = look::<R>(text, at);
            i = 0;
        }
        if self.leaves >> i & 1 != 0 {
            return 0;
        }
        let ends = self.begins >> i >> 1;
        let left = ends & self.leaves >> i >> 1;
        ends & (left ^ left.wrapping_sub(1)) // up to the first piece that is left to the scanner
    }
}

/// The pieces from `from` on, where one begins.
#[inline(never)]
fn look<R: Rule>(text: &[u8], from: usize) -> Starts {
    let kinds = Kinds::of(after(text, from));
    // The last byte has no neighbour.
    let n_closed = (kinds.open | R::opens(&kinds)).trailing_zeros().min(63);
    let closed = (1 << n_closed) - 1;
    let n_dark = (!kinds.white & closed).checked_ilog2().map_or(0, |last| last.wrapping_add(1));
    // White space that goes on behind them begins for certain at most.
    let n_known = n_dark.wrapping_add(1).min(n_closed);
    let scanned = match n_closed as usize {
        0..8 => behind(from, 64), // a text in another script
        n @ 8..63 => behind(from, n),
        _ => from,
    };
    let begins = R::begins(&kinds) & ((1 << n_known) - 1);
    Starts { from, begins, leaves: R::leaves(&kinds), scanned, text_len: text.len() }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::tokenizer::pre::gpt2::{Gpt2, gpt2};
    use crate::tokenizer::pre::words::{InAscii, LLAMA3, MINICPM5, QWEN2, Style, words};
    use std::string::String;
    use std::vec::Vec;

    fn compare<R: Rule>(text: &[u8], scan: impl Fn(&[u8], usize) -> usize) {
        let (mut starts, mut at) = (Starts::NONE, 0);
        while at < text.len() {
            let mut ends = [usize::MAX; 5];
            starts.cut::<R>(text, at, &mut ends, &scan);
            for end in ends.into_iter().take_while(|&end| end != 0) {
                assert_eq!(end, scan(text, at), "{:?} from {at} on", String::from_utf8_lossy(text));
                at = end;
            }
        }
    }

    /// Texts of everything that rules tell apart, by chance: the pieces are those of the scanners.
    #[test]
    fn pieces_are_those_of_the_scanners() {
        let parts =
            ["a", "s", "S", "ll", "RE", "word", "1", "23", " ", "  ", "\t", "\n", "\r", "\u{b}", "'", "!"];
        let odd = [
            "\0", "\u{7f}", "é", "字", "٣", "\u{3000}", "\u{85}", "ſ", "\u{301}", " \n", "\n\n", "\n \n",
            "*/",
        ];
        let mut x = 1u64;
        let mut next = |n: usize| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 33) as usize % n
        };
        for round in 0..if cfg!(miri) { 40 } else { 20_000 } {
            let mut text = Vec::new();
            for _ in 0..next(160) {
                let is_odd = next(100) < round % 40;
                let part = if is_odd { odd[next(odd.len())] } else { parts[next(parts.len())] };
                text.extend_from_slice(part.as_bytes());
            }
            let by = |style: &'static Style| move |text: &[u8], at| words(text, at, style);
            compare::<Gpt2>(&text, gpt2);
            compare::<InAscii<1>>(&text, by(&QWEN2));
            compare::<InAscii<3>>(&text, by(&LLAMA3));
            compare::<InAscii<3>>(&text, by(&MINICPM5));
        }
    }
}
