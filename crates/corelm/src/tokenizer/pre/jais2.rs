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
