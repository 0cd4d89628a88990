//! Matrix products: each value is the dot product of its two rows, bit for bit, however the work is cut.

use core::num::NonZeroUsize;

use corelm::arena::Arena;
use corelm::ops::{
    Activations, Backend, Bf16, Block, BlockQ4_0, BlockQ4_1, BlockQ8, BlockQ8_0, F16, F32, GgmlType, Line,
    Matrix, Ops, PartSize, TileMut, Workers, Workspace, for_each_tile,
};

use super::Stand;
use crate::data;

/// Every type weights can have.
pub(super) const TYPES: [GgmlType; 6] =
    [GgmlType::F32, GgmlType::F16, GgmlType::BF16, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1];

/// Operands of one product: activations of `m` rows in both forms, weights of `n` rows.
pub(super) struct Operands<'a> {
    pub lhs: Activations<'a>,
    /// Rows of `lhs` for dot products with quantized weights; none for floats.
    pub q8_0: &'a [BlockQ8_0],
    /// Weights in a file's order.
    pub rhs: Matrix<'a>,
    k: usize,
}

impl<'a> Operands<'a> {
    pub fn new(arena: &mut Arena<'a>, ops: Ops, ty: GgmlType, (m, n, k): (usize, usize, usize)) -> Self {
        Self::with(arena, ops, ty, (m, n, k), |_| {})
    }

    /// The same, with weights that `change` has changed.
    pub fn with(
        arena: &mut Arena<'a>,
        ops: Ops,
        ty: GgmlType,
        (m, n, k): (usize, usize, usize),
        change: impl FnOnce(&mut [u8]),
    ) -> Self {
        let f32 = data::f32s(arena, m * k, 20);
        let n_blocks = if ty.block_values().get() == 1 { 0 } else { m * k / 32 };
        let q8_0 = arena.alloc(n_blocks, BlockQ8_0::ZERO).expect("test memory");
        let q8 = arena.alloc(n_blocks, BlockQ8::ZERO).expect("test memory");
        if n_blocks > 0 {
            ops.quantize_q8_0(q8_0, f32);
            for (i, row) in f32.chunks_exact(k).enumerate() {
                ops.quantize_q8(&mut q8[i..], m, row);
            }
        }
        // At an odd address, or at an even one: halves are loaded in another way there.
        let at = (m + n) % 2;
        let bytes = arena.alloc(at + n * ty.row_bytes(k).expect("whole blocks"), 0u8).expect("test memory");
        crate::weights::fill(&mut bytes[at..], ty, 0.5, &mut crate::random::Random::new(21));
        change(&mut bytes[at..]);
        let rhs = Matrix::new(ty, &bytes[at..], n, k).expect("a whole matrix");
        Operands { lhs: Activations { rows: m, f32, q8 }, q8_0, rhs, k }
    }

    /// The weights in a file's order, and where there are panels, in panels too, at an odd address.
    pub fn orders(&self, arena: &mut Arena<'a>, ops: Ops) -> impl Iterator<Item = Matrix<'a>> + use<'a> {
        let packed = self.rhs.ty().packed().map(|ty| {
            let len = ty.row_bytes(self.k).expect("whole blocks") * self.rhs.rows();
            let bytes = arena.alloc(1 + len, 0u8).expect("test memory");
            ops.pack(&mut bytes[1..], self.rhs).expect("weights in a file's order")
        });
        core::iter::once(self.rhs).chain(packed)
    }

    /// The dot product of row `i` of the activations and row `j` of the weights.
    pub fn dot(&self, ops: Ops, i: usize, j: usize) -> f32 {
        let x = &self.lhs.f32[i * self.k..][..self.k];
        let xq = self.q8_0.chunks_exact((self.k / 32).max(1)).nth(i).unwrap_or_default();
        fn row<B: Block>(rows: corelm::ops::Rows<'_, B>, j: usize) -> &[B] {
            rows.row(j).expect("a row")
        }
        match self.rhs {
            Matrix::F32(rows) => {
                // A dot product of f32 takes aligned slices, so the row is copied; 512 is more than any test's `k`.
                let mut copy = [0.0f32; 512];
                copy.iter_mut().zip(row::<F32>(rows, j)).for_each(|(to, from)| *to = from.to_f32());
                ops.dot_f32(x, &copy[..self.k])
            }
            Matrix::F16(rows) => ops.dot_f32_f16(x, row::<F16>(rows, j)),
            Matrix::Bf16(rows) => ops.dot_f32_bf16(x, row::<Bf16>(rows, j)),
            Matrix::Q8_0(rows) => ops.dot_q8_0_q8_0(xq, row::<BlockQ8_0>(rows, j)),
            Matrix::Q4_0(rows) => ops.dot_q8_0_q4_0(xq, row::<BlockQ4_0>(rows, j)),
            Matrix::Q4_1(rows) => ops.dot_q8_0_q4_1(xq, row::<BlockQ4_1>(rows, j)),
            _ => panic!("a type without a test"),
        }
    }
}

/// Fails unless `dst` (m, n), computed with weights of type `ty`, holds the dot products, bit for bit.
fn check(dst: &[f32], ops: Ops, operands: &Operands<'_>, ty: GgmlType, about: &str) {
    for (i, row) in dst.chunks_exact(operands.rhs.rows()).enumerate() {
        for (j, have) in row.iter().enumerate() {
            let want = operands.dot(ops, i, j);
            let backend = ops.backend();
            assert_eq!(
                have.to_bits(),
                want.to_bits(),
                "{backend:?} {ty:?} {about}: ({i}, {j}) {have} {want}"
            );
        }
    }
}

fn check_shapes(stand: &mut Stand<'_>, shapes: &[(usize, usize, usize)]) {
    let ops = stand.ops;
    for ty in TYPES {
        // Rows of floats may be of any length.
        for &(m, n, k) in shapes.iter().filter(|shape| ty.row_bytes(shape.2).is_some()) {
            let mut arena = stand.arena();
            let operands = Operands::new(&mut arena, ops, ty, (m, n, k));
            for rhs in operands.orders(&mut arena, ops) {
                let dst = arena.alloc(m * n, f32::NAN).expect("test memory");
                let workspace = &mut data::workspace(&mut arena);
                ops.gemm(&mut TileMut::new(dst, n), &operands.lhs, rhs, workspace);
                check(dst, ops, &operands, rhs.ty(), "whole");
            }
        }
    }
}

pub fn gemv_rows_equal_dots(stand: &mut Stand<'_>) {
    check_shapes(
        stand,
        &[
            (1, 1, 32),
            (1, 2, 64),
            (1, 3, 96),
            (1, 5, 32),
            (1, 8, 384),
            (1, 17, 160),
            (1, 32, 288),
            (1, 33, 288),
            (1, 64, 64),
            (1, 35, 1),
            (1, 9, 45),
        ],
    );
}

pub fn gemm_rows_equal_dots(stand: &mut Stand<'_>) {
    check_shapes(
        stand,
        &[
            (2, 1, 32),
            (2, 9, 96),
            (3, 4, 64),
            (4, 7, 384),
            (5, 5, 32),
            (7, 33, 288),
            (8, 16, 64),
            (13, 11, 96),
            (70, 17, 64),
            (3, 17, 512),
            (131, 17, 32), // more rows than a workspace has room for at a time
            (5, 7, 1),
            (9, 11, 77),
        ],
    );
}

/// What [`quantized_products_have_the_same_bits_everywhere`] finds, for Q8_0, Q4_0 and Q4_1.
const BITS: [u64; 3] = [0x4122_5010_565c_5669, 0x27d0_60f7_82ba_c9ac, 0xa114_c3c0_4df7_57b2];

/// Products with quantized weights are the same bits on every CPU that rounds a multiply-add once: all but the portable
/// back-end.
pub fn quantized_products_have_the_same_bits_everywhere(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    if ops.backend() == Backend::Scalar {
        return;
    }
    let types = [GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1];
    let found = types.map(|ty| {
        let mut arena = stand.arena();
        let (m, n, k) = (6, 48, 288);
        let operands = Operands::new(&mut arena, ops, ty, (m, n, k));
        let dst = arena.alloc(m * n, f32::NAN).expect("test memory");
        ops.gemm(&mut TileMut::new(dst, n), &operands.lhs, operands.rhs, &mut data::workspace(&mut arena));
        dst.iter().fold(data::Hash::EMPTY, |hash, x| hash.with(*x)).0
    });
    assert_eq!(found, BITS, "{:?}", ops.backend());
}

pub fn tiles_are_cut_anywhere(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let (m, n, k) = (5, 21, 64);
    for ty in TYPES {
        for cut in 0..=n {
            let mut arena = stand.arena();
            let operands = Operands::new(&mut arena, ops, ty, (m, n, k));
            for rhs in operands.orders(&mut arena, ops) {
                let dst = arena.alloc(m * n, f32::NAN).expect("test memory");
                let (mut left, mut right) = TileMut::new(dst, n).split_at_col(cut);
                let workspace = &mut data::workspace(&mut arena);
                ops.gemm(&mut left, &operands.lhs, rhs.slice_rows(0..cut), workspace);
                ops.gemm(&mut right, &operands.lhs, rhs.slice_rows(cut..n), workspace);
                check(dst, ops, &operands, rhs.ty(), "cut");
            }
        }
    }
}

/// Workers that run one after the other, the last first.
struct Backwards(usize);

impl Workers for Backwards {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        (0..self.0).rev().for_each(job);
    }
}

/// Workers that never come.
struct Absent;

impl Workers for Absent {
    fn count(&self) -> usize {
        4
    }

    fn run(&self, _: &(dyn Fn(usize) + Sync)) {}
}

pub fn workers_change_nothing(stand: &mut Stand<'_>) {
    let (ops, lent) = (stand.ops, stand.workers);
    let (m, n, k) = (3, 50, 96);
    for ty in TYPES {
        for workers in [lent, &Backwards(3), &Backwards(1), &Absent] {
            for cols in [1, 4, 7, 64].map(NonZeroUsize::new).into_iter().flatten() {
                let mut arena = stand.arena();
                let operands = Operands::new(&mut arena, ops, ty, (m, n, k));
                for rhs in operands.orders(&mut arena, ops) {
                    let dst = arena.alloc(m * n, f32::NAN).expect("test memory");
                    share_out(workers, TileMut::new(dst, n), &operands.lhs, rhs, cols, ops, &mut arena);
                    check(dst, ops, &operands, rhs.ty(), "by workers");
                }
            }
        }
    }
}

/// The product in parts of `cols` columns, by `workers`.
pub(super) fn share_out(
    workers: &dyn Workers,
    dst: TileMut<'_>,
    lhs: &Activations<'_>,
    rhs: Matrix<'_>,
    cols: NonZeroUsize,
    ops: Ops,
    arena: &mut Arena<'_>,
) {
    let lines = arena.alloc(workers.count() * Workspace::LINES, Line::ZERO).expect("test memory");
    let size = PartSize { rows: NonZeroUsize::MAX, cols };
    for_each_tile(workers, dst, size, lines, Workspace::LINES, &|_, cols, mut tile, lines| {
        ops.gemm(&mut tile, lhs, rhs.slice_rows(cols), &mut Workspace::new(lines));
    });
}
