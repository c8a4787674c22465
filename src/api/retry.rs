//! How long to wait before sending again: a pure decision. Sleeping is elsewhere, and so is chance.

use std::time::Duration;

use super::error::Class;

/// A failed connection is cheap for everyone; nobody is waiting for us either.
const BASE_TRANSIENT: Duration = Duration::from_millis(250);
/// Being told to wait without being told how long.
const BASE_THROTTLED: Duration = Duration::from_secs(1);
/// Longest wait that we choose ourselves; a hint may be longer.
const CAP: Duration = Duration::from_mins(1);

/// The wait before attempt number `failures` + 1: full jitter under an exponential, never less than the service's hint.
///
/// `failures` counts from 1; `chance` is uniform in 0..1.
pub fn delay(class: Class, failures: u32, hint: Option<Duration>, chance: f64) -> Duration {
    let base = match class {
        Class::AboveRate | Class::NoCapacity => BASE_THROTTLED,
        _ => BASE_TRANSIENT,
    };
    let ceiling = base.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(CAP);
    let own = ceiling.mul_f64(chance);
    match hint {
        Some(hint) => own.max(hint) + hint.mul_f64(0.1 * chance),
        None => own,
    }
}

/// A bucket that limits how much retrying a run may do, so that an outage is met with a pause and not with a storm.
///
/// A retry takes from it, a success gives back. When it is empty, the run pauses and probes.
#[derive(Debug, Clone)]
pub struct Budget {
    left: u32,
}

/// Retries of requests that may have been worked on, before anything succeeds: some hundred rows may fail for good without
/// the run coming to a stop.
const BUDGET: u32 = 400;
/// A service that cannot be reached at all is known to be so much sooner.
const NOT_SENT: u32 = 10;

impl Default for Budget {
    fn default() -> Self {
        Self { left: BUDGET }
    }
}

impl Budget {
    const fn cost(class: Class) -> u32 {
        if matches!(class, Class::NotSent) { NOT_SENT } else { 1 }
    }

    /// Takes the price of one retry; `false` if there is too little left.
    pub const fn take(&mut self, class: Class) -> bool {
        let enough = self.left >= Self::cost(class);
        if enough {
            self.left -= Self::cost(class);
        }
        enough
    }

    /// A request succeeded: ten successes pay for a retry.
    pub fn refund(&mut self, retried: bool, chance: f64) {
        let back = u32::from(retried || chance < 0.1);
        self.left = (self.left + back).min(BUDGET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_and_jitter_reaches_zero() {
        let ms = |class, n, chance| delay(class, n, None, chance).as_millis();
        assert_eq!(ms(Class::NotSent, 1, 1.0), 250);
        assert_eq!(ms(Class::NotSent, 2, 1.0), 500);
        assert_eq!(ms(Class::AboveRate, 1, 1.0), 1000);
        assert_eq!(ms(Class::NoCapacity, 3, 0.5), 2000);
        assert_eq!(ms(Class::Ambiguous, 40, 1.0), 60_000);
        assert_eq!(ms(Class::Ambiguous, 40, 0.0), 0);
    }

    #[test]
    fn a_hint_is_never_undercut_and_never_capped() {
        let hint = Duration::from_secs(90);
        assert_eq!(delay(Class::AboveRate, 1, Some(hint), 0.0), hint);
        assert_eq!(delay(Class::AboveRate, 1, Some(hint), 1.0), Duration::from_secs(99));
    }

    #[test]
    fn an_outage_empties_the_budget_and_successes_fill_it() {
        let retries = |class| {
            let mut budget = Budget::default();
            std::iter::repeat_with(|| budget.take(class)).take_while(|ok| *ok).count()
        };
        assert_eq!((retries(Class::Ambiguous), retries(Class::NotSent)), (400, 40));
        let mut budget = Budget { left: 0 };
        assert!(!budget.take(Class::Ambiguous));
        budget.refund(true, 0.9);
        assert!(budget.take(Class::Ambiguous));
        budget.refund(false, 0.9);
        assert!(!budget.take(Class::Ambiguous));
        for _ in 0..10_000 {
            budget.refund(false, 0.05);
        }
        assert_eq!(budget.left, BUDGET);
    }
}
