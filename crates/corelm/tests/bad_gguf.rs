//! Files made to break loaders (`../shared/bad-gguf`), taken all the way from bytes to tokens: each is answered as its
//! manifest says, and so is every prefix and every flipped bit of the metadata of the two good ones.

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::config::Config;
use corelm::error::{ErrorClass, ModelError};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::cpu::Features;
use corelm::ops::{Ops, Single};
use corelm::plan::{MemoryPlan, PlanError, SessionConfig};
use corelm::sampler::{Sampler, SamplerError, SamplingConfig};
use corelm::session::{Session, SessionError};
use corelm::tokenizer::{Specials, Tokenizer};
use corelm::weights::Weights;
use serde_json::Value as Json;
use std::fs;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

/// The folder, or `None` (and a word) when it is not beside the repository.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/bad-gguf");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no ../shared/bad-gguf, and CI is set");
    println!("skipped: no ../shared");
    None
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Hands `bytes` to `read` in memory that ends where they end, at an odd address.
fn at_odd_address<T>(bytes: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
    let mut padded = Vec::with_capacity(bytes.len() + 1);
    padded.push(0);
    padded.extend_from_slice(bytes);
    // To Miri bytes may lie anywhere.
    assert!(cfg!(miri) || padded.as_ptr().addr().is_multiple_of(2));
    read(&padded[1..])
}

/// The prompt of all cases; its tokens for the good models are in `expected.json`.
const PROMPT: &[u8] = b"the cat and";
const N_GENERATED: usize = 8;
const SESSION: SessionConfig = SessionConfig { n_ctx: 32, n_batch: 4, kv_type: KvType::F16, n_workers: 1 };

/// Why there are no tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    Load(ModelError),
    Plan(PlanError),
    /// The vocabulary cannot express the prompt.
    Prompt,
    Step(SessionError),
    Sample(SamplerError),
}

/// The class of an error met before the first step, as the manifest writes it.
fn class(failure: Failure) -> Option<String> {
    let class = match failure {
        Failure::Load(error) | Failure::Plan(PlanError::Model(error)) => error.class(),
        Failure::Plan(_) => ErrorClass::Memory,
        Failure::Prompt | Failure::Step(_) | Failure::Sample(_) => return None,
    };
    Some(format!("{class:?}").to_uppercase())
}

/// Loads a model and gives the tokens of the prompt and of a greedy continuation.
fn run(file: &[u8], ops: Ops) -> Result<(Vec<Token>, Vec<Token>), Failure> {
    let image = Image::parse(file).map_err(Failure::Load)?;
    let config = Config::from_image(&image).map_err(Failure::Load)?;
    let plan = MemoryPlan::new(&image, &config, &SESSION).map_err(Failure::Plan)?;
    let mut region = vec![MaybeUninit::uninit(); plan.bytes()];
    let mut arena = Arena::new(&mut region);
    let weights = Weights::resolve(&image, &config, &mut arena).map_err(Failure::Load)?;
    assert_eq!(weights.layers.len(), config.n_layers);
    let tokenizer = Tokenizer::new(&image, &mut arena).map_err(Failure::Load)?;
    assert_eq!(tokenizer.vocab_size(), config.vocab_size);
    let mut session =
        Session::new(ops, &Single, &config, weights, &plan, &mut arena).map_err(Failure::Step)?;
    let mut sampler =
        Sampler::new(SamplingConfig::GREEDY, config.vocab_size, &mut arena).map_err(Failure::Sample)?;
    let stats = arena.stats();
    assert_eq!(stats.used, stats.capacity, "the plan is exact");

    let prompt = prompt(&tokenizer);
    if prompt.is_empty() {
        return Err(Failure::Prompt);
    }
    let mut generated = Vec::new();
    let mut logits = session.prefill(&prompt).map_err(Failure::Step)?;
    loop {
        let token = sampler.sample(logits).map_err(Failure::Sample)?;
        assert!((token as usize) < config.vocab_size);
        generated.push(token);
        if generated.len() == N_GENERATED {
            return Ok((prompt, generated));
        }
        logits = session.step(token).map_err(Failure::Step)?;
    }
}

/// BOS, if the model asks for it, and the tokens of [`PROMPT`]; nothing when the vocabulary cannot express it.
fn prompt(tokenizer: &Tokenizer<'_, '_>) -> Vec<Token> {
    let scratch = tokenizer.scratch_layout(PROMPT.len(), Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); scratch.bytes()];
    let mut scratch = tokenizer.scratch(PROMPT.len(), &mut Arena::new(&mut region)).unwrap();
    let mut tokens = vec![0; 64];
    let encoded = tokenizer.encode_with_bos(PROMPT, Specials::Never, &mut scratch, &mut tokens);
    tokens.truncate(encoded.unwrap_or(0));
    assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab_size()));
    tokens
}

/// Runs twice; equal bytes must give equal answers.
fn run_twice(file: &[u8], ops: Ops) -> Result<(Vec<Token>, Vec<Token>), Failure> {
    let (first, second) = at_odd_address(file, |file| (run(file, ops), run(file, ops)));
    assert_eq!(first, second);
    first
}

/// The prompt and greedy tokens that llama.cpp gives for a good model.
fn expected(folder: &Path, model: &str) -> (Vec<Token>, Vec<Token>) {
    let json = json(&folder.join("expected.json"));
    let tokens = |key: &str| serde_json::from_value(json["models"][model][key].clone()).unwrap();
    (tokens("prompt_tokens"), tokens("greedy_tokens"))
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn the_good_models_give_the_tokens_of_llama_cpp() {
    let Some(folder) = folder() else { return };
    for name in ["valid-mini", "valid-tiny"] {
        let file = fs::read(folder.join(format!("{name}.gguf"))).unwrap();
        for ops in Ops::available(Features::detect_host()) {
            assert_eq!(run_twice(&file, ops), Ok(expected(&folder, name)), "{name}, {ops:?}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn every_case_is_answered_as_the_manifest_says() {
    let Some(folder) = folder() else { return };
    let manifest = json(&folder.join("manifest.json"));
    let mini = expected(&folder, "valid-mini");
    let mut wrong = Vec::new();
    for case in manifest.as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap();
        let (id, expect) = (text("id"), text("expect"));
        let file = fs::read(folder.join(format!("cases/{id}.gguf"))).unwrap();
        for ops in Ops::available(Features::detect_host()) {
            let answer = run_twice(&file, ops);
            let is_right = match &answer {
                Ok(tokens) => expect == "reject-or-safe" || expect == "accept" && *tokens == mini,
                Err(failure) => match class(*failure) {
                    Some(found) => expect != "accept" && is_true_class(id, text("error"), &found),
                    None => expect == "reject-or-safe",
                },
            };
            if !is_right {
                wrong.push(format!("{id}: {expect} {}, but {answer:?} by {ops:?}", text("error")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let (n_cases, n_backends) =
        (manifest.as_array().unwrap().len(), Ops::available(Features::detect_host()).count());
    println!(
        "figure R2 host: {n_cases} files, each twice on {n_backends} back-ends: 0 crashes, 0 wrong answers"
    );
}

/// What is read of the metadata: the bytes of a plan, or the code of the error.
fn metadata(file: &[u8]) -> Result<usize, u32> {
    let image = Image::parse(file).map_err(ModelError::code)?;
    let layout = Tokenizer::layout(&image, Layout::new());
    let config = Config::from_image(&image).map_err(ModelError::code)?;
    let plan = MemoryPlan::new(&image, &config, &SESSION).map_err(PlanError::code)?;
    assert!(layout.is_ok_and(|layout| layout.bytes() <= plan.bytes()));
    let mut region = vec![MaybeUninit::uninit(); plan.items().weights + 64];
    Weights::resolve(&image, &config, &mut Arena::new(&mut region)).map_err(ModelError::code)?;
    Ok(plan.bytes())
}

/// Metadata alone, which Miri has the time for. Its lines are compared between architectures by `cargo xtask sanitize`.
#[test]
fn metadata_of_every_case_is_answered() {
    let Some(folder) = folder() else { return };
    let manifest = json(&folder.join("manifest.json"));
    let mut n_refused = 0;
    for case in manifest.as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let file = fs::read(folder.join(format!("cases/{id}.gguf"))).unwrap();
        let answer = at_odd_address(&file, metadata);
        assert!(
            answer.is_err() || case["error"] != "SHAPE" || case["expect"] != "reject",
            "{id}: {answer:?}"
        );
        assert!(answer.is_ok() || case["expect"] != "accept", "{id}: {answer:?}");
        n_refused += usize::from(answer.is_err());
        // Of a plan that there is, its size is another one where pointers have another size.
        println!("answer: {id} {:?}", answer.map(|_| ()));
    }
    assert!(n_refused >= 80, "{n_refused}");
}

/// Whether `found` is a true class for a case: the manifest's, or what this reader rightly sees before it.
fn is_true_class(id: &str, manifest: &str, found: &str) -> bool {
    let seen_before = [
        ("hdr-ntensors-minus1", "SHAPE"), // the tensor that is not counted is missed
        ("hdr-ntensors-plus1", "TRUNCATED"), // tensor data, read as an info, announces a long name
        ("hdr-ntensors-zero", "SHAPE"),   // every tensor is missed
        ("kv-keylen-65536", "TRUNCATED"), // the file is shorter than the key
        ("sh-k-asq", "FORMAT"),           // the wider tensor overlaps the next
        ("ti-ndims-1", "UNSUPPORTED"),    // the second dimension is read as the type
    ];
    manifest == found || seen_before.contains(&(id, found))
}

/// Every size of the region, at every base in turn: below the plan an error, from there on enough.
#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn every_size_of_the_arena_is_an_error_or_enough() {
    let Some(folder) = folder() else { return };
    let file = fs::read(folder.join("valid-mini.gguf")).unwrap();
    let image = Image::parse(&file).unwrap();
    let config = Config::from_image(&image).unwrap();
    let plan = MemoryPlan::new(&image, &config, &SESSION).unwrap();
    let start = |region: &mut [MaybeUninit<u8>]| {
        let arena = &mut Arena::new(region);
        let weights = Weights::resolve(&image, &config, arena).map_err(Failure::Load)?;
        Tokenizer::new(&image, arena).map_err(Failure::Load)?;
        Session::new(Ops::scalar(), &Single, &config, weights, &plan, arena).map_err(Failure::Step)?;
        Sampler::new(SamplingConfig::GREEDY, config.vocab_size, arena).map_err(Failure::Sample)?;
        Ok::<_, Failure>(())
    };
    let mut region = vec![MaybeUninit::uninit(); plan.bytes() + 128];
    for len in 0..=plan.bytes() + 64 {
        let base = len % 64;
        let answer = start(&mut region[base..base + len]);
        assert_eq!(answer.is_ok(), len >= plan.bytes(), "{len} bytes at {base}: {answer:?}");
    }
    let (n, most) = (plan.bytes() + 65, plan.bytes() + 64);
    println!(
        "figure R7 arenas: {n} sizes, 0 to {most} bytes, at bases 0 to 63 in turn: an error below the plan"
    );
    println!("figure R6 plans: {} bytes planned, and not one of them can be spared", plan.bytes());
}

/// Where the last tensor ends; padding may follow.
fn end_of_data(file: &[u8]) -> usize {
    let image = Image::parse(file).unwrap();
    let last = image.tensors().map(|tensor| tensor.bytes.as_ptr_range().end.addr()).max().unwrap();
    last - file.as_ptr().addr()
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn every_prefix_is_cut_short() {
    let Some(folder) = folder() else { return };
    let mut n_cuts = 0;
    for name in ["valid-mini", "valid-tiny"] {
        let file = fs::read(folder.join(format!("{name}.gguf"))).unwrap();
        let data_end = end_of_data(&file);
        for len in 0..data_end {
            let answer = at_odd_address(&file[..len], |file| run(file, Ops::scalar()));
            assert!(
                matches!(answer, Err(Failure::Load(ModelError::Truncated { .. }))),
                "{name} cut to {len}: {answer:?}"
            );
        }
        n_cuts += data_end;
    }
    println!("figure R4 cuts: {n_cuts} lengths of two files, all refused as cut short");
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn every_flipped_bit_of_metadata_is_survived() {
    let Some(folder) = folder() else { return };
    let (mut n_flips, mut n_refused) = (0, 0);
    for (name, n_bytes) in [("valid-mini", 6_237), ("valid-tiny", 6_819)] {
        let mut file = vec![0];
        file.extend(fs::read(folder.join(format!("{name}.gguf"))).unwrap());
        let ops = Ops::best(Features::detect_host());
        for bit in 0..n_bytes * 8 {
            let flip = |file: &mut [u8]| file[1 + bit / 8] ^= 1 << (bit % 8);
            flip(&mut file);
            let answer = run(&file[1..], ops);
            assert_eq!(run(&file[1..], ops), answer, "{name}, bit {bit}");
            n_refused += usize::from(answer.is_err());
            flip(&mut file);
        }
        n_flips += n_bytes * 8;
        assert_eq!(run(&file[1..], ops), Ok(expected(&folder, name)));
    }
    println!(
        "figure R4 flips: {n_flips} bits of metadata, {n_refused} refused, the rest ran; each twice the same"
    );
}
