//! SHA-256 against the examples of its standard and another implementation, and files checked with it in slices.

use core::num::NonZeroUsize;

use corelm::gguf::writer::Writer;
use corelm::gguf::{Digest, Image, Sha256, Value, Verify, WrongDigest};
use corelm::ops::GgmlType;
use corelm::{Error, Progress};

fn sha256(message: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(message);
    hash.finish()
}

/// Message `n` has `n` bytes.
fn message(n: usize) -> Vec<u8> {
    (0..n).map(|i| ((i * 31 + n * 7) % 251) as u8).collect()
}

#[test]
fn the_examples_of_the_standard_come_out() {
    // NIST's examples for FIPS 180-4, with the empty message and the long one of its test programs.
    let two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    let four_words = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr\
                      lmnopqrsmnopqrstnopqrstu";
    let million = "a".repeat(1_000_000);
    for (message, digest) in [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (two_blocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
        (four_words, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"),
        (&*million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ] {
        assert_eq!(sha256(message.as_bytes()).to_string(), digest);
    }
}

#[test]
fn every_length_up_to_1000_comes_out_as_in_python() {
    let mut all = Sha256::new();
    (0..=1000).for_each(|n| all.update(sha256(&message(n)).bytes()));
    // all = hashlib.sha256()
    // for n in range(1001):
    //     all.update(hashlib.sha256(bytes((i * 31 + n * 7) % 251 for i in range(n))).digest())
    let digest = "eb46ce02da683b8db3e0461e5cfcdfc98edc461011122161d106b07620514fa6";
    assert_eq!(all.finish().to_string(), digest);
}

#[test]
fn pieces_give_what_the_whole_gives() {
    for n in [0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129, 200] {
        let message = message(n);
        let whole = sha256(&message);
        for first in 0..=n {
            for second in first..=n {
                let mut hash = Sha256::new();
                for piece in [&message[..first], &message[first..second], &message[second..]] {
                    hash.update(piece);
                }
                assert_eq!(hash.finish(), whole, "{n} bytes cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn slices_of_any_size_end_in_the_same_answer_as_often_as_asked() {
    for n in [0, 1, 63, 64, 65, 300] {
        let file = message(n);
        let wanted = sha256(&file);
        for budget in (1..=n + 1).filter_map(NonZeroUsize::new) {
            let mut verify = Verify::new(&file, wanted);
            for pass in 0..3 {
                let n_pending = (0..).take_while(|_| verify.poll(budget) == Ok(Progress::Pending)).count();
                assert_eq!(n_pending, n.div_ceil(budget.get()).max(1) - 1, "{n} by {budget}, pass {pass}");
            }
        }
    }
}

#[test]
fn a_wrong_file_is_told_with_its_own_digest_in_every_pass() {
    let (file, other) = (message(300), message(301));
    let wrong = WrongDigest { found: sha256(&file) };
    let mut verify = Verify::new(&file, sha256(&other));
    let mut is_told = || {
        assert_eq!(verify.poll(NonZeroUsize::new(299).unwrap()), Ok(Progress::Pending));
        verify.run()
    };
    assert_eq!((is_told(), is_told()), (Err(wrong), Err(wrong)));
    let error = Error::from(wrong);
    assert_eq!(error.code(), 20);
    assert!(error.to_string().ends_with(&sha256(&file).to_string()), "{error}");
}

/// A file with a part of every kind.
fn small_file() -> Vec<u8> {
    let mut file = vec![0; 1 << 12];
    let mut writer = Writer::new(&mut file[..], 3, 2).unwrap();
    writer.value("general.architecture", Value::String(b"llama")).unwrap();
    writer.value("llama.block_count", Value::U32(1)).unwrap();
    writer.value("llama.rope.freq_base", Value::F32(1e4)).unwrap();
    writer.tensor("token_embd.weight", &[32, 20], GgmlType::Q8_0).unwrap();
    writer.tensor("output_norm.weight", &[32], GgmlType::F32).unwrap();
    for n in [20 * 34, 32 * 4] {
        writer.data(&message(n)).unwrap();
        writer.end_tensor().unwrap();
    }
    let n_left = writer.finish().unwrap().len();
    file.truncate(file.len() - n_left);
    file
}

#[test]
fn every_flipped_bit_and_every_cut_is_found_before_anything_is_read() {
    let mut file = small_file();
    let wanted = sha256(&file);
    assert!(Image::parse(&file).is_ok() && Verify::new(&file, wanted).run().is_ok());
    for n in 0..file.len() {
        assert!(Verify::new(&file[..n], wanted).run().is_err(), "cut to {n} bytes");
    }
    let mut n_parsed = 0;
    for at in 0..file.len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            assert!(Verify::new(&file, wanted).run().is_err(), "bit {bit} of byte {at}");
            n_parsed += usize::from(Image::parse(&file).is_ok());
            file[at] ^= 1 << bit;
        }
    }
    let (n_flips, n_cuts) = (8 * file.len(), file.len());
    println!(
        "figure R14 digest: {n_flips} flips and {n_cuts} cuts, all found; the parser alone lets {n_parsed} flips pass"
    );
    assert!(n_parsed > 4 * file.len(), "most flips leave a file that can be read");
}

#[test]
fn digests_are_read_as_they_are_written() {
    let digest = sha256(b"abc");
    let hex = digest.to_string();
    assert_eq!(Digest::from_hex(&hex), Some(digest));
    assert_eq!(Digest::from_hex(&hex.to_uppercase()), Some(digest));
    assert_eq!(Digest::new(*digest.bytes()), digest);
    for wrong in
        ["", "0", &hex[1..], &hex[2..], &format!("{hex}0"), &format!("{hex}00"), &format!("0x{}", &hex[2..])]
    {
        assert_eq!(Digest::from_hex(wrong), None, "{wrong}");
    }
    for at in 0..hex.len() {
        for byte in ["g", "G", "/", ":", "@", "`", " ", "-", "\0"] {
            let mut wrong = hex.clone();
            wrong.replace_range(at..=at, byte);
            assert_eq!(Digest::from_hex(&wrong), None, "{wrong:?}");
        }
    }
}
