"""What is compared: the command `corelm`, and llama.cpp."""

import json
import os
import pathlib
import subprocess
import sys

from vocabulary import VocabularyFile

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tokenizer-golden"))
from llama import Vocabulary  # noqa: E402

CORELM = os.environ.get("CORELM", "corelm")


class Corelm:
    """The tokenizer under test, one process for many texts."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = str(path)

    def _run(self, command: str, *options: str, stdin: bytes) -> bytes:
        run = subprocess.run([CORELM, command, "-m", self.path, *options], input=stdin, capture_output=True)
        if run.returncode:
            raise RuntimeError(f"corelm {command}: {run.stderr.decode(errors='replace')}")
        return run.stdout

    def encode(self, texts: list[bytes], special: bool) -> list[list[int]]:
        options = ["--hex-lines"] + ["--special"] * special
        lines = self._run("tokenize", *options, stdin="".join(text.hex() + "\n" for text in texts).encode()).splitlines()
        assert len(lines) == len(texts), f"{len(lines)} answers to {len(texts)} texts"
        return json.loads(b"[" + b",".join(lines) + b"]")

    def encode_with_spans(self, texts: list[bytes]) -> list[list[tuple[int, int, int]]]:
        """For each token its id, and where the bytes that it stands for begin and end."""
        stdin = "".join(text.hex() + "\n" for text in texts).encode()
        lines = self._run("tokenize", "--hex-lines", "--spans", stdin=stdin).splitlines()
        assert len(lines) == len(texts), f"{len(lines)} answers to {len(texts)} texts"
        return [[tuple(token) for token in tokens] for tokens in json.loads(b"[" + b",".join(lines) + b"]")]

    def refuses(self, text: bytes) -> bool:
        """Whether the text is an error, for want of a token."""
        try:
            self.encode([text], False)
        except RuntimeError as error:
            return "no token" in str(error)
        return False

    def decode(self, ids: list[int]) -> bytes:
        return self._run("detokenize", stdin=" ".join(map(str, ids)).encode()) if ids else b""


class Llama:
    """llama.cpp, one call for each text."""

    def __init__(self, path: pathlib.Path) -> None:
        self.vocabulary = Vocabulary(path)
        self.file = VocabularyFile(path, self.vocabulary.is_control)

    def encode(self, text: bytes) -> tuple[list[int], list[int]]:
        """Plain, and with control tokens; these are the same where no text of a special token occurs."""
        plain = self.vocabulary.encode(text)
        if not self.file.has_special(text):
            return plain, plain
        return plain, self.vocabulary.encode(text, parse_special=True)
