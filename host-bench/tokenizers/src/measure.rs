//! Times every engine under criterion, by turns.
//!
//! Milliseconds and more are counted by the clock of the thread, which stands still while another program has the core.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cpu_time::ThreadTime;
use criterion::{Bencher, Criterion, SamplingMode};
use serde_json::Value;

use crate::Options;
use crate::check;
use crate::engines::{self, ENGINE, Engine};
use crate::report::{Report, Row, Unit};
use crate::texts::Text;
use crate::vocabulary::Vocabulary;

/// What is done in a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// All documents after everything has been forgotten.
    FirstPass,
    /// All documents once more.
    Again,
    /// The text of all tokens.
    Decode,
    /// One short text after another, each after everything has been forgotten.
    Short,
    /// One short text after another, all of which were met before.
    ShortAgain,
    Load,
}

/// A work, and what it is done to.
struct Job<'t> {
    work: Work,
    text: &'t str,
    documents: &'t [&'t str],
    tokens: &'t [Vec<u32>],
}

/// An engine, and in which texts it does not give the tokens.
struct Contender {
    name: &'static str,
    engine: Box<dyn Engine>,
    differs_in: Vec<String>,
}

/// Measures what `options` ask for.
pub fn all(
    options: &Options,
    vocabulary: &'static Vocabulary,
    texts: &[Text],
    report: &mut Report,
) -> Result<()> {
    let documents: Vec<Vec<&str>> = texts.iter().map(Text::documents).collect();
    let max_text_bytes = documents.iter().flatten().map(|document| document.len()).max().unwrap_or(0);
    let mut contenders = contenders(options, vocabulary, max_text_bytes, report)?;
    let mut tokens = Vec::new();
    for (text, documents) in texts.iter().zip(&documents) {
        tokens.push(check(&mut contenders, text, documents, report)?);
    }
    let mut jobs = Vec::new();
    for ((text, documents), tokens) in texts.iter().zip(&documents).zip(&tokens) {
        let job = |work| Job { work, text: &text.name, documents, tokens };
        jobs.extend([Work::FirstPass, Work::Again, Work::Decode].map(job));
    }
    let first = texts.first().context("no text")?;
    let short = first.short()?;
    let job = |work| Job { work, text: &first.name, documents: &short, tokens: &[] };
    jobs.extend([Work::Short, Work::ShortAgain, Work::Load].map(job));
    // What forgets before each text has memory for such texts: that of documents would take the caches of the CPU.
    let max_short_bytes = short.iter().map(|text| text.len()).max().unwrap_or(0);
    let mut for_short = Vec::new();
    for Contender { name, differs_in, .. } in contenders.iter().filter(|one| one.engine.forgets_fast()) {
        let engine = engines::load(name, vocabulary, max_short_bytes)?;
        for_short.push(Contender { name, engine, differs_in: differs_in.clone() });
    }
    let mut nanos: Vec<BTreeMap<&'static str, Vec<f64>>> = vec![BTreeMap::new(); jobs.len()];
    for round in 0..options.rounds.get() {
        let folder = options.output.join(format!("criterion/round-{round}"));
        for (job, nanos) in jobs.iter().zip(&mut nanos) {
            let contenders = if job.work == Work::Short { &mut for_short } else { &mut contenders };
            for turn in 0..contenders.len() {
                let n = (turn + round) % contenders.len();
                let Contender { name, engine, differs_in } = &mut contenders[n];
                if !job.applies_to(&**engine, differs_in) {
                    continue;
                }
                let median = job.measure(name, &mut **engine, &folder)?;
                nanos.entry(name).or_default().push(median);
            }
        }
    }
    report.rows = jobs.iter().zip(nanos).map(|(job, nanos)| job.row(nanos)).collect();
    Ok(())
}

/// The engine, and the peers that can take the vocabulary.
fn contenders(
    options: &Options,
    vocabulary: &'static Vocabulary,
    max_text_bytes: usize,
    report: &mut Report,
) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    let is_wanted = |name: &str| {
        name == ENGINE || options.engines.is_empty() || options.engines.iter().any(|wanted| wanted == name)
    };
    for name in engines::names().filter(|name| is_wanted(name)) {
        match engines::load(name, vocabulary, max_text_bytes) {
            Ok(engine) => contenders.push(Contender { name, engine, differs_in: Vec::new() }),
            Err(error) if name == ENGINE => return Err(error.context(ENGINE)),
            Err(error) => report.note(format!("{name} cannot take this vocabulary: {error:#}")),
        }
    }
    Ok(contenders)
}

/// The tokens of a text's documents, on which the contenders agree, or it is noted who does not.
fn check(
    contenders: &mut [Contender],
    text: &Text,
    documents: &[&str],
    report: &mut Report,
) -> Result<Vec<Vec<u32>>> {
    let mut tokens = Vec::new();
    for Contender { name, engine, differs_in } in contenders {
        if *name == ENGINE {
            tokens = check::tokens(&mut **engine, documents)
                .with_context(|| format!("{ENGINE}, {}", text.name))?;
        } else if let Err(error) = check::agreement(&mut **engine, documents, &tokens) {
            report.note(format!("{name} is left out of {}: {error:#}", text.name));
            differs_in.push(text.name.clone());
        }
    }
    let (n_bytes, n_tokens) = (text.all.len(), tokens.iter().map(Vec::len).sum());
    report.text(&text.name, n_bytes, documents.len(), n_tokens);
    Ok(tokens)
}

impl Job<'_> {
    fn name(&self) -> String {
        match self.work {
            Work::FirstPass => format!("{}, first pass", self.text),
            Work::Again => format!("{}, second pass", self.text),
            Work::Decode => format!("{}, decoding", self.text),
            Work::Short => "100 characters, cold".into(),
            Work::ShortAgain => "100 characters, warm".into(),
            Work::Load => "loading".into(),
        }
    }

    /// Without a cache the first time is as any other, and is not measured twice. Who forgets slowly would do nothing else
    /// between short texts.
    fn applies_to(&self, engine: &dyn Engine, differs_in: &[String]) -> bool {
        let agrees = self.work == Work::Load || differs_in.iter().all(|text| text != self.text);
        agrees
            && match self.work {
                Work::Again | Work::ShortAgain => engine.has_cache(),
                Work::Short => engine.forgets_fast(),
                _ => true,
            }
    }

    fn n_bytes(&self) -> usize {
        self.documents.iter().map(|document| document.len()).sum()
    }

    /// Criterion's median of nanoseconds.
    fn measure(&self, name: &str, engine: &mut dyn Engine, folder: &Path) -> Result<f64> {
        let group_name = self.name().replace(", ", "-").replace(' ', "-");
        let once = self.run(engine, 1);
        let mut criterion = Criterion::default().without_plots().output_directory(folder);
        let mut group = criterion.benchmark_group(&group_name);
        group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_millis(100));
        group.measurement_time((once * 12).max(Duration::from_millis(300)));
        if once < Duration::from_millis(1) {
            // Samples of a millisecond, of which another program can spoil few.
            group.sample_size(100).measurement_time(Duration::from_millis(100));
        }
        group.bench_function(name, |bencher: &mut Bencher<'_>| {
            bencher.iter_custom(|n| self.run(engine, n as usize));
        });
        group.finish();
        let path = folder.join(group_name).join(name).join("new/estimates.json");
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let estimates: Value = serde_json::from_slice(&text)?;
        estimates["median"]["point_estimate"].as_f64().context("criterion gives no median")
    }

    /// The time for `n` times the work. All of it went well when it was checked.
    fn run(&self, engine: &mut dyn Engine, n: usize) -> Duration {
        let mut elapsed = Duration::ZERO;
        match self.work {
            Work::FirstPass => {
                for _ in 0..n {
                    engine.forget();
                    elapsed += cpu_time(|| encode(engine, self.documents));
                }
            }
            Work::Again => elapsed = cpu_time(|| (0..n).for_each(|_| encode(engine, self.documents))),
            Work::Decode => elapsed = cpu_time(|| (0..n).for_each(|_| decode(engine, self.tokens))),
            Work::Short => {
                for text in self.documents.iter().cycle().take(n) {
                    engine.forget();
                    elapsed += time(|| encode(engine, &[text]));
                }
                // A text takes about as long as to read the clock a few times.
                elapsed = elapsed.saturating_sub(clock() * n as u32);
            }
            Work::ShortAgain => {
                elapsed =
                    time(|| self.documents.iter().cycle().take(n).for_each(|text| encode(engine, &[text])));
            }
            Work::Load => {
                for _ in 0..n {
                    elapsed += engine.load().unwrap_or_default();
                }
            }
        }
        elapsed
    }

    fn row(&self, nanos: BTreeMap<&'static str, Vec<f64>>) -> Row {
        let unit = match self.work {
            Work::FirstPass | Work::Again | Work::Decode => Unit::BytesPerSecond(self.n_bytes()),
            Work::Short | Work::ShortAgain => Unit::Micros,
            Work::Load => Unit::Millis,
        };
        Row { name: self.name(), unit, nanos }
    }
}

fn encode(engine: &mut dyn Engine, documents: &[&str]) {
    for document in documents {
        let _ = black_box(engine.encode(black_box(document), &mut |ids| {
            black_box(ids);
        }));
    }
}

fn decode(engine: &mut dyn Engine, tokens: &[Vec<u32>]) {
    for ids in tokens {
        let _ = black_box(engine.decode(black_box(ids), &mut |bytes| {
            black_box(bytes);
        }));
    }
}

fn cpu_time(work: impl FnOnce()) -> Duration {
    let start = ThreadTime::now();
    work();
    start.elapsed()
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// What it takes to time nothing: the least of some times.
fn clock() -> Duration {
    (0..100).map(|_| time(|| {})).min().unwrap_or_default()
}
