//! The cleaning up of a text that was decoded from WordPiece tokens, of which each word and each sign begins with a space.
//!
//! Three rules, each over what the one before has left, as llama.cpp does it: no space before `?`, `!`, `.` and `,`; no
//! spaces around an apostrophe that has both; no space before `'s`, `'m`, `'re` and `'ve`. Bytes go in one by one, and
//! few are held back.

/// A text on its way.
#[derive(Clone, Debug, Default)]
pub struct Cleaner {
    /// The first rule holds a space back.
    space: bool,
    /// The second one a space, or a space and an apostrophe.
    apostrophe: Held,
    /// The third one as much, or a letter more.
    suffix: Held,
}

/// The beginning of a pattern that a rule has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Nothing,
    Space,
    Apostrophe,
    /// `r` or `v`.
    Letter(u8),
}

impl Cleaner {
    /// Takes a byte, and gives those that are clear by now.
    pub fn push(&mut self, byte: u8, out: &mut impl FnMut(u8)) {
        if core::mem::replace(&mut self.space, byte == b' ') && !matches!(byte, b'?' | b'!' | b'.' | b',') {
            self.push_second(b' ', out);
        }
        if byte != b' ' {
            self.push_second(byte, out);
        }
    }

    /// Gives all that is left.
    pub fn finish(&mut self, out: &mut impl FnMut(u8)) {
        if core::mem::take(&mut self.space) {
            self.push_second(b' ', out);
        }
        let held = core::mem::take(&mut self.apostrophe);
        held.bytes().for_each(|byte| self.push_third(byte, out));
        core::mem::take(&mut self.suffix).bytes().for_each(out);
    }

    fn push_second(&mut self, byte: u8, out: &mut impl FnMut(u8)) {
        let held = core::mem::take(&mut self.apostrophe);
        match (held, byte) {
            (Held::Nothing, b' ') => self.apostrophe = Held::Space,
            (Held::Space, b'\'') => self.apostrophe = Held::Apostrophe,
            (Held::Apostrophe, b' ') => self.push_third(b'\'', out),
            (Held::Space, b' ') => {
                self.apostrophe = Held::Space;
                self.push_third(b' ', out);
            }
            _ => {
                held.bytes().for_each(|byte| self.push_third(byte, out));
                self.push_third(byte, out);
            }
        }
    }

    fn push_third(&mut self, byte: u8, out: &mut impl FnMut(u8)) {
        let held = core::mem::take(&mut self.suffix);
        self.suffix = match (held, byte) {
            (Held::Space, b'\'') => Held::Apostrophe,
            (Held::Apostrophe, b'r' | b'v') => Held::Letter(byte),
            (Held::Apostrophe, b's' | b'm') | (Held::Letter(_), b'e') => {
                held.bytes().skip(1).chain([byte]).for_each(out);
                Held::Nothing
            }
            (_, b' ') => {
                held.bytes().for_each(out);
                Held::Space
            }
            _ => {
                held.bytes().chain([byte]).for_each(out);
                Held::Nothing
            }
        };
    }
}

impl Held {
    fn bytes(self) -> impl Iterator<Item = u8> {
        let (len, letter) = match self {
            Self::Nothing => (0, 0),
            Self::Space => (1, 0),
            Self::Apostrophe => (2, 0),
            Self::Letter(letter) => (3, letter),
        };
        [b' ', b'\'', letter].into_iter().take(len)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    /// By the rules as they read, one after the other over the whole text.
    fn by_the_rules(text: &[u8]) -> Vec<u8> {
        let mut first = Vec::new();
        for (i, &byte) in text.iter().enumerate() {
            if i > 0 && text[i - 1] == b' ' && b"?!.,".contains(&byte) {
                first.pop();
            }
            first.push(byte);
        }
        let (mut second, mut i) = (Vec::new(), 0);
        while i < first.len() {
            if first[i..].starts_with(b" ' ") {
                second.push(b'\'');
                i += 3;
            } else {
                second.push(first[i]);
                i += 1;
            }
        }
        let mut third = Vec::new();
        for (i, &byte) in second.iter().enumerate() {
            let is_suffix = ["'s", "'m", "'re", "'ve"].iter().any(|s| second[i..].starts_with(s.as_bytes()));
            if is_suffix && i > 0 && second[i - 1] == b' ' {
                third.pop();
            }
            third.push(byte);
        }
        third
    }

    fn clean(text: &[u8]) -> Vec<u8> {
        let (mut cleaner, mut out) = (Cleaner::default(), Vec::new());
        text.iter().for_each(|&byte| cleaner.push(byte, &mut |byte| out.push(byte)));
        cleaner.finish(&mut |byte| out.push(byte));
        out
    }

    #[test]
    fn signs_lose_their_spaces() {
        let clean = |text: &str| String::from_utf8(clean(text.as_bytes())).unwrap();
        assert_eq!(clean(" hello , world ! it ' s we 're don 't"), " hello, world! it's we're don 't");
        assert_eq!(clean(" ' "), "'");
        assert_eq!(clean("  .  '"), " .  '");
    }

    #[test]
    fn all_short_texts_are_cleaned_by_the_rules() {
        let letters = b" '.srvemx";
        for n in 0..letters.len().pow(7) {
            let text: Vec<u8> = (0..7).map(|i| letters[n / letters.len().pow(i) % letters.len()]).collect();
            assert_eq!(clean(&text), by_the_rules(&text), "{:?}", String::from_utf8_lossy(&text));
        }
    }
}
