//! Scratch: every intermediate of a pass, in rows of one token each.

use core::ops::Range;

use crate::Token;
use crate::arena::{Arena, Layout};
use crate::config::{Architecture, Config};
use crate::error::ArenaError;
use crate::ops::{BlockQ8, QK};

/// Widths of the rows of [`Scratch`], in values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Widths {
    pub(crate) dim: usize,
    /// Queries: n_heads * head_dim.
    pub(crate) q: usize,
    /// Keys, and values: n_kv_heads * head_dim.
    pub(crate) kv: usize,
    pub(crate) qkv: usize,
    pub(crate) hidden: usize,
    /// Gate and up side by side, or up alone.
    pub(crate) ffn: usize,
    pub(crate) rope: usize,
    pub(crate) vocab: usize,
    /// Query heads that pass over the cache together: all of a key and value head, or as many as are worth it.
    pub(crate) together: usize,
}

/// Intermediates of up to `n_batch` tokens.
#[derive(Debug)]
pub(crate) struct Scratch<'a> {
    pub(crate) tokens: &'a mut [Token], // (n_batch)
    pub(crate) x: &'a mut [f32],        // (n_batch, dim)     the residual stream
    pub(crate) xb: &'a mut [f32],       // (n_batch, dim)     x normalized; what a block adds to x
    pub(crate) xq: &'a mut [BlockQ8],   // (widest, n_batch)  what a product reads, quantized
    pub(crate) qkv: &'a mut [f32],      // (n_batch, qkv)     queries, keys, values
    pub(crate) att: &'a mut [f32],      // (n_batch, q)       what attention gives
    pub(crate) ffn: &'a mut [f32],      // (n_batch, ffn)     gate and up; then (n_batch, hidden)
    pub(crate) cos_sin: &'a mut [f32],  // (n_batch, rope)    angles of each token's position
    pub(crate) logits: &'a mut [f32],   // (vocab)            of the last token
}

impl Widths {
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let (q, kv, hidden) = (config.q_dim(), config.kv_dim(), config.hidden_dim);
        let group = config.group.get();
        let together = if group.is_multiple_of(4) { 4 } else { group };
        let is_gated = config.arch != Architecture::Gpt2;
        Some(Self {
            dim: config.dim,
            q,
            kv,
            qkv: q.checked_add(kv)?.checked_add(kv)?,
            hidden,
            ffn: if is_gated { hidden.checked_mul(2)? } else { hidden },
            rope: config.rope.map_or(0, |rope| rope.n_dims),
            vocab: config.vocab_size,
            together,
        })
    }

    /// Blocks of the widest row that a product reads.
    fn q8_blocks(self) -> usize {
        self.dim.max(self.q).max(self.hidden).div_ceil(QK)
    }
}

impl<'a> Scratch<'a> {
    /// What [`new`](Self::new) takes from an arena.
    pub(crate) fn layout(widths: Widths, n_batch: usize) -> Result<Layout, ArenaError> {
        let rows = |width: usize| n_batch.checked_mul(width).ok_or(ArenaError::TooLarge);
        Layout::new()
            .add::<Token>(n_batch)?
            .add::<f32>(rows(widths.dim)?)?
            .add::<f32>(rows(widths.dim)?)?
            .add::<BlockQ8>(rows(widths.q8_blocks())?)?
            .add::<f32>(rows(widths.qkv)?)?
            .add::<f32>(rows(widths.q)?)?
            .add::<f32>(rows(widths.ffn)?)?
            .add::<f32>(rows(widths.rope)?)?
            .add::<f32>(widths.vocab)
    }

    pub(crate) fn new(widths: Widths, n_batch: usize, arena: &mut Arena<'a>) -> Result<Self, ArenaError> {
        let rows = |width: usize| n_batch.checked_mul(width).ok_or(ArenaError::TooLarge);
        Ok(Self {
            tokens: arena.alloc(n_batch, 0)?,
            x: arena.alloc(rows(widths.dim)?, 0.0)?,
            xb: arena.alloc(rows(widths.dim)?, 0.0)?,
            xq: arena.alloc(rows(widths.q8_blocks())?, BlockQ8::ZERO)?,
            qkv: arena.alloc(rows(widths.qkv)?, 0.0)?,
            att: arena.alloc(rows(widths.q)?, 0.0)?,
            ffn: arena.alloc(rows(widths.ffn)?, 0.0)?,
            cos_sin: arena.alloc(rows(widths.rope)?, 0.0)?,
            logits: arena.alloc(widths.vocab, 0.0)?,
        })
    }

    /// Overwrites everything with zeros.
    pub(crate) fn wipe(&mut self) {
        let floats = [
            &mut self.x,
            &mut self.xb,
            &mut self.qkv,
            &mut self.att,
            &mut self.ffn,
            &mut self.cos_sin,
            &mut self.logits,
        ];
        for values in floats {
            values.fill(0.0);
            core::hint::black_box(&mut **values); // the zeros are meant for whoever has the memory next
        }
        self.tokens.fill(0);
        core::hint::black_box(&mut *self.tokens);
        self.xq.fill(BlockQ8::ZERO);
        core::hint::black_box(&mut *self.xq);
    }
}

/// Row `i` of rows of `width`.
pub(crate) fn row<T>(values: &[T], width: usize, i: usize) -> Option<&[T]> {
    values.get(span(width, i)?)
}

/// Row `i` of rows of `width`.
pub(crate) fn row_mut<T>(values: &mut [T], width: usize, i: usize) -> Option<&mut [T]> {
    values.get_mut(span(width, i)?)
}

fn span(width: usize, i: usize) -> Option<Range<usize>> {
    let start = width.checked_mul(i)?;
    Some(start..start.checked_add(width)?)
}
