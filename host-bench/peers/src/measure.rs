//! Runs the contenders by turns and keeps medians.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Options;
use crate::contenders::{Contender, contenders};
use crate::probe::{self, Limits};
use crate::report::{Limit, Machine, Report, Result as RowResult, Side};
use crate::rows::{Model, Row, Work, rows};

/// Measures what `options` ask for.
pub fn all(options: &Options) -> Result<Report> {
    let rows = rows(options);
    if rows.is_empty() {
        bail!("no row's name matches");
    }
    let mut report = Report {
        machine: Machine::read(),
        commit: options.commit.clone(),
        rounds: options.rounds.get(),
        versions: BTreeMap::new(),
        limits: Vec::new(),
        rows: Vec::new(),
        notes: options.note.clone(),
    };
    if report.machine.load_before > 0.5 {
        let load = report.machine.load_before;
        report.note(format!("the machine was not idle: load {load:.1} before the first measurement"));
    }
    eprintln!("peers: the machine's limits");
    report.limits = probe::measure(&[1, 2]);
    let mut models: Vec<(Model, PathBuf)> = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let model = match models.iter().find(|(model, _)| *model == row.model) {
            Some((_, path)) => path.clone(),
            None => {
                let path = synth(&row.model, options)?;
                models.push((row.model, path.clone()));
                path
            }
        };
        let contenders = contenders(row, options, &model)?;
        if let Some(result) = by_turns(row, contenders, &mut report)? {
            eprintln!("[{}/{}] {}", n + 1, rows.len(), result.summary());
            report.rows.push(result);
        }
    }
    report.machine.load_after = Machine::load();
    Ok(report)
}

/// Writes the model's file.
fn synth(model: &Model, options: &Options) -> Result<PathBuf> {
    let Model { preset, quant, .. } = model;
    std::fs::create_dir_all(&options.models)
        .with_context(|| format!("cannot make {}", options.models.display()))?;
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

/// Runs every contender once in each round; who goes first changes from round to round. One that fails is left out with a
/// note; `None` when it is the engine or when nobody is left.
fn by_turns(row: &Row, mut contenders: Vec<Contender>, report: &mut Report) -> Result<Option<RowResult>> {
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    let mut failed = vec![false; contenders.len()];
    let mut engine = Value::Null;
    for round in 0..report.rounds {
        for turn in 0..contenders.len() {
            let i = (turn + round) % contenders.len();
            if failed[i] {
                continue;
            }
            match contenders[i].run() {
                Ok(measurement) => {
                    rates[i].push(measurement.tokens_per_s);
                    if i == 0 {
                        engine = measurement.about;
                    } else if round == 0 {
                        report.versions.insert(version_key(row, &contenders[i]), version(&measurement.about));
                    }
                }
                Err(error) => {
                    failed[i] = true;
                    report.note(format!("{row}: {} failed: {error:#}", contenders[i].name()));
                }
            }
        }
    }
    let mut sides = contenders.iter().zip(&rates).zip(&failed).filter(|(_, failed)| !**failed).map(
        |((contender, rates), _)| Side {
            engine: contender.engine.into(),
            variant: contender.variant.into(),
            pages: contender.pages.into(),
            tokens_per_s: rates.clone(),
        },
    );
    if failed[0] {
        return Ok(None);
    }
    let Some(corelm) = sides.next() else { return Ok(None) };
    Ok(Some(RowResult {
        name: row.to_string(),
        model: row.model.preset.into(),
        quant: row.model.quant.into(),
        test: row.test(),
        threads: row.threads,
        cpu: row.cpu().into(),
        backend: engine["backend"].as_str().unwrap_or_default().into(),
        limit: limit(row, &engine, &report.limits),
        peers: sides.collect(),
        corelm,
    }))
}

/// Under which name a peer's version is reported: its two builds are told apart.
fn version_key(row: &Row, contender: &Contender) -> String {
    match (contender.engine, row.avx2_only) {
        (engine, true) => format!("{engine}, avx2"),
        (engine, false) => engine.to_owned(),
    }
}

/// What the peer says about itself.
fn version(about: &Value) -> String {
    let text = |key: &str| about[key].as_str().unwrap_or_default().trim_end_matches([' ', '|']).to_owned();
    let (version, system) = (text("version"), text("system"));
    if system.is_empty() { version } else { format!("{version}; {system}") }
}

/// The most tokens per second that the machine could do: a generated token reads every matrix once (of the embedding one
/// row) and the cache's keys and values; a token of a prompt takes two operations for each weight, the last token those
/// of the output matrix too. Attention, and all that is not a product with a matrix, counts nothing.
fn limit(row: &Row, engine: &Value, limits: &[Limits]) -> Option<Limit> {
    let limits = limits.iter().find(|limits| limits.threads == row.threads)?;
    let (bytes, params) = (engine["size"].as_f64()?, engine["params"].as_f64()?);
    let model = &row.model;
    let table = (model.dim * model.vocab_size) as f64;
    let n = row.n_tokens() as f64;
    match row.work {
        Work::Generate(_) => {
            let matrices = bytes * (params - table) / params;
            // F16 keys and values; while `n` tokens are generated, half of them lie in the cache on average.
            let positions = row.depth as f64 + n / 2.0;
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
