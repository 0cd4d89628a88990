//! What can be wrong with a template or a conversation.

use super::Role;
use crate::error::{ModelError, ShortName, TokenizeError};
use core::fmt;

/// Why a conversation was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChatError {
    /// The model file has no template.
    NoTemplate,
    /// The template is of no family that is known.
    UnknownTemplate,
    /// No template has this name.
    UnknownName {
        /// The name, shortened.
        name: ShortName,
    },
    /// No role has this name.
    UnknownRole {
        /// The name, shortened.
        name: ShortName,
    },
    /// There is nothing to write.
    NoMessages,
    /// The template has no place for a message of this role, or not there.
    NoPlace {
        /// The template's name.
        template: &'static str,
        /// Which message it is, from 0.
        index: usize,
        /// Its role.
        role: Role,
    },
    /// The model file has something else in the place of a template, or a template that is too long.
    Model(ModelError),
    /// The prompt has too little room.
    Tokenize(TokenizeError),
}

impl ChatError {
    pub(super) fn unknown_name(name: &str) -> Self {
        Self::UnknownName { name: ShortName::new(name.as_bytes()) }
    }

    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::NoTemplate => 600,
            Self::UnknownTemplate => 601,
            Self::UnknownName { .. } => 602,
            Self::UnknownRole { .. } => 603,
            Self::NoMessages => 604,
            Self::NoPlace { .. } => 605,
            Self::Model(error) => error.code(),
            Self::Tokenize(error) => error.code(),
        }
    }
}

impl From<ModelError> for ChatError {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl From<TokenizeError> for ChatError {
    fn from(error: TokenizeError) -> Self {
        Self::Tokenize(error)
    }
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTemplate => f.write_str("the model has no chat template"),
            Self::UnknownTemplate => f.write_str("the model's chat template is of no known family"),
            Self::UnknownName { name } => write!(f, "no chat template is called \"{name}\""),
            Self::UnknownRole { name } => write!(f, "no role is called \"{name}\""),
            Self::NoMessages => f.write_str("a conversation without messages"),
            Self::NoPlace { template, index, role } => {
                write!(f, "chat template {template} has no place for message {index}, of role {role}")
            }
            Self::Model(error) => error.fmt(f),
            Self::Tokenize(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ChatError {}
