//! A prompt: what a template writes and what messages say, side by side in one text and told apart byte for byte.
//!
//! The text is encoded as one, so that tokens are those of the whole; but where a message speaks, nothing it says
//! becomes a control token.

use super::Specials;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, TokenizeError};
use crate::text::contains;

/// Texts of a template that a prompt keeps at most.
pub(crate) const MAX_MARKUP: usize = 11;

/// A text in the making: markup, which the program answers for, and content, which anybody may have written.
///
/// May be used again and again; what it held is overwritten when it is dropped.
#[derive(Debug)]
pub struct Prompt<'p> {
    text: &'p mut [u8],
    /// One for each byte of `text`.
    is_content: &'p mut [bool],
    len: usize,
    /// All that the template can write, in this prompt or another.
    markup: [&'p str; MAX_MARKUP],
}

impl<'p> Prompt<'p> {
    /// Adds what [`Prompt::new`] allocates: two bytes for each byte of text.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`] for more text than can be addressed.
    pub fn layout(max_text_bytes: usize, layout: Layout) -> Result<Layout, ArenaError> {
        layout.add::<u8>(max_text_bytes)?.add::<bool>(max_text_bytes)
    }

    /// An empty prompt with room for texts of at most `max_text_bytes`.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small.
    pub fn new(max_text_bytes: usize, arena: &mut Arena<'p>) -> Result<Self, ArenaError> {
        let text = arena.alloc(max_text_bytes, 0)?;
        let is_content = arena.alloc(max_text_bytes, false)?;
        Ok(Self { text, is_content, len: 0, markup: [""; MAX_MARKUP] })
    }

    /// Empties it for a text by a template of which `template` is the source: a token that stands in it, or looks as
    /// `<|this|>`, is markup even where the vocabulary calls it user-defined, and content cannot have it.
    pub fn begin(&mut self, template: &'p str) {
        let mut markup = [""; MAX_MARKUP];
        markup[0] = template;
        self.begin_with(markup);
    }

    /// [`Prompt::begin`] for a template in parts.
    pub(crate) fn begin_with(&mut self, markup: [&'p str; MAX_MARKUP]) {
        (self.len, self.markup) = (0, markup);
    }

    /// Adds text of the template, in which special tokens are found.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::ScratchFull`] when there is no room for it.
    pub fn markup(&mut self, text: &str) -> Result<(), TokenizeError> {
        self.push(text.as_bytes(), false)
    }

    /// Adds text of a message: whatever it says, it stays text.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::ScratchFull`] when there is no room for it.
    pub fn content(&mut self, text: &[u8]) -> Result<(), TokenizeError> {
        self.push(text, true)
    }

    fn push(&mut self, bytes: &[u8], is_content: bool) -> Result<(), TokenizeError> {
        let (end, have) = (self.len.saturating_add(bytes.len()), self.text.len());
        let full = TokenizeError::ScratchFull { need: end, have };
        // Cut twice, so that the lengths are the same to the compiler, too.
        let room = self.text.get_mut(self.len..).and_then(|room| room.get_mut(..bytes.len())).ok_or(full)?;
        room.copy_from_slice(bytes);
        self.is_content.get_mut(self.len..end).ok_or(full)?.fill(is_content);
        self.len = end;
        Ok(())
    }

    /// The text so far.
    pub fn bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }

    /// Bytes of the longest text it has room for.
    pub fn max_bytes(&self) -> usize {
        self.text.len()
    }

    /// Whether markup of this text comes first in it.
    pub(super) fn begins_with(&self, text: &[u8]) -> bool {
        let is_markup = self.is_content.get(..text.len()).is_some_and(|bytes| !bytes.contains(&true));
        is_markup && self.bytes().starts_with(text)
    }

    /// The special tokens of this text, for [`Tokenizer::encode`](super::Tokenizer::encode) of its
    /// [`bytes`](Self::bytes).
    pub fn specials(&self) -> Specials<'_> {
        let is_content = self.is_content.get(..self.len).unwrap_or_default();
        Specials::Outside(Contents { is_content, markup: &self.markup })
    }
}

impl Drop for Prompt<'_> {
    fn drop(&mut self) {
        self.text.fill(0);
        self.is_content.fill(false);
        core::hint::black_box(self); // the zeros are meant for whoever has the memory next
    }
}

/// Where in a text messages speak, and what they cannot say there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents<'t> {
    is_content: &'t [bool],
    markup: &'t [&'t str],
}

impl Contents<'_> {
    /// Whether any byte of `start..end` is content.
    pub(super) fn touches(&self, start: usize, end: usize) -> bool {
        self.is_content.get(start..end).is_none_or(|bytes| bytes.contains(&true))
    }

    /// Whether a template writes this token to say who speaks, by its look or because this one does.
    pub(super) fn is_markup(&self, token: &[u8]) -> bool {
        let has_look =
            |open: &str, close: &str| token.starts_with(open.as_bytes()) && token.ends_with(close.as_bytes());
        // White space, a bracket or a word of a template is no token that says anything.
        let is_name = token.iter().any(|b| b.is_ascii_punctuation())
            && token.iter().any(|b| b.is_ascii_alphanumeric() || !b.is_ascii());
        let stands_in = |text: &&str| contains(text.as_bytes(), token);
        has_look("<|", "|>") || has_look("<｜", "｜>") || is_name && self.markup.iter().any(stands_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::MaybeUninit;

    #[test]
    fn parts_are_told_apart() {
        let mut region = [MaybeUninit::uninit(); 256];
        let mut prompt = Prompt::new(12, &mut Arena::new(&mut region)).unwrap();
        prompt.begin("<user>{{ content }}</s>");
        prompt.markup("<user>").unwrap();
        prompt.content(b"ab").unwrap();
        prompt.content(b"").unwrap();
        prompt.markup("</s>").unwrap();
        assert_eq!(prompt.bytes(), b"<user>ab</s>");
        assert_eq!(prompt.content(b"c"), Err(TokenizeError::ScratchFull { need: 13, have: 12 }));
        let Specials::Outside(contents) = prompt.specials() else { panic!() };
        let touched = |start, end| contents.touches(start, end);
        assert_eq!([touched(0, 6), touched(0, 7), touched(7, 9), touched(8, 12)], [false, true, true, false]);
        assert!(touched(8, 13), "beyond the text all is content");
        for (token, is_markup) in [
            ("<user>", true),
            ("</s>", true),
            ("<|system|>", true),
            ("<｜tool｜>", true),
            ("<h1>", false),
            ("user", false),
            ("}}", false),
        ] {
            assert_eq!(contents.is_markup(token.as_bytes()), is_markup, "{token}");
        }
        prompt.begin("");
        assert_eq!(prompt.bytes(), b"");
    }

    #[test]
    fn nothing_is_left_behind() {
        let (mut text, mut is_content) = ([7; 3], [true; 3]);
        drop(Prompt { text: &mut text, is_content: &mut is_content, len: 3, markup: [""; MAX_MARKUP] });
        assert_eq!((text, is_content), ([0; 3], [false; 3]));
    }
}
