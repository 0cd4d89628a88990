//! `cargo xtask endure`: the engine interrupted at many places, and its instructions counted, in QEMU.
//!
//! - interrupts whose handler wrecks the vector unit, and SErrors that end a call (`kernel-tests/src/interrupted.rs`)
//! - the instructions of a step for every token, and of every slice of a context (`work.rs`)
//! - the instructions for each byte of hostile texts and files (`bounds.rs`)

use crate::baseline::{self, Baseline};
use crate::json_lines;
use crate::kernel::{self, Board};
use crate::process;
use crate::qemu::{Boot, Cpu};
use crate::setup::{self, Toolchain};
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::path::Path;
use std::time::Duration;

/// Vocabularies in files, each by its name in `crates/corelm/tests/tokenizers`.
const VOCABULARIES: [&str; 3] = ["unigram", "word-piece", "rwkv"];

/// Calls to interrupt for each back-end, in `cargo xtask test`.
pub const CALLS: u32 = 600;

/// What is planted, by the mode that must find it, and what it then says.
const PLANTS: [(&str, &str, &str); 6] = [
    ("interrupts", "vectors", "that a call must keep"),
    ("interrupts", "control", "that a call must keep"),
    ("interrupts", "neighbour", "does not keep the neighbour's registers"),
    ("faults", "unhealed", "poisoned"),
    ("work", "branch", "the token decides"),
    ("bounds", "square", "not in proportion"),
];

/// What to endure.
#[derive(Args)]
pub struct Options {
    /// CPU model
    #[arg(long, value_enum, default_value_t = Cpu::Max)]
    cpu: Cpu,
    /// Calls to interrupt, for each back-end, and again with an SError in each
    #[arg(long, value_name = "N", default_value_t = 11_000)]
    calls: u32,
    /// Record the counts of steps, slices, texts and files
    #[arg(long)]
    save: bool,
}

/// Runs all of it and prints what the kernel says.
///
/// # Errors
///
/// When something does not hold, or counts are worse than recorded.
pub fn run(options: &Options) -> Result<()> {
    let toolchain = setup::for_kernel()?;
    let image = kernel::build(toolchain, Board::Virt, true)?;
    for mode in ["interrupts", "faults"] {
        boot(options.cpu, &format!("mode={mode} n={}", options.calls)).echoed(&image)?;
    }
    for (name, counted) in [
        (work_name(options.cpu), count_work(&image, options.cpu, toolchain)?),
        (BOUNDS.to_owned(), count_bounds(&image, toolchain)?),
    ] {
        if options.save {
            println!("recorded in {}", counted.save(&name)?.display());
        } else {
            compare(&name, &counted)?;
        }
    }
    Ok(())
}

/// Interrupts the engine.
///
/// # Errors
///
/// When the kernel says that it did not stand it.
pub fn interrupts(image: &Path, cpu: Cpu) -> Result<Outcome> {
    places(image, cpu, "interrupts")
}

/// Interrupts the engine with an SError behind each interrupt.
///
/// # Errors
///
/// When the kernel says that it did not stand it.
pub fn faults(image: &Path, cpu: Cpu) -> Result<Outcome> {
    places(image, cpu, "faults")
}

/// Instructions of every token's step, and of steps and slices of a context.
///
/// # Errors
///
/// When they depend on the token, or are worse than recorded.
pub fn work(image: &Path, cpu: Cpu, toolchain: Toolchain) -> Result<Outcome> {
    compare(&work_name(cpu), &count_work(image, cpu, toolchain)?)
}

/// Instructions for each byte of hostile texts and files.
///
/// # Errors
///
/// When they depend on the size, or are worse than recorded.
pub fn bounds(image: &Path, toolchain: Toolchain) -> Result<Outcome> {
    compare(BOUNDS, &count_bounds(image, toolchain)?)
}

/// Every planted fault makes its mode fail with a word about it.
///
/// # Errors
///
/// When one does not.
pub fn finds_what_is_planted(image: &Path) -> Result<Outcome> {
    for (mode, plant, word) in PLANTS {
        let boot = boot(Cpu::CortexA72, &format!("mode={mode} n=200 plant={plant}"));
        let (status, printed) = boot.capture(image, false)?;
        let is_found = status.code() == Some(1) && printed.contains(word);
        ensure!(is_found, "mode={mode} does not find `{plant}`: {status}\n{}", process::tail(&printed));
    }
    Ok(Outcome::Passed(PLANTS.len()))
}

/// The name of what is recorded for texts and files.
const BOUNDS: &str = "bounds";

fn work_name(cpu: Cpu) -> String {
    format!("work-{}", cpu.name())
}

/// A boot with exact counts, entered at EL2, from where SErrors come.
fn boot(cpu: Cpu, line: &str) -> Boot {
    let timeout = Duration::from_secs(1800);
    Boot { icount: true, has_el2: line.contains("mode=faults"), timeout, ..Boot::new(cpu, line) }
}

fn places(image: &Path, cpu: Cpu, mode: &str) -> Result<Outcome> {
    let printed = boot(cpu, &format!("mode={mode} n={CALLS}")).checked(image)?;
    let rows = json_lines::objects(&printed)?;
    let n = |row: &serde_json::Value, key: &str| row[key].as_u64().with_context(|| format!("no `{key}`"));
    let backends: Vec<&str> = rows.iter().filter_map(|row| row["interrupted"].as_str()).collect();
    ensure!(backends == cpu.backends(), "not the back-ends {:?}: {printed}", cpu.backends());
    let mut sum = 0;
    for row in &rows {
        sum += n(row, "places")?;
    }
    Ok(Outcome::Noted(backends.len(), format!("{sum} places")))
}

fn count_work(image: &Path, cpu: Cpu, toolchain: Toolchain) -> Result<Baseline> {
    let printed = boot(cpu, "mode=work").checked(image)?;
    Baseline::from_rows(&printed, &baseline::rustc_version(toolchain)?)
}

fn count_bounds(image: &Path, toolchain: Toolchain) -> Result<Baseline> {
    let mut printed = boot(Cpu::Max, "mode=bounds").checked(image)?;
    for name in VOCABULARIES {
        let file = workspace::root().join(format!("crates/corelm/tests/tokenizers/{name}.gguf"));
        let boot = Boot { initrd: Some(file), ..boot(Cpu::Max, "mode=bounds") };
        printed += &boot.checked(image)?.replace("/initrd/", &format!("/{name}/"));
    }
    Baseline::from_rows(&printed, &baseline::rustc_version(toolchain)?)
}

/// Compares counts with those recorded as `name`.
fn compare(name: &str, counted: &Baseline) -> Result<Outcome> {
    let recorded = Baseline::load(name)?;
    if let Some(difference) = recorded.differs_in_compiler(counted) {
        return Ok(Outcome::Skipped(difference));
    }
    let comparison = recorded.compare(counted);
    if !comparison.worse.is_empty() {
        bail!("worse than recorded:\n{}", comparison.worse.join("\n"));
    }
    Ok(Outcome::Passed(comparison.n_same + comparison.better.len()))
}
