"""The vocabulary of a GGUF file: its metadata, and its tokens as bytes of text."""

import pathlib
import re
import struct
from collections.abc import Callable

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd"))
_STRING, _ARRAY = 8, 9


def metadata(path: pathlib.Path) -> dict:
    """Keys and values."""
    data = path.read_bytes()
    at = 24

    def value(type_: int):
        nonlocal at
        if type_ in _NUMBERS:
            (number,) = struct.unpack_from("<" + _NUMBERS[type_], data, at)
            at += struct.calcsize(_NUMBERS[type_])
            return number
        if type_ == _STRING:
            begin = at + 8
            at = begin + int.from_bytes(data[at:begin], "little")
            return data[begin:at]
        element, n = struct.unpack_from("<IQ", data, at)
        at += 12
        if element in _NUMBERS:
            form = f"<{n}{_NUMBERS[element]}"
            numbers = struct.unpack_from(form, data, at)
            at += struct.calcsize(form)
            return numbers
        return [value(element) for _ in range(n)]

    (n_keys,) = struct.unpack_from("<Q", data, 16)
    pairs = {}
    for _ in range(n_keys):
        key = value(_STRING).decode()
        (type_,) = struct.unpack_from("<I", data, at)
        at += 4
        pairs[key] = value(type_)
    return pairs


def byte_map() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones of Latin-1 for themselves, the rest from U+0100 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF = byte_map()
CHAR_OF = {byte: char for char, byte in BYTE_OF.items()}
_ESCAPE = re.compile(rb"\\(x..|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _unescape(match: re.Match) -> bytes:
    body = match[1]
    return bytes([int(body[1:], 16)]) if len(body) == 3 else _ESCAPED.get(body, body)


def finder(texts: list[bytes]) -> Callable[[bytes], re.Match | None]:
    """Finds one of `texts`."""
    return re.compile(b"|".join(map(re.escape, texts))).search if texts else lambda _: None


class VocabularyFile:
    """What the differential test needs of a file."""

    def __init__(self, path: pathlib.Path, is_control: Callable[[int], bool]) -> None:
        self.path = path
        self.keys = metadata(path)
        self.model = self.keys["tokenizer.ggml.model"].decode()
        self.pre = self.keys.get("tokenizer.ggml.pre", b"default").decode() if self.model == "gpt2" else ""
        self.tokens: list[bytes] = self.keys["tokenizer.ggml.tokens"]
        types = self.keys.get("tokenizer.ggml.token_type", (NORMAL,) * len(self.tokens))
        self.types = [CONTROL if is_control(id_) else type_ for id_, type_ in enumerate(types)]
        self.specials = self.of(UNKNOWN, CONTROL, USER_DEFINED)
        self.has_special = finder(self.specials)
        self.has_user_defined = finder(self.of(USER_DEFINED))
        self.has_control = finder(self.of(CONTROL))
        tokens = set(self.of(NORMAL))
        no_token = [bytes([byte]) for char, byte in BYTE_OF.items() if char.encode() not in tokens]
        self.has_no_token = finder(no_token if self.model == "gpt2" else [])

    def of(self, *types: int) -> list[bytes]:
        """The texts of the tokens of some types."""
        return [token for token, type_ in zip(self.tokens, self.types) if type_ in types and token]

    def text(self, token: int) -> bytes:
        """The bytes that an ordinary token stands for; nothing for others."""
        text = self.tokens[token]
        if self.types[token] != NORMAL:
            return b""
        if self.model == "gpt2":
            return b"".join(bytes([BYTE_OF[c]]) if c in BYTE_OF else c.encode() for c in text.decode())
        if self.model == "rwkv":
            return self.unescaped(token)
        return text.replace("\u2581".encode(), b" ")

    def unescaped(self, token: int) -> bytes:
        """The bytes of a token of RWKV's."""
        return _ESCAPE.sub(_unescape, self.tokens[token])
