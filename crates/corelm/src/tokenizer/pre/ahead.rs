//! A look ahead: which of the next bytes are letters, found out for many at once. Most pieces of most texts are words of
//! ASCII letters, and a scanner that has their bits needs a few instructions for one.

use super::scan::{after, behind, is_wide};

/// The bytes from `start` on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    start: usize,
    /// From here on too few of them are known.
    end: usize,
    /// A bit for each of 64 bytes, set for ASCII letters.
    letters: u64,
}

impl Ahead {
    /// Where `[lead]?[A-Za-z]+` ends that begins at `at`, when `leads` takes no letters. `None` where there is no such word,
    /// or it is long or near characters that are not ASCII.
    #[inline(always)]
    pub fn word(&mut self, text: &[u8], at: usize, leads: impl Fn(u8) -> bool) -> Option<usize> {
        const LONGEST: usize = 16;
        if at >= self.end {
            *self = Self { start: at, end: behind(at, 64 - LONGEST), letters: letters(text, at) };
        }
        let bits = self.letters >> (at.wrapping_sub(self.start) & 63);
        let has_lead = bits & 1 == 0;
        let n = (!(bits >> u32::from(has_lead))).trailing_zeros() as usize;
        let end = behind(at, n.wrapping_add(has_lead.into())); // of 64 bits
        let is_word = n > 0 && n < LONGEST - 1 && (!has_lead || leads(*text.get(at)?));
        (is_word && !is_wide(text, end)).then_some(end)
    }
}

/// A bit for each of the 64 bytes from `start` on.
#[inline(never)]
fn letters(text: &[u8], start: usize) -> u64 {
    let rest = after(text, start);
    let mut end = [0; 64]; // behind a text there are no letters
    let bytes = rest.first_chunk::<64>().unwrap_or_else(|| {
        end.iter_mut().zip(rest).for_each(|(slot, &byte)| *slot = byte);
        &end
    });
    let mut are_letters = [0; 64];
    for (is_letter, byte) in are_letters.iter_mut().zip(bytes) {
        *is_letter = byte.is_ascii_alphabetic().into();
    }
    let (chunks, _) = are_letters.as_chunks();
    // The low bits of eight bytes next to each other: bit 8i moves to bit 56 + i.
    let bits = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    chunks.iter().rev().fold(0, |all, chunk| all << 8 | bits(chunk))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// Words of many lengths at many places: those that are found are right.
    #[test]
    fn words_are_whole() {
        let mut text: Vec<u8> = Vec::new();
        for n in 0..400 {
            text.extend(std::iter::repeat_n(b"az"[n % 2], n * 7 % 19));
            text.extend_from_slice([" ", "1", " ", "  ", "'", "字"][n * 11 % 6].as_bytes());
        }
        let (mut ahead, mut at, mut n_found) = (Ahead::default(), 0, 0);
        while at < text.len() {
            let body = at + usize::from(text[at] == b' ');
            let end = body + text[body..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            if let Some(found) = ahead.word(&text, at, |byte| byte == b' ') {
                assert!(found == end && end > body && text[end].is_ascii(), "{at}");
                n_found += 1;
            }
            at = end.max(at + 1);
        }
        assert!(n_found > 200, "{n_found}");
        assert_eq!(ahead.word(b"", 0, |_| true), None);
    }
}
