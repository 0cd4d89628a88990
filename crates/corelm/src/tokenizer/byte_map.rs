//! The reversible map between bytes and printable characters in which byte-level BPE vocabularies are written
//! (`bytes_to_unicode` of GPT-2).

use super::hash::TextHash;
use super::short::Short;
use super::vocab::Vocab;
use crate::Token;

/// UTF-8 of the character that stands for each byte: one or two bytes; the second is 0 when there is none.
const ENCODED: [[u8; 2]; 256] = encoded();

/// The byte that each character of two bytes stands for, by [`place`]; [`NONE`] where there is none.
static DECODED: [u16; 256] = decoded();
const NONE: u16 = 0x100;

/// UTF-8 of the character that stands for a space.
const SPACE: u16 = u16::from_le_bytes(encode(b' '));

/// UTF-8 of the character that stands for `byte`; the second byte is 0 when there is none.
#[inline]
pub const fn encode(byte: u8) -> [u8; 2] {
    ENCODED[byte as usize]
}

/// The hash of `bytes` as a vocabulary writes them.
#[inline]
pub fn hash(bytes: &[u8]) -> TextHash {
    bytes.iter().fold(TextHash::default(), |hash, &byte| {
        let [a, b] = encode(byte);
        let hash = hash.push(a);
        if b == 0 { hash } else { hash.push(b) }
    })
}

/// Whether `text` is how a vocabulary writes `bytes`.
#[inline]
pub fn is_written(bytes: &[u8], text: &[u8]) -> bool {
    let mut rest = text.iter();
    let is_next = |&byte: &u8| {
        let [a, b] = encode(byte);
        rest.next() == Some(&a) && (b == 0 || rest.next() == Some(&b))
    };
    bytes.iter().all(is_next) && rest.as_slice().is_empty()
}

/// The token that the vocabulary writes as `bytes`.
pub fn find(vocab: &Vocab<'_, '_>, bytes: &[u8]) -> Option<Token> {
    vocab.find_by(hash(bytes), |text| is_written(bytes, text))
}

/// `bytes` as a vocabulary writes them, if that is short.
#[inline]
pub fn write_short(bytes: Short) -> Option<Short> {
    // Most pieces are printable ASCII but for the space that they may begin with.
    let (text, len) = bytes.bytes();
    let is_led = text as u8 == b' ';
    let (word, word_len) = if is_led { (text >> 8, len.saturating_sub(1)) } else { (text, len) };
    if !is_printable(word, word_len) {
        return write_any(text, len);
    }
    if is_led {
        return Short::from_bytes(word << 16 | u128::from(SPACE), len.wrapping_add(1));
    }
    Some(bytes)
}

/// The bytes that `text`, as a vocabulary writes them, stands for, if they are few and it is written so.
pub fn read_short(text: &[u8]) -> Option<Short> {
    let whole = Short::new(text, text.len());
    if let Some((number, len)) = whole.map(Short::bytes) {
        let is_led = number as u16 == SPACE;
        let (word, word_len) = if is_led { (number >> 16, len.saturating_sub(2)) } else { (number, len) };
        if is_printable(word, word_len) {
            let led = Short::from_bytes(word << 8 | u128::from(b' '), word_len.wrapping_add(1));
            return if is_led { led } else { whole };
        }
    }
    let (mut bytes, mut n) = ([0; 16], 0usize);
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, behind) =
            if is_plain(first) && first.is_ascii() { (first, behind) } else { decode(rest)? };
        *bytes.get_mut(n)? = byte;
        n = n.wrapping_add(1); // at most 16
        rest = behind;
    }
    Short::new(&bytes, n)
}

/// As [`write_short`], of the `len` lowest bytes of `text`.
#[inline(never)]
fn write_any(text: u128, len: usize) -> Option<Short> {
    let (mut written, mut n) = (0, 0usize);
    for byte in text.to_le_bytes().into_iter().take(len) {
        let pair @ [_, second] = encode(byte);
        written |= u128::from(u16::from_le_bytes(pair)) << (8 * n);
        n = n.saturating_add(if second == 0 { 1 } else { 2 });
        if n > Short::MAX {
            return None;
        }
    }
    Short::from_bytes(written, n)
}

/// Whether the `len` lowest bytes of `text`, at most 15, are printable ASCII and no spaces.
#[inline]
fn is_printable(text: u128, len: usize) -> bool {
    const ONES: u128 = u128::MAX / 0xFF;
    let text = text | (ONES * 0x61).unbounded_shl((len as u32).wrapping_mul(8)); // letters behind them
    let is_below = text.wrapping_sub(ONES * 0x21) & !text; // in the top bit of each byte
    let is_above = text.wrapping_add(ONES) | text;
    (is_below | is_above) & (ONES * 0x80) == 0
}

/// How many bytes `text`, as a vocabulary writes them, stands for: one for each character.
pub fn n_bytes(text: &[u8]) -> usize {
    text.iter().filter(|&byte| byte & 0xC0 != 0x80).fold(0, |n: usize, _| n.saturating_add(1))
}

/// The byte that `text`, one character as a vocabulary writes them, stands for.
pub fn read_one(text: &[u8]) -> Option<u8> {
    match *text {
        [byte] => (byte.is_ascii() && is_plain(byte)).then_some(byte),
        [_, _] => decode(text).map(|(byte, _)| byte),
        _ => None,
    }
}

/// The byte that the last character of `text`, as a vocabulary writes it, stands for.
pub fn read_last(text: &[u8]) -> Option<u8> {
    let (_, last) = text.split_last_chunk::<2>().unwrap_or((&[], &[0; 2]));
    read_one(last).or_else(|| read_one(text.get(text.len().saturating_sub(1)..)?))
}

/// The byte that the character of two bytes stands for that `text` begins with, and the text behind it.
#[inline]
pub fn decode(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&pair, behind) = text.split_first_chunk()?;
    let byte = *DECODED.get(place(pair)?)?;
    Some((u8::try_from(byte).ok()?, behind))
}

/// Where a character of two bytes, the first of which is C2 to C5, has its byte.
#[inline]
const fn place([first, second]: [u8; 2]) -> Option<usize> {
    let (high, low) = (first.wrapping_sub(0xC2), second.wrapping_sub(0x80));
    if high < 4 && low < 64 { Some(high as usize * 64 + low as usize) } else { None }
}

/// Whether the character of a byte is the code point of the same number.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

const fn decoded() -> [u16; 256] {
    let mut decoded = [NONE; 256];
    let mut byte = 0;
    while byte < 256 {
        if let Some(place) = place(ENCODED[byte]) {
            decoded[place] = byte as u16;
        }
        byte += 1;
    }
    decoded
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
        let text_of = |byte| encode(byte).into_iter().filter(|&b| b != 0).collect::<Vec<_>>();
        for byte in 0..=255 {
            let text = text_of(byte);
            assert_eq!(decode(&text), (text.len() == 2).then_some((byte, &[][..])), "{byte:x}");
            assert_eq!(hash(&[byte, b'x']), TextHash::of(text.iter().copied().chain([b'x'])));
            assert!(
                is_written(&[byte], &text) && !is_written(&[byte, byte], &text) && !is_written(&[], &text)
            );
        }
        assert_eq!(text_of(b' '), "Ġ".as_bytes());
        assert_eq!(text_of(b'\n'), "Ċ".as_bytes());
        for odd in ["\u{144}", " ", "ab", "字", "\u{ad}"] {
            assert_eq!(decode(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(decode(&[0xC2]), None);
    }

    #[test]
    fn short_texts_are_written_as_byte_by_byte() {
        let texts: [&[u8]; 9] = [
            b"word",
            b" word",
            b" ",
            b" a b",
            b"",
            b"~\x7f",
            "\u{e9}t\u{e9}\n".as_bytes(),
            b"0123456789abcde",
            b" 0123456789abcd", // short, and of sixteen bytes when it is written
        ];
        for text in texts {
            let written: Vec<u8> =
                text.iter().flat_map(|&byte| encode(byte)).filter(|&byte| byte != 0).collect();
            let short = Short::new(text, text.len()).unwrap();
            assert_eq!(write_short(short), Short::new(&written, written.len()), "{text:?}");
            assert_eq!(read_short(&written), Some(short), "{text:?}");
        }
    }
}
