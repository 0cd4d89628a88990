"""What the pre-tokenizers of GGUF files mean, by the package `regex`: the expressions that llama.cpp has for each name,
and what it makes of text before it matches them.

Expressions with a category (`\\p{L}`) meet text in which every character beyond ASCII is a stand-in for its category
(and all white space one character): so `[^a-z]` is any of them, whatever its case. Expressions without one meet the
text itself, but for the white space. `\\s` and `\\d` are of ASCII. Each expression splits the pieces of the one before
into matches and what is between.
"""

import regex
import unicodedata2 as unicode

VERSION = "15.1.0"
assert unicode.unidata_version == VERSION, f"unicodedata2=={VERSION} is wanted"

CONTROLS = "\t\n\v\f\r\x85"
# A character beyond ASCII of each category stands for all: \p{L}, \p{N}, \p{M}, \p{P}, \p{S}; the rest is controls.
STAND_INS = {"L": "\u00aa", "N": "\u00b2", "M": "\u0300", "P": "\u00a1", "S": "\u00a2"}
WHITE, OTHER = "\v", "\x80"
# Where a scanner tells ideographs from other letters, two more; joiners stand for themselves.
HAN, HAN_UNASSIGNED, JOINERS = "\u4e00", "\x81", "\u200c\u200d"
HAN_RANGES = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2EBEF), (0x2F800, 0x2FA1F)]


def is_white(c: str) -> bool:
    return c in CONTROLS or unicode.category(c)[0] == "Z"


def stand_in(c: str, special: bool) -> str:
    if ord(c) < 128:
        return c
    if is_white(c):
        return WHITE
    category = unicode.category(c)[0]
    if special and any(first <= ord(c) <= last for first, last in HAN_RANGES):
        return HAN if category == "L" else HAN_UNASSIGNED
    if special and c in JOINERS:
        return c
    return STAND_INS.get(category, OTHER)


CONTRACTION = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CJK = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
PUNCTUATED = r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"


def words(word: str, digits: str, signs: str, rest: str = REST, before: str = CONTRACTION + "|") -> str:
    return rf"{before}[^\r\n\p{{L}}\p{{N}}]?(?:{word})|{digits}| ?{signs}|{rest}"


SIGNS = r"[^\s\p{L}\p{N}]+"
LLAMA3 = words(r"\p{L}+", r"\p{N}{1,3}", SIGNS + r"[\r\n]*")
QWEN2 = words(r"\p{L}+", r"\p{N}", SIGNS + r"[\r\n]*")


def cased(letters: str, contraction: str, digits: str) -> str:
    upper, lower = rf"(?:(?={letters})[^a-z])", rf"(?:(?={letters})[^A-Z])"
    first, second = f"{upper}*{lower}+{contraction}", f"{upper}+{lower}*{contraction}"
    prefix = r"[^\r\n\p{L}\p{N}]?"
    return rf"{prefix}{first}|{prefix}{second}|{digits}| ?{SIGNS}[\r\n/]*|{REST}"


def uncased(digits: str) -> str:
    return words(rf"[\p{{L}}\p{{M}}]+(?:{CONTRACTION})?", digits, SIGNS + r"[\r\n/]*", before="")


DEEPSEEK_LLM_LETTERS = (
    r"A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    r"\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    r"\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    r"\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d"
    r"\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4"
    r"\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    r"\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
    r"\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a"
    r"\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    r"\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
# In place of U+F900 stands what it is normalised to.
AFMOE_SCRIPTS = (
    r"\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff"
    r"\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff"
)
BLOOM = r" ?[^(\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
NUMBERS_FROM_THE_END = "numbers from the end"

# Expressions by one name of each family.
EXPRESSIONS = {
    "gpt-2": [GPT2],
    "llama-bpe": [LLAMA3],
    "qwen2": [QWEN2],
    "bailingmoe": [words(r"\p{L}+", r"\p{N}", SIGNS + r"[\r\n]*", r"\s*[\r\n]|\s+(?!\S)|\s+")],
    "starcoder": [r"\p{N}", GPT2],
    "default": [r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    "falcon": [r"[\p{P}$+<=>^~|`]+", GPT2, r"[0-9][0-9][0-9]"],
    "deepseek-v3": [r"\p{N}{1,3}", CJK, rf"{PUNCTUATED}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{REST}"],
    "spark2_5": [r"\p{N}{1,3}", CJK, rf"{PUNCTUATED}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+", r"\p{N}"],
    "deepseek-llm": [
        r"[\r\n]",
        rf"\s?[{DEEPSEEK_LLM_LETTERS}]+",
        r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+$",
        r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
        r"\p{N}+",
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}"],
    "gpt-4o": [cased(r"\p{L}", f"(?:{CONTRACTION})?", r"\p{N}{1,3}")],
    "tekken": [cased(r"\p{L}", "", r"\p{N}")],
    "granite-embed-multi-97m": [cased(r"[\p{L}\p{M}]", f"(?:{CONTRACTION})?", r"\p{N}{1,3}")],
    "tiny_aya": [NUMBERS_FROM_THE_END, uncased(r"\p{N}{1,3}")],
    "youtu": [
        r"[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
        rf"|[\u3105-\u312f]+|{CJK}",
        uncased(r"\p{N}"),
    ],
    "qwen35": [words(r"[\p{L}\p{M}]+", r"\p{N}", r"[^\s\p{L}\p{M}\p{N}]+[\r\n]*")],
    "kimi-k2": [
        rf"(?V1)[{HAN}{HAN_UNASSIGNED}]+|"
        + words(rf"[\p{{L}}--[{HAN}]]+(?:{CONTRACTION})?", r"\p{N}{1,3}", SIGNS + r"[\r\n]*", before="")
    ],
    "k2-horizon": [words(rf"[\p{{L}}\p{{M}}{JOINERS}]+", r"\p{N}{1,3}", SIGNS + r"[\r\n]*", before=rf"{CONTRACTION}|'\u017f|")],
    "minicpm5": [r"\p{N}{1,3}", words(r"\p{L}+", r"\p{N}+", SIGNS + r"[\r\n]*")],
    "seed-coder": [words(r"\p{L}+", r"\p{N}", r"[^\s\p{L}\p{N}\r\n]+")],
    "ufakzeka": [words(r"\p{L}+", r"\p{N}", SIGNS + r"[\r\n]*", before="")],
    "laguna": [r"[^\n]+|[\n]+", QWEN2],
    "exaone-moe": [
        words(r"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+", r"\p{N}", SIGNS + r"[\r\n/]?", r"\s*[\r\n]|\s+(?!\S)|\s+"),
    ],
    "jais-2": [
        words(
            r"\p{L}+",
            r"\p{N}{1,3}",
            SIGNS + r"[\r\n]*",
            r"\s*[\r\n]+|" + "|".join(rf"\s{{{n}}}(?!\S)" for n in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2")) + r"|\s",
        )
    ],
    "afmoe": [NUMBERS_FROM_THE_END, f"[{AFMOE_SCRIPTS}]+", rf"{PUNCTUATED}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{REST}"],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
    "bloom": [BLOOM],
    "viking": [BLOOM, r"\p{N}"],
    "chameleon": [
        r"<sentinel:[0-9]+>",
        r"IMGIMG[A-I]{1,4}Z",
        r"[\t\n]|    |  ",
        r"\p{N}",
        r"[\p{P}!-/:-@\[-`{-~]",
        GPT2,
    ],
}

# Others that mean the same, with flags of their own or without.
ALIASES = {
    "llama-bpe": "llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano glm4 glm5 dbrx smaug-bpe chatglm-bpe",
    "qwen2": "deepseek-r1-qwen megrez kormo f2llmv2 stablelm2 hunyuan solar-open grok-2",
    "bailingmoe": "bailingmoe2 llada-moe",
    "gpt-2": "phi-2 mpt olmo jais trillion granite-docling gigachat exaone4 mellum a.x-4.0 modern-bert roberta-bpe "
    "jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code",
    "starcoder": "refact command-r smollm codeshell exaone minerva-7b mellum2",
    "deepseek-v3": "hunyuan-dense joyai-llm hy_v4",
    "gpt-4o": "llama4 kanana2 talkie minimax-m2",
    "tiny_aya": "cohere2moe",
    "bloom": "poro-chat gpt3-finnish",
}


def matches(expression: str, text: str, name: str):
    """Pairs of begin and end in `text`, in order."""
    if expression == NUMBERS_FROM_THE_END:
        # What stands before a number goes with its first group.
        end = 0
        for number in regex.finditer(r"\p{N}+", "".join(stand_in(c, False) for c in text)):
            for first in range(number.start() + ((number.end() - number.start()) % 3 or 3), number.end() + 1, 3):
                yield end, first
                end = first
        return
    if r"\p{" in expression:
        text = "".join(stand_in(c, name in ("kimi-k2", "k2-horizon")) if c != "\u017f" or name != "k2-horizon" else c for c in text)
    else:
        text = "".join(WHITE if ord(c) > 127 and is_white(c) else c for c in text)
    flags = regex.ASCII if r"\p{" not in expression else 0
    for match in regex.finditer(expression, text, flags=flags):
        yield match.span()


def split(name: str, text: str) -> list[str]:
    """The pieces of `text`."""
    pieces = [text]
    for expression in EXPRESSIONS[name]:
        cut = []
        for piece in pieces:
            end = 0
            for first, last in matches(expression, piece, name):
                cut += [piece[end:first], piece[first:last]]
                end = last
            cut.append(piece[end:])
        pieces = [piece for piece in cut if piece]
    return pieces
