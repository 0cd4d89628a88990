//! `corelm logits`: feeds exactly the given ids and prints the logits after each.

use std::io::Write;

use corelm::SamplingConfig;
use serde_json::json;

use crate::args::LogitsArgs;
use crate::failure::{Failure, Outcome};
use crate::model::with_session;
use crate::output::Output;
use crate::summary::Summary;

/// Runs the command.
pub fn run(args: &LogitsArgs) -> Outcome {
    with_session(&args.model, SamplingConfig::GREEDY, |loaded| {
        let (n_ctx, vocab_size) = (loaded.session.n_ctx(), loaded.session.vocab_size());
        if args.ids.len() > n_ctx {
            let n = args.ids.len();
            return Err(Failure::Failed(format!("{n} ids are more than the context of {n_ctx}")));
        }
        if let Some(id) = args.ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Failure::Failed(format!("no token {id}: the vocabulary has {vocab_size}")));
        }
        let mut out = Output::new();
        for (position, &id) in args.ids.iter().enumerate() {
            let logits = loaded
                .session
                .step(id)
                .map_err(|error| Failure::because(format_args!("id {id} at position {position}"), error))?;
            let summary = Summary::of(logits);
            if args.json {
                let line = json!({
                    "position": position, "id": id, "mean": summary.mean, "rms": summary.rms,
                    "top": summary.top_json(),
                });
                writeln!(out, "{line}")?;
            } else {
                write!(out, "{position:>5} {id:>7} mean {:>9.4} rms {:>9.4} top", summary.mean, summary.rms)?;
                for (id, logit) in &summary.top {
                    write!(out, " {id}:{logit:.4}")?;
                }
                writeln!(out)?;
            }
        }
        Ok(out.flush()?)
    })
}
