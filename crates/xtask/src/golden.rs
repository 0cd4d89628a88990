//! Golden outputs of a reference engine, and whether ours agree.
//!
//! The files are `../shared/models/golden/<model>.json`. Each case lists the prompt's ids, the greedy continuation, and
//! for each step of it the five largest logits *before* the id is chosen. We feed exactly those ids (teacher forcing)
//! and compare what comes out at each position.
//!
//! Where F16 weights or an F16 cache round on the way, a rounding now and then falls to the other side of a tie than in
//! the reference, because sums are made in another order; later logits are then off by what such roundings are worth.
//! Those cases have a wider last bound, [`HALVES`]; the ids stay the same, and how many steps needed it is told.

pub mod runs;

use crate::json_lines;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How far the logits of an unquantized model may be off.
const LOGIT_TOLERANCE: f64 = 2e-3;
/// How far the logits of a quantized model may be off, as a share of their root mean square.
const RMS_SHARE: f64 = 0.03;
/// How far logits may be off once halves were rounded otherwise, as a share of their root mean square: unquantized
/// models (measured: 0.0022) and quantized ones (0.048).
const HALVES: [f64; 2] = [0.004, 0.06];

/// Golden outputs of one model.
pub struct Golden {
    /// File name of the model.
    pub model: String,
    /// One continuation each.
    pub cases: Vec<Case>,
}

/// One greedy continuation of a prompt.
pub struct Case {
    /// The prompt's text.
    pub prompt: String,
    /// Type of the KV cache, as the commands name it.
    pub kv: String,
    /// The prompt's ids.
    pub prompt_ids: Vec<u64>,
    /// The ids that follow.
    pub ids: Vec<u64>,
    steps: Vec<Logits>,
}

/// The logits at one position.
#[derive(Clone)]
struct Logits {
    /// Root mean square over the vocabulary.
    rms: f64,
    /// The largest, in falling order.
    top: Vec<(u64, f64)>,
}

impl Golden {
    /// Reads a golden file.
    ///
    /// # Errors
    ///
    /// When it is not of the documented form.
    pub fn parse(text: &str) -> Result<Golden> {
        let value: Value = serde_json::from_str(text)?;
        let cases = value["cases"].as_array().context("no `cases`")?;
        let model = string(&value, "model")?;
        Ok(Golden { model, cases: cases.iter().map(Case::parse).collect::<Result<_>>()? })
    }

    /// Whether weights are stored in blocks, so that results agree only within their rounding.
    pub fn is_quantized(&self) -> bool {
        !["-f32.gguf", "-f16.gguf"].iter().any(|suffix| self.model.ends_with(suffix))
    }

    /// Whether values are rounded to halves on the way, by the weights or by the cache of `case`.
    fn has_halves(&self, case: &Case) -> bool {
        case.kv == "f16" || self.model.ends_with("-f16.gguf")
    }

    /// Compares the JSON lines printed while the [`fed_ids`](Case::fed_ids) of `case` were fed, one for each position,
    /// and gives the number of steps that needed the bound for halves.
    ///
    /// # Errors
    ///
    /// When a position is missing, a logit is too far off, or the largest logit belongs to another id although the gap
    /// to the second is wider than the tolerance.
    pub fn compare(&self, case: &Case, printed: &str) -> Result<usize> {
        let objects = json_lines::objects(printed)?;
        let objects = objects.iter().filter(|object| object["top"].is_array());
        let positions: Vec<Logits> = objects.map(Logits::parse).collect::<Result<_>>()?;
        let n_fed = case.prompt_ids.len() + case.ids.len() - 1;
        ensure!(positions.len() == n_fed, "{} positions printed for {n_fed} ids fed", positions.len());
        let mut n_rounded = 0;
        for (i, (want, got)) in case.steps.iter().zip(&positions[case.prompt_ids.len() - 1..]).enumerate() {
            let tolerance = if self.is_quantized() { RMS_SHARE * want.rms } else { LOGIT_TOLERANCE };
            let halves = HALVES[usize::from(self.is_quantized())] * want.rms;
            let limit = if self.has_halves(case) { halves.max(tolerance) } else { tolerance };
            let what = || format!("step {i} of `{}`", case.prompt);
            let off = want.distance(got);
            ensure!(off <= limit, "{}: a logit is off by {off:.5}, more than {limit:.5}", what());
            want.compare_first(got, self.is_quantized().then_some(tolerance)).with_context(what)?;
            n_rounded += usize::from(off > tolerance);
        }
        Ok(n_rounded)
    }
}

impl Case {
    fn parse(value: &Value) -> Result<Case> {
        let steps = value["steps"].as_array().context("no `steps`")?;
        let case = Case {
            prompt: string(value, "prompt")?,
            kv: string(value, "kv")?,
            prompt_ids: ids(value, "prompt_ids")?,
            ids: ids(value, "ids")?,
            steps: steps.iter().map(Logits::parse).collect::<Result<_>>()?,
        };
        ensure!(case.steps.len() == case.ids.len(), "{} steps for {} ids", case.steps.len(), case.ids.len());
        Ok(case)
    }

    /// The ids to feed, separated by commas: the prompt and all but the last that follow.
    pub fn fed_ids(&self) -> String {
        let fed = self.prompt_ids.iter().chain(self.ids.iter().take(self.ids.len().saturating_sub(1)));
        fed.map(u64::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Logits {
    fn parse(value: &Value) -> Result<Logits> {
        let pair = |pair: &Value| Some((pair[0].as_u64()?, pair[1].as_f64()?));
        let top = value["top"].as_array().context("no `top`")?;
        let top: Vec<_> =
            top.iter().map(pair).collect::<Option<_>>().context("`top` holds pairs of id and logit")?;
        ensure!(top.len() == 5, "{} logits in `top`, not five", top.len());
        Ok(Logits { rms: value["rms"].as_f64().context("no `rms`")?, top })
    }

    /// The largest difference: of the logits at each rank, and of those of each id that both have.
    fn distance(&self, got: &Logits) -> f64 {
        let ranks = self.top.iter().zip(&got.top).map(|(want, got)| (want.1 - got.1).abs());
        let of_id =
            |want: &(u64, f64)| got.top.iter().find(|got| got.0 == want.0).map(|got| (want.1 - got.1).abs());
        // `max` would let a NaN pass; no number is as far off.
        let far = |a: f64, b: f64| if b.is_nan() { f64::INFINITY } else { a.max(b) };
        ranks.chain(self.top.iter().filter_map(of_id)).fold(0.0, far)
    }

    /// Whether the largest logit is that of the same id; a gap of at most `tie` decides nothing.
    fn compare_first(&self, got: &Logits, tie: Option<f64>) -> Result<()> {
        let gap = self.top[0].1 - self.top[1].1;
        let may_differ = tie.is_some_and(|tie| gap <= tie);
        ensure!(may_differ || self.top[0].0 == got.top[0].0, "id {} for {}", got.top[0].0, self.top[0].0);
        Ok(())
    }
}

fn string(value: &Value, key: &str) -> Result<String> {
    Ok(value[key].as_str().with_context(|| format!("no `{key}`"))?.to_owned())
}

fn ids(value: &Value, key: &str) -> Result<Vec<u64>> {
    let ids = value[key].as_array().and_then(|ids| ids.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
    let ids = ids.with_context(|| format!("`{key}` is no list of ids"))?;
    ensure!(!ids.is_empty(), "`{key}` is empty");
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = r#"{"model": "tiny-f32.gguf", "cases": [{"prompt": "hi", "kv": "f32", "prompt_ids": [1, 7],
        "ids": [9, 2], "text": "", "steps": [
        {"id": 9, "mean": 0, "rms": 10.0, "top": [[9, 5.0], [2, 4.9], [3, 3.0], [4, 2.0], [5, 1.0]]},
        {"id": 2, "mean": 0, "rms": 10.0, "top": [[2, 6.0], [9, 3.0], [3, 2.0], [4, 1.5], [5, 1.0]]}]}]}"#;

    /// What an engine prints for the three ids fed, with the first two logits of the first step as given.
    fn printed(first: (u64, f64), second: (u64, f64)) -> String {
        let row = |top: &str| format!("{{\"id\":1,\"mean\":0,\"rms\":10.0,\"top\":{top}}}\n");
        let rest = "[3,3.0],[4,2.0],[5,1.0]]";
        row("[[0,1],[1,0],[2,0],[3,0],[4,0]]")
            + &row(&format!("[[{},{}],[{},{}],{rest}", first.0, first.1, second.0, second.1))
            + &row("[[2,6.0],[9,3.0],[3,2.0],[4,1.5],[5,1.0]]")
    }

    #[test]
    fn equal_outputs_agree() {
        let golden = Golden::parse(GOLDEN).unwrap();
        assert!(!golden.is_quantized());
        assert_eq!(golden.cases[0].fed_ids(), "1,7,9");
        assert_eq!(golden.compare(&golden.cases[0], &printed((9, 5.001), (2, 4.901))).unwrap(), 0);
    }

    /// The golden file as that of another model and cache, compared with what was printed.
    fn compare(model: &str, kv: &str, printed: &str) -> Result<usize> {
        let text =
            GOLDEN.replace("tiny-f32.gguf", model).replace("\"kv\": \"f32\"", &format!("\"kv\": \"{kv}\""));
        let golden = Golden::parse(&text).unwrap();
        golden.compare(&golden.cases[0], printed)
    }

    #[test]
    fn quantized_models_have_their_own_tolerance() {
        let near = printed((9, 5.2), (2, 4.8));
        assert!(compare("tiny-f32.gguf", "f32", &near).is_err());
        assert_eq!(compare("tiny-q4_0.gguf", "f32", &near).unwrap(), 0);
        // The gap of 0.1 is narrower than 3 % of 10, so the two may change places, but only there.
        assert!(compare("tiny-q4_0.gguf", "f32", &printed((2, 5.0), (9, 4.9))).is_ok());
        assert!(compare("tiny-f32.gguf", "f32", &printed((2, 5.0), (9, 4.999))).is_err());
        assert!(compare("tiny-q4_0.gguf", "f32", &printed((9, 5.4), (2, 4.9))).is_err());
    }

    #[test]
    fn halves_have_a_wider_bound_and_are_counted() {
        let near = printed((9, 5.03), (2, 4.9));
        assert!(compare("tiny-f32.gguf", "f32", &near).is_err());
        assert_eq!(compare("tiny-f32.gguf", "f16", &near).unwrap(), 1);
        assert_eq!(compare("tiny-f16.gguf", "f32", &near).unwrap(), 1);
        assert!(compare("tiny-f32.gguf", "f16", &printed((9, 5.05), (2, 4.9))).is_err());
        assert!(compare("tiny-f32.gguf", "f16", &printed((2, 5.03), (9, 4.9))).is_err());
    }

    #[test]
    fn another_id_on_top_is_found() {
        let wrong = printed((9, 5.0), (2, 4.9)).replace("[[2,6.0]", "[[8,6.0]");
        assert!(
            format!("{:#}", compare("tiny-q4_0.gguf", "f32", &wrong).unwrap_err()).contains("id 8 for 2")
        );
    }

    #[test]
    fn missing_positions_and_odd_files_are_refused() {
        let cut: String = printed((9, 5.0), (2, 4.9)).lines().take(2).map(|l| format!("{l}\n")).collect();
        assert!(compare("tiny-f32.gguf", "f32", &cut).is_err());
        assert!(Golden::parse("{}").is_err());
        assert!(Golden::parse(&GOLDEN.replace("\"ids\": [9, 2]", "\"ids\": [9]")).is_err());
    }
}
