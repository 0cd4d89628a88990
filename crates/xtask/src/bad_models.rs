//! Files made to break loaders (`../shared/bad-gguf`), given to the kernel: each is answered as on the host, to the code of the
//! error, and the kernel goes on.

use crate::boots;
use crate::figures;
use crate::process::{self, cargo, logged};
use crate::qemu::{Boot, Cpu};
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PROMPT: &str = "the cat and";
const N_TOKENS: &str = "8";
/// The kernel's test that paints the stack.
const PAINTED: &str = "engine_tells_its_stack";
/// At least so many are compared, or the corpus is not what it was.
const LEAST: usize = 100;

/// One boot for each file: its text, or its error, is the host's, and another model is loaded after it.
///
/// # Errors
///
/// When an answer differs, or the kernel does not go on.
pub fn are_answered_as_on_the_host(image: &Path) -> Result<Outcome> {
    let Some(shared) = workspace::shared()? else { return Ok(Outcome::Skipped("no ../shared".to_owned())) };
    let files = files(&shared.join("bad-gguf"))?;
    ensure!(files.len() >= LEAST, "{} files", files.len());
    let answers = on_the_host(&files)?;
    let mut wrong = Vec::new();
    let mut n_refused = 0;
    for (file, host) in files.iter().zip(&answers) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let kernel = in_the_kernel(image, file).with_context(|| name.to_string())?;
        n_refused += usize::from(host.starts_with("error: "));
        if kernel != *host {
            wrong.push(format!("{name}: {kernel}\n  on the host: {host}"));
        }
    }
    ensure!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    let told = format!("{} files on cortex-a72: text or error as on the host, to its code", files.len());
    figures::note("R2", "QEMU", told);
    Ok(Outcome::Noted(files.len(), format!("{n_refused} of them refused")))
}

/// One boot for each file: whatever it is, loading it and asking it take no more of the stack than is proved.
///
/// # Errors
///
/// When a call takes more, or the kernel does not end well.
pub fn stay_within_the_stack(image: &Path) -> Result<Outcome> {
    let Some(shared) = workspace::shared()? else { return Ok(Outcome::Skipped("no ../shared".to_owned())) };
    let files = files(&shared.join("bad-gguf"))?;
    let mut deepest = 0;
    for file in &files {
        let boot = Boot {
            initrd: Some(file.clone()),
            timeout: Duration::from_secs(60),
            ..Boot::new(Cpu::CortexA72, format!("mode=test filter={PAINTED}"))
        };
        let printed = boot.checked(image)?;
        ensure!(printed.contains("stack parse "), "{}: no stack is told\n{printed}", file.display());
        deepest = deepest.max(boots::deepest(&printed)?);
    }
    let told = format!("{deepest} bytes at most, of loading and asking {} files (cortex-a72)", files.len());
    figures::note("R8", "painted, bad files", told);
    Ok(Outcome::Noted(files.len(), format!("{deepest} bytes at most")))
}

/// The good models and the bad ones. An empty file is left out: to QEMU it is no ramdisk.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let manifest = fs::read(folder.join("manifest.json")).context("no manifest")?;
    let manifest: Vec<Value> = serde_json::from_slice(&manifest)?;
    let cases = manifest
        .iter()
        .filter_map(|case| case["id"].as_str())
        .map(|id| folder.join(format!("cases/{id}.gguf")));
    let good = ["valid-mini.gguf", "valid-tiny.gguf"].map(|name| folder.join(name));
    let is_full = |file: &PathBuf| fs::metadata(file).is_ok_and(|about| about.len() > 0);
    Ok(good.into_iter().chain(cases).filter(is_full).collect())
}

fn on_the_host(files: &[PathBuf]) -> Result<Vec<String>> {
    logged(&mut cargo(&["build", "--package", "corelm-fuzz", "--bin", "fuzz-corpus"]), "fuzz-corpus")?;
    let mut answer = Command::new(workspace::target_dir().join("debug/fuzz-corpus"));
    let printed = process::output(answer.args(["answer", PROMPT, N_TOKENS]).args(files))?;
    let answers: Vec<String> = printed.lines().map(str::to_owned).collect();
    ensure!(answers.len() == files.len(), "{} answers for {} files", answers.len(), files.len());
    Ok(answers)
}

/// What the kernel says of a file, behind which it must load another model and end well.
fn in_the_kernel(image: &Path, file: &Path) -> Result<String> {
    let infer = format!("infer {PROMPT}");
    let boot = Boot {
        initrd: Some(file.to_owned()),
        input: format!("{infer}\rload demo\rexit\r"),
        timeout: Duration::from_secs(60),
        ..Boot::new(
            Cpu::CortexA72,
            format!("mode=shell model=initrd ctx=32 kv=f16 n={N_TOKENS} backend=scalar"),
        )
    };
    let printed = boot.checked(image)?.replace('\r', "");
    said(&printed, &infer).with_context(|| format!("the kernel did not go on\n{}", process::tail(&printed)))
}

/// The error of a model that was not loaded, or the text that a loaded one gave, as one line; `None` when another model was
/// not loaded behind it.
fn said(printed: &str, infer: &str) -> Option<String> {
    let (before, after) = printed.split_once(infer)?;
    let (text, after) = after.strip_prefix('\n')?.split_once("\ncorelm> load demo\n")?;
    after.starts_with("model: ").then_some(())?;
    let refused = before.lines().find(|line| line.starts_with("error: "));
    let said = match refused {
        Some(error) if text == "error: no model is loaded" => error,
        Some(_) => return None,
        None => text,
    };
    Some(said.escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "\ncorelm> load demo\nmodel: llama, 6 layers\ncorelm> exit\n";

    #[test]
    fn the_error_of_loading_counts() {
        let printed =
            format!("x\nerror: bad magic (code 101)\ncorelm> infer a\nerror: no model is loaded{END}");
        assert_eq!(said(&printed, "infer a").unwrap(), "error: bad magic (code 101)");
        assert_eq!(said(&printed.replace("model: llama", "error"), "infer a"), None);
    }

    #[test]
    fn else_the_text_does() {
        let printed = format!("x\nmodel: llama\ncorelm> infer a\n b\n\u{7f}c{END}");
        assert_eq!(said(&printed, "infer a").unwrap(), " b\\n\\u{7f}c");
        assert_eq!(said("model: llama\ncorelm> infer a\nb", "infer a"), None);
    }
}
