//! Writes GGUF version 3 to any sink, without memory of its own.
//!
//! A file has its parts in order: counts, keys, tensor infos, data. The writer goes through them in that order: counts
//! are said up front, infos fix where the data will lie, and data follows tensor by tensor in pieces of any size.

use super::limits;
use super::tensor::{MAX_DIMS, tensor_bytes};
use super::value::{Array, Value, ValueType};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, alignment};
use crate::error::ModelError;
use core::fmt;
use core::num::NonZeroU32;
use corelm_ops::GgmlType;

/// Where bytes go.
pub trait Sink {
    /// Takes all of `bytes`.
    ///
    /// # Errors
    ///
    /// [`SinkFull`] when it cannot; a part may have been taken.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull>;
}

/// A sink took no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkFull;

/// The slice shrinks to what is left of it.
impl Sink for &mut [u8] {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        let (taken, rest) = core::mem::take(self).split_at_mut_checked(bytes.len()).ok_or(SinkFull)?;
        for (dst, &byte) in taken.iter_mut().zip(bytes) {
            *dst = byte;
        }
        *self = rest;
        Ok(())
    }
}

#[cfg(feature = "std")]
impl Sink for std::vec::Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Why a file was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The sink took no more bytes.
    SinkFull,
    /// More or fewer keys, infos, tensors or bytes than said, or one of them out of its turn.
    OutOfTurn,
    /// A name, an alignment or dimensions that no reader would take.
    Invalid(ModelError),
}

impl WriteError {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::SinkFull => 20,
            Self::OutOfTurn => 21,
            Self::Invalid(error) => error.code(),
        }
    }
}

impl From<SinkFull> for WriteError {
    fn from(_: SinkFull) -> Self {
        Self::SinkFull
    }
}

impl From<ModelError> for WriteError {
    fn from(error: ModelError) -> Self {
        Self::Invalid(error)
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SinkFull => f.write_str("no room for more bytes of the file"),
            Self::OutOfTurn => f.write_str("parts of the file are not as announced or not in order"),
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for WriteError {}

/// A GGUF file in the making.
///
/// ```
/// use corelm::gguf::{Image, Value, writer::Writer};
/// use corelm::ops::GgmlType;
///
/// let mut file = [0; 256];
/// let mut writer = Writer::new(&mut file[..], 1, 1)?;
/// writer.value("general.architecture", Value::String(b"llama"))?;
/// writer.tensor("output_norm.weight", &[2], GgmlType::F32)?;
/// writer.data(&1.0f32.to_le_bytes())?;
/// writer.data(&2.0f32.to_le_bytes())?;
/// writer.end_tensor()?;
/// let n_left = writer.finish()?.len();
///
/// let image = Image::parse(&file[..256 - n_left])?;
/// assert_eq!(image.tensor("output_norm.weight").map(|t| t.bytes.len()), Some(8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer<S> {
    sink: S,
    /// Bytes written so far.
    offset: u64,
    alignment: NonZeroU32,
    keys_left: u64,
    infos_left: u64,
    tensors_left: u64,
    /// Bytes of data that the infos announce, padding included.
    data_bytes: u64,
    /// Where the data begins, once it does.
    data_begin: Option<u64>,
}

impl<S: Sink> Writer<S> {
    /// Begins a file of `n_keys` keys and `n_tensors` tensors.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn new(sink: S, n_keys: u64, n_tensors: u64) -> Result<Self, WriteError> {
        limits::KEYS.check(n_keys)?;
        limits::TENSORS.check(n_tensors)?;
        let mut writer = Self {
            sink,
            offset: 0,
            alignment: DEFAULT_ALIGNMENT,
            keys_left: n_keys,
            infos_left: n_tensors,
            tensors_left: n_tensors,
            data_bytes: 0,
            data_begin: None,
        };
        writer.put(&MAGIC)?;
        writer.put(&3u32.to_le_bytes())?;
        writer.put(&n_tensors.to_le_bytes())?;
        writer.put(&n_keys.to_le_bytes())?;
        Ok(writer)
    }

    /// Writes a key and its value, arrays of another file included. `general.alignment` takes effect.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn value(&mut self, key: &str, value: Value<'_>) -> Result<(), WriteError> {
        if key == ALIGNMENT_KEY {
            self.alignment = alignment(value)?;
        }
        self.key(key, value.ty())?;
        match value {
            Value::U8(x) => self.put(&x.to_le_bytes()),
            Value::I8(x) => self.put(&x.to_le_bytes()),
            Value::U16(x) => self.put(&x.to_le_bytes()),
            Value::I16(x) => self.put(&x.to_le_bytes()),
            Value::U32(x) => self.put(&x.to_le_bytes()),
            Value::I32(x) => self.put(&x.to_le_bytes()),
            Value::F32(x) => self.put(&x.to_le_bytes()),
            Value::Bool(x) => self.put(&[x.into()]),
            Value::String(x) => self.string(x),
            Value::Array(x) => self.array(x),
            Value::U64(x) => self.put(&x.to_le_bytes()),
            Value::I64(x) => self.put(&x.to_le_bytes()),
            Value::F64(x) => self.put(&x.to_le_bytes()),
        }
    }

    /// Writes a key and an array of strings.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn strings<B: AsRef<[u8]>>(
        &mut self,
        key: &str,
        strings: impl ExactSizeIterator<Item = B>,
    ) -> Result<(), WriteError> {
        self.key(key, ValueType::Array)?;
        self.array_header(ValueType::String, strings.len())?;
        for string in strings {
            self.string(string.as_ref())?;
        }
        Ok(())
    }

    /// Writes a key and an array of floats.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn f32s(&mut self, key: &str, values: impl ExactSizeIterator<Item = f32>) -> Result<(), WriteError> {
        self.key(key, ValueType::Array)?;
        self.array_header(ValueType::F32, values.len())?;
        for value in values {
            self.put(&value.to_le_bytes())?;
        }
        Ok(())
    }

    /// Writes a key and an array of integers.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn i32s(&mut self, key: &str, values: impl ExactSizeIterator<Item = i32>) -> Result<(), WriteError> {
        self.key(key, ValueType::Array)?;
        self.array_header(ValueType::I32, values.len())?;
        for value in values {
            self.put(&value.to_le_bytes())?;
        }
        Ok(())
    }

    /// Writes a tensor's info; `dims` has the fastest dimension, the columns, first.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn tensor(&mut self, name: &str, dims: &[u64], ty: GgmlType) -> Result<(), WriteError> {
        if self.keys_left != 0 {
            return Err(WriteError::OutOfTurn);
        }
        self.infos_left = self.infos_left.checked_sub(1).ok_or(WriteError::OutOfTurn)?;
        let tensor = u32::try_from(self.tensors_left.saturating_sub(self.infos_left).saturating_sub(1));
        let tensor = tensor.unwrap_or(u32::MAX);
        let n_dims = u32::try_from(dims.len()).unwrap_or(u32::MAX);
        if dims.is_empty() || dims.len() > MAX_DIMS || dims.contains(&0) {
            return Err(ModelError::BadDims { tensor, n_dims }.into());
        }
        self.name(name, limits::NAME_BYTES)?;
        self.put(&n_dims.to_le_bytes())?;
        let mut all_dims = [1; MAX_DIMS];
        for (dst, &dim) in all_dims.iter_mut().zip(dims) {
            *dst = limits::DIM.check(dim)?;
            self.put(&dim.to_le_bytes())?;
        }
        self.put(&ty.id().to_le_bytes())?;
        self.put(&self.data_bytes.to_le_bytes())?;
        let end = self.data_bytes.checked_add(tensor_bytes(tensor, &all_dims, ty)?);
        let padded = end.and_then(|end| end.checked_next_multiple_of(self.alignment.get().into()));
        self.data_bytes = padded.ok_or(ModelError::TensorTooLarge { tensor })?;
        Ok(())
    }

    /// Writes some of a tensor's data; tensors follow each other in the order of their infos.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if self.data_begin.is_none() {
            self.begin_data()?;
        }
        self.put(bytes)
    }

    /// Ends a tensor: pads to the alignment.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn end_tensor(&mut self) -> Result<(), WriteError> {
        self.tensors_left = self.tensors_left.checked_sub(1).ok_or(WriteError::OutOfTurn)?;
        self.pad()
    }

    /// Ends the file and gives the sink back.
    ///
    /// # Errors
    ///
    /// [`WriteError::OutOfTurn`] when less or more was written than announced.
    pub fn finish(mut self) -> Result<S, WriteError> {
        if self.data_begin.is_none() {
            self.begin_data()?;
        }
        let written = self.data_begin.and_then(|begin| self.offset.checked_sub(begin));
        if self.tensors_left != 0 || written != Some(self.data_bytes) {
            return Err(WriteError::OutOfTurn);
        }
        Ok(self.sink)
    }

    fn begin_data(&mut self) -> Result<(), WriteError> {
        if self.keys_left != 0 || self.infos_left != 0 {
            return Err(WriteError::OutOfTurn);
        }
        self.pad()?;
        self.data_begin = Some(self.offset);
        Ok(())
    }

    fn key(&mut self, key: &str, ty: ValueType) -> Result<(), WriteError> {
        self.keys_left = self.keys_left.checked_sub(1).ok_or(WriteError::OutOfTurn)?;
        self.name(key, limits::KEY_BYTES)?;
        self.put(&ty.id().to_le_bytes())
    }

    fn name(&mut self, name: &str, limit: limits::Limit) -> Result<(), WriteError> {
        limit.check(name.len() as u64)?;
        if name.is_empty() {
            return Err(ModelError::EmptyName { offset: self.offset }.into());
        }
        self.string(name.as_bytes())
    }

    fn string(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.put(&(bytes.len() as u64).to_le_bytes())?;
        self.put(bytes)
    }

    fn array(&mut self, array: Array<'_>) -> Result<(), WriteError> {
        self.array_header(array.element(), array.len())?;
        self.put(array.bytes())
    }

    fn array_header(&mut self, element: ValueType, len: usize) -> Result<(), WriteError> {
        self.put(&element.id().to_le_bytes())?;
        self.put(&(len as u64).to_le_bytes())
    }

    fn pad(&mut self) -> Result<(), WriteError> {
        let alignment = u64::from(self.alignment.get());
        for _ in 0..self.offset.wrapping_neg() & alignment.saturating_sub(1) {
            self.put(&[0])?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.sink.write(bytes)?;
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        Ok(())
    }
}
