//! Errors as those see them who print them: a code of its own for each, and a message that names what it carries.

use corelm::error::{
    ArenaError, ErrorClass, ModelError, ShortName, TokenizeError, VocabFault, ggml_type_name,
};
use corelm::gguf::writer::WriteError;
use corelm::kv_cache::KvError;
use corelm::plan::PlanError;
use corelm::sampler::{SamplerError, Setting};
use std::collections::BTreeSet;
use std::fmt::Display;

/// Checks a message: a line in lower case that has all `parts` in it.
fn says(error: impl Display, parts: &[&str]) -> String {
    let message = error.to_string();
    assert!(message.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()), "{message}");
    assert!(message.lines().count() == 1 && !message.ends_with(['.', ' ']), "{message}");
    parts.iter().for_each(|part| assert!(message.contains(part), "no {part} in: {message}"));
    message
}

/// Codes never change: a kernel's log is read long after.
#[test]
fn errors_of_models_have_codes_and_say_what_is_wrong() {
    use ErrorClass::{Format, Limit, Memory, Param, Shape, Truncated, Unsupported, Vocab};
    let name = ShortName::new(b"mamba\n");
    let key = "rope.freq_base";
    let cases: &[(ModelError, u32, ErrorClass, &[&str])] = &[
        (ModelError::Truncated { offset: 77, need: 55, have: 33 }, 100, Truncated, &["77", "55", "33"]),
        (ModelError::BadMagic { found: 0x4655_4747 }, 101, Format, &["0x46554747"]),
        (ModelError::BigEndian, 102, Unsupported, &["big-endian"]),
        (ModelError::UnsupportedVersion { version: 77 }, 103, Unsupported, &["77"]),
        (ModelError::Limit { what: "depth", value: 77, max: 55 }, 104, Limit, &["depth", "77", "55"]),
        (ModelError::NotUtf8 { offset: 77 }, 105, Format, &["77", "utf-8"]),
        (ModelError::BadBool { offset: 77 }, 106, Format, &["77", "bool"]),
        (ModelError::BadValueType { offset: 77, id: 55 }, 107, Format, &["77", "55"]),
        (ModelError::EmptyName { offset: 77 }, 108, Format, &["77", "empty"]),
        (ModelError::DuplicateKey { offset: 77 }, 109, Format, &["77", "twice"]),
        (ModelError::DuplicateTensor { first: 77, second: 55 }, 110, Format, &["77", "55", "name"]),
        (ModelError::BadAlignment { value: 77, found: 55 }, 111, Param, &["77", "55", "general.alignment"]),
        (ModelError::BadDims { tensor: 77, n_dims: 55 }, 112, Format, &["77", "55"]),
        (ModelError::TensorTooLarge { tensor: 77 }, 113, Limit, &["77"]),
        (ModelError::UnsupportedType { tensor: 77, id: 12 }, 114, Unsupported, &["77", "12 (q4_k)"]),
        (ModelError::RaggedRow { tensor: 77, cols: 55, block: 32 }, 115, Shape, &["77", "55", "32"]),
        (ModelError::Misaligned { tensor: 77, offset: 55 }, 116, Format, &["77", "55"]),
        (ModelError::Overlap { first: 77, second: 55 }, 117, Format, &["77", "55", "overlap"]),
        (ModelError::MissingKey { key }, 118, Format, &[key, "missing"]),
        (ModelError::MissingKey { key: "tokenizer.ggml.tokens" }, 118, Vocab, &["tokenizer.ggml.tokens"]),
        (ModelError::WrongType { key, found: 77 }, 119, Format, &[key, "77"]),
        (ModelError::WrongType { key: "tokenizer.ggml.scores", found: 77 }, 119, Vocab, &["scores", "77"]),
        (ModelError::OutOfRange { key, value: 77, min: 1, max: 55 }, 120, Param, &[key, "77", "1..=55"]),
        (ModelError::NotDivisible { key, value: 77, by: 55 }, 121, Param, &[key, "77", "55"]),
        (ModelError::BadFloat { key, bits: 0x7fc0_0000 }, 122, Param, &[key, "0x7fc00000"]),
        (ModelError::UnsupportedArchitecture { name }, 123, Unsupported, &["\"mamba?\""]),
        (ModelError::UnsupportedName { key, name }, 124, Unsupported, &[key, "\"mamba?\""]),
        (ModelError::UnsupportedName { key: "tokenizer.ggml.pre", name }, 124, Vocab, &["pre", "mamba?"]),
        (ModelError::UnsupportedKey { key }, 125, Unsupported, &[key]),
        (ModelError::MissingTensor { name: "attn_q", layer: Some(7) }, 126, Shape, &["blk.7.attn_q"]),
        (ModelError::MissingTensor { name: "output_norm", layer: None }, 126, Shape, &["output_norm"]),
        (ModelError::UnknownTensor { tensor: 77 }, 127, Shape, &["77"]),
        (
            ModelError::WrongShape { tensor: 77, want: (1, 2), have: (3, 4) },
            128,
            Shape,
            &["77", "has 3 rows of 4", "for 1 of 2"],
        ),
        (ModelError::WrongTensorType { tensor: 77, id: 1 }, 129, Unsupported, &["77", "1 (f16)"]),
        (ModelError::BadVocab { fault: VocabFault::Score, index: 77 }, 130, Vocab, &["score", "77"]),
        (ModelError::NotUtf8Value { key }, 131, Format, &[key, "utf-8"]),
        (ModelError::Memory(ArenaError::TooLarge), 11, Memory, &["memory"]),
    ];
    let messages: BTreeSet<String> = cases.iter().map(|case| says(case.0, case.3)).collect();
    assert_eq!(messages.len(), cases.len(), "two errors say the same");
    for (error, code, class, _) in cases {
        assert_eq!((error.code(), error.class()), (*code, *class), "{error}");
    }
    assert_eq!(format!("{name:?}"), "\"mamba?\"");
}

#[test]
fn every_fault_of_a_vocabulary_is_told_apart() {
    let faults = [
        (VocabFault::TokenCount, "embedding"),
        (VocabFault::ArrayLength, "each token"),
        (VocabFault::TokenLength, "longer"),
        (VocabFault::EmptyToken, "no text"),
        (VocabFault::DuplicateToken, "another"),
        (VocabFault::TokenType, "type"),
        (VocabFault::MergeFormat, "two parts"),
        (VocabFault::MergeToken, "no token"),
        (VocabFault::SpecialId, "special"),
        (VocabFault::Score, "finite"),
        (VocabFault::Collisions, "collide"),
        (VocabFault::Charsmap, "precompiled_charsmap"),
    ];
    let messages: BTreeSet<String> = faults.iter().map(|(fault, part)| says(fault, &[part])).collect();
    assert_eq!(messages.len(), faults.len());
}

#[test]
fn the_other_errors_have_codes_and_say_what_is_wrong() {
    let arena = ArenaError::OutOfMemory { need: 77, have: 55 };
    let (full, ragged) = (KvError::Full { n_ctx: 77 }, KvError::RaggedHead { head_dim: 77, block: 32 });
    let model = ModelError::BigEndian;
    let setting = |setting| SamplerError::Setting { setting };
    let cases: &[(String, u32, u32)] = &[
        (says(arena, &["77", "55"]), arena.code(), 10),
        (says(ArenaError::TooLarge, &["memory"]), ArenaError::TooLarge.code(), 11),
        (says(WriteError::SinkFull, &["room"]), WriteError::SinkFull.code(), 20),
        (says(WriteError::OutOfTurn, &["order"]), WriteError::OutOfTurn.code(), 21),
        (says(WriteError::Invalid(model), &["big-endian"]), WriteError::Invalid(model).code(), 102),
        (says(PlanError::NoContext, &["context of 0"]), PlanError::NoContext.code(), 200),
        (says(PlanError::NoBatch, &["batch of 0"]), PlanError::NoBatch.code(), 201),
        (
            says(PlanError::ContextTooLong { n_ctx: 77, max: 55 }, &["77", "55"]),
            PlanError::ContextTooLong { n_ctx: 77, max: 55 }.code(),
            202,
        ),
        (says(PlanError::NoWorkers, &["0 workers"]), PlanError::NoWorkers.code(), 203),
        (says(PlanError::from(full), &["77"]), PlanError::from(full).code(), full.code()),
        (says(PlanError::from(ragged), &["77", "32"]), PlanError::from(ragged).code(), ragged.code()),
        (says(PlanError::from(model), &["big-endian"]), PlanError::from(model).code(), 102),
        (says(TokenizeError::OutputFull { need: 77, have: 55 }, &["77", "55"]), 400, 400),
        (says(TokenizeError::ScratchFull { need: 77, have: 55 }, &["77", "55"]), 401, 401),
        (says(TokenizeError::NoToken { byte: 0x7f }, &["0x7f"]), 402, 402),
        (says(TokenizeError::BadToken { token: 77 }, &["77"]), 403, 403),
        (says(setting(Setting::Temperature), &["temperature"]), setting(Setting::Temperature).code(), 500),
        (says(setting(Setting::TopP), &["top-p"]), setting(Setting::TopP).code(), 500),
        (says(setting(Setting::MinP), &["min-p"]), setting(Setting::MinP).code(), 500),
        (says(setting(Setting::RepeatPenalty), &["penalty"]), setting(Setting::RepeatPenalty).code(), 500),
        (says(setting(Setting::RepeatLastN), &["256"]), setting(Setting::RepeatLastN).code(), 500),
        (
            says(SamplerError::LogitCount { have: 77, want: 55 }, &["77", "55"]),
            SamplerError::LogitCount { have: 77, want: 55 }.code(),
            501,
        ),
        (
            says(SamplerError::NonFinite { token: 77 }, &["77"]),
            SamplerError::NonFinite { token: 77 }.code(),
            502,
        ),
        (says(SamplerError::from(arena), &["77 bytes"]), SamplerError::from(arena).code(), 10),
    ];
    for (message, code, want) in cases {
        assert_eq!(code, want, "{message}");
    }
    // Memory that does not suffice is one error, whoever asks for it.
    for error in [
        PlanError::from(arena),
        PlanError::from(KvError::Arena(arena)),
        PlanError::from(ModelError::Memory(arena)),
    ] {
        assert_eq!((error, error.code()), (PlanError::Arena(arena), 10));
        says(error, &["77", "55"]);
    }
    assert_eq!(TokenizeError::OutputFull { need: 77, have: 55 }.code(), 400);
    assert_eq!(TokenizeError::ScratchFull { need: 77, have: 55 }.code(), 401);
    assert_eq!(TokenizeError::NoToken { byte: 1 }.code(), 402);
    assert_eq!(TokenizeError::BadToken { token: 77 }.code(), 403);
}

/// As `GGMLQuantizationType` of the package `gguf` has them.
#[test]
fn types_have_the_names_of_ggml() {
    let names = [
        (0, "F32 F16 Q4_0 Q4_1"),
        (6, "Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL"),
        (21, "IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16"),
        (34, "TQ1_0 TQ2_0"),
        (39, "MXFP4"),
    ];
    let mut known = BTreeSet::new();
    for (first, names) in names {
        for (id, name) in (first..).zip(names.split(' ')) {
            assert_eq!(ggml_type_name(id), name.to_lowercase(), "{id}");
            known.insert(id);
        }
    }
    for id in (0..100).chain([u32::MAX]).filter(|id| !known.contains(id)) {
        assert_eq!(ggml_type_name(id), "unknown", "{id}");
    }
}
