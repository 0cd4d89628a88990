//! `corelm detokenize`: turns ids into the bytes they stand for.

use std::io::Write;

use corelm::tokenizer::Controls;
use corelm::{Token, TokenizeError, Tokenizer};

use crate::args::DetokenizeArgs;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::tokenize::{read_input, with_tokenizer};

/// Runs the command.
pub fn run(args: &DetokenizeArgs) -> Outcome {
    with_tokenizer(&args.model, args.pre, |tokenizer| {
        let ids = if args.ids.is_empty() { parse_ids(&read_input()?)? } else { args.ids.clone() };
        let limit = tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= limit) {
            return Err(Failure::Failed(format!("no token {id}: the vocabulary has {limit}")));
        }
        let mut out = Output::new();
        out.write_all(&decode(tokenizer, &ids)?)?;
        Ok(out.flush()?)
    })
}

/// The text of `ids`.
fn decode(tokenizer: &Tokenizer<'_, '_>, ids: &[Token]) -> Outcome<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        match tokenizer.decode(ids, Controls::Show, &mut text) {
            Err(TokenizeError::OutputFull { need, .. }) => text.resize(need, 0),
            n_bytes => {
                text.truncate(n_bytes.map_err(Failure::says)?);
                return Ok(text);
            }
        }
    }
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
