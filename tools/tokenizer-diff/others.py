"""Tokenizers beside llama.cpp over the same vocabulary: `tokenizers`, `sentencepiece`, and definitions without their haste."""

import pathlib
import re
import sys

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from known import is_valid
from vocabulary import CHAR_OF, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, VocabularyFile

sys.path.append(str(pathlib.Path(__file__).parents[1] / "pre-tokenizers"))
import expressions  # noqa: E402

# Names whose vocabularies take a piece that is a token as that token, whatever the merges.
IGNORES_MERGES = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano glm4 glm5 tekken youtu".split()
SPACE = "\u2581"


class Other:
    """Special tokens are cut out, the longest first; what is between them is for a subclass."""

    name = ""

    def __init__(self, file: VocabularyFile) -> None:
        self.file = file
        ids = sorted((id_ for id_, token in enumerate(file.tokens) if token), key=lambda id_: -len(file.tokens[id_]))
        self.user_defined = [(file.tokens[i], i) for i in ids if file.types[i] == USER_DEFINED]
        # Phi-3's take the white space behind them, by llama.cpp's rule for files of that name.
        name = file.keys.get("general.name", b"").lower()
        self.strips = b"phi-3" in name or b"phi3" in name
        self.specials = [(file.tokens[i], i) for i in ids if file.types[i] in (UNKNOWN, CONTROL, USER_DEFINED)]

    def encode(self, text: bytes) -> tuple[list[int], list[int]]:
        """Ids without control tokens in the text, and with them."""
        plain = self._encode(text, self.user_defined if self.file.has_user_defined(text) else [])
        return plain, self._encode(text, self.specials) if self.file.has_special(text) else plain

    def _encode(self, text: bytes, specials: list[tuple[bytes, int]]) -> list[int]:
        parts: list[bytes | int] = [text]
        for special, id_ in specials:
            if special in text:
                parts = [p for part in parts for p in ([part] if isinstance(part, int) else self._cut(part, special, id_))]
        ids: list[int] = []
        for part in parts:
            ids += [part] if isinstance(part, int) else self.pieces(part) if part else []
        return ids

    def _cut(self, part: bytes, special: bytes, id_: int) -> list[bytes | int]:
        first, *rest = part.split(special)
        if self.strips and special not in (b"<unk>", b"<s>", b"<|endoftext|>"):
            rest = [piece.lstrip() for piece in rest]
        return [first, *(x for piece in rest for x in (id_, piece))]

    def can(self, text: bytes) -> bool:
        """Whether a text is for this tokenizer to tell."""
        return True

    def pieces(self, text: bytes) -> list[int]:
        raise NotImplementedError


def byte_pairs(file: VocabularyFile) -> tokenizers.models.BPE:
    """The model of a byte-level vocabulary; its pieces are for the caller to cut."""
    known = {token.decode(): id_ for id_, token in enumerate(file.tokens)}
    merges = [tuple(merge.decode().split(" ", 1)) for merge in file.keys["tokenizer.ggml.merges"]]
    merges = [(a, b) for a, b in merges if a in known and b in known and a + b in known]
    return tokenizers.models.BPE(known, merges, ignore_merges=file.pre in IGNORES_MERGES)


def sentence_piece(file: VocabularyFile, type_: int) -> sentencepiece.SentencePieceProcessor:
    """A model put together from the file: unigram is of type 1, BPE of type 2."""
    keys = {key.removeprefix("tokenizer.ggml."): value for key, value in file.keys.items()}
    model = sentencepiece_model_pb2.ModelProto()
    for token, score, piece_type in zip(file.tokens, keys["scores"], keys["token_type"]):
        model.pieces.add(piece=token.decode(), score=score, type=piece_type)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.byte_fallback = type_, type_ == 2
    trainer.unk_id, trainer.eos_id = keys["unknown_token_id"], keys["eos_token_id"]
    trainer.bos_id, trainer.pad_id = keys.get("bos_token_id", -1), keys.get("padding_token_id", -1)
    normalizer.precompiled_charsmap = bytes(b & 0xFF for b in keys.get("precompiled_charsmap", ()))
    normalizer.add_dummy_prefix = keys.get("add_space_prefix", True)
    normalizer.remove_extra_whitespaces = keys.get("remove_extra_whitespaces", False)
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


class BytePairs(Other):
    """`tokenizers.models.BPE` over the pieces that the published expressions make (tools/pre-tokenizers).

    A byte that is no UTF-8 counts as U+FFFD where text is cut into pieces, and is itself in them.
    """

    name = "tokenizers' BPE"

    def __init__(self, file: VocabularyFile) -> None:
        super().__init__(file)
        self.model = byte_pairs(file)
        aliases = {alias: name for name, line in expressions.ALIASES.items() for alias in line.split()}
        self.pre = aliases.get(file.pre, file.pre)

    def pieces(self, text: bytes) -> list[int]:
        chars = text.decode(errors="surrogateescape")
        ids, at = [], 0
        for piece in expressions.split(self.pre, re.sub("[\udc80-\udcff]", "\ufffd", chars)):
            raw = chars[at : at + len(piece)].encode(errors="surrogateescape")
            at += len(piece)
            ids += [token.id for token in self.model.tokenize("".join(map(CHAR_OF.__getitem__, raw)))]
        return ids


class Scores(Other):
    """SentencePiece's BPE as it is defined: of all neighbours those merge whose text has the highest score, the first
    ones of as high a score; what is no token then is its bytes. A byte that is no UTF-8 is a character."""

    name = "merges by score"

    def __init__(self, file: VocabularyFile) -> None:
        super().__init__(file)
        scores = file.keys["tokenizer.ggml.scores"]
        self.ids, self.scores = {}, {}
        for id_, token in enumerate(file.tokens):
            text = token.decode(errors="surrogateescape")
            self.ids[text], self.scores[text] = id_, scores[id_]
        self.bytes = [self.ids.get(f"<0x{byte:02X}>") for byte in range(256)]
        self.adds_space = file.keys.get("tokenizer.ggml.add_space_prefix", True)

    def pieces(self, text: bytes) -> list[int]:
        text_ = SPACE * self.adds_space + text.decode(errors="surrogateescape").replace(" ", SPACE)
        symbols = list(text_)
        while True:
            pairs = [(self.scores[a + b], -i) for i, (a, b) in enumerate(zip(symbols, symbols[1:])) if a + b in self.scores]
            if not pairs:
                break
            at = -max(pairs)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        ids = []
        for symbol in symbols:
            if symbol in self.ids:
                ids.append(self.ids[symbol])
            else:
                ids += [self.bytes[byte] for byte in symbol.encode(errors="surrogateescape")]
        return ids


class Longest(Other):
    """RWKV's tokenizer as it is defined: the longest token that the text begins with, again and again."""

    name = "longest match"

    def __init__(self, file: VocabularyFile) -> None:
        super().__init__(file)
        self.ids = {file.unescaped(id_): id_ for id_, type_ in enumerate(file.types) if type_ != CONTROL}
        self.most = max(map(len, self.ids))

    def pieces(self, text: bytes) -> list[int]:
        ids, at = [], 0
        while at < len(text):
            end = next(end for end in range(min(at + self.most, len(text)), at, -1) if text[at:end] in self.ids)
            ids.append(self.ids[text[at:end]])
            at = end
        return ids


class Words(Other):
    """WordPiece of `tokenizers`, with BERT's normalizer.

    That one parts from llama.cpp's at marks that take up room, Hangul, U+2581, VT and FF, and at characters younger than
    its Unicode: so it is asked about ASCII, Latin letters, their accents and ideographs alone.
    """

    SAME = re.compile("[\t\n\r -~\u00a0-\u024f\u0300-\u036f\u4e00-\u9fff]*")

    name = "tokenizers' WordPiece"

    def __init__(self, file: VocabularyFile) -> None:
        super().__init__(file)
        texts = [token.decode() for token in file.tokens]
        marked = [text[1:] if text.startswith(SPACE) else text if kind != NORMAL else "##" + text for text, kind in zip(texts, file.types)]
        unknown = texts[file.keys.get("tokenizer.ggml.unknown_token_id", 100)]
        model = tokenizers.models.WordPiece({text: i for i, text in enumerate(marked)}, unk_token=unknown, max_input_chars_per_word=10_000)
        self.tokenizer = tokenizers.Tokenizer(model)
        lowers = file.keys.get("tokenizer.ggml.normalizer.lowercase", True)
        self.tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowers)
        self.tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()

    def can(self, text: bytes) -> bool:
        return is_valid(text) and self.SAME.fullmatch(text.decode()) is not None

    def pieces(self, text: bytes) -> list[int]:
        return self.tokenizer.encode(text.decode(), add_special_tokens=False).ids


class Pieces(Other):
    """SentencePiece over a model put together from the file.

    llama.cpp takes what begins like a user-defined token for text that must not be normalized, and a U+2581 at the end for
    no space: so it is asked about texts without that, and vocabularies without those.
    """

    name = "sentencepiece"

    def __init__(self, file: VocabularyFile) -> None:
        super().__init__(file)
        self.processor = sentence_piece(file, 1)

    def can(self, text: bytes) -> bool:
        return is_valid(text) and SPACE.encode() not in text and not self.user_defined

    def pieces(self, text: bytes) -> list[int]:
        return self.processor.encode(text.decode())


def other(file: VocabularyFile) -> Other:
    """The one for a vocabulary."""
    return {"gpt2": BytePairs, "llama": Scores, "rwkv": Longest, "bert": Words, "t5": Pieces}[file.model](file)
