//! A command.
fn main() {}
