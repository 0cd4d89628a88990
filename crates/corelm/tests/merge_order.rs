//! What merges first: texts by vocabularies of chance, of which each token and each text is merged as the definition says,
//! one pair after the other. The tokenizer finds frequent words without merging and cuts texts where nothing can merge,
//! which must not show.

#[path = "support/byte_letters.rs"]
mod byte_letters;
#[path = "support/vocab.rs"]
mod vocab;

use byte_letters::byte_letters;
use corelm::Token;
use corelm::tokenizer::{Pre, Tokenizer};
use std::collections::HashMap;
use vocab::{BYTE, File, NORMAL, Random, UNKNOWN, encode};

/// Merges neighbours until none do, those of the least priority first and of equal ones the leftmost.
fn merge<P: PartialOrd>(mut texts: Vec<String>, priority: impl Fn(&str, &str) -> Option<P>) -> Vec<String> {
    loop {
        let mut first: Option<(P, usize)> = None;
        for i in 1..texts.len() {
            if let Some(priority) = priority(&texts[i - 1], &texts[i])
                && first.as_ref().is_none_or(|first| priority < first.0)
            {
                first = Some((priority, i));
            }
        }
        let Some((_, i)) = first else { return texts };
        let right = texts.remove(i);
        texts[i - 1].push_str(&right);
    }
}

#[test]
fn merges_by_rank_are_those_of_the_definition() {
    let mut random = Random(1);
    for round in 0..300 {
        let letters = ["ab", "abc", "abcdefgh"][round % 3];
        // Tokens made of two others, most of which merge in the order of their making and some in any.
        let mut texts = byte_letters();
        let mut merges: Vec<(String, String)> = Vec::new();
        let mut parts: Vec<String> = letters.chars().map(String::from).collect();
        for _ in 0..random.below(60) {
            let pair = (parts[random.below(parts.len())].clone(), parts[random.below(parts.len())].clone());
            let whole = format!("{}{}", pair.0, pair.1);
            if whole.len() > 14 || merges.contains(&pair) {
                continue;
            }
            if !texts.contains(&whole) {
                texts.push(whole.clone());
                parts.push(whole);
            }
            merges.push(pair);
        }
        if round % 4 == 3 {
            random.shuffle(&mut merges);
        }
        let file = byte_level(&texts, &merges);

        let mut ranks: HashMap<(&str, &str), usize> = HashMap::new();
        for (rank, (left, right)) in merges.iter().enumerate() {
            ranks.insert((left, right), rank);
        }
        let want = |text: &str| -> Vec<Token> {
            let merged = merge(text.chars().map(String::from).collect(), |a, b| ranks.get(&(a, b)).copied());
            merged.iter().map(|text| texts.iter().position(|t| t == text).unwrap() as Token).collect()
        };
        file.with(|tokenizer| {
            // Every token's own text, and texts of chance: letters are one piece.
            let own = texts.iter().filter(|text| text.chars().all(|c| letters.contains(c))).cloned();
            let others = (0..300).map(|_| random.letters(letters, 14)).collect::<Vec<_>>();
            for text in own.chain(others) {
                assert_eq!(encode(tokenizer, &text), want(&text), "{text:?} by {merges:?}");
            }
        })
        .unwrap();
    }
}

#[test]
fn merges_by_score_are_those_of_the_definition() {
    let mut random = Random(2);
    for round in 0..300 {
        let letters = ["ab▁", "ab.▁", "abc.,é▁"][round % 3];
        let mut tokens: Vec<(String, i32, f32)> = vec![("<unk>".into(), UNKNOWN, 0.0)];
        tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), BYTE, 0.0)));
        let n_bytes = tokens.len();
        for _ in 0..random.below(60) {
            // Some scores are equal. Trained vocabularies have the better ones first.
            let most = 1 + random.below(6);
            let text = random.letters(letters, most);
            if tokens.iter().all(|token| token.0 != text) {
                tokens.push((text, NORMAL, -(random.below(40) as f32)));
            }
        }
        // Vocabularies of SentencePiece have runs of spaces that merge last, or nearly so; behind them stand spaces alone.
        if round % 4 < 2 {
            let worst = tokens.iter().map(|token| token.2).fold(0.0, f32::min);
            let (last, n) =
                ([worst / 2.0, worst, worst - 1.0, worst - 9.0][random.below(4)], random.below(12));
            tokens.retain(|token| !token.0.starts_with("▁▁") || random.below(9) == 0);
            for text in (2..2 + n).map(|n| "▁".repeat(n)) {
                if random.below(10) > 0 && tokens.iter().all(|token| token.0 != text) {
                    tokens.push((text, NORMAL, last - [0.0, 0.0, 0.0, 1.0][random.below(4)]));
                }
            }
        }
        if round % 2 == 0 {
            tokens[n_bytes..].sort_by(|a, b| b.2.total_cmp(&a.2));
        }
        // As they are trained: each token is worse than the one before, but for runs of spaces anywhere, which are worst.
        // Of some rounds one token is better than it should be.
        if round % 3 == 0 {
            random.shuffle(&mut tokens[n_bytes..]);
            for (token, better) in tokens[n_bytes..].iter_mut().zip(1..) {
                let is_run = token.0.starts_with("▁▁") && token.0.chars().all(|c| c == '▁');
                token.2 = if is_run { -1e9 } else { -(better as f32) };
            }
            if round % 2 == 1 && tokens.len() > n_bytes {
                let odd = n_bytes + random.below(tokens.len() - n_bytes);
                tokens[odd].2 += 3.0;
            }
        }
        // Every character has a token, most of them behind all others.
        for letter in letters.chars().map(String::from) {
            if tokens.iter().all(|token| token.0 != letter) {
                tokens.push((letter, NORMAL, -1000.0));
            }
        }
        let entries: Vec<(&[u8], i32, f32)> = tokens.iter().map(|t| (t.0.as_bytes(), t.1, t.2)).collect();
        let mut file = File::new("llama", &entries);
        let adds_space = round % 5 != 4;
        file.bool("tokenizer.ggml.add_space_prefix", adds_space);
        file.bool("tokenizer.ggml.add_bos_token", false);

        let ids: HashMap<&str, Token> =
            tokens.iter().zip(0..).map(|(token, id)| (&token.0[..], id)).collect();
        let score = |a: &str, b: &str| {
            let token = ids.get(&format!("{a}{b}")[..]).map(|&id| &tokens[id as usize])?;
            (token.1 == NORMAL).then_some(-token.2)
        };
        let want = |text: &str| -> Vec<Token> {
            let text = if adds_space { format!("▁{text}") } else { text.into() };
            let symbols = text.chars().map(|c| if c == ' ' { "▁".into() } else { String::from(c) });
            merge(symbols.collect(), score).iter().map(|text| ids[&text[..]]).collect()
        };
        file.with(|tokenizer| {
            let own = tokens[n_bytes..].iter().map(|token| token.0.replace('▁', " ")).collect::<Vec<_>>();
            let others = (0..300).map(|_| {
                let text = random.letters(letters, 20);
                let space = |c| if c == '▁' && random.below(4) > 0 { ' ' } else { c };
                text.chars().map(space).collect::<String>()
            });
            let others = others.collect::<Vec<_>>();
            for text in own.iter().chain(&others) {
                assert_eq!(encode(tokenizer, text), want(text), "{text:?} by {:?}", &tokens[n_bytes..]);
            }
        })
        .unwrap();
    }
}

/// The vocabulary and the merges of a byte-level file, as it writes them.
fn byte_level(texts: &[String], merges: &[(String, String)]) -> File {
    let tokens: Vec<(&[u8], i32, f32)> = texts.iter().map(|t| (t.as_bytes(), NORMAL, 0.0)).collect();
    let mut file = File::new("gpt2", &tokens);
    file.string("tokenizer.ggml.pre", b"gpt-2");
    let lines = merges.iter().flat_map(|(left, right)| {
        let line = format!("{left} {right}");
        [&(line.len() as u64).to_le_bytes()[..], line.as_bytes()].concat()
    });
    file.array("tokenizer.ggml.merges", 8, merges.len(), lines.collect());
    file
}

/// Large vocabularies take characters whole where their bytes merge by themselves, which must not show either.
#[test]
fn characters_are_merged_as_the_definition_says() {
    let letters = byte_letters();
    let written =
        |bytes: &[u8]| bytes.iter().map(|&byte| &letters[usize::from(byte)][..]).collect::<String>();
    // Letters of two and three bytes, and signs, which are pieces together with bytes that are no characters.
    let alphabets: [&[&[u8]]; 3] = [
        &[b" ", b"a", "а".as_bytes(), "р".as_bytes(), "о".as_bytes(), "с".as_bytes()],
        &[b" ", "あ".as_bytes(), "い".as_bytes(), "ま".as_bytes(), "а".as_bytes(), "é".as_bytes()],
        &[
            b"!",
            "×".as_bytes(),
            "÷".as_bytes(),
            "€".as_bytes(),
            "₯".as_bytes(),
            b"\x97",
            b"\xC3",
            b"\xE2\x82",
        ],
    ];
    let mut random = Random(11);
    let (mut n_steps, mut n_whole_steps) = (0.0, 0.0);
    for round in 0..150 {
        let alphabet = alphabets[round % 3];
        let mut texts = letters.clone();
        let mut merges: Vec<(String, String)> = Vec::new();
        let mut parts: Vec<String> = alphabet.concat().iter().map(|&byte| written(&[byte])).collect();
        for _ in 0..20 + random.below(60) {
            // Half of them within a character: of three bytes, of its first two or of its last two.
            let bytes = alphabet[random.below(alphabet.len())];
            let bytes = &bytes[random.below(bytes.len().div_ceil(2))..];
            let bytes = &bytes[..bytes.len() - random.below(bytes.len().div_ceil(2))];
            let (left, right) = bytes.split_at((1 + random.below(2)).min(bytes.len()));
            let of_char = (written(left), written(right));
            let others = (random.choose(&parts).clone(), random.choose(&parts).clone());
            let pair = if random.below(2) == 0 { of_char } else { others };
            let whole = format!("{}{}", pair.0, pair.1);
            let has_parts = texts.contains(&pair.0) && texts.contains(&pair.1);
            if !has_parts || whole.chars().count() > 8 || merges.contains(&pair) {
                continue;
            }
            if !texts.contains(&whole) {
                texts.push(whole.clone());
                parts.push(whole);
            }
            merges.push(pair);
        }
        if round % 2 == 1 {
            random.shuffle(&mut merges);
        }
        let small = byte_level(&texts, &merges);
        texts.extend((texts.len()..1 << 14).map(|i| format!("filler{i}")));
        let large = byte_level(&texts, &merges);

        let ranks: HashMap<(&str, &str), usize> =
            merges.iter().zip(0..).map(|((left, right), rank)| ((&left[..], &right[..]), rank)).collect();
        let ids: HashMap<&str, Token> = texts.iter().zip(0..).map(|(text, id)| (&text[..], id)).collect();
        let pre = Pre::by_name(b"gpt-2").unwrap();
        let want = |text: &[u8]| -> Vec<Token> {
            let merged = pre.pieces(text).flat_map(|piece| {
                let bytes = piece.iter().map(|&byte| written(&[byte]));
                merge(bytes.collect(), |a, b| ranks.get(&(a, b)).copied())
            });
            merged.map(|text| ids[&text[..]]).collect()
        };
        let samples: Vec<Vec<u8>> = (0..300).map(|_| random.parts(alphabet, 12)).collect();
        let check = |file: &File| {
            let check_all = |tokenizer: &Tokenizer<'_, '_>| {
                let mut n_steps = 0.0;
                for text in samples.iter().filter(|text| !text.is_empty()) {
                    assert_eq!(encode(tokenizer, text), want(text), "{text:x?} by {merges:?}");
                    n_steps += steps(tokenizer, text);
                }
                n_steps
            };
            file.with(check_all).unwrap()
        };
        n_steps += check(&small);
        n_whole_steps += check(&large);
    }
    assert!(n_whole_steps < 0.8 * n_steps, "{n_whole_steps} of {n_steps} steps");
}

/// Steps for a text alone.
fn steps(tokenizer: &Tokenizer<'_, '_>, text: impl AsRef<[u8]>) -> f64 {
    let text = text.as_ref();
    vocab::steps_per_byte(tokenizer, text, text.len()) * text.len() as f64
}

/// Nearly all tokens of a trained vocabulary are what their own text becomes: these are found without merging.
#[test]
fn tokens_that_their_text_becomes_are_not_merged() {
    let merges = ["a b", "ab c", "d e", "abc d", "abc de", "b c", "c d", "bc de"];
    let texts: Vec<String> =
        byte_letters().into_iter().chain(merges.iter().map(|merge| merge.replace(' ', ""))).collect();
    let tokens: Vec<(&[u8], i32, f32)> = texts.iter().map(|text| (text.as_bytes(), NORMAL, 0.0)).collect();
    let mut file = File::new("gpt2", &tokens);
    file.string("tokenizer.ggml.pre", b"gpt-2");
    let lines =
        merges.iter().flat_map(|line| [&(line.len() as u64).to_le_bytes()[..], line.as_bytes()].concat());
    file.array("tokenizer.ggml.merges", 8, merges.len(), lines.collect());
    file.with(|tokenizer| {
        // All are, but one or another has no room in the table of words.
        let n_found = texts[256..].iter().filter(|text| steps(tokenizer, text) == 0.0).count();
        assert!(n_found >= 6, "{n_found} of {}", merges.len());
        assert!(steps(tokenizer, "cde") > 0.0);
    })
    .unwrap();

    let tokens = ["▁", "a", "b", "c", "d", "ab", "abc", "▁abc", "cd", "▁abcd", "▁d", "▁dab"];
    let tokens: Vec<(&[u8], i32, f32)> =
        (0..).zip(tokens).map(|(i, text)| (text.as_bytes(), NORMAL, -(i as f32))).collect();
    let mut file = File::new("llama", &tokens);
    file.bool("tokenizer.ggml.add_bos_token", false);
    file.with(|tokenizer| {
        for text in ["abc", "abcd", "d", "dab", "d abc"] {
            assert_eq!(steps(tokenizer, text), 0.0, "{text}");
        }
        assert!(steps(tokenizer, "ab") > 0.0);
    })
    .unwrap();

    // The parts of ▁out that are there first, ▁o and ut, are not those that it comes of; and spaces merge when nothing else
    // does.
    let tokens = ["▁▁", "ou", "▁o", "ut", "out", "▁out", "▁▁▁▁", "▁▁▁", "▁", "o", "u", "t"];
    let score = |i: u8, text: &str| if text.starts_with("▁▁") { -1e9 } else { -f32::from(i) };
    let tokens: Vec<(&[u8], i32, f32)> =
        (0..).zip(tokens).map(|(i, text)| (text.as_bytes(), NORMAL, score(i, text))).collect();
    let mut file = File::new("llama", &tokens);
    file.bool("tokenizer.ggml.add_bos_token", false);
    file.with(|tokenizer| {
        for text in ["out", "out out", "out    out", "out    "] {
            assert_eq!(steps(tokenizer, text), 0.0, "{text}");
        }
        // A word that does not take the last of the spaces.
        assert!(steps(tokenizer, "out   ou") > 0.0);
        assert_eq!(encode(tokenizer, "out   ou"), [5, 7, 1]);
    })
    .unwrap();
    // Of equal scores the leftmost merges first.
    for (of_run, want) in [(-1.0, [2, 4, 0, 3]), (-2.0, [2, 4, 2, 1])] {
        let tokens = [("▁▁", of_run), ("▁a", -1.0), ("▁", -9.0), ("a", -9.0), ("b", -9.0)];
        let tokens: Vec<(&[u8], i32, f32)> =
            tokens.iter().map(|(text, score)| (text.as_bytes(), NORMAL, *score)).collect();
        let mut file = File::new("llama", &tokens);
        file.bool("tokenizer.ggml.add_bos_token", false);
        file.with(|tokenizer| assert_eq!(encode(tokenizer, "b  a"), want)).unwrap();
    }
}
