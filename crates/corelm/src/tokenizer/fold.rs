//! How BERT's normalizer sees a character: what it is for the cutting of words, and what it becomes.
//!
//! This is llama.cpp's normalizer. It takes of a canonical decomposition (NFD) the first code point alone and drops the
//! rest: accents for the most part, but of a Korean syllable all but the first letter, too.

mod tables;

/// What a character is for the cutting of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Part of a word.
    Inner,
    /// As if it were not there: controls, format characters, private use, U+FFFD.
    Dropped,
    /// A word of its own: punctuation, symbols of ASCII, Chinese characters.
    Alone,
    /// Between words.
    Space,
}

/// The normalizer with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Letters become small.
    pub lowers: bool,
    /// Letters lose their accents, and marks are dropped.
    pub strips: bool,
}

impl Fold {
    /// What a code point is, and the code point it becomes.
    #[inline]
    pub fn apply(self, code: u32) -> (Kind, u32) {
        match u8::try_from(code) {
            Ok(byte) if byte.is_ascii() => {
                (ascii_kind(byte), if self.lowers { byte.to_ascii_lowercase().into() } else { code })
            }
            _ => self.apply_any(code),
        }
    }

    fn apply_any(self, code: u32) -> (Kind, u32) {
        let base = if self.strips { first_of_nfd(code) } else { code };
        let kind = match kind_id(base) {
            1 => Kind::Dropped,
            2 if self.strips => Kind::Dropped,
            3 => Kind::Alone,
            4 => Kind::Space,
            _ => Kind::Inner,
        };
        (kind, if self.lowers { lower(base) } else { base })
    }
}

fn ascii_kind(byte: u8) -> Kind {
    match byte {
        b'\t'..=b'\r' | b' ' => Kind::Space,
        0..b' ' | 0x7F.. => Kind::Dropped,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => Kind::Inner,
        _ => Kind::Alone,
    }
}

/// 0 inner, 1 dropped, 2 mark, 3 alone, 4 space.
fn kind_id(code: u32) -> u32 {
    let run = tables::KINDS.partition_point(|run| run >> 3 <= code).checked_sub(1);
    run.and_then(|run| tables::KINDS.get(run)).map_or(0, |run| run & 7)
}

/// The simple mapping to lower case.
fn lower(code: u32) -> u32 {
    let run = tables::LOWER.partition_point(|run| run.0 >> 11 <= code).checked_sub(1);
    let Some(&(run, delta)) = run.and_then(|run| tables::LOWER.get(run)) else { return code };
    let (offset, last, stride) = (code.wrapping_sub(run >> 11), run >> 1 & 0x3FF, run & 1);
    if offset <= last && offset & stride == 0 { code.wrapping_add_signed(delta) } else { code }
}

/// The first code point of the canonical decomposition.
fn first_of_nfd(code: u32) -> u32 {
    let listed = match code {
        0xAC00..=0xD7A3 => return 0x1100_u32.wrapping_add(code.wrapping_sub(0xAC00) / 588), // Korean syllables
        0xF900..=0xFAD9 => code.wrapping_sub(0xF900),
        0x2F800..=0x2FA1D => code.wrapping_sub(0x2F800).wrapping_add(0xFADA - 0xF900),
        _ => return first_in_runs(code),
    };
    tables::IDEOGRAPHS.get(listed as usize).map_or(code, |&[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
}

fn first_in_runs(code: u32) -> u32 {
    let Some(run) = tables::NFD.partition_point(|run| run >> 11 <= code).checked_sub(1) else { return code };
    match (tables::NFD.get(run), tables::NFD_TO.get(run)) {
        (Some(&run), Some(&to)) if code.wrapping_sub(run >> 11) <= run & 0x7FF => {
            code & !0xFFFF | u32::from(to)
        }
        _ => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Fold = Fold { lowers: true, strips: true };

    fn fold(c: char) -> (Kind, u32) {
        ALL.apply(u32::from(c))
    }

    #[test]
    fn letters_lose_case_and_accents() {
        for (c, to) in [
            ('A', 'a'),
            ('é', 'e'),
            ('É', 'e'),
            ('İ', 'i'),
            ('ǅ', 'ǆ'),
            ('Ǆ', 'ǆ'),
            ('Σ', 'σ'),
            ('ς', 'ς'),
            ('Ⱥ', 'ⱥ'),
            ('Ā', 'a'),
            ('ā', 'a'),
            ('Ł', 'ł'),
            ('ệ', 'e'),
            ('й', 'и'),
            ('Ё', 'е'),
            ('한', 'ᄒ'),
            ('𐐀', '𐐨'),
            ('ẞ', 'ß'),
            ('K', 'k'),
            ('Å', 'a'),
            ('𑂚', '𑂙'),
            ('Ꭰ', 'ꭰ'),
        ] {
            assert_eq!(fold(c), (Kind::Inner, u32::from(to)), "{c}");
        }
        let keeps = Fold { lowers: false, strips: false };
        assert_eq!(keeps.apply(0xC9), (Kind::Inner, 0xC9));
        assert_eq!(keeps.apply(0x301), (Kind::Inner, 0x301), "a mark stays where accents stay");
        assert_eq!(Fold { lowers: true, ..keeps }.apply(0xC9), (Kind::Inner, 0xE9));
        assert_eq!(Fold { strips: true, ..keeps }.apply(0xC9), (Kind::Inner, 0x45));
    }

    #[test]
    fn words_are_cut_at_what_stands_alone() {
        for (c, kind) in [
            (' ', Kind::Space),
            ('\u{A0}', Kind::Space),
            ('\u{3000}', Kind::Space),
            ('\u{85}', Kind::Space),
            ('\0', Kind::Dropped),
            ('\u{7F}', Kind::Dropped),
            ('\u{200D}', Kind::Dropped),
            ('\u{FFFD}', Kind::Dropped),
            ('\u{E000}', Kind::Dropped),
            ('\u{301}', Kind::Dropped),
            ('\u{903}', Kind::Dropped),
            ('$', Kind::Alone),
            ('~', Kind::Alone),
            ('«', Kind::Alone),
            ('字', Kind::Alone),
            ('\u{20000}', Kind::Alone),
            ('€', Kind::Inner),
            ('😀', Kind::Inner),
            ('の', Kind::Inner),
            ('½', Kind::Inner),
            ('\u{378}', Kind::Inner),
        ] {
            assert_eq!(fold(c).0, kind, "{c:?}");
        }
        assert_eq!(fold('\u{F900}'), (Kind::Alone, 0x8C48));
        assert_eq!(fold('\u{FAD9}'), (Kind::Alone, 0x9F8E));
        assert_eq!(fold('\u{2F800}'), (Kind::Alone, 0x4E3D));
        assert_eq!(fold('\u{2FA1D}'), (Kind::Alone, 0x2A600));
        assert_eq!(fold('\u{37E}'), (Kind::Alone, u32::from(';')), "the Greek question mark is one");
        assert_eq!(ALL.apply(u32::MAX), (Kind::Inner, u32::MAX));
    }

    /// The library's own tables are of another version; what it knows as a single small letter is ours.
    #[test]
    fn lower_case_agrees_with_the_standard_library() {
        let only_lowers = Fold { lowers: true, strips: false };
        for c in '\0'..='\u{1FFFF}' {
            let (ours, mut theirs) = (only_lowers.apply(u32::from(c)).1, c.to_lowercase());
            let newer =
                matches!(u32::from(c), 0x1C89 | 0xA7CB..=0xA7DC | 0x10D50..=0x10D65 | 0x16EA0..=0x16EB8);
            assert!(newer || Some(ours) == theirs.next().map(u32::from), "{c:?} {ours:x}");
        }
    }
}
