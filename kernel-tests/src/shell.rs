//! What the kernel does once it runs.

use crate::board::Context;
use crate::println;

/// Runs what the command line asks for; returns the exit status.
pub fn main(context: &Context) -> u32 {
    println!("{} {:?}", context.board, context);
    0
}
