//! The goals of docs/ASSURANCE.md: what is asked, what others reach, and what shows ours.

/// A goal.
pub struct Goal {
    /// As in `R3`.
    pub id: &'static str,
    /// What it is about.
    pub name: &'static str,
    /// What is asked.
    pub asked: &'static str,
    /// What was measured of others, or is published of them.
    pub anchor: &'static str,
    /// What shows it.
    pub measures: &'static [Measure],
}

/// One thing that is measured for a goal.
pub struct Measure {
    /// As figures name it.
    pub name: &'static str,
    /// What a person types to see it.
    pub command: &'static str,
    /// As many cases are asked for, and come first in the figure; 0 where it holds or does not.
    pub at_least: u64,
    /// Whether `cargo xtask test` takes it, be it with fewer cases.
    pub is_quick: bool,
    /// Why what is asked is not reached; empty where it is.
    pub missed: &'static str,
}

const fn quick(name: &'static str, command: &'static str) -> Measure {
    Measure { name, command, at_least: 0, is_quick: true, missed: "" }
}

const fn long(name: &'static str, command: &'static str) -> Measure {
    Measure { is_quick: false, ..quick(name, command) }
}

impl Measure {
    const fn at_least(self, n: u64) -> Measure {
        Measure { at_least: n, ..self }
    }

    const fn missed(self, why: &'static str) -> Measure {
        Measure { missed: why, ..self }
    }
}

const PROVE: &str = "cargo xtask prove";
const MIRI: &str = "cargo xtask sanitize --miri";
const ENDURE: &str = "cargo xtask endure";
const BAD_GGUF: &str = "cargo test -p corelm --test bad_gguf";
const SPECIAL: &str = "cargo test -p corelm --test special_tokens";
const FUZZ: &str = "cargo xtask fuzz --hours 8";

/// All of them, in order.
pub static GOALS: [Goal; 22] = [
    Goal {
        id: "R1",
        name: "no panic can be reached",
        asked: "0 from every public function, both architectures, every back-end; 0 overflows in parser, tokenizer, plan",
        anchor: "llama.cpp: 3 174 places that abort; Hubris proves one task",
        measures: &[quick("panics", PROVE), quick("overflows", PROVE), quick("traps", PROVE)],
    },
    Goal {
        id: "R2",
        name: "named bad files",
        asked: "0 crashes, 0 wrong answers; in release, AddressSanitizer, Miri (metadata), QEMU",
        anchor: "llama.cpp on 311: 16 aborts, 5 jumps to 0, 11 wrongly accepted; candle: 4, 0, 56",
        measures: &[
            quick("host", BAD_GGUF),
            quick("QEMU", "cargo xtask test 'bad models'"),
            quick("QEMU, x86-64", "cargo xtask test 'bad models'"),
            long("address", "cargo xtask sanitize --address"),
            long("Miri, x86_64", MIRI),
            long("Miri, s390x", MIRI),
            long("Miri, i686", MIRI),
            long("Miri, aarch64", MIRI),
        ],
    },
    Goal {
        id: "R3",
        name: "structured mutants",
        asked: "0 crashes in 1 000 000; 99 of 100 refused files are refused within twice the time of loading the good one",
        anchor: "llama.cpp: 12.8 % of 6 000 kill it; candle: 26 of 3 000",
        measures: &[
            quick("mutants", "CORELM_MUTANTS=1000000 cargo test --release -p corelm-cases --test mutants")
                .at_least(1_000_000),
            quick("refusal", "cargo test --release -p corelm-cases --test mutants"),
        ],
    },
    Goal {
        id: "R4",
        name: "every cut, every bit of the metadata",
        asked: "all lengths of two files and 104 448 flips: 0 crashes, equal bytes give equal errors",
        anchor: "llama.cpp: 4.2 % of flips crash it",
        measures: &[quick("cuts", BAD_GGUF), quick("flips", BAD_GGUF).at_least(104_448)],
    },
    Goal {
        id: "R5",
        name: "fuzzing, led by coverage",
        asked: "executions: file to plan 10^9 and 10^8 with AddressSanitizer, tokenizer 10^8, file to tokens 10^7, calls 10^8; 0 findings open; corpora kept",
        anchor: "safetensors: 3.8*10^7; llama.cpp: aborts within minutes",
        measures: &[
            quick("plan", FUZZ).at_least(1_000_000_000),
            quick("tokenizer", FUZZ).at_least(100_000_000),
            quick("run", FUZZ).at_least(10_000_000),
            quick("session", FUZZ).at_least(100_000_000),
            long("plan, address", "cargo xtask fuzz plan --hours 8 --sanitizer address").at_least(100_000_000),
        ],
    },
    Goal {
        id: "R6",
        name: "memory is the caller's",
        asked: "0 allocators in the libraries; plans exact to the byte; a plan reads no page of tensor data",
        anchor: "llama.cpp: 134 allocations for a prompt, 55 for each token",
        measures: &[
            quick("allocators", PROVE),
            quick("plans", BAD_GGUF),
            quick("pages", "cargo test -p corelm-cases --test untouched"),
            quick("pages, QEMU", "cargo xtask test 'cases in QEMU'"),
        ],
    },
    Goal {
        id: "R7",
        name: "no memory",
        asked: "arenas of 0 to plan + 64 bytes at bases 0 to 63: an error below the plan, enough from there on; every allocation of the kernel refused in turn",
        anchor: "TensorFlow Lite Micro: null dereferences (#2037, #36533)",
        measures: &[quick("arenas", BAD_GGUF), quick("heap", "cargo xtask test 'cases in QEMU'")],
    },
    Goal {
        id: "R8",
        name: "stack",
        asked: "at most 4096 bytes for every public function, no recursion, every call through a pointer known; painted stack in QEMU within it, for all bad files and prompts",
        anchor: "llama.cpp: more than 64 KiB; Hubris' kernel: 650 bytes",
        measures: &[
            quick("bound", PROVE),
            quick("painted", "cargo xtask test 'cases in QEMU'"),
            quick("painted, bad files", "cargo xtask test 'bad models'"),
        ],
    },
    Goal {
        id: "R9",
        name: "bounded time",
        asked: "instructions for each byte within 10 % from 4 to 64 KiB, hostile texts and files; the steps of a generation within a factor of 2",
        anchor: "backtracking expressions: stack and time without bound at 26 000 characters",
        measures: &[
            quick("texts", ENDURE),
            quick("files", ENDURE).missed(
                "by whole files with many layers, whose first bytes, a vocabulary, take fewer instructions than names of tensors; further bytes are within 10 %",
            ),
            quick("steps", ENDURE),
        ],
    },
    Goal {
        id: "R10",
        name: "the same work for every token",
        asked: "a step takes the same instructions for every token, on every back-end",
        anchor: "nobody states it",
        measures: &[
            quick("NEON", ENDURE),
            quick("scalar", ENDURE),
        ],
    },
    Goal {
        id: "R11",
        name: "determinism",
        asked: "one back-end: the same bits over runs, workers, slices, the caller's float mode, host and QEMU; between back-ends: integers equal, logits within derived bounds, greedy tokens equal",
        anchor: "llama.cpp: differs by threads and by packing",
        measures: &[
            quick("bits, host", "cargo test -p corelm-cases --test conformance"),
            quick("bits, QEMU", "cargo xtask test 'cases in QEMU'"),
            quick("bits, QEMU, x86-64", "cargo xtask test 'cases in QEMU'"),
            quick("float mode", "cargo test -p corelm-cases --test float_mode"),
            quick("greedy tokens", "cargo xtask test golden"),
        ],
    },
    Goal {
        id: "R12",
        name: "interrupts",
        asked: "10 000 places in a token: the same bits behind a handler that wrecks the vector unit; a neighbour's registers kept; sessions by turns as alone",
        anchor: "ZFS on Linux 5.0: registers of other programs wrecked within a minute",
        measures: &[quick("places", ENDURE).at_least(10_000)],
    },
    Goal {
        id: "R13",
        name: "faults",
        asked: "SErrors at 1 000 points: finished right, or poisoned; 100 000 bits of the arena flipped between slices under AddressSanitizer: tokens of the vocabulary or an error",
        anchor: "not done elsewhere",
        measures: &[
            quick("SErrors", ENDURE).at_least(1_000),
            quick("arena", "CORELM_ARENA_FLIPS=100000 cargo test --release -p corelm-cases --test arena_flips")
                .at_least(100_000),
            long("arena, address", "cargo xtask assure R13").at_least(100_000),
        ],
    },
    Goal {
        id: "R14",
        name: "integrity",
        asked: "every flip and cut found before parsing, given a SHA-256, in slices, again when idle; 1 000 000 flips in weights without: 0 crashes; what it costs",
        anchor: "llama.cpp: 0 % of flips detected; LM-Fix 94 %",
        measures: &[
            quick("digest", "cargo test -p corelm --test digest"),
            quick("weights", "CORELM_MUTANTS=1000000 cargo test --release -p corelm-cases --test flips")
                .at_least(1_000_000),
            quick("cost", "cargo xtask counts"),
        ],
    },
    Goal {
        id: "R15",
        name: "no fallback over damage",
        asked: "each optional key and tensor: absent gives the documented default, damaged an error",
        anchor: "candle: runs on with other weights",
        measures: &[
            quick("keys", "cargo test -p corelm-cases --test damage"),
            quick("tensors", "cargo test -p corelm-cases --test damage"),
        ],
    },
    Goal {
        id: "R16",
        name: "isolation",
        asked: "the memory of what ended reads 0; a dirty arena gives the bits of a fresh one",
        anchor: "shared caches of prefixes: hits 17.8 times as fast tell other users' prompts",
        measures: &[
            quick("zeros", "cargo test -p corelm-cases --test isolation"),
            quick("dirty arenas", "cargo test -p corelm-cases --test isolation"),
        ],
    },
    Goal {
        id: "R17",
        name: "text stays text",
        asked: "no control token from any text; every text comes back: all of up to 2 bytes, 10^8 fuzzed",
        anchor: "llama.cpp: loses bytes; C0 AE becomes `.`",
        measures: &[quick("texts", SPECIAL), quick("fuzzed", FUZZ).at_least(100_000_000)],
    },
    Goal {
        id: "R18",
        name: "C interface",
        asked: "every wrong pointer, handle, number and order of calls is an error code",
        anchor: "llama.h: undefined",
        measures: &[long("calls", "-").missed("there is no C interface yet")],
    },
    Goal {
        id: "R19",
        name: "concurrency",
        asked: "models of each lock and ring, all interleavings of 2 to 3 threads; ThreadSanitizer over workers; no lock and no mutable static in the libraries",
        anchor: "spin: two writers at once (RUSTSEC-2019-0013)",
        measures: &[
            quick("models", "cargo xtask sanitize --loom").missed(
                "two models of three members stop at three preemptions; the kernel's lock is that of `spin`, and has none",
            ),
            quick("statics", PROVE),
            long("threads", "cargo xtask sanitize --thread"),
        ],
    },
    Goal {
        id: "R20",
        name: "the tests' own strength",
        asked: "parser, tokenizer, plan, sampler: every line, 95 % of branches, 90 % of mutants of the code; `unsafe` in listed files alone",
        anchor: "SQLite: every condition (MC/DC), which rustc lost",
        measures: &[
            long("coverage", "cargo xtask coverage"),
            long("mutants", "cargo xtask mutants --shard 0/10"),
            quick("unsafe", "cargo test -p xtask sources"),
        ],
    },
    Goal {
        id: "R21",
        name: "supply chain",
        asked: "locked versions, one of each, licences of a list; the same bytes from two folders; 0 advisories",
        anchor: "-",
        measures: &[
            quick("packages", "cargo xtask test licences"),
            long("reproducible", "cargo xtask prove --reproducible"),
            long("advisories", "cargo audit").missed("needs a database that is fetched: docs/TESTING.md"),
        ],
    },
    Goal {
        id: "R22",
        name: "vector instructions are there",
        asked: "for each routine at least as many as listed; 0 calls for soft floats",
        anchor: "Rust for x86_64-unknown-none: AVX2 routines without one, and no warning",
        measures: &[quick("routines", PROVE), quick("soft floats", PROVE)],
    },
];

/// What `cargo xtask test` must tell a figure of.
pub fn told_by_tests() -> impl Iterator<Item = (&'static Goal, &'static Measure)> {
    GOALS
        .iter()
        .flat_map(|goal| goal.measures.iter().map(move |measure| (goal, measure)))
        .filter(|(_, measure)| measure.is_quick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_stand_in_order_and_measures_once() {
        for (i, goal) in GOALS.iter().enumerate() {
            assert_eq!(goal.id, format!("R{}", i + 1));
            let mut names: Vec<&str> = goal.measures.iter().map(|measure| measure.name).collect();
            names.sort_unstable();
            names.dedup();
            assert!(!names.is_empty() && names.len() == goal.measures.len(), "{}", goal.id);
        }
    }
}
