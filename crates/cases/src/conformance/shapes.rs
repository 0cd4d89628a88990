//! Odd shapes and places: rows beside every tile, heads of every width, one of everything, weights at any address.

use core::num::NonZeroUsize;

use corelm::arena::Arena;
use corelm::config::Architecture;
use corelm::kv_cache::KvType;
use corelm::ops::{GgmlType, Ops, Single, TileMut, Workers};
use corelm::session::SessionError;

use super::Stand;
use super::engine::{GOLDEN, PROMPT, is_same};
use super::matmul::{Operands, TYPES, share_out};
use crate::data;
use crate::model;
use crate::synth::{self, SynthConfig, Vocabulary};

/// Llama 2's vocabulary with one token more: a row beside every tile, panel and part.
const ROWS: usize = 32_001;

/// The logits of a large vocabulary, of one token and of three, on all workers: each is the dot product of its row.
pub fn all_of_32001_rows_equal_dots(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    // A part that is no multiple of a panel.
    let cols = NonZeroUsize::new(1003).unwrap_or(NonZeroUsize::MIN);
    for ty in TYPES {
        let (m, k) = (3, if ty.packed().is_some() { 32 } else { 3 });
        let mut arena = stand.arena();
        let operands = Operands::new(&mut arena, ops, ty, (m, ROWS, k));
        let one = Operands::new(&mut arena, ops, ty, (1, 1, k)); // its activations are the first row of the others
        for rhs in operands.orders(&mut arena, ops) {
            let mut arena = arena.scope();
            let dst = arena.alloc(m * ROWS, f32::NAN).expect("test memory");
            share_out(workers, TileMut::new(dst, ROWS), &operands.lhs, rhs, cols, ops, &mut arena);
            let first = arena.alloc(ROWS, f32::NAN).expect("test memory");
            let workspace = &mut data::workspace(&mut arena);
            ops.gemm(&mut TileMut::new(first, ROWS), &one.lhs, rhs, workspace);
            let about = format_args!("{ops:?} {:?}", rhs.ty());
            assert!(is_same(first, &dst[..ROWS]), "{about}: one token alone");
            // Rows apart, which meet every row of a panel, and all at the end.
            for j in (0..ROWS - 40).step_by(13).chain(ROWS - 40..ROWS) {
                for i in 0..m {
                    let (have, want) = (dst[i * ROWS + j], operands.dot(ops, i, j));
                    assert_eq!(have.to_bits(), want.to_bits(), "{about}: ({i}, {j}) {have} {want}");
                }
            }
        }
    }
}

/// A model as small as one can be with `n_heads` heads of `head_dim`.
const fn with_heads(arch: Architecture, ty: GgmlType, heads: (usize, usize), head_dim: usize) -> SynthConfig {
    let (n_heads, n_kv_heads) = heads;
    let vocab_size = Vocabulary::smallest(synth::Tokenizer::Bpe);
    let tiny = SynthConfig { arch, ty, n_heads, n_kv_heads, vocab_size, ..SynthConfig::TINY };
    SynthConfig { n_layers: 1, dim: n_heads * head_dim, hidden_dim: 32, ..tiny }
}

/// Every width of head that models have, one head, and more heads to one key than pass over it at a time.
const HEADS: [(SynthConfig, KvType); 10] = [
    (with_heads(Architecture::Llama, GgmlType::F32, (1, 1), 2), KvType::F32),
    (with_heads(Architecture::Gpt2, GgmlType::F16, (1, 1), 6), KvType::F16),
    (with_heads(Architecture::Llama, GgmlType::Q4_0, (1, 1), 64), KvType::Q8_0),
    (with_heads(Architecture::Qwen2, GgmlType::Q8_0, (2, 1), 80), KvType::F16),
    (with_heads(Architecture::Gpt2, GgmlType::Q4_1, (1, 1), 96), KvType::Q8_0),
    (with_heads(Architecture::Llama, GgmlType::BF16, (1, 1), 100), KvType::F32),
    (with_heads(Architecture::Llama, GgmlType::Q4_0, (2, 1), 128), KvType::F16),
    (with_heads(Architecture::Qwen2, GgmlType::Q4_0, (1, 1), 256), KvType::Q8_0),
    (with_heads(Architecture::Qwen2, GgmlType::F32, (13, 1), 10), KvType::F16),
    (with_heads(Architecture::Llama, GgmlType::Q8_0, (26, 2), 16), KvType::F32),
];

/// Tokens that the smallest vocabulary has.
const FEW: [u32; 3] = [84, 200, 12];

pub fn heads_of_every_width_agree(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    for (config, kv_type) in HEADS {
        let (memory, spare) = stand.memory.split_at_mut(1 << 20);
        let bytes = model::write(&config, &mut Arena::new(memory)).expect("test memory");
        let mut arena = Arena::new(spare);
        let mut run = |n_batch, ops: Ops, workers: &dyn Workers| {
            let mut scope = arena.scope();
            let shape = (FEW.len(), n_batch, kv_type);
            let mut session = model::session(bytes, shape, ops, workers, &mut scope).expect("a session");
            let logits = session.prefill(&FEW).expect("a prompt");
            let mut copy = [0.0; 512];
            copy[..logits.len()].copy_from_slice(logits);
            copy
        };
        let (steps, batch, want) =
            (run(1, ops, &Single), run(3, ops, workers), run(3, Ops::scalar(), &Single));
        let SynthConfig { arch, ty, n_heads, n_kv_heads, dim, .. } = config;
        let about =
            format_args!("{ops:?} {arch:?} {ty:?}: {n_heads} heads of {}, {n_kv_heads}", dim / n_heads);
        assert!(is_same(&steps, &batch), "{about}: a batch differs from steps");
        let size = want.iter().fold(0f32, |max, x| max.max(x.abs()));
        let off = steps.iter().zip(want).fold(0f32, |max, (have, want)| max.max((have - want).abs()));
        // Where rounding moves a quantized activation to its neighbour, logits move by up to 5e-3 of their size.
        assert!(size > 0.0 && off <= 5e-3 * size, "{about}: {off} from the portable back-end, of {size}");
    }
}

/// A context of one position, a batch of one token, a prompt of one.
pub fn one_position_is_enough(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    for (config, _) in GOLDEN {
        let (memory, spare) = stand.memory.split_at_mut(2 << 20);
        let bytes = model::write(&config, &mut Arena::new(memory)).expect("test memory");
        let (one, two) = spare.split_at_mut(1 << 20);
        let (mut one, mut two) = (Arena::new(one), Arena::new(two));
        let mut wide =
            model::session(bytes, (16, 4, KvType::F16), ops, workers, &mut one).expect("a session");
        let mut narrow =
            model::session(bytes, (1, 1, KvType::F16), ops, workers, &mut two).expect("a session");
        let about = format_args!("{ops:?} {:?} {:?}", config.arch, config.ty);
        for token in [0, 84, 511] {
            let want = wide.step(token).expect("a step");
            assert!(is_same(narrow.prefill(&[token]).expect("a prompt of one"), want), "{about}: {token}");
            let full = Err(SessionError::ContextFull { need: 2, n_ctx: 1 });
            assert_eq!(narrow.step(token).map(<[f32]>::len), full, "{about}");
            narrow.reset();
            wide.reset();
        }
    }
}

/// A model at any address, its weights as in the file or in panels, gives the same bits.
pub fn models_compute_alike_at_every_address(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    for (config, _) in GOLDEN {
        let (memory, spare) = stand.memory.split_at_mut(2 << 20);
        let mut arena = Arena::new(memory);
        let bytes = model::write(&config, &mut arena).expect("test memory");
        let moved = arena.alloc(bytes.len() + 16, 0u8).expect("test memory");
        let want = arena.alloc(config.vocab_size, 0f32).expect("test memory");
        let shape = (16, 3, KvType::F16);
        let mut arena = Arena::new(spare);
        {
            let mut arena = arena.scope();
            let mut session = model::session(bytes, shape, ops, workers, &mut arena).expect("a session");
            want.copy_from_slice(session.prefill(&PROMPT[..4]).expect("a prompt"));
        }
        for offset in [1, 2, 8] {
            let moved = &mut moved[offset..][..bytes.len()];
            moved.copy_from_slice(bytes);
            for is_packed in [false, true] {
                let mut arena = arena.scope();
                let session = match is_packed {
                    true => model::packed_session(moved, shape, ops, workers, &mut arena),
                    false => model::session(moved, shape, ops, workers, &mut arena),
                };
                let mut session = session.expect("a session");
                let have = session.prefill(&PROMPT[..4]).expect("a prompt");
                let about = format_args!("{ops:?} {:?} {:?}", config.arch, config.ty);
                assert!(is_same(have, want), "{about}: {offset} bytes further, packed: {is_packed}");
            }
        }
    }
}
