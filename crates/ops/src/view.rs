//! Views: weights read in place. Bytes are checked once, here, then trusted.

use core::fmt;
use core::ops::Range;

use crate::block::{Bf16, Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, GgmlType};
use crate::panel::{PANEL_ROWS, Panel, PanelQ4_0, PanelQ4_1, PanelQ8_0};

/// Why bytes cannot be seen as a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewError {
    /// A row of `cols` values is no whole, positive number of blocks.
    RaggedRow {
        /// Values in a row.
        cols: usize,
    },
    /// The matrix needs more bytes than an address can count.
    TooLarge,
    /// The rows lie in panels already.
    Packed,
    /// Fewer bytes are there than the matrix needs.
    Truncated {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RaggedRow { cols } => write!(f, "a row of {cols} values is no whole number of blocks"),
            Self::Packed => write!(f, "the rows lie in panels already"),
            Self::TooLarge => write!(f, "the matrix is larger than memory can be"),
            Self::Truncated { need, have } => write!(f, "the matrix needs {need} bytes, {have} are there"),
        }
    }
}

impl core::error::Error for ViewError {}

/// A row-major matrix of blocks, borrowed; `Copy`.
#[derive(Debug)]
pub struct Rows<'m, B> {
    blocks: &'m [B],
    rows: usize,
    row_blocks: usize,
}

impl<B> Clone for Rows<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for Rows<'_, B> {}

impl<'m, B: Block> Rows<'m, B> {
    /// Borrows the front of `bytes` as a `rows x cols` matrix; nothing is copied. Bytes behind it are ignored.
    ///
    /// # Errors
    ///
    /// [`ViewError::RaggedRow`] when `cols` is zero or no multiple of the block; [`ViewError::TooLarge`] when the size
    /// overflows; [`ViewError::Truncated`] when `bytes` is too short.
    pub fn from_bytes(bytes: &'m [u8], rows: usize, cols: usize) -> Result<Self, ViewError> {
        let row_blocks = Self::row_blocks(cols)?;
        let n_blocks = rows.checked_mul(row_blocks).ok_or(ViewError::TooLarge)?;
        let need = n_blocks.checked_mul(size_of::<B>()).ok_or(ViewError::TooLarge)?;
        let Some(bytes) = bytes.get(..need) else {
            return Err(ViewError::Truncated { need, have: bytes.len() });
        };
        // SAFETY: `B: Block` has alignment 1, no padding and no invalid pattern; `need` bytes were just taken.
        let blocks = unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast::<B>(), n_blocks) };
        Ok(Self { blocks, rows, row_blocks })
    }

    /// Sees `blocks` as rows of `cols` values.
    ///
    /// # Errors
    ///
    /// [`ViewError::RaggedRow`] when `cols` is zero or no multiple of the block, or `blocks` is no whole number of rows.
    pub fn from_blocks(blocks: &'m [B], cols: usize) -> Result<Self, ViewError> {
        let row_blocks = Self::row_blocks(cols)?;
        let rows = blocks.len().checked_div(row_blocks).ok_or(ViewError::RaggedRow { cols })?;
        if rows.checked_mul(row_blocks) != Some(blocks.len()) {
            return Err(ViewError::RaggedRow { cols });
        }
        Ok(Self { blocks, rows, row_blocks })
    }

    fn row_blocks(cols: usize) -> Result<usize, ViewError> {
        let values = B::TYPE.block_values();
        if cols == 0 || cols % values != 0 {
            return Err(ViewError::RaggedRow { cols });
        }
        Ok(cols / values)
    }

    /// Rows.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Values in a row.
    pub fn cols(self) -> usize {
        self.row_blocks * B::VALUES
    }

    /// All blocks, row after row.
    pub fn blocks(self) -> &'m [B] {
        self.blocks
    }

    /// The bytes of the blocks.
    fn bytes(self) -> &'m [u8] {
        // SAFETY: blocks are bytes without padding (`Block`), borrowed for as long.
        unsafe { core::slice::from_raw_parts(self.blocks.as_ptr().cast(), size_of_val(self.blocks)) }
    }

    /// Row `i`, or `None` behind the last.
    pub fn row(self, i: usize) -> Option<&'m [B]> {
        let start = i.checked_mul(self.row_blocks)?;
        self.blocks.get(start..start.checked_add(self.row_blocks)?)
    }

    /// The rows in order.
    pub fn iter(self) -> impl Iterator<Item = &'m [B]> {
        self.blocks.chunks_exact(self.row_blocks.max(1))
    }

    /// The rows of `range`, cut to those there are.
    pub fn slice(self, range: Range<usize>) -> Self {
        let end = range.end.min(self.rows);
        let start = range.start.min(end);
        let blocks = self.blocks.get(start * self.row_blocks..end * self.row_blocks).unwrap_or(&[]);
        Self { blocks, rows: end - start, row_blocks: self.row_blocks }
    }
}

/// A matrix whose rows lie in panels of sixteen ([`panel`](crate::panel)), those behind the last whole panel as in
/// [`Rows`]; borrowed, `Copy`. It has as many bytes as the same matrix row by row.
#[derive(Debug)]
pub struct Packed<'m, P: Panel> {
    /// Whole panels, `row_blocks` for sixteen rows.
    panels: &'m [P],
    row_blocks: usize,
    /// The first row of the matrix and the row behind its last one in the panels, counted from the first panel's first.
    inside: (usize, usize),
    /// Rows behind the panels.
    rest: Rows<'m, P::Block>,
}

impl<P: Panel> Clone for Packed<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P: Panel> Copy for Packed<'_, P> {}

impl<'m, P: Panel> Packed<'m, P> {
    /// Borrows the front of `bytes` as a `rows x cols` matrix; nothing is copied. Bytes behind it are ignored.
    ///
    /// # Errors
    ///
    /// As [`Rows::from_bytes`].
    pub fn from_bytes(bytes: &'m [u8], rows: usize, cols: usize) -> Result<Self, ViewError> {
        let all = Rows::<P::Block>::from_bytes(bytes, rows, cols)?;
        let end = rows - rows % PANEL_ROWS;
        let n_panels = end / PANEL_ROWS * all.row_blocks;
        // SAFETY: a panel is as large as sixteen blocks, of which the first `end` rows hold that many times sixteen;
        // alignment is 1 and every pattern is valid.
        let panels = unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast::<P>(), n_panels) };
        Ok(Self { panels, row_blocks: all.row_blocks, inside: (0, end), rest: all.slice(end..rows) })
    }

    /// Rows.
    pub fn rows(self) -> usize {
        self.inside.1 - self.inside.0 + self.rest.rows()
    }

    /// Values in a row.
    pub fn cols(self) -> usize {
        self.row_blocks * P::Block::VALUES
    }

    /// The rows of `range`, cut to those there are.
    pub fn slice(self, range: Range<usize>) -> Self {
        let n_inside = self.inside.1 - self.inside.0;
        let inside = |row: usize| self.inside.0 + row.min(n_inside);
        let (start, end) = (inside(range.start), inside(range.end).max(inside(range.start)));
        let (first, last) = (start / PANEL_ROWS, end.div_ceil(PANEL_ROWS));
        let panels = self.panels.get(first * self.row_blocks..last * self.row_blocks).unwrap_or(&[]);
        let skipped = first * PANEL_ROWS;
        let rest = range.start.saturating_sub(n_inside)..range.end.saturating_sub(n_inside);
        Self { panels, inside: (start - skipped, end - skipped), rest: self.rest.slice(rest), ..self }
    }

    /// The panels of sixteen rows each, with which of the sixteen belong to the matrix.
    pub(crate) fn panels(self) -> impl Iterator<Item = (&'m [P], Range<usize>)> {
        let (start, end) = self.inside;
        (self.panels.chunks_exact(self.row_blocks.max(1)).zip(0..)).map(move |(panels, i)| {
            let first = i * PANEL_ROWS;
            (panels, start.max(first) - first..end.min(first + PANEL_ROWS) - first)
        })
    }

    /// As many whole panels in two halves, one behind the other; none where the first begins before the matrix.
    pub(crate) fn halves(self) -> [&'m [P]; 2] {
        let (start, end) = self.inside;
        let n_panels = if start == 0 { end / (2 * PANEL_ROWS) * self.row_blocks } else { 0 };
        let (first, rest) = self.panels.split_at_checked(n_panels).unwrap_or_default();
        [first, rest.get(..n_panels).unwrap_or_default()]
    }

    /// The rows behind the panels.
    pub(crate) fn rest(self) -> Rows<'m, P::Block> {
        self.rest
    }
}

/// The panels of the first whole sixteens of rows in `bytes`, to be written, and the blocks behind them.
pub(crate) fn packed_mut<P: Panel>(
    bytes: &mut [u8],
    rows: usize,
    row_blocks: usize,
) -> Option<(&mut [P], &mut [P::Block])> {
    let n_panels = (rows / PANEL_ROWS).checked_mul(row_blocks)?;
    let n_blocks = (rows % PANEL_ROWS).checked_mul(row_blocks)?;
    let (front, rest) = bytes.split_at_mut_checked(n_panels.checked_mul(size_of::<P>())?)?;
    let rest = rest.get_mut(..n_blocks.checked_mul(size_of::<P::Block>())?)?;
    // SAFETY: lengths were just taken; panels and blocks have alignment 1 and take every pattern.
    Some(unsafe {
        (
            core::slice::from_raw_parts_mut(front.as_mut_ptr().cast::<P>(), n_panels),
            core::slice::from_raw_parts_mut(rest.as_mut_ptr().cast::<P::Block>(), n_blocks),
        )
    })
}

/// A row-major matrix of any supported type, `[out][in]` for weights; `Copy`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Matrix<'m> {
    /// Of [`F32`].
    F32(Rows<'m, F32>),
    /// Of [`F16`].
    F16(Rows<'m, F16>),
    /// Of [`Bf16`].
    Bf16(Rows<'m, Bf16>),
    /// Of [`BlockQ4_0`].
    Q4_0(Rows<'m, BlockQ4_0>),
    /// Of [`PanelQ4_0`].
    Q4_0X16(Packed<'m, PanelQ4_0>),
    /// Of [`BlockQ4_1`].
    Q4_1(Rows<'m, BlockQ4_1>),
    /// Of [`PanelQ4_1`].
    Q4_1X16(Packed<'m, PanelQ4_1>),
    /// Of [`BlockQ8_0`].
    Q8_0(Rows<'m, BlockQ8_0>),
    /// Of [`PanelQ8_0`].
    Q8_0X16(Packed<'m, PanelQ8_0>),
}

/// Runs `$body` with `$rows` bound to the [`Rows`] inside a [`Matrix`], whatever its type.
macro_rules! with_rows {
    ($matrix:expr, $rows:ident => $body:expr) => {
        match $matrix {
            Matrix::F32($rows) => $body,
            Matrix::F16($rows) => $body,
            Matrix::Bf16($rows) => $body,
            Matrix::Q4_0($rows) => $body,
            Matrix::Q4_0X16($rows) => $body,
            Matrix::Q4_1($rows) => $body,
            Matrix::Q4_1X16($rows) => $body,
            Matrix::Q8_0($rows) => $body,
            Matrix::Q8_0X16($rows) => $body,
        }
    };
}

impl<'m> Matrix<'m> {
    /// A matrix without rows, for a place that has none yet.
    pub const NONE: Self = Self::F32(Rows { blocks: &[], rows: 0, row_blocks: 1 });

    /// Borrows the front of `bytes` as a `rows x cols` matrix of type `ty`; nothing is copied, any address will do.
    ///
    /// # Errors
    ///
    /// As [`Rows::from_bytes`].
    pub fn new(ty: GgmlType, bytes: &'m [u8], rows: usize, cols: usize) -> Result<Self, ViewError> {
        Ok(match ty {
            GgmlType::F32 => Self::F32(Rows::from_bytes(bytes, rows, cols)?),
            GgmlType::F16 => Self::F16(Rows::from_bytes(bytes, rows, cols)?),
            GgmlType::BF16 => Self::Bf16(Rows::from_bytes(bytes, rows, cols)?),
            GgmlType::Q4_0 => Self::Q4_0(Rows::from_bytes(bytes, rows, cols)?),
            GgmlType::Q4_0X16 => Self::Q4_0X16(Packed::from_bytes(bytes, rows, cols)?),
            GgmlType::Q4_1 => Self::Q4_1(Rows::from_bytes(bytes, rows, cols)?),
            GgmlType::Q4_1X16 => Self::Q4_1X16(Packed::from_bytes(bytes, rows, cols)?),
            GgmlType::Q8_0 => Self::Q8_0(Rows::from_bytes(bytes, rows, cols)?),
            GgmlType::Q8_0X16 => Self::Q8_0X16(Packed::from_bytes(bytes, rows, cols)?),
        })
    }

    /// Rows.
    pub fn rows(self) -> usize {
        with_rows!(self, r => r.rows())
    }

    /// Values in a row.
    pub fn cols(self) -> usize {
        with_rows!(self, r => r.cols())
    }

    /// Type of the values.
    pub fn ty(self) -> GgmlType {
        match self {
            Self::F32(_) => GgmlType::F32,
            Self::F16(_) => GgmlType::F16,
            Self::Bf16(_) => GgmlType::BF16,
            Self::Q4_0(_) => GgmlType::Q4_0,
            Self::Q4_0X16(_) => GgmlType::Q4_0X16,
            Self::Q4_1(_) => GgmlType::Q4_1,
            Self::Q4_1X16(_) => GgmlType::Q4_1X16,
            Self::Q8_0(_) => GgmlType::Q8_0,
            Self::Q8_0X16(_) => GgmlType::Q8_0X16,
        }
    }

    /// The bytes of its rows; none of a matrix in panels, which need not lie in one piece.
    pub(crate) fn bytes(self) -> &'m [u8] {
        match self {
            Self::F32(r) => r.bytes(),
            Self::F16(r) => r.bytes(),
            Self::Bf16(r) => r.bytes(),
            Self::Q4_0(r) => r.bytes(),
            Self::Q4_1(r) => r.bytes(),
            Self::Q8_0(r) => r.bytes(),
            Self::Q4_0X16(_) | Self::Q4_1X16(_) | Self::Q8_0X16(_) => &[],
        }
    }

    /// Whether products with this matrix read Q8_0 activations (and not f32).
    pub fn is_quantized(self) -> bool {
        !matches!(self, Self::F32(_) | Self::F16(_) | Self::Bf16(_))
    }

    /// The rows of `range`, cut to those there are.
    pub fn slice_rows(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(r) => Self::F32(r.slice(range)),
            Self::F16(r) => Self::F16(r.slice(range)),
            Self::Bf16(r) => Self::Bf16(r.slice(range)),
            Self::Q4_0(r) => Self::Q4_0(r.slice(range)),
            Self::Q4_0X16(r) => Self::Q4_0X16(r.slice(range)),
            Self::Q4_1(r) => Self::Q4_1(r.slice(range)),
            Self::Q4_1X16(r) => Self::Q4_1X16(r.slice(range)),
            Self::Q8_0(r) => Self::Q8_0(r.slice(range)),
            Self::Q8_0X16(r) => Self::Q8_0X16(r.slice(range)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_in_place_at_any_address() {
        let bytes: [u8; 4 * 18 + 1] = core::array::from_fn(|i| i as u8);
        for offset in 0..2 {
            let rows = Rows::<BlockQ4_0>::from_bytes(&bytes[offset..], 2, 64).unwrap();
            assert_eq!((rows.rows(), rows.cols(), rows.iter().count()), (2, 64, 2));
            let block = rows.row(1).unwrap()[1];
            assert_eq!(block.qs[0], (offset + 3 * 18 + 2) as u8);
            assert!(rows.row(2).is_none() && rows.row(usize::MAX).is_none());
        }
    }

    #[test]
    fn bad_shapes_are_errors() {
        let bytes = [0u8; 36];
        let view = |ty, rows, cols| Matrix::new(ty, &bytes, rows, cols).map(|_| ());
        assert_eq!(view(GgmlType::Q4_0, 2, 32), Ok(()));
        assert_eq!(view(GgmlType::Q4_0, 0, 32), Ok(()));
        assert_eq!(view(GgmlType::Q4_0, 1, 33), Err(ViewError::RaggedRow { cols: 33 }));
        assert_eq!(view(GgmlType::F32, 1, 0), Err(ViewError::RaggedRow { cols: 0 }));
        assert_eq!(view(GgmlType::Q4_0, 3, 32), Err(ViewError::Truncated { need: 54, have: 36 }));
        assert_eq!(view(GgmlType::F32, usize::MAX, 2), Err(ViewError::TooLarge));
        assert_eq!(view(GgmlType::F32, usize::MAX / 2, 1), Err(ViewError::TooLarge));
        let blocks = [F32::ZERO; 6];
        assert!(Rows::from_blocks(&blocks, 4).is_err() && Rows::from_blocks(&blocks, 0).is_err());
        assert_eq!(Rows::from_blocks(&blocks, 3).unwrap().rows(), 2);
    }

    #[test]
    fn slices_are_clamped() {
        let blocks: [F32; 6] = core::array::from_fn(|i| F32::new(i as f32));
        let rows = Rows::from_blocks(&blocks, 2).unwrap();
        assert_eq!(rows.slice(1..9).rows(), 2);
        assert_eq!(rows.slice(1..9).row(0).unwrap()[0].to_f32(), 2.0);
        #[allow(clippy::reversed_empty_ranges)]
        let empty = [rows.slice(3..4), rows.slice(2..1), rows.slice(usize::MAX..usize::MAX)];
        assert!(empty.iter().all(|r| r.rows() == 0 && r.row(0).is_none() && r.cols() == 2));
    }
}
