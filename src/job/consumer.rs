//! The consumer of a run's events: event → store → results → summary → progress.
//!
//! It lives on a thread of its own and owns the database, the results and the totals.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::entry::JobEntry;
use super::fan_out::{FanOut, WrittenFollower};
use super::placing::FilePlacer;
use super::screen::Screen;
use super::shared_answers::RunSealer;
use super::tally::{RowFolds, Tally};
use crate::error::{Exit, Result};
use crate::money::reservation::Reservation;
use crate::outcome::Outcome;
use crate::realtime::{Claim, Event, Need, Shared};
use crate::results::OrderedWriter;
use crate::store::JobDb;

/// Time that the first outcome of a group waits for others at full speed. A commit then serves some thirty rows. A
/// longer wait would delay the requests that replace them. At the pace of a language model, no outcome waits.
const GROUP: Duration = Duration::from_micros(100);
/// Size of a group after which more rows are likely.
const FULL: usize = 8;
/// Largest group.
const GROUP_ROWS: usize = 4096;
/// Time after which a commit survives a power cut. It survives a kill at once.
const SYNC: Duration = Duration::from_secs(1);
/// Time between updates of the index of jobs.
const UPDATE: Duration = Duration::from_secs(2);
/// Longest wait for an event before the screen is updated.
const IDLE: Duration = Duration::from_millis(200);

/// The consumer of one run's events.
pub(super) struct Consumer<'a, 'ctx> {
    /// The job's rows.
    pub db: JobDb,
    /// The results.
    pub results: OrderedWriter,
    /// The fold of all outcomes.
    pub tally: Tally,
    /// The display of the run.
    pub screen: Screen,
    /// The job's entry in the index.
    pub entry: JobEntry<'a>,
    /// Money reserved from the config file's budgets.
    pub reservation: Option<Reservation<'ctx>>,
    /// Seals the answers, with `--answers`.
    pub sealer: Option<RunSealer>,
    /// Gives the files of answers their place, with `--files`.
    pub placer: Option<FilePlacer>,
    /// The way back to the engine.
    pub shared: Arc<Shared>,
    /// Rows that get the outcome of an earlier one.
    pub fan_out: FanOut,
}

/// The parts of a consumer that the end of the run needs.
#[derive(Debug)]
pub(super) struct Consumed<'ctx> {
    /// The job's rows.
    pub db: JobDb,
    /// Results that may still lack rows.
    pub results: OrderedWriter,
    /// The folds of all rows whose turn has come.
    pub folds: RowFolds,
    /// The reservation, whose rest is still to be released.
    pub reservation: Option<Reservation<'ctx>>,
    /// Tokens of this run's answers.
    pub tokens: u64,
}

/// Outcomes that are not committed yet, with the permits that keep their requests in flight until then.
#[derive(Debug, Default)]
struct Group {
    #[expect(clippy::vec_box, reason = "outcomes arrive boxed and are passed on boxed")]
    outcomes: Vec<Box<Outcome>>,
    permits: Option<OwnedSemaphorePermit>,
}

/// Events of one round that are answered after the commit.
#[derive(Default)]
struct Round {
    claim: Option<u64>,
    tried: Vec<oneshot::Sender<()>>,
    draw: Option<Need>,
    /// Followers that arrived.
    arrived: usize,
    followers: Vec<WrittenFollower>,
}

/// Progress of commits, and the times of the last sync to disk and the last update of the index.
struct CommitState {
    /// Something was committed since the last sync.
    dirty: bool,
    /// The last group was full.
    busy: bool,
    synced: Instant,
    updated: Instant,
}

impl Group {
    fn push(&mut self, outcome: Box<Outcome>, permit: Option<OwnedSemaphorePermit>) {
        match (&mut self.permits, permit) {
            (Some(all), Some(one)) => all.merge(one),
            (_, Some(one)) => self.permits = Some(one),
            (_, None) => {}
        }
        self.outcomes.push(outcome);
    }
}

impl<'ctx> Consumer<'_, 'ctx> {
    /// Consumes events until the engine is gone. It writes every outcome before it shows it.
    ///
    /// # Errors
    /// 74 if the disk fails, 141 if the reader of the results is gone. It has stopped sending then and kept all it
    /// could.
    pub(super) fn consume(mut self, events: &Receiver<Event>) -> Result<Consumed<'ctx>> {
        let mut group = Group::default();
        if let Err(error) = self.take_all(events, &mut group) {
            self.keep_what_is_paid(error.exit, &mut group, events);
            return Err(error);
        }
        let Self { db, results, tally, reservation, .. } = self;
        Ok(Consumed { db, results, tokens: tally.new.tokens, folds: tally.folds, reservation })
    }

    fn take_all(&mut self, events: &Receiver<Event>, group: &mut Group) -> Result<()> {
        let now = Instant::now();
        let mut state = CommitState { dirty: false, busy: false, synced: now, updated: now };
        let mut stored: Vec<Box<Outcome>> = Vec::new();
        self.advance()?;
        loop {
            self.screen.show(&self.tally, &self.shared, self.entry.job.total);
            self.show_live(false);
            let wait = if self.fan_out.has_work() { Duration::ZERO } else { IDLE };
            let first = match events.recv_timeout(wait) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Disconnected) if !self.fan_out.has_work() => break,
                Err(_) => None,
            };
            if state.busy && matches!(first, Some(Event::Outcome(..))) {
                std::thread::sleep(GROUP);
            }
            let mut round = self.store(first.into_iter().chain(events.try_iter().take(GROUP_ROWS)), group)?;
            self.commit(&mut round, group, &mut state)?;
            stored.append(&mut group.outcomes);
            for outcome in stored.drain(..) {
                self.seal(&outcome)?;
                self.tally.add_new(&outcome);
                self.fan_out.answered(outcome.row);
                self.results.push(outcome);
            }
            self.show(round.followers);
            self.advance()?;
            self.update(round.draw, &mut state)?;
            self.sealer.as_mut().map_or(Ok(()), RunSealer::seal_full)?;
        }
        // The engine has ended, so no request is in flight.
        self.show_live(true);
        self.db.release()?;
        self.db.commit(true)?;
        self.sealer.take().map_or(Ok(()), RunSealer::finish)?;
        if let Some(placer) = &self.placer {
            placer.say_renamed();
        }
        self.record()
    }

    fn show_live(&mut self, last: bool) {
        if let Some(live) = &mut self.tally.live {
            live.show(&self.shared, last);
        }
    }

    fn seal(&mut self, outcome: &Outcome) -> Result<()> {
        self.sealer.as_mut().map_or(Ok(()), |sealer| sealer.push(outcome))
    }

    /// Gives the files of answers their place.
    fn place<'o>(&mut self, outcomes: impl Iterator<Item = &'o mut Outcome>) -> Result<()> {
        let Self { placer, db, .. } = self;
        placer.as_mut().map_or(Ok(()), |placer| placer.place(outcomes, db))
    }

    /// Writes the events of a round into the open transaction.
    fn store(&mut self, events: impl Iterator<Item = Event>, group: &mut Group) -> Result<Round> {
        let mut round = Round::default();
        for event in events {
            match event {
                Event::Claim(Claim { upto, rows }) => {
                    match rows {
                        None => self.db.claim(upto)?,
                        Some(rows) => self.db.claim_rows(&rows)?,
                    }
                    round.claim = Some(upto);
                }
                Event::Outcome(outcome, permit) => group.push(outcome, permit),
                Event::Follow(follower) => {
                    round.arrived += 1;
                    self.fan_out.arrive(*follower);
                }
                Event::Tried(so_far, saved) => {
                    so_far.iter().try_for_each(|row| self.db.put_tried(row))?;
                    round.tried.push(saved);
                }
                Event::Draw(need) => round.draw = Some(need),
            }
        }
        if !group.outcomes.is_empty() {
            self.place(group.outcomes.iter_mut().map(|outcome| &mut **outcome))?;
            self.db.put_all(group.outcomes.iter().map(|outcome| &**outcome))?;
        }
        round.followers = self.fan_out.write(&mut self.db, |leader| self.results.is_done(leader))?;
        Ok(round)
    }

    /// Hands over followers that were committed.
    fn show(&mut self, followers: Vec<WrittenFollower>) {
        for WrittenFollower { outcome, whole } in followers {
            self.tally.add_new(&outcome);
            if whole {
                self.results.push(outcome);
            } else {
                self.results.note(outcome.row);
            }
        }
    }

    /// Commits a round. From then on, its outcomes survive a kill and are no longer in flight.
    fn commit(&mut self, round: &mut Round, group: &mut Group, state: &mut CommitState) -> Result<()> {
        let followers = round.arrived > 0 || !round.followers.is_empty();
        state.dirty |= round.claim.is_some() || !group.outcomes.is_empty() || !round.tried.is_empty() || followers;
        self.db.commit(false)?;
        drop(group.permits.take());
        if let Some(upto) = round.claim {
            self.shared.claimed(upto);
        }
        for saved in round.tried.drain(..) {
            // A row that no longer waits does not need the reply.
            let _ = saved.send(());
        }
        self.shared.written(group.outcomes.len() + round.arrived);
        state.busy = group.outcomes.len() >= FULL;
        if state.dirty && state.synced.elapsed() >= SYNC {
            self.db.commit(true)?;
            state.synced = Instant::now();
            state.dirty = false;
        }
        Ok(())
    }

    /// Updates the index periodically, and answers the engine's request for money. It records spent money first, which
    /// would otherwise count twice.
    fn update(&mut self, draw: Option<Need>, state: &mut CommitState) -> Result<()> {
        if state.updated.elapsed() >= UPDATE || draw.is_some() {
            state.updated = Instant::now();
            self.record()?;
        }
        if let Some(reservation) = &mut self.reservation
            && let Some(answer) = reservation.poll(draw)?
        {
            self.shared.drawn(answer);
        }
        Ok(())
    }

    fn record(&mut self) -> Result<()> {
        if self.entry.record(&self.tally)?
            && let Some(reservation) = &mut self.reservation
        {
            reservation.record_spent(self.tally.new.cost)?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<()> {
        let tally = &mut self.tally;
        self.results.advance(&self.db, &mut |outcome| tally.count(outcome))
    }

    /// Stores an answer of a run that stops. Without its files on the disk it is none, and stays in flight.
    fn keep(&mut self, outcome: &mut Outcome) -> Result<()> {
        self.place(std::iter::once(&mut *outcome))?;
        self.db.put(outcome)
    }

    /// Stops sending and stores all answers that have arrived or are in flight, because they are paid for. If the disk
    /// fails, the claim stays, and the next run names the rows in doubt.
    fn keep_what_is_paid(&mut self, exit: Exit, group: &mut Group, events: &Receiver<Event>) {
        self.shared.stop.cancel();
        // After a failed fsync, a second one may report success without having written.
        let sync = exit == Exit::ClosedPipe;
        // What the state directory may lose, other tasks may still find.
        let mut sealed = group.outcomes.iter().try_for_each(|outcome| self.seal(outcome));
        let mut kept = self.db.undo();
        if let Some(placer) = &self.placer {
            kept = kept.and_then(|()| placer.settle(&mut self.db));
        }
        for outcome in &mut group.outcomes {
            kept = kept.and_then(|()| self.keep(outcome));
        }
        while let Ok(event) = events.recv() {
            self.shared.written(usize::from(matches!(event, Event::Outcome(..) | Event::Follow(_))));
            if let Event::Outcome(mut outcome, _) = event {
                sealed = sealed.and_then(|()| self.seal(&outcome));
                kept = kept.and_then(|()| self.keep(&mut outcome));
            }
        }
        let kept = kept.and_then(|()| self.db.release()).and_then(|()| self.db.commit(sync));
        let sealed = sealed.and_then(|()| self.sealer.take().map_or(Ok(()), RunSealer::finish));
        for error in [kept.err(), sealed.err()].into_iter().flatten() {
            tracing::warn!("{error}");
        }
    }
}
