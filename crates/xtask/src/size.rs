//! `cargo xtask size`: what the engine costs a kernel that links it: bytes of its sections, and the deepest stack.
//!
//! Measured on `kernel-tests/minimal`, which is the engine and next to nothing else.

use crate::binary::program::{Program, Sections};
use crate::binary::stack::{self, Depth};
use crate::process;
use crate::setup::{KERNEL_TARGET, Toolchain};
use anyhow::{Context, Result, ensure};
use std::fs;

/// The stack that kernels give a thread, in bytes: the engine must fit with all that is above it.
const KERNEL_STACK: u64 = 16 << 10;

/// What linking the engine costs.
pub struct Cost {
    sections: Sections,
    depth: Depth,
}

/// Builds the minimal kernel and reads what it costs. The compiler speaks on the console when it is `shown`, else only
/// in the error.
///
/// # Errors
///
/// When it cannot be built or read.
pub fn measure(toolchain: Toolchain, shown: bool) -> Result<Cost> {
    let mut build = toolchain.cargo("rustc", KERNEL_TARGET);
    build
        .args(["--release", "--package", "minimal-kernel", "--", "-Zemit-stack-sizes"])
        .env("RUSTC_BOOTSTRAP", "1");
    if shown {
        process::run(&mut build)?;
    } else {
        process::logged(&mut build, "minimal-kernel")?;
    }
    let path = toolchain.target_dir().join(KERNEL_TARGET).join("release/minimal-kernel");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let program = Program::parse(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Cost { sections: program.sections(), depth: stack::depth(&program.functions()?) })
}

impl Cost {
    /// Checks that the engine does not recurse and fits the stack of a kernel.
    ///
    /// # Errors
    ///
    /// When it does not; the error names the calls.
    pub fn check(&self) -> Result<()> {
        let cycles: Vec<String> =
            self.depth.cycles.iter().map(|(from, to)| format!("{from} -> {to}")).collect();
        ensure!(cycles.is_empty(), "the engine recurses: {}", cycles.join(", "));
        let bound = self.depth.bound;
        ensure!(
            bound <= KERNEL_STACK,
            "the engine may need {bound} bytes of stack, more than {KERNEL_STACK}"
        );
        Ok(())
    }

    /// Prints sections and stack.
    pub fn print(&self) {
        println!("bytes of the engine in a minimal kernel, {KERNEL_TARGET}, release:");
        let Sections { text, rodata, data, bss } = self.sections;
        for (name, bytes) in [(".text", text), (".rodata", rodata), (".data", data), (".bss", bss)] {
            println!("  {name:<8} {bytes:>9}");
        }
        print_stack(&self.depth);
    }
}

fn print_stack(depth: &Depth) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recursion_and_deep_stacks_are_refused() {
        let cost = |depth| Cost { sections: Sections::default(), depth };
        assert!(cost(Depth { bound: KERNEL_STACK, ..Depth::default() }).check().is_ok());
        assert!(cost(Depth { bound: KERNEL_STACK + 1, ..Depth::default() }).check().is_err());
        let cycles = vec![("f".to_owned(), "f".to_owned())];
        assert!(
            cost(Depth { cycles, ..Depth::default() }).check().unwrap_err().to_string().contains("f -> f")
        );
    }
}
