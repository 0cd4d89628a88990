//! The kernel command line: `key=value` words that say what to do.
//!
//! A value with spaces stands in double quotes; inside them `\"`, `\\` and `\n` mean what they do in C. Unknown keys and
//! values are errors, so that a misspelt option never runs something else.
//!
//! | key | values | default |
//! |---|---|---|
//! | `mode` | `run`, `generate`, `shell`, `test`, `bench`, `golden`, `interrupts`, `faults`, `work`, `bounds` | `run` |
//! | `model` | `demo` (embedded), `initrd` | `initrd` when there is one, else `demo` |
//! | `sha256` | 64 hexadecimal digits: the digest that the model's file must have, before it is read | none |
//! | `texts` | how many bytes at the end of the initial ramdisk are texts and no model ([`crate::texts`]) | 0 |
//! | `prompt` | text | the demo prompt |
//! | `n` | tokens to generate; calls to interrupt, for each back-end | 64 |
//! | `ids` | token ids to feed in `golden` mode: `1,403,407` | none |
//! | `ctx` | positions of the context | the model's own, at most 512 |
//! | `kv` | `f32`, `f16`, `q8_0` | `f16` |
//! | `backend` | a back-end's name, for the model and the tests | the best for the model, all for the tests |
//! | `smp` | cores to use | all |
//! | `json` | `0`, `1` | 0 |
//! | `full` | `0`, `1`: in an emulator too, run the benchmark cases that take long there | 0 |
//! | `filter` | part of a case's or a test's name | all |
//! | `plant` | a fault for a mode's own test to find: the mode says which there are | none |

use core::fmt;

use corelm::gguf::Digest;
use heapless::{String, Vec};

/// Longest prompt, in bytes.
pub const MAX_PROMPT: usize = 1536;
/// Most token ids that `ids` takes.
pub const MAX_IDS: usize = 256;
/// Longest name of a back-end or filter, in bytes.
pub const MAX_NAME: usize = 64;

/// What the kernel does after start-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Generates text, then runs the benchmark suite.
    #[default]
    Run,
    /// Generates exactly as many tokens as asked for.
    Generate,
    /// Reads commands from the console.
    Shell,
    /// Runs the conformance list on every back-end.
    Test,
    /// Runs the benchmark suite.
    Bench,
    /// Prints the logits at each position while given ids are fed; without ids the same as [`Mode::Generate`].
    Golden,
    /// Interrupts the engine at many places of a token.
    Interrupts,
    /// The same, with an SError that the engine survives, or that ends the call.
    Faults,
    /// Counts the instructions of every token of a vocabulary, and of every slice of a text.
    Work,
    /// Counts the instructions for each byte of hostile texts and files.
    Bounds,
}

/// Where the model comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModelSource {
    /// The model linked into the kernel.
    Demo,
    /// The initial ramdisk.
    Initrd,
}

/// Element type of the KV cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kv {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Blocks of 8-bit integers.
    Q8_0,
}

/// The command line, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Args {
    /// What to do.
    pub mode: Mode,
    /// Which model; `None` for the default.
    pub model: Option<ModelSource>,
    /// What the file of that model must be; `None` when anything will do.
    pub sha256: Option<Digest>,
    /// Bytes of texts behind the model in the initial ramdisk.
    pub texts: usize,
    /// Text to go on from; `None` for the default.
    pub prompt: Option<String<MAX_PROMPT>>,
    /// Tokens to generate.
    pub n: usize,
    /// Token ids for [`Mode::Golden`].
    pub ids: Vec<u32, MAX_IDS>,
    /// Positions of the context; `None` for the default.
    pub ctx: Option<usize>,
    /// Type of the KV cache.
    pub kv: Kv,
    /// Name of the back-end; `None` for the best.
    pub backend: Option<String<MAX_NAME>>,
    /// Most cores to use; `None` for all.
    pub smp: Option<usize>,
    /// Whether results are printed as JSON lines too.
    pub json: bool,
    /// Whether an emulator runs the long benchmark cases too.
    pub full: bool,
    /// Only cases or tests whose name has this in it.
    pub filter: String<MAX_NAME>,
    /// What to break on purpose; empty for nothing.
    pub plant: String<MAX_NAME>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            mode: Mode::Run,
            model: None,
            sha256: None,
            texts: 0,
            prompt: None,
            n: 64,
            ids: Vec::new(),
            ctx: None,
            kv: Kv::F16,
            backend: None,
            smp: None,
            json: false,
            full: false,
            filter: String::new(),
            plant: String::new(),
        }
    }
}

/// Why a command line is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArgsError<'a> {
    /// The word that is wrong.
    pub word: &'a str,
    /// What would be right.
    pub expected: &'static str,
}

impl fmt::Display for ArgsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel command line: `{}`: expected {}", self.word, self.expected)
    }
}

impl Args {
    /// Reads a command line.
    ///
    /// # Errors
    ///
    /// The first word that is not understood, and what would be.
    pub fn parse(line: &str) -> Result<Self, ArgsError<'_>> {
        let mut args = Self::default();
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            let (word, after) = split_word(rest);
            rest = after.trim_start();
            let wrong = |expected| ArgsError { word, expected };
            let (key, value) = word.split_once('=').ok_or(wrong("key=value"))?;
            match key {
                "mode" => {
                    args.mode = mode(value).ok_or(wrong(
                        "run, generate, shell, test, bench, golden, interrupts, faults, work or bounds",
                    ))?
                }
                "model" => args.model = Some(model(value).ok_or(wrong("demo or initrd"))?),
                "sha256" => {
                    args.sha256 = Some(Digest::from_hex(value).ok_or(wrong("64 hexadecimal digits"))?);
                }
                "texts" => args.texts = value.parse().map_err(|_| wrong("a number of bytes"))?,
                "prompt" => {
                    args.prompt = Some(
                        unquote(value)
                            .ok_or(wrong("at most 1536 bytes, in double quotes if it has spaces"))?,
                    );
                }
                "n" => args.n = value.parse().map_err(|_| wrong("a number of tokens"))?,
                "ids" => args.ids = ids(value).ok_or(wrong("at most 256 numbers with commas between"))?,
                "ctx" => args.ctx = Some(positive(value).ok_or(wrong("a number of positions above 0"))?),
                "kv" => args.kv = kv(value).ok_or(wrong("f32, f16 or q8_0"))?,
                "backend" => args.backend = Some(name(value).ok_or(wrong("at most 64 bytes"))?),
                "smp" => args.smp = Some(positive(value).ok_or(wrong("a number of cores above 0"))?),
                "json" => args.json = flag(value).ok_or(wrong("0 or 1"))?,
                "full" => args.full = flag(value).ok_or(wrong("0 or 1"))?,
                "filter" => args.filter = name(value).ok_or(wrong("at most 64 bytes"))?,
                "plant" => args.plant = name(value).ok_or(wrong("at most 64 bytes"))?,
                _ => {
                    return Err(wrong(
                        "mode, model, sha256, texts, prompt, n, ids, ctx, kv, backend, smp, json, full, filter or plant",
                    ));
                }
            }
        }
        Ok(args)
    }
}

/// Splits off the first word; spaces between double quotes do not end it.
fn split_word(text: &str) -> (&str, &str) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            b' ' | b'\t' | b'\n' if !is_quoted => return text.split_at(at),
            _ => {}
        }
    }
    (text, "")
}

/// The value without its quotes and escapes; `None` when a quote is left open, or it is too long.
fn unquote<const N: usize>(value: &str) -> Option<String<N>> {
    let mut text = String::new();
    let mut is_quoted = false;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '"' => {
                is_quoted = !is_quoted;
                continue;
            }
            '\\' if is_quoted => match chars.next()? {
                'n' => '\n',
                other => other,
            },
            other => other,
        };
        text.push(c).ok()?;
    }
    (!is_quoted).then_some(text)
}

fn mode(value: &str) -> Option<Mode> {
    Some(match value {
        "run" => Mode::Run,
        "generate" => Mode::Generate,
        "shell" => Mode::Shell,
        "test" => Mode::Test,
        "bench" => Mode::Bench,
        "golden" => Mode::Golden,
        "interrupts" => Mode::Interrupts,
        "faults" => Mode::Faults,
        "work" => Mode::Work,
        "bounds" => Mode::Bounds,
        _ => return None,
    })
}

fn model(value: &str) -> Option<ModelSource> {
    match value {
        "demo" => Some(ModelSource::Demo),
        "initrd" => Some(ModelSource::Initrd),
        _ => None,
    }
}

fn kv(value: &str) -> Option<Kv> {
    match value {
        "f32" => Some(Kv::F32),
        "f16" => Some(Kv::F16),
        "q8_0" => Some(Kv::Q8_0),
        _ => None,
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn positive(value: &str) -> Option<usize> {
    value.parse().ok().filter(|count| *count > 0)
}

fn name<const N: usize>(value: &str) -> Option<String<N>> {
    String::try_from(value).ok()
}

fn ids(value: &str) -> Option<Vec<u32, MAX_IDS>> {
    let mut ids = Vec::new();
    for id in value.split(',') {
        ids.push(id.parse().ok()?).ok()?;
    }
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_means_the_defaults() {
        assert_eq!(Args::parse("  "), Ok(Args::default()));
    }

    #[test]
    fn every_key_is_read() {
        let line = r#"mode=golden model=initrd prompt="a \"b\"\n c\\" n=5 ids=1,403,407 ctx=256 kv=q8_0
            backend=neon smp=2 json=1 filter=gemv/ plant=x texts=70000"#;
        let hex = "0123456789abcdef".repeat(4);
        let line = format!("{line} sha256={hex}");
        let args = Args::parse(&line).unwrap();
        assert_eq!(args.sha256, Digest::from_hex(&hex));
        assert_eq!((args.mode, args.model), (Mode::Golden, Some(ModelSource::Initrd)));
        assert_eq!(args.prompt.unwrap(), "a \"b\"\n c\\");
        assert_eq!((args.n, args.ids.as_slice(), args.ctx), (5, &[1, 403, 407][..], Some(256)));
        assert_eq!((args.kv, args.backend.unwrap().as_str()), (Kv::Q8_0, "neon"));
        assert_eq!((args.smp, args.json, args.filter.as_str()), (Some(2), true, "gemv/"));
        assert_eq!((args.plant.as_str(), args.texts), ("x", 70_000));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for word in [
            "verbose",
            "speed=9",
            "mode=fast",
            "n=many",
            "ids=1,,2",
            "kv=int4",
            "smp=0",
            "json=yes",
            "prompt=\"open",
            "n=-1",
            "texts=all",
            "sha256=12",
        ] {
            let line = format!("json=1 {word}");
            let error = Args::parse(&line).unwrap_err();
            assert_eq!(error.word, word);
            assert!(error.to_string().contains(word));
        }
    }

    #[test]
    fn limits_are_kept() {
        let long = format!("prompt={}", "x".repeat(MAX_PROMPT + 1));
        assert!(Args::parse(&long).is_err());
        assert!(Args::parse(&long[..long.len() - 1]).is_ok());
        assert!(Args::parse(&format!("ids={}", vec!["1"; MAX_IDS + 1].join(","))).is_err());
    }
}
