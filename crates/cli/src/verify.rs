//! `corelm verify`: whether a file is the one it should be.

use std::io::Write;

use crate::args::VerifyArgs;
use crate::failure::Outcome;
use crate::model::ModelFile;
use crate::output::Output;

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Outcome {
    let file = ModelFile::open(&args.model)?;
    file.verify(args.sha256)?;
    let mut out = Output::new();
    writeln!(out, "{}  {}", args.sha256, args.model.display())?;
    Ok(out.flush()?)
}
