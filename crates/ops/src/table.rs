//! [`Ops`]: which routine does what on this CPU, as data. A back-end is the one below it plus what it does better.

use core::fmt;

use crate::arch;
use crate::block::{Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, QK};
use crate::cpu::{Feature, Features};
use crate::lanes::LaneOps;
use crate::panel::{
    self, AccumulateTwo, BlockQ8, Kernel, Panel, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results, TileKernel, Tiles,
};
use crate::product::{Activations, Product};
use crate::quantize;
use crate::scalar;
use crate::tile::TileMut;
use crate::view::{Matrix, Packed, Rows, ViewError, packed_mut};
use crate::workspace::{ProductSpace, Spill, Workspace};

/// A set of routines for one level of CPU features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Portable Rust.
    Scalar,
    /// aarch64 Advanced SIMD.
    Neon,
    /// The same with SDOT.
    NeonDotprod,
    /// The same with SMMLA.
    NeonI8mm,
    /// x86-64 AVX2, FMA and F16C.
    Avx2,
    /// The same with 256-bit VNNI.
    AvxVnni,
    /// AVX-512 with VNNI.
    Avx512Vnni,
    /// The same with AMX tiles.
    Amx,
}

impl Backend {
    /// The name in tables and on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon_dotprod",
            Self::NeonI8mm => "neon_i8mm",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx_vnni",
            Self::Avx512Vnni => "avx512_vnni",
            Self::Amx => "amx",
        }
    }
}

/// The routines of one back-end; each is safe to call on a CPU that has the features in `needs`.
#[derive(Clone, Copy)]
pub(crate) struct OpTable {
    pub backend: Backend,
    pub needs: Feature,
    pub quantize_q8_0: unsafe fn(&mut [BlockQ8_0], &[f32]),
    pub quantize_q8: unsafe fn(dst: &mut [BlockQ8], stride: usize, src: &[f32]),
    pub f32: Product<F32>,
    pub f16: Product<F16>,
    pub bf16: Product<Bf16>,
    pub q8_0: Kernel<PanelQ8_0>,
    pub q4_0: Kernel<PanelQ4_0>,
    pub q4_1: Kernel<PanelQ4_1>,
    pub tiles: Option<Tiles>,
    pub lanes: LaneOps,
}

/// The routines chosen for this CPU: a value to pass down. Two are equal when their back-ends are.
///
/// Shapes that disagree are a bug of the caller: a debug build asserts, a release build works on the part that all
/// slices share and touches nothing outside them. Nothing here panics in release.
#[derive(Clone, Copy)]
pub struct Ops(&'static OpTable);

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ops({})", self.backend().name())
    }
}

impl PartialEq for Ops {
    fn eq(&self, other: &Self) -> bool {
        self.backend() == other.backend()
    }
}
impl Eq for Ops {}

static SCALAR: OpTable = scalar::TABLE;

/// All back-ends of this architecture, lowest first.
fn tables() -> impl Iterator<Item = &'static OpTable> {
    core::iter::once(&SCALAR).chain(arch::TABLES)
}

impl Ops {
    /// The portable back-end.
    pub fn scalar() -> Self {
        Self(&SCALAR)
    }

    /// The highest back-end that `features` allow.
    pub fn best(features: Features) -> Self {
        Self::available(features).last().unwrap_or(Self::scalar())
    }

    /// Every back-end that `features` allow, lowest first; scalar is always there.
    pub fn available(features: Features) -> impl Iterator<Item = Self> {
        tables().filter(move |table| features.has(table.needs)).map(Self)
    }

    /// What the back-end of that name asks for; `None` where this architecture has none.
    pub fn needs(name: &str) -> Option<Feature> {
        tables().find(|table| table.backend.name() == name).map(|table| table.needs)
    }

    /// Which back-end this is.
    pub fn backend(self) -> Backend {
        self.0.backend
    }
}

/// Defines methods that check shapes in debug builds and call the table.
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $($field:ident).+, $check:expr;)*) => {
        impl Ops {
            $(
                $(#[$doc])*
                pub fn $name(self, $($arg: $ty),*) $(-> $ret)? {
                    debug_assert!($check, concat!(stringify!($name), ": shapes disagree"));
                    // SAFETY: an `Ops` is made by `available` alone, whose features are those of this CPU.
                    unsafe { (self.0.$($field).+)($($arg),*) }
                }
            )*
        }
    };
}

methods! {
    /// Quantizes `src` to Q8_0: `d = max |x| / 127`, `q = round(x / d)`, halves away from zero, per 32 values.
    ///
    /// Every back-end gives the same bytes. A block with an infinity or a NaN gets a NaN for its scale.
    quantize_q8_0(dst: &mut [BlockQ8_0], src: &[f32]) = quantize_q8_0, dst.len() * QK == src.len();
    /// Quantizes `src` in the same way for products: block `b` goes to `dst[b * stride]`.
    quantize_q8(dst: &mut [BlockQ8], stride: usize, src: &[f32])
        = quantize_q8, stride > 0 && dst.len().div_ceil(stride) == src.len() / QK;

    /// `dst[i] = src[i]`, exactly.
    f32_from_f16(dst: &mut [f32], src: &[F16]) = lanes.f32_from_f16, dst.len() == src.len();
    /// `dst[i] = src[i]`, rounded to nearest, ties to even.
    f16_from_f32(dst: &mut [F16], src: &[f32]) = lanes.f16_from_f32, dst.len() == src.len();

    /// `lhs . rhs`
    dot_f32(lhs: &[f32], rhs: &[f32]) -> f32 = lanes.dot_f32, lhs.len() == rhs.len();
    /// `lhs . rhs`
    dot_f32_f16(lhs: &[f32], rhs: &[F16]) -> f32 = f16.dot, lhs.len() == rhs.len();
    /// `lhs . rhs`
    dot_f32_bf16(lhs: &[f32], rhs: &[Bf16]) -> f32 = bf16.dot, lhs.len() == rhs.len();
    /// `lhs . rhs` of rows of blocks; the integer part of each block is exact.
    dot_q8_0_q8_0(lhs: &[BlockQ8_0], rhs: &[BlockQ8_0]) -> f32 = q8_0.dot, lhs.len() == rhs.len();
    /// `lhs . rhs` of rows of blocks; the integer part of each block is exact.
    dot_q8_0_q4_0(lhs: &[BlockQ8_0], rhs: &[BlockQ4_0]) -> f32 = q4_0.dot, lhs.len() == rhs.len();
    /// `lhs . rhs` of rows of blocks; the integer parts of each block are exact.
    dot_q8_0_q4_1(lhs: &[BlockQ8_0], rhs: &[BlockQ4_1]) -> f32 = q4_1.dot, lhs.len() == rhs.len();

    /// `dst[i] += x[i]`
    add(dst: &mut [f32], x: &[f32]) = lanes.add, dst.len() == x.len();
    /// `dst[i] += bias[i]`, the bias as it lies in a file.
    add_f32le(dst: &mut [f32], bias: &[F32]) = lanes.add_f32le, dst.len() == bias.len();
    /// `dst[i] *= x[i]`
    mul(dst: &mut [f32], x: &[f32]) = lanes.mul, dst.len() == x.len();
    /// `dst[i] *= s`
    scale(dst: &mut [f32], s: f32) = lanes.scale, true;
    /// `dst[i] += a * x[i]`
    axpy(dst: &mut [f32], a: f32, x: &[f32]) = lanes.axpy, dst.len() == x.len();
    /// `x[i] = x[i] / (1 + e^-x[i])`
    silu(x: &mut [f32]) = lanes.silu, true;
    /// `x[i] = x[i] / 2 * (1 + tanh(sqrt(2 / pi) * (x[i] + 0.044715 x[i]^3)))`
    gelu(x: &mut [f32]) = lanes.gelu, true;
    /// `gate[i] = silu(gate[i]) * up[i]`: the middle of a SwiGLU feed-forward.
    silu_mul(gate: &mut [f32], up: &[f32]) = lanes.silu_mul, gate.len() == up.len();
    /// `dst[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]` (Zhang and Sennrich 2019).
    rms_norm(dst: &mut [f32], x: &[f32], weight: &[F32], eps: f32)
        = lanes.rms_norm, dst.len() == x.len() && dst.len() == weight.len();
    /// `dst[i] = (x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i]` (Ba, Kiros and Hinton 2016).
    layer_norm(dst: &mut [f32], x: &[f32], weight: &[F32], bias: &[F32], eps: f32)
        = lanes.layer_norm, dst.len() == x.len() && dst.len() == weight.len() && dst.len() == bias.len();
    /// `x[i] = e^(x[i] - max) / sum`; a NaN or two infinities make every value NaN.
    softmax(x: &mut [f32]) = lanes.softmax, true;
    /// Turns the pairs `(x[2i], x[2i + 1])` by the angles of [`Rotation::cos_sin`](crate::Rotation::cos_sin), in place.
    ///
    /// `cos_sin` holds the cosines, then the sines; values of `x` behind its length stay as they are.
    rope_norm(x: &mut [f32], cos_sin: &[f32]) = lanes.rope_norm, x.len() >= cos_sin.len();
    /// The same for the pairs `(x[i], x[i + n / 2])`, where `n` is the length of `cos_sin`.
    rope_neox(x: &mut [f32], cos_sin: &[f32]) = lanes.rope_neox, x.len() >= cos_sin.len();
    /// `x[i] = e^(x[i] * scale - max)`, with `max` the largest `x[i] * scale` or `floor`; gives `max` and the sum.
    softmax_chunk(x: &mut [f32], scale: f32, floor: f32) -> (f32, f32) = lanes.softmax_chunk, true;
}

impl Ops {
    /// Quantizes `src` to Q4_0 as ggml's reference does, 32 values to a block. Portable in every back-end.
    pub fn quantize_q4_0(self, dst: &mut [BlockQ4_0], src: &[f32]) {
        debug_assert!(dst.len() * QK == src.len(), "quantize_q4_0: shapes disagree");
        quantize::q4_0(dst, src);
    }

    /// Quantizes `src` to Q4_1 as ggml's reference does, 32 values to a block. Portable in every back-end.
    pub fn quantize_q4_1(self, dst: &mut [BlockQ4_1], src: &[f32]) {
        debug_assert!(dst.len() * QK == src.len(), "quantize_q4_1: shapes disagree");
        quantize::q4_1(dst, src);
    }

    /// Whether no magnitude is above `largest` and nothing is NaN.
    #[inline]
    pub fn all_within(self, x: &[f32], largest: f32) -> bool {
        arch::all_within(x, largest)
    }

    /// `x[i]` rounded to the nearest half, ties to even.
    pub fn round_to_f16(self, x: &mut [f32]) {
        let mut halves = [F16::from_bits(0); 64];
        for x in x.chunks_mut(64) {
            let Some(halves) = halves.get_mut(..x.len()) else { return };
            self.f16_from_f32(halves, x);
            self.f32_from_f16(x, halves);
        }
    }

    /// [`gelu`](Self::gelu) with argument and result rounded to halves; from 10 on, `x[i]` itself.
    ///
    /// That is what ggml computes: it looks the results up in a table of all halves (`ggml_vec_gelu_f32`).
    pub fn gelu_f16(self, x: &mut [f32]) {
        let mut results = [0.0; 64];
        for x in x.chunks_mut(64) {
            let Some(results) = results.get_mut(..x.len()) else { return };
            results.iter_mut().zip(&*x).for_each(|(result, x)| *result = *x);
            self.round_to_f16(results);
            self.gelu(results);
            self.round_to_f16(results);
            for (x, result) in x.iter_mut().zip(&*results) {
                *x = if *x >= 10.0 { *x } else { *result };
            }
        }
    }

    /// `dst[i] = src[i]`, to the bytes of a file.
    pub fn f32le_from_f32(self, dst: &mut [F32], src: &[f32]) {
        debug_assert!(dst.len() == src.len(), "f32le_from_f32: shapes disagree");
        dst.iter_mut().zip(src).for_each(|(dst, src)| *dst = F32::new(*src));
    }

    /// The values of `src`, row after row; every back-end gives the same.
    pub fn dequantize(self, dst: &mut [f32], src: Matrix<'_>) {
        debug_assert!(src.rows() * src.cols() == dst.len(), "dequantize: shapes disagree");
        let table = self.0;
        // SAFETY: an `Ops` is made by `available` alone, whose features are those of this CPU.
        unsafe {
            match src {
                Matrix::F32(rows) => (table.lanes.f32_from_f32le)(dst, rows.blocks()),
                Matrix::F16(rows) => (table.lanes.f32_from_f16)(dst, rows.blocks()),
                Matrix::Bf16(rows) => (table.lanes.f32_from_bf16)(dst, rows.blocks()),
                Matrix::Q4_0(rows) => (table.lanes.dequantize_q4_0)(dst, rows.blocks()),
                Matrix::Q4_0X16(packed) => panel::for_each_block(packed, dst, |dst, block| {
                    (table.lanes.dequantize_q4_0)(dst, core::slice::from_ref(block));
                }),
                Matrix::Q4_1(rows) => (table.lanes.dequantize_q4_1)(dst, rows.blocks()),
                Matrix::Q4_1X16(packed) => panel::for_each_block(packed, dst, |dst, block| {
                    (table.lanes.dequantize_q4_1)(dst, core::slice::from_ref(block));
                }),
                Matrix::Q8_0(rows) => (table.lanes.dequantize_q8_0)(dst, rows.blocks()),
                Matrix::Q8_0X16(packed) => panel::for_each_block(packed, dst, |dst, block| {
                    (table.lanes.dequantize_q8_0)(dst, core::slice::from_ref(block));
                }),
            }
        }
    }

    /// Writes `src` to `dst` with its rows in panels of sixteen, and gives the view of it. Products with it are the same,
    /// bit for bit, and faster. Types without panels are copied as they are.
    ///
    /// # Errors
    ///
    /// [`ViewError::Truncated`] when `dst` is smaller than `src`, [`ViewError::Packed`] when `src` is packed.
    pub fn pack<'d>(self, dst: &'d mut [u8], src: Matrix<'_>) -> Result<Matrix<'d>, ViewError> {
        let table = self.0;
        let (rows, cols) = (src.rows(), src.cols());
        let ty = src.ty().packed().unwrap_or(src.ty());
        let need =
            src.ty().row_bytes(cols).and_then(|row| row.checked_mul(rows)).ok_or(ViewError::TooLarge)?;
        let have = dst.len();
        let dst = dst.get_mut(..need).ok_or(ViewError::Truncated { need, have })?;
        // SAFETY: an `Ops` is made by `available` alone, whose features are those of this CPU.
        unsafe {
            match src {
                Matrix::Q4_0(src) => pack(&table.q4_0, dst, src),
                Matrix::Q4_1(src) => pack(&table.q4_1, dst, src),
                Matrix::Q8_0(src) => pack(&table.q8_0, dst, src),
                Matrix::Q4_0X16(_) | Matrix::Q4_1X16(_) | Matrix::Q8_0X16(_) => {
                    return Err(ViewError::Packed);
                }
                floats => dst.iter_mut().zip(floats.bytes()).for_each(|(dst, src)| *dst = *src),
            }
        }
        Matrix::new(ty, dst, rows, cols)
    }

    /// `dst (m, n) = lhs (m, k) . rhs (n, k)^T`: a gemv when `m` is 1.
    ///
    /// Quantized weights read `lhs.q8`, float weights `lhs.f32`. Each result is what the dot product of its two rows
    /// gives in the same back-end, bit for bit, whatever `m` and the tile.
    pub fn gemm(
        self,
        dst: &mut TileMut<'_>,
        lhs: &Activations<'_>,
        rhs: Matrix<'_>,
        workspace: &mut Workspace<'_>,
    ) {
        self.gemm_in(dst, lhs, &rhs, &mut workspace.product);
    }

    /// [`gemm`](Self::gemm) with the part of the workspace that it takes.
    pub(crate) fn gemm_in(
        self,
        dst: &mut TileMut<'_>,
        lhs: &Activations<'_>,
        rhs: &Matrix<'_>,
        space: &mut ProductSpace<'_>,
    ) {
        let have = if rhs.is_quantized() { lhs.q8.len() * QK } else { lhs.f32.len() };
        debug_assert!(
            dst.rows() == lhs.rows && dst.cols() == rhs.rows() && have == lhs.rows * rhs.cols(),
            "gemm: shapes disagree"
        );
        let table = self.0;
        let tiles = (table.tiles.as_ref())
            .filter(|tiles| arch::HAS_TILES && rhs.is_quantized() && dst.rows() >= tiles.rows);
        let (q8_0, q4_0, q4_1) = (tiles.map(|t| t.q8_0), tiles.map(|t| t.q4_0), tiles.map(|t| t.q4_1));
        // SAFETY: an `Ops` is made by `available` alone, whose features are those of this CPU.
        unsafe {
            if let Some(tiles) = tiles {
                (tiles.configure)();
            }
            match rhs {
                Matrix::F32(rhs) => (table.f32.gemm)(dst, lhs.f32, rhs),
                Matrix::F16(rhs) => (table.f16.gemm)(dst, lhs.f32, rhs),
                Matrix::Bf16(rhs) => (table.bf16.gemm)(dst, lhs.f32, rhs),
                Matrix::Q4_0(rhs) => gemm_quantized(&table.q4_0, q4_0, dst, lhs.q8, rhs, space),
                Matrix::Q4_0X16(rhs) => gemm_packed(&table.q4_0, q4_0, dst, lhs.q8, rhs, space),
                Matrix::Q4_1(rhs) => gemm_quantized(&table.q4_1, q4_1, dst, lhs.q8, rhs, space),
                Matrix::Q4_1X16(rhs) => gemm_packed(&table.q4_1, q4_1, dst, lhs.q8, rhs, space),
                Matrix::Q8_0(rhs) => gemm_quantized(&table.q8_0, q8_0, dst, lhs.q8, rhs, space),
                Matrix::Q8_0X16(rhs) => gemm_packed(&table.q8_0, q8_0, dst, lhs.q8, rhs, space),
            }
            if let Some(tiles) = tiles {
                (tiles.release)();
            }
        }
    }

    /// `dst[r][i] += sum over j of p[r * stride + j] * values[j][i]` for every row `r` of `dst (rows, values.cols())`:
    /// `values` of F32, F16, BF16 or Q8_0.
    ///
    /// Other types are no cache's and add nothing.
    pub fn accumulate(self, dst: &mut [f32], p: &[f32], stride: usize, values: Matrix<'_>) {
        self.accumulate_by(dst, p, stride, &values);
    }

    /// [`accumulate`](Self::accumulate) without a copy of what says where the values are.
    #[inline]
    pub(crate) fn accumulate_by(self, dst: &mut [f32], p: &[f32], stride: usize, values: &Matrix<'_>) {
        debug_assert!(
            dst.len().is_multiple_of(values.cols().max(1)) && values.rows() <= stride,
            "accumulate: shapes disagree"
        );
        let lanes = &self.0.lanes;
        // SAFETY: an `Ops` is made by `available` alone, whose features are those of this CPU.
        unsafe {
            match values {
                Matrix::F32(rows) => (lanes.accumulate_f32)(dst, p, stride, rows),
                Matrix::F16(rows) => (lanes.accumulate_f16)(dst, p, stride, rows),
                Matrix::Bf16(rows) => (lanes.accumulate_bf16)(dst, p, stride, rows),
                Matrix::Q8_0(rows) => (lanes.accumulate_q8_0)(dst, p, stride, rows),
                Matrix::Q4_0(_)
                | Matrix::Q4_0X16(_)
                | Matrix::Q4_1(_)
                | Matrix::Q4_1X16(_)
                | Matrix::Q8_0X16(_) => debug_assert!(false, "accumulate: not a cache type"),
            }
        }
    }
}

/// A product with weights in a file's order, by the best that a back-end's kernel has for each part of them.
///
/// Parts are functions that stand beside one another, so that none lies under a kernel with the frames of all.
///
/// # Safety
///
/// The CPU has the features of the kernel's back-end.
#[inline(never)]
unsafe fn gemm_quantized<P: Panel>(
    kernel: &Kernel<P>,
    tiles: Option<TileKernel<P>>,
    dst: &mut TileMut<'_>,
    x: &[BlockQ8],
    weights: &Rows<'_, P::Block>,
    space: &mut ProductSpace<'_>,
) {
    // SAFETY: as the caller says.
    let pack = |panels: &mut [P], blocks: &[P::Block], stride, ahead| unsafe {
        (kernel.pack)(panels, blocks, stride, ahead);
    };
    let accumulate = tiles.map_or(kernel.accumulate, |tiles| tiles.one);
    let accumulate =
        |acc: &mut [[Results; 1]], x: &[BlockQ8], stride, [panels]: [&[P]; 1], spill: &mut Spill| {
            // SAFETY: as the caller says.
            unsafe { accumulate(acc.as_flattened_mut(), x, stride, panels, spill) };
        };
    // SAFETY: as the caller says.
    let finish = |acc: &mut [[Results; 1]]| unsafe { finish(kernel, acc) };
    let mut done = 0;
    if let Some(rows) = kernel.one_row
        && dst.rows() == 1
    {
        // SAFETY: as the caller says.
        done =
            panel::gemv(dst, x, *weights, |acc, x, blocks, stride| unsafe { rows(acc, x, blocks, stride) });
    } else {
        if let Some(accumulate) = accumulate_two(kernel, tiles, dst.rows()) {
            // SAFETY: as the caller says.
            let accumulate = |acc: &mut [_], x: &[_], stride, panels: [&[P]; 2], spill: &mut Spill| unsafe {
                accumulate(acc, x, stride, panels, spill);
            };
            done = panel::gemm(dst, x, *weights, space, pack, accumulate, |_| ());
        }
        let (_, mut dst) = dst.reborrow().split_at_col(done);
        done +=
            panel::gemm(&mut dst, x, weights.slice(done..weights.rows()), space, pack, accumulate, finish);
    }
    if done < dst.cols() {
        let (_, mut dst) = dst.reborrow().split_at_col(done);
        panel::gemm_rest(&mut dst, x, weights.slice(done..weights.rows()), space, accumulate, finish);
    }
}

/// The same with weights in panels.
///
/// # Safety
///
/// As [`gemm_quantized`].
#[inline(never)]
unsafe fn gemm_packed<P: Panel>(
    kernel: &Kernel<P>,
    tiles: Option<TileKernel<P>>,
    dst: &mut TileMut<'_>,
    x: &[BlockQ8],
    weights: &Packed<'_, P>,
    space: &mut ProductSpace<'_>,
) {
    // SAFETY: as the caller says.
    let done = unsafe { gemm_panels(kernel, tiles, dst, x, weights, space) };
    if done < dst.cols() {
        let (_, mut dst) = dst.reborrow().split_at_col(done);
        // SAFETY: as the caller says.
        unsafe { gemm_quantized(kernel, tiles, &mut dst, x, &weights.rest(), space) };
    }
}

/// The part of it that lies in panels. Gives the columns that are done.
///
/// # Safety
///
/// As [`gemm_quantized`].
#[inline(never)]
unsafe fn gemm_panels<P: Panel>(
    kernel: &Kernel<P>,
    tiles: Option<TileKernel<P>>,
    dst: &mut TileMut<'_>,
    x: &[BlockQ8],
    weights: &Packed<'_, P>,
    space: &mut ProductSpace<'_>,
) -> usize {
    let two_streams = kernel.two_streams.filter(|_| arch::HAS_TWO && dst.rows() == 1);
    let two = match (two_streams, accumulate_two(kernel, tiles, dst.rows())) {
        (Some(add), _) => {
            // SAFETY: as the caller says.
            panel::gemv_packed(dst, x, *weights, |to, x, panels| unsafe { add(to, x, panels) })
        }
        (None, Some(accumulate)) => panel::gemm_packed(
            dst,
            x,
            *weights,
            space,
            // SAFETY: as the caller says.
            |acc, x, stride, panels, spill| unsafe { accumulate(acc, x, stride, panels, spill) },
            |_| (),
        ),
        (None, None) => 0,
    };
    let (_, mut dst) = dst.reborrow().split_at_col(two);
    let accumulate = tiles.map_or(kernel.accumulate, |tiles| tiles.one);
    let weights = weights.slice(two..weights.rows());
    let one = panel::gemm_packed(
        &mut dst,
        x,
        weights,
        space,
        // SAFETY: as the caller says.
        |acc, x, stride, [panels], spill| unsafe {
            accumulate(acc.as_flattened_mut(), x, stride, panels, spill);
        },
        // SAFETY: as the caller says.
        |acc| unsafe { finish(kernel, acc) },
    );
    two + one
}

/// Puts results in order, where a kernel has left them in another.
///
/// # Safety
///
/// As [`gemm_quantized`].
#[inline(always)]
unsafe fn finish<P: Panel>(kernel: &Kernel<P>, acc: &mut [[Results; 1]]) {
    if let Some(finish) = kernel.finish {
        // SAFETY: as the caller says.
        unsafe { finish(acc.as_flattened_mut()) };
    }
}

/// What multiplies with two panels at a time, where a kernel has it and `m` rows of activations make it worth while.
fn accumulate_two<P: Panel>(
    kernel: &Kernel<P>,
    tiles: Option<TileKernel<P>>,
    m: usize,
) -> Option<AccumulateTwo<P>> {
    tiles.map_or(kernel.accumulate_two, |tiles| Some(tiles.two)).filter(|_| arch::HAS_TWO && m > 1)
}

/// Writes `src` to `dst`, its whole sixteens of rows as panels.
///
/// # Safety
///
/// The CPU has the features of the kernel's back-end.
unsafe fn pack<P: Panel>(kernel: &Kernel<P>, dst: &mut [u8], src: Rows<'_, P::Block>) {
    let row_blocks = src.cols() / QK;
    let Some((panels, rest)) = packed_mut::<P>(dst, src.rows(), row_blocks) else { return };
    let firsts = (0..src.rows()).step_by(panel::PANEL_ROWS);
    for (panels, first) in panels.chunks_exact_mut(row_blocks.max(1)).zip(firsts) {
        let blocks = src.slice(first..first + panel::PANEL_ROWS).blocks();
        // SAFETY: as the caller says.
        unsafe { (kernel.pack)(panels, blocks, row_blocks, blocks.len()) };
    }
    let behind = src.slice(src.rows() / panel::PANEL_ROWS * panel::PANEL_ROWS..src.rows());
    rest.iter_mut().zip(behind.blocks()).for_each(|(dst, src)| *dst = *src);
}
