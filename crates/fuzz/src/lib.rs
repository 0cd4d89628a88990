//! What must hold for any bytes, from a file, a text or a caller: the bodies of the fuzz targets.
//!
//! - `plan.rs`: bytes to a plan of memory, without touching any
//! - `tokenizer.rs`: a text by one of the small `vocabularies.rs`, whole, in parts, and back
//! - `run.rs`: bytes to a few tokens
//! - `session.rs`: calls in any order, right and wrong, on a good model
//!
//! The top-level `fuzz/` gives them to libFuzzer; here nothing depends on it, so `tests/corpora.rs` replays what it found
//! (`fuzz/corpora`, as `pack.rs` writes it) wherever tests run. `files.rs` makes the files that fuzzing begins with, `input.rs`
//! reads an input as choices; `answer.rs` is what kernel and host must agree on.

pub mod answer;
mod files;
mod input;
pub mod pack;
pub mod plan;
pub mod run;
pub mod session;
pub mod tokenizer;
mod vocabularies;

use corelm_cases::mutate;

/// One property, and what fuzzing for its opposite needs.
pub struct Target {
    /// Its name, and those of its program and corpus.
    pub name: &'static str,
    /// Panics where the bytes show that it does not hold.
    pub check: fn(&[u8]),
    /// What to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of the longest input that is worth a try.
    pub max_bytes: usize,
}

/// All of them.
pub const TARGETS: [Target; 4] = [
    Target { name: "plan", check: plan::check, seeds: plan::seeds, max_bytes: 4 << 10 },
    Target { name: "tokenizer", check: tokenizer::check, seeds: tokenizer::seeds, max_bytes: 256 },
    Target { name: "run", check: run::check, seeds: run::seeds, max_bytes: 32 << 10 },
    Target { name: "session", check: session::check, seeds: session::seeds, max_bytes: 256 },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Changes a model file in the first `len` bytes of `file`, which is as long as it may become, and gives its new length: as a
/// file two times of three, else by `bytes`, the fuzzer's own way, which takes the file's length and the longest.
pub fn mutate_file(
    file: &mut [u8],
    len: usize,
    seed: u32,
    bytes: impl FnOnce(&mut [u8], usize, usize) -> usize,
) -> usize {
    let room = file.len();
    match seed % 3 {
        0 => bytes(file, len, room),
        _ if len == 0 => bytes(file, len, room),
        _ => mutate::mutate(file, len, u64::from(seed)),
    }
}

/// The bits of logits: equal where these are, NaN included.
fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fuzzing_begins_with_is_good() {
        for target in &TARGETS {
            let seeds = (target.seeds)();
            assert!(
                seeds.iter().all(|seed| !seed.is_empty() && seed.len() <= target.max_bytes),
                "{}",
                target.name
            );
        }
        for seed in plan::seeds() {
            let file = [seed, vec![0; plan::N_ZEROS]].concat();
            assert_eq!(plan::plan(&file).map(|plans| plans.len() > 1), Ok(true));
        }
        for seed in run::seeds() {
            let answer = run::run(&seed, corelm::ops::Ops::scalar(), run::SESSION);
            assert_eq!(answer.map(|tokens| tokens.len()), Ok(run::N_GENERATED));
        }
    }

    #[test]
    fn a_mutant_has_room_and_a_file_is_changed_as_one() {
        let seed = &plan::seeds()[0];
        let mut files = std::collections::HashSet::new();
        for i in 0..99 {
            let mut file = seed.clone();
            file.resize(seed.len() + 100, 0);
            let len = mutate_file(&mut file, seed.len(), i, |_, len, room| (len / 2).min(room));
            assert!(len <= file.len());
            files.insert(file[..len].to_vec());
        }
        assert!(files.len() > 50, "{}", files.len());
    }
}
