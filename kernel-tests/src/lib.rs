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
//! | [`model`] | a model found, given memory, and asked for text |
//! | [`args`], [`modes`] | kernel command line, and what is done for each `mode` |
//! | [`shell`], [`mod@line`], [`command`] | the interactive console |
//! | [`event`], [`crash`] | a fault as a prompt for the model; deliberate ends |
//! | [`suite`] | the conformance list and the benchmark cases |
//! | [`interrupts`], [`gic`], [`interrupted`] | the engine interrupted at many places, its call given up at some |
//! | [`work`], [`bounds`] | instructions of every token, and for each byte of hostile texts and files |
//! | [`tiny`] | the small model of these |
//! | [`selftest`] | what the kernel promises the engine, checked on the machine |
//! | [`depth`], [`texts`] | how much stack the engine takes on the machine, hostile texts among what it is asked |
//! | [`untouched`] | a plan made while no page of tensor data is mapped |
//! | [`semihosting`] | how a run ends with a status |
//!
//! The parts that need no hardware (`args`, `atags`, `command`, `dtb`, `event`, `json`, `line`, `logits`, `machine`,
//! `syndrome`, `texts`) also build on a host, where
//! their unit tests run. Interrupts stay masked from `_start` to the end, so nothing has to save
//! FP/SIMD state, but in the modes that test what interrupts do ([`interrupts`]).
//!
//! # How a run ends
//!
//! | status | meaning |
//! |---|---|
//! | 0 | all that was asked for was done, and was right |
//! | 1 | something asked for could not be done, or came out wrong ([`modes`]) |
//! | 2 | the machine or the command line is not usable ([`board`]) |
//! | 101 | a panic: file, line and message were printed ([`exceptions`]) |
//! | 102 | an exception: registers and the syndrome in words were printed |
//!
//! # Another board
//!
//! Write `linker/<board>.ld` (where RAM starts), `src/bin/<board>.rs` (a type that implements [`board::Board`], and
//! [`entry!`]), and name the binary in `Cargo.toml` and `build.rs`. No other file changes.
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
pub mod json;
pub mod line;
pub mod logits;
pub mod machine;
pub mod syndrome;
pub mod texts;

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
pub mod board;
#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
pub mod bounds;
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
pub mod depth;
#[cfg(target_os = "none")]
pub mod exceptions;
#[cfg(target_os = "none")]
pub mod gic;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod interrupted;
#[cfg(target_os = "none")]
pub mod interrupts;
#[cfg(target_os = "none")]
pub mod lock;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod model;
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
#[cfg(target_os = "none")]
pub mod suite;
#[cfg(target_os = "none")]
pub mod tiny;
#[cfg(target_os = "none")]
pub mod untouched;
#[cfg(target_os = "none")]
pub mod work;
