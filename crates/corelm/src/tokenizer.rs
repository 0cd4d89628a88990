//! Text to tokens and back, exactly as the model's own tokenizer: byte-level BPE by merge rank (`tokenizer.ggml.model`
//! `gpt2`) and SentencePiece BPE by score (`llama`).
//!
//! ```text
//! file --Tokenizer::new--> index in the arena: text -> token (vocab), pair of tokens -> merge (merges); texts stay in the file
//! text --specials--> tokens found whole, and fragments between them
//!      --pre--> pieces --merges in scratch--> tokens     pieces: of a pre-tokenizer, or cut at spaces
//! tokens --decode--> bytes --Utf8Stream--> text
//! ```
//!
//! Any bytes are accepted, UTF-8 or not, and come back from their tokens unchanged; where a model makes an exception,
//! [`Tokenizer::encode`] says so. The time for a text of n bytes is O(n log n) whatever it is, the memory is the
//! caller's, and nothing recurses.

mod byte_level;
mod byte_map;
mod cache;
mod decode;
mod hash;
mod merges;
mod names;
mod pre;
mod prompt;
mod scores;
mod scratch;
mod sentence_piece;
mod slots;
mod specials;
mod unicode;
mod vocab;

pub use decode::{Chunk, Controls, Decoder, Piece, Utf8Stream};
pub(crate) use prompt::MAX_MARKUP;
pub use prompt::{Contents, Prompt};
pub use scratch::Scratch;
pub use specials::Specials;
pub use vocab::TokenKind;

use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError, ShortName, TokenizeError, VocabFault};
use crate::gguf::Image;
use byte_level::ByteLevel;
use cache::PieceCache;
use decode::Form;
use scratch::Chain;
use sentence_piece::SentencePiece;
use specials::SpecialIndex;
use vocab::Vocab;

const MODEL: &str = "tokenizer.ggml.model";

/// A model's tokenizer: the vocabulary in the file `'m` and an index of it in the arena `'a`.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'a, 'm> {
    vocab: Vocab<'a, 'm>,
    specials: SpecialIndex,
    model: Model<'a, 'm>,
    bos: Option<Token>,
    eos: Option<Token>,
    /// [`NO_TOKEN`] for those that the vocabulary has not.
    ends: [Token; names::ENDS.len() + 3],
    add_bos: bool,
    add_eos: bool,
    /// Tells this tokenizer from others whose tokens the same scratch may have kept.
    fingerprint: u64,
}

/// How text becomes tokens, with what the index holds for it.
#[derive(Clone, Copy, Debug)]
enum Model<'a, 'm> {
    ByteLevel(ByteLevel<'a, 'm>),
    SentencePiece(SentencePiece<'a, 'm>),
}

/// Not below any vocabulary size.
const NO_TOKEN: Token = Token::MAX;

impl<'a, 'm> Tokenizer<'a, 'm> {
    /// Adds what [`Tokenizer::new`] allocates: about 11 bytes for each token and 18 for each merge (byte-level), or 30
    /// to 50 for each token (SentencePiece).
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        let layout = Vocab::layout(image, layout)?;
        match model_name(image)? {
            b"gpt2" => ByteLevel::layout(image, layout),
            b"llama" => SentencePiece::layout(image, layout),
            name => Err(unknown_model(name)),
        }
    }

    /// Checks a vocabulary and indexes it. The file needs no tensors.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnsupportedName`] with the name of a model or pre-tokenizer that is not known, other variants for
    /// a vocabulary that is not consistent, and [`ModelError::Memory`] when the arena is too small.
    pub fn new(image: &Image<'m>, arena: &mut Arena<'a>) -> Result<Self, ModelError> {
        let name = model_name(image)?;
        let vocab = Vocab::new(image, arena)?;
        let specials = SpecialIndex::new(image, &vocab)?;
        let id = |key| special_id(image, key, vocab.len());
        let model = match name {
            b"gpt2" => Model::ByteLevel(ByteLevel::new(image, &vocab, arena)?),
            b"llama" => {
                let unknown = id("tokenizer.ggml.unknown_token_id")?;
                Model::SentencePiece(SentencePiece::new(image, &vocab, unknown, arena)?)
            }
            name => return Err(unknown_model(name)),
        };
        let usual_bos = match &model {
            Model::ByteLevel(model) => model.usual_bos(),
            Model::SentencePiece(_) => true,
        };
        let (bos, eos) = (id("tokenizer.ggml.bos_token_id")?, id("tokenizer.ggml.eos_token_id")?);
        let named_ends = [eos, id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?];
        let other_ends = names::ENDS.iter().map(|text| vocab.find(text.as_bytes()));
        let mut ends = [NO_TOKEN; names::ENDS.len() + 3];
        for (end, token) in ends.iter_mut().zip(named_ends.into_iter().chain(other_ends).flatten()) {
            *end = token;
        }
        let add_bos = image.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(usual_bos);
        let add_eos = image.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        let fingerprint = match &model {
            Model::ByteLevel(model) => model.fingerprint(),
            Model::SentencePiece(model) => model.fingerprint(),
        };
        Ok(Self { vocab, specials, model, bos, eos, ends, add_bos, add_eos, fingerprint })
    }

    /// Number of tokens; every token that [`Tokenizer::encode`] gives is below it.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<Token> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<Token> {
        self.eos
    }

    /// Whether the model wants [`Tokenizer::bos`] before a prompt.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether the model wants [`Tokenizer::eos`] behind a text that is complete.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }

    /// Whether generation ends with this token: EOS, the end of a turn or message by the file's keys, or a control token
    /// that says so.
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
        Scratch::layout(max_text_bytes, layout)
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
        Scratch::new(max_text_bytes, arena)
    }

    /// Writes the tokens of `text` to `out` and gives their number. No BOS and no EOS are added.
    ///
    /// Bytes that are not UTF-8 count as one symbol each (class "other" for the pre-tokenizer). Decoding gives `text`
    /// back, with three exceptions, all of the SentencePiece model: the space it puts before text, which [`Decoder`]
    /// takes off again; U+2581 in the text, which is its space; and text without a token in a vocabulary without bytes,
    /// which becomes the unknown token. And a model may drop white space behind control tokens that the caller allowed.
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
        self.encode_behind(None, text, specials, scratch, out)
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
        let bos = self.bos.filter(|_| self.add_bos).filter(|bos| !has_bos(bos));
        self.encode_behind(bos, prompt.bytes(), prompt.specials(), scratch, out)
    }

    /// Encodes `text` behind a token that is there already.
    fn encode_behind(
        &self,
        first: Option<Token>,
        text: &[u8],
        specials: Specials<'_>,
        scratch: &mut Scratch<'_>,
        out: &mut [Token],
    ) -> Result<usize, TokenizeError> {
        let (need, have) = (text.len(), scratch.text_bytes());
        if need > have {
            return Err(TokenizeError::ScratchFull { need, have });
        }
        let mut out = Output { tokens: out, len: 0 };
        first.into_iter().for_each(|token| out.push(token));
        let Scratch { chain, marks, cache } = scratch;
        chain.clear();
        cache.serve(self.fingerprint);
        let mut at = 0;
        if self.specials.mark(&self.vocab, text, specials, marks) {
            while let Some(found) = self.specials.next(&self.vocab, text, marks, at) {
                self.encode_fragment(text.get(at..found.start).unwrap_or_default(), chain, cache, &mut out)?;
                out.push(found.token);
                at = found.end;
            }
        }
        self.encode_fragment(text.get(at..).unwrap_or_default(), chain, cache, &mut out)?;
        match out.tokens.len() {
            have if have < out.len => Err(TokenizeError::OutputFull { need: out.len, have }),
            _ => Ok(out.len),
        }
    }

    /// Encodes text without special tokens in it.
    fn encode_fragment(
        &self,
        text: &[u8],
        chain: &mut Chain<'_>,
        cache: &mut PieceCache<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TokenizeError> {
        match &self.model {
            _ if text.is_empty() => Ok(()),
            Model::ByteLevel(model) => model.encode(&self.vocab, text, chain, cache, out),
            Model::SentencePiece(model) => model.encode(&self.vocab, text, chain, cache, out),
        }
    }

    /// The bytes of a token as they stand in text, control tokens by their names; `None` for a number that is no token.
    ///
    /// In SentencePiece models a piece that begins a text begins with the space put before it: see [`Decoder`].
    pub fn piece(&self, token: Token) -> Option<Piece<'m>> {
        let text = self.vocab.text(token)?;
        let form = match (self.vocab.kind(token), &self.model) {
            (TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined, _) => Form::Plain,
            (_, Model::ByteLevel(_)) => Form::ByteMap,
            (TokenKind::Byte, Model::SentencePiece(_)) => match sentence_piece::named_byte(text) {
                Some(byte) => return Some(Piece::byte(byte)),
                None => Form::Plain,
            },
            (_, Model::SentencePiece(_)) => Form::SpaceMark,
        };
        Some(Piece::new(text, form))
    }

    /// A decoder at the beginning of a text.
    pub fn decoder(&self, controls: Controls) -> Decoder<'_, 'a, 'm> {
        Decoder::new(self, controls)
    }

    /// Writes the bytes of `tokens`, a whole text, to `out` and gives their number: the inverse of
    /// [`Tokenizer::encode`].
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
        let (mut need, have) = (0usize, out.len());
        let mut slots = out.iter_mut();
        for &token in tokens {
            for byte in decoder.piece(token).ok_or(TokenizeError::BadToken { token })? {
                if let Some(slot) = slots.next() {
                    *slot = byte;
                }
                need = need.saturating_add(1);
            }
        }
        if need > have { Err(TokenizeError::OutputFull { need, have }) } else { Ok(need) }
    }
}

/// The caller's slice, and how many tokens there are, written or not.
struct Output<'o> {
    tokens: &'o mut [Token],
    len: usize,
}

impl Output<'_> {
    #[inline]
    fn push(&mut self, token: Token) {
        if let Some(slot) = self.tokens.get_mut(self.len) {
            *slot = token;
        }
        self.len = self.len.saturating_add(1);
    }
}

fn model_name<'m>(image: &Image<'m>) -> Result<&'m [u8], ModelError> {
    image.bytes(MODEL)?.ok_or(ModelError::MissingKey { key: MODEL })
}

fn unknown_model(name: &[u8]) -> ModelError {
    ModelError::UnsupportedName { key: MODEL, name: ShortName::new(name) }
}

fn special_id(image: &Image<'_>, key: &'static str, vocab_size: usize) -> Result<Option<Token>, ModelError> {
    match image.u32(key)? {
        Some(id) if id as usize >= vocab_size => {
            Err(ModelError::BadVocab { fault: VocabFault::SpecialId, index: id.into() })
        }
        id => Ok(id),
    }
}
