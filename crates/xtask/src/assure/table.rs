//! The table: figures beside what is asked and what others reach.

use super::goals::{GOALS, Goal, Measure};
use crate::figures::{Figure, MISSED, SHORT};
use crate::process;
use crate::workspace;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::process::Command;

/// Where a figure is from: with as many cases as there is time for in every test run, or as are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Quick,
    Long,
}

/// How a figure compares with what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    /// Nothing went wrong in the cases that ran, and they are fewer than asked for.
    Short,
    Missed,
    NotRun,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Short => "short",
            Self::Missed => "missed",
            Self::NotRun => "not run",
        }
    }
}

/// The figures so far, by goal and measure: text, date, commit, machine and whether it is a long run's.
pub struct Table {
    figures: Map<String, Value>,
    machine: String,
}

/// Where figures are kept in the repository, and the line before them.
const DOCUMENT: &str = "docs/ASSURANCE.md";
const HEADING: &str = "## Figures";
/// The same as data: what this machine has not measured stays.
const DATA: &str = "docs/assurance.json";
/// What the figures of runs before are kept as.
const FILE: &str = "assurance.json";

impl Table {
    /// What earlier runs left, here and, where there was none, in the repository.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn load() -> Result<Table> {
        let mut figures = Map::new();
        for path in [workspace::root().join(DATA), workspace::scratch_file(FILE)?] {
            let kept = fs::read(&path).ok().map(|text| serde_json::from_slice::<Value>(&text)).transpose();
            let mut kept =
                kept.with_context(|| format!("{} is no JSON", path.display()))?.unwrap_or_default();
            figures.append(kept["figures"].as_object_mut().unwrap_or(&mut Map::new()));
        }
        Ok(Table { figures, machine: machine() })
    }

    /// With the figures of this run; those of a quick one do not take the place of a long one's.
    ///
    /// # Errors
    ///
    /// When the date or the commit cannot be asked for.
    pub fn with(mut self, told: Vec<Figure>, form: Form) -> Result<Table> {
        let date = process::output(Command::new("date").args(["-u", "+%F"]))?.trim().to_owned();
        let commit = crate::peers::commit();
        for Figure { goal, measure, text } in told {
            let key = format!("{goal} {measure}");
            let is_long = form == Form::Long;
            if is_long || self.figures.get(&key).is_none_or(|kept| kept["long"] != true) {
                let figure = json!({
                    "figure": text, "date": date, "commit": commit, "long": is_long, "machine": self.machine,
                });
                self.figures.insert(key, figure);
            }
        }
        Ok(self)
    }

    /// Keeps it for the runs to come, and as Markdown.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn save(&self) -> Result<()> {
        let files =
            [(FILE, serde_json::to_string_pretty(&self.to_json())?), ("assurance.md", self.to_markdown())];
        for (name, text) in files {
            let path = workspace::scratch_file(name)?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes it behind [`HEADING`] in docs/ASSURANCE.md, and as data beside it.
    ///
    /// # Errors
    ///
    /// When that cannot be read or written.
    pub fn save_in_docs(&self) -> Result<()> {
        let path = workspace::root().join(DOCUMENT);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (before, _) = text.split_once(HEADING).with_context(|| format!("{DOCUMENT} has no {HEADING}"))?;
        let data = serde_json::to_string_pretty(&json!({ "figures": self.figures }))? + "\n";
        let document = format!("{before}{HEADING}\n\n{}", self.to_markdown());
        for (path, text) in [(path, document), (workspace::root().join(DATA), data)] {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The machines that figures are of.
    fn machines(&self) -> BTreeSet<&str> {
        self.figures.values().filter_map(|kept| kept["machine"].as_str()).collect()
    }

    /// The text of a measure, and the verdict.
    fn figure(&self, goal: &Goal, measure: &Measure) -> (&str, Verdict) {
        let text = self.kept(goal, measure)["figure"].as_str().unwrap_or_default();
        (text, verdict(measure, text))
    }

    fn kept(&self, goal: &Goal, measure: &Measure) -> &Value {
        self.figures.get(&format!("{} {}", goal.id, measure.name)).unwrap_or(&Value::Null)
    }

    /// Prints it as text.
    pub fn print(&self) {
        for goal in &GOALS {
            println!("\n{} {}\n    asked:  {}\n    others: {}", goal.id, goal.name, goal.asked, goal.anchor);
            for measure in goal.measures {
                let (text, verdict) = self.figure(goal, measure);
                println!("    {:<8} {}: {text}{}", verdict.name(), measure.name, why(measure));
                println!("             {}", measure.command);
            }
        }
        println!();
    }

    pub fn to_json(&self) -> Value {
        let measure = |goal: &Goal, measure: &Measure| {
            let (text, verdict) = self.figure(goal, measure);
            let kept = self.kept(goal, measure);
            json!({
                "measure": measure.name, "figure": text, "verdict": verdict.name(), "missed": measure.missed,
                "command": measure.command, "date": kept["date"], "commit": kept["commit"],
            })
        };
        let goal = |goal: &Goal| {
            let measures: Vec<Value> = goal.measures.iter().map(|m| measure(goal, m)).collect();
            json!({ "goal": goal.id, "name": goal.name, "asked": goal.asked, "others": goal.anchor, "measures": measures })
        };
        json!({
            "command": "cargo xtask assure",
            "machine": self.machine,
            "goals": GOALS.iter().map(goal).collect::<Vec<_>>(),
            "figures": self.figures,
        })
    }

    fn to_markdown(&self) -> String {
        let machines: Vec<&str> = self.machines().into_iter().collect();
        let letter = |kept: &Value| {
            let at = machines.iter().position(|machine| kept["machine"] == *machine);
            at.and_then(|at| ('A'..='Z').nth(at)).map(String::from).unwrap_or_default()
        };
        let mut text = "Machines:".to_owned();
        for (name, letter) in machines.iter().zip('A'..='Z') {
            let _ = write!(text, "{} {letter}: {name}", if letter == 'A' { "" } else { ";" });
        }
        text += ".\n";
        for goal in &GOALS {
            let Goal { id, name, asked, anchor, .. } = goal;
            let _ = write!(text, "\n### {id}: {name}\n\nAsked: {asked}. Others: {anchor}.\n\n");
            text += "| measured | figure | | command | at |\n|---|---|---|---|---|\n";
            for measure in goal.measures {
                let (figure, verdict) = self.figure(goal, measure);
                let kept = self.kept(goal, measure);
                let word = |key: &str| kept[key].as_str().unwrap_or_default();
                let _ = writeln!(
                    text,
                    "| {} | {figure}{} | {} | `{}` | {} {} {} |",
                    measure.name,
                    why(measure),
                    verdict.name(),
                    measure.command,
                    word("commit"),
                    word("date"),
                    letter(kept)
                );
            }
        }
        text
    }
}

/// Why a measure misses what is asked, behind its figure.
fn why(measure: &Measure) -> String {
    if measure.missed.is_empty() { String::new() } else { format!(" ({})", measure.missed) }
}

fn verdict(measure: &Measure, text: &str) -> Verdict {
    let n_cases = text.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<u64>().ok());
    match n_cases {
        _ if !measure.missed.is_empty() || text.starts_with(MISSED) => Verdict::Missed,
        _ if text.is_empty() => Verdict::NotRun,
        _ if text.starts_with(SHORT) => Verdict::Short,
        Some(n) if n < measure.at_least => Verdict::Short,
        None if measure.at_least > 0 => Verdict::Short,
        _ => Verdict::Reached,
    }
}

/// The CPU and how many of it there are.
fn machine() -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let n = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {n} logical CPUs", name.map_or(std::env::consts::ARCH, |(_, name)| name))
}

#[cfg(test)]
mod tests {
    use super::super::goals;
    use super::*;

    fn told(goal: &str, measure: &str, text: &str) -> Figure {
        Figure { goal: goal.to_owned(), measure: measure.to_owned(), text: text.to_owned() }
    }

    fn empty() -> Table {
        Table { figures: Map::new(), machine: String::new() }
    }

    #[test]
    fn cases_are_counted_and_what_is_missed_is_said() {
        let (goal, mutants) = goals::told_by_tests().find(|(_, measure)| measure.name == "mutants").unwrap();
        let verdict_of = |text: &str| {
            empty().with(vec![told("R3", "mutants", text)], Form::Quick).unwrap().figure(goal, mutants).1
        };
        assert_eq!(verdict_of("20000 mutants: 0 crashes"), Verdict::Short);
        assert_eq!(verdict_of("1000000 mutants: 0 crashes"), Verdict::Reached);
        assert_eq!(verdict_of("no number"), Verdict::Short);
        assert_eq!(empty().figure(goal, mutants).1, Verdict::NotRun);
        let in_part = Measure { missed: "not everywhere", ..*mutants };
        assert_eq!(verdict(&in_part, "1000000 mutants: 0 crashes"), Verdict::Missed);
        let whole = goals::GOALS[19].measures.iter().find(|measure| measure.name == "mutants").unwrap();
        assert_eq!(verdict(whole, "short: plan 9 of 9 noticed, 10 of 20 tried"), Verdict::Short);
        assert_eq!(verdict(whole, "missed: plan 1 of 9 noticed"), Verdict::Missed);
        assert_eq!(verdict(whole, "plan 9 of 9 noticed"), Verdict::Reached);
    }

    #[test]
    fn the_document_has_every_goal() {
        let text = fs::read_to_string(workspace::root().join(DOCUMENT)).unwrap();
        for Goal { id, name, asked, anchor, measures } in &GOALS {
            assert!(
                text.contains(&format!("\n### {id}: {name}\n\nAsked: {asked}. Others: {anchor}.\n")),
                "{id}"
            );
            for measure in *measures {
                assert!(text.contains(&format!("\n| {} | ", measure.name)), "{id}: {}", measure.name);
            }
        }
    }

    #[test]
    fn a_long_run_outlives_quick_ones() {
        let long = empty().with(vec![told("R3", "mutants", "1000000 of them")], Form::Long).unwrap();
        let table = long.with(vec![told("R3", "mutants", "20000 of them")], Form::Quick).unwrap();
        let text = table.to_markdown();
        assert!(text.contains("| mutants | 1000000 of them | reached |"), "{text}");
        assert!(table.to_json().to_string().contains("1000000 of them"));
    }

    #[test]
    fn each_figure_names_its_machine() {
        let mut table = Table { machine: "z80".to_owned(), ..empty() };
        table = table.with(vec![told("R3", "mutants", "20000 of them")], Form::Quick).unwrap();
        table.machine = "6502".to_owned();
        table = table.with(vec![told("R3", "refusal", "80")], Form::Quick).unwrap();
        let text = table.to_markdown();
        assert!(text.starts_with("Machines: A: 6502; B: z80.\n"), "{text}");
        let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row("| refusal").ends_with(" A |") && row("| mutants").ends_with(" B |"), "{text}");
    }

    #[test]
    fn the_document_is_the_data() {
        let figures = fs::read(workspace::root().join(DATA)).unwrap();
        let figures: Value = serde_json::from_slice(&figures).unwrap();
        let table = Table { figures: figures["figures"].as_object().unwrap().clone(), ..empty() };
        let document = fs::read_to_string(workspace::root().join(DOCUMENT)).unwrap();
        assert!(document.ends_with(&format!("{HEADING}\n\n{}", table.to_markdown())));
    }
}
