#!/usr/bin/env python3
"""The texts of the differential test: the same for a seed, a number and a vocabulary, here and in
crates/corelm/tests/support/texts.rs.

    pip install -r tools/tokenizer-diff/requirements.txt
    python3 tools/tokenizer-diff/texts.py       # writes crates/corelm/tests/tokenizers/parts.json, which both read
"""

import bisect
import itertools
import json
import pathlib
import sys

import numpy as np

from vocabulary import VocabularyFile

ROOT = pathlib.Path(__file__).parents[2]
PARTS = ROOT / "crates/corelm/tests/tokenizers/parts.json"
SIZES = (1, 2, 3, 4, 4, 5, 6, 8)
GOLDEN, FIRST, SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def draws(seed: int, first: int, n: int) -> list[list[int]]:
    """For each text a number for its size and one for each part (SplitMix64; the state begins at seed * 2^32 + number)."""
    at = np.uint64((seed << 32) + first) + np.arange(n, dtype=np.uint64)
    x = at[:, None] + np.arange(1, 2 + max(SIZES), dtype=np.uint64)[None, :] * GOLDEN
    x = (x ^ (x >> np.uint64(30))) * FIRST
    x = (x ^ (x >> np.uint64(27))) * SECOND
    return (x ^ (x >> np.uint64(31))).tolist()


class Texts:
    """Texts for a vocabulary, whose tokens are among their parts."""

    def __init__(self, vocabulary: VocabularyFile) -> None:
        data = json.loads(PARTS.read_text())
        self.parts = [part.encode() for part in data["parts"]]
        self.words = [word.encode() for word in data["words"]]
        self.repeated = [part.encode() for part in data["repeated"]]
        self.broken = [bytes.fromhex(part) for part in data["broken"]]
        self.categories = []
        for flat in data["categories"].values():
            sizes = [last - first + 1 for first, last in zip(flat[::2], flat[1::2])]
            self.categories.append((flat[::2], [0, *itertools.accumulate(sizes)]))
        self.vocabulary = vocabulary
        self.n_tokens = len(vocabulary.tokens)
        self.specials = vocabulary.specials[:64] or [b"<|endoftext|>"]

    def part(self, x: int) -> bytes:
        kind, x = x & 63, x >> 8
        if kind < 20:
            return self.parts[x % len(self.parts)]
        if kind < 36:
            return self.vocabulary.text(x % self.n_tokens)
        if kind < 43:
            return b" " * (x & 1) + self.words[(x >> 1) % len(self.words)]
        if kind < 48:
            firsts, before = self.categories[x % len(self.categories)]
            at = (x >> 8) % before[-1]
            range_ = bisect.bisect_right(before, at) - 1
            return chr(firsts[range_] + at - before[range_]).encode()
        if kind < 52:
            return bytes([x & 127])
        if kind < 55:
            return self.repeated[x % len(self.repeated)] * (2, 3, 7, 20)[x >> 8 & 3]
        if kind < 57:
            return str(x).encode()[: 1 + (x & 15)]
        if kind < 62:
            special = self.specials[x % len(self.specials)]
            return (special, special, special, special[:-1], special[1:], special + special, special.upper(), b" " + special + b" ")[x >> 32 & 7]
        return self.broken[x % len(self.broken)]

    def some(self, seed: int, first: int, n: int) -> list[bytes]:
        part = self.part
        return [b"".join(map(part, xs[1 : 1 + SIZES[xs[0] & 7]])) for xs in draws(seed, first, n)]


def write_parts() -> None:
    sys.path.append(str(ROOT / "tools/pre-tokenizers"))
    import strings

    categories = {}
    for name, codes in sorted(strings.CATEGORIES.items()):
        flat: list[int] = []
        for code in codes:
            if flat and flat[-1] + 1 == code:
                flat[-1] = code
            else:
                flat += [code, code]
        categories[name] = flat
    broken = [
        *(b"\xff", b"\xfe", b"\x80", b"\xbf", b"\xc3", b"\xc3\xc3\xa9", b"\xe2", b"\xe2\x96", b"\xe2\x96 \x81", b"\xe2\x28\xa1"),
        *(b"\xf0\x9f\x98", b"\xf0\x9f", b"\xf0", b"\x9f\x98\x80", b"\xed\xa0\x80", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf8\x88\x80\x80\x80"),
        *(b"\xc0\x80", b"\xc0\xae", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xf0\x80\x80\xaf", b"\xf4\x90\x80\x80", b"\xfc\x80"),
    ]
    more = "[CLS] [SEP] [MASK] [UNK] [mask] <s> </s> <unk> <pad> <mask> <extra_id_0> <|im_start|> <|im_end|> <|eot_id|> <|end|> <\uff5cend> "
    more += "<0x41> \u2581 \u2581a \u2581\u2581 ##ing \\n \\x41 \u01c5\u01c4 \u0130\u0131 \u1e9e \u03a3\u03c2 \ufdfa \u33a1 \u2460 \ufb00"
    keys = {
        "about": "Written by tools/tokenizer-diff/texts.py.",
        "parts": strings.PARTS + more.split(),
        "words": strings.WORDS,
        "repeated": [*" \n\t1'a!", "\u0663", "\u3000", "A", "\u0301", "\u4e2d", " \n", "\r\n", "ab", "\U0001f468\u200d"],
        "broken": [part.hex() for part in broken],
    }
    lines = [f'"{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in keys.items()]
    table = ",\n".join(f'"{name}": {json.dumps(flat, separators=(",", ":"))}' for name, flat in categories.items())
    PARTS.write_text("{" + ",\n".join([*lines, f'"categories": {{{table}}}']) + "}\n")


if __name__ == "__main__":
    write_parts()
