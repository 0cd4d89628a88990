//! candle's process: what `llama/peer.c` is for llama.cpp.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use serde_json::json;

/// A prompt, or tokens one by one.
#[derive(clap::Args)]
pub struct Job {
    #[arg(short, long)]
    model: PathBuf,
    #[arg(short = 'p', long, default_value_t = 0)]
    n_prompt: usize,
    #[arg(short, long, default_value_t = 0)]
    n_gen: usize,
    /// Threads, which candle takes from RAYON_NUM_THREADS.
    #[arg(short, long, default_value = "1")]
    threads: NonZeroUsize,
    #[arg(short, long, default_value = "1")]
    repetitions: NonZeroUsize,
    /// Take turns with other programs, as `corelm bench --paced` does.
    #[arg(long)]
    paced: bool,
}

/// Prints the tokens per second of each repetition, after a run that is not counted.
pub fn run(job: &Job) -> Result<()> {
    if (job.n_prompt > 0) == (job.n_gen > 0) {
        bail!("either -p or -n, not both");
    }
    if std::env::var("RAYON_NUM_THREADS").ok() != Some(job.threads.to_string()) {
        bail!("RAYON_NUM_THREADS is not {}", job.threads);
    }
    let n = job.n_prompt.max(job.n_gen);
    let mut file = File::open(&job.model).with_context(|| format!("cannot open {}", job.model.display()))?;
    let content = Content::read(&mut file)?;
    let n_vocab = content.tensor_infos.get("token_embd.weight").map_or(1, |info| info.shape.dims()[0]);
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let ids: Vec<u32> = (0..n).map(|i| (i * 7919 % n_vocab) as u32).collect();
    let input = |ids: &[u32]| Tensor::new(ids, &Device::Cpu)?.unsqueeze(0);
    let mut rates = Vec::new();
    for repetition in 0..=job.repetitions.get() {
        if job.paced && repetition > 0 && std::io::stdin().read_line(&mut String::new())? == 0 {
            bail!("standard input ended before the last repetition");
        }
        model.clear_kv_cache();
        let start = Instant::now();
        if job.n_prompt > 0 {
            model.forward(&input(&ids)?, 0)?;
        } else {
            for (pos, id) in ids.iter().enumerate() {
                model.forward(&input(&[*id])?, pos)?;
            }
        }
        let rate = n as f64 / start.elapsed().as_secs_f64();
        if repetition > 0 {
            rates.push(rate);
        }
        if job.paced {
            // The standard output flushes at each line's end.
            println!("{}", if repetition > 0 { rate.to_string() } else { "ready".to_owned() });
        }
    }
    println!("{}", json!({ "version": "0.11.1", "ts": rates }));
    Ok(())
}
