"""Where llama.cpp is not asked, or is asked in other words, because it is meant to differ. Every rule has its reason, holds
for no other text than it says, and leaves no text unchecked."""

import re

from vocabulary import VocabularyFile

# What a UTF-8 decoder must refuse, and llama.cpp's reads.
LENIENT = re.compile(
    rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xed[\xa0-\xbf][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]{2}"
    rb"|\xf4[\x90-\xbf][\x80-\xbf]{2}|[\xf5-\xf7][\x80-\xbf]{3}"
)


def is_valid(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def by_definition(file: VocabularyFile, text: bytes) -> bool:
    """Whether the expected ids are those of a definition in `others`."""
    # byte-level BPE: llama.cpp puts U+FFFD in place of a byte that is no UTF-8, here no byte is lost.
    # SentencePiece: a character has there as many bytes as its first one announces, whatever they are: it swallows the
    # text behind a cut character.
    # RWKV: the text of a control token becomes that token there, though it was not asked to be.
    return (
        (file.model in ("gpt2", "llama") and not is_valid(text))
        or (file.model == "rwkv" and file.has_control(text) is not None)
    )


def is_error(file: VocabularyFile, text: bytes) -> bool:
    """Whether the text has a byte that the vocabulary has no token for: that is said here, and passed over there.

    DeepSeek Coder's and StarCoder's lack some that no text in UTF-8 has, or none but unassigned characters.
    """
    return file.has_no_token(text) is not None


def asked(file: VocabularyFile, text: bytes) -> bytes:
    """The text that llama.cpp is given for this one."""
    if file.model == "bert":
        # Overlong forms and surrogates are the characters they spell there, and code points above U+10FFFF stop the
        # program; here they are dropped like other bytes that are no UTF-8.
        return LENIENT.sub(lambda match: b"\xff" * len(match[0]), text)
    return text
