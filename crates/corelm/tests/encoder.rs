//! Texts that arrive in parts: their tokens are those of the whole, wherever parts end and however few are taken at once.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/vocab.rs"]
mod vocab;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::error::TokenizeError;
use corelm::tokenizer::{Encoded, Encoder, Specials, Tokenizer};
use std::mem::MaybeUninit;
use vocab::{CONTROL, File, NORMAL, Random, try_encode};

/// Gives a text to an encoder in parts of up to `most_bytes`, takes up to `most_tokens` at once, and says how many bytes
/// were held at most.
fn encode_in_parts(
    t: &Tokenizer<'_, '_>,
    text: &[u8],
    specials: Specials<'_>,
    random: &mut Random,
    (most_bytes, most_tokens): (usize, usize),
) -> (Vec<Token>, usize) {
    let layout = t.scratch_layout(text.len(), Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut scratch = t.scratch(text.len(), &mut Arena::new(&mut region)).unwrap();
    let mut encoder = Encoder::new(t, specials);
    let (mut begin, mut end, mut most_held) = (0, 0, 0);
    let (mut tokens, mut out) = (Vec::new(), vec![0; 64]);
    loop {
        let is_end = end == text.len();
        let room = 1 + random.below(most_tokens);
        let done = match encoder.encode(&text[begin..end], is_end, &mut scratch, &mut out[..room]) {
            Err(TokenizeError::OutputFull { need, have }) => {
                assert!(have == room && need > have);
                out.resize(out.len().max(need), 0);
                encoder.encode(&text[begin..end], is_end, &mut scratch, &mut out[..need]).unwrap()
            }
            done => done.unwrap(),
        };
        tokens.extend_from_slice(&out[..done.n_tokens]);
        begin += done.n_bytes;
        most_held = most_held.max(end - begin);
        if done == Encoded::default() {
            if is_end {
                return (tokens, most_held);
            }
            end = text.len().min(end + 1 + random.below(most_bytes));
        }
    }
}

fn check(t: &Tokenizer<'_, '_>, text: &[u8], specials: Specials<'_>, random: &mut Random) {
    let want = try_encode(t, text, specials).unwrap();
    for most in [(1, 1), (3, 4), (20, 2), (64, 64)] {
        let (tokens, _) = encode_in_parts(t, text, specials, random, most);
        assert_eq!(tokens, want, "{most:?} {specials:?} {:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn parts_have_the_tokens_of_the_whole() {
    let Some(shared) = fixtures::shared() else { return };
    let mut random = Random(7);
    for name in ["gpt-2", "llama-bpe", "qwen2", "starcoder", "llama-spm", "phi-3", "bert-bge"] {
        let path = shared.join(format!("tokenizers/ggml-vocab-{name}.gguf"));
        let cases = fixtures::cases(&path);
        vocab::with_tokenizer(&std::fs::read(&path).unwrap(), |t| {
            let names = [t.bos(), t.eos()].map(|token| {
                let token = token.unwrap_or_default();
                t.piece(token).unwrap().collect::<Vec<_>>()
            });
            let others: [&[u8]; 6] = [b"<|user|>", b"<|end|>", b"  \n", b"<", b"|end|", &names[0]];
            for (text, _) in &cases {
                check(t, text, Specials::Never, &mut random);
                // And with control tokens in it.
                let (front, back) = text.split_at(random.below(text.len() + 1));
                let text =
                    [front, &names[1], others[random.below(6)], others[random.below(6)], back].concat();
                check(t, &text, Specials::All, &mut random);
                check(t, &text, Specials::Never, &mut random);
            }
        })
        .unwrap();
    }
}

#[test]
fn parts_of_golden_texts_have_the_tokens_of_the_whole() {
    let mut random = Random(8);
    for name in ["word-piece", "unigram", "unigram-keep", "unigram-user", "rwkv"] {
        vocab::with_tokenizer(&vocab::golden_file(name), |t| {
            for case in vocab::golden_texts(name).iter().step_by(8) {
                check(t, &case.text, Specials::Never, &mut random);
                check(t, &case.text, Specials::All, &mut random);
            }
        })
        .unwrap();
    }
}

#[test]
fn little_is_held_back() {
    let Some(shared) = fixtures::shared() else { return };
    let text =
        "The kernel's log, line 1042: \u{fc}ber 3.5 MB/s (it's fine).\n\tif (a != b) { c(); }\r\n".repeat(20);
    for (name, most) in
        [("gpt-2", 32), ("llama-bpe", 32), ("starcoder", 48), ("llama-spm", 12), ("bert-bge", 12)]
    {
        let path = shared.join(format!("tokenizers/ggml-vocab-{name}.gguf"));
        vocab::with_tokenizer(&std::fs::read(&path).unwrap(), |t| {
            let (_, held) = encode_in_parts(t, text.as_bytes(), Specials::Never, &mut Random(9), (1, 64));
            assert!(held <= most, "{name}: {held}");
        })
        .unwrap();
    }
}

/// Letters, and control tokens of which one is another's beginning.
fn made() -> File {
    let tokens: [(&[u8], i32, f32); 8] = [
        (b"a", NORMAL, 0.0),
        (b"b", NORMAL, 0.0),
        (b"c", NORMAL, 0.0),
        ("\u{120}".as_bytes(), NORMAL, 0.0),
        (b"abc", CONTROL, 0.0),
        (b"bca", CONTROL, 0.0),
        (b"ab", CONTROL, 0.0),
        (b"cabc", CONTROL, 0.0),
    ];
    let mut file = File::new("gpt2", &tokens);
    file.string("tokenizer.ggml.pre", b"gpt-2");
    file.array("tokenizer.ggml.merges", 8, 0, Vec::new());
    file
}

#[test]
fn control_tokens_that_overlap_are_those_of_the_whole() {
    let mut random = Random(10);
    let check_all = |file: &File, random: &mut Random| {
        file.with(|t| {
            for _ in 0..400 {
                let text = random.parts(&[b"a", b"b", b"c", b"ab", b"abc", b" "], 12);
                check(t, &text, Specials::All, random);
                check(t, &text, Specials::Only(&[4, 6]), random);
            }
        })
        .unwrap();
    };
    let mut file = made();
    check_all(&file, &mut random);
    file.string("general.name", b"Phi-3"); // takes the white space behind control tokens
    check_all(&file, &mut random);
}

#[test]
fn what_is_not_certain_waits_for_an_eighth_more() {
    made()
        .with(|t| {
            let mut region = vec![MaybeUninit::uninit(); 1 << 16];
            let mut scratch = t.scratch(200, &mut Arena::new(&mut region)).unwrap();
            let (text, mut out) = ([&[b'a'; 160][..], &b" a".repeat(20)].concat(), [0; 200]);
            let mut encoder = Encoder::new(t, Specials::Never);
            let mut encode = |len, is_end| encoder.encode(&text[..len], is_end, &mut scratch, &mut out);
            assert_eq!(encode(0, true), Ok(Encoded::default()));
            assert_eq!(encode(160, false), Ok(Encoded::default()));
            assert_eq!(encode(179, false), Ok(Encoded::default()), "though the long word has ended");
            assert!((160..180).contains(&encode(180, false).unwrap().n_bytes));
            assert_eq!(encode(160, true), Ok(Encoded { n_tokens: 160, n_bytes: 160 }));
            assert_eq!(encode(0, true), Ok(Encoded::default()));
            let layout = t.scratch_layout(3, Layout::new()).unwrap();
            let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
            let mut short = t.scratch(3, &mut Arena::new(&mut region)).unwrap();
            let full = Err(TokenizeError::ScratchFull { need: 4, have: 3 });
            assert_eq!(Encoder::new(t, Specials::Never).encode(&text[..4], false, &mut short, &mut []), full);
            let full = Err(TokenizeError::OutputFull { need: 3, have: 2 });
            assert_eq!(
                Encoder::new(t, Specials::Never).encode(&text[..3], true, &mut short, &mut [0; 2]),
                full
            );
        })
        .unwrap();
}
