//! One scratch for many texts and several tokenizers: what it keeps of them changes no token.

#[path = "support/fixtures.rs"]
mod fixtures;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::gguf::Image;
use corelm::tokenizer::{Specials, Tokenizer};
use std::mem::MaybeUninit;

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
