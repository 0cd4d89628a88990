//! Tokenizers on vocabularies made here: what each kind of token does, and what is refused. Needs no files.

#[path = "support/byte_letters.rs"]
mod byte_letters;

use byte_letters::byte_letters;
use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::error::{ErrorClass, ModelError, TokenizeError, VocabFault};
use corelm::gguf::{Image, Value, writer::Writer};
use corelm::tokenizer::{Chunk, Controls, Pre, Prompt, Specials, Tokenizer, Utf8Stream};
use std::mem::MaybeUninit;

/// A vocabulary in the making.
#[derive(Clone, Default)]
struct Made {
    texts: Vec<Vec<u8>>,
    types: Option<Vec<i32>>,
    scores: Option<Vec<f32>>,
    merges: Option<Vec<Vec<u8>>>,
    keys: Vec<(&'static str, Value<'static>)>,
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

impl Made {
    fn add(&mut self, text: &str, ty: i32, score: f32) -> Token {
        self.texts.push(text.as_bytes().to_vec());
        self.types.get_or_insert_default().push(ty);
        self.scores.get_or_insert_default().push(score);
        self.texts.len() as Token - 1
    }

    fn key(&mut self, key: &'static str, value: Value<'static>) {
        self.keys.retain(|entry| entry.0 != key);
        self.keys.push((key, value));
    }

    /// Bytes as GPT-2 writes them, then a token for each merge.
    fn byte_level(pre: &'static str, merges: &[&str]) -> Self {
        let mut made = Self::default();
        for letter in byte_letters() {
            made.add(&letter, NORMAL, 0.0);
        }
        for merge in merges {
            made.add(&merge.replace(' ', ""), NORMAL, 0.0);
        }
        made.merges = Some(merges.iter().map(|merge| merge.as_bytes().to_vec()).collect());
        made.key("tokenizer.ggml.model", Value::String(b"gpt2"));
        made.key("tokenizer.ggml.pre", Value::String(pre.as_bytes()));
        made
    }

    /// `<unk>`, `<s>`, `</s>`, bytes, then texts of falling scores.
    fn sentence_piece(texts: &[&str]) -> Self {
        let mut made = Self::default();
        made.add("<unk>", UNKNOWN, 0.0);
        made.add("<s>", CONTROL, 0.0);
        made.add("</s>", CONTROL, 0.0);
        for byte in 0..=255 {
            made.add(&format!("<0x{byte:02X}>"), BYTE, 0.0);
        }
        for (i, text) in texts.iter().enumerate() {
            made.add(text, NORMAL, -(i as f32));
        }
        made.key("tokenizer.ggml.model", Value::String(b"llama"));
        made.key("tokenizer.ggml.bos_token_id", Value::U32(1));
        made.key("tokenizer.ggml.eos_token_id", Value::U32(2));
        made.key("tokenizer.ggml.unknown_token_id", Value::U32(0));
        made
    }

    fn file(&self) -> Vec<u8> {
        let mut file = vec![0; 1 << 20];
        let n_arrays = 1 + [self.types.is_some(), self.scores.is_some(), self.merges.is_some()]
            .iter()
            .filter(|x| **x)
            .count();
        let mut writer = Writer::new(&mut file[..], (self.keys.len() + n_arrays) as u64, 0).unwrap();
        for (key, value) in &self.keys {
            writer.value(key, *value).unwrap();
        }
        writer.strings("tokenizer.ggml.tokens", self.texts.iter()).unwrap();
        if let Some(types) = &self.types {
            writer.i32s("tokenizer.ggml.token_type", types.iter().copied()).unwrap();
        }
        if let Some(scores) = &self.scores {
            writer.f32s("tokenizer.ggml.scores", scores.iter().copied()).unwrap();
        }
        if let Some(merges) = &self.merges {
            writer.strings("tokenizer.ggml.merges", merges.iter()).unwrap();
        }
        let left = writer.finish().unwrap().len();
        file.truncate((1 << 20) - left);
        file
    }

    fn with<T>(&self, body: impl FnOnce(Loaded<'_, '_, '_>) -> T) -> Result<T, ModelError> {
        let file = self.file();
        let image = Image::parse(&file)?;
        let layout = Tokenizer::layout(&image, Layout::new())?;
        let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
        let mut arena = Arena::new(&mut region);
        let tokenizer = Tokenizer::new(&image, &mut arena)?;
        assert_eq!(arena.stats().used, layout.used());
        Ok(body(Loaded(&tokenizer)))
    }

    fn fault(&self) -> Option<(VocabFault, u64)> {
        match self.with(|_| ()) {
            Err(error @ ModelError::BadVocab { fault, index }) => {
                assert_eq!(error.class(), ErrorClass::Vocab);
                Some((fault, index))
            }
            Err(error) => panic!("{error}"),
            Ok(()) => None,
        }
    }
}

struct Loaded<'t, 'a, 'm>(&'t Tokenizer<'a, 'm>);

impl Loaded<'_, '_, '_> {
    fn try_encode(&self, text: &[u8], specials: Specials<'_>) -> Result<Vec<Token>, TokenizeError> {
        let mut region = vec![MaybeUninit::uninit(); 1 << 20];
        let mut scratch = self.0.scratch(text.len(), &mut Arena::new(&mut region)).unwrap();
        let mut ids = [0; 1024];
        self.0.encode(text, specials, &mut scratch, &mut ids).map(|n| ids[..n].to_vec())
    }

    fn encode(&self, text: &str, specials: Specials<'_>) -> Vec<Token> {
        self.try_encode(text.as_bytes(), specials).unwrap()
    }

    /// The tokens of a prompt in parts, by turns markup and content, of a template that is `markup`.
    fn prompt(&self, markup: &str, parts: &[&str]) -> Vec<Token> {
        let n = parts.concat().len();
        let layout = self.0.scratch_layout(n, Prompt::layout(n, Layout::new()).unwrap()).unwrap();
        let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
        let mut arena = Arena::new(&mut region);
        let mut prompt = Prompt::new(n, &mut arena).unwrap();
        let mut scratch = self.0.scratch(n, &mut arena).unwrap();
        assert_eq!(arena.stats().used, layout.used());
        prompt.begin(markup);
        for pair in parts.chunks(2) {
            prompt.markup(pair[0]).unwrap();
            prompt.content(pair.get(1).unwrap_or(&"").as_bytes()).unwrap();
        }
        let mut ids = [0; 256];
        let n = self.0.encode_prompt(&prompt, &mut scratch, &mut ids).unwrap();
        let again = self.0.encode_prompt(&prompt, &mut scratch, &mut ids[..n - 1]);
        assert_eq!(again, Err(TokenizeError::OutputFull { need: n, have: n - 1 }));
        ids[..n].to_vec()
    }

    /// The texts of the tokens, as they stand in the vocabulary's language.
    fn pieces(&self, text: &str, specials: Specials<'_>) -> Vec<String> {
        let ids = self.encode(text, specials);
        ids.iter()
            .map(|&id| String::from_utf8_lossy(&self.0.piece(id).unwrap().collect::<Vec<_>>()).into())
            .collect()
    }

    fn decode(&self, ids: &[Token], controls: Controls) -> String {
        let mut bytes = [0; 4096];
        let n = self.0.decode(ids, controls, &mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into()
    }
}

#[test]
fn merges_go_by_rank_and_then_from_the_left() {
    let made = Made::byte_level("gpt-2", &["b c", "a b", "ab c", "a a", "Ġ a"]);
    made.with(|t| {
        assert_eq!(t.pieces("abc", Specials::Never), ["a", "bc"]);
        assert_eq!(t.pieces("aaa aab", Specials::Never), ["aa", "a", " a", "ab"]);
        assert_eq!(t.encode(" a\n", Specials::Never), [260, u32::from(b'\n')]);
        assert_eq!(t.encode("", Specials::All), [0; 0]);
    })
    .unwrap();
}

#[test]
fn llama3_takes_whole_pieces_whatever_the_merges_say() {
    let mut made = Made::byte_level("llama-bpe", &["a b"]);
    let whole = made.add("xyz", NORMAL, 0.0);
    made.with(|t| assert_eq!(t.encode("xyz ab", Specials::Never), [whole, u32::from(b' '), 256])).unwrap();
    made.key("tokenizer.ggml.pre", Value::String(b"qwen2"));
    made.with(|t| assert_eq!(t.pieces("xyz", Specials::Never), ["x", "y", "z"])).unwrap();
}

#[test]
fn scores_and_spaces_of_sentence_piece() {
    let made = Made::sentence_piece(&["▁a", "bc", "ab", "▁", "a", "b", "c"]);
    made.with(|t| {
        assert_eq!(t.pieces("abc", Specials::Never), [" a", "bc"]);
        assert_eq!(t.pieces(" abc", Specials::Never), [" ", " a", "bc"]);
        assert_eq!(t.encode("é", Specials::Never), [262, 3 + 0xC3, 3 + 0xA9]);
        assert_eq!(t.decode(&t.encode("  ab é\0", Specials::Never), Controls::Show), "  ab é\0");
        // Every fragment gets its space, and loses it again.
        let ids = t.encode("a<s>a</s>", Specials::All);
        assert_eq!(ids, [259, 1, 259, 2]);
        assert_eq!(t.decode(&ids, Controls::Show), "a<s>a</s>");
        assert_eq!(t.decode(&ids, Controls::Hide), "aa");
        let mut going_on = t.0.decoder(Controls::Hide).continuing();
        assert_eq!(going_on.piece(259).unwrap().collect::<Vec<_>>(), b" a");
        assert!(t.0.add_bos() && !t.0.add_eos() && t.0.is_eog(2) && !t.0.is_eog(1));
    })
    .unwrap();
    let mut made = made;
    made.key("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    made.with(|t| {
        assert_eq!(t.pieces("abc", Specials::Never), ["a", "bc"]);
        assert_eq!(t.decode(&t.encode(" ab", Specials::Never), Controls::Show), " ab");
    })
    .unwrap();
}

#[test]
fn a_merge_across_a_space_is_found_where_the_vocabulary_has_one() {
    let made = Made::sentence_piece(&["a▁b", "▁b", "a", "b", "▁"]);
    made.with(|t| assert_eq!(t.pieces("aa b", Specials::Never), [" ", "a", "a b"])).unwrap();
    let made = Made::sentence_piece(&["a▁b", "a▁", "a", "b", "▁"]);
    made.with(|t| assert_eq!(t.pieces("aa b", Specials::Never), [" ", "a", "a b"])).unwrap();
}

#[test]
fn text_without_tokens_is_the_unknown_token_or_an_error() {
    let mut made = Made::sentence_piece(&["▁", "a"]);
    made.texts[3..259].iter_mut().enumerate().for_each(|(i, text)| *text = format!("<{i}>").into_bytes());
    made.with(|t| assert_eq!(t.encode("aé", Specials::Never), [259, 260, 0])).unwrap();
    made.key("tokenizer.ggml.unknown_token_id", Value::U32(2)); // a control token, which text never becomes
    made.with(|t| assert!(t.try_encode("é".as_bytes(), Specials::All).is_err())).unwrap();
    made.keys.retain(|key| key.0 != "tokenizer.ggml.unknown_token_id");
    made.with(|t| {
        assert_eq!(t.try_encode("é".as_bytes(), Specials::Never), Err(TokenizeError::NoToken { byte: 0xC3 }));
        assert_eq!(t.encode("a", Specials::Never), [259, 260]);
    })
    .unwrap();
}

#[test]
fn control_tokens_come_from_text_only_when_allowed() {
    let mut made = Made::byte_level("gpt-2", &["a b"]);
    let (end, user, tool) = (
        made.add("<|im_end|>", NORMAL, 0.0), // the name says control
        made.add("<|user|>", CONTROL, 0.0),
        made.add("<tool>", USER_DEFINED, 0.0),
    );
    made.with(|t| {
        let text = "ab<|im_end|><tool><|user|>";
        let spelled = t.encode("<|im_end|>", Specials::Never);
        assert_eq!(spelled.len(), 10);
        assert_eq!(t.encode(text, Specials::All), [256, end, tool, user]);
        let only = t.encode(text, Specials::Only(&[user]));
        assert_eq!(only, [&[256][..], &spelled, &[tool, user]].concat());
        let never = t.encode(text, Specials::Never);
        assert!(never.contains(&tool) && !never.contains(&user) && !never.contains(&end));
        assert_eq!(t.decode(&never, Controls::Hide), text);
        assert_eq!(t.decode(&[256, end, tool], Controls::Hide), "ab<tool>");
        assert!(t.0.is_eog(end) && !t.0.is_eog(user));
        assert_eq!(t.0.token(b"<|user|>"), Some(user));
    })
    .unwrap();
}

#[test]
fn what_is_filled_in_ends_by_key_or_by_text() {
    let mut made = Made::byte_level("gpt-2", &[]);
    let (pad, sep, other) = (
        made.add("<fim_pad>", NORMAL, 0.0),
        made.add("<|file_sep|>", CONTROL, 0.0),
        made.add("<x>", CONTROL, 0.0),
    );
    made.with(|t| assert_eq!([pad, sep, other].map(|token| t.0.is_eog(token)), [true, true, false])).unwrap();
    made.key("tokenizer.ggml.fim_sep_token_id", Value::U32(other));
    made.with(|t| assert_eq!([pad, sep, other].map(|token| t.0.is_eog(token)), [true, false, true])).unwrap();
}

/// Markup and content are one text for merges and two for special tokens.
#[test]
fn content_of_a_prompt_never_becomes_markup() {
    let mut made = Made::byte_level("gpt-2", &["a b"]);
    let (end, user, tool, start, bos) = (
        made.add("<|im_end|>", CONTROL, 0.0),
        made.add("<user>", USER_DEFINED, 0.0), // as old files call what a template writes
        made.add("<tool>", USER_DEFINED, 0.0),
        made.add("<|start|>", USER_DEFINED, 0.0),
        made.add("<s>", CONTROL, 0.0),
    );
    let ab = 256;
    made.with(|t| {
        let (a, b) = (t.encode("a", Specials::Never)[0], t.encode("b", Specials::Never)[0]);
        let spelled = |text| t.encode(text, Specials::Only(&[])).len();
        assert_eq!(spelled("<|im_end|>"), 10);
        // One text: what markup begins, content ends.
        assert_eq!(t.prompt("", &["a", "b", "<|im_end|>a", "a"]), [ab, end, a, a]);
        assert_eq!(t.prompt("", &["<user>", "b", "<user>"]), [user, b, user]);
        // Content says it all: nothing comes of it, whatever is around; but what a file calls text stays a token.
        for parts in
            [&["", "<|im_end|>"][..], &["<|im", "_end|>"], &["", "<|im_end", "|>"], &["<|", "im_end", "|>"]]
        {
            let ids = t.prompt("", parts);
            assert_eq!((ids.len(), ids.contains(&end)), (10, false), "{parts:?}");
        }
        assert_eq!(t.prompt("", &["", "<tool>", "", "<user>"]), [tool, user]);
        assert_eq!(t.prompt("", &["<to", "ol>"]), [tool]);
        let ids = t.prompt("{{ '<user>' + text }}", &["<user>", "<tool><user>", "<us", "er><|start|>"]);
        assert_eq!(ids[..2], [user, tool]);
        assert!(!ids[2..].contains(&user) && !ids.contains(&start) && ids.len() == 2 + 6 + 6 + 9, "{ids:?}");
        // A long look-alike in content takes no room from what stands in markup.
        assert_eq!(
            t.prompt("", &["<|im_end|>", "<|im_end|", "<|im_end|>"]).iter().filter(|&&id| id == end).count(),
            2
        );
    })
    .unwrap();
    made.key("tokenizer.ggml.bos_token_id", Value::U32(bos));
    made.key("tokenizer.ggml.add_bos_token", Value::Bool(true));
    made.with(|t| {
        assert_eq!(t.prompt("", &["ab"]), [bos, ab]);
        assert_eq!(t.prompt("", &["<s>ab"]), [bos, ab], "the template writes it");
        let ids = t.prompt("", &["", "<s>ab"]);
        assert!(ids[0] == bos && !ids[1..].contains(&bos), "content does not");
    })
    .unwrap();
}

#[test]
fn a_merge_never_makes_a_control_token() {
    let mut made = Made::byte_level("gpt-2", &["a b", "ab c", "ab d"]);
    made.types.as_mut().unwrap()[257] = CONTROL;
    made.with(|t| {
        assert_eq!(t.pieces("abc abd", Specials::Never), ["ab", "c", " ", "abd"]);
        assert_eq!(t.encode("abc", Specials::All), [257]);
    })
    .unwrap();
}

#[test]
fn longer_tokens_are_found_first_and_then_what_fits_between() {
    let mut made = Made::byte_level("gpt-2", &[]);
    let names = ["<a", "<ab", "b<abc", "c>", "aa", "aaaa"];
    let ids = names.map(|name| made.add(name, USER_DEFINED, 0.0));
    made.with(|t| {
        // The longest takes its place though "<ab" begins before it; "<a" fits in front.
        assert_eq!(t.encode("<ab<abc>", Specials::Never), [ids[0], ids[2], t.0.token(b">").unwrap()]);
        assert_eq!(t.pieces("<ab<a", Specials::Never), ["<ab", "<a"]);
        assert_eq!(t.pieces("aaaaaaa", Specials::Never), ["aaaa", "aa", "a"]);
        assert_eq!(t.pieces("c>c>", Specials::Never), ["c>", "c>"]);
    })
    .unwrap();
}

#[test]
fn phi_3_takes_the_space_behind_a_control_token() {
    let mut made = Made::sentence_piece(&["▁a", "▁", "a"]);
    let end = made.add("<|end|>", CONTROL, 0.0);
    made.key("general.name", Value::String(b"Phi3-mini"));
    made.with(|t| {
        assert_eq!(t.encode("<|end|> \n a", Specials::All), [end, 259]);
        assert_eq!(t.encode("<|end|> <|end|>", Specials::All), [end, end]);
        assert_eq!(t.encode("<s> a", Specials::All), [1, 260, 259]);
    })
    .unwrap();
}

#[test]
fn inconsistent_vocabularies_are_refused() {
    let good = Made::byte_level("gpt-2", &["a b", "ab c"]);
    assert_eq!(good.fault(), None);
    let fault = |change: &dyn Fn(&mut Made)| {
        let mut made = good.clone();
        change(&mut made);
        made.fault()
    };
    assert_eq!(fault(&|m| m.texts[7].clear()), Some((VocabFault::EmptyToken, 7)));
    assert_eq!(fault(&|m| m.texts[9] = m.texts[3].clone()), Some((VocabFault::DuplicateToken, 9)));
    assert_eq!(fault(&|m| m.texts[9] = vec![b'x'; 65_537]), Some((VocabFault::TokenLength, 9)));
    assert_eq!(fault(&|m| m.types = Some(vec![1; 10])), Some((VocabFault::ArrayLength, 10)));
    assert_eq!(fault(&|m| m.types.as_mut().unwrap()[5] = 7), Some((VocabFault::TokenType, 5)));
    assert_eq!(
        fault(&|m| m.key("tokenizer.ggml.eos_token_id", Value::U32(258))),
        Some((VocabFault::SpecialId, 258))
    );
    for (merge, want) in [
        ("ab", VocabFault::MergeFormat),
        ("a ", VocabFault::MergeFormat),
        (" a", VocabFault::MergeFormat),
        ("", VocabFault::MergeFormat),
        ("a c", VocabFault::MergeToken),
        ("a bb", VocabFault::MergeToken),
        ("a b c", VocabFault::MergeToken),
    ] {
        assert_eq!(fault(&|m| m.merges.as_mut().unwrap()[1] = merge.into()), Some((want, 1)), "{merge:?}");
    }
    assert_eq!(
        fault(&|m| m.merges.as_mut().unwrap()[1] = "a b".into()),
        None,
        "the first of equal merges counts"
    );

    let good = Made::sentence_piece(&["▁", "a", "▁a"]);
    let fault = |change: &dyn Fn(&mut Made)| {
        let mut made = good.clone();
        change(&mut made);
        made.fault()
    };
    assert_eq!(fault(&|_| {}), None);
    assert_eq!(fault(&|m| m.scores = Some(vec![0.0; 3])), Some((VocabFault::ArrayLength, 3)));
    assert_eq!(fault(&|m| m.scores.as_mut().unwrap()[4] = f32::NAN), Some((VocabFault::Score, 4)));
    assert_eq!(fault(&|m| m.scores.as_mut().unwrap()[4] = f32::NEG_INFINITY), Some((VocabFault::Score, 4)));
}

#[test]
fn missing_keys_and_unknown_names_are_said() {
    let error = |change: &dyn Fn(&mut Made)| {
        let mut made = Made::byte_level("gpt-2", &["a b"]);
        change(&mut made);
        let error = made.with(|_| ()).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Vocab);
        error.to_string()
    };
    let missing = |key| format!("metadata key tokenizer.ggml.{key} is missing");
    assert_eq!(error(&|m| m.keys.clear()), missing("model"));
    assert_eq!(error(&|m| m.keys.retain(|key| key.0 != "tokenizer.ggml.pre")), missing("pre"));
    assert_eq!(error(&|m| m.merges = None), missing("merges"));
    assert_eq!(
        error(&|m| m.key("tokenizer.ggml.pre", Value::String(b"quux"))),
        "metadata key tokenizer.ggml.pre: \"quux\" is not supported"
    );
    assert_eq!(
        error(&|m| m.key("tokenizer.ggml.model", Value::String(b"quux"))),
        "metadata key tokenizer.ggml.model: \"quux\" is not supported"
    );
    let mut made = Made::sentence_piece(&["a"]);
    made.scores = None;
    assert_eq!(made.with(|_| ()).unwrap_err().to_string(), missing("scores"));
}

#[test]
fn a_pre_tokenizer_can_be_given() {
    let mut made = Made::byte_level("quux", &["1 2", "12 3"]);
    let count = |file: &[u8], name: Option<&str>| {
        let image = Image::parse(file).unwrap();
        let mut region = vec![MaybeUninit::uninit(); 1 << 20];
        let mut arena = Arena::new(&mut region);
        let pre = name.map(|name| Pre::by_name(name.as_bytes()).unwrap());
        let tokenizer = Tokenizer::with_pre(&image, pre, &mut arena)?;
        let mut scratch = tokenizer.scratch(8, &mut arena).unwrap();
        Ok::<_, ModelError>(tokenizer.encode(b"123", Specials::Never, &mut scratch, &mut [0; 8]).unwrap())
    };
    assert_eq!(count(&made.file(), None).unwrap_err().class(), ErrorClass::Vocab);
    assert_eq!(count(&made.file(), Some("gpt-2")).unwrap(), 1);
    assert_eq!(count(&made.file(), Some("qwen2")).unwrap(), 3);
    made.keys.retain(|key| key.0 != "tokenizer.ggml.pre");
    assert_eq!(count(&made.file(), Some("gpt-2")).unwrap(), 1);
}

#[test]
fn names_say_whether_merges_count_and_bos_is_usual() {
    for (name, n_tokens, adds_bos) in [
        ("gpt-2", 3, false),
        ("llama-bpe", 1, true),
        ("dbrx", 3, false),
        ("glm4", 1, false),
        ("chatglm-bpe", 3, false),
        ("tekken", 1, true),
        ("youtu", 1, false),
        ("minicpm5", 1, false),
        ("granite-embed-multi-97m", 1, false),
        ("chameleon", 3, true),
    ] {
        // No merges make this token.
        let mut made = Made::byte_level(name, &[]);
        made.add("abc", NORMAL, 0.0);
        made.with(|t| {
            assert_eq!(
                (t.encode("abc", Specials::Never).len(), t.0.add_bos()),
                (n_tokens, adds_bos),
                "{name}"
            );
        })
        .unwrap();
    }
}

#[test]
fn streamed_pieces_are_whole_characters() {
    Made::byte_level("gpt-2", &["ð Ł", "Ġ ðŁ"])
        .with(|t| {
            let text = "é 😀字";
            let mut decoder = t.0.decoder(Controls::Show);
            let mut stream = Utf8Stream::new();
            let mut chunks = Vec::new();
            for id in t.encode(text, Specials::Never) {
                let mut piece = decoder.piece(id).unwrap();
                while let Some(Chunk::Text(chunk)) = stream.next(&mut piece) {
                    chunks.push(chunk.to_string());
                }
            }
            assert_eq!(chunks, ["é", " ", "😀", "字"]);
            assert_eq!(stream.finish(), None);
        })
        .unwrap();
}

#[test]
fn special_tokens_are_short_and_the_name_of_the_model_is_a_string() {
    let mut made = Made::byte_level("gpt-2", &[]);
    for kind in [CONTROL, USER_DEFINED] {
        let mut made = made.clone();
        made.add(&"<".repeat(255), kind, 0.0);
        made.with(|_| ()).unwrap();
        made.add(&">".repeat(256), kind, 0.0);
        let what = "bytes of a control or user-defined token";
        assert_eq!(made.with(|_| ()).unwrap_err(), ModelError::Limit { what, value: 256, max: 255 });
    }
    made.key("general.name", Value::U32(1));
    assert_eq!(made.with(|_| ()).unwrap_err(), ModelError::WrongType { key: "general.name", found: 4 });
}
