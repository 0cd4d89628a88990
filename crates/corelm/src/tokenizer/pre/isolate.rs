//! Expressions that find one kind of characters and leave what is between as it is.
//!
//! Each function gives the end of the piece that begins at `at`: of a match, or of what stands before the next match.

use super::chars::Chars;
use super::scan::{after, behind, decode, most_ascii};

/// Where the match is, when it is not at `at`, else its end.
pub fn gap_or(at: usize, found: usize, end: impl FnOnce() -> usize) -> usize {
    if found > at { found } else { end() }
}

/// `[chars]`
pub fn each(text: &[u8], at: usize, chars: &Chars) -> usize {
    gap_or(at, chars.find(text, at), || chars.one(text, at).unwrap_or(at))
}

/// `[chars]+`
pub fn runs(text: &[u8], at: usize, chars: &Chars) -> usize {
    gap_or(at, chars.find(text, at), || chars.run(text, at))
}

/// `[chars]+|[chars]+|…`, for sets without ASCII characters that have none in common.
pub fn runs_of(text: &[u8], at: usize, sets: &[&Chars]) -> usize {
    let mut found = at;
    loop {
        found = most_ascii(text, found);
        if let Some(chars) = sets.iter().find(|chars| chars.one(text, found).is_some()) {
            return gap_or(at, found, || chars.run(text, found));
        }
        match decode(text, found) {
            Some((_, next)) => found = next,
            None => return found,
        }
    }
}

/// `[chars]{1,3}`
pub fn threes(text: &[u8], at: usize, chars: &Chars) -> usize {
    gap_or(at, chars.find(text, at), || up_to_three(text, at, chars))
}

/// Where `[chars]{0,3}` ends.
pub fn up_to_three(text: &[u8], at: usize, chars: &Chars) -> usize {
    (0..3).try_fold(at, |at, _| chars.one(text, at).ok_or(at)).unwrap_or_else(|at| at)
}

/// ` ?[chars]+`, for characters that are no spaces.
pub fn led_by_blank(text: &[u8], at: usize, chars: &Chars) -> usize {
    let found = chars.find(text, at);
    let lead = found.wrapping_sub(1);
    let has_lead = found > at && found < text.len() && text.get(lead) == Some(&b' ');
    gap_or(at, if has_lead { lead } else { found }, || chars.run(text, found))
}

/// `[^\n]+|[\n]+`
pub fn lines(text: &[u8], at: usize) -> usize {
    let is_newline = text.get(at) == Some(&b'\n');
    behind(at, after(text, at).iter().take_while(|&&byte| (byte == b'\n') == is_newline).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::pre::ranges::{HAN_AND_KANA, HANGUL, NUMBERS};
    use crate::tokenizer::pre::tests::pieces;

    #[test]
    fn matches_and_gaps_are_pieces() {
        let text = "a12٣4b".as_bytes();
        assert_eq!([0, 1, 2, 6].map(|at| each(text, at, &NUMBERS)), [1, 2, 3, 7]);
        assert_eq!([0, 1, 6].map(|at| runs(text, at, &NUMBERS)), [1, 6, 7]);
        assert_eq!([0, 1, 5].map(|at| threes(text, at, &NUMBERS)), [1, 5, 6]);
        let text = "abcdefgh가나字a".as_bytes();
        let ends = [0, 8, 14, 17].map(|at| runs_of(text, at, &[&HANGUL, &HAN_AND_KANA]));
        assert_eq!(ends, [8, 14, 17, 18]);
    }

    #[test]
    fn words_of_bloom_are_all_but_some_signs() {
        assert_eq!(pieces("bloom", "a-b  c,d (e…)"), ["a-b", " ", " c", ",", "d", " (", "e", "…)"]);
        assert_eq!(pieces("bloom", " \u{3000}x "), [" \u{3000}", "x", " "]);
        assert_eq!(pieces("viking", "a1 12"), ["a", "1", " ", "1", "2"]);
    }
}
