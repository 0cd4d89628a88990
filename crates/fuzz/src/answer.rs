//! What a caller gets to see of a model file: how it goes on from a text, or why not, in the words of the kernel's shell.

use std::mem::MaybeUninit;
use std::ops::ControlFlow;

use corelm::arena::{Arena, Layout};
use corelm::config::Config;
use corelm::error::Error;
use corelm::generate::{Event, GenerationConfig, Generator};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::Session;
use corelm::tokenizer::{Specials, Tokenizer};
use corelm::weights::Weights;

/// The session of a kernel that is told `ctx=32 kv=f16` on one core.
const SESSION: SessionConfig = SessionConfig { n_ctx: 32, n_batch: 32, kv_type: KvType::F16, n_workers: 1 };

/// The text that comes behind `prompt`, at most `max_tokens` of it, by the portable back-end, and behind that a line for an
/// error; the line alone for a model that was not loaded.
pub fn answer(file: &[u8], prompt: &str, max_tokens: usize) -> String {
    let line = |error: Error| format!("error: {error} (code {})", error.code());
    let mut text = String::new();
    match go_on(file, prompt, max_tokens, &mut text) {
        Err(error) => line(error),
        Ok(Err(error)) => text + "\n" + &line(error),
        Ok(Ok(())) => text,
    }
}

/// Loads a model, and says how it went on.
fn go_on(
    file: &[u8],
    prompt: &str,
    max_tokens: usize,
    text: &mut String,
) -> Result<Result<(), Error>, Error> {
    let image = Image::parse(file)?;
    let config = Config::from_image(&image)?;
    let plan = MemoryPlan::new(&image, &config, &SESSION)?;
    let mut region = vec![MaybeUninit::uninit(); plan.bytes()];
    let mut arena = Arena::new(&mut region);
    let weights = Weights::resolve(&image, &config, &mut arena)?;
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    let mut session = Session::new(Ops::scalar(), &Single, &config, weights, &plan, &mut arena)?;
    let mut sampler = Sampler::new(SamplingConfig::GREEDY, config.vocab_size, &mut arena)?;
    Ok(generate(&tokenizer, &mut session, &mut sampler, prompt, max_tokens, text))
}

fn generate<'a, 'm>(
    tokenizer: &Tokenizer<'a, 'm>,
    session: &mut Session<'a, 'm>,
    sampler: &mut Sampler<'a>,
    prompt: &str,
    max_tokens: usize,
    text: &mut String,
) -> Result<(), Error> {
    let layout = tokenizer.scratch_layout(prompt.len(), Layout::new())?;
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut scratch = tokenizer.scratch(prompt.len(), &mut Arena::new(&mut region))?;
    let mut tokens = vec![0; prompt.len() + 2];
    let n_tokens =
        tokenizer.encode_with_bos(prompt.as_bytes(), Specials::Never, &mut scratch, &mut tokens)?;
    tokens.truncate(n_tokens);

    let until = GenerationConfig { max_tokens, stop: &[], ignores_eog: false };
    let generator = Generator::new(session, tokenizer, sampler, &tokens, until)?;
    generator.run(&mut |event| {
        if let Event::Text(part) = event {
            text.push_str(part);
        }
        ControlFlow::Continue(())
    })?;
    Ok(())
}
