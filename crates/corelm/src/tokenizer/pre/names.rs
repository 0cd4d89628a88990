//! The names that files give pre-tokenizers (`tokenizer.ggml.pre`), and what llama.cpp does for each.

use super::Family;
use super::deepseek::Deepseek::{Coder, Llm};
use super::punctuated::Newlines::{Apart, Together};
use super::ranges::{
    AFMOE_SCRIPTS, ALL_SIGNS, BLOOM_WORDS, BOPOMOFO, CJK_SIGNS, DEFAULT_SIGNS, HAN_AND_KANA, HANGUL, NUMBERS,
};
use super::stage::Stage::{
    Deepseek, Each, Gpt2, Grouped, GroupedTriples, Images, Indents, KimiK2, LedByBlank, Lines, Llama3,
    Numbers, NumbersByThrees, Punctuated, Qwen2, Runs, RunsOf, Sentinels, Threes, Triples, WhiteByPowers,
    Words,
};
use super::words::{
    EXAONE_MOE, GPT_4O, GRANITE_EMBED, K2_HORIZON, MINICPM5, QWEN35, SEED_CODER, TEKKEN, TINY_AYA, UFAKZEKA,
    YOUTU,
};

/// What most families are not.
const PLAIN: Family = Family { names: &[], stages: &[], ignores_merges: false, adds_bos: false };

/// All of them; no name stands in two.
#[rustfmt::skip]
pub static FAMILIES: &[Family] = &[
    Family {
        names: &[
            "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
        ],
        stages: &[Llama3],
        ignores_merges: true,
        adds_bos: true,
    },
    Family {
        names: &["glm4", "glm5"],
        stages: &[Llama3],
        ignores_merges: true,
        ..PLAIN
    },
    Family {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        stages: &[Llama3],
        ..PLAIN
    },
    Family {
        names: &[
            "qwen2", "deepseek-r1-qwen", "megrez", "kormo", "f2llmv2", "stablelm2", "hunyuan", "solar-open", "grok-2",
            "bailingmoe", "bailingmoe2", "llada-moe",
        ],
        stages: &[Qwen2],
        ..PLAIN
    },
    Family {
        names: &[
            "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat", "exaone4", "mellum",
            "a.x-4.0", "modern-bert", "roberta-bpe", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de",
            "jina-v2-code",
        ],
        stages: &[Gpt2],
        ..PLAIN
    },
    Family {
        names: &[
            "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2",
        ],
        stages: &[Each(&NUMBERS), Gpt2],
        ..PLAIN
    },
    Family {
        names: &["default"],
        stages: &[Runs(&DEFAULT_SIGNS), Gpt2, Runs(&NUMBERS), Triples],
        ..PLAIN
    },
    Family {
        names: &["falcon"],
        stages: &[Runs(&ALL_SIGNS), Gpt2, Triples],
        ..PLAIN
    },
    Family {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        stages: &[Threes(&NUMBERS), Runs(&HAN_AND_KANA), Punctuated(Together)],
        ..PLAIN
    },
    Family {
        names: &["spark2_5"],
        stages: &[Threes(&NUMBERS), Runs(&HAN_AND_KANA), Punctuated(Apart), Each(&NUMBERS)],
        ..PLAIN
    },
    Family {
        names: &["deepseek-llm"],
        stages: &[Deepseek(Llm)],
        ..PLAIN
    },
    Family {
        names: &["deepseek-coder"],
        stages: &[Deepseek(Coder)],
        ..PLAIN
    },
    Family {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        stages: &[Words(&GPT_4O)],
        ..PLAIN
    },
    Family {
        names: &["tekken"],
        stages: &[Words(&TEKKEN)],
        ignores_merges: true,
        adds_bos: true,
    },
    Family {
        names: &["granite-embed-multi-97m"],
        stages: &[Words(&GRANITE_EMBED)],
        ignores_merges: true,
        ..PLAIN
    },
    Family {
        names: &["tiny_aya", "cohere2moe"],
        stages: &[Numbers, NumbersByThrees, Words(&TINY_AYA)],
        ..PLAIN
    },
    Family {
        names: &["youtu"],
        stages: &[RunsOf(&[&HANGUL, &CJK_SIGNS, &BOPOMOFO, &HAN_AND_KANA]), Words(&YOUTU)],
        ignores_merges: true,
        ..PLAIN
    },
    Family {
        names: &["qwen35"],
        stages: &[Words(&QWEN35)],
        ..PLAIN
    },
    Family {
        names: &["kimi-k2"],
        stages: &[KimiK2],
        ..PLAIN
    },
    Family {
        names: &["k2-horizon"],
        stages: &[Words(&K2_HORIZON)],
        ..PLAIN
    },
    Family {
        names: &["minicpm5"],
        stages: &[Threes(&NUMBERS), Words(&MINICPM5)],
        ignores_merges: true,
        ..PLAIN
    },
    Family {
        names: &["seed-coder"],
        stages: &[Words(&SEED_CODER)],
        ..PLAIN
    },
    Family {
        names: &["ufakzeka"],
        stages: &[Words(&UFAKZEKA)],
        ..PLAIN
    },
    Family {
        names: &["laguna"],
        stages: &[Lines, Qwen2],
        ..PLAIN
    },
    Family {
        names: &["exaone-moe"],
        stages: &[Words(&EXAONE_MOE)],
        ..PLAIN
    },
    Family {
        names: &["jais-2"],
        stages: &[Llama3, WhiteByPowers],
        ..PLAIN
    },
    Family {
        names: &["afmoe"],
        stages: &[Numbers, NumbersByThrees, Runs(&AFMOE_SCRIPTS), Punctuated(Together)],
        ..PLAIN
    },
    Family {
        names: &["superbpe"],
        stages: &[Runs(&NUMBERS), Grouped, GroupedTriples],
        ..PLAIN
    },
    Family {
        names: &["bloom", "poro-chat", "gpt3-finnish"],
        stages: &[LedByBlank(&BLOOM_WORDS)],
        ..PLAIN
    },
    Family {
        names: &["viking"],
        stages: &[LedByBlank(&BLOOM_WORDS), Each(&NUMBERS)],
        ..PLAIN
    },
    Family {
        names: &["chameleon"],
        stages: &[Sentinels, Images, Indents, Each(&NUMBERS), Each(&ALL_SIGNS), Gpt2],
        adds_bos: true,
        ..PLAIN
    },
];
