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
const TYPES: [GgmlType; 6] =
    [GgmlType::F32, GgmlType::F16, GgmlType::BF16, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1];

/// Operands of one product: activations of `m` rows in both forms, weights of `n` rows.
struct Operands<'a> {
    lhs: Activations<'a>,
    /// Rows of `lhs` for dot products.
    q8_0: &'a [BlockQ8_0],
    rhs: Matrix<'a>,
    k: usize,
}

impl<'a> Operands<'a> {
    fn new(arena: &mut Arena<'a>, ops: Ops, ty: GgmlType, (m, n, k): (usize, usize, usize)) -> Operands<'a> {
        let f32 = data::f32s(arena, m * k, 20);
        let q8_0 = arena.alloc(m * k / 32, BlockQ8_0::ZERO).expect("test memory");
        ops.quantize_q8_0(q8_0, f32);
        let q8 = arena.alloc(m * k / 32, BlockQ8::ZERO).expect("test memory");
        for (i, row) in f32.chunks_exact(k).enumerate() {
            ops.quantize_q8(&mut q8[i..], m, row);
        }
        // At an odd address, or at an even one: halves are loaded in another way there.
        let at = (m + n) % 2;
        let bytes = arena.alloc(at + n * ty.row_bytes(k).expect("whole blocks"), 0u8).expect("test memory");
        crate::weights::fill(&mut bytes[at..], ty, 0.5, &mut crate::random::Random::new(21));
        let rhs = Matrix::new(ty, &bytes[at..], n, k).expect("a whole matrix");
        Operands { lhs: Activations { rows: m, f32, q8 }, q8_0, rhs, k }
    }

    /// The dot product of row `i` of the activations and row `j` of the weights.
    fn dot(&self, ops: Ops, i: usize, j: usize) -> f32 {
        let x = &self.lhs.f32[i * self.k..][..self.k];
        let xq = &self.q8_0[i * self.k / 32..][..self.k / 32];
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

/// Fails unless `dst` (m, n) holds the dot products, bit for bit.
fn check(dst: &[f32], ops: Ops, operands: &Operands<'_>, n: usize, about: &str) {
    for (i, row) in dst.chunks_exact(n).enumerate() {
        for (j, have) in row.iter().enumerate() {
            let want = operands.dot(ops, i, j);
            let ty = operands.rhs.ty();
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
        for &(m, n, k) in shapes {
            let mut arena = stand.arena();
            let operands = Operands::new(&mut arena, ops, ty, (m, n, k));
            let dst = arena.alloc(m * n, f32::NAN).expect("test memory");
            ops.gemm(
                &mut TileMut::new(dst, n),
                &operands.lhs,
                operands.rhs,
                &mut data::workspace(&mut arena),
            );
            check(dst, ops, &operands, n, "whole");
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
        // FNV-1a by words.
        dst.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, x| {
            (hash ^ u64::from(x.to_bits())).wrapping_mul(0x100_0000_01b3)
        })
    });
    assert_eq!(found, BITS, "{:?}", ops.backend());
}

pub fn tiles_are_cut_anywhere(stand: &mut Stand<'_>) {
    let ops = stand.ops;
    let (m, n, k) = (5, 13, 64);
    for ty in TYPES {
        for cut in 0..=n {
            let mut arena = stand.arena();
            let operands = Operands::new(&mut arena, ops, ty, (m, n, k));
            let dst = arena.alloc(m * n, f32::NAN).expect("test memory");
            let (mut left, mut right) = TileMut::new(dst, n).split_at_col(cut);
            let workspace = &mut data::workspace(&mut arena);
            ops.gemm(&mut left, &operands.lhs, operands.rhs.slice_rows(0..cut), workspace);
            ops.gemm(&mut right, &operands.lhs, operands.rhs.slice_rows(cut..n), workspace);
            check(dst, ops, &operands, n, "cut");
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
                let dst = arena.alloc(m * n, f32::NAN).expect("test memory");
                let n_lines = workers.count() * Workspace::LINES;
                let lines = arena.alloc(n_lines, Line::ZERO).expect("test memory");
                let tile = TileMut::new(dst, n);
                for_each_tile(
                    workers,
                    tile,
                    PartSize { rows: NonZeroUsize::MAX, cols },
                    lines,
                    Workspace::LINES,
                    &|_, cols, mut tile, lines| {
                        let rhs = operands.rhs.slice_rows(cols);
                        ops.gemm(&mut tile, &operands.lhs, rhs, &mut Workspace::new(lines));
                    },
                );
                check(dst, ops, &operands, n, "by workers");
            }
        }
    }
}
