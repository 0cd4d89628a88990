//! Child processes: run one, keep what it prints, and say what was run when it fails.

use crate::figures;
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::process::{Command, Stdio};

/// How many lines of a failed command's output are shown.
const TAIL_LINES: usize = 40;

/// `cargo` as it was called, in the repository's root.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace::root());
    command
}

/// The command as one would type it.
pub fn display(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            line += &format!("{}={} ", name.to_string_lossy(), quote(&value.to_string_lossy()));
        }
    }
    line += &quote(&command.get_program().to_string_lossy());
    for arg in command.get_args() {
        line += " ";
        line += &quote(&arg.to_string_lossy());
    }
    line
}

/// Runs the command with this process's console.
///
/// # Errors
///
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", display(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", display(command));
    }
    Ok(())
}

/// Runs the command and gives its standard output.
///
/// # Errors
///
/// When it cannot be started or fails; the error carries what it printed on standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start `{}`", display(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", display(command), output.status, tail(&stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the command with both outputs going to `target/xtask/<log>.log`, and gives what it printed.
/// Figures in it are kept.
///
/// # Errors
///
/// When it cannot be started or fails; the error carries the end of the log.
pub fn logged(command: &mut Command, log: &str) -> Result<String> {
    let path = workspace::scratch_file(&format!("{log}.log"))?;
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let status = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status();
    let status = status.with_context(|| format!("cannot start `{}`", display(command)))?;
    let printed = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    figures::read(&printed);
    if !status.success() {
        bail!("`{}` failed: {status}\n{}", display(command), tail(&printed));
    }
    Ok(printed)
}

/// The last lines of `text`.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Whether `program --version` works, that is: is installed.
pub fn is_installed(program: &str) -> bool {
    let probe = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    probe.is_ok_and(|output| output.status.success())
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("qemu");
        command.args(["-append", "mode=run n=4"]).env("A", "1");
        assert_eq!(display(&command), "A=1 qemu -append 'mode=run n=4'");
    }

    #[test]
    fn tail_keeps_the_end() {
        let text: String = (0..100).map(|i| format!("{i}\n")).collect();
        assert!(tail(&text).starts_with("60\n") && tail(&text).ends_with("99"));
        assert_eq!(tail("one"), "one");
    }
}
