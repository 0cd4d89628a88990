//! The words that scanners are written in: classes of characters as bits of a set, and runs of them.
//!
//! A position is a byte offset. At the end of a text, and past it, stands a character of no class.

use crate::tokenizer::unicode::{self, Char, Class};

/// A set of classes. A character is of exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set(u8);

impl Set {
    /// Of no class: the end of the text.
    pub const END: Self = Self(0);
    /// `\p{L}`
    pub const LETTER: Self = Self::of(Class::Letter);
    /// `\p{N}`
    pub const NUMBER: Self = Self::of(Class::Number);
    /// `\p{M}`
    pub const MARK: Self = Self::of(Class::Mark);
    /// `\p{P}`
    pub const PUNCTUATION: Self = Self::of(Class::Punctuation);
    /// `\p{S}`
    pub const SYMBOL: Self = Self::of(Class::Symbol);
    /// `[\r\n]`
    pub const NEWLINE: Self = Self(1 << 7);
    /// `\s`
    pub const WHITE: Self = Self::of(Class::Space).or(Self::NEWLINE);
    /// `[^\s\p{L}\p{N}]`
    pub const REST: Self = Self(!(Self::WHITE.0 | Self::LETTER.0 | Self::NUMBER.0));

    const fn of(class: Class) -> Self {
        Self(1 << class as u8)
    }

    /// The class of a code point, by the tables: line breaks are no class of their own here.
    #[inline]
    pub fn of_code(code: u32) -> Self {
        Self::of(unicode::class(code))
    }

    /// Both.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The classes that are not `other`.
    pub const fn but(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether a character of `class` is in the set; the end of the text is in none.
    #[inline]
    pub const fn has(self, class: Self) -> bool {
        self.0 & class.0 != 0
    }
}

/// The class of an ASCII character, in a table of all bytes.
static ASCII: [Set; 256] = {
    let mut table = [Set::END; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte as usize] = ascii(byte);
        byte += 1;
    }
    table
};

/// As [`ascii`], from a table.
#[inline(always)]
pub fn ascii_class(byte: u8) -> Set {
    ASCII[usize::from(byte)]
}

/// The class of an ASCII character; of no class for other bytes.
pub const fn ascii(byte: u8) -> Set {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' => Set::LETTER,
        b'0'..=b'9' => Set::NUMBER,
        b'\r' | b'\n' => Set::NEWLINE,
        b' ' | b'\t' | 0x0B | 0x0C => Set::of(Class::Space),
        b'$' | b'+' | b'<'..=b'>' | b'^' | b'`' | b'|' | b'~' => Set::SYMBOL,
        b'!'..=b'~' => Set::PUNCTUATION,
        0..=0x7F => Set::of(Class::Other),
        _ => Set::END,
    }
}

/// The class of the character at `at`, and where the next one begins.
#[inline(always)]
pub fn first(text: &[u8], at: usize) -> (Set, usize) {
    match text.get(at) {
        Some(&byte) if byte.is_ascii() => (ASCII[usize::from(byte)], behind(at, 1)),
        _ => wide(text, at),
    }
}

/// The class of the character at `at`.
#[inline(always)]
pub fn class(text: &[u8], at: usize) -> Set {
    first(text, at).0
}

/// As [`first`], for characters that are not ASCII.
#[inline(never)]
fn wide(text: &[u8], at: usize) -> (Set, usize) {
    decode(text, at).map_or((Set::END, at), |(code, next)| (Set::of_code(code), next))
}

/// The place `n` bytes behind `at`: both are in a text, or end it, and no text has more than `isize::MAX` bytes.
#[inline(always)]
pub fn behind(at: usize, n: usize) -> usize {
    at.wrapping_add(n)
}

/// The character at `at`, U+FFFD for a byte that is none, and where the next one begins.
#[inline(always)]
pub fn decode(text: &[u8], at: usize) -> Option<(u32, usize)> {
    let c = Char::first(after(text, at))?;
    Some((c.code.unwrap_or(0xFFFD), behind(at, c.len)))
}

/// Where `[set]*` ends that begins at `at`.
#[inline(always)]
pub fn run(text: &[u8], at: usize, set: Set) -> usize {
    let end = run_of_ascii(text, at, set);
    if is_wide(text, end) { long_run(text, end, set) } else { end }
}

#[inline(never)]
fn long_run(text: &[u8], at: usize, set: Set) -> usize {
    run_of(text, at, set, |at| run_of_ascii(text, at, set))
}

/// As [`run`], of ASCII characters.
#[inline(always)]
fn run_of_ascii(text: &[u8], at: usize, set: Set) -> usize {
    let mut at = at;
    while let Some(&byte) = text.get(at)
        && set.has(ASCII[usize::from(byte)])
    {
        at = behind(at, 1);
    }
    at
}

/// As [`run`], for a set with `\p{L}` and no other ASCII characters.
#[inline(never)]
pub fn letters(text: &[u8], at: usize, set: Set) -> usize {
    run_of(text, at, set, |at| ascii_letters(text, at))
}

/// As [`letters`], but for `[A-Z]`.
#[inline(never)]
pub fn small_letters(text: &[u8], at: usize, set: Set) -> usize {
    run_of(text, at, set, |at| small_run(text, at, |bytes| bytes))
}

/// Where the characters of `set` end, of ASCII those that `ascii` passes.
#[inline(always)]
fn run_of(text: &[u8], at: usize, set: Set, ascii: impl Fn(usize) -> usize) -> usize {
    let mut at = at;
    loop {
        let start = wide_run(text, at, set);
        at = if set.has(ascii_or_end(text, start)) { ascii(start) } else { start };
        if at == start || !is_wide(text, at) {
            return at;
        }
    }
}

/// The class of an ASCII character at `at`.
#[inline(always)]
fn ascii_or_end(text: &[u8], at: usize) -> Set {
    text.get(at).map_or(Set::END, |&byte| ascii_class(byte))
}

/// As [`run`], of characters that are not ASCII.
#[inline(always)]
pub fn wide_run(text: &[u8], at: usize, set: Set) -> usize {
    let mut at = at;
    while is_wide(text, at)
        && let Some((code, next)) = decode(text, at)
        && set.has(Set::of_code(code))
    {
        at = next;
    }
    at
}

/// Whether there is a character at `at` that is not ASCII.
#[inline(always)]
pub fn is_wide(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|byte| !byte.is_ascii())
}

/// Where `[\x00-\x7F]*` ends, up to seven characters before.
#[inline(always)]
pub fn most_ascii(text: &[u8], at: usize) -> usize {
    let (chunks, _) = after(text, at).as_chunks();
    let n = chunks.iter().take_while(|chunk| u64::from_le_bytes(**chunk) & HIGH_BITS == 0).count();
    behind(at, n.wrapping_mul(8))
}

/// Where `[A-Za-z]*` ends.
#[inline(always)]
pub fn ascii_letters(text: &[u8], at: usize) -> usize {
    small_run(text, at, fold_case)
}

const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

const HIGH_BITS: u64 = repeat(0x80);

/// Makes capital letters small, and nothing else a small letter.
#[inline(always)]
fn fold_case(bytes: u64) -> u64 {
    bytes | repeat(0x20)
}

/// For each byte the high bit, set where `fold` makes no small letter of it; `fold` keeps high bits as they are.
#[inline(always)]
fn are_others(bytes: u64, fold: impl Fn(u64) -> u64) -> u64 {
    // Sums of seven bits do not carry into the next byte.
    let low = fold(bytes) & !HIGH_BITS;
    let from_a = low.wrapping_add(repeat(0x80 - b'a'));
    let behind_z = low.wrapping_add(repeat(0x7F - b'z'));
    (!from_a | behind_z | bytes) & HIGH_BITS
}

/// Where the bytes end that `fold` makes small letters, eight at a time.
#[inline(always)]
fn small_run(text: &[u8], at: usize, fold: impl Fn(u64) -> u64) -> usize {
    let mut at = at;
    while let Some(chunk) = after(text, at).first_chunk() {
        let n = are_others(u64::from_le_bytes(*chunk), &fold).trailing_zeros() as usize / 8;
        at = behind(at, n);
        if n < 8 {
            return at;
        }
    }
    while let Some(&byte) = text.get(at)
        && are_others(byte.into(), &fold) & 0x80 == 0
    {
        at = behind(at, 1);
    }
    at
}

/// Where `b?` ends.
#[inline(always)]
pub fn skip(text: &[u8], at: usize, byte: u8) -> usize {
    behind(at, usize::from(text.get(at) == Some(&byte)))
}

/// Where `[bytes]*` ends.
#[inline]
pub fn skip_all(text: &[u8], at: usize, bytes: &[u8]) -> usize {
    behind(at, after(text, at).iter().take_while(|byte| bytes.contains(byte)).count())
}

/// Where `\s+(?!\S)|\s+` ends: white space, less its last character when something else follows and one remains.
#[inline(never)]
pub fn white(text: &[u8], at: usize) -> usize {
    all_but_last(text, at, run(text, at, Set::WHITE))
}

/// Where `\s*[\r\n]+|\s+(?!\S)|\s+` ends: white space to its last line break, else as [`white`].
#[inline(never)]
pub fn lines_or_white(text: &[u8], at: usize) -> usize {
    let end = run(text, at, Set::WHITE);
    let white = text.get(at..end).unwrap_or_default();
    match white.iter().rposition(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(newline) => behind(behind(at, newline), 1),
        None => all_but_last(text, at, end),
    }
}

/// The end of the white space from `at` to `end`, without its last character if there are others and text follows.
#[inline(always)]
fn all_but_last(text: &[u8], at: usize, end: usize) -> usize {
    match before(text, end) {
        last if last > at && end < text.len() => last,
        _ => end,
    }
}

/// Where the character begins that ends at `end`, which must be well-formed.
#[inline]
pub fn before(text: &[u8], end: usize) -> usize {
    let text = text.get(..end).unwrap_or_default();
    text.iter().rposition(|byte| byte & 0xC0 != 0x80).unwrap_or(0)
}

/// Which contractions of English a scanner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contractions {
    /// `'s|'t|'re|'ve|'m|'ll|'d`
    Lower,
    /// The same in either case: of ASCII letters, as llama.cpp has it.
    AnyCase,
    /// And `'ſ`.
    AnyCaseAndLongS,
}

/// Where the contraction ends that begins at `at`.
#[inline(always)]
pub fn contraction(text: &[u8], at: usize, known: Contractions) -> Option<usize> {
    if text.get(at) == Some(&b'\'') { contraction_behind(text, behind(at, 1), known) } else { None }
}

#[inline(never)]
fn contraction_behind(text: &[u8], at: usize, known: Contractions) -> Option<usize> {
    let letter = |at| {
        text.get(at).map(|&byte: &u8| match known {
            Contractions::Lower => byte,
            Contractions::AnyCase | Contractions::AnyCaseAndLongS => byte.to_ascii_lowercase(),
        })
    };
    match (letter(at)?, letter(behind(at, 1))) {
        (b's' | b't' | b'm' | b'd', _) => Some(behind(at, 1)),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(behind(at, 2)),
        (0xC5, Some(0xBF)) if known == Contractions::AnyCaseAndLongS => Some(behind(at, 2)),
        _ => None,
    }
}

/// What stands from `at` on.
#[inline(always)]
pub fn after(text: &[u8], at: usize) -> &[u8] {
    text.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_table_of_ascii_agrees_with_that_of_unicode() {
        for byte in 0..128u8 {
            let class = Set::of(crate::tokenizer::unicode::class(byte.into()));
            let is_newline = matches!(byte, b'\r' | b'\n');
            assert_eq!(ascii(byte), if is_newline { Set::NEWLINE } else { class }, "{byte:x}");
        }
        assert!((128..=255).all(|byte| ascii(byte) == Set::END));
    }

    /// Every byte at every place of a chunk, and before its end.
    #[test]
    fn letters_are_counted_by_chunks_as_by_bytes() {
        for byte in 0..=255u8 {
            for at in 0..20 {
                let mut text: Vec<u8> = (0..20).map(|i| if i % 2 == 0 { b'q' } else { b'Z' }).collect();
                text[at] = byte;
                let end = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
                assert_eq!(ascii_letters(&text, 0), end, "{byte:x} {at}");
                assert_eq!(letters(&text, 0, Set::LETTER), end, "{byte:x} {at}");
                text = [b'a', b'z'].repeat(10);
                text[at] = byte;
                let end = text.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
                assert_eq!(small_letters(&text, 0, Set::LETTER), end, "{byte:x} {at}");
            }
        }
    }

    #[test]
    fn runs_are_of_whole_characters() {
        let text = "aé字1 \u{301}\u{3000}\n".as_bytes();
        assert_eq!(run(text, 0, Set::LETTER), 6);
        assert_eq!(letters(text, 0, Set::LETTER), 6);
        assert_eq!(small_letters(text, 1, Set::LETTER), 6);
        assert_eq!(run(text, 6, Set::NUMBER), 7);
        assert_eq!(run(text, 8, Set::MARK), 10);
        assert_eq!(run(text, 10, Set::WHITE), text.len());
        assert_eq!(run(text, text.len(), Set::WHITE), text.len());
        assert_eq!((class(text, 3), class(text, text.len())), (Set::LETTER, Set::END));
        assert_eq!(run(b"\xff\xc3\xff!a", 0, Set::REST), 4, "bytes that are no character are symbols");
    }

    #[test]
    fn white_space_leaves_its_last_character() {
        for (text, want, want_lines) in [
            ("x  x", 2, 2),
            ("x x", 2, 2),
            ("x  ", 3, 3),
            ("x\u{3000}\u{3000}x", 4, 4),
            ("x \n x", 3, 3),
            ("x\n  x", 3, 2),
            ("x\n", 2, 2),
        ] {
            assert_eq!(white(text.as_bytes(), 1), want, "{text:?}");
            assert_eq!(lines_or_white(text.as_bytes(), 1), want_lines, "{text:?}");
        }
    }

    #[test]
    fn contractions_are_those_of_english() {
        use Contractions::{AnyCase, AnyCaseAndLongS, Lower};
        for (text, lower, any, long_s) in [
            ("a's", true, true, true),
            ("a'S", false, true, true),
            ("a'lL", false, true, true),
            ("a're", true, true, true),
            ("a'r", false, false, false),
            ("a'ſ", false, false, true),
            ("a'", false, false, false),
            ("as", false, false, false),
        ] {
            let more = std::format!("{text}x");
            let ends = [Lower, AnyCase, AnyCaseAndLongS].map(|known| contraction(more.as_bytes(), 1, known));
            assert_eq!(ends, [lower, any, long_s].map(|is| is.then_some(text.len())), "{text}");
        }
    }
}
