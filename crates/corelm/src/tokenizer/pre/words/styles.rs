//! The expressions that models have of this form, as llama.cpp writes them.

use super::{Shape, Style, Tail, Word};
use crate::tokenizer::pre::scan::{Contractions, Set};

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub const LLAMA3: Style = Style {
    contractions: Some(Contractions::AnyCase),
    word: Word { set: Set::LETTER, shape: Shape::Run, takes_contraction: false },
    max_digits: 3,
    rest: Set::REST,
    tail: Tail::Newlines,
};

/// As [`LLAMA3`] with `\p{N}`.
///
/// The expression of bailingmoe, which has `\s*[\r\n]` where this has `\s*[\r\n]+`, is the same: `\s*` takes all line
/// breaks but the last.
pub const QWEN2: Style = Style { max_digits: 1, ..LLAMA3 };

/// As [`LLAMA3`] with `\p{N}+`.
pub const MINICPM5: Style = Style { max_digits: usize::MAX, ..LLAMA3 };

/// As [`QWEN2`] without contractions.
pub const UFAKZEKA: Style = Style { contractions: None, ..QWEN2 };

/// As [`QWEN2`] with ` ?[^\s\p{L}\p{N}\r\n]+` for signs.
pub const SEED_CODER: Style = Style { tail: Tail::Nothing, ..QWEN2 };

/// As [`QWEN2`] with `[\p{L}\p{M}]+` for words and ` ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` for signs.
pub const QWEN35: Style = Style {
    word: Word { set: Set::LETTER.or(Set::MARK), ..QWEN2.word },
    rest: Set::REST.but(Set::MARK),
    ..QWEN2
};

/// As [`LLAMA3`] with `(?:\p{L}|\p{M}|\u200C|\u200D)+` for words, and `'ſ` is a contraction.
pub const K2_HORIZON: Style = Style {
    contractions: Some(Contractions::AnyCaseAndLongS),
    word: Word { set: Set::LETTER.or(Set::MARK), shape: Shape::Joined, takes_contraction: false },
    ..LLAMA3
};

/// As [`QWEN2`] with `(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+` for words and `[\r\n/]?` behind signs.
pub const EXAONE_MOE: Style =
    Style { word: Word { shape: Shape::Phrase, ..QWEN2.word }, tail: Tail::NewlineOrSlash, ..QWEN2 };

/// `[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
/// [^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|
/// ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub const GPT_4O: Style = Style {
    contractions: None,
    word: Word { set: Set::LETTER, shape: Shape::Cased, takes_contraction: true },
    tail: Tail::NewlinesAndSlashes,
    ..LLAMA3
};

/// As [`GPT_4O`] with `[\p{L}\p{M}]` for `[\p{L}]`.
pub const GRANITE_EMBED: Style =
    Style { word: Word { set: Set::LETTER.or(Set::MARK), ..GPT_4O.word }, ..GPT_4O };

/// As [`GPT_4O`] with `\p{N}`, and words without contractions.
pub const TEKKEN: Style =
    Style { word: Word { takes_contraction: false, ..GPT_4O.word }, max_digits: 1, ..GPT_4O };

/// As [`GPT_4O`] with `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` for words, and the other way round
/// `…+…*`: llama.cpp takes each kind of letter for `\p{L}`.
pub const TINY_AYA: Style =
    Style { word: Word { set: Set::LETTER.or(Set::MARK), shape: Shape::Run, ..GPT_4O.word }, ..GPT_4O };

/// As [`TINY_AYA`] with `\p{N}`.
pub const YOUTU: Style = Style { max_digits: 1, ..TINY_AYA };

/// `[^\r\n\p{L}\p{N}]?[\p{L}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
/// \s*[\r\n]+|\s+(?!\S)|\s+`: what stands behind `[\p{Han}]+`.
pub const KIMI_K2: Style =
    Style { word: Word { shape: Shape::NotHan, ..GPT_4O.word }, tail: Tail::Newlines, ..GPT_4O };
