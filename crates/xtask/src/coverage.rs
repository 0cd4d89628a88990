//! `cargo xtask coverage`: which lines and branches of the parser, the plan, the sampler and the tokenizer the tests run.
//!
//! The compiler counts (`-C instrument-coverage`), LLVM's own tools, which rustup has as `llvm-tools`, put the counts together.
//! Lines that no test runs stand in `coverage/exceptions.txt` with the reason; another one is an error, and so is one of the list that
//! is run or gone. Branches are counted, and held to a share of each part: most of those that are never taken are the other
//! side of a `get` that cannot fail, which is there so that it need not panic.

mod lcov;

use crate::figures;
use crate::parts::{PARTS, Part};
use crate::process::{self, cargo, logged};
use crate::workspace;
use anyhow::{Context, Result, ensure};
use lcov::File;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The options of `cargo xtask coverage`.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Print every branch that is never taken
    #[arg(long)]
    branches: bool,
    /// Run no test: take what was counted last
    #[arg(long)]
    last: bool,
}

/// Branches of each part that tests must take, in hundredths.
const BRANCHES: usize = 95;
/// Lines that no test runs: the file, the line as it stands there, and why, with ` | ` between.
const EXCEPTIONS: &str = include_str!("coverage/exceptions.txt");
/// Packages whose tests count.
const PACKAGES: [&str; 1] = ["corelm"];

/// What was counted of a part.
#[derive(Debug, Default)]
struct Row {
    name: &'static str,
    lines: usize,
    lines_run: usize,
    /// Lines that are not run and are listed.
    excepted: usize,
    branches: usize,
    branches_taken: usize,
    /// `file:line: text` of lines that are not run and not listed.
    missing: Vec<String>,
    /// The same of branches.
    not_taken: Vec<String>,
}

impl Row {
    fn holds(&self) -> bool {
        self.missing.is_empty() && self.branches_taken * 100 >= self.branches * BRANCHES
    }
}

/// Runs the tests and prints what they have run of each part.
///
/// # Errors
///
/// When a tool is missing, a test fails, or a part has not what is asked of it.
pub fn run(options: &Options) -> Result<()> {
    let files = lcov::read(&measure(options.last)?);
    let root = workspace::root().join("crates/corelm/src");
    let mut exceptions = exceptions()?;
    let rows: Vec<Row> =
        PARTS.iter().map(|part| row(part, &files, &root, &mut exceptions)).collect::<Result<_>>()?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&to_json(&rows))?);
    } else {
        print(&rows, options.branches);
    }
    tell(&rows);
    let missing: Vec<&str> = rows.iter().flat_map(|row| &row.missing).map(String::as_str).collect();
    ensure!(
        missing.is_empty(),
        "run by no test, and not in coverage/exceptions.txt:\n{}",
        missing.join("\n")
    );
    let vain: Vec<String> = exceptions
        .iter()
        .filter(|(_, left)| **left > 0)
        .map(|((file, line), _)| format!("{file} | {line}"))
        .collect();
    ensure!(vain.is_empty(), "run, or gone, and so listed in vain:\n{}", vain.join("\n"));
    let few: Vec<&str> = rows.iter().filter(|row| !row.holds()).map(|row| row.name).collect();
    ensure!(few.is_empty(), "less than {BRANCHES} % of the branches: {}", few.join(", "));
    Ok(())
}

/// Tells the lines and branches of every part.
fn tell(rows: &[Row]) {
    let part = |row: &Row| {
        let Row { name, lines, lines_run, excepted, branches, branches_taken, .. } = row;
        let share = 100.0 * *branches_taken as f64 / (*branches).max(1) as f64;
        format!("{name} {lines_run} of {lines} lines ({excepted} listed), {share:.1} % of branches")
    };
    let told: Vec<String> = rows.iter().map(part).collect();
    let missed = if rows.iter().all(Row::holds) { "" } else { figures::MISSED };
    figures::note("R20", "coverage", format!("{missed}{}", told.join("; ")));
}

/// Runs the tests with counters, and gives what they counted in the format of lcov.
fn measure(last: bool) -> Result<String> {
    let tools = tools()?;
    let folder = workspace::scratch_file("coverage")?;
    let counts = folder.join("counts");
    if !last {
        count(&folder, &counts)?;
    }
    let log = workspace::scratch_file("coverage.log")?;
    let printed = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let profile = folder.join("all.profdata");
    let mut merge = Command::new(tools.join("llvm-profdata"));
    merge.args(["merge", "--sparse", "--output"]).arg(&profile).arg(&counts);
    process::output(&mut merge)?;
    let mut export = Command::new(tools.join("llvm-cov"));
    export.args(["export", "--format=lcov", "--instr-profile"]).arg(&profile);
    let programs = programs(&printed);
    ensure!(!programs.is_empty(), "the tests have no program");
    for program in programs {
        export.arg("--object").arg(program);
    }
    process::output(&mut export)
}

/// Runs the tests, each of whose programs leaves a file in `counts`.
fn count(folder: &Path, counts: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(counts);
    fs::create_dir_all(counts)?;
    let mut test = cargo(&["test", "--lib", "--tests", "--no-fail-fast"]);
    test.args(PACKAGES.iter().flat_map(|package| ["--package", *package]));
    test.arg("--target-dir").arg(folder.join("cargo"));
    test.env("RUSTFLAGS", "-Cinstrument-coverage -Zcoverage-options=branch").env("RUSTC_BOOTSTRAP", "1");
    test.env("LLVM_PROFILE_FILE", counts.join("%p-%m.profraw"));
    logged(&mut test, "coverage")?;
    Ok(())
}

/// The folder of LLVM's tools.
fn tools() -> Result<PathBuf> {
    let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc tells no host")?;
    let tools = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
    ensure!(
        process::is_installed(&tools.join("llvm-cov").to_string_lossy()),
        "no llvm-cov; type: rustup component add llvm-tools"
    );
    Ok(tools)
}

/// The programs of tests that cargo says it runs.
fn programs(printed: &str) -> Vec<&str> {
    let running = printed.lines().filter(|line| line.trim_start().starts_with("Running "));
    running.filter_map(|line| line.rsplit_once('(')?.1.strip_suffix(')')).collect()
}

/// How often each line of the list may be missing, by file and text.
fn exceptions() -> Result<BTreeMap<(String, String), usize>> {
    let mut exceptions: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in EXCEPTIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let parts: Vec<&str> = line.split(" | ").collect();
        ensure!(parts.len() >= 3, "an exception is `file | line | reason`, not {line}");
        let text = parts[1..parts.len() - 1].join(" | ");
        *exceptions.entry((parts[0].to_owned(), text)).or_default() += 1;
    }
    Ok(exceptions)
}

/// Counts a part, and takes from the exceptions what it needs of them.
fn row(
    part: &Part,
    files: &BTreeMap<PathBuf, File>,
    root: &Path,
    exceptions: &mut BTreeMap<(String, String), usize>,
) -> Result<Row> {
    let mut row = Row { name: part.name, ..Row::default() };
    for (path, counted) in files {
        let Ok(below) = path.strip_prefix(root) else { continue };
        let name = below.to_string_lossy().replace('\\', "/");
        if !part.has(&name) {
            continue;
        }
        let source = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        let n_code = lines.iter().position(|line| line.starts_with("#[cfg(test)]")).unwrap_or(lines.len());
        let constant = lcov::constants(&lines, &counted.lines);
        let text = |n: usize| lines.get(n.wrapping_sub(1)).copied().unwrap_or_default();
        for (&n, &count) in counted.lines.iter().filter(|(n, _)| **n <= n_code && !constant.contains(n)) {
            row.lines += 1;
            let left = exceptions.get_mut(&(name.clone(), text(n).to_owned()));
            match (count, left) {
                (1.., _) => row.lines_run += 1,
                (0, Some(left)) if *left > 0 => (*left, row.excepted) = (*left - 1, row.excepted + 1),
                (0, _) => row.missing.push(format!("{name}:{n}: {}", text(n))),
            }
        }
        for (&(n, ..), &count) in counted.branches.iter().filter(|((n, ..), _)| *n <= n_code) {
            row.branches += 1;
            row.branches_taken += usize::from(count > 0);
            if count == 0 {
                row.not_taken.push(format!("{name}:{n}: {}", text(n)));
            }
        }
    }
    ensure!(row.lines > 0, "no line of the {} was counted", part.name);
    Ok(row)
}

fn share(n: usize, of: usize) -> f64 {
    100.0 * n as f64 / of.max(1) as f64
}

fn print(rows: &[Row], with_branches: bool) {
    println!("part         lines     run listed      %  branches  taken      %");
    for row in rows {
        let Row { name, lines, lines_run, excepted, branches, branches_taken, .. } = row;
        let (run, taken) = (share(*lines_run, *lines), share(*branches_taken, *branches));
        println!(
            "{name:<10} {lines:>7} {lines_run:>7} {excepted:>6} {run:>6.2} {branches:>9} {branches_taken:>6} {taken:>6.2}"
        );
    }
    for line in rows.iter().flat_map(|row| &row.not_taken).filter(|_| with_branches) {
        println!("never taken: {line}");
    }
}

fn to_json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "part": row.name, "lines": row.lines, "lines_run": row.lines_run, "lines_excepted": row.excepted,
            "branches": row.branches, "branches_taken": row.branches_taken, "missing": row.missing,
            "not_taken": row.not_taken, "passed": row.holds(),
        })
    };
    json!({ "command": "cargo xtask coverage", "parts": rows.iter().map(row).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_found() {
        let printed = "   Compiling x\n     Running unittests src/lib.rs (/t/deps/corelm-1)\n\
            running 3 tests\n     Running tests/a.rs (/t/deps/a-2)\n";
        assert_eq!(programs(printed), ["/t/deps/corelm-1", "/t/deps/a-2"]);
    }

    #[test]
    fn exceptions_have_a_reason() {
        assert!(exceptions().is_ok());
    }

    #[test]
    fn a_line_that_is_not_run_is_missing_unless_it_is_listed() {
        let folder = std::env::temp_dir().join(format!("corelm-coverage-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("plan.rs");
        fs::write(&path, "fn a() {\n    b();\n    c();\n}\n#[cfg(test)]\nmod tests { d() }\n").unwrap();
        let lines = BTreeMap::from([(1, 1), (2, 0), (3, 0), (6, 0)]);
        let branches = BTreeMap::from([((2, "0".into(), "0".into()), 1), ((2, "0".into(), "1".into()), 0)]);
        let files = BTreeMap::from([(path, File { lines, branches })]);
        let mut exceptions = BTreeMap::from([(("plan.rs".to_owned(), "b();".to_owned()), 2)]);
        let part = PARTS.iter().find(|part| part.name == "plan").unwrap();
        let row = row(part, &files, &folder, &mut exceptions).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((row.lines, row.lines_run, row.excepted), (3, 1, 1));
        assert_eq!(row.missing, ["plan.rs:3: c();"]);
        assert_eq!((row.branches, row.branches_taken), (2, 1));
        assert!(!row.holds() && exceptions.values().sum::<usize>() == 1);
    }
}
