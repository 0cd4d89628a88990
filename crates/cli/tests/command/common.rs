//! What the tests of the command share.
#![allow(dead_code)] // every test binary uses a part

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Runs `corelm` with nothing to read.
pub fn corelm(words: &[&str]) -> Output {
    corelm_with_input(words, b"")
}

/// Runs `corelm` with `input` on its standard input.
pub fn corelm_with_input(words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_corelm"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // Beside the reading: a command may write before it has read all. One that refuses its arguments does not read.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

/// Exit status and standard output.
pub fn status_and_output(words: &[&str]) -> (Option<i32>, String) {
    let output = corelm(words);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// One line on standard error that begins as promised, nothing on standard output, the status asked for.
pub fn assert_refused(words: &[&str], status: i32, part: &str) {
    assert_refused_with_input(words, "", status, part);
}

/// The same for a command that reads.
pub fn assert_refused_with_input(words: &[&str], input: &str, status: i32, part: &str) {
    let output = corelm_with_input(words, input.as_bytes());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{words:?}");
    assert!(stderr.starts_with("corelm: error: ") && stderr.lines().count() == 1, "{words:?}: {stderr}");
    assert!(stderr.contains(part), "{words:?}: {stderr}");
}

/// A folder of our own, empty.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A path below `../shared`, beside the repository. Absent: skips, except where `CI` is set.
pub fn shared(path: &str) -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if shared.exists() {
        return Some(shared);
    }
    assert!(std::env::var_os("CI").is_none(), "no ../shared/{path}");
    println!("skipped: no ../shared");
    None
}

/// A model of `../shared/models` and its golden cases.
pub fn golden(model: &str) -> Option<(String, Vec<Value>)> {
    let folder = shared("models")?;
    let text = std::fs::read_to_string(folder.join(format!("golden/{model}.json"))).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let file = folder.join(format!("{model}.gguf")).to_str().unwrap().to_owned();
    Some((file, golden["cases"].as_array().unwrap().clone()))
}

/// The reference's top five are within `bound` of ours (whichever of ours have the same ids), and the first is the same
/// where its lead is larger than the bound.
pub fn assert_close(ours: &Value, want: &Value, bound: f64) {
    let pairs = |value: &Value| -> Vec<(u64, f64)> {
        let top = value["top"].as_array().unwrap();
        top.iter().map(|pair| (pair[0].as_u64().unwrap(), pair[1].as_f64().unwrap())).collect()
    };
    let (ours, want) = (pairs(ours), pairs(want));
    assert_eq!((ours.len(), want.len()), (5, 5));
    for (&(_, our), &(_, their)) in ours.iter().zip(&want) {
        assert!((our - their).abs() <= bound, "{ours:?} {want:?} {bound}");
    }
    for &(id, their) in &want {
        if let Some(&(_, our)) = ours.iter().find(|&&(other, _)| other == id) {
            assert!((our - their).abs() <= bound, "{ours:?} {want:?} {bound}");
        }
    }
    if want[0].1 - want[1].1 > bound {
        assert_eq!(ours[0].0, want[0].0, "{ours:?} {want:?}");
    }
}
