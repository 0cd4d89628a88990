//! Products with quantized weights: sixteen rows of weights side by side, and the loops around a back-end's kernel.
//!
//! A panel holds one block of each of sixteen rows, the quants interleaved by fours: the four that one lane of a
//! dot-product instruction (VNNI, SDOT) takes from each row lie next to each other, so sixteen results grow in the lanes
//! of a register and nothing is added across lanes. Weights in a file's order are gathered into panels a few blocks at a
//! time, in the first cache, just before they are used; packed weights lie in panels already.
//!
//! Every result is `acc = (sum of quants as f32) * (d_x * d_w) + acc`, block after block, with one rounding for the
//! multiply-add where the CPU has one. The sums of quants are exact, so the result depends neither on the back-end
//! (portable Rust apart, which rounds twice) nor on how many rows of activations pass by.

use core::num::NonZeroUsize;
use core::ops::Range;
use core::slice::ChunksExact;
use core::{array, mem};

use crate::arch;
use crate::block::{Block, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, QK};
use crate::tile::TileMut;
use crate::view::{Packed, Rows};
use crate::workspace::{ProductSpace, Spill};

/// Rows of weights in a panel.
pub const PANEL_ROWS: usize = 16;

/// What one row of activations gives with the sixteen rows of a panel.
pub(crate) type Results = [f32; PANEL_ROWS];

/// Thirty-two activations, quantized like a [`BlockQ8_0`] and laid out for products.
///
/// Made by [`Ops::quantize_q8`](crate::Ops::quantize_q8) alone, which keeps quants in -127..=127.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(8))] // for loads of eight quants to half a register
pub struct BlockQ8 {
    /// Scale: the value of a half.
    pub(crate) d: f32,
    /// `-8 * sum of qs`: what nibbles read as 0–15 instead of -8–7 make too much.
    pub(crate) offset: i32,
    /// Quants.
    pub(crate) qs: [i8; QK],
}

impl BlockQ8 {
    /// Thirty-two zeros.
    pub const ZERO: Self = Self { d: 0.0, offset: 0, qs: [0; QK] };

    /// The same values.
    pub(crate) fn new(block: &BlockQ8_0) -> Self {
        let sum: i32 = block.qs.iter().map(|q| i32::from(*q)).sum();
        Self { d: block.d.to_f32(), offset: -8 * sum, qs: block.qs }
    }

    /// The same values, as a file holds them.
    pub fn to_q8_0(self) -> BlockQ8_0 {
        BlockQ8_0 { d: F16::new(self.d), qs: self.qs }
    }
}

/// One [`BlockQ4_0`] of each of sixteen rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PanelQ4_0 {
    /// Scales.
    pub d: [F16; PANEL_ROWS],
    /// Bytes `4 * g..4 * g + 4` of every row in `qs[g]`.
    pub qs: [[[u8; 4]; PANEL_ROWS]; 4],
}

/// One [`BlockQ4_1`] of each of sixteen rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PanelQ4_1 {
    /// Scales.
    pub d: [F16; PANEL_ROWS],
    /// Least values.
    pub m: [F16; PANEL_ROWS],
    /// Bytes `4 * g..4 * g + 4` of every row in `qs[g]`.
    pub qs: [[[u8; 4]; PANEL_ROWS]; 4],
}

/// One [`BlockQ8_0`] of each of sixteen rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PanelQ8_0 {
    /// Scales.
    pub d: [F16; PANEL_ROWS],
    /// Quants `4 * g..4 * g + 4` of every row in `qs[g]`.
    pub qs: [[[i8; 4]; PANEL_ROWS]; 8],
}

/// Sixteen blocks of some type.
///
/// # Safety
///
/// The type has alignment 1, no padding, every byte pattern is a valid value, and it is as large as sixteen blocks.
pub unsafe trait Panel: Copy + Send + Sync + 'static {
    /// What the panel is made of.
    type Block: Block;
    /// All bytes zero.
    const ZERO: Self;

    /// Makes `block` that of row `r`; nothing behind the last.
    fn set_block(&mut self, r: usize, block: &Self::Block);
    /// The block of row `r`; that of row 0 behind the last.
    fn block(&self, r: usize) -> Self::Block;
}

const _: () = assert!(size_of::<PanelQ4_0>() == 16 * 18 && align_of::<PanelQ4_0>() == 1);
const _: () = assert!(size_of::<PanelQ4_1>() == 16 * 20 && align_of::<PanelQ4_1>() == 1);
const _: () = assert!(size_of::<PanelQ8_0>() == 16 * 34 && align_of::<PanelQ8_0>() == 1);

/// Puts the fours of `row` where those of row `r` are.
fn set_row<T: Copy, const N: usize, const G: usize>(
    qs: &mut [[[T; 4]; PANEL_ROWS]; G],
    r: usize,
    row: &[T; N],
) {
    for (group, four) in qs.iter_mut().zip(row.as_chunks::<4>().0) {
        group.iter_mut().skip(r).take(1).for_each(|to| *to = *four);
    }
}

/// Puts `d` where the half of row `r` is.
fn set_half(halves: &mut [F16; PANEL_ROWS], r: usize, d: F16) {
    halves.iter_mut().skip(r).take(1).for_each(|to| *to = d);
}

/// The fours of row `r`, one after the other.
fn row_of<T: Copy + Default, const N: usize, const G: usize>(
    qs: &[[[T; 4]; PANEL_ROWS]; G],
    r: usize,
) -> [T; N] {
    let mut row = [T::default(); N];
    for (to, group) in row.as_chunks_mut::<4>().0.iter_mut().zip(qs) {
        *to = group.get(r).copied().unwrap_or_default();
    }
    row
}

fn scale_of(d: &[F16; PANEL_ROWS], r: usize) -> F16 {
    d.get(r).copied().unwrap_or_default()
}

// SAFETY: (all three) a `repr(C)` struct of byte arrays, alignment 1 and size asserted above.
unsafe impl Panel for PanelQ4_0 {
    type Block = BlockQ4_0;
    const ZERO: Self = Self { d: [F16::from_bits(0); PANEL_ROWS], qs: [[[0; 4]; PANEL_ROWS]; 4] };

    fn set_block(&mut self, r: usize, block: &BlockQ4_0) {
        set_half(&mut self.d, r, block.d);
        set_row(&mut self.qs, r, &block.qs);
    }

    fn block(&self, r: usize) -> BlockQ4_0 {
        BlockQ4_0 { d: scale_of(&self.d, r), qs: row_of(&self.qs, r) }
    }
}

// SAFETY: as above.
unsafe impl Panel for PanelQ4_1 {
    type Block = BlockQ4_1;
    const ZERO: Self = Self {
        d: [F16::from_bits(0); PANEL_ROWS],
        m: [F16::from_bits(0); PANEL_ROWS],
        qs: [[[0; 4]; PANEL_ROWS]; 4],
    };

    fn set_block(&mut self, r: usize, block: &BlockQ4_1) {
        set_half(&mut self.d, r, block.d);
        set_half(&mut self.m, r, block.m);
        set_row(&mut self.qs, r, &block.qs);
    }

    fn block(&self, r: usize) -> BlockQ4_1 {
        BlockQ4_1 { d: scale_of(&self.d, r), m: scale_of(&self.m, r), qs: row_of(&self.qs, r) }
    }
}

// SAFETY: as above.
unsafe impl Panel for PanelQ8_0 {
    type Block = BlockQ8_0;
    const ZERO: Self = Self { d: [F16::from_bits(0); PANEL_ROWS], qs: [[[0; 4]; PANEL_ROWS]; 8] };

    fn set_block(&mut self, r: usize, block: &BlockQ8_0) {
        set_half(&mut self.d, r, block.d);
        set_row(&mut self.qs, r, &block.qs);
    }

    fn block(&self, r: usize) -> BlockQ8_0 {
        BlockQ8_0 { d: scale_of(&self.d, r), qs: row_of(&self.qs, r) }
    }
}

/// The entries of a back-end's table for one type of quantized weights.
pub(crate) struct Kernel<P: Panel> {
    /// The dot product of one row with one row.
    pub dot: unsafe fn(&[BlockQ8_0], &[P::Block]) -> f32,
    /// `panels[b]` = the panel of `blocks[b]`, `blocks[b + stride]` and so on, one of each of sixteen rows.
    ///
    /// Nothing happens when there are fewer blocks than that. `ahead` blocks behind the first lies what is read later, in
    /// the order of memory: sixteen rows side by side are more streams than a CPU follows by itself, so it is told.
    pub pack: unsafe fn(panels: &mut [P], blocks: &[P::Block], stride: usize, ahead: usize),
    /// `acc[i] += x[b * stride + i] . panels[b]` for all `i` and, in their order, all `b`.
    ///
    /// Nothing happens when `x` is too short for that.
    pub accumulate: Accumulate<P>,
    /// The same for panels of two sixteens of rows, where it pays to read activations once for both.
    pub accumulate_two: Option<AccumulateTwo<P>>,
    /// The results of one row of activations with two sixteens of rows, where memory gives more to two streams than to one.
    pub two_streams: Option<TwoStreams<P>>,
    /// Puts results in the order of the rows, where `accumulate` leaves them in one of its own: once, behind the last panels.
    pub finish: Option<Finish>,
    /// The results of one row of activations without panels, where that is faster than to gather them.
    pub one_row: Option<OneRow<P::Block>>,
}

/// See [`Kernel::accumulate`].
pub(crate) type Accumulate<P> =
    unsafe fn(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[P], spill: &mut Spill);

/// See [`Kernel::finish`].
pub(crate) type Finish = unsafe fn(acc: &mut [Results]);

/// `acc[i][side] += x[b * stride + i] . panels[side][b]`, as [`Kernel::accumulate`].
pub(crate) type AccumulateTwo<P> =
    unsafe fn(acc: &mut [[Results; 2]], x: &[BlockQ8], stride: usize, panels: [&[P]; 2], spill: &mut Spill);

/// `results[side] = x . panels[side]`.
pub(crate) type TwoStreams<P> = unsafe fn(results: [&mut Results; 2], x: &[BlockQ8], panels: [&[P]; 2]);

/// The registers of a back-end whose shape is state of the CPU: set before a product of that many rows of activations or
/// more, given back behind it; and what such products are made with.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    pub rows: usize,
    pub configure: unsafe fn(),
    pub release: unsafe fn(),
    pub q8_0: TileKernel<PanelQ8_0>,
    pub q4_0: TileKernel<PanelQ4_0>,
    pub q4_1: TileKernel<PanelQ4_1>,
}

/// [`Kernel::accumulate`] and [`Kernel::accumulate_two`] by tiles: where `acc` fills one, they are configured.
pub(crate) struct TileKernel<P: Panel> {
    pub one: Accumulate<P>,
    pub two: AccumulateTwo<P>,
}

impl<P: Panel> Clone for TileKernel<P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P: Panel> Copy for TileKernel<P> {}

/// `acc[i][r] += x . row 16 * i + r`, block after block, for rows of `x.len()` blocks in a file's order, `stride` blocks
/// apart.
///
/// Nothing happens to what there are fewer blocks for than that.
pub(crate) type OneRow<B> = unsafe fn(acc: &mut [Results], x: &[BlockQ8], blocks: &[B], stride: usize);

/// The blocks of whole sixteens of rows, `stride` blocks apart.
#[inline(always)]
pub(crate) fn sixteens<B>(blocks: &[B], stride: usize) -> ChunksExact<'_, B> {
    blocks.chunks_exact(stride.saturating_mul(PANEL_ROWS).max(1))
}

/// Defines what is a [`OneRow`] by functions for one sixteen of rows each, which it calls: inside a loop the compiler runs
/// out of registers for theirs.
#[cfg(target_arch = "x86_64")]
macro_rules! by_sixteens {
    ($($name:ident = $rows:ident of $block:ty;)*) => {
        $(
            unsafe fn $name(acc: &mut [Results], x: &[BlockQ8], blocks: &[$block], stride: usize) {
                for (acc, blocks) in acc.iter_mut().zip($crate::panel::sixteens(blocks, stride)) {
                    // SAFETY: the CPU has the features that the function asks for, as the caller says.
                    unsafe { $rows(acc, x, blocks, stride) };
                }
            }
        )*
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use by_sixteens;

impl<P: Panel> Clone for Kernel<P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P: Panel> Copy for Kernel<P> {}

/// Whether `n` elements can be read at every one of `n_rows` places, `stride` apart, of `len`.
#[inline(always)]
pub(crate) fn is_enough(len: usize, stride: usize, n_rows: usize, n: usize) -> bool {
    n_rows == 0 || (n_rows - 1).checked_mul(stride).is_some_and(|last| last.saturating_add(n) <= len)
}

/// Gathers panels of up to sixteen rows; behind the last, zeros.
#[inline(never)] // the road of a few rows, and a frame of its own
pub(crate) fn gather<P: Panel>(panels: &mut [P], blocks: &[P::Block], stride: usize, n_rows: usize) {
    let zero = P::Block::ZERO;
    for (b, panel) in panels.iter_mut().enumerate() {
        for r in 0..PANEL_ROWS {
            let block = if r < n_rows { blocks.get(r * stride + b) } else { None };
            panel.set_block(r, block.unwrap_or(&zero));
        }
    }
}

/// `dst (1, n) = x (1, k) . weights (n, k)^T`, with the weights in a file's order and read as they are. Gives the columns
/// that are done: whole sixteens.
#[inline(never)]
pub(crate) fn gemv<B: Block>(
    dst: &mut TileMut<'_>,
    x: &[BlockQ8],
    weights: Rows<'_, B>,
    rows: impl Fn(&mut [Results], &[BlockQ8], &[B], usize),
) -> usize {
    let (n, n_blocks) = (dst.cols().min(weights.rows()), weights.cols() / QK);
    let (Some(x), Some(dst)) = (x.get(..n_blocks), dst.row_mut(0)) else { return 0 };
    let results = dst.get_mut(..n).unwrap_or(&mut []).as_chunks_mut().0;
    clear(results);
    rows(results, x, weights.blocks(), n_blocks);
    n - n % PANEL_ROWS
}

/// The same with the weights in panels, from the front and from the middle on by turns.
#[inline(never)]
pub(crate) fn gemv_packed<P: Panel>(
    dst: &mut TileMut<'_>,
    x: &[BlockQ8],
    weights: Packed<'_, P>,
    two_streams: impl Fn([&mut Results; 2], &[BlockQ8], [&[P]; 2]),
) -> usize {
    let n_blocks = weights.cols() / QK;
    let (Some(x), Some(dst)) = (x.get(..n_blocks), dst.row_mut(0)) else { return 0 };
    let [first, second] = weights.halves().map(|panels| panels.chunks_exact(n_blocks.max(1)));
    let (n, results) = (first.len(), dst.as_chunks_mut().0);
    let Some((front, back)) = results.get_mut(..2 * n).and_then(|all| all.split_at_mut_checked(n)) else {
        return 0;
    };
    for ((first, second), (front, back)) in first.zip(second).zip(front.iter_mut().zip(back)) {
        two_streams([front, back], x, [first, second]);
    }
    2 * n * PANEL_ROWS
}

/// `dst (m, n) = x (m, k) . weights (n, k)^T`, with the weights in a file's order, `W` sixteens of their rows side by side:
/// as many of their panels at a time as `space` has room for, gathered again for as many rows of activations.
///
/// Gives the columns that are done: whole `W` sixteens.
#[inline(never)]
pub(crate) fn gemm<P: Panel, const W: usize>(
    dst: &mut TileMut<'_>,
    x: &[BlockQ8],
    weights: Rows<'_, P::Block>,
    space: &mut ProductSpace<'_>,
    pack: impl Fn(&mut [P], &[P::Block], usize, usize),
    accumulate: impl Fn(&mut [[Results; W]], &[BlockQ8], usize, [&[P]; W], &mut Spill),
    finish: impl Fn(&mut [[Results; W]]),
) -> usize {
    let (m, n, n_blocks) = (dst.rows(), dst.cols().min(weights.rows()), weights.cols() / QK);
    let Some((results, room, spill)) = space.split::<P>() else { return 0 };
    // Its type says to what is compiled for the closure that it is not zero.
    let chunk = NonZeroUsize::new(room.len() / W).unwrap_or(NonZeroUsize::MIN);
    let mut col = 0;
    while n - col >= W * PANEL_ROWS {
        let blocks = weights.slice(col..n).blocks();
        for_each_few(dst, col, &[const { 0..PANEL_ROWS }; W], results, &finish, |acc, first| {
            for start in (0..n_blocks).step_by(chunk.get()) {
                let Some(x) = x.get(start * m + first..) else { return };
                let n_panels = chunk.get().min(n_blocks - start);
                let mut rooms = room.chunks_mut(chunk.get());
                let panels: [&[P]; W] = array::from_fn(|side| {
                    let panels = rooms.next().and_then(|room| room.get_mut(..n_panels)).unwrap_or_default();
                    let at = side * PANEL_ROWS * n_blocks + start;
                    let Some(blocks) = blocks.get(at..) else { return &*panels };
                    // As far ahead as these rows are long.
                    pack(panels, blocks, n_blocks, (W * n_blocks + start) * PANEL_ROWS - start);
                    &*panels
                });
                accumulate(acc, x, m, panels, spill);
            }
        });
        col += W * PANEL_ROWS;
    }
    col
}

/// The same for fewer than sixteen rows.
#[inline(never)]
pub(crate) fn gemm_rest<P: Panel>(
    dst: &mut TileMut<'_>,
    x: &[BlockQ8],
    weights: Rows<'_, P::Block>,
    space: &mut ProductSpace<'_>,
    accumulate: impl Fn(&mut [[Results; 1]], &[BlockQ8], usize, [&[P]; 1], &mut Spill),
    finish: impl Fn(&mut [[Results; 1]]),
) {
    let (m, n, n_blocks) = (dst.rows(), dst.cols().min(weights.rows()), weights.cols() / QK);
    let Some((results, room, spill)) = space.split::<P>() else { return };
    for_each_few(dst, 0, &array::from_fn(|_| 0..n), results, finish, |acc, first| {
        for start in (0..n_blocks).step_by(room.len().max(1)) {
            let Some(x) = x.get(start * m + first..) else { return };
            let n_panels = room.len().min(n_blocks - start);
            let Some(panels) = room.get_mut(..n_panels) else { return };
            gather(panels, weights.blocks().get(start..).unwrap_or_default(), n_blocks, n);
            accumulate(acc, x, m, [&*panels], spill);
        }
    });
}

/// `dst (m, n) = x (m, k) . weights (n, k)^T`, with the weights in panels, `W` sixteens of rows side by side.
///
/// Gives the columns that are done. Rows behind the last whole panel are not, nor those of a panel without company.
#[inline(never)]
pub(crate) fn gemm_packed<P: Panel, const W: usize>(
    dst: &mut TileMut<'_>,
    x: &[BlockQ8],
    weights: Packed<'_, P>,
    space: &mut ProductSpace<'_>,
    accumulate: impl Fn(&mut [[Results; W]], &[BlockQ8], usize, [&[P]; W], &mut Spill),
    finish: impl Fn(&mut [[Results; W]]),
) -> usize {
    let m = dst.rows();
    let Some((results, _, spill)) = space.split::<P>() else { return 0 };
    let (mut strips, mut col) = (weights.panels(), 0);
    loop {
        let mut lanes = [const { 0..0 }; W];
        let mut panels = [&[][..]; W];
        for (panels, lanes) in panels.iter_mut().zip(&mut lanes) {
            let Some(strip) = strips.next() else { return col };
            (*panels, *lanes) = strip;
        }
        for_each_few(dst, col, &lanes, results, &finish, |acc, first| {
            let Some(x) = x.get(first..) else { return };
            accumulate(acc, x, m, panels, spill);
        });
        col += lanes.iter().map(|lanes| lanes.len()).sum::<usize>();
    }
}

/// Calls `add(acc, first)` with zeros for the results of as many rows from row `first` on as there is room for, until all
/// rows are done, then `finish(acc)`, and copies `lanes` of each row's sixteens to its columns from `col` on.
#[inline(always)]
fn for_each_few<const W: usize>(
    dst: &mut TileMut<'_>,
    col: usize,
    lanes: &[Range<usize>; W],
    results: &mut [Results],
    finish: impl Fn(&mut [[Results; W]]),
    mut add: impl FnMut(&mut [[Results; W]], usize),
) {
    let results = results.as_chunks_mut::<W>().0;
    let (m, room) = (dst.rows(), results.len().max(1));
    for first in (0..m).step_by(room) {
        let Some(acc) = results.get_mut(..room.min(m - first)) else { return };
        clear(acc.as_flattened_mut());
        for (acc, dst) in acc.iter().zip(dst.rows_from(first)) {
            arch::prefetch_to_write(dst.as_ptr().wrapping_add(col), acc.as_flattened().len());
        }
        add(acc, first);
        finish(acc);
        for (acc, dst) in acc.iter().zip(dst.rows_from(first)) {
            let Some(mut dst) = dst.get_mut(col..) else { return };
            for (acc, lanes) in acc.iter().zip(lanes) {
                let split = mem::take(&mut dst).split_at_mut_checked(lanes.len());
                let (Some((to, rest)), Some(acc)) = (split, acc.get(lanes.clone())) else { return };
                copy(to, acc);
                dst = rest;
            }
        }
    }
}

/// Calls `f` with thirty-two values of `dst` and their block, for every block of `weights`, row after row.
pub(crate) fn for_each_block<P: Panel>(
    weights: Packed<'_, P>,
    dst: &mut [f32],
    f: impl Fn(&mut [f32], &P::Block),
) {
    let mut dst = dst.chunks_exact_mut(QK);
    for (panels, lanes) in weights.panels() {
        for r in lanes {
            panels.iter().zip(&mut dst).for_each(|(panel, dst)| f(dst, &panel.block(r)));
        }
    }
    weights.rest().blocks().iter().zip(dst).for_each(|(block, dst)| f(dst, block));
}

/// Zeros.
#[inline(always)]
fn clear(acc: &mut [Results]) {
    acc.iter_mut().for_each(|acc| arch::copy16(acc, &ZEROS));
}

static ZEROS: Results = [0.0; PANEL_ROWS];

/// `to[i] = from[i]`.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    match (to.first_chunk_mut(), from.first_chunk()) {
        (Some(to), Some(from)) => arch::copy16(to, from),
        _ => copy_few(to, from),
    }
}

/// The same for fewer than sixteen.
#[inline(never)] // of what this needs, nothing waits on the stack of the loops around it
fn copy_few(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
