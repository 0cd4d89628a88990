"""A reference runner in NumPy: reads nothing but the GGUF file, tokenizer included, and decodes greedily.

Matrix products see what an inference engine sees: Q4_0 weights, and activations rounded to Q8_0.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as QuantizationType
from numpy.typing import NDArray

Array = NDArray[np.float32]
SPACE = "\u2581"


class Tokenizer:
    """SentencePiece BPE from `tokenizer.ggml.*`: joins the neighbours of best score until none is left."""

    def __init__(self, reader: gguf.GGUFReader) -> None:
        self.pieces: list[str] = reader.fields["tokenizer.ggml.tokens"].contents()
        self.scores: list[float] = reader.fields["tokenizer.ggml.scores"].contents()
        self.types: list[int] = reader.fields["tokenizer.ggml.token_type"].contents()
        self.bos: int = reader.fields["tokenizer.ggml.bos_token_id"].contents()
        self.eos: int = reader.fields["tokenizer.ggml.eos_token_id"].contents()
        self.ids = {piece: i for i, piece in enumerate(self.pieces) if self.types[i] == gguf.TokenType.NORMAL}

    def encode(self, text: str) -> list[int]:
        symbols = list((" " + text).replace(" ", SPACE))
        while True:
            joined = [a + b for a, b in zip(symbols, symbols[1:], strict=False)]
            pairs = [
                (self.scores[self.ids[piece]], -i) for i, piece in enumerate(joined) if piece in self.ids
            ]
            if not pairs:
                break
            i = -max(pairs)[1]
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
        ids = [self.bos]
        for symbol in symbols:
            known = self.ids.get(symbol)
            ids += (
                [known]
                if known is not None
                else [self.pieces.index(f"<0x{byte:02X}>") for byte in symbol.encode()]
            )
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of `ids` after a prompt, so a leading space stays; control tokens give nothing."""
        data = b""
        for i in ids:
            if self.types[i] == gguf.TokenType.BYTE:
                data += bytes([int(self.pieces[i][3:5], 16)])
            elif self.types[i] == gguf.TokenType.NORMAL:
                data += self.pieces[i].replace(SPACE, " ").encode()
        return data.decode(errors="replace")


def q8_0_round_trip(x: Array) -> Array:
    """What is left of `x` after storing it as Q8_0: blocks of 32 values, scale = largest magnitude / 127."""
    blocks = x.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    quants = np.round(blocks / np.where(scale == 0, np.float32(1), scale))
    return (quants * scale.astype(np.float16).astype(np.float32)).reshape(x.shape)


class Runner:
    """One model, one sequence at a time."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        value = lambda key: reader.fields[f"llama.{key}"].contents()  # noqa: E731
        self.tokenizer = Tokenizer(reader)
        self.n_layers, self.context = value("block_count"), value("context_length")
        self.n_heads, self.n_kv_heads = value("attention.head_count"), value("attention.head_count_kv")
        self.head_dim = value("embedding_length") // self.n_heads
        self.eps = np.float32(value("attention.layer_norm_rms_epsilon"))
        self.tensors: dict[str, Array] = {
            t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors
        }
        self.types: dict[str, QuantizationType] = {t.name: t.tensor_type for t in reader.tensors}
        frequency = value("rope.freq_base") ** (-np.arange(0, self.head_dim, 2) / self.head_dim)
        angle = np.outer(np.arange(self.context), frequency)
        self.cos, self.sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        self.reset()

    def reset(self) -> None:
        """Forgets the sequence."""
        shape = (self.n_layers, self.context, self.n_kv_heads, self.head_dim)
        self.keys, self.values, self.pos = np.zeros(shape, np.float32), np.zeros(shape, np.float32), 0

    def _product(self, name: str, x: Array) -> Array:
        if self.types[name] == QuantizationType.Q4_0:
            x = q8_0_round_trip(x)
        return self.tensors[name] @ x

    def _norm(self, name: str, x: Array) -> Array:
        return x / np.sqrt(np.mean(x * x) + self.eps) * self.tensors[name]

    def _rope(self, x: Array) -> Array:
        out, cos, sin = np.empty_like(x), self.cos[self.pos], self.sin[self.pos]
        out[:, 0::2] = x[:, 0::2] * cos - x[:, 1::2] * sin
        out[:, 1::2] = x[:, 0::2] * sin + x[:, 1::2] * cos
        return out

    def step(self, token: int) -> Array:
        """The logits after one more token, `(vocab_size)`."""
        x = self.tensors["token_embd.weight"][token]
        for i in range(self.n_layers):
            w = lambda name, i=i: f"blk.{i}.{name}.weight"  # noqa: E731
            h = self._norm(w("attn_norm"), x)
            q = self._rope(self._product(w("attn_q"), h).reshape(self.n_heads, -1))
            self.keys[i, self.pos] = self._rope(self._product(w("attn_k"), h).reshape(self.n_kv_heads, -1))
            self.values[i, self.pos] = self._product(w("attn_v"), h).reshape(self.n_kv_heads, -1)
            att = np.empty_like(q)
            for head in range(self.n_heads):
                group = head * self.n_kv_heads // self.n_heads
                scores = self.keys[i, : self.pos + 1, group] @ q[head] / np.sqrt(np.float32(self.head_dim))
                weights = np.exp(scores - scores.max())
                att[head] = weights / weights.sum() @ self.values[i, : self.pos + 1, group]
            x = x + self._product(w("attn_output"), att.reshape(-1))
            h = self._norm(w("ffn_norm"), x)
            gate, up = self._product(w("ffn_gate"), h), self._product(w("ffn_up"), h)
            x = x + self._product(w("ffn_down"), gate / (1 + np.exp(-gate)) * up)
        self.pos += 1
        return self._product("token_embd.weight", self._norm("output_norm.weight", x))

    def generate(self, prompt: str) -> tuple[str, bool, float]:
        """Greedy text after `prompt`, whether EOS ended it, and the least gap of first and second logit."""
        self.reset()
        ids: list[int] = []
        for token in (prompt_ids := self.tokenizer.encode(prompt)):
            logits = self.step(token)
        gap = float("inf")
        while True:
            second, first = np.partition(logits, -2)[-2:]
            gap = min(gap, float(first - second))
            best = int(logits.argmax())
            if best == self.tokenizer.eos or len(prompt_ids) + len(ids) == self.context:
                return self.tokenizer.decode(ids), best == self.tokenizer.eos, gap
            ids.append(best)
            logits = self.step(best)
