//! What is said about a vector of logits: mean, root mean square, the five largest.

use corelm::Token;
use serde_json::{Value, json};

/// How many of the largest logits are shown.
const N_TOP: usize = 5;

/// Logits in short.
pub struct Summary {
    /// The mean over the vocabulary.
    pub mean: f64,
    /// The root of the mean square.
    pub rms: f64,
    /// The largest, in falling order; equal ones by rising id.
    pub top: Vec<(Token, f32)>,
}

impl Summary {
    /// Sums `logits` up.
    pub fn of(logits: &[f32]) -> Summary {
        let n = logits.len().max(1) as f64;
        let mean = logits.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let rms = (logits.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / n).sqrt();
        let mut top: Vec<(Token, f32)> = (0..).zip(logits.iter().copied()).collect();
        top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        top.truncate(N_TOP);
        Summary { mean, rms, top }
    }

    /// The largest logits as `[[id, logit], …]`.
    pub fn top_json(&self) -> Value {
        self.top.iter().map(|&(id, logit)| json!([id, logit])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_id() {
        let summary = Summary::of(&[1.0, 3.0, -1.0, 3.0, 0.0, 2.0]);
        assert_eq!(summary.top, [(1, 3.0), (3, 3.0), (5, 2.0), (0, 1.0), (4, 0.0)]);
        assert!((summary.mean - 8.0 / 6.0).abs() < 1e-12);
        assert!((summary.rms - (24.0f64 / 6.0).sqrt()).abs() < 1e-12);
    }
}
