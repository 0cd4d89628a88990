//! The expressions of DeepSeek LLM and DeepSeek Coder: five or six one after the other, of which each takes one kind of
//! characters out of what those before it left. So what counts of a character is its kind, and pieces are runs of a kind;
//! only white space before words, and at the end of what is between them, needs more.

use super::ranges::{DEEPSEEK_CJK, DEEPSEEK_LLM_LETTERS, DEEPSEEK_LLM_SIGNS};
use super::scan::{Set, ascii_class, ascii_letters, behind, decode};

/// What the expressions tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The end of the text.
    End,
    /// `[\r\n]`
    Newline,
    /// `\s` but for line breaks
    White,
    /// `\p{N}`
    Number,
    /// Letters; with DeepSeek LLM those that it counts among signs too.
    Letter,
    /// With DeepSeek LLM, all other letters.
    OtherLetter,
    Sign,
    Rest,
}

/// A kind, and whether the character is in `[一-龥ࠀ-一가-퟿]` besides.
type Kinds = (Kind, bool);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deepseek {
    /// `[\r\n]`, `\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿ…]+`, ``\s?[!-/:-~！-／：-～‘-‟　-。]+``, `\s+$`, `[一-龥ࠀ-一가-퟿]+`, `\p{N}+`
    Llm,
    /// `[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`, `\p{N}`
    Coder,
}

impl Deepseek {
    /// Where the piece ends that begins at `at`.
    #[inline(always)]
    pub fn scan(self, text: &[u8], at: usize) -> usize {
        let (kinds, next) = self.kinds(text, at);
        match kinds {
            (Kind::End | Kind::Newline, _) => next,
            (Kind::Number, _) if self == Self::Coder => next,
            (Kind::White | Kind::Rest, false) => self.between(text, at),
            _ => self.run(text, next, kinds),
        }
    }

    /// The same where neither a word nor signs nor a number begins.
    #[inline(never)]
    fn between(self, text: &[u8], at: usize) -> usize {
        // Where the last character begins, and the white space at the end.
        let (mut end, mut last, mut white) = (at, at, at);
        let kinds = loop {
            match self.kinds(text, end) {
                ((kind @ (Kind::White | Kind::Rest), false), next) => {
                    (end, last) = (next, end);
                    if kind == Kind::Rest {
                        white = end;
                    }
                }
                (kinds, _) => break kinds,
            }
        };
        let ends_here = match kinds {
            (Kind::Letter | Kind::OtherLetter | Kind::Sign, is_cjk) => {
                // They take the last white character, but lose it again where they are taken out themselves.
                if white <= last && last == at {
                    return if is_cjk { end } else { self.run(text, end, kinds) };
                }
                end = if white <= last { last } else { end };
                true
            }
            (kind, _) => matches!(kind, Kind::End | Kind::Newline),
        };
        if self == Self::Llm && ends_here && white > at { white } else { end }
    }

    /// Where the characters of these kinds end that stand from `at` on.
    #[inline(always)]
    fn run(self, text: &[u8], at: usize, kinds: Kinds) -> usize {
        let mut at = at;
        loop {
            if kinds == (Kind::Letter, false) {
                at = ascii_letters(text, at);
            }
            match self.kinds(text, at) {
                (same, next) if same == kinds => at = next,
                _ => return at,
            }
        }
    }

    /// The kinds of the character at `at`, and where the next one begins.
    #[inline(always)]
    fn kinds(self, text: &[u8], at: usize) -> (Kinds, usize) {
        match text.get(at) {
            None => ((Kind::End, false), at),
            Some(&byte) if byte.is_ascii() => ((self.ascii(ascii_class(byte)), false), behind(at, 1)),
            Some(_) => self.wide(text, at),
        }
    }

    fn ascii(self, class: Set) -> Kind {
        match class {
            Set::LETTER => Kind::Letter,
            Set::NUMBER => Kind::Number,
            Set::NEWLINE => Kind::Newline,
            Set::PUNCTUATION => Kind::Sign,
            Set::SYMBOL if self == Self::Llm => Kind::Sign,
            _ if Set::WHITE.has(class) => Kind::White,
            _ => Kind::Rest,
        }
    }

    /// As [`Deepseek::kinds`], for characters that are not ASCII.
    #[inline(never)]
    fn wide(self, text: &[u8], at: usize) -> (Kinds, usize) {
        let Some((code, next)) = decode(text, at) else { return ((Kind::End, false), at) };
        let class = Set::of_code(code);
        let kind = match self {
            _ if Set::WHITE.has(class) => Kind::White,
            _ if class == Set::NUMBER => Kind::Number,
            Self::Coder if class == Set::LETTER => Kind::Letter,
            Self::Coder if class == Set::PUNCTUATION => Kind::Sign,
            Self::Coder => Kind::Rest,
            Self::Llm => match (DEEPSEEK_LLM_LETTERS.has(code), DEEPSEEK_LLM_SIGNS.has(code)) {
                (true, true) => Kind::Letter,
                (true, false) => Kind::OtherLetter,
                (false, true) => Kind::Sign,
                (false, false) => Kind::Rest,
            },
        };
        ((kind, DEEPSEEK_CJK.has(code)), next)
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::pre::tests::pieces;

    #[test]
    fn coder_takes_out_one_kind_after_the_other() {
        let split = |text| pieces("deepseek-coder", text);
        let want = ["if", " x", " == ", "1", "0", ":", "\n", " ", " y", " =", " [", "1", "]"];
        assert_eq!(split("if x == 10:\n  y = [1]"), want);
        assert_eq!(split(" 中a  ，b"), [" ", "中", "a", " ", " ，", "b"]);
        assert_eq!(split("\r\n\t\tx  "), ["\r", "\n", "\t", "\tx", "  "]);
        assert_eq!(split("+ 、x"), ["+", " ", "、", "x"]);
    }

    #[test]
    fn llm_takes_signs_out_of_words_too() {
        let split = |text| pieces("deepseek-llm", text);
        assert_eq!(split(" héllo, wörld 123"), [" h", "é", "llo", ",", " w", "ö", "rld", " ", "123"]);
        assert_eq!(split("§  a § "), ["§", " ", " a", " §", " "]);
        assert_eq!(split("12  34 中"), ["12", "  ", "34", " ", "中"]);
        assert_eq!(split("\u{3000}\u{3000}。ẁ é"), ["\u{3000}", "\u{3000}", "。", "ẁ", " é"]);
        assert_eq!(split("x \n y"), ["x", " ", "\n", " y"]);
    }
}
