"""All other events: the rows of `messages.txt` with their fields filled in."""

from __future__ import annotations

import random
from dataclasses import dataclass

import phrases
from event import Event

TASKS = (
    "init",
    "idle",
    "shell",
    "logger",
    "worker",
    "console",
    "network",
    "storage",
    "monitor",
    "inference",
    "display",
    "audio",
)
POOLS = ("kernel heap", "page allocator", "arena", "buffer pool")
UNITS = ("bytes", "KiB", "MiB")
WHO = {
    "EL0": "a user program",
    "EL1": "kernel code",
    "user mode": "a user program",
    "kernel mode": "kernel code",
}


@dataclass(frozen=True)
class Message:
    """One row: `{name}` stands for a value of `fields`, `{Name}` for it with a capital letter."""

    line: str
    sentences: phrases.Sentences

    @property
    def kind(self) -> str:
        """The first words of the line."""
        return self.line.split(",")[0]


def fields(rng: random.Random) -> dict[str, str]:
    """One random value for every field that a row may use."""
    task, other = rng.sample(TASKS, 2)
    core, core2 = rng.sample(range(8), 2)
    el = rng.choice(("EL0", "EL1"))
    mode = rng.choice(("user mode", "kernel mode"))
    return {
        "task": task,
        "other": other,
        "core": str(core),
        "core2": str(core2),
        "el": el,
        "who": WHO[el],
        "mode": mode,
        "actor": WHO[mode],
        "bank": str(rng.randrange(0, 32)),
        "pool": rng.choice(POOLS),
        "size": _size(rng),
        "big": f"{_number(rng)} {rng.choice(('MiB', 'GiB'))}",
        "stack": str(rng.choice((2, 4, 8, 12, 16, 24, 32, 64))),
        "n": _number(rng),
        "ms": _number(rng),
        "s": str(rng.randrange(2, 61)),
        "percent": str(rng.randrange(1, 16)),
        "sgi": str(rng.randrange(0, 16)),
        "ppi": str(rng.randrange(16, 32)),
        "spi": str(rng.randrange(32, 1020)),
        "call": str(rng.randrange(0, 512)),
    }


def _number(rng: random.Random) -> str:
    """2 to 999, or a power of two up to 8192."""
    return str(2 ** rng.randrange(1, 14) if rng.random() < 0.4 else rng.randrange(2, 1000))


def _size(rng: random.Random) -> str:
    """16 bytes to 8192 MiB."""
    unit = rng.choice(UNITS)
    return f"{max(16, int(_number(rng))) if unit == 'bytes' else _number(rng)} {unit}"


def _fill(text: str, values: dict[str, str]) -> str:
    capitals = {name.capitalize(): value[0].upper() + value[1:] for name, value in values.items()}
    return text.format(**values, **capitals)


def message(rng: random.Random, row: Message) -> Event:
    """An event of this row with random fields."""
    values = fields(rng)
    line = _fill(row.line, values)
    sentences = tuple(tuple(_fill(text, values) for text in phrasings) for phrasings in row.sentences)
    is_single = line.count(",") == 1 and row.line.endswith(", {el}")  # too few values to hold one out
    return Event(row.kind, line, None if is_single else line, sentences)


MESSAGES = [Message(line, sentences) for line, sentences in phrases.read("messages.txt")]
