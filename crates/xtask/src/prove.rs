//! `cargo xtask prove`: what can be read off the linked libraries, for every public function of them.
//!
//! - `api.rs` asks rustdoc what is public, `object.rs` links all of it for each target
//! - `gates.rs` says what is asked of such an object, `pointers.rs` what calls through pointers reach in it, `vectors.rs`
//!   which instructions its routines need
//! - `self_test.rs` plants what the gates must find
//! - `reproduce.rs` builds the libraries in two folders and compares them

mod api;
mod gates;
pub mod object;
mod pointers;
mod reproduce;
mod self_test;
mod vectors;

use crate::figures;
use crate::setup::{self, Toolchain};
use crate::steps::Outcome;
use anyhow::{Result, bail, ensure};
use gates::{Row, Stacks};
use object::{Object, TARGETS, Variant};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

/// The options of `cargo xtask prove`.
#[derive(clap::Args)]
pub struct Options {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Plant one fault after the other, and fail where a gate does not find it
    #[arg(long)]
    self_test: bool,
    /// Build the libraries in two folders instead, and compare their bytes
    #[arg(long)]
    reproducible: bool,
    /// Print the stack of every public function, the deepest first
    #[arg(long)]
    stack: bool,
    /// Record the vector instructions of every routine, for the runs to come
    #[arg(long)]
    save: bool,
}

/// What a run found.
struct Report {
    rows: Vec<Row>,
    /// The stack of every export, by target.
    stacks: Vec<(&'static str, Stacks)>,
    n_exports: usize,
    seconds: f64,
}

/// Runs the gates and prints their table.
///
/// # Errors
///
/// When something cannot be built, or a gate does not hold.
pub fn run(options: &Options) -> Result<()> {
    let toolchain = setup::for_kernel()?;
    if options.self_test {
        for line in self_test::run(toolchain)? {
            println!("found: {line}");
        }
        return Ok(());
    }
    if options.reproducible {
        for line in reproduce::run(toolchain)? {
            println!("{line}");
        }
        return Ok(());
    }
    let report = prove(toolchain, options.save)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report.to_json())?);
    } else {
        report.print(options.stack);
    }
    report.check()
}

/// Bytes of stack that no call of the engine may take in the kernel.
pub fn stack_bound() -> u64 {
    TARGETS.iter().find(|target| target.triple == setup::KERNEL_TARGET).map_or(0, |target| target.stack)
}

/// The step of `cargo xtask test`.
///
/// # Errors
///
/// As [`run`].
pub fn holds(toolchain: Toolchain) -> Result<Outcome> {
    let report = prove(toolchain, false)?;
    report.check()?;
    report.tell();
    Ok(Outcome::Noted(report.rows.len(), format!("{} public functions", report.n_exports)))
}

/// The libraries and the minimal kernel are the same bytes, built in two folders.
///
/// # Errors
///
/// When they are not.
pub fn is_reproducible(toolchain: Toolchain) -> Result<Outcome> {
    let built = reproduce::run(toolchain)?;
    figures::note("R21", "reproducible", format!("{} files, equal to the byte", built.len()));
    Ok(Outcome::Passed(built.len()))
}

/// The step that shows that the gates see something.
///
/// # Errors
///
/// When one does not.
pub fn finds_what_is_planted(toolchain: Toolchain) -> Result<Outcome> {
    Ok(Outcome::Passed(self_test::run(toolchain)?.len()))
}

fn prove(toolchain: Toolchain, save: bool) -> Result<Report> {
    ensure!(toolchain == Toolchain::Rustup, "the proofs need rustup's targets: CORELM_TOOLCHAIN=rustup");
    let start = Instant::now();
    let api = object::api(toolchain)?;
    let missing = not_driven(&api.generic)?;
    let mut rows = vec![missing];
    let (mut stacks, mut objects): (Vec<_>, Vec<Object>) = (vec![], vec![]);
    for target in TARGETS {
        let object = object::build(toolchain, &api, target, Variant::Release)?;
        rows.push(gates::panics(&object));
        rows.push(gates::traps(&object));
        rows.push(gates::allocations(&object));
        rows.push(gates::variables(&object));
        rows.push(gates::locks(&object));
        // Nobody is meant to run the engine without floats: it is built for the proofs that hold for any code.
        if target.has_float {
            let (gates, exports) = gates::stack(&object)?;
            rows.extend(gates);
            stacks.push((target.name, exports));
            rows.push(gates::soft_float(&object));
            objects.push(object);
        }
    }
    for target in TARGETS.into_iter().filter(|target| target.has_float) {
        let object = object::build(toolchain, &api, target, Variant::Overflow)?;
        rows.push(gates::overflows(&object));
    }
    if save {
        let path = vectors::save(&objects.iter().collect::<Vec<_>>())?;
        eprintln!("recorded in {}", path.display());
    }
    for object in &objects {
        rows.push(vectors::check(object)?);
    }
    rows.sort_by_key(|row| (row.goal.trim_start_matches('R').parse().unwrap_or(0), row.measure));
    let seconds = start.elapsed().as_secs_f64();
    Ok(Report { rows, stacks, n_exports: api.exports.len() + api.generic.len(), seconds })
}

/// Functions with parameters of types that `generic.rs` does not choose any for, and names there that are no function's.
fn not_driven(generic: &BTreeSet<String>) -> Result<Row> {
    let source = fs::read_to_string(crate::workspace::root().join("kernel-tests/prove/src/generic.rs"))?;
    let driven = driven(&source);
    let difference = generic.symmetric_difference(&driven).cloned().collect();
    Ok(Row::none(
        ("R1", "panics"),
        "generic public functions left out, or named in vain".to_owned(),
        difference,
    ))
}

/// The names in the list of `generic.rs`.
fn driven(source: &str) -> BTreeSet<String> {
    let (_, list) = source.split_once("\ngeneric! {").unwrap_or_default();
    let names = list.lines().filter_map(|line| line.strip_prefix("    \"")?.split('"').next());
    names.map(str::to_owned).collect()
}

impl Report {
    fn print(&self, with_stacks: bool) {
        println!("{} public functions of corelm and corelm-ops, {:.0} s", self.n_exports, self.seconds);
        for Row { goal, what, figure, bound, holds, .. } in &self.rows {
            let verdict = if *holds { "ok" } else { "FAILED" };
            println!("{goal:<4} {what:<62} {figure:>6} {bound:>9}  {verdict}");
        }
        // What failed is told with the error.
        for row in self.rows.iter().filter(|row| row.holds && !row.notes.is_empty()) {
            println!("\n{} {}:", row.goal, row.what);
            row.notes.iter().for_each(|note| println!("  {note}"));
        }
        for (target, exports) in self.stacks.iter().filter(|_| with_stacks) {
            println!("\nbytes of stack, {target}:");
            exports.iter().for_each(|(name, bytes)| println!("  {bytes:>6}  {name}"));
        }
    }

    fn to_json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "goal": row.goal, "what": row.what, "figure": row.figure, "bound": row.bound, "passed": row.holds,
                "notes": row.notes,
            })
        };
        let stack = |(target, exports): &(&str, Stacks)| {
            let exports: Vec<Value> =
                exports.iter().map(|(name, bytes)| json!({ "function": name, "bytes": bytes })).collect();
            ((*target).to_owned(), json!(exports))
        };
        json!({
            "command": "cargo xtask prove",
            "exports": self.n_exports,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "stack": self.stacks.iter().map(stack).collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Tells what was found for each goal.
    fn tell(&self) {
        for of in self.rows.chunk_by(|one, next| (one.goal, one.measure) == (next.goal, next.measure)) {
            let told: Vec<String> = of.iter().map(|row| format!("{} {}", row.figure, row.what)).collect();
            let of_all = format!(", of {} public functions", self.n_exports);
            let scope = if of[0].measure == "panics" { of_all.as_str() } else { "" };
            figures::note(of[0].goal, of[0].measure, told.join("; ") + scope);
        }
    }

    fn check(&self) -> Result<()> {
        let failed = self.rows.iter().filter(|row| !row.holds);
        let lines: Vec<String> = failed
            .map(|Row { goal, what, figure, bound, notes, .. }| {
                format!("{goal} {what}: {figure}, wanted {bound}\n  {}", notes.join("\n  "))
            })
            .collect();
        if !lines.is_empty() {
            bail!("{}", lines.join("\n"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driven_functions_are_listed() {
        let source = "macro_rules! generic { \"no\" }\ngeneric! {\n    \"a::b\" = fn() {}\n    \"c\"\n        = fn() { \"d\" }\n}\n";
        assert_eq!(driven(source), BTreeSet::from(["a::b".to_owned(), "c".to_owned()]));
    }
}
