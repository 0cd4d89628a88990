//! The table, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::Options;
use crate::engines::{self, ENGINE};
use crate::vocabulary::Vocabulary;

/// All that was found out.
pub struct Report {
    commit: String,
    vocabulary: String,
    rounds: usize,
    cpu: String,
    load_before: f64,
    pub rows: Vec<Row>,
    notes: Vec<String>,
}

/// One row of the table.
pub struct Row {
    pub name: String,
    pub unit: Unit,
    /// Criterion's median in each round, by engine.
    pub nanos: BTreeMap<&'static str, Vec<f64>>,
}

/// How a time is told.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// As a rate of so many bytes.
    BytesPerSecond(usize),
    Micros,
    Millis,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::BytesPerSecond(_) => "MB/s",
            Unit::Micros => "µs",
            Unit::Millis => "ms",
        }
    }

    fn figure(self, nanos: f64) -> f64 {
        match self {
            Unit::BytesPerSecond(bytes) => bytes as f64 * 1e3 / nanos,
            Unit::Micros => nanos / 1e3,
            Unit::Millis => nanos / 1e6,
        }
    }
}

impl Row {
    fn nanos(&self, engine: &str) -> Option<f64> {
        median(self.nanos.get(engine)?)
    }

    /// Half the distance between the best and the worst round, by the median.
    fn spread(&self, engine: &str) -> Option<f64> {
        let all = self.nanos.get(engine)?;
        let (least, most) = (all.iter().copied().reduce(f64::min)?, all.iter().copied().reduce(f64::max)?);
        Some((most - least) / 2.0 / median(all)?)
    }

    /// The peer's time over the engine's.
    fn ratio(&self, peer: &str) -> Option<f64> {
        Some(self.nanos(peer)? / self.nanos(ENGINE)?)
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let mid = values.len() / 2;
    match values.len() % 2 {
        0 => Some((values.get(mid.checked_sub(1)?)? + values.get(mid)?) / 2.0),
        _ => values.get(mid).copied(),
    }
}

impl Report {
    pub fn new(options: &Options, vocabulary: &Vocabulary) -> Self {
        let mut report = Self {
            commit: options.commit.clone(),
            vocabulary: format!(
                "{} ({}, {} tokens of text)",
                vocabulary.name,
                vocabulary.pre,
                vocabulary.tokens.len()
            ),
            rounds: options.rounds.get(),
            cpu: cpu(),
            load_before: load(),
            rows: Vec::new(),
            notes: Vec::new(),
        };
        if report.load_before > 0.5 {
            report.note(format!(
                "the machine was not idle: load {:.1} before the first measurement",
                report.load_before
            ));
        }
        report
    }

    /// Says something to whoever waits, and in the report.
    pub fn note(&mut self, note: String) {
        eprintln!("tokenizers: {note}");
        self.notes.push(note);
    }

    /// Notes what a text is.
    pub fn text(&mut self, name: &str, n_bytes: usize, n_documents: usize, n_tokens: usize) {
        self.note(format!("{name}: {n_bytes} bytes in {n_documents} documents, {n_tokens} tokens"));
    }

    /// Prints the table, and writes it to tokenizers.md and tokenizers.json in `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let table = self.table()?;
        println!("\n{table}");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("tokenizers.md", &table)?;
        write("tokenizers.json", &format!("{:#}\n", self.json()))
    }

    fn table(&self) -> Result<String, std::fmt::Error> {
        let is_there = |name: &&str| self.rows.iter().any(|row| row.nanos.contains_key(name));
        let peers: Vec<&str> = engines::names().filter(|name| *name != ENGINE).filter(is_there).collect();
        let mut table = String::new();
        write!(table, "| {} | | {ENGINE} |", self.vocabulary)?;
        peers.iter().try_for_each(|peer| write!(table, " {peer} {} |", version(peer)))?;
        writeln!(table, "\n|---|---|{}", "--:|".repeat(peers.len() + 1))?;
        for row in &self.rows {
            let figure =
                |engine| row.nanos(engine).map(|nanos| digits(row.unit.figure(nanos))).unwrap_or_default();
            let spread = row.spread(ENGINE).unwrap_or_default() * 100.0;
            write!(table, "| {} | {} | {} ±{spread:.0}% |", row.name, row.unit.name(), figure(ENGINE))?;
            for peer in &peers {
                match row.ratio(peer) {
                    Some(ratio) => write!(table, " {} (**{}**) |", figure(peer), digits(ratio))?,
                    None => write!(table, " |")?,
                }
            }
            writeln!(table)?;
        }
        writeln!(
            table,
            "\nIn brackets: how many times as fast {ENGINE} is. One core of {}, medians of {} rounds by turns{}.",
            self.cpu,
            self.rounds,
            if self.commit.is_empty() { String::new() } else { format!(", commit {}", self.commit) }
        )?;
        self.notes.iter().try_for_each(|note| writeln!(table, "- {note}"))?;
        Ok(table)
    }

    fn json(&self) -> serde_json::Value {
        let rows = self.rows.iter().map(|row| {
            let sides = row.nanos.iter().map(|(engine, nanos)| {
                let side = json!({
                    "nanos": nanos,
                    "figure": row.nanos(engine).map(|nanos| row.unit.figure(nanos)),
                    "ratio": row.ratio(engine),
                    "spread": row.spread(engine),
                });
                (engine.to_string(), side)
            });
            json!({ "name": row.name, "unit": row.unit.name(), "engines": sides.collect::<serde_json::Map<_, _>>() })
        });
        let versions = engines::names()
            .filter(|name| *name != ENGINE)
            .map(|name| (name.to_owned(), version(name).into()));
        json!({
            "vocabulary": self.vocabulary,
            "commit": self.commit,
            "cpu": self.cpu,
            "rounds": self.rounds,
            "load_before": self.load_before,
            "load_after": load(),
            "versions": versions.collect::<serde_json::Map<_, _>>(),
            "rows": rows.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// Three digits that count.
fn digits(figure: f64) -> String {
    match figure {
        0.0..10.0 => format!("{figure:.2}"),
        10.0..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

/// The version of a peer that was built in.
fn version(name: &str) -> &'static str {
    let is_number = |major: &str| major.parse::<u32>().is_ok();
    let (package, major) = name.rsplit_once('-').filter(|(_, major)| is_number(major)).unwrap_or((name, ""));
    let mut lines = include_str!("../Cargo.lock").lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("name = ").is_some_and(|name| name.trim_matches('"') == package)
            && let Some(version) = lines.next().and_then(|line| line.strip_prefix("version = "))
            && version.trim_matches('"').starts_with(major)
        {
            return version.trim_matches('"');
        }
    }
    ""
}

fn cpu() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Programs that ran or wanted to, on average over the last minute; 0 where the system does not say.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_count_and_the_peer_is_above() {
        let nanos = BTreeMap::from([(ENGINE, vec![20.0, 10.0, 30.0]), ("bpe", vec![80.0, 40.0])]);
        let row = Row { name: "text".into(), unit: Unit::BytesPerSecond(40), nanos };
        assert_eq!(row.ratio("bpe"), Some(3.0));
        assert_eq!(row.spread(ENGINE), Some(0.5));
        assert_eq!(row.unit.figure(20.0), 2000.0);
        assert_eq!(row.ratio("kitoken"), None);
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert!(engines::names().skip(1).all(|name| version(name).split('.').count() >= 3));
        assert!(version("tokenizers-1").starts_with("1.") && version("tokenizers").starts_with("0."));
        assert_eq!(version("kit"), "");
    }
}
