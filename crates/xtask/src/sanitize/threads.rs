//! Tests in which several threads work for the engine, under ThreadSanitizer.
//!
//! Every access has to be watched, the standard library's too, which is therefore built from its source.

use crate::checks::count_passed;
use crate::figures;
use crate::process::{self, cargo, logged};
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Result, ensure};
use std::process::Command;

/// Packages with the arguments that name their tests.
const TESTS: [(&str, &[&str]); 4] = [
    ("corelm-sync", &["--all-features", "--lib", "--tests"]),
    ("corelm-ops", &["--lib", "workers"]),
    ("corelm", &["--test", "session", "workers"]),
    ("corelm-cases", &["--test", "conformance"]),
];
/// The race that must be seen.
const PLANTED: [&str; 6] = ["--all-features", "--test", "planted", "--", "--ignored", "--nocapture"];
/// What is printed of one.
const RACE: &str = "WARNING: ThreadSanitizer: data race";

/// Runs the tests, and the race that is planted.
///
/// # Errors
///
/// When there is a race, or that one is not seen.
pub fn watch() -> Result<Outcome> {
    if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Ok(Outcome::Skipped("ThreadSanitizer comes for Linux on x86-64 and aarch64".to_owned()));
    }
    let library = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = std::path::Path::new(library.trim()).join("lib/rustlib/src/rust/library/std");
    if !library.is_dir() {
        return Ok(Outcome::Skipped("no source of std; type: rustup component add rust-src".to_owned()));
    }
    let mut n_passed = 0;
    for (package, tests) in TESTS {
        let printed = logged(test(package).args(tests), &format!("sanitize-thread-{package}"))?;
        n_passed += count_passed(&printed);
    }
    let planted = test("corelm-sync").args(PLANTED).output()?;
    let printed = String::from_utf8_lossy(&planted.stderr);
    ensure!(!planted.status.success() && printed.contains(RACE), "a planted race was not seen:\n{printed}");
    figures::note(
        "R19",
        "threads",
        format!("{n_passed} tests with several workers, 0 races; a planted one was seen"),
    );
    Ok(Outcome::Noted(n_passed, "a planted race was seen".to_owned()))
}

/// `cargo test` of a package with all of its code watched.
fn test(package: &str) -> Command {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut test = cargo(&["test", "-Zbuild-std", "--target", &target, "--package", package]);
    test.arg("--target-dir").arg(workspace::target_dir().join("xtask/sanitize/thread"));
    test.env("RUSTFLAGS", "-Zsanitizer=thread").env("RUSTC_BOOTSTRAP", "1");
    test
}
