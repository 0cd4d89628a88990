//! What the kernel must do in QEMU: pass the conformance list, repeat itself, and never make a failure look like
//! success.

use crate::baseline::Baseline;
use crate::checks::count_passed;
use crate::figures;
use crate::json_lines;
use crate::kernel::Board;
use crate::process;
use crate::prove;
use crate::qemu::{Boot, Cpu, word};
use crate::run;
use crate::setup::Toolchain;
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Enough for a boot that does nothing.
const SOON: Duration = Duration::from_secs(60);

/// Ways to end that the shell's `crash` offers; none may look like success.
const CRASHES: [&str; 6] = ["panic", "write", "execute", "undefined", "stack", "align"];

/// The kernel's exit status behind an exception.
const EXCEPTION: i32 = 102;

/// Kernel command lines that must be refused.
const BAD_LINES: [&str; 5] =
    ["mode=fast", "speed=9", "mode=run prompt=\"open", "mode=run model=initrd", "mode=run sha256=12"];

/// What the embedded model is asked when hosts are compared.
const PROMPT: &str = "kernel: data abort, read, translation fault level 3, EL1\nexplain:";

/// The conformance list in QEMU, on every back-end of the CPU.
///
/// # Errors
///
/// When the kernel says so, ran no test, or ran other back-ends.
pub fn cases_in_qemu(image: &Path, cpu: Cpu) -> Result<Outcome> {
    let printed = Boot::new(cpu, "mode=test").checked(image)?;
    let n = count_passed(&printed);
    ensure!(n > 0, "the kernel ran no test\n{}", process::tail(&printed));
    for part in ["parse", "plan", "session", "encode/", "generate/"] {
        ensure!(depths(&printed).any(|(what, _)| what.starts_with(part)), "no stack is told for {part}");
    }
    let deepest = deepest(&printed)?;
    let told = format!("{deepest} bytes at most, of loading, hostile texts and tokens ({})", cpu.name());
    figures::note("R8", "painted", told);
    tell_tests(&printed, "bits, QEMU", cpu.name());
    figures::read(&printed);
    ensure!(covers(&printed, cpu.backends()), "not the back-ends {:?}: {printed}", cpu.backends());
    Ok(Outcome::Passed(n))
}

/// What the kernel says that calls took of the stack, by part; the most of it, which is within the bound that is proved.
///
/// # Errors
///
/// When a call took more.
pub fn deepest(printed: &str) -> Result<u64> {
    let bound = prove::stack_bound();
    let mut deepest = 0;
    for (what, bytes) in depths(printed) {
        ensure!(bytes <= bound, "{what} took {bytes} bytes of stack, and {bound} is the bound");
        deepest = deepest.max(bytes);
    }
    Ok(deepest)
}

/// Calls and the bytes of stack that they took.
fn depths(printed: &str) -> impl Iterator<Item = (&str, u64)> {
    let lines = printed.lines().filter_map(|line| line.trim_end().strip_prefix("stack ")?.rsplit_once(' '));
    lines.filter_map(|(what, bytes)| Some((what, bytes.parse().ok()?)))
}

/// Figures that passed tests of the kernel on `cpu` stand for: of determinism the one of this name.
pub fn tell_tests(printed: &str, determinism: &str, cpu: &str) {
    let n_of = |name: &str| {
        let is_passed = |line: &&str| line.contains(name) && line.trim_end().ends_with(" ok");
        printed.lines().filter(is_passed).count()
    };
    let (n_determinism, n_heap) =
        (n_of("logits_have_the_recorded_hash"), n_of("each_block_that_is_refused_is_an_error"));
    if n_determinism > 0 {
        let told =
            format!("{n_determinism} back-ends of {cpu}: all logits of six models, by recorded SHA-256");
        figures::note("R11", determinism, told);
    }
    if n_heap > 0 {
        figures::note("R7", "heap", format!("every allocation refused in turn, in the kernel ({cpu})"));
    }
}

/// Whether each of `backends`, and no other, passed a test: its name comes before `ok`, the kernel's own tests aside.
pub fn covers(printed: &str, backends: &[&str]) -> bool {
    let mut passed: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.trim_end().strip_suffix(" ok")?.split(' ').nth(1))
        .filter(|name| *name != "kernel")
        .collect();
    passed.sort_unstable();
    passed.dedup();
    let mut wanted = backends.to_vec();
    wanted.sort_unstable();
    passed == wanted
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

/// The embedded model gives the same greedy ids on the host, on one core of `virt`, on two, and on a Raspberry Pi with
/// its four.
///
/// # Errors
///
/// When ids differ, or there are none.
pub fn same_ids_everywhere(corelm: &Path, virt: &Path, raspi3b: &Path) -> Result<Outcome> {
    let mut host = Command::new(corelm);
    host.args(["generate", "--json", "--temp", "0", "--ignore-eos", "--kv", "f16", "--n-predict", "16"]);
    host.args(["--prompt", PROMPT, "--model"]).arg(workspace::root().join("models/corelm-demo-q4_0.gguf"));
    let ids = json_lines::ids(&process::output(&mut host)?)?;
    ensure!(!ids.is_empty(), "the host printed no ids");
    let boots = [(Board::Virt, 1, virt), (Board::Virt, 2, virt), (Board::Raspi3b, 4, raspi3b)];
    for (board, smp, image) in boots {
        let line = format!("mode=generate n=16 kv=f16 json=1 smp={smp}") + &word("prompt", PROMPT);
        let same = json_lines::ids(&Boot { board, smp, ..Boot::new(Cpu::CortexA53, line) }.checked(image)?)?;
        ensure!(ids == same, "{} with {smp} cores: ids {same:?} for the host's {ids:?}", board.name());
    }
    Ok(Outcome::Passed(boots.len()))
}

/// The shell answers a mistake with one line and goes on, and survives a data abort.
///
/// # Errors
///
/// When an answer is missing or the status is not zero.
pub fn shell_goes_on(image: &Path) -> Result<Outcome> {
    let lines = ["nonsense", "load initrd", "load", "stream a data abort", "fault", "mem", "stats", "exit"];
    let boot = Boot {
        input: lines.map(|line| format!("{line}\r")).concat(),
        ..Boot::new(Cpu::CortexA72, "mode=shell")
    };
    let printed = boot.checked(image)?;
    for answer in ["no such command", "data abort", "heap", "corelm> exit"] {
        ensure!(printed.contains(answer), "the shell never printed `{answer}`\n{}", process::tail(&printed));
    }
    Ok(Outcome::Passed(lines.len()))
}

/// Panics and faults end with a failing status.
///
/// # Errors
///
/// When one ends with success, or not at all.
pub fn crashes_fail(image: &Path) -> Result<Outcome> {
    for kind in CRASHES {
        let input = format!("crash {kind}\rexit\r");
        let boot = Boot { input, timeout: SOON, ..Boot::new(Cpu::CortexA72, "mode=shell") };
        fails(&boot, image).with_context(|| format!("crash {kind}"))?;
    }
    Ok(Outcome::Passed(CRASHES.len()))
}

/// A plan that reads a byte of a tensor, of which no page is mapped, ends with a data abort.
///
/// # Errors
///
/// When it ends otherwise.
pub fn a_read_of_tensor_data_is_seen(image: &Path) -> Result<Outcome> {
    let line = "mode=test filter=a_plan_reads_no_page plant=touch";
    let boot = Boot { timeout: SOON, ..Boot::new(Cpu::CortexA72, line) };
    let (status, printed) = boot.capture(image, false)?;
    let is_seen =
        status.code() == Some(EXCEPTION) && printed.contains("data abort: translation fault, level 3, read");
    ensure!(is_seen, "a read of what is not mapped ended with {status}\n{}", process::tail(&printed));
    Ok(Outcome::Passed(1))
}

/// Bad command lines and bad models end with one line that names the problem, and a failing status.
///
/// # Errors
///
/// When one ends otherwise.
pub fn bad_input_is_refused(image: &Path) -> Result<Outcome> {
    let boot = |append: &str| Boot { timeout: SOON, ..Boot::new(Cpu::CortexA72, append) };
    for line in BAD_LINES {
        fails(&boot(line), image).with_context(|| line.to_owned())?;
    }
    let no_model =
        Boot { initrd: Some(workspace::root().join("Cargo.lock")), ..boot("mode=run model=initrd") };
    fails(&no_model, image).context("a model that is none")?;
    Ok(Outcome::Passed(BAD_LINES.len() + 1))
}

/// A model runs with its own digest, which `sha256sum` says, and with no other.
///
/// # Errors
///
/// When it runs with another, or not with its own.
pub fn digests_are_compared(image: &Path) -> Result<Outcome> {
    let model = workspace::root().join("models/corelm-demo-q4_0.gguf");
    let printed = process::output(Command::new("sha256sum").arg(&model))?;
    let digest = printed.split_whitespace().next().context("sha256sum printed nothing")?;
    let boot = |digest: &str, initrd| {
        let line = format!("mode=generate model=initrd n=1 json=1 sha256={digest}");
        Boot { timeout: SOON, initrd: Some(initrd), ..Boot::new(Cpu::CortexA72, line) }
    };
    json_lines::ids(&boot(digest, model.clone()).checked(image)?)?;
    let (status, printed) = boot(&"0".repeat(digest.len()), model).capture(image, false)?;
    let is_refused = status.code().is_some_and(|code| code != 0) && printed.contains(digest);
    ensure!(is_refused, "with another digest: {status}\n{}", process::tail(&printed));
    // A file that is no model is not even looked at.
    let printed = boot(digest, workspace::root().join("Cargo.lock")).capture(image, false)?.1;
    ensure!(printed.contains("SHA-256"), "the file was read first\n{}", process::tail(&printed));
    Ok(Outcome::Passed(3))
}

/// Whether the boot ends with a failing status and a word about it.
fn fails(boot: &Boot, image: &Path) -> Result<()> {
    let (status, printed) = boot.capture(image, false)?;
    ensure!(status.code().is_some_and(|code| code != 0), "ended with {status}\n{}", process::tail(&printed));
    let is_told = ["error", "panic", "exception"].iter().any(|word| printed.to_lowercase().contains(word));
    ensure!(is_told, "the kernel did not say why\n{}", process::tail(&printed));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_stack_is_noticed() {
        let bound = prove::stack_bound();
        let printed =
            |bytes: u64| format!("stack plan 900\r\nstack: no model\r\nstack generate/F16/neon {bytes}\r\n");
        assert_eq!(deepest(&printed(bound)).unwrap(), bound);
        assert!(deepest(&printed(bound + 1)).unwrap_err().to_string().starts_with("generate/F16/neon took"));
    }

    #[test]
    fn a_back_end_that_was_not_run_is_noticed() {
        let printed = "mmu::on kernel ok\r\ndot scalar ok\r\ndot neon ok\r\n3 passed\r\n";
        assert!(covers(printed, Cpu::CortexA53.backends()));
        assert!(!covers(printed, Cpu::CortexA76.backends()));
        assert!(!covers(printed, &["scalar"]));
    }
}
