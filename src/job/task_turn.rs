//! The turn of a task among its copies (`--answers`): one sends rows, the others wait for its answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run_start::{EarlierOutcomes, RunStart};
use super::shared_answers::{SharedAnswers, TakenParts};
use super::signals::Signals;
use super::stop::Stop;
use crate::context::Ctx;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::realtime::Shared;
use crate::sealed::{ClaimOwner, ClaimSeat, TaskClaim};
use crate::text;
use crate::ui::Progress;

/// Time between two looks for signals and the deadline.
const TICK: Duration = Duration::from_millis(100);
/// Time between two looks for new parts while another task works: they are sealed as often.
const PARTS: Duration = Duration::from_secs(30);

/// The events that end a wait, and the place where it is shown.
pub(super) struct TurnWait<'a> {
    /// The engine that is going to send the rows.
    pub engine: &'a Arc<Shared>,
    pub signals: &'a Signals,
    pub deadline: Option<Deadline>,
    pub progress: &'a Progress,
}

/// The turn of a run.
#[derive(Debug, Default)]
pub(super) struct TaskTurn {
    /// The claim on the rows that are left. `None`: there are none, or the wait was ended.
    claim: Option<TaskClaim>,
    /// The reason why nothing may be sent.
    stop: Option<Stop>,
}

impl TaskTurn {
    /// Takes the answers of other tasks, and waits until no other task works on the rows that are left.
    ///
    /// # Errors
    /// 74 if a file cannot be read or written; 66 or 75 from a store.
    pub fn take(
        shared: &SharedAnswers,
        earlier: &mut EarlierOutcomes,
        start: &RunStart,
        wait: &TurnWait<'_>,
        ctx: &Ctx,
    ) -> Result<(Self, TakenParts)> {
        let mut parts = TakenParts::default();
        shared.take(&mut parts, earlier, start, ctx)?;
        let mut turn = Self::default();
        if start.left(earlier) > 0 {
            let mut seat = shared.seat()?;
            let mut asked = Instant::now();
            let mut told = false;
            while let Some(owner) = seat.attempt()? {
                if !told {
                    ctx.ui.note(&waiting(&owner, shared, start.left(earlier)));
                    wait.progress.phase("waiting for another copy of this task");
                    told = true;
                }
                if wait.is_over(seat.pause()) {
                    turn.stop = wait.stop();
                    return Ok((turn, parts));
                }
                if asked.elapsed() >= PARTS {
                    asked = Instant::now();
                    shared.take(&mut parts, earlier, start, ctx)?;
                    if start.left(earlier) == 0 {
                        return Ok((turn, parts));
                    }
                }
            }
            turn.claim = Some(wait.keep(seat)?);
            // The owner before may have sealed some in the end.
            shared.take(&mut parts, earlier, start, ctx)?;
        }
        Ok((turn, parts))
    }

    /// Ends the turn once all answers are sealed, so that the next copy takes them. Returns the stop of a run that could not
    /// send all its rows for that; `stop` is the one that it came to itself. `signal`: the first one, which explains more.
    pub fn end(self, stop: Option<Stop>, signal: i32) -> Option<Stop> {
        let lost = self.claim.and_then(TaskClaim::release).map(|error| Stop::by(&error));
        let own = self.stop.or(lost).filter(|_| signal == 0);
        stop.map(|stop| own.unwrap_or(stop))
    }
}

impl TurnWait<'_> {
    /// Waits a moment. Returns true if a signal or the deadline ended the wait.
    fn is_over(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.is_ended() {
            std::thread::sleep(TICK.min(pause));
        }
        self.is_ended()
    }

    fn is_ended(&self) -> bool {
        self.engine.stop.is_cancelled() || self.deadline.is_some_and(Deadline::has_passed)
    }

    /// The reason to send nothing. A signal has its own.
    fn stop(&self) -> Option<Stop> {
        self.engine.stop.cancel();
        (self.signals.first() == 0).then(|| Stop::of_wait(true))
    }

    fn keep(&self, seat: ClaimSeat) -> Result<TaskClaim> {
        let engine = Arc::clone(self.engine);
        seat.keep(move || engine.stop.cancel())
    }
}

fn waiting(owner: &ClaimOwner, shared: &SharedAnswers, left: u64) -> String {
    let (rows, patience) = (text::plural(left, "row"), text::duration(owner.patience));
    format!(
        "{} works on this task too: waiting for its answers to {rows} in {}, until it ends or shows no life for {patience}",
        owner.shown,
        shared.dir()
    )
}
