//! `corelm generate`: continues a prompt, piece by piece as the tokens come.

use std::io::Write;
use std::ops::ControlFlow;

use corelm::{Event, GenerationConfig, Generator, Specials};
use serde_json::json;

use crate::args::GenerateArgs;
use crate::failure::{Failure, Outcome};
use crate::model::{Loaded, with_session};
use crate::output::Output;
use crate::summary::Summary;
use crate::tokenize::{encode, piece, read_input};

/// Runs the command.
pub fn run(args: &GenerateArgs) -> Outcome {
    let text = match &args.prompt {
        Some(prompt) => prompt.clone().into_bytes(),
        None => read_input()?,
    };
    with_session(&args.model, args.sampling.config(), |loaded| {
        let Loaded { session, tokenizer, sampler, .. } = loaded;
        let specials = if args.no_special { Specials::Never } else { Specials::All };
        let prompt = encode(tokenizer, &text, specials, tokenizer.bos().filter(|_| tokenizer.add_bos()))?;
        let stop: Vec<&str> = args.stop.iter().map(String::as_str).collect();
        let until =
            GenerationConfig { max_tokens: args.n_predict, stop: &stop, ignores_eog: args.ignore_eos };
        let generator = Generator::new(session, tokenizer, sampler, &prompt, until).map_err(Failure::says)?;
        let mut out = Output::new();
        let mut written = Ok(());
        let mut receiver = |event: Event<'_>| {
            written = match event {
                Event::Token { token, logits } if args.json => {
                    let summary = Summary::of(logits);
                    let piece = String::from_utf8_lossy(&piece(tokenizer, token)).into_owned();
                    let line = json!({
                        "id": token, "piece": piece, "mean": summary.mean, "rms": summary.rms,
                        "top": summary.top_json(),
                    });
                    writeln!(out, "{line}")
                }
                Event::Text(text) if !args.json => out.write_all(text.as_bytes()).and_then(|()| out.flush()),
                _ => Ok(()),
            };
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let generated = generator.run(&mut receiver).map_err(Failure::says);
        written?;
        if !args.json {
            writeln!(out)?;
        }
        out.flush()?;
        generated.map(drop)
    })
}
