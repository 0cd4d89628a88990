//! Who speaks in a conversation.

use super::ChatError;
use crate::error::ShortName;
use core::fmt;

/// Who a message is from. Not every family of models knows them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Who sets the rules.
    System,
    /// As `System`, below it.
    Developer,
    /// Who asks.
    User,
    /// The model.
    Assistant,
    /// The model, calling a tool.
    AssistantToolCall,
    /// What a tool gave.
    Tool,
    /// The same under another name (Granite).
    ToolResponse,
    /// What a function gave.
    Function,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::System,
        Self::Developer,
        Self::User,
        Self::Assistant,
        Self::AssistantToolCall,
        Self::Tool,
        Self::ToolResponse,
        Self::Function,
    ];

    /// The role of that name.
    ///
    /// # Errors
    ///
    /// [`ChatError::UnknownRole`].
    pub fn by_name(name: &str) -> Result<Self, ChatError> {
        let unknown = ChatError::UnknownRole { name: ShortName::new(name.as_bytes()) };
        Self::ALL.into_iter().find(|role| role.name() == name).ok_or(unknown)
    }

    /// Its name, as templates and programs write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::AssistantToolCall => "assistant_tool_call",
            Self::Tool => "tool",
            Self::ToolResponse => "tool_response",
            Self::Function => "function",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
