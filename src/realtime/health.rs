//! The health of a run: its successes and failures, and the reasons to give up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Stopped;
use super::models::Models;
use super::web_pages::Pages;

/// The health of one run.
#[derive(Debug)]
pub(super) struct Health {
    give_up_after: Duration,
    last_success: Instant,
    last_failure: Option<String>,
    answers: u64,
    pages: Pages,
    models: Models,
    stopped: Option<Stopped>,
}

impl Health {
    pub(super) fn new(now: Instant, give_up_after: Duration) -> Self {
        Self {
            give_up_after,
            last_success: now,
            last_failure: None,
            answers: 0,
            pages: Pages::default(),
            models: Models::default(),
            stopped: None,
        }
    }

    /// Records an answer of a model.
    pub(super) fn answered(&mut self, now: Instant, model: &Arc<str>) {
        self.answers += 1;
        self.models.answered(model);
        self.reached(now);
    }

    /// Records that the service itself responded, if only to refuse one row.
    pub(super) fn reached(&mut self, now: Instant) {
        self.last_success = now;
        self.pages.forget();
    }

    /// Records a failure.
    pub(super) fn failed(&mut self, message: &str) {
        self.last_failure = Some(message.to_owned());
    }

    /// Records that the service does not know a model.
    pub(super) fn refused_model(&mut self, model: &Arc<str>, message: &str) {
        self.models.refused(model, message);
    }

    /// Records a web page in place of an answer, and says whether there are enough of them to stop.
    pub(super) fn got_page(&mut self, row: u64, sent_at: Instant, now: Instant) -> bool {
        self.pages.seen(row, sent_at, now)
    }

    /// The service's message if it refuses this model again and again.
    pub(super) fn unserved(&self, model: &Arc<str>) -> Option<&str> {
        self.models.unserved(model)
    }

    /// The number of answers so far.
    pub(super) const fn answers(&self) -> u64 {
        self.answers
    }

    /// The last failure, for people.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.last_failure.clone()
    }

    /// Restarts the time to give up: the service is not the reason why nothing succeeds.
    pub(super) const fn excuse(&mut self, now: Instant) {
        self.last_success = now;
    }

    /// The last failure, if nothing has succeeded for too long.
    pub(super) fn gave_up(&self, now: Instant) -> Option<String> {
        let too_long = now.duration_since(self.last_success) >= self.give_up_after;
        self.last_failure.clone().filter(|_| too_long)
    }

    /// Records the reason why the run stops. The first one counts.
    pub(super) fn stop(&mut self, reason: Stopped) {
        self.stopped.get_or_insert(reason);
    }

    /// The reason why the run stops.
    pub(super) fn stopped(&self) -> Option<Stopped> {
        self.stopped.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_gives_up_only_after_a_failure_and_the_whole_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut health = Health::new(start, Duration::from_mins(1));
        assert_eq!(health.gave_up(at(100)), None, "nothing has failed");
        health.failed("HTTP 500");
        assert_eq!(health.gave_up(at(59)), None);
        assert_eq!(health.gave_up(at(60)).as_deref(), Some("HTTP 500"));
        health.answered(at(61), &Arc::from("m"));
        assert_eq!(health.gave_up(at(120)), None);
        health.excuse(at(120));
        assert_eq!(health.gave_up(at(179)), None);
    }

    #[test]
    fn the_first_reason_to_stop_counts() {
        let mut health = Health::new(Instant::now(), Duration::ZERO);
        health.stop(Stopped::Deadline(None));
        health.stop(Stopped::Cancelled(None));
        assert_eq!(health.stopped(), Some(Stopped::Deadline(None)));
    }
}
