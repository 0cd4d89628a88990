//! Who is measured in a row, and with which command line: each takes the same file, tokens, threads and cache type.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Options;
use crate::rows::{Row, Work};

/// One engine in one setting.
pub struct Contender {
    /// `corelm`, `llama.cpp` or `candle`.
    pub engine: &'static str,
    /// What sets it apart from another contender of the same engine; empty where there is none.
    pub variant: &'static str,
    /// Where its matrices lie while it runs.
    pub pages: &'static str,
    command: Command,
}

/// The contenders of `row`, the engine first.
pub fn contenders(row: &Row, options: &Options, model: &Path) -> Result<Vec<Contender>> {
    let job = |command: &mut Command| {
        let (work, other) = match row.work {
            Work::Prompt(n) => (["-p".to_owned(), n.to_string()], "-n"),
            Work::Generate(n) => (["-n".to_owned(), n.to_string()], "-p"),
        };
        command.arg("-m").arg(model).args(work).args([other, "0", "-r", "1", "-t"]);
        command.arg(row.threads.to_string());
    };
    let mut corelm = Command::new(&options.corelm);
    corelm.arg("bench");
    job(&mut corelm);
    corelm.args(["-d", &row.depth.to_string(), "-o", "json"]);
    if row.avx2_only {
        corelm.args(["--backend", "avx2"]);
    }
    let mut all =
        vec![Contender { engine: "corelm", variant: "", pages: "the mapped file", command: corelm }];
    let llama = if row.avx2_only { &options.llama_avx2 } else { &options.llama };
    if let Some(program) = llama {
        // With many tokens in the cache attention weighs enough that either way of doing it may win.
        let variants: &[&str] = if row.depth > 0 { &["flash", "no flash"] } else { &["flash"] };
        for &variant in variants {
            let mut command = Command::new(program);
            job(&mut command);
            command.args(["-d", &row.depth.to_string()]);
            if variant == "no flash" {
                command.arg("--no-flash");
            }
            let variant = if row.depth > 0 { variant } else { "" };
            let pages = "the mapped file; matrices that it repacks, memory of its own";
            all.push(Contender { engine: "llama.cpp", variant, pages, command });
        }
    }
    if cfg!(feature = "candle") && !row.avx2_only && row.depth == 0 && row.work != Work::Prompt(512) {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.arg("candle");
        job(&mut command);
        command.env("RAYON_NUM_THREADS", row.threads.to_string());
        let pages = "memory of its own, the file is read";
        all.push(Contender { engine: "candle", variant: "", pages, command });
    }
    Ok(all)
}

/// What one process found out.
pub struct Measurement {
    pub tokens_per_s: f64,
    /// What it says about itself: the engine's row, or a peer's version.
    pub about: Value,
}

impl Contender {
    /// The engine, and the variant in brackets.
    pub fn name(&self) -> String {
        if self.variant.is_empty() {
            self.engine.to_owned()
        } else {
            format!("{} ({})", self.engine, self.variant)
        }
    }

    /// Runs the process once: it loads the model, warms up, measures and prints.
    pub fn run(&mut self) -> Result<Measurement> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        let output = self.command.stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {}", output.status, stderr.lines().last().unwrap_or("no message"));
        }
        let printed: Value = serde_json::from_slice(&output.stdout).context("its output is not JSON")?;
        // `corelm bench` prints a list of rows, the peers an object with a list of rates.
        let about = printed.get(0).unwrap_or(&printed);
        let rate = about.get("avg_ts").or_else(|| about.get("ts")?.get(0)).and_then(Value::as_f64);
        match rate {
            Some(tokens_per_s) if tokens_per_s > 0.0 => {
                Ok(Measurement { tokens_per_s, about: about.clone() })
            }
            _ => bail!("its output has no rate"),
        }
    }
}
