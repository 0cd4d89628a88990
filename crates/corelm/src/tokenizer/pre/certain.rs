//! Which pieces no text behind them changes, however a pre-tokenizer cuts.
//!
//! Expressions look beyond the end of a piece: at a letter behind an apostrophe, at what follows white space. But none
//! looks further than over a few runs of letters, numbers, white space and others, however long these are.

use super::scan::{Set, decode};

/// Where the last `n` runs of characters of a kind begin; the last may go on behind the text.
pub fn before_last_runs(text: &[u8], n: usize) -> usize {
    let mut end = whole_chars(text);
    let (mut n_left, mut kind) = (n, None);
    while end > 0 {
        let start = last_char(text, end);
        let this = decode(text, start).map(|(code, _)| self::kind(code));
        if this != kind {
            if n_left == 0 {
                return end;
            }
            (n_left, kind) = (n_left.saturating_sub(1), this);
        }
        end = start;
    }
    0
}

/// Letters with their marks, numbers, white space, others.
fn kind(code: u32) -> u8 {
    let class = Set::of_code(code);
    let kinds = [Set::LETTER.or(Set::MARK), Set::NUMBER, Set::WHITE];
    (0..).zip(kinds).find(|(_, set)| set.has(class)).map_or(u8::MAX, |(kind, _)| kind)
}

/// Where the character begins that ends at `end`; a byte that belongs to none is one.
fn last_char(text: &[u8], end: usize) -> usize {
    let start = last_lead(text, end);
    match decode(text, start) {
        Some((_, next)) if next == end => start,
        _ => end.saturating_sub(1),
    }
}

/// The length of `text` without what may be the beginning of a character.
fn whole_chars(text: &[u8]) -> usize {
    let start = last_lead(text, text.len());
    let len = match text.get(start) {
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => 4,
        _ => 1,
    };
    if text.len().saturating_sub(start) < len { start } else { text.len() }
}

/// Where the last byte before `end` stands that continues no character, if it is one of the last four.
fn last_lead(text: &[u8], end: usize) -> usize {
    let text = text.get(..end).unwrap_or_default();
    let mut last = (0..end).rev().take(4);
    last.find(|&at| text.get(at).is_some_and(|byte| byte & 0xC0 != 0x80)).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::Pre;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn runs_are_counted_from_the_end() {
        let text = "ab \n12!e\u{301}字".as_bytes();
        let starts = [14, 7, 6, 4, 2, 0, 0].map(|at| at.min(text.len()));
        let found: Vec<_> = (0..7).map(|n| before_last_runs(text, n)).collect();
        assert_eq!(found[1..], starts[1..]);
        for len in 1..3 {
            assert_eq!(whole_chars(&"a字".as_bytes()[..1 + len]), 1);
        }
        assert_eq!([whole_chars(b"a\x80\x80\x80\x80"), whole_chars(b"a\xff"), whole_chars(b"")], [5, 2, 0]);
        assert_eq!(before_last_runs(&[0x80; 9], 1), 0);
    }

    /// All texts of up to five characters, then longer ones of parts that belong together: wherever a text is cut, the
    /// pieces called certain are pieces of all of it.
    #[test]
    fn what_is_certain_stays() {
        const CHARS: [&str; 9] = ["a", "l", "'", " ", "\n", "1", "/", "字", "\u{301}"];
        const PARTS: [&str; 22] = [
            "I'll",
            "'re",
            "'S",
            "'\u{17f}",
            "ABCd",
            "aB",
            "  ",
            "\t",
            "\r\n",
            "1234",
            "٣٤",
            "<sentinel:12>",
            "IMGIMGAB",
            "Z",
            "e\u{301}",
            "한국",
            "かな",
            "！",
            "\u{200d}",
            "...",
            "µ",
            "\u{85}",
        ];
        for family in super::super::names::FAMILIES {
            let pre = Pre { name: family.names[0], family };
            let mut text = Vec::new();
            for i in 0..9usize.pow(5) {
                text.clear();
                (0..5u32).for_each(|at| text.extend_from_slice(CHARS[i / 9usize.pow(at) % 9].as_bytes()));
                check(pre, &text);
            }
            let mut x = 1u32;
            for _ in 0..4000 {
                text.clear();
                for _ in 0..8 {
                    x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let (at, from_chars) = ((x >> 16) as usize, x >> 28 & 3 == 0);
                    let part = if from_chars { CHARS[at % CHARS.len()] } else { PARTS[at % PARTS.len()] };
                    text.extend_from_slice(part.as_bytes());
                }
                check(pre, &text);
            }
        }
    }

    fn check(pre: Pre, text: &[u8]) {
        let ends = |text| {
            pre.pieces(text).scan(0, |end, piece| {
                *end += piece.len();
                Some(*end)
            })
        };
        let all: Vec<usize> = ends(text).collect();
        for len in 0..text.len() {
            let part = &text[..len];
            let n_certain = pre.n_certain(part);
            if n_certain > 0 {
                let found: Vec<usize> = ends(part).take_while(|&end| end <= n_certain).collect();
                assert_eq!(
                    found,
                    all[..all.partition_point(|&end| end <= n_certain)],
                    "{} {:?} of {:?}",
                    pre.name(),
                    std::string::String::from_utf8_lossy(part),
                    std::string::String::from_utf8_lossy(text)
                );
            }
        }
    }
}
