"""Strings that pre-tokenizers tend to split wrongly."""

import itertools
import random

import unicodedata2 as unicode

# One or two of what expressions tell apart.
ALPHABET = "aZs1\u0663 \u00a0\n'.$/\u00e9\u0301\u4e2d\x01"

PARTS = [
    # Words in every case and script
    *"a Z s e abc XYZ Hello iPhone McDonald ABCdef \u00e9 \u00c9cole na\u00efve stra\u00dfe \u01c5 \u02b0 \u00aa \u0430\u0431\u0432 \u0416".split(),
    *"\u03b1\u03c9 \u0531 \u10a0 \u10d0 \u1c90 \u13a0 \u1e80\u1ef9 \ua640 \uab70 \uff21\uff42 \U00010400 \ufb01 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d".split(),
    *"\u0928\u092e\u0938\u094d\u0924\u0947 \u0e01\u0e33 \u0e3f \u1780\u17b6 \u1019\u103c \u0eab\u0ecd \ua9e0 \uaa60 \u12a0".split(),
    *"\u4e2d\u6587 \u9fa5\u9fa6 \u3400 \U00020000 \U0002f800 \uf900 \ufa6e \u8c48 \u3042\u308a \u30ab\u30fc \u3105 \uac00\ub098 \u1100\u1161 \ud7a4 \u3131 \uff66".split(),
    # Contractions
    *"'s 'S 't 'T 'm 'M 'd 'D 're 'RE 'rE 've 'Ve 'll 'LL 'lL 'l 'r 'v 'x '\u017f \u2019s 's't ''s 'sa".split(),
    # Digits
    *"1 12 123 1234 1234567 12345678901 \u0663 \u0663\u0664\u0665\u0666 \u00bd \u2167 \u00b2 \u0967\u0968 \uff11\uff12 \u3007 \U0001d7ce 1\u06632".split(),
    # Signs
    *"! !! . ... , ? ?! - -- / // /\n \\ _ ( ) [ ] { } < > <= $ $$ + ^ ~ | ` \" # % & * ; : @ = == \u2026 \u3001 \u3002 \uff0c \uff01 \uff1a \u060c \u0964 \u06d4".split(),
    *"\u2018 \u2019 \u201c\u201d \u2014 \u00a1 \u00a2 \u20ac \u00b0 \u2192 \u2211 \u00ab\u00bb \u3008 \ufe30 \uff5e \ufffd".split(),
    "/\n/\n", "!\n", ".\r\n", "!/", "?\n/",
    # White space
    " ", " ", " ", "  ", "   ", "    ", " " * 9, "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", " \r\n ", "\v", "\f",
    "\x85", "\u00a0", "\u1680", "\u2003\u2003", "\u2028", "\u202f", "\u3000", "\u3000\u3000",
    # Marks, joiners, controls, what is not assigned
    *"\u0301 \u0301\u0302 e\u0301 \u0e31 \u20dd \ufe0f \U000e0100 \u200d \u200c \u200b \ufeff \u0378 \ue000 \U000f0000 \U0001f468\u200d\U0001f469\u200d\U0001f467".split(),
    *"\U0001f600 \U0001f1eb\U0001f1f7 \U0001f44d\U0001f3fd #\ufe0f\u20e3 \u2764\ufe0f \u231b".split(),
    "\0", "\x01", "\x1b[0m", "\x7f", "\x80", "\u0600", "\u00ad",
    # Look-alikes
    "<|endoftext|>", "<sentinel:12>", "<sentinel:>", "<sentinel:1", "IMGIMGAZ", "IMGIMGABCDZ", "IMGIMGABCDEZ", "IMGIMG", "IMGZ", "</s>", "<0x0A>",
]  # fmt: skip

CODES = [code for code in range(0x323B0) if not 0xD800 <= code < 0xE000]
# As many of each category.
CATEGORIES: dict[str, list[int]] = {}
for _code in CODES:
    CATEGORIES.setdefault(unicode.category(chr(_code)), []).append(_code)
KINDS = sorted(CATEGORIES)


def some(source: random.Random) -> str:
    """A string at random."""
    parts = []
    for _ in range(source.choice((1, 2, 3, 3, 4, 4, 5, 6, 8, 12))):
        kind = source.random()
        if kind < 0.70:
            parts.append(source.choice(PARTS))
        elif kind < 0.80:
            parts.append(source.choice(ALPHABET))
        elif kind < 0.90:
            parts.append(chr(source.choice(CATEGORIES[source.choice(KINDS)])))
        elif kind < 0.97:
            parts.append(chr(source.randrange(128)))
        else:
            parts.append(source.choice(" \n1'\u0663\u3000A\u0301") * source.choice((2, 3, 7, 20)))
    return "".join(parts)


WORDS = "a I the of and to in is it's don't THE Of straightforward internationalisation aaaaaaaaaaaaaaaaaaaaaaaa x1 v2 e.g. na\u00efve".split()


def prose(source: random.Random) -> str:
    """Some hundred bytes, most of them words of ASCII letters."""
    joints = [" "] * 12 + [", ", ". ", "\n", "\n\n  ", "  ", " (", "-", "'", " '", "\u2019s ", "\u3000", " 42 ", "\r\n"]
    parts = []
    for _ in range(source.randrange(20, 60)):
        parts += [source.choice(PARTS) if source.random() < 0.1 else source.choice(WORDS), source.choice(joints)]
    return "".join(parts)


def systematic():
    """All pairs of ASCII, all strings of up to four characters of the alphabet, every character by itself."""
    ascii_ = [chr(code) for code in range(128)]
    for size, alphabet in ((1, ascii_), (2, ascii_), (3, ALPHABET), (4, ALPHABET)):
        yield from map("".join, itertools.product(alphabet, repeat=size))
    for code in [*CODES, *range(0xE0000, 0xE0200)]:
        yield f"a {chr(code)}b"
