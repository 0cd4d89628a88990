#!/usr/bin/env python3
"""Writes crates/corelm/src/tokenizer/unicode/tables.rs: the class of every code point, four bits each.

    pip install unicodedata2==15.1.0
    python3 tools/unicode-tables/generate.py

The version is the one whose data llama.cpp carries, because the pre-tokenizers must split where it splits.
Classes are general categories by their first letter, but white space is the property White_Space; see CLASSES.
"""

import pathlib
import sys

import unicodedata2 as unicode

VERSION = "15.1.0"
BLOCK = 16  # code points in one block: a word
GROUP = 8  # blocks in one group
TARGET = pathlib.Path(__file__).parents[2] / "crates/corelm/src/tokenizer/unicode/tables.rs"

# The numbers of `Class`; 0 is all else.
CLASSES = {"L": 1, "N": 2, "Z": 3, "M": 4, "P": 5, "S": 6}
WHITE_SPACE, MARK = 3, 4

# White_Space is the separators (Z*) and these controls (PropList.txt).
CONTROLS = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}

# The only code points with a class above plane 3, all of them marks: cheaper to name than to store.
SELECTORS = range(0xE0100, 0xE01F0)


def code_class(code: int) -> int:
    return WHITE_SPACE if code in CONTROLS else CLASSES.get(unicode.category(chr(code))[0], 0)


def word(block: tuple[int, ...]) -> int:
    """Packs a block little end first: code point i lies at bits 4i to 4i + 3."""
    return sum(c << 4 * i for i, c in enumerate(block))


def distinct(items: list[int], size: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """Cuts items into parts of `size`: the different ones, and for each part the number of its like."""
    parts: dict[tuple[int, ...], int] = {}
    numbers = [parts.setdefault(tuple(items[i : i + size]), len(parts)) for i in range(0, len(items), size)]
    return list(parts), numbers


def rows(items: list[str], per_row: int) -> str:
    return "".join("    " + " ".join(f"{x}," for x in items[i : i + per_row]) + "\n" for i in range(0, len(items), per_row))


def main() -> None:
    if unicode.unidata_version != VERSION:
        sys.exit(f"Unicode {VERSION} is wanted, {unicode.unidata_version} is installed")
    classes = [code_class(code) for code in range(0x110000)]
    assert all(classes[code] == MARK for code in SELECTORS)
    for code in SELECTORS:
        classes[code] = 0
    while classes[-BLOCK * GROUP :] == [0] * (BLOCK * GROUP):
        del classes[-BLOCK * GROUP :]
    blocks, block_of = distinct(classes, BLOCK)
    groups, group_of = distinct(block_of, GROUP)
    assert len(groups) <= 256 and len(blocks) <= 65536
    n_bytes = len(group_of) + len(groups) * GROUP * 2 + len(blocks) * 8
    TARGET.write_text(
        f"""//! The class of every code point of Unicode {VERSION} in {n_bytes} bytes: written by
//! `tools/unicode-tables/generate.py`, do not edit.

/// For each {BLOCK * GROUP} code points, the number of their group in [`GROUPS`]; past the end all are of class 0.
#[rustfmt::skip]
pub static GROUP_OF: [u8; {len(group_of)}] = [
{rows([str(i) for i in group_of], 24)}];

/// For each {BLOCK} code points of a group, the number of their block in [`BLOCKS`].
#[rustfmt::skip]
pub static GROUPS: [[u16; {GROUP}]; {len(groups)}] = [
{rows(["[" + ", ".join(map(str, g)) + "]" for g in groups], 2)}];

/// Four bits for each of {BLOCK} code points: the number of its class.
#[rustfmt::skip]
pub static BLOCKS: [u64; {len(blocks)}] = [
{rows([f"0x{word(b):016x}" for b in blocks], 5)}];
"""
    )


if __name__ == "__main__":
    main()
