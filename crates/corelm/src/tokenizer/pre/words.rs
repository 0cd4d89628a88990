//! The expressions in the manner of GPT-4's: words with one character before them, short numbers, line breaks apart.

mod styles;

pub use styles::*;

use super::ahead::Ahead;
use super::chars::is_in;
use super::ranges::HAN;
use super::scan::{
    Contractions, Set, ascii_class, ascii_letters, behind, class, contraction, decode, first, is_wide,
    letters, lines_or_white, run, skip, skip_all, small_letters, wide_run,
};
use super::starts::{Kinds, Rule};

/// What is open in `CONTRACTIONS|[^\r\n\p{L}\p{N}]?WORD|\p{N}{1,max}| ?[rest]+TAIL|\s*[\r\n]+|\s+(?!\S)|\s+`.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    contractions: Option<Contractions>,
    word: Word,
    max_digits: usize,
    rest: Set,
    tail: Tail,
}

/// What a word is.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// Classes of its characters, letters among them.
    set: Set,
    shape: Shape,
    /// `WORD(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
    takes_contraction: bool,
}

/// How its characters follow each other.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// `[set]+`
    Run,
    /// `[set\u200C\u200D]+`
    Joined,
    /// `[set&&[^\p{Han}]]+`
    NotHan,
    /// `[set&&[^a-z]]*[set&&[^A-Z]]+|[set&&[^a-z]]+[set&&[^A-Z]]*`
    Cased,
    /// `[set]\p{M}*(?: ?[set]\p{M}*)*`
    Phrase,
}

/// What may stand behind signs.
#[derive(Clone, Copy, Debug)]
enum Tail {
    Nothing,
    /// `[\r\n]*`
    Newlines,
    /// `[\r\n/]*`
    NewlinesAndSlashes,
    /// `[\r\n/]?`
    NewlineOrSlash,
}

/// As [`words`], with a look ahead.
#[inline(always)]
pub fn words_ahead(text: &[u8], at: usize, style: &Style, ahead: &mut Ahead) -> usize {
    let Style { word, .. } = style;
    if word.is_all_letters()
        && let Some(end) = ahead.word(text, at, |byte| byte != b'\'' && LEADS.has(ascii_class(byte)))
    {
        return word.with_contraction(text, end);
    }
    words(text, at, style)
}

/// See [`Style`].
#[inline(always)]
pub fn words(text: &[u8], at: usize, style: &Style) -> usize {
    let Style { word, .. } = style;
    let (class, next) = first(text, at);
    // No word begins with a character that may stand before it, or goes on as if it had not.
    if word.begins(text, at, class) {
        return word.end(text, at);
    }
    if LEADS.has(class)
        && let Some(end) = word.find(text, next)
    {
        return style.contractions.and_then(|known| contraction(text, at, known)).unwrap_or(end);
    }
    if class == Set::NUMBER {
        return numbers(text, at, style.max_digits);
    }
    let body = skip(text, at, b' ');
    match run(text, body, style.rest) {
        end if end > body => style.tail.end(text, end),
        _ => lines_or_white(text, at),
    }
}

/// [`words`] in ASCII text, of styles that [are so](Style::is_plain): numbers of up to `MAX_DIGITS`, which are left to the
/// scanner when that is not 1.
pub struct InAscii<const MAX_DIGITS: usize>;

impl<const MAX_DIGITS: usize> Rule for InAscii<MAX_DIGITS> {
    #[inline(always)]
    fn begins(kinds: &Kinds) -> u64 {
        let &Kinds { letters, digits, white, newlines, spaces, .. } = kinds;
        let (rest, blanks) = (kinds.rest(), white & !newlines);
        // Signs begin with a space if there is one. What begins before a word belongs to it, but for line breaks.
        let signs = rest & !((rest | spaces) << 1);
        let words = letters & !((letters | blanks | signs) << 1);
        let numbers = if MAX_DIGITS == 1 { digits } else { digits & !(digits << 1) };
        let lines = newlines & !((white | rest) << 1);
        let gaps = blanks & !(blanks << 1 & white >> 1);
        words | numbers | signs | lines | gaps
    }

    #[inline(always)]
    fn leaves(kinds: &Kinds) -> u64 {
        if MAX_DIGITS == 1 { kinds.apostrophes } else { kinds.apostrophes | kinds.digits }
    }

    #[inline(always)]
    fn opens(kinds: &Kinds) -> u64 {
        // Behind a line break blanks are a piece of their own, unless they end with another one.
        kinds.newlines & (kinds.white & !kinds.newlines) << 1
    }
}

/// `[^\r\n\p{L}\p{N}]`
const LEADS: Set = Set::REST.or(Set::WHITE).but(Set::NEWLINE);

/// Where `\p{N}{1,max}` ends.
#[inline]
fn numbers(text: &[u8], at: usize, max: usize) -> usize {
    let mut at = at;
    for _ in 0..max {
        match first(text, at) {
            (Set::NUMBER, next) => at = next,
            _ => break,
        }
    }
    at
}

impl Style {
    /// Whether [`InAscii`] tells its pieces.
    pub fn is_plain(&self) -> bool {
        let is_plain_word =
            matches!(self.word.shape, Shape::Run | Shape::Joined) && !self.word.takes_contraction;
        is_plain_word && matches!(self.tail, Tail::Newlines)
    }

    /// The most digits of a number.
    pub fn max_digits(&self) -> usize {
        self.max_digits
    }
}

impl Word {
    /// Whether a word begins at `at`, where a character of this class stands.
    #[inline(always)]
    fn begins(&self, text: &[u8], at: usize, class: Set) -> bool {
        match self.shape {
            Shape::Run | Shape::Cased | Shape::Phrase => self.set.has(class),
            Shape::Joined | Shape::NotHan => decode(text, at).is_some_and(|(code, _)| self.has(code, class)),
        }
    }

    /// Where the word ends that begins at `at`, if there is one.
    #[inline(always)]
    fn find(&self, text: &[u8], at: usize) -> Option<usize> {
        if is_wide(text, at) && matches!(self.shape, Shape::Run) {
            let end = self.end(text, at);
            return (end > at).then_some(end);
        }
        self.begins(text, at, class(text, at)).then(|| self.end(text, at))
    }

    /// Whether a character is in words.
    fn has(&self, code: u32, class: Set) -> bool {
        match self.shape {
            Shape::Joined => self.set.has(class) || matches!(code, 0x200C | 0x200D),
            Shape::NotHan => self.set.has(class) && !is_in(code, HAN),
            Shape::Run | Shape::Cased | Shape::Phrase => self.set.has(class),
        }
    }

    /// Where the word ends that begins at `at`.
    #[inline(always)]
    fn end(&self, text: &[u8], at: usize) -> usize {
        let end = match self.shape {
            Shape::Run => letters(text, at, self.set),
            Shape::Joined | Shape::NotHan => self.picked(text, at),
            Shape::Cased => self.cased(text, at),
            Shape::Phrase => self.phrase(text, at),
        };
        self.with_contraction(text, end)
    }

    #[inline(always)]
    fn with_contraction(&self, text: &[u8], end: usize) -> usize {
        match self.takes_contraction {
            true => contraction(text, end, Contractions::AnyCase).unwrap_or(end),
            false => end,
        }
    }

    /// Whether ASCII letters, followed by other ASCII characters, are always one word.
    #[inline(always)]
    fn is_all_letters(&self) -> bool {
        matches!(self.shape, Shape::Run | Shape::Joined | Shape::NotHan)
    }

    /// Characters that their classes do not tell.
    fn picked(&self, text: &[u8], at: usize) -> usize {
        let mut at = at;
        loop {
            at = ascii_letters(text, at);
            match decode(text, at) {
                Some((code, next)) if self.has(code, Set::of_code(code)) => at = next,
                _ => return at,
            }
        }
    }

    /// As llama.cpp has it, only ASCII letters have a case; all others go with both.
    fn cased(&self, text: &[u8], at: usize) -> usize {
        let (mut end, mut end_of_others) = (at, None);
        loop {
            match text.get(end) {
                Some(b'A'..=b'Z') => end = behind(end, 1),
                Some(b'a'..=b'z') => return small_letters(text, end, self.set),
                _ => match wide_run(text, end, self.set) {
                    // The second part is not empty if it need not be: it is the last one that goes with both.
                    next if next == end => return end_of_others.unwrap_or(end),
                    next => (end, end_of_others) = (next, Some(next)),
                },
            }
        }
    }

    fn phrase(&self, text: &[u8], at: usize) -> usize {
        let mut end = at;
        loop {
            end = letters(text, end, self.set.or(Set::MARK));
            let next = skip(text, end, b' ');
            if next == end || !self.set.has(class(text, next)) {
                return end;
            }
            end = next;
        }
    }
}

impl Tail {
    #[inline]
    fn end(self, text: &[u8], at: usize) -> usize {
        match self {
            Self::Nothing => at,
            Self::Newlines => skip_all(text, at, b"\r\n"),
            Self::NewlinesAndSlashes => skip_all(text, at, b"\r\n/"),
            Self::NewlineOrSlash => {
                behind(at, usize::from(matches!(text.get(at), Some(b'\r' | b'\n' | b'/'))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::pre::tests::pieces;

    #[test]
    fn llama_3_and_its_like_differ_in_digits() {
        let split = |text| pieces("llama-bpe", text);
        assert_eq!(split("we'LL (x)\r\n\r\ny"), ["we", "'LL", " (", "x", ")\r\n\r\n", "y"]);
        assert_eq!(split("1234567 89"), ["123", "456", "7", " ", "89"]);
        assert_eq!(split(" \n \n  x\ty"), [" \n \n", " ", " x", "\ty"]);
        assert_eq!(split("\nx"), ["\n", "x"]);
        assert_eq!(split("'hello '' \u{3000}字"), ["'hello", " ''", " ", "\u{3000}字"]);
        assert_eq!(split("'ſ e\u{301}a"), ["'ſ", " e", "\u{301}a"]);
        assert_eq!(pieces("qwen2", "1234 a"), ["1", "2", "3", "4", " a"]);
        assert_eq!(pieces("minicpm5", "1234  5"), ["123", "4", "  ", "5"]);
    }

    #[test]
    fn what_is_behind_words_and_signs_differs() {
        assert_eq!(pieces("qwen2", "it'sa"), ["it", "'s", "a"]);
        assert_eq!(pieces("ufakzeka", "it'sa"), ["it", "'sa"]);
        assert_eq!(pieces("qwen2", "!\n\nx"), ["!\n\n", "x"]);
        assert_eq!(pieces("seed-coder", "!\n\nx"), ["!", "\n\n", "x"]);
        assert_eq!(pieces("exaone-moe", "!\n\nx"), ["!\n", "\n", "x"]);
        assert_eq!(pieces("gpt-4o", "!\n/\nx"), ["!\n/\n", "x"]);
        assert_eq!(pieces("laguna", "!\n\nx \n"), ["!", "\n\n", "x", " ", "\n"]);
    }

    #[test]
    fn marks_and_joiners_are_of_words_or_not() {
        assert_eq!(pieces("qwen2", "e\u{301}e"), ["e", "\u{301}e"]);
        assert_eq!(pieces("qwen35", "e\u{301}e"), ["e\u{301}e"]);
        assert_eq!(pieces("qwen35", "!\u{301}!\u{301}"), ["!\u{301}", "!\u{301}"]);
        assert_eq!(pieces("qwen35", "!!\u{301}"), ["!!", "\u{301}"]);
        let word = "\u{200d}a\u{200c}\u{301}";
        assert_eq!(pieces("k2-horizon", "\u{200d}a\u{200c}\u{301}1'ſa"), [word, "1", "'ſ", "a"]);
        assert_eq!(pieces("k2-horizon", "!!\u{301}"), ["!!\u{301}"]);
    }

    #[test]
    fn capitals_begin_words() {
        let split = |text| pieces("tekken", text);
        assert_eq!(split("HelloWORLDfoo Bar"), ["Hello", "WORLDfoo", " Bar"]);
        assert_eq!(split("(HTTPServer)"), ["(HTTPServer", ")"]);
        assert_eq!(split("aBC DE"), ["a", "BC", " DE"]);
        // Letters beyond ASCII are small and capital.
        assert_eq!(split("ÉABC"), ["É", "ABC"]);
        assert_eq!(split("ABÉCD!"), ["ABÉ", "CD", "!"]);
        assert_eq!(split("ABÉcdéF"), ["ABÉcdé", "F"]);
        assert_eq!(split("We'Re 12"), ["We", "'Re", " ", "1", "2"]);
        assert_eq!(pieces("gpt-4o", "We'Re 1234"), ["We'Re", " ", "123", "4"]);
        assert_eq!(pieces("gpt-4o", "e\u{301}A"), ["e", "\u{301}A"]);
        let split = |text| pieces("granite-embed-multi-97m", text);
        assert_eq!(split("e\u{301}AB \u{301}AB"), ["e\u{301}", "AB", " \u{301}", "AB"]);
    }

    #[test]
    fn case_is_nothing_where_expressions_ask_for_kinds_of_letters() {
        assert_eq!(pieces("youtu", "HelloWORLD's 12"), ["HelloWORLD's", " ", "1", "2"]);
        assert_eq!(pieces("youtu", "ab「字ひ」ㄅ가ㄱ!"), ["ab", "「", "字ひ", "」", "ㄅ", "가ㄱ", "!"]);
    }

    #[test]
    fn phrases_are_words_with_spaces_between() {
        let split = |text| pieces("exaone-moe", text);
        assert_eq!(split("to be or  not to\u{301} be1"), ["to be or", " ", " not to\u{301} be", "1"]);
    }

    #[test]
    fn ideographs_are_apart() {
        assert_eq!(pieces("kimi-k2", "ab中文cd's 中é"), ["ab", "中文", "cd's", " ", "中", "é"]);
        assert_eq!(pieces("kimi-k2", "!中1234"), ["!", "中", "123", "4"]);
    }
}
