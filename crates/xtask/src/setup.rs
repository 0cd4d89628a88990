//! `cargo xtask setup`: installs what the other commands need and this machine lacks.
//!
//! rustup brings the bare-metal targets and components, the system's package manager brings QEMU. Where rustup cannot
//! fetch the target, Debian's own compiler builds `core` from source instead: slower the first time, same result.

use crate::process;
use anyhow::{Context, Result, bail};
use std::env;
use std::process::{Command, Stdio};

/// The target the kernel is built for.
pub const KERNEL_TARGET: &str = "aarch64-unknown-none";
/// The target that shows that the libraries need no `std` on x86-64 either.
pub const X86_TARGET: &str = "x86_64-unknown-none";
/// QEMU's program for the kernel.
pub const QEMU: &str = "qemu-system-aarch64";

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

    /// `rustc` of this toolchain.
    pub fn rustc(self) -> Command {
        Command::new(if self == Toolchain::Debian { DEBIAN_RUSTC } else { "rustc" })
    }

    /// The folder [`Toolchain::cargo`] builds into; two compilers never share one.
    pub fn target_dir(self) -> std::path::PathBuf {
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
    for tool in ["cargo-fmt", "cargo-clippy"] {
        if !process::is_installed(tool) {
            bail!("{tool} is missing and cannot be fetched; type: rustup component add rustfmt clippy");
        }
    }
    Ok(toolchain)
}

fn toolchain() -> Result<Toolchain> {
    match env::var(TOOLCHAIN_VARIABLE).as_deref() {
        Ok("debian") => return debian(),
        Ok("rustup") => return rustup().map(|()| Toolchain::Rustup),
        Ok(other) => bail!("{TOOLCHAIN_VARIABLE}={other}: the choices are rustup and debian"),
        Err(_) => {}
    }
    let Err(rustup) = rustup() else { return Ok(Toolchain::Rustup) };
    eprintln!("setup: no {KERNEL_TARGET} from rustup, trying Debian's rustc ({rustup:#})");
    debian().with_context(|| format!("type: rustup target add {KERNEL_TARGET} {X86_TARGET}"))
}

/// Targets and components by rustup. Only the kernel's target is worth another road; a component that cannot be
/// fetched is reported by the command that needs it.
fn rustup() -> Result<()> {
    let installed = process::output(Command::new("rustup").args(["target", "list", "--installed"]))?;
    let targets = missing(&installed, &[KERNEL_TARGET, X86_TARGET]);
    if !targets.is_empty() {
        eprintln!("setup: rustup target add {}", targets.join(" "));
        process::output(Command::new("rustup").args(["target", "add"]).args(targets))?;
    }
    let installed = process::output(Command::new("rustup").args(["component", "list", "--installed"]))?;
    let components = missing(&installed, &COMPONENTS);
    if !components.is_empty() {
        eprintln!("setup: rustup component add {}", components.join(" "));
        if let Err(error) =
            process::output(Command::new("rustup").args(["component", "add"]).args(components))
        {
            eprintln!("setup: {error:#}");
        }
    }
    Ok(())
}

/// The names of `wanted` that no line of rustup's list is, or starts with before its host triple.
fn missing<'a>(installed: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let has = |name: &str| {
        installed.lines().any(|line| {
            line.strip_prefix(name).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with("-x86_64") || rest.starts_with("-aarch64")
            })
        })
    };
    wanted.iter().copied().filter(|name| !has(name)).collect()
}

fn debian() -> Result<Toolchain> {
    let has_library = || std::path::Path::new(DEBIAN_LIBRARY).is_dir();
    let has_all = || [DEBIAN_CARGO, DEBIAN_RUSTC, "ld.lld"].iter().all(|tool| process::is_installed(tool));
    if !(has_library() && has_all()) {
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
    fn missing_names_are_found_in_rustups_lists() {
        let targets = "aarch64-unknown-none-softfloat\nx86_64-unknown-linux-gnu\nx86_64-unknown-none\n";
        assert_eq!(missing(targets, &[KERNEL_TARGET, X86_TARGET]), [KERNEL_TARGET]);
        let components = "clippy-x86_64-unknown-linux-gnu\nllvm-tools-aarch64-unknown-linux-gnu\nrust-src\n";
        assert_eq!(missing(components, &COMPONENTS), ["rustfmt"]);
    }

    #[test]
    fn debians_cargo_builds_core_into_its_own_folder() {
        let line = process::display(&Toolchain::Debian.cargo("build", KERNEL_TARGET));
        assert!(line.contains("CARGO_TARGET_AARCH64_UNKNOWN_NONE_LINKER=ld.lld"), "{line}");
        assert!(line.contains("-Zbuild-std=core,alloc,compiler_builtins"), "{line}");
        assert_ne!(Toolchain::Debian.target_dir(), Toolchain::Rustup.target_dir());
    }
}
