//! `corelm verify` and `--sha256`: a file is compared with its digest before anything else in it is read.

#[path = "command/common.rs"]
mod common;

use common::{assert_refused, status_and_output};

/// Of `abc`, from FIPS 180-4's examples.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// Of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn the_digest_of_any_file_is_compared() {
    let folder = common::folder("digests");
    for (name, bytes, digest) in [("abc", &b"abc"[..], ABC), ("empty", b"", EMPTY)] {
        let file = folder.join(name);
        std::fs::write(&file, bytes).unwrap();
        let path = file.to_str().unwrap();
        for hex in [digest, &digest.to_uppercase()] {
            assert_eq!(
                status_and_output(&["verify", "-m", path, hex]),
                (Some(0), format!("{digest}  {path}\n"))
            );
        }
        let other = digest.replacen(&digest[..1], "0", 1);
        assert_refused(&["verify", "-m", path, &other], 1, digest);
        assert_refused(&["verify", "-m", path, &digest[1..]], 2, "64 hexadecimal digits");
        assert_refused(&["verify", "-m", path], 2, "HEX");
    }
    assert_refused(&["verify", "-m", folder.to_str().unwrap(), ABC], 1, "not a file");
}

#[test]
fn a_model_with_another_digest_is_not_read() {
    let folder = common::folder("digest-of-model");
    let abc = folder.join("abc");
    std::fs::write(&abc, b"abc").unwrap();
    let abc = abc.to_str().unwrap();
    // What is wrong with the file is only told of the right one.
    for (command, rest) in
        [("generate", &["-p", "x"][..]), ("chat", &["-p", "x"]), ("logits", &["--ids", "1"])]
    {
        let words = |digest| [&[command, "-m", abc, "--sha256", digest], rest].concat();
        assert_refused(&words(EMPTY), 1, ABC);
        assert_refused(&words(ABC), 1, "24");
    }
    let model = folder.join("model.gguf");
    let model = model.to_str().unwrap();
    assert_eq!(status_and_output(&["synth", "--preset", "tiny", "-o", model]).0, Some(0));
    let refused = common::corelm(&["verify", "-m", model, ABC]);
    let error = String::from_utf8(refused.stderr).unwrap();
    let digest = error.trim_end().rsplit(' ').next().unwrap();
    let words = ["logits", "-m", model, "--ids", "1", "--sha256", digest];
    assert_eq!(status_and_output(&words).0, Some(0));
}
