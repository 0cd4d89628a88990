//! No fallback over damage: a default stands for what is absent, and never for what is there and wrong.
//!
//! Every key that the engine reads and every tensor of a model, in turn: absent, it is an error or gives what the
//! documented default gives when it is written out; damaged, it is an error.

#[path = "support/codes.rs"]
mod codes;
#[path = "support/file.rs"]
mod file;
#[path = "support/keys.rs"]
mod keys;

use std::collections::BTreeSet;
use std::mem::MaybeUninit;

use codes::*;
use corelm::arena::{Arena, Layout};
use corelm::chat::{ChatError, ChatTemplate};
use corelm::config::{Architecture, Config};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{GgmlType, Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::session::Session;
use corelm::tokenizer::{Specials, Tokenizer};
use corelm::weights::Weights;
use corelm::{Error, Token};
use corelm_cases::synth::{self, SynthConfig};
use file::{File, Raw, Tensor};
use keys::{Absent, Key, keys};

const SMALL: SynthConfig =
    SynthConfig { vocab_size: 400, n_ctx: 32, hidden_dim: 64, n_kv_heads: 4, ..SynthConfig::TINY };
const MODELS: [SynthConfig; 4] = [
    SMALL,
    SynthConfig { tokenizer: synth::Tokenizer::Spm, ty: GgmlType::Q8_0, ..SMALL },
    SynthConfig { arch: Architecture::Qwen2, ty: GgmlType::F16, ..SMALL },
    SynthConfig { arch: Architecture::Gpt2, ty: GgmlType::Q4_1, ..SMALL },
];
const SESSION: SessionConfig = SessionConfig { n_ctx: 16, n_batch: 4, kv_type: KvType::F32, n_workers: 1 };

/// Text with control tokens of every model in it, with white space behind them.
const TEXT: &[u8] = b"the </s> kernel<|end|> \n\xff 12<s>a x'sa\xe2\x96\x81";

/// What a file decides.
#[derive(Debug, PartialEq)]
struct Answers {
    tokens: Vec<Token>,
    bounds: (Option<Token>, Option<Token>, bool, bool),
    ends: Vec<Token>,
    logits: Vec<f32>,
}

/// From bytes to logits; errors by their codes.
fn run(file: &File) -> Result<Answers, u32> {
    let code = |error: Error| error.code();
    try_run(&file.bytes()).map_err(code)
}

fn try_run(bytes: &[u8]) -> Result<Answers, Error> {
    let image = Image::parse(bytes)?;
    let config = Config::from_image(&image)?;
    let plan = MemoryPlan::new(&image, &config, &SESSION)?;
    let mut region = vec![MaybeUninit::uninit(); plan.bytes()];
    let mut arena = Arena::new(&mut region);
    let weights = Weights::resolve(&image, &config, &mut arena)?;
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    let mut session = Session::new(Ops::scalar(), &Single, &config, weights, &plan, &mut arena)?;
    let logits = session.prefill(&[7, 100, 300, 7, 42, 260])?.to_vec();
    Ok(Answers {
        tokens: encode(&tokenizer)?,
        bounds: (tokenizer.bos(), tokenizer.eos(), tokenizer.add_bos(), tokenizer.add_eos()),
        ends: (0..400).filter(|&token| tokenizer.is_eog(token)).collect(),
        logits,
    })
}

/// The tokens of [`TEXT`] without control tokens, then with them.
fn encode(tokenizer: &Tokenizer<'_, '_>) -> Result<Vec<Token>, Error> {
    let layout = tokenizer.scratch_layout(TEXT.len(), Layout::new())?;
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut scratch = tokenizer.scratch(TEXT.len(), &mut Arena::new(&mut region))?;
    let (mut tokens, mut out) = (Vec::new(), [0; 128]);
    for specials in [Specials::Never, Specials::All] {
        let n = tokenizer.encode(TEXT, specials, &mut scratch, &mut out)?;
        tokens.extend_from_slice(&out[..n]);
    }
    Ok(tokens)
}

#[test]
fn absent_keys_are_their_defaults_and_damaged_ones_are_errors() {
    let (mut n_keys, mut n_damaged, mut wrong) = (0, 0, Vec::new());
    for config in MODELS {
        let file = File::synth(&config);
        let whole = run(&file);
        assert!(whole.is_ok(), "{config:?}: {whole:?}");
        for Key { name, absent, other, damaged } in keys(&config, &file) {
            let what = format!("{} {:?} {name}", config.arch.name(), config.tokenizer);
            n_keys += 1;
            let without = run(&file.with(&name, None));
            let is_right = match &absent {
                Absent::Is(code) => without == Err(*code),
                Absent::As(value) => {
                    without.is_ok() && without == run(&file.with(&name, Some(value.clone())))
                }
                Absent::Unsaid => without.is_ok(),
            };
            if !is_right {
                wrong.push(format!("{what}: absent, it gives {without:?}"));
            }
            // The key counts: another value gives other answers than the default, or than the file's own. But the data lies
            // at multiples of both alignments, no two merges compete, and where every byte has a token nothing is unknown.
            let needs_no_other =
                ["general.alignment", "tokenizer.ggml.scores", "tokenizer.ggml.unknown_token_id"]
                    .contains(&&*name);
            let usual = if without.is_ok() { &without } else { &whole };
            if !needs_no_other && run(&file.with(&name, Some(other))) == *usual {
                wrong.push(format!("{what}: it makes no difference"));
            }
            for (value, code) in damaged {
                n_damaged += 1;
                let answer = run(&file.with(&name, Some(value.clone())));
                if answer != Err(code) {
                    let start = &value.0[..value.0.len().min(24)];
                    let answer = answer.map(|_| "answers");
                    wrong.push(format!("{what}: {start:02x?} gives {answer:?}, not {code}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let n_models = MODELS.len();
    println!("figure R15 keys: {n_keys} keys of {n_models} models, absent and {n_damaged} times damaged");
}

/// A number that does not count where another key says so is checked all the same.
#[test]
fn keys_are_checked_where_they_do_not_count() {
    let file = File::synth(&SMALL);
    let good = |key: &str, value| file.with(key, Some(value));
    for (first, value) in
        [("llama.rope.scaling.type", Raw::string("none")), ("llama.rope.scaling.factor", Raw::f32(2.0))]
    {
        let file = good(first, value);
        assert!(run(&file).is_ok());
        for key in ["llama.rope.scaling.factor", "llama.rope.scale_linear"] {
            let answer = |value| run(&file.with(key, Some(value))).map(|_| "answers");
            assert_eq!(answer(Raw::u32(2)), Err(WRONG_TYPE), "{key} behind {first}");
            assert_eq!(answer(Raw::f32(0.0)), Err(BAD_FLOAT), "{key} behind {first}");
        }
    }
}

#[test]
fn a_damaged_chat_template_is_an_error_and_an_absent_one_is_said_to_be() {
    let key = "tokenizer.chat_template";
    let file = File::synth(&SMALL);
    let template = |value| {
        let bytes = file.with(key, value).bytes();
        let image = Image::parse(&bytes).unwrap();
        ChatTemplate::of(&image).map(ChatTemplate::name)
    };
    assert_eq!(template(None), Err(ChatError::NoTemplate));
    assert_eq!(template(Some(Raw::string("{{ '<|im_start|>' + message['role'] }}"))), Ok("chatml"));
    assert_eq!(template(Some(Raw::string("{{ message }}"))), Err(ChatError::UnknownTemplate));
    assert_eq!(template(Some(Raw::string([0xFF; 9]))), Err(ChatError::UnknownTemplate));
    for value in [Raw::u32(1), Raw::strings(&["<|im_start|>"]), Raw::bool(true)] {
        assert_eq!(template(Some(value)).map_err(ChatError::code), Err(WRONG_TYPE));
    }
    let long = [&b"<|im_start|>"[..], &vec![b' '; 1 << 20]].concat();
    assert_eq!(template(Some(Raw::string(long))).map_err(ChatError::code), Err(LIMIT));
}

fn f32s(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

fn vector(name: &str, values: impl ExactSizeIterator<Item = f32>) -> Tensor {
    let dims = vec![values.len() as u64];
    Tensor { name: name.into(), dims, ty: GgmlType::F32.id(), data: f32s(values), shift: 0 }
}

/// The tensors that a model may do without, each with what its absence stands for and with something else.
fn optional_tensors(config: &SynthConfig, file: &File) -> Vec<(Tensor, Tensor)> {
    let constant = |name: &str, len: usize, x: f32| vector(name, vec![x; len].into_iter());
    let mut optional = Vec::new();
    let mut row = |name: &str, len: usize, default: f32, other: f32| {
        optional.push((constant(name, len, default), constant(name, len, other)));
    };
    let (dim, hidden_dim) = (config.dim, config.hidden_dim);
    let mut biases = Vec::new();
    if config.arch != Architecture::Gpt2 {
        row("rope_freqs.weight", config.dim / config.n_heads / 2, 1.0, 3.0);
        biases.extend([
            ("attn_output", dim),
            ("ffn_gate", hidden_dim),
            ("ffn_up", hidden_dim),
            ("ffn_down", dim),
        ]);
    }
    if config.arch == Architecture::Llama {
        biases.extend([("attn_q", dim), ("attn_k", dim), ("attn_v", dim)]);
    }
    for (part, len) in biases {
        row(&format!("blk.1.{part}.bias"), len, 0.0, 0.25);
    }
    // Without an output of its own a model uses the embedding.
    let embedding = file.tensor("token_embd.weight").unwrap();
    let mut turned = embedding.clone();
    let row_bytes = turned.data.len() / turned.dims[1] as usize;
    turned.data.rotate_left(row_bytes);
    let named = |tensor: &Tensor| Tensor { name: b"output.weight".into(), ..tensor.clone() };
    optional.push((named(embedding), named(&turned)));
    optional
}

#[test]
fn absent_tensors_are_their_defaults() {
    for config in MODELS {
        let file = File::synth(&config);
        for (default, other) in optional_tensors(&config, &file) {
            let name = String::from_utf8(default.name.clone()).unwrap();
            let without = run(&file.without_tensor(&name));
            assert!(without.is_ok(), "{config:?} without {name}: {without:?}");
            assert_eq!(run(&file.with_tensor(default)), without, "{config:?}: {name}");
            // A constant added to all keys changes every score by the same, and no probability.
            if !name.ends_with("attn_k.bias") {
                assert_ne!(run(&file.with_tensor(other)), without, "{config:?}: {name} makes no difference");
            }
        }
    }
}

/// Ways to damage a tensor, with the errors that may tell.
fn damages(tensor: &Tensor) -> Vec<(&'static str, Tensor, Vec<u32>)> {
    let is_vector = tensor.dims.len() == 1;
    let with_dims = |dims: &[u64]| {
        let factor = dims.iter().product::<u64>() as f64 / tensor.dims.iter().product::<u64>() as f64;
        let mut data = tensor.data.clone();
        data.resize((data.len() as f64 * factor).ceil() as usize, 0);
        Tensor { dims: dims.to_vec(), data, ..tensor.clone() }
    };
    let of_type = |ty: u32, n_bytes: usize| Tensor { ty, data: vec![0; n_bytes], ..tensor.clone() };
    let n_values = tensor.dims.iter().product::<u64>() as usize;
    let cols = tensor.dims[0];
    let mut longer = tensor.dims.clone();
    *longer.last_mut().unwrap() += if is_vector { 32 } else { 1 };
    let mut all = vec![
        ("no dimensions", with_dims(&[]), vec![BAD_DIMS]),
        ("five dimensions", with_dims(&[tensor.dims.clone(), vec![1; 4]].concat()[..5]), vec![BAD_DIMS]),
        ("an empty dimension", with_dims(&[cols, 0]), vec![BAD_DIMS]),
        ("twice as wide", with_dims(&[&[cols * 2], &tensor.dims[1..]].concat()), vec![WRONG_SHAPE]),
        ("longer", with_dims(&longer), vec![WRONG_SHAPE, BAD_VOCAB]),
        (
            "more planes",
            with_dims(&[&[cols], &[*tensor.dims.get(1).unwrap_or(&1), 2][..]].concat()),
            vec![WRONG_SHAPE],
        ),
        ("I8", of_type(24, n_values), vec![UNSUPPORTED_TYPE]),
        ("F64", of_type(28, n_values * 8), vec![UNSUPPORTED_TYPE]),
        ("Q6_K", of_type(14, n_values), vec![UNSUPPORTED_TYPE]),
        ("no type", of_type(9999, n_values), vec![UNSUPPORTED_TYPE]),
        ("far away", Tensor { shift: 1 << 40, ..tensor.clone() }, vec![TRUNCATED]),
        (
            "before the beginning",
            Tensor { shift: (-(1i64 << 32)).cast_unsigned(), ..tensor.clone() },
            vec![TRUNCATED],
        ),
        ("askew", Tensor { shift: 8, ..tensor.clone() }, vec![MISALIGNED]),
    ];
    if is_vector {
        all.push(("F16", of_type(GgmlType::F16.id(), n_values * 2), vec![WRONG_TENSOR_TYPE]));
        let quantized = of_type(GgmlType::Q8_0.id(), n_values / 32 * 34);
        let code = if n_values.is_multiple_of(32) { WRONG_TENSOR_TYPE } else { RAGGED_ROW };
        all.push(("Q8_0", quantized, vec![code]));
        let mut nan = tensor.clone();
        nan.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        all.push(("not a number", nan, vec![NON_FINITE]));
    } else {
        let ragged =
            Tensor { ty: GgmlType::Q4_0.id(), ..with_dims(&[&[cols + 1], &tensor.dims[1..]].concat()) };
        all.push(("ragged rows", ragged, vec![RAGGED_ROW]));
        all.push(("turned", with_dims(&[tensor.dims[1], cols]), vec![WRONG_SHAPE, RAGGED_ROW, BAD_VOCAB]));
    }
    all
}

/// Every tensor that a model has and every one that it may have.
#[test]
fn damaged_tensors_are_errors_and_so_are_absent_ones_without_a_default() {
    let (mut n_damaged, mut wrong) = (0, Vec::new());
    for config in MODELS {
        let file = File::synth(&config);
        let optional = optional_tensors(&config, &file);
        let optional_names: BTreeSet<_> = optional.iter().map(|row| row.0.name.clone()).collect();
        let all = file.tensors.iter().cloned().chain(optional.into_iter().map(|row| row.1));
        for tensor in all {
            let name = String::from_utf8(tensor.name.clone()).unwrap();
            let what = format!("{} {:?} {name}", config.arch.name(), config.tokenizer);
            if !optional_names.contains(&tensor.name) {
                let absent = run(&file.without_tensor(&name)).map(|_| "answers");
                if absent != Err(MISSING_TENSOR) {
                    wrong.push(format!("{what}: absent, it gives {absent:?}"));
                }
            }
            for (how, damaged, codes) in damages(&tensor) {
                let is_square = tensor.dims.len() == 2 && tensor.dims[0] == tensor.dims[1];
                if how == "turned" && is_square {
                    continue; // is the same
                }
                n_damaged += 1;
                let answer = run(&file.with_tensor(damaged)).map(|_| "answers");
                if !answer.is_err_and(|code| codes.contains(&code)) {
                    wrong.push(format!("{what}, {how}: {answer:?}, not {codes:?}"));
                }
            }
            // The file ends within the data of the last tensor.
            let mut last = file.without_tensor(&name);
            last.tensors.push(tensor.clone());
            let bytes = last.bytes();
            let n_kept = bytes.len() - tensor.data.len().next_multiple_of(32) + tensor.data.len() - 1;
            let answer = try_run(&bytes[..n_kept]).map(|_| "answers").map_err(Error::code);
            if answer != Err(TRUNCATED) {
                wrong.push(format!("{what}, cut: {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    println!("figure R15 tensors: {n_damaged} damaged tensors of {} models, and each absent", MODELS.len());
}
