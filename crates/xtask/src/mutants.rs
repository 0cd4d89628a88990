//! `cargo xtask mutants`: changes the parser, the plan, the sampler and the tokenizer in one place at a time, and counts how often
//! no test notices.
//!
//! cargo-mutants makes the changes, in a copy of the repository. Each costs a build and a run of the part's tests, ten seconds
//! or so: `--shard 0/20` takes every twentieth. Tests that go through everything there is are left out, as they take longer than all
//! others together.

use crate::figures;
use crate::parts::{PARTS, Part};
use crate::process::{self, cargo};
use crate::workspace;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The options of `cargo xtask mutants`.
#[derive(clap::Args, Default)]
pub struct Options {
    /// The part; all of them by default
    #[arg(value_parser = PARTS.map(|part| part.name))]
    part: Option<String>,
    /// Files of `crates/corelm/src` alone, as `gguf/value.rs`
    #[arg(long = "file")]
    files: Vec<String>,
    /// One share of the changes: `K/N` with K from 0
    #[arg(long)]
    shard: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Changes of a part of which a test must notice, in hundredths.
const CAUGHT: usize = 90;
/// Tests that go through everything there is.
const EXHAUSTIVE: [&str; 6] = [
    "what_is_certain_stays",
    "all_short_texts_are_cleaned",
    "any_bytes_are_cut_into_pieces",
    "every_prefix",
    "every_flipped_bit",
    "draws_follow_the_probabilities",
];
/// Seconds after which a test that goes on is taken for one that noticed: a loop without end.
const TIMEOUT: u32 = 120;

/// What became of the changes to one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// A test failed.
    caught: usize,
    /// A test went on for ever.
    timeout: usize,
    /// No test noticed.
    missed: usize,
    /// It did not compile.
    unviable: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.caught += other.caught;
        self.timeout += other.timeout;
        self.missed += other.missed;
        self.unviable += other.unviable;
    }

    /// Those that were noticed of those that could be.
    fn noticed(self) -> (usize, usize) {
        let noticed = self.caught + self.timeout;
        (noticed, noticed + self.missed)
    }

    fn holds(self) -> bool {
        let (noticed, all) = self.noticed();
        noticed * 100 >= all * CAUGHT
    }
}

/// A part's changes.
#[derive(Debug, Default)]
struct Row {
    name: &'static str,
    files: BTreeMap<String, Counts>,
    missed: Vec<String>,
}

impl Row {
    fn all(&self) -> Counts {
        let mut all = Counts::default();
        self.files.values().for_each(|counts| all.add(*counts));
        all
    }
}

/// Runs cargo-mutants for each part and prints what it found.
///
/// # Errors
///
/// When it is not installed, something cannot be built, or too much is not noticed.
pub fn run(options: &Options) -> Result<()> {
    let is_installed = process::output(&mut cargo(&["mutants", "--version"])).is_ok();
    ensure!(is_installed, "no cargo-mutants; type: cargo install --locked cargo-mutants");
    let wanted = |part: &&Part| options.part.as_ref().is_none_or(|name| name == part.name);
    let mut rows = Vec::new();
    for part in PARTS.iter().filter(wanted) {
        eprintln!("mutants: {}", part.name);
        rows.push(mutate(part, options)?);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&to_json(&rows))?);
    } else {
        print(&rows);
    }
    tell(&rows);
    let few: Vec<&str> = rows.iter().filter(|row| !row.all().holds()).map(|row| row.name).collect();
    ensure!(few.is_empty(), "less than {CAUGHT} % were noticed: {}", few.join(", "));
    Ok(())
}

/// Tells how many changes of every part were noticed.
fn tell(rows: &[Row]) {
    let part = |row: &Row| {
        let Counts { caught, timeout, missed, .. } = row.all();
        format!("{} {} of {}", row.name, caught + timeout, caught + timeout + missed)
    };
    let told: Vec<String> = rows.iter().map(part).collect();
    let missed = if rows.iter().all(|row| row.all().holds()) { "" } else { figures::MISSED };
    figures::note("R20", "mutants", format!("{missed}{}", told.join("; ")));
}

fn mutate(part: &Part, options: &Options) -> Result<Row> {
    let folder = place()?;
    let out = folder.join(part.name);
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out)?;
    let mut mutants = cargo(&["mutants", "--package", "corelm", "--no-shuffle", "--baseline", "skip"]);
    mutants.args(["--timeout", &TIMEOUT.to_string(), "--output"]).arg(&out);
    for file in files(part, &options.files) {
        mutants.args(["--file", &format!("crates/corelm/src/{file}")]);
    }
    mutants.args(["--exclude", "crates/corelm/src/**/tests.rs"]);
    if let Some(shard) = &options.shard {
        mutants.args(["--shard", shard]);
    }
    mutants.arg("--cargo-arg=--lib");
    mutants.args(part.tests.iter().map(|test| format!("--cargo-arg=--test={test}")));
    mutants.args(["--", "--"]).args(EXHAUSTIVE.iter().flat_map(|test| ["--skip", *test]));
    // Building is most of it. The tests find `../shared` beside the copy.
    mutants.env("TMPDIR", &folder).env("CARGO_PROFILE_TEST_OPT_LEVEL", "0");
    mutants
        .env("CARGO_PROFILE_TEST_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_INCREMENTAL", "1");
    // Its exit status tells of changes that were not noticed, which is no failure of the run.
    let status = mutants.status().context("cannot start cargo-mutants")?;
    let read = |name: &str| fs::read_to_string(out.join("mutants.out").join(name)).unwrap_or_default();
    let row = Row::read(
        part.name,
        &[read("caught.txt"), read("timeout.txt"), read("missed.txt"), read("unviable.txt")],
    );
    ensure!(!row.files.is_empty(), "cargo-mutants changed nothing ({status}); see {}", out.display());
    Ok(row)
}

/// What cargo-mutants is told of a part's files: those of them that are asked for.
fn files(part: &Part, asked: &[String]) -> Vec<String> {
    if !asked.is_empty() {
        return asked.iter().filter(|file| part.has(file)).cloned().collect();
    }
    part.files
        .iter()
        .map(|file| if file.ends_with('/') { format!("{file}**") } else { (*file).to_owned() })
        .collect()
}

/// The folder for copies of the repository, with `shared` in it where the repository has that beside it.
fn place() -> Result<PathBuf> {
    let folder = workspace::scratch_file("mutants")?;
    fs::create_dir_all(&folder)?;
    if let Some(shared) = workspace::shared()? {
        link(&shared.canonicalize()?, &folder.join("shared"))?;
    }
    Ok(folder)
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> Result<()> {
    if !at.exists() {
        std::os::unix::fs::symlink(to, at).with_context(|| format!("cannot make {}", at.display()))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> Result<()> {
    Ok(())
}

impl Row {
    /// Reads the lists of what was caught, timed out, missed and unviable: `file:line:column: change` each.
    fn read(name: &'static str, lists: &[String; 4]) -> Row {
        let mut row = Row { name, ..Row::default() };
        for (i, list) in lists.iter().enumerate() {
            for line in list.lines() {
                let Some((file, _)) = line.split_once(':') else { continue };
                let file = file.trim_start_matches("crates/corelm/src/").to_owned();
                let counts = row.files.entry(file).or_default();
                let [caught, timeout, missed, unviable] = [0, 1, 2, 3].map(|which| usize::from(i == which));
                counts.add(Counts { caught, timeout, missed, unviable });
            }
        }
        row.missed = lists[2].lines().map(str::to_owned).collect();
        row
    }
}

fn print(rows: &[Row]) {
    println!("file                               caught timeout missed unviable      %");
    for row in rows {
        for (file, counts) in
            row.files.iter().map(|(file, counts)| (file.as_str(), *counts)).chain([(row.name, row.all())])
        {
            let Counts { caught, timeout, missed, unviable } = counts;
            println!("{file:<34} {caught:>6} {timeout:>7} {missed:>6} {unviable:>8} {:>6.1}", share(counts));
        }
    }
    rows.iter().flat_map(|row| &row.missed).for_each(|missed| println!("missed: {missed}"));
}

fn share(counts: Counts) -> f64 {
    let (noticed, all) = counts.noticed();
    100.0 * noticed as f64 / all.max(1) as f64
}

fn to_json(rows: &[Row]) -> Value {
    let counts = |counts: Counts| {
        let Counts { caught, timeout, missed, unviable } = counts;
        json!({ "caught": caught, "timeout": timeout, "missed": missed, "unviable": unviable, "percent": share(counts) })
    };
    let row = |row: &Row| {
        let files = row.files.iter().map(|(file, n)| (file.clone(), counts(*n)));
        json!({
            "part": row.name, "all": counts(row.all()), "files": files.collect::<serde_json::Map<_, _>>(),
            "missed": row.missed, "passed": row.all().holds(),
        })
    };
    json!({ "command": "cargo xtask mutants", "parts": rows.iter().map(row).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_changes_is_counted_by_file() {
        let lists = [
            "crates/corelm/src/plan.rs:1:2: replace a\ncrates/corelm/src/plan.rs:3:2: replace b\n",
            "crates/corelm/src/plan.rs:5:2: replace + with *\n",
            "crates/corelm/src/gguf/value.rs:1:2: replace c\n",
            "crates/corelm/src/plan.rs:9:9: replace d\n",
        ];
        let row = Row::read("plan", &lists.map(str::to_owned));
        assert_eq!(row.files["plan.rs"], Counts { caught: 2, timeout: 1, missed: 0, unviable: 1 });
        assert_eq!((row.all().noticed(), row.all().holds()), ((3, 4), false));
        assert_eq!(row.missed, ["crates/corelm/src/gguf/value.rs:1:2: replace c"]);
        assert!(Counts { caught: 9, missed: 1, ..Counts::default() }.holds());
    }

    #[test]
    fn files_are_those_of_the_part() {
        let asked = ["gguf/value.rs".to_owned(), "plan.rs".to_owned()];
        assert_eq!(files(&PARTS[0], &asked), ["gguf/value.rs"]);
        assert_eq!(files(&PARTS[0], &[]), ["gguf.rs", "gguf/**"]);
    }
}
