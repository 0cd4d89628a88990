//! Where tokens go, and with them, if they are asked for, the bytes of text that they stand for.

use crate::Token;
use crate::error::TokenizeError;

/// The bytes of a text that a token stands for.
///
/// One that stands for none (BOS, the space put before a text) has an empty span. A token can stand for a part of a
/// character only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where they begin.
    pub start: usize,
    /// Where they end: the first byte behind them.
    pub end: usize,
}

/// The caller's slices, and how many tokens there are, written or not.
pub struct Output<'o> {
    tokens: &'o mut [Token],
    spans: Option<&'o mut [Span]>,
    len: usize,
    /// What does not fit whole is left out, and the text ends before it.
    stops: bool,
    is_cut: bool,
    /// Where the text begins, in all of it, that spans are given in.
    base: usize,
}

impl<'o> Output<'o> {
    pub fn new(tokens: &'o mut [Token]) -> Self {
        Self { tokens, spans: None, len: 0, stops: false, is_cut: false, base: 0 }
    }

    /// No more tokens than fit.
    pub fn up_to(tokens: &'o mut [Token]) -> Self {
        Self { stops: true, ..Self::new(tokens) }
    }

    /// As many tokens as both slices have room for.
    pub fn with_spans(tokens: &'o mut [Token], spans: &'o mut [Span]) -> Self {
        let room = tokens.len().min(spans.len());
        let (tokens, spans) = (tokens.get_mut(..room).unwrap_or_default(), spans.get_mut(..room));
        Self { spans, ..Self::new(tokens) }
    }

    /// Number of tokens.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Goes on with text that begins at `base`.
    pub fn begin_text(&mut self, base: usize) {
        self.base = base;
    }

    /// A token whose span is not known, or is found by [`Output::locate`].
    #[inline]
    pub fn push(&mut self, token: Token) {
        if let Some(slot) = self.tokens.get_mut(self.len) {
            *slot = token;
        }
        self.len = self.len.wrapping_add(1); // no more than bytes of text and special tokens
    }

    /// A token for the bytes `start..end` of the text.
    #[inline]
    pub fn push_at(&mut self, token: Token, start: usize, end: usize) {
        if let Some(slot) = self.spans.as_mut().and_then(|spans| spans.get_mut(self.len)) {
            *slot = Span { start: self.base.saturating_add(start), end: self.base.saturating_add(end) };
        }
        self.push(token);
    }

    /// The last token stands for the bytes up to `end` too.
    pub fn extend(&mut self, end: usize) {
        let last = self.len.checked_sub(1);
        if let Some(slot) = self.spans.as_mut().zip(last).and_then(|(spans, last)| spans.get_mut(last)) {
            slot.end = self.base.saturating_add(end);
        }
    }

    /// The last `n` tokens, if they are all written.
    pub fn last(&self, n: usize) -> Option<&[Token]> {
        self.tokens.get(self.len.checked_sub(n)?..self.len)
    }

    /// Whether to stop, because the tokens from the `first` on, which belong together, do not all fit. Then they are taken
    /// back, unless there are no others: that they do not fit is an error.
    #[inline(always)]
    pub fn stops_at(&mut self, first: usize) -> bool {
        self.stops && self.len > self.tokens.len() && self.cut(first)
    }

    #[cold]
    fn cut(&mut self, first: usize) -> bool {
        self.is_cut = true;
        if first > 0 {
            self.len = first;
        }
        true
    }

    /// Whether there were tokens that did not fit.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Takes back all but the first `n` tokens.
    pub fn truncate(&mut self, n: usize) {
        self.len = self.len.min(n);
    }

    /// Whether anybody asked for spans.
    pub fn has_spans(&self) -> bool {
        self.spans.is_some()
    }

    /// Finds the spans of all tokens from the `first` on: one behind the other they are `text`, and `len` says for how
    /// many bytes of the rest of it a token stands.
    pub fn locate(&mut self, first: usize, text: &[u8], mut len: impl FnMut(Token, &[u8]) -> usize) {
        let Some(spans) = self.spans.as_mut().and_then(|spans| spans.get_mut(first..)) else { return };
        let tokens = self.tokens.get(first..).unwrap_or_default();
        let n = self.len.saturating_sub(first);
        let mut rest = text;
        for (&token, span) in tokens.iter().zip(spans).take(n) {
            let start = text.len().saturating_sub(rest.len());
            rest = rest.get(len(token, rest)..).unwrap_or_default();
            let end = text.len().saturating_sub(rest.len());
            *span = Span { start: self.base.saturating_add(start), end: self.base.saturating_add(end) };
        }
    }

    /// The number of tokens.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::OutputFull`] when there was no room for all.
    pub fn finish(self) -> Result<usize, TokenizeError> {
        match self.tokens.len() {
            have if have < self.len => Err(TokenizeError::OutputFull { need: self.len, have }),
            _ => Ok(self.len),
        }
    }
}
