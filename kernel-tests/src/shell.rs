//! The interactive console: reads a line, does what it says, and never ends on an error.

use core::ops::ControlFlow;

use corelm::generate::{self, GenerationConfig};
use corelm::gguf::WrongDigest;
use corelm::ops::Workers;
use corelm::tokenizer::Specials;

use crate::args::ModelSource;
use crate::board::Context;
use crate::command::{Command, HELP};
use crate::counter::Timer;
use crate::crash::crash;
use crate::event::Event;
use crate::exceptions;
use crate::line::{Edit, LineEditor, MAX_LINE};
use crate::model::{Engine, EngineError, with_engine};
use crate::{console, cpu, heap, mmu, modes, print, println, suite};

const PROMPT: &str = "corelm> ";
/// Tokens that an explanation of a fault may have.
const N_EXPLANATION: usize = 96;

/// Why the loop over commands ended.
enum Next {
    Load(ModelSource),
    Exit,
}

/// Reads and runs commands until `exit`.
///
/// # Errors
///
/// None: what goes wrong is printed, and the shell goes on.
pub fn run(context: &Context) -> Result<(), EngineError> {
    println!("`help` lists the commands");
    let mut editor = LineEditor::default();
    let mut source = modes::source(context);
    // What to go back to when a model cannot be loaded.
    let mut loaded = None;
    loop {
        let with_model = with_engine(context, source, |engine| {
            modes::introduce(engine);
            commands(context, &mut editor, Some(engine))
        });
        let next = match with_model {
            Ok(next) => {
                loaded = Some(source);
                next
            }
            Err(error) => {
                println!("error: {error}");
                loaded.take().map_or_else(|| commands(context, &mut editor, None), Next::Load)
            }
        };
        match next {
            Next::Load(other) => source = other,
            Next::Exit => return Ok(()),
        }
    }
}

/// Runs commands until one of them needs another model, or none.
fn commands(context: &Context, editor: &mut LineEditor, mut engine: Option<&mut Engine<'_, '_>>) -> Next {
    loop {
        let line = match read_line(editor, engine.as_deref_mut()) {
            Ok(line) => line,
            Err(error) => {
                println!("\nerror: the model in memory has changed: {error}");
                engine = None;
                continue;
            }
        };
        if line.trim().is_empty() {
            continue;
        }
        match Command::parse(&line) {
            Ok(Command::Exit) => return Next::Exit,
            Ok(Command::Load(source)) => return Next::Load(source),
            Ok(command) => run_one(context, command, engine.as_deref_mut()),
            Err(error) => println!("error: {error}"),
        }
    }
}

fn run_one(context: &Context, command: Command<'_>, engine: Option<&mut Engine<'_, '_>>) {
    match command {
        Command::Mem => memory(context, engine.as_deref()),
        Command::Cpu => cores(context),
        Command::Crash(kind) => {
            crash(kind);
            println!("error: the machine let it pass");
        }
        Command::Fault(address) => fault(context, address, engine),
        Command::Infer(text) => infer(context, engine, text),
        Command::Stream(text) => stream(engine, text, context.args.n),
        Command::Stats => match engine {
            Some(engine) => modes::print_stats(context, engine),
            None => println!("no model is loaded"),
        },
        Command::Bench(filter) => {
            if let Err(error) = suite::bench(context, filter) {
                println!("error: {error}");
            }
        }
        Command::Help | Command::Load(_) | Command::Exit => println!("{HELP}"),
    }
}

/// Shows the prompt and reads a line; Ctrl-C starts over. While no key is pressed, the model is compared with its digest.
///
/// # Errors
///
/// When it is not what it was.
fn read_line(
    editor: &mut LineEditor,
    mut engine: Option<&mut Engine<'_, '_>>,
) -> Result<heapless::String<MAX_LINE>, WrongDigest> {
    print!("{PROMPT}");
    loop {
        let Some(byte) = console::read() else {
            engine.as_deref_mut().map_or(Ok(()), Engine::scrub)?;
            core::hint::spin_loop();
            continue;
        };
        match editor.push(byte) {
            Edit::Ignored => {}
            Edit::Added => print!("{}", editor.line().chars().next_back().unwrap_or(' ')),
            Edit::Removed => print!("\x08 \x08"),
            Edit::Replaced { old_chars } => {
                for _ in 0..old_chars {
                    print!("\x08 \x08");
                }
                print!("{}", editor.line());
            }
            Edit::Cancelled => print!("^C\n{PROMPT}"),
            Edit::Complete => {
                println!();
                return Ok(editor.take());
            }
        }
    }
}

/// Continues `text` piece by piece.
fn stream(engine: Option<&mut Engine<'_, '_>>, text: &str, n: usize) {
    let Some(engine) = engine else { return println!("error: no model is loaded") };
    match modes::stream(engine, text, n) {
        Ok(()) => println!(),
        Err(error) => println!("\nerror: {error}"),
    }
}

/// Continues `text` and prints the whole at the end.
fn infer(context: &Context, engine: Option<&mut Engine<'_, '_>>, text: &str) {
    let Some(engine) = engine else { return println!("error: no model is loaded") };
    let mut whole = alloc::string::String::new();
    let config = GenerationConfig { max_tokens: context.args.n, stop: &[], ignores_eog: false };
    let result = engine.generate(text, Specials::Never, config, &mut |event| {
        if let generate::Event::Text(text) = event {
            // A heap that is full cuts the answer; asking it without `try_` would be a panic.
            if whole.try_reserve(text.len()).is_err() {
                return ControlFlow::Break(());
            }
            whole.push_str(text);
        }
        if console::is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    println!("{whole}");
    if let Err(error) = result {
        println!("error: {error}");
    }
}

fn memory(context: &Context, engine: Option<&Engine<'_, '_>>) {
    let image = mmu::image();
    println!("image  {:#012x}..{:#012x}  {} KiB", image.start, image.end, image.len() >> 10);
    for ram in &context.machine.ram {
        println!("ram    {:#012x}..{:#012x}  {} KiB", ram.start, ram.end, ram.len() >> 10);
    }
    for taken in &context.machine.reserved {
        println!("taken  {:#012x}..{:#012x}  {} KiB", taken.start, taken.end, taken.len() >> 10);
    }
    if let Some(initrd) = &context.machine.initrd {
        println!("initrd {:#012x}..{:#012x}  {} KiB", initrd.start, initrd.end, initrd.len() >> 10);
    }
    if let Some(engine) = engine {
        let items = engine.plan.items();
        println!(
            "model  {} B: weights table {}, tokenizer {}, KV cache {}, scratch {}, sampler {}",
            engine.plan.bytes(),
            items.weights,
            items.tokenizer,
            items.kv_cache,
            items.scratch,
            items.sampler
        );
    }
    modes::print_stacks(context);
}

fn cores(context: &Context) {
    println!("{} (MIDR {:#010x})", cpu::name().unwrap_or("unlisted CPU"), cpu::midr());
    for core in &context.machine.cores {
        println!("core {:#x}: {:?}", core.mpidr, core.start);
    }
    println!("{} cores at work, timer {} Hz", context.team.count(), Timer.hz());
    println!("the cycle counter counts {}", suite::unit(context.is_emulated));
    modes::print_backends();
}

/// Reads `address`, survives the fault and lets the model explain it, here where any code may run.
fn fault(context: &Context, address: usize, engine: Option<&mut Engine<'_, '_>>) {
    // SAFETY: whoever types the address of a device with read side effects gets them; page 0 is not mapped.
    let fault = match unsafe { exceptions::try_read(address) } {
        Ok(byte) => return println!("no fault: {address:#x} holds {byte:#04x}"),
        Err(fault) => fault,
    };
    println!("{fault}");
    let heap = heap::usage();
    let heap = heap.start..heap.start + heap.size_bytes;
    let region = mmu::region_of(address, context.machine.initrd.as_ref(), &heap);
    let mut prompt = heapless::String::<MAX_LINE>::new();
    // The longest event is shorter than a line.
    let _ = core::fmt::write(&mut prompt, format_args!("{}", Event { fault, region }));
    print!("{prompt}");
    match engine {
        Some(engine) => match modes::stream(engine, &prompt, N_EXPLANATION) {
            Ok(()) => println!(),
            Err(error) => println!("\nerror: {error}"),
        },
        None => println!(" (no model is loaded)"),
    }
}
