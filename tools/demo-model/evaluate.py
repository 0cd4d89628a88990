"""Runs held-out prompts through a GGUF file and counts how many explanations the grammar accepts in full."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import grammar
from event import Event
from runner import Runner

N_PROMPTS = 400
N_FIXTURES = 40
"""The first of the prompts, kept as a fixture for other tests."""


@dataclass(frozen=True)
class Answer:
    """What the model said about an event."""

    event: Event
    text: str
    is_right: bool
    gap: float


def answers(path: Path, seed: int) -> list[Answer]:
    """Greedy answers to `N_PROMPTS` held-out prompts."""
    runner = Runner(path)
    out = []
    for event in grammar.held_out_events(random.Random(seed), N_PROMPTS):
        text, has_ended, gap = runner.generate(event.prompt)
        out.append(Answer(event, text, has_ended and text.removeprefix(" ") in event.explanations(), gap))
    return out


def write_figures(path: Path, model: Path, given: list[Answer], training: dict[str, float]) -> None:
    """Writes the figures of a run as JSON."""
    right, asked = Counter(a.event.kind for a in given if a.is_right), Counter(a.event.kind for a in given)
    figures = {
        "model": model.name,
        "bytes": model.stat().st_size,
        "held_out_prompts": len(given),
        "right": sum(right.values()),
        "right_percent": round(100 * sum(right.values()) / len(given), 2),
        "smallest_logit_gap_of_right_answers": round(min(a.gap for a in given if a.is_right), 3),
        "wrong": [{"prompt": a.event.prompt, "text": a.text} for a in given if not a.is_right],
        "right_of_asked_by_kind": {kind: f"{right[kind]}/{asked[kind]}" for kind in sorted(asked)},
        "training": training,
    }
    path.write_text(json.dumps(figures, indent=2) + "\n")


def write_fixtures(path: Path, model: Path, given: list[Answer]) -> None:
    """Writes the first `N_FIXTURES` prompts with every valid text, and what the model says at Q4_0."""
    cases = [
        {
            "prompt": a.event.prompt,
            "valid": sorted(" " + text for text in a.event.explanations()),
            "greedy": a.text,
            "right": a.is_right,
            "logit_gap": round(a.gap, 3),
        }
        for a in given[:N_FIXTURES]
    ]
    path.write_text(json.dumps({"model": model.name, "cases": cases}, indent=1) + "\n")
