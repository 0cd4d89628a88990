//! GPT-2's expression.

use super::scan::{Contractions, Set, contraction, first, letters, run, skip, white};
use super::starts::{Kinds, Rule};

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
#[inline(always)]
pub fn gpt2(text: &[u8], at: usize) -> usize {
    let (class, next) = first(text, skip(text, at, b' '));
    if class == Set::LETTER {
        letters(text, next, Set::LETTER)
    } else if Set::REST.has(class) {
        contraction(text, at, Contractions::Lower).unwrap_or_else(|| run(text, next, Set::REST))
    } else if class == Set::NUMBER {
        run(text, next, Set::NUMBER)
    } else {
        white(text, at)
    }
}

/// [`gpt2`] in ASCII text.
pub struct Gpt2;

impl Rule for Gpt2 {
    #[inline(always)]
    fn begins(kinds: &Kinds) -> u64 {
        let (white, rest) = (kinds.white, kinds.rest());
        let inside = |kind: u64| kind & kind << 1;
        let goes_on = inside(kinds.letters) | inside(kinds.digits) | inside(rest) | kinds.spaces << 1;
        // White space begins one, and its last character does if something follows.
        !white & !goes_on | white & !(white << 1 & white >> 1)
    }

    #[inline(always)]
    fn leaves(kinds: &Kinds) -> u64 {
        kinds.apostrophes
    }

    #[inline(always)]
    fn opens(_: &Kinds) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::pre::tests::pieces;

    #[test]
    fn pieces_are_those_of_the_expression() {
        let split = |text| pieces("gpt-2", text);
        assert_eq!(
            split("Hello, world's  end\n\n x"),
            ["Hello", ",", " world", "'s", " ", " end", "\n\n", " x"]
        );
        assert_eq!(
            split("we'LL don't I'm 12345 ½x"),
            ["we", "'", "LL", " don", "'t", " I", "'m", " 12345", " ½", "x"]
        );
        assert_eq!(split("a   "), ["a", "   "]);
        assert_eq!(split("  \u{a0}\u{3000}x"), ["  \u{a0}", "\u{3000}", "x"]);
        assert_eq!(split("e\u{301} '"), ["e", "\u{301}", " '"]);
    }

    #[test]
    fn what_is_taken_out_first_ends_texts() {
        assert_eq!(pieces("starcoder", "a  12 b's½"), ["a", "  ", "1", "2", " b", "'s", "½"]);
        assert_eq!(pieces("falcon", "x  1234!=a's"), ["x", " ", " ", "123", "4", "!=", "a", "'", "s"]);
        assert_eq!(pieces("falcon", " 12 +1"), [" 12", " ", "+", "1"]);
        assert_eq!(pieces("default", " 12 1٣234`+"), [" ", "12", " ", "1٣", "234", "`", "+"]);
    }
}
