#!/usr/bin/env python3
"""Static cycle estimates of the NEON inner loops by llvm-mca: python3 tools/cycle-estimates/estimate.py [ELF]

ELF is a release build for aarch64-unknown-none with symbols; by default the one that `cargo xtask size` makes. Needs
llvm-objdump (rustup component llvm-tools) and llvm-mca (Debian package llvm). An estimate knows the pipelines as LLVM
models them and nothing of caches, memory or branches: it bounds from above what a core can do, it is no measurement.
"""

import glob
import os
import re
import subprocess
import sys

CPUS = ["cortex-a53", "cortex-a72", "cortex-a76"]

# Function, CPUs that run it, and what its loop does: weights multiplied in one iteration, where that is what it does.
LOOPS = [
    ("neon::products::one_row_q4_0", CPUS, "gemv Q4_0, file order", 512),
    ("neon::products::one_row_q8_0", CPUS, "gemv Q8_0, file order", 512),
    ("dotprod::add_rows_q4_0", CPUS[2:], "gemv Q4_0, file order, SDOT", 1024),
    ("dotprod::one_row_q8_0", CPUS[2:], "gemv Q8_0, file order, SDOT", 512),
    ("neon::products::accumulate::<corelm_ops::panel::PanelQ4_0>", CPUS, "gemv Q4_0, packed", 512),
    ("dotprod::accumulate_one::<corelm_ops::panel::PanelQ4_0>", CPUS[2:], "gemv Q4_0, packed, SDOT", 512),
    ("neon::dot_f32", CPUS, "dot F32", 32),
]


def run(*words, text=None):
    return subprocess.run(words, input=text, capture_output=True, text=True, check=True).stdout


def disassembly(elf):
    """Function name -> [(address, instruction)]."""
    sysroot = run("rustc", "--print", "sysroot").strip()
    (objdump,) = glob.glob(os.path.join(sysroot, "lib/rustlib/*/bin/llvm-objdump"))
    functions, name = {}, None
    for line in run(objdump, "-d", "--demangle", "--no-show-raw-insn", elf).splitlines():
        if head := re.fullmatch(r"[0-9a-f]+ <(.*)>:", line):
            name = head[1].removeprefix("corelm_ops::arch::aarch64::")
            functions.setdefault(name, [])
        elif name and (code := re.match(r"\s*([0-9a-f]+):\s+(.*)", line)):
            functions[name].append((int(code[1], 16), re.sub(r"\s*<.*>|\s*//.*", "", code[2])))
    return functions


def innermost_loops(code):
    """The loops without a loop in them, longest first."""
    loops = []
    for end, (address, text) in enumerate(code):
        if target := re.match(r"(?:b\.\w+|cbn?z|tbn?z)\s.*?(0x[0-9a-f]+)$", text):
            starts = [i for i, (at, _) in enumerate(code) if at == int(target[1], 16) and i <= end]
            loops += [(starts[0], end)] if starts else []
    inner = [(a, b) for a, b in loops if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)]
    return sorted(inner, key=lambda loop: loop[0] - loop[1])


def cycles(body, cpu):
    """Cycles of an iteration, in the long run."""
    text = "\n".join(re.sub(r"0x[0-9a-f]+$", "loop", line) if re.match(r"b\.|cb|tb", line) else line for line in body)
    report = run("llvm-mca", "-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm", "-iterations=200",
                 text="loop:\n" + text + "\n")
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / 200


def main():
    elf = sys.argv[1] if len(sys.argv) > 1 else "target/aarch64-unknown-none/release/minimal-kernel"
    functions = disassembly(elf)
    print("| loop | core | instructions | cycles | weights per cycle |\n|---|---|--:|--:|--:|")
    for name, cpus, about, weights in LOOPS:
        code = functions.get(name)
        loops = innermost_loops(code) if code else []
        if not loops:
            print(f"{name}: no such loop in {elf}", file=sys.stderr)
            continue
        start, end = loops[0]
        body = [text for _, text in code[start : end + 1]]
        for cpu in cpus:
            n = cycles(body, cpu)
            print(f"| {about} | {cpu} | {len(body)} | {n:.0f} | {weights / n:.2f} |")


main()
