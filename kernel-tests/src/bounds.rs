//! `mode=bounds`: instructions for each byte of hostile texts and files, from 4 KiB to 64 KiB, and for 100 characters of
//! ordinary text of which nothing is known.
//!
//! Texts are such that searches have most to do: one letter, spaces, random letters, bytes that are no UTF-8, digits, long
//! words, beginnings of control tokens. Files have many keys, many strings, many layers, many tokens. What takes time in
//! proportion to its input takes the same for each byte of a short one and of a long one; `GROWTH_OF_A_WORD` says what takes
//! more, and why. Under `-icount shift=0` counts are instructions and repeat.
//!
//! The vocabularies are synthetic ones, or, where there is an initial ramdisk, the one in it. `plant=square` looks at a
//! part of the text again for every byte of it: the mode must then fail.

use core::fmt::{self, Display};
use core::hint::black_box;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::config::{Architecture, Config};
use corelm::gguf::writer::Writer;
use corelm::gguf::{Image, Value};
use corelm::kv_cache::KvType;
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::tokenizer::{Controls, Specials, TokenKind, Tokenizer};
use corelm::weights::Weights;
use corelm_cases::synth::{self, SynthConfig};

use crate::args::ModelSource;
use crate::board::Context;
use crate::counter::CycleCounter;
use crate::model::{self, EngineError};
use crate::{println, tiny};

/// Sizes of texts, in bytes.
const SIZES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// Ordinary text: English, which does not change.
const ENGLISH: &str = include_str!("../../LICENSE-APACHE");
/// So many bytes of it, which are as many characters, at once.
const SHORT: usize = 100;
const N_SHORT: usize = 48;

/// How much more a byte of an input may take than a byte of a shorter one, in hundredths. (That it takes less is no
/// matter: texts that repeat themselves find more and more in the cache of words.)
const GROWTH: u64 = 110;
/// The same where the whole text is one word: its merges come from a heap, whose depth is a logarithm, 16 for 64 KiB and
/// 12 for 4.
const GROWTH_OF_A_WORD: u64 = 110 * 16 / 12;

/// What a text is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    OneLetter,
    Spaces,
    RandomLetters,
    NoUtf8,
    Digits,
    LongWords,
    LookAlikes,
}

const KINDS: [Kind; 7] = [
    Kind::OneLetter,
    Kind::Spaces,
    Kind::RandomLetters,
    Kind::NoUtf8,
    Kind::Digits,
    Kind::LongWords,
    Kind::LookAlikes,
];

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneLetter => "one_letter",
            Self::Spaces => "spaces",
            Self::RandomLetters => "random_letters",
            Self::NoUtf8 => "no_utf8",
            Self::Digits => "digits",
            Self::LongWords => "long_words",
            Self::LookAlikes => "look_alikes",
        })
    }
}

/// Counts.
///
/// # Errors
///
/// `Broken` when a byte takes more than 1.1 times a byte of a shorter input, where there is no logarithm to explain it.
pub fn run(context: &Context) -> Result<(), EngineError> {
    let is_planted = context.args.plant == "square";
    let mut table = Table { n_broken: 0, filter: &context.args.filter };
    if context.machine.initrd.is_some() {
        let file = model::bytes(context, ModelSource::Initrd)?;
        texts(&mut table, file, &"initrd", is_planted)?;
    } else {
        let vocabularies = [
            ("llama_bpe", Architecture::Llama, synth::Tokenizer::Bpe),
            ("gpt2", Architecture::Gpt2, synth::Tokenizer::Bpe),
            ("qwen2", Architecture::Qwen2, synth::Tokenizer::Bpe),
            ("spm", Architecture::Llama, synth::Tokenizer::Spm),
        ];
        for (name, arch, tokenizer) in vocabularies {
            let n_kv_heads = if arch == Architecture::Gpt2 { 1 } else { SMALLEST.n_kv_heads };
            let config = SynthConfig { arch, tokenizer, n_kv_heads, vocab_size: 4096, ..SMALLEST };
            tiny::with_file(&config, |file| texts(&mut table, file, &name, is_planted))?;
        }
        files(&mut table)?;
    }
    if table.n_broken == 0 { Ok(()) } else { Err(EngineError::Broken("not in proportion to its bytes")) }
}

/// As little beside the vocabulary as can be.
const SMALLEST: SynthConfig =
    SynthConfig { dim: 32, hidden_dim: 32, n_layers: 1, n_heads: 1, n_kv_heads: 1, ..SynthConfig::TINY };

/// What is printed and checked.
struct Table<'c> {
    n_broken: usize,
    /// Rows whose name has this in it.
    filter: &'c str,
}

impl Table<'_> {
    /// A row: instructions for inputs of so many bytes, of which a longer one may take `growth` for each byte.
    fn row(&mut self, name: fmt::Arguments<'_>, counts: &[(usize, u64)], growth: u64) {
        let of = spread(counts);
        self.tell(name, of, of.2, growth);
    }

    /// A row of further bytes: each longer file against the one before, as the first bytes of a file are of another kind.
    /// How much more a byte of whole files takes is told beside it.
    fn row_of_further(&mut self, name: fmt::Arguments<'_>, counts: &[(usize, u64); 5], growth: u64) {
        let mut further = [(0, 0); 4];
        for (further, pair) in further.iter_mut().zip(counts.windows(2)) {
            *further = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        }
        self.tell(name, spread(&further), spread(counts).2, growth);
    }

    fn tell(
        &mut self,
        name: fmt::Arguments<'_>,
        (least, most, grown): (u64, u64, u64),
        whole: u64,
        growth: u64,
    ) {
        let is_bounded = grown <= growth;
        self.n_broken += usize::from(!is_bounded);
        println!(
            "{{\"case\":\"{name}\",\"median\":{most},\"min\":{least},\"growth\":{grown},\"whole\":{whole},\"ok\":{is_bounded}}}"
        );
    }
}

/// The least and the most hundredths of an instruction for each byte, and how much more a byte of a longer input takes than
/// one of a shorter one, in hundredths.
fn spread(counts: &[(usize, u64)]) -> (u64, u64, u64) {
    let (mut least, mut most, mut grown) = (u64::MAX, 0, 0);
    for &(bytes, count) in counts {
        let each = count * 100 / bytes.max(1) as u64;
        (least, most) = (least.min(each), most.max(each));
        grown = grown.max(each * 100 / least.max(1));
    }
    (least, most, grown)
}

/// Counts what it takes to encode and to decode texts of every kind and size.
fn texts(
    table: &mut Table<'_>,
    file: &[u8],
    name: &dyn Display,
    is_planted: bool,
) -> Result<(), EngineError> {
    let image = Image::parse(file)?;
    let mut region = model::block(Tokenizer::layout(&image, Layout::new())?.bytes())?;
    let tokenizer = Tokenizer::new(&image, &mut Arena::new(region.bytes()))?;
    let longest = SIZES[SIZES.len() - 1];
    let control =
        (0..).take(tokenizer.vocab_size()).find(|&token| tokenizer.kind(token) == Some(TokenKind::Control));
    // A text, its tokens (a space may go before), the text that comes back, and working memory.
    let layout = Layout::new().add::<u8>(longest)?.add::<Token>(4 * longest)?.add::<u8>(4 * longest)?;
    let mut region = model::block(tokenizer.scratch_layout(longest, layout)?.bytes())?;
    let mut arena = Arena::new(region.bytes());
    let (text, tokens) = (arena.alloc(longest, 0u8)?, arena.alloc(4 * longest, 0)?);
    let back = arena.alloc(4 * longest, 0u8)?;
    let mut scratch = tokenizer.scratch(longest, &mut arena)?;
    for kind in KINDS {
        let row_name = format_args!("encode/{name}/{kind}");
        if !matches(table.filter, row_name) {
            continue;
        }
        fill(text, kind, control.and_then(|token| tokenizer.piece(token)));
        let specials = if kind == Kind::LookAlikes { Specials::All } else { Specials::Never };
        let (mut encodes, mut decodes) = ([(0, 0); SIZES.len()], [(0, 0); SIZES.len()]);
        for (i, size) in SIZES.into_iter().enumerate() {
            let text = text.get(..size).unwrap_or_default();
            scratch.forget(); // every text is a new one
            let (count, n_tokens) = counted(|| {
                if is_planted {
                    for _ in text {
                        black_box(text.get(..size / 64).map(|part| part.contains(&7)));
                    }
                }
                tokenizer.encode(text, specials, &mut scratch, tokens)
            });
            let n_tokens = n_tokens?;
            encodes[i] = (size, count);
            let of_text = tokens.get(..n_tokens).unwrap_or_default();
            let (count, n_bytes) = counted(|| tokenizer.decode(of_text, Controls::Show, back));
            decodes[i] = (n_bytes?.max(1), count);
        }
        let is_one_word = matches!(kind, Kind::OneLetter | Kind::RandomLetters);
        table.row(row_name, &encodes, if is_one_word { GROWTH_OF_A_WORD } else { GROWTH });
        table.row(format_args!("decode/{name}/{kind}"), &decodes, GROWTH);
    }
    let row_name = format_args!("short/{name}/{SHORT}");
    if matches(table.filter, row_name) {
        let mut counts = [0; N_SHORT];
        for (count, text) in counts.iter_mut().zip(ENGLISH.as_bytes().chunks_exact(SHORT)) {
            scratch.forget();
            let n_tokens;
            (*count, n_tokens) = counted(|| tokenizer.encode(text, Specials::Never, &mut scratch, tokens));
            n_tokens?;
        }
        counts.sort_unstable();
        let (least, median, most) = (counts[0], counts[N_SHORT / 2], counts[N_SHORT - 1]);
        println!(
            "{{\"case\":\"{row_name}\",\"median\":{median},\"min\":{least},\"max\":{most},\"ok\":true}}"
        );
    }
    Ok(())
}

fn matches(filter: &str, name: fmt::Arguments<'_>) -> bool {
    let mut text = heapless::String::<96>::new();
    fmt::write(&mut text, name).is_ok() && text.contains(filter)
}

/// Fills `text`; `control` is the text of a control token.
fn fill(text: &mut [u8], kind: Kind, control: Option<impl Iterator<Item = u8>>) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut look_alike: heapless::Vec<u8, 64> = heapless::Vec::new();
    look_alike.extend(control.into_iter().flatten().take(64));
    look_alike.pop(); // all of it but the last byte
    for (i, byte) in text.iter_mut().enumerate() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = (random >> 33) as usize;
        *byte = match kind {
            Kind::OneLetter => b'a',
            Kind::Spaces => b' ',
            Kind::RandomLetters => b'a' + (draw % 26) as u8,
            Kind::NoUtf8 => 0x80 | (draw % 128) as u8,
            Kind::Digits => b'0' + (draw % 10) as u8,
            Kind::LongWords if i % 512 == 511 => b' ',
            Kind::LongWords => b'a' + (draw % 26) as u8,
            Kind::LookAlikes => look_alike.get(i % look_alike.len().max(1)).copied().unwrap_or(b'<'),
        };
    }
}

/// What a file has many of.
const FILES: [(&str, [usize; 5]); 4] = [
    ("keys", [64, 128, 256, 512, 1000]),
    ("strings", [450, 900, 1800, 3600, 7200]),
    ("layers", [8, 16, 32, 64, 128]),
    ("tokens", [320, 640, 1280, 2560, 5120]),
];

/// Counts what it takes to load files of every kind and size, for each byte before the data of tensors.
fn files(table: &mut Table<'_>) -> Result<(), EngineError> {
    for (name, numbers) in FILES {
        let row_name = format_args!("load/{name}");
        if !matches(table.filter, row_name) {
            continue;
        }
        let mut counts = [(0, 0); 5];
        for (counts, n) in counts.iter_mut().zip(numbers) {
            *counts = match name {
                "keys" | "strings" => metadata(name, n)?,
                "layers" => tiny::with_file(&SynthConfig { n_layers: n, ..SMALLEST }, loaded)?,
                _ => tiny::with_file(&SynthConfig { vocab_size: n, ..SMALLEST }, loaded)?,
            };
        }
        table.row_of_further(row_name, &counts, GROWTH);
    }
    Ok(())
}

/// Bytes before the tensors' data, and the instructions to make the file in `file` ready for a session and for texts.
fn loaded(file: &[u8]) -> Result<(usize, u64), EngineError> {
    let (image, config) = (Image::parse(file)?, Config::from_image(&Image::parse(file)?)?);
    let wanted = SessionConfig { n_ctx: 16, n_batch: 1, kv_type: KvType::F16, n_workers: 1 };
    let plan = MemoryPlan::new(&image, &config, &wanted)?;
    let first = image.tensors().map(|tensor| tensor.bytes.as_ptr().addr()).min().unwrap_or(0);
    let mut region = model::block(plan.model_bytes())?;
    let mut arena = Arena::new(region.bytes());
    let (count, result) = counted(|| {
        let image = Image::parse(file)?;
        let config = Config::from_image(&image)?;
        black_box(MemoryPlan::new(&image, &config, &wanted)?);
        black_box(Weights::resolve(&image, &config, &mut arena)?);
        black_box(Tokenizer::new(&image, &mut arena)?);
        Ok::<_, EngineError>(())
    });
    result?;
    Ok((first - file.as_ptr().addr(), count))
}

/// The same for a file of `n` keys, or of one key with `n` strings, that is no model: it is parsed, and searched for a
/// shape.
fn metadata(kind: &str, n: usize) -> Result<(usize, u64), EngineError> {
    let mut block = model::block(n * 80 + 4096)?;
    let bytes = block.zeroed();
    let n_bytes = bytes.len();
    let broken = |_| EngineError::Broken("no such file");
    let n_keys = if kind == "keys" { n as u64 } else { 1 };
    let mut writer = Writer::new(&mut *bytes, n_keys + 1, 0).map_err(broken)?;
    writer.value("general.architecture", Value::String(b"llama")).map_err(broken)?;
    if kind == "keys" {
        for i in 0..n {
            let mut key = heapless::String::<64>::new();
            let _ = fmt::write(&mut key, format_args!("llama.{i:044}")); // it has room
            writer.value(&key, Value::U32(7)).map_err(broken)?;
        }
    } else {
        writer.strings("strings", (0..n).map(|_| b"s")).map_err(broken)?;
    }
    let n_left = writer.finish().map_err(broken)?.len();
    let file = bytes.get(..n_bytes - n_left).unwrap_or_default();
    let (count, result) = counted(|| Image::parse(file).map(|image| Config::from_image(&image).is_err()));
    if result? { Ok((file.len(), count)) } else { Err(EngineError::Broken("keys without a model make one")) }
}

/// Instructions of `body`, with those of two readings of the counter, and what it gives.
fn counted<R>(body: impl FnOnce() -> R) -> (u64, R) {
    let began = CycleCounter.now();
    let result = body();
    (CycleCounter.now() - began, result)
}
