//! `corelm detokenize`: turns ids into the bytes they stand for.

use std::io::Write;

use corelm::Token;
use corelm::tokenizer::Controls;

use crate::args::DetokenizeArgs;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::tokenize::{read_input, with_tokenizer};

/// Runs the command.
pub fn run(args: &DetokenizeArgs) -> Outcome {
    with_tokenizer(&args.model, |tokenizer| {
        let ids = if args.ids.is_empty() { parse_ids(&read_input()?)? } else { args.ids.clone() };
        let mut decoder = tokenizer.decoder(Controls::Show);
        let mut out = Output::new();
        for id in ids {
            let limit = tokenizer.vocab_size();
            let no_token = || Failure::Failed(format!("no token {id}: the vocabulary has {limit}"));
            let bytes: Vec<u8> = decoder.piece(id).ok_or_else(no_token)?.collect();
            out.write_all(&bytes)?;
        }
        Ok(out.flush()?)
    })
}

/// Numbers separated by commas, white space or the brackets of a JSON array.
fn parse_ids(input: &[u8]) -> Outcome<Vec<Token>> {
    let text = String::from_utf8_lossy(input);
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']'))
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|_| Failure::Failed(format!("'{word}' is no token id"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_in_any_dress() {
        assert_eq!(parse_ids(b"[1, 2,3]\n4 ").unwrap(), [1, 2, 3, 4]);
        assert!(parse_ids(b"1 -2").is_err());
        assert!(parse_ids(b"\xff").is_err());
    }
}
