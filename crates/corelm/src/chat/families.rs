//! The table of families: how each writes a conversation. One row is one family; a new one needs a row here and its
//! marks in `detect.rs`.
//!
//! A row says what stands before the messages, how a message of each role is written, and how an answer begins. What is
//! left out is empty, and a role without a pattern has no place. `pattern.rs` explains the names in braces.

use super::Role;
use crate::tokenizer::MAX_MARKUP;

/// How a family writes a conversation.
#[derive(Debug)]
pub(super) struct Family {
    /// As llama.cpp calls it.
    pub name: &'static str,
    /// Before the first message.
    pub begin: &'static str,
    /// Behind `begin` when the first message is not the system's.
    pub without_system: &'static str,
    /// Before a message that follows an `{end}`.
    pub reopen: &'static str,
    /// The patterns of messages: of a role, or else of `any`.
    pub any: &'static str,
    pub system: &'static str,
    pub user: &'static str,
    pub assistant: &'static str,
    pub call: &'static str,
    pub tool: &'static str,
    pub function: &'static str,
    /// How the assistant's next message begins, where its pattern or the user's does not say.
    pub answer: &'static str,
    /// Whether `answer` follows every user's message that comes last, and nothing else.
    pub answers_users: bool,
}

impl Family {
    /// The pattern of a role's messages.
    pub fn pattern(&self, role: Role) -> Option<&'static str> {
        let own = match role {
            Role::System => self.system,
            Role::User => self.user,
            Role::Assistant => self.assistant,
            Role::AssistantToolCall => self.call,
            Role::Tool => self.tool,
            Role::Function => self.function,
            Role::Developer | Role::ToolResponse => "",
        };
        [own, self.any].into_iter().find(|pattern| !pattern.is_empty())
    }

    /// All texts that markup comes from.
    pub fn texts(&self) -> [&'static str; MAX_MARKUP] {
        [
            self.begin,
            self.without_system,
            self.reopen,
            self.any,
            self.system,
            self.user,
            self.assistant,
            self.call,
            self.tool,
            self.function,
            self.answer,
        ]
    }
}

const NONE: Family = Family {
    name: "",
    begin: "",
    without_system: "",
    reopen: "",
    any: "",
    system: "",
    user: "",
    assistant: "",
    call: "",
    tool: "",
    function: "",
    answer: "",
    answers_users: false,
};

const LLAMA2: Family = Family {
    begin: "[INST] ",
    reopen: "[INST] ",
    system: "<<SYS>>\n{content}\n<</SYS>>\n\n",
    user: "{content} [/INST]",
    assistant: "{content}</s>{end}",
    ..NONE
};

const GRANITE: Family = Family {
    any: "<|start_of_role|>{role}<|end_of_role|>{content}<|end_of_text|>\n",
    call: "<|start_of_role|>assistant<|end_of_role|><|tool_call|>{content}<|end_of_text|>\n",
    answer: "<|start_of_role|>assistant<|end_of_role|>",
    ..NONE
};

const BAILING: Family = Family {
    system: "<role>SYSTEM</role>{content}",
    user: "<role>HUMAN</role>{content}",
    assistant: "<role>ASSISTANT</role>{content}",
    tool: "<role>TOOL</role>{content}",
    answer: "<role>ASSISTANT</role>",
    ..NONE
};

/// In the order of their names.
pub(super) const FAMILIES: &[Family] = &[
    Family { name: "bailing", ..BAILING },
    Family { name: "bailing-think", answer: "<role>ASSISTANT</role><think>", ..BAILING },
    Family {
        name: "bailing2",
        without_system: "<role>SYSTEM</role>detailed thinking off<|role_end|>",
        system: "<role>SYSTEM</role>{content}<|role_end|>",
        user: "<role>HUMAN</role>{content}<|role_end|>",
        assistant: "<role>ASSISTANT</role>{content}<|role_end|>",
        tool: "<role>TOOL</role>{content}<|role_end|>",
        answer: "<role>ASSISTANT</role>",
        ..NONE
    },
    Family {
        name: "chatglm3",
        begin: "[gMASK]sop",
        any: "<|{role}|>\n {content}",
        answer: "<|assistant|>",
        ..NONE
    },
    Family {
        name: "chatglm4",
        begin: "[gMASK]<sop>",
        any: "<|{role}|>\n{content}",
        answer: "<|assistant|>\n",
        ..NONE
    },
    Family {
        name: "chatml",
        any: "<|im_start|>{role}\n{content}<|im_end|>\n",
        answer: "<|im_start|>assistant\n",
        ..NONE
    },
    Family {
        name: "command-r",
        system: "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{trimmed}<|END_OF_TURN_TOKEN|>",
        user: "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{trimmed}<|END_OF_TURN_TOKEN|>",
        assistant: "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{trimmed}<|END_OF_TURN_TOKEN|>",
        answer: "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ..NONE
    },
    Family {
        name: "deepseek",
        system: "{content}",
        user: "### Instruction:\n{content}\n",
        assistant: "### Response:\n{content}\n<|EOT|>\n",
        answer: "### Response:\n",
        ..NONE
    },
    Family { name: "deepseek-ocr", any: "{content}", ..NONE },
    Family {
        name: "deepseek2",
        system: "{content}\n\n",
        user: "User: {content}\n\n",
        assistant: "Assistant: {content}<｜end▁of▁sentence｜>",
        answer: "Assistant:",
        ..NONE
    },
    Family {
        name: "deepseek3",
        system: "{content}\n\n",
        user: "<｜User｜>{content}",
        assistant: "<｜Assistant｜>{content}<｜end▁of▁sentence｜>",
        answer: "<｜Assistant｜>",
        ..NONE
    },
    Family {
        name: "dots1",
        system: "<|system|>{content}<|endofsystem|>",
        user: "<|userprompt|>{content}<|endofuserprompt|>",
        assistant: "<|response|>{content}<|endofresponse|>",
        answer: "<|response|>",
        ..NONE
    },
    Family {
        name: "exaone-moe",
        system: "<|system|>\n{trimmed}<|endofturn|>\n",
        user: "<|user|>\n{trimmed}<|endofturn|>\n",
        assistant: "<|assistant|>\n{trimmed}<|endofturn|>\n",
        tool: "<|tool|>\n{trimmed}<|endofturn|>\n",
        answer: "<|assistant|>\n",
        ..NONE
    },
    Family {
        name: "exaone3",
        system: "[|system|]{trimmed}[|endofturn|]\n",
        user: "[|user|]{trimmed}\n",
        assistant: "[|assistant|]{trimmed}[|endofturn|]\n",
        answer: "[|assistant|]",
        ..NONE
    },
    Family {
        name: "exaone4",
        system: "[|system|]{trimmed}[|endofturn|]\n",
        user: "[|user|]{trimmed}\n",
        assistant: "[|assistant|]{trimmed}[|endofturn|]\n",
        tool: "[|tool|]{trimmed}[|endofturn|]\n",
        answer: "[|assistant|]",
        ..NONE
    },
    Family { name: "falcon3", any: "<|{role}|>\n{content}\n", answer: "<|assistant|>\n", ..NONE },
    Family {
        name: "gemma",
        any: "<start_of_turn>{role}\n{held}{trimmed}<end_of_turn>\n",
        system: "{hold}{trimmed}",
        assistant: "<start_of_turn>model\n{trimmed}<end_of_turn>\n",
        answer: "<start_of_turn>model\n",
        ..NONE
    },
    Family {
        name: "gigachat",
        begin: "<s>",
        system: "{first}{content}<|message_sep|>",
        user: "user<|role_sep|>{content}<|message_sep|>available functions<|role_sep|>[]<|message_sep|>",
        assistant: "assistant<|role_sep|>{content}<|message_sep|>",
        answer: "assistant<|role_sep|>",
        ..NONE
    },
    Family { name: "glmedge", any: "<|{role}|>\n{content}", answer: "<|assistant|>", ..NONE },
    Family {
        name: "gpt-oss",
        any: "<|start|>{role}<|message|>{content}<|end|>",
        assistant: "<|start|>assistant<|message|>{content}<|return|>",
        answer: "<|start|>assistant",
        ..NONE
    },
    Family {
        name: "granite",
        call: "<|start_of_role|>{role}<|end_of_role|><|tool_call|>{content}<|end_of_text|>\n",
        ..GRANITE
    },
    Family { name: "granite-4.0", ..GRANITE },
    Family { name: "granite-4.1", ..GRANITE },
    Family {
        name: "grok-2",
        system: "System: {trimmed}<|separator|>\n\n",
        user: "Human: {trimmed}<|separator|>\n\n",
        assistant: "Assistant: {content}<|separator|>\n\n",
        answer: "Assistant:",
        ..NONE
    },
    Family {
        name: "hunyuan-dense",
        system: "{first}{content}<｜hy_place▁holder▁no▁3｜>",
        user: "<｜hy_User｜>{content}<｜hy_Assistant｜>",
        assistant: "<｜hy_Assistant｜>{content}<｜hy_place▁holder▁no▁2｜>",
        ..NONE
    },
    Family {
        name: "hunyuan-moe",
        system: "<|startoftext|>{content}<|extra_4|>",
        user: "<|startoftext|>{content}<|extra_0|>",
        assistant: "{content}<|eos|>",
        ..NONE
    },
    Family {
        name: "hunyuan-vl",
        begin: "<｜hy_begin▁of▁sentence｜>",
        system: "{first}{content}<｜hy_place▁holder▁no▁3｜>",
        user: "{content}<｜hy_User｜>",
        assistant: "{content}<｜hy_Assistant｜>",
        ..NONE
    },
    Family {
        name: "kimi-k2",
        system: "<|im_system|>system<|im_middle|>{content}<|im_end|>",
        user: "<|im_user|>user<|im_middle|>{content}<|im_end|>",
        assistant: "<|im_assistant|>assistant<|im_middle|>{content}<|im_end|>",
        tool: "<|im_system|>tool<|im_middle|>{content}<|im_end|>",
        answer: "<|im_assistant|>assistant<|im_middle|>",
        ..NONE
    },
    Family { name: "llama2", system: "{content}\n", ..LLAMA2 },
    Family { name: "llama2-sys", ..LLAMA2 },
    Family { name: "llama2-sys-bos", reopen: "<s>[INST] ", ..LLAMA2 },
    Family {
        name: "llama2-sys-strip",
        system: "<<SYS>>\n{trimmed}\n<</SYS>>\n\n",
        user: "{trimmed} [/INST]",
        assistant: "{trimmed}</s>{end}",
        ..LLAMA2
    },
    Family {
        name: "llama3",
        any: "<|start_header_id|>{role}<|end_header_id|>\n\n{trimmed}<|eot_id|>",
        answer: "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ..NONE
    },
    Family {
        name: "llama4",
        any: "<|header_start|>{role}<|header_end|>\n\n{trimmed}<|eot|>",
        answer: "<|header_start|>assistant<|header_end|>\n\n",
        ..NONE
    },
    Family {
        name: "megrez",
        any: "<|role_start|>{role}<|role_end|>{content}<|turn_end|>",
        answer: "<|role_start|>assistant<|role_end|>",
        ..NONE
    },
    Family {
        name: "minicpm",
        system: "{trimmed}",
        user: "<用户>{trimmed}<AI>",
        assistant: "{trimmed}",
        ..NONE
    },
    Family {
        name: "mistral-v1",
        begin: " [INST] ",
        reopen: " [INST] ",
        system: "{content}\n\n",
        user: "{content} [/INST]",
        assistant: " {content}</s>{end}",
        ..NONE
    },
    Family {
        name: "mistral-v3",
        begin: "[INST] ",
        reopen: "[INST] ",
        system: "{content}\n\n",
        user: "{content}[/INST]",
        assistant: " {trimmed}</s>{end}",
        ..NONE
    },
    Family {
        name: "mistral-v3-tekken",
        begin: "[INST]",
        reopen: "[INST]",
        system: "{content}\n\n",
        user: "{content}[/INST]",
        assistant: "{content}</s>{end}",
        ..NONE
    },
    Family {
        name: "mistral-v7",
        system: "[SYSTEM_PROMPT] {content}[/SYSTEM_PROMPT]",
        user: "[INST] {content}[/INST]",
        assistant: " {content}</s>",
        ..NONE
    },
    Family {
        name: "mistral-v7-tekken",
        system: "[SYSTEM_PROMPT]{content}[/SYSTEM_PROMPT]",
        user: "[INST]{content}[/INST]",
        assistant: "{content}</s>",
        ..NONE
    },
    Family {
        name: "monarch",
        reopen: "<s>",
        any: "{role}\n{content}</s>\n{end}",
        answer: "<s>assistant\n",
        ..NONE
    },
    Family {
        name: "openchat",
        system: "{content}<|end_of_turn|>",
        user: "GPT4 Correct User: {content}<|end_of_turn|>",
        assistant: "GPT4 Correct Assistant: {content}<|end_of_turn|>",
        tool: "GPT4 Correct Tool: {content}<|end_of_turn|>",
        answer: "GPT4 Correct Assistant:",
        ..NONE
    },
    Family {
        name: "orion",
        system: "{hold}{content}",
        user: "Human: {held}{content}\n\nAssistant: </s>",
        assistant: "{content}</s>",
        ..NONE
    },
    Family {
        name: "pangu-embedded",
        without_system: "[unused9]系统：[unused10]",
        system: "[unused9]系统：{content}[unused10]",
        user: "[unused9]用户：{content}[unused10]",
        assistant: "[unused9]助手：{content}[unused10]",
        tool: "[unused9]工具：{content}[unused10]",
        function: "[unused9]方法：{content}[unused10]",
        answer: "[unused9]助手：",
        ..NONE
    },
    Family { name: "phi3", any: "<|{role}|>\n{content}<|end|>\n", answer: "<|assistant|>\n", ..NONE },
    Family {
        name: "phi4",
        any: "<|im_start|>{role}<|im_sep|>{content}<|im_end|>",
        answer: "<|im_start|>assistant<|im_sep|>",
        ..NONE
    },
    Family {
        name: "rwkv-world",
        system: "System: {trimmed}\n\n",
        user: "User: {trimmed}\n\n",
        assistant: "Assistant: {trimmed}\n\n",
        answer: "Assistant:",
        answers_users: true,
        ..NONE
    },
    Family {
        name: "seed_oss",
        any: "<seed:bos>{role}\n{content}<seed:eos>",
        assistant: "<seed:bos>assistant\n{trimmed}<seed:eos>",
        answer: "<seed:bos>assistant\n",
        ..NONE
    },
    Family {
        name: "smolvlm",
        begin: "<|im_start|>",
        system: "{content}\n\n",
        user: "User: {content}<end_of_utterance>\n",
        assistant: "Assistant: {content}<end_of_utterance>\n",
        answer: "Assistant:",
        ..NONE
    },
    Family {
        name: "solar-open",
        any: "<|begin|>{role}<|content|>{content}<|end|>",
        answer: "<|begin|>assistant",
        ..NONE
    },
    Family {
        name: "vicuna",
        system: "{content}\n\n",
        user: "USER: {content}\n",
        assistant: "ASSISTANT: {content}</s>\n",
        answer: "ASSISTANT:",
        ..NONE
    },
    Family {
        name: "vicuna-orca",
        system: "SYSTEM: {content}\n",
        user: "USER: {content}\n",
        assistant: "ASSISTANT: {content}</s>\n",
        answer: "ASSISTANT:",
        ..NONE
    },
    Family {
        name: "yandex",
        user: " Пользователь: {content}\n\n",
        assistant: " Ассистент: {content}\n\n",
        answer: " Ассистент:[SEP]",
        ..NONE
    },
    Family { name: "zephyr", any: "<|{role}|>\n{content}<|endoftext|>\n", answer: "<|assistant|>\n", ..NONE },
];

#[cfg(test)]
mod tests {
    use super::super::pattern::{Piece, pieces};
    use super::*;

    /// What the walk over a conversation and its room rely on.
    #[test]
    fn rows_are_in_order_and_say_each_message_once() {
        assert!(FAMILIES.is_sorted_by(|a, b| a.name < b.name), "names out of order or twice");
        for family in FAMILIES {
            let name = family.name;
            let mut holds = false;
            let mut has_held = false;
            for role in Role::ALL {
                let Some(pattern) = family.pattern(role) else { continue };
                let says = |piece| matches!(piece, Piece::Content | Piece::Trimmed);
                assert_eq!(pieces(pattern).filter(|&piece| says(piece)).count(), 1, "{name} {role}");
                let count = |wanted| pieces(pattern).filter(|&piece| piece == wanted).count();
                holds |= count(Piece::Hold) > 0;
                has_held |= count(Piece::Held) > 0;
                assert_eq!(count(Piece::Hold) > 0, super::super::pattern::holds(pattern), "{name} {role}");
                assert!(count(Piece::End) == 0 || !family.reopen.is_empty(), "{name} {role}");
            }
            assert_eq!(holds, has_held, "{name}: what is held back is written, and only then");
            assert!(
                family.pattern(Role::User).is_some() && family.pattern(Role::Assistant).is_some(),
                "{name}"
            );
            for text in [family.begin, family.without_system, family.reopen, family.answer] {
                assert!(!text.contains(['{', '}']), "{name}: {text}");
            }
        }
    }
}
