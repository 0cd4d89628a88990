//! The vocabulary of a GGUF file, in the forms in which the peers take one.

mod gpt_2;
mod sentence_piece;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use corelm::arena::{Arena, Layout};
use corelm::gguf::{Image, ValueType};
use corelm::tokenizer::{Piece, Tokenizer};
use serde_json::json;
use std::mem::MaybeUninit;

/// What stands before the white space at the end of every expression below.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+";
const LLAMA_3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+";
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+";

/// Pre-tokenizers by their names in `tokenizer.ggml.pre`: the expression, and whether a piece that is a token is that token,
/// whatever the merges say.
const PATTERNS: [(&str, &str, bool); 12] = [
    ("gpt-2", GPT_2, false),
    ("phi-2", GPT_2, false),
    ("mpt", GPT_2, false),
    ("olmo", GPT_2, false),
    ("roberta-bpe", GPT_2, false),
    ("llama-bpe", LLAMA_3, true),
    ("llama3", LLAMA_3, true),
    ("dbrx", LLAMA_3, false),
    ("smaug-bpe", LLAMA_3, false),
    ("qwen2", QWEN_2, false),
    ("deepseek-r1-qwen", QWEN_2, false),
    ("stablelm2", QWEN_2, false),
];

/// A byte-level vocabulary, or SentencePiece's BPE.
pub struct Vocabulary {
    /// What it is called in the report.
    pub name: String,
    /// The file, for the engine.
    pub file: Vec<u8>,
    /// `tokenizer.ggml.pre`; of SentencePiece, which has none, `llama`.
    pub pre: String,
    /// The bytes of each token that text can become, in the order of the ids, which begin at 0 and have no gaps.
    pub tokens: Vec<Vec<u8>>,
    /// The same in `tokenizer.json`, for Hugging Face's tokenizers and kitoken.
    pub json: Vec<u8>,
    /// What begins the pre-tokenizer's expression; SentencePiece has none.
    head: Option<&'static str>,
}

impl Vocabulary {
    /// Reads a GGUF file; of a model's, the tensors do not matter.
    pub fn read(path: &Path) -> Result<Self> {
        let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::new(name, file).with_context(|| path.display().to_string())
    }

    /// GPT-2's, which tiktoken-rs carries.
    pub fn gpt_2() -> Result<Self> {
        Self::new("GPT-2".to_owned(), gpt_2::file()?)
    }

    fn new(name: String, file: Vec<u8>) -> Result<Self> {
        let image = Image::parse(&file)?;
        let string =
            |key| image.bytes(key).map(|bytes| bytes.map(String::from_utf8_lossy).unwrap_or_default());
        let kind = string("tokenizer.ggml.model")?;
        if kind == "llama" {
            let json = serde_json::to_vec(&sentence_piece::tokenizer_json(&image)?)?;
            let texts = image.array("tokenizer.ggml.tokens", ValueType::String)?;
            let tokens = texts.iter().flat_map(|texts| texts.strings().map(<[u8]>::to_vec)).collect();
            return Ok(Self { name, pre: "llama".into(), tokens, json, head: None, file });
        }
        ensure!(
            kind == "gpt2",
            "its tokenizer is '{kind}': the peers are compared on byte-level ones, 'gpt2', and on 'llama'"
        );
        let pre = string("tokenizer.ggml.pre")?.into_owned();
        let Some(&(_, head, ignores_merges)) = PATTERNS.iter().find(|(name, ..)| *name == pre) else {
            let names: Vec<&str> = PATTERNS.iter().map(|(name, ..)| *name).collect();
            bail!("its pre-tokenizer is '{pre}': the peers have expressions for {}", names.join(", "));
        };
        let mut region = vec![MaybeUninit::uninit(); Tokenizer::layout(&image, Layout::new())?.bytes()];
        let tokenizer = Tokenizer::new(&image, &mut Arena::new(&mut region))?;
        let strings = |key| -> Result<Vec<&str>> {
            let array = image.array(key, ValueType::String)?.with_context(|| format!("it has no {key}"))?;
            array.strings().map(|bytes| Ok(str::from_utf8(bytes)?)).collect()
        };
        // Tokens that are not text come after all others. Text becomes none of them, and nobody is asked to look for them.
        let kinds = image.array("tokenizer.ggml.token_type", ValueType::I32)?;
        let kinds: Option<Vec<u64>> =
            kinds.map(|kinds| kinds.iter().filter_map(|kind| kind.integer_bits()).collect());
        let is_text = |id: &u32| match &kinds {
            Some(kinds) => matches!(kinds.get(*id as usize), Some(1 | 5)),
            None => (*id as usize) < tokenizer.vocab_size(),
        };
        let ids = || (0..).take_while(is_text);
        ensure!(ids().count() >= 256, "its tokens do not begin with those of text");
        let tokens: Vec<Vec<u8>> = ids().filter_map(|id| tokenizer.piece(id)).map(Piece::collect).collect();
        let texts = strings("tokenizer.ggml.tokens")?;
        let vocab: serde_json::Map<_, _> = texts
            .iter()
            .take(tokens.len())
            .zip(0..)
            .map(|(text, id)| ((*text).to_owned(), json!(id)))
            .collect();
        let merges = strings("tokenizer.ggml.merges")?;
        let json = tokenizer_json(&vocab, &merges, &with_white_space(head), ignores_merges);
        let json = serde_json::to_vec(&json)?;
        Ok(Self { name, pre, tokens, json, head: Some(head), file })
    }

    /// The pre-tokenizer's regular expression.
    pub fn pattern(&self) -> Result<String> {
        Ok(with_white_space(self.head()?))
    }

    /// The same without looking ahead: alternatives in their order, each with whether its last character belongs to the
    /// next piece.
    pub fn patterns_without_lookahead(&self) -> Result<[(String, bool); 3]> {
        let whole = format!(r"{}|\s+$", self.head()?);
        Ok([(whole, false), (r"\s+\s".to_owned(), true), (r"\s+".to_owned(), false)])
    }

    fn head(&self) -> Result<&'static str> {
        self.head.context("it is not byte-level")
    }
}

fn with_white_space(head: &str) -> String {
    format!(r"{head}|\s+(?!\S)|\s+")
}

/// `tokenizer.json` as Hugging Face publishes it with such models.
fn tokenizer_json(
    vocab: &serde_json::Map<String, serde_json::Value>,
    merges: &[&str],
    pattern: &str,
    ignores_merges: bool,
) -> serde_json::Value {
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false },
                byte_level,
            ],
        },
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": ignores_merges,
            "vocab": vocab,
            "merges": merges,
        },
    })
}
