//! Code points: strict UTF-8 decoding over any bytes, and the classes that pre-tokenizers ask for.

mod tables;

/// What pre-tokenizers tell apart: general categories by their first letter, and white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Controls, formats, unassigned code points: `\p{C}` but for white space.
    Other = 0,
    /// `\p{L}`
    Letter = 1,
    /// `\p{N}`
    Number = 2,
    /// The property White_Space: `\s`.
    Space = 3,
    /// `\p{M}`
    Mark = 4,
    /// `\p{P}`
    Punctuation = 5,
    /// `\p{S}`
    Symbol = 6,
}

/// Whether a byte goes on with a character.
#[inline]
pub fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// The first character of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Char {
    /// Its code point; `None` for a byte that begins no well-formed character.
    pub code: Option<u32>,
    /// Bytes it takes: 1 to 4.
    pub len: usize,
}

impl Char {
    /// Decodes the first character of `text`, strictly (Unicode 15, table 3-7): overlong forms, surrogates and cut
    /// characters are single bytes without a code point, so any bytes are walked through and nothing is lost.
    #[inline(always)]
    pub fn first(text: &[u8]) -> Option<Self> {
        let trail = |b: u8| u32::from(b & 0x3F);
        let (code, len) = match *text {
            [] => return None,
            [a @ 0..=0x7F, ..] => (a.into(), 1),
            [a @ 0xC2..=0xDF, b, ..] if is_continuation(b) => (u32::from(a & 0x1F) << 6 | trail(b), 2),
            [a @ 0xE0..=0xEF, b, c, ..]
                if is_continuation(b)
                    && is_continuation(c)
                    && (a != 0xE0 || b >= 0xA0)
                    && (a != 0xED || b < 0xA0) =>
            {
                (u32::from(a & 0x0F) << 12 | trail(b) << 6 | trail(c), 3)
            }
            [a @ 0xF0..=0xF4, b, c, d, ..]
                if is_continuation(b)
                    && is_continuation(c)
                    && is_continuation(d)
                    && (a != 0xF0 || b >= 0x90)
                    && (a != 0xF4 || b < 0x90) =>
            {
                (u32::from(a & 0x07) << 18 | trail(b) << 12 | trail(c) << 6 | trail(d), 4)
            }
            _ => return Some(Self { code: None, len: 1 }),
        };
        Some(Self { code: Some(code), len })
    }
}

/// The class of a code point, by the tables of Unicode 15.1 (the data that llama.cpp carries).
#[inline]
pub fn class(code: u32) -> Class {
    let at = code as usize;
    let Some(&group) = tables::GROUP_OF.get(at >> 7) else {
        // The variation selectors are all that has a class so far up.
        return if (0xE0100..=0xE01EF).contains(&code) { Class::Mark } else { Class::Other };
    };
    let block = tables::GROUPS.get(usize::from(group)).map_or(0, |blocks| blocks[at >> 4 & 7]);
    let word = tables::BLOCKS.get(usize::from(block)).map_or(0, |word| word >> (4 * (code & 15)));
    match word & 15 {
        1 => Class::Letter,
        2 => Class::Number,
        3 => Class::Space,
        4 => Class::Mark,
        5 => Class::Punctuation,
        6 => Class::Symbol,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn decoding_agrees_with_the_standard_library() {
        for code in 0..=0x0011_0000u32 {
            let Some(c) = char::from_u32(code) else { continue };
            let mut buf = [0; 4];
            let text = c.encode_utf8(&mut buf).as_bytes();
            assert_eq!(Char::first(text), Some(Char { code: Some(code), len: text.len() }));
            if text.len() > 1 {
                assert_eq!(
                    Char::first(&text[..text.len() - 1]),
                    Some(Char { code: None, len: 1 }),
                    "{code:x}"
                );
            }
        }
        for bad in [
            &[0xC0, 0xAE][..],
            &[0xED, 0xA0, 0x80],
            &[0xF4, 0x90, 0x80, 0x80],
            &[0x80],
            &[0xFF],
            &[0xE0, 0x80, 0xAF],
        ] {
            assert_eq!(Char::first(bad), Some(Char { code: None, len: 1 }), "{bad:x?}");
        }
    }

    /// `char`'s own tables are of another Unicode version; where both know a code point they agree, but for the few
    /// that are alphabetic without being letters.
    #[test]
    fn classes_agree_with_the_standard_library() {
        for c in '\0'..='\u{FFFF}' {
            let class = class(u32::from(c));
            assert_eq!(class == Class::Space, c.is_whitespace(), "{c:?}");
            assert!(class != Class::Number || c.is_numeric(), "{c:?}");
            assert!(class != Class::Letter || c.is_alphabetic(), "{c:?}");
            if c.is_ascii() {
                assert_eq!(class == Class::Letter, c.is_ascii_alphabetic(), "{c:?}");
                assert_eq!(class == Class::Number, c.is_ascii_digit(), "{c:?}");
                let graphic = matches!(class, Class::Punctuation | Class::Symbol);
                assert_eq!(graphic, c.is_ascii_punctuation(), "{c:?}");
            }
        }
    }

    #[test]
    fn classes_are_those_of_unicode_15_1() {
        let of = |class: Class| (0..=0x0011_0000).filter(|&code| super::class(code) == class).count();
        // Counted in UnicodeData.txt; surrogates, which are no characters, are of class Cs.
        for (class, n) in [
            (Class::Letter, 136_726),
            (Class::Number, 1_831),
            (Class::Space, 25),
            (Class::Mark, 2_450),
            (Class::Punctuation, 842),
            (Class::Symbol, 7_775),
        ] {
            assert_eq!(of(class), n, "{class:?}");
        }
        for (code, want) in [
            (0x0300, Class::Mark),
            (0xE0100, Class::Mark),
            (0xE01EF, Class::Mark),
            (0xE01F0, Class::Other),
            (0x2EBF0, Class::Letter), // CJK extension I came with 15.1
            (0x0897, Class::Other),   // assigned by Unicode 16
            (0xFFFD, Class::Symbol),
            (0x200D, Class::Other),
            (0x0085, Class::Space),
            (0x3007, Class::Number),
            (u32::from('_'), Class::Punctuation),
            (u32::from('`'), Class::Symbol),
            (0x0011_0000, Class::Other),
            (u32::MAX, Class::Other),
        ] {
            assert_eq!(class(code), want, "{code:x}");
        }
    }
}
