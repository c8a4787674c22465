//! How far the estimates of a job are off, learnt from the usage that the server reported.

use std::collections::BTreeMap;

/// Answered rows before a factor is used: fewer could all be of one unusual kind.
const ENOUGH_ROWS: u64 = 200;

/// Estimated and reported prompt tokens by model.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Calibration {
    models: BTreeMap<Box<str>, Sums>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    rows: u64,
    estimated: u64,
    actual: u64,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.estimated = self.estimated.saturating_add(other.estimated);
        self.actual = self.actual.saturating_add(other.actual);
    }
}

impl Calibration {
    /// Counts an answered row. One whose usage is zero or missing tells nothing.
    pub fn add(&mut self, model: &str, estimated: u64, actual: u64) {
        if estimated == 0 || actual == 0 {
            return;
        }
        let row = Sums { rows: 1, estimated, actual };
        if let Some(sums) = self.models.get_mut(model) {
            sums.add(row);
        } else {
            self.models.insert(model.into(), row);
        }
    }

    /// What to multiply an estimate for this model by; 1 until a few hundred of its rows were answered.
    pub fn factor(&self, model: &str) -> f64 {
        match self.models.get(model) {
            Some(sums) if sums.rows >= ENOUGH_ROWS => sums.actual as f64 / sums.estimated as f64,
            _ => 1.0,
        }
    }

    /// How far the estimates of all models' rows together were above (or below, negative) what was reported, as a share
    /// of it: 0.02 for 2% too many. `None` before the first row.
    pub fn off(&self) -> Option<f64> {
        let mut all = Sums::default();
        self.models.values().for_each(|sums| all.add(*sums));
        (all.rows > 0).then(|| all.estimated as f64 / all.actual as f64 - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_factor_needs_a_few_hundred_rows() {
        let mut seen = Calibration::default();
        for _ in 0..ENOUGH_ROWS - 1 {
            seen.add("a", 100, 110);
        }
        assert!(close(seen.factor("a"), 1.0));
        seen.add("a", 100, 110);
        assert!(close(seen.factor("a"), 1.1), "{}", seen.factor("a"));
        assert!(close(seen.factor("b"), 1.0));
    }

    #[test]
    fn rows_weigh_by_their_tokens_and_models_stay_apart() {
        let mut seen = Calibration::default();
        for _ in 0..ENOUGH_ROWS {
            seen.add("a", 10, 20);
            seen.add("a", 990, 980);
            seen.add("b", 500, 250);
        }
        assert!(close(seen.factor("a"), 1.0));
        assert!(close(seen.factor("b"), 0.5));
        assert!(close(seen.off().expect("rows"), 1500.0 / 1250.0 - 1.0));
    }

    #[test]
    fn a_row_without_usage_tells_nothing() {
        let mut seen = Calibration::default();
        seen.add("a", 100, 0);
        seen.add("a", 0, 100);
        assert_eq!(seen, Calibration::default());
        assert_eq!(seen.off(), None);
        seen.add("a", u64::MAX, u64::MAX);
        seen.add("a", u64::MAX, u64::MAX);
        assert!(close(seen.off().expect("rows"), 0.0));
    }
}
