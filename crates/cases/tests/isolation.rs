//! What one user of a memory has to do with the next: nothing. A dirty arena gives the same bits as a fresh one, and what is
//! dropped leaves zeros.

#[path = "support/threads.rs"]
mod threads;

use std::mem::MaybeUninit;
use std::num::NonZeroU32;

use corelm::arena::{Arena, Layout};
use corelm::chat::{ChatTemplate, Message, Role};
use corelm::config::{Architecture, Config};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::cpu::Features;
use corelm::ops::{GgmlType, Ops};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::{Session, SessionError};
use corelm::tokenizer::{Prompt, Specials, TokenKind, Tokenizer};
use corelm::weights::Weights;
use corelm::{Error, Token};
use corelm_cases::synth::{self, SynthConfig, model_bytes, write_model};
use threads::Threads;

/// Heads of a whole block of Q8_0; long enough that workers share the positions of a head.
const SMALL: SynthConfig = SynthConfig {
    vocab_size: 400,
    n_ctx: 600,
    hidden_dim: 64,
    n_heads: 2,
    n_kv_heads: 2,
    ..SynthConfig::TINY
};
const N_PROMPT: usize = 300;

fn models() -> Vec<Vec<u8>> {
    let kinds = [
        (Architecture::Llama, synth::Tokenizer::Spm, GgmlType::Q4_0),
        (Architecture::Qwen2, synth::Tokenizer::Bpe, GgmlType::F16),
        (Architecture::Gpt2, synth::Tokenizer::Bpe, GgmlType::Q8_0),
    ];
    let write = |(arch, tokenizer, ty)| {
        let config = SynthConfig { arch, tokenizer, ty, ..SMALL };
        let mut file = vec![0; model_bytes(&config).unwrap() as usize];
        assert!(write_model(&config, &mut file[..]).unwrap().is_empty());
        file
    };
    kinds.into_iter().map(write).collect()
}

type Region = Vec<MaybeUninit<u8>>;

/// What a tenant sees.
#[derive(PartialEq)]
struct Seen {
    /// Bits of all logits.
    logits: Vec<u32>,
    /// Tokens of its conversation, then those drawn.
    tokens: Vec<Token>,
}

/// A tenant: model, packed weights, tokenizer, prompt, session and sampler, all in `region`. What it held is dropped, or
/// stays in the region.
fn tenant(
    file: &[u8],
    ops: Ops,
    session: SessionConfig,
    content: &[u8],
    region: &mut [MaybeUninit<u8>],
    is_dropped: bool,
) -> Result<Seen, Error> {
    let workers = Threads(session.n_workers);
    let image = Image::parse(file)?;
    let config = Config::from_image(&image)?;
    let plan = MemoryPlan::new(&image, &config, &session)?;
    let mut arena = Arena::new(region);
    let weights = Weights::resolve(&image, &config, &mut arena)?.pack(ops, &mut arena)?;
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    let mut session = Session::new(ops, &workers, &config, weights, &plan, &mut arena)?;
    let mut sampler = Sampler::new(SamplingConfig::BALANCED, config.vocab_size, &mut arena)?;

    let template = ChatTemplate::by_name("chatml")?;
    let messages = [Message { role: Role::User, content }];
    let mut prompt = Prompt::new(template.prompt_bytes(&messages, true)?, &mut arena)?;
    template.write(&messages, true, &mut prompt)?;
    let mut scratch = tokenizer.scratch(prompt.max_bytes(), &mut arena)?;
    let mut tokens = vec![0; 2 * prompt.max_bytes()];
    let n_tokens = tokenizer.encode_prompt(&prompt, &mut scratch, &mut tokens)?;
    tokens.truncate(n_tokens);
    let long: Vec<Token> = tokens.iter().copied().cycle().take(N_PROMPT).collect();

    let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut logits = bits(session.prefill(&long)?);
    for _ in 0..4 {
        let token = sampler.sample(session.logits())?;
        sampler.accept(token);
        tokens.push(token);
        logits.extend(bits(session.step(token)?));
    }
    if !is_dropped {
        std::mem::forget((session, sampler, prompt, scratch));
    }
    Ok(Seen { logits, tokens })
}

fn region_bytes(file: &[u8], session: &SessionConfig) -> usize {
    let image = Image::parse(file).unwrap();
    let plan = MemoryPlan::new(&image, &Config::from_image(&image).unwrap(), session).unwrap();
    plan.bytes() + plan.packed_len() + (1 << 17)
}

#[test]
fn a_dirty_arena_gives_the_bits_of_a_fresh_one() {
    let models = models();
    let mut n_runs = 0;
    for (i, file) in models.iter().enumerate() {
        for (kv_type, n_workers) in [(KvType::F32, 1), (KvType::F16, 3), (KvType::Q8_0, 2)] {
            let config = SessionConfig { n_ctx: 600, n_batch: 16, kv_type, n_workers };
            for ops in Ops::available(Features::detect_host()) {
                let len = models.iter().map(|file| region_bytes(file, &config)).max().unwrap();
                let run = |file, content, region: &mut Region, is_dropped| {
                    tenant(file, ops, config, content, region, is_dropped).unwrap()
                };
                let mine = b"What is in the memory?";
                let fresh = run(file, mine, &mut vec![MaybeUninit::new(0); len], true);
                for byte in [0xA5, 0xFF] {
                    let dirty = run(file, mine, &mut vec![MaybeUninit::new(byte); len], true);
                    assert!(dirty == fresh, "model {i}, {ops:?}, {config:?}: {byte:#x} shows");
                }
                // Behind other tenants, of this model and of another, that have left all they had.
                let mut used = vec![MaybeUninit::new(0); len];
                for other in [file, &models[(i + 1) % models.len()]] {
                    let theirs = run(other, b"a secret of theirs", &mut used, false);
                    assert!(theirs.logits != fresh.logits);
                    let behind = run(file, mine, &mut used, false);
                    assert!(behind == fresh, "model {i}, {ops:?}, {config:?}: others show");
                }
                n_runs += 4;
            }
        }
    }
    println!(
        "figure R16 dirty arenas: {n_runs} runs in arenas of 0xA5, of 0xFF and of others' data: bits of a fresh one"
    );
}

/// Bytes of a region that are not 0.
fn n_left(region: &Region) -> usize {
    // SAFETY: all bytes began as zeros, and what is stored over them, numbers and blocks, has no padding.
    region.iter().filter(|byte| unsafe { byte.assume_init_read() } != 0).count()
}

/// How a session was left.
#[derive(Clone, Copy, Debug)]
enum End {
    Ready,
    /// In the middle of its first batch.
    FirstBatch,
    /// In the middle of a batch behind others.
    Batch,
    Cancelled,
    Truncated,
    /// Numbers broke down.
    NonFinite,
    /// By a call that was refused.
    Refused,
}

#[test]
fn a_session_leaves_zeros_however_it_ends() {
    use End::{Batch, Cancelled, FirstBatch, NonFinite, Ready, Refused, Truncated};
    let mut n_sessions = 0;
    for good in models() {
        let mut damaged = good.clone();
        let norm = Image::parse(&good).unwrap().tensor("blk.1.ffn_norm.weight").unwrap().bytes;
        let at = norm.as_ptr().addr() - good.as_ptr().addr();
        damaged[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        for (kv_type, n_workers) in [(KvType::F32, 1), (KvType::F16, 3), (KvType::Q8_0, 2)] {
            for end in [Ready, FirstBatch, Batch, Cancelled, Truncated, NonFinite, Refused] {
                let file = if matches!(end, NonFinite) { &damaged } else { &good };
                let image = Image::parse(file).unwrap();
                let config = Config::from_image(&image).unwrap();
                let wanted = SessionConfig { n_ctx: 600, n_batch: 16, kv_type, n_workers };
                let plan = MemoryPlan::new(&image, &config, &wanted).unwrap();
                let mut model = vec![MaybeUninit::uninit(); plan.model_bytes()];
                let weights = Weights::resolve(&image, &config, &mut Arena::new(&mut model)).unwrap();
                let mut region: Region = vec![MaybeUninit::new(0); plan.session_bytes()];
                for is_dropped in [true, false] {
                    let workers = Threads(n_workers);
                    let ops = Ops::best(Features::detect_host());
                    let mut arena = Arena::new(&mut region);
                    let mut session =
                        Session::new(ops, &workers, &config, weights, &plan, &mut arena).unwrap();
                    let mut sampler =
                        Sampler::new(SamplingConfig::CREATIVE, config.vocab_size, &mut arena).unwrap();
                    leave(&mut session, &mut sampler, end);
                    if is_dropped {
                        drop((session, sampler));
                    } else {
                        std::mem::forget((session, sampler));
                    }
                    let n = n_left(&region);
                    assert_eq!(n == 0, is_dropped, "{end:?}, {wanted:?}: {n} bytes left");
                }
                n_sessions += 1;
            }
        }
    }
    println!("figure R16 zeros: {n_sessions} sessions, ended in 7 ways: 0 bytes left that are not 0");
}

fn leave(session: &mut Session<'_, '_>, sampler: &mut Sampler<'_>, end: End) {
    let tokens: Vec<Token> = (0..N_PROMPT as Token).map(|i| 5 + i).collect();
    let some = NonZeroU32::new(40).unwrap();
    match end {
        End::FirstBatch => {}
        End::NonFinite => {
            assert!(matches!(session.prefill(&tokens), Err(SessionError::NonFinite { .. })));
            return;
        }
        _ => {
            let token = sampler.sample(session.prefill(&tokens).unwrap()).unwrap();
            sampler.accept(token);
        }
    }
    match end {
        End::FirstBatch | End::Batch | End::Cancelled => {
            session.begin(&tokens[..16]).unwrap();
            session.poll(some).unwrap();
            assert!(session.is_pending());
        }
        End::Truncated => session.truncate(3),
        End::Refused => assert!(session.prefill(&[0; 600]).is_err()),
        End::Ready | End::NonFinite => {}
    }
    if let End::Cancelled = end {
        session.cancel();
    }
}

/// Prompts, and the working memory of every kind of tokenizer.
#[test]
fn texts_leave_zeros() {
    let mut files = models();
    for name in ["unigram", "rwkv", "word-piece"] {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../corelm/tests/tokenizers");
        files.push(std::fs::read(format!("{tests}/{name}.gguf")).unwrap());
    }
    for (i, file) in files.iter().enumerate() {
        let image = Image::parse(file).unwrap();
        let mut region =
            vec![MaybeUninit::uninit(); Tokenizer::layout(&image, Layout::new()).unwrap().bytes()];
        let tokenizer = Tokenizer::new(&image, &mut Arena::new(&mut region)).unwrap();
        // With a control token in it, whose places the search notes.
        let is_control = |&token: &Token| tokenizer.kind(token) == Some(TokenKind::Control);
        let control = (0..tokenizer.vocab_size() as Token).find(is_control).unwrap();
        let secret = ["a secret of 1234 \u{e9}\u{5b57}\u{ff}".as_bytes(), b"\xff\x80 "].concat();
        let content = [secret.repeat(40), tokenizer.piece(control).unwrap().collect()].concat();
        let template = ChatTemplate::by_name("chatml").unwrap();
        let messages = [Message { role: Role::User, content: &content }];
        let n_bytes = template.prompt_bytes(&messages, true).unwrap();
        let layout = tokenizer.scratch_layout(n_bytes, Layout::new()).unwrap();
        for is_dropped in [true, false] {
            let mut texts: Region = vec![MaybeUninit::new(0); n_bytes * 2 + 256];
            let mut work: Region = vec![MaybeUninit::new(0); layout.bytes()];
            let mut prompt = Prompt::new(n_bytes, &mut Arena::new(&mut texts)).unwrap();
            template.write(&messages, true, &mut prompt).unwrap();
            let mut scratch = tokenizer.scratch(n_bytes, &mut Arena::new(&mut work)).unwrap();
            let mut out = vec![0; 2 * n_bytes];
            tokenizer.encode_prompt(&prompt, &mut scratch, &mut out).unwrap();
            tokenizer.encode(&content, Specials::All, &mut scratch, &mut out).unwrap();
            if is_dropped {
                drop((prompt, scratch));
            } else {
                std::mem::forget((prompt, scratch));
            }
            assert_eq!(n_left(&texts) == 0, is_dropped, "file {i}: prompt");
            assert_eq!(n_left(&work) == 0, is_dropped, "file {i}: scratch");
        }
    }
}
