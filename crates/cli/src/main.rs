//! The host command `corelm`: generate, chat, look inside, measure and convert, on the engine that kernels embed.

mod args;
mod bench;
mod chat;
mod chat_template;
mod detokenize;
mod failure;
mod file_sink;
mod generate;
mod info;
mod jinja;
mod logits;
mod model;
mod output;
mod pack;
mod pool;
mod progress;
mod python;
mod quantize;
mod summary;
mod synth;
mod tokenize;
mod veil;
mod verify;

use std::process::ExitCode;

use args::{Command, parse};

fn main() -> ExitCode {
    let command = match parse(std::env::args_os()) {
        Ok(command) => command,
        Err(status) => return status,
    };
    let result = match command {
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Detokenize(args) => detokenize::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Pack(args) => pack::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Synth(args) => synth::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
