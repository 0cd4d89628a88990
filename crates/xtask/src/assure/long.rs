//! What takes longer than `cargo xtask test` may.

use super::keep;
use super::table::Form;
use crate::coverage;
use crate::endure;
use crate::figures;
use crate::fuzz;
use crate::mutants;
use crate::process::{cargo, logged};
use crate::prove;
use crate::qemu::Cpu;
use crate::sanitize;
use crate::setup;
use crate::steps::{Outcome, Steps, passed};
use anyhow::Result;

/// As many damaged files are asked for.
const MUTANTS: &str = "1000000";
/// As many bits of a session's memory.
const FLIPS: &str = "100000";

/// A step, and the goals that it gives figures for.
type Long = (&'static [&'static str], &'static str, fn(f64) -> Result<Outcome>);

/// The shortest first.
const LONG: [Long; 15] = [
    (&["R21"], "the same bytes from two folders", |_| prove::is_reproducible(setup::for_kernel()?)),
    (&["R14"], "a million flips in weights", |_| test(&["corelm-cases", "flips"], "CORELM_MUTANTS", MUTANTS)),
    (&["R3"], "a million mutants", |_| test(&["corelm-cases", "mutants"], "CORELM_MUTANTS", MUTANTS)),
    (&["R13"], "100 000 flips in the arena", |_| {
        test(&["corelm-cases", "arena_flips"], "CORELM_ARENA_FLIPS", FLIPS)
    }),
    (&["R9", "R10", "R12", "R13"], "interrupts, SErrors, work", |_| {
        endure::long(Cpu::CortexA53).and(endure::long(Cpu::Max))
    }),
    (&["R2"], "AddressSanitizer", |_| sanitize::hostile_by_address()),
    (&["R13"], "100 000 flips in the arena, AddressSanitizer", |_| {
        let outcome = sanitize::address("corelm-cases", &["arena_flips"], &[("CORELM_ARENA_FLIPS", FLIPS)]);
        figures::rename("R13", "arena", "arena, address");
        outcome
    }),
    (&["R19"], "ThreadSanitizer", |_| sanitize::threads::watch()),
    (&["R5", "R17"], "fuzzing", fuzz::for_hours),
    (&["R20"], "coverage", |_| passed(coverage::run(&coverage::Options::default()))),
    (&["R2"], "Miri, x86-64", |_| sanitize::by_miri(sanitize::MIRI_TARGETS[0])),
    (&["R2"], "Miri, s390x", |_| sanitize::by_miri(sanitize::MIRI_TARGETS[1])),
    (&["R2"], "Miri, i686", |_| sanitize::by_miri(sanitize::MIRI_TARGETS[2])),
    (&["R2"], "Miri, aarch64", |_| sanitize::by_miri(sanitize::MIRI_TARGETS[3])),
    (&["R20"], "mutants of the code", |_| passed(mutants::run(&mutants::Options::tenth()))),
];

/// The steps of `goals`, or of all. What each tells is kept before the next one begins, which may take hours.
///
/// # Errors
///
/// When it cannot be kept.
pub fn run(steps: &mut Steps, goals: &[String], hours: f64) -> Result<()> {
    for (of, name, body) in LONG {
        if goals.is_empty() || of.iter().any(|goal| goals.iter().any(|wanted| wanted == goal)) {
            steps.step(name, || body(hours));
            keep(figures::take(), Form::Long)?;
        }
    }
    Ok(())
}

/// A test in release, with as many cases as a variable says.
fn test([package, name]: &[&str; 2], variable: &str, n: &str) -> Result<Outcome> {
    let mut test = cargo(&["test", "--release", "--package", package, "--test", name, "--", "--show-output"]);
    passed(logged(test.env(variable, n), &format!("assure-{name}")))
}
