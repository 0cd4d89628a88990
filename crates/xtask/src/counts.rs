//! `cargo xtask counts`: instructions of the benchmark cases on x86-64, counted by callgrind.
//!
//! Valgrind knows AVX2 and no AVX-512, so the counts are those of the portable and the AVX2 back-end, whatever the CPU.

use crate::baseline::{self, Baseline};
use crate::figures;
use crate::process::{self, cargo, logged};
use crate::setup::Toolchain;
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The case whose name ends with the bytes it hashes.
const DIGEST: &str = "verify/sha256/";

/// The recorded counts.
const NAME: &str = "x86-64";

/// Counts and compares with what is recorded, or records.
///
/// # Errors
///
/// When a case fails or needs more instructions than recorded.
pub fn run(save: bool) -> Result<()> {
    crate::setup::for_counts()?;
    let counted = count()?;
    if save {
        println!("recorded in {}", counted.save(NAME)?.display());
        return Ok(());
    }
    let comparison = Baseline::load(NAME)?.compare(&counted);
    comparison.better.iter().for_each(|line| println!("better: {line}"));
    ensure!(comparison.worse.is_empty(), "worse than recorded:\n{}", comparison.worse.join("\n"));
    println!("{} as recorded", comparison.n_same);
    Ok(())
}

/// The step of `cargo xtask test`.
///
/// # Errors
///
/// As [`run`].
pub fn as_recorded() -> Result<Outcome> {
    let (recorded, counted) = (Baseline::load(NAME)?, count()?);
    if let Some(difference) = recorded.differs_in_compiler(&counted) {
        return Ok(Outcome::Skipped(difference));
    }
    let comparison = recorded.compare(&counted);
    ensure!(comparison.worse.is_empty(), "worse than recorded:\n{}", comparison.worse.join("\n"));
    Ok(Outcome::Passed(comparison.n_same + comparison.better.len()))
}

fn count() -> Result<Baseline> {
    logged(
        &mut cargo(&["build", "--release", "--package", "host-bench", "--example", "counts"]),
        "counts-build",
    )?;
    let folder = workspace::target_dir().join("xtask/counts");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", folder.join("out").display()));
    valgrind.arg(workspace::target_dir().join("release/examples/counts"));
    logged(&mut valgrind, "counts")?;
    let mut counts = BTreeMap::new();
    for entry in fs::read_dir(&folder)? {
        if let Some((case, count)) = dumped(&entry?.path())? {
            ensure!(counts.insert(case.clone(), count).is_none(), "case {case} was counted twice");
        }
    }
    ensure!(!counts.is_empty(), "callgrind counted nothing");
    let digest = counts.iter().find_map(|(case, count)| Some((case.strip_prefix(DIGEST)?, count)));
    if let Some((Ok(bytes), count)) = digest.map(|(bytes, count)| (bytes.parse::<f64>(), count)) {
        figures::note(
            "R14",
            "cost",
            format!("{:.1} instructions for each byte of SHA-256, x86-64", count / bytes),
        );
    }
    Ok(Baseline::from_counts(counts, &baseline::rustc_version(Toolchain::Rustup)?))
}

/// The case that asked for a dump and its instructions; nothing for the dump at the end of the program.
fn dumped(path: &Path) -> Result<Option<(String, f64)>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let Some(case) = value("desc: Trigger: Client Request: ") else { return Ok(None) };
    let totals = value("summary: ").or(value("totals: ")).context("a dump of callgrind without totals")?;
    Ok(Some((case.trim().to_owned(), totals.trim().parse()?)))
}

/// Whether callgrind can run here.
pub fn is_possible() -> bool {
    cfg!(target_arch = "x86_64") && process::is_installed("valgrind")
}
