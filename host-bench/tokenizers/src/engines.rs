//! The engine and its peers behind one face: each is given the same vocabulary in the form that it takes, and works by the
//! call that its documentation names for speed.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bpe::byte_pair_encoding::{BytePairEncoding, find_hash_factor_for_dictionary};
use corelm::arena::{Arena, Layout};
use corelm::gguf::Image;
use corelm::tokenizer::{Controls, Scratch, Specials, Tokenizer};
use cpu_time::ThreadTime;
use kitoken::Kitoken;
use tiktoken_rs::CoreBPE;
use tokenizers::models::ModelWrapper;
use tokenizers_1::pipeline::{EncodeOptions, PipelineToken, PipelineTokenizer};

use crate::vocabulary::Vocabulary;

/// A tokenizer that is loaded.
pub trait Engine {
    /// Encodes text in which nothing is special.
    fn encode(&mut self, text: &str, take: &mut dyn FnMut(&[u32])) -> Result<()>;

    /// The bytes that the tokens stand for.
    fn decode(&mut self, ids: &[u32], take: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Forgets the pieces that it has met.
    fn forget(&mut self) {}

    /// Whether it has a cache of pieces, so that the first time differs from others.
    fn has_cache(&self) -> bool {
        false
    }

    /// Whether forgetting takes no longer than a short text.
    fn forgets_fast(&self) -> bool {
        true
    }

    /// How long it takes to load the vocabulary once more from its own form, which is in memory. Dropping is not timed.
    fn load(&mut self) -> Result<Duration>;
}

/// The engine's name; others are compared with it.
pub const ENGINE: &str = "corelm";

/// A way to load an engine. An engine that borrows does so from the vocabulary.
type Load = fn(&'static Vocabulary, max_text_bytes: usize) -> Result<Box<dyn Engine>>;

/// All of them by their names on crates.io, and of one of them its next version.
const ENGINES: [(&str, Load); 6] = [
    (ENGINE, Corelm::boxed),
    ("tokenizers", HuggingFace::boxed),
    ("tokenizers-1", HuggingFaceNext::boxed),
    ("tiktoken-rs", Tiktoken::boxed),
    ("bpe", Bpe::boxed),
    ("kitoken", Ki::boxed),
];

/// Their names.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENGINES.into_iter().map(|(name, _)| name)
}

/// Loads the engine of a name for texts of up to so many bytes. A panic is an error: peers refuse vocabularies that way.
pub fn load(name: &str, vocabulary: &'static Vocabulary, max_text_bytes: usize) -> Result<Box<dyn Engine>> {
    let (_, load) = ENGINES.into_iter().find(|(known, _)| *known == name).context("no such engine")?;
    let loaded = catch_unwind(AssertUnwindSafe(|| load(vocabulary, max_text_bytes)));
    loaded.unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(anyhow!("it panics: {}", text.and_then(|text| text.lines().next()).unwrap_or("no message")))
    })
}

/// How long `load` takes, by the clock of the thread.
fn timed<T>(load: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let start = ThreadTime::now();
    let loaded = black_box(load())?;
    let elapsed = start.elapsed();
    drop(loaded);
    Ok(elapsed)
}

/// What is no longer is served by itself.
const SHORT_BYTES: usize = 1 << 10;
/// Others are served as if they were at least as long.
const LONG_BYTES: usize = 1 << 16;

/// The engine: memory is the caller's, and is there before.
struct Corelm {
    vocabulary: &'static Vocabulary,
    tokenizer: Tokenizer<'static, 'static>,
    scratch: Scratch<'static>,
    /// Where the vocabulary is loaded once more.
    region: Vec<MaybeUninit<u8>>,
    ids: Vec<u32>,
    text: Vec<u8>,
}

impl Corelm {
    fn boxed(vocabulary: &'static Vocabulary, max_text_bytes: usize) -> Result<Box<dyn Engine>> {
        let lent = |bytes| vec![MaybeUninit::uninit(); bytes];
        let image = Image::parse(&vocabulary.file)?;
        let bytes = Tokenizer::layout(&image, Layout::new())?.bytes();
        let tokenizer = Tokenizer::new(&image, &mut Arena::new(lent(bytes).leak()))?;
        // As for longer texts: their pieces stay known from one to the next.
        let room = if max_text_bytes > SHORT_BYTES { max_text_bytes.max(LONG_BYTES) } else { max_text_bytes };
        let layout = tokenizer.scratch_layout(room, Layout::new())?;
        let scratch = tokenizer.scratch(room, &mut Arena::new(lent(layout.bytes()).leak()))?;
        let (ids, text) = (vec![0; max_text_bytes], vec![0; max_text_bytes]);
        Ok(Box::new(Self { vocabulary, tokenizer, scratch, region: lent(bytes), ids, text }))
    }
}

impl Engine for Corelm {
    fn encode(&mut self, text: &str, take: &mut dyn FnMut(&[u32])) -> Result<()> {
        let n = self.tokenizer.encode(text.as_bytes(), Specials::Never, &mut self.scratch, &mut self.ids)?;
        take(&self.ids[..n]);
        Ok(())
    }

    fn decode(&mut self, ids: &[u32], take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let n = self.tokenizer.decode(ids, Controls::Show, &mut self.text)?;
        take(&self.text[..n]);
        Ok(())
    }

    fn forget(&mut self) {
        self.scratch.forget();
    }

    fn has_cache(&self) -> bool {
        true
    }

    fn load(&mut self) -> Result<Duration> {
        let Self { vocabulary, region, .. } = self;
        timed(|| {
            let image = Image::parse(&vocabulary.file)?;
            Ok(Tokenizer::new(&image, &mut Arena::new(region))?)
        })
    }
}

/// `tokenizers`, from `tokenizer.json`; `encode_fast` keeps no offsets.
struct HuggingFace {
    tokenizer: tokenizers::Tokenizer,
    json: &'static [u8],
}

impl HuggingFace {
    fn boxed(vocabulary: &'static Vocabulary, _: usize) -> Result<Box<dyn Engine>> {
        let json = &vocabulary.json;
        Ok(Box::new(Self { tokenizer: Self::tokenizer(json)?, json }))
    }

    fn tokenizer(json: &[u8]) -> Result<tokenizers::Tokenizer> {
        tokenizers::Tokenizer::from_bytes(json).map_err(|error| anyhow!("{error}"))
    }
}

impl Engine for HuggingFace {
    fn encode(&mut self, text: &str, take: &mut dyn FnMut(&[u32])) -> Result<()> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| anyhow!("{error}"))?;
        take(encoding.get_ids());
        Ok(())
    }

    fn decode(&mut self, ids: &[u32], take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let text = self.tokenizer.decode(ids, false).map_err(|error| anyhow!("{error}"))?;
        take(text.as_bytes());
        Ok(())
    }

    fn forget(&mut self) {
        if let ModelWrapper::BPE(model) = self.tokenizer.get_model() {
            model.clear_cache();
        }
    }

    fn has_cache(&self) -> bool {
        true
    }

    fn load(&mut self) -> Result<Duration> {
        timed(|| Self::tokenizer(self.json))
    }
}

/// The next version of `tokenizers`, from `tokenizer.json` in that version's form; `encode_into` makes no `Encoding`.
struct HuggingFaceNext {
    tokenizer: PipelineTokenizer,
    options: EncodeOptions,
    json: String,
    tokens: Vec<PipelineToken>,
}

impl HuggingFaceNext {
    fn boxed(vocabulary: &'static Vocabulary, _: usize) -> Result<Box<dyn Engine>> {
        let json = tokenizers_1::canonicalize_str(str::from_utf8(&vocabulary.json)?)?;
        let tokenizer = Self::tokenizer(&json)?;
        let options = EncodeOptions::no_specials();
        Ok(Box::new(Self { tokenizer, options, json, tokens: Vec::new() }))
    }

    fn tokenizer(json: &str) -> Result<PipelineTokenizer> {
        tokenizers_1::from_json(json).map_err(|error| anyhow!("{error}"))
    }
}

impl Engine for HuggingFaceNext {
    fn encode(&mut self, text: &str, take: &mut dyn FnMut(&[u32])) -> Result<()> {
        let Self { tokenizer, options, tokens, .. } = self;
        tokens.clear();
        tokenizer.encode_into(text, options, tokens).map_err(|error| anyhow!("{error}"))?;
        take(PipelineToken::cast_slice(tokens));
        Ok(())
    }

    fn decode(&mut self, ids: &[u32], take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let text = self.tokenizer.decode(ids, false).map_err(|error| anyhow!("{error}"))?;
        take(text.as_bytes());
        Ok(())
    }

    /// Its caches are in a pool that only a tokenizer loaded anew has empty.
    fn forget(&mut self) {
        if let Ok(tokenizer) = Self::tokenizer(&self.json) {
            self.tokenizer = tokenizer;
        }
    }

    fn has_cache(&self) -> bool {
        true
    }

    fn forgets_fast(&self) -> bool {
        false
    }

    fn load(&mut self) -> Result<Duration> {
        timed(|| Self::tokenizer(&self.json))
    }
}

/// `tiktoken-rs`, from a map of the tokens' bytes to their ranks. It merges by the rank of what comes of it.
struct Tiktoken {
    core: CoreBPE,
    vocabulary: &'static Vocabulary,
}

impl Tiktoken {
    fn boxed(vocabulary: &'static Vocabulary, _: usize) -> Result<Box<dyn Engine>> {
        let core = CoreBPE::new(Self::ranks(vocabulary), Default::default(), &vocabulary.pattern()?)?;
        Ok(Box::new(Self { core, vocabulary }))
    }

    /// In a hash map of a type that it does not name.
    fn ranks<M: FromIterator<(Vec<u8>, u32)>>(vocabulary: &Vocabulary) -> M {
        vocabulary.tokens.iter().cloned().zip(0..).collect()
    }
}

impl Engine for Tiktoken {
    fn encode(&mut self, text: &str, take: &mut dyn FnMut(&[u32])) -> Result<()> {
        take(&self.core.encode_ordinary(text));
        Ok(())
    }

    fn decode(&mut self, ids: &[u32], take: &mut dyn FnMut(&[u8])) -> Result<()> {
        take(&self.core.decode_bytes(ids)?);
        Ok(())
    }

    fn load(&mut self) -> Result<Duration> {
        let (ranks, pattern) = (Self::ranks(self.vocabulary), self.vocabulary.pattern()?);
        timed(|| CoreBPE::new(ranks, Default::default(), &pattern))
    }
}

/// `bpe` with the pre-tokenizer of `bpe-openai`, from the tokens in the order of their ranks and a factor for its hashes that
/// was found before.
struct Bpe {
    tokenizer: bpe_openai::Tokenizer,
    vocabulary: &'static Vocabulary,
    factor: u64,
}

impl Bpe {
    fn boxed(vocabulary: &'static Vocabulary, _: usize) -> Result<Box<dyn Engine>> {
        vocabulary.pattern()?;
        let factor = find_hash_factor_for_dictionary(vocabulary.tokens.iter().cloned());
        let tokenizer = Self::tokenizer(vocabulary.tokens.clone(), vocabulary, factor)?;
        Ok(Box::new(Self { tokenizer, vocabulary, factor }))
    }

    fn tokenizer(
        tokens: Vec<Vec<u8>>,
        vocabulary: &Vocabulary,
        factor: u64,
    ) -> Result<bpe_openai::Tokenizer> {
        let bpe = BytePairEncoding::from_dictionary(tokens, Some(factor));
        let patterns = vocabulary.patterns_without_lookahead()?;
        let patterns = patterns.each_ref().map(|(pattern, looks_ahead)| (pattern.as_str(), *looks_ahead));
        bpe_openai::Tokenizer::new_lookahead(bpe, &patterns, false).context("its regular expression")
    }
}

impl Engine for Bpe {
    fn encode(&mut self, text: &str, take: &mut dyn FnMut(&[u32])) -> Result<()> {
        take(&self.tokenizer.encode(text));
        Ok(())
    }

    fn decode(&mut self, ids: &[u32], take: &mut dyn FnMut(&[u8])) -> Result<()> {
        take(&self.tokenizer.bpe.decode_tokens(ids));
        Ok(())
    }

    fn load(&mut self) -> Result<Duration> {
        let tokens = self.vocabulary.tokens.clone();
        timed(|| Self::tokenizer(tokens, self.vocabulary, self.factor))
    }
}

/// `kitoken`, from the same `tokenizer.json`.
struct Ki {
    tokenizer: Kitoken,
    json: &'static [u8],
}

impl Ki {
    fn boxed(vocabulary: &'static Vocabulary, _: usize) -> Result<Box<dyn Engine>> {
        let json = &vocabulary.json;
        Ok(Box::new(Self { tokenizer: Self::tokenizer(json)?, json }))
    }

    fn tokenizer(json: &[u8]) -> Result<Kitoken> {
        Kitoken::from_tokenizers_slice(json).map_err(|error| anyhow!("{error}"))
    }
}

impl Engine for Ki {
    fn encode(&mut self, text: &str, take: &mut dyn FnMut(&[u32])) -> Result<()> {
        take(&self.tokenizer.encode(text, false).map_err(|error| anyhow!("{error}"))?);
        Ok(())
    }

    fn decode(&mut self, ids: &[u32], take: &mut dyn FnMut(&[u8])) -> Result<()> {
        take(&self.tokenizer.decode(ids, false).map_err(|error| anyhow!("{error}"))?);
        Ok(())
    }

    fn load(&mut self) -> Result<Duration> {
        timed(|| Self::tokenizer(self.json))
    }
}
