//! What is printed of a row of logits: mean, root mean square and the five largest.

use core::fmt;

/// How many of the largest are kept.
pub const N_TOP: usize = 5;

/// A row of logits in a few numbers; displayed, it is the members of a JSON object.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// Mean over the vocabulary.
    pub mean: f64,
    /// Root mean square over the vocabulary.
    pub rms: f64,
    /// The largest in falling order, as `(token, logit)`; of equals the lower token first.
    pub top: heapless::Vec<(u32, f32), N_TOP>,
}

impl Summary {
    /// Summarises `logits` (`vocab_size`); an empty row is all zeros.
    pub fn new(logits: &[f32]) -> Self {
        let n = logits.len().max(1) as f64;
        let sum: f64 = logits.iter().copied().map(f64::from).sum();
        let squares: f64 = logits.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let mut top: heapless::Vec<(u32, f32), N_TOP> = heapless::Vec::new();
        for (token, &logit) in (0..).zip(logits) {
            let place = top.iter().take_while(|(_, kept)| *kept >= logit).count();
            if place == N_TOP {
                continue;
            }
            if top.is_full() {
                top.pop();
            }
            // There is room, and the place is not past the end.
            let _ = top.insert(place, (token, logit));
        }
        Self { mean: sum / n, rms: libm::sqrt(squares / n), top }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"mean\":{:.6},\"rms\":{:.6},\"top\":[", self.mean, self.rms)?;
        for (n, (token, logit)) in self.top.iter().enumerate() {
            write!(f, "{}[{token},{logit:.6}]", if n == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_ties_go_to_the_lower_token() {
        let summary = Summary::new(&[1.0, 5.0, -2.0, 5.0, 3.0, 4.0, 0.0]);
        assert_eq!(summary.top.as_slice(), [(1, 5.0), (3, 5.0), (5, 4.0), (4, 3.0), (0, 1.0)]);
        assert!((summary.mean - 16.0 / 7.0).abs() < 1e-12);
        assert!((summary.rms - (80.0_f64 / 7.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn short_rows_are_shown_as_they_are() {
        let text = Summary::new(&[2.0, -2.0]).to_string();
        assert_eq!(text, r#""mean":0.000000,"rms":2.000000,"top":[[0,2.000000],[1,-2.000000]]"#);
        assert_eq!(Summary::new(&[]).top.len(), 0);
    }
}
