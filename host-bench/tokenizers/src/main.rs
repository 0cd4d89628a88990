//! The engine's tokenizer beside others: same vocabulary, same texts, one core, in the same run.
//!
//! `cargo xtask bench --tokenizers` builds and calls this program.
//!
//! - `vocabulary.rs` reads a GGUF file into the forms that the peers take, `texts.rs` says what is encoded
//! - `engines.rs` holds the engine and its peers behind one face
//! - `check.rs` leaves out who gives other tokens
//! - `measure.rs` times the others under criterion, by turns
//! - `report.rs` writes the table and the JSON

mod check;
mod engines;
mod measure;
mod report;
mod texts;
mod vocabulary;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use report::Report;
use texts::Text;
use vocabulary::Vocabulary;

/// The engine's tokenizer beside others.
#[derive(Parser)]
#[command(name = "tokenizer-peers")]
struct Options {
    /// A GGUF file with a byte-level or a SentencePiece vocabulary [default: GPT-2's, which tiktoken-rs carries]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Texts to encode, the first of which the short ones are taken from
    #[arg(long, num_args = 1..)]
    text: Vec<PathBuf>,
    /// The repository, whose documentation and sources are the texts where none is named
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// The engine and these peers alone
    #[arg(long, value_delimiter = ',', value_parser = engines::names().collect::<Vec<_>>())]
    engines: Vec<String>,
    /// Measurements of each engine for each line, of which the median counts
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// The commit it was built from, for the report
    #[arg(long, default_value = "")]
    commit: String,
    /// The folder for tokenizers.json, tokenizers.md and criterion's files
    #[arg(short, long)]
    output: PathBuf,
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            eprintln!("tokenizers: {}", error.to_string().lines().next().unwrap_or_default());
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tokenizers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let vocabulary = match &options.model {
        Some(path) => Vocabulary::read(path)?,
        None => Vocabulary::gpt_2()?,
    };
    let texts = match &options.text[..] {
        [] => Text::of_repository(&options.root)?,
        paths => paths.iter().map(|path| Text::read(path)).collect::<Result<Vec<_>>>()?,
    };
    std::fs::create_dir_all(&options.output)
        .with_context(|| format!("cannot make {}", options.output.display()))?;
    let mut report = Report::new(options, &vocabulary);
    measure::all(options, Box::leak(Box::new(vocabulary)), &texts, &mut report)?;
    report.write(&options.output)
}
