//! KV cache: the keys and values of the positions seen so far, `[layer][kv_head][pos][head_dim]`.
//!
//! A head's positions lie one after another, so that attention streams through them. Nothing is ever written over: new
//! rows go behind the last position, [`KvCache::advance`] makes them part of the sequence once every layer has its own,
//! and a full cache is an error.

use core::fmt;
use core::ops::Range;

use crate::arena::{Arena, Layout};
use crate::error::ArenaError;
use crate::ops::{Block, BlockQ8_0, F16, F32, GgmlType, Matrix, Ops, Rows};

/// How cached values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// 4 bytes a value, exact.
    F32,
    /// 2 bytes a value.
    #[default]
    F16,
    /// 34 bytes for 32 values; heads must be whole blocks.
    Q8_0,
}

impl KvType {
    /// The tensor type of the same storage.
    pub const fn ggml_type(self) -> GgmlType {
        match self {
            Self::F32 => GgmlType::F32,
            Self::F16 => GgmlType::F16,
            Self::Q8_0 => GgmlType::Q8_0,
        }
    }
}

/// Shape of a cache. All four are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers.
    pub n_layers: usize,
    /// Key/value heads in a layer.
    pub n_kv_heads: usize,
    /// Values in a head.
    pub head_dim: usize,
    /// Positions.
    pub n_ctx: usize,
}

/// Why the cache refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvError {
    /// No position is left.
    Full {
        /// Positions there are.
        n_ctx: usize,
    },
    /// No such layer, or rows of another length.
    BadRow {
        /// The layer asked for.
        layer: usize,
    },
    /// Heads are no whole number of the storage's blocks, or empty.
    RaggedHead {
        /// Values in a head.
        head_dim: usize,
        /// Values in a block.
        block: usize,
    },
    /// The arena has no room.
    Arena(ArenaError),
}

/// Use of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvStats {
    /// Positions in use.
    pub len: usize,
    /// Positions there are.
    pub n_ctx: usize,
    /// The most positions ever in use.
    pub high_water: usize,
    /// Bytes of keys and values together.
    pub bytes: usize,
}

/// Keys and values of one sequence.
#[derive(Debug)]
pub struct KvCache<'a> {
    shape: KvShape,
    keys: Store<'a>,
    values: Store<'a>,
    len: usize,
    high_water: usize,
}

impl<'a> KvCache<'a> {
    /// What [`new`](Self::new) takes from an arena.
    ///
    /// # Errors
    ///
    /// [`KvError::RaggedHead`] when Q8_0 does not do for the heads; [`KvError::Arena`] when the
    /// size overflows.
    pub fn layout(shape: KvShape, kv_type: KvType) -> Result<Layout, KvError> {
        let n_blocks = shape.n_blocks(kv_type)?;
        let one = match kv_type {
            KvType::F32 => Layout::new().add::<F32>(n_blocks)?,
            KvType::F16 => Layout::new().add::<F16>(n_blocks)?,
            KvType::Q8_0 => Layout::new().add::<BlockQ8_0>(n_blocks)?,
        };
        Ok(one.then(one)?)
    }

    /// An empty cache, all zeros.
    ///
    /// # Errors
    ///
    /// As [`layout`](Self::layout), and [`KvError::Arena`] when the arena is too small.
    pub fn new(shape: KvShape, kv_type: KvType, arena: &mut Arena<'a>) -> Result<Self, KvError> {
        let n_blocks = shape.n_blocks(kv_type)?;
        let keys = Store::new(kv_type, n_blocks, arena)?;
        let values = Store::new(kv_type, n_blocks, arena)?;
        Ok(Self { shape, keys, values, len: 0, high_water: 0 })
    }

    /// Positions in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How values are stored.
    pub fn kv_type(&self) -> KvType {
        match self.keys {
            Store::F32(_) => KvType::F32,
            Store::F16(_) => KvType::F16,
            Store::Q8_0(_) => KvType::Q8_0,
        }
    }

    /// Use so far.
    pub fn stats(&self) -> KvStats {
        let bytes = self.keys.bytes().saturating_add(self.values.bytes());
        KvStats { len: self.len, n_ctx: self.shape.n_ctx, high_water: self.high_water, bytes }
    }

    /// Stores one row of keys and one of values, both (n_kv_heads * head_dim), in `layer` at position `len() + ahead`.
    ///
    /// # Errors
    ///
    /// [`KvError::Full`] behind the last position, [`KvError::BadRow`] for no such layer or other lengths.
    pub fn store(
        &mut self,
        ops: Ops,
        layer: usize,
        ahead: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), KvError> {
        let pos = self.len.saturating_add(ahead);
        if pos >= self.shape.n_ctx {
            return Err(KvError::Full { n_ctx: self.shape.n_ctx });
        }
        self.high_water = self.high_water.max(pos + 1);
        let shape = self.shape;
        let stored =
            self.keys.put(ops, shape, layer, pos, keys).zip(self.values.put(ops, shape, layer, pos, values));
        stored.map(|_| ()).ok_or(KvError::BadRow { layer })
    }

    /// Takes `n` positions, whose rows every layer has stored, into the sequence.
    ///
    /// # Errors
    ///
    /// [`KvError::Full`] when there are not so many; the length is then as before.
    pub fn advance(&mut self, n: usize) -> Result<(), KvError> {
        match self.len.checked_add(n) {
            Some(len) if len <= self.shape.n_ctx => self.len = len,
            _ => return Err(KvError::Full { n_ctx: self.shape.n_ctx }),
        }
        Ok(())
    }

    /// The first `n` keys of a head, (n, head_dim); `None` when there is no such layer, head or position.
    pub fn keys(&self, layer: usize, kv_head: usize, n: usize) -> Option<Matrix<'_>> {
        self.keys.matrix(self.shape, layer, kv_head, n)
    }

    /// The first `n` values of a head, (n, head_dim); `None` when there is no such layer, head or position.
    pub fn values(&self, layer: usize, kv_head: usize, n: usize) -> Option<Matrix<'_>> {
        self.values.matrix(self.shape, layer, kv_head, n)
    }

    /// Forgets the positions from `len` on; does nothing when there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets everything and overwrites it with zeros.
    pub fn wipe(&mut self) {
        let (shape, n) = (self.shape, self.high_water);
        self.keys.wipe(shape, n);
        self.values.wipe(shape, n);
        self.len = 0;
        self.high_water = 0;
    }
}

impl KvError {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::Full { .. } => 210,
            Self::BadRow { .. } => 211,
            Self::RaggedHead { .. } => 212, // 213 was a head too wide
            Self::Arena(error) => error.code(),
        }
    }
}

impl From<ArenaError> for KvError {
    fn from(error: ArenaError) -> Self {
        Self::Arena(error)
    }
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { n_ctx } => write!(f, "kv cache is full: {n_ctx} positions are in use"),
            Self::BadRow { layer } => write!(f, "kv cache has no such row in layer {layer}"),
            Self::RaggedHead { head_dim, block } => {
                write!(f, "heads of {head_dim} values are not whole blocks of {block}: take another kv type")
            }
            Self::Arena(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for KvError {}

impl KvShape {
    /// Blocks of all keys (or all values).
    fn n_blocks(self, kv_type: KvType) -> Result<usize, KvError> {
        let block = kv_type.ggml_type().block_values();
        if self.head_dim == 0 || self.head_dim % block != 0 {
            return Err(KvError::RaggedHead { head_dim: self.head_dim, block: block.get() });
        }
        (self.head_dim / block)
            .checked_mul(self.n_ctx)
            .and_then(|n| n.checked_mul(self.n_kv_heads))
            .and_then(|n| n.checked_mul(self.n_layers))
            .ok_or(KvError::Arena(ArenaError::TooLarge))
    }

    /// Where the positions `pos` of a head lie, in rows of `head_dim`.
    fn rows(self, layer: usize, kv_head: usize, pos: Range<usize>) -> Option<Range<usize>> {
        if layer >= self.n_layers || kv_head >= self.n_kv_heads || pos.end > self.n_ctx {
            return None;
        }
        let first = layer.checked_mul(self.n_kv_heads)?.checked_add(kv_head)?.checked_mul(self.n_ctx)?;
        Some(first.checked_add(pos.start)?..first.checked_add(pos.end)?)
    }
}

/// All keys, or all values.
#[derive(Debug)]
enum Store<'a> {
    F32(&'a mut [F32]),
    F16(&'a mut [F16]),
    Q8_0(&'a mut [BlockQ8_0]),
}

impl<'a> Store<'a> {
    fn new(kv_type: KvType, n_blocks: usize, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        Ok(match kv_type {
            KvType::F32 => Self::F32(arena.alloc(n_blocks, F32::ZERO)?),
            KvType::F16 => Self::F16(arena.alloc(n_blocks, F16::ZERO)?),
            KvType::Q8_0 => Self::Q8_0(arena.alloc(n_blocks, BlockQ8_0::ZERO)?),
        })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F32(blocks) => size_of_val(*blocks),
            Self::F16(blocks) => size_of_val(*blocks),
            Self::Q8_0(blocks) => size_of_val(*blocks),
        }
    }

    /// Converts `row` (n_kv_heads * head_dim) into position `pos` of each head of `layer`.
    fn put(&mut self, ops: Ops, shape: KvShape, layer: usize, pos: usize, row: &[f32]) -> Option<()> {
        let mut heads = row.chunks_exact(shape.head_dim.max(1));
        if heads.len() != shape.n_kv_heads || !heads.remainder().is_empty() {
            return None;
        }
        (0..).zip(&mut heads).try_for_each(|(kv_head, head)| {
            let rows = shape.rows(layer, kv_head, pos..pos.checked_add(1)?)?;
            match self {
                Self::F32(blocks) => ops.f32le_from_f32(blocks_of(blocks, shape, rows)?, head),
                Self::F16(blocks) => ops.f16_from_f32(blocks_of(blocks, shape, rows)?, head),
                Self::Q8_0(blocks) => ops.quantize_q8_0(blocks_of(blocks, shape, rows)?, head),
            }
            Some(())
        })
    }

    fn matrix(&self, shape: KvShape, layer: usize, kv_head: usize, n: usize) -> Option<Matrix<'_>> {
        let rows = shape.rows(layer, kv_head, 0..n)?;
        Some(
            match self {
                Self::F32(blocks) => Matrix::F32(Rows::from_blocks(blocks, shape.head_dim).ok()?),
                Self::F16(blocks) => Matrix::F16(Rows::from_blocks(blocks, shape.head_dim).ok()?),
                Self::Q8_0(blocks) => Matrix::Q8_0(Rows::from_blocks(blocks, shape.head_dim).ok()?),
            }
            .slice_rows(rows),
        )
    }

    /// Overwrites the first `n` positions of every head with zeros.
    fn wipe(&mut self, shape: KvShape, n: usize) {
        match self {
            Self::F32(blocks) => wipe_blocks(blocks, shape, n),
            Self::F16(blocks) => wipe_blocks(blocks, shape, n),
            Self::Q8_0(blocks) => wipe_blocks(blocks, shape, n),
        }
    }
}

/// The blocks of some rows of `head_dim` values.
fn blocks_of<B: Block>(blocks: &mut [B], shape: KvShape, rows: Range<usize>) -> Option<&mut [B]> {
    let row_blocks = shape.head_dim / B::TYPE.block_values();
    blocks.get_mut(rows.start.checked_mul(row_blocks)?..rows.end.checked_mul(row_blocks)?)
}

fn wipe_blocks<B: Block>(blocks: &mut [B], shape: KvShape, n: usize) {
    let row_blocks = shape.head_dim / B::TYPE.block_values();
    let head_blocks = shape.n_ctx.saturating_mul(row_blocks).max(1);
    for head in blocks.chunks_mut(head_blocks) {
        head.iter_mut().take(n.saturating_mul(row_blocks)).for_each(|block| *block = B::ZERO);
    }
    core::hint::black_box(blocks); // the zeros are meant for whoever has the memory next
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::mem::MaybeUninit;
    use std::vec;

    const SHAPE: KvShape = KvShape { n_layers: 3, n_kv_heads: 2, head_dim: 32, n_ctx: 4 };
    const ROW: usize = 64;

    fn with_cache(kv_type: KvType, body: impl FnOnce(&mut KvCache<'_>)) {
        let mut region = vec![MaybeUninit::uninit(); KvCache::layout(SHAPE, kv_type).unwrap().bytes()];
        let mut arena = Arena::new(&mut region);
        let mut cache = KvCache::new(SHAPE, kv_type, &mut arena).unwrap();
        assert_eq!(arena.stats().used, arena.stats().capacity);
        body(&mut cache);
    }

    /// A row that says where it belongs, in numbers that every storage keeps exactly.
    fn row(layer: usize, pos: usize, is_value: bool) -> [f32; ROW] {
        let at = |i: usize| {
            if i.is_multiple_of(32) { 127 } else { layer * 20 + pos * 4 + i / 32 * 2 + usize::from(is_value) }
        };
        core::array::from_fn(|i| at(i) as f32)
    }

    fn values(matrix: Matrix<'_>) -> vec::Vec<f32> {
        let mut values = vec![0.0; matrix.rows() * matrix.cols()];
        Ops::scalar().dequantize(&mut values, matrix);
        values
    }

    #[test]
    fn rows_come_back_from_where_they_went() {
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
            with_cache(kv_type, |cache| {
                for pos in 0..4 {
                    for layer in 0..3 {
                        let (k, v) = (row(layer, pos, false), row(layer, pos, true));
                        cache.store(Ops::scalar(), layer, 0, &k, &v).unwrap();
                        assert_eq!(cache.len(), pos, "stored is not yet taken in");
                    }
                    cache.advance(1).unwrap();
                }
                for (layer, head) in (0..3).flat_map(|layer| [(layer, 0), (layer, 1)]) {
                    for n in 0..=4 {
                        let (k, v) =
                            (cache.keys(layer, head, n).unwrap(), cache.values(layer, head, n).unwrap());
                        let want = |is_value| {
                            let head =
                                move |pos| row(layer, pos, is_value).into_iter().skip(head * 32).take(32);
                            (0..n).flat_map(head).collect::<vec::Vec<_>>()
                        };
                        assert_eq!(
                            (values(k), values(v)),
                            (want(false), want(true)),
                            "{kv_type:?} {layer} {n}"
                        );
                    }
                }
                assert!(cache.keys(0, 0, 5).is_none() && cache.keys(3, 0, 1).is_none());
                assert!(cache.values(0, 2, 1).is_none() && cache.values(usize::MAX, 0, 1).is_none());
            });
        }
    }

    #[test]
    fn full_is_an_error_and_never_an_overwrite() {
        with_cache(KvType::F16, |cache| {
            let (old, new) = (row(0, 3, false), row(1, 0, true));
            (0..3).for_each(|layer| cache.store(Ops::scalar(), layer, 3, &old, &old).unwrap());
            cache.advance(4).unwrap();
            assert_eq!(cache.store(Ops::scalar(), 0, 0, &new, &new), Err(KvError::Full { n_ctx: 4 }));
            assert_eq!(cache.advance(1), Err(KvError::Full { n_ctx: 4 }));
            assert_eq!(cache.advance(usize::MAX), Err(KvError::Full { n_ctx: 4 }));
            assert_eq!(values(cache.keys(0, 0, 4).unwrap())[96..], old[..32]);
            cache.truncate(9);
            assert_eq!(cache.len(), 4);
            cache.truncate(3);
            cache.store(Ops::scalar(), 0, 0, &new, &new).unwrap();
            assert_eq!((cache.len(), cache.stats().high_water), (3, 4));
            assert_eq!(
                cache.store(Ops::scalar(), 0, usize::MAX, &new, &new),
                Err(KvError::Full { n_ctx: 4 })
            );
        });
    }

    #[test]
    fn wrong_rows_are_refused_and_wiping_leaves_zeros() {
        with_cache(KvType::Q8_0, |cache| {
            let row = row(2, 3, true);
            let bad_row = Err(KvError::BadRow { layer: 1 });
            assert_eq!(cache.store(Ops::scalar(), 1, 0, &row[1..], &row), bad_row);
            assert_eq!(cache.store(Ops::scalar(), 1, 0, &row, &row[..32]), bad_row);
            assert_eq!(cache.store(Ops::scalar(), 3, 0, &row, &row), Err(KvError::BadRow { layer: 3 }));
            cache.store(Ops::scalar(), 2, 3, &row, &row).unwrap();
            cache.wipe();
            assert!(values(cache.keys(2, 1, 4).unwrap()).iter().all(|&x| x == 0.0));
            assert_eq!((cache.len(), cache.stats().bytes), (0, 2 * 3 * 2 * 4 * 34));
        });
        let ragged = KvShape { head_dim: 48, ..SHAPE };
        let error = KvError::RaggedHead { head_dim: 48, block: 32 };
        assert_eq!(KvCache::layout(ragged, KvType::Q8_0), Err(error));
        let huge = KvShape { n_ctx: usize::MAX, ..SHAPE };
        assert_eq!(KvCache::layout(huge, KvType::F32), Err(KvError::Arena(ArenaError::TooLarge)));
    }
}
