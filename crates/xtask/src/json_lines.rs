//! JSON objects, one a line, among other output: how the kernel and the command line hand over results.

use anyhow::{Context, Result};
use serde_json::Value;

/// The objects of all lines that open with `{"`.
///
/// # Errors
///
/// When such a line is no JSON.
pub fn objects(printed: &str) -> Result<Vec<Value>> {
    let lines = printed.lines().map(str::trim).filter(|line| line.starts_with("{\""));
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))).collect()
}

/// The token ids of the objects that have an `id`, in order.
///
/// # Errors
///
/// When a line that opens like an object is no JSON.
pub fn ids(printed: &str) -> Result<Vec<u64>> {
    Ok(objects(printed)?.iter().filter_map(|object| object["id"].as_u64()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_between_other_lines() {
        let printed = "booting\r\n{\"id\":3,\"piece\":\" {\"}\r\n{ not one\n{\"case\":\"dot\"}\nbye\n";
        assert_eq!(objects(printed).unwrap().len(), 2);
        assert_eq!(ids(printed).unwrap(), [3]);
    }

    #[test]
    fn a_broken_object_is_an_error() {
        assert!(objects("{\"id\":").unwrap_err().to_string().contains("{\"id\":"));
        assert!(objects("").unwrap().is_empty());
    }
}
