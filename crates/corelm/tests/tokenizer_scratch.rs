//! One scratch for many texts and several tokenizers: what it keeps of them changes no token.

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::gguf::Image;
use corelm::tokenizer::{Specials, Tokenizer};
use std::mem::MaybeUninit;
use std::path::Path;

/// A fixture's vocabulary, its texts, and the ids that the reference gives them.
struct Fixture {
    file: Vec<u8>,
    texts: Vec<Vec<u8>>,
    ids: Vec<Vec<Token>>,
}

impl Fixture {
    fn read(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("ggml-vocab-{name}.gguf"));
        let read = |extension| std::fs::read_to_string(path.with_extension(extension)).unwrap();
        let texts = read("gguf.inp");
        let mut texts: Vec<_> =
            texts.split("\n__ggml_vocab_test__\n").map(|text| text.as_bytes().to_vec()).collect();
        texts.pop();
        let ids = read("gguf.out");
        let ids = ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
        Self { file: std::fs::read(&path).unwrap(), texts, ids: ids.collect() }
    }
}

#[test]
fn a_scratch_serves_many_texts_and_tokenizers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tokenizers");
    if !folder.is_dir() {
        assert!(std::env::var_os("CI").is_none(), "no ../shared in CI");
        return println!("skipped: no ../shared");
    }
    let fixtures =
        ["gpt-2", "llama-bpe", "qwen2", "llama-spm", "phi-3"].map(|name| Fixture::read(&folder, name));
    let images = fixtures.each_ref().map(|fixture| Image::parse(&fixture.file).unwrap());
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
    for (fixture, tokenizer) in fixtures.iter().zip(&tokenizers) {
        for _ in 0..2 {
            fixture.texts.iter().zip(&fixture.ids).for_each(|(text, ids)| check(tokenizer, text, ids));
        }
    }
    for i in 0..fixtures[0].texts.len() {
        for (fixture, tokenizer) in fixtures.iter().zip(&tokenizers) {
            check(tokenizer, &fixture.texts[i], &fixture.ids[i]);
        }
    }
}
