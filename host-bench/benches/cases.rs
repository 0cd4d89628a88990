//! Every benchmark case of `corelm-cases` under criterion, on one back-end after the other.
//!
//! `cargo bench -p host-bench -- gemv/q4_0` times the cases whose names contain `gemv/q4_0`; the other arguments are
//! criterion's (`--save-baseline NAME`, `--baseline NAME`, `--quick`).

use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::time::Duration;

use corelm::ops::{Features, Ops, Single};
use corelm_cases::CASES;
use corelm_cases::bench::{Bencher, Case, CaseError, Lab};
use corelm_cases::cases::{CASE_BYTES, MODEL_BYTES, write_model};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};

/// Cases with more floating-point operations than this get few and plain samples: they last milliseconds and vary little.
const LONG_FLOPS: u64 = 20_000_000;

fn main() -> ExitCode {
    let filter = filter(std::env::args().skip(1));
    let mut criterion = Criterion::default().configure_from_args();
    let backends: Vec<Ops> = Ops::available(Features::detect_host()).collect();
    let mut lent = Memory::default();
    let mut status = ExitCode::SUCCESS;
    for case in CASES {
        let ops = if case.per_backend { &backends[..] } else { &backends[backends.len() - 1..] };
        let ops: Vec<Ops> = ops.iter().copied().filter(|&ops| name(case, ops).contains(&filter)).collect();
        if ops.is_empty() {
            continue;
        }
        let mut group = criterion.benchmark_group(format!("{}/{}", case.name, case.shape));
        configure(&mut group, case);
        for ops in ops {
            if let Err(error) = lent.run(case, ops, &mut group) {
                eprintln!("{}: {error}", name(case, ops));
                status = ExitCode::FAILURE;
            }
        }
        group.finish();
    }
    criterion.final_summary();
    status
}

/// Times a case that takes a microsecond for about a second, and one that takes a second ten times.
fn configure(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    if case.flops > 0 {
        group.throughput(Throughput::Elements(case.flops));
    } else {
        group.throughput(Throughput::Bytes(case.bytes));
    }
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    if case.flops > LONG_FLOPS {
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
    } else {
        group.sample_size(50);
    }
}

fn name(case: &Case, ops: Ops) -> String {
    case.full_name(ops).to_string()
}

/// The first of `args` that is no option and no option's value: criterion's own filter, read here too so that cases which
/// are not wanted are not prepared either.
fn filter(args: impl Iterator<Item = String>) -> String {
    const WITHOUT_VALUE: [&str; 10] = [
        "--bench",
        "--test",
        "--list",
        "--verbose",
        "-v",
        "--quiet",
        "-n",
        "--noplot",
        "--discard-baseline",
        "--quick",
    ];
    let mut takes_value = false;
    for arg in args {
        if !arg.starts_with('-') && !takes_value {
            return arg;
        }
        takes_value = arg.starts_with('-') && !arg.contains('=') && !WITHOUT_VALUE.contains(&arg.as_str());
    }
    String::new()
}

/// What the cases are lent; made when first needed.
#[derive(Default)]
struct Memory {
    model: Vec<u8>,
    case: Vec<MaybeUninit<u8>>,
}

impl Memory {
    fn run(
        &mut self,
        case: &Case,
        ops: Ops,
        group: &mut BenchmarkGroup<'_, WallTime>,
    ) -> Result<(), CaseError> {
        self.case.resize(CASE_BYTES, MaybeUninit::uninit());
        if case.needs_model && self.model.is_empty() {
            let mut memory = vec![MaybeUninit::uninit(); MODEL_BYTES];
            self.model = write_model(&mut memory)?.0.to_vec();
        }
        let id = if case.per_backend { ops.backend().name() } else { "all" };
        let mut bencher = UnderCriterion { group, id };
        (case.body)(&mut Lab {
            ops,
            workers: &Single,
            memory: &mut self.case,
            model: &self.model,
            bencher: &mut bencher,
        })
    }
}

/// Hands a routine whose first result is right to criterion.
struct UnderCriterion<'g, 'c> {
    group: &'g mut BenchmarkGroup<'c, WallTime>,
    id: &'static str,
}

impl Bencher for UnderCriterion<'_, '_> {
    fn iter(&mut self, routine: &mut dyn FnMut()) {
        self.group.bench_function(self.id, |bencher| bencher.iter(&mut *routine));
    }
}
