//! Small model files: every architecture and kind of tokenizer, and among them every key and type that a reader knows.

#[path = "../../cases/tests/support/file.rs"]
#[allow(dead_code, reason = "the tests of damage use more of it")]
mod file;

use corelm::config::Architecture;
use corelm::gguf::ValueType;
use corelm::ops::GgmlType;
use corelm_cases::synth::{SynthConfig, Tokenizer};
pub use file::{File, Raw};

/// One layer, 32 wide.
pub const SMALL: SynthConfig = SynthConfig {
    dim: 32,
    hidden_dim: 32,
    n_layers: 1,
    n_heads: 2,
    n_kv_heads: 1,
    vocab_size: 360,
    n_ctx: 32,
    ..SynthConfig::TINY
};

/// A small model of each architecture with each tokenizer that the writer of models knows, each of another type.
pub fn models() -> Vec<File> {
    let kinds = [
        (Architecture::Llama, Tokenizer::Bpe, GgmlType::Q4_0),
        (Architecture::Llama, Tokenizer::Spm, GgmlType::Q8_0),
        (Architecture::Qwen2, Tokenizer::Bpe, GgmlType::F16),
        (Architecture::Gpt2, Tokenizer::Bpe, GgmlType::Q4_1),
        (Architecture::Llama, Tokenizer::Spm, GgmlType::BF16),
    ];
    let file = |(arch, tokenizer, ty)| {
        let n_kv_heads = if arch == Architecture::Gpt2 { SMALL.n_heads } else { SMALL.n_kv_heads };
        File::synth(&SynthConfig { arch, tokenizer, ty, n_kv_heads, ..SMALL })
    };
    kinds.into_iter().map(file).collect()
}

/// Texts of a vocabulary of eight tokens that every kind of tokenizer takes.
const TOKENS: [&str; 8] = ["<unk>", "<s>", "</s>", "a", "b", "ab", "\u{2581}", "<0x41>"];
const TYPES: [i32; 8] = [2, 3, 3, 1, 1, 1, 1, 6];

/// [`models`] with eight tokens, whose tokenizer is one kind after another, with keys that change how they are read.
pub fn tiny_models() -> Vec<File> {
    let kinds = ["gpt2", "llama", "bert", "t5", "rwkv"];
    models().into_iter().zip(kinds).map(|(file, kind)| tiny(file, kind)).collect()
}

fn tiny(mut file: File, kind: &str) -> File {
    let n_ctx = SMALL.n_ctx as u64;
    for tensor in &mut file.tensors {
        let rows = match &tensor.name[..] {
            b"token_embd.weight" | b"output.weight" => TOKENS.len() as u64,
            b"position_embd.weight" => n_ctx,
            _ => continue,
        };
        tensor.data.truncate(tensor.data.len() / tensor.dims[1] as usize * rows as usize);
        tensor.dims[1] = rows;
    }
    let arch = file.keys[0].1.0[12..].to_vec();
    let arch = String::from_utf8(arch).unwrap();
    file.keys.retain(|(key, _)| !key.starts_with("tokenizer."));
    let mut key = |key: &str, value: Raw| file = file.with(&key.replace('@', &arch), Some(value));
    key("@.vocab_size", Raw::u32(TOKENS.len() as u32));
    key("@.context_length", Raw::u32(n_ctx as u32));
    key("tokenizer.ggml.model", Raw::string(kind));
    key("tokenizer.ggml.tokens", Raw::strings(&TOKENS));
    key("tokenizer.ggml.token_type", Raw::i32s(&TYPES));
    match kind {
        "gpt2" => {
            key("tokenizer.ggml.pre", Raw::string("llama-bpe"));
            key("tokenizer.ggml.merges", Raw::strings(&["a b"]));
            key("@.rope.scaling.type", Raw::string("linear"));
            key("@.rope.scaling.factor", Raw::f32(2.0));
            key("general.alignment", Raw::u32(32));
        }
        "llama" => {
            key("tokenizer.ggml.scores", Raw::f32s(&[0.0; 8]));
            key("tokenizer.ggml.unknown_token_id", Raw::u32(0));
            key("tokenizer.ggml.eot_token_id", Raw::u64(2));
            key("tokenizer.ggml.fim_pad_token_id", Raw::i32(1));
            key("tokenizer.chat_template", Raw::string("<|im_start|>{{ m.role }}<|im_end|>"));
        }
        "bert" => {
            key("tokenizer.ggml.cls_token_id", Raw::u32(1));
            key("tokenizer.ggml.seperator_token_id", Raw::u32(2));
            key("tokenizer.ggml.unknown_token_id", Raw::u32(0));
        }
        "t5" => {
            key("tokenizer.ggml.scores", Raw::f32s(&[0.0; 8]));
            let map = charsmap().into_iter().map(|byte| vec![byte]).collect::<Vec<_>>();
            key("tokenizer.ggml.precompiled_charsmap", Raw::array(ValueType::U8, &map));
            key("tokenizer.ggml.remove_extra_whitespaces", Raw::bool(true));
        }
        _ => key("@.attention.head_count", Raw::i32s(&[2])),
    }
    if kind == "rwkv" {
        // Values of every type, and arrays in arrays, which nothing asks for.
        let scalar = |ty: ValueType, bytes: &[u8]| Raw([&ty.id().to_le_bytes()[..], bytes].concat());
        let one = |ty: ValueType, n: usize| scalar(ty, &1u64.to_le_bytes()[..n]);
        key("x.u8", one(ValueType::U8, 1));
        key("x.i8", one(ValueType::I8, 1));
        key("x.u16", one(ValueType::U16, 2));
        key("x.i16", one(ValueType::I16, 2));
        key("x.i64", one(ValueType::I64, 8));
        key("x.f64", Raw::f64(1.0));
        let inner = Raw::strings(&["x", ""]).0[4..].to_vec();
        let middle = Raw::array(ValueType::Array, &[inner.clone(), inner]).0[4..].to_vec();
        key("x.arrays", Raw::array(ValueType::Array, &[middle]));
        key("x.bools", Raw::array(ValueType::Bool, &[vec![1], vec![0]]));
    }
    file
}

/// The map of a normalizer that makes "ab a" of B: the least one with a key. The root has its children at their bytes; B leads
/// to unit 1, which is the place of the replacement.
fn charsmap() -> Vec<u8> {
    let mut units = [0u32; 256];
    let b = u32::from(b'B');
    units[usize::from(b'B')] = b | 1 << 8 | (b ^ 1) << 10;
    units[1] = 1 << 31;
    let units: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    [&1024u32.to_le_bytes()[..], &units, b"ab a\0"].concat()
}
