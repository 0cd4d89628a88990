//! The commands people type: `cargo xtask run | test | assure | bench | check | counts | coverage | endure | fuzz | mutants |
//! sanitize | prove | size | setup`.
//!
//! - `setup.rs` installs what is missing; every other command calls it first
//! - `kernel.rs` builds the flat kernel image, `qemu.rs` boots it, `run.rs` is the command around both
//! - `test.rs` and `check.rs` are lists of steps (`steps.rs`), which `checks.rs`, `boots.rs` and `bad_models.rs` hold; `golden.rs`
//!   compares with known outputs
//! - `assure.rs` puts the figures that steps and tests tell (`figures.rs`) in one table
//! - `endure.rs` interrupts the engine in QEMU and counts its instructions
//! - `bench.rs` runs the cases under criterion; `peers.rs` builds other engines and measures beside them, `tokenizers.rs` the
//!   tokenizer beside others
//! - `size.rs` reads bytes and stack depth off a linked kernel, `prove.rs` what must hold for every public function; both by `binary.rs`
//! - `coverage.rs` counts the lines that tests run, `mutants.rs` the changes that they notice, of the parts in `parts.rs`
//! - `fuzz.rs` runs libFuzzer, `sanitize.rs` tests under AddressSanitizer, ThreadSanitizer, Miri and loom
//! - `baseline.rs` compares benchmark counts with recorded ones, `counts.rs` takes those of the host, `readme.rs` finds the README's commands

mod assure;
mod bad_models;
mod baseline;
mod bench;
mod binary;
mod boots;
mod check;
mod checks;
mod counts;
mod coverage;
mod endure;
mod figures;
mod fuzz;
mod golden;
mod json_lines;
mod kernel;
mod mutants;
mod parts;
mod pc;
mod peers;
mod process;
mod prove;
mod qemu;
mod readme;
mod run;
mod sanitize;
mod setup;
mod size;
#[cfg(test)]
mod sources;
mod steps;
mod supply;
mod test;
mod tokenizers;
mod workspace;

use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;

/// The commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Build the kernel, boot it in QEMU, generate text and run the benchmarks
    Run(run::Options),
    /// Run every test, on the host and in QEMU
    Test {
        /// Only the steps whose name has this in it
        #[arg(default_value = "")]
        filter: String,
    },
    /// Print every figure of docs/ASSURANCE.md with the command behind it; without `--quick` this takes hours
    Assure(assure::Options),
    /// Run the fast subset of the tests, for each commit
    Check,
    /// Run the host benchmarks; arguments go to criterion. With `--peers`, compare with llama.cpp and candle; with
    /// `--tokenizers`, the tokenizer with others
    Bench {
        /// `--peers` or `--tokenizers` (`--peers --help` tells the rest), or arguments of criterion: a filter,
        /// `--save-baseline NAME`, ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Count the instructions of the benchmark cases on x86-64 and compare them with the recorded ones
    Counts {
        /// Record them instead
        #[arg(long)]
        save: bool,
    },
    /// Interrupt the engine at many places in QEMU, and count what tokens, slices, texts and files take
    Endure(endure::Options),
    /// Print the bytes and the stack that the engine costs a kernel
    Size,
    /// Prove what can be read off the linked libraries: no panic, no allocation, little stack, vector instructions
    Prove(prove::Options),
    /// Look for inputs that break what must hold for any bytes, by libFuzzer
    Fuzz(fuzz::Options),
    /// Run the tests of hostile files, texts and calls under AddressSanitizer and Miri, those of threads under
    /// ThreadSanitizer, and every interleaving of what synchronises
    Sanitize(sanitize::Options),
    /// Count which lines and branches of the parser, the plan, the sampler and the tokenizer the tests run
    Coverage(coverage::Options),
    /// Change these in one place at a time, and count how often no test notices
    Mutants(mutants::Options),
    /// Install what the other commands need
    Setup,
}

fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) if error.use_stderr() => {
            eprintln!("{}", first_line(&error.to_string()));
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    match dispatch(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is wrong with the command line, without the usage that follows it.
fn first_line(error: &str) -> &str {
    if error.starts_with("error") { error.lines().next().unwrap_or(error) } else { error }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(options) => return run::run(&options),
        Command::Test { filter } => test::test(&filter)?,
        Command::Assure(options) => assure::run(&options)?,
        Command::Check => check::check()?,
        Command::Bench { args } => return bench::bench(&args),
        Command::Counts { save } => counts::run(save)?,
        Command::Endure(options) => endure::run(&options)?,
        Command::Size => size::measure(setup::for_kernel()?, true)?.print(),
        Command::Prove(options) => prove::run(&options)?,
        Command::Fuzz(options) => fuzz::run(&options)?,
        Command::Sanitize(options) => sanitize::run(&options)?,
        Command::Coverage(options) => coverage::run(&options)?,
        Command::Mutants(options) => mutants::run(&options)?,
        Command::Setup => {
            setup::for_tests()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Command::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_is_told_in_one_line() {
        let error = |args: &[&str]| Command::try_parse_from(args).err().unwrap().to_string();
        assert_eq!(first_line(&error(&["x", "run", "--fast"])), "error: unexpected argument '--fast' found");
        assert!(first_line(&error(&["x", "run", "--cpu", "z80"])).contains("z80"));
        assert!(first_line(&error(&["x"])).contains("Usage"));
    }

    #[test]
    fn unknown_flags_are_refused() {
        assert!(Command::try_parse_from(["xtask", "run", "--no-such-flag"]).is_err());
        assert!(Command::try_parse_from(["xtask", "run", "--cpu", "z80"]).is_err());
        assert!(Command::try_parse_from(["xtask", "run", "--smp", "0"]).is_err());
    }
}
