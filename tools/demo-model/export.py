"""Writes the trained network and its tokenizer as a standard GGUF file: matrices Q4_0, norms F32."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import sentencepiece

import tokenizer
from model import Llama, Matrix

NAME = "corelm demo"
DESCRIPTION = (
    "Explains kernel events (faults, panics, scheduler, memory, timer and core messages) in a few sentences."
)


def export(model: Llama, sp: sentencepiece.SentencePieceProcessor, path: Path) -> None:
    """Writes `path`."""
    s = model.shape
    out = gguf.GGUFWriter(path, "llama")
    out.add_name(NAME)
    out.add_description(DESCRIPTION)
    out.add_license("MIT OR Apache-2.0")
    out.add_author("the corelm authors")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_context_length(s.context)
    out.add_embedding_length(s.dim)
    out.add_block_count(s.n_layers)
    out.add_feed_forward_length(s.hidden_dim)
    out.add_head_count(s.n_heads)
    out.add_head_count_kv(s.n_kv_heads)
    out.add_rope_dimension_count(s.head_dim)
    out.add_rope_freq_base(s.rope_base)
    out.add_layer_norm_rms_eps(s.rms_eps)
    out.add_vocab_size(s.vocab_size)
    _add_tokenizer(out, sp)
    norms = {name: p for name, p in model.named_parameters() if name.endswith("norm")}
    matrices = {name: m.weight for name, m in model.named_modules() if isinstance(m, Matrix)}
    for name, parameter in sorted((norms | matrices).items(), key=lambda item: _order(item[0])):
        values = parameter.detach().numpy().astype(np.float32)
        gguf_name = name.replace("layers.", "blk.") + ".weight"
        if values.ndim == 1:
            out.add_tensor(gguf_name, values)
        else:
            q4_0 = gguf.GGMLQuantizationType.Q4_0
            out.add_tensor(gguf_name, gguf.quants.quantize(values, q4_0), raw_dtype=q4_0)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _order(name: str) -> tuple[int, str]:
    """Embedding, layers in turn, final norm: the order in which a forward pass reads them."""
    if name.startswith("layers."):
        return int(name.split(".")[1]), name
    return (-1 if name == "token_embd" else 1 << 30), name


def _add_tokenizer(out: gguf.GGUFWriter, sp: sentencepiece.SentencePieceProcessor) -> None:
    def kind(i: int) -> gguf.TokenType:
        if sp.is_unknown(i):
            return gguf.TokenType.UNKNOWN
        if sp.is_control(i):
            return gguf.TokenType.CONTROL
        return gguf.TokenType.BYTE if sp.is_byte(i) else gguf.TokenType.NORMAL

    ids = range(sp.vocab_size())
    out.add_tokenizer_model("llama")
    out.add_tokenizer_pre("default")
    out.add_token_list([sp.id_to_piece(i) for i in ids])
    out.add_token_scores([sp.get_score(i) for i in ids])
    out.add_token_types([kind(i) for i in ids])
    out.add_bos_token_id(tokenizer.BOS)
    out.add_eos_token_id(tokenizer.EOS)
    out.add_unk_token_id(tokenizer.UNK)
    out.add_add_bos_token(True)
    out.add_add_eos_token(False)
    out.add_add_space_prefix(True)
