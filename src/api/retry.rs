//! The wait before the next try. It is pure: the caller sleeps, and supplies the chance.

use std::time::Duration;

use super::error::Class;

/// First ceiling after a failed connection, which costs little.
const BASE_TRANSIENT: Duration = Duration::from_millis(250);
/// First ceiling after a refusal without a hint.
const BASE_THROTTLED: Duration = Duration::from_secs(1);
/// Longest ceiling; a hint may be longer.
const CAP: Duration = Duration::from_mins(1);

/// Computes the wait after `failures` failures: full jitter under an exponential ceiling, and never less than the service's
/// hint.
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
}
