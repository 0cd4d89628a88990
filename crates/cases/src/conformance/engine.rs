//! The engine as a whole on small synthetic models: memory, files, tokens, sessions.

use core::mem::MaybeUninit;
use core::num::NonZeroU32;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::config::{Architecture, Config};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Backend, GgmlType, Single};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::{Progress, SessionError};
use corelm::tokenizer::{Controls, Specials, Tokenizer};
use corelm::weights::Weights;

use super::Stand;
use crate::model;
use crate::random::Random;
use crate::synth::{self, SynthConfig, Vocabulary};

/// A file as small as one can be.
const SMALLEST: SynthConfig = SynthConfig {
    n_layers: 1,
    dim: 32,
    hidden_dim: 32,
    n_heads: 2,
    n_kv_heads: 1,
    vocab_size: Vocabulary::smallest(synth::Tokenizer::Bpe),
    ..SynthConfig::TINY
};

/// Ids that every tiny model has.
pub(super) const PROMPT: [Token; 9] = [84, 256, 300, 12, 400, 257, 0, 301, 77];

/// Tiny models of every architecture, with the seed of their weights, and what each chooses greedily after [`PROMPT`].
/// The ids were computed once and hold for every back-end, because at each step the best logit leads by more than
/// rounding can move it, which the test checks.
pub(super) const GOLDEN: [(SynthConfig, [Token; 8]); 5] = [
    (tiny(Architecture::Llama, GgmlType::Q4_0, 8), [454, 324, 375, 6, 309, 466, 226, 328]),
    (tiny(Architecture::Llama, GgmlType::F16, 1), [285, 128, 257, 74, 4, 266, 59, 481]),
    (tiny(Architecture::Qwen2, GgmlType::Q8_0, 8), [17, 17, 17, 284, 108, 62, 62, 108]),
    (tiny(Architecture::Gpt2, GgmlType::Q4_0, 8), [367, 230, 370, 385, 204, 204, 204, 204]),
    (tiny(Architecture::Gpt2, GgmlType::F32, 2), [215, 408, 408, 408, 408, 408, 408, 189]),
];

/// The tiny model of `arch` and `ty`.
const fn tiny(arch: Architecture, ty: GgmlType, seed: u64) -> SynthConfig {
    let n_kv_heads = if matches!(arch, Architecture::Gpt2) { 4 } else { 2 };
    SynthConfig { arch, ty, n_kv_heads, seed, ..SynthConfig::TINY }
}

pub fn arena_hands_out_what_was_planned(stand: &mut Stand<'_>) {
    if !is_first(stand) {
        return;
    }
    let layout =
        Layout::new().add::<f32>(100).and_then(|layout| layout.add::<u8>(1)).expect("a small layout");
    for offset in 0..70 {
        let region = &mut stand.memory[offset..][..layout.bytes()];
        let mut arena = Arena::new(region);
        let floats = arena.alloc(100, 1.5f32).expect("what was planned");
        let byte = arena.alloc(1, 7u8).expect("what was planned");
        assert!(floats.iter().all(|&x| x == 1.5) && byte == [7]);
        assert_eq!((floats.as_ptr().addr() | byte.as_ptr().addr()) % Arena::ALIGN, 0);
        assert!(arena.alloc(1, 0u8).is_err(), "offset {offset}: more than was planned");
        let mut short = Arena::new(&mut stand.memory[offset..][..layout.bytes() - 1]);
        let both = short.alloc(100, 1.5f32).is_ok() && short.alloc(1, 7u8).is_ok();
        assert!(!both, "offset {offset}: one byte less was enough");
    }
    let mut arena = stand.arena();
    let before = arena.stats().used;
    {
        let mut scope = arena.scope();
        scope.alloc(1000, 0u64).expect("test memory");
    }
    assert_eq!(arena.stats().used, before, "a scope kept memory");
    assert!(arena.stats().high_water >= before + 8000);
    assert!(arena.alloc(usize::MAX, 0u64).is_err() && arena.alloc(usize::MAX / 8, 0u64).is_err());
}

/// Whether `stand` is to run what does not depend on the back-end: once is enough, on the one that is always there.
fn is_first(stand: &Stand<'_>) -> bool {
    stand.ops.backend() == Backend::Scalar
}

/// Runs everything that reads the metadata.
fn load(bytes: &[u8], memory: &mut [MaybeUninit<u8>]) -> bool {
    let Ok(image) = Image::parse(bytes) else { return false };
    let Ok(config) = Config::from_image(&image) else { return false };
    let mut arena = Arena::new(memory);
    Weights::resolve(&image, &config, &mut arena).is_ok() && Tokenizer::new(&image, &mut arena).is_ok()
}

pub fn parser_survives_truncation(stand: &mut Stand<'_>) {
    if !is_first(stand) {
        return;
    }
    let (memory, spare) = stand.memory.split_at_mut(1 << 20);
    let bytes = model::write(&SMALLEST, &mut Arena::new(memory)).expect("test memory");
    assert!(load(bytes, spare), "the whole file is refused");
    // Every length where fields are dense, then every 13th.
    for len in (0..700).chain((700..bytes.len()).step_by(13)).chain([bytes.len() - 1]) {
        assert!(!load(&bytes[..len], spare), "{len} of {} bytes pass for the file", bytes.len());
    }
}

pub fn parser_survives_bit_flips(stand: &mut Stand<'_>) {
    if !is_first(stand) {
        return;
    }
    let (memory, spare) = stand.memory.split_at_mut(1 << 20);
    let mut arena = Arena::new(memory);
    let bytes = model::write(&SMALLEST, &mut arena).expect("test memory");
    let flipped = arena.alloc_with(bytes.len(), |i| bytes[i]).expect("test memory");
    let mut random = Random::new(70);
    for n in 0..2000 {
        // Half of them in the first keys, where lengths and types are.
        let place = random.below(if n % 2 == 0 { 1000 } else { bytes.len() });
        let bit = 1 << random.below(8);
        flipped[place] ^= bit;
        // Whether it is refused is the parser's business; that it comes back is ours.
        load(flipped, spare);
        flipped[place] ^= bit;
    }
    assert!(load(flipped, spare));
}

/// Texts with what tokenizers stumble over: no text, spaces at every end, digits, marks, many scripts, bytes that are no
/// UTF-8.
const TEXTS: [&[u8]; 7] = [
    b"",
    b" ",
    b"The kernel maps a page, then it returns to user mode.",
    b"  two  spaces\n\ttabs and 1234567 numbers, don't!  ",
    "na\u{ef}ve \u{4f60}\u{597d} \u{1f980}\u{200d} \u{3b1}\u{3b2}\u{3b3}".as_bytes(),
    &[0xff, 0xfe, b'a', 0x80, 0xe2, 0x82, b' ', 0xf0],
    b"zzzz0x7f[]{}()<|>~^%$#@!\0\r\n",
];

pub fn tokens_come_back_as_text(stand: &mut Stand<'_>) {
    if !is_first(stand) {
        return;
    }
    let tokenizers = [synth::Tokenizer::Bpe, synth::Tokenizer::Spm];
    let archs = [Architecture::Llama, Architecture::Qwen2, Architecture::Gpt2];
    for (arch, kind) in archs.into_iter().flat_map(|arch| tokenizers.map(|kind| (arch, kind))) {
        if kind == synth::Tokenizer::Spm && arch != Architecture::Llama {
            continue;
        }
        let (memory, spare) = stand.memory.split_at_mut(2 << 20);
        let config = SynthConfig { tokenizer: kind, ..tiny(arch, GgmlType::Q4_0, 1) };
        let bytes = model::write(&config, &mut Arena::new(memory)).expect("test memory");
        let image = Image::parse(bytes).expect("a model");
        let mut arena = Arena::new(spare);
        let tokenizer = Tokenizer::new(&image, &mut arena).expect("a tokenizer");
        let mut scratch = tokenizer.scratch(64, &mut arena).expect("test memory");
        for text in TEXTS {
            let (mut tokens, mut back) = ([0; 128], [0; 128]);
            let n = tokenizer.encode(text, Specials::Never, &mut scratch, &mut tokens).expect("tokens");
            let about = format_args!("{arch:?} {kind:?} {:?}", text.escape_ascii());
            assert!(text.len() < 40 || n < text.len(), "{about}: nothing was merged");
            let n_back = tokenizer.decode(&tokens[..n], Controls::Show, &mut back).expect("text");
            assert_eq!(&back[..n_back], text, "{about}: {:?}", &tokens[..n]);
        }
    }
}

pub fn sampling_obeys_its_settings(stand: &mut Stand<'_>) {
    if !is_first(stand) {
        return;
    }
    const N: usize = 300;
    let mut arena = stand.arena();
    let mut random = Random::new(71);
    // All logits differ, so that every rank has one token.
    let logits = &*arena.alloc_with(N, |i| random.unit() + i as f32 * 1e-3).expect("test memory");
    let rank = |token: Token| logits.iter().filter(|&&x| x > logits[token as usize]).count();
    let mut sampler = Sampler::new(SamplingConfig::GREEDY, N, &mut arena).expect("test memory");
    let mut draw = |config: SamplingConfig| {
        sampler.reset(config).expect("settings in range");
        core::array::from_fn::<Token, 200, _>(|_| sampler.sample(logits).expect("a token"))
    };
    assert!(draw(SamplingConfig::GREEDY).iter().all(|&token| rank(token) == 0), "greedy is not the best");
    for top_k in [1, 2, 40] {
        let config = SamplingConfig { temperature: 5.0, top_k, seed: 3, ..SamplingConfig::GREEDY };
        let tokens = draw(config);
        let worst = tokens.iter().map(|&token| rank(token)).max();
        assert_eq!(worst, Some(top_k - 1), "of {top_k} candidates, 200 draws reach all and no other");
        assert_eq!(tokens, draw(config), "the same seed draws the same");
        assert!(top_k < 40 || tokens != draw(SamplingConfig { seed: 4, ..config }), "seeds do not matter");
    }
}

/// Fails unless `logits` lead by more than rounding can move them; returns the leader.
fn clear_choice(logits: &[f32], about: core::fmt::Arguments<'_>) -> Token {
    let best = model::argmax(logits);
    let top = logits[best as usize];
    let second = logits
        .iter()
        .enumerate()
        .filter(|&(i, _)| i != best as usize)
        .fold(f32::MIN, |max, (_, &x)| max.max(x));
    let size = logits.iter().fold(0f32, |max, x| max.max(x.abs()));
    // Where rounding moves a quantized activation to its neighbour, logits move by up to 5e-3 of their size.
    assert!(top - second > 5e-3 * size, "{about}: {top} leads {second} too narrowly to be golden");
    best
}

pub fn tiny_models_choose_the_golden_ids(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    for (config, want) in GOLDEN {
        let SynthConfig { arch, ty, .. } = config;
        let (memory, spare) = stand.memory.split_at_mut(2 << 20);
        let bytes = model::write(&config, &mut Arena::new(memory)).expect("test memory");
        for kv_type in [KvType::F32, KvType::F16] {
            let mut arena = Arena::new(spare);
            let mut session =
                model::session(bytes, (32, 4, kv_type), ops, workers, &mut arena).expect("a session");
            let mut have = [0; 8];
            session.prefill(&PROMPT).expect("a prompt");
            for id in &mut have {
                *id = clear_choice(session.logits(), format_args!("{ops:?} {arch:?} {ty:?} {kv_type:?}"));
                session.step(*id).expect("a step");
            }
            assert_eq!(have, want, "{ops:?} {arch:?} {ty:?} {kv_type:?}");
        }
    }
}

/// A tiny model whose heads are wide enough for a Q8_0 cache.
pub(super) const WIDE_HEADS: SynthConfig = SynthConfig { n_heads: 2, n_kv_heads: 1, ..SynthConfig::TINY };

/// Whether two sets of logits are the same to the bit.
pub(super) fn is_same(one: &[f32], two: &[f32]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(a, b)| a.to_bits() == b.to_bits())
}

pub fn prefill_equals_steps(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    let floats = GOLDEN.iter().flat_map(|&(config, _)| [(config, KvType::F16), (config, KvType::F32)]);
    for (config, kv_type) in floats.chain([(WIDE_HEADS, KvType::Q8_0)]) {
        let SynthConfig { arch, ty, .. } = config;
        let (memory, spare) = stand.memory.split_at_mut(2 << 20);
        let bytes = model::write(&config, &mut Arena::new(memory)).expect("test memory");
        let (one, two) = spare.split_at_mut(1 << 20);
        let (mut one, mut two) = (Arena::new(one), Arena::new(two));
        // On one core, so that the other ones are found to change nothing either.
        let mut steps = model::session(bytes, (16, 1, kv_type), ops, &Single, &mut one).expect("a session");
        for token in PROMPT {
            steps.step(token).expect("a step");
        }
        for n_batch in [2, 4, 9] {
            let mut arena = two.scope();
            let mut batch =
                model::session(bytes, (16, n_batch, kv_type), ops, workers, &mut arena).expect("a session");
            let logits = batch.prefill(&PROMPT).expect("a prompt");
            let about = format_args!("{ops:?} {arch:?} {ty:?} {kv_type:?}");
            assert!(is_same(logits, steps.logits()), "{about}: batches of {n_batch} differ from steps");
        }
    }
}

pub fn slices_equal_steps(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    for (config, _) in GOLDEN {
        let SynthConfig { arch, ty, .. } = config;
        let (memory, spare) = stand.memory.split_at_mut(2 << 20);
        let bytes = model::write(&config, &mut Arena::new(memory)).expect("test memory");
        let (one, two) = spare.split_at_mut(1 << 20);
        let (mut one, mut two) = (Arena::new(one), Arena::new(two));
        let shape = (16, PROMPT.len(), KvType::F16);
        let mut whole = model::session(bytes, shape, ops, workers, &mut one).expect("a session");
        whole.prefill(&PROMPT).expect("a prompt");
        for budget in [1, 3, 50].map(NonZeroU32::new).into_iter().flatten() {
            let mut arena = two.scope();
            let mut sliced = model::session(bytes, shape, ops, workers, &mut arena).expect("a session");
            sliced.begin(&PROMPT).expect("a prompt");
            let mut n_slices = 1;
            while sliced.poll(budget).expect("a slice") == Progress::Pending {
                n_slices += 1;
            }
            assert!(
                n_slices > 1 || budget.get() > 3,
                "{arch:?}: a budget of {budget} did everything at once"
            );
            let is_same = is_same(sliced.logits(), whole.logits());
            assert!(is_same, "{ops:?} {arch:?} {ty:?}: slices of {budget} differ");
        }
    }
}

pub fn a_full_cache_is_an_error(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    let (memory, spare) = stand.memory.split_at_mut(2 << 20);
    let bytes = model::write(&SynthConfig::TINY, &mut Arena::new(memory)).expect("test memory");
    let mut arena = Arena::new(spare);
    let mut session =
        model::session(bytes, (4, 2, KvType::F16), ops, workers, &mut arena).expect("a session");
    assert!(matches!(session.prefill(&PROMPT), Err(SessionError::ContextFull { need: 9, n_ctx: 4 })));
    assert_eq!(session.pos(), 0, "a refused prompt left tokens behind");
    for token in &PROMPT[..4] {
        session.step(*token).expect("a step");
    }
    assert!(matches!(session.step(PROMPT[4]), Err(SessionError::ContextFull { need: 5, n_ctx: 4 })));
    assert_eq!(session.pos(), 4);
    assert!(session.step(u32::MAX).is_err() && session.step(512).is_err());
}

pub fn truncated_cache_repeats_itself(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    let (memory, spare) = stand.memory.split_at_mut(2 << 20);
    let mut arena = Arena::new(memory);
    let bytes = model::write(&WIDE_HEADS, &mut arena).expect("test memory");
    let want = arena.alloc(512, 0f32).expect("test memory");
    let mut arena = Arena::new(spare);
    for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
        let mut arena = arena.scope();
        let mut session =
            model::session(bytes, (16, 4, kv_type), ops, workers, &mut arena).expect("a session");
        want.copy_from_slice(session.prefill(&PROMPT).expect("a prompt"));
        // Other tokens over the same positions, then the old ones again.
        session.truncate(5);
        assert_eq!(session.pos(), 5);
        session.prefill(&PROMPT[..3]).expect("a detour");
        session.truncate(5);
        let again = session.prefill(&PROMPT[5..]).expect("the rest");
        assert!(is_same(again, want), "{ops:?} {kv_type:?}");
        session.reset();
        let again = session.prefill(&PROMPT).expect("a prompt");
        assert!(is_same(again, want), "{ops:?} {kv_type:?}");
    }
}

pub fn a_reset_session_answers_nothing(stand: &mut Stand<'_>) {
    let (ops, workers) = (stand.ops, stand.workers);
    let (memory, spare) = stand.memory.split_at_mut(2 << 20);
    let bytes = model::write(&SynthConfig::TINY, &mut Arena::new(memory)).expect("test memory");
    let mut arena = Arena::new(spare);
    let mut session =
        model::session(bytes, (16, 4, KvType::F32), ops, workers, &mut arena).expect("a session");
    session.prefill(&PROMPT).expect("a prompt");
    session.reset();
    assert_eq!((session.pos(), session.logits().len()), (0, 0), "{ops:?}: a reset session still answers");
    assert_eq!(session.stats().kv.len, 0);
}
