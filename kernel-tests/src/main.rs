//! A kernel.
fn main() {}
