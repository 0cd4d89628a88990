//! `cargo xtask bench`: the benchmark cases on this machine, under criterion; with `--peers`, whole models beside other
//! engines.

use crate::{first_line, peers, process};
use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;

/// The first argument that makes it the comparison with other engines; the rest is not criterion's then.
const PEERS: &str = "--peers";

/// Runs the host benchmarks with `args` handed to criterion, less any `--` between them.
///
/// # Errors
///
/// When they cannot be built or fail.
pub fn bench(args: &[String]) -> Result<ExitCode> {
    if args.first().is_some_and(|arg| arg == PEERS) {
        return match peers::Options::try_parse_from(args) {
            Ok(options) => peers::bench(&options),
            Err(error) if error.use_stderr() => {
                eprintln!("{}", first_line(&error.to_string()));
                Ok(ExitCode::from(2))
            }
            Err(help) => help.exit(),
        };
    }
    let args = args.iter().filter(|arg| *arg != "--");
    process::run(process::cargo(&["bench", "--package", "host-bench", "--bench", "cases", "--"]).args(args))?;
    Ok(ExitCode::SUCCESS)
}
