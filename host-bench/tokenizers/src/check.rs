//! Before anything is timed: who gives other tokens than the engine, or other text for them, does other work and is left
//! out.

use anyhow::{Result, bail};

use crate::engines::Engine;

/// The tokens of each document by the engine, which must be the documents when they are decoded.
pub fn tokens(engine: &mut dyn Engine, documents: &[&str]) -> Result<Vec<Vec<u32>>> {
    let tokens = documents.iter().map(|document| {
        let mut ids = Vec::new();
        engine.encode(document, &mut |found| ids.extend_from_slice(found))?;
        Ok(ids)
    });
    let tokens = tokens.collect::<Result<Vec<_>>>()?;
    decoding(engine, documents, &tokens)?;
    Ok(tokens)
}

/// Whether the tokens of the documents are `wanted`, and the text of those the documents.
pub fn agreement(engine: &mut dyn Engine, documents: &[&str], wanted: &[Vec<u32>]) -> Result<()> {
    for (n, (document, wanted)) in documents.iter().zip(wanted).enumerate() {
        let mut differs = None;
        engine.encode(document, &mut |found| differs = difference(found, wanted))?;
        if let Some(at) = differs {
            bail!("its tokens differ in document {n} from token {at}");
        }
    }
    decoding(engine, documents, wanted)
}

/// Whether the tokens become the documents.
fn decoding(engine: &mut dyn Engine, documents: &[&str], tokens: &[Vec<u32>]) -> Result<()> {
    for (n, (document, tokens)) in documents.iter().zip(tokens).enumerate() {
        let mut is_same = false;
        engine.decode(tokens, &mut |bytes| is_same = bytes == document.as_bytes())?;
        if !is_same {
            bail!("what it decodes is not document {n}");
        }
    }
    Ok(())
}

/// Where two lists differ first.
fn difference(found: &[u32], wanted: &[u32]) -> Option<usize> {
    let at = found.iter().zip(wanted).take_while(|(found, wanted)| found == wanted).count();
    (found.len() != at || wanted.len() != at).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_differ_from_some_token() {
        assert_eq!(difference(&[1, 2], &[1, 2]), None);
        assert_eq!(difference(&[1, 2], &[1, 3]), Some(1));
        assert_eq!(difference(&[1], &[1, 3]), Some(1));
        assert_eq!(difference(&[1, 2], &[]), Some(0));
    }
}
