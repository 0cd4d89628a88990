//! How a command ends badly: one line on standard error and an exit status.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a command stopped.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense: status 2.
    Usage(String),
    /// Something went wrong on the way: status 1.
    Failed(String),
    /// Whoever read our output has gone: not an error.
    PipeClosed,
}

/// What every command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure that says `what` went wrong and why: `what: why`.
    pub fn because(what: impl fmt::Display, why: impl fmt::Display) -> Failure {
        Failure::Failed(format!("{what}: {why}"))
    }

    /// A failure in the engine's own words.
    pub fn says(error: impl fmt::Display) -> Failure {
        Failure::Failed(error.to_string())
    }

    /// The same with `place` said before it.
    pub fn at(self, place: impl fmt::Display) -> Failure {
        match self {
            Failure::Usage(message) => Failure::Usage(format!("{place}: {message}")),
            Failure::Failed(message) => Failure::Failed(format!("{place}: {message}")),
            Failure::PipeClosed => Failure::PipeClosed,
        }
    }

    /// Prints the line and gives the status.
    pub fn report(self) -> ExitCode {
        let (message, status) = match self {
            Failure::PipeClosed => return ExitCode::SUCCESS,
            Failure::Usage(message) => (message, 2),
            Failure::Failed(message) => (message, 1),
        };
        // One line whatever a file name or a key in a file contains.
        eprintln!("corelm: error: {}", message.replace(|c: char| c.is_control(), " "));
        ExitCode::from(status)
    }
}

/// Errors of standard output; those of files are wrapped with the file's name where they happen.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::PipeClosed,
            _ => Failure::because("cannot write the output", error),
        }
    }
}
