"""The tokenizer: SentencePiece BPE with byte fallback, trained on text of the grammar."""

from __future__ import annotations

import random
from pathlib import Path

import sentencepiece

import grammar

VOCAB_SIZE = 1024
N_LINES = 20_000
UNK, BOS, EOS = 0, 1, 2


def train(path: Path, seed: int) -> None:
    """Writes the SentencePiece model file `path`."""
    rng = random.Random(seed)
    events = grammar.training_events(rng)
    lines = path.with_suffix(".txt")
    with lines.open("w") as out:
        for _ in range(N_LINES):
            event = next(events)
            # Prompt and answer become lines of their own, so a newline stays out of the vocabulary and is
            # spelled by its byte token.
            out.write(f"{event.prompt} {event.sample(rng)}\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(path.with_suffix("")),
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        byte_fallback=True,
        split_digits=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )


def load(path: Path) -> sentencepiece.SentencePieceProcessor:
    """Reads a SentencePiece model file."""
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
