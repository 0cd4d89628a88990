//! SentencePiece BPE (Llama 1 and 2, Phi-3, Mistral): characters merge by the score of what they make, a space is the
//! character U+2581, and text without tokens becomes bytes.
//!
//! A character without a token of its own merges with nothing. Trained vocabularies have a token for every character
//! that stands in another token, so that this is what the reference does.

use super::NO_TOKEN;
use super::byte_pairs::BytePairs;
use super::cache::PieceCache;
use super::encoder::Part;
use super::hash::TextHash;
use super::joints::Joints;
use super::merges::{Merges, NEVER, fingerprint};
use super::output::Output;
use super::scratch::Chain;
use super::short::{Short, is_same};
use super::tables::{Lines, Tables};
use super::unicode::Char;
use super::vocab::{self, TokenKind, Vocab};
use super::wholes::{self, Wholes};
use super::words::{Words, WordsMut};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, TokenizeError};
use crate::gguf::Image;
use crate::gguf::writer::WriteError;

/// U+2581, which stands for a space.
pub const SPACE: [u8; 3] = [0xE2, 0x96, 0x81];

/// What encodes text into the tokens of a SentencePiece vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct SentencePiece<'a, 'm> {
    merges: Merges<'a, 'm>,
    wholes: Wholes<'a>,
    /// The token of each byte; [`NO_TOKEN`] where there is none.
    bytes: &'a [Token],
    /// The same of each ASCII character, of which the space is U+2581.
    ascii: &'a [Token],
    /// When two of them merge.
    pairs: BytePairs<'a>,
    /// A space goes before every fragment of text.
    adds_space: bool,
    /// See [`runs_merge_last`].
    runs_merge_last: bool,
    joints: Joints<'a>,
    words: Words<'a>,
    unknown: Option<Token>,
}

impl<'a, 'm> SentencePiece<'a, 'm> {
    /// Adds what [`SentencePiece::new`] allocates.
    ///
    /// # Errors
    ///
    /// As [`SentencePiece::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        let layout = Words::layout(n_words(image)?, layout)?;
        let layout = Merges::layout_by_score(image, n_proved(image)?, layout)?;
        Ok(Joints::layout(BytePairs::layout(layout.add::<Token>(256)?.add::<Token>(128)?)?)?)
    }

    /// Finds out what merges, and what bytes and ASCII characters are.
    ///
    /// # Errors
    ///
    /// Those of [`Merges::by_score`].
    pub fn new(
        image: &Image<'m>,
        vocab: &Vocab<'a, 'm>,
        unknown: Option<Token>,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ModelError> {
        let n_words = n_words(image)?;
        let (merges, wholes) = Merges::by_score(image, vocab, is_symbol, n_proved(image)?, arena)?;
        let mut words = WordsMut::new(n_words, arena)?;
        for (token, text) in vocab.tokens().take(n_words) {
            if let Some(text) = read_short(text).filter(|_| wholes.has(token)) {
                words.insert(text, token);
            }
        }
        let ascii = arena.alloc_with(128, |byte| {
            let text: &[u8] = if byte == usize::from(b' ') { &SPACE } else { &[byte as u8] };
            find_text(vocab, text).unwrap_or(NO_TOKEN)
        })?;
        let priority = |left, right| match (known(ascii, left), known(ascii, right)) {
            (Some(left), Some(right)) => merges.priority(left, right),
            _ => NEVER,
        };
        Ok(Self {
            runs_merge_last: runs_merge_last(vocab, &merges),
            pairs: BytePairs::new(arena, priority)?,
            merges,
            wholes,
            words: words.finish(),
            bytes: arena.alloc_with(256, |byte| {
                let token = vocab.find(&byte_name(byte as u8));
                token.filter(|&token| vocab.kind(token) == TokenKind::Byte).unwrap_or(NO_TOKEN)
            })?,
            ascii,
            adds_space: adds_space(image)?,
            joints: Joints::new(vocab, arena)?,
            // Text without a token must not become a control token, whatever the file calls unknown.
            unknown: unknown.filter(|&token| vocab.kind(token) != TokenKind::Control),
        })
    }

    /// As [`SentencePiece::new`], of an index that is ready.
    ///
    /// # Errors
    ///
    /// Those of [`Merges::found_by_score`].
    pub fn found(
        image: &Image<'m>,
        vocab: &Vocab<'_, 'm>,
        unknown: Option<Token>,
        tables: &mut Tables<'m>,
    ) -> Result<Self, ModelError>
    where
        'm: 'a,
    {
        let is_byte = |&token: &Token| token == NO_TOKEN || vocab.kind(token) == TokenKind::Byte;
        Ok(Self {
            words: Words::found(n_words(image)?, tables, |token| vocab.is_text(token))?,
            merges: Merges::found_by_score(image, vocab, tables)?,
            wholes: Wholes::found(n_proved(image)?, tables)?,
            bytes: tables.take(256, is_byte)?,
            ascii: tables.take(128, |&token| vocab.is_text_or_none(token))?,
            pairs: BytePairs::found(tables, |token| vocab.is_text(token))?,
            joints: Joints::found(tables)?,
            runs_merge_last: tables.take(1, |&flag: &u32| flag <= 1)?.contains(&1),
            adds_space: adds_space(image)?,
            unknown: unknown.filter(|&token| vocab.kind(token) != TokenKind::Control),
        })
    }

    /// Gives the tables that [`SentencePiece::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        &self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        self.words.give(to)?;
        self.merges.give(to)?;
        self.wholes.give(to)?;
        to.table(self.bytes.iter().map(|token| token.to_le_bytes()))?;
        to.table(self.ascii.iter().map(|token| token.to_le_bytes()))?;
        self.pairs.give(to)?;
        self.joints.give(to)?;
        to.table([u32::from(self.runs_merge_last).to_le_bytes()].into_iter())
    }

    /// Whether a space goes before every fragment of text.
    pub fn adds_space(&self) -> bool {
        self.adds_space
    }

    /// Whether every byte has a token, so that the unknown token is never needed.
    pub fn has_all_bytes(&self) -> bool {
        !self.bytes.contains(&NO_TOKEN)
    }

    /// A number that differs, but for chance, from that of other tokenizers.
    pub fn fingerprint(&self) -> u64 {
        let tokens = self.bytes.iter().chain(self.ascii).map(|&token| token.into());
        fingerprint([self.merges.fingerprint()].into_iter().chain(tokens))
    }

    /// Encodes text without special tokens in it; `chain` is empty before and after.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::NoToken`], [`TokenizeError::ScratchFull`].
    pub fn encode(
        &self,
        vocab: &Vocab<'_, '_>,
        text: &[u8],
        part: Part,
        chain: &mut Chain<'_>,
        cache: &mut PieceCache<'_>,
        out: &mut Output<'_>,
    ) -> Result<usize, TokenizeError> {
        let adds_space = self.adds_space && part.begins;
        let first = out.len();
        let mut rest = text;
        while !rest.is_empty() {
            let mut len = self.joints.first_cut(rest);
            if len == rest.len() && !part.ends {
                break;
            }
            if self.runs_merge_last && rest.starts_with(b"  ") {
                len = self.before_word(vocab, rest, len).unwrap_or(len);
            }
            let (word, tail) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            let n_before = out.len();
            if adds_space && rest.len() == text.len() {
                // What is kept has no space put before it.
                match Short::new(rest, len)
                    .and_then(Short::behind_space)
                    .and_then(|word| self.words.find(word))
                {
                    Some(token) => out.push(token),
                    None => self.merge(vocab, true, word, chain, |token| out.push(token))?,
                }
            } else {
                cache.through(
                    rest,
                    len,
                    out,
                    |word| self.whole(word),
                    |sink| self.merge(vocab, false, word, chain, |token| sink.push(token)),
                )?;
            }
            if out.stops_at(n_before) {
                break;
            }
            rest = tail;
        }
        if out.has_spans() {
            self.locate(vocab, text, adds_space, first, out);
        }
        Ok(text.len().saturating_sub(rest.len()))
    }

    /// Finds the spans of the tokens of `text`, from the `first` on, which begins with a space put before it or not.
    fn locate(
        &self,
        vocab: &Vocab<'_, '_>,
        text: &[u8],
        adds_space: bool,
        first: usize,
        out: &mut Output<'_>,
    ) {
        let mut at_added = adds_space;
        out.locate(first, text, |token, rest| {
            let name = vocab.text(token).unwrap_or_default();
            if vocab.kind(token) == TokenKind::Byte {
                // Three of them are a space that has no token; the last one stands for it then.
                let (byte, next) = (named_byte(name), rest.first().copied());
                let ends_space = byte == Some(SPACE[2]);
                let is_text = !at_added && (byte == next || ends_space && next == Some(b' '));
                at_added &= !ends_space;
                return is_text.into();
            }
            let name = name.strip_prefix(&SPACE).filter(|_| at_added).unwrap_or(name);
            at_added = false;
            // One that does not stand in the text is the unknown token, for a character.
            written_len(name, rest).or(Char::first(rest).map(|c| c.len)).unwrap_or(0)
        });
    }

    /// How many of the spaces that the `len` bytes of `text` begin with are none of the word's behind them, if that is a
    /// token: all but one.
    fn before_word(&self, vocab: &Vocab<'_, '_>, text: &[u8], len: usize) -> Option<usize> {
        let at = text.get(..len)?.iter().position(|&byte| byte != b' ')?.checked_sub(1)?;
        let rest = text.get(at..)?;
        let word = rest.get(..len.checked_sub(at)?)?;
        let is_token = || {
            let short = Short::new(rest, word.len()).and_then(|word| self.whole(word));
            short.or_else(|| self.listed(vocab, false, word)).is_some()
        };
        (!word.get(1..)?.starts_with(&SPACE) && is_token()).then_some(at)
    }

    /// The token that a short word becomes, if that is certain without merging.
    #[inline]
    fn whole(&self, word: Short) -> Option<Token> {
        match word.halves() {
            (byte, _, 1) if byte != u64::from(b' ') && byte < 0x80 => {
                known(self.ascii, byte as u8).or_else(|| known(self.bytes, byte as u8))
            }
            _ => self.words.find(word),
        }
    }

    /// Merges the characters of a word, with a space put before it or not.
    #[inline(never)]
    fn merge(
        &self,
        vocab: &Vocab<'_, '_>,
        is_led: bool,
        word: &[u8],
        chain: &mut Chain<'_>,
        mut out: impl FnMut(Token),
    ) -> Result<(), TokenizeError> {
        if let Some(token) = self.listed(vocab, is_led, word) {
            out(token);
            return Ok(());
        }
        // The last character's token, if it has one, and its byte if that is ASCII.
        let (mut left, mut last) = (NO_TOKEN, 0);
        let mut rest = word;
        let mut next = if is_led { Some((b" ".as_slice(), b' ')) } else { take_char(&mut rest) };
        while let Some((char, byte)) = next {
            let right = match self.ascii.get(usize::from(byte)) {
                Some(&token) => token,
                None => find_text(vocab, char).unwrap_or(NO_TOKEN),
            };
            if left != NO_TOKEN {
                let ask = || if right == NO_TOKEN { NEVER } else { self.merges.priority(left, right) };
                chain.push(left, self.pairs.priority(last, byte, ask))?;
            }
            if right == NO_TOKEN {
                chain.merge(&self.merges, &mut out);
                self.spell(char, &mut out)?;
            }
            (left, last) = (right, byte);
            next = take_char(&mut rest);
        }
        if left != NO_TOKEN {
            chain.push(left, NEVER)?;
        }
        chain.merge(&self.merges, out);
        Ok(())
    }

    /// The token that a word becomes, if it is in the vocabulary and that is certain without merging.
    fn listed(&self, vocab: &Vocab<'_, '_>, is_led: bool, word: &[u8]) -> Option<Token> {
        let (is_led, letters) = match word {
            [b' ', letters @ ..] if !is_led => (true, letters),
            _ => (is_led, word),
        };
        let space: &[u8] = if is_led { &SPACE } else { &[] };
        let hash = TextHash::of_bytes(space).push_all(letters);
        let token = vocab
            .find_by(hash, |text| text.strip_prefix(space).is_some_and(|text| is_same(text, letters)))?;
        (self.wholes.has(token) && vocab.kind(token).is_text()).then_some(token)
    }

    /// Gives the bytes of a character that has no token, else the unknown token.
    fn spell(&self, char: &[u8], out: &mut impl FnMut(Token)) -> Result<(), TokenizeError> {
        let bytes = if char == b" " { &SPACE } else { char };
        match bytes.iter().find(|&&byte| known(self.bytes, byte).is_none()) {
            None => bytes.iter().filter_map(|&byte| known(self.bytes, byte)).for_each(out),
            Some(&byte) => out(self.unknown.ok_or(TokenizeError::NoToken { byte })?),
        }
        Ok(())
    }
}

/// Takes the first character off `text`; gives its first byte too.
#[inline]
fn take_char<'t>(text: &mut &'t [u8]) -> Option<(&'t [u8], u8)> {
    let &byte = text.first()?;
    let len = if byte.is_ascii() { 1 } else { Char::first(text)?.len };
    let (char, rest) = text.split_at_checked(len)?;
    *text = rest;
    Some((char, byte))
}

fn adds_space(image: &Image<'_>) -> Result<bool, ModelError> {
    Ok(image.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true))
}

/// Whether a token's text is what merging of text begins with: one character, but no space, which is written U+2581.
fn is_symbol(text: &[u8]) -> bool {
    text != b" " && Char::first(text).is_some_and(|c| c.len == text.len())
}

/// Whether spaces merge with each other only when nothing else merges any more, and what they merge into with nothing but
/// spaces. Then a word takes the last of the spaces before it, if it takes one, whatever happens to the others.
fn runs_merge_last(vocab: &Vocab<'_, '_>, merges: &Merges<'_, '_>) -> bool {
    let (mut first_run, mut last_other) = (NEVER, 0);
    for (token, text) in vocab.tokens() {
        if !vocab.kind(token).is_text() || is_symbol(text) {
            continue;
        }
        let priority = merges.falling_score(token);
        match text.as_chunks() {
            ([SPACE, SPACE, rest @ ..], []) if rest.iter().all(|c| *c == SPACE) => {
                first_run = priority.min(first_run);
            }
            ([SPACE, SPACE, ..], _) => return false,
            _ => last_other = priority.max(last_other),
        }
    }
    last_other < first_run && first_run < NEVER
}

/// How many tokens are looked at for [`Words`], the most frequent ones: more of them take more time than they save.
fn n_words(image: &Image<'_>) -> Result<usize, ModelError> {
    const MOST: usize = 1 << 13;
    Ok(vocab::tokens(image)?.len().min(MOST))
}

/// Of how many tokens it is to be proved that their text becomes them.
fn n_proved(image: &Image<'_>) -> Result<usize, ModelError> {
    Ok(wholes::n_proved(vocab::tokens(image)?.len(), n_words(image)?))
}

/// The text that a token stands for, with spaces for U+2581, if it is short.
fn read_short(token: &[u8]) -> Option<Short> {
    let (mut bytes, mut n) = ([0; 16], 0usize);
    let mut rest = token;
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, tail) = match rest.strip_prefix(&SPACE) {
            Some(tail) => (b' ', tail),
            None if byte == b' ' => return None, // such a token is never made
            None => (byte, tail),
        };
        *bytes.get_mut(n)? = byte;
        n = n.wrapping_add(1); // at most 16
        rest = tail;
    }
    Short::new(&bytes, n)
}

/// Bytes of `text` that a token's text stands for, where U+2581 may be a space, if `text` begins with it.
fn written_len(token: &[u8], text: &[u8]) -> Option<usize> {
    let (mut name, mut rest) = (token, text);
    while let Some((&byte, tail)) = name.split_first() {
        let is_space = rest.first() == Some(&b' ');
        (name, rest) = match name.strip_prefix(&SPACE).filter(|_| is_space) {
            Some(tail) => (tail, rest.get(1..)?),
            None => (tail, rest.strip_prefix(&[byte])?),
        };
    }
    Some(text.len().saturating_sub(rest.len()))
}

/// The byte that a byte token's text names.
pub fn named_byte(text: &[u8]) -> Option<u8> {
    let digit = |d: u8| char::from(d).to_digit(16);
    match text {
        [b'<', b'0', b'x', high, low, b'>'] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    }
}

/// The text of a byte token: `<0x0A>`.
fn byte_name(byte: u8) -> [u8; 6] {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    [b'<', b'0', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)], b'>']
}

fn known(tokens: &[Token], byte: u8) -> Option<Token> {
    tokens.get(usize::from(byte)).copied().filter(|&token| token != NO_TOKEN)
}

fn find_text(vocab: &Vocab<'_, '_>, text: &[u8]) -> Option<Token> {
    vocab.find(text).filter(|&token| vocab.kind(token).is_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_named_and_read_back() {
        assert_eq!(byte_name(0x0A), *b"<0x0A>");
        assert!((0..=255).all(|byte| named_byte(&byte_name(byte)) == Some(byte)));
        for odd in ["<0x-1>", "<0x+1>", "<0x1>", "<0x100>", "<0xG0>", ""] {
            assert_eq!(named_byte(odd.as_bytes()), None, "{odd}");
        }
    }
}
