//! Target `run`: any bytes are a file that is refused, or a model that gives tokens of its vocabulary, or says that its
//! numbers are none.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use corelm::arena::{Arena, Layout};
use corelm::config::Config;
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::cpu::Features;
use corelm::ops::{Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplerError, SamplingConfig};
use corelm::session::{Session, SessionError};
use corelm::tokenizer::{Controls, Specials, Tokenizer};
use corelm::weights::Weights;
use corelm::{Error, Token};

use crate::files;

/// Tokens generated.
pub(crate) const N_GENERATED: usize = 3;
/// A small session.
pub(crate) const SESSION: SessionConfig =
    SessionConfig { n_ctx: 24, n_batch: 8, kv_type: KvType::F16, n_workers: 1 };
/// Text with a control token, bytes that are no text, digits and a mark of SentencePiece.
const TEXT: &[u8] = b"the <s>\xff 12\n\xe2\x96\x81";

/// Small models of every architecture.
pub fn seeds() -> Vec<Vec<u8>> {
    files::tiny_models().iter().chain(files::models().iter().take(1)).map(files::File::bytes).collect()
}

/// Panics unless the file is answered as it must be, and the same at another address.
pub fn check(file: &[u8]) {
    // The numbers of a file's bytes choose what else may make a difference.
    let choice = file.len();
    // Once: in a virtual machine each question goes to the hypervisor.
    static BACKENDS: LazyLock<Vec<Ops>> = LazyLock::new(|| Ops::available(Features::detect_host()).collect());
    let ops = BACKENDS[choice % BACKENDS.len()];
    let kv_type = [KvType::F16, KvType::F32, KvType::F16, KvType::Q8_0][choice / 8 % 4];
    let session = SessionConfig { n_batch: [8, 3][choice % 2], kv_type, ..SESSION };
    let answer = run(file, ops, session);
    if choice.is_multiple_of(4) {
        let copy = [&[0][..], file].concat();
        assert_eq!(run(&copy[1..], ops, session), answer, "an address changes the answer");
    }
    match answer {
        Err(
            Error::Session(SessionError::NonFinite { .. }) | Error::Sampler(SamplerError::NonFinite { .. }),
        )
        | Err(Error::Model(_) | Error::Plan(_))
        | Ok(_) => {}
        Err(error) => panic!("{error}"),
    }
}

/// The greedy tokens behind a text.
pub(crate) fn run(file: &[u8], ops: Ops, session: SessionConfig) -> Result<Vec<Token>, Error> {
    let image = Image::parse(file)?;
    let config = Config::from_image(&image)?;
    let plan = MemoryPlan::new(&image, &config, &session)?;
    assert!(plan.bytes() < 16 << 20, "{} bytes for a file of {}", plan.bytes(), file.len());
    let mut region = vec![MaybeUninit::uninit(); plan.bytes()];
    let mut arena = Arena::new(&mut region);
    let weights = Weights::resolve(&image, &config, &mut arena)?;
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    let mut session = Session::new(ops, &Single, &config, weights, &plan, &mut arena)?;
    let mut sampler = Sampler::new(SamplingConfig::GREEDY, config.vocab_size, &mut arena)?;
    let stats = arena.stats();
    assert_eq!(stats.used, stats.capacity, "the plan is exact");

    let mut logits = session.prefill(&prompt(&tokenizer))?;
    let mut tokens = Vec::new();
    while tokens.len() < N_GENERATED {
        assert!(logits.len() == config.vocab_size && logits.iter().all(|x| x.is_finite()));
        let token = sampler.sample(logits)?;
        assert!((token as usize) < config.vocab_size);
        tokens.push(token);
        logits = session.step(token)?;
    }
    let mut text = [0; 64];
    match tokenizer.decode(&tokens, Controls::Show, &mut text) {
        Ok(_) | Err(corelm::TokenizeError::OutputFull { .. }) => Ok(tokens),
        Err(error) => Err(error.into()),
    }
}

/// Some tokens of the text, without control tokens in it and with them; the first of all where it has none.
fn prompt(tokenizer: &Tokenizer<'_, '_>) -> Vec<Token> {
    let layout = tokenizer.scratch_layout(TEXT.len(), Layout::new()).expect("a short text");
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut scratch = tokenizer.scratch(TEXT.len(), &mut Arena::new(&mut region)).expect("as planned");
    let (mut tokens, mut out) = (Vec::new(), [0; 64]);
    for specials in [Specials::Never, Specials::All] {
        if let Ok(n) = tokenizer.encode(TEXT, specials, &mut scratch, &mut out) {
            tokens.extend(out[..n].iter().take(9));
        }
    }
    assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab_size()));
    if tokens.is_empty() { vec![0] } else { tokens }
}
