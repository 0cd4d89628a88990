"""Trains the network on text of the grammar; the last part of the training sees its weights as Q4_0."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator

import sentencepiece
import torch
import torch.nn.functional as F
from torch import Tensor

import grammar
import tokenizer
from model import Llama, Shape

N_STEPS = 1500
BATCH = 32
PEAK_LR = 2.5e-3
WARM_UP_STEPS = 60
QUANTIZED_FROM = 0.6
"""Part of the steps after which the weights act as their Q4_0 images."""
PROMPT_WEIGHT = 0.1
"""Weight of a prompt's tokens in the loss: the model can also finish an event line that somebody began."""
N_THREADS = 2


def batches(sp: sentencepiece.SentencePieceProcessor, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches: token ids, ids to predict and their weight in the loss, all `(BATCH, positions)`."""
    rng = random.Random(seed)
    events = grammar.training_events(rng)
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
                weights[row, :n_prompt], weights[row, n_prompt:n] = PROMPT_WEIGHT, 1.0
            yield inputs.long(), targets.long(), weights


def learning_rate(step: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return PEAK_LR * warm * 0.5 * (1 + math.cos(math.pi * step / N_STEPS))


def train(sp: sentencepiece.SentencePieceProcessor, seed: int) -> Llama:
    """Trains from scratch; the same seed, thread count and PyTorch give the same weights."""
    torch.set_num_threads(N_THREADS)
    torch.manual_seed(seed)
    model = Llama(Shape(vocab_size=sp.vocab_size()))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    start, mean = time.monotonic(), 0.0
    for step, (inputs, targets, weights) in zip(range(N_STEPS), batches(sp, seed), strict=False):
        if step == int(QUANTIZED_FROM * N_STEPS):
            model.pretend_quantized()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        losses = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean += loss.item()
        if (step + 1) % 50 == 0:
            print(
                f"step {step + 1}/{N_STEPS}  loss {mean / 50:.4f}  {time.monotonic() - start:.0f} s",
                flush=True,
            )
            mean = 0.0
    return model
