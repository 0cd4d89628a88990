//! Errors: small `Copy` values with numbers in them, a stable code and a message in lower case; one enum for each stage.

use core::fmt;

mod any;
mod model;
mod name;

pub use any::Error;
pub use model::{ErrorClass, ModelError, VocabFault};
pub use name::{ShortName, ggml_type_name};

/// Why a text or a list of tokens was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizeError {
    /// The output is too short: tokens, or bytes, that there are, and room.
    OutputFull {
        /// Tokens or bytes in all.
        need: usize,
        /// Room for as many.
        have: usize,
    },
    /// The working memory was made for shorter texts: bytes of the text, and of the longest text it serves.
    ScratchFull {
        /// Bytes of the text.
        need: usize,
        /// Bytes that the memory serves.
        have: usize,
    },
    /// The vocabulary has no token for a byte of the text.
    NoToken {
        /// The byte.
        byte: u8,
    },
    /// A number that is no token.
    BadToken {
        /// The number.
        token: u32,
    },
}

/// Why the arena refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArenaError {
    /// Bytes asked for, and bytes left.
    OutOfMemory {
        /// Bytes asked for, with padding.
        need: usize,
        /// Bytes left.
        have: usize,
    },
    /// The bytes asked for do not fit in `usize`.
    TooLarge,
}

impl TokenizeError {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::OutputFull { .. } => 400,
            Self::ScratchFull { .. } => 401,
            Self::NoToken { .. } => 402,
            Self::BadToken { .. } => 403,
        }
    }
}

impl ArenaError {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::OutOfMemory { .. } => 10,
            Self::TooLarge => 11,
        }
    }
}

impl fmt::Display for TokenizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutputFull { need, have } => write!(f, "output is full: {need} needed, room for {have}"),
            Self::ScratchFull { need, have } => {
                write!(f, "text of {need} bytes; working memory was made for {have}")
            }
            Self::NoToken { byte } => write!(f, "the vocabulary has no token for byte {byte:#04x}"),
            Self::BadToken { token } => write!(f, "{token} is no token"),
        }
    }
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { need, have } => write!(f, "arena is full: {need} bytes needed, {have} left"),
            Self::TooLarge => write!(f, "more memory asked for than can be addressed"),
        }
    }
}

impl core::error::Error for TokenizeError {}
impl core::error::Error for ArenaError {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn messages_name_the_problem_and_the_limit() {
        let error = ModelError::UnsupportedType { tensor: 7, id: 14 };
        assert_eq!(error.to_string(), "tensor 7 has type 14 (q6_k), which is not supported");
        let error = ModelError::UnsupportedArchitecture { name: ShortName::new("mambä".as_bytes()) };
        assert!(error.to_string().starts_with("architecture \"mamb??\""));
        let error = ModelError::OutOfRange { key: "block_count", value: u64::MAX, min: 1, max: 512 };
        assert_eq!(error.to_string(), "metadata key block_count: -1 is not in 1..=512");
        assert_eq!(ModelError::from(ArenaError::TooLarge).class(), ErrorClass::Memory);
    }

    #[test]
    fn short_names_are_cut() {
        assert_eq!(ShortName::new(&[b'a'; 100]).as_str().len(), 24);
        assert_eq!(ShortName::new(b"").as_str(), "");
    }

    #[test]
    fn errors_are_small() {
        assert!(size_of::<ModelError>() <= 48);
    }
}
