//! `cargo xtask sanitize`: hostile files, texts and calls under a watch of memory, and threads under one of their order.
//!
//! `--address` runs the tests of them with AddressSanitizer, whose part of the standard library comes with every toolchain for
//! Linux on x86-64 and aarch64. `--miri` interprets what reads metadata, for four architectures: with 32 bits, and with the
//! other order of bytes, answers must be the same. Miri needs a nightly toolchain; without one nothing is run, and that is said.
//! `--thread` runs tests with several workers under ThreadSanitizer (`threads.rs`), `--loom` explores the interleavings of all that
//! synchronises (`interleavings.rs`).

pub mod interleavings;
pub mod threads;

use crate::checks::count_passed;
use crate::figures;
use crate::process::{self, cargo, logged};
use crate::steps::{Outcome, Steps};
use crate::workspace;
use anyhow::{Result, ensure};
use std::process::Command;

/// The options of `cargo xtask sanitize`; all watches without any.
#[derive(clap::Args)]
pub struct Options {
    /// AddressSanitizer
    #[arg(long)]
    address: bool,
    /// Miri
    #[arg(long)]
    miri: bool,
    /// ThreadSanitizer
    #[arg(long)]
    thread: bool,
    /// loom
    #[arg(long)]
    loom: bool,
    /// The architecture of this machine alone
    #[arg(long)]
    quick: bool,
}

/// Tests of what comes from outside.
const HOSTILE: [(&str, &[&str]); 3] = [
    (
        "corelm",
        &[
            "bad_gguf",
            "gguf_rules",
            "session",
            "generate",
            "special_tokens",
            "encoder",
            "tokenizer_made",
            "tokenizer_spans",
        ],
    ),
    ("corelm-cases", &["mutants", "damage"]),
    ("corelm-fuzz", &["corpora"]),
];
/// Tests that go through everything, which takes long under any watch.
const EXHAUSTIVE: [&str; 3] = ["every_flipped_bit", "every_prefix", "every_size"];
/// 64 bits; the other order of bytes; 32 bits; another architecture.
pub const MIRI_TARGETS: [&str; 4] = [
    "x86_64-unknown-linux-gnu",
    "s390x-unknown-linux-gnu",
    "i686-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
];
/// The test whose answers are compared.
const METADATA: &str = "metadata_of_every_case_is_answered";

/// Runs what was asked for.
///
/// # Errors
///
/// When a step fails.
pub fn run(options: &Options) -> Result<()> {
    let is_all = !(options.address || options.miri || options.thread || options.loom);
    let mut steps = Steps::new("");
    if options.address || is_all {
        steps.step("AddressSanitizer", hostile_by_address);
    }
    if options.miri || is_all {
        for target in MIRI_TARGETS.iter().take(if options.quick { 1 } else { usize::MAX }) {
            steps.step(&format!("Miri, {target}"), || by_miri(target));
        }
    }
    if options.loom || is_all {
        steps.step("interleavings", interleavings::explore);
    }
    if options.thread || is_all {
        steps.step("threads", threads::watch);
    }
    steps.finish()
}

/// All tests of what comes from outside, with every access to memory watched.
///
/// # Errors
///
/// When one fails, or there is a report.
pub fn hostile_by_address() -> Result<Outcome> {
    let mut n = 0;
    for (package, tests) in HOSTILE {
        match address(package, tests, &[])? {
            Outcome::Passed(passed) => n += passed,
            other => return Ok(other),
        }
    }
    // What these tests tell, other steps tell of more cases.
    drop(figures::take());
    figures::note("R2", "address", format!("{n} tests of hostile files, texts and calls, 0 reports"));
    Ok(Outcome::Passed(n))
}

/// As [`run`] does, and tells how many answers were the same.
///
/// # Errors
///
/// As [`miri`].
pub fn by_miri(target: &str) -> Result<Outcome> {
    let outcome = miri(target)?;
    if let Outcome::Passed(n) = outcome {
        let architecture = target.split('-').next().unwrap_or(target);
        figures::note(
            "R2",
            &format!("Miri, {architecture}"),
            format!("{n} answers as on this machine, 0 reports"),
        );
    }
    Ok(outcome)
}

fn metadata_test() -> [&'static str; 8] {
    ["--package", "corelm", "--test", "bad_gguf", "--", METADATA, "--exact", "--nocapture"]
}

/// Tests of a package, with every access to memory watched, in an environment with these variables.
///
/// # Errors
///
/// When one fails, or there is a report.
pub fn address(package: &str, tests: &[&str], variables: &[(&str, &str)]) -> Result<Outcome> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Ok(Outcome::Skipped("AddressSanitizer comes for Linux on x86-64 and aarch64".to_owned()));
    }
    let mut test = cargo(&["test", "--target", &target, "--package", package]);
    test.args(tests.iter().flat_map(|name| ["--test", *name]));
    test.arg("--target-dir").arg(workspace::target_dir().join("xtask/sanitize/address"));
    test.envs(variables.iter().copied());
    test.arg("--").arg("--show-output").args(EXHAUSTIVE.iter().flat_map(|name| ["--skip", *name]));
    test.env("RUSTFLAGS", "-Zsanitizer=address").env("RUSTC_BOOTSTRAP", "1");
    // Vocabularies of the fuzz targets last as long as the program.
    test.env("ASAN_OPTIONS", "detect_leaks=0");
    let printed = logged(&mut test, &format!("sanitize-address-{package}"))?;
    Ok(Outcome::Passed(count_passed(&printed)))
}

/// The metadata of all files, and some inputs of a corpus, interpreted for `target`: answers are those of this machine.
fn miri(target: &str) -> Result<Outcome> {
    let has_miri = process::output(Command::new("cargo").args(["+nightly", "miri", "--version"]));
    if has_miri.is_err() {
        let how = "rustup toolchain install nightly --component miri,rust-src";
        return Ok(Outcome::Skipped(format!("no Miri; type: {how}")));
    }
    let native = answers(&logged(cargo(&["test"]).args(metadata_test()), "sanitize-native")?);
    let cargo_miri = |args: &[&str]| {
        let mut miri = Command::new("cargo");
        miri.args(["+nightly", "miri", "test", "--quiet", "--target", target])
            .args(args)
            .current_dir(workspace::root());
        miri.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC").env_remove("CARGO");
        // Files are read; addresses are as they come.
        miri.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("RUSTFLAGS", "");
        miri.env("CARGO_TARGET_DIR", workspace::target_dir().join("xtask/sanitize/miri"));
        miri
    };
    let mut n = 0;
    if native.is_empty() {
        return Ok(Outcome::Skipped("no ../shared".to_owned()));
    }
    let printed = logged(&mut cargo_miri(&metadata_test()), &format!("sanitize-miri-{target}"))?;
    let answers = answers(&printed);
    ensure!(answers == native, "answers differ:\n{}", differences(&answers, &native).join("\n"));
    n += answers.len();
    let corpus = ["--package", "corelm-fuzz", "--test", "corpora", "--", "plan", "--exact"];
    let printed = logged(&mut cargo_miri(&corpus), &format!("sanitize-miri-corpus-{target}"))?;
    n += count_passed(&printed);
    Ok(Outcome::Passed(n))
}

/// The lines of a test's output that are answers.
fn answers(printed: &str) -> Vec<String> {
    let lines = printed.lines().filter_map(|line| Some(line.split_once("answer: ")?.1.to_owned()));
    lines.collect()
}

fn differences(one: &[String], other: &[String]) -> Vec<String> {
    let pairs = one.iter().zip(other).filter(|(one, other)| one != other);
    let mut lines: Vec<String> = pairs.map(|(one, other)| format!("{one}, else {other}")).collect();
    if one.len() != other.len() {
        lines.push(format!("{} answers, else {}", one.len(), other.len()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_and_compared() {
        let printed = "running 1 test\nanswer: a Ok(())\ntest x ... answer: b Err(101)\nok\n";
        let found = answers(printed);
        assert_eq!(found, ["a Ok(())", "b Err(101)"]);
        assert!(differences(&found, &found).is_empty());
        let others = ["a Ok(())", "b Err(102)", "c Ok(())"].map(str::to_owned);
        assert_eq!(differences(&found, &others), ["b Err(101), else b Err(102)", "2 answers, else 3"]);
    }

    #[test]
    fn the_tests_that_are_named_are_there() {
        for (package, tests) in HOSTILE {
            let folder = workspace::root()
                .join("crates")
                .join(package.strip_prefix("corelm-").unwrap_or(package))
                .join("tests");
            for test in tests {
                assert!(folder.join(test).with_extension("rs").is_file(), "{package}: {test}");
            }
        }
        let source =
            std::fs::read_to_string(workspace::root().join("crates/corelm/tests/bad_gguf.rs")).unwrap();
        assert!(source.contains(&format!("fn {METADATA}()")));
        assert!(EXHAUSTIVE.iter().all(|name| source.contains(&format!("fn {name}"))));
    }
}
