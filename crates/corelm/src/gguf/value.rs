//! Metadata values: scalars by value, strings and arrays as views of the file.

use super::cursor::Cursor;
use super::limits;
use crate::error::ModelError;

/// The type of a metadata value; ids as in the GGUF specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// The type with this id of the format.
    pub const fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Its id in the format.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Least bytes of one value, and whether every value has that many.
    const fn least_bytes(self) -> (u64, bool) {
        match self {
            Self::U8 | Self::I8 | Self::Bool => (1, true),
            Self::U16 | Self::I16 => (2, true),
            Self::U32 | Self::I32 | Self::F32 => (4, true),
            Self::U64 | Self::I64 | Self::F64 => (8, true),
            Self::String => (8, false),
            Self::Array => (12, false),
        }
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ModelError> {
        let offset = cursor.offset();
        let id = cursor.u32()?;
        Self::from_id(id).ok_or(ModelError::BadValueType { offset, id })
    }
}

/// A metadata value.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Value<'m> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Bytes, not checked to be UTF-8: tokens may be any.
    String(&'m [u8]),
    Array(Array<'m>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'m> Value<'m> {
    /// Reads a type and a value of it, hopping over arrays whose ends are known.
    pub(super) fn read(cursor: &mut Cursor<'m>, ends: &ArrayEnds) -> Result<Self, ModelError> {
        let ty = ValueType::read(cursor)?;
        Self::read_as(cursor, ty, ends)
    }

    fn read_as(cursor: &mut Cursor<'m>, ty: ValueType, ends: &ArrayEnds) -> Result<Self, ModelError> {
        Ok(match ty {
            ValueType::U8 => Self::U8(u8::from_le_bytes(cursor.array()?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(cursor.array()?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(cursor.array()?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(cursor.array()?)),
            ValueType::U32 => Self::U32(cursor.u32()?),
            ValueType::I32 => Self::I32(i32::from_le_bytes(cursor.array()?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(cursor.array()?)),
            ValueType::Bool => {
                let offset = cursor.offset();
                match cursor.array()? {
                    [0] => Self::Bool(false),
                    [1] => Self::Bool(true),
                    _ => return Err(ModelError::BadBool { offset }),
                }
            }
            ValueType::String => Self::String(cursor.string()?),
            ValueType::Array => Self::Array(Array::read(cursor, ends)?),
            ValueType::U64 => Self::U64(cursor.u64()?),
            ValueType::I64 => Self::I64(i64::from_le_bytes(cursor.array()?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(cursor.array()?)),
        })
    }

    /// The type of the value.
    pub fn ty(self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// An integer of any type, sign-extended to 64 bits: a negative one is above every limit of this crate.
    pub fn integer_bits(self) -> Option<u64> {
        Some(match self {
            Self::U8(x) => x.into(),
            Self::U16(x) => x.into(),
            Self::U32(x) => x.into(),
            Self::U64(x) => x,
            Self::I8(x) => i64::from(x).cast_unsigned(),
            Self::I16(x) => i64::from(x).cast_unsigned(),
            Self::I32(x) => i64::from(x).cast_unsigned(),
            Self::I64(x) => x.cast_unsigned(),
            _ => return None,
        })
    }

    /// An integer of any type, if it is within `min..=max`.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`] for what is no integer, [`ModelError::OutOfRange`]; both name `key`.
    pub fn to_u32(self, key: &'static str, min: u32, max: u32) -> Result<u32, ModelError> {
        let value = self.integer_bits().ok_or(self.wrong_type(key))?;
        u32::try_from(value).ok().filter(|x| (min..=max).contains(x)).ok_or(ModelError::OutOfRange {
            key,
            value,
            min: min.into(),
            max: max.into(),
        })
    }

    /// A float of 32 bits.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`], naming `key`.
    pub fn to_f32(self, key: &'static str) -> Result<f32, ModelError> {
        match self {
            Self::F32(x) => Ok(x),
            _ => Err(self.wrong_type(key)),
        }
    }

    /// A bool.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`], naming `key`.
    pub fn to_bool(self, key: &'static str) -> Result<bool, ModelError> {
        match self {
            Self::Bool(x) => Ok(x),
            _ => Err(self.wrong_type(key)),
        }
    }

    /// The bytes of a string.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`], naming `key`.
    pub fn to_bytes(self, key: &'static str) -> Result<&'m [u8], ModelError> {
        match self {
            Self::String(bytes) => Ok(bytes),
            _ => Err(self.wrong_type(key)),
        }
    }

    /// An array of elements of type `element`.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`], naming `key` and the type of the element or of what is no array.
    pub fn to_array(self, key: &'static str, element: ValueType) -> Result<Array<'m>, ModelError> {
        match self {
            Self::Array(array) if array.element == element => Ok(array),
            Self::Array(array) => Err(ModelError::WrongType { key, found: array.element.id() }),
            _ => Err(self.wrong_type(key)),
        }
    }

    fn wrong_type(self, key: &'static str) -> ModelError {
        ModelError::WrongType { key, found: self.ty().id() }
    }
}

/// An array of metadata values: a view of its elements in the file.
#[derive(Clone, Copy, Debug)]
pub struct Array<'m> {
    element: ValueType,
    len: usize,
    bytes: &'m [u8],
}

impl<'m> Array<'m> {
    fn read(cursor: &mut Cursor<'m>, ends: &ArrayEnds) -> Result<Self, ModelError> {
        let (element, count) = read_header(cursor)?;
        let from = *cursor;
        match ends.get(cursor.offset()) {
            Some(end) => _ = cursor.bytes(end.saturating_sub(from.offset()))?,
            None => _ = pass_over(cursor, element, count)?,
        }
        let bytes = { from }.bytes(cursor.offset().saturating_sub(from.offset()))?;
        // Every element has a byte at least, so that the count is below the length of a slice.
        Ok(Self { element, len: usize::try_from(count).unwrap_or(usize::MAX), bytes })
    }

    /// The type of all elements.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'m>> + Clone + use<'m> {
        let (mut cursor, element) = (Cursor::new(self.bytes, 0), self.element);
        (0..self.len).map_while(move |_| Value::read_as(&mut cursor, element, &ArrayEnds::NONE).ok())
    }

    /// The bytes of each string, in order; nothing when the elements are no strings.
    pub fn strings(&self) -> impl Iterator<Item = &'m [u8]> + Clone + use<'m> {
        let (mut rest, n) = (self.bytes, if self.element == ValueType::String { self.len } else { 0 });
        (0..n).map_while(move |_| {
            let (len, behind) = rest.split_first_chunk()?;
            let (text, tail) = behind.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
            rest = tail;
            Some(text)
        })
    }

    /// The elements as they lie in the file: strings are a u64 length and its bytes.
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// The string that begins at byte `at` of [`Array::bytes`], and where the next one begins.
    ///
    /// Lets a caller keep an index of offsets for random access; a wrong offset gives `None` or another slice of the
    /// array, nothing worse.
    pub fn string_at(&self, at: usize) -> Option<(&'m [u8], usize)> {
        let (len, rest) = self.bytes.get(at..)?.split_first_chunk()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        Some((rest.get(..len)?, at.checked_add(8)?.checked_add(len)?))
    }
}

fn read_header(cursor: &mut Cursor<'_>) -> Result<(ValueType, u64), ModelError> {
    let element = ValueType::read(cursor)?;
    let count = cursor.u64()?;
    cursor.expect(count, element.least_bytes().0)?;
    Ok((element, count))
}

/// Passes over `count` elements; returns how many strings and arrays it had to look at.
///
/// Arrays in arrays are followed with a counter for each open one: the stack does not grow with the file.
fn pass_over(cursor: &mut Cursor<'_>, element: ValueType, count: u64) -> Result<u64, ModelError> {
    const OUTER: usize = limits::ARRAY_DEPTH.max as usize - 1;
    let mut open = [0u64; OUTER]; // arrays left in each array around the innermost one
    let mut depth = 0usize;
    let (mut element, mut left) = (element, count);
    let mut steps = 0u64;
    loop {
        if let (size, true) = element.least_bytes() {
            let offset = cursor.offset();
            let bytes = cursor.bytes(left.saturating_mul(size))?;
            if element == ValueType::Bool && bytes.iter().any(|&byte| byte > 1) {
                return Err(ModelError::BadBool { offset });
            }
            left = 0;
        }
        if left == 0 {
            let Some(outer) = depth.checked_sub(1) else { return Ok(steps) };
            depth = outer;
            element = ValueType::Array;
            left = open.get(outer).copied().unwrap_or(0);
            continue;
        }
        left = left.wrapping_sub(1); // it is not 0
        steps = steps.wrapping_add(1); // each took 8 bytes of the file
        if element == ValueType::Array {
            let too_deep = ModelError::Limit {
                what: limits::ARRAY_DEPTH.what,
                value: limits::ARRAY_DEPTH.max.saturating_add(1),
                max: limits::ARRAY_DEPTH.max,
            };
            *open.get_mut(depth).ok_or(too_deep)? = left;
            depth = depth.wrapping_add(1); // at most OUTER
            (element, left) = read_header(cursor)?;
        } else {
            cursor.string()?;
        }
    }
}

/// Where long arrays of strings or arrays end, so that nobody passes over them twice.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrayEnds {
    /// (first byte of the elements, byte after them) in the file; the rest is (0, 0), where no array can lie.
    ranges: [(u32, u32); limits::LONG_ARRAYS.max as usize],
    n_ranges: usize,
}

impl ArrayEnds {
    pub const NONE: Self = Self { ranges: [(0, 0); limits::LONG_ARRAYS.max as usize], n_ranges: 0 };
    /// Arrays up to this long are passed over each time.
    const SHORT: u64 = 32;

    fn get(&self, begin: u64) -> Option<u64> {
        let known = self.ranges.get(..self.n_ranges)?;
        known.iter().find(|range| u64::from(range.0) == begin).map(|range| range.1.into())
    }

    /// Reads a type and a value for the first time: as [`Value::read`], and remembers the end if it was far.
    pub fn read_first<'m>(&mut self, cursor: &mut Cursor<'m>) -> Result<Value<'m>, ModelError> {
        let mut ahead = *cursor;
        if ValueType::read(&mut ahead)? == ValueType::Array {
            let (element, count) = read_header(&mut ahead)?;
            let begin = ahead.offset();
            if pass_over(&mut ahead, element, count)? > Self::SHORT {
                let range = self.ranges.get_mut(self.n_ranges).ok_or(ModelError::Limit {
                    what: limits::LONG_ARRAYS.what,
                    value: limits::LONG_ARRAYS.max.saturating_add(1),
                    max: limits::LONG_ARRAYS.max,
                })?;
                // Offsets of metadata are below its limit of 64 MiB.
                let in_metadata = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
                *range = (in_metadata(begin), in_metadata(ahead.offset()));
                self.n_ranges = self.n_ranges.wrapping_add(1);
            }
        }
        Value::read(cursor, self)
    }
}
