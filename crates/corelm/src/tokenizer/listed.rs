//! [`Listed`]: merges as a file lists them, read some at a time: the tokens of each lie somewhere in the vocabulary, and to
//! wait for many looks at memory at once takes as long as to wait for one.

use super::hash::TextHash;
use super::short::is_same;
use super::vocab::Vocab;
use crate::Token;

/// How many are read at a time.
pub const AT_ONCE: usize = 8;

/// An entry of the list: the texts of two tokens and a space between.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'m> {
    left: &'m [u8],
    right: &'m [u8],
    left_hash: TextHash,
    right_hash: TextHash,
}

impl<'m> Listed<'m> {
    /// The next entries; none for one that is not of this form, and behind the last.
    pub fn read(
        texts: &mut impl Iterator<Item = &'m [u8]>,
        vocab: &Vocab<'_, '_>,
        listed: &mut [Option<Self>; AT_ONCE],
    ) {
        let mut touched = 0;
        for (listed, text) in listed.iter_mut().zip(texts) {
            *listed = Self::new(text);
            if let Some(Self { left_hash, right_hash, .. }) = *listed {
                touched ^= vocab.touch(left_hash) ^ vocab.touch(right_hash);
            }
        }
        core::hint::black_box(touched);
    }

    #[inline]
    fn new(text: &'m [u8]) -> Option<Self> {
        // A space may be the first character of the left part, never the last of it.
        let (&first, behind) = text.split_first()?;
        let (mut left_hash, mut len) = (TextHash::default().push(first), 1usize);
        for &byte in behind.iter().take_while(|&&byte| byte != b' ') {
            left_hash = left_hash.push(byte);
            len = len.wrapping_add(1); // at most the length of the text
        }
        let (left, [_, right @ ..]) = text.split_at_checked(len)? else { return None };
        (!right.is_empty()).then(|| Self { left, right, left_hash, right_hash: TextHash::of_bytes(right) })
    }

    /// How a vocabulary writes the two tokens.
    pub fn texts(&self) -> [&'m [u8]; 2] {
        [self.left, self.right]
    }

    /// Bytes of the entry.
    pub fn len(&self) -> usize {
        self.left.len().wrapping_add(self.right.len()) // of one slice
    }

    /// The tokens of the two texts, and that of both together. `last` is the one that the entry before makes.
    #[inline(always)]
    pub fn find(&self, vocab: &Vocab<'_, '_>, last: Token) -> Option<(Token, Token, Token)> {
        let is_product = |text: &[u8]| {
            let (left, right) = text.split_at_checked(self.left.len()).unwrap_or_default();
            is_same(right, self.right) && is_same(left, self.left)
        };
        // Merges stand in the order of the tokens that they make, in most files, which saves most of the searches.
        let is_guess = |token| vocab.text(token).is_some_and(is_product);
        let next = last.wrapping_add(1);
        let product = if is_guess(next) {
            next
        } else if is_guess(last) {
            last
        } else {
            vocab.find_by(self.left_hash.push_all(self.right), is_product)?
        };
        let left = vocab.find_hashed(self.left_hash, self.left)?;
        Some((left, vocab.find_hashed(self.right_hash, self.right)?, product))
    }
}
