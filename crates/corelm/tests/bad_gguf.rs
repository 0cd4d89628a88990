//! Files made to break loaders (`../shared/bad-gguf`): each is answered as its manifest says, and so is every prefix and
//! every flipped bit of the metadata of the two good ones.

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::config::Config;
use corelm::error::{ErrorClass, ModelError};
use corelm::gguf::Image;
use corelm::tokenizer::{Specials, Tokenizer};
use corelm::weights::Weights;
use serde_json::Value as Json;
use std::fs;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

/// The folder, or `None` (and a word) when it is not beside the repository.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/bad-gguf");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no ../shared/bad-gguf, and CI is set");
    println!("skipped: no ../shared");
    None
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Hands `bytes` to `read` in memory that ends where they end, at an odd address.
fn at_odd_address<T>(bytes: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
    let mut padded = Vec::with_capacity(bytes.len() + 1);
    padded.push(0);
    padded.extend_from_slice(bytes);
    assert_eq!(padded.as_ptr().addr() % 2, 0);
    read(&padded[1..])
}

/// The class of an error as the manifest writes it.
fn class_name(class: ErrorClass) -> String {
    format!("{class:?}").to_uppercase()
}

/// The prompt of all cases; its tokens for the good models are in `expected.json`.
const PROMPT: &[u8] = b"the cat and";

/// Loads a model and gives the tokens of the prompt: what a run would start from.
fn load(file: &[u8]) -> Result<Vec<Token>, ModelError> {
    let image = Image::parse(file)?;
    let config = Config::from_image(&image)?;
    let layout = Tokenizer::layout(&image, Weights::layout(&config, Layout::new())?)?;
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut arena = Arena::new(&mut region);
    let weights = Weights::resolve(&image, &config, &mut arena)?;
    assert_eq!(weights.layers.len(), config.n_layers);
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    assert_eq!(tokenizer.vocab_size(), config.vocab_size);
    let stats = arena.stats();
    assert_eq!(stats.used, stats.capacity, "the layout is exact");
    Ok(prompt(&tokenizer))
}

/// BOS, if the model asks for it, and the tokens of [`PROMPT`]; nothing when the vocabulary cannot express it.
fn prompt(tokenizer: &Tokenizer<'_, '_>) -> Vec<Token> {
    let mut tokens: Vec<Token> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
    let scratch = tokenizer.scratch_layout(PROMPT.len(), Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); scratch.bytes()];
    let mut scratch = tokenizer.scratch(PROMPT.len(), &mut Arena::new(&mut region)).unwrap();
    let mut text = [0; 64];
    match tokenizer.encode(PROMPT, Specials::Never, &mut scratch, &mut text) {
        Ok(n_tokens) => tokens.extend(&text[..n_tokens]),
        Err(_) => tokens.clear(),
    }
    assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab_size()));
    tokens
}

/// Loads twice; equal bytes must give equal answers.
fn load_twice(file: &[u8]) -> Result<Vec<Token>, ModelError> {
    let (first, second) = at_odd_address(file, |file| (load(file), load(file)));
    assert_eq!(first, second);
    first
}

#[test]
fn every_case_is_answered_as_the_manifest_says() {
    let Some(folder) = folder() else { return };
    let manifest = json(&folder.join("manifest.json"));
    let mut wrong = Vec::new();
    for case in manifest.as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap();
        let (id, expect, class) = (text("id"), text("expect"), text("error"));
        let file = fs::read(folder.join(format!("cases/{id}.gguf"))).unwrap();
        let answer = load_twice(&file);
        let is_right = match (&answer, expect) {
            (Ok(tokens), "accept") => *tokens == [297, 257, 276, 32, 272],
            (Ok(_), "reject-or-safe") => true,
            (Err(error), "reject" | "reject-or-safe") => is_true_class(id, class, &class_name(error.class())),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{id}: {expect} {class}, but {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether `found` is a true class for a case: the manifest's, or what this reader rightly sees before it.
fn is_true_class(id: &str, manifest: &str, found: &str) -> bool {
    let seen_before = [
        ("hdr-ntensors-minus1", "SHAPE"), // the tensor that is not counted is missed
        ("hdr-ntensors-plus1", "TRUNCATED"), // tensor data, read as an info, announces a long name
        ("hdr-ntensors-zero", "SHAPE"),   // every tensor is missed
        ("kv-keylen-65536", "TRUNCATED"), // the file is shorter than the key
        ("sh-k-asq", "FORMAT"),           // the wider tensor overlaps the next
        ("ti-ndims-1", "UNSUPPORTED"),    // the second dimension is read as the type
    ];
    manifest == found || seen_before.contains(&(id, found))
}

/// Where the last tensor ends; padding may follow.
fn end_of_data(file: &[u8]) -> usize {
    let image = Image::parse(file).unwrap();
    let last = image.tensors().map(|tensor| tensor.bytes.as_ptr_range().end.addr()).max().unwrap();
    last - file.as_ptr().addr()
}

#[test]
fn every_prefix_is_cut_short() {
    let Some(folder) = folder() else { return };
    for name in ["valid-mini", "valid-tiny"] {
        let file = fs::read(folder.join(format!("{name}.gguf"))).unwrap();
        load_twice(&file).unwrap();
        let data_end = end_of_data(&file);
        for len in 0..data_end {
            let answer = at_odd_address(&file[..len], load);
            assert!(matches!(answer, Err(ModelError::Truncated { .. })), "{name} cut to {len}: {answer:?}");
        }
    }
}

#[test]
fn every_flipped_bit_of_metadata_is_survived() {
    let Some(folder) = folder() else { return };
    for (name, n_bytes) in [("valid-mini", 6_237), ("valid-tiny", 6_819)] {
        let mut file = vec![0];
        file.extend(fs::read(folder.join(format!("{name}.gguf"))).unwrap());
        let mut n_refused = 0;
        for bit in 0..n_bytes * 8 {
            let flip = |file: &mut [u8]| file[1 + bit / 8] ^= 1 << (bit % 8);
            flip(&mut file);
            let answer = load(&file[1..]);
            assert_eq!(load(&file[1..]), answer, "{name}, bit {bit}");
            n_refused += usize::from(answer.is_err());
            flip(&mut file);
        }
        println!("{name}: {n_refused} of {} flips refused", n_bytes * 8);
        load(&file[1..]).unwrap();
    }
}
