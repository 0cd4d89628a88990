#![no_main]
//! libFuzzer's entry to the target `run` (`crates/fuzz/src/run.rs`); its inputs are changed as model files.

use corelm_fuzz::{mutate_file, run};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|file: &[u8]| run::check(file));

fuzz_mutator!(|file: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_file(&mut file[..max_size], size, seed, fuzzer_mutate)
});
