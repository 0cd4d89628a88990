//! `cargo xtask bench`: the benchmark cases on this machine, under criterion; with `--peers`, whole models beside other
//! engines, with `--tokenizers` the tokenizer beside others.

use crate::{first_line, peers, process, tokenizers};
use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;

/// The first arguments that make it a comparison with others; the rest is not criterion's then.
const PEERS: &str = "--peers";
const TOKENIZERS: &str = "--tokenizers";

/// Runs the host benchmarks with `args` handed to criterion, less any `--` between them.
///
/// # Errors
///
/// When they cannot be built or fail.
pub fn bench(args: &[String]) -> Result<ExitCode> {
    match args.first().map(String::as_str) {
        Some(PEERS) => return compare(args, peers::bench),
        Some(TOKENIZERS) => return compare(args, tokenizers::bench),
        _ => {}
    }
    let args = args.iter().filter(|arg| *arg != "--");
    process::run(process::cargo(&["bench", "--package", "host-bench", "--bench", "cases", "--"]).args(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a comparison with the options behind its name.
fn compare<O: Parser>(args: &[String], bench: fn(&O) -> Result<ExitCode>) -> Result<ExitCode> {
    match O::try_parse_from(args) {
        Ok(options) => bench(&options),
        Err(error) if error.use_stderr() => {
            eprintln!("{}", first_line(&error.to_string()));
            Ok(ExitCode::from(2))
        }
        Err(help) => help.exit(),
    }
}
