//! [`Workspace`]: what one worker keeps while it works, in memory of the caller and not on a kernel's small stack.

use crate::arch::{self, SPILL_LINES};
use crate::attend::{POSITIONS, QUERIES, cell_len, n_blocks};
use crate::block::{GgmlType, QK};
use crate::panel::{BlockQ8, PANEL_ROWS, Panel, Results};

/// What 128 rows of activations give with the one or two panels that they meet; a line holds what a row gives with a panel.
const RESULT_LINES: usize = if arch::HAS_TWO { 256 } else { 128 };
/// Panels that are in the first cache at a time.
const PANEL_LINES: usize = 64;
/// Weights of a block of positions.
const WEIGHT_LINES: usize = lines_of::<f32>(QUERIES * POSITIONS);

/// Sixty-four bytes, a line of the cache: what the memory of a [`Workspace`] is counted in.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line([f32; 16]);

impl Line {
    /// All bytes zero.
    pub const ZERO: Self = Self([0.0; 16]);
}

/// Memory of one worker. Nothing in it is read before it is written; what it holds between two calls is of no use.
#[derive(Debug)]
pub struct Workspace<'w> {
    pub(crate) product: ProductSpace<'w>,
    /// What attention works in.
    attention: &'w mut [Line],
}

/// The part of it that a product works in.
#[derive(Debug)]
pub(crate) struct ProductSpace<'w> {
    results: &'w mut [Results],
    panels: &'w mut [Line],
    spill: &'w mut [Line],
}

/// What a kernel works on that its registers do not hold: panels unpacked, sums of quants. On a stack it would lie below
/// all that leads to the kernel.
pub(crate) type Spill = [Line; SPILL_LINES];

/// The part of it that attention works in, for [`QUERIES`] queries of one width.
#[derive(Debug)]
pub(crate) struct AttentionSpace<'w> {
    /// Queries, (row, head_dim).
    pub q: &'w mut [f32],
    /// The same, quantized, (head_dim / 32, row).
    pub q8: &'w mut [BlockQ8],
    /// Weights of a block of positions, (row, [`POSITIONS`]).
    pub weights: &'w mut [f32],
    /// Values by weight, (row, head_dim).
    pub sums: &'w mut [f32],
}

impl<'w> Workspace<'w> {
    /// Lines that products need.
    pub const LINES: usize = RESULT_LINES + PANEL_LINES + SPILL_LINES;

    /// Lines for attention over `n` positions too, with values of this type.
    pub const fn lines(n: usize, head_dim: usize, values: GgmlType) -> Option<usize> {
        let Some(cells) = n_blocks(n).checked_mul(cell_len(head_dim, values)) else { return None };
        let (Some(cells), Some(width)) = (cells.checked_mul(QUERIES), head_dim.checked_mul(QUERIES)) else {
            return None;
        };
        let fixed = Self::LINES + WEIGHT_LINES;
        let head = 2 * lines_of::<f32>(width) + lines_of::<BlockQ8>(width / QK);
        match fixed.checked_add(head) {
            Some(lines) => lines.checked_add(lines_of::<f32>(cells)),
            None => None,
        }
    }

    /// Divides `lines` up: [`LINES`](Self::LINES) of them, or as many as [`lines`](Self::lines) says.
    pub fn new(lines: &'w mut [Line]) -> Self {
        let mut rest = lines;
        let [results, panels, spill] = [RESULT_LINES, PANEL_LINES, SPILL_LINES].map(|n| {
            let lines = core::mem::take(&mut rest);
            let (taken, left) = lines.split_at_mut(n.min(lines.len()));
            rest = left;
            taken
        });
        // SAFETY: numbers.
        let results = unsafe { cast_mut(results) };
        Self { product: ProductSpace { results, panels, spill }, attention: rest }
    }

    /// What attention of heads of that width works in, the room for what queries keep of each block, and that of products.
    pub(crate) fn attention(
        &mut self,
        head_dim: usize,
    ) -> (AttentionSpace<'_>, &mut [f32], &mut ProductSpace<'w>) {
        let (values, mut rest) = (QUERIES.saturating_mul(head_dim), &mut *self.attention);
        let mut take = |n: usize| {
            let (taken, left) = core::mem::take(&mut rest).split_at_mut_checked(n).unwrap_or_default();
            rest = left;
            taken
        };
        let parts =
            [values / QK * size_of::<BlockQ8>() / size_of::<f32>(), values, values, QUERIES * POSITIONS];
        let [q8, q, sums, weights] = parts.map(|n| take(lines_of::<f32>(n)));
        // SAFETY: numbers, and a `repr(C)` struct of 4 + 4 + 32 bytes aligned to 8: no padding, no invalid pattern.
        let (q8, [q, sums, weights, cells]) =
            unsafe { (cast_mut(q8), [q, sums, weights, rest].map(|lines| cast_mut(lines))) };
        (AttentionSpace { q, q8, weights, sums }, cells, &mut self.product)
    }
}

impl ProductSpace<'_> {
    /// Room for results, for panels of one type, and for a kernel; `None` of too few lines.
    pub(crate) fn split<P: Panel>(&mut self) -> Option<(&mut [Results], &mut [P], &mut Spill)> {
        // SAFETY: a panel is bytes without padding and takes every pattern, as its trait says.
        let panels = unsafe { cast_mut(self.panels) };
        Some((self.results, panels, self.spill.first_chunk_mut()?))
    }
}

/// Lines that hold `n` of `T`.
const fn lines_of<T>(n: usize) -> usize {
    n.saturating_mul(size_of::<T>()).div_ceil(size_of::<Line>())
}

/// As many `T` as fit.
///
/// # Safety
///
/// A `T` has no padding, and every pattern of bytes is one.
unsafe fn cast_mut<T>(lines: &mut [Line]) -> &mut [T] {
    const { assert!(size_of::<T>() > 0 && align_of::<T>() <= align_of::<Line>()) };
    let n = size_of_val(lines) / size_of::<T>();
    // SAFETY: `n` of them lie inside the lines, aligned; both types take every pattern, as the caller says of `T`.
    unsafe { core::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), n) }
}

const _: () = assert!(size_of::<Results>() == size_of::<Line>() && PANEL_ROWS == 16);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::panel::{PanelQ4_0, PanelQ8_0};
    use std::vec;

    #[test]
    fn parts_are_as_large_as_they_can_be() {
        let mut lines = vec![Line::ZERO; Workspace::lines(POSITIONS + 1, 96, GgmlType::F16).unwrap()];
        let mut space = Workspace::new(&mut lines);
        let (AttentionSpace { q, q8, weights, sums }, cells, _) = space.attention(96);
        assert_eq!((q.len(), sums.len(), q8.len()), (QUERIES * 96, QUERIES * 96, QUERIES * 3));
        assert_eq!(weights.len(), QUERIES * POSITIONS);
        assert_eq!(cells.len(), (QUERIES * 2 * cell_len(96, GgmlType::F16)).next_multiple_of(16));
        let (results, panels, _) = space.product.split::<PanelQ4_0>().unwrap();
        assert_eq!((results.len(), panels.len()), (RESULT_LINES, PANEL_LINES * 64 / size_of::<PanelQ4_0>()));
        let (_, panels, _) = space.product.split::<PanelQ8_0>().unwrap();
        assert_eq!(panels.len(), PANEL_LINES * 64 / size_of::<PanelQ8_0>());
        for n in [0, 1, RESULT_LINES + 1, Workspace::LINES] {
            let mut space = Workspace::new(&mut lines[..n]);
            assert!(space.attention(96).0.q.is_empty());
            assert!(space.product.split::<PanelQ8_0>().is_none_or(|(results, ..)| results.len() <= n));
        }
        assert_eq!(Workspace::lines(usize::MAX, 64, GgmlType::F16), None);
        assert_eq!(Workspace::lines(64, usize::MAX, GgmlType::F32), None);
    }

    /// What docs/EMBEDDING.md says of heads of 64.
    #[test]
    fn a_worker_takes_what_the_documentation_says() {
        let bytes = |n, values| Workspace::lines(n, 64, values).unwrap() * size_of::<Line>();
        assert_eq!(bytes(0, GgmlType::F16), bytes(0, GgmlType::Q8_0));
        let more = (SPILL_LINES + RESULT_LINES - 128) * size_of::<Line>();
        assert_eq!(more, if cfg!(target_arch = "x86_64") { 18 << 10 } else { 768 });
        assert_eq!((bytes(0, GgmlType::F16) - more).div_ceil(1024), 31);
        let each = |values| (bytes(1 << 20, values) - bytes(0, values)) >> 20;
        assert_eq!((each(GgmlType::F16), each(GgmlType::F32), each(GgmlType::Q8_0)), (60, 12, 12));
    }
}
