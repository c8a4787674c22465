//! The health of a run: its successes and failures, and the reasons to give up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Stopped;
use super::models::Models;
use super::web_pages::Pages;
use crate::outcome::{ErrorCode, RowError};

/// An answer this long before a request left still shows that the service answers.
const JUST_NOW: Duration = Duration::from_secs(10);

/// Refusals for the key or for money in a row, each of another row, after which probes show whether the rows are
/// the reason.
const REFUSALS: u32 = 20;
/// Probes: rows from further down the file. If all are refused as well, no row will be answered.
const PROBES: u32 = 3;

/// The health of one run.
#[derive(Debug)]
pub(super) struct Health {
    give_up_after: Duration,
    last_success: Instant,
    last_failure: Option<String>,
    answers: u64,
    last_answer: Option<Instant>,
    /// Refusals for the key or for money since the last answer.
    refusals: u32,
    /// Probes sent since then, and those that were refused.
    probes: u32,
    probes_refused: u32,
    /// The row that asks once more whether the service refuses the key (401).
    second_look: Option<u64>,
    pages: Pages,
    models: Models,
    stopped: Option<Stopped>,
}

/// A row that was refused for the key or for money.
#[derive(Clone, Copy)]
pub(super) struct RefusedRow<'a> {
    pub(super) model: &'a Arc<str>,
    pub(super) code: ErrorCode,
    pub(super) message: &'a str,
    /// The row was sent ahead of its turn, to find out whether the service answers any row.
    pub(super) probe: bool,
}

impl Health {
    pub(super) fn new(now: Instant, give_up_after: Duration) -> Self {
        Self {
            give_up_after,
            last_success: now,
            last_failure: None,
            answers: 0,
            last_answer: None,
            refusals: 0,
            probes: 0,
            probes_refused: 0,
            second_look: None,
            pages: Pages::default(),
            models: Models::default(),
            stopped: None,
        }
    }

    /// Records an answer of a model.
    pub(super) fn answered(&mut self, now: Instant, model: &Arc<str>) {
        self.answers += 1;
        self.last_answer = Some(now);
        (self.refusals, self.probes, self.probes_refused) = (0, 0, 0);
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

    /// Records that the service refuses a model itself.
    pub(super) fn refused_model(&mut self, model: &Arc<str>, code: ErrorCode, message: &str) {
        self.models.refused(model, code, message);
    }

    /// Records the refusal of a row, which may be one of its model.
    pub(super) fn refused_row(&mut self, model: &Arc<str>, code: ErrorCode, message: &str) {
        self.models.maybe_refused(model, code, message);
    }

    /// Records a refusal for the key or for money, of a row or a probe. Returns true if no row will be answered. Refusals of a
    /// model that was never answered while others were do not count: there the model is the reason.
    pub(super) fn refused_key(&mut self, row: RefusedRow<'_>) -> bool {
        let RefusedRow { model, code, message, probe } = row;
        if self.answers > 0 && !self.models.is_answered(model) {
            self.models.refused(model, code, message);
        } else {
            self.refusals += 1;
        }
        self.probes_refused += u32::from(probe);
        self.doubts_all() && self.probes_refused >= PROBES
    }

    /// Returns true if so many rows in a row were refused that only probes are sent.
    pub(super) const fn doubts_all(&self) -> bool {
        self.refusals >= REFUSALS
    }

    /// Has this row ask once more whether the service refuses the key. Returns false if another row does so already.
    pub(super) fn begin_second_look(&mut self, row: u64) -> bool {
        *self.second_look.get_or_insert(row) == row
    }

    /// Records that the row has asked once more, or that it will not.
    pub(super) const fn end_second_look(&mut self) {
        self.second_look = None;
    }

    /// Returns true if a row may leave. While all are refused, only a probe may. While the key is asked about once more, only
    /// the row that asks may.
    pub(super) const fn may_leave(&self, row: u64, probe: bool) -> bool {
        match self.second_look {
            Some(looking) => looking == row,
            None => probe || !self.doubts_all(),
        }
    }

    /// Counts a probe that is to be sent. Returns its number, from 0, or `None` if all were sent.
    pub(super) fn next_probe(&mut self) -> Option<u32> {
        let number = (self.probes < PROBES).then_some(self.probes)?;
        self.probes += 1;
        Some(number)
    }

    /// Records a web page in place of an answer, and says whether there are enough of them to stop.
    pub(super) fn got_page(&mut self, row: u64, sent_at: Instant, now: Instant) -> bool {
        self.pages.seen(row, sent_at, now)
    }

    /// The error of this model's rows, if the service refuses it again and again.
    pub(super) fn unserved(&self, model: &Arc<str>) -> Option<&RowError> {
        self.models.unserved(model)
    }

    /// Returns true if a row of this model was answered.
    pub(super) fn is_answered(&self, model: &Arc<str>) -> bool {
        self.models.is_answered(model)
    }

    /// Records that the service asks a row of this model to wait until then.
    pub(super) fn held(&mut self, model: &Arc<str>, until: Instant) {
        self.models.held(model, until);
    }

    /// The time until which rows of this model wait, because the service has asked several of them to wait.
    pub(super) fn held_until(&self, model: &Arc<str>, now: Instant) -> Option<Instant> {
        self.models.held_until(model).filter(|until| *until > now)
    }

    /// Returns true if an answer arrived since this time, or just before.
    pub(super) fn answered_after(&self, time: Instant) -> bool {
        self.last_answer.is_some_and(|last| last + JUST_NOW >= time)
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

    /// The time at which the run gives up if nothing succeeds until then, and the last failure.
    pub(super) fn gives_up(&self) -> Option<(Instant, &str)> {
        Some((self.last_success.checked_add(self.give_up_after)?, self.last_failure.as_deref()?))
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

    #[test]
    fn only_the_row_that_asks_again_leaves_while_the_key_is_refused() {
        let mut health = Health::new(Instant::now(), Duration::ZERO);
        let leave =
            |health: &Health| [(7, false), (8, false), (8, true)].map(|(row, probe)| health.may_leave(row, probe));
        assert_eq!(leave(&health), [true, true, true]);
        assert!(health.begin_second_look(7) && !health.begin_second_look(8) && health.begin_second_look(7));
        assert_eq!(leave(&health), [true, false, false]);
        health.end_second_look();
        assert!(health.begin_second_look(8));
        assert_eq!(leave(&health), [false, true, true]);
        health.end_second_look();
        health.refusals = REFUSALS;
        assert_eq!(leave(&health), [false, false, true]);
    }

    #[test]
    fn twenty_refusals_and_three_probes_show_that_no_row_will_be_answered() {
        let model: Arc<str> = "m".into();
        let refused = |probe| RefusedRow { model: &model, code: ErrorCode::Auth, message: "HTTP 403", probe };
        let mut health = Health::new(Instant::now(), Duration::ZERO);
        health.answered(Instant::now(), &model);
        for _ in 0..REFUSALS {
            assert!(!health.doubts_all());
            assert!(!health.refused_key(refused(false)));
        }
        assert!(health.doubts_all());
        let probes: Vec<_> = (0..=PROBES).map(|_| health.next_probe()).collect();
        assert_eq!(probes, [Some(0), Some(1), Some(2), None]);
        let verdicts = [false, true, true, true].map(|probe| health.refused_key(refused(probe)));
        assert_eq!(verdicts, [false, false, false, true]);
        health.answered(Instant::now(), &model);
        assert!(!health.doubts_all() && health.next_probe() == Some(0));
    }
}
