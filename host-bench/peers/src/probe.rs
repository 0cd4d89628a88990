//! What this machine can do at most: read bandwidth and arithmetic peaks, measured.
//!
//! The limits are those of programs, not of data sheets: one loop for each, with nothing in it but the loads or the
//! multiply-adds, the best of a few runs. Where two threads share the machine with others, the best run is the one that
//! was disturbed least.

use std::sync::Barrier;
use std::time::Instant;

use serde::{Deserialize, Serialize};

#[cfg(target_arch = "x86_64")]
mod x86_64;

/// Much larger than a model's matrices together with any cache a thread may call its own.
const BUFFER_BYTES: usize = 1 << 30;
const PAGE_BYTES: usize = 2 << 20;
const N_RUNS: usize = 7;

/// A loop of multiply-adds.
struct Peak {
    /// Of the numbers multiplied.
    ty: &'static str,
    /// The instruction that does it.
    instruction: &'static str,
    /// Whether AVX2 alone has it.
    is_avx2: bool,
    /// Repeats the loop's body so many times; gives the operations done (a multiplication and an addition are two).
    run: fn(u64) -> u64,
}

/// What the machine reached with `threads` threads.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Limits {
    pub threads: usize,
    /// Bytes per second read from memory.
    pub read_bytes_per_s: f64,
    pub peaks: Vec<Rate>,
}

/// Operations per second of one instruction.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Rate {
    pub ty: String,
    pub instruction: String,
    pub is_avx2: bool,
    pub ops_per_s: f64,
}

impl Limits {
    /// The highest rate for numbers of type `ty`; with `avx2_only`, of what AVX2 has.
    pub fn peak(&self, ty: &str, avx2_only: bool) -> Option<f64> {
        let rates = self.peaks.iter().filter(|rate| rate.ty == ty && (rate.is_avx2 || !avx2_only));
        rates.map(|rate| rate.ops_per_s).reduce(f64::max)
    }
}

/// Measures with each number of threads in `threads`.
pub fn measure(threads: &[usize]) -> Vec<Limits> {
    let most = threads.iter().copied().max().unwrap_or(1);
    let buffer = buffer(most);
    threads.iter().map(|&n| limits(n, &buffer)).collect()
}

fn limits(threads: usize, buffer: &[u64]) -> Limits {
    let share = buffer.len() / threads;
    let read = |i: usize| {
        (buffer[i * share..][..share].len() * 8, std::hint::black_box(sum(&buffer[i * share..][..share])))
    };
    let read_bytes_per_s = best_rate(threads, |i| read(i).0 as u64);
    let peaks = peaks().into_iter().map(|peak| {
        // A run long enough that starting the threads does not count: some 50 ms.
        let start = Instant::now();
        (peak.run)(100_000);
        let n = (0.05 / start.elapsed().as_secs_f64() * 100_000.0) as u64;
        Rate {
            ty: peak.ty.into(),
            instruction: peak.instruction.into(),
            is_avx2: peak.is_avx2,
            ops_per_s: best_rate(threads, |_| (peak.run)(n.max(1))),
        }
    });
    Limits { threads, read_bytes_per_s, peaks: peaks.collect() }
}

/// Units per second of `work`, which says how many it did, on `threads` threads at once; the best of a few runs.
fn best_rate(threads: usize, work: impl Fn(usize) -> u64 + Sync) -> f64 {
    let run = || {
        let start_line = Barrier::new(threads);
        std::thread::scope(|scope| {
            let (start_line, work) = (&start_line, &work);
            let thread = |i| {
                scope.spawn(move || {
                    start_line.wait();
                    let start = Instant::now();
                    (work(i), start, Instant::now())
                })
            };
            let handles: Vec<_> = (0..threads).map(thread).collect();
            let done: Vec<_> = handles.into_iter().filter_map(|handle| handle.join().ok()).collect();
            let units: u64 = done.iter().map(|done| done.0).sum();
            let first = done.iter().map(|done| done.1).min();
            let last = done.iter().map(|done| done.2).max();
            let elapsed = first.zip(last).map_or(f64::INFINITY, |(first, last)| (last - first).as_secs_f64());
            units as f64 / elapsed
        })
    };
    (0..N_RUNS).map(|_| run()).fold(0.0, f64::max)
}

/// Memory that has been written, in large pages where the system grants them.
fn buffer(threads: usize) -> Vec<u64> {
    // A whole number of pages for each thread, and one page to begin at a boundary.
    let bytes = BUFFER_BYTES.next_multiple_of(threads * PAGE_BYTES) + PAGE_BYTES;
    let mut words: Vec<u64> = Vec::with_capacity(bytes / 8);
    #[cfg(target_os = "linux")]
    {
        let start = words.as_mut_ptr().cast::<u8>();
        let skip = start.align_offset(PAGE_BYTES);
        // SAFETY: the range lies within the vector's allocation; the advice changes no byte of it.
        unsafe { libc::madvise(start.add(skip).cast(), bytes - PAGE_BYTES, libc::MADV_HUGEPAGE) };
    }
    words.extend(0..(bytes / 8) as u64);
    words
}

/// Adds up `words`: wide loads, several additions under way at a time.
fn sum(words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(sum) = x86_64::sum(words) {
        return sum;
    }
    words.iter().fold(0, |sum, &word| sum.wrapping_add(word))
}

fn peaks() -> Vec<Peak> {
    #[cfg(target_arch = "x86_64")]
    return x86_64::peaks();
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}
