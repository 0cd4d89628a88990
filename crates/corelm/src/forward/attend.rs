//! The attention of a pass, cut up for the workers: by tokens and heads, and by positions where there are few of both.
//!
//! What is done before and behind the work of the workers is not inlined, so as not to lie under it on the stack.

use core::num::NonZeroUsize;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use super::Forward;
use super::crew::Crew;
use crate::kv_cache::KvCache;
use crate::ops::{
    Attention, Line, Ops, POSITIONS, PartSize, QUERIES, Queries, TileMut, Workspace, cell_len, for_each_tile,
};

impl Forward<'_, '_> {
    /// att = softmax(q . K^T / sqrt(head_dim)) . V over the positions up to the token's own.
    ///
    /// A unit is a token and a key and value head, with all query heads that share it.
    #[inline(never)]
    pub(super) fn attend(&mut self, layer: usize, units: Range<usize>) -> Option<()> {
        let n_heads = self.config.n_kv_heads;
        let (mut unit, end) = (units.start, units.end);
        while unit < end {
            let (token, head) = (unit.checked_div(n_heads)?, unit.checked_rem(n_heads)?);
            // What is left of a token, or as many whole tokens as there are.
            let (n_tokens, heads) = match end.wrapping_sub(unit) {
                n if head != 0 || n < n_heads => (1, head..n_heads.min(head.wrapping_add(n))),
                n => (n.checked_div(n_heads)?, 0..n_heads),
            };
            unit = unit.wrapping_add(n_tokens.wrapping_mul(heads.len()));
            self.attend_tokens(layer, token..token.wrapping_add(n_tokens), heads)?;
        }
        Some(())
    }

    /// The same for some tokens and the same key and value heads of each.
    fn attend_tokens(&mut self, layer: usize, tokens: Range<usize>, heads: Range<usize>) -> Option<()> {
        let (config, widths, s) = (&self.config, &self.widths, &mut self.s);
        let width = config.group.get().checked_mul(config.head_dim)?;
        let columns = heads.start.checked_mul(width)?..heads.end.checked_mul(width)?;
        let q = s.qkv.get(tokens.start.checked_mul(widths.qkv)?.checked_add(columns.start)?..)?;
        let part = Part {
            ops: self.ops,
            kv: &self.kv,
            layer,
            first_head: heads.start,
            width,
            head_dim: NonZeroUsize::new(config.head_dim)?,
            together: NonZeroUsize::new(widths.together)?,
            n_before: self.kv.len().checked_add(tokens.start)?,
            q: Queries { values: q, stride: widths.qkv },
        };
        let rows = tokens.start.checked_mul(widths.q)?..tokens.end.checked_mul(widths.q)?;
        let att = s.att.get_mut(rows)?; // (tokens, n_heads * head_dim)
        if tokens.len() == 1 && part.is_long(columns.len(), &self.crew) {
            return part.by_positions(att.get_mut(columns)?, &mut self.crew);
        }
        part.by_tokens(TileMut::new(att, widths.q).slice(0..tokens.len(), columns), &mut self.crew)
    }
}

/// Tokens in a row, and some heads of each.
struct Part<'f> {
    ops: Ops,
    kv: &'f KvCache<'f>,
    layer: usize,
    /// The first key and value head.
    first_head: usize,
    /// Values of all query heads that share a key and value head.
    width: usize,
    head_dim: NonZeroUsize,
    /// Query heads that pass over the cache together.
    together: NonZeroUsize,
    /// Positions before those of the tokens.
    n_before: usize,
    /// From the first head on.
    q: Queries<'f>,
}

impl Part<'_> {
    /// Attention of the query heads at value `column`, and of those that share theirs, to the first `n` positions.
    #[inline(never)]
    fn attention(&self, column: usize, n: usize) -> Option<Attention<'_>> {
        let head = self.first_head.checked_add(column.checked_div(self.width)?)?;
        let (keys, values) = (self.kv.keys(self.layer, head, n)?, self.kv.values(self.layer, head, n)?);
        Some(Attention::new(self.ops, keys, values, 1.0 / libm::sqrtf(self.head_dim.get() as f32)))
    }

    /// A part is a few heads of a few tokens.
    #[inline(never)]
    fn by_tokens(&self, att: TileMut<'_>, crew: &mut Crew<'_>) -> Option<()> {
        let part_size = PartSize {
            rows: NonZeroUsize::new(QUERIES / self.together).unwrap_or(NonZeroUsize::MIN),
            cols: self.head_dim.checked_mul(self.together)?,
        };
        let attend = |rows: Range<usize>, column: usize, att: &mut TileMut<'_>, lines: &mut [Line]| {
            let first = rows.start.checked_mul(self.q.stride)?.checked_add(column)?;
            let q = Queries { values: self.q.values.get(first..)?, ..self.q };
            let Some(attention) = &self.attention(column, self.n_before.checked_add(rows.end)?) else {
                return None;
            };
            attention.attend(att, q, &mut Workspace::new(lines));
            Some(())
        };
        let all_done = AtomicBool::new(true);
        for_each_tile(
            crew.workers,
            att,
            part_size,
            crew.lines,
            crew.lines_each,
            &|rows, columns, mut att, lines| {
                if attend(rows, columns.start, &mut att, lines).is_none() {
                    all_done.store(false, Ordering::Relaxed);
                }
            },
        );
        all_done.into_inner().then_some(())
    }

    /// Whether the one token there is sees so many positions, and has so few heads, that positions are worth sharing out.
    fn is_long(&self, n_columns: usize, crew: &Crew<'_>) -> bool {
        let n_parts = n_columns / self.head_dim / self.together;
        self.n_before >= POSITIONS && self.together.get() <= QUERIES && crew.shares_positions(n_parts)
    }

    /// A part is a few heads of the one token and a block of positions.
    #[inline(never)]
    fn by_positions(&self, att: &mut [f32], crew: &mut Crew<'_>) -> Option<()> {
        let n = self.n_before.checked_add(1)?;
        let cell_len = NonZeroUsize::new(cell_len(self.head_dim.get(), self.kv.kv_type().ggml_type()))?;
        let width = cell_len.get().checked_mul(n.div_ceil(POSITIONS))?;
        let cells = crew.cells.get_mut(..(att.len() / self.head_dim).checked_mul(width)?)?; // (n_heads, width)
        let part_size = PartSize { rows: self.together, cols: cell_len };

        let weigh = |heads: Range<usize>, block: usize, cells: TileMut<'_>, lines: &mut [Line]| {
            let column = heads.start.checked_mul(self.head_dim.get())?;
            let q = self.q.values.get(column..heads.end.checked_mul(self.head_dim.get())?)?;
            let Some(attention) = &self.attention(column, n) else { return None };
            attention.weigh(cells, q, block, &mut Workspace::new(lines));
            Some(())
        };
        let round = |heads: Range<usize>, block: usize, cells: TileMut<'_>, lines: &mut [Line]| {
            let column = heads.start.checked_mul(self.head_dim.get())?;
            let Some(attention) = &self.attention(column, n) else { return None };
            attention.round(cells, block, &mut Workspace::new(lines));
            Some(())
        };
        let (workers, lines, lines_each) = (crew.workers, &mut *crew.lines, crew.lines_each);
        let all_done = AtomicBool::new(true);
        let is_done = |done: Option<()>| {
            if done.is_none() {
                all_done.store(false, Ordering::Relaxed);
            }
        };
        let tile = TileMut::new(cells, width);
        for_each_tile(workers, tile, part_size, lines, lines_each, &|heads, columns, cells, lines| {
            is_done(weigh(heads, columns.start / cell_len, cells, lines));
        });
        if self.fold(n, cells, width)? {
            let tile = TileMut::new(cells, width);
            for_each_tile(workers, tile, part_size, lines, lines_each, &|heads, columns, cells, lines| {
                is_done(round(heads, columns.start / cell_len, cells, lines));
            });
        }
        self.gather(n, att, cells, width)?;
        all_done.into_inner().then_some(())
    }

    /// Puts together what is known of the blocks of each head, and says whether weights are to be rounded.
    #[inline(never)]
    fn fold(&self, n: usize, cells: &mut [f32], width: usize) -> Option<bool> {
        let Some(attention) = &self.attention(0, n) else { return None }; // what is asked of it is the same for all heads
        cells.chunks_exact_mut(width.max(1)).for_each(|cells| attention.fold(cells));
        Some(attention.is_rounded())
    }

    /// What each head gets of its blocks.
    #[inline(never)]
    fn gather(&self, n: usize, att: &mut [f32], cells: &mut [f32], width: usize) -> Option<()> {
        let Some(attention) = &self.attention(0, n) else { return None }; // as above
        let heads = att.chunks_exact_mut(self.head_dim.get()).zip(cells.chunks_exact_mut(width.max(1)));
        heads.for_each(|(att, cells)| attention.gather(att, cells));
        Some(())
    }
}
