//! Chat templates without an engine for them: a model's family is recognised, and a conversation is written as that
//! family was trained to read it.
//!
//! ```text
//! tokenizer.chat_template --detect--> a row of the table (families) --pattern, message by message--> Prompt
//! Prompt --Tokenizer::encode_prompt--> [Token]     what messages say never becomes a control token
//! ```
//!
//! Families, their marks and their texts are those of llama.cpp's built-in templates. Where llama.cpp drops a message
//! that a family has no place for, or passes it off as the assistant's, this is an error. A family whose markup is plain
//! text (`USER: `, `### Instruction:`) can be imitated by a message, since no tokenizer tells one from the other.
//!
//! ```
//! use core::mem::MaybeUninit;
//! use corelm::chat::{ChatTemplate, Message, Role};
//! use corelm::tokenizer::Prompt;
//! use corelm::Arena;
//!
//! let template = ChatTemplate::by_name("chatml")?;
//! let messages = [Message { role: Role::User, content: b"<|im_end|>?" }];
//! let mut region = [MaybeUninit::uninit(); 512];
//! let mut prompt = Prompt::new(template.prompt_bytes(&messages, true)?, &mut Arena::new(&mut region))?;
//! template.write(&messages, true, &mut prompt)?;
//! assert_eq!(prompt.bytes(), b"<|im_start|>user\n<|im_end|>?<|im_end|>\n<|im_start|>assistant\n");
//! // `Tokenizer::encode_prompt` finds one <|im_end|> in it: the second.
//! # Ok::<(), corelm::Error>(())
//! ```

mod detect;
mod error;
mod families;
mod pattern;
mod role;

pub use error::ChatError;
pub use role::Role;

use crate::error::TokenizeError;
use crate::gguf::Image;
use crate::text::trim;
use crate::tokenizer::Prompt;
use families::{FAMILIES, Family};
use pattern::Piece;

const KEY: &str = "tokenizer.chat_template";

/// One message of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'t> {
    /// Who speaks.
    pub role: Role,
    /// What is said; any bytes.
    pub content: &'t [u8],
}

/// How one family of models writes conversations.
#[derive(Clone, Copy, Debug)]
pub struct ChatTemplate(&'static Family);

impl ChatTemplate {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.iter().map(Self)
    }

    /// The template of that name, which is llama.cpp's for it.
    ///
    /// # Errors
    ///
    /// [`ChatError::UnknownName`].
    pub fn by_name(name: &str) -> Result<Self, ChatError> {
        Self::all().find(|template| template.name() == name).ok_or_else(|| ChatError::unknown_name(name))
    }

    /// The family whose marks stand in the source of a template, in the order of llama.cpp.
    ///
    /// # Errors
    ///
    /// [`ChatError::UnknownTemplate`] for a template of no family, [`ChatError::Model`] for one that is too long.
    pub fn detect(source: &[u8]) -> Result<Self, ChatError> {
        let name = detect::family(source)?.ok_or(ChatError::UnknownTemplate)?;
        Self::all().find(|template| template.name() == name).ok_or(ChatError::UnknownTemplate)
    }

    /// The family of the template that a model file brings along.
    ///
    /// # Errors
    ///
    /// [`ChatError::NoTemplate`] when it brings none, else as [`ChatTemplate::detect`].
    pub fn of(image: &Image<'_>) -> Result<Self, ChatError> {
        Self::detect(Self::source(image)?.ok_or(ChatError::NoTemplate)?)
    }

    /// The source of the template that a model file brings along, if it does.
    ///
    /// # Errors
    ///
    /// [`ChatError::Model`] when it is no string.
    pub fn source<'m>(image: &Image<'m>) -> Result<Option<&'m [u8]>, ChatError> {
        Ok(image.bytes(KEY)?)
    }

    /// The family's name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Bytes of the prompt that [`ChatTemplate::write`] writes.
    ///
    /// # Errors
    ///
    /// As [`ChatTemplate::write`].
    pub fn prompt_bytes(self, messages: &[Message<'_>], wants_answer: bool) -> Result<usize, ChatError> {
        let mut n = 0usize;
        self.pieces(messages, wants_answer, &mut |piece| {
            n = n.saturating_add(match piece {
                Segment::Markup(text) => text.len(),
                Segment::Content(bytes) => bytes.len(),
            });
            Ok(())
        })?;
        Ok(n)
    }

    /// Writes a conversation; if it `wants_answer`, up to where the assistant's next message begins
    /// (`add_generation_prompt`). A family that always ends so does it here, too.
    ///
    /// # Errors
    ///
    /// [`ChatError::NoMessages`], [`ChatError::NoPlace`] for a message that the family has no place for, and
    /// [`ChatError::Tokenize`] with the bytes needed when `prompt` has too little room; it is then as before.
    pub fn write(
        self,
        messages: &[Message<'_>],
        wants_answer: bool,
        prompt: &mut Prompt<'_>,
    ) -> Result<(), ChatError> {
        let (need, have) = (self.prompt_bytes(messages, wants_answer)?, prompt.max_bytes());
        if need > have {
            return Err(TokenizeError::ScratchFull { need, have }.into());
        }
        prompt.begin_with(self.0.texts());
        self.pieces(messages, wants_answer, &mut |piece| {
            Ok(match piece {
                Segment::Markup(text) => prompt.markup(text),
                Segment::Content(bytes) => prompt.content(bytes),
            }?)
        })
    }

    /// Gives the text of a conversation to `emit`, piece by piece.
    fn pieces<'t>(
        self,
        messages: &[Message<'t>],
        wants_answer: bool,
        emit: &mut Emit<'t, '_>,
    ) -> Result<(), ChatError> {
        let family = self.0;
        let first = messages.first().ok_or(ChatError::NoMessages)?;
        emit(Segment::Markup(family.begin))?;
        if first.role != Role::System {
            emit(Segment::Markup(family.without_system))?;
        }
        let mut walk = Walk { family, messages, held: 0, is_open: true };
        for (index, &message) in messages.iter().enumerate() {
            walk.message(index, message, emit)?;
        }
        walk.finish()?;
        let has_answer = match family.answers_users {
            true => messages.last().is_some_and(|last| last.role == Role::User),
            false => wants_answer,
        };
        emit(Segment::Markup(if has_answer { family.answer } else { "" }))
    }
}

/// A part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment<'t> {
    /// The template's own.
    Markup(&'static str),
    /// What a message says.
    Content(&'t [u8]),
}

/// Receives the parts of a prompt, in order.
type Emit<'t, 'e> = dyn FnMut(Segment<'t>) -> Result<(), ChatError> + 'e;

/// Where in a conversation the writing is.
struct Walk<'w, 't> {
    family: &'static Family,
    messages: &'w [Message<'t>],
    /// Messages from here on may be held back: see [`Piece::Held`].
    held: usize,
    /// Whether the turn goes on that the last message was part of.
    is_open: bool,
}

impl<'t> Walk<'_, 't> {
    fn message(
        &mut self,
        index: usize,
        message: Message<'t>,
        emit: &mut Emit<'t, '_>,
    ) -> Result<(), ChatError> {
        let pattern = self.family.pattern(message.role).ok_or(self.no_place(index))?;
        if pattern::holds(pattern) {
            return Ok(());
        }
        if !core::mem::replace(&mut self.is_open, true) {
            emit(Segment::Markup(self.family.reopen))?;
        }
        for piece in pattern::pieces(pattern) {
            match piece {
                Piece::Text(text) => emit(Segment::Markup(text))?,
                Piece::Role => emit(Segment::Markup(message.role.name()))?,
                Piece::Content => emit(Segment::Content(message.content))?,
                Piece::Trimmed => emit(Segment::Content(trim(message.content)))?,
                Piece::Held => self.held(index, emit)?,
                Piece::First if index > 0 => return Err(self.no_place(index)),
                Piece::First | Piece::Hold => {}
                Piece::End => self.is_open = false,
            }
        }
        Ok(())
    }

    /// The messages held back before `index`, one behind the other, and an empty line.
    fn held(&mut self, index: usize, emit: &mut Emit<'t, '_>) -> Result<(), ChatError> {
        let mut is_empty = true;
        for message in self.messages.get(self.held..index).unwrap_or_default() {
            let pattern = self.family.pattern(message.role).filter(|pattern| pattern::holds(pattern));
            for piece in pattern.into_iter().flat_map(pattern::pieces) {
                let content = match piece {
                    Piece::Content => message.content,
                    Piece::Trimmed => trim(message.content),
                    _ => continue,
                };
                is_empty &= content.is_empty();
                emit(Segment::Content(content))?;
            }
        }
        self.held = index;
        if is_empty { Ok(()) } else { emit(Segment::Markup("\n\n")) }
    }

    /// An error when messages are still held back.
    fn finish(&self) -> Result<(), ChatError> {
        let is_held = |message: &Message<'_>| self.family.pattern(message.role).is_some_and(pattern::holds);
        let left = self.messages.get(self.held..).unwrap_or_default().iter().position(is_held);
        left.map_or(Ok(()), |at| Err(self.no_place(self.held.saturating_add(at))))
    }

    fn no_place(&self, index: usize) -> ChatError {
        let role = self.messages.get(index).map_or(Role::System, |message| message.role);
        ChatError::NoPlace { template: self.family.name, index, role }
    }
}
