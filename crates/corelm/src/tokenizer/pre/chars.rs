//! Bracket expressions: characters by class, by themselves and by ranges of code points.

use super::scan::{self, Set};

/// A set of characters.
#[derive(Debug)]
pub struct Chars {
    /// The ASCII characters: bit h of byte l is for the one of the number 16h + l.
    ascii: u128,
    /// The classes of the others.
    classes: Set,
    /// More of the others, in order. White space is none of them: llama.cpp makes all of it ASCII before it looks.
    ranges: &'static [(u32, u32)],
    /// `[^…]`
    is_negated: bool,
}

impl Chars {
    /// The characters of `classes`.
    pub const fn of(classes: Set) -> Self {
        let mut chars = Self { ascii: 0, classes, ranges: &[], is_negated: false };
        let mut byte = 0;
        while byte < 128 {
            if classes.has(scan::ascii(byte)) {
                chars = chars.and(&[byte]);
            }
            byte += 1;
        }
        chars
    }

    /// The same with these ASCII characters.
    pub const fn and(mut self, ascii: &[u8]) -> Self {
        let mut rest = ascii;
        while let [byte, tail @ ..] = rest {
            self.ascii |= 1 << (8 * (*byte & 15) + (*byte >> 4 & 7));
            rest = tail;
        }
        self
    }

    /// The same with these ranges of characters beyond ASCII, first and last of each, which must be in order.
    pub const fn and_ranges(mut self, ranges: &'static [(u32, u32)]) -> Self {
        self.ranges = ranges;
        self
    }

    /// All others.
    pub const fn negated(mut self) -> Self {
        self.is_negated = !self.is_negated;
        self
    }

    /// Whether a character beyond ASCII is in the set.
    #[inline]
    pub fn has(&self, code: u32) -> bool {
        let class_is_in = self.classes != Set::END && self.classes.has(Set::of_code(code));
        let is_in = class_is_in || (is_in(code, self.ranges) && !Set::WHITE.has(Set::of_code(code)));
        is_in != self.is_negated
    }

    /// Where the character ends that stands at `at`, if it is in the set.
    #[inline]
    pub fn one(&self, text: &[u8], at: usize) -> Option<usize> {
        match text.get(at) {
            Some(&byte) if byte.is_ascii() => has_ascii(self.rows(true), byte).then_some(scan::behind(at, 1)),
            _ => {
                let (code, next) = scan::decode(text, at)?;
                self.has(code).then_some(next)
            }
        }
    }

    /// Where `[chars]*` ends that begins at `at`.
    #[inline]
    pub fn run(&self, text: &[u8], at: usize) -> usize {
        self.run_while(text, at, true)
    }

    /// Where `[^chars]*` ends: the first character of the set from `at` on, or the end of the text.
    #[inline]
    pub fn find(&self, text: &[u8], at: usize) -> usize {
        self.run_while(text, at, false)
    }

    #[inline(never)]
    fn run_while(&self, text: &[u8], at: usize, is_in: bool) -> usize {
        let rows = self.rows(is_in);
        let mut at = at;
        loop {
            if rows == [!0; 16] {
                at = scan::most_ascii(text, at);
            }
            while text.get(at).is_some_and(|&byte| has_ascii(rows, byte)) {
                at = scan::behind(at, 1);
            }
            match scan::decode(text, at) {
                Some((code @ 0x80.., next)) if self.has(code) == is_in => at = next,
                _ => return at,
            }
        }
    }

    /// The ASCII characters that are in the set, or not.
    #[inline]
    fn rows(&self, is_in: bool) -> [u8; 16] {
        (if self.is_negated == is_in { !self.ascii } else { self.ascii }).to_le_bytes()
    }
}

/// Whether a byte is among these ASCII characters.
#[inline]
fn has_ascii(rows: [u8; 16], byte: u8) -> bool {
    u32::from(rows[usize::from(byte & 15)]) >> (byte >> 4) & 1 != 0
}

/// Whether `code` is in one of `ranges`, which are in order.
#[inline]
pub fn is_in(code: u32, ranges: &[(u32, u32)]) -> bool {
    let n_before = ranges.partition_point(|&(_, last)| last < code);
    ranges.get(n_before).is_some_and(|&(first, _)| first <= code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_made_of_classes_characters_and_ranges() {
        static CHARS: Chars = Chars::of(Set::NUMBER).and(b"x-").and_ranges(&[(0xE9, 0xEA), (0x2000, 0x200D)]);
        let text = "1x½é-\u{200d}ë ".as_bytes();
        assert_eq!(CHARS.run(text, 0), text.len() - 3);
        assert_eq!(CHARS.find(" ë\u{2000}\u{a0}x".as_bytes(), 0), 8, "white space is in no range");
        assert_eq!((CHARS.one(text, 2), CHARS.one(text, text.len() - 1)), (Some(4), None));
        static OTHERS: Chars = Chars::of(Set::NUMBER).and(b"x-").negated();
        assert_eq!(OTHERS.run("ab\u{e9} 1".as_bytes(), 0), 5);
        assert_eq!(OTHERS.run(b"x", 0), 0);
    }

    #[test]
    fn ranges_include_both_ends() {
        let ranges = [(10, 20), (30, 30)];
        for (code, want) in [(9, false), (10, true), (20, true), (21, false), (30, true), (31, false)] {
            assert_eq!(is_in(code, &ranges), want, "{code}");
        }
    }
}
