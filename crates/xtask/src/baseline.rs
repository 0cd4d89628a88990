//! Benchmark counts kept in the repository, and whether new ones are worse.
//!
//! Under `-icount shift=0` QEMU counts the same instructions every time, so a small tolerance finds a small loss. The
//! counts depend on the compiler: a baseline says which one it was recorded with.

use crate::json_lines;
use crate::setup::Toolchain;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// How much larger a count may be than the recorded one.
const TOLERANCE: f64 = 0.02;

/// The median count of each case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    /// `rustc --version` of the compiler that built what was counted.
    rustc: String,
    medians: BTreeMap<String, f64>,
}

/// What a comparison found; every list names cases with their counts.
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    /// Cases within the tolerance.
    pub n_same: usize,
    /// Cases beyond it, and recorded cases that were not run.
    pub worse: Vec<String>,
    /// Cases that need fewer by more than the tolerance, and cases not recorded yet.
    pub better: Vec<String>,
}

impl Baseline {
    /// Collects the JSON rows of a benchmark run.
    ///
    /// # Errors
    ///
    /// When there is no row, a row carries an error, or two rows have the same name.
    pub fn from_rows(printed: &str, rustc: &str) -> Result<Baseline> {
        let mut medians = BTreeMap::new();
        for row in json_lines::objects(printed)? {
            let Some(name) = row["case"].as_str() else { continue };
            let Some(median) = row["median"].as_f64() else {
                bail!("case {name} was not timed: {}", row["error"])
            };
            ensure!(medians.insert(name.to_owned(), median).is_none(), "case {name} was printed twice");
        }
        ensure!(!medians.is_empty(), "the run printed no benchmark row");
        Ok(Baseline { rustc: rustc.to_owned(), medians })
    }

    /// The counts of cases by name.
    pub fn from_counts(medians: BTreeMap<String, f64>, rustc: &str) -> Baseline {
        Baseline { rustc: rustc.to_owned(), medians }
    }

    /// Reads the recorded baseline `name`.
    ///
    /// # Errors
    ///
    /// When it was never recorded, or is damaged.
    pub fn load(name: &str) -> Result<Baseline> {
        let path = path(name)?;
        let text = fs::read_to_string(&path)
            .with_context(|| format!("no baseline {name}; record it with --save-baseline {name}"))?;
        Baseline::from_json(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Records this baseline as `name` and gives the file's path.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn save(&self, name: &str) -> Result<PathBuf> {
        let path = path(name)?;
        fs::create_dir_all(path.parent().context("a baseline lies in a folder")?)?;
        fs::write(&path, self.to_json()?).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Compares `new` counts with these.
    pub fn compare(&self, new: &Baseline) -> Comparison {
        let mut comparison = Comparison::default();
        for (name, &old) in &self.medians {
            let Some(&now) = new.medians.get(name) else {
                comparison.worse.push(format!("{name}: not run"));
                continue;
            };
            let line = || format!("{name}: {old} -> {now} ({:+.1} %)", (now / old - 1.0) * 100.0);
            if now > old * (1.0 + TOLERANCE) {
                comparison.worse.push(line());
            } else if now < old * (1.0 - TOLERANCE) {
                comparison.better.push(line());
            } else {
                comparison.n_same += 1;
            }
        }
        let unknown = new.medians.keys().filter(|name| !self.medians.contains_key(*name));
        comparison.better.extend(unknown.map(|name| format!("{name}: new")));
        comparison
    }

    /// Why counts of `other` cannot be compared with these.
    pub fn differs_in_compiler(&self, other: &Baseline) -> Option<String> {
        (self.rustc != other.rustc).then(|| format!("recorded with {}, this is {}", self.rustc, other.rustc))
    }

    fn from_json(text: &str) -> Result<Baseline> {
        let value: Value = serde_json::from_str(text)?;
        let rustc = value["rustc"].as_str().context("no `rustc`")?.to_owned();
        let entries = value["medians"].as_object().context("no `medians`")?;
        let median = |(name, count): (&String, &Value)| {
            Ok((name.clone(), count.as_f64().with_context(|| format!("{name} has no count"))?))
        };
        Ok(Baseline { rustc, medians: entries.iter().map(median).collect::<Result<_>>()? })
    }

    fn to_json(&self) -> Result<String> {
        let medians: Map<String, Value> = self.medians.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        Ok(serde_json::to_string_pretty(&json!({ "rustc": self.rustc, "medians": medians }))? + "\n")
    }
}

/// `rustc --version` of the compiler that builds the kernel.
///
/// # Errors
///
/// When it cannot be asked.
pub fn rustc_version(toolchain: Toolchain) -> Result<String> {
    Ok(crate::process::output(toolchain.rustc().arg("--version"))?.trim().to_owned())
}

fn path(name: &str) -> Result<PathBuf> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    ensure!(!name.is_empty() && name.chars().all(is_plain), "a baseline's name is letters, digits, - and _");
    // The host's counts are callgrind's, the others QEMU's.
    let folder = if name == "x86-64" { "host-bench/baselines" } else { "kernel-tests/baselines" };
    Ok(workspace::root().join(folder).join(format!("{name}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "booted\n{\"case\":\"dot/384/neon\",\"median\":100.0}\n{\"id\":4}\n{\"case\":\"rope/neon\",\"median\":50}\n";

    #[test]
    fn rows_become_a_baseline_and_survive_the_file() {
        let baseline = Baseline::from_rows(ROWS, "rustc 1").unwrap();
        assert_eq!(baseline.medians["dot/384/neon"], 100.0);
        assert_eq!(baseline.medians.len(), 2);
        assert_eq!(Baseline::from_json(&baseline.to_json().unwrap()).unwrap(), baseline);
    }

    #[test]
    fn broken_runs_are_refused() {
        assert!(Baseline::from_rows("nothing", "").is_err());
        assert!(Baseline::from_rows("{\"case\":\"a\",\"error\":\"too little memory\"}", "").is_err());
        assert!(Baseline::from_rows(&ROWS.replace("rope/neon", "dot/384/neon"), "").is_err());
        assert!(Baseline::from_json("{}").is_err());
        assert!(Baseline::from_json("{\"rustc\":\"\",\"medians\":{\"a\":\"x\"}}").is_err());
    }

    #[test]
    fn two_percent_more_is_worse() {
        let old = Baseline::from_rows(ROWS, "rustc 1").unwrap();
        let with = |count: &str| Baseline::from_rows(&ROWS.replace("100.0", count), "rustc 1").unwrap();
        assert_eq!(old.compare(&with("102")).n_same, 2);
        assert_eq!(old.compare(&with("103")).worse, ["dot/384/neon: 100 -> 103 (+3.0 %)"]);
        assert_eq!(old.compare(&with("90")).better, ["dot/384/neon: 100 -> 90 (-10.0 %)"]);
    }

    #[test]
    fn missing_and_new_cases_are_told() {
        let old = Baseline::from_rows(ROWS, "rustc 1").unwrap();
        let new =
            Baseline::from_rows("{\"case\":\"rope/neon\",\"median\":50}\n{\"case\":\"b\",\"median\":1}", "")
                .unwrap();
        let comparison = old.compare(&new);
        assert_eq!(
            (comparison.worse, comparison.better),
            (vec!["dot/384/neon: not run".into()], vec!["b: new".into()])
        );
        assert!(old.differs_in_compiler(&new).is_some() && old.differs_in_compiler(&old).is_none());
    }

    #[test]
    fn a_name_is_no_path() {
        assert!(path("../x").is_err() && path("").is_err() && path("cortex-a53").is_ok());
    }
}
