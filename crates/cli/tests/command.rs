//! The command as its users meet it: exit status, output, errors.

#[path = "command/common.rs"]
mod common;

use common::{assert_refused, corelm, corelm_with_input, golden, shared, status_and_output};
use serde_json::Value;
use std::path::Path;

#[test]
fn usage_errors_have_status_2() {
    assert_refused(&["generate", "--frobnicate"], 2, "--frobnicate");
    assert_refused(&["frobnicate"], 2, "frobnicate");
    assert_refused(&["generate", "-p", "x"], 2, "--model");
    assert_refused(&["generate", "-m", "x", "-t", "0"], 2, "0");
    assert_refused(&["generate", "-m", "x", "--kv", "q9"], 2, "q9");
    assert_refused(&["logits", "-m", "x", "--ids", "1,x"], 2, "x");
    assert_refused(&["generate", "-m", "x", "--backend", "abacus"], 2, "abacus");
    let foreign = if cfg!(target_arch = "x86_64") { "neon" } else { "amx" };
    assert_refused(&["generate", "-m", "x", "--backend", foreign], 2, "this architecture has none");
}

#[test]
fn help_and_version_succeed() {
    for words in [&["--help"][..], &["generate", "--help"], &["--version"]] {
        let (status, stdout) = status_and_output(words);
        assert_eq!(status, Some(0), "{words:?}");
        assert!(stdout.contains("corelm"), "{words:?}");
    }
}

#[test]
fn missing_and_empty_files_are_named() {
    let folder = common::folder("missing");
    let empty = folder.join("empty.gguf");
    std::fs::write(&empty, b"").unwrap();
    for command in ["generate", "info", "tokenize", "detokenize", "bench"] {
        let file = folder.join("nothing.gguf");
        assert_refused(&[command, "-m", file.to_str().unwrap()], 1, "nothing.gguf");
        assert_refused(&[command, "-m", empty.to_str().unwrap()], 1, "empty.gguf");
        assert_refused(&[command, "-m", folder.to_str().unwrap()], 1, "not a file");
    }
}

#[test]
fn hostile_files_are_refused_in_one_line() {
    let Some(shared) = shared("bad-gguf") else { return };
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(shared.join("manifest.json")).unwrap()).unwrap();
    let cases = manifest.as_array().expect("a list of cases");
    let mut n_rejected = 0;
    for case in cases {
        let name = case["id"].as_str().expect("a name");
        let file = shared.join("cases").join(name).with_extension("gguf");
        let path = file.to_str().unwrap();
        let words = ["logits", "-m", path, "--ids", "1,2,3", "-c", "16"];
        let output = corelm(&words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let status = output.status.code();
        match case["expect"].as_str().expect("what is expected") {
            "reject" => {
                n_rejected += 1;
                assert_eq!(status, Some(1), "{name}: {stderr}");
            }
            "accept" => assert_eq!(status, Some(0), "{name}: {stderr}"),
            _ => assert!(matches!(status, Some(0 | 1)), "{name}: {status:?} {stderr}"),
        }
        assert!(status == Some(0) || stderr.lines().count() == 1, "{name}: {stderr}");
    }
    assert!(n_rejected > 50, "only {n_rejected} files to reject");
}

#[test]
fn prompts_beyond_the_context_are_refused() {
    let Some(model) = shared("models/stories260K-q8_0.gguf") else { return };
    let model = model.to_str().unwrap();
    assert_refused(&["generate", "-m", model, "-p", "once upon a time there was", "-c", "4"], 1, "4");
    assert_refused(&["logits", "-m", model, "--ids", "1,99999"], 1, "99999");
    assert_refused(&["logits", "-m", model, "--ids", "1,2,3,4,5", "-c", "4"], 1, "4");
    assert_refused(&["generate", "-m", model, "-p", "a", "-c", "100000000000000"], 1, "");
    assert_refused(&["detokenize", "-m", model, "99999"], 1, "99999");
}

#[test]
fn greedy_ids_equal_the_reference() {
    for (model, threads) in
        [("stories260K-f32", "1"), ("gpt2-tiny-random-f32", "2"), ("qwen2-tiny-random-f32", "2")]
    {
        let Some((file, cases)) = golden(model) else { return };
        for case in cases.iter().filter(|case| case["kv"] == "f32") {
            let n = case["ids"].as_array().unwrap().len().to_string();
            let words = [
                "generate",
                "-m",
                &file,
                "-p",
                case["prompt"].as_str().unwrap(),
                "-n",
                &n,
                "--temp",
                "0",
                "-t",
                threads,
                "--ignore-eos",
                "--kv",
                case["kv"].as_str().unwrap(),
                "--json",
            ];
            let (status, stdout) = status_and_output(&words);
            assert_eq!(status, Some(0), "{words:?}");
            let steps: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let ids: Vec<&Value> = steps.iter().map(|step| &step["id"]).collect();
            assert_eq!(ids, case["ids"].as_array().unwrap().iter().collect::<Vec<_>>(), "{words:?}");
            for (step, want) in steps.iter().zip(case["steps"].as_array().unwrap()) {
                common::assert_close(step, want, 2e-3);
            }
        }
    }
}

#[test]
fn fed_ids_give_the_reference_logits() {
    for model in ["stories260K-q4_0", "stories260K-q8_0", "llama-tiny-random-q4_0"] {
        let Some((file, cases)) = golden(model) else { return };
        for case in cases.iter().filter(|case| case["kv"] == "f32") {
            let prompt = case["prompt_ids"].as_array().unwrap();
            let ids: Vec<String> =
                prompt.iter().chain(case["ids"].as_array().unwrap()).map(Value::to_string).collect();
            let (status, stdout) = status_and_output(&[
                "logits",
                "-m",
                &file,
                "--ids",
                &ids.join(","),
                "--kv",
                case["kv"].as_str().unwrap(),
                "--json",
            ]);
            assert_eq!(status, Some(0), "{model}");
            let positions: Vec<Value> =
                stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(positions.len(), ids.len());
            let steps = case["steps"].as_array().unwrap();
            for (position, want) in positions[prompt.len() - 1..].iter().zip(steps) {
                common::assert_close(position, want, 0.03 * want["rms"].as_f64().unwrap());
            }
        }
    }
}

#[test]
fn text_survives_the_way_through_ids() {
    let Some(model) = shared("models/stories260K-q8_0.gguf") else { return };
    let model = model.to_str().unwrap();
    let text = "Once upon a time, é 漢字 \u{1f600}!";
    let (status, ids) = status_and_output(&["tokenize", "-m", model, "--json", text]);
    assert_eq!(status, Some(0));
    let output = common::corelm_with_input(&["detokenize", "-m", model], ids.as_bytes());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let output =
        common::corelm_with_input(&["tokenize", "-m", model, "--hex-lines"], format!("{hex}\n\n").as_bytes());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{ids}[]\n"));
}

#[test]
fn a_bad_line_does_not_end_the_others() {
    let Some(model) = shared("tokenizers/ggml-vocab-gpt-2.gguf") else { return };
    let command = ["tokenize", "-m", model.to_str().unwrap(), "--hex-lines"];
    let output = corelm_with_input(&command, b"61\n6\n\xff\n61");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "[64]\nnull\nnull\n[64]\n");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("corelm: error: line 2: ") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn a_pre_tokenizer_can_be_given_by_name() {
    let Some(model) = shared("tokenizers/ggml-vocab-gpt-2.gguf") else { return };
    let model = model.to_str().unwrap();
    let n_ids = |pre: &[&str]| {
        let command = [&["tokenize", "-m", model, "--ids"], pre, &["1234"]].concat();
        let (status, ids) = status_and_output(&command);
        assert_eq!(status, Some(0));
        ids.split_whitespace().count()
    };
    assert_eq!([n_ids(&[]), n_ids(&["--pre", "gpt-2"]), n_ids(&["--pre", "qwen2"])], [2, 2, 4]);
    for command in ["tokenize", "detokenize", "generate"] {
        assert_refused(&[command, "-m", model, "--pre", "gpt2"], 2, "llama-bpe");
    }
}

#[test]
fn a_vocabulary_without_a_pre_tokenizer_gets_the_default_and_says_so() {
    let Some(model) = shared("tokenizers/ggml-vocab-gpt-2.gguf") else { return };
    let mut file = std::fs::read(model).unwrap();
    let key = b"tokenizer.ggml.pre";
    let at = file.windows(key.len()).position(|bytes| bytes == key).unwrap();
    file[at + key.len() - 1] = b'x';
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nameless.gguf");
    std::fs::write(&model, file).unwrap();
    let tokenize = |more: &[&str]| {
        let output =
            corelm(&[&["tokenize", "-m", model.to_str().unwrap(), "--ids", "in 2018"], more].concat());
        assert_eq!(output.status.code(), Some(0));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (ids, said) = tokenize(&[]);
    assert!(said.contains("names no pre-tokenizer: taking 'default'"), "{said}");
    assert_eq!(tokenize(&["--pre", "default"]), (ids.clone(), String::new()));
    assert_ne!(tokenize(&["--pre", "gpt-2"]).0, ids);
}

#[test]
fn tokens_have_spans_and_texts_are_cut_between_them() {
    let Some(model) = shared("tokenizers/ggml-vocab-gpt-2.gguf") else { return };
    let model = model.to_str().unwrap();
    let tokenize = |more: &[&str]| corelm(&[&["tokenize", "-m", model], more].concat());
    let output = |more: &[&str]| String::from_utf8(tokenize(more).stdout).unwrap();
    let line = |id, span, piece| format!("{id:>7} {span:>15} {piece:?}\n");
    let lines = line(31373, "0..5", "hello") + &line(995, "5..11", " world");
    assert_eq!(output(&["--spans", "hello world"]), lines);
    assert_eq!(
        output(&["--spans", "--json", "--bos", "hello world"]),
        "[[50256,0,0],[31373,0,5],[995,5,11]]\n"
    );
    let cut = tokenize(&["--max-tokens", "2", "--eos", "--json", "--spans", "hello world"]);
    assert_eq!(String::from_utf8(cut.stdout).unwrap(), "[[31373,0,5],[50256,11,11]]\n");
    assert_eq!(String::from_utf8(cut.stderr).unwrap(), "corelm: cut to 1 of 2 tokens, 5 of 11 bytes\n");
    assert_eq!(cut.status.code(), Some(0));
    assert_eq!(output(&["--max-tokens", "2", "--ids", "hello world"]), "31373 995\n");
    let refused = ["tokenize", "-m", model, "--max-tokens", "1", "--bos", "--eos", "x"];
    assert_refused(&refused, 2, "has no room for BOS and EOS");
    let input = b"68656c6c6f20776f726c64\n\n";
    let lines = corelm_with_input(&["tokenize", "-m", model, "--hex-lines", "--spans"], input);
    assert_eq!(String::from_utf8(lines.stdout).unwrap(), "[[31373,0,5],[995,5,11]]\n[]\n");
}

#[test]
fn a_stream_has_the_ids_of_the_text() {
    let Some(model) = shared("tokenizers/ggml-vocab-gpt-2.gguf") else { return };
    let words = ["tokenize", "-m", model.to_str().unwrap(), "--ids", "--bos", "--eos"];
    let text = ["The kernel's log; ".repeat(20_000), "a".repeat(300_000), "字 <|endoftext|>".into()].concat();
    let ids = |more: &[&str]| {
        let output = corelm_with_input(&[&words[..], more].concat(), text.as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let ids: Vec<u32> = String::from_utf8(output.stdout)
            .unwrap()
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect();
        ids
    };
    assert_eq!(ids(&["--stream"]), ids(&[]));
    assert_eq!(ids(&["--stream", "--special"]), ids(&["--special"]));
}

#[test]
fn info_describes_the_model() {
    let Some(model) = shared("models/stories260K-q4_0.gguf") else { return };
    let (status, stdout) = status_and_output(&["info", "-m", model.to_str().unwrap(), "--tensors"]);
    assert_eq!(status, Some(0));
    for part in
        ["layers             5", "width              64", "vocabulary         512", "blk.4.ffn_up.weight"]
    {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let Some(model) = shared("models/stories260K-q8_0.gguf") else { return };
    let script = "\"$0\" info -m \"$1\" --tensors | true";
    let output = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_corelm")])
        .arg(model)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn synthetic_models_run_and_can_be_quantized() {
    let folder = common::folder("synth");
    for (arch, tokenizer) in [("llama", "spm"), ("llama", "bpe"), ("qwen2", "bpe"), ("gpt2", "bpe")] {
        let file = |quant: &str| {
            folder.join(format!("{arch}-{tokenizer}-{quant}.gguf")).to_str().unwrap().to_owned()
        };
        let f32 = file("f32");
        let words = [
            "synth",
            "--preset",
            "tiny",
            "--arch",
            arch,
            "--tokenizer",
            tokenizer,
            "--quant",
            "f32",
            "-o",
            &f32,
        ];
        assert_eq!(status_and_output(&words).0, Some(0), "{words:?}");
        for quant in ["q4_0", "q8_0", "f16"] {
            let small = file(quant);
            assert_eq!(status_and_output(&["quantize", &f32, &small, quant]).0, Some(0), "{arch} {quant}");
            let words = ["generate", "-m", &small, "-p", "the kernel", "-n", "8", "--temp", "0", "--json"];
            let (status, one) = status_and_output(&words);
            assert_eq!((status, one.lines().count()), (Some(0), 8), "{arch} {quant}");
            let threaded = [&words[..], &["-t", "3"]].concat();
            assert_eq!(one, status_and_output(&threaded).1, "{arch} {quant}: threads change the result");
            let in_place = [&words[..], &["--no-repack"]].concat();
            assert_eq!(one, status_and_output(&in_place).1, "{arch} {quant}: packing changes the result");
            let packed = file(&format!("{quant}-packed"));
            assert_eq!(status_and_output(&["pack", &small, &packed]).0, Some(0), "{arch} {quant}");
            assert_refused(&["pack", &packed, &file("again")], 1, "nothing to pack");
            let words = words.map(|word| if word == small { &packed } else { word });
            assert_eq!(one, status_and_output(&words).1, "{arch} {quant}: a packed file changes the result");
        }
        assert_refused(&["quantize", &file("q4_0"), &file("again"), "q8_0"], 1, "q4_0");
    }
    let model = folder.join("llama-spm-q4_0.gguf");
    let words = ["bench", "-m", model.to_str().unwrap(), "-p", "8", "-n", "4", "-t", "1,2", "-r", "1"];
    let (status, json) = status_and_output(&[&words[..], &["-o", "json"]].concat());
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, rows.as_array().unwrap().len()), (Some(0), 4));
    assert!(status_and_output(&[&words[..], &["-o", "csv"]].concat()).1.starts_with("model,size,params"));
    assert!(status_and_output(&words).1.contains("pp8"));
    let (status, deep) = status_and_output(&[&words[..], &["-d", "0,16"]].concat());
    assert_eq!(status, Some(0));
    for test in [" pp8 |", " tg4 |", " pp8 @ d16 |", " tg4 @ d16 |"] {
        assert_eq!(deep.matches(test).count(), 2, "{test}");
    }
    let words_paced = ["bench", "-m", model.to_str().unwrap(), "-p", "8", "-n", "0", "-r", "2", "--paced"];
    let paced = common::corelm_with_input(&words_paced, b"\n\n");
    let lines = String::from_utf8(paced.stdout).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!((paced.status.code(), lines[0]), (Some(0), "ready"));
    assert!(lines[1..3].iter().all(|rate| rate.parse::<f64>().unwrap() > 0.0), "{lines:?}");
    assert_eq!(common::corelm_with_input(&words_paced, b"\n").status.code(), Some(1), "one line is missing");
    assert_refused(&[&words[..], &["-d", "4000"]].concat(), 1, "context");
    assert_refused(&[&words[..], &["-d", "18446744073709551615"]].concat(), 1, "context");
}

#[test]
fn shapes_that_cannot_be_are_usage_errors() {
    let folder = common::folder("synth-refused");
    let file = folder.join("model.gguf");
    let file = file.to_str().unwrap();
    for (words, part) in [
        (["--heads", "5"], "heads"),
        (["--dim", "108"], "multiples"),
        (["--vocab", "3"], "vocabulary"),
        (["--arch", "mamba"], "mamba"),
        (["--quant", "q2_k"], "q2_k"),
        (["--tokenizer", "words"], "words"),
        (["--preset", "huge"], "huge"),
    ] {
        assert_refused(&[&["synth", "-o", file][..], &words[..]].concat(), 2, part);
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "a refused model left a file behind");
    assert_refused(&["synth", "--preset", "tiny", "-o", "/nowhere/model.gguf"], 1, "/nowhere/model.gguf");
}

/// What is written never takes the place of what was read, of a device or of another's half-written file.
#[test]
fn outputs_replace_no_input_and_nothing_but_files() {
    let folder = common::folder("outputs");
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (model, socket, link, other) = (file("model.gguf"), file("socket"), file("link"), file("other"));
    for old in [&model, &socket, &link, &other, &format!("{other}.part")] {
        let _ = std::fs::remove_file(old);
    }
    assert_eq!(status_and_output(&["synth", "--preset", "tiny", "-o", &model]).0, Some(0));
    let bytes = std::fs::read(&model).unwrap();

    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_refused(&["pack", &model, &socket], 1, "is no file");
    std::os::unix::fs::symlink(&model, &link).unwrap();
    assert_refused(&["pack", &model, &model], 1, "is what is read");
    assert_refused(&["pack", &model, &link], 1, "is what is read");
    std::fs::write(format!("{other}.part"), "another's").unwrap();
    assert_refused(&["pack", &model, &other], 1, "exists");
    assert_eq!(std::fs::read(format!("{other}.part")).unwrap(), b"another's");
    assert_eq!(std::fs::read(&model).unwrap(), bytes);

    // Through a link the file behind it is replaced.
    std::fs::remove_file(&link).unwrap();
    std::fs::write(&other, "old").unwrap();
    std::fs::remove_file(format!("{other}.part")).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    assert_eq!(status_and_output(&["pack", &model, &link]).0, Some(0));
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(std::fs::read(&other).unwrap().starts_with(b"GGUF"));
}

#[test]
fn more_threads_than_systems_have_are_refused() {
    assert_refused(&["bench", "-m", "none.gguf", "-t", "1,100000"], 2, "at most 1024");
}
