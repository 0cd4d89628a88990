//! [`Workspace`]: what one worker keeps while it works, in memory of the caller and not on a kernel's small stack.

use crate::block::QK;
use crate::panel::{BlockQ8, PANEL_ROWS, Panel, Results};

/// The widest head a Q8_0 cache is read with.
pub const MAX_QUANTIZED_HEAD_DIM: usize = 512;

/// Queries that pass over a cache together: what one of them reads, the others find in the first cache.
pub const QUERIES: usize = 4;

/// What rows of activations give while panels are in the first cache; a line holds what a row gives with a panel.
const RESULT_LINES: usize = 128;
/// Panels that are in the first cache at a time.
const PANEL_LINES: usize = 64;
/// Queries, quantized.
const Q8_LINES: usize =
    (QUERIES * MAX_QUANTIZED_HEAD_DIM / QK * size_of::<BlockQ8>()).div_ceil(size_of::<Line>());

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
    /// Queries, quantized.
    pub(crate) q8: &'w mut [BlockQ8],
    /// Scores of all positions.
    pub(crate) scores: &'w mut [f32],
}

/// The part of it that a product works in.
#[derive(Debug)]
pub(crate) struct ProductSpace<'w> {
    results: &'w mut [Results],
    panels: &'w mut [Line],
}

impl<'w> Workspace<'w> {
    /// Lines that every operation needs, attention over values of F16 apart.
    pub const LINES: usize = RESULT_LINES + PANEL_LINES + Q8_LINES;

    /// Lines for attention over `n` values of F16 too, for [`QUERIES`] queries at most.
    pub const fn lines(n: usize) -> Option<usize> {
        match n.checked_mul(QUERIES) {
            Some(scores) => Self::LINES.checked_add(scores.div_ceil(size_of::<Line>() / size_of::<f32>())),
            None => None,
        }
    }

    /// Divides `lines` up: [`LINES`](Self::LINES) of them, or as many as [`lines`](Self::lines) says.
    pub fn new(lines: &'w mut [Line]) -> Self {
        let (results, lines) = lines.split_at_mut(RESULT_LINES.min(lines.len()));
        let (panels, lines) = lines.split_at_mut(PANEL_LINES.min(lines.len()));
        let (q8, scores) = lines.split_at_mut(Q8_LINES.min(lines.len()));
        // SAFETY: numbers, and a `repr(C)` struct of 4 + 4 + 32 bytes aligned to 4: no padding, no invalid pattern.
        let (results, q8, scores) = unsafe { (cast_mut(results), cast_mut(q8), cast_mut(scores)) };
        Self { product: ProductSpace { results, panels }, q8, scores }
    }
}

impl ProductSpace<'_> {
    /// Room for results, and for panels of one type.
    pub(crate) fn split<P: Panel>(&mut self) -> (&mut [Results], &mut [P]) {
        // SAFETY: a panel is bytes without padding and takes every pattern, as its trait says.
        (self.results, unsafe { cast_mut(self.panels) })
    }
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
        let mut lines = vec![Line::ZERO; Workspace::lines(100).unwrap()];
        let mut space = Workspace::new(&mut lines);
        assert!(space.scores.len() >= 100 * QUERIES);
        assert_eq!(space.q8.len(), QUERIES * MAX_QUANTIZED_HEAD_DIM / QK);
        let (results, panels) = space.product.split::<PanelQ4_0>();
        assert_eq!((results.len(), panels.len()), (RESULT_LINES, PANEL_LINES * 64 / size_of::<PanelQ4_0>()));
        assert_eq!(space.product.split::<PanelQ8_0>().1.len(), PANEL_LINES * 64 / size_of::<PanelQ8_0>());
        for n in [0, 1, RESULT_LINES + 1, Workspace::LINES] {
            let mut space = Workspace::new(&mut lines[..n]);
            assert!(space.scores.is_empty() && space.product.split::<PanelQ8_0>().0.len() <= n);
        }
        assert_eq!(Workspace::lines(usize::MAX), None);
    }
}
