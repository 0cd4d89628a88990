"""Trains the network on text of the grammar, in two cycles; the last part of each sees the weights as Q4_0.

The first cycle learns the language and which advice fits which event. What remains are wrong copies: a digit
of a number, the second of two task names. The second cycle drills these: it draws more events that have them,
and lets the tokens in question weigh more.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import sentencepiece
import torch
import torch.nn.functional as F
from torch import Tensor

import grammar
import messages
import tokenizer
from model import Llama, Shape


@dataclass(frozen=True)
class Cycle:
    """One warm-up and decay of the learning rate."""

    n_steps: int
    peak_lr: float
    drill: bool
    copy_weight: float
    """Weight in the loss of an answer's digits and task names; its other tokens weigh 1."""


CYCLES = (
    Cycle(n_steps=1500, peak_lr=2.5e-3, drill=False, copy_weight=1.0),
    Cycle(n_steps=1000, peak_lr=1.5e-3, drill=True, copy_weight=5.0),
)
BATCH = 32
WARM_UP_STEPS = 60
QUANTIZED_FROM = 0.6
"""Part of a cycle after which the weights act as their Q4_0 images."""
PROMPT_WEIGHT = 0.1
"""Weight of a prompt's tokens in the loss: the model can also finish an event line that somebody began."""
N_THREADS = 2


def copied_tokens(sp: sentencepiece.SentencePieceProcessor) -> set[int]:
    """The ids of all digits and of the pieces of task names."""
    return {i for word in (*"0123456789", *messages.TASKS) for i in sp.encode(word)[-1:]}


def batches(
    sp: sentencepiece.SentencePieceProcessor, seed: int, cycle: Cycle
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches: token ids, ids to predict and their weight in the loss, all `(BATCH, positions)`."""
    rng = random.Random(seed)
    events = grammar.training_events(rng, cycle.drill)
    copied = copied_tokens(sp)
    while True:
        samples = []
        for _ in range(16 * BATCH):
            event = next(events)
            ids = [tokenizer.BOS, *sp.encode(f"{event.prompt} {event.sample(rng)}"), tokenizer.EOS]
            samples.append((ids, len(sp.encode(event.prompt))))
        samples.sort(key=lambda sample: len(sample[0]))  # similar lengths share a batch: little padding
        groups = [samples[i : i + BATCH] for i in range(0, len(samples), BATCH)]
        rng.shuffle(groups)
        for group in groups:
            width = len(group[-1][0]) - 1
            inputs, targets, weights = torch.zeros(3, BATCH, width).unbind()
            for row, (ids, n_prompt) in enumerate(group):
                n = len(ids) - 1
                inputs[row, :n], targets[row, :n] = torch.tensor(ids[:-1]), torch.tensor(ids[1:])
                weights[row, :n_prompt] = PROMPT_WEIGHT
                answer = [cycle.copy_weight if i in copied else 1.0 for i in ids[n_prompt + 1 :]]
                weights[row, n_prompt:n] = torch.tensor(answer)
            yield inputs.long(), targets.long(), weights


def learning_rate(cycle: Cycle, step: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return cycle.peak_lr * warm * 0.5 * (1 + math.cos(math.pi * step / cycle.n_steps))


def run_cycle(model: Llama, sp: sentencepiece.SentencePieceProcessor, seed: int, cycle: Cycle) -> None:
    """Trains `model` for one cycle and leaves its matrices with values that Q4_0 can hold."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    model.pretend_quantized(False)
    start, mean = time.monotonic(), 0.0
    for step, (inputs, targets, weights) in zip(range(cycle.n_steps), batches(sp, seed, cycle), strict=False):
        if step == int(QUANTIZED_FROM * cycle.n_steps):
            model.pretend_quantized(True)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(cycle, step)
        losses = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean += loss.item()
        if (step + 1) % 50 == 0:
            elapsed_s = time.monotonic() - start
            print(f"step {step + 1}/{cycle.n_steps}  loss {mean / 50:.4f}  {elapsed_s:.0f} s", flush=True)
            mean = 0.0
    model.quantize()


def train(sp: sentencepiece.SentencePieceProcessor, seed: int) -> Llama:
    """Trains from scratch; the same seed, thread count and PyTorch give the same weights."""
    torch.set_num_threads(N_THREADS)
    torch.manual_seed(seed)
    model = Llama(Shape(vocab_size=sp.vocab_size()))
    for i, cycle in enumerate(CYCLES):
        run_cycle(model, sp, seed + i, cycle)
    return model
