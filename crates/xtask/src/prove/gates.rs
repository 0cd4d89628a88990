//! What is asked of an object: each gate gives a row of the table.

use super::object::Object;
use super::pointers;
use crate::binary::program::Function;
use crate::binary::stack::{Depths, callees};
use anyhow::{Context, Result};
use std::collections::BTreeSet;

/// The import of an object that a panic can be reached in.
const PANIC: &str = "corelm_panic_is_reachable";

/// Functions that may end in an instruction that traps, in the arm that the compiler puts behind all variants of a type of
/// blocks, as their numbers are not consecutive; no value is there.
const ALLOWED_TRAPS: [&str; 7] = [
    "<corelm_ops::block::GgmlType>::block_bytes",
    "<corelm_ops::block::GgmlType>::block_values",
    "<corelm_ops::block::GgmlType>::name",
    "<corelm_ops::block::GgmlType>::row_bytes",
    "<corelm_ops::view::Matrix>::new",
    "<corelm::gguf::Image>::parse",
    "corelm::gguf::tensor::tensor_bytes",
];

/// What the libraries may leave to others: the compiler asks every target for these.
const ALLOWED_IMPORTS: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// Parts of the names of functions that allocate.
const ALLOCATORS: [&str; 7] =
    ["__rust_alloc", "__rust_realloc", "__rust_dealloc", "malloc", "calloc", "realloc", "posix_memalign"];

/// Parts of the names of functions that exchange with memory in one step: parts of a matrix are handed out so, also where the
/// list of generic functions has it in line.
const COUNTERS: [&str; 2] = ["corelm_ops::workers::for_each_tile", "prove_exports::generic::GENERIC"];

/// The frame that one function may take, in bytes.
const FRAME: u64 = 2_048;

/// Exported functions and the bytes of stack they take, the deepest first.
pub type Stacks = Vec<(String, u64)>;

/// A goal, and what of it is measured.
pub type Of = (&'static str, &'static str);

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The goal of docs/ASSURANCE.md that it belongs to, and what of it is measured.
    pub goal: &'static str,
    pub measure: &'static str,
    /// What was counted, and where.
    pub what: String,
    /// What was found.
    pub figure: u64,
    /// What was asked for, as in `<= 0`.
    pub bound: String,
    /// Whether it holds.
    pub holds: bool,
    /// What explains the figure, a line each.
    pub notes: Vec<String>,
}

impl Row {
    /// At most `most` of what the notes name.
    pub fn at_most((goal, measure): Of, what: String, figure: u64, most: u64, notes: Vec<String>) -> Self {
        Self { goal, measure, what, figure, bound: format!("<= {most}"), holds: figure <= most, notes }
    }

    /// None of what the notes name.
    pub fn none(of: Of, what: String, notes: Vec<String>) -> Self {
        Self::at_most(of, what, notes.len() as u64, 0, notes)
    }
}

/// R1: no panic can be reached.
pub fn panics(object: &Object) -> Row {
    no_panic("panics", format!("functions that a panic is called in, {}", object.target.name), object)
}

/// R1: no arithmetic overflows, in an object built with checks of that.
pub fn overflows(object: &Object) -> Row {
    no_panic("overflows", format!("the same with overflow checks, {}", object.target.name), object)
}

fn no_panic(measure: &'static str, what: String, object: &Object) -> Row {
    let found = panicking(&object.functions).into_iter();
    let mut notes: Vec<String> = found.map(|(from, to)| format!("{from} calls {to}")).collect();
    // The linker's word counts: an object that asks for the panic has one, whether or not the graph shows where.
    if notes.is_empty() && object.imports.iter().any(|import| import == PANIC) {
        notes.push("the object asks for the panic, of an unknown function".to_owned());
    }
    Row::none(("R1", measure), what, notes)
}

/// R1: nothing traps but what is listed.
pub fn traps(object: &Object) -> Row {
    let is_listed = |name: &str| ALLOWED_TRAPS.contains(&name);
    let excess =
        |function: &Function| function.code.n_traps.saturating_sub(usize::from(is_listed(&function.name)));
    let found = object.functions.iter().filter(|function| excess(function) > 0);
    let notes = found.map(|function| format!("{} {}", excess(function), function.name)).collect();
    Row::none(
        ("R1", "traps"),
        format!("functions with brk or ud2 that are not listed, {}", object.target.name),
        notes,
    )
}

/// R6: nothing allocates, and nothing is imported but what the compiler itself asks for.
pub fn allocations(object: &Object) -> Row {
    let is_allocator = |name: &str| ALLOCATORS.iter().any(|part| name.contains(part));
    let defined = object.functions.iter().map(|function| &function.name).filter(|name| is_allocator(name));
    let is_stranger = |name: &&String| *name != PANIC && !ALLOWED_IMPORTS.contains(&name.as_str());
    let imported = object.imports.iter().filter(is_stranger);
    let notes = defined.chain(imported).cloned().collect();
    Row::none(("R6", "allocators"), format!("allocators and other imports, {}", object.target.name), notes)
}

/// R19: nothing is kept between calls, in a variable of the library.
pub fn variables(object: &Object) -> Row {
    let notes = object.variables.iter().map(|(name, bytes)| format!("{bytes:>6}  {name}")).collect();
    Row::none(("R19", "statics"), format!("variables, {}", object.target.name), notes)
}

/// R19: nothing waits for a lock; none can be taken without an exchange.
pub fn locks(object: &Object) -> Row {
    let is_counter = |name: &str| COUNTERS.iter().any(|part| name.contains(part));
    let found = object.functions.iter().filter(|function| function.code.n_exchanges > 0);
    let found = found.filter(|function| !is_counter(&function.name));
    let notes = found.map(|function| format!("{} {}", function.code.n_exchanges, function.name)).collect();
    Row::none(("R19", "statics"), format!("functions that might take a lock, {}", object.target.name), notes)
}

/// R8: no recursion, no unknown call through a pointer, few bytes of stack and in each frame; and the stack of every export.
pub fn stack(object: &Object) -> Result<(Vec<Row>, Stacks)> {
    let functions = &object.functions;
    let mut unknown = Vec::new();
    for function in functions.iter().filter(|function| function.code.calls_pointer) {
        if pointers::reached(function, functions).is_none() {
            unknown.push(function.name.clone());
        }
    }
    let depths =
        Depths::new(functions, |function| pointers::reached(function, functions).unwrap_or_default());
    let named =
        |&(from, to): &(usize, usize)| format!("{} calls {}", functions[from].name, functions[to].name);
    let cycles = depths.cycles.iter().map(named).collect();

    // What the exports reach is all there is, but a planted function is no export.
    let mut exports: Vec<(String, usize)> = (object.exports.iter())
        .filter_map(|(name, address)| Some((name.clone(), index_of(functions, *address)?)))
        .collect();
    if exports.is_empty() {
        exports = (0..functions.len()).map(|i| (functions[i].name.clone(), i)).collect();
    }
    exports.sort_by_key(|(_, i)| std::cmp::Reverse(depths.bytes[*i]));
    let deepest = exports.first().map_or(0, |(_, i)| depths.bytes[*i]);
    let mut path = Vec::new();
    if let Some((_, i)) = exports.first() {
        path.extend(
            depths.path(*i).into_iter().map(|(i, frame)| format!("{frame:>6}  {}", functions[i].name)),
        );
    }
    let target = object.target.name;
    let largest = functions.iter().max_by_key(|function| function.frame).context("no function")?;
    let rows = vec![
        Row::none(("R8", "bound"), format!("recursions, {target}"), cycles),
        Row::none(("R8", "bound"), format!("calls through unknown pointers, {target}"), unknown),
        Row::at_most(
            ("R8", "bound"),
            format!("bytes of stack, {target}"),
            deepest,
            object.target.stack,
            path,
        ),
        Row::at_most(
            ("R8", "bound"),
            format!("bytes in one frame, {target}"),
            largest.frame,
            FRAME,
            vec![largest.name.clone()],
        ),
    ];
    Ok((rows, exports.into_iter().map(|(name, i)| (name, depths.bytes[i])).collect()))
}

/// R22: no float is computed with by a library call.
pub fn soft_float(object: &Object) -> Row {
    let is_helper = |name: &str| {
        let name = name.trim_start_matches("compiler_builtins::").rsplit("::").next().unwrap_or(name);
        let is_float = ["sf", "df"].iter().any(|ty| name.contains(ty));
        name.starts_with("__")
            && is_float
            && name.ends_with(|c: char| c.is_ascii_digit() || c == 'i' || c == 'f')
    };
    let names = object.functions.iter().map(|function| &function.name).chain(&object.imports);
    let found: BTreeSet<&String> = names.filter(|name| is_helper(name)).collect();
    let notes = found.into_iter().cloned().collect();
    Row::none(("R22", "soft floats"), format!("soft-float helpers, {}", object.target.name), notes)
}

fn index_of(functions: &[Function], address: u64) -> Option<usize> {
    functions.binary_search_by_key(&address, |function| function.address).ok()
}

/// The functions of ours that a panic is called in, with what they call.
fn panicking(functions: &[Function]) -> BTreeSet<(String, String)> {
    let calls: Vec<Vec<usize>> = functions.iter().map(|function| callees(function, functions)).collect();
    let is_handler = |function: &Function| function.name.contains("rust_begin_unwind");
    let mut reaches: Vec<bool> = functions.iter().map(is_handler).collect();
    let count = |reaches: &[bool]| reaches.iter().filter(|reaches| **reaches).count();
    loop {
        let before = count(&reaches);
        for (i, callees) in calls.iter().enumerate() {
            reaches[i] |= callees.iter().any(|&callee| reaches[callee]);
        }
        if count(&reaches) == before {
            break;
        }
    }
    let is_core = |i: &usize| {
        let name = functions[*i].name.trim_start_matches('<');
        ["core::", "__rustc", "str as core::", "char>::"].iter().any(|start| name.starts_with(start))
    };
    let ours = (0..functions.len()).filter(|i| !is_core(i));
    let called =
        |i: usize| calls[i].iter().filter(|&&callee| reaches[callee]).filter(|callee| is_core(callee));
    ours.flat_map(|i| {
        called(i).map(move |&callee| (functions[i].name.clone(), functions[callee].name.clone()))
    })
    .collect()
}
