//! A bare-metal aarch64 kernel that boots on a board, runs the engine and measures it.
//!
//! It is the smallest kernel in which the engine's promises can be kept and tested: one image, one address space, no
//! interrupts. Read it in the order in which it runs:
//!
//! | file | what |
//! |---|---|
//! | `bin/<board>.rs` | one file per board: where its memory, console and cores are |
//! | [`boot`] | `_start`: image header, drop to EL1, stacks, FP/SIMD, into Rust |
//! | [`board`] | what a board must say, and [`board::start`], the steps of start-up |
//! | [`mmu`] | page tables: an identity map with a permission for each section |
//! | [`exceptions`], [`syndrome`] | vectors, and the fault in words |
//! | [`machine`], [`dtb`], [`atags`] | what the firmware says: memory, cores, initial ramdisk, command line |
//! | [`console`], [`lock`], [`heap`] | serial port, lock that masks interrupts, the kernel's own heap |
//! | [`cores`], [`psci`] | secondary cores and how to start them |
//! | [`counter`], [`cpu`] | cycle counter and timer; which CPU this is |
//! | [`args`], [`modes`] | kernel command line, and what is done for each `mode` |
//! | [`shell`], [`mod@line`], [`command`] | the interactive console |
//! | [`event`], [`crash`] | a fault as a prompt for the model; deliberate ends |
//! | [`selftest`] | what the kernel promises the engine, checked on the machine |
//! | [`semihosting`] | how a run ends with a status |
//!
//! The parts that need no hardware (`args`, `atags`, `command`, `dtb`, `event`, `line`, `machine`,
//! `syndrome`) also build on a host, where
//! their unit tests run. There is no interrupt controller driver: interrupts stay masked from `_start` to the end, so
//! nothing here has to save FP/SIMD state.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    test,
    expect(clippy::single_range_in_vec_init, reason = "lists of one range of memory are meant")
)]

pub mod args;
pub mod atags;
pub mod command;
pub mod dtb;
pub mod event;
pub mod line;
pub mod machine;
pub mod syndrome;

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
pub mod board;
#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod cores;
#[cfg(target_os = "none")]
pub mod counter;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod crash;
#[cfg(target_os = "none")]
pub mod exceptions;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod lock;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod modes;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
pub mod selftest;
#[cfg(target_os = "none")]
pub mod semihosting;
#[cfg(target_os = "none")]
pub mod shell;
