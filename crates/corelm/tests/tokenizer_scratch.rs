//! One scratch for many texts and several tokenizers: what it keeps of them changes no token.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/vocab.rs"]
mod vocab;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::gguf::Image;
use corelm::tokenizer::{Specials, Tokenizer};
use std::mem::MaybeUninit;
use vocab::{File, NORMAL};

#[test]
fn a_scratch_serves_many_texts_and_tokenizers() {
    let Some(shared) = fixtures::shared() else { return };
    let paths = ["gpt-2", "llama-bpe", "qwen2", "llama-spm", "phi-3"]
        .map(|name| shared.join(format!("tokenizers/ggml-vocab-{name}.gguf")));
    let cases = paths.each_ref().map(|path| fixtures::cases(path));
    let files = paths.map(|path| std::fs::read(path).unwrap());
    let images = files.each_ref().map(|file| Image::parse(file).unwrap());
    let layouts = images.each_ref().map(|image| Tokenizer::layout(image, Layout::new()).unwrap());
    let mut regions = layouts.map(|layout| vec![MaybeUninit::uninit(); layout.bytes()]);
    let mut regions = regions.iter_mut();
    let tokenizers = images
        .each_ref()
        .map(|image| Tokenizer::new(image, &mut Arena::new(regions.next().unwrap())).unwrap());

    const LONGEST: usize = 1 << 12;
    let layout = tokenizers[0].scratch_layout(LONGEST, Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut scratch = tokenizers[0].scratch(LONGEST, &mut Arena::new(&mut region)).unwrap();
    let mut out = vec![0; LONGEST];
    let mut check = |tokenizer: &Tokenizer<'_, '_>, text: &[u8], ids: &[Token]| {
        let n = tokenizer.encode(text, Specials::Never, &mut scratch, &mut out).unwrap();
        assert_eq!(&out[..n], ids, "{:?}", String::from_utf8_lossy(text));
    };
    for (cases, tokenizer) in cases.iter().zip(&tokenizers) {
        for _ in 0..2 {
            cases.iter().for_each(|(text, ids)| check(tokenizer, text, ids));
        }
    }
    for i in 0..cases[0].len() {
        for (cases, tokenizer) in cases.iter().zip(&tokenizers) {
            check(tokenizer, &cases[i].0, &cases[i].1);
        }
    }
}

/// What one vocabulary makes of a piece is no other's: the scratch of both keeps pieces.
#[test]
fn a_scratch_forgets_what_another_vocabulary_made() {
    let made = |merged: &str| {
        let tokens = ["▁", "a", "b", "c", merged].map(|text| (text.as_bytes(), NORMAL, 0.0));
        let mut file = File::new("llama", &tokens);
        file.bool("tokenizer.ggml.add_bos_token", false);
        file
    };
    let (left, right) = (made("ab"), made("bc"));
    let check = |left: &Tokenizer<'_, '_>, right: &Tokenizer<'_, '_>| {
        let layout = left.scratch_layout(16, Layout::new()).unwrap();
        let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
        let mut scratch = left.scratch(16, &mut Arena::new(&mut region)).unwrap();
        for (tokenizer, want) in [(left, [0, 4, 3]), (right, [0, 1, 4])].repeat(2) {
            let mut out = [0; 4];
            let n = tokenizer.encode(b"abc", Specials::Never, &mut scratch, &mut out).unwrap();
            assert_eq!(out[..n], want);
        }
    };
    left.with(|left| right.with(|right| check(left, right)).unwrap()).unwrap();
}
