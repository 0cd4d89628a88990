#![no_main]
//! libFuzzer's entry to the target `tokenizer` (`crates/fuzz/src/tokenizer.rs`).

use corelm_fuzz::tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| tokenizer::check(input));
