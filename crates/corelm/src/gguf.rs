//! GGUF model files, read in place: one bounded pass checks everything, after which only slices are handed out.
//!
//! The format is that of <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian:
//! header, metadata (keys and typed values), tensor infos, padding to `general.alignment`, tensor data. Nothing is
//! copied and the file may lie at any address.

mod cursor;
mod digest;
pub mod limits;
mod order;
mod repeated;
mod tensor;
mod value;
pub mod writer;

pub use digest::{Digest, Sha256, Verify, WrongDigest};
pub use tensor::{MAX_DIMS, TensorInfo};
pub use value::{Array, Value, ValueType};

use crate::error::ModelError;
use core::num::NonZeroU32;
use cursor::Cursor;
use order::for_each_in_order;
use repeated::first_repeated;
use tensor::RawInfo;
use value::ArrayEnds;

const MAGIC: [u8; 4] = *b"GGUF";
const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: NonZeroU32 = NonZeroU32::new(32).unwrap();

/// A checked model file.
///
/// Small enough for a kernel's stack. Looking up a key or a tensor walks the metadata; it stays cheap because long
/// arrays are hopped over.
#[derive(Clone, Copy, Debug)]
pub struct Image<'m> {
    version: u32,
    alignment: NonZeroU32,
    n_keys: u32,
    n_tensors: u32,
    /// Both at their place in the file.
    metadata: Cursor<'m>,
    infos: Cursor<'m>,
    /// From the first byte of tensor data to the end of the file.
    data: &'m [u8],
    ends: ArrayEnds,
}

impl<'m> Image<'m> {
    /// Checks a whole file: header, every key and value, every tensor info; sizes, offsets and alignment of all data,
    /// which lies in the file without overlap; no key and no name twice. Reads no byte of tensor data.
    ///
    /// Time is in proportion to the metadata, and at worst to that again for each 256 keys or tensors, which are limited.
    ///
    /// # Errors
    ///
    /// [`ModelError`] for the first thing found wrong.
    pub fn parse(file: &'m [u8]) -> Result<Self, ModelError> {
        let mut cursor = Cursor::new(file, 0);
        let version = read_version(&mut cursor)?;
        let n_tensors = cursor.u64()?;
        let n_keys = cursor.u64()?;
        let n_keys = limits::KEYS.check_u32(n_keys)?;
        let n_tensors = limits::TENSORS.check_u32(n_tensors)?;

        let mut image = Self {
            version,
            alignment: DEFAULT_ALIGNMENT,
            n_keys: 0,
            n_tensors,
            metadata: cursor,
            infos: cursor,
            data: &[],
            ends: ArrayEnds::NONE,
        };
        image.read_keys(&mut cursor, n_keys)?;
        cursor.expect(n_tensors.into(), RawInfo::LEAST_BYTES)?;
        image.infos = cursor;
        let in_order = read_infos(&mut cursor, n_tensors)?;
        let data_begin =
            cursor.offset().checked_next_multiple_of(image.alignment.get().into()).unwrap_or(u64::MAX);
        image.data = usize::try_from(data_begin).ok().and_then(|at| file.get(at..)).unwrap_or_default();
        image.check_places(data_begin)?;
        image.check_names()?;
        if !in_order {
            image.check_overlaps()?;
        }
        Ok(image)
    }

    /// Reads the keys for the first time, and finds the first that is there twice.
    fn read_keys(&mut self, cursor: &mut Cursor<'m>, n_keys: u32) -> Result<(), ModelError> {
        const LEAST_BYTES: u64 = 8 + 4 + 1; // an empty key, a type, a byte
        cursor.expect(n_keys.into(), LEAST_BYTES)?;
        // What is wrong behind a key that is there twice is not the first thing that is.
        let read = (0..n_keys).try_for_each(|_| self.read_key(cursor));
        let repeated = first_repeated(|| self.keys(), |place| self.metadata.at(place).string().ok());
        if let Some((second, _)) = repeated {
            return Err(ModelError::DuplicateKey { offset: second.into() });
        }
        read
    }

    /// Reads the next key, which counts from then on, and its value.
    fn read_key(&mut self, cursor: &mut Cursor<'m>) -> Result<(), ModelError> {
        let key = cursor.name(limits::KEY_BYTES)?;
        self.n_keys = self.n_keys.wrapping_add(1);
        let value = self.ends.read_first(cursor)?;
        if key == ALIGNMENT_KEY {
            self.alignment = alignment(value)?;
        }
        Ok(())
    }

    /// Where keys stand, and their bytes. The last value may be one that cannot be read.
    fn keys(&self) -> impl Iterator<Item = (u32, &'m [u8])> {
        let (mut cursor, mut is_first) = (self.metadata, true);
        (0..self.n_keys).map_while(move |_| {
            if !core::mem::take(&mut is_first) {
                Value::read(&mut cursor, &self.ends).ok()?;
            }
            Some((cursor.place(), cursor.string().ok()?))
        })
    }

    /// Checks that each tensor is aligned and within the file.
    fn check_places(&self, data_begin: u64) -> Result<(), ModelError> {
        for info in self.raw_infos() {
            if info.offset % u64::from(self.alignment.get()) != 0 {
                return Err(ModelError::Misaligned { tensor: info.index, offset: info.offset });
            }
            let data_bytes = self.data.len() as u64;
            if info.range().is_none_or(|range| range.end > data_bytes) {
                return Err(ModelError::Truncated {
                    offset: data_begin.saturating_add(info.offset),
                    need: info.n_bytes,
                    have: data_bytes.saturating_sub(info.offset),
                });
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), ModelError> {
        let name_at = |place| self.infos.at(place).string().ok();
        let Some((second, first)) = first_repeated(|| self.names(), name_at) else { return Ok(()) };
        Err(ModelError::DuplicateTensor { first: self.index_of(first), second: self.index_of(second) })
    }

    /// Checks that none begins before the end of another, in the order of their beginnings.
    fn check_overlaps(&self) -> Result<(), ModelError> {
        let info_at = |place| RawInfo::read(&mut self.infos.at(place), 0).ok();
        let infos = || {
            let mut cursor = self.infos;
            (0..self.n_tensors).map_while(move |index| {
                let place = cursor.place();
                Some((place, RawInfo::read(&mut cursor, index).ok()?.offset))
            })
        };
        let (mut before, mut end, mut overlap) = (0, 0, None);
        for_each_in_order(
            infos,
            |place| info_at(place).map(|info| info.offset),
            |place| {
                let Some(range) = info_at(place).and_then(|info| info.range()) else { return };
                if range.start < end && overlap.is_none() {
                    overlap = Some((before, place));
                }
                if range.end > end {
                    (before, end) = (place, range.end);
                }
            },
        );
        let Some((one, other)) = overlap else { return Ok(()) };
        let (first, second) = (self.index_of(one.min(other)), self.index_of(one.max(other)));
        Err(ModelError::Overlap { first, second })
    }

    /// Version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bytes on whose multiples tensors begin, counted from the start of the file.
    pub fn alignment(&self) -> NonZeroU32 {
        self.alignment
    }

    /// Number of metadata keys.
    pub fn n_keys(&self) -> usize {
        self.n_keys as usize
    }

    /// Number of tensors.
    pub fn n_tensors(&self) -> usize {
        self.n_tensors as usize
    }

    /// Keys and values in the order of the file.
    pub fn metadata(&self) -> impl Iterator<Item = (&'m str, Value<'m>)> + use<'m> {
        let (mut cursor, ends) = (self.metadata, self.ends);
        (0..self.n_keys).map_while(move |_| {
            let key = cursor.name(limits::KEY_BYTES).ok()?;
            Some((key, Value::read(&mut cursor, &ends).ok()?))
        })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'m>> {
        self.metadata().find(|entry| entry.0 == key).map(|entry| entry.1)
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    ///
    /// [`ModelError::MissingKey`].
    pub fn require(&self, key: &'static str) -> Result<Value<'m>, ModelError> {
        self.get(key).ok_or(ModelError::MissingKey { key })
    }

    /// An integer that fits in `u32`, if the key is there.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`], [`ModelError::OutOfRange`].
    pub fn u32(&self, key: &'static str) -> Result<Option<u32>, ModelError> {
        self.get(key).map(|value| value.to_u32(key, 0, u32::MAX)).transpose()
    }

    /// A float, if the key is there.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`].
    pub fn f32(&self, key: &'static str) -> Result<Option<f32>, ModelError> {
        self.get(key).map(|value| value.to_f32(key)).transpose()
    }

    /// A bool, if the key is there.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`].
    pub fn bool(&self, key: &'static str) -> Result<Option<bool>, ModelError> {
        self.get(key).map(|value| value.to_bool(key)).transpose()
    }

    /// The bytes of a string, if the key is there.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`].
    pub fn bytes(&self, key: &'static str) -> Result<Option<&'m [u8]>, ModelError> {
        self.get(key).map(|value| value.to_bytes(key)).transpose()
    }

    /// An array of elements of one type, if the key is there.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`].
    pub fn array(&self, key: &'static str, element: ValueType) -> Result<Option<Array<'m>>, ModelError> {
        self.get(key).map(|value| value.to_array(key, element)).transpose()
    }

    /// Tensors in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'m>> + use<'m> {
        let data = self.data;
        self.raw_infos().map_while(move |info| {
            let range = info.range()?;
            let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
            Some(TensorInfo {
                index: info.index,
                name: info.name,
                dims: info.dims,
                n_dims: info.n_dims,
                ty: info.ty,
                bytes: data.get(range)?,
            })
        })
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<TensorInfo<'m>> {
        self.tensors().find(|tensor| tensor.name == name)
    }

    /// Where tensor infos stand, and their names.
    fn names(&self) -> impl Iterator<Item = (u32, &'m [u8])> + use<'m> {
        let mut cursor = self.infos;
        (0..self.n_tensors).map_while(move |_| Some((cursor.place(), RawInfo::read_name(&mut cursor).ok()?)))
    }

    /// The number of the tensor whose info stands at `place`.
    fn index_of(&self, place: u32) -> u32 {
        (0..self.n_tensors).zip(self.names()).find(|(_, (at, _))| *at == place).map_or(0, |found| found.0)
    }

    fn raw_infos(&self) -> impl Iterator<Item = RawInfo<'m>> + use<'m> {
        let mut cursor = self.infos;
        (0..self.n_tensors).map_while(move |index| RawInfo::read(&mut cursor, index).ok())
    }
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, ModelError> {
    cursor.expect(1, 24)?; // the whole header, so that what is cut there is called so
    let magic = cursor.array()?;
    if magic != MAGIC {
        return Err(ModelError::BadMagic { found: u32::from_le_bytes(magic) });
    }
    match cursor.u32()? {
        version @ (2 | 3) => Ok(version),
        version if matches!(version.swap_bytes(), 2 | 3) => Err(ModelError::BigEndian),
        version => Err(ModelError::UnsupportedVersion { version }),
    }
}

/// Reads the tensor infos for the first time; says whether each begins where the one before has ended or later.
fn read_infos(cursor: &mut Cursor<'_>, n_tensors: u32) -> Result<bool, ModelError> {
    let mut in_order = true;
    let mut end = Some(0);
    for index in 0..n_tensors {
        let info = RawInfo::read(cursor, index)?;
        in_order &= end.is_some_and(|end| end <= info.offset);
        end = info.range().map(|range| range.end);
    }
    Ok(in_order)
}

fn alignment(value: Value<'_>) -> Result<NonZeroU32, ModelError> {
    match value {
        Value::U32(a) if a.is_power_of_two() && (8..=65_536).contains(&a) => {
            NonZeroU32::new(a).ok_or(ModelError::BadAlignment { value: 0, found: value.ty().id() })
        }
        _ => {
            Err(ModelError::BadAlignment { value: value.integer_bits().unwrap_or(0), found: value.ty().id() })
        }
    }
}
