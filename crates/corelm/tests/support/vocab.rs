//! Vocabularies for tests: files made byte by byte, tokenizers over them, and the golden texts of `tests/tokenizers`.
#![allow(dead_code)] // every test binary uses a part

use std::mem::MaybeUninit;
use std::path::PathBuf;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::error::{ModelError, TokenizeError};
use corelm::gguf::Image;
use corelm::tokenizer::{Controls, Specials, Tokenizer};
use serde_json::Value as Json;

pub const NORMAL: i32 = 1;
pub const UNKNOWN: i32 = 2;
pub const CONTROL: i32 = 3;
pub const USER_DEFINED: i32 = 4;
pub const UNUSED: i32 = 5;
pub const BYTE: i32 = 6;

/// A GGUF file of nothing but keys, each added as bytes: so it may say anything.
#[derive(Clone, Default)]
pub struct File {
    keys: Vec<(String, Vec<u8>)>,
}

impl File {
    /// A vocabulary of texts, types and scores.
    pub fn new(model: &str, tokens: &[(&[u8], i32, f32)]) -> Self {
        let mut file = Self::default();
        file.string("tokenizer.ggml.model", model.as_bytes());
        let texts = tokens.iter().flat_map(|token| string(token.0)).collect();
        file.array("tokenizer.ggml.tokens", 8, tokens.len(), texts);
        let types = tokens.iter().flat_map(|token| token.1.to_le_bytes()).collect();
        file.array("tokenizer.ggml.token_type", 5, tokens.len(), types);
        let scores = tokens.iter().flat_map(|token| token.2.to_le_bytes()).collect();
        file.array("tokenizer.ggml.scores", 6, tokens.len(), scores);
        file
    }

    fn key(&mut self, key: &str, type_and_value: Vec<u8>) {
        self.remove(key);
        self.keys.push((key.into(), type_and_value));
    }

    pub fn remove(&mut self, key: &str) {
        self.keys.retain(|entry| entry.0 != key);
    }

    pub fn u32(&mut self, key: &str, value: u32) {
        self.key(key, [4u32.to_le_bytes(), value.to_le_bytes()].concat());
    }

    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key, [&7u32.to_le_bytes()[..], &[value.into()]].concat());
    }

    pub fn string(&mut self, key: &str, value: &[u8]) {
        self.key(key, [&8u32.to_le_bytes()[..], &string(value)].concat());
    }

    /// An array of `len` elements of the type with this id.
    pub fn array(&mut self, key: &str, element: u32, len: usize, elements: Vec<u8>) {
        let head = [9u32.to_le_bytes(), element.to_le_bytes()].concat();
        self.key(key, [head, (len as u64).to_le_bytes().to_vec(), elements].concat());
    }

    pub fn charsmap(&mut self, bytes: &[u8]) {
        self.array("tokenizer.ggml.precompiled_charsmap", 0, bytes.len(), bytes.to_vec());
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend_from_slice(&0u64.to_le_bytes());
        bytes.extend_from_slice(&(self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            bytes.extend_from_slice(&string(key.as_bytes()));
            bytes.extend_from_slice(value);
        }
        bytes
    }

    /// Runs `body` with the tokenizer of this file.
    pub fn with<T>(&self, body: impl FnOnce(&Tokenizer<'_, '_>) -> T) -> Result<T, ModelError> {
        with_tokenizer(&self.bytes(), body)
    }

    /// Why the file is refused.
    pub fn error(&self) -> ModelError {
        self.with(|_| ()).unwrap_err()
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// A map from keys to replacements as SentencePiece compiles it, but for its size: no two nodes share a block.
pub fn charsmap(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    // A trie: for each node the byte that leads to it, its parent and the place of its replacement.
    let mut nodes = vec![(0u8, 0usize, None)];
    let mut replacements = Vec::new();
    for (key, replacement) in pairs {
        let mut at = 0;
        for &byte in *key {
            let child = (1..nodes.len()).find(|&i| (nodes[i].0, nodes[i].1) == (byte, at));
            at = child.unwrap_or_else(|| {
                nodes.push((byte, at, None));
                nodes.len() - 1
            });
        }
        nodes[at].2 = Some(replacements.len() as u32);
        replacements.extend_from_slice(replacement);
        replacements.push(0);
    }
    // Node `i` has block `i + 1` for its value and its children, these at their bytes XOR the beginning, or XOR the low
    // byte of the node's own place: then the offset is one of the kind that is counted in 256ths.
    let mut units = vec![0u32; 256 * (nodes.len() + 1)];
    let mut begins = vec![0usize; nodes.len()];
    for (i, &(byte, parent, value)) in nodes.iter().enumerate() {
        let place = if i == 0 { 0 } else { begins[parent] ^ usize::from(byte) };
        begins[i] = (256 * (i + 1)) | if i % 2 == 0 { place % 256 } else { 0 };
        let offset = (place ^ begins[i]) as u32;
        units[place] = u32::from(byte) | u32::from(value.is_some()) << 8;
        units[place] |= if i % 2 == 0 { (offset >> 8) << 10 | 1 << 9 } else { offset << 10 };
        if let Some(value) = value {
            units[begins[i]] = 1 << 31 | value;
        }
    }
    let units: Vec<u8> = units.into_iter().flat_map(u32::to_le_bytes).collect();
    [&(units.len() as u32).to_le_bytes()[..], &units, &replacements].concat()
}

/// Runs `body` with the tokenizer of a file, in exactly the memory its layout asks for.
pub fn with_tokenizer<T>(file: &[u8], body: impl FnOnce(&Tokenizer<'_, '_>) -> T) -> Result<T, ModelError> {
    let image = Image::parse(file)?;
    let layout = Tokenizer::layout(&image, Layout::new())?;
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut arena = Arena::new(&mut region);
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    assert_eq!(arena.stats().used, layout.used());
    Ok(body(&tokenizer))
}

/// The ids of a text, worked out in exactly the memory that the tokenizer asks for.
pub fn try_encode(
    tokenizer: &Tokenizer<'_, '_>,
    text: &[u8],
    specials: Specials<'_>,
) -> Result<Vec<Token>, TokenizeError> {
    let layout = tokenizer.scratch_layout(text.len(), Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut arena = Arena::new(&mut region);
    let mut scratch = tokenizer.scratch(text.len(), &mut arena).unwrap();
    assert_eq!(arena.stats().used, layout.used());
    let mut ids = vec![0; text.len() + 1];
    match tokenizer.encode(text, specials, &mut scratch, &mut ids) {
        Err(TokenizeError::OutputFull { need, .. }) => {
            ids.resize(need, 0);
            assert_eq!(tokenizer.encode(text, specials, &mut scratch, &mut ids), Ok(need));
        }
        answer => ids.truncate(answer?),
    }
    Ok(ids)
}

/// The ids of a text without control tokens in it.
pub fn encode(tokenizer: &Tokenizer<'_, '_>, text: impl AsRef<[u8]>) -> Vec<Token> {
    try_encode(tokenizer, text.as_ref(), Specials::Never).unwrap()
}

/// The texts of the tokens of a text, each as it stands in the file.
pub fn pieces(tokenizer: &Tokenizer<'_, '_>, text: impl AsRef<[u8]>) -> Vec<String> {
    let ids = encode(tokenizer, text);
    let piece = |id| tokenizer.piece(id).unwrap().collect::<Vec<_>>();
    ids.into_iter().map(|id| String::from_utf8_lossy(&piece(id)).into_owned()).collect()
}

pub fn decode(tokenizer: &Tokenizer<'_, '_>, ids: &[Token]) -> Vec<u8> {
    let need = match tokenizer.decode(ids, Controls::Show, &mut []) {
        Ok(_) => 0,
        Err(TokenizeError::OutputFull { need, .. }) => need,
        Err(error) => panic!("{error}"),
    };
    let mut text = vec![0; need];
    assert_eq!(tokenizer.decode(ids, Controls::Show, &mut text), Ok(need));
    text
}

/// A file of `tests/tokenizers`.
pub fn golden_file(name: &str) -> Vec<u8> {
    std::fs::read(golden_path(name, "gguf")).unwrap()
}

fn golden_path(name: &str, extension: &str) -> PathBuf {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tokenizers"));
    folder.join(name).with_extension(extension)
}

/// What the reference makes of a text.
pub struct Golden {
    pub text: Vec<u8>,
    pub ids: Vec<Token>,
    /// Where control tokens may stand in the text.
    pub special: Vec<Token>,
    pub decoded: Vec<u8>,
}

pub fn golden_texts(name: &str) -> Vec<Golden> {
    let lines = std::fs::read_to_string(golden_path(name, "jsonl")).unwrap();
    let cases = lines.lines().map(|line| {
        let case: Json = serde_json::from_str(line).unwrap();
        let ids = |key: &str| {
            let list = case.get(key).or(case.get("ids")).unwrap().as_array().unwrap();
            list.iter().map(|id| id.as_u64().unwrap() as Token).collect()
        };
        let bytes = |key: &str| from_hex(case[key].as_str().unwrap());
        Golden { text: bytes("text"), ids: ids("ids"), special: ids("special"), decoded: bytes("decoded") }
    });
    cases.collect()
}

fn from_hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

/// Checks ids, and texts if `decodes`, against a golden file; gives the number of texts.
pub fn check_golden(name: &str, decodes: bool) -> usize {
    let texts = golden_texts(name);
    with_tokenizer(&golden_file(name), |tokenizer| {
        for case in &texts {
            let text = String::from_utf8_lossy(&case.text);
            assert_eq!(encode(tokenizer, &case.text), case.ids, "{name}: {text:?}");
            let special = try_encode(tokenizer, &case.text, Specials::All).unwrap();
            assert_eq!(special, case.special, "{name}: {text:?}");
            if decodes {
                assert_eq!(decode(tokenizer, &case.ids), case.decoded, "{name}: {text:?}");
            }
        }
    })
    .unwrap();
    texts.len()
}

/// Changes each byte of a golden file twice: an error, or a tokenizer whose tokens are in the vocabulary. Gives how many
/// of how many changes gave one.
pub fn check_changed_bytes(name: &str) -> (usize, usize) {
    let mut file = golden_file(name);
    let (mut n_loaded, n_changes) = (0, file.len() * 2);
    let mut region = vec![MaybeUninit::uninit(); 1 << 20];
    for i in 0..n_changes {
        let (at, change) = (i / 2, if i % 2 == 0 { 1 << (at_bit(i)) } else { 0xFF });
        file[at] ^= change;
        if let Ok(image) = Image::parse(&file) {
            let mut arena = Arena::new(&mut region);
            if let Ok(tokenizer) = Tokenizer::new(&image, &mut arena) {
                n_loaded += 1;
                let text = "The <sep>kernel é\u{301} ﷺ ½\u{3000}字[SEP] \u{fffd}".as_bytes();
                let text = [text, b"\xff\xe2\x96 \0</s> a  b"].concat();
                if let Ok(mut scratch) = tokenizer.scratch(text.len(), &mut arena) {
                    let mut ids = [0; 4096];
                    match tokenizer.encode(&text, Specials::All, &mut scratch, &mut ids) {
                        Ok(n) => {
                            assert!(ids[..n].iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                            decode(&tokenizer, &ids[..n]);
                        }
                        Err(TokenizeError::NoToken { .. }) => {}
                        Err(error) => panic!("{name} at {at}: {error}"),
                    }
                }
            }
        }
        file[at] ^= change;
    }
    (n_loaded, n_changes)
}

fn at_bit(i: usize) -> usize {
    i / 2 % 8
}

/// A generator of pseudo-random numbers (SplitMix64), so that every run sees the same texts.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ x >> 31) as usize % n
    }

    pub fn choose<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        (1..items.len()).for_each(|i| items.swap(i, self.below(i + 1)));
    }

    /// Up to `max` of the characters of `letters`, one at least.
    pub fn letters(&mut self, letters: &str, max: usize) -> String {
        let letters: Vec<char> = letters.chars().collect();
        (0..1 + self.below(max)).map(|_| *self.choose(&letters)).collect()
    }

    /// Up to `n` parts, one behind the other.
    pub fn parts(&mut self, parts: &[&[u8]], n: usize) -> Vec<u8> {
        (0..self.below(n + 1)).flat_map(|_| self.choose(parts).to_vec()).collect()
    }
}

/// A megabyte of a letter, of spaces, of random letters, and of a character and a newline.
pub fn long_texts() -> [Vec<u8>; 4] {
    let mut random = Random(2);
    let letters = (0..1 << 20).map(|_| b'a' + random.below(26) as u8).collect();
    [vec![b'a'; 1 << 20], vec![b' '; 1 << 20], letters, "字\n".repeat(1 << 18).into_bytes()]
}

/// Steps for each byte of the first `n` bytes of a text.
pub fn steps_per_byte(tokenizer: &Tokenizer<'_, '_>, text: &[u8], n: usize) -> f64 {
    let layout = tokenizer.scratch_layout(text.len(), Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut scratch = tokenizer.scratch(text.len(), &mut Arena::new(&mut region)).unwrap();
    let ids = tokenizer.encode(&text[..n], Specials::Never, &mut scratch, &mut []);
    assert!(matches!(ids, Ok(_) | Err(TokenizeError::OutputFull { .. })), "{ids:?}");
    scratch.steps() as f64 / n as f64
}

/// Checks that no long text takes more than `most` steps a byte, nor more a byte than a short one.
pub fn check_linear(tokenizer: &Tokenizer<'_, '_>, most: f64) {
    for text in long_texts() {
        let (short, long) =
            (steps_per_byte(tokenizer, &text, 1 << 12), steps_per_byte(tokenizer, &text, 1 << 20));
        assert!(long <= short * 1.1 + 0.1 && long <= most, "{:?}: {short} {long}", &text[..8]);
    }
}
