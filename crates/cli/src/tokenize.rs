//! `corelm tokenize`: turns text into ids.

use std::fmt::Display;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use corelm::tokenizer::Pre;
use corelm::{Arena, Image, Layout, Role, Specials, Token, TokenizeError, Tokenizer};
use serde_json::Value;

use crate::args::TokenizeArgs;
use crate::chat_template::{Said, Template};
use crate::failure::{Failure, Outcome};
use crate::model::{ModelFile, Region};
use crate::output::Output;

/// Runs the command.
pub fn run(args: &TokenizeArgs) -> Outcome {
    with_vocabulary(&args.model, args.pre, |image, tokenizer| {
        let specials = if args.special { Specials::All } else { Specials::Never };
        let (bos, eos) = (tokenizer.bos().filter(|_| args.bos), tokenizer.eos().filter(|_| args.eos));
        let mut out = Output::new();
        if args.hex_lines {
            for line in io::stdin().lock().lines() {
                let line = line.map_err(|error| Failure::because("cannot read standard input", error))?;
                let ids = encode(tokenizer, &from_hex(line.trim())?, specials, bos, eos)?;
                writeln!(out, "{}", json_array(&ids))?;
            }
            return Ok(out.flush()?);
        }
        let text = match &args.text {
            Some(text) => text.clone().into_bytes(),
            None => read_input()?,
        };
        let ids = if args.chat {
            let template = Template::choose(&args.template, image, tokenizer)?;
            template.tokens(tokenizer, &conversation(&text)?, !args.no_generation_prompt)?
        } else {
            encode(tokenizer, &text, specials, bos, eos)?
        };
        if args.json {
            writeln!(out, "{}", json_array(&ids))?;
        } else if args.ids {
            let words: Vec<String> = ids.iter().map(Token::to_string).collect();
            writeln!(out, "{}", words.join(" "))?;
        } else {
            for &id in &ids {
                writeln!(out, "{id:>7} {:?}", String::from_utf8_lossy(&piece(tokenizer, id)))?;
            }
        }
        Ok(out.flush()?)
    })
}

/// As [`with_vocabulary`], the tokenizer alone.
pub fn with_tokenizer(
    model: &Path,
    pre: Option<Pre>,
    body: impl FnOnce(&Tokenizer<'_, '_>) -> Outcome,
) -> Outcome {
    with_vocabulary(model, pre, |_, tokenizer| body(tokenizer))
}

/// Indexes the vocabulary of a model, or of a file that holds nothing else, and hands both to `body`.
fn with_vocabulary(
    model: &Path,
    pre: Option<Pre>,
    body: impl FnOnce(&Image<'_>, &Tokenizer<'_, '_>) -> Outcome,
) -> Outcome {
    let file = ModelFile::open(model)?;
    let image = file.image()?;
    let layout = Tokenizer::layout(&image, Layout::new()).map_err(|error| file.because(error))?;
    let mut memory = Region::new(layout.bytes())?;
    let tokenizer = Tokenizer::with_pre(&image, pre, &mut Arena::new(memory.bytes()))
        .map_err(|error| file.because(error))?;
    body(&image, &tokenizer)
}

/// The messages of `[{"role": …, "content": …}, …]`.
fn conversation(json: &[u8]) -> Outcome<Vec<Said>> {
    let bad = |why: &dyn Display| {
        Failure::because("the conversation is not [{\"role\": …, \"content\": …}, …]", why)
    };
    let messages: Vec<Value> = serde_json::from_slice(json).map_err(|error| bad(&error))?;
    let message = |(at, message): (usize, &Value)| {
        let text = |key| message.get(key).and_then(Value::as_str).ok_or(key);
        let [role, content] = [text("role"), text("content")]
            .map(|text| text.map_err(|key| bad(&format_args!("message {at} has no text for \"{key}\""))));
        let role = Role::by_name(role?).map_err(|error| bad(&error))?;
        Ok(Said { role, content: content?.into() })
    };
    messages.iter().enumerate().map(message).collect()
}

/// The bytes of a token.
pub fn piece(tokenizer: &Tokenizer<'_, '_>, token: Token) -> Vec<u8> {
    tokenizer.piece(token).into_iter().flatten().collect()
}

/// All of standard input.
pub fn read_input() -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| Failure::because("cannot read standard input", error))?;
    Ok(bytes)
}

/// The ids of `text` between those of `bos` and `eos`.
pub fn encode(
    tokenizer: &Tokenizer<'_, '_>,
    text: &[u8],
    specials: Specials<'_>,
    bos: Option<Token>,
    eos: Option<Token>,
) -> Outcome<Vec<Token>> {
    let layout = tokenizer.scratch_layout(text.len(), Layout::new()).map_err(Failure::says)?;
    let mut memory = Region::new(layout.bytes())?;
    let mut scratch =
        tokenizer.scratch(text.len(), &mut Arena::new(memory.bytes())).map_err(Failure::says)?;
    let mut ids: Vec<Token> = bos.into_iter().collect();
    let n_front = ids.len();
    // A token of text has at least one byte; the space put before it may be one more.
    ids.resize(n_front + text.len() + 1, 0);
    let n = match tokenizer.encode(text, specials, &mut scratch, &mut ids[n_front..]) {
        Err(TokenizeError::OutputFull { need, .. }) => {
            ids.resize(n_front + need, 0);
            tokenizer.encode(text, specials, &mut scratch, &mut ids[n_front..])
        }
        other => other,
    }
    .map_err(Failure::says)?;
    ids.truncate(n_front + n);
    ids.extend(eos);
    Ok(ids)
}

fn json_array(ids: &[Token]) -> String {
    serde_json::Value::from(ids).to_string()
}

/// The bytes that `line` writes in hexadecimal.
fn from_hex(line: &str) -> Outcome<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let pairs = line.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| Failure::Failed("a line is not hexadecimal".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_strictly() {
        assert_eq!(from_hex("").unwrap(), b"");
        assert_eq!(from_hex("00fFa0").unwrap(), [0, 255, 0xa0]);
        for bad in ["0", "0g", "é", "0x00"] {
            assert!(from_hex(bad).is_err(), "{bad}");
        }
    }
}
