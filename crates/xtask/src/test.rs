//! `cargo xtask test`: everything, on the host and in QEMU.

use crate::boots;
use crate::checks;
use crate::golden::runs;
use crate::kernel::{self, Board};
use crate::process::{cargo, logged};
use crate::qemu::Cpu;
use crate::setup::{self, KERNEL_TARGET, Toolchain};
use crate::steps::{Outcome, Steps};
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
        let mut docs = vec![cargo(&["doc"])];
        if toolchain == Toolchain::Rustup {
            docs.push(toolchain.cargo("doc", KERNEL_TARGET));
            docs[1].args(["--package", "kernel-tests", "--lib"]);
        }
        for doc in &mut docs {
            logged(doc.arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings"), "documentation")?;
        }
        Ok(Outcome::Passed(docs.len()))
    });
    steps.step("unit tests and cases on the host", || {
        checks::cargo_test(&["--lib", "--bins", "--tests"], "unit-tests")
    });
    steps.step("documentation tests", || checks::cargo_test(&["--doc"], "doc-tests"));

    let mut corelm = None;
    steps.step("command line build", || {
        corelm = Some(runs::build_command_line()?);
        Ok(Outcome::Passed(1))
    });
    if let Some(corelm) = &corelm {
        for backend in runs::HOST_BACKENDS {
            steps.step(&format!("golden outputs, host, {backend}"), || runs::on_host(corelm, backend));
        }
    }

    let mut image = None;
    steps.step("kernel build, virt", || {
        image = Some(kernel::build(toolchain, Board::Virt, false)?);
        Ok(Outcome::Passed(1))
    });
    if let Some(image) = &image {
        for cpu in Cpu::TESTED {
            steps.step(&format!("cases in QEMU, {}", cpu.name()), || boots::cases_in_qemu(image, cpu));
        }
        steps.step("golden outputs, QEMU", || runs::in_qemu(image, Cpu::CortexA72));
        steps.step("two cores, same ids", || boots::same_ids_on_two_cores(image));
        steps.step("shell goes on", || boots::shell_goes_on(image));
        steps.step("crashes fail", || boots::crashes_fail(image));
        steps.step("bad input is refused", || boots::bad_input_is_refused(image));
        for cpu in Cpu::TESTED {
            steps.step(&format!("counts as recorded, {}", cpu.name()), || {
                boots::counts_as_recorded(image, cpu, toolchain)
            });
        }
    }
    steps.step("raspi3b boots", || boots::raspi3b_boots(&kernel::build(toolchain, Board::Raspi3b, false)?));
    steps.step("README's commands", checks::readme_commands);
    steps.finish()
}
