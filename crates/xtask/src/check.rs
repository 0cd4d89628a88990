//! `cargo xtask check`: what every commit must pass, in a few minutes.

use crate::boots;
use crate::checks;
use crate::kernel::{self, Board};
use crate::qemu::Cpu;
use crate::setup;
use crate::steps::Steps;
use crate::supply;
use anyhow::Result;

/// Formatting, lints, host tests, the kernel's build and one boot of the test list.
///
/// # Errors
///
/// When something cannot be installed or a step fails.
pub fn check() -> Result<()> {
    let toolchain = setup::for_tests()?;
    let mut steps = Steps::default();
    checks::lints(&mut steps, toolchain);
    steps.step("licences, versions and origin of packages", supply::check);
    steps
        .step("unit tests on the host", || checks::cargo_test(&["--lib", "--bins", "--tests"], "unit-tests"));
    if let Some(image) = steps.build("build, kernel", || kernel::build(toolchain, Board::Virt, false)) {
        steps.step("cases in QEMU, cortex-a76", || boots::cases_in_qemu(&image, Cpu::CortexA76));
    }
    steps.finish()
}
