//! Ten thousand generated texts for each vocabulary, without and with control tokens in them, against what the reference
//! makes of them.
//!
//! `tokenizers/differential.txt` has for each vocabulary a hash of the texts, and for each 16 of them one of the ids. Where
//! one differs, `tools/tokenizer-diff` says which text it is, and compares as many more as it is asked for.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/texts.rs"]
mod texts;
#[path = "support/vocab.rs"]
mod vocab;

use corelm::error::TokenizeError;
use corelm::tokenizer::{Specials, Tokenizer};
use std::path::PathBuf;
use texts::Texts;
use vocab::try_encode;

const EXPECTED: &str = include_str!("tokenizers/differential.txt");
const SEED: u64 = 1;
const N_TEXTS: usize = 10_000;
const N_TEXTS_A_HASH: usize = 16;

/// Behind the ids of a text.
const END: u32 = u32::MAX;
/// In place of the ids of a text with a byte that has no token.
const NO_TOKEN: u32 = u32::MAX - 1;

fn mixed(hash: u32, number: u32) -> u32 {
    let hash = (hash ^ number).wrapping_mul(0x9E37_79B1);
    hash ^ hash >> 15
}

/// What is expected for a vocabulary.
struct Family {
    name: &'static str,
    texts: u32,
    ids: Vec<u32>,
}

fn families() -> Vec<Family> {
    let hash = |word| u32::from_str_radix(word, 16).unwrap();
    let mut families: Vec<Family> = Vec::new();
    for line in EXPECTED.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('=').and_then(|head| head.split_once(' ')) {
            Some((name, texts)) => families.push(Family { name, texts: hash(texts), ids: Vec::new() }),
            None => families.last_mut().unwrap().ids.extend(line.split(' ').map(hash)),
        }
    }
    families
}

/// A fixture, or a vocabulary of this repository; `None` for a fixture where there are none.
fn file(name: &str) -> Option<PathBuf> {
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tokenizers"));
    let own = own.join(format!("{name}.gguf"));
    if own.exists() { Some(own) } else { Some(fixtures::shared()?.join(format!("tokenizers/{name}.gguf"))) }
}

/// Prints texts whose ids are not all as expected.
fn print(tokenizer: &Tokenizer<'_, '_>, texts: &[Vec<u8>]) {
    for text in texts {
        let plain = try_encode(tokenizer, text, Specials::Never);
        let special = try_encode(tokenizer, text, Specials::All);
        println!("  {}\n    plain   {plain:?}\n    special {special:?}", text.escape_ascii());
    }
}

/// Compares a vocabulary, and gives the numbers of the hashes that differ.
fn compare(family: &Family, tokenizer: &Tokenizer<'_, '_>) -> Vec<usize> {
    let generator = Texts::new(tokenizer);
    let texts: Vec<Vec<u8>> = (0..N_TEXTS as u64).map(|number| generator.text(SEED, number)).collect();
    let hash = texts.iter().flat_map(|text| text.iter().chain(b"\n")).fold(0, |h, &b| mixed(h, b.into()));
    assert_eq!(hash, family.texts, "{}: these are not the texts that the reference was given", family.name);
    assert_eq!(family.ids.len(), N_TEXTS.div_ceil(N_TEXTS_A_HASH), "{}", family.name);
    let mut wrong = Vec::new();
    for (i, (texts, &want)) in texts.chunks(N_TEXTS_A_HASH).zip(&family.ids).enumerate() {
        let mut hash = 0;
        for text in texts {
            for specials in [Specials::Never, Specials::All] {
                let ids = match try_encode(tokenizer, text, specials) {
                    Err(TokenizeError::NoToken { .. }) => vec![NO_TOKEN],
                    ids => ids.unwrap(),
                };
                hash = ids.into_iter().chain([END]).fold(hash, mixed);
            }
        }
        if hash != want {
            if wrong.is_empty() {
                println!("{}: one of these has other ids by the reference", family.name);
                print(tokenizer, texts);
            }
            wrong.push(i);
        }
    }
    wrong
}

#[test]
fn generated_texts_have_the_ids_of_the_reference() {
    let (mut n_compared, mut wrong) = (0, Vec::new());
    let families = families();
    assert_eq!(families.len(), 30);
    for family in &families {
        let Some(path) = file(family.name) else { continue };
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let hashes = vocab::with_tokenizer(&bytes, |tokenizer| compare(family, tokenizer)).unwrap();
        n_compared += 1;
        if let (n @ 1.., Some(first)) = (hashes.len(), hashes.first()) {
            wrong.push(family.name);
            println!(
                "{}: {n} of {} hashes differ; what differs is shown by\n  CORELM=target/release/corelm python3 \
                 tools/tokenizer-diff/diff.py --seed {SEED} --first {} --count {N_TEXTS_A_HASH} {}",
                family.name,
                family.ids.len(),
                first * N_TEXTS_A_HASH,
                path.display()
            );
        }
    }
    println!("{n_compared} vocabularies, {N_TEXTS} texts each");
    assert!(n_compared >= 5, "the vocabularies of the repository at least");
    assert!(wrong.is_empty(), "{wrong:?}");
}
