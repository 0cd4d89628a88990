//! Products of activations with weight matrices: the loops around a back-end's register tile.

use crate::block::{Block, BlockQ8_0, QK};
use crate::tile::TileMut;
use crate::view::Rows;

/// What a product reads: `rows` rows of activations, as f32 and (where a quantized weight meets them) as Q8_0.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// Rows: tokens.
    pub rows: usize,
    /// The values, `(rows, k)`; may be empty when only quantized weights follow.
    pub f32: &'a [f32],
    /// The same, quantized, `(rows, k / 32)`; may be empty when only float weights follow.
    pub q8_0: &'a [BlockQ8_0],
}

/// A register tile: the dot products of `M` rows with `N` rows, all at once.
///
/// Every single result must be what `tile::<1, 1>` gives for its two rows, bit for bit: prompts in batches then equal
/// prompts in steps, on any number of workers.
pub(crate) trait Micro {
    type Lhs;
    type Rhs;

    /// All rows are equally long. Like [`Lanes`](crate::lanes::Lanes), for use under the back-end's CPU features only.
    fn tile<const M: usize, const N: usize>(lhs: [&[Self::Lhs]; M], rhs: [&[Self::Rhs]; N]) -> [[f32; N]; M];
}

/// The entries of a back-end's table for one type of weights.
pub(crate) struct Product<L, R: 'static> {
    pub dot: unsafe fn(&[L], &[R]) -> f32,
    pub gemm: unsafe fn(&mut TileMut<'_>, &[L], Rows<'_, R>),
}

impl<L, R> Clone for Product<L, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L, R> Copy for Product<L, R> {}

/// The [`Product`] of a [`Micro`], in functions that enable its CPU features: `product!(micro, mr, nr, nv, features)`.
macro_rules! product {
    ($micro:ty, $mr:expr, $nr:expr, $nv:expr $(, $feature:meta)?) => {{
        type Lhs = <$micro as $crate::product::Micro>::Lhs;
        type Rhs = <$micro as $crate::product::Micro>::Rhs;
        $(#[$feature])?
        fn dot(lhs: &[Lhs], rhs: &[Rhs]) -> f32 {
            $crate::product::dot::<$micro>(lhs, rhs)
        }
        $(#[$feature])?
        fn gemm(dst: &mut $crate::tile::TileMut<'_>, lhs: &[Lhs], rhs: $crate::view::Rows<'_, Rhs>) {
            $crate::product::gemm::<$micro, { $mr }, { $nr }, { $nv }>(dst, lhs, rhs);
        }
        $crate::product::Product { dot, gemm }
    }};
}
pub(crate) use product;

/// The length of the shortest row of a tile: what an index into all of them stays under.
#[inline(always)]
pub(crate) fn shortest<L, R, const M: usize, const N: usize>(lhs: &[&[L]; M], rhs: &[&[R]; N]) -> usize {
    let n = lhs.iter().fold(usize::MAX, |n, x| n.min(x.len()));
    rhs.iter().fold(n, |n, w| n.min(w.len()))
}

/// The dot product of one row with one row.
#[inline(always)]
pub(crate) fn dot<P: Micro>(lhs: &[P::Lhs], rhs: &[P::Rhs]) -> f32 {
    let [[dot]] = P::tile([lhs], [rhs]);
    dot
}

/// `dst (m, n) = lhs (m, k) . rhs (n, k)^T` by tiles of `MR x NR`, one row by tiles of `1 x NV`.
///
/// The weights of a tile stay in the first cache while all rows of `lhs` pass by, so they come from memory once.
#[inline(always)]
pub(crate) fn gemm<P: Micro, const MR: usize, const NR: usize, const NV: usize>(
    dst: &mut TileMut<'_>,
    lhs: &[P::Lhs],
    rhs: Rows<'_, P::Rhs>,
) where
    P::Rhs: Block,
{
    let n = dst.cols().min(rhs.rows());
    let m = dst.rows();
    let lhs_len = rhs.cols() / const { size_in_values::<P::Lhs>() };
    let mut col = 0;
    if m == 1 {
        while let Some(w) = rows::<_, NV>(rhs.blocks(), row_len(rhs), col, n) {
            let Some(x) = rows::<_, 1>(lhs, lhs_len, 0, 1) else { return };
            store(dst, 0, col, P::tile(x, w));
            col += NV;
        }
    }
    while let Some(w) = rows::<_, NR>(rhs.blocks(), row_len(rhs), col, n) {
        let mut row = 0;
        while let Some(x) = rows::<_, MR>(lhs, lhs_len, row, m) {
            store(dst, row, col, P::tile(x, w));
            row += MR;
        }
        while let Some(x) = rows::<_, 1>(lhs, lhs_len, row, m) {
            store(dst, row, col, P::tile(x, w));
            row += 1;
        }
        col += NR;
    }
    while let Some(w) = rows::<_, 1>(rhs.blocks(), row_len(rhs), col, n) {
        let mut row = 0;
        while let Some(x) = rows::<_, 1>(lhs, lhs_len, row, m) {
            store(dst, row, col, P::tile(x, w));
            row += 1;
        }
        col += 1;
    }
}

/// Values in one element of an activation row.
const fn size_in_values<T>() -> usize {
    if size_of::<T>() == size_of::<BlockQ8_0>() { QK } else { 1 }
}

/// Blocks in a row of weights.
#[inline(always)]
fn row_len<B: Block>(rows: Rows<'_, B>) -> usize {
    rows.cols() / B::VALUES
}

/// Rows `at..at + N` of a matrix of `n` rows of `len` elements, if there are that many.
#[inline(always)]
fn rows<T, const N: usize>(all: &[T], len: usize, at: usize, n: usize) -> Option<[&[T]; N]> {
    if n.checked_sub(at)? < N {
        return None;
    }
    let mut rest = all.get(at.checked_mul(len)?..)?;
    let mut rows = [rest; N];
    for row in &mut rows {
        (*row, rest) = rest.split_at_checked(len)?;
    }
    Some(rows)
}

/// Stores a tile at (`row`, `col`).
#[inline(always)]
fn store<const M: usize, const N: usize>(dst: &mut TileMut<'_>, row: usize, col: usize, tile: [[f32; N]; M]) {
    for (i, tile) in tile.iter().enumerate() {
        let to =
            dst.row_mut(row + i).and_then(|row| row.get_mut(col..)).and_then(|row| row.first_chunk_mut());
        if let Some(to) = to {
            *to = *tile;
        }
    }
}
