//! `corelm tokenize --stream`: ids as soon as they are certain, of a text that may have no end.

use std::io::{self, Read};

use corelm::tokenizer::{Encoded, Encoder};
use corelm::{Arena, Layout, Specials, Token, TokenizeError, Tokenizer};

use crate::failure::{Failure, Outcome};
use crate::model::Region;

/// Bytes read at a time, and tokens given.
const AT_ONCE: usize = 1 << 16;

/// Encodes what `input` brings. The memory for it grows with what is held back, not with the text.
pub fn encode(
    tokenizer: &Tokenizer<'_, '_>,
    specials: Specials<'_>,
    input: &mut impl Read,
    give: &mut impl FnMut(&[Token]) -> Outcome,
) -> Outcome {
    let mut encoder = Encoder::new(tokenizer, specials);
    let (mut text, mut len) = (vec![0; 2 * AT_ONCE], 0);
    let mut out = vec![0; AT_ONCE];
    let mut is_end = false;
    while !is_end {
        let layout = tokenizer.scratch_layout(text.len(), Layout::new()).map_err(Failure::says)?;
        let mut memory = Region::new(layout.bytes())?;
        let mut scratch =
            tokenizer.scratch(text.len(), &mut Arena::new(memory.bytes())).map_err(Failure::says)?;
        while !is_end && len < text.len() {
            let n_read = read(input, &mut text[len..])?;
            (len, is_end) = (len + n_read, n_read == 0);
            loop {
                let done = match encoder.encode(&text[..len], is_end, &mut scratch, &mut out) {
                    Err(TokenizeError::OutputFull { need, .. }) => {
                        out.resize(need, 0);
                        continue;
                    }
                    done => done.map_err(Failure::says)?,
                };
                if done == Encoded::default() {
                    break;
                }
                give(&out[..done.n_tokens])?;
                text.copy_within(done.n_bytes..len, 0);
                len -= done.n_bytes;
            }
        }
        text.resize(2 * text.len(), 0);
    }
    Ok(())
}

fn read(input: &mut impl Read, bytes: &mut [u8]) -> Outcome<usize> {
    loop {
        match input.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map_err(|error| Failure::because("cannot read standard input", error)),
        }
    }
}
