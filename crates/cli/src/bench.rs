//! `corelm bench`: prompt processing and generation in tokens per second, in llama-bench's table.

use std::io::Write;
use std::time::Instant;

use corelm::ops::Ops;
use corelm::{Arena, Config, MemoryPlan, Session, SessionConfig, Token, Weights};
use serde_json::json;

use crate::args::{BenchArgs, Form};
use crate::failure::{Failure, Outcome};
use crate::model::{ModelFile, Region, n_values, ops, region_len};
use crate::output::Output;
use crate::pool::Pool;
use crate::progress::bar;

/// What one row measures.
#[derive(Clone, Copy)]
struct Job {
    work: Work,
    /// Tokens that are in the cache before the timed ones.
    depth: usize,
}

/// The tokens that are timed.
#[derive(Clone, Copy)]
enum Work {
    /// A prompt of so many tokens.
    Prompt(usize),
    /// So many tokens one by one.
    Generate(usize),
}

impl Work {
    fn n_tokens(self) -> usize {
        match self {
            Work::Prompt(n) | Work::Generate(n) => n,
        }
    }
}

impl Job {
    fn name(self) -> String {
        let name = match self.work {
            Work::Prompt(n) => format!("pp{n}"),
            Work::Generate(n) => format!("tg{n}"),
        };
        if self.depth > 0 { format!("{name} @ d{}", self.depth) } else { name }
    }

    /// The tokens that the cache must hold; `None` when they are too many to count.
    fn n_ctx(self) -> Option<usize> {
        self.depth.checked_add(self.work.n_tokens())
    }
}

/// One row of the table.
struct Row {
    backend: &'static str,
    threads: usize,
    test: String,
    mean: f64,
    stddev: f64,
}

/// What is the same in every row.
struct About {
    model: String,
    bytes: usize,
    n_params: u64,
    kv: String,
    n_batch: usize,
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> Outcome {
    let backends: Vec<Ops> = match args.backend.as_slice() {
        [] => vec![ops(None)?],
        names => names.iter().map(|name| ops(Some(name))).collect::<Outcome<_>>()?,
    };
    let works: Vec<Work> = (args.n_prompt.iter().map(|&n| Work::Prompt(n)))
        .chain(args.n_gen.iter().map(|&n| Work::Generate(n)))
        .filter(|work| work.n_tokens() > 0)
        .collect();
    let jobs: Vec<Job> =
        (args.depth.iter()).flat_map(|&depth| works.iter().map(move |&work| Job { work, depth })).collect();
    let file = ModelFile::open(&args.model)?;
    let image = file.image()?;
    let config = Config::from_image(&image).map_err(|error| file.because(error))?;
    let n_ctx = jobs.iter().map(|job| job.n_ctx().unwrap_or(usize::MAX)).max().unwrap_or(1);
    if n_ctx > config.n_ctx_train {
        let limit = config.n_ctx_train;
        return Err(file.because(format_args!("{n_ctx} tokens asked for, its context holds {limit}")));
    }
    let wanted = SessionConfig {
        n_ctx,
        n_batch: args.batch_size.get().min(n_ctx),
        kv_type: args.kv.into(),
        n_workers: args.threads.iter().map(|n| n.get()).max().unwrap_or(1),
    };
    let plan = MemoryPlan::new(&image, &config, &wanted).map_err(|error| file.because(error))?;
    let about = About {
        model: args.model.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        bytes: image.tensors().map(|tensor| tensor.bytes.len()).sum(),
        n_params: image.tensors().map(|tensor| n_values(&tensor)).sum(),
        kv: format!("{:?}", args.kv).to_lowercase(),
        n_batch: wanted.n_batch,
    };
    let n_steps = backends.len() * args.threads.len() * jobs.len() * args.repetitions.get();
    let progress = bar(n_steps as u64, "measuring");
    let mut memory = Region::new(region_len(&plan, args.no_repack))?;
    let mut rows = Vec::new();
    for &ops in &backends {
        for &threads in &args.threads {
            let pool = Pool::new(threads);
            let mut arena = Arena::new(memory.bytes());
            let weights =
                Weights::resolve(&image, &config, &mut arena).map_err(|error| file.because(error))?;
            let weights = match args.no_repack {
                true => weights,
                false => weights.pack(ops, &mut arena).map_err(|error| file.because(error))?,
            };
            let mut session = Session::new(ops, &pool, &config, weights, &plan, &mut arena)
                .map_err(|error| file.because(error))?;
            for &job in &jobs {
                let rates = measure(&mut session, job, &config, args, &|| progress.inc(1))?;
                let (mean, stddev) = mean_and_stddev(&rates);
                rows.push(Row {
                    backend: ops.backend().name(),
                    threads: threads.get(),
                    test: job.name(),
                    mean,
                    stddev,
                });
            }
        }
    }
    progress.finish_and_clear();
    print(&about, &rows, args.output)
}

/// Tokens per second of `job`, once for each repetition, after one run that is not counted. The tokens before the timed
/// ones are read once; what comes after them is taken back from the cache each time.
fn measure(
    session: &mut Session<'_, '_>,
    job: Job,
    config: &Config,
    args: &BenchArgs,
    tick: &dyn Fn(),
) -> Outcome<Vec<f64>> {
    // Which tokens does not matter for the time; all different ones keep the embedding rows from staying in a cache.
    let ids = |n: usize| -> Vec<Token> { (0..n).map(|i| (i * 7919 % config.vocab_size) as Token).collect() };
    let tokens = ids(job.work.n_tokens());
    session.reset();
    if job.depth > 0 {
        session.prefill(&ids(job.depth)).map_err(Failure::says)?;
    }
    let mut rates = Vec::new();
    for n in 0..=args.repetitions.get() {
        if args.paced && n > 0 {
            wait_for_turn()?;
        }
        session.truncate(job.depth);
        let start = Instant::now();
        match job.work {
            Work::Prompt(_) => drop(session.prefill(&tokens).map_err(Failure::says)?),
            Work::Generate(_) => {
                for &token in &tokens {
                    session.step(token).map_err(Failure::says)?;
                }
            }
        }
        let rate = tokens.len() as f64 / start.elapsed().as_secs_f64();
        if n > 0 {
            rates.push(rate);
            tick();
        }
        if args.paced {
            say(&if n > 0 { format!("{rate:.4}") } else { "ready".into() })?;
        }
    }
    Ok(rates)
}

/// Waits for a line on standard input.
fn wait_for_turn() -> Outcome {
    match std::io::stdin().read_line(&mut String::new()) {
        Ok(0) => Err(Failure::says("standard input ended before the last repetition")),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::because("cannot read standard input", error)),
    }
}

/// Prints a line that another program waits for.
fn say(words: &str) -> Outcome {
    let mut out = Output::new();
    writeln!(out, "{words}")?;
    Ok(out.flush()?)
}

/// Mean and sample standard deviation, as llama-bench prints them.
fn mean_and_stddev(samples: &[f64]) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

fn print(about: &About, rows: &[Row], form: Form) -> Outcome {
    let mut out = Output::new();
    let About { model, bytes, n_params, kv, n_batch } = about;
    match form {
        Form::Json => {
            let rows: Vec<_> = (rows.iter())
                .map(|row| {
                    json!({
                        "model": model, "size": bytes, "params": n_params, "backend": row.backend,
                        "threads": row.threads, "kv": kv, "n_batch": n_batch, "test": row.test,
                        "avg_ts": row.mean, "stddev_ts": row.stddev,
                    })
                })
                .collect();
            writeln!(out, "{:#}", json!(rows))?;
        }
        Form::Csv => {
            writeln!(out, "model,size,params,backend,threads,kv,n_batch,test,avg_ts,stddev_ts")?;
            for Row { backend, threads, test, mean, stddev } in rows {
                let model = model.replace('"', "\"\"");
                writeln!(
                    out,
                    "\"{model}\",{bytes},{n_params},{backend},{threads},{kv},{n_batch},{test},{mean:.4},{stddev:.4}"
                )?;
            }
        }
        Form::Md => {
            let width = model.len().max(5);
            let test_width = rows.iter().map(|row| row.test.len()).max().unwrap_or(0).max(8);
            let (mib, million) = (*bytes as f64 / (1024.0 * 1024.0), *n_params as f64 / 1e6);
            writeln!(
                out,
                "| {:<width$} | {:>12} | {:>10} | {:>12} | {:>7} | {:>test_width$} | {:>18} |",
                "model", "size", "params", "backend", "threads", "test", "t/s"
            )?;
            let (dashes, test_dashes) = ("-".repeat(width + 1), "-".repeat(test_width + 1));
            writeln!(
                out,
                "|{dashes}-|-------------:|-----------:|-------------:|--------:|{test_dashes}:|-------------------:|"
            )?;
            for Row { backend, threads, test, mean, stddev } in rows {
                writeln!(
                    out,
                    "| {model:<width$} | {mib:>8.2} MiB | {million:>8.2} M | {backend:>12} | {threads:>7} | {test:>test_width$} | {:>18} |",
                    format!("{mean:.2} ± {stddev:.2}")
                )?;
            }
        }
    }
    Ok(out.flush()?)
}
