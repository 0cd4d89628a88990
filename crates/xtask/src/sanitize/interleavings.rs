//! Every interleaving of what synchronises, by loom, and whether any of it could be weaker.
//!
//! Built with `cfg(loom)` the code is the shipped one on loom's atomics, threads and cells. A run of it first explores its
//! models, then starts itself once more for every ordering and every read-modify-write that it came by, with that one weakened:
//! some model must fail then (`crates/sync/src/model.rs`).

use crate::figures;
use crate::process::{cargo, logged};
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Result, ensure};

/// Packages with the arguments that name their models.
const MODELS: [(&str, &[&str]); 2] =
    [("corelm-sync", &["--test", "models"]), ("corelm-ops", &["--lib", "workers::models"])];

/// Explores all models.
///
/// # Errors
///
/// When one fails, or none fails without something.
pub fn explore() -> Result<Outcome> {
    let (mut n_models, mut n_explored, mut n_planted) = (0, 0, 0);
    for (package, which) in MODELS {
        // Release, as explorations are long; without link-time optimisation, which they do not get back.
        let mut test = cargo(&["test", "--release", "--package", package]);
        test.args([
            "--config",
            "profile.release.lto=\"off\"",
            "--config",
            "profile.release.codegen-units=16",
        ]);
        test.arg("--target-dir").arg(workspace::target_dir().join("xtask/sanitize/loom"));
        test.args(which).args(["--", "--nocapture", "--test-threads", "1"]);
        test.env("RUSTFLAGS", "--cfg loom").env("RUST_BACKTRACE", "0");
        let printed = logged(&mut test, &format!("sanitize-loom-{package}"))?;
        let explored = interleavings(&printed);
        let planted = printed.lines().filter(|line| line.starts_with("planted: ")).count();
        ensure!(
            !explored.is_empty() && planted > 0,
            "{package} has {explored:?} models and {planted} faults"
        );
        n_models += explored.len();
        n_explored += explored.iter().sum::<u64>();
        n_planted += planted;
    }
    let note = format!("{n_explored} interleavings; {n_planted} weakened operations, each seen");
    figures::note("R19", "models", format!("{n_models} models, {note}"));
    Ok(Outcome::Noted(n_models, note))
}

/// How many interleavings there were of each model.
fn interleavings(printed: &str) -> Vec<u64> {
    // The harness has the name of a test before the first line that the test prints.
    let models = printed.lines().filter_map(|line| Some(line.split_once("model: ")?.1));
    let numbers = models.filter_map(|model| {
        let words: Vec<&str> = model.split(' ').collect();
        let at = words.iter().position(|word| *word == "interleavings")?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleavings_are_counted() {
        let printed = "test lock ... model: a lock of 2: all 9 interleavings\n\
            model: a team: the 189 interleavings of 2 preemptions\nplanted: x.rs:1:2:Torn: deadlock\nok\n";
        assert_eq!(interleavings(printed), [9, 189]);
        assert!(interleavings("model: a lock of two").is_empty());
    }
}
