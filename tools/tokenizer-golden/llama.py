"""llama.cpp's tokenizer by its C functions, as far as a vocabulary without weights needs them."""

import ctypes
import os
import pathlib

import xllamacpp

_ID, _POINTER, _BOOL = ctypes.c_int32, ctypes.c_void_p, ctypes.c_bool


class _Params(ctypes.Structure):
    """`llama_model_params`; room behind the flags, of which `vocab_only` is the first."""

    _fields_ = [
        ("devices", _POINTER),
        ("tensor_buft_overrides", _POINTER),
        ("numbers", ctypes.c_int32 * 5),
        ("tensor_split", _POINTER),
        ("progress", _POINTER * 2),
        ("kv_overrides", _POINTER),
        ("flags", ctypes.c_uint8 * 64),
    ]


def _library() -> ctypes.CDLL:
    (path,) = pathlib.Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")
    library = ctypes.CDLL(os.fspath(path))
    library.llama_model_default_params.restype = _Params
    for name, result, arguments in [
        ("llama_model_load_from_file", _POINTER, [ctypes.c_char_p, _Params]),
        ("llama_model_get_vocab", _POINTER, [_POINTER]),
        ("llama_tokenize", _ID, [_POINTER, ctypes.c_char_p, _ID, _POINTER, _ID, _BOOL, _BOOL]),
        ("llama_detokenize", _ID, [_POINTER, _POINTER, _ID, ctypes.c_char_p, _ID, _BOOL, _BOOL]),
        ("llama_vocab_is_control", _BOOL, [_POINTER, _ID]),
        ("llama_log_set", None, [_POINTER, _POINTER]),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, _POINTER)(lambda *_: None)


class Vocabulary:
    """The vocabulary of a file."""

    def __init__(self, path: pathlib.Path) -> None:
        self._library = _library()
        self._library.llama_backend_init()
        self._library.llama_log_set(ctypes.cast(_SILENT, _POINTER), None)
        params = self._library.llama_model_default_params()
        params.flags[0] = 1
        model = self._library.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self._vocab = self._library.llama_model_get_vocab(model)

    def encode(self, text: bytes, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        ids = (_ID * (4 * len(text) + 16))()
        n = self._library.llama_tokenize(self._vocab, text, len(text), ids, len(ids), add_special, parse_special)
        if n < 0:
            raise RuntimeError(f"{-n} tokens")
        return ids[:n]

    def is_control(self, id_: int) -> bool:
        """Whether a token is a control token, by the file or by its name."""
        return self._library.llama_vocab_is_control(self._vocab, id_)

    def decode(self, ids: list[int]) -> bytes:
        array, text = (_ID * max(len(ids), 1))(*ids), ctypes.create_string_buffer(1 << 16)
        n = self._library.llama_detokenize(self._vocab, array, len(ids), text, len(text), False, True)
        if n < 0:
            raise RuntimeError(f"{-n} bytes")
        return text.raw[:n]
