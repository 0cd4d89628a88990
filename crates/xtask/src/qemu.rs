//! Boots a kernel image in QEMU, shows and keeps what it prints, and stops it when it takes too long.

use crate::kernel::Board;
use crate::setup::QEMU;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What the guest's shell shows before it reads a line.
const PROMPT: &[u8] = b"corelm> ";

/// A CPU model; together they cover every back-end tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cpu {
    /// In-order Armv8.0: NEON.
    #[value(name = "cortex-a53")]
    CortexA53,
    /// Out-of-order Armv8.0: NEON.
    #[value(name = "cortex-a72")]
    CortexA72,
    /// Armv8.2: NEON with dot product.
    #[value(name = "cortex-a76")]
    CortexA76,
    /// Everything QEMU has: int8 matrix products too.
    #[value(name = "max")]
    Max,
}

impl Cpu {
    /// The three CPUs that tests run on.
    pub const TESTED: [Cpu; 3] = [Cpu::CortexA53, Cpu::CortexA76, Cpu::Max];

    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Cpu::CortexA53 => "cortex-a53",
            Cpu::CortexA72 => "cortex-a72",
            Cpu::CortexA76 => "cortex-a76",
            Cpu::Max => "max",
        }
    }

    /// The back-ends it runs.
    pub fn backends(self) -> &'static [&'static str] {
        const ALL: [&str; 4] = ["scalar", "neon", "neon_dotprod", "neon_i8mm"];
        match self {
            Cpu::CortexA53 | Cpu::CortexA72 => &ALL[..2],
            Cpu::CortexA76 => &ALL[..3],
            Cpu::Max => &ALL,
        }
    }
}

/// One boot: the emulated machine and what the kernel is told.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The board.
    pub board: Board,
    /// The CPU model; `raspi3b` has its own.
    pub cpu: Cpu,
    /// Number of cores; `raspi3b` has four.
    pub smp: u32,
    /// Memory in MiB; `raspi3b` has 1 GiB.
    pub memory_mib: u64,
    /// Whether the kernel is entered at EL2.
    pub has_el2: bool,
    /// Whether one instruction is one nanosecond of the guest's time, so that counts repeat exactly.
    pub icount: bool,
    /// The model, loaded as initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub append: String,
    /// What is typed once the guest's prompt appears.
    pub input: String,
    /// After this long QEMU is killed.
    pub timeout: Duration,
}

impl Boot {
    /// A single-core `virt` board with 256 MiB that is told `append`.
    pub fn new(cpu: Cpu, append: impl Into<String>) -> Boot {
        Boot {
            board: Board::Virt,
            cpu,
            smp: 1,
            memory_mib: 256,
            has_el2: false,
            icount: false,
            initrd: None,
            append: append.into(),
            input: String::new(),
            timeout: Duration::from_secs(600),
        }
    }

    /// QEMU's arguments, without those for the console.
    fn args(&self, image: &Path) -> Vec<OsString> {
        let el2 = if self.has_el2 { ",virtualization=on" } else { "" };
        let machine = format!("{}{el2}", self.board.name());
        let mut args: Vec<OsString> = ["-machine", &machine].map(OsString::from).into();
        if self.board == Board::Virt {
            args.extend(["-cpu", self.cpu.name(), "-smp", &self.smp.to_string()].map(OsString::from));
            args.extend(["-m", &format!("{}M", self.memory_mib), "-nic", "none"].map(OsString::from));
        }
        if self.icount {
            args.extend(["-icount", "shift=0,sleep=off"].map(OsString::from));
        }
        args.extend(["-semihosting-config", "enable=on,target=native"].map(OsString::from));
        args.extend(["-kernel".into(), image.into()]);
        if let Some(initrd) = &self.initrd {
            args.extend(["-initrd".into(), initrd.into()]);
        }
        args.extend(["-append".into(), self.append.clone().into()]);
        args
    }

    /// Boots with the guest's console on this terminal, until the guest exits or Ctrl-A X.
    ///
    /// # Errors
    ///
    /// When QEMU cannot be started.
    pub fn interactive(&self, image: &Path) -> Result<ExitStatus> {
        let status = Command::new(QEMU).args(self.args(image)).arg("-nographic").status();
        status.with_context(|| format!("cannot start {QEMU}"))
    }

    /// Boots and gives the exit status and all that the guest printed; with `echo` it also shows it as it comes.
    ///
    /// # Errors
    ///
    /// When QEMU cannot be started, or is still running after the time-out: then it is killed.
    pub fn capture(&self, image: &Path, echo: bool) -> Result<(ExitStatus, String)> {
        let mut qemu = Command::new(QEMU);
        qemu.args(self.args(image));
        capture(qemu, &self.input, self.timeout, echo)
    }

    /// Boots and gives what the guest printed.
    ///
    /// # Errors
    ///
    /// As [`Boot::capture`], and when the exit status is not zero; the error carries the end of the output.
    pub fn checked(&self, image: &Path) -> Result<String> {
        let (status, printed) = self.capture(image, false)?;
        if !status.success() {
            bail!("the kernel failed ({status}) with `{}`\n{}", self.append, crate::process::tail(&printed));
        }
        Ok(printed)
    }
}

/// Runs QEMU with the guest's console as [`Boot::capture`] does, and types `input` when the guest's prompt appears.
///
/// # Errors
///
/// As [`Boot::capture`].
pub fn capture(
    mut qemu: Command,
    input: &str,
    timeout: Duration,
    echo: bool,
) -> Result<(ExitStatus, String)> {
    qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
    qemu.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = qemu.spawn().with_context(|| format!("cannot start {}", qemu.get_program().display()))?;
    let console = child.stdout.take().context("QEMU has no standard output")?;
    let keyboard = child.stdin.take().context("QEMU has no standard input")?;
    let input = input.to_owned();
    let reader = thread::spawn(move || converse(console, keyboard, &input, echo));
    let status = wait(&mut child, timeout);
    let printed = reader.join().map_err(|_| anyhow::anyhow!("reading QEMU's output failed"))??;
    match status? {
        Some(status) => Ok((status, printed)),
        None => bail!("QEMU still ran after {} s\n{}", timeout.as_secs(), crate::process::tail(&printed)),
    }
}

/// A word of the kernel's command line, in quotes when it needs them.
pub fn word(key: &str, value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '"' && c != '\\';
    if !value.is_empty() && value.chars().all(plain) {
        return format!(" {key}={value}");
    }
    format!(" {key}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Reads all that the guest prints and types `input` when its prompt appears.
fn converse(mut console: impl Read, mut keyboard: impl Write, input: &str, echo: bool) -> io::Result<String> {
    let mut printed = Vec::new();
    let mut chunk = [0; 4096];
    let mut is_typed = input.is_empty();
    loop {
        let n = console.read(&mut chunk)?;
        if n == 0 {
            return Ok(String::from_utf8_lossy(&printed).into_owned());
        }
        printed.extend_from_slice(&chunk[..n]);
        if !is_typed && printed.ends_with(PROMPT) {
            is_typed = true;
            keyboard.write_all(input.as_bytes())?;
            keyboard.flush()?;
        }
        if echo {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&chunk[..n])?;
            stdout.flush()?;
        }
    }
}

/// Waits for the child; `None` when it had to be killed.
fn wait(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_when_they_need_it() {
        assert_eq!(word("n", "64"), " n=64");
        assert_eq!(word("prompt", "Data abort"), " prompt=\"Data abort\"");
        assert_eq!(word("prompt", "a \"b\" \\"), r#" prompt="a \"b\" \\""#);
        assert_eq!(word("prompt", ""), " prompt=\"\"");
    }

    #[test]
    fn a_board_with_its_own_cpu_gets_none() {
        let args = |board| {
            let boot = Boot {
                board,
                icount: true,
                initrd: Some("m.gguf".into()),
                ..Boot::new(Cpu::Max, "mode=test")
            };
            let words: Vec<String> =
                boot.args(Path::new("k")).into_iter().map(|a| a.into_string().unwrap()).collect();
            words.join(" ")
        };
        let tail = "-semihosting-config enable=on,target=native -kernel k -initrd m.gguf -append mode=test";
        let icount = "-icount shift=0,sleep=off";
        assert_eq!(
            args(Board::Virt),
            format!("-machine virt -cpu max -smp 1 -m 256M -nic none {icount} {tail}")
        );
        assert_eq!(args(Board::Raspi3b), format!("-machine raspi3b {icount} {tail}"));
    }

    #[test]
    fn the_line_is_typed_at_the_prompt() {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        assert_eq!(
            converse(&b"hello\ncorelm> "[..], &mut before, "exit\r", false).unwrap(),
            "hello\ncorelm> "
        );
        converse(&b"corelm> no"[..], &mut after, "exit\r", false).unwrap();
        assert_eq!((before.as_slice(), after.as_slice()), (&b"exit\r"[..], &b""[..]));
    }

    #[test]
    fn a_child_that_takes_too_long_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(wait(&mut child, Duration::from_millis(50)).unwrap().is_none());
        let mut child = Command::new("false").spawn().unwrap();
        assert_eq!(wait(&mut child, Duration::from_secs(60)).unwrap().unwrap().code(), Some(1));
    }
}
