//! The command line: flags follow llama.cpp's names where it has them.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use corelm::gguf::Digest;
use corelm::tokenizer::Pre;

/// Language models on nothing but core: the engine on this machine.
#[derive(Parser)]
#[command(name = "corelm", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// What there is to do.
#[derive(Subcommand)]
pub enum Command {
    /// Continue a prompt.
    Generate(GenerateArgs),
    /// Answer messages, one after the other.
    Chat(ChatArgs),
    /// Feed exactly these ids and print the logits after each.
    Logits(LogitsArgs),
    /// Turn text into ids.
    Tokenize(TokenizeArgs),
    /// Turn ids into text.
    Detokenize(DetokenizeArgs),
    /// Describe a model: architecture, tensors, memory.
    Info(InfoArgs),
    /// Compare a file with its SHA-256, and read nothing else in it.
    Verify(VerifyArgs),
    /// Measure prompt processing and generation.
    Bench(BenchArgs),
    /// Convert an F32 or F16 model to Q4_0, Q8_0 or F16.
    Quantize(QuantizeArgs),
    /// Write the same model with its quantized matrices laid out as products read them fastest.
    Pack(PackArgs),
    /// Write a model of any shape with random weights and a real tokenizer, for benchmarks.
    Synth(SynthArgs),
}

/// Which model, and how it runs.
#[derive(Args)]
pub struct ModelArgs {
    /// The model, a GGUF file.
    #[arg(short, long)]
    pub model: PathBuf,
    /// SHA-256 that the file must have, before anything else in it is read.
    #[arg(long, value_name = "HEX", value_parser = digest)]
    pub sha256: Option<Digest>,
    /// Context length in tokens; 0 takes the model's own. By default that, but at most 4096.
    #[arg(short, long)]
    pub ctx_size: Option<usize>,
    /// Prompt tokens that are processed together.
    #[arg(short, long, default_value = "128")]
    pub batch_size: NonZeroUsize,
    /// Threads.
    #[arg(short, long, default_value = "1", value_parser = threads)]
    pub threads: NonZeroUsize,
    /// Read weights from the file as they lie there, instead of copying them to where they are read faster.
    #[arg(long)]
    pub no_repack: bool,
    /// Back-end by name (`scalar`, `avx2`, …); the best this CPU has by default.
    #[arg(long)]
    pub backend: Option<String>,
    /// Type of the KV cache.
    #[arg(long, value_enum, default_value_t = Kv::F16)]
    pub kv: Kv,
    /// Pre-tokenizer in place of the one that the file names: `llama-bpe`, `qwen2`, … Byte-level models have one.
    #[arg(long, value_name = "NAME", value_parser = pre_tokenizer)]
    pub pre: Option<Pre>,
}

/// Type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kv {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Blocks of 32 bytes and a scale.
    #[value(name = "q8_0")]
    Q8_0,
}

/// How tokens are chosen.
#[derive(Args)]
pub struct SamplingArgs {
    /// Temperature; 0 always takes the likeliest token.
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.8)]
    pub temp: f32,
    /// Keep the k likeliest tokens; 0 keeps all.
    #[arg(long, default_value_t = 40)]
    pub top_k: usize,
    /// Keep the likeliest tokens that together reach this probability.
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.95)]
    pub top_p: f32,
    /// Drop tokens less likely than this share of the likeliest.
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.05)]
    pub min_p: f32,
    /// Penalty for tokens seen lately; 1 is none.
    #[arg(long, allow_negative_numbers = true, default_value_t = 1.0)]
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalty looks at.
    #[arg(long, default_value_t = 64)]
    pub repeat_last_n: usize,
    /// Seed of the random choice.
    #[arg(short, long, default_value_t = 0)]
    pub seed: u64,
}

/// How conversations become prompts.
#[derive(Args)]
pub struct TemplateArgs {
    /// Chat template: the name of a family, as `chatml` or `llama3`, or Jinja. The model's own by default.
    #[arg(long, value_name = "NAME|JINJA", conflicts_with = "chat_template_file")]
    pub chat_template: Option<String>,
    /// Chat template: a file with Jinja.
    #[arg(long, value_name = "FILE")]
    pub chat_template_file: Option<PathBuf>,
    /// Run the model's chat template as Jinja even where its family is known.
    #[arg(long)]
    pub jinja: bool,
}

/// `corelm chat`.
#[derive(Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The only message; by default each line of standard input is one.
    #[arg(short, long)]
    pub prompt: Option<String>,
    /// The system's message.
    #[arg(long)]
    pub system: Option<String>,
    #[command(flatten)]
    pub template: TemplateArgs,
    /// Tokens of an answer at most; as many as the context has room for by default.
    #[arg(short, long)]
    pub n_predict: Option<usize>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// End an answer when this text appears; may be given several times.
    #[arg(long)]
    pub stop: Vec<String>,
    /// One JSON object for each answer instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `corelm generate`.
#[derive(Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The prompt; standard input when absent.
    #[arg(short, long)]
    pub prompt: Option<String>,
    /// Tokens to generate at most.
    #[arg(short, long, default_value_t = 64)]
    pub n_predict: usize,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Stop when this text appears; may be given several times.
    #[arg(long)]
    pub stop: Vec<String>,
    /// Go on after an end-of-text token.
    #[arg(long)]
    pub ignore_eos: bool,
    /// Do not read the texts of control tokens in the prompt as those tokens.
    #[arg(long)]
    pub no_special: bool,
    /// One JSON object for each step instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `corelm logits`.
#[derive(Args)]
pub struct LogitsArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The ids to feed, one after the other.
    #[arg(long, value_delimiter = ',', required = true)]
    pub ids: Vec<u32>,
    /// One JSON object for each position.
    #[arg(long)]
    pub json: bool,
}

/// `corelm tokenize`.
#[derive(Args)]
pub struct TokenizeArgs {
    /// The model or vocabulary, a GGUF file.
    #[arg(short, long)]
    pub model: PathBuf,
    /// The text; standard input, byte for byte, when absent.
    pub text: Option<String>,
    /// Print the ids alone, separated by spaces.
    #[arg(long, conflicts_with = "json")]
    pub ids: bool,
    /// Print the ids as one JSON array.
    #[arg(long)]
    pub json: bool,
    /// Read the texts of control tokens as those tokens.
    #[arg(long)]
    pub special: bool,
    /// Put the model's beginning-of-text token first.
    #[arg(long)]
    pub bos: bool,
    /// Put the model's end-of-text token last.
    #[arg(long)]
    pub eos: bool,
    /// Print with each token the bytes of the text that it stands for: `start..end`, in JSON `[id, start, end]`.
    #[arg(long, conflicts_with = "ids")]
    pub spans: bool,
    /// Cut the text to as many tokens at most, BOS and EOS among them, and say so on standard error.
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Print tokens, one a line, as soon as no text that may follow on standard input changes them.
    #[arg(long, conflicts_with_all = ["json", "spans", "max_tokens", "hex_lines", "text"])]
    pub stream: bool,
    /// Standard input holds one text a line in hexadecimal; print one JSON array a line, `null` for what has no tokens.
    #[arg(long, conflicts_with_all = ["ids", "text"])]
    pub hex_lines: bool,
    /// The text is a conversation, `[{"role": "user", "content": "…"}, …]`, for the model's chat template.
    #[arg(long, conflicts_with_all = ["special", "bos", "eos", "hex_lines", "spans", "max_tokens", "stream"])]
    pub chat: bool,
    /// With `--chat`: do not ask for an answer.
    #[arg(long, requires = "chat")]
    pub no_generation_prompt: bool,
    #[command(flatten)]
    pub template: TemplateArgs,
    /// Pre-tokenizer in place of the one that the file names: `llama-bpe`, `qwen2`, … Byte-level models have one.
    #[arg(long, value_name = "NAME", value_parser = pre_tokenizer)]
    pub pre: Option<Pre>,
}

/// `corelm detokenize`.
#[derive(Args)]
pub struct DetokenizeArgs {
    /// The model or vocabulary, a GGUF file.
    #[arg(short, long)]
    pub model: PathBuf,
    /// The ids; standard input, separated by commas or white space, when absent.
    #[arg(value_delimiter = ',')]
    pub ids: Vec<u32>,
    /// Pre-tokenizer in place of the one that the file names, which may be one that is not known.
    #[arg(long, value_name = "NAME", value_parser = pre_tokenizer)]
    pub pre: Option<Pre>,
}

/// `corelm info`.
#[derive(Args)]
pub struct InfoArgs {
    /// The model, a GGUF file.
    #[arg(short, long)]
    pub model: PathBuf,
    /// Type of the KV cache the memory plan is for.
    #[arg(long, value_enum, default_value_t = Kv::F16)]
    pub kv: Kv,
    /// Prompt tokens that are processed together.
    #[arg(short, long, default_value = "128")]
    pub batch_size: NonZeroUsize,
    /// Also list every tensor.
    #[arg(long)]
    pub tensors: bool,
}

/// `corelm verify`.
#[derive(Args)]
pub struct VerifyArgs {
    /// The file, a model or any other.
    #[arg(short, long)]
    pub model: PathBuf,
    /// Its SHA-256, 64 hexadecimal digits.
    #[arg(value_name = "HEX", value_parser = digest)]
    pub sha256: Digest,
}

/// `corelm bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// The model, a GGUF file.
    #[arg(short, long)]
    pub model: PathBuf,
    /// Prompt lengths.
    #[arg(short = 'p', long, value_delimiter = ',', default_value = "128")]
    pub n_prompt: Vec<usize>,
    /// Numbers of tokens generated.
    #[arg(short, long, value_delimiter = ',', default_value = "32")]
    pub n_gen: Vec<usize>,
    /// Numbers of tokens that are in the cache before the timed ones; they are not timed.
    #[arg(short, long, value_delimiter = ',', default_value = "0")]
    pub depth: Vec<usize>,
    /// Thread counts.
    #[arg(short, long, value_delimiter = ',', default_value = "1", value_parser = threads)]
    pub threads: Vec<NonZeroUsize>,
    /// Read weights from the file as they lie there, instead of copying them to where they are read faster.
    #[arg(long)]
    pub no_repack: bool,
    /// Back-ends by name; the best this CPU has by default.
    #[arg(long, value_delimiter = ',')]
    pub backend: Vec<String>,
    /// Type of the KV cache.
    #[arg(long, value_enum, default_value_t = Kv::F16)]
    pub kv: Kv,
    /// Prompt tokens that are processed together.
    #[arg(short, long, default_value = "128")]
    pub batch_size: NonZeroUsize,
    /// How often each measurement is taken.
    #[arg(short, long, default_value = "3")]
    pub repetitions: NonZeroUsize,
    /// Take turns with another program: print `ready`, then wait for a line on standard input before each repetition
    /// and print its rate at once. The table follows.
    #[arg(long)]
    pub paced: bool,
    /// Form of the table.
    #[arg(short, long, value_enum, default_value_t = Form::Md)]
    pub output: Form,
}

/// Form of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A JSON array.
    Json,
    /// Comma-separated values with a heading.
    Csv,
    /// A Markdown table.
    Md,
}

/// `corelm quantize`.
#[derive(Args)]
pub struct QuantizeArgs {
    /// The model to read: F32, F16 or BF16 matrices.
    pub input: PathBuf,
    /// The file to write.
    pub output: PathBuf,
    /// `q4_0`, `q8_0` or `f16`.
    pub quant: String,
}

/// `corelm pack`.
#[derive(Args)]
pub struct PackArgs {
    /// The model to read: matrices of Q4_0, Q4_1 or Q8_0 are packed, and the index of its vocabulary is put beside them.
    pub input: PathBuf,
    /// The file to write; other readers of GGUF refuse it, as its tensor types are none of theirs.
    pub output: PathBuf,
}

/// `corelm synth`.
#[derive(Args)]
pub struct SynthArgs {
    /// A known shape; the flags below change single numbers of it.
    #[arg(long, value_enum, default_value_t = Preset::Seed)]
    pub preset: Preset,
    /// `llama`, `qwen2` or `gpt2`.
    #[arg(long)]
    pub arch: Option<String>,
    /// Layers.
    #[arg(long)]
    pub layers: Option<usize>,
    /// Width.
    #[arg(long)]
    pub dim: Option<usize>,
    /// Width of the feed-forward part.
    #[arg(long)]
    pub hidden_dim: Option<usize>,
    /// Attention heads.
    #[arg(long)]
    pub heads: Option<usize>,
    /// Key and value heads.
    #[arg(long)]
    pub kv_heads: Option<usize>,
    /// Tokens in the vocabulary.
    #[arg(long)]
    pub vocab: Option<usize>,
    /// Context length.
    #[arg(long)]
    pub ctx: Option<usize>,
    /// Type of the matrices: `f32`, `f16`, `bf16`, `q4_0`, `q4_1` or `q8_0`.
    #[arg(long, default_value = "q4_0")]
    pub quant: String,
    /// `spm` or `bpe`; the architecture's usual one by default.
    #[arg(long)]
    pub tokenizer: Option<String>,
    /// Seed of the weights.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The file to write.
    #[arg(short, long)]
    pub output: PathBuf,
}

/// A model's shape by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// 2 layers, 64 wide: loads at once.
    Tiny,
    /// 6 layers, 384 wide, 32 000 tokens: the shape of the benchmark cases.
    Seed,
    /// TinyLlama 1.1B.
    #[value(name = "tinyllama-1.1b")]
    TinyLlama,
}

fn digest(hex: &str) -> Result<Digest, &'static str> {
    Digest::from_hex(hex).ok_or("a SHA-256 has 64 hexadecimal digits")
}

fn pre_tokenizer(name: &str) -> Result<Pre, String> {
    let known = || format!("known are {}", Pre::names().collect::<Vec<_>>().join(", "));
    Pre::by_name(name.as_bytes()).ok_or_else(known)
}

/// Reads the command line. What it refuses is printed in one line; help and version are printed in full.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, ExitCode> {
    CommandLine::try_parse_from(words).map(|line| line.command).map_err(|error| {
        if !error.use_stderr() {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        let text = error.to_string();
        let problem: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        eprintln!("corelm: {}; try 'corelm --help'", problem.join(" "));
        ExitCode::from(2)
    })
}

/// A number of threads that a system can be asked for: the standard library aborts where there are no more.
fn threads(text: &str) -> Result<NonZeroUsize, String> {
    const MOST: usize = 1024;
    let n: NonZeroUsize = text.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    if n.get() <= MOST { Ok(n) } else { Err(format!("at most {MOST}")) }
}
