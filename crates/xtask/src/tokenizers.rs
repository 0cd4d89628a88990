//! `cargo xtask bench --tokenizers`: the engine's tokenizer beside others, on the same vocabulary and texts, in the same run.
//!
//! The peers come from crates.io, into a package with a lock file of its own (`host-bench/tokenizers`).

use crate::process::{self, cargo};
use crate::{peers, workspace};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The package that measures, outside the workspace.
pub const MANIFEST: &str = "host-bench/tokenizers/Cargo.toml";
/// Its name, and that of its program.
const NAME: &str = "tokenizer-peers";

/// What `--tokenizers` takes besides.
#[derive(Parser)]
#[command(name = "cargo xtask bench --tokenizers")]
pub struct Options {
    /// A GGUF file with a byte-level or a SentencePiece vocabulary [default: GPT-2's, which tiktoken-rs carries]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Texts to encode [default: the repository's documentation and sources]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    text: Vec<PathBuf>,
    /// The engine and these peers alone, as in `--engines corelm` or `--engines bpe,kitoken`
    #[arg(long, value_name = "NAMES")]
    engines: Option<String>,
    /// Measurements of each engine for each line, of which the median counts
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// The folder for tokenizers.json, tokenizers.md and criterion's files [default: target/xtask/tokenizers]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Builds the engine with its peers, and measures them.
///
/// # Errors
///
/// When they cannot be built.
pub fn bench(options: &Options) -> Result<ExitCode> {
    for path in options.model.iter().chain(&options.text) {
        ensure!(path.is_file(), "there is no file {}", path.display());
    }
    let program = program()?;
    let mut run = Command::new(program);
    run.arg("--root").arg(workspace::root()).args(["--commit", &peers::commit()]);
    run.args(["--rounds", &options.rounds.to_string()]);
    run.arg("--output");
    match &options.output {
        Some(folder) => run.arg(folder),
        None => run.arg(workspace::scratch_file("tokenizers")?),
    };
    if let Some(model) = &options.model {
        run.arg("--model").arg(model);
    }
    if !options.text.is_empty() {
        run.arg("--text").args(&options.text);
    }
    if let Some(engines) = &options.engines {
        run.args(["--engines", engines]);
    }
    // It has said itself what was wrong.
    let status = run.status().with_context(|| format!("cannot start `{}`", process::display(&run)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the program that measures; the peers as they are by default, for any CPU.
fn program() -> Result<PathBuf> {
    eprintln!("tokenizers: building the engine and its peers; the first time takes minutes");
    let target = workspace::target_dir().join("xtask/tokenizers/cargo");
    let mut build = cargo(&["build", "--release", "--locked", "--manifest-path", MANIFEST]);
    let log = process::logged(build.arg("--target-dir").arg(&target), "tokenizers-cargo");
    log.map_err(|error| anyhow::anyhow!("{}", peers::one_line(&error)))?;
    let program = target.join("release").join(NAME);
    ensure!(program.is_file(), "cargo built no {}", program.display());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_file_that_is_not_there_is_told_before_anything_is_built() {
        let options = Options::try_parse_from(["--tokenizers", "--model", "no/such.gguf"]).unwrap();
        assert_eq!(bench(&options).unwrap_err().to_string(), "there is no file no/such.gguf");
    }
}
