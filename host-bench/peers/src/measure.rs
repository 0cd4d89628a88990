//! Runs the contenders by turns and keeps medians.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Options;
use crate::contenders::{Contender, Running, contenders};
use crate::probe::{self, Limits};
use crate::products;
use crate::report::{Limit, Machine, Report, Result as RowResult, Side, Unit};
use crate::rows::{Job, Model, Row, Tokens, Work, rows};

/// Measures what `options` ask for.
pub fn all(options: &Options) -> Result<Report> {
    let rows = rows(options);
    if rows.is_empty() {
        bail!("no row's name matches");
    }
    let mut report = Report::new(options.rounds.get(), options.note.clone());
    report.machine = Machine::read();
    report.commit.clone_from(&options.commit);
    if report.machine.load_before > 0.5 {
        let load = report.machine.load_before;
        report.note(format!("the machine was not idle: load {load:.1} before the first measurement"));
    }
    eprintln!("peers: the machine's limits");
    report.limits = probe::measure(&[1, 2]);
    std::fs::create_dir_all(&options.models)
        .with_context(|| format!("cannot make {}", options.models.display()))?;
    let mut models: Vec<(Model, PathBuf)> = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let inputs = match row.job {
            Job::Tokens(Tokens { model, .. }) => vec![synthesized(model, &mut models, options)?],
            Job::Product(product) => product.write(&options.models)?,
        };
        let contenders = contenders(row, options, &inputs)?;
        let sides = match &row.job {
            Job::Tokens(_) => by_turns(row, contenders, &mut report),
            Job::Product(product) => products::by_turns(row, product, contenders, &mut report),
        };
        if let Some(result) = result(row, sides, &mut report) {
            eprintln!("[{}/{}] {}", n + 1, rows.len(), result.summary());
            report.rows.push(result);
        }
    }
    report.machine.load_after = Machine::load();
    Ok(report)
}

/// The model's file, written unless it is among `models`.
fn synthesized(model: Model, models: &mut Vec<(Model, PathBuf)>, options: &Options) -> Result<PathBuf> {
    if let Some((_, path)) = models.iter().find(|(other, _)| *other == model) {
        return Ok(path.clone());
    }
    let path = synth(&model, options)?;
    models.push((model, path.clone()));
    Ok(path)
}

/// Writes the model's file.
fn synth(model: &Model, options: &Options) -> Result<PathBuf> {
    let Model { preset, quant, .. } = model;
    let path = options.models.join(format!("{preset}-{quant}.gguf"));
    eprintln!("peers: writing {}", path.display());
    let mut command = Command::new(&options.corelm);
    command.args(["synth", "--preset", preset, "--quant", quant, "-o"]).arg(&path);
    let output = command.output().with_context(|| format!("cannot start {}", options.corelm.display()))?;
    if !output.status.success() {
        bail!("cannot write {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(path)
}

/// A contender, its figure of each round, and what it said about itself.
pub struct Measured {
    pub contender: Contender,
    pub per_s: Vec<f64>,
    pub about: Value,
}

impl Measured {
    pub fn new(contender: Contender) -> Measured {
        Measured { contender, per_s: Vec::new(), about: Value::Null }
    }
}

/// Starts every contender, then gives each a turn in every round; who goes first changes from round to round. One that
/// fails is left out with a note.
fn by_turns(row: &Row, contenders: Vec<Contender>, report: &mut Report) -> Vec<Measured> {
    let mut sides: Vec<(Measured, Running)> = Vec::new();
    for mut contender in contenders {
        match contender.start() {
            Ok(running) => sides.push((Measured::new(contender), running)),
            Err(error) => report.failed(row, &contender, &error),
        }
    }
    // Without the engine nothing is compared.
    if sides.first().is_none_or(|side| side.0.contender.engine != "corelm") {
        return Vec::new();
    }
    for round in 0..report.rounds {
        let mut failed = None;
        for turn in 0..sides.len() {
            let i = (turn + round) % sides.len();
            let (measured, running) = &mut sides[i];
            match running.turn() {
                Ok(rate) => measured.per_s.push(rate),
                Err(error) => failed = Some((i, error)),
            }
        }
        if let Some((i, error)) = failed {
            report.failed(row, &sides.remove(i).0.contender, &error);
        }
    }
    let mut all = Vec::new();
    for (measured, running) in sides {
        match running.finish() {
            Ok(about) => all.push(Measured { about, ..measured }),
            Err(error) => report.failed(row, &measured.contender, &error),
        }
    }
    all
}

/// The row of the report; `None` without the engine.
fn result(row: &Row, sides: Vec<Measured>, report: &mut Report) -> Option<RowResult> {
    let (mut corelm, mut peers) = (None, Vec::new());
    for Measured { contender, per_s, about } in sides {
        let Contender { engine, variant, pages, .. } = contender;
        let [engine, mut variant, pages] = [engine, variant, pages].map(str::to_owned);
        // Where the peer put a matrix, if not into plain memory.
        if let Some(buffer) = about["buffer"].as_str().filter(|buffer| *buffer != "CPU") {
            variant += &format!(", {buffer}");
        }
        if engine == "corelm" {
            corelm = Some((Side { engine, variant, pages, per_s }, about));
        } else {
            // The two builds of a peer are told apart.
            let key = if row.avx2_only { format!("{engine}, avx2") } else { engine.clone() };
            report.versions.insert(key, version(&about));
            peers.push(Side { engine, variant, pages, per_s });
        }
    }
    let (corelm, about) = corelm?;
    Some(RowResult {
        name: row.to_string(),
        model: row.subject().into(),
        quant: row.quant().into(),
        test: row.test(),
        unit: match row.job {
            Job::Tokens(_) => Unit::Tokens,
            Job::Product(_) => Unit::Products,
        },
        threads: row.threads,
        cpu: row.cpu().into(),
        backend: about["backend"].as_str().unwrap_or_default().into(),
        limit: match &row.job {
            Job::Tokens(tokens) => limit(row, tokens, &about, &report.limits),
            // Its operands come neither from memory nor from one cache alone.
            Job::Product(_) => None,
        },
        peers,
        corelm,
    })
}

/// What the peer says about itself: its version, and the parts of its build that are switched on (llama.cpp prints them as
/// `CPU : AVX2 = 1 | FMA = 1 | ...`).
fn version(about: &Value) -> String {
    let text = |key: &str| about[key].as_str().unwrap_or_default();
    let on = text("system").rsplit(':').next().unwrap_or_default().split('|');
    let on: Vec<&str> = on.filter_map(|part| part.trim().strip_suffix(" = 1")).collect();
    if on.is_empty() { text("version").to_owned() } else { format!("{} ({})", text("version"), on.join(" ")) }
}

/// The most tokens per second that the machine could do: a generated token reads every matrix once (of the embedding one
/// row) and the cache's keys and values; a token of a prompt takes two operations for each weight, the last token those
/// of the output matrix too. Attention, and all that is not a product with a matrix, counts nothing.
fn limit(row: &Row, tokens: &Tokens, engine: &Value, limits: &[Limits]) -> Option<Limit> {
    let limits = limits.iter().find(|limits| limits.threads == row.threads)?;
    let (bytes, params) = (engine["size"].as_f64()?, engine["params"].as_f64()?);
    let model = &tokens.model;
    let table = (model.dim * model.vocab_size) as f64;
    let n = tokens.work.n_tokens() as f64;
    match tokens.work {
        Work::Generate(_) => {
            let matrices = bytes * (params - table) / params;
            // F16 keys and values; while `n` tokens are generated, half of them lie in the cache on average.
            let positions = tokens.depth as f64 + n / 2.0;
            let cache = (2 * 2 * model.kv_dim * model.n_layers) as f64 * positions;
            let tokens_per_s = limits.read_bytes_per_s / (matrices + cache);
            Some(Limit { of: "read bandwidth".into(), tokens_per_s })
        }
        Work::Prompt(_) => {
            let ops_per_token = 2.0 * (params - 2.0 * table + table / n);
            let tokens_per_s = limits.peak("int8", row.avx2_only)? / ops_per_token;
            Some(Limit { of: "int8 peak".into(), tokens_per_s })
        }
    }
}

impl Machine {
    /// What the system says about this machine.
    fn read() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let pages = read("/sys/kernel/mm/transparent_hugepage/enabled");
        Machine {
            cpu: cpu.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()),
            n_cpus: std::thread::available_parallelism().map_or(1, |n| n.get()),
            huge_pages: pages.split(['[', ']']).nth(1).unwrap_or("unknown").to_owned(),
            unix_time_s: std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs()),
            load_before: Machine::load(),
            load_after: 0.0,
        }
    }

    /// Programs that ran or wanted to, on average over the last minute; 0 where the system does not say.
    fn load() -> f64 {
        let text = std::fs::read_to_string(Path::new("/proc/loadavg")).unwrap_or_default();
        text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_version_says_what_is_switched_on() {
        let about = json!({ "version": "0.26.0", "system": "CPU : AVX2 = 1 | AVX512 = 0 | FMA = 1 | " });
        assert_eq!(version(&about), "0.26.0 (AVX2 FMA)");
        assert_eq!(version(&json!({ "version": "0.11.1" })), "0.11.1");
    }
}
