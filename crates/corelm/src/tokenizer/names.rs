//! Tokens known by their texts, as in llama.cpp: they are control tokens even where a file forgets to say so, because
//! text from users must not become one.

/// Tokens that end a text, a turn or a message in one family of models or another.
pub const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// All of these tokens' texts.
pub fn all() -> impl Iterator<Item = &'static str> {
    let fill_in_ends = FILL_IN_ENDS.iter().flat_map(|(_, texts)| *texts);
    ENDS.iter().chain(&FILL_IN).chain(fill_in_ends).copied()
}

/// Whether a text is one of them.
#[inline]
pub fn is_known(text: &[u8]) -> bool {
    matches!(text.last(), Some(b'>' | b']' | b'[')) && all().any(|name| name.as_bytes() == text)
}

/// Tokens that mark the parts of a prompt to fill in the middle.
pub const FILL_IN: [&str; 24] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// Tokens that stand behind what was filled in, by the key that may name one in their place: generation ends there too.
pub const FILL_IN_ENDS: [(&str, &[&str]); 3] = [
    ("tokenizer.ggml.fim_pad_token_id", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    (
        "tokenizer.ggml.fim_rep_token_id",
        &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    ),
    ("tokenizer.ggml.fim_sep_token_id", &["<|file_sep|>"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_are_known_and_others_are_not() {
        assert!(all().count() == 57 && all().all(|name| is_known(name.as_bytes())));
        assert!(!["", "<", ">", "<s>", "</s> ", "[UNK]"].iter().any(|text| is_known(text.as_bytes())));
    }
}
