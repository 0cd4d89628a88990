//! [`Error`]: an error of any stage, for callers who pass them all on.

use core::fmt;

use super::{ArenaError, ModelError, TokenizeError};
use crate::chat::ChatError;
use crate::generate::GenerateError;
use crate::gguf::WrongDigest;
use crate::plan::PlanError;
use crate::sampler::SamplerError;
use crate::session::SessionError;

/// Defines [`Error`] as one variant a stage.
macro_rules! any_of {
    ($($(#[$doc:meta])* $variant:ident($error:ty),)*) => {
        /// An error of any stage; `?` turns each stage's own into it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[$doc])* $variant($error),)*
        }

        impl Error {
            /// The number of the stage's error, for C callers and logs; never reused.
            pub const fn code(self) -> u32 {
                match self {
                    $(Self::$variant(error) => error.code(),)*
                }
            }
        }

        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(error) => error.fmt(f),)*
                }
            }
        }

        $(
            impl From<$error> for Error {
                fn from(error: $error) -> Self {
                    Self::$variant(error)
                }
            }
        )*
    };
}

any_of! {
    /// The digest of the model file.
    Digest(WrongDigest),
    /// The model file.
    Model(ModelError),
    /// The plan of memory.
    Plan(PlanError),
    /// The memory.
    Arena(ArenaError),
    /// Text to tokens, or back.
    Tokenize(TokenizeError),
    /// A conversation to text.
    Chat(ChatError),
    /// Tokens to logits.
    Session(SessionError),
    /// Logits to a token.
    Sampler(SamplerError),
    /// All of it.
    Generate(GenerateError),
}

impl core::error::Error for Error {}
