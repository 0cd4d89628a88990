#!/usr/bin/env python3
"""Writes crates/corelm/tests/chat.json: what llama.cpp makes of our conversations.

    pip install xllamacpp==2026.10.11549
    python3 tools/chat-golden/generate.py VOCABULARIES

VOCABULARIES is the folder with the ggml-vocab-*.gguf files of llama.cpp. The package is a build of llama.cpp
whose library exports what is called here: its templates by name, its recognition of a template's source, its
tokenizer.
"""

import ctypes
import json
import pathlib
import struct
import sys
from collections.abc import Iterator

import xllamacpp

LIBRARY = ctypes.CDLL(str(pathlib.Path(xllamacpp.__file__).parent / "xllamacpp.abi3.so"))
OUTPUT = pathlib.Path(__file__).parents[2] / "crates/corelm/tests/chat.json"

# Contents with white space around them, so that it shows which are trimmed.
CONVERSATIONS = {
    "question": [("user", " why? ")],
    "talk": [("system", " brief\t"), ("user", "hi "), ("assistant", "\n yes \n"), ("user", "\x0bmore\x0c")],
    "repeated": [("user", "u1"), ("assistant", " a1 "), ("assistant", "a2"), ("user", "u2"), ("user", "u3")],
    "answered": [("user", "u1"), ("assistant", "a1")],
    "systems": [("system", "s1 "), ("system", " s2"), ("user", "u1"), ("system", "s3"), ("user", "u2")],
    "silent": [("system", ""), ("user", ""), ("assistant", " "), ("user", "?")],
    "tool": [("user", "u1"), ("tool", " t1 "), ("user", "u2")],
    "function": [("user", "u1"), ("function", " f1 ")],
    "developer": [("developer", " d1 "), ("user", "u1")],
    "call": [("user", "u1"), ("assistant_tool_call", " c1 "), ("tool_response", " r1 "), ("user", "u2")],
    "response": [("user", "u1"), ("tool_response", " r1 ")],
}

# Vocabularies, and the templates whose prompts are tokenized with them.
TOKENIZED = {
    "llama-bpe": ["llama3", "deepseek"],
    "qwen2": ["chatml", "openchat"],
    "llama-spm": ["llama2-sys", "llama2-sys-bos", "llama2-sys-strip", "mistral-v1", "monarch", "vicuna"],
    "phi-3": ["phi3", "zephyr", "gemma"],
    "gpt-2": ["zephyr", "chatml"],
}
WORDS = [
    ("system", "You explain kernels, briefly."),
    ("user", "  What's a page fault?\n"),
    ("assistant", "\n\n It's 3 things: é, 字 and 😀.\n"),
    ("user", "Why 4096 bytes?  "),
    ("assistant", ""),
    ("user", "\n"),
]

# No template of anyone's: the shortest text for each way through the recognition, and near misses.
SOURCES = [
    "",
    "{{ messages }}",
    "chatml",
    "gpt-oss",
    "<|im_start|>",
    "<|im_start|><|im_sep|>",
    "<|im_start|><|im_sep|><end_of_utterance>",
    "<|im_start|><end_of_utterance>",
    "<|im_start|>[INST]",
    "[INST]",
    "[INST]<<SYS>>",
    "[INST]<<SYS>>{{ content.strip() }}",
    "[INST]{{ content.strip() }}{{ bos_token + '[INST] ' }}",
    "{{ bos_token + '[INST] ' }}<<SYS>>",
    "[INST][SYSTEM_PROMPT]",
    "[SYSTEM_PROMPT]",
    "{{ ' [INST] ' + system_message }}",
    "[AVAILABLE_TOOLS]",
    "[INST][AVAILABLE_TOOLS]",
    " [INST][AVAILABLE_TOOLS]",
    '"[INST]"[AVAILABLE_TOOLS]',
    ' [INST]"[INST]"[AVAILABLE_TOOLS]',
    "<|assistant|><|end|>",
    "<|assistant|><|end|><|user|>[gMASK]<sop>",
    "<|assistant|><|user|>[gMASK]<sop>",
    "<|assistant|><|user|>",
    "<|assistant|><|user|></s>",
    "<|assistant|><|user|></s><|tool_declare|>",
    "<|assistant|>",
    "<|user|>",
    "<|user|><|endoftext|>",
    "<|{{ item['role'] }}|><|begin_of_image|>",
    "<|begin_of_image|>",
    "{{ bos_token + message['role'] }}",
    "<start_of_turn>",
    "{{ '\\n\\nAssistant: ' + eos_token }}",
    "GPT4 Correct User",
    "USER: ASSISTANT: ",
    "USER: ASSISTANT:",
    "SYSTEM: USER: ASSISTANT: ",
    "### Instruction:",
    "### Instruction:<|EOT|>",
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|start_header_id|><|end_header_id|>",
    "<|end_header_id|>",
    "[gMASK]sop",
    "<用户>",
    "{{ 'Assistant: ' + message['content'] + eos_token }}",
    "<｜Assistant｜><｜User｜><｜end▁of▁sentence｜>",
    "<｜Assistant｜><｜User｜>",
    "[|system|][|assistant|][|endofturn|]",
    "[|system|][|assistant|][|endofturn|][|tool|]",
    "[|assistant|][|endofturn|][|tool|]",
    "rwkv-world",
    "a template for rwkv-world models",
    "{{- 'User: ' + message['content']|trim + '\\n\\n' -}}",
    "<|start_of_role|>",
    "<|start_of_role|><tools>",
    "<|start_of_role|><tool_call>",
    "<|start_of_role|><tools>g4_default_system_message",
    "<|start_of_role|>g4_default_system_message<tool_call>",
    "<|start_of_role|>g4_default_system_message",
    "{{message['role'] + additional_special_tokens[0] + message['content'] + additional_special_tokens[1]}}",
    "<|role_start|>",
    " Ассистент:",
    "<role>ASSISTANT</role>",
    "<role>ASSISTANT</role>{{ 'HUMAN' }}",
    '<role>ASSISTANT</role>{{ "HUMAN" }}',
    '<role>ASSISTANT</role>{{ "HUMAN" }}<think>',
    "<role>ASSISTANT</role><role>HUMAN</role>",
    "<role>ASSISTANT</role><role>HUMAN</role><|role_end|>",
    "<|header_start|><|header_end|>",
    "<|header_start|>",
    "<|endofuserprompt|>",
    "<|extra_0|>",
    "<|extra_0|><|extra_4|>",
    "<|start|>",
    "<|start|><|channel|>",
    "<｜hy_Assistant｜>",
    "<｜hy_Assistant｜><｜hy_begin▁of▁sentence｜>",
    "<｜hy_Assistant｜><｜hy_place▁holder▁no▁3｜>",
    "<｜hy_Assistant｜><｜hy_place▁holder▁no▁3｜><｜hy_begin▁of▁sentence｜>",
    "<|im_assistant|>assistant<|im_middle|>",
    "<seed:bos>",
    "{{ 'Assistant: '  + message['content'] + '<|separator|>' }}",
    "{{ 'Assistant: ' + message['content'] + '<|separator|>' }}",
    "[unused9]系统：[unused10]",
    "<|begin|><|end|><|content|>",
    "<|begin|><|end|>",
]

# A family that llama.cpp recognises and has no name for: a source and ours.
UNNAMED = {"dots1": "<|endofuserprompt|>"}


class Message(ctypes.Structure):
    """llama_chat_message."""

    _fields_ = [("role", ctypes.c_char_p), ("content", ctypes.c_char_p)]


class ModelParams(ctypes.Structure):
    """llama_model_params of this version: of its fields only `vocab_only` is set."""

    _fields_ = [("before", ctypes.c_ubyte * 72), ("vocab_only", ctypes.c_bool), ("rest", ctypes.c_ubyte * 7)]


def names() -> list[str]:
    slots = (ctypes.c_char_p * 256)()
    n = LIBRARY.llama_chat_builtin_templates(slots, ctypes.c_size_t(256))
    return [slot.decode() for slot in slots[:n]]


def apply(template: str, conversation: list[tuple[str, str]], wants_answer: bool) -> str:
    messages = (Message * len(conversation))(*[(role.encode(), text.encode()) for role, text in conversation])
    buffer = ctypes.create_string_buffer(1 << 16)
    n = LIBRARY.llama_chat_apply_template(
        template.encode(), messages, ctypes.c_size_t(len(conversation)), wants_answer, buffer, len(buffer)
    )
    assert 0 <= n < len(buffer), template
    return buffer.raw[:n].decode()


def in_two(template: str, conversation: list[tuple[str, str]]) -> list[str]:
    """The prompt, and what is added to it when an answer is wanted."""
    short, long = (apply(template, conversation, wants_answer) for wants_answer in (False, True))
    assert long.startswith(short), template
    return [short, long.removeprefix(short)]


def is_stranger(template: str, role: str) -> bool:
    """Whether a message of this role is written as one of a role that nobody has heard of, or not at all."""
    talks = [[("user", "u1"), (name, "m1"), ("user", "u2")] for name in (role, "stranger")]
    return apply(template, talks[0], False) == apply(template, talks[1], False)


def family_number(source: str) -> int:
    """Call the recognition, whose argument is a string object: a pointer to text behind its lengths."""
    text = source.encode()
    memory = bytearray(struct.pack("<QQQ", len(text), len(text), 1) + text + b"\0")
    view = (ctypes.c_char * len(memory)).from_buffer(memory)
    pointer = ctypes.c_void_p(ctypes.addressof(view) + 24)
    return LIBRARY._Z24llm_chat_detect_templateRKSs(ctypes.byref(pointer))


def load(path: pathlib.Path) -> ctypes.c_void_p:
    """Load a vocabulary."""
    LIBRARY.llama_model_default_params.restype = ModelParams
    LIBRARY.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParams]
    LIBRARY.llama_model_load_from_file.restype = ctypes.c_void_p
    LIBRARY.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    LIBRARY.llama_model_get_vocab.restype = ctypes.c_void_p
    params = LIBRARY.llama_model_default_params()
    params.vocab_only = True
    model = LIBRARY.llama_model_load_from_file(str(path).encode(), params)
    assert model, path
    return ctypes.c_void_p(LIBRARY.llama_model_get_vocab(model))


def tokenize(vocabulary: ctypes.c_void_p, text: str) -> list[int]:
    """Tokens of a prompt, with BOS where the model wants it and control tokens found in the text."""
    data, ids = text.encode(), (ctypes.c_int32 * 4096)()
    n = LIBRARY.llama_tokenize(vocabulary, data, len(data), ids, len(ids), True, True)
    assert n >= 0
    return list(ids[:n])


def lines(value: object, depth: int) -> Iterator[str]:
    """JSON with a line for each entry down to `depth`."""
    if depth == 0 or not isinstance(value, dict | list):
        yield json.dumps(value, ensure_ascii=False)
        return
    is_map = isinstance(value, dict)
    yield "{" if is_map else "["
    for at, entry in enumerate(value):
        yield ",\n" if at else "\n"
        yield json.dumps(entry, ensure_ascii=False) + ": " if is_map else ""
        yield from lines(value[entry] if is_map else entry, depth - 1)
    yield "\n}" if is_map else "\n]"


def main(vocabularies: pathlib.Path) -> None:
    """Write the file."""
    sources = {name: name for name in names()} | UNNAMED
    families = {family_number(source): name for name, source in sources.items()}
    assert len(families) == len(sources)
    golden = {
        "made_by": f"tools/chat-golden/generate.py with xllamacpp {xllamacpp.__version__}",
        "conversations": CONVERSATIONS,
        "templates": {
            name: {about: in_two(source, talk) for about, talk in CONVERSATIONS.items()}
            for name, source in sorted(sources.items())
        },
        "strangers": {
            role: [name for name, source in sorted(sources.items()) if is_stranger(source, role)]
            for role in ("tool", "tool_response", "function", "developer", "assistant_tool_call")
        },
        "words": WORDS,
        "tokens": [
            [name, template, tokenize(vocabulary, apply(template, WORDS, True))]
            for name, templates in TOKENIZED.items()
            for vocabulary in [load(vocabularies / f"ggml-vocab-{name}.gguf")]
            for template in templates
        ],
        "sources": [[source, families.get(family_number(source))] for source in SOURCES],
    }
    OUTPUT.write_text("".join(lines(golden, 2)) + "\n", encoding="utf-8")
    print(f"{OUTPUT}: {len(sources)} templates, {len(SOURCES)} sources")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
