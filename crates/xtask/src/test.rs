//! `cargo xtask test`: everything, on the host and in QEMU.

use crate::assure;
use crate::bad_models;
use crate::boots;
use crate::checks;
use crate::counts;
use crate::endure;
use crate::fuzz;
use crate::golden::runs;
use crate::kernel::{self, Board};
use crate::pc;
use crate::prove;
use crate::qemu::Cpu;
use crate::sanitize::interleavings;
use crate::setup::{self, Toolchain};
use crate::size;
use crate::steps::{Outcome, Steps, passed};
use crate::supply;
use anyhow::Result;

/// Runs the steps whose name has `filter` in it, and all builds; those that do not depend on a failed one still run.
///
/// # Errors
///
/// When something cannot be installed or a step fails.
pub fn test(filter: &str) -> Result<()> {
    let toolchain = setup::for_tests()?;
    let mut steps = Steps::new(filter);
    checks::lints(&mut steps, toolchain);
    steps.step("documentation", || checks::documentation(toolchain));
    measure(&mut steps, toolchain);
    steps.step("README's commands", checks::readme_commands);
    if filter.is_empty() {
        steps.step("figures of all goals", assure::all_told);
    }
    steps.finish()
}

/// All steps that run what is built.
pub fn measure(steps: &mut Steps, toolchain: Toolchain) {
    steps.step("licences, versions and origin of packages", supply::check);
    steps.step("unit tests and cases on the host", || {
        checks::cargo_test(&["--lib", "--bins", "--tests"], "unit-tests")
    });
    steps.step("documentation tests", || checks::cargo_test(&["--doc"], "doc-tests"));

    steps.step("interleavings of what synchronises", interleavings::explore);

    let corelm = steps.build("build, command line", runs::build_command_line);
    if let Some(corelm) = &corelm {
        for backend in runs::HOST_BACKENDS {
            steps.step(&format!("golden outputs, host, {backend}"), || runs::on_host(corelm, backend));
        }
    }

    steps.step("counts as recorded, host", || {
        if !counts::is_possible() {
            return Ok(Outcome::Skipped("callgrind runs on x86-64".to_owned()));
        }
        counts::as_recorded()
    });
    steps.step("proofs of the linked libraries", || prove::holds(toolchain));
    steps.step("proofs see what is planted", || prove::finds_what_is_planted(toolchain));
    steps.step("fuzzing finds nothing", fuzz::finds_nothing);
    steps.step("stack of the engine", || passed(size::measure(toolchain, false)?.check()));
    let virt = steps.build("build, kernel for virt", || kernel::build(toolchain, Board::Virt, false));
    let raspi3b =
        steps.build("build, kernel for raspi3b", || kernel::build(toolchain, Board::Raspi3b, false));
    if let Some(image) = &virt {
        for cpu in Cpu::TESTED {
            steps.step(&format!("cases in QEMU, {}", cpu.name()), || boots::cases_in_qemu(image, cpu));
        }
        steps.step("golden outputs, QEMU", || runs::in_qemu(image, Cpu::CortexA72));
        steps.step("shell goes on", || boots::shell_goes_on(image));
        steps.step("crashes fail", || boots::crashes_fail(image));
        steps.step("a read of tensor data is seen", || boots::a_read_of_tensor_data_is_seen(image));
        steps.step("bad input is refused", || boots::bad_input_is_refused(image));
        steps.step("digests are compared", || boots::digests_are_compared(image));
        steps.step("bad models, as on the host", || bad_models::are_answered_as_on_the_host(image));
        steps.step("bad models, within the stack", || bad_models::stay_within_the_stack(image));
        for cpu in [Cpu::CortexA53, Cpu::Max] {
            steps.step(&format!("endure interrupts, {}", cpu.name()), || endure::interrupts(image, cpu));
        }
        steps.step("endure SErrors", || endure::faults(image, Cpu::Max));
        steps.step("endure, the same work for every token", || endure::work(image, Cpu::Max, toolchain));
        steps.step("endure, work in proportion", || endure::bounds(image, toolchain));
        steps.step("endure, what is planted is seen", || endure::finds_what_is_planted(image));
        for cpu in Cpu::TESTED {
            steps.step(&format!("counts as recorded, {}", cpu.name()), || {
                boots::counts_as_recorded(image, cpu, toolchain)
            });
        }
    }
    if let Some(image) = steps.build("build, kernel for PCs", || pc::build(toolchain)) {
        steps.step("cases in QEMU, x86-64", || pc::cases(&image));
        steps.step("golden outputs, QEMU, x86-64", || pc::golden_outputs(&image));
        steps.step("bad models, as on the host, x86-64", || pc::bad_models(&image));
        steps.step("ends have their status, x86-64", || pc::ends_have_their_status(&image));
    }
    if let (Some(corelm), Some(virt), Some(raspi3b)) = (&corelm, &virt, &raspi3b) {
        steps.step("same ids on host, virt, two cores, raspi3b", || {
            boots::same_ids_everywhere(corelm, virt, raspi3b)
        });
    }
}
