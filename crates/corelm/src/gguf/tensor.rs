//! Tensor infos: what the file says about each tensor, and the one function that multiplies its dimensions.

use super::cursor::Cursor;
use super::limits;
use crate::error::ModelError;
use core::num::NonZeroU64;
use core::ops::Range;
use corelm_ops::block::GgmlType;

/// Most dimensions of a tensor.
pub const MAX_DIMS: usize = 4;

/// A tensor in a model file.
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo<'m> {
    /// Its place in the list of the file; errors name it.
    pub index: u32,
    /// Its name.
    pub name: &'m str,
    /// Its dimensions, the fastest first: columns, rows, and so on. Those beyond `n_dims` are 1.
    pub dims: [u64; MAX_DIMS],
    /// How many dimensions the file gives, 1..=4.
    pub n_dims: u32,
    /// The type of its values.
    pub ty: GgmlType,
    /// Its data, whole blocks in row-major order, at any address.
    pub bytes: &'m [u8],
}

/// A tensor info before its data has been looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawInfo<'m> {
    pub index: u32,
    pub name: &'m str,
    pub dims: [u64; MAX_DIMS],
    pub n_dims: u32,
    pub ty: GgmlType,
    /// From the first byte of all data.
    pub offset: u64,
    pub n_bytes: u64,
}

impl<'m> RawInfo<'m> {
    /// Least bytes of an info: an empty name, one dimension.
    pub const LEAST_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

    /// Reads the info of tensor `index` and checks all that can be said about it alone.
    pub fn read(cursor: &mut Cursor<'m>, index: u32) -> Result<Self, ModelError> {
        let name = cursor.name(limits::NAME_BYTES)?;
        let n_dims = cursor.u32()?;
        let bad_dims = ModelError::BadDims { tensor: index, n_dims };
        if n_dims == 0 || n_dims > MAX_DIMS as u32 {
            return Err(bad_dims);
        }
        let mut dims = [1; MAX_DIMS];
        for (dim, _) in dims.iter_mut().zip(0..n_dims) {
            *dim = limits::DIM.check(cursor.u64()?)?;
            if *dim == 0 {
                return Err(bad_dims);
            }
        }
        let id = cursor.u32()?;
        let ty = GgmlType::from_id(id).ok_or(ModelError::UnsupportedType { tensor: index, id })?;
        let offset = cursor.u64()?;
        let n_bytes = tensor_bytes(index, &dims, ty)?;
        Ok(Self { index, name, dims, n_dims, ty, offset, n_bytes })
    }

    /// Reads no more than the name and passes over the rest.
    pub fn read_name(cursor: &mut Cursor<'m>) -> Result<&'m [u8], ModelError> {
        let name = cursor.string()?;
        let n_dims = cursor.u32()?;
        cursor.bytes(u64::from(n_dims).saturating_mul(8).saturating_add(4 + 8))?;
        Ok(name)
    }

    /// Where its bytes lie in the data of the file; `None` when the end does not fit in 64 bits.
    pub fn range(&self) -> Option<Range<u64>> {
        Some(self.offset..self.offset.checked_add(self.n_bytes)?)
    }
}

/// Bytes of a tensor: rows of whole blocks. Nobody else multiplies dimensions.
pub(super) fn tensor_bytes(tensor: u32, dims: &[u64; MAX_DIMS], ty: GgmlType) -> Result<u64, ModelError> {
    let [cols, rows @ ..] = *dims;
    let block = NonZeroU64::try_from(ty.block_values()).unwrap_or(NonZeroU64::MIN);
    if cols % block != 0 {
        let block = u32::try_from(block.get()).unwrap_or(u32::MAX);
        return Err(ModelError::RaggedRow { tensor, cols, block });
    }
    let row_bytes = (cols / block).checked_mul(ty.block_bytes().get() as u64);
    rows.iter()
        .try_fold(row_bytes, |bytes, &dim| Some(bytes?.checked_mul(dim)))
        .flatten()
        .ok_or(ModelError::TensorTooLarge { tensor })
}
