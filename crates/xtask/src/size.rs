//! `cargo xtask size`: what the engine costs a kernel that links it: bytes of its sections, and the deepest stack.
//!
//! Measured on `kernel-tests/minimal`, which is the engine and next to nothing else.

mod a64;
mod program;
mod stack;

use crate::process;
use crate::setup::{KERNEL_TARGET, Toolchain};
use anyhow::{Context, Result};
use program::Program;
use std::fs;

/// Prints sections and stack of the minimal kernel.
///
/// # Errors
///
/// When it cannot be built or read.
pub fn size(toolchain: Toolchain) -> Result<()> {
    let mut build = toolchain.cargo("rustc", KERNEL_TARGET);
    build
        .args(["--release", "--package", "minimal-kernel", "--", "-Zemit-stack-sizes"])
        .env("RUSTC_BOOTSTRAP", "1");
    process::run(&mut build)?;
    let path = toolchain.target_dir().join(KERNEL_TARGET).join("release/minimal-kernel");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let program = Program::parse(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
    let sections = program.sections();
    println!("bytes of the engine in a minimal kernel, {KERNEL_TARGET}, release:");
    let rows = [
        (".text", sections.text),
        (".rodata", sections.rodata),
        (".data", sections.data),
        (".bss", sections.bss),
    ];
    for (name, bytes) in rows {
        println!("  {name:<8} {bytes:>9}");
    }
    print_stack(&stack::depth(&program.functions()?));
    Ok(())
}

fn print_stack(depth: &stack::Depth) {
    println!("deepest stack, direct calls: {} bytes", depth.direct);
    for (name, frame) in &depth.path {
        println!("  {frame:>6}  {name}");
    }
    println!("deepest stack, {} calls through pointers nested: {} bytes", stack::NESTED, depth.bound);
    println!("calls through pointers: {}", depth.indirect.len());
    depth.indirect.iter().for_each(|name| println!("          {name}"));
    println!("cycles: {}", depth.cycles.len());
    depth.cycles.iter().for_each(|(from, to)| println!("          {from} -> {to}"));
}
