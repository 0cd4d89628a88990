//! GGUF files made by the writer and damaged by hand: what the reader gives back, and what it refuses.

use corelm::arena::{Arena, Layout};
use corelm::config::{Architecture, Config, RopePairing};
use corelm::error::{ErrorClass, ModelError};
use corelm::gguf::writer::{Sink, SinkFull, WriteError, Writer};
use corelm::gguf::{Image, Value, ValueType};
use corelm::ops::{GgmlType, Matrix};
use corelm::weights::Weights;
use std::mem::MaybeUninit;

#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

type Keys = Vec<(String, Value<'static>)>;
type Tensors = Vec<(String, Vec<u64>, GgmlType)>;

/// A file with these keys and tensors; data byte `i` of each tensor is `i % 251`.
fn file(keys: &Keys, tensors: &Tensors) -> Vec<u8> {
    let mut writer = Writer::new(Bytes::default(), keys.len() as u64, tensors.len() as u64).unwrap();
    for (key, value) in keys {
        writer.value(key, *value).unwrap();
    }
    for (name, dims, ty) in tensors {
        writer.tensor(name, dims, *ty).unwrap();
    }
    for (_, dims, ty) in tensors {
        let n_bytes = ty.row_bytes(dims[0] as usize).unwrap() * dims[1..].iter().product::<u64>() as usize;
        writer.data(&(0..n_bytes).map(|i| (i % 251) as u8).collect::<Vec<_>>()).unwrap();
        writer.end_tensor().unwrap();
    }
    writer.finish().unwrap().0
}

/// Keys and tensors of a model: `dim` 64, hidden 96, 2 layers, 4 heads (2 for llama's and qwen2's keys), vocabulary 10.
fn model(arch: &str) -> (Keys, Tensors) {
    let is_gpt2 = arch == "gpt2";
    let n_kv_heads = if is_gpt2 { 4 } else { 2 };
    let eps = if is_gpt2 { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
    let mut keys: Keys = vec![
        ("general.architecture".into(), Value::String(arch.to_string().leak().as_bytes())),
        (format!("{arch}.block_count"), Value::U32(2)),
        (format!("{arch}.context_length"), Value::U64(128)),
        (format!("{arch}.embedding_length"), Value::U16(64)),
        (format!("{arch}.feed_forward_length"), Value::I32(96)),
        (format!("{arch}.attention.head_count"), Value::U8(4)),
        (format!("{arch}.attention.head_count_kv"), Value::I64(n_kv_heads)),
        (format!("{arch}.attention.{eps}"), Value::F32(1e-5)),
    ];
    if !is_gpt2 {
        keys.push((format!("{arch}.rope.freq_base"), Value::F32(500_000.0)));
    }
    let mut tensors: Tensors = vec![("token_embd.weight".into(), vec![64, 10], GgmlType::Q8_0)];
    let mut add = |name: String, dims: &[u64], ty| tensors.push((name, dims.to_vec(), ty));
    for layer in 0..2 {
        let mut part = |name: &str, dims: &[u64], ty| add(format!("blk.{layer}.{name}"), dims, ty);
        part("attn_norm.weight", &[64], GgmlType::F32);
        if is_gpt2 {
            part("attn_qkv.weight", &[64, 192], GgmlType::Q4_1);
            part("attn_qkv.bias", &[192], GgmlType::F32);
        } else {
            part("attn_q.weight", &[64, 64], GgmlType::Q4_0);
            part("attn_k.weight", &[64, 32], GgmlType::Q4_1);
            part("attn_v.weight", &[64, 32], GgmlType::F16);
            part("ffn_gate.weight", &[64, 96], GgmlType::BF16);
        }
        part("attn_output.weight", &[64, 64], GgmlType::F32);
        part("ffn_norm.weight", &[64], GgmlType::F32);
        part("ffn_up.weight", &[64, 96], GgmlType::Q8_0);
        part("ffn_down.weight", &[96, 64], GgmlType::Q4_0);
        if is_gpt2 {
            for (name, len) in
                [("attn_norm", 64), ("attn_output", 64), ("ffn_norm", 64), ("ffn_up", 96), ("ffn_down", 64)]
            {
                part(&format!("{name}.bias"), &[len], GgmlType::F32);
            }
        }
        if arch == "qwen2" {
            for (name, len) in [("attn_q", 64), ("attn_k", 32), ("attn_v", 32)] {
                part(&format!("{name}.bias"), &[len], GgmlType::F32);
            }
        }
    }
    add("output_norm.weight".into(), &[64], GgmlType::F32);
    if is_gpt2 {
        add("output_norm.bias".into(), &[64], GgmlType::F32);
        add("position_embd.weight".into(), &[64, 128], GgmlType::F32);
    }
    (keys, tensors)
}

/// Reads `file` as far as its weights and hands them to `look`.
fn load<T>(file: &[u8], look: impl FnOnce(&Config, &Weights<'_, '_>) -> T) -> Result<T, ModelError> {
    let image = Image::parse(file)?;
    let config = Config::from_image(&image)?;
    let mut region = vec![MaybeUninit::uninit(); Weights::layout(&config, Layout::new())?.bytes()];
    let mut arena = Arena::new(&mut region);
    let weights = Weights::resolve(&image, &config, &mut arena)?;
    assert_eq!(arena.stats().used, arena.stats().capacity, "the layout is exact");
    Ok(look(&config, &weights))
}

fn refusal(keys: &Keys, tensors: &Tensors) -> ModelError {
    load(&file(keys, tensors), |_, _| ()).expect_err("a wrong model was accepted")
}

fn set(keys: &mut Keys, suffix: &str, value: Value<'static>) {
    match keys.iter_mut().find(|entry| entry.0.ends_with(suffix)) {
        Some(entry) => entry.1 = value,
        None => keys.push((format!("llama.{suffix}"), value)),
    }
}

#[test]
fn every_kind_of_value_comes_back() {
    let nested = [9u32, 8, 8, 0].map(u32::to_le_bytes); // types of an array of arrays of strings
    let mut raw = Vec::new();
    for (ty, count) in nested.iter().zip([2u64, 1, 0]) {
        raw.extend_from_slice(ty);
        raw.extend_from_slice(&count.to_le_bytes());
        if raw.len() == 24 {
            raw.extend_from_slice(&2u64.to_le_bytes());
            raw.extend_from_slice(b"ab");
        }
    }
    let mut writer = Writer::new(Bytes::default(), 15, 0).unwrap();
    let scalars = [
        Value::U8(255),
        Value::I8(-128),
        Value::U16(u16::MAX),
        Value::I16(i16::MIN),
        Value::U32(u32::MAX),
        Value::I32(i32::MIN),
        Value::F32(-0.5),
        Value::Bool(true),
        Value::String(b"\xff not utf-8"),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F64(1e300),
    ];
    for (i, value) in scalars.iter().enumerate() {
        writer.value(&format!("key.{i}"), *value).unwrap();
    }
    writer.strings("strings", (0..100).map(|i| "x".repeat(i))).unwrap();
    writer.f32s("floats", [1.0f32, f32::NAN].into_iter()).unwrap();
    writer.value("nested", Value::U8(0)).unwrap();
    let mut bytes = writer.finish().unwrap().0;
    let at = bytes.windows(6).position(|w| w == b"nested").unwrap() + 6;
    bytes.splice(at.., [&9u32.to_le_bytes()[..], &raw].concat());

    let image = Image::parse(&bytes).unwrap();
    assert_eq!((image.version(), image.n_keys(), image.n_tensors()), (3, 15, 0));
    for (i, value) in scalars.iter().enumerate() {
        let found = image.get(&format!("key.{i}")).unwrap();
        assert_eq!(format!("{found:?}"), format!("{value:?}"));
        assert_eq!(found.ty(), value.ty());
    }
    let strings = image.array("strings", ValueType::String).unwrap().unwrap();
    assert!(strings.strings().enumerate().all(|(i, s)| s == "x".repeat(i).as_bytes()));
    assert_eq!((strings.len(), strings.strings().count()), (100, 100));
    let mut at = 0;
    for (i, string) in strings.strings().enumerate() {
        let (found, next) = strings.string_at(at).unwrap();
        assert_eq!(found, string, "string {i}");
        at = next;
    }
    assert_eq!(strings.string_at(at), None);
    assert_eq!(strings.string_at(usize::MAX), None);
    assert_eq!(
        image.array("strings", ValueType::F32).unwrap_err(),
        ModelError::WrongType { key: "strings", found: 8 }
    );
    let Some(Value::Array(nested)) = image.get("nested") else { panic!("no array") };
    let lens: Vec<_> = nested
        .iter()
        .map(|inner| match inner {
            Value::Array(inner) => (inner.element(), inner.strings().map(<[u8]>::to_vec).collect::<Vec<_>>()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lens, [(ValueType::String, vec![b"ab".to_vec()]), (ValueType::String, vec![])]);
}

/// Each getter takes values of its type and refuses, by the key, all others.
#[test]
fn values_are_had_by_their_type_alone() {
    let scalars = [
        Value::U8(200),
        Value::I8(-2),
        Value::U16(40_000),
        Value::I16(-3),
        Value::U32(70_000),
        Value::I32(-4),
        Value::F32(0.5),
        Value::Bool(true),
        Value::String(b"text"),
        Value::U64(1 << 40),
        Value::I64(5),
        Value::F64(0.25),
    ];
    const KEYS: [&str; 12] =
        ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "u64", "i64", "f64"];
    let keys: Keys = KEYS.map(str::to_owned).into_iter().zip(scalars).collect();
    let bytes = file(&keys, &Tensors::new());
    let image = Image::parse(&bytes).unwrap();
    let integers = [
        ("u8", Some(200), 200),
        ("i8", None, -2i64 as u64),
        ("u16", Some(40_000), 40_000),
        ("i16", None, -3i64 as u64),
        ("u32", Some(70_000), 70_000),
        ("i32", None, -4i64 as u64),
        ("u64", None, 1 << 40),
        ("i64", Some(5), 5),
    ];
    for (key, fits, bits) in integers {
        assert_eq!(image.get(key).unwrap().integer_bits(), Some(bits));
        let out_of_range = ModelError::OutOfRange { key, value: bits, min: 0, max: u32::MAX.into() };
        assert_eq!(image.u32(key), fits.map(Some).ok_or(out_of_range));
    }
    let value = image.require("u8").unwrap();
    assert_eq!((value.to_u32("u8", 200, 200), value.to_u32("u8", 1, 200)), (Ok(200), Ok(200)));
    for (min, max) in [(0, 199), (201, 300)] {
        let error = ModelError::OutOfRange { key: "u8", value: 200, min: min.into(), max: max.into() };
        assert_eq!(value.to_u32("u8", min, max), Err(error));
    }
    assert_eq!(image.f32("f32"), Ok(Some(0.5)));
    assert_eq!(image.bool("bool"), Ok(Some(true)));
    assert_eq!(image.bytes("string"), Ok(Some(&b"text"[..])));
    for (key, value) in KEYS.into_iter().zip(scalars) {
        let wrong = ModelError::WrongType { key, found: value.ty().id() };
        let is_integer = integers.iter().any(|integer| integer.0 == key);
        assert_eq!(image.get(key).unwrap().integer_bits().is_some(), is_integer);
        assert!(is_integer || image.u32(key) == Err(wrong), "{key}");
        assert!(key == "f32" || image.f32(key) == Err(wrong), "{key}");
        assert!(key == "bool" || image.bool(key) == Err(wrong), "{key}");
        assert!(key == "string" || image.bytes(key) == Err(wrong), "{key}");
        assert_eq!(image.array(key, ValueType::U8).unwrap_err(), wrong);
    }
    const NONE: &str = "none";
    assert_eq!((image.u32(NONE), image.f32(NONE), image.bool(NONE)), (Ok(None), Ok(None), Ok(None)));
    assert!(image.bytes(NONE) == Ok(None) && image.array(NONE, ValueType::U8).unwrap().is_none());
    assert_eq!(image.require(NONE).unwrap_err(), ModelError::MissingKey { key: NONE });
    for id in 0..=13 {
        assert_eq!(ValueType::from_id(id).map(ValueType::id), (id < 13).then_some(id));
    }
}

#[test]
fn arrays_know_their_length_and_what_is_no_string() {
    let mut writer = Writer::new(Bytes::default(), 3, 0).unwrap();
    writer.strings("none", std::iter::empty::<&str>()).unwrap();
    writer.strings("one", ["x"].iter()).unwrap();
    writer.i32s("numbers", [0, -7].into_iter()).unwrap();
    let bytes = writer.finish().unwrap().0;
    let image = Image::parse(&bytes).unwrap();
    let array = |key, element| image.array(key, element).unwrap().unwrap();
    let (none, one) = (array("none", ValueType::String), array("one", ValueType::String));
    assert_eq!((none.is_empty(), none.len(), none.bytes().len(), none.iter().count()), (true, 0, 0, 0));
    assert_eq!((one.is_empty(), one.len(), one.bytes()), (false, 1, &b"\x01\0\0\0\0\0\0\0x"[..]));
    let numbers = array("numbers", ValueType::I32);
    assert_eq!((numbers.len(), numbers.strings().count(), numbers.bytes().len()), (2, 0, 8));
    let values: Vec<_> = numbers.iter().map(|value| value.integer_bits()).collect();
    assert_eq!(values, [Some(0), Some(-7i64 as u64)]);
}

#[test]
fn bools_of_an_array_are_0_or_1() {
    let mut writer = Writer::new(Bytes::default(), 1, 0).unwrap();
    writer.value("bools", Value::U8(0)).unwrap();
    let mut bytes = writer.finish().unwrap().0;
    let at = bytes.windows(5).position(|w| w == b"bools").unwrap() + 5;
    let header = [&9u32.to_le_bytes()[..], &7u32.to_le_bytes(), &4u64.to_le_bytes()].concat();
    for (bools, is_good) in [
        ([0, 1, 0, 1], true),
        ([1; 4], true),
        ([0, 1, 2, 1], false),
        ([0xff, 0, 0, 0], false),
        ([0, 0, 0, 3], false),
    ] {
        bytes.splice(at.., [&header[..], &bools].concat());
        let answer = Image::parse(&bytes).map(|image| {
            let array = image.array("bools", ValueType::Bool).unwrap().unwrap();
            array.iter().map(|value| value.to_bool("bools").unwrap().into()).collect::<Vec<u8>>()
        });
        let offset = (at + header.len()) as u64;
        assert_eq!(answer, if is_good { Ok(bools.to_vec()) } else { Err(ModelError::BadBool { offset }) });
    }
}

#[test]
fn the_alignment_is_that_of_the_file_or_32() {
    let tensors: Tensors = (0..2).map(|i| (format!("t{i}"), vec![3], GgmlType::F32)).collect();
    for (value, alignment) in [(None, 32), (Some(8), 8), (Some(64), 64), (Some(65_536), 65_536)] {
        let keys = value.map(|value| ("general.alignment".to_owned(), Value::U32(value)));
        let bytes = file(&keys.into_iter().collect(), &tensors);
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(image.alignment().get(), alignment);
        assert_eq!(bytes.len() % alignment as usize, 0);
        let at: Vec<usize> =
            image.tensors().map(|t| t.bytes.as_ptr().addr() - bytes.as_ptr().addr()).collect();
        assert!(at.iter().all(|at| at % alignment as usize == 0), "{at:?}");
        assert_eq!(at[1] - at[0], 12usize.next_multiple_of(alignment as usize));
        assert!(
            image
                .tensor("t1")
                .is_some_and(|t| t.index == 1 && t.bytes[..] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
        );
        assert!(image.tensor("t2").is_none());
    }
}

#[test]
fn a_written_file_can_be_written_again() {
    let (mut keys, tensors) = model("llama");
    let mut writer = Writer::new(Bytes::default(), 2, 0).unwrap();
    writer.strings("strings", ["a", "", "bc"].iter()).unwrap();
    writer.f32s("floats", [0.5, -1.0].into_iter()).unwrap();
    let arrays = writer.finish().unwrap().0.leak();
    keys.extend(Image::parse(arrays).unwrap().metadata().map(|(key, value)| (key.to_owned(), value)));
    let first = file(&keys, &tensors);
    let image = Image::parse(&first).unwrap();
    let (n_keys, n_tensors) = (image.n_keys() as u64, image.n_tensors() as u64);
    let mut writer = Writer::new(Bytes::default(), n_keys, n_tensors).unwrap();
    for (key, value) in image.metadata() {
        writer.value(key, value).unwrap();
    }
    for tensor in image.tensors() {
        writer.tensor(tensor.name, &tensor.dims[..tensor.n_dims as usize], tensor.ty).unwrap();
    }
    for tensor in image.tensors() {
        writer.data(tensor.bytes).unwrap();
        writer.end_tensor().unwrap();
    }
    assert!(writer.finish().unwrap().0 == first);
    let strings = image.array("strings", ValueType::String).unwrap().unwrap();
    assert!(strings.strings().eq([&b"a"[..], b"", b"bc"]));
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let writer = || Writer::new(Bytes::default(), 0, 2).unwrap();
    let bad = |tensor, n_dims| Err(WriteError::Invalid(ModelError::BadDims { tensor, n_dims }));
    assert_eq!(writer().tensor("t", &[], GgmlType::F32), bad(0, 0));
    assert_eq!(writer().tensor("t", &[1, 1, 1, 1, 1], GgmlType::F32), bad(0, 5));
    let mut second = writer();
    second.tensor("t", &[1, 1, 1, 1], GgmlType::F32).unwrap();
    assert_eq!(second.tensor("u", &[1, 0], GgmlType::F32), bad(1, 2));
    let ragged = ModelError::RaggedRow { tensor: 0, cols: 33, block: 32 };
    assert_eq!(writer().tensor("t", &[33], GgmlType::Q8_0), Err(WriteError::Invalid(ragged)));
    let empty = ModelError::EmptyName { offset: 24 };
    assert_eq!(writer().tensor("", &[1], GgmlType::F32), Err(WriteError::Invalid(empty)));
    assert!(writer().tensor(&"n".repeat(64), &[1], GgmlType::F32).is_ok());
    let long = writer().tensor(&"n".repeat(65), &[1], GgmlType::F32);
    assert!(matches!(long, Err(WriteError::Invalid(ModelError::Limit { value: 65, max: 64, .. }))));
    let too_many = [(1025, 0), (0, 8193)];
    assert!(
        too_many.into_iter().all(|(keys, tensors)| Writer::new(Bytes::default(), keys, tensors).is_err())
    );

    // Data of a tensor that is missing, and one that is not finished.
    let mut whole = Writer::new(Bytes::default(), 0, 1).unwrap();
    whole.tensor("t", &[8], GgmlType::F32).unwrap();
    whole.data(&[0; 32]).unwrap();
    assert_eq!(whole.finish().map(|_| ()), Err(WriteError::OutOfTurn));
    let early = Writer::new(Bytes::default(), 1, 0).unwrap();
    assert_eq!(early.finish().map(|_| ()), Err(WriteError::OutOfTurn));
    assert_eq!(writer().data(&[0]), Err(WriteError::OutOfTurn));
}

#[test]
fn the_writer_holds_the_caller_to_the_counts() {
    let mut writer = Writer::new(Bytes::default(), 1, 1).unwrap();
    assert_eq!(writer.tensor("t", &[1], GgmlType::F32), Err(WriteError::OutOfTurn));
    writer.value("general.alignment", Value::U32(64)).unwrap();
    assert_eq!(writer.value("b", Value::U8(0)), Err(WriteError::OutOfTurn));
    assert_eq!(writer.data(&[0]), Err(WriteError::OutOfTurn));
    writer.tensor("t", &[1], GgmlType::F32).unwrap();
    writer.data(&[0; 3]).unwrap();
    writer.end_tensor().unwrap();
    assert_eq!(writer.end_tensor(), Err(WriteError::OutOfTurn));
    writer.data(&[0]).unwrap();
    assert_eq!(writer.finish().map(|_| ()), Err(WriteError::OutOfTurn));
    let mut small = [0; 30];
    let mut writer = Writer::new(&mut small[..], 1, 0).unwrap();
    assert_eq!(writer.value("a.b", Value::U8(0)), Err(WriteError::SinkFull));
}

#[test]
fn all_architectures_resolve() {
    for (arch, pairing) in
        [("llama", Some(RopePairing::Adjacent)), ("qwen2", Some(RopePairing::Halves)), ("gpt2", None)]
    {
        let (keys, tensors) = model(arch);
        load(&file(&keys, &tensors), |config, weights| {
            assert_eq!(config.arch.name(), arch);
            assert_eq!((config.dim, config.hidden_dim, config.n_layers, config.vocab_size), (64, 96, 2, 10));
            assert_eq!((config.n_heads, config.head_dim, config.q_dim()), (4, 16, 64));
            assert_eq!(config.rope.map(|rope| rope.pairing), pairing);
            assert_eq!(config.group.get() * config.n_kv_heads, config.n_heads);
            assert_eq!(weights.layers.len(), 2);
            assert_eq!(weights.output.rows(), 10, "tied");
            assert_eq!(weights.pos_embd.is_some(), config.arch == Architecture::Gpt2);
            for layer in weights.layers {
                assert_eq!((layer.attn_q.rows(), layer.attn_q.cols()), (64, 64));
                assert_eq!((layer.attn_k.rows(), layer.attn_v.rows()), (config.kv_dim(), config.kv_dim()));
                assert_eq!((layer.ffn_down.rows(), layer.ffn_down.cols()), (64, 96));
                assert_eq!(layer.attn_v_bias.map(<[_]>::len), (arch != "llama").then_some(config.kv_dim()));
            }
        })
        .unwrap();
    }
}

#[test]
fn fused_rows_are_queries_then_keys_then_values() {
    let (keys, tensors) = model("gpt2");
    let bytes = file(&keys, &tensors);
    let image = Image::parse(&bytes).unwrap();
    let fused = image.tensor("blk.1.attn_qkv.weight").unwrap();
    let whole = Matrix::new(fused.ty, fused.bytes, 192, 64).unwrap();
    load(&bytes, |_, weights| {
        let layer = &weights.layers[1];
        let parts = [layer.attn_q, layer.attn_k, layer.attn_v];
        for (part, rows) in parts.into_iter().zip([0..64, 64..128, 128..192]) {
            assert_eq!(format!("{part:?}"), format!("{:?}", whole.slice_rows(rows)));
        }
    })
    .unwrap();
}

#[test]
fn version_2_reads_as_version_3_and_big_endian_is_named() {
    let (keys, tensors) = model("llama");
    let mut bytes = file(&keys, &tensors);
    bytes[4] = 2;
    load(&bytes, |_, _| ()).unwrap();
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert_eq!(load(&bytes, |_, _| ()), Err(ModelError::BigEndian));
    bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
    assert_eq!(load(&bytes, |_, _| ()), Err(ModelError::UnsupportedVersion { version: 1 }));
}

#[test]
fn every_number_of_the_shape_has_its_range() {
    use ErrorClass::{Format, Limit, Param, Unsupported};
    let cases: &[(&str, Value<'static>, ErrorClass)] = &[
        ("block_count", Value::U32(0), Param),
        ("block_count", Value::U32(513), Limit),
        ("block_count", Value::I8(-1), Param),
        ("block_count", Value::F32(2.0), Format),
        ("block_count", Value::U64((1 << 32) + 2), Param),
        ("embedding_length", Value::U32(65_537), Limit),
        ("feed_forward_length", Value::U32(65_537), Limit),
        ("feed_forward_length", Value::U32(0), Param),
        ("context_length", Value::U32(0), Param),
        ("attention.head_count", Value::U32(0), Param),
        ("attention.head_count", Value::U32(65), Param),
        ("attention.head_count", Value::U32(3), Param),
        ("attention.head_count_kv", Value::U32(0), Param),
        ("attention.head_count_kv", Value::U32(3), Param),
        ("attention.head_count_kv", Value::U32(8), Param),
        ("attention.key_length", Value::U32(0), Param),
        ("attention.key_length", Value::U32(65_536), Limit),
        ("attention.value_length", Value::U32(8), Unsupported),
        ("attention.causal", Value::Bool(false), Unsupported),
        ("attention.layer_norm_rms_epsilon", Value::F32(0.0), Param),
        ("attention.layer_norm_rms_epsilon", Value::F32(1.5), Param),
        ("attention.layer_norm_rms_epsilon", Value::F32(f32::NAN), Param),
        ("attention.layer_norm_rms_epsilon", Value::F64(1e-5), Format),
        ("rope.freq_base", Value::F32(0.5), Param),
        ("rope.freq_base", Value::F32(f32::INFINITY), Param),
        ("rope.dimension_count", Value::U32(0), Param),
        ("rope.dimension_count", Value::U32(15), Param),
        ("rope.dimension_count", Value::U32(18), Param),
        ("rope.scaling.type", Value::String(b"yarn"), Unsupported),
        ("rope.scaling.factor", Value::F32(0.0), Param),
        ("rope.scaling.factor", Value::F32(1e-45), Param),
        ("rope.scale_linear", Value::F32(-1.0), Param),
        ("expert_count", Value::U32(8), Unsupported),
        ("vocab_size", Value::U32(11), ErrorClass::Vocab),
        ("general.architecture", Value::String(b"mamba"), Unsupported),
        ("general.architecture", Value::String(b"llama\0"), Unsupported),
    ];
    for (suffix, value, class) in cases.iter().step_by(if cfg!(miri) { 6 } else { 1 }) {
        let (mut keys, tensors) = model("llama");
        set(&mut keys, suffix, *value);
        let error = refusal(&keys, &tensors);
        assert_eq!(error.class(), *class, "{suffix} = {value:?}: {error}");
    }
    for suffix in
        ["block_count", "context_length", "embedding_length", "head_count", "rms_epsilon", "architecture"]
    {
        let (mut keys, tensors) = model("llama");
        keys.retain(|entry| !entry.0.ends_with(suffix));
        assert!(matches!(refusal(&keys, &tensors), ModelError::MissingKey { .. }), "{suffix}");
    }
    let (mut keys, tensors) = model("llama");
    set(&mut keys, "rope.scaling.factor", Value::F32(4.0));
    let scale = load(&file(&keys, &tensors), |config, _| config.rope.unwrap().scale);
    assert_eq!(scale, Ok(0.25));
}

/// The same key for each layer: accepted if all are alike.
#[test]
fn sizes_may_be_given_for_each_layer() {
    for (values, is_right) in
        [(&[4, 4][..], true), (&[4, 2], false), (&[4], false), (&[], false), (&[0, 0], false)]
    {
        let (keys, tensors) = model("llama");
        let mut writer = Writer::new(Bytes::default(), keys.len() as u64, tensors.len() as u64).unwrap();
        for (key, value) in &keys {
            if key.ends_with("head_count") {
                writer.i32s(key, values.iter().copied()).unwrap();
            } else {
                writer.value(key, *value).unwrap();
            }
        }
        let whole = file(&keys, &tensors);
        for tensor in Image::parse(&whole).unwrap().tensors() {
            writer.tensor(tensor.name, &tensor.dims[..tensor.n_dims as usize], tensor.ty).unwrap();
        }
        for tensor in Image::parse(&whole).unwrap().tensors() {
            writer.data(tensor.bytes).unwrap();
            writer.end_tensor().unwrap();
        }
        let answer = load(&writer.finish().unwrap().0, |config, _| config.n_heads);
        assert_eq!(answer.is_ok(), is_right, "{values:?}: {answer:?}");
    }
}

/// Each tensor: absent, of another shape, of another type, under another name.
#[test]
fn every_tensor_must_be_there_whole_and_in_its_place() {
    for arch in ["llama", "qwen2", "gpt2"] {
        let (keys, tensors) = model(arch);
        for i in (0..tensors.len()).step_by(if cfg!(miri) { 5 } else { 1 }) {
            let name = tensors[i].0.clone();
            let without = |i: usize| {
                let mut tensors = tensors.clone();
                tensors.remove(i);
                tensors
            };
            let error = refusal(&keys, &without(i));
            assert!(matches!(error, ModelError::MissingTensor { .. }), "{arch} without {name}: {error}");

            let mut changed = tensors.clone();
            changed[i].1[0] *= 2;
            let error = refusal(&keys, &changed);
            assert!(
                matches!(error.class(), ErrorClass::Shape | ErrorClass::Vocab),
                "{arch} wide {name}: {error}"
            );

            for bad in ["", "blk.2.", "blk.00.", "blk.-1.", "blk.+1.", "blk.18446744073709551617.", "x"] {
                let mut changed = tensors.clone();
                let part =
                    name.rsplit_once("blk.").map_or(name.as_str(), |blk| blk.1.split_once('.').unwrap().1);
                let bad = format!("{bad}{part}");
                if bad != name {
                    changed[i].0 = bad.clone();
                    assert_eq!(
                        refusal(&keys, &changed).class(),
                        ErrorClass::Shape,
                        "{arch} {bad} for {name}"
                    );
                }
            }
            if tensors[i].1.len() == 1 {
                let mut changed = tensors.clone();
                changed[i].2 = GgmlType::F16;
                let error = refusal(&keys, &changed);
                assert!(
                    matches!(error, ModelError::WrongTensorType { id: 1, .. }),
                    "{arch} f16 {name}: {error}"
                );
            }
        }
    }
}

#[test]
fn an_absent_output_is_tied_and_a_damaged_one_is_an_error() {
    let (keys, mut tensors) = model("llama");
    tensors.push(("output.weight".into(), vec![64, 10], GgmlType::Q4_0));
    let bytes = file(&keys, &tensors);
    assert_eq!(load(&bytes, |_, weights| weights.output.ty()), Ok(GgmlType::Q4_0));
    tensors.last_mut().unwrap().1 = vec![64, 9];
    assert_eq!(refusal(&keys, &tensors).class(), ErrorClass::Shape);
    let image = Image::parse(&bytes).unwrap();
    let info = image.tensor("output.weight").unwrap();
    let cut = bytes.len() - info.bytes.len().next_multiple_of(32);
    assert!(matches!(load(&bytes[..cut], |_, _| ()), Err(ModelError::Truncated { .. })));
    let type_at = info.name.as_ptr().addr() - bytes.as_ptr().addr() + info.name.len() + 4 + 16;
    for id in [4u32, 5, 9, 14, 31, 36, 9999] {
        let mut bytes = bytes.clone();
        bytes[type_at..][..4].copy_from_slice(&id.to_le_bytes());
        assert_eq!(load(&bytes, |_, _| ()), Err(ModelError::UnsupportedType { tensor: info.index, id }));
    }
}

#[test]
fn any_order_of_tensors_will_do_if_they_do_not_overlap() {
    let tensors: Tensors = (0..5).map(|i| (format!("t{i}"), vec![8], GgmlType::F32)).collect();
    let bytes = file(&Keys::new(), &tensors);
    let offset_at = |i: usize| 24 + i * (8 + 2 + 4 + 8 + 4 + 8) + 26;
    let with_offsets = |offsets: [u64; 5]| {
        let mut bytes = bytes.clone();
        for (i, offset) in offsets.iter().enumerate() {
            bytes[offset_at(i)..][..8].copy_from_slice(&offset.to_le_bytes());
        }
        Image::parse(&bytes).map(|image| image.tensors().count())
    };
    assert_eq!(with_offsets([0, 32, 64, 96, 128]), Ok(5));
    assert_eq!(with_offsets([128, 96, 64, 32, 0]), Ok(5));
    assert_eq!(with_offsets([64, 0, 128, 32, 96]), Ok(5));
    assert_eq!(with_offsets([64, 0, 128, 0, 96]), Err(ModelError::Overlap { first: 1, second: 3 }));
    assert_eq!(with_offsets([0, 32, 64, 96, 96]), Err(ModelError::Overlap { first: 3, second: 4 }));
    assert_eq!(with_offsets([0, 32, 64, 96, 8]), Err(ModelError::Misaligned { tensor: 4, offset: 8 }));
    for far in [160, 1 << 40, (u64::MAX >> 5) << 5] {
        let have = 160u64.saturating_sub(far);
        let error = with_offsets([0, 32, 64, 96, far]).unwrap_err();
        assert!(matches!(error, ModelError::Truncated { need: 32, have: h, .. } if h == have), "{error}");
    }
}

#[test]
fn names_and_keys_are_there_once() {
    let tensors: Tensors = (0..40).map(|i| (format!("t{}", i % 39), vec![8], GgmlType::F32)).collect();
    let error = Image::parse(&file(&Keys::new(), &tensors)).unwrap_err();
    assert_eq!(error, ModelError::DuplicateTensor { first: 0, second: 39 });
    let keys: Keys = (0..40).map(|i| (format!("k{}", i % 39), Value::U8(0))).collect();
    let error = Image::parse(&file(&keys, &Tensors::new())).unwrap_err();
    assert!(matches!(error, ModelError::DuplicateKey { .. }), "{error}");
}

#[test]
#[cfg_attr(miri, ignore = "64 MiB take Miri minutes")]
fn long_arrays_are_few_and_metadata_is_bounded() {
    // Of 32 strings there may be any number.
    let mut writer = Writer::new(Bytes::default(), 17, 0).unwrap();
    for i in 0..17 {
        writer.strings(&format!("a{i}"), (0..32).map(|_| "")).unwrap();
    }
    assert_eq!(Image::parse(&writer.finish().unwrap().0).map(|image| image.n_keys()), Ok(17));

    let mut writer = Writer::new(Bytes::default(), 17, 0).unwrap();
    for i in 0..17 {
        writer.strings(&format!("a{i}"), (0..33).map(|_| "")).unwrap();
    }
    let error = Image::parse(&writer.finish().unwrap().0).unwrap_err();
    assert!(matches!(error, ModelError::Limit { value: 17, max: 16, .. }), "{error}");

    let mut writer = Writer::new(Bytes::default(), 1, 0).unwrap();
    writer.value("long", Value::String(&vec![0; 64 << 20])).unwrap();
    let error = Image::parse(&writer.finish().unwrap().0).unwrap_err();
    assert!(matches!(error, ModelError::Limit { what: "metadata bytes", .. }), "{error}");
}

/// The image must fit the stack of a kernel.
#[test]
fn the_image_is_small() {
    assert!(size_of::<Image<'_>>() <= 256);
}
