//! What tells families apart: marks in the source of their templates, tried in llama.cpp's order.

use super::families::FAMILIES;
use crate::error::ModelError;
use crate::gguf::limits::CHAT_TEMPLATE_BYTES;
use crate::text::contains;

/// A family, and the texts that all stand in its template's source. The first that fits is it.
type Mark = (&'static str, &'static [&'static str]);

const MARKS: &[Mark] = &[
    ("phi4", &["<|im_start|>", "<|im_sep|>"]),
    ("smolvlm", &["<|im_start|>", "<end_of_utterance>"]),
    ("chatml", &["<|im_start|>"]),
    ("mistral-v7", &["[INST]", "[SYSTEM_PROMPT]"]),
    ("mistral-v1", &["' [INST] ' + system_message"]),
    ("mistral-v1", &[" [INST]", "[AVAILABLE_TOOLS]"]),
    ("mistral-v3-tekken", &["\"[INST]\"", "[AVAILABLE_TOOLS]"]),
    ("mistral-v3", &["[INST]", "[AVAILABLE_TOOLS]"]),
    ("llama2-sys-strip", &["[INST]", "content.strip()"]),
    ("llama2-sys-bos", &["bos_token + '[INST]"]),
    ("llama2-sys", &["[INST]", "<<SYS>>"]),
    ("llama2", &["[INST]"]),
    ("phi3", &["<|assistant|>", "<|end|>"]),
    ("chatglm4", &["[gMASK]<sop>"]),
    ("exaone-moe", &["<|assistant|>", "<|user|>", "<|tool_declare|>"]),
    ("falcon3", &["<|assistant|>", "<|user|>", "</s>"]),
    ("glmedge", &["<|assistant|>", "<|user|>"]),
    ("glmedge", &["<|{{ item['role'] }}|>", "<|begin_of_image|>"]),
    ("zephyr", &["<|user|>", "<|endoftext|>"]),
    ("monarch", &["bos_token + message['role']"]),
    ("gemma", &["<start_of_turn>"]),
    ("orion", &["'\\n\\nAssistant: ' + eos_token"]),
    ("openchat", &["GPT4 Correct "]),
    ("vicuna-orca", &["USER: ", "ASSISTANT: ", "SYSTEM: "]),
    ("vicuna", &["USER: ", "ASSISTANT: "]),
    ("deepseek", &["### Instruction:", "<|EOT|>"]),
    ("command-r", &["<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>"]),
    ("llama3", &["<|start_header_id|>", "<|end_header_id|>"]),
    ("chatglm3", &["[gMASK]sop"]),
    ("minicpm", &["<用户>"]),
    ("deepseek2", &["'Assistant: ' + message['content'] + eos_token"]),
    ("deepseek3", &["<｜Assistant｜>", "<｜User｜>", "<｜end▁of▁sentence｜>"]),
    ("exaone4", &["[|system|]", "[|assistant|]", "[|endofturn|]", "[|tool|]"]),
    ("exaone3", &["[|system|]", "[|assistant|]", "[|endofturn|]"]),
    ("rwkv-world", &["rwkv-world"]),
    ("rwkv-world", &["{{- 'User: ' + message['content']|trim + '\\n\\n' -}}"]),
    ("granite-4.0", &["<|start_of_role|>", "<tool_call>", "g4_default_system_message"]),
    ("granite-4.0", &["<|start_of_role|>", "<tools>", "g4_default_system_message"]),
    ("granite-4.1", &["<|start_of_role|>", "<tool_call>"]),
    ("granite-4.1", &["<|start_of_role|>", "<tools>"]),
    ("granite", &["<|start_of_role|>"]),
    (
        "gigachat",
        &[
            "message['role'] + additional_special_tokens[0] + message['content'] + additional_special_tokens[1]",
        ],
    ),
    ("megrez", &["<|role_start|>"]),
    ("yandex", &[" Ассистент:"]),
    ("bailing", &["<role>ASSISTANT</role>", "'HUMAN'"]),
    ("bailing-think", &["<role>ASSISTANT</role>", "\"HUMAN\"", "<think>"]),
    ("bailing2", &["<role>ASSISTANT</role>", "<role>HUMAN</role>", "<|role_end|>"]),
    ("llama4", &["<|header_start|>", "<|header_end|>"]),
    ("dots1", &["<|endofuserprompt|>"]),
    ("hunyuan-moe", &["<|extra_0|>", "<|extra_4|>"]),
    ("gpt-oss", &["<|start|>", "<|channel|>"]),
    ("hunyuan-vl", &["<｜hy_Assistant｜>", "<｜hy_begin▁of▁sentence｜>"]),
    ("hunyuan-dense", &["<｜hy_Assistant｜>", "<｜hy_place▁holder▁no▁3｜>"]),
    ("kimi-k2", &["<|im_assistant|>assistant<|im_middle|>"]),
    ("seed_oss", &["<seed:bos>"]),
    ("grok-2", &["'Assistant: '  + message['content'] + '<|separator|>"]),
    ("pangu-embedded", &["[unused9]系统：[unused10]"]),
    ("solar-open", &["<|begin|>", "<|end|>", "<|content|>"]),
];

/// The name of the family that `source` is a template of; a source may also be no more than that name.
///
/// # Errors
///
/// [`ModelError::Limit`] for a source that would take long to look through.
pub(super) fn family(source: &[u8]) -> Result<Option<&'static str>, ModelError> {
    CHAT_TEMPLATE_BYTES.check(source.len() as u64)?;
    let named = FAMILIES.iter().map(|family| family.name).find(|name| name.as_bytes() == source);
    let has_all = |texts: &[&str]| texts.iter().all(|text| contains(source, text.as_bytes()));
    Ok(named.or_else(|| MARKS.iter().find(|mark| has_all(mark.1)).map(|mark| mark.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_of_families_and_each_family_but_one_has_some() {
        for (name, _) in MARKS {
            assert!(FAMILIES.iter().any(|family| family.name == *name), "{name}");
        }
        for family in FAMILIES {
            // Chosen by name only.
            let is_by_name = ["deepseek-ocr", "mistral-v7-tekken"].contains(&family.name);
            assert_eq!(MARKS.iter().any(|mark| mark.0 == family.name), !is_by_name, "{}", family.name);
        }
    }

    /// A row behind one that asks for less would never be reached.
    #[test]
    fn every_row_can_be_found() {
        extern crate std;
        for (name, texts) in MARKS {
            let source = texts.join(" and ");
            assert_eq!(family(source.as_bytes()), Ok(Some(*name)), "{source}");
        }
        assert_eq!(family(b"{{ messages }}"), Ok(None));
        assert!(family(&std::vec![b' '; (CHAT_TEMPLATE_BYTES.max + 1) as usize]).is_err());
    }
}
