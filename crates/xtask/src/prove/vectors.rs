//! R22: the vector instructions of every routine, against those that were recorded.
//!
//! A build for a target without vectors, or without the features of a routine, gives scalar code and no warning.

use super::gates::Row;
use super::object::Object;
use crate::binary::code::Class;
use crate::binary::stack::callees;
use crate::workspace;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Three quarters of what was recorded are enough: another compiler unrolls otherwise.
const ENOUGH: (u64, u64) = (3, 4);

/// Routines that compute nothing.
const WITHOUT: [&str; 2] = ["::amx::configure", "::amx::release"];

/// What the routines of a back-end are there for, by part of their names: at least one instruction each.
const PURPOSES: [(&str, Class); 9] = [
    ("arch::aarch64::", Class::Vector128),
    ("::dotprod::accumulate", Class::Sdot),
    ("::dotprod::one_row", Class::Sdot),
    ("::i8mm::accumulate", Class::Smmla),
    ("::avx2::", Class::Ymm),
    ("::avx_vnni::", Class::Vpdpbusd),
    ("::avx512::", Class::Zmm),
    ("::avx512::panels::accumulate", Class::Vpdpbusd),
    ("::amx::", Class::Tdp),
];

/// How many instructions of each kind each routine has, by name.
type Counts = BTreeMap<String, BTreeMap<&'static str, u64>>;

/// Counts in the routines of the object, which are those of `arch` that a table points at, and in what they call there.
fn count(object: &Object) -> Counts {
    let functions = &object.functions;
    let is_here = |i: &usize| functions[*i].name.contains("corelm_ops::arch::");
    let mut counts = Counts::new();
    for start in (0..functions.len()).filter(is_here).filter(|&i| functions[i].is_pointed_at) {
        let routine = counts.entry(functions[start].name.clone()).or_default();
        let (mut seen, mut left) = (BTreeSet::from([start]), vec![start]);
        while let Some(i) = left.pop() {
            for (class, n) in &functions[i].code.counts {
                *routine.entry(class.name()).or_default() += *n as u64;
            }
            left.extend(
                callees(&functions[i], functions).into_iter().filter(is_here).filter(|&i| seen.insert(i)),
            );
        }
    }
    counts
}

/// Compares with what was recorded.
///
/// # Errors
///
/// When that cannot be read.
pub fn check(object: &Object) -> Result<Row> {
    let recorded = fs::read_to_string(path()).context("no recorded counts: cargo xtask prove --save")?;
    let recorded: Value = serde_json::from_str(&recorded)?;
    Ok(row(object, &recorded[object.target.architecture]))
}

fn row(object: &Object, recorded: &Value) -> Row {
    let counts = count(object);
    let mut notes = Vec::new();
    for (routine, classes) in recorded.as_object().into_iter().flatten() {
        for (class, n) in classes.as_object().into_iter().flatten() {
            let least = (n.as_u64().unwrap_or(0) * ENOUGH.0).div_ceil(ENOUGH.1);
            let have = counts.get(routine).and_then(|classes| classes.get(class.as_str()).copied());
            if have.unwrap_or(0) < least {
                notes.push(format!("{routine}: {} {class}, {least} wanted", have.unwrap_or(0)));
            }
        }
    }
    for (routine, classes) in &counts {
        if recorded[routine].is_null() {
            notes.push(format!("{routine}: not recorded; cargo xtask prove --save"));
        }
        for (_, class) in PURPOSES.iter().filter(|(part, _)| routine.contains(part)) {
            let is_exempt = WITHOUT.iter().any(|part| routine.contains(part));
            if !is_exempt && !classes.contains_key(class.name()) {
                notes.push(format!("{routine}: no {}", class.name()));
            }
        }
    }
    let n_routines = recorded.as_object().map_or(0, Map::len);
    let what = format!("of {n_routines} routines without their vectors, {}", object.target.name);
    let mut row = Row {
        goal: "R22",
        measure: "routines",
        what,
        figure: notes.len() as u64,
        bound: "<= 0".to_owned(),
        holds: notes.is_empty() && n_routines > 0,
        notes,
    };
    if n_routines == 0 {
        row.notes.push("nothing is recorded".to_owned());
    }
    row
}

/// Records the counts of these objects, and gives the path.
///
/// # Errors
///
/// When it cannot be written.
pub fn save(objects: &[&Object]) -> Result<PathBuf> {
    let entry = |object: &&Object| (object.target.architecture.to_owned(), json!(count(object)));
    let recorded: Map<String, Value> = objects.iter().map(entry).collect();
    let path = path();
    fs::write(&path, serde_json::to_string_pretty(&recorded)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn path() -> PathBuf {
    workspace::root().join("kernel-tests/prove/vectors.json")
}
