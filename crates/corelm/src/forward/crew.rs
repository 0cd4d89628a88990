//! [`Crew`]: the workers, with the memory that each of them works in; and how a matrix product is cut up for them.

use core::num::NonZeroUsize;
use core::ops::Range;

use super::scratch::Widths;
use crate::arena::{Arena, Layout};
use crate::error::ArenaError;
use crate::kv_cache::KvShape;
use crate::ops::{
    Activations, Line, Matrix, Ops, PANEL_ROWS, POSITIONS, PartSize, TileMut, Workers, Workspace, cell_len,
    for_each_tile,
};
use crate::plan::SessionConfig;

/// Weights that one unit of a matrix product reads, about.
const UNIT_WEIGHTS: usize = 32 * 1024;

/// Parts that a matrix product is cut into for each of several workers.
const PARTS_PER_WORKER: usize = 8;

/// Parts for each worker above which attention is cut up by heads alone.
const HEADS_PER_WORKER: usize = 4;

/// The workers of a session.
pub(crate) struct Crew<'a> {
    pub(super) workers: &'a dyn Workers,
    pub(super) lines: &'a mut [Line],
    /// Lines of each worker.
    pub(super) lines_each: usize,
    /// What workers who share out positions tell each other of them; none where they never do.
    pub(super) cells: &'a mut [f32],
}

impl<'a> Crew<'a> {
    /// What [`new`](Self::new) takes from an arena.
    pub(crate) fn layout(
        shape: &KvShape,
        widths: Widths,
        session: &SessionConfig,
    ) -> Result<Layout, ArenaError> {
        let (n_lines, _) = n_lines(shape, session).ok_or(ArenaError::TooLarge)?;
        let n_cells = n_cells(shape, widths, session).ok_or(ArenaError::TooLarge)?;
        Layout::new().add::<Line>(n_lines)?.add::<f32>(n_cells)
    }

    pub(crate) fn new(
        workers: &'a dyn Workers,
        shape: &KvShape,
        widths: Widths,
        session: &SessionConfig,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ArenaError> {
        let (n_lines, lines_each) = n_lines(shape, session).ok_or(ArenaError::TooLarge)?;
        let n_cells = n_cells(shape, widths, session).ok_or(ArenaError::TooLarge)?;
        let (lines, cells) = (arena.alloc(n_lines, Line::ZERO)?, arena.alloc(n_cells, 0.0)?);
        Ok(Self { workers, lines, lines_each, cells })
    }

    /// Whether `n_parts` of heads are too few for the workers, so that positions are shared out too.
    pub(super) fn shares_positions(&self, n_parts: usize) -> bool {
        shares_positions(n_parts, self.workers.count())
    }

    /// Overwrites everything with zeros.
    pub(crate) fn wipe(&mut self) {
        self.lines.fill(Line::ZERO);
        core::hint::black_box(&mut *self.lines); // the zeros are meant for whoever has the memory next
        self.cells.fill(0.0);
        core::hint::black_box(&mut *self.cells);
    }

    /// Some columns of `dst` (m, n) = lhs (m, k) . `weights` (n, k)^T, where the rows of all `weights` make n.
    pub(super) fn product(
        &mut self,
        ops: Ops,
        dst: &mut [f32],
        units: Range<usize>,
        lhs: &Activations<'_>,
        weights: &[&Matrix<'_>],
    ) -> Option<()> {
        let k = weights.first()?.cols();
        let n = weights.iter().try_fold(0usize, |n, w| n.checked_add(w.rows()))?;
        if dst.len() != lhs.rows.checked_mul(n)? || lhs.f32.len() != lhs.rows.checked_mul(k)? {
            return None;
        }
        let rows = product_rows(units, k);
        let dst = TileMut::new(dst, n).slice(0..lhs.rows, rows.clone());
        // Long parts: what a worker asks for ahead of its use should be its own. Several for each, as none is late then; one
        // worker has nobody to wait for.
        let n_parts = match self.workers.count() {
            1 => 1,
            n => n.saturating_mul(PARTS_PER_WORKER),
        };
        // Of several tokens, two panels are long enough.
        let least = if lhs.rows > 1 { 2 * PANEL_ROWS } else { unit_rows(k) };
        let least_per_part = dst.cols().div_ceil(least.max(1)).checked_div(n_parts).unwrap_or(1);
        let cols = NonZeroUsize::new(least.checked_mul(least_per_part.max(1))?)?;
        let part_size = PartSize { rows: NonZeroUsize::MAX, cols };
        for_each_tile(
            self.workers,
            dst,
            part_size,
            self.lines,
            self.lines_each,
            &|_, columns, mut tile, lines| {
                let workspace = &mut Workspace::new(lines);
                // Rows of weights under this tile, counted from the first row of each matrix in turn.
                let mut start = rows.start.saturating_add(columns.start);
                for w in weights {
                    let here = start.min(w.rows())..start.saturating_add(tile.cols()).min(w.rows());
                    start = start.saturating_sub(w.rows());
                    let (mut under, rest) = tile.split_at_col(here.len());
                    if !here.is_empty() {
                        ops.gemm(&mut under, lhs, w.slice_rows(here), workspace);
                    }
                    tile = rest;
                }
            },
        );
        Some(())
    }
}

/// Lines of all workers, and of each.
fn n_lines(shape: &KvShape, session: &SessionConfig) -> Option<(usize, usize)> {
    let each = Workspace::lines(session.n_ctx, shape.head_dim, session.kv_type.ggml_type())?;
    Some((session.n_workers.checked_mul(each)?, each))
}

/// Values of the cells of all heads, or none where positions are never shared out.
fn n_cells(shape: &KvShape, widths: Widths, session: &SessionConfig) -> Option<usize> {
    let n_heads = widths.q.checked_div(shape.head_dim)?;
    let n_blocks = match session.n_ctx.div_ceil(POSITIONS) {
        n if n > 1 && shares_positions(n_heads.checked_div(widths.together)?, session.n_workers) => n,
        _ => 0,
    };
    let cell_len = cell_len(shape.head_dim, session.kv_type.ggml_type());
    n_heads.checked_mul(n_blocks)?.checked_mul(cell_len)
}

fn shares_positions(n_parts: usize, n_workers: usize) -> bool {
    n_workers > 1 && n_parts < n_workers.saturating_mul(HEADS_PER_WORKER)
}

/// Rows of `k` weights in one unit: whole panels, one at least.
fn unit_rows(k: usize) -> usize {
    let panels = UNIT_WEIGHTS.checked_div(k.saturating_mul(PANEL_ROWS)).unwrap_or(1);
    panels.max(1).saturating_mul(PANEL_ROWS)
}

/// Units of a product with `n` rows of `k` weights.
pub(super) fn product_units(n: usize, k: usize) -> usize {
    n.div_ceil(unit_rows(k).max(1))
}

/// The rows of weights that `units` stand for; the last unit may reach past the end.
pub(super) fn product_rows(units: Range<usize>, k: usize) -> Range<usize> {
    units.start.saturating_mul(unit_rows(k))..units.end.saturating_mul(unit_rows(k))
}
