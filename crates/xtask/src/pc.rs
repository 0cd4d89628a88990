//! The kernel for PCs (`kernel-tests/pc`), built and booted in QEMU's: what it must do on x86-64.

use crate::bad_models;
use crate::boots;
use crate::checks::count_passed;
use crate::golden::runs;
use crate::process::{self, logged};
use crate::prove::object::X86_KERNEL;
use crate::qemu::{self, word};
use crate::setup::{QEMU_PC, Toolchain};
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// CPUs and the back-ends that they run.
const CPUS: [(Cpu, &[&str]); 2] = [(Cpu("qemu64"), &["scalar"]), (Cpu("max"), &["scalar", "avx2"])];

/// A CPU of QEMU's PC.
#[derive(Clone, Copy, Debug)]
struct Cpu(&'static str);

/// Everything that QEMU has.
const MAX: Cpu = Cpu("max");

/// What ends a run by itself or by the command line, and the kernel's status (`kernel-tests/pc/src/exit.rs`).
const ENDS: [(&str, i32); 7] = [
    ("mode=generate n=1", 0),
    ("mode=shell", 1),
    ("mode=fast", 2),
    ("plant=panic", 101),
    ("plant=null", 102),
    ("plant=stack", 102),
    ("plant=undefined", 102),
];

/// One boot.
struct Boot<'a> {
    cpu: Cpu,
    /// The model, loaded as initial RAM disk.
    initrd: Option<&'a Path>,
    /// The kernel's command line.
    append: String,
}

impl Boot<'_> {
    /// Boots and gives the kernel's status and what it printed.
    fn capture(&self, image: &Path) -> Result<(i32, String)> {
        let mut qemu = Command::new(QEMU_PC);
        qemu.args(["-machine", "q35", "-cpu", self.cpu.0, "-m", "256M", "-nic", "none", "-no-reboot"]);
        qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel"]).arg(image);
        if let Some(initrd) = self.initrd {
            qemu.arg("-initrd").arg(initrd);
        }
        qemu.args(["-append", &self.append]);
        let (ended, printed) = qemu::capture(qemu, "", Duration::from_secs(600), false)?;
        let status = ended.code().and_then(status);
        let told = || format!("the kernel ended by itself ({ended})\n{}", process::tail(&printed));
        Ok((status.with_context(told)?, printed))
    }

    /// Boots and gives what the kernel printed, if it says that all was done.
    fn checked(&self, image: &Path) -> Result<String> {
        let (status, printed) = self.capture(image)?;
        ensure!(
            status == 0,
            "the kernel failed ({status}) with `{}`\n{}",
            self.append,
            process::tail(&printed)
        );
        Ok(printed)
    }
}

/// The kernel's status for that of QEMU, which a kernel that was reset does not have.
fn status(of_qemu: i32) -> Option<i32> {
    const BASE: i32 = 2 * 0x10 + 1;
    let twice = of_qemu.checked_sub(BASE).filter(|twice| *twice >= 0 && twice % 2 == 0)?;
    Some(twice / 2)
}

/// Builds the kernel in release.
///
/// # Errors
///
/// When the build fails.
pub fn build(toolchain: Toolchain) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo_with("rustc", X86_KERNEL.triple, X86_KERNEL.flags);
    cargo.args(["--release", "--package", "pc-kernel", "--", "--cfg", "kernel"]).args(X86_KERNEL.link);
    let script = workspace::root().join("linker/pc.ld");
    cargo.args([format!("-Clink-arg=-T{}", script.display()), "-Clink-arg=-zmax-page-size=4096".to_owned()]);
    logged(&mut cargo, "kernel-pc")?;
    Ok(toolchain.target_dir().join(X86_KERNEL.triple).join("release/pc-kernel"))
}

/// The conformance list on every back-end of each CPU.
///
/// # Errors
///
/// When the kernel says so, or ran other back-ends.
pub fn cases(image: &Path) -> Result<Outcome> {
    let mut n = 0;
    for (cpu, backends) in CPUS {
        let boot = Boot { cpu, initrd: None, append: "mode=test".to_owned() };
        let printed = boot.checked(image)?;
        ensure!(boots::covers(&printed, backends), "not the back-ends {backends:?}: {printed}");
        boots::tell_tests(&printed, "bits, QEMU, x86-64", cpu.0);
        n += count_passed(&printed);
    }
    Ok(Outcome::Passed(n))
}

/// Every golden case.
///
/// # Errors
///
/// When a boot fails or an output disagrees.
pub fn golden_outputs(image: &Path) -> Result<Outcome> {
    runs::in_kernel(|model, append| Boot { cpu: MAX, initrd: Some(model), append }.checked(image))
}

/// Files made to break loaders are answered as on the host, and the kernel's own model goes on behind each.
///
/// # Errors
///
/// When an answer differs, or the kernel does not go on.
pub fn bad_models(image: &Path) -> Result<Outcome> {
    bad_models::as_on_the_host("QEMU, x86-64", "x86-64", |file| {
        let line = "mode=run model=initrd ctx=32 kv=f16 backend=scalar";
        let append = [line, &word("n", bad_models::N_TOKENS), &word("prompt", bad_models::PROMPT)].concat();
        let printed = Boot { cpu: MAX, initrd: Some(file), append }.checked(image)?;
        said(&printed).with_context(|| format!("no answer\n{}", process::tail(&printed)))
    })
}

/// The answer of the model that was given, as one line.
fn said(printed: &str) -> Option<String> {
    let (answer, _) = printed.split_once("\ngiven:\n")?.1.rsplit_once("\n.\ndemo:\n")?;
    Some(answer.escape_debug().to_string())
}

/// However a run ends, the status is what it should be.
///
/// # Errors
///
/// When one ends otherwise.
pub fn ends_have_their_status(image: &Path) -> Result<Outcome> {
    for (line, expected) in ENDS {
        let boot = Boot { cpu: MAX, initrd: None, append: line.to_owned() };
        let (status, printed) = boot.capture(image)?;
        ensure!(status == expected, "`{line}` ended with {status}\n{}", process::tail(&printed));
    }
    let no_model = workspace::root().join("Cargo.lock");
    let boot = Boot { cpu: MAX, initrd: Some(&no_model), append: "mode=generate".to_owned() };
    let (status, printed) = boot.capture(image)?;
    let is_told = printed.contains("error: not a gguf file");
    ensure!(status == 1 && is_told, "a file that is no model: {status}\n{}", process::tail(&printed));
    Ok(Outcome::Passed(ENDS.len() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_no_status() {
        assert_eq!(
            [0, 1, 33, 35, 34, 33 + 2 * 102].map(status),
            [None, None, Some(0), Some(1), None, Some(102)]
        );
    }

    #[test]
    fn the_answer_of_the_given_model_counts() {
        assert_eq!(said("x\ngiven:\n a\n.\n\n.\ndemo:\nb\n.\n").unwrap(), " a\\n.\\n");
        assert_eq!(said("x\ngiven:\nerror: bad magic (code 101)\n.\n"), None);
    }
}
