//! `cargo xtask run`: builds the kernel, boots it in QEMU and exits with its verdict.

use crate::baseline::{self, Baseline};
use crate::kernel::{self, Board};
use crate::qemu::{Boot, Cpu, word};
use crate::setup::{self, Toolchain};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

/// Memory of the guest beside the model, in MiB: the kernel, the embedded model, caches and scratch.
const BASE_MEMORY_MIB: u64 = 256;

/// What to boot and what to tell the kernel.
#[derive(Args)]
pub struct Options {
    /// Model the kernel gets as initial RAM disk, in place of the embedded one
    #[arg(long, value_name = "FILE.gguf")]
    model: Option<PathBuf>,
    /// Text to continue
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Tokens to generate at most
    #[arg(short, value_name = "N")]
    n: Option<u32>,
    /// CPU model; raspi3b has its own
    #[arg(long, value_enum, default_value_t = Cpu::CortexA72)]
    cpu: Cpu,
    /// Number of cores that work
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    smp: u32,
    /// Memory in MiB [default: 256 beside the model]
    #[arg(short, long, value_name = "MIB")]
    memory: Option<u64>,
    /// Board
    #[arg(long, value_enum, default_value_t = Board::Virt)]
    board: Board,
    /// Interactive console, in place of text and benchmarks; Ctrl-A X leaves it. Commands may be piped in
    #[arg(long, conflicts_with_all = ["bench_only", "json"])]
    shell: bool,
    /// Benchmarks alone
    #[arg(long)]
    bench_only: bool,
    /// Print JSON lines in place of tables
    #[arg(long)]
    json: bool,
    /// Run the benchmark cases that take minutes in QEMU too
    #[arg(long)]
    full: bool,
    /// Do not count instructions: QEMU runs as it can, on threads of its own where --smp asks, and counts mean nothing
    #[arg(long)]
    no_icount: bool,
    /// Record the benchmarks' exact counts as a baseline; implies --bench-only --json
    #[arg(long, value_name = "NAME", conflicts_with_all = ["shell", "baseline", "no_icount"])]
    save_baseline: Option<String>,
    /// Compare the benchmarks' exact counts with a baseline; implies --bench-only --json
    #[arg(long, value_name = "NAME", conflicts_with_all = ["shell", "no_icount"])]
    baseline: Option<String>,
    /// Seconds after which QEMU is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,
}

/// Runs the command; the exit code is QEMU's, which is the kernel's verdict.
///
/// # Errors
///
/// When an option does not fit, set-up or build fails, or QEMU cannot be started or has to be killed.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut boot = options.boot()?;
    let toolchain = setup::for_kernel()?;
    let image = kernel::build(toolchain, options.board, true)?;
    if options.shell && io::stdin().is_terminal() {
        return exit_code(boot.interactive(&image)?);
    }
    if options.shell {
        boot.input = io::read_to_string(io::stdin())?.replace('\n', "\r");
    }
    let (status, printed) = boot.capture(&image, true)?;
    if status.success() && options.counts_exactly() {
        let new = Baseline::from_rows(&printed, &baseline::rustc_version(toolchain)?)?;
        if let Some(name) = &options.save_baseline {
            eprintln!("recorded {}", new.save(name)?.display());
        }
        if let Some(name) = &options.baseline {
            compare(&Baseline::load(name)?, &new)?;
        }
    }
    exit_code(status)
}

/// Boots the benchmarks with exact counts and collects them.
///
/// # Errors
///
/// When the boot fails or prints no row.
pub fn count(image: &Path, cpu: Cpu, toolchain: Toolchain) -> Result<Baseline> {
    let boot = Boot { icount: true, ..Boot::new(cpu, "mode=bench json=1") };
    Baseline::from_rows(&boot.checked(image)?, &baseline::rustc_version(toolchain)?)
}

fn compare(old: &Baseline, new: &Baseline) -> Result<()> {
    if let Some(difference) = old.differs_in_compiler(new) {
        eprintln!("warning: another compiler counts differently: {difference}");
    }
    let comparison = old.compare(new);
    comparison.better.iter().for_each(|line| eprintln!("better  {line}"));
    comparison.worse.iter().for_each(|line| eprintln!("worse   {line}"));
    eprintln!("{} cases as recorded", comparison.n_same);
    ensure!(comparison.worse.is_empty(), "{} cases are worse than the baseline", comparison.worse.len());
    Ok(())
}

impl Options {
    fn boot(&self) -> Result<Boot> {
        let model_mib = match &self.model {
            Some(path) => kernel::file_mib(path)?,
            None => 0,
        };
        if self.board == Board::Raspi3b && self.memory.is_some() {
            bail!("--memory does not apply to raspi3b: it has 1 GiB");
        }
        let memory_mib = self.memory.unwrap_or(BASE_MEMORY_MIB + model_mib);
        Ok(Boot {
            board: self.board,
            smp: self.smp,
            memory_mib,
            // A console that waits for keys has nothing to count.
            icount: !self.no_icount && !self.shell,
            initrd: self.model.clone(),
            timeout: Duration::from_secs(self.timeout),
            ..Boot::new(self.cpu, self.command_line())
        })
    }

    /// Whether the counts go to or against a baseline.
    fn counts_exactly(&self) -> bool {
        self.save_baseline.is_some() || self.baseline.is_some()
    }

    /// The kernel's command line: `key=value` words.
    fn command_line(&self) -> String {
        let mode = match (self.shell, self.bench_only || self.counts_exactly()) {
            (true, _) => "shell",
            (false, true) => "bench",
            (false, false) => "run",
        };
        let mut line = format!("mode={mode}");
        if let Some(prompt) = &self.prompt {
            line += &word("prompt", prompt);
        }
        if let Some(n) = self.n {
            line += &word("n", &n.to_string());
        }
        if self.smp > 1 || self.board == Board::Raspi3b {
            line += &word("smp", &self.smp.to_string());
        }
        if self.model.is_some() {
            line += &word("model", "initrd");
        }
        if self.json || self.counts_exactly() {
            line += &word("json", "1");
        }
        if self.full {
            line += &word("full", "1");
        }
        line
    }
}

fn exit_code(status: ExitStatus) -> Result<ExitCode> {
    let code = status.code().with_context(|| format!("QEMU was stopped: {status}"))?;
    Ok(ExitCode::from(u8::try_from(code)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(args: &[&str]) -> Options {
        Line::parse_from([&["run"], args].concat()).options
    }

    #[test]
    fn the_kernel_is_told_what_was_asked() {
        assert_eq!(options(&[]).command_line(), "mode=run");
        let asked = options(&["--prompt", "A fault", "-n", "8", "--smp", "2", "--json"]);
        assert_eq!(asked.command_line(), "mode=run prompt=\"A fault\" n=8 smp=2 json=1");
        assert_eq!(options(&["--shell"]).command_line(), "mode=shell");
        assert_eq!(options(&["--bench-only"]).command_line(), "mode=bench");
        assert_eq!(options(&["--board", "raspi3b"]).command_line(), "mode=run smp=1");
        assert_eq!(options(&["--baseline", "max"]).command_line(), "mode=bench json=1");
        assert!(options(&["--save-baseline", "max"]).boot().unwrap().icount);
        assert!(!options(&["--no-icount"]).boot().unwrap().icount);
    }

    #[test]
    fn a_model_brings_its_own_memory() {
        let file = std::env::temp_dir().join(format!("xtask-model-{}", std::process::id()));
        std::fs::write(&file, [0; 1 << 20 | 1]).unwrap();
        let boot = options(&["--model", file.to_str().unwrap()]).boot().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!((boot.memory_mib, boot.append.as_str()), (BASE_MEMORY_MIB + 2, "mode=run model=initrd"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(options(&["--model", "/no/such.gguf"]).boot().is_err());
        assert!(options(&["--board", "raspi3b", "--memory", "512"]).boot().is_err());
        assert!(Line::try_parse_from(["run", "--shell", "--json"]).is_err());
    }
}
