//! Vocabularies of any size with real merges, computed token by token: nothing is stored.
//!
//! After the bytes come pairs of consonant and vowel, the same behind a space, letters behind a space, pairs of
//! syllables, and so on. Each group is built from groups before it, so every beginning of the list is a vocabulary whose
//! merges make all of its tokens, and text in a language with vowels is cut into pieces of several letters.

use crate::text::Text;

/// The text of a token.
pub type TokenText = Text<16>;

/// Which kind of tokenizer the model carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// SentencePiece-BPE: scores, byte fallback, space prefix (`tokenizer.ggml.model = "llama"`).
    Spm,
    /// Byte-level BPE: merges by rank (`tokenizer.ggml.model = "gpt2"`).
    Bpe,
}

/// Kind of a token as GGUF's `tokenizer.ggml.token_type` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ordinary text.
    Normal = 1,
    /// What stands for the unknown.
    Unknown = 2,
    /// Begin, end and the like.
    Control = 3,
    /// One byte, for what has no other token.
    Byte = 6,
}

const CONSONANTS: &[u8; 20] = b"tnsrhdlcmpfgwbvkxjqz";
const VOWELS: &[u8; 6] = b"eaioyu";
const N_SYLLABLES: usize = CONSONANTS.len() * VOWELS.len();
const N_LETTERS: usize = 26;

/// The groups of merged tokens in the order of their ranks.
#[derive(Clone, Copy, Debug)]
enum Merged {
    /// Consonant, vowel.
    Syllable(usize),
    /// Space, syllable.
    SpaceSyllable(usize),
    /// Space, letter.
    SpaceLetter(usize),
    /// Syllable, syllable.
    Two(usize, usize),
    /// Space and syllable, syllable.
    SpaceTwo(usize, usize),
    /// Two syllables, consonant.
    TwoAndLetter(usize, usize, usize),
}

const N_MERGED: usize = 2 * N_SYLLABLES
    + N_LETTERS
    + 2 * N_SYLLABLES * N_SYLLABLES
    + N_SYLLABLES * N_SYLLABLES * CONSONANTS.len();

impl Merged {
    /// The token of rank `rank`, from 0.
    fn of_rank(rank: usize) -> Option<Merged> {
        const PAIRS: usize = N_SYLLABLES * N_SYLLABLES;
        let mut rest = rank;
        let mut is_in = |n: usize| {
            let is_in = rest < n;
            if !is_in {
                rest -= n;
            }
            is_in.then_some(rest)
        };
        if let Some(i) = is_in(N_SYLLABLES) {
            Some(Merged::Syllable(i))
        } else if let Some(i) = is_in(N_SYLLABLES) {
            Some(Merged::SpaceSyllable(i))
        } else if let Some(i) = is_in(N_LETTERS) {
            Some(Merged::SpaceLetter(i))
        } else if let Some(i) = is_in(PAIRS) {
            Some(Merged::Two(i % N_SYLLABLES, i / N_SYLLABLES))
        } else if let Some(i) = is_in(PAIRS) {
            Some(Merged::SpaceTwo(i % N_SYLLABLES, i / N_SYLLABLES))
        } else {
            let i = is_in(PAIRS * CONSONANTS.len())?;
            Some(Merged::TwoAndLetter(i % N_SYLLABLES, i / N_SYLLABLES % N_SYLLABLES, i / PAIRS))
        }
    }

    /// The two halves that merge into this token; `space` is how the vocabulary writes a space.
    fn halves(self, space: char) -> (TokenText, TokenText) {
        let (mut left, mut right) = (TokenText::EMPTY, TokenText::EMPTY);
        match self {
            Merged::Syllable(i) => {
                left.push(consonant(i / VOWELS.len()));
                right.push(char::from(VOWELS[i % VOWELS.len()]));
            }
            Merged::SpaceSyllable(i) => {
                left.push(space);
                push_syllable(&mut right, i);
            }
            Merged::SpaceLetter(i) => {
                left.push(space);
                right.push(char::from(b'a' + i as u8));
            }
            Merged::Two(i, j) => {
                push_syllable(&mut left, i);
                push_syllable(&mut right, j);
            }
            Merged::SpaceTwo(i, j) => {
                left.push(space);
                push_syllable(&mut left, i);
                push_syllable(&mut right, j);
            }
            Merged::TwoAndLetter(i, j, last) => {
                push_syllable(&mut left, i);
                push_syllable(&mut left, j);
                right.push(consonant(last));
            }
        }
        (left, right)
    }
}

fn consonant(i: usize) -> char {
    char::from(CONSONANTS[i % CONSONANTS.len()])
}

fn push_syllable(text: &mut TokenText, i: usize) {
    text.push(consonant(i / VOWELS.len()));
    text.push(char::from(VOWELS[i % VOWELS.len()]));
}

/// A vocabulary of `size` tokens.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary {
    tokenizer: Tokenizer,
    size: usize,
}

/// `<unk>`, `<s>`, `</s>`, 256 bytes, the printable characters and the space.
const SPM_FIXED: usize = 3 + 256 + 94 + 1;
/// 256 bytes in front, begin and end behind.
const BPE_FIXED: usize = 256 + 2;

impl Vocabulary {
    /// `None` when `size` is below what every text needs or beyond what there are merges for (over 300 000).
    pub fn new(tokenizer: Tokenizer, size: usize) -> Option<Vocabulary> {
        let fixed = Self::smallest(tokenizer);
        (fixed..=fixed + N_MERGED).contains(&size).then_some(Vocabulary { tokenizer, size })
    }

    /// The fewest tokens with which every text can be written.
    pub const fn smallest(tokenizer: Tokenizer) -> usize {
        match tokenizer {
            Tokenizer::Spm => SPM_FIXED,
            Tokenizer::Bpe => BPE_FIXED,
        }
    }

    /// Its kind.
    pub fn tokenizer(&self) -> Tokenizer {
        self.tokenizer
    }

    /// How many tokens there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many merges there are.
    pub fn n_merges(&self) -> usize {
        self.size - Self::smallest(self.tokenizer)
    }

    /// The two halves of merge `rank`, as the vocabulary writes them.
    pub fn merge(&self, rank: usize) -> Option<(TokenText, TokenText)> {
        let space = match self.tokenizer {
            Tokenizer::Spm => '\u{2581}',
            Tokenizer::Bpe => byte_character(b' '),
        };
        Merged::of_rank(rank).filter(|_| rank < self.n_merges()).map(|merged| merged.halves(space))
    }

    /// The id of the token that begins a text.
    pub fn bos(&self) -> u32 {
        match self.tokenizer {
            Tokenizer::Spm => 1,
            Tokenizer::Bpe => (self.size - 2) as u32,
        }
    }

    /// The id of the token that ends one.
    pub fn eos(&self) -> u32 {
        self.bos() + 1
    }

    /// Text and kind of token `id`.
    pub fn token(&self, id: usize) -> Option<(TokenText, Kind)> {
        if id >= self.size {
            return None;
        }
        match self.tokenizer {
            Tokenizer::Spm => self.spm_token(id),
            Tokenizer::Bpe => self.bpe_token(id),
        }
    }

    /// The score of token `id`: merges of lower rank win.
    pub fn score(&self, id: usize) -> f32 {
        -(id.saturating_sub(SPM_FIXED) as f32)
    }

    fn spm_token(&self, id: usize) -> Option<(TokenText, Kind)> {
        let (text, kind) = match id {
            0 => (Text::format(format_args!("<unk>")), Kind::Unknown),
            1 => (Text::format(format_args!("<s>")), Kind::Control),
            2 => (Text::format(format_args!("</s>")), Kind::Control),
            3..259 => (Text::format(format_args!("<0x{:02X}>", id - 3)), Kind::Byte),
            259 => (Text::format(format_args!("\u{2581}")), Kind::Normal),
            260..SPM_FIXED => {
                (Text::format(format_args!("{}", char::from((id - 260) as u8 + b'!'))), Kind::Normal)
            }
            _ => (self.merged(id - SPM_FIXED)?, Kind::Normal),
        };
        Some((text, kind))
    }

    fn bpe_token(&self, id: usize) -> Option<(TokenText, Kind)> {
        let text = match id {
            0..256 => Text::format(format_args!("{}", byte_character(id as u8))),
            _ if id == self.bos() as usize => return Some((text_of("<|begin|>"), Kind::Control)),
            _ if id == self.eos() as usize => return Some((text_of("<|end|>"), Kind::Control)),
            _ => self.merged(id - 256)?,
        };
        Some((text, Kind::Normal))
    }

    fn merged(&self, rank: usize) -> Option<TokenText> {
        self.merge(rank).map(|(left, right)| Text::format(format_args!("{left}{right}")))
    }
}

fn text_of(text: &str) -> TokenText {
    Text::format(format_args!("{text}"))
}

/// The character that stands for `byte` in a byte-level vocabulary: printable bytes for themselves, the others for
/// U+0100 and up (GPT-2's `bytes_to_unicode`).
fn byte_character(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if is_printable(byte) {
        return char::from(byte);
    }
    let n_before = (0..byte).filter(|&other| !is_printable(other)).count() as u32;
    char::from_u32(0x100 + n_before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::HashSet;
    use std::string::{String, ToString};

    use super::*;

    #[test]
    fn every_beginning_is_closed_and_free_of_doubles() {
        for tokenizer in [Tokenizer::Spm, Tokenizer::Bpe] {
            let vocabulary = Vocabulary::new(tokenizer, 40_000).unwrap();
            let mut seen: HashSet<String> = HashSet::new();
            let mut rank = 0;
            for id in 0..vocabulary.size() {
                let (text, kind) = vocabulary.token(id).unwrap();
                let is_merged = match tokenizer {
                    Tokenizer::Spm => id >= SPM_FIXED,
                    Tokenizer::Bpe => id >= 256 && kind == Kind::Normal,
                };
                if is_merged {
                    let (left, right) = vocabulary.merge(rank).unwrap();
                    assert!(seen.contains(left.as_str()) && seen.contains(right.as_str()), "{id} {text}");
                    rank += 1;
                }
                assert!(seen.insert(text.to_string()), "{id} {text} twice");
            }
            assert_eq!(rank, vocabulary.n_merges());
        }
    }

    #[test]
    fn sizes_without_a_vocabulary_are_refused() {
        assert!(Vocabulary::new(Tokenizer::Bpe, 257).is_none());
        assert!(Vocabulary::new(Tokenizer::Spm, 353).is_none());
        assert!(Vocabulary::new(Tokenizer::Bpe, 1 << 18).is_some());
        assert!(Vocabulary::new(Tokenizer::Bpe, 1 << 20).is_none());
    }

    #[test]
    fn bytes_have_the_characters_of_gpt2() {
        assert_eq!((byte_character(b' '), byte_character(b'\n'), byte_character(b'a')), ('Ġ', 'Ċ', 'a'));
        assert_eq!(
            (byte_character(0x7f), byte_character(0xad), byte_character(0xff)),
            ('\u{121}', '\u{143}', 'ÿ')
        );
    }
}
