//! How Jais-2 cuts white space that LLaMA 3's expression leaves together.

use super::scan::{Set, first};

/// `\s{512}(?!\S)|\s{256}(?!\S)|…|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}` where LLaMA 3's expression has `\s+(?!\S)|\s+`:
/// white space without a line break behind it by powers of two, the largest first.
pub fn white_by_powers(text: &[u8], at: usize) -> usize {
    // The ends of no white characters, of one, of two, …
    let mut ends = core::iter::successors(Some(at), |&at| match first(text, at) {
        (class, next) if Set::WHITE.has(class) => Some(next),
        _ => None,
    });
    let n = ends.clone().take(513).count().saturating_sub(1);
    // Signs and words have one white character at most, in front of others.
    let is_white = n > 1 || ends.clone().nth(1) == Some(text.len());
    match n.checked_ilog2() {
        Some(log) if is_white && !matches!(text.last(), Some(b'\r' | b'\n')) => {
            ends.nth(1 << log).unwrap_or(text.len())
        }
        _ => text.len(),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use crate::tokenizer::pre::tests::pieces;
    use std::vec::Vec;

    #[test]
    fn white_space_is_cut_by_powers_of_two() {
        let lens = |text: &str| pieces("jais-2", text).iter().map(|piece| piece.len()).collect::<Vec<_>>();
        assert_eq!(lens(&(" ".repeat(15) + "x")), [8, 4, 2, 2]);
        assert_eq!(lens(&" ".repeat(15)), [8, 4, 2, 1]);
        assert_eq!(lens(&(" ".repeat(1300) + "1")), [512, 512, 256, 16, 2, 1, 1, 1]);
        assert_eq!(lens("\u{3000}\u{3000}\u{3000}x"), [6, 4]);
        assert_eq!(lens("      \n     x"), [7, 4, 2]);
        assert_eq!(lens("x !"), [1, 2]);
    }
}
