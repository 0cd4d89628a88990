//! What can be wrong with a model file.

use core::fmt;

use super::{ArenaError, ShortName, ggml_type_name};

/// Why a model was refused. Equal bytes give equal errors.
///
/// Tensors are named by their index in the file, metadata by its key (`{arch}.` left out) or by the offset in bytes
/// from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelError {
    /// The file ends before something it announces: `need` bytes at `offset`, `have` are left.
    Truncated {
        /// Where it should begin.
        offset: u64,
        /// Bytes announced (the largest number when the sum overflows).
        need: u64,
        /// Bytes left.
        have: u64,
    },
    /// The first four bytes are not `GGUF`.
    BadMagic {
        /// The bytes read as a little-endian number.
        found: u32,
    },
    /// A big-endian file; only little-endian ones are read.
    BigEndian,
    /// A version other than 2 and 3.
    UnsupportedVersion {
        /// The version found.
        version: u32,
    },
    /// A number is above this reader's limit (table in `gguf/limits.rs`).
    Limit {
        /// What is limited.
        what: &'static str,
        /// The number found.
        value: u64,
        /// The largest accepted.
        max: u64,
    },
    /// A key or a tensor name is not UTF-8.
    NotUtf8 {
        /// Where its bytes begin.
        offset: u64,
    },
    /// A bool that is neither 0 nor 1.
    BadBool {
        /// Where it lies.
        offset: u64,
    },
    /// A value type other than 0..=12.
    BadValueType {
        /// Where it lies.
        offset: u64,
        /// The type found.
        id: u32,
    },
    /// An empty key or tensor name.
    EmptyName {
        /// Where its length lies.
        offset: u64,
    },
    /// The key at `offset` stands in the file before.
    DuplicateKey {
        /// Where the second one begins.
        offset: u64,
    },
    /// Two tensors have one name.
    DuplicateTensor {
        /// Index of the first.
        first: u32,
        /// Index of the second.
        second: u32,
    },
    /// `general.alignment` is no u32 power of two in 8..=65536.
    BadAlignment {
        /// The value found, 0 when it is no integer.
        value: u64,
        /// The value type found, an id of GGUF.
        found: u32,
    },
    /// A tensor without dimensions, with more than four, or with one that is 0.
    BadDims {
        /// Index of the tensor.
        tensor: u32,
        /// Dimensions it announces.
        n_dims: u32,
    },
    /// The product of dimensions or the bytes of a tensor do not fit in 64 bits.
    TensorTooLarge {
        /// Index of the tensor.
        tensor: u32,
    },
    /// A tensor type that this engine does not compute with.
    UnsupportedType {
        /// Index of the tensor.
        tensor: u32,
        /// The id of ggml; see [`ggml_type_name`].
        id: u32,
    },
    /// A row is not a whole number of blocks.
    RaggedRow {
        /// Index of the tensor.
        tensor: u32,
        /// Values of a row.
        cols: u64,
        /// Values of a block.
        block: u32,
    },
    /// A tensor's offset is no multiple of the alignment.
    Misaligned {
        /// Index of the tensor.
        tensor: u32,
        /// Its offset in the data.
        offset: u64,
    },
    /// Two tensors share bytes.
    Overlap {
        /// Index of the first.
        first: u32,
        /// Index of the second.
        second: u32,
    },
    /// A required key is absent.
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A value has another type than its key asks for.
    WrongType {
        /// The key.
        key: &'static str,
        /// The value type found, an id of GGUF.
        found: u32,
    },
    /// An integer is outside its range.
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The value found; a negative one as the two's complement.
        value: u64,
        /// The least accepted.
        min: u64,
        /// The largest accepted.
        max: u64,
    },
    /// A number that must divide another one does not.
    NotDivisible {
        /// The key of the divisor.
        key: &'static str,
        /// The number to divide.
        value: u64,
        /// The divisor found.
        by: u64,
    },
    /// A float is not finite or outside its range.
    BadFloat {
        /// The key.
        key: &'static str,
        /// The value's bits, `f32::to_bits`.
        bits: u32,
    },
    /// An architecture other than llama, qwen2 and gpt2.
    UnsupportedArchitecture {
        /// Its name, shortened.
        name: ShortName,
    },
    /// A value names something this engine does not know: a scaling of RoPE, a tokenizer, a pre-tokenizer.
    UnsupportedName {
        /// The key.
        key: &'static str,
        /// The name found, shortened.
        name: ShortName,
    },
    /// Metadata asks for something this engine does not do: experts, or layers that differ in shape.
    UnsupportedKey {
        /// The key.
        key: &'static str,
    },
    /// A tensor the architecture needs is absent.
    MissingTensor {
        /// Its name after `blk.N.`, or all of it.
        name: &'static str,
        /// The layer, when it belongs to one.
        layer: Option<u32>,
    },
    /// A tensor that no part of the architecture uses.
    UnknownTensor {
        /// Index of the tensor.
        tensor: u32,
    },
    /// A tensor's shape disagrees with the configuration.
    WrongShape {
        /// Index of the tensor.
        tensor: u32,
        /// (rows, columns) that the configuration asks for.
        want: (u64, u64),
        /// (rows, columns) found.
        have: (u64, u64),
    },
    /// A tensor's type is known but not possible in this place: a norm or a bias other than F32.
    WrongTensorType {
        /// Index of the tensor.
        tensor: u32,
        /// The id of ggml.
        id: u32,
    },
    /// The vocabulary is inconsistent.
    BadVocab {
        /// What is wrong.
        fault: VocabFault,
        /// Index of the token, merge or byte, or the number that is wrong.
        index: u64,
    },
    /// A name among the values is not UTF-8.
    NotUtf8Value {
        /// The key.
        key: &'static str,
    },
    /// The arena is too small.
    Memory(ArenaError),
}

/// What can be wrong with a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VocabFault {
    /// The number of tokens is not the number of rows of the embedding.
    TokenCount,
    /// Scores or token types are not one for each token.
    ArrayLength,
    /// A token is longer than 64 KiB.
    TokenLength,
    /// A token without text.
    EmptyToken,
    /// A token with the text of another one before it.
    DuplicateToken,
    /// A token type other than 1..=6.
    TokenType,
    /// A merge without a space between two parts.
    MergeFormat,
    /// A merge whose parts or result are no tokens.
    MergeToken,
    /// A special token's id is not below the vocabulary size.
    SpecialId,
    /// A score is not a finite number.
    Score,
    /// Texts or merges collide so often in the index that they were made to.
    Collisions,
    /// The normalizer's map is damaged.
    Charsmap,
    /// The index that the file has ready is damaged, or of another vocabulary: at this byte of it.
    Index,
}

/// The kinds of error that a manifest or a C caller tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The file ends too early.
    Truncated,
    /// The container breaks the format.
    Format,
    /// A number is above a limit.
    Limit,
    /// Well-formed, but this engine does not do it.
    Unsupported,
    /// A hyper-parameter is out of range.
    Param,
    /// Tensors disagree with the configuration.
    Shape,
    /// The vocabulary is inconsistent.
    Vocab,
    /// Memory does not suffice.
    Memory,
}

impl ModelError {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::Truncated { .. } => 100,
            Self::BadMagic { .. } => 101,
            Self::BigEndian => 102,
            Self::UnsupportedVersion { .. } => 103,
            Self::Limit { .. } => 104,
            Self::NotUtf8 { .. } => 105,
            Self::BadBool { .. } => 106,
            Self::BadValueType { .. } => 107,
            Self::EmptyName { .. } => 108,
            Self::DuplicateKey { .. } => 109,
            Self::DuplicateTensor { .. } => 110,
            Self::BadAlignment { .. } => 111,
            Self::BadDims { .. } => 112,
            Self::TensorTooLarge { .. } => 113,
            Self::UnsupportedType { .. } => 114,
            Self::RaggedRow { .. } => 115,
            Self::Misaligned { .. } => 116,
            Self::Overlap { .. } => 117,
            Self::MissingKey { .. } => 118,
            Self::WrongType { .. } => 119,
            Self::OutOfRange { .. } => 120,
            Self::NotDivisible { .. } => 121,
            Self::BadFloat { .. } => 122,
            Self::UnsupportedArchitecture { .. } => 123,
            Self::UnsupportedName { .. } => 124,
            Self::UnsupportedKey { .. } => 125,
            Self::MissingTensor { .. } => 126,
            Self::UnknownTensor { .. } => 127,
            Self::WrongShape { .. } => 128,
            Self::WrongTensorType { .. } => 129,
            Self::BadVocab { .. } => 130,
            Self::NotUtf8Value { .. } => 131,
            Self::Memory(error) => error.code(),
        }
    }

    /// The kind of error.
    pub fn class(self) -> ErrorClass {
        match self {
            Self::Truncated { .. } => ErrorClass::Truncated,
            Self::Limit { .. } | Self::TensorTooLarge { .. } => ErrorClass::Limit,
            Self::BigEndian
            | Self::UnsupportedVersion { .. }
            | Self::UnsupportedType { .. }
            | Self::UnsupportedArchitecture { .. }
            | Self::UnsupportedKey { .. }
            | Self::WrongTensorType { .. } => ErrorClass::Unsupported,
            Self::BadAlignment { .. }
            | Self::OutOfRange { .. }
            | Self::NotDivisible { .. }
            | Self::BadFloat { .. } => ErrorClass::Param,
            Self::RaggedRow { .. }
            | Self::MissingTensor { .. }
            | Self::UnknownTensor { .. }
            | Self::WrongShape { .. } => ErrorClass::Shape,
            Self::BadVocab { .. } => ErrorClass::Vocab,
            Self::MissingKey { key } | Self::WrongType { key, .. } if key.starts_with("tokenizer.") => {
                ErrorClass::Vocab
            }
            Self::UnsupportedName { key, .. } if key.starts_with("tokenizer.") => ErrorClass::Vocab,
            Self::UnsupportedName { .. } => ErrorClass::Unsupported,
            Self::Memory(_) => ErrorClass::Memory,
            Self::BadMagic { .. }
            | Self::NotUtf8 { .. }
            | Self::NotUtf8Value { .. }
            | Self::BadBool { .. }
            | Self::BadValueType { .. }
            | Self::EmptyName { .. }
            | Self::DuplicateKey { .. }
            | Self::DuplicateTensor { .. }
            | Self::BadDims { .. }
            | Self::Misaligned { .. }
            | Self::Overlap { .. }
            | Self::MissingKey { .. }
            | Self::WrongType { .. } => ErrorClass::Format,
        }
    }
}

impl From<ArenaError> for ModelError {
    fn from(error: ArenaError) -> Self {
        Self::Memory(error)
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { offset, need, have } => {
                write!(f, "file is cut short: {need} bytes needed at offset {offset}, {have} left")
            }
            Self::BadMagic { found } => write!(f, "not a gguf file: it begins with {found:#010x}"),
            Self::BigEndian => write!(f, "big-endian gguf file; only little-endian files are read"),
            Self::UnsupportedVersion { version } => {
                write!(f, "gguf version {version}; only 2 and 3 are read")
            }
            Self::Limit { what, value, max } => write!(f, "{what}: {value} is above the limit of {max}"),
            Self::NotUtf8 { offset } => write!(f, "name at offset {offset} is not utf-8"),
            Self::BadBool { offset } => write!(f, "bool at offset {offset} is neither 0 nor 1"),
            Self::BadValueType { offset, id } => {
                write!(f, "value type {id} at offset {offset}; the format knows 0 to 12")
            }
            Self::EmptyName { offset } => write!(f, "empty name at offset {offset}"),
            Self::DuplicateKey { offset } => write!(f, "key at offset {offset} is there twice"),
            Self::DuplicateTensor { first, second } => {
                write!(f, "tensors {first} and {second} have the same name")
            }
            Self::BadAlignment { value, found } => write!(
                f,
                "general.alignment is {value} of type {found}; it must be a u32 (type 4) power of two in 8..=65536"
            ),
            Self::BadDims { tensor, n_dims } => {
                write!(
                    f,
                    "tensor {tensor} has {n_dims} dimensions or an empty one; 1 to 4 of at least 1 are read"
                )
            }
            Self::TensorTooLarge { tensor } => write!(f, "tensor {tensor}: its bytes do not fit in 64 bits"),
            Self::UnsupportedType { tensor, id } => {
                write!(f, "tensor {tensor} has type {id} ({}), which is not supported", ggml_type_name(id))
            }
            Self::RaggedRow { tensor, cols, block } => {
                write!(f, "tensor {tensor}: rows of {cols} values are not whole blocks of {block}")
            }
            Self::Misaligned { tensor, offset } => {
                write!(f, "tensor {tensor}: offset {offset} is not a multiple of the alignment")
            }
            Self::Overlap { first, second } => write!(f, "tensors {first} and {second} overlap"),
            Self::MissingKey { key } => write!(f, "metadata key {key} is missing"),
            Self::WrongType { key, found } => {
                write!(f, "metadata key {key} has the wrong value type {found}")
            }
            Self::OutOfRange { key, value, min, max } => {
                write!(f, "metadata key {key}: {} is not in {min}..={max}", value.cast_signed())
            }
            Self::NotDivisible { key, value, by } => {
                write!(f, "metadata key {key}: {value} is not a multiple of {by}")
            }
            Self::BadFloat { key, bits } => {
                write!(f, "metadata key {key}: float with bits {bits:#010x} is not finite or out of range")
            }
            Self::UnsupportedArchitecture { name } => {
                write!(f, "architecture \"{name}\" is not supported; llama, qwen2 and gpt2 are")
            }
            Self::UnsupportedName { key, name } => {
                write!(f, "metadata key {key}: \"{name}\" is not supported")
            }
            Self::UnsupportedKey { key } => write!(f, "metadata key {key} asks for what is not supported"),
            Self::MissingTensor { name, layer: Some(layer) } => {
                write!(f, "tensor blk.{layer}.{name} is missing")
            }
            Self::MissingTensor { name, layer: None } => write!(f, "tensor {name} is missing"),
            Self::UnknownTensor { tensor } => write!(f, "tensor {tensor} belongs to no part of the model"),
            Self::WrongShape { tensor, want, have } => write!(
                f,
                "tensor {tensor} has {} rows of {}; the configuration asks for {} of {}",
                have.0, have.1, want.0, want.1
            ),
            Self::WrongTensorType { tensor, id } => {
                write!(f, "tensor {tensor} has type {id} ({}), not possible in its place", ggml_type_name(id))
            }
            Self::BadVocab { fault, index } => write!(f, "vocabulary: {fault} ({index})"),
            Self::NotUtf8Value { key } => write!(f, "metadata key {key} is not utf-8"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for VocabFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokenCount => "number of tokens is not the number of embedding rows",
            Self::ArrayLength => "scores or types are not one for each token",
            Self::TokenLength => "token is longer than 64 kib",
            Self::EmptyToken => "token has no text",
            Self::DuplicateToken => "token has the text of another one",
            Self::TokenType => "unknown token type",
            Self::MergeFormat => "merge is not two parts and a space",
            Self::MergeToken => "merge makes no token",
            Self::SpecialId => "special token id is not in the vocabulary",
            Self::Score => "score is not a finite number",
            Self::Collisions => "entries collide too often to be indexed",
            Self::Charsmap => "tokenizer.ggml.precompiled_charsmap is damaged",
            Self::Index => "tensor corelm.tokenizer.index is damaged or of another vocabulary",
        })
    }
}

impl core::error::Error for ModelError {}
