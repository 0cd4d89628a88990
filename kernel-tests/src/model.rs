//! A model at work in the kernel: found, checked, given memory, and asked for text.

use core::fmt;
use core::num::NonZeroUsize;

use corelm::arena::{Arena, Layout};
use corelm::config::Config;
use corelm::generate::{Event, Generation, GenerationConfig, Generator, Receiver};
use corelm::gguf::{Image, Verify, WrongDigest};
use corelm::kv_cache::KvType;
use corelm::ops::{Features, Ops, Workers};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::Session;
use corelm::tokenizer::{Scratch, Specials, Tokenizer};
use corelm::weights::Weights;
use corelm::{Error, Token};

use crate::args::{Kv, MAX_PROMPT, ModelSource};
use crate::board::Context;
use crate::counter::CycleCounter;
use crate::heap::{self, Block};
use crate::modes;
use crate::texts::Texts;

/// Positions of a context, where the command line names no number and the model was trained for more.
const DEFAULT_N_CTX: usize = 512;
/// Prompt tokens that are computed together.
const N_BATCH: usize = 32;
/// Bytes of the file that are compared with its digest at a time, while nobody types.
const SCRUB_BYTES: NonZeroUsize = NonZeroUsize::new(16 << 10).unwrap();

/// Why there is no answer.
#[derive(Clone, Copy, Debug)]
pub enum EngineError {
    /// The kernel was built without the demo model.
    NoDemo,
    /// No initial ramdisk was given.
    NoInitrd,
    /// The back-end asked for is not available on this CPU.
    NoBackend,
    /// The model needs more memory than there is in one piece.
    Memory {
        /// Bytes it needs.
        need: usize,
        /// Bytes that are free.
        have: usize,
    },
    /// A benchmark case did not run, or missed its target.
    BenchmarksFailed,
    /// The board has no interrupt controller that this kernel knows, or the kernel was not entered at EL2.
    NoInterrupts,
    /// What a mode is there to test does not hold.
    Broken(&'static str),
    /// The engine refused the model, the choices, the text or a token.
    Engine(Error),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDemo => f.write_str("this kernel was built without models/corelm-demo-q4_0.gguf"),
            Self::NoInitrd => f.write_str("no initial ramdisk: give the model's file to the loader as one"),
            Self::NoBackend => f.write_str("this CPU does not have the back-end; `cpu` lists those it has"),
            Self::NoInterrupts => {
                f.write_str("needs interrupts, and for faults EL2: board virt, QEMU's virtualization=on")
            }
            Self::Broken(what) => f.write_str(what),
            Self::BenchmarksFailed => f.write_str("a benchmark case did not run, or missed its target"),
            Self::Memory { need, have } => {
                write!(f, "the model needs {need} bytes of memory, and the limit is {have} bytes")
            }
            Self::Engine(error) => write!(f, "{error} (code {})", error.code()),
        }
    }
}

impl<E: Into<Error>> From<E> for EngineError {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

/// What the inferences took so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Texts continued.
    pub n_texts: u64,
    /// Prompt tokens computed.
    pub n_prompt: u64,
    /// Tokens generated.
    pub n_generated: u64,
    /// Counts of the cycle counter for prompts.
    pub prompt_counts: u64,
    /// Counts of the cycle counter for generated tokens.
    pub generated_counts: u64,
}

/// A model with memory of its own, ready for texts.
pub struct Engine<'a, 'm> {
    /// What the model is.
    pub config: Config,
    /// Where its memory went.
    pub plan: MemoryPlan,
    /// What was done with it.
    pub stats: Stats,
    tokenizer: Tokenizer<'a, 'm>,
    session: Session<'a, 'm>,
    sampler: Sampler<'a>,
    verify: Option<Verify<'m>>,
    scratch: Scratch<'a>,
    tokens: &'a mut [Token],
}

/// What the calling core can do.
pub fn features() -> Features {
    // SAFETY: the kernel runs at EL1, `boot.rs` switched FP/SIMD on for good, and interrupts are masked.
    unsafe { Features::detect_el1() }
}

/// All back-ends of the calling core, the portable one first.
pub fn backends() -> impl Iterator<Item = Ops> {
    Ops::available(features())
}

/// The back-end that the command line asks for, or the best.
///
/// # Errors
///
/// `NoBackend` when this CPU does not have it.
pub fn backend(context: &Context) -> Result<Ops, EngineError> {
    match &context.args.backend {
        Some(name) => backends().find(|ops| ops.backend().name() == name).ok_or(EngineError::NoBackend),
        None => backends().last().ok_or(EngineError::NoBackend),
    }
}

/// Finds the model, plans its memory, takes that from the heap and runs `body` with the engine.
///
/// # Errors
///
/// [`EngineError`] says what is wrong with the model, or what is missing for it.
pub fn with_engine<R>(
    context: &Context,
    source: ModelSource,
    body: impl FnOnce(&mut Engine<'_, '_>) -> R,
) -> Result<R, EngineError> {
    let bytes = bytes(context, source)?;
    // The command line's digest is that of the command line's model.
    let sha256 = context.args.sha256.filter(|_| source == modes::source(context));
    let mut verify = sha256.map(|digest| Verify::new(bytes, digest));
    verify.as_mut().map_or(Ok(()), Verify::run)?;
    let image = Image::parse(bytes)?;
    let config = Config::from_image(&image)?;
    let session_config = SessionConfig {
        n_ctx: context.args.ctx.unwrap_or(config.n_ctx_train.min(DEFAULT_N_CTX)),
        n_batch: N_BATCH,
        kv_type: match context.args.kv {
            Kv::F32 => KvType::F32,
            Kv::F16 => KvType::F16,
            Kv::Q8_0 => KvType::Q8_0,
        },
        n_workers: context.team.count(),
    };
    let plan = MemoryPlan::new(&image, &config, &session_config)?;
    let mut region = block(plan.bytes())?;
    let mut arena = Arena::new(region.bytes());
    let weights = Weights::resolve(&image, &config, &mut arena)?;
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    let session = Session::new(backend(context)?, &context.team, &config, weights, &plan, &mut arena)?;
    let sampler = Sampler::new(SamplingConfig::GREEDY, config.vocab_size, &mut arena)?;
    // Room to tokenize a prompt, beside what the plan counts: no token is shorter than a byte, and one may go before.
    let n_tokens = MAX_PROMPT + 2;
    let text_layout = tokenizer.scratch_layout(MAX_PROMPT, Layout::new().add::<Token>(n_tokens)?)?;
    let mut text_region = block(text_layout.bytes())?;
    let mut text_arena = Arena::new(text_region.bytes());
    let tokens = text_arena.alloc(n_tokens, 0)?;
    let scratch = tokenizer.scratch(MAX_PROMPT, &mut text_arena)?;
    let stats = Stats::default();
    Ok(body(&mut Engine { config, plan, stats, tokenizer, session, sampler, verify, scratch, tokens }))
}

/// The bytes of a model.
///
/// # Errors
///
/// `NoDemo` or `NoInitrd` when there are none.
pub fn bytes(context: &Context, source: ModelSource) -> Result<&'static [u8], EngineError> {
    match source {
        ModelSource::Demo if DEMO.0.is_empty() => Err(EngineError::NoDemo),
        ModelSource::Demo => Ok(&DEMO.0),
        ModelSource::Initrd => Ok(initrd(context)?.0),
    }
}

/// The texts that follow the model in the initial ramdisk; none where there is no ramdisk.
pub fn texts(context: &Context) -> Texts<'static> {
    Texts::new(initrd(context).map_or(&[], |(_, texts)| texts))
}

/// What is in the initial ramdisk: a model, and as many bytes of texts as the command line says.
fn initrd(context: &Context) -> Result<(&'static [u8], &'static [u8]), EngineError> {
    let initrd = context.machine.initrd.clone().ok_or(EngineError::NoInitrd)?;
    // SAFETY: `board::start` mapped the ramdisk read-only and gave its memory to nobody else.
    let bytes = unsafe { core::slice::from_raw_parts(initrd.start as *const u8, initrd.len()) };
    Ok(bytes.split_at(bytes.len().saturating_sub(context.args.texts)))
}

/// The model that comes with the kernel, aligned as a file in memory would be.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);
static DEMO: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/demo.gguf")));

/// Takes `need` bytes from the heap.
///
/// # Errors
///
/// `Memory` when no hole is that large.
pub fn block(need: usize) -> Result<Block, EngineError> {
    let free = || {
        let usage = heap::usage();
        usage.size_bytes - usage.used_bytes
    };
    Block::new(need).ok_or_else(|| EngineError::Memory { need, have: free() })
}

impl Engine<'_, '_> {
    /// Continues `prompt` until `config` says stop, with the most probable token each time, and tells `receiver`.
    ///
    /// # Errors
    ///
    /// When the prompt cannot be tokenized or does not fit in the context, or a value is not finite.
    pub fn generate(
        &mut self,
        prompt: &str,
        specials: Specials<'_>,
        config: GenerationConfig<'_>,
        receiver: &mut Receiver<'_>,
    ) -> Result<Generation, EngineError> {
        self.session.reset();
        self.sampler.reset(SamplingConfig::GREEDY)?;
        let n_prompt =
            self.tokenizer.encode_with_bos(prompt.as_bytes(), specials, &mut self.scratch, self.tokens)?;
        let prompt = self.tokens.get(..n_prompt).unwrap_or_default();
        let began = CycleCounter.now();
        let mut first = None;
        let generator =
            Generator::new(&mut self.session, &self.tokenizer, &mut self.sampler, prompt, config)?;
        let generation = generator.run(&mut |event| {
            if let Event::Token { .. } = event {
                first.get_or_insert_with(|| CycleCounter.now());
            }
            receiver(event)
        })?;
        let ended = CycleCounter.now();
        let first = first.unwrap_or(ended);
        self.stats.n_texts += 1;
        self.stats.n_prompt += n_prompt as u64;
        self.stats.n_generated += generation.n_generated as u64;
        self.stats.prompt_counts += first - began;
        self.stats.generated_counts += ended - first;
        Ok(generation)
    }

    /// Feeds `tokens` one by one and gives the logits after each to `each`.
    ///
    /// # Errors
    ///
    /// When there are more than the context holds, or one is not in the vocabulary.
    pub fn feed(&mut self, tokens: &[Token], each: &mut dyn FnMut(Token, &[f32])) -> Result<(), EngineError> {
        self.session.reset();
        for &token in tokens {
            each(token, self.session.step(token)?);
        }
        Ok(())
    }

    /// Whether the model's file was compared with a digest.
    pub fn is_verified(&self) -> bool {
        self.verify.is_some()
    }

    /// Compares a further slice of the model's file with its digest, if one was given; over and over.
    ///
    /// # Errors
    ///
    /// When the file has changed since it was loaded.
    pub fn scrub(&mut self) -> Result<(), WrongDigest> {
        self.verify.as_mut().map_or(Ok(()), |verify| verify.poll(SCRUB_BYTES).map(|_| ()))
    }

    /// The name of the back-end in use.
    pub fn backend_name(&self) -> &'static str {
        self.session.ops().backend().name()
    }
}
