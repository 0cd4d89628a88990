//! GPT-2's expression.

use super::ahead::Ahead;
use super::scan::{Contractions, Set, contraction, first, letters, run, skip, white};

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
#[inline(always)]
pub fn gpt2(text: &[u8], at: usize, ahead: &mut Ahead) -> usize {
    if let Some(end) = ahead.word(text, at, |byte| byte == b' ') {
        return end;
    }
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
