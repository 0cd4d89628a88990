//! AMX above AVX-512 VNNI: sixteen rows of activations meet sixteen rows of weights in one instruction.
//!
//! A tile of activations is the quants of a block of each row, where they lie; a tile of weights is a panel, its nibbles
//! as bytes. Every block has scales of its own, so what a product of two tiles gives goes through memory to the AVX-512
//! registers, where it is multiplied and added as the back-ends below do it. Few rows are left to them altogether: those
//! wait for the weights.

use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::{offset_of, swap};

use super::avx2::panels::{prefetch_panel, rows_of};
use super::avx512;
use super::avx512::panels::{load_group, load_nibbles, scales};
use crate::block::QK;
use crate::cpu::Feature;
use crate::panel::{BlockQ8, Kernel, Panel, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results, Tiles, is_enough};
use crate::table::{Backend, OpTable};
use crate::workspace::{Line, Spill};

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::Amx,
    needs: avx512::TABLE.needs.union(Feature::AMX_INT8),
    tiles: Some(Tiles {
        rows: ROWS,
        configure,
        release,
        q8_0: accumulate::<PanelQ8_0>,
        q4_0: accumulate::<PanelQ4_0>,
        q4_1: accumulate::<PanelQ4_1>,
    }),
    ..avx512::TABLE
};

/// Rows of activations in a tile.
const ROWS: usize = 16;
/// Rows of a tile of weights: four quants of each of sixteen rows to a line.
const GROUPS: usize = QK / 4;
/// Bytes in a row of a tile of weights or sums.
const LINE: usize = 64;
/// Panels at a time: results are loaded and stored once for both.
const PANELS: usize = 2;

/// Lines for two [`Sums`], one that is written and one that waits to be scaled.
const SUM_LINES: usize = 2 * ROWS * PANELS;
/// Lines of the workspace: sums, and the quants of panels.
pub(super) const SPILL_LINES: usize = SUM_LINES + GROUPS * PANELS;

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

/// Tile 0 has sums, tile 1 activations, tile 2 weights.
static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [LINE as u16, QK as u16, LINE as u16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [ROWS as u8, ROWS as u8, GROUPS as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
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

/// Sums of quants: what each row of activations gives with the sixteen rows of each of `N` panels.
type Sums<const N: usize> = [[Line; N]; ROWS];

/// Quants of a panel: signed bytes, four of each row to a line.
type Quants = [Line; GROUPS];

/// Writes column `b` of `sums`, below `N`: `sums[i][b] = x[i] . w`.
///
/// # Safety
///
/// The tiles are configured.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn multiply<const N: usize>(sums: &mut Sums<N>, b: usize, x: &[BlockQ8; ROWS], w: &Quants) {
    // SAFETY: as the caller says. Read are the quants of sixteen blocks and eight lines of weights, written are sixteen
    // lines of sums, `N` lines apart.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tileloadd tmm1, [{x} + {block}*1]",
            "tileloadd tmm2, [{w} + {line}*1]",
            "tdpbssd tmm0, tmm1, tmm2",
            "tilestored [{sums} + {row}*1], tmm0",
            x = in(reg) x.as_ptr().cast::<u8>().wrapping_add(offset_of!(BlockQ8, qs)),
            block = in(reg) size_of::<BlockQ8>(),
            w = in(reg) w.as_ptr(),
            line = in(reg) LINE,
            sums = in(reg) sums.as_mut_ptr().cast::<Line>().wrapping_add(b % N),
            row = in(reg) N * LINE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _,
            options(nostack, preserves_flags),
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
    if !is_enough(x.len(), stride, panels.len(), acc.len()) {
        return;
    }
    let (pairs, single) = panels.as_chunks::<PANELS>();
    // SAFETY: `x` is enough; `acc` fills a tile, so the tiles are configured.
    unsafe { add_products(acc, x, stride, pairs, spill) };
    if let Some(x) = x.get(pairs.len() * PANELS * stride..) {
        // SAFETY: as above.
        unsafe { add_products(acc, x, stride, single.as_chunks::<1>().0, spill) };
    }
}

/// A tile of activations that was multiplied with `N` panels: what its sums are still to be scaled with.
struct Product<'x, P: Tiled, const N: usize> {
    x: [&'x [BlockQ8; ROWS]; N],
    scales: [P::Scales; N],
    /// The first of the results that they are to be added to.
    first: usize,
}

/// [`accumulate`] for more than a tile of results, `N` panels at a time.
///
/// A product of tiles takes longer than to scale the sums of one, so these wait until the next is under way.
///
/// # Safety
///
/// The tiles are configured, `acc` fills one, and `x` is enough.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_products<P: Tiled, const N: usize>(
    acc: &mut [Results],
    x: &[BlockQ8],
    stride: usize,
    panels: &[[P; N]],
    spill: &mut Spill,
) {
    let n_rows = acc.len();
    let (sums, weights) = spill.split_at_mut(SUM_LINES);
    let weights: &mut [Quants] = weights.as_chunks_mut().0;
    let [first, second, ..] = sums.as_chunks_mut::<N>().0.as_chunks_mut::<ROWS>().0 else { return };
    let (mut sums, mut sums_before) = (first, second);
    let mut before: Option<Product<'_, P, N>> = None;
    for (i, panels) in panels.iter().enumerate() {
        panels.iter().for_each(prefetch_panel);
        weights.iter_mut().zip(panels).for_each(|(to, panel)| store_quants(to, panel.quants()));
        let scales = panels.each_ref().map(P::scales);
        for first in (0..n_rows).step_by(ROWS) {
            // The last tile is a whole one too: it begins among rows that are done.
            let start = first.min(n_rows - ROWS);
            let mut tiles = [&[BlockQ8::ZERO; ROWS]; N];
            for (b, (tile, weights)) in tiles.iter_mut().zip(&*weights).enumerate() {
                // SAFETY: `x` is enough, and of its `n_rows` rows sixteen begin here.
                *tile = unsafe { &*rows_of(x, stride, n_rows, i * N + b).as_ptr().add(start).cast() };
                // SAFETY: as the caller says.
                unsafe { multiply(sums, b, tile, weights) };
            }
            if let Some(before) = before.replace(Product { x: tiles, scales, first }) {
                add_sums(acc, &before, sums_before);
            }
            swap(&mut sums, &mut sums_before);
        }
    }
    if let Some(before) = before {
        add_sums(acc, &before, sums_before);
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

/// Adds the sums of a product, scaled, to the results.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn add_sums<P: Tiled, const N: usize>(acc: &mut [Results], product: &Product<'_, P, N>, sums: &Sums<N>) {
    let Some(acc) = acc.get_mut(product.first..) else { return };
    let n_done = ROWS.saturating_sub(acc.len());
    for (acc, (row, sums)) in acc.iter_mut().zip(sums.iter().enumerate().skip(n_done)) {
        // SAFETY: sixteen results; the load is unaligned.
        let mut sum = unsafe { _mm512_loadu_ps(acc.as_ptr()) };
        for ((x, sums), scales) in product.x.iter().zip(sums).zip(product.scales) {
            // SAFETY: activations have as many rows as sums.
            let x = unsafe { x.get_unchecked(row) };
            // SAFETY: a line is as long as the register.
            let sums = unsafe { _mm512_load_si512(core::ptr::from_ref(sums).cast()) };
            sum = P::add(sum, _mm512_cvtepi32_ps(sums), x, scales);
        }
        // SAFETY: as above, of the store.
        unsafe { _mm512_storeu_ps(acc.as_mut_ptr(), sum) };
    }
}
