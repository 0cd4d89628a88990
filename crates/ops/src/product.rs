//! Products of activations with weight matrices; here the loops around a register tile of float weights.

use crate::block::Block;
use crate::panel::BlockQ8;
use crate::tile::TileMut;
use crate::view::Rows;

/// What a product reads: `rows` rows of activations, as f32 and (where a quantized weight meets them) quantized.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// Rows: tokens.
    pub rows: usize,
    /// The values, `(rows, k)`; may be empty when only quantized weights follow.
    pub f32: &'a [f32],
    /// The same, quantized, `(k / 32, rows)`: the first blocks of all rows, then the second ones, as
    /// [`Ops::quantize_q8`](crate::Ops::quantize_q8) writes them with `rows` for its stride. May be empty when only
    /// float weights follow.
    pub q8: &'a [BlockQ8],
}

/// A register tile: the dot products of `M` rows of activations with `N` rows of weights, all at once.
///
/// Every single result must be what `tile::<1, 1>` gives for its two rows, bit for bit: prompts in batches then equal
/// prompts in steps, on any number of workers.
pub(crate) trait Micro {
    type Weight;

    /// All rows are equally long. Like [`Lanes`](crate::lanes::Lanes), for use under the back-end's CPU features only.
    fn tile<const M: usize, const N: usize>(lhs: [&[f32]; M], rhs: [&[Self::Weight]; N]) -> [[f32; N]; M];
}

/// The entries of a back-end's table for one type of float weights.
pub(crate) struct Product<W: 'static> {
    pub dot: unsafe fn(&[f32], &[W]) -> f32,
    pub gemm: unsafe fn(&mut TileMut<'_>, &[f32], &Rows<'_, W>),
}

impl<W> Clone for Product<W> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W> Copy for Product<W> {}

/// The [`Product`] of a [`Micro`], in functions that enable its CPU features: `product!(micro, mr, nr, nv, features)`.
macro_rules! product {
    ($micro:ty, $mr:expr, $nr:expr, $nv:expr $(, $feature:meta)?) => {{
        type Weight = <$micro as $crate::product::Micro>::Weight;
        $(#[$feature])?
        fn dot(lhs: &[f32], rhs: &[Weight]) -> f32 {
            $crate::product::dot::<$micro>(lhs, rhs)
        }
        $(#[$feature])?
        fn gemm(dst: &mut $crate::tile::TileMut<'_>, lhs: &[f32], rhs: &$crate::view::Rows<'_, Weight>) {
            $crate::product::gemm::<$micro, { $mr }, { $nr }, { $nv }>(dst, lhs, *rhs);
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
pub(crate) fn dot<P: Micro>(lhs: &[f32], rhs: &[P::Weight]) -> f32 {
    let [[dot]] = P::tile([lhs], [rhs]);
    dot
}

/// `dst (m, n) = lhs (m, k) . rhs (n, k)^T` by tiles of `MR x NR`, one row by tiles of `1 x NV`.
///
/// The weights of a tile stay in the first cache while all rows of `lhs` pass by, so they come from memory once.
#[inline(always)]
pub(crate) fn gemm<P: Micro, const MR: usize, const NR: usize, const NV: usize>(
    dst: &mut TileMut<'_>,
    lhs: &[f32],
    rhs: Rows<'_, P::Weight>,
) where
    P::Weight: Block,
{
    let n = dst.cols().min(rhs.rows());
    let m = dst.rows();
    let lhs_len = rhs.cols();
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
