//! How the caller's core rounds, flushes and traps changes nothing in an answer, and is as before afterwards.
//!
//! The strangest mode unmasks every exception: one float computed in the caller's mode, on any worker, is a signal that ends
//! the test.

use std::hint::black_box;
use std::mem::MaybeUninit;

use corelm::arena::{Arena, Layout};
use corelm::config::{Architecture, Config};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Features, GgmlType, Ops, Workers};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::sampler::{Sampler, SamplingConfig};
use corelm::session::Session;
use corelm::tokenizer::{Specials, Tokenizer};
use corelm::weights::Weights;
use corelm::{Error, Token};
use corelm_cases::synth::{SynthConfig, model_bytes, write_model};

/// The register that says how floats are computed.
#[cfg(target_arch = "x86_64")]
mod mode {
    use std::arch::asm;

    pub type Mode = u32;

    /// Masks of the exceptions.
    const MASKS: Mode = 0x1f80;
    const FLUSH_TO_ZERO: Mode = 1 << 15;
    const DENORMALS_ARE_ZEROS: Mode = 1 << 6;
    const DOWN: Mode = 1 << 13;
    const UP: Mode = 2 << 13;
    const TO_ZERO: Mode = 3 << 13;

    pub const STRANGE: &[Mode] = &[
        MASKS | TO_ZERO,
        MASKS | UP,
        MASKS | DOWN,
        MASKS | FLUSH_TO_ZERO | DENORMALS_ARE_ZEROS,
        TO_ZERO | FLUSH_TO_ZERO | DENORMALS_ARE_ZEROS,
    ];

    pub fn read() -> Mode {
        let mut mode = 0;
        // SAFETY: stores four bytes to where there are four.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        mode
    }

    /// # Safety
    ///
    /// No float is computed until the mode is the default again, except by what this test tests.
    pub unsafe fn write(mode: Mode) {
        // SAFETY: loads four bytes from where there are four, no reserved bit among them; the caller answers for the rest.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
    }
}

/// FPCR; Linux lets no process trap, so no mode does.
#[cfg(target_arch = "aarch64")]
mod mode {
    use std::arch::asm;

    pub type Mode = u64;

    const ALTERNATIVE_HALVES: Mode = 1 << 26;
    const DEFAULT_NAN: Mode = 1 << 25;
    const FLUSH_TO_ZERO: Mode = 1 << 24;
    const UP: Mode = 1 << 22;
    const DOWN: Mode = 2 << 22;
    const TO_ZERO: Mode = 3 << 22;

    pub const STRANGE: &[Mode] =
        &[UP, DOWN, FLUSH_TO_ZERO, TO_ZERO | FLUSH_TO_ZERO | DEFAULT_NAN | ALTERNATIVE_HALVES];

    pub fn read() -> Mode {
        let mode;
        // SAFETY: reads a register.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nostack, preserves_flags)) };
        mode
    }

    /// # Safety
    ///
    /// No float is computed until the mode is the default again, except by what this test tests.
    pub unsafe fn write(mode: Mode) {
        // SAFETY: the caller answers for what is computed in this mode.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags)) };
    }
}

/// Three threads for each job; a thread begins in the mode of the one that started it.
struct Threads;

impl Workers for Threads {
    fn count(&self) -> usize {
        3
    }

    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| (0..3).for_each(|i| drop(scope.spawn(move || job(i)))));
    }
}

/// All that an answer is made of.
#[derive(PartialEq)]
struct Answer {
    text: Vec<Token>,
    logits: Vec<u32>,
    drawn: Vec<Token>,
    mode_before: mode::Mode,
    mode_after: mode::Mode,
}

/// From the bytes of a file to tokens drawn, in `mode`.
fn answer(file: &[u8], ops: Ops, region: &mut [MaybeUninit<u8>], mode: mode::Mode) -> Answer {
    let usual = mode::read();
    // SAFETY: until the mode is written back below, floats are the engine's alone.
    unsafe { mode::write(mode) };
    let answer = black_box(try_answer)(file, ops, region);
    // SAFETY: the mode this thread began with.
    unsafe { mode::write(usual) };
    answer.expect("a good file")
}

fn try_answer(file: &[u8], ops: Ops, region: &mut [MaybeUninit<u8>]) -> Result<Answer, Error> {
    let mode_before = mode::read();
    let image = Image::parse(file)?;
    let config = Config::from_image(&image)?;
    let wanted = SessionConfig { n_ctx: 300, n_batch: 64, kv_type: KvType::F16, n_workers: 3 };
    let plan = MemoryPlan::new(&image, &config, &wanted)?;
    let mut arena = Arena::new(region);
    let weights = Weights::resolve(&image, &config, &mut arena)?.pack(ops, &mut arena)?;
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    let mut session = Session::new(ops, &Threads, &config, weights, &plan, &mut arena)?;
    let mut sampler = Sampler::new(SamplingConfig::BALANCED, config.vocab_size, &mut arena)?;
    let (mut drawn, mut logits) = (Vec::new(), Vec::new());
    let text = encode(&tokenizer)?;
    // So many that workers share out positions.
    let prompt: Vec<Token> = text.iter().copied().cycle().take(280).collect();
    let mut bits = |row: &[f32]| logits.extend(row.iter().map(|x| x.to_bits()));
    bits(session.prefill(&prompt)?);
    for _ in 0..8 {
        let token = sampler.sample(session.logits())?;
        sampler.accept(token);
        drawn.push(token);
        bits(session.step(token)?);
    }
    Ok(Answer { text, logits, drawn, mode_before, mode_after: mode::read() })
}

fn encode(tokenizer: &Tokenizer<'_, '_>) -> Result<Vec<Token>, Error> {
    let text = "The kernel maps a page, then 1234 \u{e9}\u{5b57} more\n";
    let layout = tokenizer.scratch_layout(text.len(), Layout::new())?;
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut scratch = tokenizer.scratch(text.len(), &mut Arena::new(&mut region))?;
    let mut tokens = vec![0; 2 * text.len()];
    let n = tokenizer.encode(text.as_bytes(), Specials::Never, &mut scratch, &mut tokens)?;
    tokens.truncate(n);
    Ok(tokens)
}

/// Makes the embedding, or the scales of its blocks, subnormal: a mode that flushes such numbers leaves nothing of an F32
/// one, neither as input nor where it is the output too.
fn make_subnormal(file: &mut [u8], ty: GgmlType) {
    let (at, len) = {
        let image = Image::parse(file).expect("a good file");
        let bytes = image.tensor("token_embd.weight").expect("an embedding").bytes;
        (bytes.as_ptr().addr() - file.as_ptr().addr(), bytes.len())
    };
    for block in file[at..at + len].chunks_exact_mut(ty.block_bytes().get()) {
        match ty {
            GgmlType::F32 => (block[3], block[2]) = (block[3] & 0x80, block[2] & 0x7f),
            _ => block[1] &= 0x83, // a half
        }
    }
}

#[test]
fn the_callers_mode_changes_nothing_and_comes_back() {
    let models = [
        (Architecture::Llama, GgmlType::Q4_0, false),
        (Architecture::Llama, GgmlType::F16, false),
        (Architecture::Qwen2, GgmlType::Q8_0, false),
        (Architecture::Gpt2, GgmlType::F32, false),
        (Architecture::Llama, GgmlType::F32, true),
        (Architecture::Gpt2, GgmlType::F32, true),
        (Architecture::Llama, GgmlType::F16, true),
        (Architecture::Qwen2, GgmlType::Q8_0, true),
    ];
    let mut n_runs = 0;
    for (arch, ty, is_subnormal) in models {
        let n_kv_heads = if arch == Architecture::Gpt2 { 4 } else { 2 };
        let config = SynthConfig { arch, ty, n_kv_heads, n_ctx: 300, ..SynthConfig::TINY };
        let mut file = vec![0; model_bytes(&config).unwrap() as usize];
        assert!(write_model(&config, &mut file[..]).unwrap().is_empty());
        if is_subnormal {
            make_subnormal(&mut file, ty);
        }
        let mut region = vec![MaybeUninit::uninit(); 4 << 20];
        for ops in Ops::available(Features::detect_host()) {
            let want = answer(&file, ops, &mut region, mode::read());
            assert!(
                want.logits.iter().any(|bits| bits << 1 != 0),
                "{arch:?} {ty:?} {ops:?}: nothing but zeros"
            );
            for &mode in mode::STRANGE {
                let have = answer(&file, ops, &mut region, mode);
                let about = format!("{arch:?} {ty:?} {ops:?}, subnormal: {is_subnormal}, in mode {mode:#x}");
                assert_eq!(have.mode_before, mode, "{about}: was not the caller's");
                assert_eq!(have.mode_after, mode, "{about}: did not come back");
                assert_eq!(have.text, want.text, "{about}: tokens of the text");
                assert!(have.logits == want.logits, "{about}: logits");
                assert_eq!(have.drawn, want.drawn, "{about}: tokens drawn");
                n_runs += 1;
            }
        }
    }
    println!(
        "figure R11 float mode: {n_runs} runs in other modes of rounding, flushing and traps: the same bits"
    );
}

/// Sums of scores decide among the ways to cut a text.
#[test]
fn a_unigram_vocabulary_cuts_alike_in_every_mode() {
    for name in ["unigram", "unigram-keep", "unigram-user"] {
        let path = format!("{}/../corelm/tests/tokenizers/{name}.gguf", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read(path).unwrap();
        let cut = |mode| {
            let usual = mode::read();
            // SAFETY: until the mode is written back below, floats are the engine's alone.
            unsafe { mode::write(mode) };
            let tokens = black_box(unigram)(&file);
            let after = mode::read();
            // SAFETY: the mode this thread began with.
            unsafe { mode::write(usual) };
            assert_eq!(after, mode);
            tokens.unwrap()
        };
        let want = cut(mode::read());
        assert!(want.len() > 10);
        for &mode in mode::STRANGE {
            assert_eq!(cut(mode), want, "{name} in mode {mode:#x}");
        }
    }
}

fn unigram(file: &[u8]) -> Result<Vec<Token>, Error> {
    let image = Image::parse(file)?;
    let mut region = vec![MaybeUninit::uninit(); Tokenizer::layout(&image, Layout::new())?.bytes()];
    let tokenizer = Tokenizer::new(&image, &mut Arena::new(&mut region))?;
    encode(&tokenizer)
}

/// The modes do what they are there for.
#[test]
fn a_strange_mode_shows_where_nobody_guards() {
    #[inline(never)]
    fn divide() -> (f32, f32) {
        (black_box(2.0) / black_box(3.0), black_box(f32::MIN_POSITIVE) / black_box(4.0))
    }
    let (usual, want) = (mode::read(), divide());
    let n_modes = mode::STRANGE.len() - 1; // the last one would be a signal here
    let strange = mode::STRANGE[..n_modes].iter().filter(|&&mode| {
        // SAFETY: the one division is what is looked at.
        unsafe { mode::write(mode) };
        let have = divide();
        // SAFETY: the mode this thread began with.
        unsafe { mode::write(usual) };
        have != want
    });
    assert!(strange.count() >= 2);
}
