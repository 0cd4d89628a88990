#!/usr/bin/env python3
"""Writes crates/corelm/tests/tokenizers: small vocabularies, and what llama.cpp makes of texts with them.

    pip install -r tools/tokenizer-golden/requirements.txt
    python3 tools/tokenizer-golden/generate.py

The unigram models are trained here by SentencePiece on the documents of this repository; the other two vocabularies are
words of theirs. llama.cpp is called by its C functions, which the wheel `xllamacpp` exports. A line of a `.jsonl` file is
a text in hexadecimal, its ids, its ids when control tokens may stand in it, and the text that its ids are turned back into.
"""

import json
import pathlib
import random
import re
import tempfile
import unicodedata
from collections import Counter

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from llama import Vocabulary

ROOT = pathlib.Path(__file__).parents[2]
TARGET = ROOT / "crates/corelm/tests/tokenizers"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

SENTENCES = [
    "Fünf große Äpfel für die Straße, naïve café, déjà vu, Łódź, İstanbul.",
    "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "色は匂へど散りぬるを 我が世誰ぞ常ならむ。",
    "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。",
    "다람쥐 헌 쳇바퀴에 타고파.",
    "نص حكيم له سر قاطع وذو شأن عظيم.",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה.",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण।",
]

# What the trained normalizer replaces, beside what this list maps to nothing or to a space.
COMPATIBLE = "ＡＢＣａｂｃ０１２！ﬁﬂﬃ½¼¾①②③Ⅳⅷ㌀㎏…ﷺ™²ª｡ﾊﾟ"
COMPOSED = "éèüñåçÅй한"
DROPPED = "\u200b\u200d\ufeff\x01\x02\x7f"
SPACES = "\u00a0\u3000\t\n\r\u2028"

TEXTS = """
Hello, world!
 Hello,  world ! it's we're don't 'quoted' " ' "
The kernel reads a page of memory.
ＡＢＣ ﬁne ½ ①② ㌀㎏ ﷺ… cafe\u0301 ca\u0301fe\u0301
e\u0301\u0302 \u0301x a\u0327\u0301 \u1100\u1161\u11a8 각 한국어
Съешь ещё 天地玄黃 宇宙 色は匂へど ｱｲｳ ハパ ﾊﾟ
א\u05b7 שלום \u202eabc\u202c مرحبا \u0644\u0627
👩\u200d🚀 👨\u200d👩\u200d👧 ❤\ufe0f 👍🏽 🇩🇪 😀😀
<sep> <extra_id_0><extra_id_1> <extra_id <s></s> <unk> <pad> [CLS] [SEP] [MASK] [UNK] [cls] <mask>
<0x41> ▁ ▁a a▁b ▁▁ ##ing \\n \\x41 \\\\
字幕 字 幕 é@ é è@ “x ” ½½ ½
12345 3.14 -1e-5 x=a*b; {y:[1,2]} a_b-c/d\\e
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0000000000000
\u0378 \ue000 \ufffd \U000e0001 \U0010ffff \u2028\u2029\u0085
𝐇𝐞𝐥𝐥𝐨 𠀀 \u2f800 \uf900 Ⱥ ẞ ß Σς Ꭰ ꭰ ǅ
""".strip("\n").split("\n")

PARTS = [
    *"the kernel memory 's don't Hello WORLD é e\u0301 字 字幕 한 й ﬁ ½ ① ﷺ ㌀ <sep> <s> </s> [SEP] <extra_id_0> ▁ 😀".split(),
    *[" ", "  ", "\n", "\t", "\u00a0", "\u200b", "'", ".", "?", "a", "b", "0", "\0", "\x01", "“", "\u202e", "👩\u200d🚀"],
]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x96", b"\xf0\x9f\x98", b"\x80", b"\xe2", b"\xc3\xc3\xa9", b"\xf8\x88\x80\x80"]


def texts() -> list[bytes]:
    """Chosen ones, white space, and parts put together at random, some of them no UTF-8."""
    chosen = [line.encode() for line in TEXTS]
    white = [b"", b" ", b"  ", b" a", b"a ", b"  a  b  ", b"\n", b"\t\n ", "\u00a0\u3000".encode(), b"\0", b"\x01"]
    r = random.Random(1)
    mixed = []
    for _ in range(64):
        parts = [r.choice(BROKEN) if r.random() < 0.08 else r.choice(PARTS).encode() for _ in range(r.randrange(1, 9))]
        mixed.append(b"".join(parts))
    return chosen + white + mixed


def corpus() -> list[str]:
    lines = [line.strip() for path in sorted(ROOT.glob("docs/*.md")) for line in path.read_text().splitlines()]
    return [line for line in lines if line] + SENTENCES * 20


def rules() -> str:
    """Normalization rules as SentencePiece reads them: code points, a tab, code points."""
    pairs = [(c, unicodedata.normalize("NFKC", c)) for c in COMPATIBLE]
    pairs += [(unicodedata.normalize("NFD", c), c) for c in COMPOSED]
    pairs += [(c, "") for c in DROPPED] + [(c, " ") for c in SPACES] + [("ﾊﾟ", "パ")]
    points = lambda text: " ".join(f"{ord(c):X}" for c in text)  # noqa: E731
    return "".join(f"{points(a)}\t{points(b)}\n" for a, b in pairs)


class File:
    """A vocabulary on its way into a GGUF file, with as many other keys as llama.cpp asks for."""

    def __init__(self, name: str, model: str, arch: str) -> None:
        self.path = TARGET / f"{name}.gguf"
        self.writer = w = gguf.GGUFWriter(self.path, arch)
        self.tokens: list[bytes] = []
        self.types: list[int] = []
        self.scores: list[float] = []
        w.add_context_length(64)
        w.add_embedding_length(64)
        w.add_block_count(1)
        w.add_feed_forward_length(64)
        w.add_head_count(0 if model == "rwkv" else 1)
        if model == "t5":
            w.add_layer_norm_rms_eps(1e-6)
            w.add_relative_attn_buckets_count(32)
        else:
            w.add_layer_norm_eps(1e-6)
        if model == "rwkv":
            w.add_rescale_every_n_layers(6)
            w.add_wkv_head_size(64)
            w.add_time_mix_extra_dim(32)
            w.add_time_decay_extra_dim(64)
        if model == "bert":
            w.add_causal_attention(False)
        w.add_tokenizer_model(model)

    def add(self, token: bytes | str, type_: int = NORMAL, score: float = 0.0) -> None:
        token = token if isinstance(token, bytes) else token.encode()
        if token not in self.tokens:
            self.tokens.append(token)
            self.types.append(type_)
            self.scores.append(score)

    def write(self, *, with_scores: bool = False) -> pathlib.Path:
        w = self.writer
        w.add_token_list(self.tokens)
        w.add_token_types(self.types)
        if with_scores:
            w.add_token_scores(self.scores)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        return self.path


def unigram(name: str, options: dict[str, object], user_defined: list[str]) -> tuple[pathlib.Path, bytes]:
    """Trains a model, and writes it as llama.cpp's converter for T5 does."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "rules.tsv").write_text(rules())
        options = {k: str(v).replace("{folder}", folder) if isinstance(v, str) else v for k, v in options.items()}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus()),
            model_prefix=f"{folder}/m",
            model_type="unigram",
            vocab_size=600,
            hard_vocab_limit=False,
            character_coverage=0.999,
            num_threads=1,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
            **options,
        )
        bytes_ = (pathlib.Path(folder) / "m.model").read_bytes()
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(bytes_)
    file = File(name, "t5", "t5")
    for piece in proto.pieces:
        file.add(piece.piece, piece.type, piece.score)
    for token in user_defined:
        file.add(token, USER_DEFINED, -1000.0)
    file.add("[PAD]x", UNUSED, -10000.0)
    spec = proto.normalizer_spec
    file.writer.add_add_space_prefix(spec.add_dummy_prefix)
    file.writer.add_remove_extra_whitespaces(spec.remove_extra_whitespaces)
    if spec.precompiled_charsmap:
        file.writer.add_precompiled_charsmap(spec.precompiled_charsmap)
    file.writer.add_eos_token_id(1)
    file.writer.add_unk_token_id(2)
    file.writer.add_pad_token_id(0)
    return file.write(with_scores=True), bytes_


def words() -> list[str]:
    counts = Counter(re.findall(r"\w+|[^\w\s]", "\n".join(corpus())))
    return [word for word, _ in counts.most_common(260)]


def word_piece() -> pathlib.Path:
    """A cased vocabulary; its special tokens are not where llama.cpp takes them to be by default."""
    file = File("word-piece", "bert", "bert")
    for token, type_ in [("[UNK]", UNKNOWN), ("[SEP]", CONTROL), ("[CLS]", CONTROL), ("[MASK]", CONTROL)]:
        file.add(token, type_)
    file.add("<sep>", USER_DEFINED)
    for word in words():
        file.add("\u2581" + word)
        file.add("\u2581" + word[:3])
        for i in range(1, len(word)):
            file.add(word[i:][:2])
    for char in "abcdefghijklmnopqrstuvwxyz0123456789éüßåÅйе한ᄒ字幕天地“'’\u0301½①":
        file.add("\u2581" + char)
        file.add(char)
    file.writer.add_bool("tokenizer.ggml.normalizer.lowercase", False)
    file.writer.add_unk_token_id(0)
    file.writer.add_sep_token_id(1)
    file.writer.add_bos_token_id(2)
    return file.write()


def rwkv() -> pathlib.Path:
    file = File("rwkv", "rwkv", "rwkv6")
    escaped = lambda token: repr(token)[2:-1]  # noqa: E731
    file.add("<s>", CONTROL)
    for byte in range(256):
        file.add(escaped(bytes([byte])))
    for word in words():
        for text in (word, " " + word, word.encode()[:4], "\n" + word[:1]):
            file.add(escaped(text if isinstance(text, bytes) else text.encode()))
    for text in ["\n\n", "\t\t", "  ", "\r\n", "'\"", "\\\\", "\\n", "\0\0", "aaaaaaaa"]:
        file.add(escaped(text.encode()))
    file.add("<sep>", USER_DEFINED)
    file.add("[PAD]x", UNUSED)
    return file.write()


def write_cases(path: pathlib.Path, model: bytes | None) -> None:
    """Asks llama.cpp, and for a trained model SentencePiece, too: says how often they agree."""
    vocabulary = Vocabulary(path)
    lines, n_valid, n_equal = [], 0, 0
    pieces = model and sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in texts():
        ids, special = vocabulary.encode(text), vocabulary.encode(text, parse_special=True)
        if path.stem == "rwkv" and 0 in ids:
            continue  # its control token, which this engine never makes of plain text
        case = {"text": text.hex(), "ids": ids}
        if special != ids:
            case["special"] = special
        case["decoded"] = vocabulary.decode(ids).hex()
        lines.append(json.dumps(case, separators=(",", ":")) + "\n")
        if pieces and text.decode(errors="replace").encode() == text:
            n_valid += 1
            n_equal += pieces.encode(text.decode()) == ids
    path.with_suffix(".jsonl").write_text("".join(lines))
    agrees = f", sentencepiece agrees in {n_equal} of {n_valid}" if pieces else ""
    print(f"{path.name}: {path.stat().st_size} bytes, {len(lines)} texts{agrees}")


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    own_rules = {"normalization_rule_tsv": "{folder}/rules.tsv"}
    keep = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "add_dummy_prefix": False}
    for name, options, user_defined in [
        ("unigram", own_rules, []),
        ("unigram-keep", keep, []),
        ("unigram-user", own_rules, ["<sep>", "<extra_id_0>", "<extra_id_1>", "字幕", "é@", "“x", "½½"]),
    ]:
        write_cases(*unigram(name, options, user_defined))
    write_cases(word_piece(), None)
    write_cases(rwkv(), None)


if __name__ == "__main__":
    main()
