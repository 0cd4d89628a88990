//! Inputs of tests and cases: random, of any type, at any address.

use corelm::arena::Arena;
use corelm::ops::{Block, GgmlType, Line, Rows, Workspace};

use crate::random::Random;
use crate::weights;

/// Lengths in blocks that try every tail of an unrolled loop.
pub const BLOCK_COUNTS: [usize; 11] = [0, 1, 2, 3, 7, 8, 9, 15, 31, 33, 128];
/// Lengths in values that try every tail of a vector loop.
pub const VALUE_COUNTS: [usize; 16] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 384, 1027];

/// `n` values evenly in -1..1.
pub fn f32s<'a>(arena: &mut Arena<'a>, n: usize, seed: u64) -> &'a mut [f32] {
    let mut random = Random::new(seed);
    arena.alloc_with(n, |_| random.unit()).expect("test memory")
}

/// Memory for one worker, for products.
pub fn workspace<'a>(arena: &mut Arena<'a>) -> Workspace<'a> {
    Workspace::new(arena.alloc(Workspace::LINES, Line::ZERO).expect("test memory"))
}

/// Memory for one worker, for attention over up to `n` positions of any type: none takes more than F16.
pub fn attention_workspace<'a>(arena: &mut Arena<'a>, n: usize, head_dim: usize) -> Workspace<'a> {
    let n_lines = Workspace::lines(n, head_dim, GgmlType::F16).expect("test memory");
    Workspace::new(arena.alloc(n_lines, Line::ZERO).expect("test memory"))
}

/// `n` random blocks that begin `offset` bytes after a multiple of 64.
pub fn blocks<'a, B: Block>(arena: &mut Arena<'a>, n: usize, offset: usize, seed: u64) -> &'a [B] {
    bytes_and_blocks(arena, n, offset, seed).1
}

/// The same, and the bytes they are made of.
pub fn bytes_and_blocks<'a, B: Block>(
    arena: &mut Arena<'a>,
    n: usize,
    offset: usize,
    seed: u64,
) -> (&'a [u8], &'a [B]) {
    let bytes = arena.alloc(offset + n * size_of::<B>(), 0u8).expect("test memory");
    let bytes = &mut bytes[offset..];
    weights::fill(bytes, B::TYPE, 0.5, &mut Random::new(seed));
    match n {
        0 => (bytes, &[]),
        _ => (bytes, Rows::from_bytes(bytes, 1, n * B::VALUES).expect("whole blocks").blocks()),
    }
}

/// FNV-1a by words: the bits of many numbers in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

impl Hash {
    /// Of no number.
    pub const EMPTY: Hash = Hash(0xcbf2_9ce4_8422_2325);

    /// With one more.
    #[must_use]
    pub fn with(self, x: f32) -> Hash {
        Hash((self.0 ^ u64::from(x.to_bits())).wrapping_mul(0x100_0000_01b3))
    }
}

/// Fails when `have` is further than `bound` from `want`, or is no number where `want` is one.
#[track_caller]
pub fn assert_near(have: f32, want: f64, bound: f64, about: core::fmt::Arguments<'_>) {
    let distance = (f64::from(have) - want).abs();
    assert!(distance <= bound, "{about}: {have:e} for {want:e}, {distance:e} apart, {bound:e} allowed");
}
