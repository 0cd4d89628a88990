//! The engine beside its peers: same file, same job, same machine, same hour.
//!
//! `cargo xtask bench --peers` builds everything and calls this program.
//!
//! - `rows.rs` says what is measured, `contenders.rs` who is, with which command line
//! - `products.rs` is both for an operation by itself, and checks its results
//! - `measure.rs` runs them by turns and keeps medians
//! - `probe.rs` measures what the machine can do at most
//! - `report.rs` writes the table and the JSON, `plot.rs` the pictures
//! - `candle.rs` is candle's process; llama.cpp's are `llama/peer.c`, and `llama/gemv.c` for the operation

#[cfg(feature = "candle")]
mod candle;
mod contenders;
mod measure;
mod plot;
mod probe;
mod products;
mod report;
mod rows;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use regex_lite::Regex;

/// The engine beside llama.cpp and candle.
#[derive(Parser)]
#[command(name = "peers")]
enum Command {
    /// Measure and report
    Run(Box<Options>),
    /// Print the machine's limits as JSON
    Probe {
        /// Thread counts
        #[arg(short, long, value_delimiter = ',', default_value = "1,2")]
        threads: Vec<NonZeroUsize>,
    },
    /// One measurement of candle
    #[cfg(feature = "candle")]
    #[command(hide = true)]
    Candle(candle::Job),
}

/// What to measure, with which programs.
#[derive(clap::Args)]
struct Options {
    /// The engine's command, `corelm`
    #[arg(long)]
    corelm: PathBuf,
    /// The program that times the engine's product of a row and a matrix
    #[arg(long)]
    gemv: PathBuf,
    /// The commit they were built from, for the report
    #[arg(long, default_value = "")]
    commit: String,
    /// The folder with `llama-peer` and `ggml-gemv`, built for all that this CPU has
    #[arg(long)]
    llama: Option<PathBuf>,
    /// The same, built for AVX2, FMA and F16C alone
    #[arg(long)]
    llama_avx2: Option<PathBuf>,
    /// A line for the report on what could not be built; may be given several times
    #[arg(long)]
    note: Vec<String>,
    /// Where the models and operands are written
    #[arg(long)]
    models: PathBuf,
    /// Measurements of each engine in each row, of which the median counts
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// Fewer rows: Q4_0, all of the CPU, no long prompt
    #[arg(long)]
    quick: bool,
    /// Only the rows whose name matches, as in `tinyllama-1.1b/q4_0/tg32@d1900/t1/all`
    #[arg(long)]
    only: Option<Regex>,
    /// The folder for peers.json, peers.md and the pictures
    #[arg(short, long)]
    output: PathBuf,
}

impl Options {
    /// The folder of the build of llama.cpp that may use as much of the CPU as `row` says.
    fn llama(&self, row: &rows::Row) -> Option<&PathBuf> {
        if row.avx2_only { self.llama_avx2.as_ref() } else { self.llama.as_ref() }
    }
}

fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) if error.use_stderr() => {
            eprintln!("peers: {}", error.to_string().lines().next().unwrap_or_default());
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Run(options) => {
            std::fs::create_dir_all(&options.output)
                .with_context(|| format!("cannot make {}", options.output.display()))?;
            let report = measure::all(&options)?;
            report.write(&options.output)?;
            plot::write(&report, &options.output)
        }
        Command::Probe { threads } => {
            let threads: Vec<usize> = threads.into_iter().map(NonZeroUsize::get).collect();
            println!("{}", serde_json::to_string_pretty(&probe::measure(&threads))?);
            Ok(())
        }
        #[cfg(feature = "candle")]
        Command::Candle(job) => candle::run(&job),
    }
}
