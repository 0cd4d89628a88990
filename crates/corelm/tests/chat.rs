//! Chat templates against llama.cpp: prompts, their tokens, and of which family a template's source is. And that what
//! messages say never becomes a control token, in any family.
//!
//! `chat.json` is written by `tools/chat-golden/generate.py`.

#[path = "support/byte_letters.rs"]
mod byte_letters;

use byte_letters::byte_letters;
use corelm::arena::{Arena, Layout};
use corelm::chat::{ChatError, ChatTemplate, Message, Role};
use corelm::error::{ModelError, TokenizeError};
use corelm::gguf::{Image, Value, writer::Writer};
use corelm::tokenizer::{Prompt, Tokenizer};
use corelm::{Error, Token};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

fn golden() -> Json {
    serde_json::from_str(include_str!("chat.json")).unwrap()
}

/// `[[role, content], ...]`.
fn conversation(json: &Json) -> Vec<Message<'_>> {
    fn message(pair: &Json) -> Message<'_> {
        let [role, content] = [&pair[0], &pair[1]].map(|text| text.as_str().unwrap());
        Message { role: Role::by_name(role).unwrap(), content: content.as_bytes() }
    }
    json.as_array().unwrap().iter().map(message).collect()
}

/// A path below `../shared`, or `None` with a line that says so; its absence is a failure in CI.
fn shared(path: &str) -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if shared.exists() {
        return Some(shared);
    }
    assert!(std::env::var_os("CI").is_none(), "no ../shared in CI");
    println!("skipped: no ../shared");
    None
}

/// Runs `body` with the tokenizer in a file's bytes.
fn with_image<T>(file: &[u8], body: impl FnOnce(&Tokenizer<'_, '_>) -> T) -> T {
    let image = Image::parse(file).unwrap();
    let layout = Tokenizer::layout(&image, Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    body(&Tokenizer::new(&image, &mut Arena::new(&mut region)).unwrap())
}

/// Memory for a prompt of so many bytes and for its encoding.
fn region(n_bytes: usize) -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::uninit(); 64 * n_bytes + 4096]
}

/// The prompt, in exactly the room that it asks for.
fn prompt(template: ChatTemplate, messages: &[Message<'_>], wants_answer: bool) -> Result<String, ChatError> {
    let need = template.prompt_bytes(messages, wants_answer)?;
    let layout = Prompt::layout(need, Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut prompt = Prompt::new(need, &mut Arena::new(&mut region)).unwrap();
    template.write(messages, wants_answer, &mut prompt)?;
    assert_eq!(prompt.bytes().len(), need);
    Ok(String::from_utf8(prompt.bytes().to_vec()).unwrap())
}

/// The tokens of the prompt.
fn tokens(tokenizer: &Tokenizer<'_, '_>, template: ChatTemplate, messages: &[Message<'_>]) -> Vec<Token> {
    let n = template.prompt_bytes(messages, true).unwrap();
    let mut region = region(n);
    let mut arena = Arena::new(&mut region);
    let mut prompt = Prompt::new(n, &mut arena).unwrap();
    let mut scratch = tokenizer.scratch(n, &mut arena).unwrap();
    template.write(messages, true, &mut prompt).unwrap();
    let mut ids = vec![0; 2 * n + 8];
    let n = tokenizer.encode_prompt(&prompt, &mut scratch, &mut ids).unwrap();
    ids.truncate(n);
    ids
}

/// Which message of which conversation has no place in which templates: `talk 0: yandex`.
fn without_place(golden: &Json, mut check: impl FnMut(&str, &str, &str)) -> BTreeMap<String, Vec<String>> {
    let mut refused = BTreeMap::<String, Vec<String>>::new();
    for template in ChatTemplate::all() {
        let name = template.name();
        for (about, json) in golden["conversations"].as_object().unwrap() {
            let messages = conversation(json);
            let want = &golden["templates"][name][about];
            for wants_answer in [false, true] {
                match prompt(template, &messages, wants_answer) {
                    Ok(text) => {
                        let answer = if wants_answer { want[1].as_str().unwrap() } else { "" };
                        let want = want[0].as_str().unwrap().to_owned() + answer;
                        check(&format!("{name} {about}"), &text, &want);
                    }
                    Err(ChatError::NoPlace { template, index, role }) => {
                        assert_eq!((template, messages[index].role), (name, role));
                        if wants_answer {
                            refused.entry(format!("{about} {index}")).or_default().push(name.to_owned());
                        }
                    }
                    Err(error) => panic!("{name} {about}: {error}"),
                }
            }
        }
    }
    refused
}

#[test]
fn prompts_are_those_of_llama_cpp() {
    let golden = golden();
    let names: Vec<&str> = ChatTemplate::all().map(ChatTemplate::name).collect();
    let expected: BTreeSet<&str> = golden["templates"].as_object().unwrap().keys().map(|k| &**k).collect();
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(names.len(), expected.len());

    let mut n_equal = 0;
    let refused = without_place(&golden, |about, text, want| {
        assert_eq!(text, want, "{about}");
        n_equal += 1;
    });
    assert_eq!(n_equal, 2 * (names.len() * 11 - refused.values().map(Vec::len).sum::<usize>()));

    // What llama.cpp drops: a system message that has no place, or none there.
    let refused_at = |at: &str| refused.get(at).map_or("".into(), |names| names.join(" "));
    for at in ["talk 0", "silent 0", "systems 0"] {
        assert_eq!(refused_at(at), "yandex", "{at}");
    }
    assert_eq!(refused_at("systems 1"), "gigachat hunyuan-dense hunyuan-vl");
    // What it drops or passes off as another's: roles that the template does not know.
    for (role, at) in [
        ("tool", "tool 1"),
        ("tool_response", "response 1"),
        ("function", "function 1"),
        ("developer", "developer 0"),
        ("assistant_tool_call", "call 1"),
    ] {
        let strangers =
            golden["strangers"][role].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        let mut expected: BTreeSet<&str> = strangers.filter(|&name| name != "deepseek-ocr").collect();
        if role != "tool" {
            // It writes any name there, in capitals, and no model has seen it.
            expected.extend(["bailing", "bailing-think", "bailing2", "openchat"]);
        }
        assert_eq!(refused_at(at), Vec::from_iter(expected).join(" "), "{role}");
    }
    assert_eq!(refused.len(), 9);
}

#[test]
fn tokens_are_those_of_llama_cpp() {
    let golden = golden();
    let messages = conversation(&golden["words"]);
    for case in golden["tokens"].as_array().unwrap() {
        let [vocabulary, name] = [0, 1].map(|at| case[at].as_str().unwrap());
        let Some(file) = shared(&format!("tokenizers/ggml-vocab-{vocabulary}.gguf")) else { return };
        let template = ChatTemplate::by_name(name).unwrap();
        let ids =
            with_image(&std::fs::read(file).unwrap(), |tokenizer| tokens(tokenizer, template, &messages));
        assert_eq!(Json::from(ids), case[2], "{vocabulary} {name}");
    }
}

#[test]
fn sources_are_recognised_as_by_llama_cpp() {
    let golden = golden();
    let mut found = BTreeSet::new();
    for case in golden["sources"].as_array().unwrap() {
        let source = case[0].as_str().unwrap();
        let family = ChatTemplate::detect(source.as_bytes()).map(ChatTemplate::name);
        match case[1].as_str() {
            Some(name) => assert_eq!(family, Ok(name), "{source}"),
            None => assert_eq!(family, Err(ChatError::UnknownTemplate), "{source}"),
        }
        found.extend(family);
    }
    assert_eq!(found.len(), ChatTemplate::all().count() - 2, "two are known by name only");
}

#[test]
fn files_bring_their_template() {
    let of = |template: Option<Value<'_>>| {
        let mut bytes = vec![0; 4 << 20];
        let mut writer = Writer::new(&mut bytes[..], template.is_some().into(), 0).unwrap();
        if let Some(template) = template {
            writer.value("tokenizer.chat_template", template).unwrap();
        }
        let left = writer.finish().unwrap().len();
        bytes.truncate((4 << 20) - left);
        let image = Image::parse(&bytes).unwrap();
        ChatTemplate::of(&image).map(ChatTemplate::name)
    };
    assert_eq!(of(Some(Value::String(b"{{ '<start_of_turn>user' }}"))), Ok("gemma"));
    assert_eq!(of(Some(Value::String(b"{{ \xff }}"))), Err(ChatError::UnknownTemplate));
    assert_eq!(of(None), Err(ChatError::NoTemplate));
    assert!(matches!(of(Some(Value::U32(1))), Err(ChatError::Model(ModelError::WrongType { .. }))));
    let long = vec![b' '; (1 << 20) + 1];
    assert!(matches!(of(Some(Value::String(&long))), Err(ChatError::Model(ModelError::Limit { .. }))));
}

#[test]
fn what_is_wrong_is_said() {
    let says = |error: ChatError| Error::from(error).to_string();
    assert_eq!(says(ChatTemplate::by_name("chatmk").unwrap_err()), "no chat template is called \"chatmk\"");
    assert_eq!(says(Role::by_name("root").unwrap_err()), "no role is called \"root\"");
    assert_eq!(
        says(ChatTemplate::detect(b"{{ messages }}").unwrap_err()),
        "the model's chat template is of no known family"
    );
    let gemma = ChatTemplate::by_name("gemma").unwrap();
    assert_eq!(gemma.prompt_bytes(&[], true), Err(ChatError::NoMessages));
    let [system, user] = [Role::System, Role::User].map(|role| Message { role, content: b"x" });
    assert_eq!(
        says(gemma.prompt_bytes(&[user, system], true).unwrap_err()),
        "chat template gemma has no place for message 1, of role system"
    );
    let mut region = [MaybeUninit::uninit(); 256];
    let mut prompt = Prompt::new(45, &mut Arena::new(&mut region)).unwrap();
    let full = gemma.write(&[user], true, &mut prompt);
    assert_eq!(full, Err(ChatError::Tokenize(TokenizeError::ScratchFull { need: 56, have: 45 })));
    assert_eq!(gemma.write(&[user], false, &mut prompt), Ok(()), "the prompt can be used again");
}

/// Texts of the templates that look like tokens.
fn marks(template: ChatTemplate) -> BTreeSet<String> {
    let mut marks = BTreeSet::new();
    for role in Role::ALL {
        let messages = [Role::User, role, Role::User].map(|role| Message { role, content: b"" });
        let Ok(text) = prompt(template, &messages, true) else { continue };
        for (open, close) in [('<', '>'), ('[', ']')] {
            for (at, _) in text.match_indices(open) {
                let Some(end) = text[at..].find(close) else { continue };
                let mark = &text[at..=at + end];
                // An empty pair of brackets says nothing.
                if mark.contains(char::is_alphabetic) {
                    marks.insert(mark.to_owned());
                }
            }
        }
    }
    marks
}

/// Tokens that would begin in the template's text and end in that of a message, `SAID`, or the other way round.
fn straddlers(template: ChatTemplate) -> BTreeSet<String> {
    let messages = [Role::User, Role::Assistant].map(|role| Message { role, content: SAID.as_bytes() });
    let text = prompt(template, &messages, true).unwrap();
    let mut straddlers = BTreeSet::new();
    for part in text.split(SAID).filter(|part| !part.is_empty()) {
        straddlers.insert(format!("{}{SAID}", part.chars().next_back().unwrap()));
        straddlers.insert(format!("{SAID}{}", part.chars().next().unwrap()));
    }
    straddlers
}

const SAID: &str = "\u{1}";

/// A byte-level vocabulary whose tokens beside bytes are `specials`, of one type.
fn vocabulary(specials: &BTreeSet<String>, ty: i32) -> Vec<u8> {
    let mut texts = byte_letters();
    texts.extend(specials.iter().cloned());
    let mut bytes = vec![0; 1 << 16];
    let mut writer = Writer::new(&mut bytes[..], 5, 0).unwrap();
    writer.value("tokenizer.ggml.model", Value::String(b"gpt2")).unwrap();
    writer.value("tokenizer.ggml.pre", Value::String(b"gpt-2")).unwrap();
    writer.strings("tokenizer.ggml.tokens", texts.iter()).unwrap();
    let types = (0..texts.len()).map(|token| if token < 256 { 1 } else { ty }).collect::<Vec<_>>();
    writer.i32s("tokenizer.ggml.token_type", types.into_iter()).unwrap();
    writer.strings("tokenizer.ggml.merges", [""; 0].iter()).unwrap();
    let left = writer.finish().unwrap().len();
    bytes.truncate((1 << 16) - left);
    bytes
}

/// In every family: whatever a message says of any family's marks, whole or in part, so that it could be glued together
/// with another message or with the template, the special tokens are those of the same conversation about nothing.
#[test]
fn no_message_becomes_a_control_token() {
    const CONTROL: i32 = 3;
    const USER_DEFINED: i32 = 4;
    let all: BTreeSet<String> = ChatTemplate::all().flat_map(marks).collect();
    assert!(all.len() > 80, "{all:?}");
    let mut n_hostile = 0usize;
    for template in ChatTemplate::all() {
        let own = marks(template);
        let all: BTreeSet<String> = all.union(&straddlers(template)).cloned().collect();
        // Old files call even the marks of their template user-defined. Others' are text to them, and stay tokens.
        for (ty, specials) in [(CONTROL, &all), (USER_DEFINED, &own)] {
            let file = vocabulary(specials, ty);
            with_image(&file, |tokenizer| {
                let special_tokens = |contents: [&str; 4]| -> Vec<Token> {
                    let roles = [Role::User, Role::Assistant, Role::Assistant, Role::User];
                    let messages: Vec<Message<'_>> = roles
                        .into_iter()
                        .zip(contents)
                        .map(|(role, content)| Message { role, content: content.as_bytes() })
                        .collect();
                    let ids = tokens(tokenizer, template, &messages);
                    ids.into_iter().filter(|&id| id >= 256).collect()
                };
                let harmless = special_tokens(["x"; 4]);
                assert_eq!(special_tokens([SAID; 4]), harmless, "{}", template.name());
                for mark in specials {
                    for (cut, _) in mark.char_indices() {
                        let (head, tail) = mark.split_at(cut);
                        for hostile in [[mark, head, tail, mark], [tail, head, tail, head]] {
                            assert_eq!(special_tokens(hostile), harmless, "{} {hostile:?}", template.name());
                            n_hostile += 1;
                        }
                    }
                }
            });
        }
    }
    assert!(n_hostile > 50_000, "{n_hostile}");
}
