//! Who is measured in a row, and with which command line: each takes the same file, tokens, threads and cache type.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Options;
use crate::products;
use crate::rows::{Job, Row, Tokens, Work};

/// One engine in one setting.
pub struct Contender {
    /// `corelm`, `llama.cpp` or `candle`.
    pub engine: &'static str,
    /// What sets it apart from another contender of the same engine; empty where there is none.
    pub variant: &'static str,
    /// Where its matrices lie while it runs.
    pub pages: &'static str,
    pub command: Command,
}

/// The contenders of `row`, the engine first; `inputs` are the model's file, or those of the operands.
pub fn contenders(row: &Row, options: &Options, inputs: &[PathBuf]) -> Result<Vec<Contender>> {
    match (row.job, inputs) {
        (Job::Tokens(tokens), [model]) => models(row, &tokens, options, model),
        (Job::Product(product), [weights, activations]) => {
            Ok(products::contenders(row, &product, options, weights, activations))
        }
        _ => bail!("not the inputs of {row}"),
    }
}

fn models(row: &Row, tokens: &Tokens, options: &Options, model: &Path) -> Result<Vec<Contender>> {
    let &Tokens { work, depth, .. } = tokens;
    let job = |command: &mut Command| {
        let (work, other) = match work {
            Work::Prompt(n) => (["-p".to_owned(), n.to_string()], "-n"),
            Work::Generate(n) => (["-n".to_owned(), n.to_string()], "-p"),
        };
        command.arg("-m").arg(model).args(work).args([other, "0", "--paced"]);
        command.args(["-r", &options.rounds.to_string(), "-t", &row.threads.to_string()]);
    };
    let mut corelm = Command::new(&options.corelm);
    corelm.arg("bench");
    job(&mut corelm);
    corelm.args(["-d", &depth.to_string(), "-o", "json"]);
    if row.avx2_only {
        corelm.args(["--backend", "avx2"]);
    }
    let mut all = vec![Contender {
        engine: "corelm",
        variant: "",
        pages: "a packed copy, asked for in pages of 2 MiB",
        command: corelm,
    }];
    if let Some(folder) = options.llama(row) {
        // With many tokens in the cache attention weighs enough that either way of doing it may win.
        let variants: &[&str] = if depth > 0 { &["flash", "no flash"] } else { &["flash"] };
        for &variant in variants {
            let mut command = Command::new(folder.join("llama-peer"));
            job(&mut command);
            command.args(["-d", &depth.to_string()]);
            if variant == "no flash" {
                command.arg("--no-flash");
            }
            let variant = if depth > 0 { variant } else { "" };
            let pages = "the mapped file; matrices that it repacks, memory of its own";
            all.push(Contender { engine: "llama.cpp", variant, pages, command });
        }
    }
    if cfg!(feature = "candle") && !row.avx2_only && depth == 0 && work != Work::Prompt(512) {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.arg("candle");
        job(&mut command);
        command.env("RAYON_NUM_THREADS", row.threads.to_string());
        let pages = "memory of its own, the file is read";
        all.push(Contender { engine: "candle", variant: "", pages, command });
    }
    Ok(all)
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

    /// Runs the process to its end: what it found out.
    pub fn run(&mut self) -> Result<Value> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        let output = self.command.output().with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {}", output.status, stderr.trim_end().lines().last().unwrap_or("no message"));
        }
        serde_json::from_slice(&output.stdout).context("what it found out is not JSON")
    }

    /// Starts the process and waits until it has loaded the model, filled its cache and warmed up.
    pub fn start(&mut self) -> Result<Running> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().with_context(|| format!("cannot start {program}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut running = Running { child, stdout: BufReader::new(stdout) };
        match running.line()?.as_str() {
            "ready" => Ok(running),
            line => bail!("it said '{line}' in place of 'ready'"),
        }
    }
}

/// A process that waits for its turn.
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// One turn: tokens per second.
    pub fn turn(&mut self) -> Result<f64> {
        let stdin = self.child.stdin.as_mut().context("no standard input")?;
        stdin.write_all(b"\n").context("it has ended")?;
        let line = self.line()?;
        match line.parse() {
            Ok(rate) if rate > 0.0 => Ok(rate),
            _ => bail!("it said '{line}' in place of a rate"),
        }
    }

    /// After the last turn: what it says about itself, which is the engine's row or a peer's version.
    pub fn finish(mut self) -> Result<Value> {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        self.child.wait()?;
        let about: Value = serde_json::from_str(&text).context("what it says about itself is not JSON")?;
        // `corelm bench` prints a list of rows.
        Ok(about.get(0).unwrap_or(&about).clone())
    }

    /// Its next line; an error with what it said last where it has ended.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? > 0 {
            return Ok(line.trim_end().to_owned());
        }
        let mut stderr = String::new();
        if let Some(pipe) = &mut self.child.stderr {
            pipe.read_to_string(&mut stderr)?;
        }
        bail!("{}: {}", self.child.wait()?, stderr.trim_end().lines().last().unwrap_or("no message"))
    }
}

/// Nothing goes on running when measuring ends early.
impl Drop for Running {
    fn drop(&mut self) {
        // Either fails only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
