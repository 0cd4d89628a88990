//! `cargo xtask assure`: every figure of docs/ASSURANCE.md in one table, with the command behind it and what others reach.
//!
//! `assure/goals.rs` says what is asked. Steps and tests tell their figures (`figures.rs`); `--quick` runs those of `cargo
//! xtask test`, which prints the same table. `assure/long.rs` has what takes hours. Figures stay in
//! `target/xtask/assurance.json`, so that long runs can be made one after the other, and are written to `assurance.md` beside it;
//! `--save` keeps them in `docs/assurance.json`, where those stay that this machine has not measured.

pub mod goals;
mod long;
mod table;

use crate::figures::{self, Figure};
use crate::setup;
use crate::steps::{Outcome, Steps};
use crate::test;
use anyhow::{Result, ensure};
use goals::GOALS;
use table::{Form, Table};

/// The options of `cargo xtask assure`.
#[derive(clap::Args)]
pub struct Options {
    /// These goals' long runs alone, as in `R5 R14`
    goals: Vec<String>,
    /// What `cargo xtask test` runs of it: minutes
    #[arg(long, conflicts_with = "goals")]
    quick: bool,
    /// Hours for each target of fuzzing
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Run nothing: what earlier runs left
    #[arg(long, conflicts_with_all = ["goals", "quick"])]
    kept: bool,
    /// Keep the figures in docs/ASSURANCE.md
    #[arg(long)]
    save: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs what was asked for and prints the table.
///
/// # Errors
///
/// When a step fails, or did not tell a figure that it should.
pub fn run(options: &Options) -> Result<()> {
    for goal in &options.goals {
        ensure!(
            GOALS.iter().any(|known| known.id == goal),
            "there is no goal {goal}: R1 to R{}",
            GOALS.len()
        );
    }
    let mut steps = Steps::new("");
    if !options.kept {
        let toolchain = setup::for_tests()?;
        if options.goals.is_empty() {
            test::measure(&mut steps, toolchain);
            steps.step("figures of all goals", all_told);
        }
        if !options.quick {
            long::run(&mut steps, &options.goals, options.hours)?;
        }
    }
    let table = Table::load()?;
    if options.save {
        table.save_in_docs()?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&table.to_json())?);
    } else {
        table.print();
    }
    if options.kept { Ok(()) } else { steps.finish() }
}

/// Keeps figures with those of earlier runs.
fn keep(told: Vec<Figure>, form: Form) -> Result<()> {
    Table::load()?.with(told, form)?.save()
}

/// The last step of `cargo xtask test`: every figure that it should have told, in the table.
///
/// # Errors
///
/// When one is missing under continuous integration (`CI` is set).
pub fn all_told() -> Result<Outcome> {
    let told = figures::take();
    keep(told.clone(), Form::Quick)?;
    let missing = goals::told_by_tests().filter(|(goal, measure)| {
        !told.iter().any(|figure| figure.goal == goal.id && figure.measure == measure.name)
    });
    let missing: Vec<String> =
        missing.map(|(goal, measure)| format!("{} {}", goal.id, measure.name)).collect();
    if !missing.is_empty() {
        let what = format!("no figure for {}", missing.join(", "));
        // A machine may lack ../shared, callgrind or rustup, whose steps say so; where everything must run, nothing may be missing.
        ensure!(std::env::var_os("CI").is_none(), what);
        return Ok(Outcome::Skipped(what));
    }
    Ok(Outcome::Noted(told.len(), "target/xtask/assurance.md".to_owned()))
}
