//! A model at work: checked, given memory, and asked for text.

use core::mem::MaybeUninit;

use corelm::arena::Arena;
use corelm::config::Config;
use corelm::generate::{GenerationConfig, Generator, Receiver};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Features, Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::Session;
use corelm::tokenizer::{Specials, Tokenizer};
use corelm::weights::Weights;
use corelm::{Error, Token};
use kernel_tests::args::{Args, Kv, MAX_PROMPT};

/// Positions of a context, where the command line names no number and the model was trained for more.
const DEFAULT_N_CTX: usize = 512;
/// Prompt tokens that are computed together.
const N_BATCH: usize = 32;

/// A model with memory of its own.
pub struct Engine<'a, 'm> {
    pub config: Config,
    pub n_ctx: usize,
    tokenizer: Tokenizer<'a, 'm>,
    session: Session<'a, 'm>,
    sampler: Sampler<'a>,
}

/// What the CPU can do.
pub fn features() -> Features {
    // SAFETY: the kernel runs in ring 0, `boot.rs` switched on what it has for good, and interrupts are masked.
    unsafe { Features::detect_ring0() }
}

/// The back-ends that the command line asks for: the one it names, or all, the portable one first.
pub fn backends(args: &Args) -> impl Iterator<Item = Ops> {
    let is_wanted = |ops: &Ops| args.backend.as_ref().is_none_or(|name| ops.backend().name() == name);
    Ops::available(features()).filter(is_wanted)
}

impl<'a, 'm> Engine<'a, 'm> {
    /// Loads the model in `file`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or that `memory` is too small.
    pub fn new(
        file: &'m [u8],
        ops: Ops,
        args: &Args,
        memory: &'a mut [MaybeUninit<u8>],
    ) -> Result<(Self, &'a mut [MaybeUninit<u8>]), Error> {
        let image = Image::parse(file)?;
        let config = Config::from_image(&image)?;
        let session_config = SessionConfig {
            n_ctx: args.ctx.unwrap_or(config.n_ctx_train.min(DEFAULT_N_CTX)),
            n_batch: N_BATCH,
            kv_type: match args.kv {
                Kv::F32 => KvType::F32,
                Kv::F16 => KvType::F16,
                Kv::Q8_0 => KvType::Q8_0,
            },
            n_workers: 1,
        };
        let plan = MemoryPlan::new(&image, &config, &session_config)?;
        // As many bytes as are planned, and no more.
        let n_bytes = plan.bytes().min(memory.len());
        let (region, rest) = memory.split_at_mut(n_bytes);
        let mut arena = Arena::new(region);
        let weights = Weights::resolve(&image, &config, &mut arena)?;
        let tokenizer = Tokenizer::new(&image, &mut arena)?;
        let session = Session::new(ops, &Single, &config, weights, &plan, &mut arena)?;
        let sampler = Sampler::new(SamplingConfig::GREEDY, config.vocab_size, &mut arena)?;
        let n_ctx = plan.session_config().n_ctx;
        Ok((Self { config, n_ctx, tokenizer, session, sampler }, rest))
    }

    /// The name of its back-end.
    pub fn backend_name(&self) -> &'static str {
        self.session.ops().backend().name()
    }

    /// Continues `prompt`, with the most probable token each time, and tells `receiver`. `memory` is to tokenize in.
    ///
    /// # Errors
    ///
    /// When the prompt cannot be tokenized or does not fit in the context, or a value is not finite.
    pub fn generate(
        &mut self,
        prompt: &str,
        specials: Specials<'_>,
        config: GenerationConfig<'_>,
        memory: &mut [MaybeUninit<u8>],
        receiver: &mut Receiver<'_>,
    ) -> Result<(), Error> {
        let tokenizer = &self.tokenizer;
        let mut arena = Arena::new(memory);
        let tokens = arena.alloc(MAX_PROMPT + 2, 0)?;
        let mut scratch = tokenizer.scratch(MAX_PROMPT, &mut arena)?;
        let n_tokens = tokenizer.encode_with_bos(prompt.as_bytes(), specials, &mut scratch, tokens)?;
        let tokens = tokens.get(..n_tokens).unwrap_or_default();
        Generator::new(&mut self.session, tokenizer, &mut self.sampler, tokens, config)?.run(receiver)?;
        Ok(())
    }

    /// Feeds `tokens` one by one and gives the logits after each to `each`.
    ///
    /// # Errors
    ///
    /// When there are more than the context holds, or one is not in the vocabulary.
    pub fn feed(&mut self, tokens: &[Token], each: &mut dyn FnMut(Token, &[f32])) -> Result<(), Error> {
        for &token in tokens {
            each(token, self.session.step(token)?);
        }
        Ok(())
    }
}
