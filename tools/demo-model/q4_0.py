"""Q4_0 as ggml defines it (blocks of 32 values, scale = value of largest magnitude / -8), for training."""

from __future__ import annotations

import gguf
import torch
from torch import Tensor

BLOCK = 32


def round_trip(weight: Tensor) -> Tensor:
    """What is left of `weight` after storing it as Q4_0; rows must be multiples of 32 values."""
    blocks = weight.reshape(-1, BLOCK)
    largest = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))
    scale = largest / -8
    inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
    quants = (blocks * inverse + 8.5).floor_().clamp_(0, 15)
    return ((quants - 8) * scale.half().float()).view_as(weight)


def stored(weight: Tensor) -> Tensor:
    """What a GGUF file holds of `weight`: `round_trip` but for the rounding of ties."""
    q4_0 = gguf.GGMLQuantizationType.Q4_0
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(weight.numpy(), q4_0), q4_0))


def straight_through(weight: Tensor) -> Tensor:
    """`round_trip` forward, identity backward."""
    return weight + (round_trip(weight.detach()) - weight.detach())
