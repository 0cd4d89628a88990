//! The forward pass against the equations, written down once more in f64 and without any cleverness, on models made here
//! for what the files of `../shared` do not have: heads wider than the stream, partial and scaled rotation, frequency
//! factors, tied outputs, a Q8_0 cache.

#[path = "support/model.rs"]
mod support;

use std::collections::BTreeMap;

use corelm::config::Architecture;
use corelm::gguf::Value;
use corelm::gguf::writer::{Sink, SinkFull, Writer};
use corelm::kv_cache::KvType;
use corelm::ops::{GgmlType, POSITIONS, Single};
use corelm::plan::SessionConfig;
use support::threads::Threads;
use support::{backends, with_session};

const TOKENS: [u32; 9] = [3, 250, 17, 17, 99, 0, 200, 41, 8];
const DIM: usize = 48;
const HIDDEN: usize = 72;
const N_LAYERS: usize = 2;
const VOCAB: usize = 264;
const EPS: f32 = 1e-5;

/// A model in f32, and its numbers.
struct Made {
    arch: Architecture,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    rope_dims: usize,
    rope_base: f32,
    rope_factor: f32,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    state: u64,
}

impl Made {
    /// With four heads.
    fn new(arch: Architecture, n_kv_heads: usize, head_dim: usize, rope_dims: usize, is_tied: bool) -> Self {
        Self::with_heads(arch, (4, n_kv_heads), head_dim, rope_dims, is_tied)
    }

    fn with_heads(
        arch: Architecture,
        (n_heads, n_kv_heads): (usize, usize),
        head_dim: usize,
        rope_dims: usize,
        is_tied: bool,
    ) -> Self {
        let (rope_base, rope_factor) = if is_tied { (1e6, 1.0) } else { (10_000.0, 4.0) };
        let tensors = BTreeMap::new();
        let mut made = Self {
            arch,
            n_heads,
            n_kv_heads,
            head_dim,
            rope_dims,
            rope_base,
            rope_factor,
            tensors,
            state: 1,
        };
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let is_gpt2 = arch == Architecture::Gpt2;
        made.matrix("token_embd.weight", VOCAB, DIM);
        made.vector("output_norm.weight", DIM);
        if !is_tied {
            made.matrix("output.weight", VOCAB, DIM);
        }
        if arch == Architecture::Llama {
            made.vector("rope_freqs.weight", rope_dims / 2);
        }
        if is_gpt2 {
            made.matrix("position_embd.weight", 32, DIM);
            made.vector("output_norm.bias", DIM);
        }
        for layer in 0..N_LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            made.vector(&name("attn_norm.weight"), DIM);
            made.vector(&name("ffn_norm.weight"), DIM);
            made.matrix(&name("attn_output.weight"), DIM, q);
            made.matrix(&name("ffn_up.weight"), HIDDEN, DIM);
            made.matrix(&name("ffn_down.weight"), DIM, HIDDEN);
            if is_gpt2 {
                made.matrix(&name("attn_qkv.weight"), q + 2 * kv, DIM);
                made.vector(&name("attn_qkv.bias"), q + 2 * kv);
                for part in ["attn_norm.bias", "attn_output.bias", "ffn_norm.bias", "ffn_down.bias"] {
                    made.vector(&name(part), DIM);
                }
                made.vector(&name("ffn_up.bias"), HIDDEN);
            } else {
                made.matrix(&name("ffn_gate.weight"), HIDDEN, DIM);
                for (part, rows) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
                    made.matrix(&name(&format!("{part}.weight")), rows, DIM);
                    if arch == Architecture::Qwen2 {
                        made.vector(&name(&format!("{part}.bias")), rows);
                    }
                }
            }
        }
        made
    }

    /// A number in -1..1 (Knuth's MMIX generator).
    fn number(&mut self) -> f32 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) {
        let values = (0..rows * cols).map(|_| self.number() * 0.3).collect();
        self.tensors.insert(name.into(), (vec![cols, rows], values));
    }

    /// Norms and frequency factors around 1.5, biases around 0.
    fn vector(&mut self, name: &str, len: usize) {
        let center = if name.ends_with("bias") { 0.0 } else { 1.5 };
        let values = (0..len).map(|_| center + self.number()).collect();
        self.tensors.insert(name.into(), (vec![len], values));
    }

    fn get(&self, name: &str) -> Option<Vec<f64>> {
        Some(self.tensors.get(name)?.1.iter().map(|&x| f64::from(x)).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        let prefix = self.arch.name();
        let mut numbers = vec![
            ("block_count", N_LAYERS),
            ("context_length", 32),
            ("embedding_length", DIM),
            ("feed_forward_length", HIDDEN),
            ("attention.head_count", self.n_heads),
            ("attention.head_count_kv", self.n_kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
        ];
        let mut floats = vec![("attention.layer_norm_epsilon", EPS)];
        if self.arch != Architecture::Gpt2 {
            numbers.push(("rope.dimension_count", self.rope_dims));
            floats = vec![("attention.layer_norm_rms_epsilon", EPS), ("rope.freq_base", self.rope_base)];
            floats.push(("rope.scaling.factor", self.rope_factor));
        }
        let n_keys = numbers.len() + floats.len() + 5;
        let mut file = Writer::new(Bytes::default(), n_keys as u64, self.tensors.len() as u64).unwrap();
        file.value("general.architecture", Value::String(prefix.as_bytes())).unwrap();
        for (key, number) in numbers {
            file.value(&format!("{prefix}.{key}"), Value::U32(number as u32)).unwrap();
        }
        for (key, number) in floats {
            file.value(&format!("{prefix}.{key}"), Value::F32(number)).unwrap();
        }
        file.value("tokenizer.ggml.model", Value::String(b"llama")).unwrap();
        let texts = (0..VOCAB).map(|i| match i {
            0 => "<unk>".into(),
            1..=256 => format!("<0x{:02X}>", i - 1),
            _ => format!("text{i}"),
        });
        file.strings("tokenizer.ggml.tokens", texts.collect::<Vec<_>>().iter()).unwrap();
        file.f32s("tokenizer.ggml.scores", (0..VOCAB).map(|i| -(i as f32))).unwrap();
        let types = (0..VOCAB).map(|i| {
            if i == 0 {
                2
            } else if i <= 256 {
                6
            } else {
                1
            }
        });
        file.i32s("tokenizer.ggml.token_type", types.collect::<Vec<_>>().into_iter()).unwrap();
        for (name, (dims, _)) in &self.tensors {
            let dims: Vec<u64> = dims.iter().map(|&dim| dim as u64).collect();
            file.tensor(name, &dims, GgmlType::F32).unwrap();
        }
        for (_, values) in self.tensors.values() {
            values.iter().for_each(|x| file.data(&x.to_le_bytes()).unwrap());
            file.end_tensor().unwrap();
        }
        file.finish().unwrap().0
    }

    /// Logits behind the last of `tokens`.
    fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let get = |name: &str| self.get(name).unwrap();
        let (hd, kv_dim) = (self.head_dim, self.n_kv_heads * self.head_dim);
        let mut cache = vec![(Vec::<Vec<f64>>::new(), Vec::<Vec<f64>>::new()); N_LAYERS];
        let mut x = Vec::new();
        for (pos, &token) in tokens.iter().enumerate() {
            x = get("token_embd.weight")[token as usize * DIM..][..DIM].to_vec();
            if let Some(positions) = self.get("position_embd.weight") {
                add(&mut x, &positions[pos * DIM..][..DIM]);
            }
            for (layer, (keys, values)) in cache.iter_mut().enumerate() {
                let name = |part: &str| format!("blk.{layer}.{part}");
                let linear = |part: &str, x: &[f64]| {
                    let mut y = product(&get(&name(&format!("{part}.weight"))), x);
                    self.get(&name(&format!("{part}.bias"))).inspect(|bias| add(&mut y, bias));
                    y
                };
                let h = self.norm(&name("attn_norm"), &x);
                let (mut q, mut k, v) = if self.arch == Architecture::Gpt2 {
                    let mut q = linear("attn_qkv", &h);
                    let mut k = q.split_off(self.n_heads * hd);
                    let v = k.split_off(kv_dim);
                    (q, k, v)
                } else {
                    (linear("attn_q", &h), linear("attn_k", &h), linear("attn_v", &h))
                };
                q.chunks_mut(hd).chain(k.chunks_mut(hd)).for_each(|head| self.rotate(head, pos));
                keys.push(k);
                values.push(v);
                let mut att = Vec::new();
                for (head, q) in q.chunks(hd).enumerate() {
                    let of = |row: &[f64]| row[head / (self.n_heads / self.n_kv_heads) * hd..][..hd].to_vec();
                    let score = |k: &Vec<f64>| (dot(q, &of(k)) / (hd as f64).sqrt()).exp();
                    let p: Vec<f64> = keys.iter().map(score).collect();
                    let sum: f64 = p.iter().sum();
                    att.extend(
                        (0..hd).map(|i| p.iter().zip(&*values).map(|(p, v)| p / sum * of(v)[i]).sum::<f64>()),
                    );
                }
                add(&mut x, &linear("attn_output", &att));
                let h = self.norm(&name("ffn_norm"), &x);
                let mut up = linear("ffn_up", &h);
                if self.arch == Architecture::Gpt2 {
                    let z = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                    up.iter_mut().for_each(|x| *x = 0.5 * *x * (1.0 + z(*x).tanh()));
                } else {
                    let gate = linear("ffn_gate", &h);
                    up.iter_mut().zip(gate).for_each(|(up, gate)| *up *= gate / (1.0 + (-gate).exp()));
                }
                add(&mut x, &linear("ffn_down", &up));
            }
        }
        let output = self.get("output.weight").unwrap_or(get("token_embd.weight"));
        product(&output, &self.norm("output_norm", &x))
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight")).unwrap();
        let bias = self.get(&format!("{name}.bias"));
        let mean = if bias.is_some() { x.iter().sum::<f64>() / x.len() as f64 } else { 0.0 };
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (variance + f64::from(EPS)).sqrt();
        let mut y: Vec<f64> = x.iter().zip(weight).map(|(x, w)| (x - mean) * scale * w).collect();
        bias.inspect(|bias| add(&mut y, bias));
        y
    }

    fn rotate(&self, head: &mut [f64], pos: usize) {
        let factors = self.get("rope_freqs.weight");
        for i in 0..self.rope_dims / 2 {
            let frequency = f64::from(self.rope_base).powf(-2.0 * i as f64 / self.rope_dims as f64);
            let factor = factors.as_ref().map_or(1.0, |factors| factors[i]);
            let (sin, cos) = (pos as f64 * frequency / factor / f64::from(self.rope_factor)).sin_cos();
            let (a, b) = match self.arch {
                Architecture::Llama => (2 * i, 2 * i + 1),
                _ => (i, i + self.rope_dims / 2),
            };
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
        }
    }
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn product(weights: &[f64], x: &[f64]) -> Vec<f64> {
    weights.chunks(x.len()).map(|row| dot(row, x)).collect()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Compares with the equations: largest deviation at most `bound` of the logits' rms.
fn check(made: &Made, kv_type: KvType, bound: f64) {
    let (bytes, want) = (made.bytes(), made.logits(&TOKENS));
    let rms = (dot(&want, &want) / want.len() as f64).sqrt();
    for ops in backends() {
        for n_batch in [1, 4, 9] {
            let config = SessionConfig { n_ctx: 16, n_batch, kv_type, n_workers: 1 };
            with_session(&bytes, ops, &Single, config, |session| {
                let logits = session.prefill(&TOKENS).unwrap();
                let off = logits.iter().zip(&want).map(|(&have, want)| (f64::from(have) - want).abs());
                let worst = off.fold(0.0, f64::max) / rms;
                assert!(worst <= bound, "{:?} {kv_type:?} {ops:?} {n_batch}: {worst}", made.arch);
            });
        }
    }
}

#[test]
fn llama_with_wide_heads_partial_scaled_rotation_and_factors() {
    let made = Made::new(Architecture::Llama, 2, 32, 24, false);
    check(&made, KvType::F32, 2e-5);
    check(&made, KvType::F16, 1e-2);
    check(&made, KvType::Q8_0, 6e-2);
}

#[test]
fn qwen2_with_one_key_head_and_tied_output() {
    let made = Made::new(Architecture::Qwen2, 1, 16, 16, true);
    check(&made, KvType::F32, 2e-5);
    check(&made, KvType::F16, 1e-2);
}

#[test]
fn gpt2_with_biases_everywhere() {
    let made = Made::new(Architecture::Gpt2, 4, 12, 0, false);
    check(&made, KvType::F32, 4e-3); // gelu rounds to halves
    check(&made, KvType::F16, 1e-2);
}

/// Every width that models have, and odd ones, with all of a head turned or as much as can be in pairs; one head; more
/// heads to one key than pass over it at a time.
#[test]
fn heads_of_any_width_and_number() {
    use Architecture::{Gpt2, Llama, Qwen2};
    for (arch, heads, head_dim) in [
        (Llama, (1, 1), 64),
        (Qwen2, (2, 2), 80),
        (Llama, (1, 1), 96),
        (Qwen2, (4, 1), 128),
        (Llama, (2, 1), 256),
        (Llama, (1, 1), 33),
        (Qwen2, (3, 1), 7),
        (Gpt2, (1, 1), 5),
        (Gpt2, (3, 3), 1),
        (Llama, (26, 2), 8),
        (Qwen2, (13, 1), 2),
    ] {
        let is_gpt2 = arch == Gpt2;
        let rope_dims = if is_gpt2 { 0 } else { head_dim / 2 * 2 };
        let made = Made::with_heads(arch, heads, head_dim, rope_dims, false);
        check(&made, KvType::F32, if is_gpt2 { 4e-3 } else { 2e-5 }); // gelu rounds to halves
        check(&made, KvType::F16, 1e-2);
    }
}

#[test]
fn caches_do_not_depend_on_batches_slices_or_workers() {
    let bytes = Made::new(Architecture::Llama, 2, 32, 24, false).bytes();
    // Long enough for workers to share out positions, in the last steps.
    let tokens: Vec<u32> = (0..2 * POSITIONS as u32 + 5).map(|i| i * 7 % VOCAB as u32).collect();
    let (prompt, steps) = tokens.split_at(tokens.len() - 3);
    for ops in backends() {
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
            let run = |n_batch, n_workers| {
                let config = SessionConfig { n_ctx: tokens.len(), n_batch, kv_type, n_workers };
                with_session(&bytes, ops, &Threads(n_workers), config, |session| {
                    let mut logits = session.prefill(prompt).unwrap().to_vec();
                    steps.iter().for_each(|&token| logits.extend(session.step(token).unwrap()));
                    logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                })
            };
            let want = run(16, 1);
            for (n_batch, n_workers) in [(1, 1), (9, 1), (100, 3)] {
                assert!(run(n_batch, n_workers) == want, "{ops:?} {kv_type:?} {n_batch} {n_workers}");
            }
        }
    }
}
