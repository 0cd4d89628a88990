//! Small vocabularies of every kind of tokenizer, mild and hostile: control tokens of white space, of bytes that are no text,
//! one inside another, and merges that would make their names letter by letter.

use std::collections::HashSet;

use corelm::Token;
use corelm::gguf::{Value, writer::Writer};
use corelm::tokenizer::TokenKind;
use corelm_cases::synth::{self, Kind, Vocabulary};

use TokenKind::{Byte, Control, Normal, Unknown, Unused, UserDefined};

/// What comes back from the tokens of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// The text.
    Exact,
    /// The text, with a space for U+2581.
    Spaces,
    /// The text, without some white space (Phi-3's, behind special tokens).
    FewerSpaces,
    /// What the model makes of it.
    Normalized,
}

/// A vocabulary, as a file without tensors.
pub struct Made {
    pub name: &'static str,
    pub file: Vec<u8>,
    pub back: Back,
}

/// Names of control tokens of the hostile vocabularies.
pub const CONTROLS: [&[u8]; 9] = [
    b"<s>",
    b"</s>",
    b"<|im_start|>",
    b"<|im_start|>user",
    b"<|im_end|>",
    b"[INST]",
    b"  \n",
    "<｜end▁of▁sentence｜>".as_bytes(),
    b"\xff\xfe<\x80>",
];
const WORDS: [&str; 12] = ["th", "he", "the", " the", "<|", "|>", "im", "_start", "s>", "é", "字", "\n\n"];
const TOOL: &[u8] = b"<tool>";

/// All of them.
pub fn all() -> Vec<Made> {
    let made = |name, file, back| Made { name, file, back };
    let golden = |name, file: &[u8]| made(name, file.to_vec(), Back::Normalized);
    macro_rules! golden_file {
        ($name:literal) => {
            include_bytes!(concat!("../../corelm/tests/tokenizers/", $name, ".gguf"))
        };
    }
    vec![
        made("gpt-2", byte_level("gpt-2", ""), Back::Exact),
        made("llama-bpe", byte_level("llama-bpe", ""), Back::Exact),
        made("phi-3", byte_level("llama-bpe", "Phi-3"), Back::FewerSpaces),
        made("qwen2", byte_level("qwen2", ""), Back::Exact),
        made("gpt-4o", byte_level("gpt-4o", ""), Back::Exact),
        made("deepseek-v3", byte_level("deepseek-v3", ""), Back::Exact),
        made("tekken", byte_level("tekken", ""), Back::Exact),
        made("llama", sentence_piece(true), Back::Spaces),
        made("llama without a space", sentence_piece(false), Back::Spaces),
        made("rwkv", rwkv(), Back::Exact),
        golden("word-piece", golden_file!("word-piece")),
        golden("unigram", golden_file!("unigram")),
        golden("unigram-keep", golden_file!("unigram-keep")),
        golden("unigram-user", golden_file!("unigram-user")),
        made("synthetic llama-bpe", synthetic(synth::Tokenizer::Bpe), Back::Exact),
        made("synthetic llama", synthetic(synth::Tokenizer::Spm), Back::Spaces),
    ]
}

/// Tokens in the making: no text twice.
#[derive(Default)]
struct Tokens {
    list: Vec<(Vec<u8>, TokenKind, f32)>,
    texts: HashSet<Vec<u8>>,
}

impl Tokens {
    fn push(&mut self, text: impl Into<Vec<u8>>, kind: TokenKind, score: f32) {
        let text = text.into();
        if self.texts.insert(text.clone()) {
            self.list.push((text, kind, score));
        }
    }

    fn push_specials(&mut self) {
        CONTROLS.iter().for_each(|name| self.push(*name, Control, 0.0));
        self.push(TOOL, UserDefined, 0.0);
    }

    /// The file; `more` writes `n_more` keys.
    fn file(
        &self,
        model: &str,
        n_more: u64,
        more: impl FnOnce(&mut Writer<Vec<u8>>) -> Result<(), corelm::gguf::writer::WriteError>,
    ) -> Vec<u8> {
        let write = || {
            let mut writer = Writer::new(Vec::new(), 4 + n_more, 0)?;
            writer.value("tokenizer.ggml.model", Value::String(model.as_bytes()))?;
            writer.strings("tokenizer.ggml.tokens", self.list.iter().map(|token| &token.0))?;
            writer.i32s("tokenizer.ggml.token_type", self.list.iter().map(|token| token.1 as i32))?;
            writer.f32s("tokenizer.ggml.scores", self.list.iter().map(|token| token.2))?;
            more(&mut writer)?;
            writer.finish()
        };
        write().expect("a vector takes all")
    }
}

/// How byte-level vocabularies write a byte (`bytes_to_unicode` of GPT-2).
fn letter(byte: u8) -> String {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let n_shifted = (0..byte).filter(|&other| !is_plain(other)).count() as u32;
    let code = if is_plain(byte) { u32::from(byte) } else { 256 + n_shifted };
    char::from_u32(code).into_iter().collect()
}

fn byte_level(pre: &str, name: &str) -> Vec<u8> {
    let mut tokens = Tokens::default();
    (0..=255).for_each(|byte| tokens.push(letter(byte), Normal, 0.0));
    tokens.push_specials();
    let mut merges = Vec::new();
    for word in WORDS.iter().map(|word| word.as_bytes()).chain(CONTROLS) {
        let mut left = letter(word[0]);
        for &byte in &word[1..] {
            merges.push(format!("{left} {}", letter(byte)));
            left += &letter(byte);
            tokens.push(left.clone(), Normal, 0.0);
        }
    }
    tokens.file("gpt2", 3, |writer| {
        writer.value("general.name", Value::String(name.as_bytes()))?;
        writer.value("tokenizer.ggml.pre", Value::String(pre.as_bytes()))?;
        writer.strings("tokenizer.ggml.merges", merges.iter())
    })
}

fn sentence_piece(adds_space: bool) -> Vec<u8> {
    let mut tokens = Tokens::default();
    tokens.push("<unk>", Unknown, 0.0);
    (0..=255u8).for_each(|byte| tokens.push(format!("<0x{byte:02X}>"), Byte, 0.0));
    tokens.push("▁", Normal, -1.0);
    tokens.push_specials();
    for word in WORDS.iter().map(|word| word.as_bytes()).chain(CONTROLS) {
        let Ok(word) = std::str::from_utf8(word) else { continue };
        let chars: Vec<char> = word.replace(' ', "▁").chars().collect();
        for end in 1..=chars.len() {
            let kind = if end == 2 { Unused } else { Normal };
            tokens.push(chars[..end].iter().collect::<String>(), kind, end as f32);
            tokens.push(chars[end - 1].to_string(), Normal, end as f32);
        }
    }
    tokens.file("llama", 2, |writer| {
        writer.value("tokenizer.ggml.unknown_token_id", Value::U32(0))?;
        writer.value("tokenizer.ggml.add_space_prefix", Value::Bool(adds_space))
    })
}

fn rwkv() -> Vec<u8> {
    let escaped = |text: &[u8]| text.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let mut tokens = Tokens::default();
    (0..=255).for_each(|byte| tokens.push(escaped(&[byte]), Normal, 0.0));
    WORDS.iter().for_each(|word| tokens.push(escaped(word.as_bytes()), Normal, 0.0));
    tokens.push_specials();
    // All but the last byte of each name, so that the longest token is no control token by a hair.
    CONTROLS.iter().for_each(|name| tokens.push(escaped(&name[..name.len() - 1]), Normal, 0.0));
    tokens.file("rwkv", 0, |_| Ok(()))
}

/// The vocabulary of models with random weights.
fn synthetic(tokenizer: synth::Tokenizer) -> Vec<u8> {
    let vocabulary = Vocabulary::new(tokenizer, 600).expect("600 are enough");
    let mut tokens = Tokens::default();
    for id in 0..600 {
        let (text, kind) = vocabulary.token(id).expect("one of 600");
        let kind = match kind {
            Kind::Normal => Normal,
            Kind::Unknown => Unknown,
            Kind::Control => Control,
            Kind::Byte => Byte,
        };
        tokens.push(text.as_str(), kind, vocabulary.score(id));
    }
    let merges = (0..vocabulary.n_merges()).filter_map(|rank| vocabulary.merge(rank));
    let merges: Vec<String> = merges.map(|(left, right)| format!("{left} {right}")).collect();
    let model = if tokenizer == synth::Tokenizer::Bpe { "gpt2" } else { "llama" };
    tokens.file(model, 5, |writer| {
        writer.value("tokenizer.ggml.bos_token_id", Value::U32(vocabulary.bos()))?;
        writer.value("tokenizer.ggml.eos_token_id", Value::U32(vocabulary.eos()))?;
        writer.value("tokenizer.ggml.unknown_token_id", Value::U32(0))?;
        writer.value("tokenizer.ggml.pre", Value::String(b"llama-bpe"))?;
        writer.strings("tokenizer.ggml.merges", merges.iter())
    })
}

/// Tokens that stand for control tokens in no text but where a caller allows them.
pub fn some_controls(tokenizer: &corelm::tokenizer::Tokenizer<'_, '_>) -> Vec<Token> {
    let ids = 0..tokenizer.vocab_size() as Token;
    ids.filter(|&id| tokenizer.kind(id) == Some(Control)).step_by(2).collect()
}
