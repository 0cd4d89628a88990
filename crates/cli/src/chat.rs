//! `corelm chat`: answers messages, one after the other, and remembers the conversation.
//!
//! Each time the whole conversation is turned into ids; of those that the session holds already none is run again. The
//! cache then holds what it would hold had the conversation come at once.

use std::io::{self, BufRead, IsTerminal, Write};
use std::ops::ControlFlow;

use corelm::tokenizer::Controls;
use corelm::{
    Event, GenerateError, GenerationConfig, Generator, Role, SessionError, StopReason, Token, Tokenizer,
};
use serde_json::json;

use crate::args::ChatArgs;
use crate::chat_template::{Said, Template};
use crate::failure::{Failure, Outcome};
use crate::model::{Loaded, with_session};
use crate::output::Output;

/// Runs the command.
pub fn run(args: &ChatArgs) -> Outcome {
    with_session(&args.model, args.sampling.config(), |loaded| {
        let template = Template::choose(&args.template, loaded.image, loaded.tokenizer)?;
        let mut chat =
            Chat { args, template, loaded, said: Vec::new(), in_cache: Vec::new(), out: Output::new() };
        if let Some(system) = &args.system {
            chat.say(Role::System, system);
        }
        match &args.prompt {
            Some(prompt) => chat.answer(prompt),
            None => chat.answer_lines(),
        }
    })
}

/// A conversation.
struct Chat<'c, 's, 'a, 'm> {
    args: &'c ChatArgs,
    template: Template,
    loaded: Loaded<'s, 'a, 'm>,
    said: Vec<Said>,
    /// The ids that the session has run.
    in_cache: Vec<Token>,
    out: Output,
}

impl Chat<'_, '_, '_, '_> {
    /// Answers each line of standard input that is not empty.
    fn answer_lines(&mut self) -> Outcome {
        let is_terminal = io::stdin().is_terminal();
        let mut line = Vec::new();
        loop {
            if is_terminal {
                write!(self.out, "> ")?;
                self.out.flush()?;
            }
            line.clear();
            let read = io::stdin().lock().read_until(b'\n', &mut line);
            if read.map_err(|error| Failure::because("cannot read standard input", error))? == 0 {
                if is_terminal {
                    writeln!(self.out)?;
                }
                return Ok(self.out.flush()?);
            }
            let message = String::from_utf8_lossy(&line);
            let message = message.trim_end_matches(['\r', '\n']);
            if !message.is_empty() {
                self.answer(message)?;
            }
        }
    }

    fn say(&mut self, role: Role, content: impl AsRef<[u8]>) {
        self.said.push(Said { role, content: content.as_ref().to_vec() });
    }

    /// Takes in a user's message and prints the answer as it comes.
    fn answer(&mut self, message: &str) -> Outcome {
        self.say(Role::User, message);
        let Loaded { session, tokenizer, sampler, .. } = &mut self.loaded;
        let prompt = self.template.tokens(tokenizer, &self.said, true)?;

        // The last id is run in any case: it gives the logits that the answer begins with.
        let n_same = prompt.iter().zip(&self.in_cache).take_while(|(a, b)| a == b).count();
        let n_same = n_same.min(prompt.len().saturating_sub(1));
        session.truncate(n_same);
        if session.pos() > n_same {
            session.reset(); // a state that nothing can be taken from
        }
        let n_reused = session.pos();
        self.in_cache.truncate(n_reused);
        let new = prompt.get(n_reused..).unwrap_or_default();
        self.in_cache.extend(new);

        let stop: Vec<&str> = self.args.stop.iter().map(String::as_str).collect();
        let max_tokens = self.args.n_predict.unwrap_or(usize::MAX);
        let until = GenerationConfig { max_tokens, stop: &stop, ignores_eog: false };
        let generator = Generator::new(session, tokenizer, sampler, new, until).map_err(too_long)?;
        let mut answer = String::new();
        let mut ids = Vec::new();
        let mut written = Ok(());
        let (out, is_json) = (&mut self.out, self.args.json);
        let generation = generator.run(&mut |event| {
            match event {
                Event::Token { token, .. } => ids.push(token),
                Event::Text(text) => {
                    answer.push_str(text);
                    if !is_json {
                        written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                    }
                }
            }
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        written?;
        let generation = generation.map_err(Failure::says)?;
        if is_json {
            let line = json!({
                "role": "assistant", "content": answer, "n_reused": n_reused, "n_prompt": new.len(),
                "ids": ids, "stop": reason(generation.reason),
            });
            writeln!(self.out, "{line}")?;
        } else {
            writeln!(self.out)?;
        }
        self.out.flush()?;
        // The last id was chosen but not run.
        self.in_cache.extend(&ids);
        self.in_cache.truncate(session.pos());
        let content = match generation.reason {
            StopReason::StopString(_) => answer.into_bytes(),
            StopReason::EndOfGeneration(_) => decode(tokenizer, ids.split_last().unwrap_or((&0, &[])).1),
            _ => decode(tokenizer, &ids),
        };
        self.say(Role::Assistant, content);
        Ok(())
    }
}

/// The bytes of an answer, whether they are text or not.
fn decode(tokenizer: &Tokenizer<'_, '_>, ids: &[Token]) -> Vec<u8> {
    let mut decoder = tokenizer.decoder(Controls::Hide).continuing();
    ids.iter().filter_map(|&id| decoder.piece(id)).flatten().collect()
}

/// What to do about a conversation that does not fit.
fn too_long(error: GenerateError) -> Failure {
    match error {
        GenerateError::Session(SessionError::ContextFull { .. }) => {
            Failure::Failed(format!("the conversation is too long: {error}; see --ctx-size"))
        }
        error => Failure::says(error),
    }
}

/// Why an answer ended, in a word.
fn reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndOfGeneration(_) => "end",
        StopReason::MaxTokens => "length",
        StopReason::StopString(_) => "stop",
        StopReason::ContextFull => "context",
        _ => "cancelled",
    }
}
