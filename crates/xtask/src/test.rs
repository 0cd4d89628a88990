//! `cargo xtask test`: everything, on the host and in QEMU.

use crate::checks;
use crate::kernel::{self, Board};
use crate::process::{cargo, logged};
use crate::qemu::Cpu;
use crate::setup;
use crate::steps::{Outcome, Steps, passed};
use anyhow::Result;

/// Runs all steps; the ones that do not depend on a failed one still run.
///
/// # Errors
///
/// When something cannot be installed or a step fails.
pub fn test() -> Result<()> {
    let toolchain = setup::for_tests()?;
    let mut steps = Steps::default();
    checks::lints(&mut steps, toolchain);
    steps.step("documentation", || {
        let mut doc = cargo(&["doc", "--no-deps"]);
        passed(logged(doc.env("RUSTDOCFLAGS", "-D warnings"), "documentation"))
    });
    steps.step("unit tests and cases on the host", || {
        checks::cargo_test(&["--lib", "--bins", "--tests"], "unit-tests")
    });
    steps.step("documentation tests", || checks::cargo_test(&["--doc"], "doc-tests"));

    let mut image = None;
    steps.step("kernel build, virt", || {
        image = Some(kernel::build(toolchain, Board::Virt, false)?);
        Ok(Outcome::Passed(1))
    });
    if let Some(image) = &image {
        for cpu in Cpu::TESTED {
            steps.step(&format!("cases in QEMU, {}", cpu.name()), || checks::cases_in_qemu(image, cpu));
        }
    }
    steps.step("raspi3b boots", || checks::raspi3b_boots(&kernel::build(toolchain, Board::Raspi3b, false)?));
    steps.step("README's commands", checks::readme_commands);
    steps.finish()
}
