//! Unigram models: golden files, a plain search over random vocabularies, and hostile files.

#[path = "support/vocab.rs"]
mod vocab;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::error::{ErrorClass, ModelError, TokenizeError, VocabFault};
use corelm::gguf::Image;
use corelm::tokenizer::{Specials, Tokenizer};
use std::mem::MaybeUninit;
use vocab::{BYTE, CONTROL, File, NORMAL, Random, UNKNOWN, UNUSED, USER_DEFINED};
use vocab::{charsmap, decode, encode, pieces, try_encode};

const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
const MERGE_SPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
/// Not valid UTF-8 as a whole, in as many ways.
const PARTS: [&[u8]; 20] = [
    b"a",
    b"b",
    b"c",
    b" ",
    b"  ",
    "▁".as_bytes(),
    b"\xE2",
    b"\x96",
    b"\x81",
    b"\xC3",
    "é".as_bytes(),
    b"\xA9",
    "字".as_bytes(),
    "\u{FFFD}".as_bytes(),
    b"\xEF\xBF",
    "😀".as_bytes(),
    b"\xF0\x9F",
    b"\xFF",
    b"\0",
    b"\xC0\xAE",
];

/// `<pad>`, `</s>`, `<unk>`, then texts with their scores.
fn made(texts: &[(&str, f32)]) -> File {
    let mut tokens: Vec<(&[u8], i32, f32)> =
        vec![(b"<pad>", CONTROL, 0.0), (b"</s>", CONTROL, 0.0), (b"<unk>", UNKNOWN, 0.0)];
    tokens.extend(texts.iter().map(|&(text, score)| (text.as_bytes(), NORMAL, score)));
    File::new("t5", &tokens)
}

#[test]
fn golden_texts_are_exact() {
    assert_eq!(vocab::check_golden("unigram", true), 90);
    assert_eq!(vocab::check_golden("unigram-keep", true), 90);
    // The reference leaves the space that stands before text behind a user-defined token.
    assert_eq!(vocab::check_golden("unigram-user", false), 90);
}

#[test]
fn the_greatest_sum_wins_and_of_equal_ones_the_first_found() {
    made(&[("a", -1.0), ("b", -1.0), ("ab", -3.0), ("abc", -4.0), ("c", -1.5), ("bc", -3.0)])
        .with(|t| {
            assert_eq!(pieces(t, "ab"), ["a", "b"]);
            assert_eq!(pieces(t, "abc"), ["a", "b", "c"]);
            assert_eq!((t.bos(), t.eos(), t.add_bos(), t.add_eos()), (None, Some(1), false, true));
            assert!(t.is_eog(1));
        })
        .unwrap();
    // -2 - 1 and -1 - 2: the way through "a" is offered first.
    made(&[("a", -2.0), ("bb", -1.0), ("ab", -1.0), ("b", -2.0)])
        .with(|t| assert_eq!(pieces(t, "abb"), ["a", "bb"]))
        .unwrap();
    // In f32 both sums would be the same, and "bc" was found first.
    made(&[("a", -16_777_216.0), ("b", -0.25), ("c", -0.25), ("bc", -0.75)])
        .with(|t| assert_eq!(pieces(t, "abc"), ["a", "b", "c"]))
        .unwrap();
}

#[test]
fn spaces_are_marked_added_and_merged_as_the_file_says() {
    let mut file = made(&[("▁", -1.0), ("▁a", -1.0), ("a", -1.0)]);
    let split = |file: &File, text: &str| file.with(|t| pieces(t, text)).unwrap();
    assert_eq!(split(&file, " a  a"), [" a", " ", " a"]);
    file.bool(ADD_SPACE, true);
    assert_eq!(split(&file, "a  a"), [" a", " ", " a"]);
    assert_eq!(split(&file, " a"), [" ", " a"]);
    assert_eq!(split(&file, "  "), [" ", " "], "no space before nothing but spaces");
    file.with(|t| assert_eq!(decode(t, &encode(t, "a  a ")), b"a  a ")).unwrap();
    file.bool(MERGE_SPACES, true);
    assert_eq!(split(&file, "  a  a "), [" a", " a"]);
    assert_eq!(split(&file, "  "), [""; 0]);
    file.bool(ADD_SPACE, false);
    assert_eq!(split(&file, "a"), [" a"], "merged spaces stand before every word, the first one, too");
}

#[test]
fn text_without_tokens_is_one_unknown_token_or_an_error() {
    let mut file = made(&[("a", -1.0), ("aa", -30.0)]);
    file.with(|t| {
        assert_eq!(encode(t, "xyz字aéa\u{301}"), [2, 3, 2, 3, 2]);
        assert_eq!(encode(t, b"\xff\xc3a"), [2, 3]);
        // An overlong form passes as a character; its bytes are no dot.
        assert_eq!(encode(t, b"\xc0\xae"), [2]);
        assert_eq!(encode(t, "a<unk>"), [3, 2]);
        assert_eq!(try_encode(t, b"<unk>x", Specials::All), Ok(vec![2, 2]), "fragments do not merge");
    })
    .unwrap();
    // Two unknown characters cost 2 * (1 + 10); the score of an unused token is none of the least.
    for (score, ids) in [(-21.5, [2]), (-22.5, [1])] {
        let tokens: [(&[u8], i32, f32); 3] =
            [(b"a", NORMAL, -1.0), (b"?", UNKNOWN, 0.0), (b"xy", UNUSED, score)];
        let mut file = File::new("t5", &tokens);
        file.u32("tokenizer.ggml.unknown_token_id", 1);
        file.with(|t| assert_eq!(encode(t, "xy"), ids)).unwrap();
    }
    let none = |byte| Err(TokenizeError::NoToken { byte });
    file.u32("tokenizer.ggml.unknown_token_id", 0); // a control token, which text never becomes
    file.with(|t| assert_eq!(try_encode(t, "aé".as_bytes(), Specials::Never), none(0xC3))).unwrap();
    File::new("t5", &[(b"a", NORMAL, 0.0)])
        .with(|t| assert_eq!(try_encode(t, b"ab", Specials::Never), none(b'b')))
        .unwrap();
}

#[test]
fn kinds_of_tokens_count_as_in_the_reference() {
    let tokens: [(&[u8], i32, f32); 8] = [
        (b"<s>", CONTROL, -1.0),
        (b"?", UNKNOWN, 0.0),
        (b"<u>", USER_DEFINED, -1000.0),
        (b"b", UNUSED, -1.0),
        (b"<0x63>", BYTE, 0.0),
        (b"<", NORMAL, -1.0),
        (b"s", NORMAL, -2.0),
        (b">", NORMAL, -3.0),
    ];
    let mut file = File::new("t5", &tokens);
    file.u32("tokenizer.ggml.unknown_token_id", 1);
    file.with(|t| {
        assert_eq!(encode(t, "<s>b<u>c?"), [5, 6, 7, 3, 2, 1], "no byte, no control, no name of the unknown");
        assert_eq!(try_encode(t, b"<s>", Specials::All), Ok(vec![0]));
        assert_eq!(decode(t, &[4, 2, 1]), b"c<u>?");
    })
    .unwrap();
    // Made by the map, and so not found before: its score counts as 0, not as -1000.
    file.charsmap(&charsmap(&[(b"q", b"<u>")]));
    file.with(|t| assert_eq!(encode(t, "qs"), [2, 6])).unwrap();
}

#[test]
fn the_map_replaces_the_longest_key() {
    let mut file = made(&[("x", -1.0), ("y", -1.0), ("▁", -1.0), ("ab", -1.0), ("é", -1.0)]);
    let map = charsmap(&[
        ("ﬁ".as_bytes(), b"xy"),
        ("e\u{301}".as_bytes(), "é".as_bytes()),
        (b"\t", b" "),
        (b"\n", b""),
        (b"q", b" x  y "),
        (b"qq", b"ab"),
        (b"\xff", b"x"),
    ]);
    file.charsmap(&map);
    file.with(|t| {
        assert_eq!(pieces(t, "ﬁe\u{301}e"), ["x", "y", "é", "<unk>"]);
        assert_eq!(pieces(t, "x\ty\n\ny"), ["x", " ", "y", "y"]);
        assert_eq!(pieces(t, "qqqx"), ["ab", " ", "x", " ", " ", "y", " ", "x"]);
        assert_eq!(pieces(t, b"\xff\0"), ["x", "<unk>"]);
    })
    .unwrap();
    file.bool(MERGE_SPACES, true);
    file.with(|t| assert_eq!(pieces(t, "qx"), [" ", "x", " ", "y", " ", "x"])).unwrap();
    // Bytes by the other sign, and a map without units, which maps nothing.
    let signed = map.clone();
    file.array(CHARSMAP, 1, signed.len(), signed);
    file.with(|t| assert_eq!(pieces(t, "qq"), [" ", "ab"])).unwrap();
    file.charsmap(b"\0\0\0\0\0");
    file.with(|t| assert_eq!(pieces(t, "ab"), [" ", "ab"])).unwrap();
}

/// The reference passes not only user-defined tokens as they are, but every beginning of one.
#[test]
fn beginnings_of_user_defined_tokens_are_not_normalized() {
    let tokens: [(&[u8], i32, f32); 6] = [
        (b"?", UNKNOWN, 0.0),
        ("ﬁx".as_bytes(), USER_DEFINED, 0.0),
        ("ﬁ".as_bytes(), NORMAL, -1.0),
        (b"f", NORMAL, -1.0),
        ("\u{FFFD}".as_bytes(), NORMAL, -1.0),
        (b"\xEF\xAC", NORMAL, -1.0),
    ];
    let mut file = File::new("t5", &tokens);
    file.u32("tokenizer.ggml.unknown_token_id", 0);
    file.charsmap(&charsmap(&[("ﬁ".as_bytes(), b"f"), ("ﬂ".as_bytes(), b"f")]));
    file.with(|t| {
        assert_eq!(encode(t, "ﬁxﬁ"), [1, 2]);
        // The first two bytes of U+FB02 are those of U+FB01; the third is then no character.
        assert_eq!(encode(t, "ﬂ"), [0], "EF AC EF, BF, BD");
    })
    .unwrap();
}

/// Scores whose sums are exact, so that ties are frequent.
fn random_vocabulary(random: &mut Random) -> Vec<(Vec<u8>, i32, f32)> {
    let mut tokens = vec![(b"<unk>".to_vec(), UNKNOWN, 0.0)];
    for _ in 0..random.below(80) + 1 {
        let text = random.parts(&PARTS, 4);
        if !text.is_empty() && tokens.iter().all(|token| token.0 != text) {
            tokens.push((text, *random.choose(&[NORMAL, NORMAL, UNUSED]), random.below(64) as f32 * -0.25));
        }
    }
    tokens
}

/// The definition, with all of it in memory.
fn by_definition(tokens: &[(Vec<u8>, i32, f32)], text: &[u8], adds: bool, merges: bool) -> Vec<Token> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let len = match first {
            0..0x80 => 1,
            0xC0..0xE0 => 2,
            0xE0..0xF0 => 3,
            0xF0..0xF8 => 4,
            _ => 9,
        };
        let is_char = rest.len() >= len && rest[1..len].iter().all(|byte| (0x80..0xC0).contains(byte));
        parts.push(if is_char { &rest[..len] } else { "\u{FFFD}".as_bytes() });
        rest = &rest[if is_char { len } else { 1 }..];
    }
    let mut normalized: Vec<u8> = Vec::new();
    let (mut in_word, mut has_begun) = (false, false);
    for part in parts {
        if part == b" " {
            in_word = false;
            if !merges {
                normalized.extend("▁".as_bytes());
            }
            continue;
        }
        if !in_word && (merges || (adds && !has_begun)) {
            normalized.extend("▁".as_bytes());
            has_begun = true;
        }
        in_word = true;
        normalized.extend(part);
    }

    let normal = tokens.iter().filter(|token| token.1 == NORMAL).map(|token| token.2);
    let unknown_score = f64::from(normal.fold(f32::MAX, f32::min) - 10.0);
    let n = normalized.len();
    let mut best = vec![(f64::MIN, 0, 0); n + 1]; // score, token, where it begins
    best[0].0 = 0.0;
    let mut at = 0;
    while at < n {
        let len =
            [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4][usize::from(normalized[at] >> 4)].min(n - at);
        let mut offers: Vec<(usize, f64, usize)> = tokens
            .iter()
            .enumerate()
            .filter(|(id, token)| *id > 0 && normalized[at..].starts_with(&token.0))
            .map(|(id, token)| (token.0.len(), f64::from(token.2), id))
            .collect();
        if offers.iter().all(|offer| offer.0 != len) {
            offers.push((len, unknown_score, 0));
        }
        for (len, score, id) in offers {
            if best[at].0 + score > best[at + len].0 {
                best[at + len] = (best[at].0 + score, id, at);
            }
        }
        at += len;
    }
    let mut ids: Vec<Token> = Vec::new();
    while at > 0 {
        let id = best[at].1 as Token;
        if !(id == 0 && ids.last() == Some(&0)) {
            ids.push(id);
        }
        at = best[at].2;
    }
    ids.reverse();
    ids
}

#[test]
fn random_vocabularies_agree_with_the_definition() {
    let mut random = Random(3);
    let mut n_tokens = 0;
    for _ in 0..400 {
        let tokens = random_vocabulary(&mut random);
        let (adds, merges) = (random.below(2) == 0, random.below(2) == 0);
        let borrowed: Vec<(&[u8], i32, f32)> = tokens.iter().map(|t| (&t.0[..], t.1, t.2)).collect();
        let mut file = File::new("t5", &borrowed);
        file.u32("tokenizer.ggml.unknown_token_id", 0);
        file.bool(ADD_SPACE, adds);
        file.bool(MERGE_SPACES, merges);
        file.with(|t| {
            for _ in 0..50 {
                let text = random.parts(&PARTS, 30);
                let ids = encode(t, &text);
                assert_eq!(ids, by_definition(&tokens, &text, adds, merges), "{text:x?} of {tokens:x?}");
                n_tokens += ids.len();
            }
        })
        .unwrap();
    }
    assert!(n_tokens > 100_000, "{n_tokens}");
}

/// Memory for a text of as many bytes is enough whatever the text, also where it grows most.
#[test]
fn planned_memory_is_enough_for_texts_that_grow() {
    let long = "ab c".repeat(60);
    let mut file = made(&[("a", -1.0), ("b", -1.0), ("▁", -1.0)]);
    let per_byte = |file: &File| {
        file.with(|t| {
            let bytes = |n| t.scratch_layout(n, Layout::new()).unwrap().used() as f64;
            for part in ["ﷺ", "q", "½", "é", " ", "a b", "\u{301}"] {
                for n in [1, 2, 7, 1000] {
                    encode(t, part.repeat(n)); // in exactly what is asked for
                }
            }
            for part in [&b"\xff"[..], b"\xc3", b"\xe2\x96", b"\xe2", b"\xf0\x9f"] {
                encode(t, part.repeat(1000));
            }
            (bytes(100_000) - bytes(0)) / 1e5
        })
        .unwrap()
        .round()
    };
    assert_eq!(per_byte(&file), 6.0);
    file.charsmap(&charsmap(&[("ﷺ".as_bytes(), "abcdef abcdef abcd".as_bytes()), ("½".as_bytes(), b"1/2")]));
    assert_eq!(per_byte(&file), 26.0, "18 characters of 3 bytes");
    file.charsmap(&charsmap(&[("½".as_bytes(), "éééé éé".as_bytes())]));
    assert_eq!(per_byte(&file), 18.0, "7 characters of 2 bytes");
    file.charsmap(&charsmap(&[(b"q", long.as_bytes())]));
    assert_eq!(per_byte(&file), 962.0, "240 characters of a byte");
    file.charsmap(&charsmap(&[("½".as_bytes(), b"\xff\x80 ")]));
    assert_eq!(per_byte(&file), 14.0, "what is not UTF-8 counts in bytes");
    file.charsmap(&charsmap(&[(b"q", [b"x".repeat(256)].concat().as_slice())]));
    let error = file.error();
    assert_eq!(error.class(), ErrorClass::Limit);
    assert!(error.to_string().starts_with("bytes of a replacement in the normalizer's map: 256 is above"));
    // User-defined tokens can cut characters.
    let mut file = File::new("t5", &[(b"?", UNKNOWN, 0.0), ("é@".as_bytes(), USER_DEFINED, 0.0)]);
    file.u32("tokenizer.ggml.unknown_token_id", 0);
    assert_eq!(per_byte(&file), 14.0);
}

#[test]
fn scratch_of_another_model_is_an_error() {
    let rwkv = File::new("rwkv", &[(b"a", NORMAL, 0.0)]);
    made(&[("a", -1.0)])
        .with(|t| {
            let mut region = vec![MaybeUninit::uninit(); 1 << 16];
            rwkv.with(|other| {
                let mut scratch = other.scratch(100, &mut Arena::new(&mut region)).unwrap();
                let answer = t.encode(b"aaa", Specials::Never, &mut scratch, &mut [0; 9]);
                assert!(matches!(answer, Err(TokenizeError::ScratchFull { need: 3, .. })), "{answer:?}");
            })
            .unwrap();
            let mut scratch = t.scratch(100, &mut Arena::new(&mut region)).unwrap();
            let mut ids = [0; 9];
            assert_eq!(t.encode(b"aaa", Specials::Never, &mut scratch, &mut ids), Ok(3));
            drop(scratch);
            let need = t.scratch_layout(100, Layout::new()).unwrap().bytes();
            assert!(t.scratch(100, &mut Arena::new(&mut region[..need - 64])).is_err());
        })
        .unwrap();
}

#[test]
fn inconsistent_vocabularies_are_refused() {
    let bad = |fault, index| ModelError::BadVocab { fault, index };
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(made(&[("a", -1.0), ("b", odd)]).error(), bad(VocabFault::Score, 4));
    }
    let mut file = made(&[("a", -1.0)]);
    file.array("tokenizer.ggml.scores", 6, 3, vec![0; 12]);
    assert_eq!(file.error(), bad(VocabFault::ArrayLength, 3));
    file.remove("tokenizer.ggml.scores");
    assert_eq!(file.error().to_string(), "metadata key tokenizer.ggml.scores is missing");
    // Scores as large as they get, of either sign, add up to nothing odd.
    made(&[("a", f32::MAX), ("b", f32::MIN)])
        .with(|t| assert_eq!(encode(t, "aaabbbx"), [3, 3, 3, 4, 4, 4, 2]))
        .unwrap();

    let mut file = made(&[("a", -1.0)]);
    file.string(CHARSMAP, b"text");
    assert_eq!(file.error(), ModelError::WrongType { key: CHARSMAP, found: 8 });
    let base = file.clone();
    let damaged = |bytes: &[u8]| {
        let mut file = base.clone();
        file.charsmap(bytes);
        let error = file.error();
        assert_eq!(error.class(), ErrorClass::Vocab);
        assert!(error.to_string().contains(CHARSMAP), "{error}");
    };
    for bytes in [&b""[..], b"\0\0\0", b"\0\0\0\0", b"\x01\0\0\0\0", b"\xff\xff\xff\xff\0", b"\0\0\0\0x"] {
        damaged(bytes);
    }
    let map = charsmap(&[(b"ab", b"x")]);
    for len in 0..map.len() {
        damaged(&map[..len]);
    }
    // The root's children outside, those of "a" as well, and a replacement behind the last one.
    for (unit, changed) in [(0, 4096 << 10), (256 + 97, 97 | 4096 << 10), (768 + 98, 1 << 31 | 2)] {
        let mut map = map.clone();
        let unit = &mut map[4 + 4 * unit..][..4];
        assert_ne!(unit, [0; 4]);
        unit.copy_from_slice(&u32::to_le_bytes(changed));
        damaged(&map);
    }
    file.charsmap(&map);
    file.with(|t| assert_eq!(encode(t, "aab"), [3, 2])).unwrap();
}

/// A node whose children are the node itself: a lookup ends, and so does the work.
#[test]
fn a_map_that_goes_around_in_circles_is_harmless() {
    let mut units = vec![0u32; 512];
    units[0] = 256 << 10;
    for byte in 1..256 {
        units[256 + byte] = byte as u32 | (byte as u32) << 10; // back to the place of its own parent's children
    }
    let map: Vec<u8> = [2048u32].into_iter().chain(units).flat_map(u32::to_le_bytes).chain([0]).collect();
    let mut file = made(&[("a", -1.0)]);
    file.charsmap(&map);
    file.with(|t| assert_eq!(encode(t, vec![b'a'; 100_000]).len(), 100_000)).unwrap();
}

#[test]
fn changed_bytes_are_refused_or_safe() {
    for name in ["unigram", "unigram-keep", "unigram-user"] {
        let (n_loaded, n_changes) = vocab::check_changed_bytes(name);
        assert!((n_changes / 10..n_changes).contains(&n_loaded), "{name}: {n_loaded} of {n_changes}");
    }
}

/// Changes a byte or a few of a real map: the file is refused, or the map does something.
#[test]
fn changed_maps_are_refused_or_safe() {
    let file = vocab::golden_file("unigram");
    let image = Image::parse(&file).unwrap();
    let map = image.get(CHARSMAP).unwrap().to_array(CHARSMAP, corelm::gguf::ValueType::U8).unwrap().bytes();
    let at = file.windows(map.len()).position(|window| window == map).unwrap();
    let (mut random, mut n_loaded) = (Random(4), 0);
    let text = "ＡＢＣ ﬁﬂﬃ ½ ㌀㎏ ﷺ é e\u{301} 字\u{3000}\u{200b}ﾊﾟ".repeat(3);
    for _ in 0..20_000 {
        let mut file = file.clone();
        for _ in 0..random.below(4) + 1 {
            file[at + random.below(map.len())] = random.below(256) as u8;
        }
        let image = Image::parse(&file).unwrap();
        let mut region =
            vec![MaybeUninit::uninit(); Tokenizer::layout(&image, Layout::new()).unwrap().bytes()];
        let Ok(t) = Tokenizer::new(&image, &mut Arena::new(&mut region)) else { continue };
        n_loaded += 1;
        assert!(encode(&t, &text).iter().all(|&id| (id as usize) < t.vocab_size()));
    }
    assert!((1000..19_000).contains(&n_loaded), "{n_loaded}");
}

#[test]
fn no_text_takes_more_than_its_longest_tokens() {
    for name in ["unigram", "unigram-keep", "unigram-user"] {
        vocab::with_tokenizer(&vocab::golden_file(name), |t| vocab::check_linear(t, 20.0)).unwrap();
    }
    // Whatever the vocabulary: here every letter begins 255 tokens.
    let texts: Vec<String> = (1..256).map(|len| "a".repeat(len)).collect();
    let tokens: Vec<(&str, f32)> = texts.iter().map(|text| (&text[..], -1.0)).collect();
    made(&tokens)
        .with(|t| {
            let text = vec![b'a'; 10_000];
            assert_eq!(encode(t, &text).len(), 40);
            assert!(vocab::steps_per_byte(t, &text, 10_000) <= 255.0);
        })
        .unwrap();
    let error = made(&[(&"a".repeat(256), -1.0)]).error();
    assert_eq!(error.to_string(), "bytes of a token that is found in text: 256 is above the limit of 255");
}
