//! Plants what the gates must find, one fault at a time, and says which gate found it.

use super::api::Api;
use super::gates::{self, Row};
use super::object::{self, Object, TARGETS, Target, Variant};
use super::vectors;
use crate::setup::Toolchain;
use anyhow::{Context, Result, ensure};

/// What is planted, and the gate that must find it.
const PLANTS: [(&str, Gate); 7] = [
    ("panic", |object| Ok(gates::panics(object))),
    ("trap", |object| Ok(gates::traps(object))),
    ("allocation", |object| Ok(gates::allocations(object))),
    ("recursion", |object| stack(object, "recursions")),
    ("frame", |object| stack(object, "bytes in one frame")),
    ("variable", |object| Ok(gates::variables(object))),
    ("lock", |object| Ok(gates::locks(object))),
];

type Gate = fn(&Object) -> Result<Row>;

/// Plants everything, and gives a line for each fault that was found.
///
/// # Errors
///
/// When a gate does not find its fault, or fails without one.
pub fn run(toolchain: Toolchain) -> Result<Vec<String>> {
    let api = Api::default();
    let mut found = Vec::new();
    for target in TARGETS.into_iter().filter(|target| target.has_float) {
        let clean = object::build(toolchain, &api, target, Variant::Planted("nothing"))?;
        for (plant, gate) in PLANTS {
            let row = gate(&clean)?;
            ensure!(row.holds, "{}: {} without anything planted: {:?}", row.what, row.figure, row.notes);
            let planted = object::build(toolchain, &api, target, Variant::Planted(plant))?;
            found.push(red(plant, target, gate(&planted)?)?);
        }
        let overflow = object::build(toolchain, &api, target, Variant::OverflowPlanted("overflow"))?;
        found.push(red("overflow", target, gates::overflows(&overflow))?);
    }
    // Without SSE there are no routines: every one that is recorded is missing. And floats are library calls.
    let without = TARGETS.into_iter().find(|target| !target.has_float).context("a target without floats")?;
    let object = object::build(toolchain, &object::api(toolchain)?, without, Variant::Release)?;
    found.push(red("routines without vectors", without, vectors::check(&object)?)?);
    found.push(red("soft float", without, gates::soft_float(&object))?);
    Ok(found)
}

fn stack(object: &Object, what: &str) -> Result<Row> {
    let (rows, _) = gates::stack(object)?;
    rows.into_iter().find(|row| row.what.starts_with(what)).context("no such gate")
}

fn red(plant: &str, target: Target, row: Row) -> Result<String> {
    ensure!(!row.holds, "a planted fault was not found: {plant}, {}", target.name);
    let note = row.notes.first().map_or(String::new(), |note| format!(" ({note})"));
    Ok(format!("{plant}, {}: {} {}, wanted {}{note}", target.name, row.goal, row.figure, row.bound))
}
