//! `cargo xtask mutants`: changes the parser, the plan, the sampler and the tokenizer in one place at a time, and counts how often
//! no test notices.
//!
//! cargo-mutants makes the changes, in a copy of the repository. Each costs a build and some tests, five seconds or so on two
//! cores that do nothing else: with `--shard 0/10` every tenth change of a large part is tried, of all its files. What the quick tests
//! miss is tried again with unit tests, and then with the slow ones. Tests that go through everything there is are left out, as
//! they take longer than all others together.

mod copy;

use crate::figures;
use crate::parts::{PARTS, Part};
use crate::process::{self, cargo};
use crate::workspace;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The options of `cargo xtask mutants`.
#[derive(clap::Args, Default)]
pub struct Options {
    /// The part; all of them by default
    #[arg(value_parser = PARTS.map(|part| part.name))]
    part: Option<String>,
    /// Files of `crates/corelm/src` alone, as `gguf/value.rs`
    #[arg(long = "file")]
    files: Vec<String>,
    /// One share of the changes of a part with more than a thousand: `K/N` with K from 0
    #[arg(long)]
    shard: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Every tenth change of large parts: all of them take a day.
    pub fn tenth() -> Options {
        Options { shard: Some("0/10".to_owned()), ..Options::default() }
    }
}

/// Changes of a part of which a test must notice, in hundredths.
const CAUGHT: usize = 90;
/// A part with more changes is tried in shares where that is asked for: a share of fewer says nothing.
const MANY: usize = 1000;
/// Tests that go through everything there is.
const EXHAUSTIVE: [&str; 9] = [
    "what_is_certain_stays",
    "all_short_texts_are_cleaned",
    "any_bytes_are_cut_into_pieces",
    "changed_bytes_are_refused_or_safe",
    "changed_maps_are_refused_or_safe",
    "no_text_takes_more_than_its_longest_tokens",
    "every_prefix",
    "every_flipped_bit",
    "draws_follow_the_probabilities",
];
/// Tests that take longer than building: for the changes that all others miss.
const SLOW: [&str; 23] = [
    "a_ready_index_gives_the_same_tokens",
    "a_scratch_serves_many_texts",
    "any_bytes_come_back",
    "damage_of_a_large_index_is_found",
    "every_case_is_answered",
    "every_size_of_the_arena",
    "every_text_of_up_to_two_bytes",
    "tokenizer::fixtures_are_exact",
    "generation_ends_where_it_does",
    "little_is_held_back",
    "merges_by_rank",
    "merges_by_score",
    "names_of_control_tokens_are_text",
    "no_table_makes_text_a_control_token",
    "no_text_is_quadratic",
    "parts_have_the_tokens_of_the_whole",
    "random_texts_are_text",
    "random_vocabularies_agree",
    "spans_are_what_tokens_decode_to",
    "special_tokens_are_exact",
    "the_fixture_is_exact",
    "the_good_models_give_the_tokens",
    "what_cannot_be_used_is_built",
];
/// Tests that take so many times as long as without a change, and at least so many seconds, go on for ever: they noticed.
const TIMEOUT: [&str; 4] = ["--timeout-multiplier", "5", "--minimum-test-timeout", "20"];
/// Optimised a little, tests take a tenth of the time, and building as long. `--fail-fast` of the tests is an option that Rust 1.95
/// does not have without `RUSTC_BOOTSTRAP`.
const BUILD: [(&str, &str); 6] = [
    ("CARGO_PROFILE_TEST_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_DEV_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_TEST_DEBUG", "0"),
    ("CARGO_PROFILE_DEV_DEBUG", "0"),
    ("CARGO_INCREMENTAL", "1"),
    ("RUSTC_BOOTSTRAP", "1"),
];

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

    /// With those that did not compile.
    fn tried(self) -> usize {
        self.noticed().1 + self.unviable
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
    /// Changes that there are.
    n_changes: usize,
}

impl Row {
    fn all(&self) -> Counts {
        let mut all = Counts::default();
        self.files.values().for_each(|counts| all.add(*counts));
        all
    }

    /// `tokenizer 209 of 215 noticed, 240 of 2385 tried`, where not all were.
    fn told(&self) -> String {
        let (noticed, all) = self.all().noticed();
        let told = format!("{} {noticed} of {all} noticed", self.name);
        if self.is_whole() {
            return told;
        }
        format!("{told}, {} of {} tried", self.all().tried(), self.n_changes)
    }

    fn is_whole(&self) -> bool {
        self.all().tried() >= self.n_changes
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

/// Tells how many changes of every part were noticed; of how many, where not all were tried.
fn tell(rows: &[Row]) {
    figures::note("R20", "mutants", told(rows));
}

fn told(rows: &[Row]) -> String {
    let told: Vec<String> = rows.iter().map(Row::told).collect();
    let verdict = match rows {
        _ if !rows.iter().all(|row| row.all().holds()) => figures::MISSED,
        _ if rows.len() < PARTS.len() || !rows.iter().all(Row::is_whole) => figures::SHORT,
        _ => "",
    };
    format!("{verdict}{}", told.join("; "))
}

/// Tries a part's changes in passes, each with those that the tests of the ones before missed.
fn mutate(part: &Part, options: &Options) -> Result<Row> {
    let folder = workspace::scratch_file("mutants")?;
    let root = copy::update(&folder)?;
    let all = format!("--cargo-arg=--test={}", copy::join_tests(&root, part)?);
    let listed = process::output(changes(part, &[], &root).arg("--list"))?;
    let listed: Vec<&str> = listed.lines().collect();
    let shard = options.shard.as_ref().filter(|_| listed.len() > MANY);
    let mut row = Row { name: part.name, n_changes: listed.len(), ..Row::default() };
    let quick = [&EXHAUSTIVE[..], &SLOW[..]].concat();
    let passes = [(&all[..], &quick[..]), ("--cargo-arg=--lib", &EXHAUSTIVE), (&all, &EXHAUSTIVE)];
    for (i, (tests, skipped)) in passes.into_iter().enumerate() {
        let mut mutants = changes(part, &options.files, &root);
        mutants.arg(tests).env("CARGO_TARGET_DIR", folder.join("target"));
        let is_done = |name: &&&str| i > 0 && !row.missed.iter().any(|missed| missed == **name);
        let done: Vec<&str> = listed.iter().filter(is_done).copied().collect();
        if let Some(shard) = shard.filter(|_| i == 0) {
            mutants.args(["--sharding", "round-robin", "--shard", shard]);
        }
        let lists = attempt(mutants, &done, skipped, &folder.join(part.name))?;
        let n_missed = row.missed.len();
        let n_tried = row.pass(&lists);
        ensure!(if i > 0 { n_tried == n_missed } else { n_tried > 0 }, "{n_tried} changes were tried");
        if row.missed.is_empty() {
            break;
        }
    }
    Ok(row)
}

/// Runs cargo-mutants without some changes and some tests, and gives its lists of what was caught, timed out, missed and unviable.
fn attempt(mut mutants: Command, done: &[&str], skipped: &[&str], out: &Path) -> Result<[String; 4]> {
    let _ = fs::remove_dir_all(out);
    let lists = out.join("mutants.out");
    fs::create_dir_all(&lists)?;
    // What it is told to have caught. Its `--re` leaves out no change of a field, whatever the name.
    fs::write(lists.join("previously_caught.txt"), done.join("\n"))?;
    mutants.args(["--in-place", "--iterate"]).args(TIMEOUT).arg("--output").arg(out).envs(BUILD);
    mutants.args(["--", "--", "-Zunstable-options", "--fail-fast"]);
    mutants.args(skipped.iter().flat_map(|test| ["--skip", *test]));
    // Its exit status tells of changes that were not noticed, which is no failure of the run.
    let status = mutants.status().context("cannot start cargo-mutants")?;
    let lists = ["caught.txt", "timeout.txt", "missed.txt", "unviable.txt"]
        .map(|name| fs::read_to_string(lists.join(name)).unwrap_or_default());
    ensure!(lists.iter().any(|list| !list.is_empty()), "it tried nothing ({status}); see {}", out.display());
    Ok(lists)
}

/// cargo-mutants on a part's files, or on those of them that are asked for.
fn changes(part: &Part, asked: &[String], root: &Path) -> Command {
    let mut mutants = cargo(&["mutants", "--package", "corelm", "--no-shuffle"]);
    mutants.current_dir(root);
    for file in files(part, asked) {
        mutants.args(["--file", &format!("crates/corelm/src/{file}")]);
    }
    mutants.args(["--exclude", "crates/corelm/src/**/tests.rs"]);
    mutants
}

/// What cargo-mutants is told of a part's files.
fn files(part: &Part, asked: &[String]) -> Vec<String> {
    if !asked.is_empty() {
        return asked.iter().filter(|file| part.has(file)).cloned().collect();
    }
    part.files
        .iter()
        .map(|file| if file.ends_with('/') { format!("{file}**") } else { (*file).to_owned() })
        .collect()
}

impl Row {
    /// Takes what a pass caught, what timed out, was missed and is unviable, `file:line:column: change` each, in the place of what
    /// the passes before missed. Gives how many they are.
    fn pass(&mut self, lists: &[String; 4]) -> usize {
        for counts in self.files.values_mut() {
            counts.missed = 0;
        }
        for (i, list) in lists.iter().enumerate() {
            for line in list.lines() {
                let Some((file, _)) = line.split_once(':') else { continue };
                let file = file.trim_start_matches("crates/corelm/src/").to_owned();
                let counts = self.files.entry(file).or_default();
                let [caught, timeout, missed, unviable] = [0, 1, 2, 3].map(|which| usize::from(i == which));
                counts.add(Counts { caught, timeout, missed, unviable });
            }
        }
        self.missed = lists[2].lines().map(str::to_owned).collect();
        lists.iter().map(|list| list.lines().count()).sum()
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
            "missed": row.missed, "changes": row.n_changes, "passed": row.all().holds(),
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
        let mut row = Row::default();
        assert_eq!(row.pass(&lists.map(str::to_owned)), 5);
        assert_eq!(row.files["plan.rs"], Counts { caught: 2, timeout: 1, missed: 0, unviable: 1 });
        assert_eq!((row.all().noticed(), row.all().holds()), ((3, 4), false));
        assert_eq!(row.missed, ["crates/corelm/src/gguf/value.rs:1:2: replace c"]);
        // A second pass catches it.
        assert_eq!(row.pass(&[lists[2], "", "", ""].map(str::to_owned)), 1);
        assert_eq!((row.all().noticed(), row.all().tried(), row.missed.len()), ((4, 4), 5, 0));
        assert!(Counts { caught: 9, missed: 1, ..Counts::default() }.holds());
    }

    #[test]
    fn a_part_of_the_changes_is_told_as_one() {
        let counts = Counts { caught: 18, timeout: 1, missed: 1, unviable: 3 };
        let row = |name, n_changes| {
            let files = BTreeMap::from([("a.rs".to_owned(), counts)]);
            Row { name, files, n_changes, missed: Vec::new() }
        };
        let all = PARTS.map(|part| row(part.name, 23));
        assert!(told(&all).starts_with("parser 19 of 20 noticed; plan 19 of 20 noticed; "));
        assert_eq!(told(&all[..1]), "short: parser 19 of 20 noticed");
        let few = PARTS.map(|part| row(part.name, if part.name == "tokenizer" { 2000 } else { 23 }));
        assert!(told(&few).starts_with("short: parser 19 of 20 noticed; "));
        assert!(told(&few).ends_with("; tokenizer 19 of 20 noticed, 23 of 2000 tried"));
        let missed = Counts { missed: 1, ..Counts::default() };
        let bad = Row { files: BTreeMap::from([("a.rs".to_owned(), missed)]), ..row("plan", 23) };
        assert_eq!(told(&[bad]), "missed: plan 0 of 1 noticed, 1 of 23 tried");
    }

    #[test]
    fn files_are_those_of_the_part() {
        let asked = ["gguf/value.rs".to_owned(), "plan.rs".to_owned()];
        assert_eq!(files(&PARTS[0], &asked), ["gguf/value.rs"]);
        assert_eq!(files(&PARTS[0], &[]), ["gguf.rs", "gguf/**"]);
    }
}
