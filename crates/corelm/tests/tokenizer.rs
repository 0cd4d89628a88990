//! Tokenizers against the reference: the fixtures of `../shared/tokenizers`, golden prompts and hostile ones.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/vocab.rs"]
mod vocab;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::error::{ErrorClass, ModelError, TokenizeError};
use corelm::gguf::Image;
use corelm::tokenizer::{Controls, Specials, TokenKind, Tokenizer};
use fixtures::{cases, shared};
use serde_json::Value as Json;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use vocab::{decode, try_encode};

/// Runs `body` with the tokenizer of a file.
fn with_tokenizer<T>(path: &Path, body: impl FnOnce(&Tokenizer<'_, '_>) -> T) -> Result<T, ModelError> {
    let file = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    vocab::with_tokenizer(&file, body)
}

#[test]
fn fixtures_are_exact() {
    let Some(shared) = shared() else { return };
    for name in [
        "ggml-vocab-deepseek-coder",
        "ggml-vocab-gpt-2",
        "ggml-vocab-llama-bpe",
        "ggml-vocab-llama-spm",
        "ggml-vocab-phi-3",
        "ggml-vocab-qwen2",
        "ggml-vocab-starcoder",
        "probe-command-r",
        "probe-deepseek-coder",
        "probe-deepseek-llm",
        "probe-deepseek-v3",
        "probe-default",
        "probe-falcon",
        "probe-gpt-2",
        "probe-gpt-4o",
        "probe-llama-bpe",
        "probe-mpt",
        "probe-phi-2",
        "probe-qwen2",
        "probe-qwen35",
        "probe-refact",
        "probe-smollm",
        "probe-starcoder",
        "probe-tekken",
    ] {
        let path = shared.join("tokenizers").join(name).with_extension("gguf");
        let n_wrong = with_tokenizer(&path, |tokenizer| {
            let mut n_wrong = 0;
            for (text, want) in cases(&path) {
                let ids = try_encode(tokenizer, &text, Specials::Never).unwrap();
                if ids != want {
                    println!(
                        "{name}: {:?}\n  is     {ids:?}\n  should {want:?}",
                        String::from_utf8_lossy(&text)
                    );
                    n_wrong += 1;
                }
                assert_eq!(decode(tokenizer, &ids), text, "{name}");
            }
            n_wrong
        });
        assert_eq!(n_wrong.unwrap(), 0, "{name}");
    }
}

/// A file of the tokenizer fixtures.
fn fixture(name: &str) -> Option<PathBuf> {
    Some(shared()?.join("tokenizers").join(name).with_extension("gguf"))
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(list: &Json) -> Vec<Token> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap().try_into().unwrap()).collect()
}

/// As the reference does with BOS and EOS where the model wants them.
fn encode_added(tokenizer: &Tokenizer<'_, '_>, text: &[u8], specials: Specials<'_>) -> Vec<Token> {
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let eos = tokenizer.eos().filter(|_| tokenizer.add_eos());
    let ids = try_encode(tokenizer, text, specials).unwrap();
    bos.into_iter().chain(ids).chain(eos).collect()
}

#[test]
fn special_tokens_are_exact() {
    let Some(shared) = shared() else { return };
    let lines = std::fs::read_to_string(shared.join("tokenizers/specials.jsonl")).unwrap();
    let mut n_checked = 0;
    for name in ["gpt-2", "llama-bpe", "qwen2", "llama-spm", "phi-3"] {
        let path = shared.join(format!("tokenizers/ggml-vocab-{name}.gguf"));
        with_tokenizer(&path, |tokenizer| {
            for case in lines.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()) {
                if case["vocab"] != name {
                    continue;
                }
                let hex = case["text_hex"].as_str().unwrap();
                let text: Vec<u8> = (0..hex.len())
                    .step_by(2)
                    .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
                    .collect();
                let specials = if case["parse_special"] == true { Specials::All } else { Specials::Never };
                let ids = match case["add_special"] == true {
                    true => encode_added(tokenizer, &text, specials),
                    false => try_encode(tokenizer, &text, specials).unwrap(),
                };
                assert_eq!(ids, self::ids(&case["ids"]), "{case}");
                n_checked += 1;
            }
        })
        .unwrap();
    }
    assert!(n_checked > 100, "{n_checked}");
}

#[test]
fn golden_prompts_are_exact() {
    let Some(shared) = shared() else { return };
    for entry in std::fs::read_dir(shared.join("models/golden")).unwrap() {
        let golden = json(&entry.unwrap().path());
        let path = shared.join("models").join(golden["model"].as_str().unwrap());
        with_tokenizer(&path, |tokenizer| {
            for case in golden["cases"].as_array().unwrap() {
                let prompt = case["prompt"].as_str().unwrap().as_bytes();
                assert_eq!(encode_added(tokenizer, prompt, Specials::All), ids(&case["prompt_ids"]));
                assert_eq!(tokenizer.eos().map(|eos| tokenizer.is_eog(eos)), Some(true));
            }
        })
        .unwrap();
    }
}

#[test]
fn hostile_prompts_are_exact_and_come_back() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("bad-gguf");
    let expected = json(&folder.join("prompts/expected.json"));
    with_tokenizer(&folder.join("valid-tiny.gguf"), |tokenizer| {
        for (name, case) in expected["prompts"].as_object().unwrap() {
            let text = std::fs::read(folder.join("prompts").join(name).with_extension("bin")).unwrap();
            for (key, specials) in [("plain", Specials::Never), ("special", Specials::All)] {
                let tokens = try_encode(tokenizer, &text, specials).unwrap();
                assert_eq!(decode(tokenizer, &tokens), text, "{name}");
                if case["lossy_in_llama_cpp"] == true {
                    continue;
                }
                assert_eq!(tokens.len() as u64, case[format!("count_{key}")].as_u64().unwrap(), "{name}");
                if let Some(want) = case.get(key) {
                    assert_eq!(tokens, ids(want), "{name}");
                }
            }
        }
    })
    .unwrap();
}

#[test]
fn unknown_pre_tokenizers_are_named() {
    let Some(shared) = shared() else { return };
    let mut file = std::fs::read(shared.join("tokenizers/probe-tekken.gguf")).unwrap();
    let find =
        |text: &[u8], from| from + file[from..].windows(text.len()).position(|part| part == text).unwrap();
    let at = find(b"tekken", find(b"tokenizer.ggml.pre", 0));
    file[at..at + 6].copy_from_slice(b"tikken");
    let image = Image::parse(&file).unwrap();
    let error = Tokenizer::layout(&image, Layout::new()).and_then(|layout| {
        let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
        Tokenizer::new(&image, &mut Arena::new(&mut region)).map(|_| ())
    });
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "metadata key tokenizer.ggml.pre: \"tikken\" is not supported");
    assert_eq!(error.class(), ErrorClass::Vocab);
}

#[test]
fn bad_vocabularies_are_refused_or_safe() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("bad-gguf");
    for case in json(&folder.join("manifest.json")).as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        if !id.starts_with("voc-") {
            continue;
        }
        let answer = with_tokenizer(&folder.join(format!("cases/{id}.gguf")), |tokenizer| {
            for text in ["the cat and the world", "<|bos|> \u{e9}\0", ""] {
                for specials in [Specials::Never, Specials::All] {
                    match try_encode(tokenizer, text.as_bytes(), specials) {
                        Ok(ids) => assert_eq!(decode(tokenizer, &ids), text.as_bytes(), "{id}"),
                        Err(error) => {
                            assert!(matches!(error, TokenizeError::NoToken { .. }), "{id}: {error}")
                        }
                    }
                }
            }
        });
        match (case["expect"].as_str().unwrap(), answer) {
            // The number of tokens is for the one to compare who has the weights.
            ("reject", Ok(())) => assert!(id.starts_with("voc-tokens-"), "{id} was accepted"),
            ("accept", Err(error)) => panic!("{id}: {error}"),
            (_, Err(error)) => assert_eq!(error.class(), ErrorClass::Vocab, "{id}: {error}"),
            _ => {}
        }
    }
}

/// Whatever bit of a model's metadata flips: an error, or a tokenizer whose tokens are in the vocabulary.
#[test]
fn every_flipped_bit_is_refused_or_safe() {
    let Some(shared) = shared() else { return };
    let mut file = std::fs::read(shared.join("bad-gguf/valid-mini.gguf")).unwrap();
    let metadata_bytes = 6237;
    let mut region = vec![MaybeUninit::uninit(); 1 << 16];
    let mut n_loaded = 0;
    for bit in 0..metadata_bytes * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        if let Ok(image) = Image::parse(&file) {
            let mut arena = Arena::new(&mut region);
            if let Ok(tokenizer) = Tokenizer::new(&image, &mut arena) {
                n_loaded += 1;
                let mut scratch = tokenizer.scratch(64, &mut arena).unwrap();
                let mut ids = [0; 64];
                if let Ok(n) =
                    tokenizer.encode(b"Hello the<|bos|>\xff world", Specials::All, &mut scratch, &mut ids)
                {
                    assert!(ids[..n].iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "bit {bit}");
                    let mut text = [0; 128];
                    assert!(tokenizer.decode(&ids[..n], Controls::Show, &mut text).is_ok(), "bit {bit}");
                }
            }
        }
        file[bit / 8] ^= 1 << (bit % 8);
    }
    assert!((1000..metadata_bytes * 8 - 1000).contains(&n_loaded), "{n_loaded}");
}

/// A generator of pseudo-random numbers (SplitMix64), so that every run sees the same texts.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ x >> 31) as usize % n
    }

    /// Bytes, characters, words, spaces and look-alikes of special tokens, in any order.
    fn text(&mut self) -> Vec<u8> {
        const PARTS: [&str; 22] = [
            " ",
            "  ",
            "\n",
            "\r\n",
            "\t",
            "'s",
            "'LL",
            "the",
            "world",
            "123",
            "½",
            "é",
            "e\u{301}",
            "字",
            "👩\u{200d}🚀",
            "\u{a0}",
            "<|endoftext|>",
            "<|eot_id|>",
            "</s>",
            "<0x41>",
            "<unk>",
            "<s> x",
        ];
        let mut text = Vec::new();
        for _ in 0..self.below(12) {
            match self.below(4) {
                0 => text.push(self.below(256) as u8),
                1 => text.push(b' ' + self.below(95) as u8),
                _ => text.extend_from_slice(PARTS[self.below(PARTS.len())].as_bytes()),
            }
        }
        text
    }
}

#[test]
fn any_bytes_come_back_and_text_makes_no_control_token() {
    for name in ["ggml-vocab-gpt-2", "ggml-vocab-llama-bpe", "ggml-vocab-qwen2", "ggml-vocab-llama-spm"] {
        let Some(path) = fixture(name) else { return };
        with_tokenizer(&path, |tokenizer| {
            let mut region = vec![MaybeUninit::uninit(); 1 << 16];
            let mut arena = Arena::new(&mut region);
            let mut scratch = tokenizer.scratch(256, &mut arena).unwrap();
            let mut random = Random(1);
            let mut check = |text: &[u8]| {
                let mut ids = [0; 300];
                let n = tokenizer.encode(text, Specials::Never, &mut scratch, &mut ids).unwrap();
                for &id in &ids[..n] {
                    assert!(
                        !matches!(tokenizer.kind(id), None | Some(TokenKind::Control)),
                        "{id} of {text:x?}"
                    );
                }
                let mut back = [0; 300];
                let len = tokenizer.decode(&ids[..n], Controls::Show, &mut back).unwrap();
                assert_eq!(&back[..len], text);
                let n = tokenizer.encode(text, Specials::All, &mut scratch, &mut ids).unwrap();
                let len = tokenizer.decode(&ids[..n], Controls::Show, &mut back).unwrap();
                assert_eq!(&back[..len], text);
            };
            (0..=255).for_each(|a| check(&[a]));
            (0..=u16::MAX).for_each(|ab| check(&ab.to_be_bytes()));
            (0..20_000).for_each(|_| check(&random.text()));
        })
        .unwrap();
    }
}

#[test]
fn memory_that_is_too_small_is_an_error() {
    let Some(path) = fixture("ggml-vocab-llama-spm") else { return };
    let file = std::fs::read(path).unwrap();
    let image = Image::parse(&file).unwrap();
    let need = Tokenizer::layout(&image, Layout::new()).unwrap().bytes();
    let mut region = vec![MaybeUninit::uninit(); need];
    for len in [0, 63, 64, 100_000, need / 2, need - 64] {
        let error = Tokenizer::new(&image, &mut Arena::new(&mut region[..len])).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Memory);
    }
    let tokenizer = Tokenizer::new(&image, &mut Arena::new(&mut region)).unwrap();
    let mut region = [MaybeUninit::uninit(); 4096];
    let mut scratch = tokenizer.scratch(11, &mut Arena::new(&mut region)).unwrap();
    let mut encode =
        |text: &[u8], out: &mut [Token]| tokenizer.encode(text, Specials::Never, &mut scratch, out);
    assert_eq!(encode(b"Hello world!", &mut []), Err(TokenizeError::ScratchFull { need: 12, have: 11 }));
    assert_eq!(encode(b"Hello world", &mut []), Err(TokenizeError::OutputFull { need: 2, have: 0 }));
    let mut one = [0];
    assert_eq!(encode(b"Hello world", &mut one), Err(TokenizeError::OutputFull { need: 2, have: 1 }));
    assert_eq!(one, [15043]);
    assert_eq!(encode(b"Hello", &mut one), Ok(1));
    assert_eq!(
        tokenizer.decode(&[15043, 32000], Controls::Show, &mut []),
        Err(TokenizeError::BadToken { token: 32000 })
    );
}

/// Steps of merging grow as n log n on what makes other tokenizers quadratic.
#[test]
fn no_text_is_quadratic() {
    for name in ["ggml-vocab-gpt-2", "ggml-vocab-llama-bpe", "ggml-vocab-qwen2", "ggml-vocab-llama-spm"] {
        let Some(path) = fixture(name) else { return };
        with_tokenizer(&path, |tokenizer| {
            let mut random = Random(2);
            let letters: Vec<u8> = (0..1 << 18).map(|_| b'a' + random.below(26) as u8).collect();
            for text in
                [vec![b'a'; 1 << 18], vec![b' '; 1 << 18], letters, "字\n".repeat(1 << 16).into_bytes()]
            {
                let layout = tokenizer.scratch_layout(text.len(), Layout::new()).unwrap();
                let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
                let mut arena = Arena::new(&mut region);
                let mut scratch = tokenizer.scratch(text.len(), &mut arena).unwrap();
                let mut steps_per_byte = |n: usize| {
                    let before = scratch.steps();
                    let ids = tokenizer.encode(&text[..n], Specials::Never, &mut scratch, &mut []);
                    assert!(matches!(ids, Err(TokenizeError::OutputFull { .. })));
                    (scratch.steps() - before) as f64 / n as f64
                };
                let (short, long) = (steps_per_byte(1 << 12), steps_per_byte(1 << 18));
                // log2 grows from 12 to 18.
                assert!(long <= short * 1.6 + 1.0, "{name} {:?}: {short} {long}", &text[..8]);
                assert!(long <= 80.0, "{name} {:?}: {long}", &text[..8]);
            }
        })
        .unwrap();
    }
}

#[test]
fn generation_ends_where_it_does_in_llama_cpp() {
    let Some(shared) = fixtures::shared() else { return };
    for (name, ends) in [
        ("ggml-vocab-bert-bge", &[0][..]),
        ("ggml-vocab-deepseek-coder", &[32014]),
        ("ggml-vocab-gpt-2", &[50256]),
        ("ggml-vocab-llama-bpe", &[128001, 128009]),
        ("ggml-vocab-llama-spm", &[2]),
        ("ggml-vocab-phi-3", &[2, 32000, 32007]),
        ("ggml-vocab-qwen2", &[128247, 151643, 151645]),
        ("ggml-vocab-starcoder", &[0, 4]),
        ("probe-tekken", &[3001, 3003]),
    ] {
        let path = shared.join("tokenizers").join(name).with_extension("gguf");
        let found: Vec<Token> = with_tokenizer(&path, |tokenizer| {
            let tokens = 0..tokenizer.vocab_size() as Token;
            tokens.filter(|&token| tokenizer.is_eog(token)).collect()
        })
        .unwrap();
        assert_eq!(found, ends, "{name}");
    }
}
