//! The good models that calls are made on, and what a plain run of them gives.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use corelm::Token;
use corelm::arena::Arena;
use corelm::config::Config;
use corelm::error::Error;
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::cpu::Features;
use corelm::ops::{Ops, Single, Workers};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::{Session, SessionError};
use corelm::tokenizer::Tokenizer;
use corelm::weights::Weights;

use crate::bits;
use crate::files::{self, File};

/// Positions of every session, and workers that it is planned for.
pub const N_CTX: usize = 14;
pub const N_WORKERS: usize = 2;

/// A good model, and what is known of it.
pub struct World {
    image: Image<'static>,
    pub config: Config,
    pub plan: MemoryPlan,
    pub ops: Vec<Ops>,
}

pub fn worlds() -> &'static [World] {
    static WORLDS: OnceLock<Vec<World>> = OnceLock::new();
    WORLDS.get_or_init(|| {
        let sessions = [(5, KvType::F16), (1, KvType::F32), (32, KvType::F16), (3, KvType::F32)];
        files::tiny_models()
            .iter()
            .map(File::bytes)
            .zip(sessions)
            .map(|(file, session)| World::new(file, session))
            .collect()
    })
}

impl World {
    fn new(file: Vec<u8>, (n_batch, kv_type): (usize, KvType)) -> Self {
        let image = Image::parse(file.leak()).expect("a good file");
        let config = Config::from_image(&image).expect("a good model");
        let session = SessionConfig { n_ctx: N_CTX, n_batch, kv_type, n_workers: N_WORKERS };
        let plan = MemoryPlan::new(&image, &config, &session).expect("a possible session");
        let ops = Ops::available(Features::detect_host()).collect();
        Self { image, config, plan, ops }
    }

    /// The bits of the logits behind a sequence, one token at a time.
    pub fn plain(&self, backend: usize, tokens: &[Token]) -> Vec<u32> {
        thread_local! {
            static PLAIN: RefCell<HashMap<(usize, usize), Plain>> = RefCell::default();
        }
        PLAIN.with_borrow_mut(|plain| {
            let key = (std::ptr::from_ref(self).addr(), backend);
            plain.entry(key).or_insert_with(|| Plain::new(self, backend)).logits(tokens).to_vec()
        })
    }

    /// All that a caller holds, in the memory of `arena`.
    pub fn build<'a>(
        &self,
        arena: &mut Arena<'a>,
        backend: usize,
        workers: &'a dyn Workers,
    ) -> Result<Built<'a>, Error> {
        let weights = Weights::resolve(&self.image, &self.config, arena)?;
        let tokenizer = Tokenizer::new(&self.image, arena)?;
        let session = Session::new(self.ops[backend], workers, &self.config, weights, &self.plan, arena)?;
        let sampler = Sampler::new(SamplingConfig::GREEDY, self.config.vocab_size, arena)?;
        Ok(Built { tokenizer, session, sampler })
    }

    /// What is too small, or too many, is refused.
    pub fn refuses(&self, backend: usize, choice: u8) {
        if choice % 4 == 1 {
            let len = self.plan.bytes() - 1 - usize::from(choice) * self.plan.bytes() / 256;
            let mut region = vec![MaybeUninit::uninit(); len];
            let error = self.build(&mut Arena::new(&mut region), backend, &Single).err();
            assert!(error.is_some_and(|error| error.code() == 10), "{len}: {error:?}");
        }
        if choice % 4 == 2 {
            let mut region = vec![MaybeUninit::uninit(); self.plan.bytes()];
            let too_many = Turns(N_WORKERS + usize::from(choice));
            let error = self.build(&mut Arena::new(&mut region), backend, &too_many).err();
            let (n_workers, planned) = (too_many.0, N_WORKERS);
            assert_eq!(error, Some(SessionError::TooManyWorkers { n_workers, planned }.into()));
        }
    }
}

/// All that a caller holds.
pub struct Built<'a> {
    pub tokenizer: Tokenizer<'a, 'static>,
    pub session: Session<'a, 'static>,
    pub sampler: Sampler<'a>,
}

/// A session that nothing is done with but steps, and what it gave.
struct Plain {
    session: Session<'static, 'static>,
    tokens: Vec<Token>,
    known: HashMap<Vec<Token>, Vec<u32>>,
}

impl Plain {
    fn new(world: &World, backend: usize) -> Self {
        let region = vec![MaybeUninit::uninit(); world.plan.bytes()].leak();
        let session = world.build(&mut Arena::new(region), backend, &Single).expect("as planned").session;
        Self { session, tokens: vec![], known: HashMap::new() }
    }

    fn logits(&mut self, tokens: &[Token]) -> &[u32] {
        if !self.known.contains_key(tokens) {
            if self.known.len() > 20_000 {
                self.known.clear();
            }
            if !tokens.starts_with(&self.tokens) {
                self.session.reset();
                self.tokens.clear();
            }
            for &token in &tokens[self.tokens.len()..] {
                let logits = bits(self.session.step(token).expect("a good token"));
                self.tokens.push(token);
                self.known.insert(self.tokens.clone(), logits);
            }
        }
        self.known.get(tokens).map_or(&[], Vec::as_slice)
    }
}

/// So many workers in turn on one core, the last first.
#[derive(Debug)]
pub struct Turns(pub usize);

impl Workers for Turns {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        (0..self.0).rev().for_each(job);
    }
}
