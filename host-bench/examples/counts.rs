//! Runs every benchmark case once under callgrind, which counts its instructions: `cargo xtask counts` starts this.
//!
//! Each case ends with a dump of its own counts, named like the case. Outside callgrind the requests do nothing.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::process::ExitCode;

use corelm::ops::{Backend, Features, Ops, Single};
use corelm_cases::CASES;
use corelm_cases::bench::{Bencher, Lab};
use corelm_cases::cases::{CASE_BYTES, MODEL_BYTES, write_model};

/// Cases with more floating-point operations are left out on the scalar back-end: callgrind is fifty times slower than the
/// CPU.
const LONG_FLOPS: u64 = 60_000_000;
/// And with more than these on every back-end.
const LONGEST_FLOPS: u64 = 4_000_000_000;

fn main() -> ExitCode {
    let backends: Vec<Ops> = Ops::available(Features::detect_host())
        .filter(|ops| matches!(ops.backend(), Backend::Scalar | Backend::Avx2))
        .collect();
    let mut model_memory = vec![MaybeUninit::uninit(); MODEL_BYTES];
    let Ok((model, _)) = write_model(&mut model_memory) else { return ExitCode::FAILURE };
    let model = model.to_vec();
    let mut memory = vec![MaybeUninit::uninit(); CASE_BYTES];
    let mut status = ExitCode::SUCCESS;
    for case in CASES {
        let ops = if case.per_backend { &backends[..] } else { &backends[backends.len() - 1..] };
        for &ops in ops {
            let longest = if ops.backend() == Backend::Scalar { LONG_FLOPS } else { LONGEST_FLOPS };
            if case.flops > longest {
                continue;
            }
            let Ok(name) = CString::new(case.full_name(ops).to_string()) else { return ExitCode::FAILURE };
            let mut bencher = Once { name: &name };
            let lab =
                &mut Lab { ops, workers: &Single, memory: &mut memory, model: &model, bencher: &mut bencher };
            if let Err(error) = (case.body)(lab) {
                eprintln!("{}: {error}", name.to_string_lossy());
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}

/// Counts one iteration, after one that is not counted.
struct Once<'n> {
    name: &'n CStr,
}

impl Bencher for Once<'_> {
    fn iter(&mut self, routine: &mut dyn FnMut()) {
        routine();
        request(ZERO_STATS, 0);
        routine();
        request(DUMP_STATS_AT, self.name.as_ptr() as u64);
    }
}

/// `CALLGRIND_ZERO_STATS` and `CALLGRIND_DUMP_STATS_AT` of `callgrind.h`: tool base `'C' 'T'`, numbers 1 and 3.
const ZERO_STATS: u64 = 0x4354_0001;
const DUMP_STATS_AT: u64 = 0x4354_0003;

/// A client request as `valgrind.h` defines it for x86-64: four rotations that add up to nothing, then an exchange of RBX
/// with itself; RAX points at the request and its arguments.
#[cfg(target_arch = "x86_64")]
fn request(number: u64, argument: u64) {
    let words = [number, argument, 0, 0, 0, 0];
    // SAFETY: to a CPU these instructions do nothing; Valgrind reads the words, which live until after them.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") words.as_ptr(), inout("rdx") 0u64 => _, inout("rdi") 0u64 => _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_: u64, _: u64) {}
