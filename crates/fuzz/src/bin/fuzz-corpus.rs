//! Between a packed corpus and a folder of inputs, which is what libFuzzer works on; and what models answer.
//!
//! ```text
//! fuzz-corpus unpack TARGET FILE FOLDER      writes the seeds of a target and the inputs of a corpus
//! fuzz-corpus pack TARGET FOLDER FILE BYTES  packs a folder, the shortest inputs first, into at most so many bytes
//! fuzz-corpus answer PROMPT N FILE...        prints how each model goes on with N tokens, or why not, in one line
//! ```

use corelm_fuzz::{answer::answer, pack, target};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["unpack", name, file, folder] => unpack_into(name, file, Path::new(folder)),
        ["pack", name, folder, file, most] => pack_from(name, Path::new(folder), file, most),
        ["answer", prompt, n, ref files @ ..] => answers(prompt, n, files),
        _ => Err("fuzz-corpus unpack TARGET FILE FOLDER, pack TARGET FOLDER FILE BYTES, or answer PROMPT N FILE...".into()),
    };
    match done {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn unpack_into(name: &str, file: &str, folder: &Path) -> Result<String> {
    let target = target(name).ok_or_else(|| format!("no target {name}"))?;
    let mut inputs = (target.seeds)();
    if Path::new(file).exists() {
        inputs.extend(pack::unpack(&fs::read(file)?).ok_or_else(|| format!("{file} is no corpus"))?);
    }
    fs::create_dir_all(folder)?;
    for input in &inputs {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        fs::write(folder.join(format!("{:016x}", hasher.finish())), input)?;
    }
    Ok(format!("{} {}", inputs.len(), target.max_bytes))
}

fn answers(prompt: &str, n: &str, files: &[&str]) -> Result<String> {
    let n = n.parse()?;
    let line =
        |file: &&str| Ok(answer(&fs::read(file)?, prompt, n).replace('\r', "").escape_debug().to_string());
    Ok(files.iter().map(line).collect::<Result<Vec<_>>>()?.join("\n"))
}

fn pack_from(name: &str, folder: &Path, file: &str, most: &str) -> Result<String> {
    target(name).ok_or_else(|| format!("no target {name}"))?;
    let most: usize = most.parse()?;
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder)? {
        inputs.push(fs::read(entry?.path())?);
    }
    // Files that were made from one another have about the same length.
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    let mut packed = pack::pack(&inputs);
    while packed.len() > most {
        // What is hardest to keep is what there is much of: every eighth goes.
        inputs = inputs.into_iter().enumerate().filter(|(i, _)| i % 8 != 7).map(|(_, input)| input).collect();
        packed = pack::pack(&inputs);
    }
    fs::write(file, &packed)?;
    Ok(format!("{} inputs in {} bytes", inputs.len(), packed.len()))
}
