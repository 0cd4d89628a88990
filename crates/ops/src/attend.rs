//! [`Attention`]: a few queries over the keys and values that they share, one block of positions after the other.
//!
//! A block's weights and the sum of its values are made by themselves and put together in the order of the positions. So
//! what a query gets depends neither on who did which block nor on the queries beside it. Keys and values are read once,
//! in one pass where weights need not be rounded (Milakov and Gimelshein 2018). Before values of F16 weights are halves,
//! as in ggml, and must be final before they are rounded: there they are kept until the last block's are known.
//!
//! Steps are functions that are not inlined: none has the variables of another under it on the stack.

use core::ops::Range;

use crate::block::{GgmlType, QK};
use crate::product::Activations;
use crate::scalar;
use crate::table::Ops;
use crate::tile::TileMut;
use crate::view::Matrix;
use crate::workspace::{AttentionSpace, ProductSpace, Workspace};

/// Queries that pass over a cache together: whole tiles of every back-end's products.
pub const QUERIES: usize = 12;

/// Positions of one block.
pub const POSITIONS: usize = 256;

/// Keys and values of one head, and how queries read them.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'k> {
    ops: Ops,
    keys: Matrix<'k>,
    values: Matrix<'k>,
    scale: f32,
}

/// Queries of tokens in a row, some heads of each.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'q> {
    /// Those of token `i` begin at `i * stride`.
    pub values: &'q [f32],
    /// Values from one token to the next.
    pub stride: usize,
}

/// What a query gets of one block of positions.
struct Cell<'c> {
    /// The largest score; once all blocks are known, the block's share for every unit of its weights.
    max: &'c mut f32,
    /// Sum of the weights `e^(score - max)`.
    sum: &'c mut f32,
    /// Sum of the values by weight.
    values: &'c mut [f32],
    /// The weights, where they wait to be rounded.
    weights: &'c mut [f32],
}

impl<'c> Cell<'c> {
    fn of(values: &'c mut [f32], head_dim: usize) -> Option<Self> {
        let [max, sum, rest @ ..] = values else { return None };
        let (values, weights) = rest.split_at_mut_checked(head_dim)?;
        Some(Self { max, sum, values, weights })
    }
}

/// Queries that are worked on together: rows of scratch, the heads of the first token first.
struct Group {
    tokens: usize,
    heads: usize,
    /// Positions that the last token sees; each token before it sees one less.
    n: usize,
}

impl Group {
    fn rows(&self) -> usize {
        self.tokens * self.heads
    }

    /// The positions of a block.
    fn block(&self, i: usize) -> Range<usize> {
        (i * POSITIONS).min(self.n)..(i * POSITIONS + POSITIONS).min(self.n)
    }

    /// How many positions of a block the query of a row sees.
    fn seen(&self, row: usize, block: &Range<usize>) -> usize {
        let token = row.checked_div(self.heads).unwrap_or(0);
        let n = (self.n + token + 1).saturating_sub(self.tokens);
        n.min(block.end).saturating_sub(block.start)
    }
}

/// Blocks that `n` positions make.
pub const fn n_blocks(n: usize) -> usize {
    n.div_ceil(POSITIONS)
}

/// Whether weights are rounded to halves before they meet values of this type, as in ggml.
const fn is_rounded(values: GgmlType) -> bool {
    matches!(values, GgmlType::F16)
}

/// Numbers that a query keeps of one block of values of this type.
pub const fn cell_len(head_dim: usize, values: GgmlType) -> usize {
    head_dim.saturating_add(if is_rounded(values) { 2 + POSITIONS } else { 2 })
}

/// Whether the weights of a block wait in its cells: those of the last one wait where they were made.
fn waits_in_cell(block: usize, n_blocks: usize) -> bool {
    block + 1 < n_blocks
}

impl<'k> Attention<'k> {
    /// Attention to `keys` and `values`, `(n, head_dim)` of F32, F16, BF16 or Q8_0; products are multiplied by `scale`.
    pub fn new(ops: Ops, keys: Matrix<'k>, values: Matrix<'k>, scale: f32) -> Self {
        let is_square = keys.cols() == values.cols() && keys.rows() == values.rows();
        debug_assert!(is_square, "attention: shapes disagree");
        Self { ops, keys, values, scale }
    }

    /// `dst[t][h] = sum over j of softmax(q[t][h] . keys[j] * scale)_j * values[j]`
    ///
    /// `dst` `(tokens, heads * head_dim)`. The last token sees all positions, each token before it one less; a query that
    /// sees none gets zeros. With values of F16 the weights `softmax(..)_j` are rounded to halves, as ggml does it; `q` then
    /// had better be rounded too ([`Ops::round_to_f16`]). What a token doesn't see must be finite all the same.
    ///
    /// `workspace` is one of [`Workspace::lines`] for all positions.
    pub fn attend(&self, dst: &mut TileMut<'_>, q: Queries<'_>, workspace: &mut Workspace<'_>) {
        let head_dim = self.head_dim();
        let (tokens, heads) = (dst.rows(), dst.cols() / head_dim);
        let tokens_at_once = QUERIES.checked_div(heads).unwrap_or(0).max(1);
        let across = heads.div_ceil(QUERIES).max(1);
        let (space, cells, product) = &mut workspace.attention(head_dim);
        for i in 0..tokens.div_ceil(tokens_at_once) * across {
            let (start, head) = (i / across * tokens_at_once, i % across * QUERIES);
            let end = (start + tokens_at_once).min(tokens);
            let n = (self.keys.rows() + end).saturating_sub(tokens);
            let group = Group { tokens: end - start, heads: (heads - head).min(QUERIES), n };
            let columns = head * head_dim..(head + group.heads) * head_dim;
            let Some(values) = q.values.get(start * q.stride + columns.start..) else { return };
            let Some(cells) = cells.get_mut(..group.rows() * n_blocks(n) * self.cell_len()) else {
                debug_assert!(false, "attend: workspace of too few lines");
                return;
            };
            // One after the other, so that each has the stack for itself.
            self.weigh_group(cells, Queries { values, ..q }, &group, space, product);
            self.finish(&mut dst.reborrow().slice(start..end, columns), cells, &group, space);
        }
    }

    /// Fills the cells of all blocks.
    #[inline(never)]
    fn weigh_group(
        &self,
        cells: &mut [f32],
        q: Queries<'_>,
        group: &Group,
        space: &mut AttentionSpace<'_>,
        product: &mut ProductSpace<'_>,
    ) {
        let n_blocks = n_blocks(group.n);
        let width = n_blocks * self.cell_len();
        self.take(q, group, space);
        for i in 0..n_blocks {
            let cells = TileMut::new(cells, width).slice(0..group.rows(), self.columns(i));
            self.score_block(group, i, space, product);
            self.weigh_block(cells, group, i, waits_in_cell(i, n_blocks), space);
        }
    }

    /// What the queries get, of the cells of all blocks.
    #[inline(never)]
    fn finish(
        &self,
        dst: &mut TileMut<'_>,
        cells: &mut [f32],
        group: &Group,
        space: &mut AttentionSpace<'_>,
    ) {
        let n_blocks = n_blocks(group.n);
        let width = n_blocks * self.cell_len();
        cells.chunks_exact_mut(width.max(1)).for_each(|cells| self.fold(cells));
        if n_blocks == 1 && group.tokens == 1 && self.is_rounded() {
            return self.round_alone(dst, TileMut::new(cells, width), group.n, space);
        }
        for i in (0..if self.is_rounded() { n_blocks } else { 0 }).rev() {
            let cells = TileMut::new(cells, width).slice(0..group.rows(), self.columns(i));
            self.round_block(cells, group, i, waits_in_cell(i, n_blocks), space);
        }
        let mut cells = cells.chunks_exact_mut(width.max(1));
        for token in 0..group.tokens {
            for dst in dst.row_mut(token).unwrap_or_default().chunks_exact_mut(self.head_dim()) {
                self.gather(dst, cells.next().unwrap_or_default());
            }
        }
    }

    /// Rounds the weights of one block of one token, and the values by them are the result: they need no room of their own.
    #[inline(never)]
    fn round_alone(
        &self,
        dst: &mut TileMut<'_>,
        cells: TileMut<'_>,
        n: usize,
        space: &mut AttentionSpace<'_>,
    ) {
        self.round_weights(cells, 0..n, false, space);
        let dst = dst.row_mut(0).unwrap_or_default();
        dst.fill(0.0);
        self.ops.accumulate_by(dst, space.weights, POSITIONS, &self.values.slice_rows(0..n));
    }
}

/// The same in steps, of which those for one block may go to different workers. Here `q` is of one token and at most
/// [`QUERIES`] heads, `(heads, head_dim)`, and `cells` have a row for each head.
impl Attention<'_> {
    /// First step, for each block: its weights, relative to its largest score, and unless they are to be rounded the
    /// values by weight. `cells` are the [`columns`](Self::columns) of the block.
    pub fn weigh(&self, cells: TileMut<'_>, q: &[f32], block: usize, workspace: &mut Workspace<'_>) {
        debug_assert!(cells.rows() <= QUERIES, "weigh: too many heads");
        let group = &Group { tokens: 1, heads: cells.rows(), n: self.keys.rows() };
        let (space, _, product) = &mut workspace.attention(self.head_dim());
        self.take(Queries { values: q, stride: q.len() }, group, space);
        self.score_block(group, block, space, product);
        self.weigh_block(cells, group, block, true, space);
    }

    /// Second step, for all cells of a head: what the weights of each are worth.
    #[inline(never)]
    pub fn fold(&self, cells: &mut [f32]) {
        if cells.len() == self.cell_len() {
            // e^(max - max) is 1 where the largest score is finite, else NaN.
            return self.cells(cells).for_each(|cell| *cell.max = (1.0 + 0.0 * *cell.max) / *cell.sum);
        }
        let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
        for cell in self.cells(cells) {
            max = cell.max.max(max);
        }
        for cell in self.cells(cells) {
            *cell.max = scalar::exp_of(*cell.max - max);
            sum += *cell.max * *cell.sum;
        }
        for cell in self.cells(cells) {
            *cell.max /= sum;
        }
    }

    /// Third step, for each block, where weights are [rounded](Self::is_rounded): final weights and the values by them.
    pub fn round(&self, cells: TileMut<'_>, block: usize, workspace: &mut Workspace<'_>) {
        let group = &Group { tokens: 1, heads: cells.rows(), n: self.keys.rows() };
        let (space, ..) = &mut workspace.attention(self.head_dim());
        self.round_block(cells, group, block, true, space);
    }

    /// Last step: what one head gets, `(head_dim)`, from all its cells.
    #[inline(never)]
    pub fn gather(&self, dst: &mut [f32], cells: &mut [f32]) {
        dst.fill(0.0);
        for cell in self.cells(cells) {
            let share = if self.is_rounded() { 1.0 } else { *cell.max };
            self.ops.axpy(dst, share, cell.values);
        }
    }

    /// The cells of one head, in the order of their blocks.
    fn cells<'c>(&self, cells: &'c mut [f32]) -> impl Iterator<Item = Cell<'c>> + use<'c> {
        let head_dim = self.head_dim();
        cells.chunks_exact_mut(self.cell_len()).filter_map(move |cell| Cell::of(cell, head_dim))
    }

    /// The cell of one head in the columns of a block.
    fn cell<'c>(&self, cells: &'c mut TileMut<'_>, row: usize) -> Option<Cell<'c>> {
        Cell::of(cells.row_mut(row)?, self.head_dim())
    }

    /// Whether weights are rounded before they meet the values.
    pub fn is_rounded(&self) -> bool {
        is_rounded(self.values.ty())
    }

    /// Where the cells of a block are in a row of all of them.
    pub fn columns(&self, block: usize) -> Range<usize> {
        block.saturating_mul(self.cell_len())..block.saturating_add(1).saturating_mul(self.cell_len())
    }

    fn head_dim(&self) -> usize {
        self.keys.cols().max(1)
    }

    fn cell_len(&self) -> usize {
        cell_len(self.head_dim(), self.values.ty())
    }

    /// Puts the queries of a group side by side, and as products with the keys read them.
    #[inline(never)]
    fn take(&self, q: Queries<'_>, group: &Group, space: &mut AttentionSpace<'_>) {
        let (head_dim, rows) = (self.head_dim(), group.rows());
        let width = group.heads * head_dim;
        let tokens = q.values.chunks(q.stride.max(1)).take(group.tokens);
        space.q.chunks_exact_mut(width.max(1)).zip(tokens).for_each(|(to, q)| copy(to, q));
        if self.keys.is_quantized() {
            let q8 = space.q8.get_mut(..rows * (head_dim / QK)).unwrap_or_default();
            for (row, q) in space.q.chunks_exact(head_dim).take(rows).enumerate() {
                self.ops.quantize_q8(q8.get_mut(row..).unwrap_or_default(), rows, q);
            }
        }
    }

    /// The scores of a block, where its weights will be.
    #[inline(never)]
    fn score_block(
        &self,
        group: &Group,
        block: usize,
        space: &mut AttentionSpace<'_>,
        product: &mut ProductSpace<'_>,
    ) {
        let (rows, block) = (group.rows(), group.block(block));
        let Some(weights) = space.weights.get_mut(..rows * POSITIONS) else { return };
        let q = Activations {
            rows,
            f32: space.q.get(..rows * self.head_dim()).unwrap_or_default(),
            q8: space.q8.get(..rows * (self.head_dim() / QK)).unwrap_or_default(),
        };
        let mut scores = TileMut::new(weights, POSITIONS).slice(0..rows, 0..block.len());
        self.ops.gemm_in(&mut scores, &q, &self.keys.slice_rows(block), product);
    }

    /// Makes weights of the scores of a block, and unless they are to be rounded adds up the values by them.
    #[inline(never)]
    fn weigh_block(
        &self,
        mut cells: TileMut<'_>,
        group: &Group,
        block: usize,
        waits_in_cell: bool,
        space: &mut AttentionSpace<'_>,
    ) {
        let (rows, block) = (group.rows(), group.block(block));
        let Some(weights) = space.weights.get_mut(..rows * POSITIONS) else { return };
        for (row, weights) in weights.chunks_exact_mut(POSITIONS).enumerate() {
            let cell = self.cell(&mut cells, row).zip(weights.get_mut(..block.len()));
            let Some((cell, weights)) = cell else { return };
            let n_seen = group.seen(row, &block);
            let Some((seen, unseen)) = weights.split_at_mut_checked(n_seen) else { return };
            (*cell.max, *cell.sum) = self.ops.softmax_chunk(seen, self.scale, f32::NEG_INFINITY);
            unseen.fill(0.0);
            if waits_in_cell {
                copy(cell.weights, weights);
            }
        }
        if !self.is_rounded() {
            self.add_values(cells, block, space);
        }
    }

    #[inline(never)]
    fn round_block(
        &self,
        mut cells: TileMut<'_>,
        group: &Group,
        block: usize,
        waits_in_cell: bool,
        space: &mut AttentionSpace<'_>,
    ) {
        let block = group.block(block);
        self.round_weights(cells.reborrow(), block.clone(), waits_in_cell, space);
        self.add_values(cells, block, space);
    }

    /// Makes the weights of a block final, in `space`.
    #[inline(never)]
    fn round_weights(
        &self,
        mut cells: TileMut<'_>,
        block: Range<usize>,
        waits_in_cell: bool,
        space: &mut AttentionSpace<'_>,
    ) {
        for (row, weights) in space.weights.chunks_exact_mut(POSITIONS).take(cells.rows()).enumerate() {
            let cell = self.cell(&mut cells, row).zip(weights.get_mut(..block.len()));
            let Some((cell, weights)) = cell else { return };
            if waits_in_cell {
                copy(weights, cell.weights);
            }
            self.ops.scale(weights, *cell.max);
            self.ops.round_to_f16(weights);
        }
    }

    /// The values of a block by the weights in `space`.
    #[inline(never)]
    fn add_values(&self, mut cells: TileMut<'_>, block: Range<usize>, space: &mut AttentionSpace<'_>) {
        let (head_dim, rows) = (self.head_dim(), cells.rows());
        let Some(sums) = space.sums.get_mut(..rows * head_dim) else { return };
        sums.fill(0.0);
        self.ops.accumulate_by(sums, space.weights, POSITIONS, &self.values.slice_rows(block));
        for (row, sums) in sums.chunks_exact(head_dim).enumerate() {
            if let Some(cell) = self.cell(&mut cells, row) {
                copy(cell.values, sums);
            }
        }
    }
}

/// As much of `src` as `dst` takes.
fn copy(dst: &mut [f32], src: &[f32]) {
    let n = dst.len().min(src.len());
    if let (Some(dst), Some(src)) = (dst.get_mut(..n), src.get(..n)) {
        dst.copy_from_slice(src); // equally long
    }
}
