//! The index of a vocabulary ready in the file: the same tokens with it as without, no memory, and no harm from wrong ones.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/vocab.rs"]
mod vocab;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::error::{ModelError, VocabFault};
use corelm::gguf::Image;
use corelm::gguf::writer::Writer;
use corelm::ops::GgmlType;
use corelm::tokenizer::{INDEX_TENSOR, Pre, Specials, TokenKind, Tokenizer};
use fixtures::{cases, shared};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use vocab::{BYTE, CONTROL, File, NORMAL, Random, decode, try_encode, with_tokenizer};

/// A file that begins at a multiple of 64 bytes in memory, and `by` bytes behind one.
struct Placed {
    memory: Vec<u8>,
    begin: usize,
    len: usize,
}

impl Placed {
    fn new(file: &[u8], by: usize) -> Self {
        let mut memory = vec![0; file.len() + 128];
        let begin = memory.as_ptr().align_offset(64) + by;
        memory[begin..begin + file.len()].copy_from_slice(file);
        Self { memory, begin, len: file.len() }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + self.len]
    }
}

/// The index of a file; empty where it can have none.
fn index(file: &[u8]) -> Vec<u8> {
    let image = Image::parse(file).unwrap();
    let mut region = vec![MaybeUninit::uninit(); Tokenizer::layout(&image, Layout::new()).unwrap().bytes()];
    let tokenizer = Tokenizer::new(&image, &mut Arena::new(&mut region)).unwrap();
    let mut index = Vec::new();
    let n_bytes = tokenizer.write_index(&image, |bytes| {
        index.extend_from_slice(bytes);
        Ok(())
    });
    assert_eq!(n_bytes, Ok(index.len() as u64));
    assert_eq!(index.len() % 32, 0);
    index
}

/// A file of the keys of another, and an index.
fn with_index(file: &[u8], index: &[u8]) -> Vec<u8> {
    let image = Image::parse(file).unwrap();
    let mut packed = vec![0; file.len() + index.len() + 4096];
    let room = packed.len();
    let mut writer = Writer::new(&mut packed[..], image.metadata().count() as u64, 1).unwrap();
    image.metadata().for_each(|(key, value)| writer.value(key, value).unwrap());
    writer.tensor(INDEX_TENSOR, &[(index.len() / 4) as u64], GgmlType::F32).unwrap();
    writer.data(index).unwrap();
    writer.end_tensor().unwrap();
    let n_left = writer.finish().unwrap().len();
    packed.truncate(room - n_left);
    packed
}

/// Bytes that the tokenizer of a file asks for, with padding.
fn n_asked(file: &[u8]) -> usize {
    Tokenizer::layout(&Image::parse(file).unwrap(), Layout::new()).unwrap().used()
}

/// Where the index lies in a file that has one.
fn place(file: &[u8]) -> usize {
    let image = Image::parse(file).unwrap();
    image.tensor(INDEX_TENSOR).unwrap().bytes.as_ptr().addr() - file.as_ptr().addr()
}

/// A small byte-level vocabulary: all bytes, some merges and two tokens that are none of text.
fn small_ranks() -> Vec<u8> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for byte in 0..=255u8 {
        let is_plain = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let n_shifted = (0..byte).filter(|b| !matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)).count();
        let code = if is_plain { u32::from(byte) } else { 256 + n_shifted as u32 };
        texts.push(char::from_u32(code).unwrap().to_string().into_bytes());
    }
    let merges = ["t h", "th e", "Ġ the", "i n", "Ġ in", "in g", "< |"];
    texts.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1).into_bytes()));
    texts.extend([b"<|im_end|>".to_vec(), b"<|user|>".to_vec()]);
    let kind = |text: &[u8]| if text == b"<|user|>" { CONTROL } else { NORMAL };
    let tokens: Vec<_> = texts.iter().map(|text| (&text[..], kind(text), 0.0)).collect();
    let mut file = File::new("gpt2", &tokens);
    file.string("tokenizer.ggml.pre", b"gpt-2");
    let list: Vec<u8> =
        merges.iter().flat_map(|m| [&(m.len() as u64).to_le_bytes(), m.as_bytes()].concat()).collect();
    file.array("tokenizer.ggml.merges", 8, merges.len(), list);
    file.bytes()
}

/// A small SentencePiece vocabulary with all bytes.
fn small_scores() -> Vec<u8> {
    let names: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    let mut tokens: Vec<(&[u8], i32, f32)> = vec![(b"<unk>", 2, 0.0), (b"<s>", CONTROL, 0.0)];
    tokens.extend(names.iter().map(|name| (name.as_bytes(), BYTE, 0.0)));
    let pieces = ["▁t", "he", "▁the", "in", "ing", "▁", "t", "h", "e", "i", "n", "g", "<", "s", ">", "</s>"];
    tokens.extend(pieces.iter().zip(1u8..).map(|(piece, i)| (piece.as_bytes(), NORMAL, -f32::from(i))));
    File::new("llama", &tokens).bytes()
}

/// The vocabularies of the fixtures that can have an index.
fn fixtures() -> Vec<PathBuf> {
    let Some(shared) = shared() else { return Vec::new() };
    let paths = std::fs::read_dir(shared.join("tokenizers")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "gguf")).collect();
    paths.sort();
    paths
}

fn texts() -> Vec<Vec<u8>> {
    let mut texts = vec![
        b"the thing in the <|im_end|><|user|></s><s> string".to_vec(),
        "  Hello, World! 12345 ½ é 字\u{301}\n\n\tthe the".as_bytes().to_vec(),
        b"\xff\xfe the \xc0\xae\x00".to_vec(),
    ];
    texts.push((0..=255).collect());
    texts.push(b"inthething".repeat(20));
    texts
}

#[test]
fn a_ready_index_gives_the_same_tokens_and_needs_no_memory() {
    let mut files = vec![("ranks".to_string(), small_ranks(), Vec::new())];
    files.push(("scores".to_string(), small_scores(), Vec::new()));
    for path in fixtures() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let texts = if path.with_extension("gguf.inp").is_file() { cases(&path) } else { Vec::new() };
        files.push((name, std::fs::read(&path).unwrap(), texts));
    }
    let mut n_indexed = 0;
    for (name, file, cases) in files {
        let index = index(&file);
        let model = Image::parse(&file).unwrap().bytes("tokenizer.ggml.model").unwrap().unwrap();
        assert_eq!(index.is_empty(), !matches!(model, b"gpt2" | b"llama"), "{name}");
        if index.is_empty() {
            continue;
        }
        n_indexed += 1;
        let packed = Placed::new(&with_index(&file, &index), 0);
        assert!(n_asked(&file) > 0 && n_asked(packed.bytes()) == 0, "{name}");
        assert_eq!(self::index(packed.bytes()), index, "{name}: an index found is written as it is");
        with_tokenizer(&file, |built| {
            with_tokenizer(packed.bytes(), |found| {
                for (text, want) in &cases {
                    assert_eq!(&try_encode(found, text, Specials::Never).unwrap(), want, "{name}");
                }
                for text in texts().iter().chain(cases.iter().map(|case| &case.0)) {
                    for specials in [Specials::Never, Specials::All] {
                        let ids = try_encode(built, text, specials);
                        assert_eq!(try_encode(found, text, specials), ids, "{name}");
                        assert!(
                            ids.is_err()
                                || decode(found, &ids.clone().unwrap()) == decode(built, &ids.unwrap())
                        );
                    }
                }
                assert_eq!(
                    (found.bos(), found.eos(), found.add_bos()),
                    (built.bos(), built.eos(), built.add_bos())
                );
                let n = built.vocab_size() as Token;
                assert_eq!(found.vocab_size(), built.vocab_size());
                let step = if n > 1000 { 37 } else { 1 };
                for token in (0..n).step_by(step) {
                    assert_eq!(found.kind(token), built.kind(token), "{name} {token}");
                    assert_eq!(found.is_eog(token), built.is_eog(token), "{name} {token}");
                }
            })
        })
        .unwrap()
        .unwrap();
    }
    assert!(n_indexed >= 2 && (n_indexed > 20 || shared().is_none()), "{n_indexed}");
}

#[test]
fn what_cannot_be_used_is_built_and_what_is_damaged_is_an_error() {
    for file in [small_ranks(), small_scores()] {
        let index = index(&file);
        let packed = with_index(&file, &index);
        let ids = |file: &[u8]| {
            with_tokenizer(file, |t| {
                texts().iter().map(|text| try_encode(t, text, Specials::All)).collect::<Vec<_>>()
            })
        };
        let want = ids(&file).unwrap();
        // At another address, and of another version.
        for by in 1..8 {
            let moved = Placed::new(&packed, by);
            assert_eq!(n_asked(moved.bytes()), n_asked(&file), "{by}");
            assert_eq!(ids(moved.bytes()).as_ref(), Ok(&want), "{by}");
        }
        let mut placed = Placed::new(&packed, 0);
        let at = place(placed.bytes());
        placed.bytes_mut()[at + 8] ^= 2;
        assert_eq!(n_asked(placed.bytes()), n_asked(&file));
        assert_eq!(ids(placed.bytes()).as_ref(), Ok(&want));
        placed.bytes_mut()[at + 8] ^= 2;
        // Every byte of it.
        for i in (0..8).chain(16..index.len()) {
            placed.bytes_mut()[at + i] ^= 1 << (i % 8);
            assert!(is_index_error(ids(placed.bytes())), "byte {i}");
            placed.bytes_mut()[at + i] ^= 1 << (i % 8);
        }
        assert_eq!(ids(placed.bytes()).as_ref(), Ok(&want));
        // More lines, fewer, parts of them, none.
        for len in (0..index.len()).step_by(if cfg!(miri) { 20_004 } else { 4 }).skip(1) {
            let cut = Placed::new(&with_index(&file, &index[..len]), 0);
            assert!(is_index_error(ids(cut.bytes())), "{len} bytes");
        }
        let longer = Placed::new(&with_index(&file, &[&index[..], &[0; 32]].concat()), 0);
        assert!(is_index_error(ids(longer.bytes())));
        let longer = with_right_hash(&file, &[&index[..], &[0; 32]].concat());
        assert!(is_index_error(ids(longer.bytes())), "lines that no table has");
    }
    // Of another vocabulary: a word of a merge, a token, a type.
    let (ranks, scores) = (small_ranks(), small_scores());
    assert!(is_index_error(with_tokenizer(
        Placed::new(&with_index(&ranks, &index(&scores)), 0).bytes(),
        |_| ()
    )));
    let index = index(&ranks);
    for (old, new) in [(&b"<|user|>"[..], &b"<|uses|>"[..]), (b"in g", b"in h"), (b"gpt-2", b"qwen2")] {
        let mut changed = ranks.clone();
        let at = changed.windows(old.len()).rposition(|window| window == old).unwrap();
        changed[at..at + new.len()].copy_from_slice(new);
        assert!(is_index_error(with_tokenizer(
            Placed::new(&with_index(&changed, &index), 0).bytes(),
            |_| ()
        )));
    }
}

fn is_index_error<T>(result: Result<T, ModelError>) -> bool {
    matches!(result, Err(ModelError::BadVocab { fault: VocabFault::Index, .. }))
}

/// The hash of all lines but the first, as the format has it.
fn hash_of_lines(lines: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut lanes = [0u64; 4];
    for (i, word) in lines.chunks(8).enumerate() {
        let word = u64::from_le_bytes(word.try_into().unwrap());
        lanes[i % 4] = (lanes[i % 4].rotate_left(29) ^ word).wrapping_mul(ODD);
    }
    lanes.iter().fold(1, |all: u64, &lane| (all.rotate_left(29) ^ lane ^ lane >> 32).wrapping_mul(ODD))
}

/// The file with an index that says what its lines hash to.
fn with_right_hash(file: &[u8], index: &[u8]) -> Placed {
    let mut index = index.to_vec();
    let hash = hash_of_lines(&index[32..]);
    index[24..32].copy_from_slice(&hash.to_le_bytes());
    Placed::new(&with_index(file, &index), 0)
}

/// Texts that must become tokens of the vocabulary and no control tokens, whatever the tables say.
fn check_harmless(file: &[u8], texts: &[Vec<u8>]) -> bool {
    let checked = with_tokenizer(file, |tokenizer| {
        for text in texts {
            let Ok(ids) = try_encode(tokenizer, text, Specials::Never) else { continue };
            for &id in &ids {
                let kind = tokenizer.kind(id).expect("a token");
                assert!(kind != TokenKind::Control, "token {id} out of text");
            }
            decode(tokenizer, &ids);
            // A text that may name control tokens is no trouble either.
            let ids = try_encode(tokenizer, text, Specials::All).unwrap_or_default();
            assert!(ids.iter().all(|&id| tokenizer.kind(id).is_some()));
        }
    });
    match checked {
        Ok(()) => true,
        Err(error) => {
            assert!(is_index_error(Err::<(), _>(error)), "{error}");
            false
        }
    }
}

#[test]
fn wrong_tables_on_purpose_do_no_harm() {
    let texts = texts();
    let mut random = Random(7);
    let mut counts = [0; 2];
    for file in [small_ranks(), small_scores()] {
        let index = index(&file);
        assert!(check_harmless(with_right_hash(&file, &index).bytes(), &texts));
        let n = if cfg!(miri) { 20 } else { 4000 };
        let image = Image::parse(&file).unwrap();
        let n_tokens =
            image.array("tokenizer.ggml.tokens", corelm::gguf::ValueType::String).unwrap().unwrap().len();
        for _ in 0..n {
            let mut wrong = index.clone();
            for _ in 0..=random.below(3) {
                let at = 32 + random.below(index.len() / 4 - 8) * 4;
                // A number of a token, of none, of something else in the index; bits.
                let number = match random.below(5) {
                    0 => random.below(n_tokens + 2) as u32,
                    1 => u32::MAX - random.below(2) as u32,
                    2 => 1 << random.below(32),
                    3 => u32::from_le_bytes(
                        index[32 + (at * 7 / 4) % (index.len() / 4 - 8) * 4..][..4].try_into().unwrap(),
                    ),
                    _ => random.below(1 << 32) as u32,
                };
                wrong[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            counts[usize::from(check_harmless(with_right_hash(&file, &wrong).bytes(), &texts))] += 1;
        }
        // All slots taken by the same: searches end.
        for word in [[0u8; 8], [1; 8], [0xFF; 8], (1u64 << 40 | 1).to_le_bytes()] {
            let filled: Vec<u8> = [&index[..32], &word.repeat(index.len() / 8 - 4)].concat();
            check_harmless(with_right_hash(&file, &filled).bytes(), &texts);
        }
    }
    println!("{counts:?}");
    assert!(cfg!(miri) || counts.iter().all(|&n| n > 400), "{counts:?}");
}

/// Every number of an index in turn that of a control token: it never comes out of text.
#[test]
#[cfg_attr(miri, ignore = "slow")]
fn no_table_makes_text_a_control_token() {
    for file in [small_ranks(), small_scores()] {
        let index = index(&file);
        let image = Image::parse(&file).unwrap();
        let mut region =
            vec![MaybeUninit::uninit(); Tokenizer::layout(&image, Layout::new()).unwrap().bytes()];
        let tokenizer = Tokenizer::new(&image, &mut Arena::new(&mut region)).unwrap();
        let n = tokenizer.vocab_size() as Token;
        let control = (0..n).find(|&t| tokenizer.kind(t) == Some(TokenKind::Control)).unwrap();
        let mut n_taken = 0;
        for at in (32..index.len()).step_by(4) {
            for number in [control, control + 1, u32::MAX] {
                let mut wrong = index.clone();
                wrong[at..at + 4].copy_from_slice(&number.to_le_bytes());
                n_taken += usize::from(check_harmless(with_right_hash(&file, &wrong).bytes(), &texts()[..1]));
            }
        }
        assert!(n_taken > 0);
    }
}

#[test]
fn another_pre_tokenizer_takes_no_words_that_it_would_not_make() {
    let file = small_ranks();
    let packed = Placed::new(&with_index(&file, &index(&file)), 0);
    for name in ["llama-bpe", "gpt-2", "qwen2", "tekken"] {
        let ids = |file: &[u8]| {
            let image = Image::parse(file).unwrap();
            let mut region =
                vec![MaybeUninit::uninit(); Tokenizer::layout(&image, Layout::new()).unwrap().bytes()];
            let pre = Pre::by_name(name.as_bytes());
            let tokenizer = Tokenizer::with_pre(&image, pre, &mut Arena::new(&mut region)).unwrap();
            texts().iter().map(|text| try_encode(&tokenizer, text, Specials::Never)).collect::<Vec<_>>()
        };
        assert_eq!(ids(&file), ids(packed.bytes()), "{name}");
    }
}

/// Bits of a large index, as they come from memory that is failing.
#[test]
#[cfg_attr(miri, ignore = "reads a fixture")]
fn damage_of_a_large_index_is_found() {
    let Some(shared) = shared() else { return };
    let path: &Path = &shared.join("tokenizers/ggml-vocab-gpt-2.gguf");
    let file = std::fs::read(path).unwrap();
    let index = index(&file);
    let mut placed = Placed::new(&with_index(&file, &index), 0);
    let (at, mut random) = (place(placed.bytes()), Random(3));
    for _ in 0..100 {
        let (i, bit) = (32 + random.below(index.len() - 32), 1 << random.below(8));
        placed.bytes_mut()[at + i] ^= bit;
        assert!(is_index_error(with_tokenizer(placed.bytes(), |_| ())), "byte {i}");
        placed.bytes_mut()[at + i] ^= bit;
    }
    assert!(with_tokenizer(placed.bytes(), |_| ()).is_ok());
}
