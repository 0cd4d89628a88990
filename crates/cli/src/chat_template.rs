//! The chat template of a model, or the one asked for.

use corelm::tokenizer::Prompt;
use corelm::{Arena, ChatError, ChatTemplate, Image, Layout, Message, Role, Token, TokenizeError, Tokenizer};

use crate::args::TemplateArgs;
use crate::failure::{Failure, Outcome};
use crate::model::Region;

/// Somebody said something.
#[derive(Clone, Debug)]
pub struct Said {
    pub role: Role,
    pub content: Vec<u8>,
}

/// How conversations become prompts.
pub struct Template(ChatTemplate);

impl Template {
    /// The template that `args` ask for, else the model's own.
    pub fn choose(args: &TemplateArgs, image: &Image<'_>) -> Outcome<Template> {
        if let Some(asked) = &args.chat_template {
            return ChatTemplate::by_name(asked).map(Template).map_err(|error| {
                let names: Vec<&str> = ChatTemplate::all().map(ChatTemplate::name).collect();
                Failure::Usage(format!("{error}; there are {}", names.join(", ")))
            });
        }
        ChatTemplate::of(image).map(Template).map_err(|error| match error {
            ChatError::NoTemplate | ChatError::UnknownTemplate => {
                Failure::Failed(format!("{error}: choose one with --chat-template"))
            }
            error => Failure::says(error),
        })
    }

    /// The ids of a conversation; if it `wants_answer`, up to where the answer begins.
    pub fn tokens(
        &self,
        tokenizer: &Tokenizer<'_, '_>,
        said: &[Said],
        wants_answer: bool,
    ) -> Outcome<Vec<Token>> {
        let messages: Vec<Message<'_>> =
            said.iter().map(|said| Message { role: said.role, content: &said.content }).collect();
        let n_bytes = self.0.prompt_bytes(&messages, wants_answer).map_err(Failure::says)?;
        let layout = Prompt::layout(n_bytes, Layout::new()).map_err(Failure::says)?;
        let layout = tokenizer.scratch_layout(n_bytes, layout).map_err(Failure::says)?;
        let mut memory = Region::new(layout.bytes())?;
        let mut arena = Arena::new(memory.bytes());
        let mut prompt = Prompt::new(n_bytes, &mut arena).map_err(Failure::says)?;
        let mut scratch = tokenizer.scratch(n_bytes, &mut arena).map_err(Failure::says)?;
        self.0.write(&messages, wants_answer, &mut prompt).map_err(Failure::says)?;
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
}
