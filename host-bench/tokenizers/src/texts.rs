//! What is encoded: texts, cut into documents.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A document ends with the first line that ends behind so many bytes: some thousand tokens, as a long prompt has.
const DOCUMENT_BYTES: usize = 16 << 10;
/// How many short texts are taken out of a long one, and how long they are.
const MAX_SHORT: usize = 1000;
const SHORT_CHARS: usize = 100;

/// A text. None of it is said twice to make it longer: caches would look better than they are.
pub struct Text {
    pub name: String,
    pub all: String,
}

impl Text {
    /// A file of UTF-8.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let all = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
        ensure!(!all.is_empty(), "{} is empty", path.display());
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, all })
    }

    /// What the repository at `root` holds: English, which is its documentation and what its sources say in theirs, and
    /// code, which is the sources.
    pub fn of_repository(root: &Path) -> Result<Vec<Self>> {
        let text = |folders: &[&str], extension| -> Result<String> {
            let mut paths = Vec::new();
            for folder in folders {
                find(&root.join(folder), extension, &mut paths)?;
            }
            paths.sort();
            paths.iter().map(|path| Ok(Self::read(path)?.all)).collect()
        };
        let code = text(&["crates", "kernel-tests", "host-bench"], "rs")?;
        let comment = |line: &str| -> Option<String> {
            let line = line.trim_start();
            Some(line.strip_prefix("//!").or(line.strip_prefix("///"))?.trim_start().to_owned() + "\n")
        };
        let english = text(&["", "docs"], "md")? + &code.lines().filter_map(comment).collect::<String>();
        ensure!(!english.is_empty(), "{} is not the repository", root.display());
        Ok(vec![Self { name: "English".into(), all: english }, Self { name: "code".into(), all: code }])
    }

    /// The text in parts.
    pub fn documents(&self) -> Vec<&str> {
        let mut documents = Vec::new();
        let mut rest = self.all.as_str();
        while !rest.is_empty() {
            let from = rest.as_bytes().get(DOCUMENT_BYTES..).unwrap_or_default();
            let end =
                from.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| DOCUMENT_BYTES + at + 1);
            let (document, behind) = rest.split_at(end);
            documents.push(document);
            rest = behind;
        }
        documents
    }

    /// Texts of 100 characters from all over the text, each of which begins behind a space or a new line.
    pub fn short(&self) -> Result<Vec<&str>> {
        let step = (self.all.len() / MAX_SHORT).max(4 * SHORT_CHARS);
        let n = self.all.len() / step;
        ensure!(n > 10, "{} is too short to take short texts out of it", self.name);
        let short = |i: usize| {
            let part = self.all.as_bytes().get(i * step..)?;
            let start = i * step + part.iter().position(|byte| b" \n".contains(byte))? + 1;
            let from = self.all.get(start..)?;
            let (end, _) = from.char_indices().nth(SHORT_CHARS)?;
            from.get(..end)
        };
        // The last may reach behind the end.
        Ok((0..n).filter_map(short).collect())
    }
}

/// Adds the files in `folder` and, unless it is the top one, below whose names end so.
fn find(folder: &Path, extension: &str, paths: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(extension)) {
            paths.push(path);
        } else if extension == "rs" && path.is_dir() && !path.ends_with("target") {
            find(&path, extension, paths)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_the_text() {
        let all: String = (0..9000).map(|i| format!("{i} é\n")).collect();
        let text = Text { name: "numbers".into(), all };
        let documents = text.documents();
        assert_eq!(documents.concat(), text.all);
        assert!(documents.len() > 4 && documents.iter().all(|document| document.ends_with('\n')));
        assert!(documents.iter().all(|document| document.len() < DOCUMENT_BYTES + 10));
    }

    #[test]
    fn short_texts_have_100_characters() {
        let text = Text { name: "words".into(), all: "wörter und Wörter\n".repeat(40_000) };
        let short = text.short().unwrap();
        assert!(short.len() >= MAX_SHORT - 1);
        assert!(short.iter().all(|text| text.chars().count() == SHORT_CHARS));
        assert!(Text { name: "few".into(), all: "a b\n".into() }.short().is_err());
    }
}
