//! The steps that `test` and `check` are made of.

use crate::baseline::Baseline;
use crate::json_lines;
use crate::kernel::Board;
use crate::process::{self, cargo, logged};
use crate::qemu::{Boot, Cpu};
use crate::setup::{KERNEL_TARGET, Toolchain, X86_TARGET};
use crate::steps::{Outcome, Steps, passed};
use crate::workspace;
use crate::{readme, run};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// All packages that the library may pull in: those it names, and what these need.
const ALLOWED_PACKAGES: [&str; 11] = [
    "corelm",
    "corelm-ops",
    "half",
    "libm",
    "bitflags",
    "heapless", // named by the design
    "cfg-if",
    "zerocopy", // of half
    "hash32",
    "byteorder",
    "stable_deref_trait", // of heapless
];

/// Formatting, lints, and builds of the libraries where there is no `std`.
pub fn lints(steps: &mut Steps, toolchain: Toolchain) {
    steps.step("format", || passed(logged(&mut cargo(&["fmt", "--check"]), "format")));
    let clippy = ["clippy", "--all-targets", "--", "-D", "warnings"];
    steps.step("clippy, host", || passed(logged(&mut cargo(&clippy), "clippy-host")));
    steps.step("clippy, kernel", || {
        if toolchain == Toolchain::Debian {
            return Ok(Outcome::Skipped(format!("no {KERNEL_TARGET} from rustup")));
        }
        let mut clippy = toolchain.cargo("clippy", KERNEL_TARGET);
        passed(logged(clippy.args(["--package", "kernel-tests", "--", "-D", "warnings"]), "clippy-kernel"))
    });
    for target in [KERNEL_TARGET, X86_TARGET] {
        steps.step(&format!("corelm without std, {target}"), || {
            let mut build = toolchain.cargo("build", target);
            passed(logged(build.args(["--package", "corelm"]), &format!("no-std-{target}")))
        });
    }
    steps.step("packages that corelm pulls in", only_allowed_packages);
}

/// `cargo test` of the host's packages with `args`.
///
/// # Errors
///
/// When a test fails.
pub fn cargo_test(args: &[&str], log: &str) -> Result<Outcome> {
    let printed = logged(cargo(&["test"]).args(args), log)?;
    Ok(Outcome::Passed(count_passed(&printed)))
}

/// The conformance list in QEMU.
///
/// # Errors
///
/// When the kernel says so, or ran no test.
pub fn cases_in_qemu(image: &Path, cpu: Cpu) -> Result<Outcome> {
    let printed = Boot::new(cpu, "mode=test").checked(image)?;
    let n = count_passed(&printed);
    ensure!(n > 0, "the kernel ran no test\n{}", process::tail(&printed));
    Ok(Outcome::Passed(n))
}

/// The kernel boots on a Raspberry Pi 3B and says so.
///
/// # Errors
///
/// When it does not.
pub fn raspi3b_boots(image: &Path) -> Result<Outcome> {
    let boot = Boot { board: Board::Raspi3b, ..Boot::new(Cpu::CortexA53, "mode=run n=4") };
    passed(boot.checked(image))
}

/// The benchmarks' exact instruction counts against the baseline named after the CPU.
///
/// # Errors
///
/// When a case is worse than recorded.
pub fn counts_as_recorded(image: &Path, cpu: Cpu, toolchain: Toolchain) -> Result<Outcome> {
    let recorded = Baseline::load(cpu.name())?;
    let counted = run::count(image, cpu, toolchain)?;
    if let Some(difference) = recorded.differs_in_compiler(&counted) {
        return Ok(Outcome::Skipped(difference));
    }
    let comparison = recorded.compare(&counted);
    ensure!(comparison.worse.is_empty(), "worse than recorded:\n{}", comparison.worse.join("\n"));
    Ok(Outcome::Passed(comparison.n_same + comparison.better.len()))
}

/// The kernel generates the same ids on two cores as on one.
///
/// # Errors
///
/// When the ids differ, or there are none.
pub fn same_ids_on_two_cores(image: &Path) -> Result<Outcome> {
    let ids = |smp: u32| {
        let line = format!("mode=golden n=16 json=1 smp={smp}");
        json_lines::ids(&Boot { smp, ..Boot::new(Cpu::CortexA72, line) }.checked(image)?)
    };
    let (one, two) = (ids(1)?, ids(2)?);
    ensure!(!one.is_empty() && one == two, "ids on one core {one:?}, on two {two:?}");
    Ok(Outcome::Passed(1))
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
fn count_passed(printed: &str) -> usize {
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
        let tree = "corelm v0.1.0 (/x)\ncorelm-ops v0.1.0 (/y)\nhalf v2.7.1\nserde v1.0.0\nhalf v2.7.1 (*)\n";
        assert_eq!(strangers(tree), ["serde"]);
    }
}
