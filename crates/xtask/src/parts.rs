//! The parts of `corelm` whose tests are measured: what reads bytes that somebody else made, plans and chooses.

/// A part: its files, and the tests that are about it.
#[derive(Debug)]
pub struct Part {
    /// Its name in tables.
    pub name: &'static str,
    /// Its files below `crates/corelm/src`; a folder stands for all in it.
    pub files: &'static [&'static str],
    /// Integration tests of `corelm`, beside its unit tests.
    pub tests: &'static [&'static str],
}

/// All parts.
pub const PARTS: [Part; 4] = [
    Part {
        name: "parser",
        files: &["gguf.rs", "gguf/"],
        tests: &["gguf", "gguf_rules", "bad_gguf", "digest", "errors", "chat"],
    },
    Part { name: "plan", files: &["plan.rs"], tests: &["errors", "session", "generate", "bad_gguf"] },
    Part { name: "sampler", files: &["sampler.rs", "sampler/"], tests: &["errors", "generate"] },
    Part {
        name: "tokenizer",
        files: &["tokenizer.rs", "tokenizer/"],
        tests: &[
            "encoder",
            "errors",
            "merge_order",
            "pre_tokenizers",
            "rwkv",
            "special_tokens",
            "tokenizer",
            "tokenizer_index",
            "tokenizer_made",
            "tokenizer_scratch",
            "tokenizer_spans",
            "tokenizer_state",
            "unigram",
            "word_piece",
        ],
    },
];

impl Part {
    /// Whether a file of `crates/corelm/src` belongs to the part; files of tests do not.
    pub fn has(&self, file: &str) -> bool {
        let is_test = file.ends_with("/tests.rs");
        let is_in = |entry: &&str| file == *entry || (entry.ends_with('/') && file.starts_with(*entry));
        !is_test && self.files.iter().any(is_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn what_is_named_is_there() {
        let corelm = workspace::root().join("crates/corelm");
        for part in &PARTS {
            for file in part.files {
                assert!(corelm.join("src").join(file).exists(), "{file}");
            }
            for test in part.tests {
                assert!(corelm.join("tests").join(test).with_extension("rs").is_file(), "{test}");
            }
        }
    }

    #[test]
    fn files_have_their_part() {
        let parts = |file| PARTS.iter().filter(|part| part.has(file)).map(|p| p.name).collect::<Vec<_>>();
        assert_eq!(parts("gguf.rs"), ["parser"]);
        assert_eq!(parts("gguf/digest/sha256.rs"), ["parser"]);
        assert_eq!(parts("tokenizer/pre/words.rs"), ["tokenizer"]);
        assert!(parts("sampler/tests.rs").is_empty() && parts("session.rs").is_empty());
    }
}
