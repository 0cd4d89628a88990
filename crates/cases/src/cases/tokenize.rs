//! Text to tokens: 100 characters, by the merges of a vocabulary of 32 000.

use core::hint::black_box;

use corelm::arena::Arena;
use corelm::gguf::Image;
use corelm::tokenizer::{Controls, Specials, Tokenizer};

use super::expect;
use crate::bench::{Case, CaseError, Lab, Target};
use crate::model;
use crate::synth::{self, SynthConfig};

/// 100 characters, counted in a test.
const TEXT: &str =
    "The kernel reads a page of memory, decodes the fault and returns to the process that was running it.";

/// A case for one kind of tokenizer.
const fn case(name: &'static str, body: fn(&mut Lab<'_>) -> Result<(), CaseError>) -> Case {
    Case {
        name,
        shape: "100",
        bytes: TEXT.len() as u64,
        flops: 0,
        target: Target::micros(10),
        per_backend: false,
        needs_model: false,
        body,
    }
}

/// The tokenization cases.
pub const CASES: &[Case] = &[
    case("tokenize/bpe", |lab| tokenize(lab, synth::Tokenizer::Bpe)),
    case("tokenize/spm", |lab| tokenize(lab, synth::Tokenizer::Spm)),
];

fn tokenize(lab: &mut Lab<'_>, kind: synth::Tokenizer) -> Result<(), CaseError> {
    // All that counts is the vocabulary, so the weights are as few as can be.
    let config = SynthConfig {
        tokenizer: kind,
        dim: 32,
        hidden_dim: 32,
        n_layers: 1,
        n_heads: 1,
        n_kv_heads: 1,
        vocab_size: 32_000,
        ..SynthConfig::TINY
    };
    let mut arena = Arena::new(lab.memory);
    let bytes = model::write(&config, &mut arena)?;
    let image = Image::parse(bytes).map_err(|error| CaseError::Engine(error.code()))?;
    let tokenizer = Tokenizer::new(&image, &mut arena).map_err(|error| CaseError::Engine(error.code()))?;
    let mut scratch = tokenizer.scratch(TEXT.len(), &mut arena).map_err(|_| CaseError::Memory)?;
    let mut tokens = [0; TEXT.len() + 1];
    let mut encode = |text: &str, tokens: &mut [u32]| {
        scratch.forget(); // every text is a new one
        tokenizer.encode(text.as_bytes(), Specials::Never, &mut scratch, tokens)
    };
    let n = encode(TEXT, &mut tokens).map_err(|error| CaseError::Engine(error.code()))?;
    expect(3 * n < 2 * TEXT.len(), "too few merges")?;
    let mut text = [0; TEXT.len()];
    let n_bytes = tokenizer.decode(&tokens[..n], Controls::Show, &mut text);
    expect(n_bytes == Ok(TEXT.len()) && text == *TEXT.as_bytes(), "the tokens are of another text")?;
    lab.bencher.iter(&mut || {
        // It went well above, with the same text and the same room.
        let _ = black_box(encode(black_box(TEXT), &mut tokens));
        black_box(&mut tokens);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_100_characters() {
        assert_eq!((TEXT.chars().count(), TEXT.len()), (100, 100));
    }
}
