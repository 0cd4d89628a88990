//! The shell's commands, parsed.

use crate::args::ModelSource;

/// A line typed at the prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// Loads a model.
    Load(ModelSource),
    /// Continues the text and prints it when it is complete.
    Infer(&'a str),
    /// Continues the text and prints each piece as it comes.
    Stream(&'a str),
    /// Runs the benchmark cases whose name has this in it.
    Bench(&'a str),
    /// Prints what the inferences so far took.
    Stats,
    /// Prints where memory went.
    Mem,
    /// Prints what the cores are.
    Cpu,
    /// Reads this address, survives the data abort, and lets the model explain it.
    Fault(usize),
    /// Ends the kernel in a way that must be noticed.
    Crash(Crash),
    /// Lists the commands.
    Help,
    /// Ends the kernel with success.
    Exit,
}

/// A way not to survive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// A Rust panic.
    Panic,
    /// A store to read-only memory.
    Write,
    /// A jump to data.
    Execute,
    /// An undefined instruction.
    Undefined,
    /// Endless recursion.
    Stack,
    /// A load that is not aligned.
    Align,
}

/// What `help` prints.
pub const HELP: &str = "\
load [demo|initrd]  load a model
infer TEXT          continue TEXT, print the whole at the end
stream TEXT         continue TEXT, print it piece by piece
bench [NAME]        run the benchmark cases whose name has NAME in it
stats               what inference took so far
mem                 where memory went
cpu                 what the cores are
fault [ADDRESS]     read address 0 or ADDRESS, survive the fault, have the model explain it
crash KIND          end with a failing status: panic, write, execute, undefined, stack, align
help                this list
exit                end the kernel
Keys: Backspace, Ctrl-U clears the line, Ctrl-C gives up, arrows up and down recall lines.";

impl<'a> Command<'a> {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a few words.
    pub fn parse(line: &'a str) -> Result<Self, &'static str> {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        let bare =
            |command| if rest.is_empty() { Ok(command) } else { Err("this command takes no argument") };
        let text = |command: fn(&'a str) -> Self| {
            if rest.is_empty() { Err("this command needs a text") } else { Ok(command(rest)) }
        };
        match word {
            "load" => match rest {
                "" | "demo" => Ok(Self::Load(ModelSource::Demo)),
                "initrd" => Ok(Self::Load(ModelSource::Initrd)),
                _ => Err("models are: demo, initrd"),
            },
            "infer" => text(Self::Infer),
            "stream" => text(Self::Stream),
            "bench" => Ok(Self::Bench(rest)),
            "stats" => bare(Self::Stats),
            "mem" => bare(Self::Mem),
            "cpu" => bare(Self::Cpu),
            "fault" => address(rest).map(Self::Fault).ok_or("an address is a hexadecimal number"),
            "crash" => Ok(Self::Crash(match rest {
                "panic" => Crash::Panic,
                "write" => Crash::Write,
                "execute" => Crash::Execute,
                "undefined" => Crash::Undefined,
                "stack" => Crash::Stack,
                "align" => Crash::Align,
                _ => return Err("kinds are: panic, write, execute, undefined, stack, align"),
            })),
            "help" => bare(Self::Help),
            "exit" => bare(Self::Exit),
            _ => Err("no such command; `help` lists them"),
        }
    }
}

fn address(text: &str) -> Option<usize> {
    match text {
        "" => Some(0),
        _ => usize::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_arguments_are_read() {
        assert_eq!(Command::parse(" load "), Ok(Command::Load(ModelSource::Demo)));
        assert_eq!(Command::parse("load initrd"), Ok(Command::Load(ModelSource::Initrd)));
        assert_eq!(Command::parse("infer  a  b "), Ok(Command::Infer("a  b")));
        assert_eq!(Command::parse("bench"), Ok(Command::Bench("")));
        assert_eq!(Command::parse("crash stack"), Ok(Command::Crash(Crash::Stack)));
        assert_eq!(Command::parse("fault"), Ok(Command::Fault(0)));
        assert_eq!(Command::parse("fault 0x48"), Ok(Command::Fault(0x48)));
    }

    #[test]
    fn everything_else_is_an_error() {
        for line in ["", "Load", "load x", "stream", "infer  ", "crash", "exit 0", "fault x", "help me"] {
            assert!(Command::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_names_every_command() {
        for word in
            ["load", "infer", "stream", "bench", "stats", "mem", "cpu", "fault", "crash", "help", "exit"]
        {
            assert!(HELP.lines().any(|line| line.starts_with(word)), "{word}");
        }
    }
}
