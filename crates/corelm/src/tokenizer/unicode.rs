//! Code points: strict UTF-8 decoding over any bytes, and the classes that pre-tokenizers ask for.

mod tables;

/// What pre-tokenizers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Everything else, unassigned code points and bytes that are not UTF-8 included.
    Other,
    /// General category L: `\p{L}`.
    Letter,
    /// General category N: `\p{N}`.
    Number,
    /// The property White_Space: `\s`.
    Space,
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
    #[inline]
    pub fn first(text: &[u8]) -> Option<Self> {
        let trail = |b: u8| u32::from(b & 0x3F);
        let (code, len) = match *text {
            [] => return None,
            [a @ 0..=0x7F, ..] => (u32::from(a), 1),
            [a @ 0xC2..=0xDF, b @ 0x80..=0xBF, ..] => (u32::from(a & 0x1F) << 6 | trail(b), 2),
            [a @ 0xE0, b @ 0xA0..=0xBF, c @ 0x80..=0xBF, ..]
            | [a @ (0xE1..=0xEC | 0xEE..=0xEF), b @ 0x80..=0xBF, c @ 0x80..=0xBF, ..]
            | [a @ 0xED, b @ 0x80..=0x9F, c @ 0x80..=0xBF, ..] => {
                (u32::from(a & 0x0F) << 12 | trail(b) << 6 | trail(c), 3)
            }
            [a @ 0xF0, b @ 0x90..=0xBF, c @ 0x80..=0xBF, d @ 0x80..=0xBF, ..]
            | [a @ 0xF1..=0xF3, b @ 0x80..=0xBF, c @ 0x80..=0xBF, d @ 0x80..=0xBF, ..]
            | [a @ 0xF4, b @ 0x80..=0x8F, c @ 0x80..=0xBF, d @ 0x80..=0xBF, ..] => {
                (u32::from(a & 0x07) << 18 | trail(b) << 12 | trail(c) << 6 | trail(d), 4)
            }
            _ => return Some(Self { code: None, len: 1 }),
        };
        Some(Self { code: Some(code), len })
    }

    /// The class of the character.
    #[inline]
    pub fn class(self) -> Class {
        self.code.map_or(Class::Other, class)
    }
}

/// The class of an ASCII character; `None` for other bytes.
#[inline]
pub fn ascii_class(byte: u8) -> Option<Class> {
    ASCII[usize::from(byte)]
}

const ASCII: [Option<Class>; 256] = {
    let mut classes = [None; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte as usize] = Some(match byte {
            b'A'..=b'Z' | b'a'..=b'z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b' ' | b'\t'..=b'\r' => Class::Space,
            _ => Class::Other,
        });
        byte += 1;
    }
    classes
};

/// The class of a code point, by the tables of Unicode 15.1 (the data that llama.cpp carries).
#[inline]
pub fn class(code: u32) -> Class {
    let block = tables::BLOCK_OF.get(code as usize >> 7).and_then(|&b| tables::BLOCKS.get(usize::from(b)));
    let word = block.and_then(|b| b.get(code as usize >> 5 & 3)).copied().unwrap_or_default();
    match word >> (2 * (code & 31)) & 3 {
        1 => Class::Letter,
        2 => Class::Number,
        3 => Class::Space,
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
            assert!(!c.is_ascii() || ascii_class(c as u8) == Some(class), "{c:?}");
            assert_eq!(class == Class::Space, c.is_whitespace(), "{c:?}");
            assert!(class != Class::Number || c.is_numeric(), "{c:?}");
            assert!(class != Class::Letter || c.is_alphabetic(), "{c:?}");
        }
        assert_eq!(class(0x0300), Class::Other, "a combining mark is no letter");
        assert_eq!(class(0x2EBF0), Class::Letter, "CJK extension I came with 15.1");
        assert_eq!(class(0x0897), Class::Other, "assigned by Unicode 16");
        assert_eq!((class(0x0011_0000), class(u32::MAX)), (Class::Other, Class::Other));
    }
}
