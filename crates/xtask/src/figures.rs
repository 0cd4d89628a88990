//! Figures for the goals of docs/ASSURANCE.md, gathered while steps run: tests print them, steps note them.
//!
//! A test prints `figure R3 mutants: 20000 mutants, ...`: the goal, what was measured, and what came out.

use std::sync::{Mutex, PoisonError};

/// Begins a line that tells a figure.
const WORD: &str = "figure ";

/// Begins the text of a figure that is not as asked.
pub const MISSED: &str = "missed: ";

/// Begins the text of a figure of fewer cases than are asked for, where what is asked for is all there are.
pub const SHORT: &str = "short: ";

/// What was measured for a goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// As in `R3`.
    pub goal: String,
    /// What of the goal, as in `mutants`.
    pub measure: String,
    /// What came out; where a number of cases was asked for, it comes first.
    pub text: String,
}

static NOTED: Mutex<Vec<Figure>> = Mutex::new(Vec::new());

/// Keeps a figure.
pub fn note(goal: &str, measure: &str, text: impl Into<String>) {
    let figure = Figure { goal: goal.to_owned(), measure: measure.to_owned(), text: text.into() };
    NOTED.lock().unwrap_or_else(PoisonError::into_inner).push(figure);
}

/// Keeps the figures that a command printed.
pub fn read(printed: &str) {
    for Figure { goal, measure, text } in printed.lines().filter_map(parse) {
        note(&goal, &measure, text);
    }
}

/// Gives a figure that was kept another measure's name.
pub fn rename(goal: &str, from: &str, to: &str) {
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    let named = noted.iter_mut().rev().find(|figure| figure.goal == goal && figure.measure == from);
    if let Some(figure) = named {
        to.clone_into(&mut figure.measure);
    }
}

/// The figures since the last call.
pub fn take() -> Vec<Figure> {
    std::mem::take(&mut NOTED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The figure of a line; the harness of a test may stand before it.
fn parse(line: &str) -> Option<Figure> {
    let (_, rest) = line.split_once(WORD)?;
    let (name, text) = rest.split_once(": ")?;
    let (goal, measure) = name.split_once(' ')?;
    goal.strip_prefix('R')?.parse::<u8>().ok()?;
    Some(Figure { goal: goal.to_owned(), measure: measure.to_owned(), text: text.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_test_is_a_figure() {
        let figure = parse("test x ... figure R3 mutants: 20000 mutants: none panics\r").unwrap();
        assert_eq!(figure.text, "20000 mutants: none panics");
        assert_eq!((figure.goal.as_str(), figure.measure.as_str()), ("R3", "mutants"));
        for line in ["figure it out: no", "figure R3: no measure", "R3 mutants: no word", "figure Rx y: z"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
