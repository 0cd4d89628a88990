//! Runs the conformance list for every back-end this machine has.
//!
//! A run that is meant to cover a back-end names it in `CORELM_REQUIRE_BACKENDS` (`avx2,avx512_vnni`) and fails when this
//! machine lacks it.

use std::mem::MaybeUninit;
use std::sync::Barrier;

use corelm::ops::{Features, Ops, Workers};
use corelm_cases::conformance::{Stand, TEST_BYTES, TESTS};

/// Three threads for each job: slow, but as parallel as it gets.
struct Threads;

impl Workers for Threads {
    fn count(&self) -> usize {
        3
    }

    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        let barrier = Barrier::new(3);
        let at_once = &|worker| {
            barrier.wait();
            job(worker);
        };
        std::thread::scope(|scope| {
            for worker in 0..3 {
                scope.spawn(move || at_once(worker));
            }
        });
    }
}

#[test]
fn every_backend_conforms() {
    let mut failures = Vec::new();
    let mut n_backends = 0;
    for ops in Ops::available(Features::detect_host()) {
        for test in TESTS {
            let result = std::panic::catch_unwind(|| {
                let mut memory = vec![MaybeUninit::<u8>::uninit(); TEST_BYTES];
                (test.run)(&mut Stand { ops, workers: &Threads, memory: &mut memory });
            });
            if result.is_err() {
                failures.push(format!("{} on {}", test.name, ops.backend().name()));
            }
        }
        n_backends += 1;
    }
    assert!(failures.is_empty(), "failed: {failures:#?}");
    let is_there = |name: &str| TESTS.iter().any(|test| test.name.ends_with(name));
    assert!(is_there("logits_have_the_recorded_hash") && is_there("interleaved_sessions_equal_each_alone"));
    println!("figure R11 bits, host: {n_backends} back-ends: all logits of six models, by recorded SHA-256");
}

#[test]
fn required_backends_are_here() {
    let required = std::env::var("CORELM_REQUIRE_BACKENDS").unwrap_or_default();
    let have: Vec<&str> = Ops::available(Features::detect_host()).map(|ops| ops.backend().name()).collect();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        assert!(have.contains(&name), "this run must cover {name}, but here are only {have:?}");
    }
}
