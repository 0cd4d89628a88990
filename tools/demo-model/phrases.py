"""Reads the text files of the grammar: headings, each with sentences (`- `) and other phrasings (`or `)."""

from __future__ import annotations

from pathlib import Path

Sentences = tuple[tuple[str, ...], ...]
"""For each sentence its valid phrasings, the preferred one first."""


def read(name: str) -> list[tuple[str, Sentences]]:
    """The headings of the file `name` beside this one, with their sentences; `#` starts a comment line."""
    found: list[tuple[str, list[list[str]]]] = []
    for line in Path(__file__).with_name(name).read_text().splitlines():
        if line.startswith("- "):
            found[-1][1].append([line.removeprefix("- ")])
        elif line.startswith("or "):
            found[-1][1][-1].append(line.removeprefix("or "))
        elif line and not line.startswith("#"):
            found.append((line, []))
    return [(heading, tuple(map(tuple, sentences))) for heading, sentences in found]
