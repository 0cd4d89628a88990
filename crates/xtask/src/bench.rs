//! `cargo xtask bench`: the benchmark cases on this machine, under criterion.

use crate::process;
use anyhow::Result;

/// Runs the host benchmarks with `args` handed to criterion, less any `--` between them.
///
/// # Errors
///
/// When they cannot be built or fail.
pub fn bench(args: &[String]) -> Result<()> {
    let args = args.iter().filter(|arg| *arg != "--");
    process::run(process::cargo(&["bench", "--package", "host-bench", "--bench", "cases", "--"]).args(args))
}
