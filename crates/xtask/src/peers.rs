//! `cargo xtask bench --peers`: the engine beside llama.cpp and candle, on the same files, in the same run.
//!
//! The peers come from crates.io, into a package with a lock file of its own (`host-bench/peers`), and are built here for
//! the machine that they run on: llama.cpp from the sources inside `llama-cpp-sys-2`, by its own CMake files, once for
//! all that the CPU has and once for AVX2 alone. A peer that cannot be built is left out with a line that says why.

use crate::process::{self, cargo};
use crate::{setup, workspace};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The package that measures, outside the workspace.
pub const MANIFEST: &str = "host-bench/peers/Cargo.toml";
/// The package whose sources hold llama.cpp, and the feature that lets cargo fetch it.
const LLAMA_PACKAGE: &str = "llama-cpp-sys-2";
const LLAMA_FEATURE: &str = "llama-sources";
/// llama.cpp for AVX2 alone: nothing of AVX-512, AVX-VNNI or AMX.
const ONLY_AVX2: [&str; 7] = [
    "-DGGML_NATIVE=OFF",
    "-DGGML_SSE42=ON",
    "-DGGML_AVX=ON",
    "-DGGML_AVX2=ON",
    "-DGGML_FMA=ON",
    "-DGGML_F16C=ON",
    "-DGGML_BMI2=ON",
];

/// What `--peers` takes besides.
#[derive(Parser)]
#[command(name = "cargo xtask bench --peers")]
pub struct Options {
    /// Fewer rows: Q4_0, all of the CPU, no long prompt
    #[arg(long)]
    quick: bool,
    /// Only the rows whose name matches, as in `tinyllama-1.1b/q4_0/tg32@d1900/t1/all`
    #[arg(long, value_name = "REGEX")]
    only: Option<String>,
    /// Measurements of each engine in each row, of which the median counts
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// The folder for peers.json, peers.md and the pictures [default: target/xtask/peers]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Builds the engine and its peers, and measures them.
///
/// # Errors
///
/// When the engine or the program that measures cannot be built.
pub fn bench(options: &Options) -> Result<ExitCode> {
    let mut notes = Vec::new();
    process::run(&mut cargo(&["build", "--release", "--package", "corelm-cli"]))?;
    process::run(&mut cargo(&["build", "--release", "--package", "host-bench", "--example", "gemv"]))?;
    let llama = llama(&mut notes);
    let program = program(&mut notes)?;
    for note in &notes {
        eprintln!("peers: {note}");
    }
    let scratch = workspace::scratch_file("peers")?;
    let mut run = Command::new(program);
    let built = workspace::target_dir().join("release");
    run.arg("run").arg("--corelm").arg(built.join("corelm")).arg("--gemv").arg(built.join("examples/gemv"));
    run.args(["--commit", &commit()]).arg("--models").arg(scratch.join("models"));
    run.args(["--rounds", &options.rounds.to_string()]);
    run.arg("--output").arg(options.output.as_deref().unwrap_or(&scratch));
    for (flag, path) in ["--llama", "--llama-avx2"].iter().zip(&llama) {
        if let Some(path) = path {
            run.arg(flag).arg(path);
        }
    }
    for note in &notes {
        run.args(["--note", note]);
    }
    if let Some(only) = &options.only {
        run.args(["--only", only]);
    }
    if options.quick {
        run.arg("--quick");
    }
    // It has said itself what was wrong.
    let status = run.status().with_context(|| format!("cannot start `{}`", process::display(&run)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folders of llama.cpp's programs for all of this CPU, and for AVX2 alone; `None` and a note where they cannot be built.
fn llama(notes: &mut Vec<String>) -> [Option<PathBuf>; 2] {
    let sources = setup::for_peers().and_then(|()| llama_sources());
    let sources = match sources {
        Ok(sources) => sources,
        Err(error) => {
            notes.push(format!("llama.cpp is left out: {}", one_line(&error)));
            return [None, None];
        }
    };
    let only_avx2 = if cfg!(target_arch = "x86_64") { Some(&ONLY_AVX2[..]) } else { None };
    [("native", Some(&["-DGGML_NATIVE=ON"][..])), ("avx2", only_avx2)].map(|(name, flags)| {
        let built = llama_programs(&sources, name, flags?);
        built
            .map_err(|error| notes.push(format!("llama.cpp ({name}) is left out: {}", one_line(&error))))
            .ok()
    })
}

/// Where cargo has put llama.cpp's sources.
fn llama_sources() -> Result<PathBuf> {
    let args = ["metadata", "--format-version", "1", "--locked", "--manifest-path", MANIFEST];
    let metadata = process::output(cargo(&args).args(["--features", LLAMA_FEATURE]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages.filter(|package| package["name"] == LLAMA_PACKAGE);
    let manifest = manifest.filter_map(|package| package["manifest_path"].as_str()).next();
    let folder = manifest.and_then(|path| Path::new(path).parent());
    let sources =
        folder.with_context(|| format!("cargo knows no package {LLAMA_PACKAGE}"))?.join("llama.cpp");
    ensure!(sources.join("CMakeLists.txt").is_file(), "no sources in {}", sources.display());
    Ok(sources)
}

/// Builds `host-bench/peers/llama` with CMake's `flags`, and gives the folder of what it built.
fn llama_programs(sources: &Path, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let folder = workspace::scratch_file("peers")?.join(format!("llama-{name}"));
    let here = workspace::root().join("host-bench/peers/llama");
    eprintln!("peers: building llama.cpp ({name}); the first time takes minutes");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(here).arg("-B").arg(&folder);
    configure.arg(format!("-DLLAMA_DIR={}", sources.display())).arg("-DCMAKE_BUILD_TYPE=Release").args(flags);
    process::logged(&mut configure, &format!("peers-llama-{name}-configure"))?;
    let jobs = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).to_string();
    let mut build = Command::new("cmake");
    build.arg("--build").arg(&folder).args(["--target", "llama-peer", "ggml-gemv", "--parallel", &jobs]);
    process::logged(&mut build, &format!("peers-llama-{name}"))?;
    Ok(folder)
}

/// Builds the program that measures, with candle where that can be built. candle chooses its routines when it is compiled,
/// so it is compiled for this CPU.
fn program(notes: &mut Vec<String>) -> Result<PathBuf> {
    let target = workspace::target_dir().join("xtask/peers/cargo");
    let build = |features: &[&str]| {
        let mut build = cargo(&["build", "--release", "--locked", "--manifest-path", MANIFEST]);
        build.args(features).arg("--target-dir").arg(&target).env("RUSTFLAGS", "-Ctarget-cpu=native");
        process::logged(&mut build, "peers-cargo")
    };
    eprintln!("peers: building candle and the program that measures; the first time takes minutes");
    if let Err(error) = build(&["--features", "candle"]) {
        notes.push(format!("candle is left out: {}", one_line(&error)));
        build(&[])?;
    }
    let program = target.join("release/peers");
    if !program.is_file() {
        bail!("cargo built no {}", program.display());
    }
    Ok(program)
}

/// The commit that is checked out, and whether files differ from it; empty outside a repository.
pub fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(workspace::root());
    process::output(&mut git).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// What failed, and the first line of a tool's output that names an error.
pub fn one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let mut lines = text.lines();
    let what = lines.next().unwrap_or_default();
    match lines.find(|line| line.to_lowercase().contains("error")) {
        Some(why) => format!("{what}: {}", why.trim()),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_failed_build_is_told_in_one_line() {
        let error = anyhow::anyhow!(
            "`cmake` failed: exit status: 1\n-- x86 detected\nCMake Error: no compiler\n-- more"
        );
        assert_eq!(one_line(&error), "`cmake` failed: exit status: 1: CMake Error: no compiler");
        assert_eq!(one_line(&anyhow::anyhow!("cannot start")), "cannot start");
    }
}
