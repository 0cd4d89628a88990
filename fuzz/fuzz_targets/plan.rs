#![no_main]
//! libFuzzer's entry to the target `plan` (`crates/fuzz/src/plan.rs`); its inputs are changed as model files.

use corelm_fuzz::{mutate_file, plan};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|file: &[u8]| plan::check(file));

fuzz_mutator!(|file: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_file(&mut file[..max_size], size, seed, fuzzer_mutate)
});
