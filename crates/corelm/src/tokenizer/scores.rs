//! The scores of tokens, in place in the file.

use crate::Token;
use crate::error::{ModelError, VocabFault};
use crate::gguf::{Image, ValueType};

pub(super) const SCORES: &str = "tokenizer.ggml.scores";

/// A finite number for each token.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'m>(&'m [[u8; 4]]);

impl<'m> Scores<'m> {
    /// Checks the scores of a vocabulary of `vocab_size`.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when they are absent, not one for each token or not finite.
    pub fn new(image: &Image<'m>, vocab_size: usize) -> Result<Self, ModelError> {
        let array = image.array(SCORES, ValueType::F32)?.ok_or(ModelError::MissingKey { key: SCORES })?;
        let bad = |fault, index: usize| ModelError::BadVocab { fault, index: index as u64 };
        if array.len() != vocab_size {
            return Err(bad(VocabFault::ArrayLength, array.len()));
        }
        let scores = array.bytes().as_chunks().0;
        match scores.iter().position(|&bytes| !f32::from_le_bytes(bytes).is_finite()) {
            Some(index) => Err(bad(VocabFault::Score, index)),
            None => Ok(Self(scores)),
        }
    }

    /// All of them, bit for bit, in the order of the tokens.
    pub fn bits(self) -> impl Iterator<Item = u64> + use<'m> {
        self.0.iter().map(|&bytes| u32::from_le_bytes(bytes).into())
    }

    /// The least of them; infinity if there are none.
    pub fn least(self) -> f32 {
        self.0.iter().fold(f32::INFINITY, |least, &bytes| least.min(f32::from_le_bytes(bytes)))
    }

    /// The score of a token.
    #[inline]
    pub fn get(self, token: Token) -> f32 {
        self.0.get(token as usize).map_or(0.0, |&bytes| f32::from_le_bytes(bytes))
    }
}
