//! `corelm synth`: a model of any shape with random weights and a real tokenizer.

use corelm::Architecture;
use corelm::gguf::writer::{Sink, SinkFull};
use corelm::ops::GgmlType;
use corelm_cases::synth::{SynthConfig, Tokenizer, model_bytes, write_model};
use indicatif::ProgressBar;

use crate::args::{Preset, SynthArgs};
use crate::failure::{Failure, Outcome};
use crate::file_sink::FileSink;
use crate::progress::bar;

/// Runs the command.
pub fn run(args: &SynthArgs) -> Outcome {
    let config = config(args)?;
    let n_bytes = model_bytes(&config).map_err(|error| Failure::Usage(error.to_string()))?;
    let mut file = FileSink::create(&args.output, None)?;
    let mut sink = Watched { file: &mut file, bar: bar(n_bytes, "writing") };
    let written = write_model(&config, &mut sink).map(drop).map_err(Failure::says);
    sink.bar.finish_and_clear();
    file.finish(written)
}

/// The shape that `args` ask for: the preset's, with single numbers replaced.
fn config(args: &SynthArgs) -> Outcome<SynthConfig> {
    let preset = match args.preset {
        Preset::Tiny => SynthConfig::TINY,
        Preset::Seed => SynthConfig::SEED,
        Preset::TinyLlama => SynthConfig::TINYLLAMA,
    };
    const ARCHS: [Architecture; 3] = [Architecture::Llama, Architecture::Qwen2, Architecture::Gpt2];
    let arch = match &args.arch {
        None => preset.arch,
        Some(name) => by_name("architecture", name, &ARCHS, Architecture::name)?,
    };
    const TYPES: [GgmlType; 6] =
        [GgmlType::F32, GgmlType::F16, GgmlType::BF16, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0];
    let ty = by_name("type", &args.quant, &TYPES, GgmlType::name)?;
    let tokenizer_name = |tokenizer| match tokenizer {
        Tokenizer::Spm => "spm",
        Tokenizer::Bpe => "bpe",
    };
    let tokenizer = match &args.tokenizer {
        Some(name) => by_name("tokenizer", name, &[Tokenizer::Spm, Tokenizer::Bpe], tokenizer_name)?,
        None if arch == Architecture::Llama => preset.tokenizer,
        None => Tokenizer::Bpe,
    };
    let n_heads = args.heads.unwrap_or(preset.n_heads);
    // Every head of gpt2 has keys and values of its own.
    let n_kv_heads = if arch == Architecture::Gpt2 { n_heads } else { preset.n_kv_heads };
    Ok(SynthConfig {
        arch,
        tokenizer,
        ty,
        dim: args.dim.unwrap_or(preset.dim),
        hidden_dim: args.hidden_dim.unwrap_or(preset.hidden_dim),
        n_layers: args.layers.unwrap_or(preset.n_layers),
        n_heads,
        n_kv_heads: args.kv_heads.unwrap_or(n_kv_heads),
        vocab_size: args.vocab.unwrap_or(preset.vocab_size),
        n_ctx: args.ctx.unwrap_or(preset.n_ctx),
        seed: args.seed,
    })
}

/// The one of `all` that is called `name`.
fn by_name<T: Copy>(what: &str, name: &str, all: &[T], name_of: impl Fn(T) -> &'static str) -> Outcome<T> {
    all.iter().copied().find(|&one| name_of(one).eq_ignore_ascii_case(name)).ok_or_else(|| {
        let names: Vec<String> = all.iter().map(|&one| name_of(one).to_lowercase()).collect();
        Failure::Usage(format!("no {what} '{name}'; there are {}", names.join(", ")))
    })
}

/// A file whose growth shows.
struct Watched<'f> {
    file: &'f mut FileSink,
    bar: ProgressBar,
}

impl Sink for &mut Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        self.bar.inc(bytes.len() as u64);
        (&mut *self.file).write(bytes)
    }
}
