//! [`Encoder`]: a text that arrives in parts.

use super::output::Output;
use super::scratch::Scratch;
use super::{Specials, Tokenizer};
use crate::Token;
use crate::error::TokenizeError;

/// Encodes a text that arrives in parts into the tokens of the whole: each as soon as no text that may follow changes it.
///
/// The caller keeps the bytes that are not encoded yet and puts new ones behind them. How many that can be depends on the
/// text: byte-level models hold back a few words, or a run of letters without end; SentencePiece and WordPiece models a
/// word; RWKV the length of a token. A unigram model's tokens are certain at the end only, and so are those of a
/// SentencePiece vocabulary that has spaces inside tokens.
///
/// ```
/// # use corelm::tokenizer::{Encoder, Scratch, Specials, Tokenizer};
/// # use corelm::{Token, error::TokenizeError};
/// /// Gives all tokens of what `read` brings, in memory that does not depend on how much that is.
/// fn encode_all(
///     tokenizer: &Tokenizer<'_, '_>,
///     read: &mut dyn FnMut(&mut [u8]) -> usize,
///     scratch: &mut Scratch<'_>,
///     give: &mut dyn FnMut(&[Token]),
/// ) -> Result<(), TokenizeError> {
///     let mut encoder = Encoder::new(tokenizer, Specials::Never);
///     let (mut text, mut len, mut tokens) = ([0; 4096], 0, [0; 512]);
///     loop {
///         let n_read = read(&mut text[len..]);
///         len += n_read;
///         let is_end = n_read == 0; // that of the text, or of the room for it: then the next call says `ScratchFull`
///         loop {
///             let done = encoder.encode(&text[..len], is_end, scratch, &mut tokens)?;
///             give(&tokens[..done.n_tokens]);
///             text.copy_within(done.n_bytes..len, 0);
///             len -= done.n_bytes;
///             if done.n_tokens == 0 {
///                 break;
///             }
///         }
///         if is_end {
///             return Ok(());
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Encoder<'t, 'a, 'm> {
    tokenizer: &'t Tokenizer<'a, 'm>,
    specials: Specials<'t>,
    /// Text between special tokens has begun.
    is_inside: bool,
    /// Bytes that the last call left because they were not certain.
    held: usize,
}

/// What a call of [`Encoder::encode`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Tokens written.
    pub n_tokens: usize,
    /// Bytes of text that they stand for, which are not needed any more.
    pub n_bytes: usize,
}

/// Which ends of a text without special tokens a part of it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Its beginning.
    pub begins: bool,
    /// Its end: nothing follows that could change its tokens.
    pub ends: bool,
}

impl<'t, 'a, 'm> Encoder<'t, 'a, 'm> {
    /// At the beginning of a text. Where control tokens may be in it is told by position in no part: of
    /// [`Specials::Outside`] none is found.
    pub fn new(tokenizer: &'t Tokenizer<'a, 'm>, specials: Specials<'t>) -> Self {
        let specials = match specials {
            Specials::Outside(_) => Specials::Never,
            others => others,
        };
        Self { tokenizer, specials, is_inside: false, held: 0 }
    }

    /// Writes to `out` tokens of `text`, which is all that came so far and was not encoded yet, and says of how many of
    /// its bytes they are. Where `is_end` tells that no more text will come, all of it is encoded, by as many calls as
    /// `out` needs: when there is nothing left to do, both numbers are 0.
    ///
    /// What is left of a call is not looked at again before an eighth of it came in addition, so that the time is linear
    /// in the text however small its parts are.
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::encode`]; [`TokenizeError::OutputFull`] only when `out` is too short for tokens that cannot be
    /// told apart: those of one word, say.
    pub fn encode(
        &mut self,
        text: &[u8],
        is_end: bool,
        scratch: &mut Scratch<'_>,
        out: &mut [Token],
    ) -> Result<Encoded, TokenizeError> {
        let is_too_early = self.held > 0 && text.len() < self.held.saturating_add(self.held.div_ceil(8));
        if text.is_empty() || is_too_early && !is_end {
            return Ok(Encoded::default());
        }
        let mut out = Output::up_to(out);
        let n_bytes = self.tokenizer.encode_part(
            text,
            is_end,
            &mut self.is_inside,
            self.specials,
            scratch,
            &mut out,
        )?;
        let (is_cut, n_tokens) = (out.is_cut(), out.finish()?);
        self.held = if is_cut { 0 } else { text.len().saturating_sub(n_bytes) };
        Ok(Encoded { n_tokens, n_bytes })
    }
}
