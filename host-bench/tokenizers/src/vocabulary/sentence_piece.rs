//! `tokenizer.json` of a SentencePiece vocabulary, as Hugging Face publishes Llama 2's.

use std::collections::HashMap;

use anyhow::{Context, Result};
use corelm::gguf::{Image, ValueType};
use serde_json::{Value, json};

/// SentencePiece merges what has the highest score; there a list tells what merges first.
pub fn tokenizer_json(image: &Image<'_>) -> Result<Value> {
    let array = |key, ty| image.array(key, ty)?.with_context(|| format!("it has no {key}"));
    let texts = array("tokenizer.ggml.tokens", ValueType::String)?;
    let texts: Vec<&str> = texts.strings().map(|bytes| Ok(str::from_utf8(bytes)?)).collect::<Result<_>>()?;
    let scores = array("tokenizer.ggml.scores", ValueType::F32)?;
    let scores: Vec<f32> = scores.bytes().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
    let ids: HashMap<&str, usize> = texts.iter().copied().zip(0..).collect();
    let mut merges: Vec<(usize, usize, usize)> = Vec::new();
    for (id, text) in texts.iter().enumerate() {
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                merges.push((id, left, right));
            }
        }
    }
    let score = |&(id, ..): &(usize, usize, usize)| scores.get(id).copied().unwrap_or_default();
    merges.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
    let merges: Vec<[&str; 2]> = merges.iter().map(|&(_, left, right)| [texts[left], texts[right]]).collect();
    let vocab: serde_json::Map<String, Value> =
        texts.iter().zip(0..).map(|(text, id)| ((*text).to_owned(), json!(id))).collect();
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                { "type": "Prepend", "prepend": "\u{2581}" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" },
            ],
        },
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                { "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " },
                { "type": "ByteFallback" },
                { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": "<unk>",
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    }))
}
