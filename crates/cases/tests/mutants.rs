//! Damaged models, taken all the way from bytes to tokens: an error or tokens, never a panic, and the same each time.
//!
//! `CORELM_MUTANTS=1000000 cargo test --release -p corelm-cases --test mutants` goes through as many; `CORELM_SEED` begins
//! elsewhere.

#[path = "support/run.rs"]
mod run;

use std::time::Instant;

use corelm::ops::Ops;
use corelm::ops::cpu::Features;
use corelm_cases::mutate::mutate;
use run::{End, load, models, run, run_all};

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
    let ends = run_all("R3 mutants", 20_000, &|seed, file| mutant(&models, seed, file));
    if ends.n >= 1000 {
        let is_mixed = ends.n_refused > ends.n / 4 && ends.n_ran > ends.n / 10 && ends.n_non_finite > 0;
        assert!(is_mixed, "the mutants are of one kind: {ends:?}");
    }
}

/// Nobody is kept waiting by a file that is refused: how long that takes, beside loading the good one.
#[test]
fn a_refusal_takes_no_longer_than_loading() {
    let models = models();
    let took = |file: &[u8]| {
        let times = (0..3).map(|_| {
            let start = Instant::now();
            let is_loaded = load(file).is_ok();
            (start.elapsed().as_nanos(), is_loaded)
        });
        times.min().unwrap()
    };
    let good: Vec<u128> = models.iter().map(|model| took(model).0).collect();
    let (mut file, mut ratios) = (Vec::new(), Vec::new());
    for seed in 0..4000 {
        if let (nanos, false) = took(mutant(&models, seed, &mut file)) {
            ratios.push(100 * nanos / good[seed as usize % models.len()].max(1));
        }
    }
    ratios.sort_unstable();
    // Times are told and not asserted: other programs run too.
    let (n, p99) = (ratios.len(), ratios[ratios.len() * 99 / 100]);
    assert!(n > 1000);
    println!(
        "figure R3 refusal: {p99} hundredths of the good file's loading at the 99th percentile, of {n} refused"
    );
}
