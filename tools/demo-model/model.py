"""The network: a llama as GGUF describes it, so that its weights are stored without any permutation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import q4_0


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; every row length is a multiple of the 32 values of a Q4_0 block."""

    vocab_size: int = 1024
    dim: int = 192
    hidden_dim: int = 512
    n_layers: int = 5
    n_heads: int = 6
    n_kv_heads: int = 2
    context: int = 256
    rope_base: float = 10_000.0
    rms_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads


class Matrix(nn.Module):
    """A weight matrix `(rows, cols)` that can pretend to be stored as Q4_0."""

    def __init__(self, rows: int, cols: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, cols) * std)
        self.quantized = False

    def value(self) -> Tensor:
        """The weight as inference sees it; the gradient passes straight through the rounding."""
        return q4_0.straight_through(self.weight) if self.quantized else self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.value())


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Scales each row of `x` to a root mean square of 1, then by `weight`."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates neighbouring pairs `(x[2i], x[2i+1])` of `(batch, heads, positions, head_dim)`."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Layer(nn.Module):
    """Attention with grouped queries, then SwiGLU."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.shape = s
        kv_dim, out_std = s.n_kv_heads * s.head_dim, 0.02 / (2 * s.n_layers) ** 0.5
        self.attn_norm = nn.Parameter(torch.ones(s.dim))
        self.ffn_norm = nn.Parameter(torch.ones(s.dim))
        self.attn_q = Matrix(s.dim, s.dim, s.dim**-0.5)
        self.attn_k = Matrix(kv_dim, s.dim, s.dim**-0.5)
        self.attn_v = Matrix(kv_dim, s.dim, s.dim**-0.5)
        self.attn_output = Matrix(s.dim, s.dim, out_std)
        self.ffn_gate = Matrix(s.hidden_dim, s.dim, s.dim**-0.5)
        self.ffn_up = Matrix(s.hidden_dim, s.dim, s.dim**-0.5)
        self.ffn_down = Matrix(s.dim, s.hidden_dim, out_std)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        s, (batch, length, _) = self.shape, x.shape
        heads = lambda y: y.view(batch, length, -1, s.head_dim).transpose(1, 2)  # noqa: E731
        h = rms_norm(x, self.attn_norm, s.rms_eps)
        q, k, v = (
            rope(heads(self.attn_q(h)), cos, sin),
            rope(heads(self.attn_k(h)), cos, sin),
            heads(self.attn_v(h)),
        )
        att = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.attn_output(att.transpose(1, 2).reshape(batch, length, s.dim))
        h = rms_norm(x, self.ffn_norm, s.rms_eps)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Llama(nn.Module):
    """Token ids `(batch, positions)` to logits `(batch, positions, vocab_size)`; output tied to embedding."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.shape = s
        self.token_embd = Matrix(s.vocab_size, s.dim, s.dim**-0.5)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.n_layers))
        self.output_norm = nn.Parameter(torch.ones(s.dim))
        freq = s.rope_base ** (-torch.arange(0, s.head_dim, 2) / s.head_dim)
        angle = torch.outer(torch.arange(s.context), freq)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        embedding = self.token_embd.value()
        x = F.embedding(ids, embedding)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return F.linear(rms_norm(x, self.output_norm, self.shape.rms_eps), embedding)

    def matrices(self) -> list[Matrix]:
        """Every matrix, the embedding included."""
        return [module for module in self.modules() if isinstance(module, Matrix)]

    def pretend_quantized(self, quantized: bool) -> None:
        """From now on every matrix acts as its Q4_0 image, or as itself."""
        for matrix in self.matrices():
            matrix.quantized = quantized

    def quantize(self) -> None:
        """Rounds every matrix to what a GGUF file would hold of it."""
        with torch.no_grad():
            for matrix in self.matrices():
                matrix.weight.copy_(q4_0.stored(matrix.weight))
