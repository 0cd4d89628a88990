//! `cargo xtask fuzz`: looks for inputs for which a property of `crates/fuzz` does not hold.
//!
//! libFuzzer comes from crates.io, into a package with a lock file of its own (`fuzz/`); cargo-fuzz is not needed, for all that
//! it does is to pass the compiler what stands here in `flags`. A target's corpus grows in `target/xtask/fuzz`, from its seeds
//! and what is kept in `fuzz/corpora`; `--save` keeps it there, minimised.

use crate::figures;
use crate::process::{self, cargo, logged};
use crate::setup;
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The package of libFuzzer's programs, outside the workspace.
pub const MANIFEST: &str = "fuzz/Cargo.toml";
/// The targets of `crates/fuzz`.
const TARGETS: [&str; 4] = ["plan", "tokenizer", "run", "session"];
/// Bytes that the corpus of each may have in the repository.
const MOST_BYTES: usize = 480 << 10;
/// An input that takes longer is a finding, in seconds.
const TIMEOUT: u32 = 20;
/// What `cargo xtask test` tries of each target: about half a minute of all.
const SHORT: [(&str, u64); 4] =
    [("plan", 100_000), ("tokenizer", 20_000), ("run", 20_000), ("session", 2_000)];

/// What watches the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sanitizer {
    /// AddressSanitizer: reads and writes outside what was allocated. Three times slower.
    Address,
    /// Nothing but Rust's own checks.
    None,
}

/// The options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Options {
    /// The target; all of them share the time by default
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// Hours for each target
    #[arg(long, conflicts_with_all = ["seconds", "runs"])]
    hours: Option<f64>,
    /// Seconds for each target [default: 60]
    #[arg(long, conflicts_with = "runs")]
    seconds: Option<u64>,
    /// Executions of each target, in place of a time
    #[arg(long)]
    runs: Option<u64>,
    /// What watches the memory
    #[arg(long, value_enum, default_value_t = Sanitizer::None)]
    sanitizer: Sanitizer,
    /// Keep the corpora, minimised, in fuzz/corpora
    #[arg(long)]
    save: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    Seconds(u64),
    Runs(u64),
}

/// What a run of one target did.
#[derive(Debug, Default, PartialEq)]
struct Row {
    target: &'static str,
    executions: u64,
    seconds: f64,
    /// Edges of the control flow that were reached, and features: edges with how often, and comparisons.
    edges: u64,
    features: u64,
    /// Inputs of the corpus, and its size as libFuzzer writes it.
    inputs: u64,
    /// Files with inputs for which the property does not hold.
    findings: Vec<PathBuf>,
    /// What was said of the first of them.
    said: String,
}

/// Builds the targets, runs them one after the other, and prints what they did.
///
/// # Errors
///
/// When something cannot be built, or something was found.
pub fn run(options: &Options) -> Result<()> {
    let until = match (options.runs, options.hours, options.seconds) {
        (Some(runs), _, _) => Until::Runs(runs),
        (_, Some(hours), _) => Until::Seconds((hours * 3600.0) as u64),
        (_, _, seconds) => Until::Seconds(seconds.unwrap_or(60)),
    };
    let targets = TARGETS.into_iter().filter(|target| options.target.as_ref().is_none_or(|t| t == target));
    let targets: Vec<&str> = targets.collect();
    let fuzzer = Fuzzer::build(options.sanitizer)?;
    let mut rows = Vec::new();
    for target in targets {
        eprintln!("fuzz: {target}");
        rows.push(fuzzer.run(target, until)?);
        if options.save {
            eprintln!("fuzz: {target}: {}", fuzzer.save(target)?);
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&to_json(&rows, options.sanitizer))?);
    } else {
        print(&rows);
    }
    check(&rows)
}

/// The step of `cargo xtask test`: so many executions that it takes half a minute.
///
/// # Errors
///
/// As [`run`].
pub fn finds_nothing() -> Result<Outcome> {
    let fuzzer = Fuzzer::build(Sanitizer::None)?;
    let rows = SHORT.into_iter().map(|(target, runs)| fuzzer.run(target, Until::Runs(runs)));
    let rows: Vec<Row> = rows.collect::<Result<_>>()?;
    check(&rows)?;
    tell(&rows, "");
    let executions: u64 = rows.iter().map(|row| row.executions).sum();
    Ok(Outcome::Noted(rows.len(), format!("{executions} executions")))
}

/// As long as docs/ASSURANCE.md says, and `plan` with AddressSanitizer as well.
///
/// # Errors
///
/// As [`run`].
pub fn for_hours(hours: f64) -> Result<Outcome> {
    let until = Until::Seconds((hours * 3600.0) as u64);
    let fuzzer = Fuzzer::build(Sanitizer::None)?;
    let rows: Vec<Row> =
        TARGETS.into_iter().map(|target| fuzzer.run(target, until)).collect::<Result<_>>()?;
    check(&rows)?;
    tell(&rows, "");
    let watched = [Fuzzer::build(Sanitizer::Address)?.run("plan", until)?];
    check(&watched)?;
    tell(&watched, ", address");
    Ok(Outcome::Passed(rows.len() + watched.len()))
}

/// Tells what was executed.
fn tell(rows: &[Row], watch: &str) {
    for row in rows {
        let Row { target, executions, edges, inputs, seconds, .. } = row;
        let told = format!(
            "{executions} executions in {seconds:.0} s, {edges} edges, corpus of {inputs}; 0 findings"
        );
        if *target == "tokenizer" {
            figures::note("R17", "fuzzed", told.clone());
        }
        figures::note("R5", &format!("{target}{watch}"), told);
    }
}

/// Fails with what was found.
fn check(rows: &[Row]) -> Result<()> {
    let found: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            row.findings.iter().map(move |path| format!("{}: {}\n{}", row.target, path.display(), row.said))
        })
        .collect();
    ensure!(found.is_empty(), "found:\n{}", found.join("\n"));
    Ok(())
}

fn print(rows: &[Row]) {
    println!("target      executions      /s   edges features  inputs seconds findings");
    for row in rows {
        let Row { target, executions, seconds, edges, features, inputs, findings, .. } = row;
        let (rate, findings) = (per_second(row), findings.len());
        println!(
            "{target:<10} {executions:>11} {rate:>7.0} {edges:>7} {features:>8} {inputs:>7} {seconds:>7.0} {findings:>8}"
        );
    }
}

fn per_second(row: &Row) -> f64 {
    row.executions as f64 / row.seconds.max(1.0)
}

fn to_json(rows: &[Row], sanitizer: Sanitizer) -> Value {
    let row = |row: &Row| {
        json!({
            "target": row.target, "executions": row.executions, "executions_per_second": per_second(row),
            "edges": row.edges, "features": row.features, "corpus": row.inputs, "seconds": row.seconds,
            "findings": row.findings,
        })
    };
    json!({
        "command": "cargo xtask fuzz",
        "sanitizer": if sanitizer == Sanitizer::Address { "address" } else { "none" },
        "targets": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

/// The programs, built.
struct Fuzzer {
    /// Where libFuzzer's are, one for each target.
    folder: PathBuf,
    /// What packs corpora.
    corpus: PathBuf,
}

impl Fuzzer {
    fn build(sanitizer: Sanitizer) -> Result<Fuzzer> {
        setup::for_fuzzing()?;
        let host = host()?;
        let name = if sanitizer == Sanitizer::Address { "address" } else { "none" };
        let target_dir = workspace::target_dir().join("xtask/fuzz/cargo").join(name);
        // With the host named, flags are for the programs and not for what runs while they are built.
        let mut build =
            cargo(&["build", "--release", "--locked", "--manifest-path", MANIFEST, "--target", &host]);
        build.arg("--target-dir").arg(&target_dir).env("RUSTFLAGS", flags(sanitizer));
        if sanitizer != Sanitizer::None {
            build.env("RUSTC_BOOTSTRAP", "1");
        }
        logged(&mut build, &format!("fuzz-build-{name}"))?;
        let packer = ["build", "--package", "corelm-fuzz", "--bin", "fuzz-corpus"];
        logged(&mut cargo(&packer), "fuzz-corpus")?;
        let corpus = workspace::target_dir().join("debug/fuzz-corpus");
        Ok(Fuzzer { folder: target_dir.join(host).join("release"), corpus })
    }

    /// The folder that a target's corpus grows in, with all that is kept of it.
    fn fill(&self, target: &str) -> Result<(PathBuf, u64)> {
        let folder = workspace::scratch_file("fuzz")?.join(target);
        let kept = kept(target);
        let mut unpack = Command::new(&self.corpus);
        let printed = process::output(unpack.args(["unpack", target]).arg(kept).arg(&folder))?;
        let max_bytes = printed.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        Ok((folder, max_bytes.context("fuzz-corpus says no length")?))
    }

    /// Runs one target.
    fn run(&self, target: &'static str, until: Until) -> Result<Row> {
        let (corpus, max_bytes) = self.fill(target)?;
        let findings = workspace::scratch_file("fuzz")?.join(format!("{target}-findings"));
        fs::create_dir_all(&findings)?;
        let before = files(&findings)?;
        let mut fuzz = Command::new(self.folder.join(target));
        fuzz.arg(&corpus).arg(format!("-artifact_prefix={}/", findings.display()));
        fuzz.arg(format!("-max_len={max_bytes}")).arg(format!("-timeout={TIMEOUT}"));
        fuzz.args(["-rss_limit_mb=4096", "-print_final_stats=1", "-reduce_inputs=1"]);
        match until {
            Until::Seconds(seconds) => fuzz.arg(format!("-max_total_time={seconds}")),
            // The corpus goes first, and counts.
            Until::Runs(runs) => fuzz.arg(format!("-runs={runs}")).arg("-seed=1"),
        };
        fuzz.env("RUST_BACKTRACE", "0");
        let start = Instant::now();
        let printed = logged(&mut fuzz, &format!("fuzz-{target}"));
        let seconds = start.elapsed().as_secs_f64();
        let log =
            fs::read_to_string(workspace::scratch_file(&format!("fuzz-{target}.log"))?).unwrap_or_default();
        let found: Vec<PathBuf> =
            files(&findings)?.into_iter().filter(|path| !before.contains(path)).collect();
        if let (Err(error), true) = (printed, found.is_empty()) {
            return Err(error);
        }
        Ok(Row { target, seconds, findings: found, ..Row::read(&log) })
    }

    /// Minimises a target's corpus and packs it into the repository; says what it has become.
    fn save(&self, target: &str) -> Result<String> {
        let (corpus, max_bytes) = self.fill(target)?;
        let least = workspace::scratch_file("fuzz")?.join(format!("{target}-least"));
        if least.is_dir() {
            fs::remove_dir_all(&least)?;
        }
        fs::create_dir_all(&least)?;
        let mut merge = Command::new(self.folder.join(target));
        merge.args(["-merge=1", &format!("-max_len={max_bytes}")]).arg(&least).arg(&corpus);
        logged(&mut merge, &format!("fuzz-merge-{target}"))?;
        let mut pack = Command::new(&self.corpus);
        pack.args(["pack", target]).arg(least).arg(kept(target)).arg(MOST_BYTES.to_string());
        Ok(process::output(&mut pack)?.trim().to_owned())
    }
}

/// The corpus of a target in the repository.
fn kept(target: &str) -> PathBuf {
    workspace::root().join("fuzz/corpora").join(target)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

/// The triple of this machine.
fn host() -> Result<String> {
    let about = process::output(Command::new("rustc").arg("-vV"))?;
    match about.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_owned()),
        None => bail!("rustc does not say what it runs on"),
    }
}

/// What the compiler is told, as cargo-fuzz tells it.
fn flags(sanitizer: Sanitizer) -> String {
    let coverage = ["level=4", "inline-8bit-counters", "pc-table", "trace-compares"];
    let coverage = coverage.map(|flag| format!("-Cllvm-args=-sanitizer-coverage-{flag}")).join(" ");
    let address = if sanitizer == Sanitizer::Address { " -Zsanitizer=address" } else { "" };
    format!("-Cpasses=sancov-module {coverage}{address}")
}

impl Row {
    /// What libFuzzer printed in the end.
    fn read(log: &str) -> Row {
        let number = |line: &str, word: &str| {
            let (_, rest) = line.split_once(word)?;
            rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        let last = log
            .lines()
            .rev()
            .find(|line| line.starts_with('#') && line.contains(" cov: "))
            .unwrap_or_default();
        let stat = |name: &str| log.lines().rev().find_map(|line| number(line, name)).unwrap_or(0);
        let said = log.lines().skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR: "));
        Row {
            executions: stat("stat::number_of_executed_units:"),
            edges: number(last, " cov: ").unwrap_or(0),
            features: number(last, " ft: ").unwrap_or(0),
            inputs: number(last, " corp: ").unwrap_or(0),
            said: said.take(6).collect::<Vec<_>>().join("\n"),
            ..Row::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let log = "#2 INITED cov: 10 ft: 11 corp: 2/9b exec/s: 0 rss: 30Mb\n\
            #1876\tDONE   cov: 3200 ft: 14677 corp: 357/6946b lim: 24 exec/s: 268 rss: 36Mb\n\
            Done 1876 runs in 7 second(s)\nstat::number_of_executed_units: 1876\n";
        let row = Row::read(log);
        assert_eq!((row.executions, row.edges, row.features, row.inputs), (1876, 3200, 14677, 357));
        assert_eq!(row.said, "");
        assert!(check(&[row]).is_ok());
    }

    #[test]
    fn a_finding_is_told_with_its_file() {
        let log = "thread '<unnamed>' panicked at crates/fuzz/src/plan.rs:1:2:\nsizes differ\n";
        let row = Row { target: "plan", findings: vec!["f/crash-1".into()], ..Row::read(log) };
        let error = check(&[row]).unwrap_err().to_string();
        assert!(error.contains("plan: f/crash-1") && error.contains("sizes differ"), "{error}");
    }

    #[test]
    fn every_target_is_built() {
        let manifest = fs::read_to_string(workspace::root().join(MANIFEST)).unwrap();
        for target in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
        }
        assert_eq!(SHORT.map(|(target, _)| target), TARGETS);
        assert!(flags(Sanitizer::Address).ends_with("-Zsanitizer=address"));
    }
}
