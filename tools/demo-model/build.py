"""The recipe in one command: tokenizer, training, export, evaluation."""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import evaluate
import export
import tokenizer
import train

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SEED = 1
REQUIRED_PERCENT = 95


def main() -> int:
    """Runs the recipe; fails when too few held-out prompts come out right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "models" / "corelm-demo-q4_0.gguf", help="the GGUF to write"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/corelm-demo-model"), help="folder for passing files"
    )
    parser.add_argument("--evaluate-only", action="store_true", help="only check the GGUF that is there")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    training: dict[str, float] = {}
    if not args.evaluate_only:
        start = time.monotonic()
        tokenizer.train(args.work / "tokenizer.model", SEED)
        sp = tokenizer.load(args.work / "tokenizer.model")
        export.export(train.train(sp, SEED), sp, args.out)
        cpu_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        training = {
            "steps": sum(cycle.n_steps for cycle in train.CYCLES),
            "wall_s": round(time.monotonic() - start),
            "cpu_s": round(cpu_s),
        }
    given = evaluate.answers(args.out, SEED)
    figures = args.work / "figures.json" if args.evaluate_only else HERE / "figures.json"
    evaluate.write_figures(figures, args.out, given, training)
    if not args.evaluate_only:
        evaluate.write_fixtures(HERE / "heldout.json", args.out, given)
    n_right = sum(answer.is_right for answer in given)
    print(f"{n_right} of {len(given)} held-out prompts explained rightly at Q4_0; figures in {figures}")
    return 0 if 100 * n_right >= REQUIRED_PERCENT * len(given) else 1


if __name__ == "__main__":
    raise SystemExit(main())
