//! A model on this machine: the file mapped, memory found, the back-end chosen.

use std::fs::File;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use corelm::gguf::{Digest, TensorInfo, Verify};
use corelm::ops::{Feature, Features, Ops};
use corelm::tokenizer::Pre;
use corelm::{
    Arena, Config, Image, KvType, MemoryPlan, Sampler, SamplingConfig, Session, SessionConfig, Tokenizer,
    Weights,
};
use memmap2::{Mmap, MmapMut};

use crate::args::{Kv, ModelArgs, SamplingArgs};
use crate::failure::{Failure, Outcome};
use crate::pool::Pool;

/// Most positions that nobody asked for: the memory of a cache grows with them.
const DEFAULT_CTX_SIZE: usize = 4096;

/// A model file, mapped into memory.
pub struct ModelFile {
    path: PathBuf,
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
}

impl ModelFile {
    /// Maps the file at `path`.
    pub fn open(path: &Path) -> Outcome<ModelFile> {
        let cannot = |error| Failure::because(format_args!("cannot open model '{}'", path.display()), error);
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(Failure::because(path.display(), "not a file"));
        }
        let map = match metadata.len() {
            0 => None,
            // SAFETY: the map is read-only and private. As with every mapped file, nobody may shorten or rewrite it
            // while the command runs; what the engine reads from it is checked before it is used as an index.
            _ => Some(unsafe { Mmap::map(&file) }.map_err(cannot)?),
        };
        Ok(ModelFile { path: path.to_owned(), map })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Compares the file with its digest.
    pub fn verify(&self, digest: Digest) -> Outcome {
        Verify::new(self.bytes(), digest).run().map_err(|error| self.because(error))
    }

    /// The parsed container.
    pub fn image(&self) -> Outcome<Image<'_>> {
        Image::parse(self.bytes()).map_err(|error| self.because(error))
    }

    /// A failure that names this file.
    pub fn because(&self, why: impl std::fmt::Display) -> Failure {
        Failure::because(format_args!("model '{}'", self.path.display()), why)
    }
}

/// Values in a tensor.
pub fn n_values(tensor: &TensorInfo<'_>) -> u64 {
    tensor.dims.iter().product()
}

/// The back-end of that name, or the best one.
pub fn ops(name: Option<&str>) -> Outcome<Ops> {
    let features = Features::detect_host();
    let Some(name) = name else { return Ok(Ops::best(features)) };
    Ops::available(features).find(|ops| ops.backend().name() == name).ok_or_else(|| {
        let known: Vec<&str> = Ops::available(features).map(|ops| ops.backend().name()).collect();
        let why = why_missing(name, features);
        Failure::Usage(format!("no back-end '{name}': {why}; there are {}", known.join(", ")))
    })
}

/// What keeps the back-end of that name from a process with these features.
fn why_missing(name: &str, features: Features) -> String {
    let Some(needs) = Ops::needs(name) else { return "this architecture has none of that name".to_owned() };
    let lacking = needs.difference(Feature::of_host_cpu());
    if lacking.is_empty() {
        format!("the operating system does not let it use {}", needs.difference(features.names()))
    } else {
        format!("the CPU lacks {lacking}")
    }
}

/// Bytes for a session, with or without a packed copy of the weights.
pub fn region_len(plan: &MemoryPlan, no_repack: bool) -> usize {
    plan.bytes().saturating_add(if no_repack { 0 } else { plan.packed_len() })
}

/// A setting that the engine refuses.
fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(error.to_string())
}

/// Memory for an arena: pages of 2 MiB where the system has them, which weights are read faster from.
pub struct Region(MmapMut);

impl Region {
    /// `bytes` bytes.
    pub fn new(bytes: usize) -> Outcome<Region> {
        let map = MmapMut::map_anon(bytes.max(1)).map_err(|error| {
            let about = format_args!("the plan needs {bytes} bytes of memory");
            Failure::because(about, error)
        })?;
        // A system without large pages has small ones.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Region(map))
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: bytes that are initialised may be seen as bytes that need not be; the arena writes whole values to them.
        unsafe { &mut *(std::ptr::from_mut::<[u8]>(&mut self.0) as *mut [MaybeUninit<u8>]) }
    }
}

impl SamplingArgs {
    /// The engine's form of them.
    pub fn config(&self) -> SamplingConfig {
        SamplingConfig {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            seed: self.seed,
        }
    }
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> KvType {
        match kv {
            Kv::F32 => KvType::F32,
            Kv::F16 => KvType::F16,
            Kv::Q8_0 => KvType::Q8_0,
        }
    }
}

/// What a command works with once everything is loaded.
pub struct Loaded<'s, 'a, 'm> {
    pub image: &'s Image<'m>,
    pub session: &'s mut Session<'a, 'm>,
    pub tokenizer: &'s Tokenizer<'a, 'm>,
    pub sampler: &'s mut Sampler<'a>,
}

/// Loads the model, makes a session and a sampler, and hands them to `body`.
pub fn with_session(
    args: &ModelArgs,
    sampling: SamplingConfig,
    body: impl FnOnce(Loaded<'_, '_, '_>) -> Outcome,
) -> Outcome {
    let ops = ops(args.backend.as_deref())?;
    let file = ModelFile::open(&args.model)?;
    args.sha256.map_or(Ok(()), |digest| file.verify(digest))?;
    let image = file.image()?;
    let config = Config::from_image(&image).map_err(|error| file.because(error))?;
    let n_ctx = match args.ctx_size {
        None => config.n_ctx_train.min(DEFAULT_CTX_SIZE),
        Some(0) => config.n_ctx_train,
        Some(n_ctx) => n_ctx,
    };
    let wanted = SessionConfig {
        n_ctx,
        n_batch: args.batch_size.get().min(n_ctx),
        kv_type: args.kv.into(),
        n_workers: args.threads.get(),
    };
    let plan = MemoryPlan::new(&image, &config, &wanted).map_err(|error| file.because(error))?;
    let mut region = Region::new(region_len(&plan, args.no_repack))?;
    let mut arena = Arena::new(region.bytes());
    let weights = Weights::resolve(&image, &config, &mut arena).map_err(|error| file.because(error))?;
    let weights = if args.no_repack { weights } else { weights.pack(ops, &mut arena).map_err(usage)? };
    let tokenizer = tokenizer(&file, &image, args.pre, &mut arena)?;
    let pool = Pool::new(args.threads);
    let mut session =
        Session::new(ops, &pool, &config, weights, &plan, &mut arena).map_err(|error| file.because(error))?;
    let mut sampler = Sampler::new(sampling, config.vocab_size, &mut arena).map_err(usage)?;
    body(Loaded { image: &image, session: &mut session, tokenizer: &tokenizer, sampler: &mut sampler })
}

/// Indexes the vocabulary of a model. A file that names no pre-tokenizer gets llama.cpp's `default`, as files of early days did,
/// and a line on standard error says so.
pub fn tokenizer<'a, 'm: 'a>(
    file: &ModelFile,
    image: &Image<'m>,
    pre: Option<Pre>,
    arena: &mut Arena<'a>,
) -> Outcome<Tokenizer<'a, 'm>> {
    let key = |key| image.bytes(key).map_err(|error| file.because(error));
    let is_nameless = key("tokenizer.ggml.model")? == Some(b"gpt2")
        && key("tokenizer.ggml.pre")?.is_none_or(<[u8]>::is_empty);
    let pre = match pre {
        None if is_nameless => {
            eprintln!("corelm: the file names no pre-tokenizer: taking 'default'; --pre takes another");
            Pre::by_name(b"default")
        }
        pre => pre,
    };
    Tokenizer::with_pre(image, pre, arena).map_err(|error| file.because(error))
}
