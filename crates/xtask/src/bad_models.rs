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

/// What each model is asked.
pub const PROMPT: &str = "the cat and";
/// How many tokens it answers with.
pub const N_TOKENS: &str = "8";
/// The kernel's test that paints the stack.
const PAINTED: &str = "engine_tells_its_stack";
/// The CPUs that this is done on: the back-ends of all tiers, and NEON as small cores have it.
const PAINTED_ON: [Cpu; 2] = [Cpu::CortexA72, Cpu::Max];
/// At least so many are compared, or the corpus is not what it was.
const LEAST: usize = 100;
/// The same of prompts.
const LEAST_PROMPTS: usize = 10;

/// One boot for each file: its text, or its error, is the host's, and another model is loaded after it.
///
/// # Errors
///
/// When an answer differs, or the kernel does not go on.
pub fn are_answered_as_on_the_host(image: &Path) -> Result<Outcome> {
    as_on_the_host("QEMU", "cortex-a72", |file| in_the_kernel(image, file))
}

/// The same by a kernel that `answer` asks, on `machine`; the figure it stands for is `measure`.
///
/// # Errors
///
/// When an answer differs, or `answer` fails.
pub fn as_on_the_host(
    measure: &str,
    machine: &str,
    answer: impl Fn(&Path) -> Result<String>,
) -> Result<Outcome> {
    let Some(shared) = workspace::shared()? else { return Ok(Outcome::Skipped("no ../shared".to_owned())) };
    let files = files(&shared.join("bad-gguf"))?;
    ensure!(files.len() >= LEAST, "{} files", files.len());
    let answers = on_the_host(&files)?;
    let mut wrong = Vec::new();
    let mut n_refused = 0;
    for (file, host) in files.iter().zip(&answers) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let kernel = answer(file).with_context(|| name.to_string())?;
        n_refused += usize::from(host.starts_with("error: "));
        if kernel != *host {
            wrong.push(format!("{name}: {kernel}\n  on the host: {host}"));
        }
    }
    ensure!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    let told = format!("{} files on {machine}: text or error as on the host, to its code", files.len());
    figures::note("R2", measure, told);
    Ok(Outcome::Noted(files.len(), format!("{n_refused} of them refused")))
}

/// One boot for each file and CPU: whatever it is, loading it and asking it each of the hostile prompts take no more of the
/// stack than is proved. Of the good models the prompts have the tokens that llama.cpp gives them.
///
/// # Errors
///
/// When a call takes more, tokens are others, or the kernel does not end well.
pub fn stay_within_the_stack(image: &Path) -> Result<Outcome> {
    let Some(shared) = workspace::shared()? else { return Ok(Outcome::Skipped("no ../shared".to_owned())) };
    let folder = shared.join("bad-gguf");
    let (files, prompts) = (files(&folder)?, Prompts::read(&folder.join("prompts"))?);
    let (mut deepest, mut n_asked) = (0, 0);
    for cpu in PAINTED_ON {
        for file in &files {
            let printed = prompts.ask(image, cpu, file)?;
            deepest = deepest.max(boots::deepest(&printed)?);
            n_asked += usize::from(printed.contains("stack generate/"));
        }
    }
    let told = format!(
        "{deepest} bytes at most, of loading {} files and asking those that load {} prompts ({})",
        files.len(),
        prompts.0.len(),
        PAINTED_ON.map(Cpu::name).join(", ")
    );
    figures::note("R8", "painted, bad files", told);
    let n_boots = files.len() * PAINTED_ON.len();
    Ok(Outcome::Noted(n_boots, format!("{n_asked} of them loaded, {deepest} bytes at most")))
}

/// The hostile prompts of the corpus.
struct Prompts(Vec<Prompt>);

/// A text, and what is known of its tokens in the vocabulary of the good models.
struct Prompt {
    name: String,
    text: Vec<u8>,
    known: Value,
}

impl Prompts {
    fn read(folder: &Path) -> Result<Prompts> {
        let known: Value = serde_json::from_slice(&fs::read(folder.join("expected.json"))?)?;
        let known = known["prompts"].as_object().context("no prompts")?;
        ensure!(known.len() >= LEAST_PROMPTS, "{} prompts", known.len());
        let read = |(name, known): (&String, &Value)| {
            let text = fs::read(folder.join(name).with_extension("bin"))?;
            Ok(Prompt { name: name.clone(), text, known: known.clone() })
        };
        Ok(Prompts(known.iter().map(read).collect::<Result<_>>()?))
    }

    /// As the kernel reads them (`kernel-tests/src/texts.rs`).
    fn packed(&self) -> Vec<u8> {
        let pack = |Prompt { name, text, .. }: &Prompt| {
            [format!("{name} {}\n", text.len()).as_bytes(), text.as_slice()].concat()
        };
        self.0.iter().flat_map(pack).collect()
    }

    /// What the kernel prints that gives them to the model in `file`. One that loads is asked all of them.
    fn ask(&self, image: &Path, cpu: Cpu, file: &Path) -> Result<String> {
        let texts = self.packed();
        let ramdisk = workspace::target_dir().join("xtask/asked.gguf");
        fs::write(&ramdisk, [fs::read(file)?, texts.clone()].concat())?;
        let boot = Boot {
            initrd: Some(ramdisk),
            timeout: Duration::from_secs(60),
            ..Boot::new(cpu, format!("mode=test filter={PAINTED} texts={}", texts.len()))
        };
        let printed = boot.checked(image).with_context(|| file.display().to_string())?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        ensure!(printed.contains("stack parse "), "{name}: no stack is told\n{printed}");
        let is_good = name.starts_with("valid-");
        ensure!(!is_good || !printed.contains("no answer"), "{name}: no answer\n{printed}");
        for prompt in self.0.iter().filter(|_| is_good || !printed.contains("stack: refused")) {
            prompt.check(&printed, is_good).with_context(|| format!("{name}, {}\n{printed}", prompt.name))?;
        }
        Ok(printed)
    }
}

impl Prompt {
    /// Whether the kernel was given this prompt, and found the tokens that are known.
    fn check(&self, printed: &str, is_known: bool) -> Result<()> {
        let Prompt { name, known, .. } = self;
        let calls = [format!("stack encode/{name} "), format!("stack encode/{name}/controls ")];
        ensure!(calls.iter().all(|call| printed.contains(call)), "was not asked");
        if !is_known {
            return Ok(());
        }
        let line = printed.lines().find_map(|line| line.strip_prefix(&format!("tokens {name} ")));
        let told: Vec<&str> = line.context("has no tokens")?.split_whitespace().collect();
        if known["lossy_in_llama_cpp"] == false {
            let counts = ["count_plain", "count_special"].map(|key| known[key].to_string());
            let want = [counts[0].as_str(), &counts[1], known["sha256_plain_u32le"].as_str().unwrap_or("")];
            ensure!(told == want, "has the tokens {told:?}, which are {want:?}");
        }
        Ok(())
    }
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
    fn tokens_that_are_not_the_known_ones_are_noticed() {
        let known = serde_json::json!({"count_plain": 3, "count_special": 2, "lossy_in_llama_cpp": false,
            "sha256_plain_u32le": "ab"});
        let prompt = Prompt { name: "x".to_owned(), text: b"a\nb".to_vec(), known };
        let printed = "stack encode/x/controls 9\r\nstack encode/x 8\r\ntokens x 3 2 ab\r\n";
        assert!(prompt.check(printed, true).is_ok());
        for (from, to) in
            [("3 2 ab", "3 3 ab"), ("3 2 ab", "3 2 ac"), ("encode/x ", "encode/y "), ("tokens", "")]
        {
            assert!(prompt.check(&printed.replace(from, to), true).is_err(), "{from} {to}");
        }
        assert!(prompt.check("stack encode/x/controls 9\nstack encode/x 8\nno answer", false).is_ok());
        assert_eq!(Prompts(vec![prompt]).packed(), b"x 3\na\nb");
    }

    #[test]
    fn else_the_text_does() {
        let printed = format!("x\nmodel: llama\ncorelm> infer a\n b\n\u{7f}c{END}");
        assert_eq!(said(&printed, "infer a").unwrap(), " b\\n\\u{7f}c");
        assert_eq!(said("model: llama\ncorelm> infer a\nb", "infer a"), None);
    }
}
