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

mod byte_map;
mod decode;
mod hash;
mod merges;
mod pre;
mod scratch;
mod specials;
mod unicode;
mod vocab;

pub use decode::{Chunk, Piece, Utf8Stream};
pub use scratch::Scratch;
pub use specials::Specials;
pub use vocab::TokenKind;

use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, ModelError, ShortName, TokenizeError, VocabFault};
use crate::gguf::Image;
use decode::{Form, LOWER_BLOCK};
use hash::TextHash;
use merges::Merges;
use pre::Pre;
use scratch::Chain;
use specials::SpecialIndex;
use unicode::Char;
use vocab::{END_TEXTS, Vocab};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";

/// A model's tokenizer: the vocabulary in the file `'m` and an index of it in the arena `'a`.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'a, 'm> {
    vocab: Vocab<'a, 'm>,
    merges: Merges<'a, 'm>,
    specials: SpecialIndex,
    model: Model,
    /// The token of each byte; [`NO_TOKEN`] where there is none.
    bytes: &'a [Token],
    /// SentencePiece: the token of each ASCII character.
    ascii: &'a [Token],
    bos: Option<Token>,
    eos: Option<Token>,
    unknown: Option<Token>,
    /// [`NO_TOKEN`] for those that the vocabulary has not.
    ends: [Token; END_TEXTS.len() + 3],
    add_bos: bool,
    add_eos: bool,
}

#[derive(Clone, Copy, Debug)]
enum Model {
    ByteLevel {
        pre: Pre,
        /// A piece that is a token as a whole is that token, whatever the merges say.
        whole_pieces: bool,
    },
    SentencePiece {
        /// A space goes before every fragment of text.
        space_prefix: bool,
        /// No token has a space behind another character, so that no merge crosses from there to the space.
        cuts_at_spaces: bool,
        /// The token of a space.
        space: Option<Token>,
    },
}

/// Not below any vocabulary size.
const NO_TOKEN: Token = Token::MAX;

/// Texts are shorter, so that numbers of symbols fit in 32 bits.
const MAX_TEXT_BYTES: usize = 1 << 29;

impl<'a, 'm> Tokenizer<'a, 'm> {
    /// Adds what [`Tokenizer::new`] allocates: about 11 bytes for each token and 16 for each merge (byte-level), or 30
    /// to 50 for each token (SentencePiece).
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::new`], as far as counts tell.
    pub fn layout(image: &Image<'m>, layout: Layout) -> Result<Layout, ModelError> {
        let layout = Vocab::layout(image, layout)?;
        match Model::name(image)? {
            Name::ByteLevel => Ok(Merges::layout_by_rank(image, layout)?.add::<Token>(256)?),
            Name::SentencePiece => {
                Ok(Merges::layout_by_score(image, layout)?.add::<Token>(256)?.add::<Token>(128)?)
            }
        }
    }

    /// Checks a vocabulary and indexes it. The file needs no tensors.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnsupportedName`] with the name of a model or pre-tokenizer that is not known, other variants for
    /// a vocabulary that is not consistent, and [`ModelError::Memory`] when the arena is too small.
    pub fn new(image: &Image<'m>, arena: &mut Arena<'a>) -> Result<Self, ModelError> {
        let vocab = Vocab::new(image, arena)?;
        let specials = SpecialIndex::new(image, &vocab)?;
        let text_token = |hash, text: &[u8]| {
            vocab
                .find_by(hash, |other| other == text)
                .filter(|&t| vocab.kind(t).is_text())
                .unwrap_or(NO_TOKEN)
        };
        let find = |text: &[u8]| text_token(TextHash::of(text.iter().copied()), text);
        let (merges, model, bytes, ascii): (_, _, &[Token], &[Token]);
        match Model::name(image)? {
            Name::ByteLevel => {
                merges = Merges::by_rank(image, &vocab, arena)?;
                let pre = Pre::from_image(image)?;
                model = Model::ByteLevel { pre, whole_pieces: pre == Pre::Llama3 };
                bytes = arena.alloc_with(256, |byte| {
                    let byte = byte as u8;
                    let is_same = |text: &[u8]| text.iter().copied().eq(byte_map::encode(byte));
                    let token = vocab.find_by(TextHash::of(byte_map::encode(byte)), is_same);
                    token.filter(|&t| vocab.kind(t).is_text()).unwrap_or(NO_TOKEN)
                })?;
                ascii = &[];
            }
            Name::SentencePiece => {
                merges = Merges::by_score(image, &vocab, arena)?;
                model = Model::SentencePiece {
                    space_prefix: image.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
                    cuts_at_spaces: cuts_at_spaces(&vocab),
                    space: Some(find(&LOWER_BLOCK)).filter(|&token| token != NO_TOKEN),
                };
                bytes = arena.alloc_with(256, |byte| {
                    let token = vocab.find(&byte_text(byte as u8));
                    token.filter(|&t| vocab.kind(t) == TokenKind::Byte).unwrap_or(NO_TOKEN)
                })?;
                ascii = arena.alloc_with(128, |byte| find(&[byte as u8]))?;
            }
        }
        let id = |key| special_id(image, key, vocab.len());
        let (bos, eos) = (id("tokenizer.ggml.bos_token_id")?, id("tokenizer.ggml.eos_token_id")?);
        let named_ends = [eos, id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?];
        let mut ends = [NO_TOKEN; END_TEXTS.len() + 3];
        let all_ends = named_ends.into_iter().chain(END_TEXTS.iter().map(|text| vocab.find(text.as_bytes())));
        ends.iter_mut().zip(all_ends.flatten()).for_each(|(end, token)| *end = token);
        let usual_bos = match model {
            Model::ByteLevel { pre, .. } => pre == Pre::Llama3,
            Model::SentencePiece { .. } => true,
        };
        Ok(Self {
            unknown: id("tokenizer.ggml.unknown_token_id")?,
            add_bos: image.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(usual_bos),
            add_eos: image.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            ..Self {
                vocab,
                merges,
                specials,
                model,
                bytes,
                ascii,
                bos,
                eos,
                ends,
                unknown: None,
                add_bos: false,
                add_eos: false,
            }
        })
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
        Scratch::layout(max_text_bytes, self.max_symbols(max_text_bytes)?, layout)
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
        Scratch::new(max_text_bytes, self.max_symbols(max_text_bytes)?, arena)
    }

    /// Most symbols that a text can begin as: its bytes and a space before it; three for a space without a token.
    fn max_symbols(&self, text_bytes: usize) -> Result<usize, ArenaError> {
        if text_bytes > MAX_TEXT_BYTES {
            return Err(ArenaError::TooLarge);
        }
        let for_space = match self.model {
            Model::SentencePiece { space: None, .. } => LOWER_BLOCK.len(),
            _ => 1,
        };
        Ok(text_bytes.saturating_add(1).saturating_mul(for_space))
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
        let (need, have) = (text.len(), scratch.text_bytes());
        if need > have {
            return Err(TokenizeError::ScratchFull { need, have });
        }
        let mut out = Output { tokens: out, len: 0 };
        let Scratch { chain, marks } = scratch;
        chain.clear();
        let mut at = 0;
        if self.specials.mark(&self.vocab, text, specials, marks) {
            while let Some(found) = self.specials.next(&self.vocab, text, marks, at) {
                self.encode_fragment(text.get(at..found.start).unwrap_or_default(), chain, &mut out)?;
                out.push(found.token);
                at = found.end;
            }
        }
        self.encode_fragment(text.get(at..).unwrap_or_default(), chain, &mut out)?;
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
        out: &mut Output<'_>,
    ) -> Result<(), TokenizeError> {
        match self.model {
            _ if text.is_empty() => Ok(()),
            Model::ByteLevel { pre, whole_pieces } => {
                let mut rest = text;
                while !rest.is_empty() {
                    // A piece has a byte at least.
                    let (piece, tail) =
                        rest.split_at_checked(pre.piece_len(rest).max(1)).unwrap_or((rest, &[]));
                    self.encode_piece(piece, whole_pieces, chain, out)?;
                    rest = tail;
                }
                Ok(())
            }
            Model::SentencePiece { space_prefix, cuts_at_spaces, .. } => {
                self.encode_sentence(text, space_prefix, cuts_at_spaces, chain, out)
            }
        }
    }

    /// Encodes a piece that the pre-tokenizer cut.
    fn encode_piece(
        &self,
        piece: &[u8],
        as_whole: bool,
        chain: &mut Chain<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TokenizeError> {
        if as_whole {
            let encoded = || piece.iter().copied().flat_map(byte_map::encode);
            let token =
                self.vocab.find_by(TextHash::of(encoded()), |text| text.iter().copied().eq(encoded()));
            if let Some(token) = token.filter(|&token| self.vocab.kind(token).is_text()) {
                out.push(token);
                return Ok(());
            }
        }
        for &byte in piece {
            let token = self.byte_token(byte).ok_or(TokenizeError::NoToken { byte })?;
            self.push(chain, token)?;
        }
        chain.merge(&self.merges, |token| out.push(token));
        Ok(())
    }

    /// Encodes text of the SentencePiece model: every character a symbol, space as U+2581.
    fn encode_sentence(
        &self,
        text: &[u8],
        space_prefix: bool,
        cuts_at_spaces: bool,
        chain: &mut Chain<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TokenizeError> {
        if space_prefix {
            self.push_char(&LOWER_BLOCK, chain)?;
        }
        let mut rest = text;
        let mut after_space = true;
        while let Some(c) = Char::first(rest) {
            let (mut symbol, tail) = rest.split_at_checked(c.len).unwrap_or((rest, &[]));
            if symbol == b" " {
                symbol = &LOWER_BLOCK;
            }
            let is_space = symbol == LOWER_BLOCK;
            if is_space && !after_space && cuts_at_spaces {
                chain.merge(&self.merges, |token| out.push(token));
            }
            self.push_char(symbol, chain)?;
            after_space = is_space;
            rest = tail;
        }
        chain.merge(&self.merges, |token| out.push(token));
        Ok(())
    }

    /// Adds a character as its token, else as its bytes, else as the unknown token.
    fn push_char(&self, symbol: &[u8], chain: &mut Chain<'_>) -> Result<(), TokenizeError> {
        let token = match (symbol, self.model) {
            ([byte @ 0..=0x7F], _) => self.ascii.get(usize::from(*byte)).copied().filter(|&t| t != NO_TOKEN),
            (_, Model::SentencePiece { space, .. }) if symbol == LOWER_BLOCK => space,
            _ => self.vocab.find(symbol).filter(|&token| self.vocab.kind(token).is_text()),
        };
        if let Some(token) = token {
            return self.push(chain, token);
        }
        match symbol.iter().find(|&&byte| self.byte_token(byte).is_none()) {
            None => {
                symbol.iter().filter_map(|&byte| self.byte_token(byte)).try_for_each(|t| self.push(chain, t))
            }
            Some(&byte) => self.push(chain, self.unknown.ok_or(TokenizeError::NoToken { byte })?),
        }
    }

    fn push(&self, chain: &mut Chain<'_>, token: Token) -> Result<(), TokenizeError> {
        let have = chain.capacity();
        chain.push(token).ok_or(TokenizeError::ScratchFull { need: have.saturating_add(1), have })
    }

    fn byte_token(&self, byte: u8) -> Option<Token> {
        self.bytes.get(usize::from(byte)).copied().filter(|&token| token != NO_TOKEN)
    }

    /// The bytes of a token as they stand in text, control tokens by their names; `None` for a number that is no token.
    ///
    /// In SentencePiece models a piece that begins a text begins with the space put before it: see [`Decoder`].
    pub fn piece(&self, token: Token) -> Option<Piece<'m>> {
        let text = self.vocab.text(token)?;
        let form = match (self.vocab.kind(token), self.model) {
            (TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined, _) => Form::Plain,
            (_, Model::ByteLevel { .. }) => Form::ByteMap,
            (TokenKind::Byte, _) => {
                return Some(parse_byte(text).map_or(Piece::new(text, Form::Plain), Piece::byte));
            }
            (_, Model::SentencePiece { .. }) => Form::LowerBlock,
        };
        Some(Piece::new(text, form))
    }

    /// A decoder at the beginning of a text.
    pub fn decoder(&self, controls: Controls) -> Decoder<'_, 'a, 'm> {
        Decoder { tokenizer: self, controls, at_start: true }
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

/// Whether decoding shows control tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controls {
    /// By their names, as `<|im_end|>`.
    Show,
    /// Not at all.
    Hide,
}

/// Gives the bytes of one token after another, as part of one text.
///
/// Takes off the space that a SentencePiece model puts before text, which depends on what was before.
#[derive(Clone, Debug)]
pub struct Decoder<'t, 'a, 'm> {
    tokenizer: &'t Tokenizer<'a, 'm>,
    controls: Controls,
    /// Text begins here: behind nothing, a control token or a user-defined one.
    at_start: bool,
}

impl<'m> Decoder<'_, '_, 'm> {
    /// The decoder of text that goes on from other text, as what is generated does: no space is taken off.
    pub fn continuing(mut self) -> Self {
        self.at_start = false;
        self
    }

    /// The bytes of the next token; `None` for a number that is no token.
    pub fn piece(&mut self, token: Token) -> Option<Piece<'m>> {
        let piece = self.tokenizer.piece(token)?;
        let was_start = core::mem::replace(&mut self.at_start, false);
        match self.tokenizer.vocab.kind(token) {
            kind @ (TokenKind::Control | TokenKind::UserDefined) => {
                self.at_start = true;
                let is_hidden = kind == TokenKind::Control && self.controls == Controls::Hide;
                Some(if is_hidden { Piece::default() } else { piece })
            }
            // Where every byte has a token, only its own name becomes the unknown token.
            TokenKind::Unknown if !self.tokenizer.bytes.contains(&NO_TOKEN) => {
                self.at_start = true;
                Some(piece)
            }
            TokenKind::Normal | TokenKind::Unused
                if was_start
                    && matches!(self.tokenizer.model, Model::SentencePiece { space_prefix: true, .. }) =>
            {
                Some(piece.without_space())
            }
            _ => Some(piece),
        }
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

enum Name {
    ByteLevel,
    SentencePiece,
}

impl Model {
    fn name(image: &Image<'_>) -> Result<Name, ModelError> {
        match image.bytes(MODEL)?.ok_or(ModelError::MissingKey { key: MODEL })? {
            b"gpt2" => Ok(Name::ByteLevel),
            b"llama" => Ok(Name::SentencePiece),
            name => Err(ModelError::UnsupportedName { key: MODEL, name: ShortName::new(name) }),
        }
    }
}

impl Pre {
    fn from_image(image: &Image<'_>) -> Result<Self, ModelError> {
        let name = image.bytes(PRE)?.ok_or(ModelError::MissingKey { key: PRE })?;
        Self::by_name(name).ok_or(ModelError::UnsupportedName { key: PRE, name: ShortName::new(name) })
    }
}

fn special_id(image: &Image<'_>, key: &'static str, vocab_size: usize) -> Result<Option<Token>, ModelError> {
    match image.u32(key)? {
        Some(id) if id as usize >= vocab_size => {
            Err(ModelError::BadVocab { fault: VocabFault::SpecialId, index: id.into() })
        }
        id => Ok(id),
    }
}

/// Whether no token of text has U+2581 behind another character.
fn cuts_at_spaces(vocab: &Vocab<'_, '_>) -> bool {
    (0..).zip(vocab.texts().strings()).filter(|&(token, _)| vocab.kind(token).is_text()).all(|(_, text)| {
        let mut rest = text;
        while let Some(tail) = rest.strip_prefix(&LOWER_BLOCK) {
            rest = tail;
        }
        !rest.windows(LOWER_BLOCK.len()).any(|window| window == LOWER_BLOCK)
    })
}

/// The text of a byte token: `<0x0A>`.
fn byte_text(byte: u8) -> [u8; 6] {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    [b'<', b'0', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)], b'>']
}

/// The byte of a byte token's text.
fn parse_byte(text: &[u8]) -> Option<u8> {
    let digit = |d: u8| char::from(d).to_digit(16);
    match text {
        [b'<', b'0', b'x', high, low, b'>'] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    }
}
