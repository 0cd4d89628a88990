//! `corelm tokenize`: turns text into ids.

mod stream;

use std::fmt::Display;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use corelm::tokenizer::{Pre, Span};
use corelm::{Arena, Image, Layout, Role, Specials, Token, TokenizeError, Tokenizer};
use serde_json::{Value, json};

use crate::args::TokenizeArgs;
use crate::chat_template::{Said, Template};
use crate::failure::{Failure, Outcome};
use crate::model::{self, ModelFile, Region};
use crate::output::Output;

/// Runs the command.
pub fn run(args: &TokenizeArgs) -> Outcome {
    with_vocabulary(&args.model, args.pre, |image, tokenizer| {
        let specials = if args.special { Specials::All } else { Specials::Never };
        let ends = Ends {
            bos: tokenizer.bos().filter(|_| args.bos),
            eos: tokenizer.eos().filter(|_| args.eos),
            max_tokens: args.max_tokens.unwrap_or(usize::MAX),
        };
        let mut out = Output::new();
        if args.hex_lines {
            return each_line(&mut out, |line| {
                let tokens = encode_with_spans(tokenizer, &from_hex(line.trim())?, specials, ends)?;
                Ok(to_json(&tokens, args.spans))
            });
        }
        if args.stream {
            let mut give = |ids: &[Token]| {
                for &id in ids {
                    write_token(&mut out, tokenizer, id, None, args.ids)?;
                }
                Ok(out.flush()?)
            };
            give(ends.bos.as_slice())?;
            stream::encode(tokenizer, specials, &mut io::stdin().lock(), &mut give)?;
            return give(ends.eos.as_slice());
        }
        let text = match &args.text {
            Some(text) => text.clone().into_bytes(),
            None => read_input()?,
        };
        let tokens = if args.chat {
            let template = Template::choose(&args.template, image, tokenizer)?;
            let ids = template.tokens(tokenizer, &conversation(&text)?, !args.no_generation_prompt)?;
            ids.into_iter().map(|id| (id, Span::default())).collect()
        } else {
            encode_with_spans(tokenizer, &text, specials, ends)?
        };
        if args.json {
            writeln!(out, "{}", to_json(&tokens, args.spans))?;
        } else if args.ids {
            let words: Vec<String> = tokens.iter().map(|(id, _)| id.to_string()).collect();
            writeln!(out, "{}", words.join(" "))?;
        } else {
            for (id, span) in tokens {
                write_token(&mut out, tokenizer, id, args.spans.then_some(span), false)?;
            }
        }
        Ok(out.flush()?)
    })
}

/// One token on a line: the id alone, or with its text.
fn write_token(
    out: &mut Output,
    tokenizer: &Tokenizer<'_, '_>,
    id: Token,
    span: Option<Span>,
    is_alone: bool,
) -> io::Result<()> {
    if is_alone {
        return writeln!(out, "{id}");
    }
    let piece = piece(tokenizer, id);
    let piece = String::from_utf8_lossy(&piece);
    match span {
        Some(Span { start, end }) => writeln!(out, "{id:>7} {:>15} {piece:?}", format!("{start}..{end}")),
        None => writeln!(out, "{id:>7} {piece:?}"),
    }
}

/// What goes around the tokens of a text, and how many they may be with it.
#[derive(Clone, Copy)]
struct Ends {
    bos: Option<Token>,
    eos: Option<Token>,
    max_tokens: usize,
}

/// Ids, or `[id, start, end]` of each.
fn to_json(tokens: &[(Token, Span)], spans: bool) -> Value {
    match spans {
        true => tokens.iter().map(|(id, span)| json!([id, span.start, span.end])).collect(),
        false => tokens.iter().map(|&(id, _)| id).collect(),
    }
}

/// Writes a line of JSON for each of standard input: `null` for one that has no tokens, so that the others keep their places.
/// The first such line is the error in the end.
fn each_line(out: &mut Output, encode: impl Fn(&str) -> Outcome<Value>) -> Outcome {
    let mut bad: Option<Failure> = None;
    for (number, line) in (1..).zip(io::stdin().lock().split(b'\n')) {
        let line = line.map_err(|error| Failure::because("cannot read standard input", error))?;
        let json = encode(&String::from_utf8_lossy(&line)).unwrap_or_else(|failure| {
            bad.get_or_insert_with(|| failure.at(format_args!("line {number}")));
            Value::Null
        });
        writeln!(out, "{json}")?;
    }
    out.flush()?;
    bad.map_or(Ok(()), Err)
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
    let tokenizer = model::tokenizer(&file, &image, pre, &mut Arena::new(memory.bytes()))?;
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

/// The ids of `text` behind that of `bos`.
pub fn encode(
    tokenizer: &Tokenizer<'_, '_>,
    text: &[u8],
    specials: Specials<'_>,
    bos: Option<Token>,
) -> Outcome<Vec<Token>> {
    let ends = Ends { bos, eos: None, max_tokens: usize::MAX };
    Ok(encode_with_spans(tokenizer, text, specials, ends)?.into_iter().map(|(id, _)| id).collect())
}

/// The tokens of `text`, each with the bytes that it stands for, and of its ends; the text is cut to as many as there is
/// room for.
fn encode_with_spans(
    tokenizer: &Tokenizer<'_, '_>,
    text: &[u8],
    specials: Specials<'_>,
    Ends { bos, eos, max_tokens }: Ends,
) -> Outcome<Vec<(Token, Span)>> {
    let layout = tokenizer.scratch_layout(text.len(), Layout::new()).map_err(Failure::says)?;
    let mut memory = Region::new(layout.bytes())?;
    let mut scratch =
        tokenizer.scratch(text.len(), &mut Arena::new(memory.bytes())).map_err(Failure::says)?;
    let mut encode = |len: usize| {
        let (mut ids, mut spans) = (vec![0; len], vec![Span::default(); len]);
        let n = tokenizer.encode_with_spans(text, specials, &mut scratch, &mut ids, &mut spans);
        (n, ids.into_iter().zip(spans).collect::<Vec<_>>())
    };
    let n_ends = usize::from(bos.is_some()) + usize::from(eos.is_some());
    let no_room = || Failure::Usage(format!("--max-tokens {max_tokens} has no room for BOS and EOS"));
    let room = max_tokens.checked_sub(n_ends).ok_or_else(no_room)?;
    // A token of text has at least one byte; the space put before it may be one more.
    let (n, mut tokens) = match encode(room.min(text.len() + 1)) {
        (Err(TokenizeError::OutputFull { need, have }), _) if have < room => encode(room.min(need)),
        others => others,
    };
    let behind = Span { start: text.len(), end: text.len() };
    match n {
        Ok(n) => tokens.truncate(n),
        Err(TokenizeError::OutputFull { need, .. }) => {
            let end = tokens.last().map_or(0, |(_, span)| span.end);
            eprintln!("corelm: cut to {} of {need} tokens, {end} of {} bytes", tokens.len(), text.len());
        }
        Err(error) => return Err(Failure::says(error)),
    }
    let bos = bos.map(|bos| (bos, Span::default()));
    Ok(bos.into_iter().chain(tokens).chain(eos.map(|eos| (eos, behind))).collect())
}

/// The bytes that `line` writes in hexadecimal.
fn from_hex(line: &str) -> Outcome<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let pairs = line.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| Failure::Failed("not hexadecimal".into()))
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
