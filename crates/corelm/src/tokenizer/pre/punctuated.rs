//! The expressions in the manner of DeepSeek-V3's: signs are apart from words, but a sign before ASCII letters.

use super::ahead::Ahead;
use super::scan::{
    Set, ascii_letters, class, first, is_wide, letters, lines_or_white, run, skip, skip_all, white,
};

const WORD: Set = Set::LETTER.or(Set::MARK);
const SIGNS: Set = Set::PUNCTUATION.or(Set::SYMBOL);

/// What signs and white space do about line breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newlines {
    /// `… ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Together,
    /// `… ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+`
    Apart,
}

/// ``[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|`` and one of [`Newlines`]. Numbers, controls and
/// unassigned characters match nothing, but before a word.
#[inline(always)]
pub fn punctuated(text: &[u8], at: usize, newlines: Newlines, ahead: &mut Ahead) -> usize {
    if let Some(end) = ahead.word(text, at, |byte| byte.is_ascii() && !matches!(byte, b'\r' | b'\n')) {
        return end;
    }
    let (class, next) = first(text, at);
    if WORD.has(class) {
        return letters(text, next, WORD);
    }
    if SIGNS.has(class) {
        let end = ascii_letters(text, next);
        if end > next && !is_wide(text, at) {
            return end;
        }
    } else if class != Set::NEWLINE && WORD.has(self::class(text, next)) {
        return letters(text, next, WORD);
    }
    let body = skip(text, at, b' ');
    let end = run(text, body, SIGNS);
    match newlines {
        Newlines::Together if end > body => skip_all(text, end, b"\r\n"),
        Newlines::Together if Set::WHITE.has(class) => lines_or_white(text, at),
        Newlines::Apart if end > body => end,
        Newlines::Apart if class == Set::NEWLINE => next,
        Newlines::Apart if Set::WHITE.has(class) => white(text, at),
        _ => unmatched(text, at),
    }
}

/// Where the next match begins, behind a number, control or unassigned character.
#[inline(never)]
fn unmatched(text: &[u8], at: usize) -> usize {
    let mut at = at;
    loop {
        let (class, next) = first(text, at);
        let is_matched = class == Set::END || WORD.or(SIGNS).or(Set::WHITE).has(class);
        if is_matched || WORD.has(self::class(text, next)) {
            return at;
        }
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::pre::tests::pieces;

    #[test]
    fn pieces_are_those_of_the_expressions() {
        let split = |text| pieces("deepseek-v3", text);
        assert_eq!(split("x.foo() 'é'"), ["x", ".foo", "()", " '", "é", "'"]);
        assert_eq!(split(" ..com\n\n a\u{301}"), [" ..", "com", "\n\n", " a\u{301}"]);
        assert_eq!(split("!!\r\n\n x\n"), ["!!\r\n\n", " x", "\n"]);
        assert_eq!(split("a 1234中文ひら5"), ["a", " ", "123", "4", "中文ひら", "5"]);
        assert_eq!(split("“字”  \u{1}\u{2}a"), ["“", "字", "”", " ", " ", "\u{1}", "\u{2}a"]);
        assert_eq!(split("\u{1}\u{2}"), ["\u{1}\u{2}"]);
        let split = |text| pieces("spark2_5", text);
        assert_eq!(split("!!\r\n x \n1234"), ["!!", "\r", "\n", " x", " \n", "1", "2", "3", "4"]);
    }
}
