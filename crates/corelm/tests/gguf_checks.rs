//! `docs/GGUF-CHECKS.md` against the code: every error, limit, key and tensor of the engine is in it, and every test that it
//! names is there.
#![cfg(not(miri))] // reads files of the repository

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn document() -> String {
    read("docs/GGUF-CHECKS.md")
}

/// The code of a file: no comments, no tests.
fn code(path: impl AsRef<Path>) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// All files of Rust below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    found
}

/// What stands between backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The variants of an enum, each with the code that `code()` gives it, if that is a number of its own.
fn variants(path: &str, name: &str) -> Vec<(String, Option<u32>)> {
    let code = code(path);
    let start = format!("pub enum {name} {{\n");
    let body = code.split_once(&start).unwrap().1.split_once("\n}").unwrap().0;
    let is_variant =
        |line: &&str| line.strip_prefix("    ").is_some_and(|line| line.starts_with(char::is_uppercase));
    let codes = code.split_once(&format!("impl {name} {{")).map_or("", |parts| parts.1);
    let number = |variant: &str| {
        let arm = |line: &&str| {
            let pattern =
                line.trim_start().strip_prefix("Self::").and_then(|line| line.strip_prefix(variant));
            pattern.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric) && rest.contains("=>"))
        };
        let arm = codes.lines().find(arm)?;
        arm.split_once("=> ")?.1.split(',').next()?.parse().ok()
    };
    let variant = |line: &str| line.trim().split(|c: char| !c.is_alphanumeric()).next().unwrap().to_string();
    body.lines().filter(is_variant).map(variant).map(|name| (name.clone(), number(&name))).collect()
}

#[test]
fn every_error_is_in_the_document_with_its_number() {
    let document = document();
    let mut n_errors = 0;
    for (path, name) in [
        ("crates/corelm/src/error/model.rs", "ModelError"),
        ("crates/corelm/src/error/model.rs", "VocabFault"),
        ("crates/corelm/src/plan.rs", "PlanError"),
    ] {
        for (variant, number) in variants(path, name) {
            n_errors += 1;
            // A fault has the number of the error that carries it; and that error is in the document by its faults.
            let (is_fault, is_carrier) = (name == "VocabFault", variant == "BadVocab");
            let want = match number {
                Some(_) if is_carrier => continue,
                Some(number) => format!("`{variant}` {number}"),
                None if is_fault => format!("`{variant}` 130"),
                None => format!("`{variant}`"),
            };
            assert!(document.contains(&want), "{want} of {name} is missing");
        }
    }
    assert!(n_errors > 50, "{n_errors} errors: their source is no longer understood");
}

#[test]
fn every_limit_is_in_the_document_with_its_value() {
    let document = document();
    let has_row = |parts: &[&str]| document.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    let mut n_limits = 0;
    for path in sources(&repository().join("crates/corelm/src")) {
        let code = code(&path).replace('\n', " ");
        // `NAME: Limit = Limit::new("what", max)`, and the same as a literal of the struct.
        for (at, _) in code.match_indices("what: \"").chain(code.match_indices("Limit::new(\"")) {
            let mut parts = code[at..].splitn(3, '"').skip(1);
            let (what, rest) = (parts.next().unwrap(), parts.next().unwrap());
            let value = rest.trim_start_matches([',', ' ']).trim_start_matches("max: ");
            let end = value.find([';', '}']).unwrap();
            let value = value[..end].trim_end_matches([' ', ',']).trim_end_matches(" }");
            let value =
                if code[at..].starts_with("Limit::new") { value.trim_end_matches(')') } else { value };
            n_limits += 1;
            assert!(
                has_row(&[what, &format!("`{value}`")]),
                "limit of {what}, {value}, of {}",
                path.display()
            );
        }
    }
    assert!(n_limits >= 18, "{n_limits} limits: their source is no longer understood");
}

/// Literals that look like keys, or names of tensors, in the files that read them.
fn literals(path: &str, is_wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let code = code(path);
    let looks_so = |text: &&str| {
        !text.is_empty() && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
    };
    code.split('"')
        .skip(1)
        .step_by(2)
        .filter(looks_so)
        .filter(|text| is_wanted(text))
        .map(String::from)
        .collect()
}

#[test]
fn every_key_and_tensor_that_is_read_is_in_the_document() {
    let document = document();
    let all: BTreeSet<_> = document.lines().flat_map(quoted).collect();
    let mut names = literals("crates/corelm/src/config.rs", |_| true);
    let n_shape = names.len();
    names.extend(literals("crates/corelm/src/weights.rs", |text| text.contains('.')));
    let n_tensors = names.len() - n_shape;
    for path in sources(&repository().join("crates/corelm/src")) {
        let is_key = |text: &str| text.starts_with("tokenizer.") || text.starts_with("general.");
        names.extend(literals(path.to_str().unwrap(), is_key).into_iter().filter(|key| !key.ends_with('.')));
    }
    let n_tokenizer = names.len() - n_tensors - n_shape;
    for name in &names {
        assert!(all.contains(&**name), "`{name}` is missing");
    }
    assert!(n_shape > 20 && n_tensors > 20 && n_tokenizer > 20, "{n_shape} {n_tensors} {n_tokenizer}");
}

#[test]
fn every_row_names_tests_that_are_there() {
    let files: Vec<_> = ["corelm/tests", "corelm/src", "cases/tests"]
        .iter()
        .flat_map(|folder| sources(&repository().join("crates").join(folder)))
        .collect();
    let corpus = repository().join("../shared/bad-gguf/cases");
    let has_corpus = corpus.is_dir();
    assert!(has_corpus || std::env::var_os("CI").is_none(), "no ../shared/bad-gguf, and CI is set");
    let (mut n_rows, mut n_tests, mut n_cases) = (0, 0, 0);
    for line in document().lines().filter(|line| line.starts_with("| ") && !line.ends_with("| shown by |")) {
        n_rows += 1;
        let cell = line.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        let mut tests = quoted(cell).filter(|name| name.contains("::")).peekable();
        assert!(tests.peek().is_some(), "no test in: {line}");
        for test in tests {
            n_tests += 1;
            let (file, name) = test.split_once("::").unwrap();
            let path = files.iter().find(|path| path.ends_with(file)).unwrap_or_else(|| panic!("no {file}"));
            let declaration = format!("fn {name}()");
            let text = read(path);
            let before = text.split_once(&declaration).unwrap_or_else(|| panic!("no {test}")).0;
            assert!(before.lines().rev().take(3).any(|line| line.trim() == "#[test]"), "{test} is no test");
        }
        for case in quoted(cell).filter(|name| !name.contains("::")) {
            n_cases += 1;
            let is_there = !has_corpus || corpus.join(format!("{case}.gguf")).is_file();
            assert!(is_there, "no case {case}");
        }
    }
    println!("{n_rows} rows, {n_tests} tests, {n_cases} cases");
    assert!(n_rows > 90 && n_tests > n_rows, "{n_rows} rows, {n_tests} tests");
}
