#!/usr/bin/env python3
"""Writes crates/corelm/tests/pre_tokenizers.txt: texts, and the pieces that the expressions of each name make of them.

    pip install regex unicodedata2==15.1.0
    python3 tools/pre-tokenizers/generate.py
    python3 tools/pre-tokenizers/generate.py --random 100000 > cases.txt

A line `=x names` gives a family the letter x. A line in hexadecimal is a text in UTF-8; behind it come lines ` xyz: 1 2`,
the lengths in bytes of the pieces that the families x, y and z make of it. With `--random` it prints that many more texts
instead, for `CORELM_PRE_CASES=cases.txt cargo test -p corelm --test pre_tokenizers`.
"""

import pathlib
import random
import string
import sys

import strings
from expressions import ALIASES, EXPRESSIONS, VERSION, split

TARGET = pathlib.Path(__file__).parents[2] / "crates/corelm/tests/pre_tokenizers.txt"
LETTERS = dict(zip(EXPRESSIONS, string.ascii_letters))


def header() -> str:
    families = ("".join(f" {name}" for name in [name, *ALIASES.get(name, "").split()]) for name in EXPRESSIONS)
    return "".join(f"={letter}{names}\n" for letter, names in zip(LETTERS.values(), families))


def results(text: str) -> dict[tuple[int, ...], str]:
    """Lengths of pieces, and the letters of the families that make them."""
    same: dict[tuple[int, ...], str] = {}
    for name, letter in LETTERS.items():
        lengths = tuple(len(piece.encode()) for piece in split(name, text))
        same[lengths] = same.get(lengths, "") + letter
    return same


def case(text: str, same: dict[tuple[int, ...], str]) -> str:
    lines = (f" {letters}: {' '.join(map(str, lengths))}\n" for lengths, letters in same.items())
    return text.encode().hex() + "\n" + "".join(lines)


def chosen(source: random.Random, n: int):
    """Cases at random in which families part as they do in none before."""
    partitions = set()
    while n > 0:
        text = strings.some(source)
        if not 0 < len(text.encode()) <= 48:
            continue
        same = results(text)
        partition = frozenset(same.values())
        if partition not in partitions:
            partitions.add(partition)
            n -= 1
            yield case(text, same)


def main() -> None:
    if sys.argv[1:2] == ["--random"]:
        source = random.Random()
        print(header(), end="")
        for i in range(int(sys.argv[2])):
            text = strings.prose(source) if i % 16 == 0 else strings.some(source)
            print(case(text, results(text)), end="")
        return
    source = random.Random(1)
    about = f"# Written by tools/pre-tokenizers/generate.py with the classes of Unicode {VERSION}; see there.\n"
    prose = (strings.prose(source)[:160] for _ in range(24))
    TARGET.write_text(about + header() + "".join(chosen(source, 960)) + "".join(case(text, results(text)) for text in prose))


if __name__ == "__main__":
    main()
