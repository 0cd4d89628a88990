//! The reversible map between bytes and printable characters in which byte-level BPE vocabularies are written
//! (`bytes_to_unicode` of GPT-2).

use super::unicode::Char;

/// UTF-8 of the character that stands for each byte: one or two bytes; the second is 0 when there is none.
const ENCODED: [[u8; 2]; 256] = encoded();

/// The bytes whose characters are the code points 256, 257, …: those without a printable character of their own.
const SHIFTED: [u8; 68] = shifted();

/// UTF-8 of the character that stands for `byte`.
#[inline]
pub fn encode(byte: u8) -> impl Iterator<Item = u8> {
    let [a, b] = ENCODED[usize::from(byte)];
    core::iter::once(a).chain((b != 0).then_some(b))
}

/// The byte that a character stands for.
#[inline]
pub fn decode(c: Char) -> Option<u8> {
    let code = c.code?;
    match u8::try_from(code) {
        Ok(byte) => is_plain(byte).then_some(byte),
        Err(_) => SHIFTED.get(code.checked_sub(256)? as usize).copied(),
    }
}

/// Whether the character of a byte is the code point of the same number.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

const fn shifted() -> [u8; 68] {
    let mut shifted = [0; 68];
    let (mut n, mut byte) = (0, 0u8);
    loop {
        if !is_plain(byte) {
            shifted[n] = byte;
            n += 1;
        }
        match byte.checked_add(1) {
            Some(next) => byte = next,
            None => return shifted,
        }
    }
}

const fn encoded() -> [[u8; 2]; 256] {
    let mut encoded = [[0; 2]; 256];
    let (mut i, mut n_shifted) = (0, 0);
    while i < 256 {
        let mut code = i;
        if !is_plain(i as u8) {
            code = 256 + n_shifted;
            n_shifted += 1;
        }
        encoded[i] = match code {
            0..0x80 => [code as u8, 0],
            _ => [0xC0 | (code >> 6) as u8, 0x80 | (code & 0x3F) as u8],
        };
        i += 1;
    }
    encoded
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_byte_has_a_character_and_comes_back() {
        for byte in 0..=255 {
            let text: Vec<u8> = encode(byte).collect();
            assert_eq!(decode(Char::first(&text).unwrap()), Some(byte));
        }
        assert_eq!(encode(b' ').collect::<Vec<_>>(), "Ġ".as_bytes());
        assert_eq!(encode(b'\n').collect::<Vec<_>>(), "Ċ".as_bytes());
        for odd in ["\u{144}", " ", "字", "\u{ad}"] {
            assert_eq!(decode(Char::first(odd.as_bytes()).unwrap()), None, "{odd}");
        }
    }
}
