//! RWKV's tokenizer: the longest token each time, over escaped vocabularies.

#[path = "support/vocab.rs"]
mod vocab;

use corelm::error::{ErrorClass, TokenizeError};
use corelm::tokenizer::Specials;
use vocab::{CONTROL, File, NORMAL, UNKNOWN, USER_DEFINED, decode, encode, pieces, try_encode};

/// Every byte, then `texts`.
fn made(texts: &[(&str, i32)]) -> File {
    let bytes: Vec<String> = (0..=255).map(|byte: u8| format!("\\x{byte:02x}")).collect();
    let bytes = bytes.iter().map(|text| (text.as_bytes(), NORMAL, 0.0));
    let tokens: Vec<_> = bytes.chain(texts.iter().map(|&(text, ty)| (text.as_bytes(), ty, 0.0))).collect();
    File::new("rwkv", &tokens)
}

#[test]
fn golden_texts_are_exact_and_come_back() {
    assert_eq!(vocab::check_golden("rwkv", true), 84);
    vocab::with_tokenizer(&vocab::golden_file("rwkv"), |t| {
        for case in vocab::golden_texts("rwkv") {
            assert_eq!(decode(t, &case.ids), case.text);
        }
        assert!(!t.add_bos() && !t.add_eos());
    })
    .unwrap();
}

#[test]
fn the_longest_token_is_taken_each_time() {
    made(&[("ab", NORMAL), ("abcd", NORMAL), ("bcd", NORMAL)])
        .with(|t| {
            assert_eq!(pieces(t, "abcdabc"), ["abcd", "ab", "c"]);
            assert_eq!(pieces(t, "abcabcd"), ["ab", "c", "abcd"]);
            assert_eq!(encode(t, "bc"), [u32::from(b'b'), u32::from(b'c')]);
            assert!(encode(t, "").is_empty());
        })
        .unwrap();
}

#[test]
fn escapes_are_read_as_python_writes_them() {
    made(&[
        ("\\n\\n", NORMAL),
        ("\\'\\\\\\\"", NORMAL),
        ("\\xe5\\xad\\x97", NORMAL),
        ("\\tx\\r", NORMAL),
        ("\\q", NORMAL),
    ])
    .with(|t| {
        assert_eq!(encode(t, "\n\n'\\\"字\tx\rq"), [256, 257, 258, 259, 260]);
        assert_eq!(decode(t, &[256, 257, 258, 259, 260]), "\n\n'\\\"字\tx\rq".as_bytes());
    })
    .unwrap();
    // An escape that is cut short ends a token, and one that is nothing else is never found.
    made(&[("ab\\", NORMAL), ("cd\\x4", NORMAL), ("\\", NORMAL)])
        .with(|t| {
            assert_eq!(encode(t, "abcd\\"), [256, 257, u32::from(b'\\')]);
            assert_eq!(decode(t, &[256, 257, 258]), b"abcd");
        })
        .unwrap();
}

/// The filter over beginnings says no of nearly all that are none: so few steps tell that it does.
#[test]
fn a_byte_that_begins_no_longer_token_takes_a_step() {
    made(&[(&"b".repeat(200), NORMAL), ("cdefghij", NORMAL)])
        .with(|t| {
            for byte in 0..=255u8 {
                let steps = vocab::steps_per_byte(t, &[byte; 150], 150);
                assert!(if byte == b'b' { steps > 70.0 } else { steps <= 2.0 }, "{byte}: {steps}");
            }
        })
        .unwrap();
}

#[test]
fn of_tokens_for_the_same_bytes_the_last_counts() {
    made(&[("A", NORMAL), ("B\\n", NORMAL), ("\\x42\\x0a", NORMAL)])
        .with(|t| {
            assert_eq!(encode(t, "AB\n"), [256, 258]);
            assert_eq!(decode(t, &[65, 256, 257, 258]), b"AAB\nB\n");
        })
        .unwrap();
}

#[test]
fn text_makes_no_control_token_unless_allowed() {
    made(&[("<s>", CONTROL), ("<tool>", USER_DEFINED)])
        .with(|t| {
            assert_eq!(pieces(t, "<s><tool>"), ["<", "s", ">", "<tool>"]);
            assert_eq!(try_encode(t, b"<s>a", Specials::All), Ok(vec![256, 97]));
        })
        .unwrap();
}

#[test]
fn bytes_without_a_token_are_the_unknown_token_or_an_error() {
    let tokens: [(&[u8], i32, f32); 4] =
        [(b"ab", NORMAL, 0.0), (b"c", NORMAL, 0.0), (b"?", UNKNOWN, 0.0), (b"!", CONTROL, 0.0)];
    let mut file = File::new("rwkv", &tokens);
    let none = |byte| Err(TokenizeError::NoToken { byte });
    file.with(|t| {
        assert_eq!(encode(t, "abc"), [0, 1]);
        assert_eq!(try_encode(t, b"ac", Specials::Never), none(b'a'), "where the reference hangs");
        assert_eq!(try_encode(t, b"cx", Specials::Never), none(b'x'));
    })
    .unwrap();
    file.u32("tokenizer.ggml.unknown_token_id", 2);
    file.with(|t| assert_eq!(encode(t, b"acxy"), [2, 1, 2, 2])).unwrap();
    file.u32("tokenizer.ggml.unknown_token_id", 3);
    file.with(|t| assert_eq!(try_encode(t, b"x", Specials::Never), none(b'x'))).unwrap();
}

#[test]
fn nothing_is_added_whatever_the_keys_say() {
    let mut file = made(&[("<s>", CONTROL)]);
    file.u32("tokenizer.ggml.bos_token_id", 256);
    file.bool("tokenizer.ggml.add_bos_token", true);
    file.with(|t| assert_eq!((t.bos(), t.add_bos(), t.eos(), t.add_eos()), (Some(256), false, None, false)))
        .unwrap();
}

#[test]
fn changed_bytes_are_refused_or_safe() {
    let (n_loaded, n_changes) = vocab::check_changed_bytes("rwkv");
    assert!((n_changes / 10..n_changes).contains(&n_loaded), "{n_loaded} of {n_changes}");
}

#[test]
fn no_text_takes_more_than_its_longest_tokens() {
    vocab::with_tokenizer(&vocab::golden_file("rwkv"), |t| vocab::check_linear(t, 9.0)).unwrap();
    // Whatever the vocabulary: here every letter could begin a token of 255 bytes.
    let long = [&[b'a'; 254][..], b"b"].concat();
    let mut file = File::new("rwkv", &[(b"a", NORMAL, 0.0), (&long, NORMAL, 0.0)]);
    file.with(|t| assert_eq!(vocab::steps_per_byte(t, &[b'a'; 5000], 5000).ceil(), 249.0)).unwrap();
    file = File::new("rwkv", &[(&[b'a'; 256], NORMAL, 0.0)]);
    assert_eq!(
        file.error().to_string(),
        "bytes of a token that is found in text: 256 is above the limit of 255"
    );
    assert_eq!(file.error().class(), ErrorClass::Limit);
}
