//! Byte-level BPE (GPT-2 and most since): a pre-tokenizer cuts text into pieces, bytes of a piece merge by rank.

use super::byte_map;
use super::cache::{PieceCache, Sink};
use super::encoder::Part;
use super::merges::{Merges, fingerprint};
use super::output::Output;
use super::pre::Pre;
use super::scratch::Chain;
use super::short::Short;
use super::symbols::{Symbols, SymbolsRoom};
use super::tables::{Lines, Tables};
use super::vocab::{self, Vocab};
use super::wholes::{self, Wholes};
use super::words::{Words, WordsMut};
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, ShortName, TokenizeError};
use crate::gguf::Image;
use crate::gguf::writer::WriteError;

pub(super) const PRE: &str = "tokenizer.ggml.pre";

/// What encodes text into the tokens of a byte-level vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct ByteLevel<'a, 'm> {
    pre: Pre,
    merges: Merges<'a, 'm>,
    symbols: Symbols<'a>,
    wholes: Wholes<'a>,
    words: Words<'a>,
    fingerprint: u64,
}

impl<'a, 'm> ByteLevel<'a, 'm> {
    /// Adds what [`ByteLevel::new`] allocates.
    ///
    /// # Errors
    ///
    /// As [`ByteLevel::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        let layout = Words::layout(n_words(image)?, Symbols::layout(vocab::tokens(image)?.len(), layout)?)?;
        Merges::layout_by_rank(image, n_proved(image)?, layout)
    }

    /// Reads the merges and, where `pre` is none, the name of the pre-tokenizer.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnsupportedName`] for an unknown pre-tokenizer, those of [`Merges::by_rank`].
    pub fn new(
        image: &Image<'m>,
        vocab: &Vocab<'a, 'm>,
        pre: Option<Pre>,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ModelError> {
        let pre = pre.map_or_else(|| named_pre(image), Ok)?;
        let (n_words, n_proved) = (n_words(image)?, n_proved(image)?);
        Self::index(image, vocab, pre, [n_words, n_proved], arena)
    }

    /// The same when what names and counts tell is known: for how many tokens words are kept, and wholes proved.
    #[inline(never)] // its large frame is not there yet while names are read
    fn index(
        image: &Image<'m>,
        vocab: &Vocab<'a, 'm>,
        pre: Pre,
        [n_words, n_proved]: [usize; 2],
        arena: &mut Arena<'a>,
    ) -> Result<Self, ModelError> {
        let symbols = SymbolsRoom::new(vocab, arena)?;
        let (merges, symbols, wholes) = Merges::by_rank(image, vocab, symbols, n_proved, arena)?;
        let mut words = WordsMut::new(n_words, arena)?;
        for (token, text) in vocab.tokens().take(n_words) {
            let is_word = if pre.ignores_merges() { vocab.kind(token).is_text() } else { wholes.has(token) };
            if let Some(bytes) = byte_map::read_short(text).filter(|_| is_word) {
                words.insert(bytes, token);
            }
        }
        let of_name = pre.name().bytes().map(u64::from);
        let of_bytes = symbols.bytes().iter().map(|&token| token.into());
        let fingerprint = fingerprint([merges.fingerprint()].into_iter().chain(of_name).chain(of_bytes));
        Ok(Self { pre, merges, symbols, wholes, words: words.finish(), fingerprint })
    }

    /// As [`ByteLevel::new`], of an index that is ready.
    ///
    /// # Errors
    ///
    /// As [`ByteLevel::new`], as far as they are not of single merges; [`VocabFault::Index`].
    pub fn found(
        image: &Image<'m>,
        vocab: &Vocab<'_, 'm>,
        pre: Option<Pre>,
        tables: &mut Tables<'m>,
    ) -> Result<Self, ModelError>
    where
        'm: 'a,
    {
        let named = named_pre(image)?;
        let pre = pre.unwrap_or(named);
        let symbols = Symbols::found(vocab, tables)?;
        let words = Words::found(n_words(image)?, tables, |token| vocab.is_text(token))?;
        let merges = Merges::found_by_rank(image, vocab, tables)?;
        let wholes = Wholes::found(n_proved(image)?, tables)?;
        // Words are those of the pre-tokenizer that the file names.
        let words = if pre.ignores_merges() == named.ignores_merges() { words } else { Words::NONE };
        let of_name = pre.name().bytes().map(u64::from);
        let fingerprint = fingerprint([merges.fingerprint()].into_iter().chain(of_name));
        Ok(Self { pre, merges, symbols, wholes, words, fingerprint })
    }

    /// Gives the tables that [`ByteLevel::found`] takes.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        &self,
        to: &mut Lines<F>,
    ) -> Result<(), WriteError> {
        self.symbols.give(to)?;
        self.words.give(to)?;
        self.merges.give(to)?;
        self.wholes.give(to)
    }

    /// A number that differs, but for chance, from that of other tokenizers.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether the model wants BOS when the file does not say.
    pub fn usual_bos(&self) -> bool {
        self.pre.adds_bos()
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
        let n_certain = if part.ends { text.len() } else { self.pre.n_certain(text) };
        let first = out.len();
        let (mut ends, mut at) = (self.pre.ends(text), 0);
        'text: loop {
            let found = ends.find();
            if found.is_empty() {
                break;
            }
            for &end in found {
                if end > n_certain {
                    break 'text;
                }
                let n_before = out.len();
                let here = text.get(at..).unwrap_or_default();
                let len = end.wrapping_sub(at); // of the piece, which is not empty
                let piece = here.get(..len).unwrap_or_default();
                let merge =
                    |sink: &mut Sink<'_, '_>| self.merge(vocab, piece, chain, |token| sink.push(token));
                if len > Short::MAX {
                    cache.through_long(here, len, out, merge)?;
                } else {
                    cache.through(here, len, out, |piece| self.words.find(piece), merge)?;
                }
                if out.stops_at(n_before) {
                    break 'text;
                }
                at = end;
            }
        }
        if out.has_spans() {
            out.locate(first, text, |token, _| vocab.text(token).map_or(0, byte_map::n_bytes));
        }
        Ok(at)
    }

    /// The token that a piece becomes, if it is in the vocabulary and that is certain without merging.
    fn whole(&self, vocab: &Vocab<'_, '_>, piece: &[u8]) -> Option<Token> {
        let short = Short::new(piece, piece.len()).and_then(byte_map::write_short);
        let token = short.map_or_else(|| byte_map::find(vocab, piece), |short| vocab.find_short(short))?;
        let is_whole = self.pre.ignores_merges() || self.wholes.has(token);
        (is_whole && vocab.kind(token).is_text()).then_some(token)
    }

    /// Merges the bytes of a piece.
    #[inline(never)]
    fn merge(
        &self,
        vocab: &Vocab<'_, '_>,
        piece: &[u8],
        chain: &mut Chain<'_>,
        mut out: impl FnMut(Token),
    ) -> Result<(), TokenizeError> {
        if let Some(token) = self.whole(vocab, piece) {
            out(token);
            return Ok(());
        }
        self.symbols.chain(piece, &self.merges, chain)?;
        chain.merge(&self.merges, out);
        Ok(())
    }
}

/// How many tokens are looked at for [`Words`], the most frequent ones: more of them take more time than they save.
fn n_words(image: &Image<'_>) -> Result<usize, ModelError> {
    const MOST: usize = 1 << 14;
    Ok(vocab::tokens(image)?.len().min(MOST))
}

/// Of how many tokens it is to be proved that their text becomes them: of none by a pre-tokenizer that does not ask.
fn n_proved(image: &Image<'_>) -> Result<usize, ModelError> {
    let ignores_merges = named_pre(image).is_ok_and(Pre::ignores_merges);
    if ignores_merges { Ok(0) } else { Ok(wholes::n_proved(vocab::tokens(image)?.len(), n_words(image)?)) }
}

/// The pre-tokenizer that the file names; none is taken silently.
fn named_pre(image: &Image<'_>) -> Result<Pre, ModelError> {
    let name = image.bytes(PRE)?.ok_or(ModelError::MissingKey { key: PRE })?;
    Pre::by_name(name).ok_or(ModelError::UnsupportedName { key: PRE, name: ShortName::new(name) })
}
