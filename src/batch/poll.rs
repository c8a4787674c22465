//! The time of the next poll, as a pure decision.

use std::time::Duration;

/// Together asks for polls every 30 to 60 s. A tighter loop gets 429 (docs.together.ai, "batch/manage").
const STEADY: Duration = Duration::from_secs(30);
/// First interval. A small batch may end in minutes, and an invalid one fails in seconds, so the first polls come
/// sooner.
const FIRST: Duration = Duration::from_secs(5);

/// Returns the wait before poll number `asked` + 1, with `chance` uniform in 0..1. `every` is the user's interval, kept
/// except for a tenth of jitter.
pub fn interval(asked: u32, every: Option<Duration>, chance: f64) -> Duration {
    if let Some(every) = every {
        return every.mul_f64(1.0 + 0.1 * chance);
    }
    // The intervals are 5, 10, 20 s, then 30 to 60 s.
    let early = FIRST.saturating_mul(1 << asked.min(8));
    if early < STEADY { early.mul_f64(1.0 + 0.2 * chance) } else { STEADY.mul_f64(1.0 + chance) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_sooner_at_first_and_never_in_step() {
        let seconds = |asked, chance| interval(asked, None, chance).as_secs_f64();
        assert!((seconds(0, 0.0) - 5.0).abs() < 1e-9);
        assert!(seconds(1, 0.0) < seconds(2, 0.0));
        for asked in [3, 8, 1000, u32::MAX] {
            assert!((seconds(asked, 0.0) - 30.0).abs() < 1e-9 && seconds(asked, 1.0) <= 60.0, "{asked}");
        }
        let own = interval(7, Some(Duration::from_secs(2)), 1.0);
        assert!((2.0..=2.2).contains(&own.as_secs_f64()));
    }
}
