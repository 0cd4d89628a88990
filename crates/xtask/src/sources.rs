//! What the sources of the libraries may say, read off them: `unsafe` in listed files alone, nothing that is kept between calls,
//! no lock. What is linked is looked at by `cargo xtask prove`; here is also what no target links.

use crate::workspace;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where `unsafe` may stand (docs/ARCHITECTURE.md, "Unsafe has addresses"): files, and folders with all that is in them. Each
/// must have some.
const UNSAFE: [&str; 11] = [
    "corelm/src/arena.rs",
    "ops/src/arch/",
    "ops/src/block.rs",
    "ops/src/cpu.rs",
    "ops/src/cpu/",
    "ops/src/panel.rs",
    "ops/src/table.rs",
    "ops/src/tile.rs",
    "ops/src/view.rs",
    "ops/src/workers.rs",
    "ops/src/workspace.rs",
];

/// Where several workers meet: parts are counted, and a flag says that one of them could not be done.
const ATOMIC: [&str; 2] = ["corelm/src/forward/attend.rs", "ops/src/workers.rs"];

/// What changes behind a shared reference, outlives a call, or waits. As words of the code.
const KEPT: [&str; 14] = [
    "static mut",
    "UnsafeCell",
    "Cell",
    "RefCell",
    "OnceCell",
    "LazyCell",
    "OnceLock",
    "LazyLock",
    "Mutex",
    "RwLock",
    "Condvar",
    "Barrier",
    "thread_local",
    "AtomicPtr",
];

/// The lines of a source that are code: without what is behind `//`, and without the tests at its end.
fn code(source: &str) -> impl Iterator<Item = &str> {
    let is_test = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("#[cfg(test)]")
            || line.starts_with("#[cfg(all(test")
            || line.starts_with("#[cfg(all(loom")
    };
    source.lines().take_while(move |line| !is_test(line)).map(without_comment)
}

fn without_comment(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// Whether `word` stands in `line` with nothing of a name around it.
fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_name) && !after.starts_with(is_name)
    })
}

/// The sources of the libraries, by their paths below `crates`.
fn sources() -> Vec<(String, String)> {
    let crates = workspace::root().join("crates");
    let mut found = Vec::new();
    let mut folders = vec![crates.join("corelm/src"), crates.join("ops/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((name(&path, &crates), fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(found.len() > 100, "the libraries have {} files", found.len());
    found
}

fn name(path: &Path, crates: &Path) -> String {
    let parts = path.strip_prefix(crates).unwrap().iter().map(|part| part.to_str().unwrap());
    parts.collect::<Vec<_>>().join("/")
}

/// The entry of `list` that a file falls under.
fn listed<'l>(list: &[&'l str], file: &str) -> Option<&'l str> {
    list.iter().copied().find(|entry| file == *entry || (entry.ends_with('/') && file.starts_with(entry)))
}

#[test]
fn unsafe_is_where_it_is_listed_and_each_of_those_has_some() {
    let mut needed = BTreeSet::new();
    for (file, source) in sources() {
        // The type of a pointer to an unsafe function does nothing.
        let lines = source.lines().map(|line| without_comment(line).replace("unsafe fn(", "fn("));
        if lines.into_iter().any(|line| has_word(&line, "unsafe")) {
            let entry = listed(&UNSAFE, &file);
            assert!(entry.is_some(), "{file} has `unsafe`");
            needed.extend(entry);
        }
    }
    assert_eq!(needed, BTreeSet::from(UNSAFE), "a file is listed in vain");
    println!(
        "figure R20 unsafe: in {} listed files and folders of the libraries, and each has some",
        UNSAFE.len()
    );
}

#[test]
fn the_libraries_keep_nothing_and_wait_for_nobody() {
    let mut atomic = BTreeSet::new();
    for (file, source) in sources() {
        for line in code(&source) {
            let kept = KEPT.iter().find(|word| has_word(line, word));
            // Attention's blocks of positions are called cells.
            let is_own = file == "ops/src/attend.rs" && kept == Some(&"Cell");
            assert!(kept.is_none() || is_own, "{file}: {line}");
            if line.contains("Atomic") {
                let entry = listed(&ATOMIC, &file);
                assert!(entry.is_some(), "{file}: {line}");
                atomic.extend(entry);
            }
            assert!(!(has_word(line, "static") && line.contains("Atomic")), "{file}: {line}");
        }
    }
    assert_eq!(atomic, BTreeSet::from(ATOMIC), "a file is listed in vain");
}

#[test]
fn words_are_found_in_code_alone() {
    let source =
        "use x; // unsafe\nlet a = unsafe { b };\n#![deny(unsafe_code)]\n#[cfg(test)]\nstatic mut X: u8;\n";
    let lines: Vec<&str> = code(source).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!([0, 1, 2].map(|i| has_word(lines[i], "unsafe")), [false, true, false]);
    assert!(has_word("    static mut X", "static mut") && !has_word("RefCell::new", "Cell"));
    assert_eq!(listed(&["a/b.rs", "c/"], "c/d/e.rs"), Some("c/"));
    assert_eq!(listed(&["a/b.rs", "c/"], "a/b.rs.rs"), None);
}
