//! What the kernel does for each `mode` of its command line.

use core::ops::ControlFlow;

use corelm::Token;
use corelm::generate::{Event, GenerationConfig, StopReason};
use corelm::ops::Workers;
use corelm::tokenizer::Specials;

use crate::args::{Mode, ModelSource};
use crate::board::Context;
use crate::console::is_cancelled;
use crate::counter::Timer;
use crate::json::Quoted;
use crate::logits::Summary;
use crate::model::{self, Engine, EngineError, with_engine};
use crate::{boot, bounds, cpu, heap, interrupted, print, println, shell, suite, work};

/// Exit status when what was asked for could not be done.
pub const STATUS_FAILED: u32 = 1;

/// What the demo model is asked when the command line has no prompt.
const DEMO_PROMPT: &str = "kernel: data abort, read, translation fault level 3, address in the null page at offset 0x18, EL1\nexplain:";
/// What any other model is asked.
const OTHER_PROMPT: &str = "Once upon a time";

/// Does what the command line asks for; returns the exit status.
pub fn main(context: &Context) -> u32 {
    banner(context);
    let result = match context.args.mode {
        Mode::Run => run(context),
        Mode::Generate => with_engine(context, source(context), |engine| generate(context, engine)).flatten(),
        Mode::Shell => shell::run(context),
        Mode::Test => suite::test(context),
        Mode::Golden if context.args.ids.is_empty() => {
            with_engine(context, source(context), |engine| generate(context, engine)).flatten()
        }
        Mode::Golden => with_engine(context, source(context), |engine| golden(context, engine)).flatten(),
        Mode::Bench => bench(context),
        Mode::Interrupts => interrupted::by_interrupts(context),
        Mode::Faults => interrupted::by_faults(context),
        Mode::Work => work::run(context),
        Mode::Bounds => bounds::run(context),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            println!("error: {error}");
            STATUS_FAILED
        }
    }
}

/// The model that the command line names: else the initial ramdisk when there is one, else the demo.
pub fn source(context: &Context) -> ModelSource {
    let default = if context.machine.initrd.is_some() { ModelSource::Initrd } else { ModelSource::Demo };
    context.args.model.unwrap_or(default)
}

/// Says where the kernel runs.
fn banner(context: &Context) {
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
        context.machine.cores.len().max(1),
        Timer.hz()
    );
}

/// Says which model is at work.
pub fn introduce(engine: &Engine<'_, '_>) {
    let config = &engine.config;
    println!(
        "model: {}, {} layers of width {}, vocabulary {}, context {}; back-end {}, {} KiB of memory",
        config.arch.name(),
        config.n_layers,
        config.dim,
        config.vocab_size,
        engine.plan.session_config().n_ctx,
        engine.backend_name(),
        engine.plan.bytes() >> 10
    );
    if engine.is_verified() {
        println!("model: its file has the SHA-256 that was asked for");
    }
}

/// Generates text as it would stream to a user.
fn run(context: &Context) -> Result<(), EngineError> {
    let source = source(context);
    with_engine(context, source, |engine| {
        introduce(engine);
        let prompt = context.args.prompt.as_deref().unwrap_or(match source {
            ModelSource::Demo => DEMO_PROMPT,
            ModelSource::Initrd => OTHER_PROMPT,
        });
        print!("\n{prompt}");
        stream(engine, prompt, context.args.n)?;
        println!("\n");
        print_stats(context, engine);
        print_stacks(context);
        Ok(())
    })
    .flatten()?;
    println!();
    bench(context)
}

/// Runs the benchmark suite.
fn bench(context: &Context) -> Result<(), EngineError> {
    if suite::bench(context, &context.args.filter)? { Ok(()) } else { Err(EngineError::BenchmarksFailed) }
}

/// Continues `prompt` on the console until the text ends, `n` tokens are there, or Ctrl-C.
///
/// # Errors
///
/// Those of [`Engine::generate`].
pub fn stream(engine: &mut Engine<'_, '_>, prompt: &str, n: usize) -> Result<(), EngineError> {
    let config = GenerationConfig { max_tokens: n, stop: &[], ignores_eog: false };
    let generation = engine.generate(prompt, Specials::Never, config, &mut |event| {
        if let Event::Text(text) = event {
            print!("{text}");
        }
        if is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if generation.reason == StopReason::ContextFull {
        print!(" [the context of {} positions is full]", engine.plan.session_config().n_ctx);
    }
    Ok(())
}

/// Generates exactly `n` tokens, for comparing them: as JSON lines, or as text.
fn generate(context: &Context, engine: &mut Engine<'_, '_>) -> Result<(), EngineError> {
    let args = &context.args;
    let prompt = args.prompt.as_deref().unwrap_or(OTHER_PROMPT);
    let config = GenerationConfig { max_tokens: args.n, stop: &[], ignores_eog: true };
    let mut piece = heapless::String::<128>::new();
    // A token's text comes behind the token, so its line is printed when the next one comes.
    let mut last: Option<(Token, Summary)> = None;
    let print_last = |last: Option<(Token, Summary)>, piece: &str| {
        if let Some((token, summary)) = last {
            println!("{{\"id\":{token},\"piece\":{},{summary}}}", Quoted(piece));
        }
    };
    engine.generate(prompt, Specials::All, config, &mut |event| {
        match event {
            Event::Token { token, logits } if args.json => {
                print_last(last.replace((token, Summary::new(logits))), &piece);
                piece.clear();
            }
            Event::Token { .. } => {}
            // A longer piece is cut: it is for people, and the ids are all there.
            Event::Text(text) if args.json => drop(piece.push_str(text)),
            Event::Text(text) => print!("{text}"),
        }
        ControlFlow::Continue(())
    })?;
    print_last(last, &piece);
    println!();
    Ok(())
}

/// Feeds the ids of the command line and prints the logits after each.
fn golden(context: &Context, engine: &mut Engine<'_, '_>) -> Result<(), EngineError> {
    let mut position = 0;
    engine.feed(&context.args.ids, &mut |id, logits| {
        println!("{{\"position\":{position},\"id\":{id},{}}}", Summary::new(logits));
        position += 1;
    })
}

/// Prints what the inferences so far took.
pub fn print_stats(context: &Context, engine: &Engine<'_, '_>) {
    let stats = engine.stats;
    let unit = suite::unit(context.is_emulated);
    println!(
        "texts: {}; tokens: {} of prompts, {} generated",
        stats.n_texts, stats.n_prompt, stats.n_generated
    );
    println!("prompt: {} {unit} for each token", stats.prompt_counts / stats.n_prompt.max(1));
    println!("generation: {} {unit} for each token", stats.generated_counts / stats.n_generated.max(1));
}

/// Prints what each core has used of its stack, and what is used of the heap.
pub fn print_stacks(context: &Context) {
    for core in 0..context.team.count() {
        println!(
            "stack, core {core}: at most {} of {} bytes used",
            boot::stack_high_water(core),
            boot::STACK_BYTES
        );
    }
    let heap = heap::usage();
    println!("heap: {} of {} KiB used", heap.used_bytes >> 10, heap.size_bytes >> 10);
}

/// Prints the back-ends of this CPU.
pub fn print_backends() {
    print!("back-ends:");
    for ops in model::backends() {
        print!(" {}", ops.backend().name());
    }
    println!();
}
