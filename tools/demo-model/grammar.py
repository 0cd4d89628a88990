"""The whole grammar: draws events, splits them into training and held-out, and prints the format."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import cycle

import faults
import messages
from event import Event

FAULT_SHARE: tuple[tuple[Callable[[random.Random], Event], float], ...] = (
    (faults.data_abort, 0.24),
    (faults.instruction_abort, 0.10),
    (faults.page_fault, 0.16),
)
"""Share of each sort of memory fault in the training text; `messages.MESSAGES` share the rest evenly."""


COPIED = "{n} {ms} {s} {size} {big} {spi} {ppi} {sgi} {call} {bank} {other} {core2}".split()
"""Fields that are hard to repeat in an explanation: long numbers, and the second of two names."""
COPYING = [row for row in messages.MESSAGES if any(field in row.line for field in COPIED)]
DRILL_SHARE = 0.6
"""Share of `COPYING` messages in a drill."""


def draw(rng: random.Random, drill: bool) -> Event:
    """A random event; in a drill, often one whose numbers and names are hard to repeat."""
    if drill and rng.random() < DRILL_SHARE:
        return messages.message(rng, rng.choice(COPYING))
    at = rng.random()
    for make, share in FAULT_SHARE:
        if at < share:
            return make(rng)
        at -= share
    return messages.message(rng, rng.choice(messages.MESSAGES))


def training_events(rng: random.Random, drill: bool = False) -> Iterator[Event]:
    """Endless random events, none of a held-out combination."""
    while True:
        event = draw(rng, drill)
        if not event.is_held_out:
            yield event


def held_out_events(rng: random.Random, count: int) -> list[Event]:
    """`count` different held-out events: a memory fault and a message in turn, each sort equally often."""
    sorts: list[Callable[[random.Random], Event]] = []
    for i, row in enumerate(messages.MESSAGES):
        sorts += (FAULT_SHARE[i % len(FAULT_SHARE)][0], lambda r, row=row: messages.message(r, row))
    chosen: dict[str, Event] = {}
    for make in cycle(sorts):
        tries = (make(rng) for _ in range(200))  # a few messages have no held-out combination
        event = next((event for event in tries if event.is_held_out and event.line not in chosen), None)
        if event:
            chosen[event.line] = event
        if len(chosen) == count:
            return list(chosen.values())


def specification() -> str:
    """The format of event lines, as Markdown."""
    rows = "\n".join(f"- `{row.line}`" for row in messages.MESSAGES)
    arm = ", ".join(
        f"`{name}" + (f" level {min(levels)}..{max(levels)}`" if levels else "`")
        for name, (levels, _) in faults.ARM_FAULTS.items()
    )
    return "\n".join(
        (
            "FAULT on Arm: " + arm,
            "",
            "FAULT on x86: " + ", ".join(f"`{name}`" for name in faults.X86_FAULTS),
            "",
            "REGION: " + ", ".join(f"`{name}`" for name in faults.REGIONS),
            "",
            rows,
            "",
            "`{task}`, `{other}`: " + ", ".join(messages.TASKS),
            "",
            "`{pool}`: " + ", ".join(messages.POOLS),
        )
    )


if __name__ == "__main__":
    print(specification())
