//! Expressions that group digits by threes.
//!
//! Groups that are counted from the end of a number take two expressions here, one after the other, so that each number
//! is looked through a few times at most: the first cuts off the digits that are too many, the second cuts by threes.

use super::isolate::{gap_or, up_to_three};
use super::ranges::NUMBERS;
use super::scan::{after, behind};

/// `[0-9][0-9][0-9]`
pub fn triples(text: &[u8], at: usize) -> usize {
    let are_digits = |window: &[u8]| window.iter().all(u8::is_ascii_digit);
    match after(text, at).windows(3).position(are_digits) {
        Some(gap) => gap_or(at, behind(at, gap), || behind(at, 3)),
        None => text.len(),
    }
}

/// What [`grouped_triples`] cuts by threes after it: numbers end as with `(?=(\d{3})+(?!\d))`.
pub fn grouped(text: &[u8], at: usize) -> usize {
    let skip_while = |at, is_in: fn(&u8) -> bool| {
        behind(at, after(text, at).iter().take_while(|byte| is_in(byte)).count())
    };
    let mut end = at;
    loop {
        let start = skip_while(end, |byte| !byte.is_ascii_digit());
        end = skip_while(start, u8::is_ascii_digit);
        let cut = behind(start, end.wrapping_sub(start) % 3); // `end` is behind `start`
        if end == start || (cut > at && cut < end) {
            return cut;
        }
    }
}

/// Of text that [`grouped`] cut, what `(?=(\d{3})+(?!\d))` cuts: a number by threes, what follows it goes with the last.
pub fn grouped_triples(text: &[u8], at: usize) -> usize {
    let is_longer =
        after(text, at).first_chunk::<4>().is_some_and(|digits| digits.iter().all(u8::is_ascii_digit));
    if is_longer { behind(at, 3) } else { text.len() }
}

/// What [`numbers_by_threes`] cuts after it: text with the number behind it, or with the one or two digits that are too
/// many.
///
/// llama.cpp splits so for `\d{1,3}(?=(?:\d{3})*\b)`: what stands before a number goes with its first group.
pub fn numbers(text: &[u8], at: usize) -> usize {
    // The ends of no digits, of one, of two, …
    let mut ends = core::iter::successors(Some(NUMBERS.find(text, at)), |&at| NUMBERS.one(text, at));
    let n = ends.clone().skip(1).fold(0usize, |n, _| n.wrapping_add(1)); // less than the bytes of the text
    ends.nth(if n % 3 > 0 { n % 3 } else { n }).unwrap_or(text.len())
}

/// Of text that [`numbers`] cut: what stands before the number with its first three digits, and threes.
pub fn numbers_by_threes(text: &[u8], at: usize) -> usize {
    up_to_three(text, NUMBERS.find(text, at), &NUMBERS)
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::pre::tests::pieces;

    #[test]
    fn groups_are_counted_from_the_end() {
        let split = |text| pieces("superbpe", text);
        assert_eq!(split("a 1234567 12"), ["a ", "1", "234", "567", " ", "12"]);
        assert_eq!(split("123456"), ["123", "456"]);
        assert_eq!(split("٣12345٤123x"), ["٣12", "345٤", "123", "x"]);
        assert_eq!(split("123456٤12"), ["123", "456٤12"]);
    }

    #[test]
    fn text_before_a_number_goes_with_its_first_group() {
        // So white space in front of it is not at the end of a text.
        assert_eq!(pieces("tiny_aya", "a  12345"), ["a", " ", " ", "12", "345"]);
        assert_eq!(pieces("tiny_aya", "  123456 "), [" ", " ", "123", "456", " "]);
        assert_eq!(pieces("afmoe", "\u{1}12345a"), ["\u{1}12", "345", "a"]);
        assert_eq!(pieces("afmoe", "カ字ab ไท1"), ["カ字", "ab", " ", "ไ", "ท", "1"]);
    }
}
