//! The rules of the container and of the numbers in it, each broken on its own in a file written byte by byte, and each
//! answered with its own error. `docs/GGUF-CHECKS.md` names these tests.

use corelm::arena::{Arena, Layout};
use corelm::config::Config;
use corelm::error::{ModelError, VocabFault};
use corelm::gguf::{Image, limits};
use corelm::tokenizer::Tokenizer;
use std::mem::MaybeUninit;

/// A file: its counts may be others than those of the keys and infos that follow.
#[derive(Clone)]
struct File {
    version: u32,
    n_keys: u64,
    n_infos: u64,
    keys: Vec<u8>,
    infos: Vec<u8>,
    data: usize,
}

impl File {
    fn new() -> Self {
        Self { version: 3, n_keys: 0, n_infos: 0, keys: Vec::new(), infos: Vec::new(), data: 0 }
    }

    /// Adds a key and a value of the type with this id.
    fn key(mut self, key: impl AsRef<[u8]>, ty: u32, value: &[u8]) -> Self {
        self.n_keys += 1;
        self.keys.extend(string(key.as_ref()));
        self.keys.extend(ty.to_le_bytes());
        self.keys.extend(value);
        self
    }

    fn u32(self, key: &str, value: u32) -> Self {
        self.key(key, 4, &value.to_le_bytes())
    }

    /// Adds the info of a tensor.
    fn info(mut self, name: impl AsRef<[u8]>, dims: &[u64], ty: u32, offset: u64) -> Self {
        self.n_infos += 1;
        self.infos.extend(string(name.as_ref()));
        self.infos.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| self.infos.extend(dim.to_le_bytes()));
        self.infos.extend(ty.to_le_bytes());
        self.infos.extend(offset.to_le_bytes());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.n_infos.to_le_bytes());
        bytes.extend(self.n_keys.to_le_bytes());
        bytes.extend(&self.keys);
        bytes.extend(&self.infos);
        if self.data > 0 {
            bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0);
        }
        bytes
    }

    fn answer(&self) -> Result<(), ModelError> {
        Image::parse(&self.bytes()).map(|_| ())
    }

    /// Why there is no shape.
    fn shape_error(&self) -> ModelError {
        Config::from_image(&Image::parse(&self.bytes()).unwrap()).unwrap_err()
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

/// An array's type and count, then its elements.
fn array(element: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

fn limit(limit: limits::Limit, value: u64) -> Result<(), ModelError> {
    Err(ModelError::Limit { what: limit.what, value, max: limit.max })
}

/// Where the first key begins, and how long `k` is.
const HEADER: u64 = 24;
const KEY: u64 = 8 + 1;

#[test]
fn the_header_is_checked_first() {
    let good = File::new().bytes();
    assert!(Image::parse(&good).is_ok());
    for len in 0..24 {
        let error = Image::parse(&good[..len]).unwrap_err();
        assert_eq!(error, ModelError::Truncated { offset: 0, need: 24, have: len as u64 });
    }
    for magic in [*b"gguf", *b"GGUE", *b"\0\0\0\0", *b"FUGG"] {
        let mut bad = good.clone();
        bad[..4].copy_from_slice(&magic);
        let found = u32::from_le_bytes(magic);
        assert_eq!(Image::parse(&bad).unwrap_err(), ModelError::BadMagic { found });
    }
    for version in [0, 1, 4, u32::MAX, 4 << 24] {
        let error = ModelError::UnsupportedVersion { version };
        assert_eq!(File { version, ..File::new() }.answer(), Err(error));
    }
    for version in [2, 3] {
        assert_eq!(File { version, ..File::new() }.answer(), Ok(()));
        let version = u32::swap_bytes(version);
        assert_eq!(File { version, ..File::new() }.answer(), Err(ModelError::BigEndian));
    }
}

/// A limit that does not fit in 32 bits lets nothing through that would be cut to them.
#[test]
fn numbers_of_32_bits_are_not_cut() {
    let wide = limits::Limit { what: "width", max: u64::MAX };
    assert_eq!((wide.check(1 << 32), wide.check_u32(u32::MAX.into())), (Ok(1 << 32), Ok(u32::MAX)));
    let error = ModelError::Limit { what: "width", value: 1 << 32, max: u64::MAX };
    assert_eq!(wide.check_u32(1 << 32), Err(error));
    let narrow = limits::Limit { what: "width", max: 7 };
    assert_eq!((narrow.check(7), narrow.check_u32(7)), (Ok(7), Ok(7)));
    assert_eq!((narrow.check(8).is_err(), narrow.check_u32(8).is_err()), (true, true));
}

#[test]
fn counts_are_limited_and_what_they_count_must_fit() {
    let truncated = |need| Err(ModelError::Truncated { offset: HEADER, need, have: 0 });
    let n_keys = |n_keys| File { n_keys, ..File::new() }.answer();
    let n_infos = |n_infos| File { n_infos, ..File::new() }.answer();
    for n in [1025, 1 << 32, 1 << 60, (1 << 58) + 1, 1 << 63, u64::MAX] {
        assert_eq!(n_keys(n), limit(limits::KEYS, n));
    }
    for n in [8193, 1 << 32, 1 << 60, 1 << 63, u64::MAX] {
        assert_eq!(n_infos(n), limit(limits::TENSORS, n));
    }
    // The least that a key or an info takes.
    assert_eq!(n_keys(1024), truncated(1024 * 13));
    assert_eq!(n_infos(8192), truncated(8192 * 32));
}

#[test]
fn keys_are_names_and_there_once() {
    let answer = |key: &[u8]| File::new().key(key, 0, &[0]).answer();
    assert_eq!(answer(b"k"), Ok(()));
    assert_eq!(answer(b""), Err(ModelError::EmptyName { offset: HEADER }));
    for key in [&b"\xff"[..], b"a\xc0\xaeb", b"\xed\xa0\x80", b"a\xe2\x82"] {
        assert_eq!(answer(key), Err(ModelError::NotUtf8 { offset: HEADER + 8 }), "{key:x?}");
    }
    assert_eq!(answer(&[b'k'; 65_535]), Ok(()));
    assert_eq!(answer(&[b'k'; 65_536]), limit(limits::KEY_BYTES, 65_536));
    let twice = File::new().key("k", 0, &[0]).key("l", 0, &[0]).key("k", 4, &[0; 4]);
    assert_eq!(twice.answer(), Err(ModelError::DuplicateKey { offset: HEADER + 2 * (KEY + 4 + 1) }));
    // A NUL ends no key.
    assert_eq!(File::new().key("k", 0, &[0]).key("k\0", 0, &[0]).answer(), Ok(()));
    for len in [6, 1 << 31, 1 << 63, u64::MAX - 31, u64::MAX] {
        let mut file = File::new().key("k", 0, &[0]);
        file.keys[..8].copy_from_slice(&len.to_le_bytes());
        let error = ModelError::Truncated { offset: HEADER + 8, need: len, have: 6 };
        assert_eq!(file.answer(), if len == 6 { Err(truncated(HEADER + 14, 4, 0)) } else { Err(error) });
    }
}

fn truncated(offset: u64, need: u64, have: u64) -> ModelError {
    ModelError::Truncated { offset, need, have }
}

#[test]
fn values_are_of_thirteen_types_and_whole() {
    let offset = HEADER + KEY;
    for id in [13, 14, 255, 1 << 31, u32::MAX] {
        let error = ModelError::BadValueType { offset, id };
        assert_eq!(File::new().key("k", id, &[0; 16]).answer(), Err(error));
    }
    for byte in 2..=255 {
        let error = ModelError::BadBool { offset: offset + 4 };
        assert_eq!(File::new().key("k", 7, &[byte]).answer(), Err(error));
    }
    for (ty, size) in
        [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)]
    {
        assert_eq!(File::new().key("k", ty, &vec![0; size]).answer(), Ok(()));
        for have in 1..size as u64 {
            let error = truncated(offset + 4, size as u64, have);
            assert_eq!(File::new().key("k", ty, &vec![0; have as usize]).answer(), Err(error));
        }
    }
    for len in [4, 1 << 32, 1 << 63, u64::MAX] {
        let value = [&len.to_le_bytes()[..], b"abc"].concat();
        let error = truncated(offset + 4 + 8, len, 3);
        assert_eq!(File::new().key("k", 8, &value).answer(), Err(error));
    }
}

#[test]
fn arrays_fit_in_the_file_and_are_not_deep() {
    let at_elements = HEADER + KEY + 4 + 12;
    let answer = |value: &[u8]| File::new().key("k", 9, value).answer();
    for id in [13, 200, u32::MAX] {
        let error = ModelError::BadValueType { offset: HEADER + KEY + 4, id };
        assert_eq!(answer(&array(id, 1, &[0; 16])), Err(error));
    }
    let least = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8u64];
    for (ty, least) in (0..).zip(least) {
        // One element more than there are bytes for, and counts whose bytes wrap around.
        for count in [48 / least + 1, 1 << 60, 1 << 61, 1 << 62, 1 << 63, u64::MAX] {
            let error = truncated(at_elements, count.saturating_mul(least), 48);
            assert_eq!(answer(&array(ty, count, &[0; 48])), Err(error), "{count} of type {ty}");
        }
        assert_eq!(answer(&array(ty, 0, &[])), Ok(()));
    }
    let error = ModelError::BadBool { offset: at_elements };
    assert_eq!(answer(&array(7, 3, &[0, 1, 2])), Err(error));
    let nested = |depth: usize| (1..depth).fold(array(0, 1, &[7]), |inner, _| array(9, 1, &inner));
    for depth in 1..=4 {
        assert_eq!(answer(&nested(depth)), Ok(()), "{depth} deep");
    }
    for depth in [5, 6, 1000, 20_000] {
        assert_eq!(answer(&nested(depth)), limit(limits::ARRAY_DEPTH, 5), "{depth} deep");
    }
}

#[test]
fn the_alignment_is_a_power_of_two_within_bounds() {
    let answer = |ty: u32, value: &[u8]| File::new().key("general.alignment", ty, value).answer();
    let bad = |value, found| Err(ModelError::BadAlignment { value, found });
    for value in [0u32, 1, 2, 3, 4, 7, 24, 33, 65_537, 1 << 17, 1 << 31, u32::MAX] {
        assert_eq!(answer(4, &value.to_le_bytes()), bad(value.into(), 4));
    }
    for value in (3..=16).map(|i| 1u32 << i) {
        assert_eq!(answer(4, &value.to_le_bytes()), Ok(()));
    }
    assert_eq!(answer(6, &32f32.to_le_bytes()), bad(0, 6));
    assert_eq!(answer(5, &32u32.to_le_bytes()), bad(32, 5));
    assert_eq!(answer(10, &(1u64 << 63).to_le_bytes()), bad(1 << 63, 10));
    assert_eq!(answer(8, &string(b"32")), bad(0, 8));
    assert_eq!(answer(9, &array(4, 1, &[32, 0, 0, 0])), bad(0, 9));
}

#[test]
fn tensor_names_are_names_and_there_once() {
    let answer = |name: &[u8]| File { data: 32, ..File::new().info(name, &[8], 0, 0) }.answer();
    assert_eq!(answer(b"t"), Ok(()));
    assert_eq!(answer(b""), Err(ModelError::EmptyName { offset: HEADER }));
    assert_eq!(answer(b"\xff"), Err(ModelError::NotUtf8 { offset: HEADER + 8 }));
    assert_eq!(answer(&[b't'; 64]), Ok(()));
    assert_eq!(answer(&[b't'; 65]), limit(limits::NAME_BYTES, 65));
    let two = |second: &str| {
        let file = File::new().info("t", &[8], 0, 0).info("u", &[8], 0, 32).info(second, &[8], 0, 64);
        File { data: 96, ..file }.answer()
    };
    assert_eq!(two("t"), Err(ModelError::DuplicateTensor { first: 0, second: 2 }));
    assert_eq!(two("t\0"), Ok(()));
    for len in [1 << 31, 1 << 63, u64::MAX] {
        let mut file = File::new().info("t", &[8], 0, 0);
        file.infos[..8].copy_from_slice(&len.to_le_bytes());
        assert_eq!(file.answer(), Err(truncated(HEADER + 8, len, 25)));
    }
}

#[test]
fn dimensions_are_one_to_four_and_their_product_fits() {
    let answer = |dims: &[u64], ty| File { data: 64, ..File::new().info("t", dims, ty, 0) }.answer();
    for dims in [&[][..], &[0], &[8, 0], &[0, 8], &[1, 1, 1, 0], &[1; 5], &[1; 100]] {
        let error = ModelError::BadDims { tensor: 0, n_dims: dims.len() as u32 };
        assert_eq!(answer(dims, 0), Err(error), "{dims:?}");
    }
    // The number of dimensions alone: nothing is read for it.
    for n_dims in [5, 1 << 31, u32::MAX] {
        let mut file = File::new().info("t", &[8], 0, 0);
        file.infos[9..13].copy_from_slice(&n_dims.to_le_bytes());
        assert_eq!(file.answer(), Err(ModelError::BadDims { tensor: 0, n_dims }));
    }
    let most = i32::MAX as u64;
    for dim in [most + 1, 1 << 32, 1 << 62, 1 << 63, u64::MAX] {
        assert_eq!(answer(&[dim], 0), limit(limits::DIM, dim));
        assert_eq!(answer(&[8, dim], 0), limit(limits::DIM, dim));
    }
    for ty in [0, 1, 30] {
        assert_eq!(answer(&[most; 4], ty), Err(ModelError::TensorTooLarge { tensor: 0 }));
        assert_eq!(answer(&[most, most, 8], ty), Err(ModelError::TensorTooLarge { tensor: 0 }));
    }
    // It fits in 64 bits, and not in the file.
    let need = most * most * 4;
    assert!(matches!(answer(&[most, most], 0), Err(ModelError::Truncated { need: n, .. }) if n == need));
    for (ty, block) in [(2, 32), (3, 32), (8, 32)] {
        for cols in [1, 16, 31, 33] {
            let error = ModelError::RaggedRow { tensor: 0, cols, block };
            assert_eq!(answer(&[cols, 64], ty), Err(error), "the total may be whole blocks");
        }
    }
}

#[test]
fn types_of_tensors_are_those_that_are_computed_with() {
    let supported = [(0, 4), (1, 2), (2, 18), (3, 20), (8, 34), (30, 2)];
    for id in (0..64).chain([255, 9999, 1 << 31, u32::MAX]) {
        let answer = File { data: 256, ..File::new().info("t", &[32], id, 0) }.answer();
        if supported.iter().any(|&(ty, _)| ty == id) {
            assert_eq!(answer, Ok(()));
        } else {
            assert_eq!(answer, Err(ModelError::UnsupportedType { tensor: 0, id }));
        }
    }
}

#[test]
fn data_is_aligned_within_the_file_and_shared_by_none() {
    // Two tensors of 32 bytes, the second at `offset`; both in 64 bytes of data.
    let answer = |offset: u64| {
        let file = File::new().info("t", &[8], 0, 0).info("u", &[8], 0, offset);
        File { data: 64, ..file }.answer()
    };
    assert_eq!(answer(32), Ok(()));
    for offset in [1, 8, 16, 33, u64::MAX] {
        assert_eq!(answer(offset), Err(ModelError::Misaligned { tensor: 1, offset }));
    }
    assert_eq!(answer(0), Err(ModelError::Overlap { first: 0, second: 1 }));
    for offset in [64, 1 << 40, 1 << 63, u64::MAX - 31] {
        let error = answer(offset).unwrap_err();
        assert!(matches!(error, ModelError::Truncated { need: 32, have: 0, .. }), "{error}");
    }
    // The last byte counts.
    let file = File { data: 64, ..File::new().info("t", &[8], 0, 0).info("u", &[8], 0, 32) }.bytes();
    let error = Image::parse(&file[..file.len() - 1]).map(|_| ());
    assert!(matches!(error, Err(ModelError::Truncated { need: 32, have: 31, .. })));
}

#[test]
#[cfg_attr(miri, ignore = "a million tokens take Miri minutes")]
fn numbers_of_the_shape_are_limited() {
    let arch = || File::new().key("general.architecture", 8, &string(b"llama"));
    let base = || arch().u32("llama.block_count", 2).u32("llama.embedding_length", 64);
    let ffn = || base().u32("llama.feed_forward_length", 96).u32("llama.context_length", 32);
    let over = |of: limits::Limit, value| ModelError::Limit { what: of.what, value, max: of.max };
    assert_eq!(arch().u32("llama.block_count", 513).shape_error(), over(limits::LAYERS, 513));
    let wide = arch().u32("llama.block_count", 512).u32("llama.embedding_length", 65_537);
    assert_eq!(wide.shape_error(), over(limits::WIDTH, 65_537));
    let wide = base().u32("llama.feed_forward_length", 65_537);
    assert_eq!(wide.shape_error(), over(limits::WIDTH, 65_537));
    let heads =
        |key_length| ffn().u32("llama.attention.head_count", 4).u32("llama.attention.key_length", key_length);
    assert_eq!(heads(65_537).shape_error(), over(limits::WIDTH, 65_537));
    assert_eq!(heads(16_385).shape_error(), over(limits::WIDTH, 65_540), "of all heads together");
    let long = base().u32("llama.feed_forward_length", 96).key(
        "llama.context_length",
        10,
        &(1u64 << 32).to_le_bytes(),
    );
    let error =
        ModelError::OutOfRange { key: "context_length", value: 1 << 32, min: 1, max: u32::MAX.into() };
    assert_eq!(long.shape_error(), error);

    // Tokens, by the rows of the embedding and by the metadata.
    let n = (1 << 20) + 1;
    let whole = heads(16).key("llama.attention.layer_norm_rms_epsilon", 6, &1e-5f32.to_le_bytes()).info(
        "token_embd.weight",
        &[1, n],
        0,
        0,
    );
    assert_eq!(File { data: 4 * n as usize, ..whole }.shape_error(), over(limits::VOCAB, n));
    let texts = array(8, n, &vec![0; 8 * n as usize]);
    let vocabulary = File::new()
        .key("tokenizer.ggml.model", 8, &string(b"gpt2"))
        .key("tokenizer.ggml.tokens", 9, &texts)
        .bytes();
    let image = Image::parse(&vocabulary).unwrap();
    assert_eq!(Tokenizer::layout(&image, Layout::new()).unwrap_err(), over(limits::VOCAB, n));
}

/// RoPE turns pairs: heads of an odd width are taken where the file says how much of them turns, and only then.
#[test]
fn heads_of_an_odd_width_say_how_much_of_them_turns() {
    let with = |head_dim: u32, turned: Option<u32>| {
        let mut file = File::new()
            .key("general.architecture", 8, &string(b"llama"))
            .u32("llama.block_count", 1)
            .u32("llama.embedding_length", 8)
            .u32("llama.feed_forward_length", 8)
            .u32("llama.context_length", 8)
            .u32("llama.attention.head_count", 1)
            .u32("llama.attention.key_length", head_dim)
            .key("llama.attention.layer_norm_rms_epsilon", 6, &1e-5f32.to_le_bytes())
            .info("token_embd.weight", &[8, 10], 0, 0);
        if let Some(turned) = turned {
            file = file.u32("llama.rope.dimension_count", turned);
        }
        let bytes = File { data: 320, ..file }.bytes();
        Config::from_image(&Image::parse(&bytes).unwrap()).map(|config| config.head_dim)
    };
    let key = "rope.dimension_count";
    for odd in [1, 33, 127] {
        let uneven = ModelError::NotDivisible { key, value: odd.into(), by: 2 };
        assert_eq!(with(odd, None), Err(uneven));
    }
    assert_eq!((with(33, Some(32)), with(80, None), with(256, None)), (Ok(33), Ok(80), Ok(256)));
    let beyond = ModelError::OutOfRange { key, value: 34, min: 2, max: 33 };
    assert_eq!(with(33, Some(34)), Err(beyond));
}

/// Three numbers that must be one: rows of the embedding, `vocab_size` and the number of tokens.
#[test]
fn there_is_a_row_of_the_embedding_for_each_token() {
    let with = |vocab_size: u32, n_tokens: u64| {
        let file = File::new()
            .key("general.architecture", 8, &string(b"gpt2"))
            .u32("gpt2.block_count", 1)
            .u32("gpt2.embedding_length", 8)
            .u32("gpt2.feed_forward_length", 8)
            .u32("gpt2.context_length", 8)
            .u32("gpt2.attention.head_count", 1)
            .u32("gpt2.vocab_size", vocab_size)
            .key("gpt2.attention.layer_norm_epsilon", 6, &1e-5f32.to_le_bytes())
            .key("tokenizer.ggml.tokens", 9, &array(8, n_tokens, &vec![0; 8 * n_tokens as usize]))
            .info("token_embd.weight", &[8, 10], 0, 0);
        let bytes = File { data: 320, ..file }.bytes();
        Config::from_image(&Image::parse(&bytes).unwrap()).map(|config| config.vocab_size)
    };
    let bad = |index| Err(ModelError::BadVocab { fault: VocabFault::TokenCount, index });
    assert_eq!(with(10, 10), Ok(10));
    for other in [0, 9, 11] {
        assert_eq!(with(other, 10), bad(other.into()));
        assert_eq!(with(10, other.into()), bad(other.into()));
    }
}

/// Each switch of each kind of tokenizer: any bool will do, and nothing else.
#[test]
fn switches_of_tokenizers_are_bools() {
    for (model, keys) in [
        ("llama", &["add_bos_token", "add_eos_token", "add_space_prefix"][..]),
        ("t5", &["add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces"]),
        ("bert", &["normalizer.lowercase", "normalizer.strip_accents"]),
    ] {
        for key in keys {
            let key = format!("tokenizer.ggml.{key}");
            let answer = |ty: u32, value: &[u8]| {
                let file = File::new()
                    .key("tokenizer.ggml.model", 8, &string(model.as_bytes()))
                    .key("tokenizer.ggml.tokens", 9, &array(8, 1, &string(b"t")))
                    .key("tokenizer.ggml.scores", 9, &array(6, 1, &[0; 4]))
                    .key(&key, ty, value);
                let bytes = file.bytes();
                let image = Image::parse(&bytes)?;
                let mut region = vec![MaybeUninit::uninit(); 1 << 16];
                Tokenizer::new(&image, &mut Arena::new(&mut region)).map(|_| ())
            };
            assert_eq!(answer(7, &[0]), Ok(()));
            assert_eq!(answer(7, &[1]), Ok(()));
            for (ty, value) in [(0, &[1][..]), (4, &[1, 0, 0, 0]), (8, &string(b"true"))] {
                let error = answer(ty, value).unwrap_err();
                let is_named = matches!(error, ModelError::WrongType { key: named, found } if named == key && found == ty);
                assert!(is_named, "{model} {key}: {error}");
            }
        }
    }
}
