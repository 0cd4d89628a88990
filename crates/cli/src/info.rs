//! `corelm info`: what a model file holds and what running it takes.

use std::collections::BTreeMap;
use std::io::Write;

use corelm::{ChatError, ChatTemplate, Config, Image, MemoryPlan, SessionConfig};

use crate::args::InfoArgs;
use crate::failure::Outcome;
use crate::model::{ModelFile, n_values};
use crate::output::Output;

/// Runs the command.
pub fn run(args: &InfoArgs) -> Outcome {
    let file = ModelFile::open(&args.model)?;
    let image = file.image()?;
    let config = Config::from_image(&image).map_err(|error| file.because(error))?;
    let mut out = Output::new();
    writeln!(out, "architecture       {}", config.arch.name())?;
    if let Some(name) = text(&image, "general.name") {
        writeln!(out, "name               {name}")?;
    }
    writeln!(out, "layers             {}", config.n_layers)?;
    writeln!(out, "width              {}", config.dim)?;
    writeln!(out, "feed-forward       {}", config.hidden_dim)?;
    writeln!(out, "heads              {} ({} for keys and values)", config.n_heads, config.n_kv_heads)?;
    writeln!(out, "vocabulary         {}", config.vocab_size)?;
    writeln!(out, "context            {}", config.n_ctx_train)?;
    if let Some(model) = text(&image, "tokenizer.ggml.model") {
        writeln!(out, "tokenizer          {model}")?;
    }
    match ChatTemplate::of(&image) {
        Err(ChatError::NoTemplate) => {}
        Ok(template) => writeln!(out, "chat template      {}", template.name())?,
        Err(ChatError::UnknownTemplate) => writeln!(out, "chat template      of no known family (Jinja)")?,
        Err(error) => writeln!(out, "chat template      {error}")?,
    }
    let mut types: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut n_params = 0;
    for tensor in image.tensors() {
        let (n, bytes) = types.entry(tensor.ty.name()).or_default();
        (*n, *bytes) = (*n + 1, *bytes + tensor.bytes.len());
        n_params += n_values(&tensor);
    }
    writeln!(out, "parameters         {n_params}")?;
    for (ty, (n, bytes)) in types {
        writeln!(out, "tensors            {n:>4} {ty:<5} {bytes:>12} bytes")?;
    }
    if args.tensors {
        for tensor in image.tensors() {
            let dims: Vec<String> = tensor
                .dims
                .get(..tensor.n_dims as usize)
                .unwrap_or_default()
                .iter()
                .map(u64::to_string)
                .collect();
            writeln!(out, "  {:<32} {:>5} {}", tensor.name, tensor.ty.name(), dims.join(" x "))?;
        }
    }
    let n_batch = args.batch_size.get();
    writeln!(
        out,
        "memory             beside the file, for a {:?} cache, batches of {n_batch} and one worker:",
        args.kv
    )?;
    writeln!(out, "  {:>8} {:>14} {:>14} {:>14}", "context", "model", "session", "sum, bytes")?;
    let mut packed_len = 0;
    for n_ctx in contexts(config.n_ctx_train) {
        let wanted =
            SessionConfig { n_ctx, n_batch: n_batch.min(n_ctx), kv_type: args.kv.into(), n_workers: 1 };
        let plan = MemoryPlan::new(&image, &config, &wanted).map_err(|error| file.because(error))?;
        writeln!(
            out,
            "  {n_ctx:>8} {:>14} {:>14} {:>14}",
            plan.model_bytes(),
            plan.session_bytes(),
            plan.bytes()
        )?;
        packed_len = plan.packed_len();
    }
    if packed_len > 0 {
        writeln!(out, "packed weights     {packed_len} bytes more, unless with --no-repack")?;
    }
    Ok(out.flush()?)
}

/// A string of the metadata, on one line whatever it holds.
fn text(image: &Image<'_>, key: &'static str) -> Option<String> {
    let text = String::from_utf8_lossy(image.bytes(key).ok()??).into_owned();
    Some(text.replace(|c: char| c.is_control(), " "))
}

/// 128, 512, 2048, … below the model's own context, and that.
fn contexts(n_ctx_train: usize) -> Vec<usize> {
    let mut contexts: Vec<usize> = (0..).map(|i| 128 << (2 * i)).take_while(|&n| n < n_ctx_train).collect();
    contexts.push(n_ctx_train);
    contexts
}
