//! The bytes of text that tokens stand for.

#[path = "support/byte_letters.rs"]
mod byte_letters;
#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/vocab.rs"]
mod vocab;

use byte_letters::byte_letters;
use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::error::TokenizeError;
use corelm::tokenizer::{Span, Specials, Tokenizer};
use std::mem::MaybeUninit;
use vocab::{BYTE, CONTROL, File, NORMAL, UNKNOWN, try_encode};

/// Tokens and spans of a text; the tokens are those without spans.
fn spans(t: &Tokenizer<'_, '_>, text: &[u8], specials: Specials<'_>) -> Vec<(Token, Span)> {
    let tokens = try_encode(t, text, specials).unwrap();
    let layout = t.scratch_layout(text.len(), Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut scratch = t.scratch(text.len(), &mut Arena::new(&mut region)).unwrap();
    let (mut out, mut spans) = (vec![0; tokens.len()], vec![Span::default(); tokens.len()]);
    let mut encode =
        |out: &mut [Token], spans: &mut [Span]| t.encode_with_spans(text, specials, &mut scratch, out, spans);
    assert_eq!(encode(&mut out, &mut spans), Ok(tokens.len()));
    assert_eq!(out, tokens);
    // Cut to less than there are, by either slice, they are the first ones.
    for have in 0..tokens.len().min(3) {
        let full = Err(TokenizeError::OutputFull { need: tokens.len(), have });
        let (mut few, mut few_spans) = (vec![0; have], vec![Span::default(); tokens.len()]);
        assert_eq!(encode(&mut few, &mut few_spans), full);
        assert_eq!((&few[..], &few_spans[..have]), (&tokens[..have], &spans[..have]));
        let mut few_spans = vec![Span::default(); have];
        assert_eq!(encode(&mut out, &mut few_spans), full);
        assert_eq!((&out[..have], &few_spans[..]), (&tokens[..have], &spans[..have]));
    }
    tokens.into_iter().zip(spans).collect()
}

/// Checks that the spans of a text leave nothing out and that each is what its token decodes to.
fn check_tiles(t: &Tokenizer<'_, '_>, text: &[u8], specials: Specials<'_>, adds_space: bool) {
    let mut at = 0;
    for (token, span) in spans(t, text, specials) {
        assert_eq!(span.start, at, "{text:?}");
        let piece: Vec<u8> = t.piece(token).unwrap().collect();
        let part = String::from_utf8_lossy(&text[at..span.end]).replace('\u{2581}', " ");
        let piece = String::from_utf8_lossy(&piece);
        let is_same = part == piece || adds_space && piece.strip_prefix(' ') == Some(&part);
        assert!(is_same, "{part:?} {piece:?} of {:?}", String::from_utf8_lossy(text));
        at = span.end;
    }
    assert_eq!(at, text.len());
}

#[test]
fn spans_are_what_tokens_decode_to() {
    let Some(shared) = fixtures::shared() else { return };
    for (name, adds_space) in [
        ("gpt-2", false),
        ("llama-bpe", false),
        ("qwen2", false),
        ("deepseek-coder", false),
        ("llama-spm", true),
        ("phi-3", true),
    ] {
        let path = shared.join(format!("tokenizers/ggml-vocab-{name}.gguf"));
        vocab::with_tokenizer(&std::fs::read(&path).unwrap(), |t| {
            for (text, _) in fixtures::cases(&path) {
                check_tiles(t, &text, Specials::Never, adds_space);
            }
            if name != "deepseek-coder" {
                // It has not all bytes.
                check_tiles(t, b"a\xff\xc0\xae \xe2\x96\x81\xe2\x96 b \xf0\x9f", Specials::Never, adds_space);
            }
        })
        .unwrap();
    }
}

#[test]
fn special_tokens_have_the_span_of_their_name() {
    let file = byte_level(&["<end>"]);
    let of = |specials| file.with(|t| spans(t, b"a<end> b", specials)).unwrap();
    let ends = |found: Vec<(Token, Span)>| found.into_iter().map(|(_, span)| span.end).collect::<Vec<_>>();
    assert_eq!(ends(of(Specials::All)), [1, 6, 7, 8]);
    assert_eq!(ends(of(Specials::Never)), [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// Bytes and control tokens.
fn byte_level(controls: &[&str]) -> File {
    let texts = byte_letters();
    let bytes = texts.iter().map(|text| (text.as_bytes(), NORMAL, 0.0));
    let controls = controls.iter().map(|text| (text.as_bytes(), CONTROL, 0.0));
    let mut file = File::new("gpt2", &bytes.chain(controls).collect::<Vec<_>>());
    file.string("tokenizer.ggml.pre", b"gpt-2");
    file.array("tokenizer.ggml.merges", 8, 0, Vec::new());
    file
}

/// `(text, start, end)` of each token of a text.
fn named<'t>(t: &Tokenizer<'_, '_>, text: &'t str) -> Vec<(String, &'t str)> {
    let piece = |token| String::from_utf8_lossy(&t.piece(token).unwrap().collect::<Vec<_>>()).into_owned();
    let part = |span: Span| &text[span.start..span.end];
    let spans = spans(t, text.as_bytes(), Specials::Never).into_iter();
    spans.map(|(token, span)| (piece(token), part(span))).collect()
}

fn pairs<'t>(list: &[(&str, &'t str)]) -> Vec<(String, &'t str)> {
    list.iter().map(|&(token, part)| (token.into(), part)).collect()
}

#[test]
fn sentence_piece_knows_what_is_no_text() {
    let tokens: [(&[u8], i32, f32); 5] = [
        (b"<unk>", UNKNOWN, 0.0),
        ("\u{2581}".as_bytes(), NORMAL, -1.0),
        ("\u{2581}a".as_bytes(), NORMAL, -2.0),
        (b"a", NORMAL, -3.0),
        (b"b", NORMAL, -4.0),
    ];
    let mut file = File::new("llama", &tokens);
    file.u32("tokenizer.ggml.unknown_token_id", 0);
    let want = [(" a", "a"), ("b", "b"), ("<unk>", "字"), (" a", "\u{2581}a"), (" ", " "), (" a", " a")];
    file.with(|t| assert_eq!(named(t, "ab字\u{2581}a  a"), pairs(&want))).unwrap();
    file.with(|t| assert_eq!(named(t, "b"), pairs(&[(" ", ""), ("b", "b")]))).unwrap();

    // A space without a token is three bytes, of which the last stands for it.
    let bytes: Vec<_> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    let tokens: Vec<_> = bytes.iter().map(|text| (text.as_bytes(), BYTE, 0.0)).collect();
    let starts = |text: &[u8]| {
        let found = File::new("llama", &tokens).with(|t| spans(t, text, Specials::Never)).unwrap();
        found.into_iter().map(|(token, span)| (token as u8, span.start..span.end)).collect::<Vec<_>>()
    };
    let added = [(0xE2, 0..0), (0x96, 0..0), (0x81, 0..0)];
    assert_eq!(starts(b" a")[..3], added);
    assert_eq!(starts(b" a")[3..], [(0xE2, 0..0), (0x96, 0..0), (0x81, 0..1), (b'a', 1..2)]);
    assert_eq!(starts("\u{2581}".as_bytes())[3..], [(0xE2, 0..1), (0x96, 1..2), (0x81, 2..3)]);
}

#[test]
fn word_piece_leaves_out_what_it_drops() {
    let tokens: [(&[u8], i32, f32); 5] = [
        (b"[UNK]", UNKNOWN, 0.0),
        ("\u{2581}ab".as_bytes(), NORMAL, 0.0),
        (b"c", NORMAL, 0.0),
        ("\u{2581}.".as_bytes(), NORMAL, 0.0),
        ("\u{2581}e".as_bytes(), NORMAL, 0.0),
    ];
    let mut file = File::new("bert", &tokens);
    file.u32("tokenizer.ggml.unknown_token_id", 0);
    let want = [
        (" ab", "A\0B"),
        ("c", "c"),
        (" .", "."),
        ("[UNK]", "字"),
        ("[UNK]", "xyz"),
        (" e", "é"),
        ("c", "c"),
        (" e", "e"),
        ("c", "c"),
    ];
    file.with(|t| assert_eq!(named(t, "  A\0B\0c. 字 xyz  éc e\u{301}c"), pairs(&want))).unwrap();
}

#[test]
fn unigram_goes_back_through_the_normalizer() {
    let tokens: [(&[u8], i32, f32); 7] = [
        (b"<unk>", UNKNOWN, 0.0),
        ("\u{2581}".as_bytes(), NORMAL, -1.0),
        ("\u{2581}a".as_bytes(), NORMAL, -1.0),
        (b"a", NORMAL, -1.0),
        (b"1", NORMAL, -1.0),
        (b"/2", NORMAL, -1.0),
        (b"b", NORMAL, -1.0),
    ];
    let mut file = File::new("t5", &tokens);
    file.u32("tokenizer.ggml.unknown_token_id", 0);
    file.charsmap(&vocab::charsmap(&[("½".as_bytes(), b"1/2"), (b"B", b"b")]));
    file.bool("tokenizer.ggml.add_space_prefix", true);
    let text = "  a½ aBxy a  b ";
    let want = [(" ", " "), (" ", " "), (" a", "a"), ("1", "½"), ("/2", "½"), (" a", " a")];
    let rest = [("b", "B"), ("<unk>", "xy"), (" a", " a"), (" ", " "), (" ", " "), ("b", "b"), (" ", " ")];
    file.with(|t| assert_eq!(named(t, text), pairs(&[&want[..], &rest].concat()))).unwrap();
    file.bool("tokenizer.ggml.remove_extra_whitespaces", true);
    let want = [(" a", "a"), ("1", "½"), ("/2", "½"), (" a", " a"), ("b", "B"), ("<unk>", "xy")];
    let rest = [(" a", " a"), (" ", "  "), ("b", "b")];
    file.with(|t| assert_eq!(named(t, text), pairs(&[&want[..], &rest].concat()))).unwrap();
    // Words that one character becomes, with the spaces between them, are all of that character.
    file.charsmap(&vocab::charsmap(&[(b"B", b"b a")]));
    let want = [(" a", "a"), ("b", "B"), (" a", "B"), ("1", "1")];
    file.with(|t| assert_eq!(named(t, "aB1"), pairs(&want))).unwrap();
}
