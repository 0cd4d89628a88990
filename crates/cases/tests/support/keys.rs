//! The keys of a model file as a table: what each stands for when it is absent, and what is wrong with other values.

use super::codes::*;
use super::file::{File, Raw};
use corelm::config::Architecture;
use corelm::gguf::ValueType;
use corelm_cases::synth::{self, SynthConfig};

/// What stands for something absent.
pub enum Absent {
    /// Nothing: this error.
    Is(u32),
    /// The same answers as this value gives.
    As(Raw),
    /// No value says the same.
    Unsaid,
}

/// A key of the file.
pub struct Key {
    pub name: String,
    pub absent: Absent,
    /// A good value that is not the default.
    pub other: Raw,
    /// Wrong values and their errors.
    pub damaged: Vec<(Raw, u32)>,
}

/// Every key that is read for a model: the shape's under its architecture, and those of its tokenizer.
pub fn keys(config: &SynthConfig, file: &File) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut key = |name: &str, absent, other, damaged: &[Vec<(Raw, u32)>]| {
        keys.push(Key { name: name.into(), absent, other, damaged: damaged.concat() });
    };
    let arch = config.arch.name();
    let is_gpt2 = config.arch == Architecture::Gpt2;
    let is_spm = config.tokenizer == synth::Tokenizer::Spm;
    let out_of_range =
        |values: &[u32]| values.iter().map(|&x| (Raw::u32(x), OUT_OF_RANGE)).collect::<Vec<_>>();
    let above_limit = |values: &[u32]| values.iter().map(|&x| (Raw::u32(x), LIMIT)).collect::<Vec<_>>();
    let bad_floats = |values: &[f32]| values.iter().map(|&x| (Raw::f32(x), BAD_FLOAT)).collect::<Vec<_>>();

    let alignments = [Raw::u32(0), Raw::u32(3), Raw::u32(4), Raw::u32(1 << 17), Raw::u64(32), Raw::f32(32.0)];
    let alignments: Vec<_> = alignments.into_iter().map(|raw| (raw, BAD_ALIGNMENT)).collect();
    // 16 or 8, for the data lies at multiples of 32.
    key("general.alignment", Absent::As(Raw::u32(32)), Raw::u32(16), &[alignments]);
    key("general.name", Absent::As(Raw::string("")), Raw::string("Phi-3 mini"), &[no_strings()]);
    let names = vec![
        (Raw::string("mamba"), UNSUPPORTED_ARCHITECTURE),
        (Raw::string(""), UNSUPPORTED_ARCHITECTURE),
        (Raw::string(format!("{arch}\0")), UNSUPPORTED_ARCHITECTURE),
        (Raw::string(b"\xff"), NOT_UTF8_VALUE),
    ];
    let other_arch = if is_gpt2 { "llama" } else { "gpt2" };
    key("general.architecture", Absent::Is(MISSING_KEY), Raw::string(other_arch), &[no_strings(), names]);

    let mut shape = |name: &str, absent, other, damaged: &[Vec<(Raw, u32)>]| {
        key(&format!("{arch}.{name}"), absent, other, damaged);
    };
    let per_layer = vec![
        (Raw::i32s(&[4]), OUT_OF_RANGE),
        (Raw::i32s(&[4, 4, 4]), OUT_OF_RANGE),
        (Raw::i32s(&[4, 2]), UNSUPPORTED_KEY),
        (Raw::i32s(&[0, 0]), OUT_OF_RANGE),
        (Raw::i32s(&[-4, -4]), OUT_OF_RANGE),
        (Raw::f32s(&[4.0, 4.0]), WRONG_TYPE),
    ];
    let missing = || Absent::Is(MISSING_KEY);
    shape("block_count", missing(), Raw::u32(1), &[no_integers(), out_of_range(&[0]), above_limit(&[513])]);
    shape(
        "embedding_length",
        missing(),
        Raw::u32(32),
        &[
            no_integers(),
            out_of_range(&[0]),
            above_limit(&[65_537, u32::MAX]),
            vec![(Raw::u32(65), NOT_DIVISIBLE)],
        ],
    );
    shape(
        "feed_forward_length",
        missing(),
        Raw::u32(32),
        &[no_integers(), out_of_range(&[0]), above_limit(&[65_537]), per_layer.clone()],
    );
    // Of learned positions there are as many; of others the number is only told.
    if is_gpt2 {
        shape("context_length", missing(), Raw::u32(31), &[no_integers(), out_of_range(&[0])]);
    }
    shape(
        "attention.head_count",
        missing(),
        Raw::u32(2),
        &[
            no_integers(),
            out_of_range(&[0, 3, 65, u32::MAX]),
            per_layer.clone(),
            vec![(Raw::u32(5), NOT_DIVISIBLE)],
        ],
    );
    shape(
        "attention.head_count_kv",
        Absent::As(Raw::u32(4)),
        Raw::u32(2),
        &[no_integers(), out_of_range(&[0, 5]), per_layer, vec![(Raw::u32(3), NOT_DIVISIBLE)]],
    );
    shape(
        "attention.key_length",
        Absent::As(Raw::u32(16)),
        Raw::u32(8),
        &[no_integers(), out_of_range(&[0]), above_limit(&[65_537, 65_536])],
    );
    let others = [0, 8, 17].map(|x| (Raw::u32(x), UNSUPPORTED_KEY)).to_vec();
    // No other value is possible: it stands for a damaged one.
    shape("attention.value_length", Absent::As(Raw::u32(16)), Raw::u32(15), &[no_integers(), others]);
    let sizes = [0, 399, 401].map(|x| (Raw::u32(x), BAD_VOCAB)).to_vec();
    shape("vocab_size", Absent::As(Raw::u32(400)), Raw::u32(398), &[no_integers(), sizes]);
    for name in ["expert_count", "expert_used_count"] {
        let experts = vec![(Raw::u32(8), UNSUPPORTED_KEY)];
        shape(name, Absent::As(Raw::u32(0)), Raw::u32(1), &[no_integers(), experts]);
    }
    let causal = vec![(Raw::bool(false), UNSUPPORTED_KEY)];
    shape("attention.causal", Absent::As(Raw::bool(true)), Raw::bool(false), &[no_bools(), causal]);
    let eps = if is_gpt2 { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    shape(eps, missing(), Raw::f32(0.5), &[no_floats(), bad_floats(&[0.0, -0.0, -1e-5, 1.5, 1e38])]);
    if !is_gpt2 {
        shape(
            "rope.dimension_count",
            Absent::As(Raw::u32(16)),
            Raw::u32(8),
            &[no_integers(), out_of_range(&[0, 1, 17, 18]), vec![(Raw::u32(15), NOT_DIVISIBLE)]],
        );
        let bases = bad_floats(&[0.0, 0.5, -10_000.0]);
        shape("rope.freq_base", Absent::As(Raw::f32(10_000.0)), Raw::f32(5e5), &[no_floats(), bases]);
        let scalings: Vec<_> =
            ["yarn", "", "linear\0"].map(|name| (Raw::string(name), UNSUPPORTED_NAME)).into();
        shape(
            "rope.scaling.type",
            Absent::As(Raw::string("none")),
            Raw::string("longrope"),
            &[no_strings(), scalings],
        );
        for name in ["rope.scaling.factor", "rope.scale_linear"] {
            let factors = bad_floats(&[0.0, -1.0, 1e-45]);
            shape(name, Absent::As(Raw::f32(1.0)), Raw::f32(4.0), &[no_floats(), factors]);
        }
        let factors = [0.0, -1.0, 1.5].map(|x| (Raw::f32(x), UNSUPPORTED_KEY)).to_vec();
        let key = "rope.scaling.attn_factor";
        shape(key, Absent::As(Raw::f32(1.0)), Raw::f32(2.0), &[no_floats(), factors]);
    }

    let mut vocab = |name: &str, absent, other, damaged: &[Vec<(Raw, u32)>]| {
        key(&format!("tokenizer.ggml.{name}"), absent, other, damaged);
    };
    let names = ["quux", "", "gpt2\0", "\u{fffd}"].map(|name| (Raw::string(name), UNSUPPORTED_NAME)).to_vec();
    let other_model = if is_spm { "gpt2" } else { "llama" };
    vocab("model", missing(), Raw::string(other_model), &[no_strings(), names.clone()]);
    let texts = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>();
    let bad_texts = |at: usize, text: &str| {
        let mut texts = texts(400);
        texts[at] = text.into();
        (Raw::strings(&texts), BAD_VOCAB)
    };
    let no_arrays = || {
        let integers = Raw::array(ValueType::U32, &vec![vec![1, 0, 0, 0]; 400]);
        vec![(Raw::string("t"), WRONG_TYPE), (Raw::u32(1), WRONG_TYPE), (integers, WRONG_TYPE)]
    };
    vocab(
        "tokens",
        missing(),
        Raw::strings(&texts(400)),
        &[
            no_arrays(),
            vec![
                (Raw::i32s(&[1; 400]), WRONG_TYPE),
                (Raw::strings(&texts(399)), BAD_VOCAB),
                (Raw::strings(&texts(401)), BAD_VOCAB),
                (Raw::strings(&texts(0)), BAD_VOCAB),
                bad_texts(9, ""),
                bad_texts(9, "t3"),
                bad_texts(9, &"x".repeat(65_537)),
            ],
        ],
    );
    let types = |at: usize, ty: i32| {
        let mut types = [1; 400];
        types[at] = ty;
        Raw::i32s(&types)
    };
    let others = if is_spm { file.get("tokenizer.ggml.token_type").unwrap().clone() } else { types(100, 3) };
    vocab(
        "token_type",
        Absent::As(Raw::i32s(&[1; 400])),
        others,
        &[
            no_arrays(),
            vec![
                (Raw::strings(&texts(400)), WRONG_TYPE),
                (Raw::i32s(&[1; 399]), BAD_VOCAB),
                (Raw::i32s(&[1; 401]), BAD_VOCAB),
                (Raw::i32s(&[]), BAD_VOCAB),
                (types(7, 0), BAD_VOCAB),
                (types(7, 7), BAD_VOCAB),
                (types(7, -1), BAD_VOCAB),
            ],
        ],
    );
    let ids = || vec![(Raw::u32(400), BAD_VOCAB), (Raw::u32(u32::MAX), BAD_VOCAB)];
    let mut named = vec!["bos", "eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"];
    if is_spm {
        named.push("unknown");
    }
    for name in named {
        vocab(&format!("{name}_token_id"), Absent::Unsaid, Raw::u32(17), &[no_integers(), ids()]);
    }
    let adds_bos = config.arch == Architecture::Llama;
    vocab("add_bos_token", Absent::As(Raw::bool(adds_bos)), Raw::bool(!adds_bos), &[no_bools()]);
    vocab("add_eos_token", Absent::As(Raw::bool(false)), Raw::bool(true), &[no_bools()]);
    if is_spm {
        vocab("add_space_prefix", Absent::As(Raw::bool(true)), Raw::bool(false), &[no_bools()]);
        let scores = |n: usize, score: f32| {
            let mut scores = vec![0.0; n];
            scores[7] = score;
            Raw::f32s(&scores)
        };
        vocab(
            "scores",
            missing(),
            scores(400, 1.0),
            &[
                no_arrays(),
                vec![
                    (Raw::array(ValueType::U8, &vec![vec![1]; 400]), WRONG_TYPE),
                    (Raw::array(ValueType::F64, &vec![vec![0; 8]; 400]), WRONG_TYPE),
                    (scores(399, 0.0), BAD_VOCAB),
                    (scores(401, 0.0), BAD_VOCAB),
                    (scores(400, f32::NAN), BAD_VOCAB),
                    (scores(400, f32::NEG_INFINITY), BAD_VOCAB),
                ],
            ],
        );
    } else {
        // Knows no "'s", so that "sa" stays together.
        vocab("pre", missing(), Raw::string("bloom"), &[no_strings(), names]);
        let merges: Vec<_> = ["th", "t ", " t", "", "t ÿÿ", "ÿÿ t", "q q"]
            .map(|merge| (Raw::strings(&[merge]), BAD_VOCAB))
            .into_iter()
            .chain([(Raw::i32s(&[1]), WRONG_TYPE)])
            .collect();
        vocab("merges", missing(), Raw::strings(&["n a"]), &[no_arrays(), merges]);
    }
    keys
}

/// Values that are no integer of 32 bits.
fn no_integers() -> Vec<(Raw, u32)> {
    vec![
        (Raw::f32(4.0), WRONG_TYPE),
        (Raw::string("4"), WRONG_TYPE),
        (Raw::bool(true), WRONG_TYPE),
        (Raw::i32(-1), OUT_OF_RANGE),
        (Raw::u64(1 << 32), OUT_OF_RANGE),
        (Raw::u64(u64::MAX), OUT_OF_RANGE),
    ]
}

fn no_floats() -> Vec<(Raw, u32)> {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(|x| (Raw::f32(x), BAD_FLOAT));
    let types = [Raw::f64(1.0), Raw::u32(1), Raw::string("1"), Raw::f32s(&[1.0])];
    types.into_iter().map(|raw| (raw, WRONG_TYPE)).chain(odd).collect()
}

fn no_bools() -> Vec<(Raw, u32)> {
    [Raw::u32(1), Raw::string("true"), Raw::f32(1.0)].map(|raw| (raw, WRONG_TYPE)).into()
}

fn no_strings() -> Vec<(Raw, u32)> {
    [Raw::u32(1), Raw::bool(true), Raw::strings(&["none"])].map(|raw| (raw, WRONG_TYPE)).into()
}
