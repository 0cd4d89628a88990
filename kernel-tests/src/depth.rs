//! How deep the engine's calls go on this machine: the stack below a call is painted, and what has lost its paint was used.
//!
//! `cargo xtask test` compares what [`engine`] prints with the bound that `cargo xtask prove` finds without running anything.

use core::arch::asm;
use core::fmt;
use core::hint::black_box;
use core::mem::MaybeUninit;
use core::num::NonZeroU32;
use core::ops::ControlFlow;

use corelm::arena::{Arena, Layout};
use corelm::config::Config;
use corelm::generate::{GenerationConfig, Generator};
use corelm::gguf::{Image, Sha256};
use corelm::kv_cache::KvType;
use corelm::ops::{Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::Session;
use corelm::tokenizer::{Specials, Tokenizer};
use corelm::weights::Weights;
use corelm::{Error, Token};

use crate::board::Context;
use crate::model::{self, EngineError};
use crate::{modes, println};

/// Bytes that are painted: far more than any call should use, and a part of the kernel's stack.
const PAINTED: usize = 48 * 1024;
/// What an unused word holds.
const PAINT: u64 = 0xa5c3_5a3c_a5c3_5a3c;

/// Bytes of a frame that must be seen.
const PLANTED: usize = 5 * 1024;

/// Texts that need a stack of their length where a tokenizer recurses: the same over and over.
const HOSTILE: [(&str, &[u8]); 6] = [
    ("one letter", b"a"),
    ("spaces", b" "),
    ("lines", b"\n"),
    ("no UTF-8", b"\xff"),
    ("cut characters", b"\xf0\x9f"),
    ("control tokens", b"<|im_start|>"),
];
/// Bytes of each of them.
const HOSTILE_BYTES: usize = 4096;
/// Tokens that are generated behind each text of the ramdisk.
const N_ANSWER: usize = 8;

/// Bytes of stack that `call` and all that it calls have used.
#[inline(never)]
fn depth_of(call: &mut dyn FnMut()) -> usize {
    let (top, bottom): (usize, usize);
    // SAFETY: writes words between `PAINTED` bytes below the stack pointer and the stack pointer, which nobody uses: code
    // for this target has no red zone, and exceptions have another stack. The kernel's own is larger than that.
    unsafe {
        asm!(
            "mov {top}, sp",
            "sub {bottom}, {top}, {painted}",
            "mov {at}, {bottom}",
            "2:",
            "str {paint}, [{at}], #8",
            "cmp {at}, {top}",
            "b.lo 2b",
            top = out(reg) top, bottom = out(reg) bottom, at = out(reg) _,
            painted = in(reg) PAINTED, paint = in(reg) PAINT,
            options(nostack)
        );
    }
    call();
    let is_painted = |address: &usize| {
        // SAFETY: a word of the stack that was painted above; a volatile read of what others may have written.
        unsafe { (*address as *const u64).read_volatile() == PAINT }
    };
    let unused = (bottom..top).step_by(8).take_while(is_painted).count() * 8;
    assert!(unused > 0, "more than the {PAINTED} bytes that were painted");
    top - bottom - unused
}

/// A frame that is too large is seen, and a small one is not taken for one.
pub fn a_deep_frame_is_seen(_: &Context) {
    let small = depth_of(&mut || {
        black_box(0);
    });
    let large = depth_of(&mut planted);
    assert!(small < 512, "{small} bytes for nothing");
    assert!((PLANTED..PLANTED + 512).contains(&large), "{large} bytes for a frame of {PLANTED}");
}

#[inline(never)]
fn planted() {
    black_box(&mut [1u8; PLANTED]);
}

/// Prints what the calls take that load the model, that a generation needs, and the tokenizer with hostile texts, those of
/// the initial ramdisk among them.
///
/// A model of the initial ramdisk may be refused.
pub fn engine(context: &Context) {
    match measure(context) {
        Ok(()) => {}
        Err(EngineError::NoDemo) => println!("stack: no model"),
        Err(error) if context.machine.initrd.is_some() => println!("stack: refused, {error}"),
        Err(error) => panic!("{error}"),
    }
}

/// What `call` gives; prints the bytes of stack that it took.
fn told<T>(what: fmt::Arguments<'_>, call: impl FnOnce() -> T) -> T {
    let (mut call, mut result) = (Some(call), MaybeUninit::uninit());
    // Written where it stays: a copy would count as the call's.
    let deepest = depth_of(&mut || {
        if let Some(call) = call.take() {
            result.write(call());
        }
    });
    println!("stack {what} {deepest}");
    // SAFETY: `depth_of` has called the closure, which had the call to make.
    unsafe { result.assume_init() }
}

fn measure(context: &Context) -> Result<(), EngineError> {
    let bytes = model::bytes(context, modes::source(context))?;
    println!(); // the name of the test stands at the line's beginning
    let image = told(format_args!("parse"), || Image::parse(bytes))?;
    let config = told(format_args!("config"), || Config::from_image(&image))?;
    for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
        let wanted = SessionConfig { n_ctx: 64.min(config.n_ctx_train), n_batch: 16, kv_type, n_workers: 1 };
        let plan = told(format_args!("plan"), || MemoryPlan::new(&image, &config, &wanted))?;
        let model = Model { image: &image, config: &config, plan: &plan };
        for ops in model::backends() {
            model.try_hostile_texts(context, ops, format_args!("{kv_type:?}"))?;
        }
        if kv_type == KvType::F16 {
            model.ask_texts(context)?;
        }
    }
    Ok(())
}

/// A model that was not refused so far.
#[derive(Clone, Copy)]
struct Model<'m> {
    image: &'m Image<'m>,
    config: &'m Config,
    plan: &'m MemoryPlan,
}

impl Model<'_> {
    /// The tokens of [`HOSTILE`], and two behind the first of the last one's, which are more than a batch.
    fn try_hostile_texts(
        self,
        context: &Context,
        ops: Ops,
        what: fmt::Arguments<'_>,
    ) -> Result<(), EngineError> {
        let mut region = model::block(self.plan.bytes())?;
        let mut arena = Arena::new(region.bytes());
        let tokenizer = told(format_args!("tokenizer"), || Tokenizer::new(self.image, &mut arena))?;
        let n_tokens = HOSTILE_BYTES + 2;
        let layout = tokenizer.scratch_layout(HOSTILE_BYTES, Layout::new().add::<Token>(n_tokens)?)?;
        let mut region = model::block(layout.bytes() + HOSTILE_BYTES + 64)?;
        let mut arena = Arena::new(region.bytes());
        let (tokens, text) = (arena.alloc(n_tokens, 0 as Token)?, arena.alloc(HOSTILE_BYTES, 0u8)?);
        let mut scratch = tokenizer.scratch(HOSTILE_BYTES, &mut arena)?;
        for (what, piece) in HOSTILE {
            text.iter_mut().zip(piece.iter().cycle()).for_each(|(to, from)| *to = *from);
            let encoded = told(format_args!("encode/{what}"), || {
                tokenizer.encode(text, Specials::Never, &mut scratch, tokens)
            });
            answered(context, encoded)?;
        }
        self.go_on(context, ops, &tokenizer, tokens.get(..20).unwrap_or_default(), 2, what)
    }

    /// The tokens of each text of the ramdisk, once as text and once as control tokens where it says any, and what comes
    /// behind as many of them as the context holds.
    fn ask_texts(self, context: &Context) -> Result<(), EngineError> {
        let Some(most) = model::texts(context).map(|(_, text)| text.len()).max() else { return Ok(()) };
        let mut region = model::block(self.plan.bytes())?;
        let tokenizer = Tokenizer::new(self.image, &mut Arena::new(region.bytes()))?;
        let layout = tokenizer.scratch_layout(most, Layout::new().add::<Token>(most + 2)?)?;
        let mut region = model::block(layout.bytes())?;
        let mut arena = Arena::new(region.bytes());
        let tokens = arena.alloc(most + 2, 0 as Token)?;
        let mut scratch = tokenizer.scratch(most, &mut arena)?;
        for (name, text) in model::texts(context) {
            let mut encode = |what: &str, specials: Specials<'_>, tokens: &mut [Token]| {
                told(format_args!("encode/{name}{what}"), || {
                    tokenizer.encode(text, specials, &mut scratch, tokens)
                })
            };
            let n_special = answered(context, encode("/controls", Specials::All, tokens))?;
            let n_plain = answered(context, encode("", Specials::Never, tokens))?;
            let (Some(n_special), Some(n_plain)) = (n_special, n_plain) else { continue };
            let tokens = tokens.get(..n_plain).unwrap_or_default();
            let mut hash = Sha256::new();
            tokens.iter().for_each(|token| hash.update(&token.to_le_bytes()));
            println!("tokens {name} {n_plain} {n_special} {}", hash.finish());
            let n_prompt = tokens.len().min(self.plan.session_config().n_ctx.saturating_sub(N_ANSWER).max(1));
            for ops in model::backends() {
                let prompt = tokens.get(..n_prompt).unwrap_or_default();
                self.go_on(context, ops, &tokenizer, prompt, N_ANSWER, format_args!("{name}"))?;
            }
        }
        Ok(())
    }

    /// Prints the stack that it takes to go on from `prompt`.
    fn go_on(
        self,
        context: &Context,
        ops: Ops,
        tokenizer: &Tokenizer<'_, '_>,
        prompt: &[Token],
        max_tokens: usize,
        what: fmt::Arguments<'_>,
    ) -> Result<(), EngineError> {
        let Self { image, config, plan } = self;
        let mut region = model::block(plan.bytes())?;
        let mut arena = Arena::new(region.bytes());
        let weights = told(format_args!("weights"), || Weights::resolve(image, config, &mut arena))?;
        let mut session =
            told(format_args!("session"), || Session::new(ops, &Single, config, weights, plan, &mut arena))?;
        let mut sampler = Sampler::new(SamplingConfig::GREEDY, config.vocab_size, &mut arena)?;
        let until = GenerationConfig { max_tokens, stop: &["\u{0}"], ignores_eog: true };
        let generator = Generator::new(&mut session, tokenizer, &mut sampler, prompt, until);
        let Some(mut generator) = answered(context, generator)? else { return Ok(()) };
        let (mut deepest, mut progress) = (0, Ok(None));
        while matches!(progress, Ok(None)) {
            let poll = &mut || progress = generator.poll(NonZeroU32::MAX, &mut |_| ControlFlow::Continue(()));
            deepest = deepest.max(depth_of(poll));
        }
        println!("stack generate/{what}/{} {deepest}", ops.backend().name());
        answered(context, progress).map(|_| ())
    }
}

/// What a model answers. One of the initial ramdisk may have no answer, which is printed; the next text may have one.
fn answered<T>(context: &Context, answer: Result<T, impl Into<Error>>) -> Result<Option<T>, EngineError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if context.machine.initrd.is_some() => {
            println!("no answer: {}", error.into());
            Ok(None)
        }
        Err(error) => Err(EngineError::Engine(error.into())),
    }
}
