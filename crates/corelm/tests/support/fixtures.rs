//! The tokenizer fixtures of `../shared`: vocabularies, texts, and the ids that the reference gives them.
#![allow(dead_code)] // every test binary uses a part

use corelm::Token;
use std::path::{Path, PathBuf};

/// `../shared`, or `None` with a line that says so; its absence is a failure in CI.
pub fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "no ../shared in CI");
    println!("skipped: no ../shared");
    None
}

/// The texts and ids beside a vocabulary.
pub fn cases(vocabulary: &Path) -> Vec<(Vec<u8>, Vec<Token>)> {
    let read = |extension| std::fs::read(vocabulary.with_extension(extension)).unwrap();
    let (inputs, outputs) = (read("gguf.inp"), String::from_utf8(read("gguf.out")).unwrap());
    let marker = b"\n__ggml_vocab_test__\n";
    let mut texts = Vec::new();
    let mut rest = &inputs[..];
    while let Some(at) = rest.windows(marker.len()).position(|window| window == marker) {
        texts.push(rest[..at].to_vec());
        rest = &rest[at + marker.len()..];
    }
    assert!(rest.is_empty(), "text behind the last mark");
    let ids = outputs.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    let cases: Vec<_> = texts.into_iter().zip(ids).collect();
    assert_eq!(cases.len(), outputs.lines().count());
    cases
}
