//! The limits of the reader in one table, each with its reason. None depends on a number in the file.

use crate::error::ModelError;

/// The largest value of something that a file announces.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What is limited, for the message.
    pub what: &'static str,
    /// The largest value accepted.
    pub max: u64,
}

impl Limit {
    const fn new(what: &'static str, max: u64) -> Self {
        Self { what, max }
    }

    /// `value`, if it is within the limit.
    ///
    /// # Errors
    ///
    /// [`ModelError::Limit`] when it is not.
    pub fn check(self, value: u64) -> Result<u64, ModelError> {
        if value > self.max {
            return Err(ModelError::Limit { what: self.what, value, max: self.max });
        }
        Ok(value)
    }

    /// As [`Limit::check`], for the limits that fit in 32 bits.
    ///
    /// # Errors
    ///
    /// [`ModelError::Limit`] when it is not within it.
    pub fn check_u32(self, value: u64) -> Result<u32, ModelError> {
        u32::try_from(self.check(value)?).map_err(|_| ModelError::Limit {
            what: self.what,
            value,
            max: self.max,
        })
    }
}

/// Header, metadata and tensor infos: a vocabulary of 2^20 long tokens with its merges. Offsets in it fit in `u32`.
pub const METADATA_BYTES: Limit = Limit::new("metadata bytes", 64 << 20);
/// Keys are looked for from the first on; models have 20 to 60.
pub const KEYS: Limit = Limit::new("number of metadata keys", 1024);
/// The format's own.
pub const KEY_BYTES: Limit = Limit::new("bytes of a key", 65_535);
/// Arrays in arrays: one level is in use; each costs a stack slot while passing over them.
pub const ARRAY_DEPTH: Limit = Limit::new("nesting of arrays", 4);
/// Arrays of more than 32 strings or arrays: their ends are remembered, so that looking up a key stays cheap. A model
/// has tokens, merges and perhaps chat templates.
pub const LONG_ARRAYS: Limit = Limit::new("number of long arrays of strings", 16);
/// Tensors are put in order by a pass over all of them for each 256, at worst; 126 layers of 20 tensors are 2 520.
pub const TENSORS: Limit = Limit::new("number of tensors", 8192);
/// The format's own.
pub const NAME_BYTES: Limit = Limit::new("bytes of a tensor name", 64);
/// Rows and columns are 31-bit numbers in ggml, too.
pub const DIM: Limit = Limit::new("dimension of a tensor", i32::MAX as u64);
/// Layers; the largest published model has 126.
pub const LAYERS: Limit = Limit::new("number of layers", 512);
/// Any vector of a layer. Products of two widths and a vocabulary then fit in 64 bits with room.
pub const WIDTH: Limit = Limit::new("width of a vector", 65_536);
/// Tokens; the largest published vocabularies have 2^18.
pub const VOCAB: Limit = Limit::new("vocabulary size", 1 << 20);
/// Bytes of one token: fits a caller's buffer.
pub const TOKEN_BYTES: Limit = Limit::new("bytes of a token", 64 << 10);
/// Bytes of a chat template: searched for some eighty marks; the longest published ones have 2^15.
pub const CHAT_TEMPLATE_BYTES: Limit = Limit::new("bytes of a chat template", 1 << 20);
