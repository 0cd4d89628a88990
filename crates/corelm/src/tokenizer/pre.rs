//! Pre-tokenizers: the splitting of text into pieces that merges never cross, by the names that files give them.
//!
//! The meaning is llama.cpp's: for each name one regular expression or several, of which each splits the pieces of the
//! one before; where its own scanners differ from the expressions that models are published with, they count. Here every
//! expression is a scanner that gives the length of the first piece of a text, a match or what stands before the first
//! match. Time is linear in the text, and there is no backtracking, recursion or memory.
//!
//! ```text
//! names.rs   name -> expressions and what else llama.cpp ties to it
//! stage.rs   expressions one after the other -> pieces
//! gpt2.rs words.rs punctuated.rs              whole expressions: everything is matched, or nearly so
//! isolate.rs digits.rs jais2.rs chameleon.rs  expressions that take something apart and leave the rest
//! scan.rs chars.rs ranges.rs                  classes and sets of characters, and runs of them
//! starts.rs ahead.rs                          looks ahead, for many bytes at once
//! certain.rs                                  pieces that no text behind them changes
//! ```

mod ahead;
mod certain;
mod chameleon;
mod chars;
mod deepseek;
mod digits;
mod gpt2;
mod isolate;
mod jais2;
mod names;
mod punctuated;
mod ranges;
mod scan;
mod stage;
mod starts;
mod words;

pub use stage::Pieces;

use core::fmt;
use stage::{Ends, Stage};

/// A pre-tokenizer.
///
/// ```
/// use corelm::tokenizer::Pre;
///
/// let pieces = |name: &str, text: &'static str| {
///     let pre = Pre::by_name(name.as_bytes()).unwrap();
///     pre.pieces(text.as_bytes()).map(|piece| str::from_utf8(piece).unwrap()).collect::<Vec<_>>()
/// };
/// assert_eq!(pieces("gpt-2", "I'll pay 1234!"), ["I", "'ll", " pay", " 1234", "!"]);
/// assert_eq!(pieces("llama-bpe", "I'll pay 1234!"), ["I", "'ll", " pay", " ", "123", "4", "!"]);
/// assert!(Pre::by_name(b"unheard-of").is_none());
/// ```
#[derive(Clone, Copy)]
pub struct Pre {
    name: &'static str,
    family: &'static Family,
}

/// Names that mean the same.
#[derive(Debug)]
struct Family {
    names: &'static [&'static str],
    /// Expressions, of which each splits the pieces of the one before.
    stages: &'static [Stage],
    /// A piece that is a token is that token, whatever the merges say.
    ignores_merges: bool,
    /// The model wants BOS when the file does not say.
    adds_bos: bool,
}

impl Pre {
    /// The pre-tokenizer that `tokenizer.ggml.pre` names so; `None` for a name that is not known.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        let mut all =
            names::FAMILIES.iter().flat_map(|family| family.names.iter().map(move |name| (name, family)));
        let (name, family) = all.find(|(known, _)| known.as_bytes() == name)?;
        Some(Self { name, family })
    }

    /// All names that are known.
    pub fn names() -> impl Iterator<Item = &'static str> {
        names::FAMILIES.iter().flat_map(|family| family.names).copied()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The pieces of `text`. A byte that is not UTF-8 counts as the character U+FFFD.
    pub fn pieces(self, text: &[u8]) -> Pieces<'_> {
        Pieces::new(self.ends(text))
    }

    /// Where [`Pre::pieces`] end.
    pub(super) fn ends(self, text: &[u8]) -> Ends<'_> {
        Ends::new(self.family.stages, text)
    }

    /// Bytes of `text` at whose end at the latest, whatever follows the text, [`Pre::pieces`] has found the pieces of the
    /// whole: those that end up to there are certain.
    pub(super) fn n_certain(self, text: &[u8]) -> usize {
        let n_runs =
            self.family.stages.iter().map(|stage| stage.looks_ahead()).fold(0, usize::saturating_add);
        certain::before_last_runs(text, n_runs)
    }

    /// Whether a piece that is a token is that token, whatever the merges say.
    pub(super) fn ignores_merges(self) -> bool {
        self.family.ignores_merges
    }

    /// Whether the model wants BOS when the file does not say.
    pub(super) fn adds_bos(self) -> bool {
        self.family.adds_bos
    }
}

impl fmt::Debug for Pre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pre").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// The pieces of a text, which must be all of it.
    pub fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let pre = Pre::by_name(name.as_bytes()).unwrap();
        let pieces: Vec<_> =
            pre.pieces(text.as_bytes()).map(|piece| str::from_utf8(piece).unwrap()).collect();
        assert_eq!(pieces.concat(), text);
        pieces
    }

    #[test]
    fn names_are_known_once() {
        let names: Vec<_> = Pre::names().collect();
        for name in &names {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
            let pre = Pre::by_name(name.as_bytes()).unwrap();
            assert_eq!(pre.name(), *name);
            assert!((1..=stage::MAX_STAGES).contains(&pre.family.stages.len()), "{name}");
        }
        for name in ["", "llama", "LLAMA-BPE", "llama-bpe ", "gpt2"] {
            assert!(Pre::by_name(name.as_bytes()).is_none(), "{name}");
        }
        assert_eq!(std::format!("{:?}", Pre::by_name(b"tekken")), "Some(Pre(\"tekken\"))");
    }

    /// Every pair of bytes, behind each other and behind text that a look ahead takes.
    #[test]
    fn any_bytes_are_cut_into_pieces() {
        let mut text: Vec<u8> = (0..=255).flat_map(|a| (0..=255).flat_map(move |b| [a, b])).collect();
        text.splice(0..0, b"Some words, and numbers: 1234567 ".repeat(8));
        for family in names::FAMILIES {
            let pre = Pre { name: "", family };
            for text in [&text[..], &text[1..], b"", b"\xff"] {
                let pieces: Vec<_> = pre.pieces(text).collect();
                assert!(pieces.iter().all(|piece| !piece.is_empty()), "{:?}", family.names);
                assert_eq!(pieces.concat(), text, "{:?}", family.names);
            }
        }
    }
}
