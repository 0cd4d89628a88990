//! Times the product of one row of activations with a square matrix: `cargo xtask bench --peers` starts this beside ggml's
//! (`peers/llama/gemv.c`), which reads the same bytes.
//!
//! A product quantizes the activations anew where the weights are quantized. The matrix is packed before anything is timed
//! (`--packed`) or stays in the file's order. Prints products per second and, for whoever checks them, the results as JSON.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use corelm::ops::{Activations, BlockQ8, Features, GgmlType, Line, Matrix, Ops, TileMut, Workspace};

/// Timed spans, of which the median counts.
const SPANS: usize = 101;
/// The least seconds that a span takes: so few that most spans are over before the system gives the CPU to another.
const SPAN: f64 = 0.0005;

type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|job| run(&job)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gemv: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What to multiply.
#[derive(Default)]
struct Job {
    weights: String,
    activations: String,
    ty: String,
    n: usize,
    is_packed: bool,
    /// The best there is where it is empty.
    backend: String,
}

fn parse(mut args: impl Iterator<Item = String>) -> Outcome<Job> {
    let mut job = Job::default();
    while let Some(name) = args.next() {
        if name == "--packed" {
            job.is_packed = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{name} wants a value"))?;
        match name.as_str() {
            "--weights" => job.weights = value,
            "--activations" => job.activations = value,
            "--type" => job.ty = value,
            "-n" => job.n = value.parse().map_err(|_| "-n wants a number")?,
            "--backend" => job.backend = value,
            _ => return Err(format!("no option '{name}'")),
        }
    }
    Ok(job)
}

fn run(job: &Job) -> Outcome<()> {
    let wanted = |ops: &Ops| job.backend.is_empty() || ops.backend().name() == job.backend;
    let ops = Ops::available(Features::detect_host()).filter(wanted).last();
    let ops = ops.ok_or_else(|| format!("no back-end '{}' here", job.backend))?;
    let types = [GgmlType::F32, GgmlType::Q8_0, GgmlType::Q4_0];
    let ty = types.into_iter().find(|ty| ty.name() == job.ty).ok_or("the type is f32, q8_0 or q4_0")?;

    let mut product = Product::load(job, ops, ty)?;
    let mut n_products = 1;
    while product.span(n_products) < SPAN {
        n_products *= 2;
    }
    // What is looked at is what timed products give.
    product.dst.get_mut().fill(f32::NAN);
    let mut spans = [0.0; SPANS];
    spans.iter_mut().for_each(|elapsed| *elapsed = product.span(n_products));
    spans.sort_by(f64::total_cmp);
    let per_s = n_products as f64 / spans[SPANS / 2];
    let values: Vec<String> = product.dst.get().iter().map(|value| format!("{value:.9e}")).collect();
    let (backend, y) = (ops.backend().name(), values.join(", "));
    println!("{{\"backend\": \"{backend}\", \"per_s\": {per_s:.4}, \"y\": [{y}]}}");
    Ok(())
}

/// The operands of a product, and what it works in.
struct Product {
    ops: Ops,
    n: usize,
    ty: GgmlType,
    weights: Lined<u8>,
    f32: Lined<f32>,
    q8: Lined<BlockQ8>,
    lines: Vec<Line>,
    dst: Lined<f32>,
}

impl Product {
    fn load(job: &Job, ops: Ops, ty: GgmlType) -> Outcome<Product> {
        let n = job.n;
        let file = read(&job.weights)?;
        let matrix = Matrix::new(ty, file.get(), n, n).map_err(|error| error.to_string())?;
        let (ty, weights) = match job.is_packed {
            true => {
                let mut copy = Lined::new(file.get().len(), 0);
                let packed = ops.pack(copy.get_mut(), matrix).map_err(|error| error.to_string())?;
                (packed.ty(), copy)
            }
            false => (ty, file),
        };
        let activations = read(&job.activations)?;
        let row = Matrix::new(GgmlType::F32, activations.get(), 1, n).map_err(|error| error.to_string())?;
        let mut f32 = Lined::new(n, 0.0);
        ops.dequantize(f32.get_mut(), row);
        let (q8, lines) = (Lined::new(n / 32, BlockQ8::ZERO), vec![Line::ZERO; Workspace::LINES]);
        Ok(Product { ops, n, ty, weights, f32, q8, lines, dst: Lined::new(n, 0.0) })
    }

    /// The seconds that `n_products` take.
    fn span(&mut self, n_products: u64) -> f64 {
        let Product { ops, n, ty, weights, f32, q8, lines, dst } = self;
        // Its bytes were read as this matrix once.
        let Ok(rhs) = Matrix::new(*ty, weights.get(), *n, *n) else { return f64::NAN };
        let (f32, q8, dst) = (f32.get(), q8.get_mut(), dst.get_mut());
        let workspace = &mut Workspace::new(lines);
        let start = Instant::now();
        for _ in 0..n_products {
            if rhs.is_quantized() {
                ops.quantize_q8(q8, 1, black_box(f32));
            }
            let lhs = Activations { rows: 1, f32, q8 };
            ops.gemm(&mut TileMut::new(dst, *n), black_box(&lhs), black_box(rhs), workspace);
            black_box(&mut *dst);
        }
        start.elapsed().as_secs_f64()
    }
}

/// Values that begin at a line of the cache, as those in an arena do.
struct Lined<T> {
    memory: Vec<T>,
    skip: usize,
    len: usize,
}

impl<T: Copy> Lined<T> {
    fn new(len: usize, value: T) -> Lined<T> {
        let memory = vec![value; len + 63];
        let skip = memory.as_ptr().align_offset(64).min(63);
        Lined { memory, skip, len }
    }

    fn get(&self) -> &[T] {
        &self.memory[self.skip..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.skip..][..self.len]
    }
}

/// The bytes of a file.
fn read(path: &str) -> Outcome<Lined<u8>> {
    let read = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let mut bytes = Lined::new(read.len(), 0);
    bytes.get_mut().copy_from_slice(&read);
    Ok(bytes)
}
