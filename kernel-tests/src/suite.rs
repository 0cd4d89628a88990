//! The conformance list and the benchmark cases of `corelm-cases`, with this kernel as their host.

use core::fmt::{self, Write};

use corelm_cases::bench::{Clock, Host, SUITE_BYTES, Unit};
use corelm_cases::{BenchmarkConfig, CASES, Stand, TEST_BYTES, TESTS, run_benchmark_suite};

use crate::board::Context;
use crate::counter::{CycleCounter, Timer, counts_instructions};
use crate::model::{self, EngineError};
use crate::{cpu, print, println, selftest};

/// The console as a place to write.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        print!("{text}");
        Ok(())
    }
}

/// The cycle counter, and what its counts are on this machine.
struct KernelClock {
    unit: Unit,
    hz: Option<u64>,
}

impl KernelClock {
    fn new(is_emulated: bool) -> Self {
        let unit = unit(is_emulated);
        Self { unit, hz: (unit == Unit::Cycles).then(core_hz) }
    }
}

/// What the cycle counter counts.
pub fn unit(is_emulated: bool) -> Unit {
    match (is_emulated, counts_instructions()) {
        (true, true) => Unit::EmulatedInstructions,
        (true, false) => Unit::EmulatedTicks,
        (false, _) => Unit::Cycles,
    }
}

impl Clock for KernelClock {
    fn now(&self) -> u64 {
        CycleCounter.now()
    }

    fn hz(&self) -> Option<u64> {
        self.hz
    }

    fn unit(&self) -> Unit {
        self.unit
    }
}

/// The core's frequency: cycles in a hundredth of a second of the timer.
fn core_hz() -> u64 {
    let (began, cycles) = (Timer.now(), CycleCounter.now());
    while Timer.now() - began < Timer.hz() / 100 {
        core::hint::spin_loop();
    }
    (CycleCounter.now() - cycles) * 100
}

/// Runs the kernel's own checks once, and the conformance list on the back-end that the command line names, or on all;
/// a failure is a panic.
///
/// # Errors
///
/// `Memory` when there is too little for the tests' data; `NoBackend` when the one asked for is not there.
pub fn test(context: &Context) -> Result<(), EngineError> {
    let is_wanted = |name: &str| name.contains(context.args.filter.as_str());
    let only = context.args.backend.as_ref().map(|_| model::backend(context)).transpose()?;
    let mut n_passed = 0;
    for test in selftest::TESTS.iter().filter(|test| is_wanted(test.name)) {
        print!("{} kernel ", test.name);
        (test.run)(context);
        println!("ok");
        n_passed += 1;
    }
    let mut memory = model::block(TEST_BYTES)?;
    for ops in model::backends().filter(|ops| only.is_none_or(|only| *ops == only)) {
        for test in TESTS.iter().filter(|test| is_wanted(test.name)) {
            print!("{} {} ", test.name, ops.backend().name());
            (test.run)(&mut Stand { ops, workers: &context.team, memory: memory.bytes() });
            println!("ok");
            n_passed += 1;
        }
    }
    println!("{n_passed} passed");
    Ok(())
}

/// Runs the benchmark cases whose name has `filter` in it; returns whether all ran and met what can be said of their
/// targets.
///
/// # Errors
///
/// `Memory` when there is too little for the cases' data.
pub fn bench(context: &Context, filter: &str) -> Result<bool, EngineError> {
    let clock = KernelClock::new(context.is_emulated);
    let mut memory = model::block(SUITE_BYTES)?;
    let amount = match clock.hz {
        // A fifth of a second for each case.
        Some(hz) => BenchmarkConfig { case_budget: hz / 5, ..Default::default() },
        None if context.args.full => BenchmarkConfig {
            warmup_iterations: 0,
            measurement_iterations: 1, // counts repeat
            max_flops: u64::MAX,
            ..BenchmarkConfig::QUICK
        },
        None => BenchmarkConfig::QUICK,
    };
    let cpu = cpu::name().unwrap_or("unlisted CPU");
    let config = BenchmarkConfig { json: context.args.json, filter, cpu, ..amount };
    if clock.unit == Unit::EmulatedTicks {
        println!(
            "QEMU's counts follow the host's load; under -icount shift=0 they are instructions, and repeat"
        );
    }
    let host =
        Host { clock: &clock, features: model::features(), workers: &context.team, memory: memory.bytes() };
    // The console takes everything, so there is no error.
    Ok(run_benchmark_suite(CASES, &config, host, &mut Console).is_ok_and(|summary| summary.meets_targets()))
}
