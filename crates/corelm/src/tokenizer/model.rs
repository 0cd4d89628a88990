//! The kinds of tokenizer that `tokenizer.ggml.model` names, and what each takes for granted.

use super::byte_level::ByteLevel;
use super::decode::{Form, Piece};
use super::encoder::Part;
use super::output::Output;
use super::pre::Pre;
use super::rwkv::Rwkv;
use super::scratch::{Needs, Work};
use super::sentence_piece::{self, SentencePiece};
use super::tables::{Lines, Tables};
use super::unigram::Unigram;
use super::vocab::{TokenKind, Vocab};
use super::word_piece::WordPiece;
use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ModelError, ShortName, TokenizeError, VocabFault};
use crate::gguf::Image;
use crate::gguf::writer::WriteError;

pub(super) const MODEL: &str = "tokenizer.ggml.model";

/// How text becomes tokens, with what the index holds for it.
#[derive(Clone, Copy, Debug)]
pub enum Model<'a, 'm> {
    /// `gpt2`
    ByteLevel(ByteLevel<'a, 'm>),
    /// `llama`
    SentencePiece(SentencePiece<'a, 'm>),
    /// `bert`
    WordPiece(WordPiece<'a>),
    /// `t5`
    Unigram(Unigram<'a, 'm>),
    /// `rwkv`
    Rwkv(Rwkv<'a>),
}

/// The tokens around a text, and whether the model wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub bos: Option<Token>,
    pub eos: Option<Token>,
    pub adds_bos: bool,
    pub adds_eos: bool,
}

impl<'a, 'm> Model<'a, 'm> {
    /// Adds what [`Model::new`] allocates.
    ///
    /// # Errors
    ///
    /// As [`Model::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        match name(image)? {
            b"gpt2" => ByteLevel::layout(image, layout),
            b"llama" => SentencePiece::layout(image, layout),
            b"bert" => WordPiece::layout(image, layout),
            b"t5" => Unigram::layout(image, layout),
            b"rwkv" => Rwkv::layout(image, layout),
            name => Err(unknown(name)),
        }
    }

    /// The model that the file names, with `pre` for the pre-tokenizer that it names, where there is one.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnsupportedName`], and those of each model.
    pub fn new(
        image: &Image<'m>,
        vocab: &Vocab<'a, 'm>,
        pre: Option<Pre>,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ModelError> {
        let unknown_or = |usual| special_id(image, "tokenizer.ggml.unknown_token_id", vocab.len(), usual);
        Ok(match name(image)? {
            b"gpt2" => Self::ByteLevel(ByteLevel::new(image, vocab, pre, arena)?),
            b"llama" => Self::SentencePiece(SentencePiece::new(image, vocab, unknown_or(None)?, arena)?),
            b"bert" => Self::WordPiece(WordPiece::new(image, vocab, unknown_or(Some(100))?, arena)?),
            b"t5" => Self::Unigram(Unigram::new(image, vocab, unknown_or(Some(2))?, arena)?),
            b"rwkv" => Self::Rwkv(Rwkv::new(vocab, unknown_or(None)?, arena)?),
            name => return Err(unknown(name)),
        })
    }

    /// As [`Model::new`], of an index that is ready.
    ///
    /// # Errors
    ///
    /// Those of each model; [`VocabFault::Index`] for a model that has no such index.
    pub fn found(
        image: &Image<'m>,
        vocab: &Vocab<'_, 'm>,
        pre: Option<Pre>,
        tables: &mut Tables<'m>,
    ) -> Result<Self, ModelError>
    where
        'm: 'a,
    {
        let unknown = |usual| special_id(image, "tokenizer.ggml.unknown_token_id", vocab.len(), usual);
        Ok(match name(image)? {
            b"gpt2" => Self::ByteLevel(ByteLevel::found(image, vocab, pre, tables)?),
            b"llama" => Self::SentencePiece(SentencePiece::found(image, vocab, unknown(None)?, tables)?),
            _ => return Err(ModelError::BadVocab { fault: VocabFault::Index, index: 0 }),
        })
    }

    /// Gives the tables that [`Model::found`] takes; false for a model that has none.
    pub fn give<F: FnMut(&[u8]) -> Result<(), WriteError>>(
        &self,
        to: &mut Lines<F>,
    ) -> Result<bool, WriteError> {
        match self {
            Self::ByteLevel(model) => model.give(to)?,
            Self::SentencePiece(model) => model.give(to)?,
            Self::WordPiece(_) | Self::Unigram(_) | Self::Rwkv(_) => return Ok(false),
        }
        Ok(true)
    }

    /// The tokens around a text, by the file's keys; where these do not say whether they are added, as llama.cpp does it.
    ///
    /// # Errors
    ///
    /// [`ModelError::BadVocab`] for a token that the vocabulary has not; those of keys with values of another type.
    pub fn bounds(&self, image: &Image<'m>, vocab_size: usize) -> Result<Bounds, ModelError> {
        let id = |key, usual| special_id(image, key, vocab_size, usual);
        let bos = |usual| id("tokenizer.ggml.bos_token_id", usual);
        let eos = |usual| id("tokenizer.ggml.eos_token_id", usual);
        let (usually_bos, usually_eos) = match self {
            // BERT's are [CLS] and [SEP], always; the keys of EOS and of adding are about other models.
            Self::WordPiece(_) => {
                let cls = id("tokenizer.ggml.cls_token_id", Some(101))?;
                let (bos, eos) = (bos(cls)?, id("tokenizer.ggml.seperator_token_id", Some(102))?);
                return Ok(Bounds { bos, eos, adds_bos: bos.is_some(), adds_eos: eos.is_some() });
            }
            // Nothing is added, whatever the keys say.
            Self::Rwkv(_) => {
                return Ok(Bounds { bos: bos(None)?, eos: eos(None)?, adds_bos: false, adds_eos: false });
            }
            Self::ByteLevel(model) => (model.usual_bos(), false),
            Self::SentencePiece(_) => (true, false),
            Self::Unigram(_) => (false, true),
        };
        let usual_eos = matches!(self, Self::Unigram(_)).then_some(1);
        Ok(Bounds {
            bos: bos(None)?,
            eos: eos(usual_eos)?,
            adds_bos: image.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(usually_bos),
            adds_eos: image.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(usually_eos),
        })
    }

    /// A number that differs, but for chance, from that of other models whose tokens a scratch keeps.
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::ByteLevel(model) => model.fingerprint(),
            Self::SentencePiece(model) => model.fingerprint(),
            Self::WordPiece(_) | Self::Unigram(_) | Self::Rwkv(_) => 0, // nothing is kept
        }
    }

    /// What it works with.
    pub fn needs(&self) -> Needs {
        match self {
            Self::ByteLevel(_) | Self::SentencePiece(_) => Needs::Chain,
            Self::Unigram(model) => Needs::Lattice(model.size()),
            Self::WordPiece(_) | Self::Rwkv(_) => Needs::None,
        }
    }

    /// Encodes text without special tokens in it; gives how many of its bytes: less than all where `out` takes no more,
    /// or where what may follow the part could change their tokens.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::NoToken`], [`TokenizeError::ScratchFull`].
    // Apart from the search for special tokens, whose variables would cost it registers.
    #[inline(never)]
    pub fn encode(
        &self,
        vocab: &Vocab<'_, '_>,
        text: &[u8],
        part: Part,
        work: &mut Work<'_>,
        out: &mut Output<'_>,
    ) -> Result<usize, TokenizeError> {
        let Work { chain, cache, lattice, steps } = work;
        match self {
            Self::ByteLevel(model) => model.encode(vocab, text, part, chain, cache, out),
            Self::SentencePiece(model) => model.encode(vocab, text, part, chain, cache, out),
            Self::WordPiece(model) => model.encode(vocab, text, part, steps, out),
            Self::Unigram(model) => model.encode(vocab, text, part, lattice, steps, out),
            Self::Rwkv(model) => model.encode(vocab, text, part, steps, out),
        }
    }

    /// The bytes of a token with this text and kind.
    pub fn piece(&self, text: &'m [u8], kind: TokenKind) -> Piece<'m> {
        let form = match (self, kind) {
            (Self::Rwkv(_), _) => Form::Escaped,
            (_, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined) => Form::Plain,
            (Self::SentencePiece(_) | Self::Unigram(_), TokenKind::Byte) => {
                match sentence_piece::named_byte(text) {
                    Some(byte) => return Piece::byte(byte),
                    None => Form::Plain,
                }
            }
            _ => self.form(),
        };
        Piece::new(text, form)
    }

    /// How tokens are written that are text.
    #[inline]
    pub fn form(&self) -> Form {
        match self {
            Self::Rwkv(_) => Form::Escaped,
            Self::ByteLevel(_) => Form::ByteMap,
            Self::SentencePiece(_) | Self::WordPiece(_) | Self::Unigram(_) => Form::SpaceMark,
        }
    }

    /// Whether a space goes before every fragment of text.
    pub fn adds_space(&self) -> bool {
        match self {
            Self::SentencePiece(model) => model.adds_space(),
            Self::Unigram(model) => model.adds_space(),
            Self::ByteLevel(_) | Self::WordPiece(_) | Self::Rwkv(_) => false,
        }
    }

    /// Whether the unknown token stands for no text but its own name.
    pub fn knows_all_text(&self) -> bool {
        matches!(self, Self::SentencePiece(model) if model.has_all_bytes())
    }
}

fn name<'m>(image: &Image<'m>) -> Result<&'m [u8], ModelError> {
    image.bytes(MODEL)?.ok_or(ModelError::MissingKey { key: MODEL })
}

fn unknown(name: &[u8]) -> ModelError {
    ModelError::UnsupportedName { key: MODEL, name: ShortName::new(name) }
}

/// The token that a key names; where it is silent the usual one, if the vocabulary has as many.
///
/// # Errors
///
/// [`VocabFault::SpecialId`] for a token that the vocabulary has not; those of keys with values of another type.
pub fn special_id(
    image: &Image<'_>,
    key: &'static str,
    vocab_size: usize,
    usual: Option<Token>,
) -> Result<Option<Token>, ModelError> {
    let is_token = |id: &Token| (*id as usize) < vocab_size;
    match image.u32(key)? {
        Some(id) if !is_token(&id) => {
            Err(ModelError::BadVocab { fault: VocabFault::SpecialId, index: id.into() })
        }
        Some(id) => Ok(Some(id)),
        None => Ok(usual.filter(is_token)),
    }
}
