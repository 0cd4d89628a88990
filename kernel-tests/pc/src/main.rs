//! A bare-metal x86-64 kernel around the engine: the least in which its promises can be tested in ring 0, on one core and
//! without interrupts. `kernel-tests` is the kernel that shows how to live with it.
//!
//! It is built for `x86_64-unknown-linux-gnu`, as `targets/README.md` says to build the engine for kernels: that target has
//! floating point in registers. `cargo xtask` passes `--cfg kernel` and the linker script. In the order in which it runs:
//!
//! | file | what |
//! |---|---|
//! | `boot.rs` | entry from the loader (PVH), page tables, long mode, SSE to AVX-512 switched on, into Rust |
//! | `exceptions.rs` | a fault in words, on a stack of its own |
//! | `start_info.rs` | what the loader says: memory, initial ramdisk, command line |
//! | `console.rs` | serial port |
//! | `modes.rs` | what is done for each `mode` of the command line ([`kernel_tests::args`]) |
//! | `engine.rs` | a model given memory and asked for text |
//! | `exit.rs` | how a run ends with a status |
//! | `bytes.rs` | `memcpy` and its like, which compiled code calls |
#![cfg_attr(all(kernel, target_arch = "x86_64"), no_std, no_main)]

#[cfg(all(kernel, target_arch = "x86_64"))]
mod boot;
#[cfg(all(kernel, target_arch = "x86_64"))]
mod bytes;
#[cfg(all(kernel, target_arch = "x86_64"))]
mod console;
#[cfg(all(kernel, target_arch = "x86_64"))]
mod engine;
#[cfg(all(kernel, target_arch = "x86_64"))]
mod exceptions;
#[cfg(all(kernel, target_arch = "x86_64"))]
mod exit;
#[cfg(all(kernel, target_arch = "x86_64"))]
mod modes;
#[cfg(all(kernel, target_arch = "x86_64"))]
mod start_info;

#[cfg(not(all(kernel, target_arch = "x86_64")))]
fn main() {
    println!("a kernel: type `cargo xtask test x86-64`");
}
