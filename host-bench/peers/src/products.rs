//! The product of one row of activations with a square matrix, by itself: what is multiplied, by whom, and whether their
//! results are right.
//!
//! Engine and peer read the same bytes. Both quantize the activations anew for every product, on one thread, with the
//! operands in the caches from the product before. The peer may choose: its graph or its routines without one, the matrix
//! repacked or not.
//!
//! A turn is a process of its own: where the system puts a process's pages and its stack decides how much of a matrix fits
//! into a cache, and which loads are split. A round's figure is the median of a few turns.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Options;
use crate::contenders::Contender;
use crate::measure::Measured;
use crate::report::{Report, median};
use crate::rows::Row;

/// Rows and columns.
const N: usize = 384;
/// Values in a block of a quantized type.
const QK: usize = 32;
/// Turns of each contender in a round.
pub const TURNS: usize = 5;

/// One product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Type of the weights.
    pub quant: &'static str,
    /// How the engine keeps them.
    order: Order,
}

/// The order of the engine's weights. The peer's are in its best order whatever the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The engine has no other for this type than the file's.
    Only,
    /// As the engine keeps a model's, once it has loaded it.
    Packed,
    /// As they lie in a file.
    File,
}

pub const PRODUCTS: [Product; 5] = [
    Product { quant: "f32", order: Order::Only },
    Product { quant: "q8_0", order: Order::Packed },
    Product { quant: "q8_0", order: Order::File },
    Product { quant: "q4_0", order: Order::Packed },
    Product { quant: "q4_0", order: Order::File },
];

/// What is multiplied, as bytes and as the values they mean.
struct Operands {
    is_quantized: bool,
    weight_bytes: Vec<u8>,
    weights: Vec<f64>,
    activations: Vec<f32>,
}

impl Product {
    /// The operation.
    pub const NAME: &'static str = "gemv";

    /// The shape, and the order of the engine's weights where there are two.
    pub fn test(&self) -> String {
        match self.order {
            Order::Only => format!("{N}x{N}"),
            Order::Packed => format!("{N}x{N}, packed"),
            Order::File => format!("{N}x{N}, file order"),
        }
    }

    /// Writes the weights and the activations into `folder`.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let Operands { weight_bytes, activations, .. } = operands(self.quant);
        let activations: Vec<u8> = activations.iter().flat_map(|x| x.to_le_bytes()).collect();
        let files = [(format!("gemv-{}.bin", self.quant), weight_bytes), ("gemv-x.bin".into(), activations)];
        let write = |(name, bytes): (String, Vec<u8>)| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        files.into_iter().map(write).collect()
    }
}

/// The engine, and the ways in which the peer can do the product.
pub fn contenders(
    row: &Row,
    product: &Product,
    options: &Options,
    weights: &Path,
    activations: &Path,
) -> Vec<Contender> {
    let job = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("--weights").arg(weights).arg("--activations").arg(activations);
        command.args(["--type", product.quant, "-n", &N.to_string()]);
        command
    };
    let mut command = job(&options.gemv);
    if product.order == Order::Packed {
        command.arg("--packed");
    }
    if row.avx2_only {
        command.args(["--backend", "avx2"]);
    }
    let pages = "memory of its own";
    let mut all = vec![Contender { engine: "corelm", variant: "", pages, command }];
    if let Some(folder) = options.llama(row) {
        all.extend(ways(product.quant).into_iter().map(|(variant, flags)| {
            let mut command = job(&folder.join("ggml-gemv"));
            command.args(flags);
            Contender { engine: "llama.cpp", variant, pages, command }
        }));
    }
    all
}

/// The peer's ways, with the flags that choose them. Where llama.cpp repacks no matrix of this type on this CPU, two are the
/// same.
fn ways(quant: &str) -> Vec<(&'static str, &'static [&'static str])> {
    let mut ways: Vec<(_, &[_])> = vec![("graph", &["--graph", "--repack"]), ("routines, file order", &[])];
    if quant != "f32" {
        ways.push(("graph, file order", &["--graph"]));
    }
    // Elsewhere what it repacks to, and so the routine, depends on the CPU.
    if quant == "q4_0" && cfg!(target_arch = "x86_64") {
        ways.push(("routines", &["--repack"]));
    }
    ways
}

/// Gives every contender its turns in every round; who goes first changes from turn to turn. One that fails or gives wrong
/// results is left out with a note.
pub fn by_turns(
    row: &Row,
    product: &Product,
    contenders: Vec<Contender>,
    report: &mut Report,
) -> Vec<Measured> {
    let operands = operands(product.quant);
    let mut sides: Vec<Measured> = contenders.into_iter().map(Measured::new).collect();
    for _ in 0..report.rounds {
        let mut rates = vec![Vec::new(); sides.len()];
        for turn in 0..TURNS {
            let (mut failed, n) = (None, sides.len());
            for i in (0..n).map(|i| (i + turn) % n) {
                match timed(&mut sides[i].contender, &operands) {
                    Ok((per_s, about)) => {
                        rates[i].push(per_s);
                        sides[i].about = about;
                    }
                    Err(error) => failed = Some((i, error)),
                }
            }
            if let Some((i, error)) = failed {
                report.failed(row, &sides.remove(i).contender, &error);
                rates.remove(i);
            }
        }
        for (side, rates) in sides.iter_mut().zip(&rates) {
            side.per_s.push(median(rates));
        }
    }
    sides
}

/// Products per second of one process, whose results are right, and all that it said.
fn timed(contender: &mut Contender, operands: &Operands) -> Result<(f64, Value)> {
    let about = contender.run()?;
    check(operands, &about)?;
    let per_s = about["per_s"].as_f64().filter(|per_s| *per_s > 0.0).context("it gave no rate")?;
    Ok((per_s, about))
}

/// Whether the results in `about` are those of the product, but for the rounding of activations to eight bits and of sums.
fn check(operands: &Operands, about: &Value) -> Result<()> {
    let Operands { is_quantized, weights, activations, .. } = operands;
    let have: Vec<f64> = about["y"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    ensure!(have.len() == N, "it gave {} results of {N}", have.len());
    for (i, (have, row)) in have.iter().zip(weights.chunks_exact(N)).enumerate() {
        let (want, bound) = dot(row, activations, *is_quantized);
        ensure!((have - want).abs() <= bound, "its result {i} is {have}, not {want}");
    }
    Ok(())
}

/// The dot product of a row of weights with the activations, and how far from it a right result may be.
fn dot(row: &[f64], activations: &[f32], is_quantized: bool) -> (f64, f64) {
    let (mut sum, mut bound) = (0.0, 0.0);
    for (w, x) in row.chunks(QK).zip(activations.chunks(QK)) {
        let step = x.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs()))) / 127.0;
        for (w, x) in w.iter().zip(x).map(|(w, x)| (*w, f64::from(*x))) {
            sum += w * x;
            // Sums of f32 in any order; half a step of eight bits, and the rounding of the step to a half.
            bound += (N + 64) as f64 * f64::from(f32::EPSILON) * (w * x).abs();
            if is_quantized {
                bound += w.abs() * (0.5 * step + x.abs() / 2048.0);
            }
        }
    }
    (sum, bound)
}

/// Random operands, the same for all who ask.
fn operands(quant: &str) -> Operands {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let activations = (0..N).map(|_| random.unit()).collect();
    let (mut weight_bytes, mut weights) = (Vec::new(), Vec::new());
    while weights.len() < N * N {
        if quant == "f32" {
            let w = random.unit();
            weight_bytes.extend(w.to_le_bytes());
            weights.push(f64::from(w));
            continue;
        }
        // A half between 1/64 and 1/32.
        let bits = 0x2400 | (random.bits() & 0x3ff) as u16;
        let d = f64::from(1024 + (bits & 0x3ff)) / 65536.0;
        weight_bytes.extend(bits.to_le_bytes());
        if quant == "q4_0" {
            // Nibbles of 0 to 15 mean -8 to 7; the first sixteen values of a block are in the low ones.
            let bytes: [u8; QK / 2] = std::array::from_fn(|_| random.bits() as u8);
            weight_bytes.extend(bytes);
            weights.extend(bytes.map(|byte| d * (f64::from(byte & 15) - 8.0)));
            weights.extend(bytes.map(|byte| d * (f64::from(byte >> 4) - 8.0)));
        } else {
            let bytes: [i8; QK] = std::array::from_fn(|_| (random.bits() as i8).max(-127));
            weight_bytes.extend(bytes.map(|byte| byte as u8));
            weights.extend(bytes.map(|byte| d * f64::from(byte)));
        }
    }
    Operands { is_quantized: quant != "f32", weight_bytes, weights, activations }
}

/// Vigna's xorshift64*.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    /// Evenly in -1..1.
    fn unit(&mut self) -> f32 {
        self.bits() as u32 as i32 as f32 / 2_147_483_648.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn right_results_pass_and_others_do_not() {
        for product in PRODUCTS {
            let operands = operands(product.quant);
            let Operands { weights, activations, .. } = &operands;
            let results = |skip: usize| -> Vec<f64> {
                let rows = weights.chunks_exact(N).cycle().skip(skip).take(N);
                rows.map(|row| dot(row, activations, false).0).collect()
            };
            assert!(check(&operands, &json!({ "y": results(0) })).is_ok());
            assert!(check(&operands, &json!({ "y": results(1) })).is_err());
            assert!(check(&operands, &json!({ "y": vec![0.0; N] })).is_err());
            assert!(check(&operands, &json!({ "y": results(0)[1..] })).is_err());
        }
    }

    #[test]
    fn who_gives_wrong_results_is_left_out() {
        let product = Product { quant: "q4_0", order: Order::Only };
        let Operands { weights, activations, .. } = operands(product.quant);
        let right: Vec<f64> = weights.chunks_exact(N).map(|row| dot(row, &activations, false).0).collect();
        let says = |engine, about: Value| {
            let mut command = Command::new("echo");
            command.arg(about.to_string());
            Contender { engine, variant: "", pages: "", command }
        };
        let contenders = vec![
            says("corelm", json!({ "per_s": 2.0, "y": right })),
            says("wrong", json!({ "per_s": 9.0, "y": vec![1.0; N] })),
            says("llama.cpp", json!({ "per_s": 4.0, "y": right })),
        ];
        let row = Row { job: crate::rows::Job::Product(product), threads: 1, avx2_only: false };
        let mut report = Report::new(3, Vec::new());
        let sides = by_turns(&row, &product, contenders, &mut report);
        let found: Vec<_> = sides.into_iter().map(|side| (side.contender.engine, side.per_s)).collect();
        assert_eq!(found, [("corelm", vec![2.0; 3]), ("llama.cpp", vec![4.0; 3])]);
        assert!(report.notes.len() == 1 && report.notes[0].contains("wrong failed: its result 0 is 1"));
    }

    #[test]
    fn operands_are_as_large_as_the_type_says() {
        for (quant, bytes_per_block) in [("f32", 4 * QK), ("q8_0", 34), ("q4_0", 18)] {
            let operands = operands(quant);
            assert_eq!(operands.weight_bytes.len(), N * N / QK * bytes_per_block);
            assert_eq!((operands.weights.len(), operands.activations.len()), (N * N, N));
        }
    }
}
