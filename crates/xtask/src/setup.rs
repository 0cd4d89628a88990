//! `cargo xtask setup`: installs what the other commands need and this machine lacks.
//!
//! rustup brings the bare-metal targets and components, the system's package manager brings QEMU. Where rustup cannot
//! fetch the target, Debian's own compiler builds `core` from source instead: slower the first time, same result.

use crate::process;
use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target the kernel is built for.
pub const KERNEL_TARGET: &str = "aarch64-unknown-none";
/// The target that shows that the libraries need no `std` on x86-64 either.
pub const X86_TARGET: &str = "x86_64-unknown-none";
/// QEMU's program for the kernel.
pub const QEMU: &str = "qemu-system-aarch64";
/// QEMU's program for the kernel for PCs.
pub const QEMU_PC: &str = "qemu-system-x86_64";

const COMPONENTS: [&str; 4] = ["rust-src", "llvm-tools", "rustfmt", "clippy"];
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library";
/// Overrides the choice of toolchain: `rustup` or `debian`.
const TOOLCHAIN_VARIABLE: &str = "CORELM_TOOLCHAIN";

/// Where the compiler for bare-metal targets comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The toolchain cargo was called with, whose target rustup has installed.
    Rustup,
    /// Debian's compiler, which builds `core` from its own source.
    Debian,
}

impl Toolchain {
    /// `cargo <subcommand> --target <target>`, with what this toolchain needs for it.
    pub fn cargo(self, subcommand: &str, target: &str) -> Command {
        let mut command = process::cargo(&[]);
        if self == Toolchain::Debian {
            command = Command::new(DEBIAN_CARGO);
            let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
            command.current_dir(crate::workspace::root()).env(linker, "ld.lld");
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTUP_TOOLCHAIN");
        }
        command.args([subcommand, "--target", target, "--target-dir"]).arg(self.target_dir());
        if self == Toolchain::Debian {
            command.arg("-Zbuild-std=core,alloc,compiler_builtins");
        }
        command
    }

    /// As [`Toolchain::cargo`], where all code for the target is compiled with `flags`.
    pub fn cargo_with(self, subcommand: &str, target: &str, flags: &[&str]) -> Command {
        let mut cargo = self.cargo(subcommand, target);
        if !flags.is_empty() {
            let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
            cargo.env(variable, flags.join(" "));
        }
        cargo
    }

    /// `rustc` of this toolchain.
    pub fn rustc(self) -> Command {
        Command::new(if self == Toolchain::Debian { DEBIAN_RUSTC } else { "rustc" })
    }

    /// The folder [`Toolchain::cargo`] builds into; two compilers never share one.
    pub fn target_dir(self) -> PathBuf {
        let dir = crate::workspace::target_dir();
        if self == Toolchain::Debian { dir.join("debian") } else { dir }
    }
}

/// Installs what is missing to build and boot the kernel, and says in one line which road was taken.
///
/// # Errors
///
/// When something cannot be installed; the error says the command to type.
pub fn for_kernel() -> Result<Toolchain> {
    let toolchain = toolchain()?;
    if !process::is_installed(QEMU) {
        install_packages("QEMU", &["qemu-system-arm"])?;
    }
    let road = match toolchain {
        Toolchain::Rustup => "from rustup",
        Toolchain::Debian => "built from source by Debian's rustc",
    };
    let version = process::output(Command::new(QEMU).arg("--version"))?;
    eprintln!("setup: {KERNEL_TARGET} {road}; {}", version.lines().next().unwrap_or(QEMU));
    Ok(toolchain)
}

/// Installs what is missing for every command.
///
/// # Errors
///
/// When something cannot be installed; the error says the command to type.
pub fn for_tests() -> Result<Toolchain> {
    let toolchain = for_kernel()?;
    if !process::is_installed(QEMU_PC) {
        install_packages("QEMU for x86-64", &["qemu-system-x86"])?;
    }
    for_counts()?;
    for name in missing("component", &COMPONENTS).unwrap_or_default() {
        if let Err(error) = add("component", name) {
            eprintln!("setup: {error:#}");
        }
    }
    for tool in ["cargo-fmt", "cargo-clippy"] {
        if !process::is_installed(tool) {
            bail!("{tool} is missing and cannot be fetched; type: rustup component add rustfmt clippy");
        }
    }
    Ok(toolchain)
}

/// Installs what is missing to count instructions on the host; elsewhere than on x86-64 nothing does.
///
/// # Errors
///
/// When it cannot be installed; the error says the command to type.
pub fn for_counts() -> Result<()> {
    if cfg!(target_arch = "x86_64") && !process::is_installed("valgrind") {
        install_packages("Valgrind", &["valgrind"])?;
    }
    Ok(())
}

/// Installs what building llama.cpp takes: CMake, make and a C++ compiler.
///
/// # Errors
///
/// When something cannot be installed; the error says the command to type.
pub fn for_peers() -> Result<()> {
    let tools = [("cmake", "cmake"), ("make", "make"), ("c++", "g++")];
    let absent = tools.iter().filter(|(tool, _)| !process::is_installed(tool));
    let packages: Vec<&str> = absent.map(|(_, package)| *package).collect();
    if packages.is_empty() { Ok(()) } else { install_packages("what builds llama.cpp", &packages) }
}

/// Installs what building libFuzzer takes: a C++ compiler.
///
/// # Errors
///
/// When it cannot be installed; the error says the command to type.
pub fn for_fuzzing() -> Result<()> {
    if process::is_installed("c++") { Ok(()) } else { install_packages("what builds libFuzzer", &["g++"]) }
}

fn toolchain() -> Result<Toolchain> {
    match env::var(TOOLCHAIN_VARIABLE).as_deref() {
        Ok("debian") => return debian(),
        Ok("rustup") => return rustup(),
        Ok(other) => bail!("{TOOLCHAIN_VARIABLE}={other}: the choices are rustup and debian"),
        Err(_) => {}
    }
    // Where Debian's compiler had to be installed once, rustup is not asked again.
    if has_debian() && !missing("target", &[KERNEL_TARGET]).is_ok_and(|targets| targets.is_empty()) {
        return debian();
    }
    let Err(error) = rustup() else { return Ok(Toolchain::Rustup) };
    eprintln!("setup: no {KERNEL_TARGET} from rustup, trying Debian's rustc");
    debian().with_context(|| format!("{error:#}; type: rustup target add {KERNEL_TARGET}"))
}

fn rustup() -> Result<Toolchain> {
    for target in missing("target", &[KERNEL_TARGET, X86_TARGET])? {
        add("target", target)?;
    }
    Ok(Toolchain::Rustup)
}

/// `rustup <kind> add <name>`.
fn add(kind: &str, name: &str) -> Result<()> {
    eprintln!("setup: rustup {kind} add {name}");
    process::output(Command::new("rustup").args([kind, "add", name]).env("RUST_BACKTRACE", "0"))?;
    Ok(())
}

/// The names of `wanted` that rustup has not installed; `kind` is `target` or `component`.
fn missing<'a>(kind: &str, wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let installed = process::output(Command::new("rustup").args([kind, "list", "--installed"]))?;
    Ok(wanted.iter().copied().filter(|name| !is_listed(&installed, name)).collect())
}

/// Whether a line of rustup's list is `name`, or `name` and the host's triple.
fn is_listed(installed: &str, name: &str) -> bool {
    let is_host =
        |rest: &str| rest.is_empty() || ["-x86_64-", "-aarch64-"].iter().any(|host| rest.starts_with(host));
    installed.lines().any(|line| line.strip_prefix(name).is_some_and(is_host))
}

fn has_debian() -> bool {
    let has = |tool: &&str| process::is_installed(tool);
    Path::new(DEBIAN_LIBRARY).is_dir() && [DEBIAN_CARGO, DEBIAN_RUSTC, "ld.lld"].iter().all(has)
}

fn debian() -> Result<Toolchain> {
    if !has_debian() {
        install_packages("Debian's Rust compiler", &DEBIAN_PACKAGES)?;
    }
    Ok(Toolchain::Debian)
}

/// Installs Debian packages as root, or through `sudo` where it asks for no password.
fn install_packages(what: &str, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let by_hand = format!("{what} is missing; type: sudo apt-get update && sudo apt-get install -y {list}");
    let is_root = process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let apt_get = |args: &[&str]| {
        let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root {
            command.args(["-n", "apt-get"]);
        }
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command
    };
    eprintln!("setup: apt-get install {list}");
    process::output(&mut apt_get(&["update"])).with_context(|| by_hand.clone())?;
    let install = ["install", "-y", "--no-install-recommends"];
    process::output(apt_get(&install).args(packages)).with_context(|| by_hand)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_rustups_lists() {
        let targets = "aarch64-unknown-none-softfloat\nx86_64-unknown-linux-gnu\nx86_64-unknown-none\n";
        assert!(!is_listed(targets, KERNEL_TARGET) && is_listed(targets, X86_TARGET));
        let components = "clippy-x86_64-unknown-linux-gnu\nllvm-tools-aarch64-unknown-linux-gnu\nrust-src\n";
        let absent: Vec<_> = COMPONENTS.into_iter().filter(|name| !is_listed(components, name)).collect();
        assert_eq!(absent, ["rustfmt"]);
    }

    #[test]
    fn debians_cargo_builds_core_into_its_own_folder() {
        let line = process::display(&Toolchain::Debian.cargo("build", KERNEL_TARGET));
        assert!(line.contains("CARGO_TARGET_AARCH64_UNKNOWN_NONE_LINKER=ld.lld"), "{line}");
        assert!(line.contains("-Zbuild-std=core,alloc,compiler_builtins"), "{line}");
        assert_ne!(Toolchain::Debian.target_dir(), Toolchain::Rustup.target_dir());
    }
}
