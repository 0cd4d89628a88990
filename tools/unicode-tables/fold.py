#!/usr/bin/env python3
"""Writes crates/corelm/src/tokenizer/fold/tables.rs: what WordPiece asks of Unicode.

    pip install unicodedata2==15.1.0
    python3 tools/unicode-tables/fold.py

The version is the one whose data llama.cpp carries, because words must be cut where it cuts them. Lower case comes from
Python itself, whose Unicode must be 14 or later: 15.0 and 15.1 added no pair of cases, and what came later is left out.
"""

import pathlib
import sys
import textwrap
import unicodedata

import unicodedata2 as unicode

VERSION = "15.1.0"
TARGET = pathlib.Path(__file__).parents[2] / "crates/corelm/src/tokenizer/fold/tables.rs"

# White_Space is the separators (Z*) and these controls (PropList.txt).
CONTROLS = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}
INNER, DROPPED, MARK, ALONE, SPACE = range(5)
# BERT's Chinese characters. The gap at 2B820 is in the widely used implementations, and kept by llama.cpp.
CHINESE = [
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
]
# Blocks whose decompositions are listed one by one: CJK compatibility ideographs and their supplement.
LISTED = [(0xF900, 0xFAD9), (0x2F800, 0x2FA1D)]
HANGUL = (0xAC00, 0xD7A3)


def kind(code: int) -> int:
    category = unicode.category(chr(code))
    if code in CONTROLS or category[0] == "Z":
        return SPACE
    if code in (0, 0xFFFD) or category in ("Cc", "Cf", "Co", "Cs"):
        return DROPPED
    if category[0] == "M":
        return MARK
    is_symbol = code < 0x7F and category[0] == "S"
    if category[0] == "P" or is_symbol or any(first <= code <= last for first, last in CHINESE):
        return ALONE
    return INNER


def first_of_nfd(code: int) -> int:
    return code if 0xD800 <= code <= 0xDFFF else ord(unicode.normalize("NFD", chr(code))[0])


def lower(code: int) -> int:
    """The simple mapping: U+0130, whose full one is two characters, becomes i."""
    text = chr(code).lower()
    if code == 0x130:
        return ord("i")
    known = all(unicode.category(c) != "Cn" for c in (chr(code), text[0]))
    return ord(text) if known and len(text) == 1 else code


def within(code: int, ranges: list[tuple[int, int]]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def kind_runs() -> list[int]:
    runs: list[int] = []
    for code in range(0x110000):
        if not runs or runs[-1] & 7 != kind(code):
            runs.append(code << 3 | kind(code))
    return runs


def lower_runs() -> list[tuple[int, int]]:
    """(first, last, stride, delta) of code points that move alike, every one or every other; packed."""
    runs: list[list[int]] = []
    for code in range(0x110000):
        delta = lower(code) - code
        if delta == 0:
            continue
        if runs:
            first, last, stride, its_delta = runs[-1]
            if delta == its_delta and code - last in ((1, 2) if first == last else (stride,)):
                runs[-1][1:3] = [code, code - last]
                continue
        runs.append([code, code, 1, delta])
    for first, last, stride, _ in runs:
        assert last - first < 1 << 10 and stride in (1, 2)
    return [(first << 11 | last - first << 1 | stride - 1, delta) for first, last, stride, delta in runs]


def nfd_runs() -> list[tuple[int, int]]:
    runs: list[list[int]] = []
    for code in range(0x110000):
        to = first_of_nfd(code)
        if to == code or within(code, [HANGUL, *LISTED]):
            continue
        assert to >> 16 == code >> 16
        if runs and runs[-1][1] == code - 1 and runs[-1][2] == to:
            runs[-1][1] = code
        else:
            runs.append([code, code, to])
    assert all(last - first < 1 << 11 for first, last, _ in runs)
    return [(first << 11 | last - first, to & 0xFFFF) for first, last, to in runs]


def rows(items: list[str]) -> str:
    return textwrap.fill(", ".join(items) + ",", 110, initial_indent="    ", subsequent_indent="    ") + "\n"


def table(name: str, ty: str, doc: str, items: list[str]) -> str:
    return f"\n/// {doc}\n#[rustfmt::skip]\npub static {name}: [{ty}; {len(items)}] = [\n{rows(items)}];\n"


def main() -> None:
    if unicode.unidata_version != VERSION:
        sys.exit(f"Unicode {VERSION} is wanted, {unicode.unidata_version} is installed")
    if int(unicodedata.unidata_version.split(".")[0]) < 14:
        sys.exit("a Python with Unicode 14 or later is wanted")
    assert all(first_of_nfd(c) == 0x1100 + (c - HANGUL[0]) // 588 for c in range(HANGUL[0], HANGUL[1] + 1))
    lowers, nfds = lower_runs(), nfd_runs()
    listed = [first_of_nfd(code) for first, last in LISTED for code in range(first, last + 1)]
    parts = [
        f"//! What WordPiece asks of Unicode {VERSION}: written by `tools/unicode-tables/fold.py`, do not edit.\n",
        table("KINDS", "u32", "First code point of a run, times 8, and its kind.", [f"{x:#x}" for x in kind_runs()]),
        table(
            "LOWER",
            "(u32, i32)",
            "First code point of a run, times 2048, the distance to its last one, times 2, and 1 when every other is\n"
            "/// meant; what to add for lower case.",
            [f"({run:#x}, {delta})" for run, delta in lowers],
        ),
        table(
            "NFD",
            "u32",
            "First code point of a run, times 2048, and the distance to its last one; for [`NFD_TO`].",
            [f"{run:#x}" for run, _ in nfds],
        ),
        table("NFD_TO", "u16", "The low 16 bits of what they decompose to first; the rest stays.", [f"{to:#x}" for _, to in nfds]),
        table(
            "IDEOGRAPHS",
            "[u8; 3]",
            f"What U+{LISTED[0][0]:X}..=U+{LISTED[0][1]:X} and then U+{LISTED[1][0]:X}..=U+{LISTED[1][1]:X} decompose to, little end first.",
            [str(list(to.to_bytes(3, "little"))) for to in listed],
        ),
    ]
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("".join(parts))


if __name__ == "__main__":
    main()
