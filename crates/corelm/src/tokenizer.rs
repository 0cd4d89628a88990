//! Text to tokens and back, exactly as the model's own tokenizer: by `tokenizer.ggml.model` byte-level BPE by merge rank
//! (`gpt2`), SentencePiece BPE by score (`llama`), WordPiece (`bert`), unigram (`t5`) and the longest token (`rwkv`).
//!
//! ```text
//! file --Tokenizer::new--> index in the arena: text -> token (vocab), what the model needs beside; texts stay in the file
//! text --specials--> tokens found whole, and fragments between them
//!      gpt2, llama: --pre--> pieces --words--> tokens                 pre: or joints, where merges never cross
//!                                   --merges in scratch--> tokens     words: pieces that are tokens as they are
//!      bert:        --fold--> words --prefixes--> tokens              prefixes: the tokens that a text begins with
//!      t5:          --normalize--> --prefixes, lattice in scratch--> tokens
//!      rwkv:        --prefixes--> tokens
//! tokens --decode--> bytes --Utf8Stream--> text
//! ```
//!
//! Any bytes are accepted, UTF-8 or not, and of `gpt2`, `llama` and `rwkv` come back from their tokens unchanged; where a
//! model makes an exception, [`Tokenizer::encode`] says so. The time for a text of n bytes is O(n log n) whatever it is,
//! the memory is the caller's, and nothing recurses.

mod byte_level;
mod byte_map;
mod byte_pairs;
mod cache;
mod chars;
mod clean;
mod decode;
mod encoder;
mod fold;
mod hash;
mod joints;
mod listed;
mod merges;
mod model;
mod names;
mod output;
mod pairs;
mod pre;
mod prefixes;
mod prompt;
mod rwkv;
mod scores;
mod scratch;
mod sentence_piece;
mod short;
mod slots;
mod specials;
mod symbols;
mod tables;
mod unicode;
mod unigram;
mod vocab;
mod wholes;
mod word_piece;
mod words;

pub use decode::{Chunk, Controls, Decoder, Piece, Utf8Stream};
pub use encoder::{Encoded, Encoder};
pub use output::Span;
pub use pre::{Pieces, Pre};
pub(crate) use prompt::MAX_MARKUP;
pub use prompt::{Contents, Prompt};
pub use scratch::Scratch;
pub use specials::Specials;
pub use tables::TENSOR as INDEX_TENSOR;
pub use vocab::TokenKind;

use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError, TokenizeError};
use crate::gguf::Image;
use crate::gguf::writer::WriteError;
use clean::Cleaner;
use decode::DecodedText;
use encoder::Part;
use model::{Bounds, Model, special_id};
use output::Output;
use specials::SpecialIndex;
use tables::{Lines, Tables};
use vocab::Vocab;

/// A model's tokenizer: the vocabulary in the file `'m` and an index of it in the arena `'a`.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'a, 'm> {
    vocab: Vocab<'a, 'm>,
    specials: SpecialIndex,
    model: Model<'a, 'm>,
    bounds: Bounds,
    /// [`NO_TOKEN`] for those that the vocabulary has not.
    ends: [Token; N_ENDS],
    /// Tells this tokenizer from others whose tokens the same scratch may have kept.
    fingerprint: u64,
}

/// EOS and the ends that keys name, those of what was filled in, and those known by their texts.
const N_ENDS: usize = 3 + names::FILL_IN_ENDS.len() + names::ENDS.len();

/// Not below any vocabulary size.
const NO_TOKEN: Token = Token::MAX;

impl<'a, 'm: 'a> Tokenizer<'a, 'm> {
    /// Adds what [`Tokenizer::new`] allocates: nothing where the file has an index ready, as `corelm pack` writes it; else
    /// about 11 bytes for each token, 18 for each merge and 32 KiB, from 16 384 tokens on 96 (byte-level), 30 to 55 bytes for
    /// each token and 32 KiB (SentencePiece), 15 to 20 bytes for each token (WordPiece, unigram) or 26 (RWKV).
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        match Tables::find(image)? {
            Some(_) => Ok(layout),
            None => Model::layout(image, Vocab::layout(image, layout)?),
        }
    }

    /// Checks a vocabulary and indexes it, or takes the index that is ready in the file. The file needs no tensors.
    ///
    /// An index of another version of this crate, or at an address that is no multiple of 8, is as if it were not there. One
    /// that is damaged, or of another vocabulary, is an error.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnsupportedName`] with the name of a model or pre-tokenizer that is not known, other variants for
    /// a vocabulary that is not consistent, and [`ModelError::Memory`] when the arena is too small.
    pub fn new<'r: 'a>(image: &Image<'m>, arena: &mut Arena<'r>) -> Result<Self, ModelError> {
        Self::with_pre(image, None, arena)
    }

    /// As [`Tokenizer::new`], with a pre-tokenizer of the caller's in place of the one that the file names, if any. It
    /// counts for byte-level models; others have none.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::new`].
    #[inline(never)] // a frame of its own keeps the caller's small
    pub fn with_pre<'r: 'a>(
        image: &Image<'m>,
        pre: Option<Pre>,
        arena: &mut Arena<'r>,
    ) -> Result<Self, ModelError> {
        match Tables::find(image)? {
            Some(tables) => Self::found(image, pre, tables),
            None => Self::built(image, pre, arena),
        }
    }

    #[inline(never)] // as above
    fn built<'r: 'a>(image: &Image<'m>, pre: Option<Pre>, arena: &mut Arena<'r>) -> Result<Self, ModelError> {
        let vocab = Vocab::new(image, arena)?;
        let specials = SpecialIndex::new(image, &vocab)?;
        let model = Model::new(image, &vocab, pre, arena)?;
        Self::of_parts(image, vocab, specials, model)
    }

    #[inline(never)] // as above
    fn found(image: &Image<'m>, pre: Option<Pre>, mut tables: Tables<'m>) -> Result<Self, ModelError> {
        tables.check(image)?;
        let vocab = Vocab::found(image, &mut tables)?;
        let specials = SpecialIndex::new(image, &vocab)?;
        let model = Model::found(image, &vocab, pre, &mut tables)?;
        tables.finish()?;
        Self::of_parts(image, vocab, specials, model)
    }

    fn of_parts(
        image: &Image<'m>,
        vocab: Vocab<'a, 'm>,
        specials: SpecialIndex,
        model: Model<'a, 'm>,
    ) -> Result<Self, ModelError> {
        let bounds = model.bounds(image, vocab.len())?;
        let id = |key| special_id(image, key, vocab.len(), None);
        let eos = match model {
            // [SEP] ends a text, not a generation.
            Model::WordPiece(_) => id("tokenizer.ggml.eos_token_id")?,
            _ => bounds.eos,
        };
        let named_ends = [eos, id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?];
        let find = |text: &&str| vocab.find(text.as_bytes());
        let mut ends = [NO_TOKEN; N_ENDS];
        let mut slots = ends.iter_mut();
        let mut note = |token: Option<Token>| slots.next().zip(token).map(|(slot, token)| *slot = token);
        for (key, texts) in names::FILL_IN_ENDS {
            note(id(key)?.or_else(|| texts.iter().find_map(find)));
        }
        for token in named_ends.into_iter().chain(names::ENDS.iter().map(find)) {
            note(token);
        }
        Ok(Self { vocab, specials, fingerprint: model.fingerprint(), model, bounds, ends })
    }
}

impl<'a, 'm> Tokenizer<'a, 'm> {
    /// Writes the index, to be found ready in a file with the same vocabulary as `image`, whose tokenizer this is: as the
    /// data of a tensor of F32 with the name [`INDEX_TENSOR`]. Gives its bytes, a multiple of 32; 0, and writes nothing,
    /// for a model that has no such index: WordPiece, unigram and RWKV.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub fn write_index(
        &self,
        image: &Image<'_>,
        write: impl FnMut(&[u8]) -> Result<(), WriteError>,
    ) -> Result<u64, WriteError> {
        let mut counted = Lines::new(|_: &[u8]| Ok(()));
        self.vocab.give(&mut counted)?;
        if !self.model.give(&mut counted)? {
            return Ok(0);
        }
        let mut lines = Lines::new(write);
        lines.head(image, counted.hash())?;
        self.vocab.give(&mut lines)?;
        self.model.give(&mut lines)?;
        Ok(lines.n_bytes)
    }

    /// Number of tokens; every token that [`Tokenizer::encode`] gives is below it.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The token that begins a text: BOS, or BERT's `[CLS]`.
    pub fn bos(&self) -> Option<Token> {
        self.bounds.bos
    }

    /// The token that ends a text: EOS, or BERT's `[SEP]`.
    pub fn eos(&self) -> Option<Token> {
        self.bounds.eos
    }

    /// Whether the model wants [`Tokenizer::bos`] before a prompt.
    pub fn add_bos(&self) -> bool {
        self.bounds.adds_bos
    }

    /// Whether the model wants [`Tokenizer::eos`] behind a text that is complete.
    pub fn add_eos(&self) -> bool {
        self.bounds.adds_eos
    }

    /// Whether generation ends with this token: EOS, the end of a turn, of a message or of what was filled in by the file's
    /// keys, or a control token that says so.
    pub fn is_eog(&self, token: Token) -> bool {
        token != NO_TOKEN && self.ends.contains(&token)
    }

    /// What a token is for; `None` for a number that is no token.
    pub fn kind(&self, token: Token) -> Option<TokenKind> {
        ((token as usize) < self.vocab.len()).then(|| self.vocab.kind(token))
    }

    /// The token whose text in the file is exactly this, for control tokens and tools.
    pub fn token(&self, text: &[u8]) -> Option<Token> {
        self.vocab.find(text)
    }

    /// Adds what [`Tokenizer::scratch`] allocates.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`] for more than half a gigabyte of text.
    pub fn scratch_layout(&self, max_text_bytes: usize, layout: Layout) -> Result<Layout, ArenaError> {
        Scratch::layout(self.model.needs(), max_text_bytes, layout)
    }

    /// Working memory to encode texts of at most `max_text_bytes`.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when the arena is too small, or for more than half a gigabyte of text.
    pub fn scratch<'s>(
        &self,
        max_text_bytes: usize,
        arena: &mut Arena<'s>,
    ) -> Result<Scratch<'s>, ArenaError> {
        Scratch::new(self.model.needs(), max_text_bytes, arena)
    }

    /// Writes the tokens of `text` to `out` and gives their number. No BOS and no EOS are added.
    ///
    /// Bytes that are not UTF-8 count as one symbol each (for the pre-tokenizer U+FFFD). Decoding gives `text`
    /// back, with three exceptions, all of the SentencePiece model: the space it puts before text, which [`Decoder`]
    /// takes off again; U+2581 in the text, which is its space; and text without a token in a vocabulary without bytes,
    /// which becomes the unknown token. And Phi-3's models drop white space behind user-defined tokens and behind control
    /// tokens that the caller allowed.
    ///
    /// WordPiece and unigram models keep less of a text. Both normalize it, with unknown tokens for what is left without
    /// a token; that of WordPiece models, `[UNK]`, is a control token in most files. WordPiece drops bytes that are not UTF-8; to a unigram model they are U+FFFD.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::OutputFull`] with the number of tokens when `out` is too short: it then holds the first ones,
    /// and an empty one serves to count. [`TokenizeError::ScratchFull`] when `scratch` was made for shorter texts.
    /// [`TokenizeError::NoToken`] for a byte that the vocabulary cannot express.
    pub fn encode(
        &self,
        text: &[u8],
        specials: Specials<'_>,
        scratch: &mut Scratch<'_>,
        out: &mut [Token],
    ) -> Result<usize, TokenizeError> {
        self.encode_behind(None, text, specials, scratch, Output::new(out))
    }

    /// As [`Tokenizer::encode`], with BOS first where the model wants one.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn encode_with_bos(
        &self,
        text: &[u8],
        specials: Specials<'_>,
        scratch: &mut Scratch<'_>,
        out: &mut [Token],
    ) -> Result<usize, TokenizeError> {
        self.encode_behind(self.added_bos(), text, specials, scratch, Output::new(out))
    }

    /// As [`Tokenizer::encode`], and writes to `spans` which bytes of `text` each token stands for.
    ///
    /// Spans go up through the text. Those of byte-level, SentencePiece and RWKV models leave nothing out; WordPiece leaves
    /// out white space and what it drops, a unigram model the white space that its normalizer drops.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`]. With [`TokenizeError::OutputFull`] both slices hold as much as the shorter one has room
    /// for, and the last span tells where a text cut to that many tokens ends.
    pub fn encode_with_spans(
        &self,
        text: &[u8],
        specials: Specials<'_>,
        scratch: &mut Scratch<'_>,
        out: &mut [Token],
        spans: &mut [Span],
    ) -> Result<usize, TokenizeError> {
        self.encode_behind(None, text, specials, scratch, Output::with_spans(out, spans))
    }

    /// Writes the tokens of a prompt to `out` and gives their number. BOS comes first where the model wants one, unless
    /// the prompt's own template writes it there; no EOS is added.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(
        &self,
        prompt: &Prompt<'_>,
        scratch: &mut Scratch<'_>,
        out: &mut [Token],
    ) -> Result<usize, TokenizeError> {
        let has_bos = |bos: &Token| prompt.begins_with(self.vocab.text(*bos).unwrap_or_default());
        let bos = self.added_bos().filter(|bos| !has_bos(bos));
        self.encode_behind(bos, prompt.bytes(), prompt.specials(), scratch, Output::new(out))
    }

    /// The token that goes before text, where the model wants one.
    fn added_bos(&self) -> Option<Token> {
        self.bounds.bos.filter(|_| self.bounds.adds_bos)
    }

    /// Encodes `text` behind a token that is there already, if any.
    fn encode_behind(
        &self,
        first: Option<Token>,
        text: &[u8],
        specials: Specials<'_>,
        scratch: &mut Scratch<'_>,
        mut out: Output<'_>,
    ) -> Result<usize, TokenizeError> {
        first.into_iter().for_each(|token| out.push(token));
        self.encode_part(text, true, &mut false, specials, scratch, &mut out)?;
        out.finish()
    }

    /// Encodes as much of `text` as `out` takes and, unless it `is_end`, as is certain; gives the bytes that were encoded.
    /// Text between special tokens has begun before where it `is_inside`.
    fn encode_part(
        &self,
        text: &[u8],
        is_end: bool,
        is_inside: &mut bool,
        specials: Specials<'_>,
        scratch: &mut Scratch<'_>,
        out: &mut Output<'_>,
    ) -> Result<usize, TokenizeError> {
        let (need, have) = (text.len(), scratch.text_bytes());
        if need > have {
            return Err(TokenizeError::ScratchFull { need, have });
        }
        let Scratch { work, marks } = scratch;
        work.chain.clear();
        work.cache.serve(self.fingerprint);
        let n_certain = if is_end { need } else { self.specials.n_certain(&self.vocab, text, specials) };
        let text = text.get(..n_certain).unwrap_or_default();
        let has_specials = self.specials.mark(&self.vocab, text, specials, marks);
        let mut at = 0usize;
        loop {
            let found = if has_specials { self.specials.next(&self.vocab, text, marks, at) } else { None };
            let end = found.map_or(n_certain, |found| found.start);
            let part = Part { begins: !*is_inside, ends: is_end || found.is_some() };
            out.begin_text(at);
            let fragment = text.get(at..end).unwrap_or_default();
            let n_done = self.model.encode(&self.vocab, fragment, part, work, out)?;
            *is_inside |= n_done > 0;
            at = at.saturating_add(n_done);
            let Some(found) = found.filter(|_| !out.is_cut()) else { return Ok(at) };
            let first = out.len();
            out.begin_text(0);
            out.push_at(found.token, found.start, found.end);
            // Behind it may come white space that belongs to it.
            if out.stops_at(first) || !is_end && found.end >= n_certain {
                out.truncate(first);
                return Ok(at);
            }
            (at, *is_inside) = (found.end, false);
        }
    }

    /// The bytes of a token as they stand in text, control tokens by their names; `None` for a number that is no token.
    ///
    /// In SentencePiece models a piece that begins a text begins with the space put before it: see [`Decoder`].
    pub fn piece(&self, token: Token) -> Option<Piece<'m>> {
        Some(self.model.piece(self.vocab.text(token)?, self.vocab.kind(token)))
    }

    /// A decoder at the beginning of a text.
    pub fn decoder(&self, controls: Controls) -> Decoder<'_, 'a, 'm> {
        Decoder::new(self, controls)
    }

    /// Writes the bytes of `tokens`, a whole text, to `out` and gives their number: the inverse of
    /// [`Tokenizer::encode`]. What `out` holds behind them is of no meaning. Text of WordPiece tokens is cleaned of spaces before signs, which a [`Decoder`] leaves.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::OutputFull`] with the number of bytes when `out` is too short, which an empty one serves to
    /// find out; [`TokenizeError::BadToken`] for a number that is no token.
    pub fn decode(
        &self,
        tokens: &[Token],
        controls: Controls,
        out: &mut [u8],
    ) -> Result<usize, TokenizeError> {
        let mut decoder = self.decoder(controls);
        let mut text = DecodedText::new(out);
        let mut cleaner = matches!(self.model, Model::WordPiece(_)).then(Cleaner::default);
        let mut rest = tokens;
        loop {
            if cleaner.is_none() {
                rest = decoder.words(rest, &mut text);
            }
            let Some((&token, behind)) = rest.split_first() else { break };
            rest = behind;
            let piece = decoder.piece(token).ok_or(TokenizeError::BadToken { token })?;
            match &mut cleaner {
                Some(cleaner) => piece.for_each(|byte| cleaner.push(byte, &mut |byte| text.push(byte))),
                None => piece.for_each(|byte| text.push(byte)),
            }
        }
        if let Some(mut cleaner) = cleaner {
            cleaner.finish(&mut |byte| text.push(byte));
        }
        text.finish()
    }
}
