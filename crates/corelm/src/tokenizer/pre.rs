//! Pre-tokenizers: the splitting of text into pieces that merges never cross, as hand-written scanners.
//!
//! Each gives what its regular expression gives (leftmost alternative first, `\s+(?!\S)` included), in one pass without
//! backtracking, recursion or memory.

use super::unicode::{self, Char, Class};

/// A pre-tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pre {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3,
    /// As `Llama3`, with `\p{N}` for `\p{N}{1,3}`.
    Qwen2,
}

impl Pre {
    /// The pre-tokenizer that `tokenizer.ggml.pre` names; other families' names stand for the same expression.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"gpt-2" | b"phi-2" | b"mpt" | b"olmo" | b"jais" | b"trillion" | b"granite-docling"
            | b"gigachat" | b"exaone4" | b"mellum" | b"a.x-4.0" | b"modern-bert" | b"roberta-bpe"
            | b"jina-es" | b"jina-de" | b"jina-v1-en" | b"jina-v2-es" | b"jina-v2-de" | b"jina-v2-code" => {
                Self::Gpt2
            }
            b"llama-bpe" | b"llama3" | b"llama-v3" | b"falcon3" | b"falcon-h1" | b"pixtral" | b"midm-2.0"
            | b"lfm2" | b"jina-v5-nano" => Self::Llama3,
            b"qwen2" | b"deepseek-r1-qwen" | b"megrez" | b"kormo" | b"f2llmv2" | b"stablelm2"
            | b"hunyuan" | b"solar-open" => Self::Qwen2,
            _ => return None,
        })
    }

    /// Bytes of the first piece of `text`: at least 1, unless `text` is empty.
    #[inline]
    pub fn piece_len(self, text: &[u8]) -> usize {
        match self {
            Self::Gpt2 => gpt2(text),
            Self::Llama3 => llama3(text, 3),
            Self::Qwen2 => llama3(text, 1),
        }
    }
}

fn gpt2(text: &[u8]) -> usize {
    if let Some(len) = contraction(text, false) {
        return len;
    }
    let space = usize::from(text.first() == Some(&b' '));
    let body = after(text, space);
    match Char::first(body).map(Char::class) {
        None | Some(Class::Space) => spaces(text),
        Some(class) => space + run(body, class),
    }
}

fn llama3(text: &[u8], max_digits: usize) -> usize {
    if let Some(len) = contraction(text, true) {
        return len;
    }
    let Some(first) = Char::first(text) else { return 0 };
    match first.class() {
        Class::Letter => return run(text, Class::Letter),
        Class::Number => return digits(text, max_digits),
        Class::Other | Class::Space => {}
    }
    if !matches!(text.first(), Some(b'\r' | b'\n')) {
        let letters = run(after(text, first.len), Class::Letter);
        if letters > 0 {
            return first.len + letters;
        }
    }
    let space = usize::from(text.first() == Some(&b' '));
    let others = run(after(text, space), Class::Other);
    if others > 0 {
        let rest = after(text, space + others);
        return space + others + rest.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    }
    let white = text.get(..run(text, Class::Space)).unwrap_or_default();
    match white.iter().rposition(|b| matches!(b, b'\r' | b'\n')) {
        Some(newline) => newline + 1,
        None => spaces(text),
    }
}

/// The contractions of English; `any_case` reads the letters in either case (ASCII only, as llama.cpp does).
fn contraction(text: &[u8], any_case: bool) -> Option<usize> {
    let [b'\'', a, rest @ ..] = text else { return None };
    let fold = |b: u8| if any_case { b.to_ascii_lowercase() } else { b };
    match (fold(*a), rest.first().map(|&b| fold(b))) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+`: white space, less its last character when something else follows and one remains.
fn spaces(text: &[u8]) -> usize {
    let (mut len, mut last) = (0, 0);
    while let Some(c) = Char::first(after(text, len)) {
        if c.class() != Class::Space {
            return if len > last { len - last } else { len };
        }
        (len, last) = (len + c.len, c.len);
    }
    len
}

/// Bytes of the characters of `class` that `text` begins with.
#[inline]
fn run(text: &[u8], class: Class) -> usize {
    let mut len = 0;
    loop {
        let rest = after(text, len);
        len += rest.iter().take_while(|&&byte| unicode::ascii_class(byte) == Some(class)).count();
        match Char::first(after(text, len)) {
            Some(c) if c.class() == class => len += c.len,
            _ => return len,
        }
    }
}

/// Bytes of at most `max` numbers.
fn digits(text: &[u8], max: usize) -> usize {
    let mut len = 0;
    for _ in 0..max {
        match Char::first(after(text, len)).filter(|c| c.class() == Class::Number) {
            Some(c) => len += c.len,
            None => break,
        }
    }
    len
}

#[inline]
fn after(text: &[u8], len: usize) -> &[u8] {
    text.get(len..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn pieces(pre: Pre, text: &str) -> Vec<&str> {
        let mut rest = text;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(pre.piece_len(rest.as_bytes()));
            pieces.push(piece);
            rest = tail;
        }
        pieces
    }

    #[test]
    fn gpt2_splits_as_its_expression() {
        let split = |text| pieces(Pre::Gpt2, text);
        assert_eq!(
            split("Hello, world's  end\n\n x"),
            ["Hello", ",", " world", "'s", " ", " end", "\n\n", " x"]
        );
        assert_eq!(
            split("we'LL don't I'm 12345 ½x"),
            ["we", "'", "LL", " don", "'t", " I", "'m", " 12345", " ½", "x"]
        );
        assert_eq!(split("a   "), ["a", "   "]);
        assert_eq!(split("  \u{a0}\u{3000}x"), ["  \u{a0}", "\u{3000}", "x"]);
        assert_eq!(split("e\u{301} '"), ["e", "\u{301}", " '"]);
        assert_eq!(split(""), [""; 0]);
    }

    #[test]
    fn llama3_splits_as_its_expression() {
        let split = |text| pieces(Pre::Llama3, text);
        assert_eq!(split("we'LL (x)\r\n\r\ny"), ["we", "'LL", " (", "x", ")\r\n\r\n", "y"]);
        assert_eq!(split("1234567 89"), ["123", "456", "7", " ", "89"]);
        assert_eq!(split(" \n \n  x\ty"), [" \n \n", " ", " x", "\ty"]);
        assert_eq!(split("\nx"), ["\n", "x"]);
        assert_eq!(split("'hello '' \u{3000}字"), ["'hello", " ''", " ", "\u{3000}字"]);
        assert_eq!(pieces(Pre::Qwen2, "1234 a"), ["1", "2", "3", "4", " a"]);
    }

    #[test]
    fn any_bytes_are_cut_into_pieces() {
        for a in 0..=255 {
            for b in 0..=255 {
                for pre in [Pre::Gpt2, Pre::Llama3, Pre::Qwen2] {
                    let len = pre.piece_len(&[a, b]);
                    assert!((1..=2).contains(&len), "{pre:?} {a:02x}{b:02x}");
                }
            }
        }
    }
}
