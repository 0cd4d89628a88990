#!/usr/bin/env python3
"""Compares `corelm tokenize` with llama.cpp, and a part of the texts with other tokenizers, over generated texts.

    pip install -r tools/tokenizer-diff/requirements.txt
    cargo build --release -p corelm-cli
    CORELM=target/release/corelm python3 tools/tokenizer-diff/diff.py --count 1000000 --seed 2 VOCABULARY.gguf...

Each text is encoded twice, with control tokens in it and without; texts of gpt2, llama and rwkv are decoded again, too.
A difference is printed with the shortest text that shows it, and the exit status is 1. Where llama.cpp takes milliseconds
for a call whatever the text, `--join 32` makes one text of 32.

    diff.py --golden VOCABULARY.gguf...         # writes crates/corelm/tests/tokenizers/differential.txt: what CI compares
"""

import argparse
import collections
import multiprocessing
import pathlib
import sys
import time

import known
from others import other
from subjects import Corelm, Llama
from texts import ROOT, Texts
from vocabulary import USER_DEFINED

TARGET = ROOT / "crates/corelm/tests/tokenizers/differential.txt"
DECODED = ("gpt2", "llama", "rwkv")
MOST_SHOWN = 5
# In the hashes of `--golden`: behind the ids of a text, and in place of them where a byte has no token.
END, NO_TOKEN = 0xFFFFFFFF, 0xFFFFFFFE


class Comparison:
    """One vocabulary in one process."""

    def __init__(self, path: pathlib.Path) -> None:
        self.corelm, self.llama = Corelm(path), Llama(path)
        self.file = self.llama.file
        self.texts = Texts(self.file)
        self.other = other(self.file)

    def expected(self, text: bytes) -> tuple[str, tuple[list[int], list[int]]]:
        """Who says so, and ids without control tokens and with them."""
        if known.by_definition(self.file, text):
            return self.other.name, self.other.encode(text)
        return "llama.cpp", self.llama.encode(known.asked(self.file, text))

    def differences(self, texts: list[bytes], counts: collections.Counter) -> list[tuple[bytes, bool, str]]:
        """Texts, whether with control tokens, and who differs."""
        self.plain, with_special = (self.corelm.encode(texts, special) for special in (False, True))
        found = []
        for text, *ours in zip(texts, self.plain, with_special):
            who, theirs = self.expected(text)
            counts[who] += 1
            found += [(text, special, who) for special in (False, True) if ours[special] != theirs[special]]
        return found

    def second(self, texts: list[bytes], every: int, counts: collections.Counter) -> list[tuple[bytes, bool, str]]:
        """Some of the texts by the other tokenizer as well."""
        some = list(zip(texts, self.plain))[::every] if every else []
        some = [(text, ours) for text, ours in some if self.other.can(text)]
        counts[f"{self.other.name} as well" if some else ""] += len(some)
        return [(text, False, self.other.name) for text, ours in some if self.other.encode(text)[0] != ours]

    def not_restored(self, texts: list[bytes], counts: collections.Counter) -> list[bytes]:
        """Texts that do not come back; many at once, and halves of those that fail."""
        if self.file.model not in DECODED:
            return []
        counts["decoded"] += len(texts)
        bad, rest = [], [(texts, self.plain)]
        while rest:
            some, ids = rest.pop()
            spaces = [b""] + [b" " * self._adds_space(one) for one in ids[1:]]
            if self.corelm.decode([id_ for one in ids for id_ in one]) == b"".join(self._shown(s + t) for s, t in zip(spaces, some)):
                continue
            if len(some) == 1:
                bad.append(some[0])
            elif len(bad) < MOST_SHOWN:
                half = len(some) // 2
                rest += [(some[:half], ids[:half]), (some[half:], ids[half:])]
        return bad

    def _adds_space(self, ids: list[int]) -> bool:
        """A text of SentencePiece's gets a space at its beginning, which is decoded where another is before it."""
        return self.file.model == "llama" and bool(ids) and self.file.types[ids[0]] != USER_DEFINED

    def _shown(self, text: bytes) -> bytes:
        """SentencePiece writes a space as U+2581, so that one that is in the text comes back as a space."""
        return text.replace("\u2581".encode(), b" ") if self.file.model == "llama" else text

    def shorter(self, text: bytes, special: bool, by_other: bool) -> bytes:
        """The text without all that can go while the difference stays."""
        size = max(len(text) // 2, 1)
        while size:
            smaller = [text[:at] + text[at + size :] for at in range(0, len(text), size)]
            differs = (
                candidate
                for candidate, ours in zip(smaller, self.corelm.encode(smaller, special))
                if (self.other.can(candidate) or not by_other) and self._want(candidate, by_other)[special] != ours
            )
            if (candidate := next(differs, None)) is not None:
                text, size = candidate, min(size, max(len(candidate) // 2, 1))
            else:
                size //= 2
        return text

    def _want(self, text: bytes, by_other: bool) -> tuple[list[int], list[int]]:
        return self.other.encode(text) if by_other else self.expected(text)[1]

    def report(self, text: bytes, special: bool, who: str) -> str:
        by_other = who != "llama.cpp"
        short = self.shorter(text, special, by_other)
        (ours,) = self.corelm.encode([short], special)
        return (
            f"{self.file.path.name}: {short!r} ({short.hex()}){' --special' * special}\n"
            f"  corelm {ours}\n  {who} {self._want(short, by_other)[special]}\n  in the text {text.hex()}"
        )

    def run(self, seed: int, first: int, n: int, join: int, every: int) -> tuple[collections.Counter, list[str]]:
        counts: collections.Counter = collections.Counter()
        texts = self.texts.some(seed, first, n)
        counts["strings"], counts["bytes"] = n, sum(map(len, texts))
        errors = [text for text in texts if known.is_error(self.file, text)]
        texts = [text for text in texts if not known.is_error(self.file, text)]
        if join > 1:
            kinds = [text for text in texts if known.is_valid(text)], [text for text in texts if not known.is_valid(text)]
            texts = [b"".join(kind[at : at + join]) for kind in kinds for at in range(0, len(kind), join)]
        counts["texts"] = len(texts) + len(errors)
        found = self.differences(texts, counts) + self.second(texts, every, counts)
        lines = [self.report(*difference) for difference in found[:MOST_SHOWN]]
        counts["differences"] = len(found)
        # A process for each: some will do.
        counts["errors for want of a token" if errors else ""] = len(errors)
        for text in errors[:16]:
            if not self.corelm.refuses(text):
                counts["differences"] += 1
                lines.append(f"{self.file.path.name}: {text!r} ({text.hex()}) has a byte without a token, and is no error")
        for text in self.not_restored(texts, counts):
            counts["differences"] += 1
            lines.append(f"{self.file.path.name}: {text!r} ({text.hex()}) does not come back")
        return counts, lines


_comparison: Comparison | None = None


def _start(path: pathlib.Path) -> None:
    global _comparison
    _comparison = Comparison(path)


def _run(task: tuple[int, int, int, int, int]) -> tuple[collections.Counter, list[str]]:
    return _comparison.run(*task)


def compare(path: pathlib.Path, args: argparse.Namespace) -> int:
    began, counts, shown = time.monotonic(), collections.Counter(), 0
    ends = range(args.first, args.first + args.count, args.chunk)
    tasks = [(args.seed, at, min(args.chunk, args.first + args.count - at), args.join, args.second) for at in ends]
    with multiprocessing.Pool(args.jobs, _start, (path,)) as pool:
        for some, lines in pool.imap_unordered(_run, tasks):
            counts += some
            for line in lines[: max(0, 4 * MOST_SHOWN - shown)]:
                print(line, flush=True)
            shown += len(lines)
            if sys.stderr.isatty():
                print(f"\r{path.name}: {counts['strings']} of {args.count} strings", end="", file=sys.stderr, flush=True)
    rest = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()) if name and name not in ("strings", "bytes", "differences"))
    print(
        f"{path.name}: {counts['strings']} strings, {counts['bytes']} bytes, {counts['differences']} differences"
        f" ({rest}) in {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return counts["differences"]


def mixed(hash_: int, number: int) -> int:
    hash_ = (hash_ ^ number) * 0x9E3779B1 & 0xFFFFFFFF
    return hash_ ^ hash_ >> 15


def golden(paths: list[pathlib.Path]) -> None:
    """A hash of the texts, and for each 16 of them one of the ids that are expected."""
    lines = ["# Written by tools/tokenizer-diff/diff.py --golden: see crates/corelm/tests/differential.rs."]
    for path in paths:
        comparison = Comparison(path)
        texts = comparison.texts.some(1, 0, 10_000)
        texts_hash, hashes = 0, []
        for i, text in enumerate(texts):
            for byte in text + b"\n":
                texts_hash = mixed(texts_hash, byte)
            if i % 16 == 0:
                hashes.append(0)
            is_error = known.is_error(comparison.file, text)
            for ids in [[NO_TOKEN], [NO_TOKEN]] if is_error else comparison.expected(text)[1]:
                for number in [*ids, END]:
                    hashes[-1] = mixed(hashes[-1], number)
        lines.append(f"={path.stem} {texts_hash:08x}")
        lines += [" ".join(f"{h:08x}" for h in hashes[at : at + 12]) for at in range(0, len(hashes), 12)]
        print(path.name, len(texts), "texts", flush=True)
    TARGET.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=1_000_000, help="strings for each file")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--join", type=int, default=1, help="strings in a text")
    parser.add_argument("--second", type=int, default=8, metavar="N", help="every Nth text by another tokenizer, too; 0: none")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--chunk", type=int, default=20_000)
    parser.add_argument("--golden", action="store_true")
    args = parser.parse_args()
    if args.golden:
        golden(args.files)
        return
    n = sum([compare(path, args) for path in args.files])
    sys.exit(1 if n else 0)


if __name__ == "__main__":
    main()
