//! The chat template of a model, or the one asked for: a family of the library's, or Jinja.

use std::fmt::Display;

use corelm::tokenizer::{Prompt, TokenKind};
use corelm::{Arena, ChatError, ChatTemplate, Image, Layout, Message, Role, Token, TokenizeError, Tokenizer};

use crate::args::TemplateArgs;
use crate::failure::{Failure, Outcome};
use crate::jinja::Jinja;
use crate::model::Region;
use crate::tokenize::piece;

/// Somebody said something.
#[derive(Clone, Debug)]
pub struct Said {
    pub role: Role,
    pub content: Vec<u8>,
}

/// How conversations become prompts.
pub enum Template {
    Family(ChatTemplate),
    Jinja(Jinja),
}

impl Template {
    /// The template that `args` ask for, else the model's own.
    pub fn choose(
        args: &TemplateArgs,
        image: &Image<'_>,
        tokenizer: &Tokenizer<'_, '_>,
    ) -> Outcome<Template> {
        let jinja = |source: &str| {
            let text = |token: Option<Token>| {
                let bytes = token.map(|token| piece(tokenizer, token)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            Template::Jinja(Jinja::new(source, text(tokenizer.bos()), text(tokenizer.eos())))
        };
        if let Some(path) = &args.chat_template_file {
            let source = std::fs::read_to_string(path)
                .map_err(|error| Failure::because(format_args!("cannot read '{}'", path.display()), error))?;
            return Ok(jinja(&source));
        }
        if let Some(asked) = &args.chat_template {
            return match ChatTemplate::by_name(asked) {
                Ok(family) => Ok(Template::Family(family)),
                Err(_) if asked.contains("{{") || asked.contains("{%") => Ok(jinja(asked)),
                Err(error) => {
                    let names: Vec<&str> = ChatTemplate::all().map(ChatTemplate::name).collect();
                    Err(Failure::Usage(format!("{error}; there are {}", names.join(", "))))
                }
            };
        }
        let Some(source) = ChatTemplate::source(image).map_err(Failure::says)? else {
            let error = ChatError::NoTemplate;
            return Err(Failure::Failed(format!("{error}: choose one with --chat-template")));
        };
        match ChatTemplate::detect(source) {
            Ok(family) if !args.jinja => Ok(Template::Family(family)),
            Ok(_) | Err(ChatError::UnknownTemplate) => {
                let source = str::from_utf8(source)
                    .map_err(|_| Failure::Failed("the model's chat template is not utf-8".into()))?;
                Ok(jinja(source))
            }
            Err(error) => Err(Failure::says(error)),
        }
    }

    /// The ids of a conversation; if it `wants_answer`, up to where the answer begins.
    pub fn tokens(
        &self,
        tokenizer: &Tokenizer<'_, '_>,
        said: &[Said],
        wants_answer: bool,
    ) -> Outcome<Vec<Token>> {
        match self {
            Template::Family(family) => {
                let messages: Vec<Message<'_>> =
                    said.iter().map(|said| Message { role: said.role, content: &said.content }).collect();
                let n_bytes = family.prompt_bytes(&messages, wants_answer).map_err(Failure::says)?;
                encode(tokenizer, n_bytes, "", |prompt| family.write(&messages, wants_answer, prompt))
            }
            Template::Jinja(jinja) => {
                let text = |said: &Said| (said.role, String::from_utf8_lossy(&said.content).into_owned());
                let messages: Vec<(Role, String)> = said.iter().map(text).collect();
                let parts = jinja.parts(&messages, wants_answer, || special_texts(tokenizer))?;
                let n_bytes = parts.iter().map(|part| part.text.len()).sum();
                encode(tokenizer, n_bytes, jinja.source(), |prompt| {
                    parts.iter().try_for_each(|part| match part.is_content {
                        true => prompt.content(part.text.as_bytes()),
                        false => prompt.markup(&part.text),
                    })
                })
            }
        }
    }
}

/// The ids of the prompt of `n_bytes` that `write` writes, by a template of this source.
fn encode<E: Display>(
    tokenizer: &Tokenizer<'_, '_>,
    n_bytes: usize,
    source: &str,
    write: impl FnOnce(&mut Prompt<'_>) -> Result<(), E>,
) -> Outcome<Vec<Token>> {
    let layout = Prompt::layout(n_bytes, Layout::new()).map_err(Failure::says)?;
    let layout = tokenizer.scratch_layout(n_bytes, layout).map_err(Failure::says)?;
    let mut memory = Region::new(layout.bytes())?;
    let mut arena = Arena::new(memory.bytes());
    let mut prompt = Prompt::new(n_bytes, &mut arena).map_err(Failure::says)?;
    let mut scratch = tokenizer.scratch(n_bytes, &mut arena).map_err(Failure::says)?;
    prompt.begin(source);
    write(&mut prompt).map_err(Failure::says)?;
    let mut ids = Vec::new();
    loop {
        match tokenizer.encode_prompt(&prompt, &mut scratch, &mut ids) {
            Err(TokenizeError::OutputFull { need, have }) if need > have => ids.resize(need, 0),
            Ok(n) => {
                ids.truncate(n);
                return Ok(ids);
            }
            Err(error) => return Err(Failure::says(error)),
        }
    }
}

/// Texts of control tokens, and of others that a template might write.
fn special_texts(tokenizer: &Tokenizer<'_, '_>) -> Vec<String> {
    let is_special = |&token: &Token| {
        matches!(
            tokenizer.kind(token),
            Some(TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined)
        )
    };
    let tokens = (0..).take(tokenizer.vocab_size()).filter(is_special);
    let texts = tokens.filter_map(|token| String::from_utf8(piece(tokenizer, token)).ok());
    texts.filter(|text| !text.trim().is_empty()).collect()
}
