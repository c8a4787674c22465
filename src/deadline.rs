//! Deadlines: a duration from now, or a time of day. A time of day follows the wall clock, also while the machine sleeps.

use std::time::{Duration, Instant, SystemTime};

/// Longest time between two looks at the clock on the wall.
const LOOK: Duration = Duration::from_secs(1);

/// The end of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// A span from now. The time in which the machine sleeps does not count.
    Span(Instant),
    /// A time of day.
    Clock(SystemTime),
}

impl Deadline {
    /// Ends after `span`; `None` if that is too far away.
    pub fn after(span: Duration) -> Option<Self> {
        Instant::now().checked_add(span).map(Self::Span)
    }

    /// The time that is left.
    pub fn left(self) -> Duration {
        match self {
            Self::Span(at) => at.saturating_duration_since(Instant::now()),
            Self::Clock(at) => at.duration_since(SystemTime::now()).unwrap_or_default(),
        }
    }

    /// Returns true if the time is over.
    pub fn has_passed(self) -> bool {
        self.left().is_zero()
    }

    /// Waits until the time is over.
    pub async fn wait(self) {
        loop {
            match self.left() {
                Duration::ZERO => return,
                left => tokio::time::sleep(left.min(LOOK)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_kept_by_the_clock_on_the_wall() {
        let hour = Duration::from_hours(1);
        assert!(Deadline::Clock(SystemTime::now() - hour).has_passed());
        assert!(!Deadline::Clock(SystemTime::now() + hour).has_passed());
        assert!(Deadline::after(hour).is_some_and(|deadline| deadline.left() > hour / 2));
        assert!(Deadline::after(Duration::ZERO).is_some_and(Deadline::has_passed));
    }
}
