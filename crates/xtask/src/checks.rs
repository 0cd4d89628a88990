//! The steps that `test` and `check` are made of.

use crate::process::{self, cargo, logged};
use crate::prove::object::X86_KERNEL;
use crate::readme;
use crate::setup::{KERNEL_TARGET, Toolchain, X86_TARGET};
use crate::steps::{Outcome, Steps, passed};
use crate::{fuzz, peers, tokenizers, workspace};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::process::Command;

/// All packages that the library may pull in.
const ALLOWED_PACKAGES: [&str; 4] = ["corelm", "corelm-ops", "libm", "bitflags"];

/// Formatting, lints, and builds of the libraries where there is no `std`.
pub fn lints(steps: &mut Steps, toolchain: Toolchain) {
    steps.step("format", || passed(logged(&mut cargo(&["fmt", "--check"]), "format")));
    for (name, manifest) in
        [("peers", peers::MANIFEST), ("tokenizers", tokenizers::MANIFEST), ("fuzz", fuzz::MANIFEST)]
    {
        steps.step(&format!("format, {name}"), || {
            let mut fmt = cargo(&["fmt", "--check", "--manifest-path", manifest]);
            passed(logged(&mut fmt, &format!("format-{name}")))
        });
    }
    steps.step("clippy, host", || clippy(cargo(&["clippy", "--workspace", "--all-targets"]), "clippy-host"));
    steps.step("clippy, kernel", || {
        if toolchain == Toolchain::Debian {
            return Ok(Outcome::Skipped(format!("no {KERNEL_TARGET} from rustup")));
        }
        let mut kernel = toolchain.cargo("clippy", KERNEL_TARGET);
        kernel.args(["--package", "kernel-tests", "--package", "minimal-kernel"]);
        clippy(kernel, "clippy-kernel")
    });
    steps.step("clippy, kernel for PCs", || {
        if toolchain == Toolchain::Debian {
            return Ok(Outcome::Skipped("clippy is rustup's".to_owned()));
        }
        let flags = [X86_KERNEL.flags, &["--cfg", "kernel"]].concat();
        let mut kernel = toolchain.cargo_with("clippy", X86_KERNEL.triple, &flags);
        kernel.args(["--release", "--package", "pc-kernel"]); // dev builds unwind
        clippy(kernel, "clippy-kernel-pc")
    });
    for target in [KERNEL_TARGET, X86_TARGET] {
        steps.step(&format!("corelm without std, {target}"), || {
            let mut build = toolchain.cargo("build", target);
            passed(logged(build.args(["--package", "corelm"]), &format!("no-std-{target}")))
        });
    }
    steps.step("packages that corelm pulls in", only_allowed_packages);
}

/// Clippy with warnings denied. A compiler newer than the repository's `rust-version` knows lints that the code was not
/// written for: these stay warnings, and what the workspace denies stays denied.
fn clippy(mut command: Command, log: &str) -> Result<Outcome> {
    let declared = env!("CARGO_PKG_RUST_VERSION");
    let rustc = process::output(Toolchain::Rustup.rustc().arg("--version"))?;
    if rustc.starts_with(&format!("rustc {declared}.")) {
        return passed(logged(command.args(["--", "-D", "warnings"]), log));
    }
    logged(&mut command, log)?;
    Ok(Outcome::Noted(1, format!("not Rust {declared}, so warnings are left to target/xtask/{log}.log")))
}

/// The documentation of every crate has no broken link; the kernel's is that for its own target.
///
/// # Errors
///
/// When one has.
pub fn documentation(toolchain: Toolchain) -> Result<Outcome> {
    let mut docs = vec![cargo(&["doc", "--lib"])];
    if toolchain == Toolchain::Rustup {
        let mut kernel = toolchain.cargo("doc", KERNEL_TARGET);
        kernel.args(["--package", "kernel-tests", "--lib"]);
        docs.push(kernel);
    }
    for doc in &mut docs {
        logged(doc.arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings"), "documentation")?;
    }
    Ok(Outcome::Passed(docs.len()))
}

/// `cargo test` of the host's packages with `args`.
///
/// # Errors
///
/// When a test fails.
pub fn cargo_test(args: &[&str], log: &str) -> Result<Outcome> {
    let printed = logged(cargo(&["test", "--workspace"]).args(args).args(["--", "--show-output"]), log)?;
    Ok(Outcome::Passed(count_passed(&printed)))
}

/// Every command that the README shows runs, apart from this one and those that fetch the repository.
///
/// # Errors
///
/// When one fails, or there is none.
pub fn readme_commands() -> Result<Outcome> {
    let readme = workspace::root().join("README.md");
    let text = fs::read_to_string(&readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let is_run_elsewhere =
        |c: &String| ["cargo xtask test", "git clone ", "cd "].iter().any(|start| c.starts_with(start));
    let commands: Vec<String> =
        readme::commands(&text).into_iter().filter(|c| !is_run_elsewhere(c)).collect();
    ensure!(!commands.is_empty(), "README.md shows no command");
    let built = workspace::target_dir().join("release");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(built).chain(std::env::split_paths(&path)))?;
    for (i, command) in commands.iter().enumerate() {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(workspace::root()).env("PATH", &path);
        logged(&mut shell, &format!("readme-{i}"))?;
    }
    Ok(Outcome::Passed(commands.len()))
}

fn only_allowed_packages() -> Result<Outcome> {
    // A derive macro runs in the compiler and leaves nothing of itself in the library.
    let edges = ["--edges", "normal,no-proc-macro", "--prefix", "none"];
    let tree = process::output(cargo(&["tree", "--package", "corelm"]).args(edges))?;
    let strangers = strangers(&tree);
    if !strangers.is_empty() {
        bail!("corelm pulls in {}", strangers.join(", "));
    }
    Ok(Outcome::Passed(1))
}

/// The packages of a `cargo tree` that are not on the list.
fn strangers(tree: &str) -> Vec<&str> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| !ALLOWED_PACKAGES.contains(name)).collect()
}

/// The sum of all `N passed` that a test run printed.
pub fn count_passed(printed: &str) -> usize {
    let words: Vec<&str> = printed.split(|c: char| c.is_whitespace() || c == ';' || c == ',').collect();
    let counts =
        words.windows(2).filter(|pair| pair[1] == "passed").filter_map(|pair| pair[0].parse::<usize>().ok());
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_summed() {
        let printed =
            "test result: ok. 3 passed; 0 failed; 0 ignored\nall passed\nneon: 12 passed, 0 failed\n";
        assert_eq!(count_passed(printed), 15);
        assert_eq!(count_passed("passed"), 0);
    }

    #[test]
    fn a_stranger_among_the_packages_is_named() {
        let tree =
            "corelm v0.1.0 (/x)\ncorelm-ops v0.1.0 (/y)\nlibm v0.2.16\nserde v1.0.0\nlibm v0.2.16 (*)\n";
        assert_eq!(strangers(tree), ["serde"]);
    }
}
