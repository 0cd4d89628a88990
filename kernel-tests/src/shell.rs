//! The interactive console: reads a line, does what it says, and never ends on an error.

use corelm_ops::Workers;

use crate::board::Context;
use crate::command::{Command, HELP};
use crate::counter::Timer;
use crate::crash::crash;
use crate::event::Event;
use crate::exceptions;
use crate::line::{Edit, LineEditor, MAX_LINE};
use crate::{console, cpu, heap, mmu, modes, print, println};

const PROMPT: &str = "corelm> ";

/// Reads and runs commands until `exit`; returns the exit status.
pub fn run(context: &Context) -> u32 {
    println!("`help` lists the commands");
    let mut editor = LineEditor::default();
    loop {
        let line = read_line(&mut editor);
        if line.trim().is_empty() {
            continue;
        }
        match Command::parse(&line) {
            Ok(Command::Exit) => return 0,
            Ok(command) => run_one(context, command),
            Err(error) => println!("error: {error}"),
        }
    }
}

fn run_one(context: &Context, command: Command<'_>) {
    match command {
        Command::Mem => memory(context),
        Command::Cpu => cores(context),
        Command::Fault(address) => fault(context, address),
        Command::Crash(kind) => {
            crash(kind);
            println!("error: the machine let it pass");
        }
        _ => println!("{HELP}"),
    }
}

/// Shows the prompt and reads a line; Ctrl-C starts over.
fn read_line(editor: &mut LineEditor) -> heapless::String<MAX_LINE> {
    print!("{PROMPT}");
    loop {
        let Some(byte) = console::read() else {
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
                return editor.take();
            }
        }
    }
}

fn memory(context: &Context) {
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
    let heap = heap::usage();
    println!("heap   {} of {} KiB used", heap.used_bytes >> 10, heap.size_bytes >> 10);
    modes::print_stacks(context);
}

fn cores(context: &Context) {
    println!("{} (MIDR {:#010x})", cpu::name().unwrap_or("unlisted CPU"), cpu::midr());
    for core in &context.machine.cores {
        println!("core {:#x}: {:?}", core.mpidr, core.start);
    }
    println!("{} cores at work, timer {} Hz", context.team.count(), Timer.hz());
}

/// Reads `address`, survives the fault and shows it.
fn fault(context: &Context, address: usize) {
    // SAFETY: whoever types the address of a device with read side effects gets them; page 0 is not mapped.
    match unsafe { exceptions::try_read(address) } {
        Ok(byte) => println!("no fault: {address:#x} holds {byte:#04x}"),
        Err(fault) => {
            println!("{fault}");
            let heap = heap::usage();
            let region = mmu::region_of(
                address,
                context.machine.initrd.as_ref(),
                &(heap.start..heap.start + heap.size_bytes),
            );
            println!("{}", Event { fault, region });
        }
    }
}
