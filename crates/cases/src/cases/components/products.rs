//! Dot products, and products of matrices.

use core::hint::black_box;

use corelm::arena::Arena;
use corelm::ops::reference::{self, Decode};
use corelm::ops::{Activations, Block, BlockQ8, BlockQ8_0, GgmlType, Matrix, Ops, Rows, TileMut};

use super::{DIM, bytes_of, expect, is_near, results};
use crate::bench::{CaseError, Lab};
use crate::data;

/// Bytes and operations of a dot product of Q8_0 or f32 activations with a row of weights.
pub(super) const fn dot_cost(ty: GgmlType) -> (usize, usize) {
    (bytes_of(activations_of(ty), DIM) + bytes_of(ty, DIM), 2 * DIM)
}

/// Bytes and operations of a square matrix times `m` rows.
pub(super) const fn gemm_cost(ty: GgmlType, m: usize) -> (usize, usize) {
    (m * bytes_of(activations_of(ty), DIM) + bytes_of(ty, DIM * DIM) + 4 * m * DIM, 2 * m * DIM * DIM)
}

/// What activations are when they meet weights of a type.
const fn activations_of(ty: GgmlType) -> GgmlType {
    match ty {
        GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => GgmlType::F32,
        _ => GgmlType::Q8_0,
    }
}

pub(super) fn dot_f32(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let (lhs, rhs) = (&*data::f32s(&mut arena, DIM, 3), &*data::f32s(&mut arena, DIM, 4));
    let (want, magnitude) = reference::dot(lhs, rhs);
    expect(is_near(ops.dot_f32(lhs, rhs), want, DIM, magnitude), "dot product")?;
    lab.bencher.iter(&mut || {
        black_box(ops.dot_f32(black_box(lhs), black_box(rhs)));
    });
    Ok(())
}

pub(super) fn dot_float<B: Block>(
    lab: &mut Lab<'_>,
    dot: fn(Ops, &[f32], &[B]) -> f32,
) -> Result<(), CaseError>
where
    [B]: Decode,
{
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let lhs = &*data::f32s(&mut arena, DIM, 5);
    let rhs = data::blocks::<B>(&mut arena, DIM / B::VALUES, 0, 6);
    let (want, magnitude) = reference::dot(lhs, rhs);
    expect(is_near(dot(ops, lhs, rhs), want, DIM, magnitude), "dot product")?;
    lab.bencher.iter(&mut || {
        black_box(dot(ops, black_box(lhs), black_box(rhs)));
    });
    Ok(())
}

pub(super) fn dot_quantized<B: Block>(
    lab: &mut Lab<'_>,
    dot: fn(Ops, &[BlockQ8_0], &[B]) -> f32,
) -> Result<(), CaseError>
where
    [B]: Decode,
{
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let lhs = data::blocks::<BlockQ8_0>(&mut arena, DIM / 32, 0, 7);
    let rhs = data::blocks::<B>(&mut arena, DIM / 32, 0, 8);
    let (want, magnitude) = reference::dot(lhs, rhs);
    expect(is_near(dot(ops, lhs, rhs), want, DIM, magnitude), "dot product")?;
    lab.bencher.iter(&mut || {
        black_box(dot(ops, black_box(lhs), black_box(rhs)));
    });
    Ok(())
}

/// A product with weights as they lie in a file.
pub(super) fn gemm<B: Block, const M: usize>(lab: &mut Lab<'_>) -> Result<(), CaseError>
where
    [B]: Decode,
{
    product::<B, M>(lab, false)
}

/// A product with weights in panels, as engines keep them once a model is loaded.
pub(super) fn gemm_packed<B: Block, const M: usize>(lab: &mut Lab<'_>) -> Result<(), CaseError>
where
    [B]: Decode,
{
    product::<B, M>(lab, true)
}

fn product<B: Block, const M: usize>(lab: &mut Lab<'_>, is_packed: bool) -> Result<(), CaseError>
where
    [B]: Decode,
{
    let (ops, mut arena) = (lab.ops, Arena::new(lab.memory));
    let f32 = &*data::f32s(&mut arena, M * DIM, 9);
    let q8_0 = arena.alloc(M * DIM / 32, BlockQ8_0::ZERO).map_err(|_| CaseError::Memory)?;
    ops.quantize_q8_0(q8_0, f32);
    let q8 = arena.alloc(M * DIM / 32, BlockQ8::ZERO).map_err(|_| CaseError::Memory)?;
    for (i, row) in f32.chunks_exact(DIM).enumerate() {
        ops.quantize_q8(&mut q8[i..], M, row);
    }
    let lhs = Activations { rows: M, f32, q8 };
    let (bytes, blocks) = data::bytes_and_blocks::<B>(&mut arena, DIM * DIM / B::VALUES, 0, 10);
    let rhs = Matrix::new(B::TYPE, bytes, DIM, DIM).map_err(|_| CaseError::Wrong("shape"))?;
    let rhs = if is_packed { packed(ops, &mut arena, rhs, bytes.len())? } else { rhs };
    let rows = Rows::from_blocks(blocks, DIM).map_err(|_| CaseError::Wrong("shape"))?;
    let dst = results(&mut arena, M * DIM)?;
    let workspace = &mut data::workspace(&mut arena);
    ops.gemm(&mut TileMut::new(dst, DIM), &lhs, rhs, workspace);
    // The first and the last row: the definition is slow, and an emulator slower.
    let ends = (0..DIM).chain((M - 1) * DIM..M * DIM);
    let is_right = ends.map(|at| (at, dst[at])).all(|(at, have)| {
        let (i, j) = (at / DIM, at % DIM);
        let row = rows.row(j).unwrap_or_default();
        let (want, magnitude) = match activations_of(B::TYPE) {
            GgmlType::F32 => reference::dot(&f32[i * DIM..][..DIM], row),
            _ => reference::dot(&q8_0[i * DIM / 32..][..DIM / 32], row),
        };
        is_near(have, want, DIM, magnitude)
    });
    expect(is_right, "product")?;
    lab.bencher.iter(&mut || {
        ops.gemm(&mut TileMut::new(dst, DIM), black_box(&lhs), black_box(rhs), workspace);
        black_box(&mut *dst);
    });
    Ok(())
}

/// A copy of a matrix of `n_bytes` with its rows in panels.
fn packed<'a>(
    ops: Ops,
    arena: &mut Arena<'a>,
    matrix: Matrix<'_>,
    n_bytes: usize,
) -> Result<Matrix<'a>, CaseError> {
    let copy = arena.alloc(n_bytes, 0u8).map_err(|_| CaseError::Memory)?;
    let packed = ops.pack(copy, matrix).map_err(|_| CaseError::Wrong("shape"))?;
    expect(matrix.ty().packed() == Some(packed.ty()), "order of rows")?;
    Ok(packed)
}
