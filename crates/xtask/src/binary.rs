//! Linked programs: who calls whom, how much stack that takes, and with which instructions.

pub mod a64;
pub mod code;
pub mod program;
pub mod stack;
pub mod x64;
