//! What is measured: models and products, jobs, threads, and how much of the CPU may be used.

use std::fmt;

use crate::Options;
use crate::products::{PRODUCTS, Product};

/// A shape that `corelm synth` knows, in one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    pub preset: &'static str,
    pub quant: &'static str,
    pub dim: usize,
    pub vocab_size: usize,
    pub n_layers: usize,
    /// Width of the keys of one token in one layer.
    pub kv_dim: usize,
}

const TINYLLAMA: Model = Model {
    preset: "tinyllama-1.1b",
    quant: "q4_0",
    dim: 2048,
    vocab_size: 32_000,
    n_layers: 22,
    kv_dim: 256,
};
const SEED: Model =
    Model { preset: "seed", quant: "q4_0", dim: 384, vocab_size: 32_000, n_layers: 6, kv_dim: 384 };
const MODELS: [Model; 4] =
    [TINYLLAMA, Model { quant: "q8_0", ..TINYLLAMA }, SEED, Model { quant: "q8_0", ..SEED }];

/// The tokens that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// So many at once.
    Prompt(usize),
    /// So many one by one.
    Generate(usize),
}

impl Work {
    pub fn n_tokens(self) -> usize {
        match self {
            Work::Prompt(n) | Work::Generate(n) => n,
        }
    }
}

/// A model at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub model: Model,
    pub work: Work,
    /// Tokens in the cache before the timed ones.
    pub depth: usize,
}

impl Tokens {
    /// llama-bench's name of the job.
    fn test(&self) -> String {
        let name = match self.work {
            Work::Prompt(n) => format!("pp{n}"),
            Work::Generate(n) => format!("tg{n}"),
        };
        if self.depth > 0 { format!("{name} @ d{}", self.depth) } else { name }
    }
}

/// What is timed in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Tokens(Tokens),
    Product(Product),
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub job: Job,
    pub threads: usize,
    /// Whether both sides are held to AVX2, FMA and F16C.
    pub avx2_only: bool,
}

impl Row {
    /// The model's shape, or the operation.
    pub fn subject(&self) -> &'static str {
        match self.job {
            Job::Tokens(tokens) => tokens.model.preset,
            Job::Product(_) => Product::NAME,
        }
    }

    /// The type of the weights.
    pub fn quant(&self) -> &'static str {
        match self.job {
            Job::Tokens(tokens) => tokens.model.quant,
            Job::Product(product) => product.quant,
        }
    }

    pub fn test(&self) -> String {
        match self.job {
            Job::Tokens(tokens) => tokens.test(),
            Job::Product(product) => product.test(),
        }
    }

    /// How much of the CPU may be used.
    pub fn cpu(&self) -> &'static str {
        if self.avx2_only { "avx2" } else { "all" }
    }
}

/// The name that `--only` is matched against.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let test = self.test().replace(' ', "");
        write!(f, "{}/{}/{test}/t{}/{}", self.subject(), self.quant(), self.threads, self.cpu())
    }
}

/// The rows that `options` ask for.
pub fn rows(options: &Options) -> Vec<Row> {
    let wanted = |row: &Row| {
        let is_long = matches!(row.job, Job::Tokens(Tokens { work: Work::Prompt(512), .. }));
        let is_quick = row.quant() == "q4_0" && !row.avx2_only && !is_long;
        (!options.quick || is_quick)
            && options.only.as_ref().is_none_or(|only| only.is_match(&row.to_string()))
    };
    all().into_iter().filter(wanted).collect()
}

fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    let avx2_only = if cfg!(target_arch = "x86_64") { &[false, true][..] } else { &[false] };
    for model in MODELS {
        // A small model's tokens are so fast that it takes more of them to fill a measurement.
        let jobs: &[(Work, usize)] = if model.preset == TINYLLAMA.preset {
            &[
                (Work::Generate(32), 0),
                (Work::Generate(32), 1900),
                (Work::Prompt(128), 0),
                (Work::Prompt(512), 0),
            ]
        } else {
            &[(Work::Generate(256), 0), (Work::Prompt(128), 0)]
        };
        for &avx2_only in avx2_only {
            for &(work, depth) in jobs {
                let job = Job::Tokens(Tokens { model, work, depth });
                rows.extend([1, 2].map(|threads| Row { job, threads, avx2_only }));
            }
        }
    }
    for &avx2_only in avx2_only {
        rows.extend(PRODUCTS.map(|product| Row { job: Job::Product(product), threads: 1, avx2_only }));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_llama_benchs() {
        let names: Vec<String> = all().iter().map(Row::to_string).collect();
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(names.len(), once.len());
        for known in ["tinyllama-1.1b/q4_0/tg32@d1900/t1/all", "gemv/q4_0/384x384,packed/t1/all"] {
            assert!(names.iter().any(|name| name == known), "{known}");
        }
        assert!(all().iter().any(|row| row.test() == "tg32 @ d1900"));
    }
}
