//! Damaged models, taken all the way from bytes to tokens: an error or tokens, never a panic, and the same each time.
//!
//! `CORELM_MUTANTS=1000000 cargo test --release -p corelm-cases --test mutants` goes through as many; `CORELM_SEED` begins
//! elsewhere.

#[path = "support/run.rs"]
mod run;

use corelm::ops::Ops;
use corelm::ops::cpu::Features;
use corelm_cases::mutate::mutate;
use run::{End, models, run, run_all};

/// A good model of `models`, damaged by a seed, in the middle of `file`.
fn mutant<'f>(models: &[Vec<u8>], seed: u64, file: &'f mut Vec<u8>) -> &'f [u8] {
    let good = &models[seed as usize % models.len()];
    file.clear();
    file.push(0); // so that nothing lies where it would be aligned
    file.extend_from_slice(good);
    file.resize(1 + good.len() + 4096, 0);
    let len = mutate(&mut file[1..], good.len(), seed);
    &file[1..1 + len]
}

/// Seeds that went wrong once: a plan of 28 MB, for a width that no tensor has.
const FOUND: [u64; 1] = [1_210_411];

#[test]
fn mutants_that_went_wrong_once_do_not_again() {
    let (models, mut file) = (models(), Vec::new());
    for seed in FOUND {
        run(mutant(&models, seed, &mut file), Ops::best(Features::detect_host()));
    }
}

#[test]
fn mutants_end_with_an_error_or_tokens() {
    let models = models();
    let ops = Ops::best(Features::detect_host());
    for model in &models {
        assert!(matches!(run(model, ops), End::Ran(_)), "{:?}", run(model, ops));
    }
    let ends = run_all("mutants", 20_000, &|seed, file| mutant(&models, seed, file));
    if ends.n >= 1000 {
        let is_mixed = ends.n_refused > ends.n / 4 && ends.n_ran > ends.n / 10 && ends.n_non_finite > 0;
        assert!(is_mixed, "the mutants are of one kind: {ends:?}");
    }
}
