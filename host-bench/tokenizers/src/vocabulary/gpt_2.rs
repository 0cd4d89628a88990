//! GPT-2's vocabulary as a GGUF file, made from the ranks that tiktoken-rs carries, so that nothing has to be fetched.

use anyhow::{Result, anyhow};
use corelm::gguf::Value;
use corelm::gguf::writer::Writer;
use tiktoken_rs::{byte_pair_split, r50k_base};

/// Tokens of text; one control token follows, which no text becomes.
const N_TOKENS: u32 = 50_256;

/// The file, without tensors.
pub fn file() -> Result<Vec<u8>> {
    let core = r50k_base()?;
    let tokens = (0..N_TOKENS).map(|id| Ok(core.decode_bytes(&[id])?)).collect::<Result<Vec<_>>>()?;
    let written: Vec<String> = tokens.iter().map(|token| written(token)).collect();
    // Ranks are the order of the merges: the tokens of lower rank leave two parts of a token, which are what it was merged of.
    let mut ranks = Default::default();
    let mut merges = Vec::new();
    for (token, rank) in tokens.iter().zip(0..) {
        if token.len() > 1
            && let [left, right] = byte_pair_split(token, &ranks)[..]
        {
            merges.push(format!("{} {}", self::written(left), self::written(right)));
        }
        ranks.insert(token.clone(), rank);
    }
    let write = || {
        let mut writer = Writer::new(Vec::new(), 4, 0)?;
        writer.value("tokenizer.ggml.model", Value::String(b"gpt2"))?;
        writer.value("tokenizer.ggml.pre", Value::String(b"gpt-2"))?;
        writer.strings("tokenizer.ggml.tokens", written.iter())?;
        writer.strings("tokenizer.ggml.merges", merges.iter())?;
        writer.finish()
    };
    write().map_err(|error| anyhow!("{error:?}"))
}

/// A printable character for each byte: its own where it has one, else the next from U+0100 on.
fn written(bytes: &[u8]) -> String {
    let has_own = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let character = |&byte: &u8| {
        let n_without = (0..byte).filter(|&other| !has_own(other)).count() as u32;
        if has_own(byte) { char::from(byte) } else { char::from_u32(0x100 + n_without).unwrap_or_default() }
    };
    bytes.iter().map(character).collect()
}

#[cfg(test)]
mod tests {
    use crate::vocabulary::Vocabulary;

    #[test]
    fn every_token_but_bytes_has_a_merge() {
        let vocabulary = Vocabulary::gpt_2().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&vocabulary.json).unwrap();
        let merges = json["model"]["merges"].as_array().unwrap();
        assert_eq!((vocabulary.tokens.len(), merges.len()), (50_256, 50_000));
        // As the first lines of its merges.txt.
        assert_eq!(merges[..3], ["Ġ t", "Ġ a", "h e"]);
        assert_eq!(
            (vocabulary.tokens[0].as_slice(), vocabulary.tokens[256].as_slice()),
            (&b"!"[..], &b" t"[..])
        );
    }
}
