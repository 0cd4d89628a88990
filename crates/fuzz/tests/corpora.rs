//! Every input that fuzzing kept (`fuzz/corpora`), once more: what held for it still does.

use corelm_fuzz::{TARGETS, pack};
use std::path::Path;

/// Bytes that all corpora may have together.
const MOST_BYTES: usize = 2 << 20;

fn replay(name: &str) {
    let target = corelm_fuzz::target(name).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpora").join(name);
    let inputs = pack::unpack(&std::fs::read(path).unwrap()).unwrap();
    assert!(inputs.len() >= 50, "{name}: {} inputs", inputs.len());
    // Under Miri, a hundred times slower and more, a few stand for all; it has no square roots to make seeds with.
    let (step, seeds) = if cfg!(miri) { (inputs.len() / 8, Vec::new()) } else { (1, (target.seeds)()) };
    for input in inputs.iter().chain(&seeds).step_by(step) {
        (target.check)(input);
    }
    println!("{name}: {} inputs and {} seeds", inputs.len(), seeds.len());
}

#[test]
fn plan() {
    replay("plan");
}

#[test]
fn tokenizer() {
    replay("tokenizer");
}

#[test]
fn run() {
    replay("run");
}

#[test]
fn session() {
    replay("session");
}

#[test]
fn no_target_is_left_out_and_corpora_stay_small() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpora");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    let names: Vec<_> = files.iter().map(|file| file.file_name().into_string().unwrap()).collect();
    let mut targets = TARGETS.map(|target| target.name);
    targets.sort_unstable();
    assert_eq!(names, targets);
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes <= MOST_BYTES as u64, "{bytes}");
}
