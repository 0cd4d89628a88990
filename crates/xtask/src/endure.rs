//! `cargo xtask endure`: the engine interrupted at many places, and its instructions counted, in QEMU.
//!
//! - interrupts whose handler wrecks the vector unit, and SErrors that end a call (`kernel-tests/src/interrupted.rs`)
//! - the instructions of a step for every token, and of every slice of a context (`work.rs`)
//! - the instructions for each byte of hostile texts and files (`bounds.rs`)

use crate::baseline::{self, Baseline};
use crate::figures;
use crate::json_lines;
use crate::kernel::{self, Board};
use crate::process;
use crate::qemu::{Boot, Cpu};
use crate::setup::{self, Toolchain};
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Vocabularies in files, each by its name in `crates/corelm/tests/tokenizers`.
const VOCABULARIES: [&str; 3] = ["unigram", "word-piece", "rwkv"];

/// Calls to interrupt for each back-end, in `cargo xtask test`.
pub const CALLS: u32 = 600;
/// Calls to interrupt by default.
const MOST_CALLS: u32 = 11_000;

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
    #[arg(long, value_name = "N", default_value_t = MOST_CALLS)]
    calls: u32,
    /// Record the counts of steps, slices, texts and files
    #[arg(long)]
    save: bool,
    /// Count nothing but what 100 characters take by the vocabulary of this file; may be repeated
    #[arg(long = "vocabulary", value_name = "FILE.gguf")]
    vocabularies: Vec<PathBuf>,
}

/// Runs all of it and prints what the kernel says.
///
/// # Errors
///
/// When something does not hold, or counts are worse than recorded.
pub fn run(options: &Options) -> Result<()> {
    let toolchain = setup::for_kernel()?;
    let image = kernel::build(toolchain, Board::Virt, true)?;
    if !options.vocabularies.is_empty() {
        return options.vocabularies.iter().try_for_each(|file| count_short(&image, options.cpu, file));
    }
    for mode in ["interrupts", "faults"] {
        println!("{}", places(&image, options.cpu, mode, options.calls)?.1);
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

/// As many interrupts and SErrors as docs/ASSURANCE.md asks for.
///
/// # Errors
///
/// As [`interrupts`].
pub fn long(cpu: Cpu) -> Result<Outcome> {
    let image = kernel::build(setup::for_kernel()?, Board::Virt, true)?;
    endured(&image, cpu, "interrupts", MOST_CALLS)?;
    endured(&image, cpu, "faults", MOST_CALLS)
}

/// Interrupts the engine.
///
/// # Errors
///
/// When the kernel says that it did not stand it.
pub fn interrupts(image: &Path, cpu: Cpu) -> Result<Outcome> {
    endured(image, cpu, "interrupts", CALLS)
}

/// Interrupts the engine with an SError behind each interrupt.
///
/// # Errors
///
/// When the kernel says that it did not stand it.
pub fn faults(image: &Path, cpu: Cpu) -> Result<Outcome> {
    endured(image, cpu, "faults", CALLS)
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

/// The step of a mode, and its figure.
fn endured(image: &Path, cpu: Cpu, mode: &str, calls: u32) -> Result<Outcome> {
    let (n_backends, told) = places(image, cpu, mode, calls)?;
    let (goal, measure) = if mode == "faults" { ("R13", "SErrors") } else { ("R12", "places") };
    figures::note(goal, measure, told.clone());
    Ok(Outcome::Noted(n_backends, told))
}

/// The number of back-ends, and the least places that one was interrupted at.
fn places(image: &Path, cpu: Cpu, mode: &str, calls: u32) -> Result<(usize, String)> {
    let printed = boot(cpu, &format!("mode={mode} n={calls}")).checked(image)?;
    let rows = json_lines::objects(&printed)?;
    let backends: Vec<&str> = rows.iter().filter_map(|row| row["interrupted"].as_str()).collect();
    ensure!(backends == cpu.backends(), "not the back-ends {:?}: {printed}", cpu.backends());
    let least = |key: &str| rows.iter().filter_map(|row| row[key].as_u64()).min();
    let n_places = least("places").context("no places")?;
    let mut told =
        format!("{n_places} places in a token, on each of {} ({})", backends.join(", "), cpu.name());
    if mode == "faults" {
        let n_poisoned = least("poisoned").context("no calls given up")?;
        told += &format!("; {n_poisoned} calls given up, all found poisoned");
    }
    Ok((backends.len(), told))
}

fn count_work(image: &Path, cpu: Cpu, toolchain: Toolchain) -> Result<Baseline> {
    let printed = boot(cpu, "mode=work").checked(image)?;
    tell_work(&json_lines::objects(&printed)?);
    Baseline::from_rows(&printed, &baseline::rustc_version(toolchain)?)
}

/// How far apart the counts of tokens and of steps are, and the most that a slice takes.
fn tell_work(rows: &[Value]) {
    // Of the portable back-end, or of the others.
    let rows = |what: &str, is_scalar: bool| {
        let split = rows.iter().filter_map(|row| Some((row["case"].as_str()?.split_once('/')?, row)));
        let chosen = split.filter(move |((case, of), _)| *case == what && (*of == "scalar") == is_scalar);
        chosen
            .filter_map(|(_, row)| Some((row["min"].as_f64()?, row["median"].as_f64()?)))
            .collect::<Vec<_>>()
    };
    let spread = |what: &str, is_scalar: bool| {
        rows(what, is_scalar).iter().map(|(least, most)| most / least).fold(1.0, f64::max)
    };
    for (measure, is_scalar) in [("NEON", false), ("scalar", true)] {
        let (ratio, far) = (spread("token", is_scalar), spread("far", is_scalar));
        let told = format!(
            "the most instructions of a token are {ratio:.4} times the least, over all 512; {far:.4} behind 260 positions, over 32"
        );
        figures::note("R10", measure, told);
    }
    let ratio = spread("step", false).max(spread("step", true));
    let slice = |is_scalar| rows("slice", is_scalar).iter().map(|(_, most)| *most).fold(0.0, f64::max);
    let told = format!(
        "the most of a step are {ratio:.2} times the least, over 64; a slice of one unit takes at most {} instructions (NEON), {} (scalar)",
        slice(false),
        slice(true)
    );
    figures::note("R9", "steps", told);
}

fn count_bounds(image: &Path, toolchain: Toolchain) -> Result<Baseline> {
    let mut printed = boot(Cpu::Max, "mode=bounds").checked(image)?;
    for name in VOCABULARIES {
        let file = workspace::root().join(format!("crates/corelm/tests/tokenizers/{name}.gguf"));
        let boot = Boot { initrd: Some(file), ..boot(Cpu::Max, "mode=bounds") };
        printed += &boot.checked(image)?.replace("/initrd/", &format!("/{name}/"));
    }
    tell_bounds(&json_lines::objects(&printed)?);
    Baseline::from_rows(&printed, &baseline::rustc_version(toolchain)?)
}

/// Prints the instructions for 100 characters by the vocabulary of a file, and the clock at which they take 10 microseconds if
/// each takes a cycle.
fn count_short(image: &Path, cpu: Cpu, file: &Path) -> Result<()> {
    let boot = Boot { initrd: Some(file.to_owned()), ..boot(cpu, "mode=bounds filter=short/") };
    let printed = boot.checked(image)?;
    let rows = json_lines::objects(&printed)?;
    let row = rows.iter().find(|row| row["case"] == "short/initrd/100").context("no count")?;
    let count = |key: &str| row[key].as_u64().with_context(|| format!("no {key}: {row}"));
    let (least, median, most) = (count("min")?, count("median")?, count("max")?);
    let name = file.file_name().unwrap_or_default().display();
    println!("{name}: {median} instructions ({least} to {most}); 10 us at {:.2} GHz", median as f64 / 1e4);
    Ok(())
}

/// How much more a byte of a long text or file takes than one of a short one.
fn tell_bounds(rows: &[Value]) {
    let of = |key: &str, is_file: bool| {
        let row = |row: &Value| Some((row["case"].as_str()?.to_owned(), row[key].as_f64()? / 100.0));
        let rows = rows.iter().filter_map(row).filter(|(case, _)| case.starts_with("load/") == is_file);
        let rows: Vec<(String, f64)> = rows.collect();
        let worst = rows.iter().max_by(|one, other| one.1.total_cmp(&other.1)).cloned();
        worst.map(|(case, worst)| (case, worst, rows.len()))
    };
    if let Some((case, worst, n)) = of("growth", false) {
        let told =
            format!("a byte takes at most {worst:.2} times what it takes in a shorter one ({case}), of {n}");
        figures::note("R9", "texts", told);
    }
    if let (Some((case, worst, n)), Some((of_whole, whole, _))) = (of("growth", true), of("whole", true)) {
        let told = format!(
            "a further byte takes at most {worst:.2} times what one takes in a shorter file ({case}), of {n}; a byte of whole files {whole:.2} times ({of_whole}); names chosen to share a hash, a pass for each 256: at most 1024 keys, 8192 tensors"
        );
        figures::note("R9", "files", told);
    }
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
