//! Runs the golden cases: by the host's command line on each back-end, and by the kernel in QEMU.

use super::{Case, Golden};
use crate::figures;
use crate::json_lines;
use crate::process::{self, cargo, logged};
use crate::qemu::{Boot, Cpu, word};
use crate::steps::Outcome;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The back-ends of this machine's architecture that the host must pass on, the portable one first.
pub const HOST_BACKENDS: &[&str] = if cfg!(target_arch = "x86_64") {
    &["scalar", "avx2"]
} else if cfg!(target_arch = "aarch64") {
    &["scalar", "neon"]
} else {
    &["scalar"]
};

/// Builds the command line in release and gives its path.
///
/// # Errors
///
/// When the build fails.
pub fn build_command_line() -> Result<PathBuf> {
    logged(&mut cargo(&["build", "--release", "--package", "corelm-cli"]), "build-corelm")?;
    Ok(workspace::target_dir().join("release/corelm"))
}

/// Every golden case by `corelm` on one back-end.
///
/// # Errors
///
/// When a run fails or an output disagrees.
pub fn on_host(corelm: &Path, backend: &str) -> Result<Outcome> {
    each_case(|golden, model, case| {
        let with = |command: &str| {
            let mut line = Command::new(corelm);
            line.args([command, "--json", "--kv", &case.kv, "--backend", backend, "--model"]).arg(model);
            line
        };
        let printed = process::output(with("logits").args(["--ids", &case.fed_ids()]))?;
        let n_rounded = golden.compare(case, &printed)?;
        if !golden.is_quantized() {
            let n = case.ids.len().to_string();
            let greedy = ["--prompt", &case.prompt, "--n-predict", &n, "--temp", "0", "--ignore-eos"];
            case.same_ids(&process::output(with("generate").args(greedy))?)?;
        }
        Ok(n_rounded)
    })
}

/// Every golden case by the kernel.
///
/// # Errors
///
/// When a boot fails or an output disagrees.
pub fn in_qemu(image: &Path, cpu: Cpu) -> Result<Outcome> {
    in_kernel(|model, line| Boot { initrd: Some(model.to_owned()), ..Boot::new(cpu, line) }.checked(image))
}

/// Every golden case by a kernel that `boot` boots with a model and a command line.
///
/// # Errors
///
/// When a boot fails or an output disagrees.
pub fn in_kernel(boot: impl Fn(&Path, String) -> Result<String>) -> Result<Outcome> {
    each_case(|golden, model, case| {
        let boot = |mode: &str, words: &str| {
            boot(model, format!("mode={mode} model=initrd kv={} json=1{words}", case.kv))
        };
        let n_rounded = golden.compare(case, &boot("golden", &word("ids", &case.fed_ids()))?)?;
        if !golden.is_quantized() {
            let words = word("prompt", &case.prompt) + &word("n", &case.ids.len().to_string());
            case.same_ids(&boot("generate", &words)?)?;
        }
        Ok(n_rounded)
    })
}

impl Case {
    /// Compares the ids of a free greedy run.
    fn same_ids(&self, printed: &str) -> Result<()> {
        let ids = json_lines::ids(printed)?;
        ensure!(ids == self.ids, "greedy ids {ids:?} for {:?} after `{}`", self.ids, self.prompt);
        Ok(())
    }
}

/// Runs `body` on each case; it gives the number of steps that needed the bound for halves.
fn each_case(mut body: impl FnMut(&Golden, &Path, &Case) -> Result<usize>) -> Result<Outcome> {
    let Some(shared) = workspace::shared()? else { return Ok(Outcome::Skipped("no ../shared".into())) };
    let models = shared.join("models");
    let mut files: Vec<PathBuf> = fs::read_dir(models.join("golden"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let (mut n, mut n_steps, mut n_rounded) = (0, 0, 0);
    for file in files {
        let golden =
            fs::read_to_string(&file).map_err(anyhow::Error::from).and_then(|text| Golden::parse(&text));
        let golden = golden.with_context(|| format!("golden file {}", file.display()))?;
        for case in &golden.cases {
            let what = || format!("{}, KV cache {}", golden.model, case.kv);
            n_rounded += body(&golden, &models.join(&golden.model), case).with_context(what)?;
            n_steps += case.ids.len();
            n += 1;
        }
    }
    ensure!(n > 0, "no golden case in {}", models.display());
    figures::note(
        "R11",
        "greedy tokens",
        format!("{n} runs of llama.cpp's models, the same by every back-end"),
    );
    let note = format!("{n_rounded} of {n_steps} steps within the bound for halves only");
    Ok(if n_rounded > 0 { Outcome::Noted(n, note) } else { Outcome::Passed(n) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_files_are_understood() {
        let outcome = each_case(|golden, model, case| {
            ensure!(model.is_file(), "no model {}", model.display());
            ensure!(
                golden.is_quantized() != (golden.model.contains("-f32") || golden.model.contains("-f16"))
            );
            ensure!(case.fed_ids().split(',').count() == case.prompt_ids.len() + case.ids.len() - 1);
            Ok(0)
        });
        match outcome.unwrap() {
            Outcome::Passed(n) | Outcome::Noted(n, _) => assert!(n > 0),
            Outcome::Skipped(reason) => println!("skipped: {reason}"),
        }
    }
}
