//! WordPiece: the fixture of a real model, a golden file, and vocabularies made here.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/vocab.rs"]
mod vocab;

use corelm::error::{ModelError, TokenizeError, VocabFault};
use corelm::tokenizer::{Controls, Specials};
use vocab::{CONTROL, File, NORMAL, UNKNOWN, decode, encode, pieces, try_encode};

fn made(texts: &[&str]) -> File {
    let mut tokens: Vec<(&[u8], i32, f32)> =
        vec![(b"[UNK]", UNKNOWN, 0.0), (b"[SEP]", CONTROL, 0.0), (b"[CLS]", CONTROL, 0.0)];
    tokens.extend(texts.iter().map(|text| (text.as_bytes(), NORMAL, 0.0)));
    let mut file = File::new("bert", &tokens);
    file.u32("tokenizer.ggml.unknown_token_id", 0);
    file
}

#[test]
fn the_fixture_is_exact() {
    let Some(shared) = fixtures::shared() else { return };
    let path = shared.join("tokenizers/ggml-vocab-bert-bge.gguf");
    let cases = fixtures::cases(&path);
    assert_eq!(cases.len(), 46);
    vocab::with_tokenizer(&std::fs::read(path).unwrap(), |t| {
        for (text, ids) in &cases {
            assert_eq!(encode(t, text), *ids, "{:?}", String::from_utf8_lossy(text));
        }
        assert_eq!((t.bos(), t.eos(), t.add_bos(), t.add_eos()), (Some(101), Some(102), true, true));
        assert!(!t.is_eog(102), "[SEP] ends a text, not a generation");
        vocab::check_linear(t, 21.0);
        let ids = encode(t, "We don't know, it's 'quoted'!");
        assert_eq!(decode(t, &ids), b" we don't know, it's'quoted '!");
    })
    .unwrap();
}

#[test]
fn golden_texts_are_exact() {
    assert_eq!(vocab::check_golden("word-piece", true), 90);
}

#[test]
fn words_are_the_longest_tokens_from_the_left_or_unknown() {
    let file = made(&["▁", "▁ab", "▁abc", "c", "d", "cde", "▁.", "▁é", "a"]);
    file.with(|t| {
        assert_eq!(pieces(t, "abcd abcde"), [" abc", "d", "[UNK]"], "ab + cde is not looked for");
        assert_eq!(pieces(t, "ABC.abcd"), [" abc", " .", " abc", "d"]);
        assert_eq!(pieces(t, "  ad\n"), [" ", "a", "d"]);
        assert_eq!(pieces(t, "x ab"), ["[UNK]", " ab"]);
        assert_eq!(pieces(t, "a\u{301}b\u{200d}c\0\u{301}"), [" abc"], "marks, controls");
        assert_eq!(pieces(t, [b"a\xff", &b"b\xe2\x96c\xc0\xae\xed\xa0\x80"[..]].concat()), [" abc"], "bytes");
        assert_eq!(pieces(t, "é"), ["[UNK]"], "e has no token");
        assert!(encode(t, "\u{301} \u{e000}").is_empty());
    })
    .unwrap();
}

#[test]
fn options_keep_case_and_accents() {
    let mut file = made(&["▁a", "▁A", "▁é", "▁É", "▁e", "▁E", "\u{301}"]);
    let key = |name: &str| format!("tokenizer.ggml.normalizer.{name}");
    file.with(|t| assert_eq!(pieces(t, "A É e\u{301}"), [" a", " e", " e"])).unwrap();
    file.bool(&key("lowercase"), false);
    file.with(|t| assert_eq!(pieces(t, "A É e\u{301}"), [" A", " É", " e", "\u{301}"])).unwrap();
    file.bool(&key("strip_accents"), true);
    file.with(|t| assert_eq!(pieces(t, "A É e\u{301}"), [" A", " E", " e"])).unwrap();
    file.bool(&key("lowercase"), true);
    file.bool(&key("strip_accents"), false);
    file.with(|t| assert_eq!(pieces(t, "A É e\u{301}"), [" a", " é", " e", "\u{301}"])).unwrap();
    file.u32(&key("lowercase"), 1);
    assert_eq!(file.error(), ModelError::WrongType { key: "tokenizer.ggml.normalizer.lowercase", found: 4 });
}

#[test]
fn text_makes_no_control_token_unless_allowed() {
    let mut file = File::new(
        "bert",
        &[(b"abc", CONTROL, 0.0), ("▁x".as_bytes(), NORMAL, 0.0), (b"a", NORMAL, 0.0), (b"bc", NORMAL, 0.0)],
    );
    file.with(|t| {
        assert_eq!(encode(t, "xabc"), [1, 2, 3], "the control token would be longer");
        assert_eq!(try_encode(t, b"x abc", Specials::All), Ok(vec![1, 0]));
        assert_eq!(try_encode(t, b"x y", Specials::Never), Err(TokenizeError::NoToken { byte: b'y' }));
        assert_eq!((t.bos(), t.eos(), t.add_bos()), (None, None, false), "101 and 102 are not there");
    })
    .unwrap();
    file.u32("tokenizer.ggml.cls_token_id", 2);
    file.u32("tokenizer.ggml.seperator_token_id", 3);
    file.bool("tokenizer.ggml.add_bos_token", false);
    file.with(|t| assert_eq!((t.bos(), t.eos(), t.add_bos(), t.add_eos()), (Some(2), Some(3), true, true)))
        .unwrap();
    file.u32("tokenizer.ggml.bos_token_id", 0);
    file.with(|t| assert_eq!(t.bos(), Some(0))).unwrap();
    file.u32("tokenizer.ggml.bos_token_id", 4);
    assert_eq!(file.error(), ModelError::BadVocab { fault: VocabFault::SpecialId, index: 4 });
}

#[test]
fn decoding_cleans_whole_texts_and_not_single_tokens() {
    made(&["▁hi", "▁,", "▁it", "▁'", "▁s", "▁!"])
        .with(|t| {
            let ids = encode(t, "hi, it's!");
            assert_eq!(decode(t, &ids), b" hi, it's!");
            let mut decoder = t.decoder(Controls::Show);
            let single: Vec<u8> = ids.iter().flat_map(|&id| decoder.piece(id).unwrap()).collect();
            assert_eq!(single, b" hi , it ' s !");
            let mut short = [0; 4];
            assert_eq!(
                t.decode(&ids, Controls::Show, &mut short),
                Err(TokenizeError::OutputFull { need: 10, have: 4 })
            );
            assert_eq!(&short, b" hi,");
            assert_eq!(t.decode(&[2, 3], Controls::Hide, &mut short), Ok(3));
        })
        .unwrap();
}

#[test]
fn changed_bytes_are_refused_or_safe() {
    let (n_loaded, n_changes) = vocab::check_changed_bytes("word-piece");
    assert!((n_changes / 10..n_changes).contains(&n_loaded), "{n_loaded} of {n_changes}");
}

#[test]
fn no_text_takes_more_than_its_longest_tokens() {
    vocab::with_tokenizer(&vocab::golden_file("word-piece"), |t| vocab::check_linear(t, 20.0)).unwrap();
    // A word of a megabyte that turns out to be unknown at its last letter.
    let text = [vec![b'a'; (1 << 20) - 1], vec![b'b']].concat();
    made(&["▁a", "a", "aa"])
        .with(|t| {
            assert_eq!(encode(t, &text), [0]);
            assert!(vocab::steps_per_byte(t, &text, 1 << 20) < 2.0);
        })
        .unwrap();
    // Whatever the vocabulary: here every letter could begin a token of 255 bytes.
    let long = ["a".repeat(254), "b".into()].concat();
    made(&["▁a", "a", &long]).with(|t| assert!(vocab::steps_per_byte(t, &text, 1 << 16) < 256.0)).unwrap();
}
