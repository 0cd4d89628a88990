//! What the kernel does for each `mode` of its command line.

use corelm_ops::Workers;

use crate::args::Mode;
use crate::board::Context;
use crate::counter::Timer;
use crate::{boot, cpu, println, selftest, shell};

/// Exit status when what was asked for could not be done.
pub const STATUS_FAILED: u32 = 1;

/// Does what the command line asks for; returns the exit status.
pub fn main(context: &Context) -> u32 {
    banner(context);
    match context.args.mode {
        Mode::Shell => shell::run(context),
        Mode::Test => test(context),
        _ => 0,
    }
}

/// Runs the kernel's own checks; a failure is a panic.
fn test(context: &Context) -> u32 {
    for test in selftest::TESTS {
        (test.run)(context);
        println!("{} kernel ok", test.name);
    }
    println!("{} passed", selftest::TESTS.len());
    0
}

/// Says where the kernel runs.
pub fn banner(context: &Context) {
    println!(
        "corelm {} on {}: {}, entered at EL{}",
        env!("CARGO_PKG_VERSION"),
        context.board,
        cpu::name().unwrap_or("unlisted CPU"),
        context.entry_level
    );
    println!(
        "{} MiB of memory, {} of {} cores, timer {} Hz",
        context.machine.ram_bytes() >> 20,
        context.team.count(),
        context.machine.cores.len(),
        Timer.hz()
    );
}

/// Prints what each core has used of its stack.
pub fn print_stacks(context: &Context) {
    for core in 0..context.team.count() {
        println!(
            "stack, core {core}: at most {} of {} bytes used",
            boot::stack_high_water(core),
            boot::STACK_BYTES
        );
    }
}
