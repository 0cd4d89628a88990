#![no_main]
//! libFuzzer's entry to the target `session` (`crates/fuzz/src/session.rs`).

use corelm_fuzz::session;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| session::check(input));
