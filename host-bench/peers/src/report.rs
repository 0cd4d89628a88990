//! The table, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Error, Result as Outcome};
use serde::Serialize;
use serde_json::json;

use crate::contenders::Contender;
use crate::probe::Limits;
use crate::products::TURNS;
use crate::rows::Row;

/// Medians that differ by less than this count as equal.
const TIE: f64 = 0.05;

/// All that was found out.
pub struct Report {
    pub machine: Machine,
    pub commit: String,
    pub rounds: usize,
    /// What each peer says about its build.
    pub versions: BTreeMap<String, String>,
    pub limits: Vec<Limits>,
    pub rows: Vec<Result>,
    /// What could not be built or measured, and what makes the figures doubtful.
    pub notes: Vec<String>,
}

/// Where it was measured.
#[derive(Default, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub n_cpus: usize,
    /// When the system gives large pages: always, to who asks, or never.
    pub huge_pages: String,
    pub unix_time_s: u64,
    pub load_before: f64,
    pub load_after: f64,
}

/// One row of the table.
pub struct Result {
    pub name: String,
    pub model: String,
    pub quant: String,
    pub test: String,
    pub unit: Unit,
    pub threads: usize,
    /// How much of the CPU both sides may use.
    pub cpu: String,
    /// The engine's back-end.
    pub backend: String,
    pub corelm: Side,
    pub peers: Vec<Side>,
    pub limit: Option<Limit>,
}

/// What a row counts, and how its figures are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// By how many a second.
    Tokens,
    /// By how long one takes.
    Products,
}

impl Unit {
    /// What `per_s` a second is in `t/s` or `µs`.
    fn figure(self, per_s: f64) -> f64 {
        match self {
            Unit::Tokens => per_s,
            Unit::Products => 1e6 / per_s,
        }
    }

    /// For people.
    fn name(self) -> &'static str {
        match self {
            Unit::Tokens => "t/s",
            Unit::Products => "µs",
        }
    }

    /// For keys in JSON.
    fn suffix(self) -> &'static str {
        match self {
            Unit::Tokens => "ts",
            Unit::Products => "us",
        }
    }
}

/// What one engine reached.
pub struct Side {
    pub engine: String,
    pub variant: String,
    pub pages: String,
    /// One figure for each round: tokens or products per second.
    pub per_s: Vec<f64>,
}

/// What the machine could reach at most.
pub struct Limit {
    pub of: String,
    pub tokens_per_s: f64,
}

impl Side {
    /// The engine, and the variant in brackets.
    pub fn name(&self) -> String {
        if self.variant.is_empty() {
            self.engine.clone()
        } else {
            format!("{} ({})", self.engine, self.variant)
        }
    }

    pub fn median(&self) -> f64 {
        median(&self.per_s)
    }

    /// Half the distance between the best and the worst figure, as a share of the median.
    pub fn spread(&self) -> f64 {
        let sorted = self.sorted();
        let range = sorted.last().zip(sorted.first()).map_or(f64::NAN, |(most, least)| most - least);
        range / 2.0 / self.median()
    }

    fn sorted(&self) -> Vec<f64> {
        sorted(&self.per_s)
    }
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The middle figure, or the mean of the two in the middle; of none, no number.
pub fn median(figures: &[f64]) -> f64 {
    let sorted = sorted(figures);
    let (low, high) = (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2));
    low.zip(high).map_or(f64::NAN, |(low, high)| (low + high) / 2.0)
}

impl Result {
    /// Each peer once, in its best variant.
    pub fn best_peers(&self) -> Vec<&Side> {
        let mut best: Vec<&Side> = Vec::new();
        for side in &self.peers {
            match best.iter_mut().find(|other| other.engine == side.engine) {
                Some(other) if side.median() > other.median() => *other = side,
                Some(_) => {}
                None => best.push(side),
            }
        }
        best
    }

    /// The engine's rate over the peer's.
    pub fn ratio(&self, peer: &Side) -> f64 {
        self.corelm.median() / peer.median()
    }

    /// The share of the machine's limit that `side` reached.
    pub fn share(&self, side: &Side) -> Option<f64> {
        Some(side.median() / self.limit.as_ref()?.tokens_per_s)
    }

    /// One line while measuring goes on.
    pub fn summary(&self) -> String {
        let figure = |side: &Side| self.unit.figure(side.median());
        let mut line = format!("{}: corelm {:.2}", self.name, figure(&self.corelm));
        for peer in &self.peers {
            line += &format!(", {} {:.2}", peer.name(), figure(peer));
        }
        line + " " + self.unit.name()
    }
}

/// `ahead`, `tie` or `behind`; with a question mark where the worst round of the faster lies below the best of the slower,
/// so that chance may have decided.
fn verdict(corelm: &Side, peer: &Side) -> &'static str {
    let ratio = corelm.median() / peer.median();
    let (fast, slow) = if ratio > 1.0 { (corelm, peer) } else { (peer, corelm) };
    let is_doubtful = fast.sorted().first().zip(slow.sorted().last()).is_some_and(|(fast, slow)| fast < slow);
    match (ratio, is_doubtful) {
        _ if (ratio - 1.0).abs() <= TIE => "tie",
        (1.0.., true) => "ahead?",
        (1.0.., false) => "ahead",
        (_, true) => "behind?",
        (_, false) => "behind",
    }
}

impl Report {
    /// Of so many rounds, and nothing found out so far.
    pub fn new(rounds: usize, notes: Vec<String>) -> Report {
        Report {
            machine: Machine::default(),
            commit: String::new(),
            rounds,
            versions: BTreeMap::new(),
            limits: Vec::new(),
            rows: Vec::new(),
            notes,
        }
    }

    /// Adds a line that the reader has to know, and shows it at once.
    pub fn note(&mut self, line: String) {
        eprintln!("peers: {line}");
        self.notes.push(line);
    }

    /// Notes that `contender` is left out of `row`.
    pub fn failed(&mut self, row: &Row, contender: &Contender, error: &Error) {
        self.note(format!("{row}: {} failed: {error:#}", contender.name()));
    }

    /// Prints the table and writes `peers.json` and `peers.md` into `folder`.
    pub fn write(&self, folder: &Path) -> Outcome<()> {
        let markdown = self.markdown();
        print!("{markdown}");
        let json = serde_json::to_string_pretty(&self.json())?;
        for (name, text) in [("peers.json", json + "\n"), ("peers.md", markdown)] {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn markdown(&self) -> String {
        let Machine { cpu, n_cpus, huge_pages, load_before, load_after, .. } = &self.machine;
        let mut text = format!("# The engine beside its peers, {}\n\n", date(self.machine.unix_time_s));
        // By reference: rustc 1.95 lets a closure free an empty string twice that it is given twice (rust-lang/rust#155241).
        let mut line = |words: &str| {
            text += words;
            text += "\n";
        };
        line(&format!(
            "{cpu}, {n_cpus} CPUs; transparent huge pages: {huge_pages}; load {load_before:.1} before, {load_after:.1} after."
        ));
        line(&format!(
            "Medians of {} rounds, engines by turns, each in a process of its own; ± is half the range.",
            self.rounds
        ));
        if self.rows.iter().any(|row| row.unit == Unit::Products) {
            line(&format!(
                "gemv: one product on one thread, from the caches; a round's figure is the median of {TURNS} processes."
            ));
        }
        line("");
        line(&format!("- corelm {}{}", self.commit, self.pages("corelm")));
        for (name, version) in &self.versions {
            let engine = name.split(',').next().unwrap_or(name);
            line(&format!("- {name} {version}{}", self.pages(engine)));
        }
        for note in &self.notes {
            line(&format!("- note: {note}"));
        }
        line("");
        text += &table(&self.cells());
        text += "\nThe machine's limits, measured:\n\n";
        text += &table(&self.limit_cells());
        text
    }

    /// Where the engine's matrices lay while models ran.
    fn pages(&self, engine: &str) -> String {
        let models = self.rows.iter().filter(|row| row.unit == Unit::Tokens);
        let mut sides = models.flat_map(|row| row.peers.iter().chain([&row.corelm]));
        let side = sides.find(|side| side.engine == engine);
        side.map_or_else(String::new, |side| format!(": matrices in {}", side.pages))
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut cells = vec![words(&[
            "model",
            "test",
            "threads",
            "cpu",
            "corelm",
            "peer",
            "peer's",
            "ratio",
            "",
            "corelm of limit",
            "peer of limit",
            "limit",
        ])];
        let rate = |row: &Result, side: &Side| {
            let figure = row.unit.figure(side.median());
            format!("{figure:.2} {} ± {:.0} %", row.unit.name(), 100.0 * side.spread())
        };
        let percent =
            |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share));
        for row in &self.rows {
            let mut cell = |peer: Option<&Side>| {
                let ratio = peer.map(|peer| row.ratio(peer));
                cells.push(vec![
                    format!("{} {}", row.model, row.quant),
                    row.test.clone(),
                    row.threads.to_string(),
                    row.cpu.clone(),
                    rate(row, &row.corelm),
                    peer.map_or_else(|| "none".to_owned(), Side::name),
                    peer.map_or_else(String::new, |peer| rate(row, peer)),
                    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                    peer.map_or("", |peer| verdict(&row.corelm, peer)).to_owned(),
                    percent(row.share(&row.corelm)),
                    percent(peer.and_then(|peer| row.share(peer))),
                    row.limit.as_ref().map_or_else(String::new, |limit| limit.of.clone()),
                ]);
            };
            let peers = row.best_peers();
            if peers.is_empty() {
                cell(None);
            }
            peers.into_iter().for_each(|peer| cell(Some(peer)));
        }
        cells
    }

    fn limit_cells(&self) -> Vec<Vec<String>> {
        let mut cells = vec![vec!["threads".to_owned(), "what".to_owned(), "limit".to_owned()]];
        for limits in &self.limits {
            let threads = limits.threads.to_string();
            let read = format!("{:.1} GB/s", limits.read_bytes_per_s / 1e9);
            cells.push(vec![threads.clone(), "reading memory".to_owned(), read]);
            for rate in &limits.peaks {
                let what = format!("{}, {}", rate.ty, rate.instruction);
                cells.push(vec![threads.clone(), what, format!("{:.0} Gop/s", rate.ops_per_s / 1e9)]);
            }
        }
        cells
    }

    fn json(&self) -> serde_json::Value {
        let side = |row: &Result, side: &Side| {
            let (unit, suffix) = (row.unit, row.unit.suffix());
            let samples: Vec<f64> = side.per_s.iter().map(|&per_s| unit.figure(per_s)).collect();
            json!({
                "engine": side.engine, "variant": side.variant, "pages": side.pages,
                format!("median_{suffix}"): unit.figure(side.median()), "spread": side.spread(),
                format!("samples_{suffix}"): samples, "share_of_limit": row.share(side),
            })
        };
        let rows = self.rows.iter().map(|row| {
            let peers = row.best_peers().into_iter().map(|peer| {
                json!({ "peer": peer.name(), "ratio": row.ratio(peer), "verdict": verdict(&row.corelm, peer) })
            });
            json!({
                "name": row.name, "model": row.model, "quant": row.quant, "test": row.test, "threads": row.threads,
                "cpu": row.cpu, "backend": row.backend, "corelm": side(row, &row.corelm),
                "peers": row.peers.iter().map(|peer| side(row, peer)).collect::<Vec<_>>(),
                "against": peers.collect::<Vec<_>>(),
                "limit": row.limit.as_ref().map(|limit| json!({ "of": limit.of, "ts": limit.tokens_per_s })),
            })
        });
        json!({
            "machine": self.machine, "commit": self.commit, "rounds": self.rounds, "versions": self.versions,
            "limits": self.limits, "rows": rows.collect::<Vec<_>>(), "notes": self.notes,
        })
    }
}

/// A Markdown table whose columns line up; the first row is the heading.
fn table(cells: &[Vec<String>]) -> String {
    let n_columns = cells.first().map_or(0, Vec::len);
    let width = |column: usize| {
        cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let mut text = String::new();
    for (n, row) in cells.iter().enumerate() {
        for (cell, &width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(text, "| {cell:<width$} ");
        }
        text += "|\n";
        if n == 0 {
            widths.iter().for_each(|&width| text += &format!("|{}", "-".repeat(width + 2)));
            text += "|\n";
        }
    }
    text
}

/// The day as year-month-day (the Gregorian calendar, counted in eras of 400 years that begin in March).
fn date(unix_time_s: u64) -> String {
    let days = unix_time_s / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{}-{month:02}-{day_of_month:02}", 400 * era + year + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(engine: &str, variant: &str, rates: &[f64]) -> Side {
        let [engine, variant] = [engine, variant].map(str::to_owned);
        Side { engine, variant, pages: String::new(), per_s: rates.to_vec() }
    }

    fn row(unit: Unit, peers: Vec<Side>) -> Result {
        let [name, model, quant, test, cpu, backend] = ["n", "m", "q", "t", "c", "b"].map(str::to_owned);
        let corelm = side("corelm", "", &[3.0]);
        Result { name, model, quant, test, unit, threads: 1, cpu, backend, corelm, peers, limit: None }
    }

    #[test]
    fn products_are_shown_by_their_time() {
        let mut report = Report::new(1, Vec::new());
        report.rows.extend([Unit::Tokens, Unit::Products].map(|unit| row(unit, vec![side("a", "", &[2.0])])));
        let markdown = report.markdown();
        let has = |cells: [&str; 3]| {
            markdown.lines().any(|line| cells.iter().all(|cell| line.contains(&format!("| {cell} "))))
        };
        assert!(has(["3.00 t/s ± 0 %", "2.00 t/s ± 0 %", "1.50"]), "{markdown}");
        assert!(has(["333333.33 µs ± 0 %", "500000.00 µs ± 0 %", "1.50"]), "{markdown}");
        let rows = &report.json()["rows"];
        assert_eq!(
            (&rows[0]["corelm"]["median_ts"], &rows[1]["peers"][0]["median_us"]),
            (&json!(3.0), &json!(5e5))
        );
    }

    #[test]
    fn medians_and_spreads() {
        let five = side("a", "", &[9.0, 1.0, 5.0, 4.0, 6.0]);
        assert_eq!((five.median(), five.spread()), (5.0, 0.8));
        assert_eq!(side("a", "", &[1.0, 2.0]).median(), 1.5);
    }

    #[test]
    fn the_better_variant_counts() {
        let row =
            row(Unit::Tokens, vec![side("a", "x", &[1.0]), side("b", "", &[9.0]), side("a", "y", &[2.0])]);
        let names: Vec<String> = row.best_peers().into_iter().map(Side::name).collect();
        assert_eq!(names, ["a (y)", "b"]);
        assert_eq!(row.ratio(&row.peers[2]), 1.5);
        let verdict =
            |corelm: &[f64]| verdict(&side("corelm", "", corelm), &side("a", "", &[0.99, 1.0, 1.01]));
        assert_eq!(
            [&[0.96], &[0.94], &[1.04], &[1.06]].map(|one| verdict(one)),
            ["tie", "behind", "tie", "ahead"]
        );
        assert_eq!([verdict(&[1.0, 1.5, 1.6]), verdict(&[0.5, 0.6, 1.0])], ["ahead?", "behind?"]);
    }

    #[test]
    fn days_have_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_795_910_400), "2026-11-29");
    }
}
