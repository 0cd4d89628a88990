#!/usr/bin/env python3
"""Writes crates/corelm/src/tokenizer/unicode/tables.rs: the class of every code point, two bits each.

    pip install unicodedata2==15.1.0
    python3 tools/unicode-tables/generate.py

The version is the one whose data llama.cpp carries, because the pre-tokenizers must split where it splits.
Classes: 0 other, 1 letter (general category L*), 2 number (N*), 3 white space (the property White_Space).
"""

import pathlib
import sys

import unicodedata2 as unicode

VERSION = "15.1.0"
BLOCK = 128  # code points in one block: 4 words of 32 classes
TARGET = pathlib.Path(__file__).parents[2] / "crates/corelm/src/tokenizer/unicode/tables.rs"

# White_Space is the separators (Z*) and these controls (PropList.txt).
CONTROLS = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}


def code_class(code: int) -> int:
    category = unicode.category(chr(code))
    if code in CONTROLS or category[0] == "Z":
        return 3
    return {"L": 1, "N": 2}.get(category[0], 0)


def words(block: tuple[int, ...]) -> list[int]:
    """Packs a block little end first: code point i of a word lies at bits 2i and 2i + 1."""
    return [sum(c << 2 * i for i, c in enumerate(block[w : w + 32])) for w in range(0, BLOCK, 32)]


def rows(items: list[str], per_row: int) -> str:
    return "".join("    " + " ".join(f"{x}," for x in items[i : i + per_row]) + "\n" for i in range(0, len(items), per_row))


def main() -> None:
    if unicode.unidata_version != VERSION:
        sys.exit(f"Unicode {VERSION} is wanted, {unicode.unidata_version} is installed")
    classes = [code_class(code) for code in range(0x110000)]
    while classes[-BLOCK:] == [0] * BLOCK:
        del classes[-BLOCK:]
    blocks: dict[tuple[int, ...], int] = {}
    index = [blocks.setdefault(tuple(classes[i : i + BLOCK]), len(blocks)) for i in range(0, len(classes), BLOCK)]
    assert len(blocks) <= 256
    packed = ["[" + ", ".join(f"0x{w:016x}" for w in words(b)) + "]" for b in blocks]
    TARGET.write_text(
        f"""//! The class of every code point of Unicode {VERSION}: written by `tools/unicode-tables/generate.py`, do not edit.

/// For each {BLOCK} code points, the number of their block in [`BLOCKS`]; past the end all are of class 0.
#[rustfmt::skip]
pub const BLOCK_OF: [u8; {len(index)}] = [
{rows([str(i) for i in index], 24)}];

/// Two bits for each of {BLOCK} code points: 0 other, 1 letter, 2 number, 3 white space.
#[rustfmt::skip]
pub const BLOCKS: [[u64; 4]; {len(packed)}] = [
{rows(packed, 1)}];
"""
    )


if __name__ == "__main__":
    main()
