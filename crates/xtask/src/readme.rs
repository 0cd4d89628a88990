//! Finds the commands a document shows, so that a test can run them.
//!
//! A fenced block that opens with ```` ```console ```` shows a session: lines that start with `$ ` are commands, a
//! backslash at a command's end continues it, and the rest is output. A block that opens with
//! ```` ```console no_run ```` is left alone.

/// The commands of a Markdown text, in order.
pub fn commands(markdown: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut in_console = false;
    let mut in_fence = false;
    let mut continues = false;
    for line in markdown.lines() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            in_fence = !in_fence;
            in_console = in_fence && info.trim() == "console";
            continues = false;
        } else if in_console {
            let text = match line.strip_prefix("$ ") {
                Some(text) => {
                    commands.push(String::new());
                    text
                }
                None if continues => line,
                None => continue,
            };
            continues = text.ends_with('\\');
            if let Some(command) = commands.last_mut() {
                command.push_str(text.trim_end_matches('\\').trim());
                command.push_str(if continues { " " } else { "" });
            }
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_in_console_blocks() {
        let text = "```console\n$ cargo xtask run\nQEMU says $ this\n$ ls\n```\n$ not one\n```rust\n$ no\n```\n\
                    ```console no_run\n$ rm x\n```\n  ```console\n$ last\n  ```\n";
        assert_eq!(commands(text), ["cargo xtask run", "ls", "last"]);
    }

    #[test]
    fn a_backslash_continues_a_command() {
        let text = "```console\n$ corelm generate \\\n    -n 4\nout \\\nput\n$ echo\n```";
        assert_eq!(commands(text), ["corelm generate -n 4", "echo"]);
    }

    #[test]
    fn an_open_fence_or_nothing_is_no_command() {
        assert!(commands("").is_empty());
        assert_eq!(commands("```console\n$ one"), ["one"]);
    }
}
