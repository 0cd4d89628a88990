//! AMX above AVX-512 VNNI: sixteen rows of activations meet sixteen rows of weights in one instruction.
//!
//! A tile of activations is the quants of a block of each row, where they lie; a tile of weights is a panel, its nibbles
//! as bytes. Every block has scales of its own, so what a product of two tiles gives goes through memory to the AVX-512
//! registers, where it is multiplied and added as the back-ends below do it. Few rows are left to them altogether: those
//! wait for the weights.

use core::arch::asm;
use core::arch::x86_64::*;
use core::array::from_fn;
use core::mem::{offset_of, swap};
use core::ops::Range;

use super::avx2::panels::{prefetch_panel, rows_of};
use super::avx512;
use super::avx512::panels::{load_group, load_nibbles, scales};
use crate::block::QK;
use crate::cpu::Feature;
use crate::panel::{
    BlockQ8, Kernel, Panel, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results, TileKernel, Tiles, is_enough,
};
use crate::table::{Backend, OpTable};
use crate::workspace::{Line, Spill};

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::Amx,
    needs: avx512::TABLE.needs.union(Feature::AMX_INT8),
    tiles: Some(Tiles { rows: ROWS, configure, release, q8_0: kernel(), q4_0: kernel(), q4_1: kernel() }),
    ..avx512::TABLE
};

const fn kernel<P: Tiled>() -> TileKernel<P> {
    TileKernel { one: accumulate::<P>, two: accumulate_two::<P> }
}

/// Rows of activations in a tile.
const ROWS: usize = 16;
/// Rows of a tile of weights: four quants of each of sixteen rows to a line.
const GROUPS: usize = QK / 4;
/// Bytes in a row of a tile of weights or sums.
const LINE: usize = 64;
/// Tiles of sums.
const SUMS: usize = 4;

/// Lines of the workspace: what is written of sums, what waits to be scaled, and the quants of panels.
pub(super) const SPILL_LINES: usize = SUMS * (2 * ROWS + GROUPS);

/// What LDTILECFG reads (Intel SDM vol. 1, 18.3): the rows of each tile, and their bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

const _: () = assert!(size_of::<TileConfig>() == 64);

const WIDE: u16 = LINE as u16;
const HIGH: u8 = ROWS as u8;

/// Tiles 0 to 3 have sums, tile 4 activations, tile 5 weights.
static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [WIDE, WIDE, WIDE, WIDE, QK as u16, WIDE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [HIGH, HIGH, HIGH, HIGH, HIGH, GROUPS as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Gives the tiles their shapes.
///
/// # Safety
///
/// The CPU has AMX, and the system lets this thread use it.
unsafe fn configure() {
    // SAFETY: as the caller says; the configuration is valid, and compiled code uses no tiles.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(readonly, nostack, preserves_flags)) };
}

/// Gives the tiles up: a context switch need not save them any more.
///
/// # Safety
///
/// As for [`configure`].
unsafe fn release() {
    // SAFETY: as the caller says.
    unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
}

/// Sums of quants: what each row of a tile of activations gives with the sixteen rows of a panel.
type Sums = [Line; ROWS];

/// Quants of a panel: signed bytes, four of each row to a line.
type Quants = [Line; GROUPS];

/// Runs `$asm` with `t` the number of a tile of sums, which instructions hold.
macro_rules! with_tile {
    ($t:expr, $($asm:tt)*) => {
        match $t {
            0 => asm!($($asm)*, t = const 0, options(nostack, preserves_flags)),
            1 => asm!($($asm)*, t = const 1, options(nostack, preserves_flags)),
            2 => asm!($($asm)*, t = const 2, options(nostack, preserves_flags)),
            _ => asm!($($asm)*, t = const 3, options(nostack, preserves_flags)),
        }
    };
}

/// Writes the sums of tile `t`, and leaves there `x . w`.
///
/// # Safety
///
/// The tiles are configured.
#[inline(always)]
unsafe fn exchange(t: usize, sums: &mut Sums, x: &[BlockQ8; ROWS], w: &Quants) {
    // SAFETY: as the caller says; compiled code uses no tiles. Read are the quants of sixteen blocks and eight lines of
    // weights, written are sixteen lines of sums.
    unsafe {
        with_tile!(
            t,
            "tilestored [{sums} + {line}*1], tmm{t}",
            "tileloadd tmm4, [{x} + {block}*1]",
            "tileloadd tmm5, [{w} + {line}*1]",
            "tilezero tmm{t}",
            "tdpbssd tmm{t}, tmm4, tmm5",
            x = in(reg) x.as_ptr().cast::<u8>().wrapping_add(offset_of!(BlockQ8, qs)),
            block = in(reg) size_of::<BlockQ8>(),
            w = in(reg) w.as_ptr(),
            line = in(reg) LINE,
            sums = in(reg) sums.as_mut_ptr()
        );
    }
}

/// Writes the sums of tile `t`.
///
/// # Safety
///
/// The tiles are configured.
#[inline(always)]
unsafe fn store(t: usize, sums: &mut Sums) {
    // SAFETY: as the caller says; written are sixteen lines.
    unsafe {
        with_tile!(
            t,
            "tilestored [{sums} + {line}*1], tmm{t}",
            line = in(reg) LINE,
            sums = in(reg) sums.as_mut_ptr()
        );
    }
}

/// Panels that tiles can hold. For use under AVX-512 only, like [`Lanes`](crate::lanes::Lanes).
trait Tiled: Panel {
    /// What the sums of quants are multiplied with, and what is added to them.
    type Scales: Copy;
    /// The kernel of AVX-512 VNNI.
    const BELOW: Kernel<Self>;

    fn scales(&self) -> Self::Scales;
    /// Signed bytes, four of each row to a register.
    fn quants(&self) -> [__m512i; GROUPS];
    /// `acc` and what a row of activations adds to it.
    fn add(acc: __m512, sums: __m512, x: &BlockQ8, scales: Self::Scales) -> __m512;
}

/// Runs intrinsics inside a method of [`Tiled`].
macro_rules! avx512 {
    ($body:expr) => {
        // SAFETY: AVX-512 is enabled in every function that calls a method of `Tiled`.
        unsafe { $body }
    };
}

impl Tiled for PanelQ8_0 {
    type Scales = __m512;
    const BELOW: Kernel<Self> = avx512::TABLE.q8_0;

    #[inline(always)]
    fn scales(&self) -> __m512 {
        avx512!(scales(&self.d))
    }
    #[inline(always)]
    fn quants(&self) -> [__m512i; GROUPS] {
        avx512!(self.qs.each_ref().map(|group| load_group(group)))
    }
    #[inline(always)]
    fn add(acc: __m512, sums: __m512, x: &BlockQ8, d: __m512) -> __m512 {
        avx512!(_mm512_fmadd_ps(sums, _mm512_mul_ps(d, _mm512_set1_ps(x.d)), acc))
    }
}

impl Tiled for PanelQ4_0 {
    type Scales = __m512;
    const BELOW: Kernel<Self> = avx512::TABLE.q4_0;

    #[inline(always)]
    fn scales(&self) -> __m512 {
        avx512!(scales(&self.d))
    }
    #[inline(always)]
    fn quants(&self) -> [__m512i; GROUPS] {
        avx512!(load_nibbles(&self.qs).map(|nibbles| _mm512_sub_epi8(nibbles, _mm512_set1_epi8(8))))
    }
    #[inline(always)]
    fn add(acc: __m512, sums: __m512, x: &BlockQ8, d: __m512) -> __m512 {
        PanelQ8_0::add(acc, sums, x, d)
    }
}

impl Tiled for PanelQ4_1 {
    type Scales = (__m512, __m512);
    const BELOW: Kernel<Self> = avx512::TABLE.q4_1;

    #[inline(always)]
    fn scales(&self) -> (__m512, __m512) {
        avx512!((scales(&self.d), scales(&self.m)))
    }
    #[inline(always)]
    fn quants(&self) -> [__m512i; GROUPS] {
        avx512!(load_nibbles(&self.qs))
    }
    #[inline(always)]
    fn add(acc: __m512, sums: __m512, x: &BlockQ8, (d, m): (__m512, __m512)) -> __m512 {
        let acc = PanelQ8_0::add(acc, sums, x, d);
        avx512!(_mm512_fmadd_ps(_mm512_set1_ps(x.offset as f32 * -0.125 * x.d), m, acc))
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn accumulate<P: Tiled>(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[P], spill: &mut Spill) {
    if acc.len() < ROWS {
        // SAFETY: the features of AVX-512 VNNI are enabled here.
        return unsafe { (P::BELOW.accumulate)(acc, x, stride, panels, spill) };
    }
    // SAFETY: `acc` fills a tile, so the tiles are configured.
    unsafe { add_panels(acc.as_chunks_mut().0, x, stride, [panels], spill) };
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn accumulate_two<P: Tiled>(
    acc: &mut [[Results; 2]],
    x: &[BlockQ8],
    stride: usize,
    panels: [&[P]; 2],
    spill: &mut Spill,
) {
    if acc.len() < ROWS {
        let below = const { P::BELOW.accumulate_two.unwrap() };
        // SAFETY: the features of AVX-512 VNNI are enabled here.
        return unsafe { below(acc, x, stride, panels, spill) };
    }
    // SAFETY: `acc` fills a tile, so the tiles are configured.
    unsafe { add_panels(acc, x, stride, panels, spill) };
}

/// `acc[i][side] += x[b * stride + i] . panels[side][b]`, two blocks at a time.
///
/// # Safety
///
/// The tiles are configured, and `acc` fills one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_panels<P: Tiled, const W: usize>(
    acc: &mut [[Results; W]],
    x: &[BlockQ8],
    stride: usize,
    panels: [&[P]; W],
    spill: &mut Spill,
) {
    let n_blocks = panels.iter().map(|panels| panels.len()).min().unwrap_or(0);
    if acc.len() < ROWS || !is_enough(x.len(), stride, n_blocks, acc.len()) {
        return;
    }
    let even = n_blocks / 2 * 2;
    // SAFETY: `x` is enough.
    unsafe { add_products::<P, W, 2>(acc, x, stride, panels, 0..even, spill) };
    // SAFETY: `x` is enough.
    unsafe { add_products::<P, W, 1>(acc, x, stride, panels, even..n_blocks, spill) };
}

/// `N` blocks of a tile of activations that were multiplied with `W` panels each: what their sums are still to be scaled
/// with.
struct Products<'x, P: Tiled, const W: usize, const N: usize> {
    x: [&'x [BlockQ8; ROWS]; N],
    scales: [[P::Scales; W]; N],
    /// The row of results that the tile begins at.
    start: usize,
    /// Rows of the tile that are done already.
    n_done: usize,
}

/// [`add_panels`] for the panels of `blocks`, `N` blocks at a time.
///
/// A product of tiles takes many cycles, and so does the way of its sums through memory: products are under way while those
/// before them are written, and those before these are scaled. The three take turns in small steps, since a CPU does not
/// look far ahead.
///
/// # Safety
///
/// The tiles are configured, `acc` fills one, all panels are there and `x` is enough for them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_products<P: Tiled, const W: usize, const N: usize>(
    acc: &mut [[Results; W]],
    x: &[BlockQ8],
    stride: usize,
    panels: [&[P]; W],
    blocks: Range<usize>,
    spill: &mut Spill,
) {
    const { assert!(W * N <= SUMS) };
    const { assert!(ROWS.is_multiple_of(W * N)) };
    let n_rows = acc.len();
    let (sums, weights) = spill.split_at_mut(2 * SUMS * ROWS);
    let Some(weights) = weights.as_chunks_mut::<GROUPS>().0.first_chunk_mut::<SUMS>() else { return };
    let [written, waiting, ..] = sums.as_chunks_mut::<ROWS>().0.as_chunks_mut::<SUMS>().0 else { return };
    let (mut written, mut waiting) = (written, waiting);
    let (mut last, mut before): (Option<Products<'_, P, W, N>>, _) = (None, None);
    for b in blocks.step_by(N) {
        // SAFETY: the panels are there.
        let panels = from_fn(|n| panels.map(|panels| unsafe { panels.get_unchecked(b + n) }));
        for (to, panel) in weights.iter_mut().zip(panels.as_flattened()) {
            prefetch_panel(*panel);
            store_quants(to, panel.quants());
        }
        let scales = panels.map(|panels| panels.map(P::scales));
        for first in (0..n_rows).step_by(ROWS) {
            // The last tile is a whole one too: it begins among rows that are done.
            let start = first.min(n_rows - ROWS);
            // SAFETY: `x` is enough, and of its `n_rows` rows sixteen begin here.
            let x = from_fn(|n| unsafe { &*rows_of(x, stride, n_rows, b + n).as_ptr().add(start).cast() });
            for (t, (to, weights)) in written.iter_mut().zip(&*weights).enumerate().take(N * W) {
                // SAFETY: as the caller says.
                unsafe { exchange(t, to, x[t / W], weights) };
                if let Some(before) = &before {
                    let rows = ROWS / (N * W) * t..ROWS / (N * W) * (t + 1);
                    // SAFETY: `acc` has the tile's rows.
                    unsafe { add_sums(acc, before, waiting, rows) };
                }
            }
            before = last.replace(Products { x, scales, start, n_done: first - start });
            swap(&mut written, &mut waiting);
        }
    }
    if let Some(before) = before {
        // SAFETY: as above.
        unsafe { add_sums(acc, &before, waiting, 0..ROWS) };
    }
    if let Some(last) = last {
        for (t, to) in written.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            unsafe { store(t, to) };
        }
        // SAFETY: as above.
        unsafe { add_sums(acc, &last, written, 0..ROWS) };
    }
}

/// Writes the quants of a panel to where tiles are loaded from.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn store_quants(to: &mut Quants, quants: [__m512i; GROUPS]) {
    for (to, quants) in to.iter_mut().zip(quants) {
        // SAFETY: a line is as long as the register, and aligned to it.
        unsafe { _mm512_store_si512(core::ptr::from_mut(to).cast(), quants) };
    }
}

/// Adds the sums in some rows of a tile, scaled, to the results.
///
/// # Safety
///
/// `acc` has sixteen rows from where the tile begins; `rows` are below sixteen.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_sums<P: Tiled, const W: usize, const N: usize>(
    acc: &mut [[Results; W]],
    products: &Products<'_, P, W, N>,
    sums: &[Sums; SUMS],
    rows: Range<usize>,
) {
    for row in rows {
        if row < products.n_done {
            continue;
        }
        // SAFETY: as the caller says.
        let acc = unsafe { acc.get_unchecked_mut(products.start + row) };
        // SAFETY: sixteen results; the load is unaligned.
        let mut results = acc.each_ref().map(|acc| unsafe { _mm512_loadu_ps(acc.as_ptr()) });
        for (n, (x, scales)) in products.x.iter().zip(products.scales).enumerate() {
            // SAFETY: as the caller says.
            let x = unsafe { x.get_unchecked(row) };
            for (side, (result, scales)) in results.iter_mut().zip(scales).enumerate() {
                // SAFETY: there are `N` times `W` sums, with sixteen lines each; a line is as long as the register.
                let sums = unsafe {
                    let line = sums.get_unchecked(n * W + side).get_unchecked(row);
                    _mm512_load_si512(core::ptr::from_ref(line).cast())
                };
                *result = P::add(*result, _mm512_cvtepi32_ps(sums), x, scales);
            }
        }
        for (acc, result) in acc.iter_mut().zip(results) {
            // SAFETY: as above, of the store.
            unsafe { _mm512_storeu_ps(acc.as_mut_ptr(), result) };
        }
    }
}
