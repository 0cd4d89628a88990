//! The table, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result as Outcome};
use serde::Serialize;
use serde_json::json;

use crate::probe::Limits;

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
#[derive(Serialize)]
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
    pub threads: usize,
    /// How much of the CPU both sides may use.
    pub cpu: String,
    /// The engine's back-end.
    pub backend: String,
    pub corelm: Side,
    pub peers: Vec<Side>,
    pub limit: Option<Limit>,
}

/// What one engine reached.
pub struct Side {
    pub engine: String,
    pub variant: String,
    pub pages: String,
    /// One figure for each round.
    pub tokens_per_s: Vec<f64>,
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
        let sorted = self.sorted();
        let (low, high) = (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2));
        low.zip(high).map_or(f64::NAN, |(low, high)| (low + high) / 2.0)
    }

    /// Half the distance between the best and the worst figure, as a share of the median.
    pub fn spread(&self) -> f64 {
        let sorted = self.sorted();
        let range = sorted.last().zip(sorted.first()).map_or(f64::NAN, |(most, least)| most - least);
        range / 2.0 / self.median()
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.tokens_per_s.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
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
        let mut line = format!("{}: corelm {:.2}", self.name, self.corelm.median());
        for peer in &self.peers {
            line += &format!(", {} {:.2}", peer.name(), peer.median());
        }
        line
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
    /// Adds a line that the reader has to know, and shows it at once.
    pub fn note(&mut self, line: String) {
        eprintln!("peers: {line}");
        self.notes.push(line);
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
        let mut text = String::new();
        let mut line = |words: String| text += &(words + "\n");
        line(format!("# The engine beside its peers, {}\n", date(self.machine.unix_time_s)));
        line(format!(
            "{cpu}, {n_cpus} CPUs; transparent huge pages: {huge_pages}; load {load_before:.1} before, {load_after:.1} after."
        ));
        line(format!(
            "Medians of {} rounds, engines by turns, each in a process of its own; ± is half the range.\n",
            self.rounds
        ));
        line(format!("- corelm {}: {}", self.commit, self.pages("corelm")));
        for (name, version) in &self.versions {
            let engine = name.split(',').next().unwrap_or(name);
            line(format!("- {name} {version}: {}", self.pages(engine)));
        }
        for note in &self.notes {
            line(format!("- note: {note}"));
        }
        line(String::new());
        text += &table(&self.cells());
        text += "\nThe machine's limits, measured:\n\n";
        text += &table(&self.limit_cells());
        text
    }

    /// Where the engine's matrices lay.
    fn pages(&self, engine: &str) -> String {
        let mut sides = self.rows.iter().flat_map(|row| row.peers.iter().chain([&row.corelm]));
        let side = sides.find(|side| side.engine == engine);
        side.map_or_else(String::new, |side| format!("matrices in {}", side.pages))
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut cells = vec![words(&[
            "model",
            "test",
            "threads",
            "cpu",
            "corelm t/s",
            "peer",
            "peer t/s",
            "ratio",
            "",
            "corelm of limit",
            "peer of limit",
            "limit",
        ])];
        let rate = |side: &Side| format!("{:.2} ± {:.0} %", side.median(), 100.0 * side.spread());
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
                    rate(&row.corelm),
                    peer.map_or_else(|| "none".to_owned(), Side::name),
                    peer.map_or_else(String::new, rate),
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
            json!({
                "engine": side.engine, "variant": side.variant, "pages": side.pages, "median_ts": side.median(),
                "spread": side.spread(), "samples_ts": side.tokens_per_s, "share_of_limit": row.share(side),
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
        Side { engine, variant, pages: String::new(), tokens_per_s: rates.to_vec() }
    }

    #[test]
    fn medians_and_spreads() {
        let five = side("a", "", &[9.0, 1.0, 5.0, 4.0, 6.0]);
        assert_eq!((five.median(), five.spread()), (5.0, 0.8));
        assert_eq!(side("a", "", &[1.0, 2.0]).median(), 1.5);
    }

    #[test]
    fn the_better_variant_counts() {
        let row = Result {
            name: String::new(),
            model: String::new(),
            quant: String::new(),
            test: String::new(),
            threads: 1,
            cpu: String::new(),
            backend: String::new(),
            corelm: side("corelm", "", &[3.0]),
            peers: vec![side("a", "x", &[1.0]), side("b", "", &[9.0]), side("a", "y", &[2.0])],
            limit: None,
        };
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
