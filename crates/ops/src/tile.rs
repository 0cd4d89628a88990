//! [`TileMut`]: some columns of a row-major f32 matrix, writable from one worker while others write the rest.

use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;

/// Columns of an `m x n` row-major f32 matrix, exclusively borrowed. Columns count from the tile's own first.
#[derive(Debug)]
pub struct TileMut<'a> {
    /// Row 0 of this tile; row `i` starts `i * stride` further.
    origin: NonNull<f32>,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile is an exclusive borrow of its elements, and `f32` is `Send`.
unsafe impl Send for TileMut<'_> {}
// SAFETY: a shared tile gives no access to the elements to safe code.
unsafe impl Sync for TileMut<'_> {}

impl<'a> TileMut<'a> {
    /// All columns of `values`, seen as whole rows of `n_cols`; what is left behind the last whole row stays untouched.
    pub fn new(values: &'a mut [f32], n_cols: usize) -> Self {
        let rows = values.len().checked_div(n_cols).unwrap_or(0);
        let origin = NonNull::from(values).cast::<f32>();
        Self { origin, rows, cols: n_cols, stride: n_cols, borrow: PhantomData }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of this tile.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// This tile's part of row `i`, or `None` behind the last.
    pub fn row_mut(&mut self, i: usize) -> Option<&mut [f32]> {
        if i >= self.rows {
            return None;
        }
        // SAFETY: row `i < rows` of the matrix exists, this tile's columns lie inside it and are borrowed by `self` alone.
        Some(unsafe { core::slice::from_raw_parts_mut(self.origin.as_ptr().add(i * self.stride), self.cols) })
    }

    /// This tile's parts of the rows from `first` on, in order.
    #[inline(always)]
    pub(crate) fn rows_from(&mut self, first: usize) -> impl Iterator<Item = &mut [f32]> {
        let (origin, stride, cols) = (self.origin.as_ptr(), self.stride, self.cols);
        // SAFETY: these rows of the matrix exist and differ, this tile's columns lie inside them and are borrowed by `self`
        // alone.
        (first..self.rows)
            .map(move |i| unsafe { core::slice::from_raw_parts_mut(origin.add(i * stride), cols) })
    }

    /// This tile's part of `N` rows from `first` on, or `None` when there are not so many.
    pub fn rows_mut<const N: usize>(&mut self, first: usize) -> Option<[&mut [f32]; N]> {
        if self.rows.checked_sub(first)? < N {
            return None;
        }
        let row = |i| {
            // SAFETY: these rows of the matrix exist and differ, this tile's columns lie inside them and are borrowed by
            // `self` alone.
            unsafe {
                let start = self.origin.as_ptr().add((first + i) * self.stride);
                core::slice::from_raw_parts_mut(start, self.cols)
            }
        };
        Some(core::array::from_fn(row))
    }

    /// The same tile for a shorter time.
    pub fn reborrow(&mut self) -> TileMut<'_> {
        TileMut { borrow: PhantomData, ..*self }
    }

    /// The columns before `col` and those from it on; `col` is cut to [`cols`](Self::cols).
    pub fn split_at_col(self, col: usize) -> (TileMut<'a>, TileMut<'a>) {
        let (rows, col) = (0..self.rows, col.min(self.cols));
        // SAFETY: the two ranges are disjoint and `self` is gone.
        unsafe { (self.part(rows.clone(), 0..col), self.part(rows, col..self.cols)) }
    }

    /// Some rows of some columns alone, cut to those there are.
    pub fn slice(self, rows: Range<usize>, cols: Range<usize>) -> TileMut<'a> {
        // SAFETY: `self` is gone.
        unsafe { self.part(rows, cols) }
    }

    /// The same, while `self` stays.
    ///
    /// # Safety
    ///
    /// While the result lives, nothing else may touch these elements: neither `self` nor another tile of them.
    pub(crate) unsafe fn part(&self, rows: Range<usize>, cols: Range<usize>) -> TileMut<'a> {
        let (top, bottom) = (rows.start.min(self.rows), rows.end.min(self.rows));
        let (left, right) = (cols.start.min(self.cols), cols.end.min(self.cols));
        let rows = bottom.saturating_sub(top);
        // A tile without rows has no element to point at, and its origin may be the end of an empty slice.
        let skip = if rows == 0 { 0 } else { top * self.stride + left };
        // SAFETY: row `top < rows` of the matrix exists, and `left <= cols`.
        let origin = unsafe { self.origin.add(skip) };
        TileMut { origin, rows, cols: right.saturating_sub(left), stride: self.stride, borrow: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_their_columns_only() {
        let mut values = [0.0f32; 3 * 5 + 2];
        let (mut left, right) = TileMut::new(&mut values, 5).split_at_col(2);
        let (mut middle, mut right) = right.split_at_col(1);
        for i in 0..3 {
            left.row_mut(i).unwrap().fill(1.0);
            middle.row_mut(i).unwrap().fill(2.0);
            right.row_mut(i).unwrap().fill(3.0);
        }
        assert!(left.row_mut(3).is_none() && left.rows_mut::<3>(1).is_none());
        assert_eq!(left.rows_mut::<2>(1).unwrap(), [[1.0; 2]; 2]);
        assert_eq!((left.cols(), middle.cols(), right.cols(), right.rows()), (2, 1, 2, 3));
        assert_eq!(values[5..10], [1.0, 1.0, 2.0, 3.0, 3.0]);
        assert_eq!(values[15..], [0.0, 0.0]);
    }

    #[test]
    fn empty_tiles_are_harmless() {
        let mut none = TileMut::new(&mut [], 4);
        assert_eq!((none.rows(), none.cols()), (0, 4));
        assert!(none.row_mut(0).is_none());
        let (left, right) = none.split_at_col(9);
        assert_eq!((left.cols(), right.cols()), (4, 0));
        assert_eq!(TileMut::new(&mut [1.0], 0).rows(), 0);
    }
}
