//! [`Crew`]: the workers, with the memory that each of them works in; and how a matrix product is cut up for them.

use core::num::NonZeroUsize;
use core::ops::Range;

use crate::arena::{Arena, Layout};
use crate::error::ArenaError;
use crate::kv_cache::KvType;
use crate::ops::{Activations, Line, Matrix, Ops, PANEL_ROWS, TileMut, Workers, Workspace, for_each_columns};
use crate::plan::SessionConfig;

/// Weights that one unit of a matrix product reads, about.
const UNIT_WEIGHTS: usize = 32 * 1024;

/// Parts that a matrix product is cut into for each worker.
const PARTS_PER_WORKER: usize = 8;

/// The workers of a session.
pub(crate) struct Crew<'a> {
    pub(super) workers: &'a dyn Workers,
    pub(super) lines: &'a mut [Line],
    /// Lines of each worker.
    pub(super) lines_each: usize,
}

impl<'a> Crew<'a> {
    /// What [`new`](Self::new) takes from an arena.
    pub(crate) fn layout(session: &SessionConfig) -> Result<Layout, ArenaError> {
        let (n, each) = lines(session)?;
        Layout::new().add::<Line>(n.checked_mul(each).ok_or(ArenaError::TooLarge)?)
    }

    pub(crate) fn new(
        workers: &'a dyn Workers,
        session: &SessionConfig,
        arena: &mut Arena<'a>,
    ) -> Result<Self, ArenaError> {
        let (n, lines_each) = lines(session)?;
        let lines = arena.alloc(n.checked_mul(lines_each).ok_or(ArenaError::TooLarge)?, Line::ZERO)?;
        Ok(Self { workers, lines, lines_each })
    }

    /// Overwrites everything with zeros.
    pub(crate) fn wipe(&mut self) {
        self.lines.fill(Line::ZERO);
        core::hint::black_box(&mut *self.lines); // the zeros are meant for whoever has the memory next
    }

    /// Some columns of `dst` (m, n) = lhs (m, k) . `weights` (n, k)^T, where the rows of all `weights` make n.
    pub(super) fn product(
        &mut self,
        ops: Ops,
        dst: &mut [f32],
        units: Range<usize>,
        lhs: &Activations<'_>,
        weights: &[Matrix<'_>],
    ) -> Option<()> {
        let k = weights.first()?.cols();
        let n = weights.iter().try_fold(0usize, |n, w| n.checked_add(w.rows()))?;
        if dst.len() != lhs.rows.checked_mul(n)? || lhs.f32.len() != lhs.rows.checked_mul(k)? {
            return None;
        }
        let rows = product_rows(units, k);
        let (dst, _) = TileMut::new(dst, n).split_at_col(rows.end);
        let (_, dst) = dst.split_at_col(rows.start);
        // Long parts: what a worker asks for ahead of its use should be its own. Several for each, as none is late then.
        let n_units = dst.cols().div_ceil(unit_rows(k).max(1));
        let n_parts = self.workers.count().saturating_mul(PARTS_PER_WORKER);
        let units_per_part = n_units.checked_div(n_parts).unwrap_or(1);
        let part = NonZeroUsize::new(unit_rows(k).checked_mul(units_per_part.max(1))?)?;
        for_each_columns(
            self.workers,
            dst,
            part,
            self.lines,
            self.lines_each,
            &|columns, mut tile, lines| {
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

/// Workers planned for, and the lines of each.
fn lines(session: &SessionConfig) -> Result<(usize, usize), ArenaError> {
    let each = match session.kv_type {
        KvType::F16 => Workspace::lines(session.n_ctx).ok_or(ArenaError::TooLarge)?,
        _ => Workspace::LINES,
    };
    Ok((session.n_workers, each))
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
