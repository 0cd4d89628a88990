//! What the kernel does for each `mode` of its command line.

use core::arch::x86_64::_rdtsc;
use core::fmt;
use core::mem::MaybeUninit;
use core::ops::ControlFlow;
use core::slice;

use corelm::Error;
use corelm::generate::{Event, GenerationConfig};
use corelm::ops::Single;
use corelm::tokenizer::Specials;
use corelm_cases::bench::{Clock, Host, Unit};
use corelm_cases::{BenchmarkConfig, CASES, Stand, TESTS, run_benchmark_suite};
use kernel_tests::args::{Args, Mode, ModelSource};
use kernel_tests::logits::Summary;
use kernel_tests::machine::Machine;

use crate::console::{Console, print, println};
use crate::engine::{self, Engine};
use crate::{boot, exit};

const PAGE_BYTES: usize = 4096;
/// What lies below is the loader's.
const LOW_BYTES: usize = 1 << 20;
/// What is mapped.
const HIGH_BYTES: usize = 4 << 30;
/// What a model is asked when the command line has no prompt.
const PROMPT: &str = "kernel: page fault, read, address in the null page at offset 0x18\nexplain:";

/// The model that comes with the kernel, aligned as a file in memory would be.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);
static DEMO: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../models/corelm-demo-q4_0.gguf"));

type Memory = [MaybeUninit<u8>];

/// Why something was not done.
enum Failure {
    /// What the engine says.
    Engine(Error),
    /// Another reason.
    Other(&'static str),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => write!(f, "{error} (code {})", error.code()),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Does what the command line asks for; returns the exit status.
pub fn main(machine: &Machine) -> u32 {
    let args = match Args::parse(&machine.boot_args) {
        Ok(args) => args,
        Err(error) => {
            println!("error: {error}");
            return exit::CONFIGURATION;
        }
    };
    println!("corelm {} on a PC, {} MiB of memory", env!("CARGO_PKG_VERSION"), machine.ram_bytes() >> 20);
    if !args.plant.is_empty() {
        plant(&args.plant);
        println!("error: no such plant: panic, null, stack or undefined");
        return exit::CONFIGURATION;
    }
    let memory = free_memory(machine);
    let done = match args.mode {
        Mode::Run => run(machine, &args, memory),
        Mode::Generate => generate(machine, &args, memory),
        Mode::Golden if args.ids.is_empty() => generate(machine, &args, memory),
        Mode::Golden => golden(machine, &args, memory),
        Mode::Test => test(&args, memory),
        Mode::Bench => bench(&args, memory),
        Mode::Shell | Mode::Interrupts | Mode::Faults | Mode::Work | Mode::Bounds => {
            Err(Failure::Other("this mode is the aarch64 kernel's alone"))
        }
    };
    match done {
        Ok(()) => exit::DONE,
        Err(failure) => {
            println!("error: {failure}");
            exit::FAILED
        }
    }
}

/// Goes wrong as the command line asks, to see that it is told and no success.
fn plant(what: &str) {
    /// Calls itself until the stack ends.
    #[inline(never)]
    fn overflow(depth: u64) -> u64 {
        let frame = core::hint::black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { overflow(depth + 1) + frame.iter().sum::<u64>() }
    }
    match what {
        "panic" => panic!("planted"),
        // SAFETY: the page at 0 is not mapped: this ends in an exception.
        "null" => drop(unsafe { core::ptr::without_provenance::<u8>(8).read_volatile() }),
        "stack" => drop(overflow(0)),
        // SAFETY: an exception.
        "undefined" => unsafe { core::arch::asm!("ud2") },
        _ => {}
    }
}

/// The largest free piece of memory.
fn free_memory(machine: &Machine) -> &'static mut Memory {
    let taken = [0..LOW_BYTES, boot::image(), HIGH_BYTES..usize::MAX];
    let free =
        machine.free_ram(&taken, PAGE_BYTES).into_iter().max_by_key(|piece| piece.len()).unwrap_or(0..0);
    if free.is_empty() {
        return &mut [];
    }
    // SAFETY: RAM by the loader's word, mapped by `boot.rs`, and nobody else's; called once.
    unsafe { slice::from_raw_parts_mut(free.start as *mut MaybeUninit<u8>, free.len()) }
}

/// The initial ramdisk; `None` where there is none.
fn initrd(machine: &Machine) -> Option<&'static [u8]> {
    let range = machine.initrd.clone().filter(|range| range.end <= HIGH_BYTES)?;
    // SAFETY: RAM by the loader's word, mapped, and not among the free memory.
    Some(unsafe { slice::from_raw_parts(range.start as *const u8, range.len()) })
}

/// The model that the command line names: else the initial ramdisk when there is one, else the demo.
fn file(machine: &Machine, args: &Args) -> Result<&'static [u8], Failure> {
    match (args.model, initrd(machine)) {
        (Some(ModelSource::Demo), _) | (None, None) => Ok(&DEMO.0),
        (_, Some(file)) => Ok(file),
        (Some(ModelSource::Initrd), None) => {
            Err(Failure::Other("no initial ramdisk: give the model's file to the loader as one"))
        }
    }
}

fn engine<'a, 'm>(
    file: &'m [u8],
    args: &Args,
    memory: &'a mut Memory,
) -> Result<(Engine<'a, 'm>, &'a mut Memory), Failure> {
    let no_backend = Failure::Other("this CPU does not have the back-end");
    Ok(Engine::new(file, engine::backends(args).last().ok_or(no_backend)?, args, memory)?)
}

/// Says how the model goes on, or why not; whatever came of it, the demo goes on behind it.
fn run(machine: &Machine, args: &Args, memory: &mut Memory) -> Result<(), Failure> {
    for (name, file) in [("given", file(machine, args)?), ("demo", &DEMO.0[..])] {
        println!("{name}:");
        let answered = answer(file, args, memory);
        match &answered {
            Ok(Ok(())) => {}
            // Behind the text that came before it.
            Ok(Err(failure)) => print!("\nerror: {failure}"),
            Err(failure) => print!("error: {failure}"),
        }
        println!("\n.");
        if name == "demo" {
            answered??;
        }
    }
    Ok(())
}

/// Loads a model, and says how it went on.
fn answer(file: &[u8], args: &Args, memory: &mut Memory) -> Result<Result<(), Failure>, Failure> {
    let (mut engine, rest) = engine(file, args, memory)?;
    let config = GenerationConfig { max_tokens: args.n, stop: &[], ignores_eog: false };
    let prompt = args.prompt.as_deref().unwrap_or(PROMPT);
    let went_on = engine.generate(prompt, Specials::Never, config, rest, &mut |event| {
        if let Event::Text(text) = event {
            print!("{text}");
        }
        ControlFlow::Continue(())
    });
    Ok(went_on.map_err(Failure::from))
}

/// Generates exactly as many tokens as asked for, and prints their ids as JSON lines, or text.
fn generate(machine: &Machine, args: &Args, memory: &mut Memory) -> Result<(), Failure> {
    let (mut engine, rest) = engine(file(machine, args)?, args, memory)?;
    println!(
        "model: {}, {} layers of width {}, context {}; back-end {}",
        engine.config.arch.name(),
        engine.config.n_layers,
        engine.config.dim,
        engine.n_ctx,
        engine.backend_name()
    );
    let config = GenerationConfig { max_tokens: args.n, stop: &[], ignores_eog: true };
    engine.generate(args.prompt.as_deref().unwrap_or(PROMPT), Specials::All, config, rest, &mut |event| {
        match event {
            Event::Token { token, logits } if args.json => {
                println!("{{\"id\":{token},{}}}", Summary::new(logits));
            }
            Event::Text(text) if !args.json => print!("{text}"),
            Event::Token { .. } | Event::Text(_) => {}
        }
        ControlFlow::Continue(())
    })?;
    println!("");
    Ok(())
}

/// Feeds the ids of the command line and prints the logits after each.
fn golden(machine: &Machine, args: &Args, memory: &mut Memory) -> Result<(), Failure> {
    let mut position = 0;
    engine(file(machine, args)?, args, memory)?.0.feed(&args.ids, &mut |id, logits| {
        println!("{{\"position\":{position},\"id\":{id},{}}}", Summary::new(logits));
        position += 1;
    })?;
    Ok(())
}

/// Runs the conformance list on the back-ends; a failure is a panic.
fn test(args: &Args, memory: &mut Memory) -> Result<(), Failure> {
    let mut n_passed = 0;
    for ops in engine::backends(args) {
        for test in TESTS.iter().filter(|test| test.name.contains(args.filter.as_str())) {
            print!("{} {} ", test.name, ops.backend().name());
            (test.run)(&mut Stand { ops, workers: &Single, memory });
            println!("ok");
            n_passed += 1;
        }
    }
    println!("{n_passed} passed");
    Ok(())
}

/// The time-stamp counter.
struct TimeStamps;

impl Clock for TimeStamps {
    fn now(&self) -> u64 {
        // SAFETY: every x86-64 CPU has it, and in ring 0 nothing forbids it.
        unsafe { _rdtsc() }
    }

    fn hz(&self) -> Option<u64> {
        None
    }

    fn unit(&self) -> Unit {
        Unit::EmulatedTicks
    }
}

/// Runs the benchmark cases whose name has the filter in it.
fn bench(args: &Args, memory: &mut Memory) -> Result<(), Failure> {
    let config =
        BenchmarkConfig { json: args.json, filter: &args.filter, cpu: "x86-64", ..BenchmarkConfig::QUICK };
    let host = Host { clock: &TimeStamps, features: engine::features(), workers: &Single, memory };
    let mut console = Console::get().ok_or(Failure::Other("no console"))?;
    let done = run_benchmark_suite(CASES, &config, host, &mut console);
    if done.is_ok_and(|summary| summary.meets_targets()) {
        Ok(())
    } else {
        Err(Failure::Other("a benchmark case did not run, or missed its target"))
    }
}
