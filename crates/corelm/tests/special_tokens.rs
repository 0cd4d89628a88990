//! Text is text: no bytes whatever become a control token unless the caller says so, and the tokens of any bytes give these
//! bytes back. On vocabularies made here, mild and hostile, so that it needs no files.

#[path = "support/byte_letters.rs"]
mod byte_letters;
#[path = "support/vocab.rs"]
mod vocab;

use byte_letters::byte_letters;
use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::tokenizer::{Controls, Scratch, Specials, TokenKind, Tokenizer};
use std::mem::MaybeUninit;
use vocab::{BYTE, CONTROL, File, NORMAL, Random, UNKNOWN, UNUSED, USER_DEFINED};

/// Names of control tokens in every vocabulary here: plain ones, one that begins another, one of white space, one with
/// UTF-8, one that is not, and those that are control tokens whatever the file calls them.
const CONTROLS: [&[u8]; 12] = [
    b"<s>",
    b"</s>",
    b"<|im_start|>",
    b"<|im_start|>user",
    b"<|im_end|>",
    b"[INST]",
    b"  \n",
    "<｜end▁of▁sentence｜>".as_bytes(),
    b"\xff\xfe<\x80>",
    b"<|endoftext|>",
    b"<end_of_turn>",
    b"<|fim_prefix|>",
];
const TOOL: &[u8] = b"<tool>";
const WORDS: [&str; 10] = ["th", "he", "the", "<|", "|>", "im", "_start", "s>", "é", "INST"];

type Tokens = Vec<(Vec<u8>, i32, f32)>;

fn file(model: &str, tokens: &Tokens) -> File {
    File::new(model, &tokens.iter().map(|(text, ty, score)| (&text[..], *ty, *score)).collect::<Vec<_>>())
}

fn strings(texts: &[String]) -> Vec<u8> {
    texts.iter().flat_map(|text| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()).collect()
}

/// Bytes, words and control tokens; the type of those names that every vocabulary knows is `of_known`.
fn controls(tokens: &mut Tokens, of_known: i32) {
    for (i, name) in CONTROLS.iter().enumerate() {
        tokens.push((name.to_vec(), if i < 9 { CONTROL } else { of_known }, 0.0));
    }
    tokens.push((TOOL.to_vec(), USER_DEFINED, 0.0));
}

/// Byte-level BPE with merges that would make the names of control tokens, letter by letter.
fn byte_level(pre: &str, of_known: i32) -> File {
    let letters = byte_letters();
    let mut tokens: Tokens =
        letters.iter().map(|letter| (letter.clone().into_bytes(), NORMAL, 0.0)).collect();
    controls(&mut tokens, of_known);
    let mut merges = Vec::new();
    for name in WORDS.iter().map(|word| word.as_bytes()).chain(CONTROLS.iter().copied()) {
        let mut left = letters[usize::from(name[0])].clone();
        for &byte in &name[1..] {
            let right = &letters[usize::from(byte)];
            merges.push(format!("{left} {right}"));
            left.push_str(right);
            if !tokens.iter().any(|token| token.0 == left.as_bytes()) {
                tokens.push((left.clone().into_bytes(), NORMAL, 0.0));
            }
        }
    }
    let mut file = file("gpt2", &tokens);
    file.string("tokenizer.ggml.pre", pre.as_bytes());
    file.array("tokenizer.ggml.merges", 8, merges.len(), strings(&merges));
    file
}

/// SentencePiece with all bytes; beginnings of control tokens are tokens, which their scores favour.
fn sentence_piece(of_known: i32, adds_space: bool) -> File {
    let mut tokens: Tokens = vec![(b"<unk>".to_vec(), UNKNOWN, 0.0)];
    tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>").into_bytes(), BYTE, 0.0)));
    tokens.push(("▁".into(), NORMAL, -1.0));
    controls(&mut tokens, of_known);
    let names = WORDS.iter().map(|word| word.as_bytes()).chain(CONTROLS.iter().copied());
    for name in names.filter_map(|name| std::str::from_utf8(name).ok()) {
        let chars: Vec<char> = name.chars().collect();
        for end in 1..=chars.len() {
            for text in [chars[..end].iter().collect::<String>(), chars[end - 1].to_string()] {
                let text = text.replace(' ', "▁");
                if !tokens.iter().any(|token| token.0 == text.as_bytes()) {
                    let kind = if end == 2 { UNUSED } else { NORMAL };
                    tokens.push((text.into_bytes(), kind, end as f32));
                }
            }
        }
    }
    let mut file = file("llama", &tokens);
    file.u32("tokenizer.ggml.unknown_token_id", 0);
    file.bool("tokenizer.ggml.add_space_prefix", adds_space);
    file
}

/// RWKV: all bytes, words, and control tokens in escapes.
fn rwkv(of_known: i32) -> File {
    let escaped =
        |text: &[u8]| text.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>().into_bytes();
    let mut tokens: Tokens = (0..=255).map(|byte| (escaped(&[byte]), NORMAL, 0.0)).collect();
    tokens.extend(WORDS.iter().map(|word| (escaped(word.as_bytes()), NORMAL, 0.0)));
    controls(&mut tokens, of_known);
    // All but the last byte of each name, so that the longest token is no control token by a hair.
    for name in CONTROLS {
        let beginning = escaped(&name[..name.len() - 1]);
        if !tokens.iter().any(|token| token.0 == beginning) {
            tokens.push((beginning, NORMAL, 0.0));
        }
    }
    file("rwkv", &tokens)
}

/// What may differ in the text that comes back: see [`Tokenizer::encode`].
#[derive(Clone, Copy, PartialEq)]
enum Back {
    Exact,
    /// SentencePiece: U+2581 in the text is its space.
    Spaces,
}

struct Check<'t, 'a, 'm, 's> {
    name: &'t str,
    tokenizer: &'t Tokenizer<'a, 'm>,
    back: Back,
    scratch: Scratch<'s>,
    ids: Vec<Token>,
    n_texts: usize,
}

const LONGEST: usize = 600;

impl Check<'_, '_, '_, '_> {
    fn check(&mut self, text: &[u8]) {
        self.n_texts += 1;
        let (name, tokenizer) = (self.name, self.tokenizer);
        let n = tokenizer.encode(text, Specials::Never, &mut self.scratch, &mut self.ids).unwrap();
        for &id in &self.ids[..n] {
            let kind = tokenizer.kind(id).expect("a token of the vocabulary");
            let is_text = !matches!(kind, TokenKind::Control | TokenKind::Unknown);
            assert!(is_text, "{name}: {id} ({kind:?}) of {:?}", text.escape_ascii().to_string());
        }
        let mut back = [0; LONGEST + 8];
        let len = tokenizer.decode(&self.ids[..n], Controls::Hide, &mut back).unwrap();
        let back = &back[..len];
        let is_same = back == text || self.back == Back::Spaces && back == with_spaces(text);
        assert!(is_same, "{name}: {} gives {}", text.escape_ascii(), back.escape_ascii());
    }
}

/// `text` with a space for each U+2581.
fn with_spaces(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix("▁".as_bytes()) {
            Some(tail) => {
                out.push(b' ');
                rest = tail;
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// Runs `body` with a check of each vocabulary; gives the number of texts.
fn with_checks(body: impl Fn(&mut Check<'_, '_, '_, '_>)) -> usize {
    let mut n_texts = 0;
    let files = [
        ("gpt2", byte_level("gpt-2", CONTROL), Back::Exact),
        ("gpt2, names as text", byte_level("gpt-2", NORMAL), Back::Exact),
        ("gpt2, llama 3's pieces", byte_level("llama-bpe", NORMAL), Back::Exact),
        ("gpt2, qwen2's pieces", byte_level("qwen2", CONTROL), Back::Exact),
        ("llama", sentence_piece(CONTROL, true), Back::Spaces),
        ("llama, names as text, no space", sentence_piece(NORMAL, false), Back::Spaces),
        ("rwkv", rwkv(CONTROL), Back::Exact),
        ("rwkv, names as text", rwkv(NORMAL), Back::Exact),
    ];
    for (name, file, back) in files {
        file.with(|tokenizer| {
            // The names are there, and one of them is found when it is allowed.
            for control in CONTROLS {
                let id = tokenizer.token(control).unwrap();
                assert_eq!(
                    tokenizer.kind(id),
                    Some(TokenKind::Control),
                    "{name}: {}",
                    control.escape_ascii()
                );
                let ids = vocab::try_encode(tokenizer, control, Specials::All).unwrap();
                assert_eq!(ids, [id], "{name}: {}", control.escape_ascii());
            }
            let layout = tokenizer.scratch_layout(LONGEST, Layout::new()).unwrap();
            let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
            let scratch = tokenizer.scratch(LONGEST, &mut Arena::new(&mut region)).unwrap();
            let ids = vec![0; LONGEST + 8];
            let mut check = Check { name, tokenizer, back, scratch, ids, n_texts: 0 };
            body(&mut check);
            n_texts += check.n_texts;
        })
        .unwrap();
    }
    n_texts
}

#[test]
#[cfg_attr(miri, ignore = "many texts")]
fn every_text_of_up_to_two_bytes_is_text() {
    let n = with_checks(|check| {
        check.check(b"");
        (0..=255).for_each(|a| check.check(&[a]));
        (0..=u16::MAX).for_each(|ab| check.check(&ab.to_be_bytes()));
        assert_eq!(check.n_texts, 1 + 256 + 65_536);
    });
    println!(
        "figure R17 texts: {n} texts, all of up to 2 bytes on 8 vocabularies: none a control token, all come back"
    );
}

/// The names of control tokens, whole, cut at every point, with every byte changed, doubled, and one inside another.
#[test]
#[cfg_attr(miri, ignore = "many texts")]
fn names_of_control_tokens_are_text() {
    with_checks(|check| {
        for name in CONTROLS {
            for at in 0..=name.len() {
                let (left, right) = name.split_at(at);
                check.check(left);
                check.check(right);
                for between in [&b" "[..], b"\0", b"\n", b"\xff", b"\xe2\x80\x8b", b"\xc0\xae", b"<", TOOL] {
                    check.check(&[left, between, right].concat());
                }
                for other in CONTROLS {
                    check.check(&[left, other, right].concat());
                    check.check(&[left, other].concat());
                    check.check(&[other, right].concat());
                }
                for byte in (0..=255).filter(|_| at < name.len()) {
                    let mut changed = name.to_vec();
                    changed[at] = byte;
                    check.check(&changed);
                }
            }
            for around in [&b" "[..], b"a", b"\xe2\x96\x81", b"\n\n", TOOL] {
                check.check(&[around, name, around].concat());
                check.check(&[name, around, name].concat());
            }
        }
    });
}

/// Texts made of what is hard: overlong forms, surrogates, cut characters, bytes, names and their halves.
#[test]
#[cfg_attr(miri, ignore = "many texts")]
fn random_texts_are_text() {
    let mut parts: Vec<&[u8]> = vec![
        b"\xc0\xae", // overlong "."
        b"\xe0\x80\xbc",
        b"\xf0\x80\x80\xbc",
        b"\xed\xa0\x80", // surrogates
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80", // above the last code point
        b"\xf8\x88\x80\x80\x80",
        b"\xe2\x96", // beginnings and ends of characters
        b"\x81",
        b"\xe2\x96\x81",
        b"\xef\xbf\xbd",
        b"\xf0\x9f\x98\x80",
        b"\xcc\x81",
        b" ",
        b"  ",
        b"\t\r\n",
        b"\0",
        b"the",
        b"'s",
        b"1234",
        b"<0x41>",
        b"\\x3c",
        TOOL,
    ];
    for name in CONTROLS {
        parts.extend([name, &name[..name.len() / 2], &name[name.len() / 2..], &name[..name.len() - 1]]);
    }
    with_checks(|check| {
        let mut random = Random(17);
        for _ in 0..20_000 {
            let mut text = random.parts(&parts, 12);
            for _ in 0..random.below(4) {
                let at = random.below(text.len() + 1);
                match random.below(3) {
                    0 => text.insert(at, random.below(256) as u8),
                    1 if at < text.len() => drop(text.remove(at)),
                    _ => text.truncate(at.max(3)),
                }
            }
            check.check(&text);
        }
    });
}

/// Bytes that are control tokens themselves have no text: an error, and never the token.
#[test]
fn a_byte_that_is_a_control_token_is_an_error() {
    let mut tokens: Tokens = (b'a'..=b'z').map(|letter| (vec![letter], NORMAL, 0.0)).collect();
    tokens[0].1 = CONTROL;
    for model in ["gpt2", "llama", "rwkv"] {
        let mut file = file(model, &tokens);
        file.string("tokenizer.ggml.pre", b"gpt-2");
        file.array("tokenizer.ggml.merges", 8, 0, Vec::new());
        file.bool("tokenizer.ggml.add_space_prefix", false);
        for unknown in [None, Some(0)] {
            if let Some(id) = unknown {
                file.u32("tokenizer.ggml.unknown_token_id", id);
            }
            file.with(|t| {
                let error = corelm::TokenizeError::NoToken { byte: b'a' };
                assert_eq!(vocab::try_encode(t, b"ba", Specials::Never), Err(error), "{model}");
                assert_eq!(vocab::try_encode(t, b"ba", Specials::All), Ok(vec![1, 0]), "{model}");
            })
            .unwrap();
        }
    }
}
