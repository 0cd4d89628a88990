#!/usr/bin/env python3
"""Compares the bytes of text that `corelm tokenize --spans` gives for each token with the offsets of `tokenizers` and
`sentencepiece`, over the texts of the differential test.

    pip install -r tools/tokenizer-diff/requirements.txt
    cargo build --release -p corelm-cli
    CORELM=target/release/corelm python3 tools/tokenizer-diff/spans.py --count 100000 VOCABULARY.gguf...

`tokenizers` counts characters, so a part of one has the span of the whole; `sentencepiece` gives a character without a token
to the last of its bytes. Ours are brought into their form before they are compared. Texts are left out that are no UTF-8,
and those of which the other has other tokens, as user-defined ones are no matter of theirs.
"""

import argparse
import bisect
import itertools
import pathlib
import sys

import tokenizers
from tokenizers import pre_tokenizers

from known import is_valid
from others import byte_pairs, sentence_piece
from subjects import Corelm
from texts import Texts
from vocabulary import CONTROL, VocabularyFile

sys.path.append(str(pathlib.Path(__file__).parents[1] / "pre-tokenizers"))
import expressions  # noqa: E402

MOST_SHOWN = 5
EXPRESSIONS = {"gpt-2": expressions.GPT2, "llama-bpe": expressions.LLAMA3, "qwen2": expressions.QWEN2}
Spans = list[tuple[int, int, int]]


class ByteLevel:
    """A byte-level BPE with the published expression."""

    def __init__(self, file: VocabularyFile) -> None:
        self.tokenizer = tokenizers.Tokenizer(byte_pairs(file))
        pieces = pre_tokenizers.Split(tokenizers.Regex(EXPRESSIONS[file.pre]), "isolated")
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, letters])

    def encode(self, text: str) -> Spans:
        """Ids, and offsets in characters."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return [(id_, begin, end) for id_, (begin, end) in zip(encoding.ids, encoding.offsets)]

    def form(self, text: str, spans: Spans) -> Spans:
        """Spans in bytes as spans in whole characters."""
        ends = ends_of_chars(text)
        return [(id_, bisect.bisect_right(ends, begin) - 1, bisect.bisect_left(ends, end)) for id_, begin, end in spans]


class SentencePiece:
    """SentencePiece's BPE over a model put together from the file."""

    def __init__(self, file: VocabularyFile) -> None:
        self.processor = sentence_piece(file, 2)

    def encode(self, text: str) -> Spans:
        """Ids, and offsets in bytes."""
        return [(piece.id, piece.begin, piece.end) for piece in self.processor.encode(text, return_type="proto").pieces]

    def form(self, text: str, spans: Spans) -> Spans:
        """A byte that stands for itself begins and ends with its character; only the last of one gets there."""
        ends, formed = ends_of_chars(text), []
        for id_, begin, end in spans:
            if self.processor.is_byte(id_):
                begin = ends[bisect.bisect_right(ends, begin) - 1]
                end = end if end in ends else begin
            formed.append((id_, begin, end))
        return formed


def ends_of_chars(text: str) -> list[int]:
    """Where characters end, in bytes, behind a zero."""
    return [0, *itertools.accumulate(len(char.encode()) for char in text)]


def compare(path: pathlib.Path, seed: int, count: int) -> int:
    file = VocabularyFile(path, lambda _: False)
    ours, theirs = Corelm(path), (ByteLevel if file.model == "gpt2" else SentencePiece)(file)
    texts = [text for text in Texts(file).some(seed, 0, count) if text and is_valid(text)]
    if file.model != "gpt2":
        controls = [token for token, type_ in zip(file.tokens, file.types) if type_ == CONTROL]
        texts = [text for text in texts if b"\0" not in text and not any(control in text for control in controls)]
    n_other = n_same = n_tokens = 0
    wrong = []
    for text, bytes_ in zip(texts, ours.encode_with_spans(texts)):
        chars = text.decode()
        want = theirs.encode(chars)
        if [id_ for id_, _, _ in want] != [id_ for id_, _, _ in bytes_]:
            n_other += 1
            continue
        have = theirs.form(chars, bytes_)
        if have == want:
            n_same, n_tokens = n_same + 1, n_tokens + len(want)
        else:
            wrong.append((text, have, want))
    for text, have, want in wrong[:MOST_SHOWN]:
        print(f"{path.name}: {text!r}\n  corelm {have}\n  others {want}")
    print(f"{path.name}: {n_same} texts, {n_tokens} spans the same, {len(wrong)} texts differ; {n_other} with other tokens left out", flush=True)
    return len(wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=100_000, help="strings for each file")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    if sum(compare(path, args.seed, args.count) for path in args.files):
        sys.exit(1)


if __name__ == "__main__":
    main()
