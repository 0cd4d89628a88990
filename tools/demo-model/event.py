"""What an event is: the line a kernel prints, and every explanation that counts as right for it."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from itertools import product

from phrases import Sentences

PREFIX = "kernel: "
ANSWER = "\nexplain:"
"""Stands between the event line and the explanation; the explanation starts with a space."""

PREFERRED = 0.75
"""Share of training texts with the first phrasing of a sentence, so that greedy decoding has a favourite."""

HELD_OUT_OF = 12
"""One combination in this many is never trained on."""


@dataclass(frozen=True)
class Event:
    """One kernel event."""

    kind: str
    line: str
    """The event without the `kernel: ` prefix."""
    combination: str | None
    """What is held out as a whole: the line, less the fields that make no new case. None: never held out."""
    sentences: Sentences

    @property
    def prompt(self) -> str:
        """What the kernel feeds to the model."""
        return PREFIX + self.line + ANSWER

    @property
    def is_held_out(self) -> bool:
        """Whether this combination is kept from training: by its CRC-32, so no random state decides."""
        return self.combination is not None and zlib.crc32(self.combination.encode()) % HELD_OUT_OF == 0

    def explanations(self) -> set[str]:
        """Every text that is right for this event."""
        return {" ".join(choice) for choice in product(*self.sentences)}

    def preferred(self) -> str:
        """The text made of each sentence's preferred phrasing."""
        return " ".join(phrasings[0] for phrasings in self.sentences)

    def sample(self, rng: random.Random) -> str:
        """A random valid text, mostly of preferred phrasings."""
        return " ".join(
            phrasings[0] if len(phrasings) == 1 or rng.random() < PREFERRED else rng.choice(phrasings[1:])
            for phrasings in self.sentences
        )
