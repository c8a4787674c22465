//! The one consumer: event → store → results → summary → progress. Modes differ in what they feed it, not in how it works.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use crate::error::{Exit, Result};
use crate::money::Money;
use crate::money::reservation::Purse;
use crate::outcome::Outcome;
use crate::price::Nanos;
use crate::realtime::limiter::Hold;
use crate::realtime::{Event, Paused, Shared};
use crate::results::Ordered;
use crate::row_set::Bits;
use crate::store::{Job, JobDb, Ledger};
use crate::summary::Totals;
use crate::ui::{Progress, Snapshot, Ui};

/// How long the first outcome of a group waits for company at full speed: a commit then serves some thirty rows. No longer,
/// because nothing is sent in their place until they are committed; and at the pace of a language model nobody waits.
const GROUP: Duration = Duration::from_micros(100);
/// A group of so many rows says that more are coming.
const FULL: usize = 8;
/// Largest group.
const GROUP_ROWS: usize = 4096;
/// Commits survive a killed process at once, and a dead machine after this long.
const SYNC: Duration = Duration::from_secs(1);
/// How often the index of jobs is told.
const TELL: Duration = Duration::from_secs(2);

/// Rows and money so far, new ones only.
#[derive(Debug, Default, Clone, Copy)]
struct Counters {
    succeeded: u64,
    failed: u64,
    tokens: u64,
    cost: Nanos,
    unpriced: bool,
}

/// Outcomes that came and are not committed yet, and the permits of those that keep their place until they are.
#[derive(Debug, Default)]
struct Group {
    #[expect(clippy::vec_box, reason = "they come in boxes, and go on in them")]
    outcomes: Vec<Box<Outcome>>,
    held: Option<OwnedSemaphorePermit>,
}

impl Group {
    fn push(&mut self, outcome: Box<Outcome>, permit: Option<OwnedSemaphorePermit>) -> &Outcome {
        match (&mut self.held, permit) {
            (Some(all), Some(one)) => all.merge(one),
            (_, Some(one)) => self.held = Some(one),
            (_, None) => {}
        }
        self.outcomes.push(outcome);
        &self.outcomes[self.outcomes.len() - 1]
    }
}

/// What the consumer ends with, for the summary.
#[derive(Debug)]
pub struct Consumed<'ctx> {
    /// The job's rows.
    pub db: JobDb,
    /// Results that may still lack rows.
    pub ordered: Ordered,
    /// The fold of all rows whose turn has come.
    pub totals: Totals,
    /// What is left in it goes back.
    pub purse: Option<Purse<'ctx>>,
}

/// The consumer of one run's events. Lives on its own thread; owns the database, the results, the totals.
pub struct Consumer<'a, 'ctx> {
    /// The job's rows.
    pub db: JobDb,
    /// The results.
    pub ordered: Ordered,
    /// The fold.
    pub totals: Totals,
    /// Prices.
    pub money: Money,
    /// Rows whose outcome stands already.
    pub reused: Arc<Bits>,
    /// How many of these were answered, and how many failed for good.
    pub stood: (u64, u64),
    /// The bar.
    pub progress: Progress,
    /// For what must be said at once.
    pub ui: Ui,
    /// The service is known not to answer.
    pub outage: bool,
    /// What the engine is told.
    pub shared: Arc<Shared>,
    /// The index of jobs, and this job as it stands there.
    pub ledger: Ledger,
    /// This job's entry.
    pub job: &'a mut Job,
    /// Money out of the config file's budgets.
    pub purse: Option<Purse<'ctx>>,
    /// Spent by earlier runs.
    pub spent: Nanos,
    /// When this run began.
    pub started: Instant,
}

impl<'ctx> Consumer<'_, 'ctx> {
    /// Takes events until the engine is gone; every outcome is on its way to the disk before it is shown.
    pub fn consume(mut self, events: &Receiver<Event>) -> Result<Consumed<'ctx>> {
        let mut group = Group::default();
        let result = self.take_all(events, &mut group);
        if let Err(error) = &result {
            // First of all stop spending.
            self.shared.stop.cancel();
            // After a failed fsync a second one might only seem to succeed.
            let sync = error.exit == Exit::ClosedPipe;
            // What came in or is in flight is paid for: keep it if the disk lets us (a closed pipe does). If it does not,
            // the claim stays, and the next run names the rows in doubt.
            let mut kept = self.db.undo();
            for outcome in &group.outcomes {
                kept = kept.and_then(|()| self.db.put(outcome));
            }
            while let Ok(event) = events.recv() {
                if let Event::Outcome(outcome, _) = event {
                    self.shared.written(1);
                    kept = kept.and_then(|()| self.db.put(&outcome));
                }
            }
            let kept = kept.and_then(|()| self.db.release()).and_then(|()| self.db.commit(sync));
            if let Err(error) = kept {
                tracing::warn!("{error}");
            }
        }
        result.map(|()| Consumed { db: self.db, ordered: self.ordered, totals: self.totals, purse: self.purse })
    }

    fn take_all(&mut self, events: &Receiver<Event>, group: &mut Group) -> Result<()> {
        let mut counters = Counters::default();
        let (mut synced, mut told) = (Instant::now(), Instant::now());
        let (mut dirty, mut busy) = (false, false);
        let mut stored: Vec<Box<Outcome>> = Vec::new();
        self.advance()?;
        loop {
            self.show(&counters);
            let (mut claim, mut tried, mut draw) = (None, Vec::new(), None);
            let first = match events.recv_timeout(Duration::from_millis(200)) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if busy && matches!(first, Some(Event::Outcome(..))) {
                std::thread::sleep(GROUP);
            }
            for event in first.into_iter().chain(events.try_iter().take(GROUP_ROWS)) {
                match event {
                    Event::Claim(row) => {
                        self.db.claim(row)?;
                        claim = Some(row);
                    }
                    Event::Outcome(outcome, permit) => self.db.put(group.push(outcome, permit))?,
                    Event::Tried(so_far, told) => {
                        self.db.put_tried(&so_far)?;
                        tried.push(told);
                    }
                    Event::Draw(need) => draw = Some(need),
                }
            }
            dirty |= claim.is_some() || !group.outcomes.is_empty() || !tried.is_empty();
            self.db.commit(false)?;
            // From here on they survive us, and are not in flight any more.
            drop(group.held.take());
            if let Some(row) = claim {
                self.shared.claimed(row);
            }
            // Who has given up waiting need not be told.
            for told in tried {
                let _ = told.send(());
            }
            self.shared.written(group.outcomes.len());
            busy = group.outcomes.len() >= FULL;
            stored.append(&mut group.outcomes);
            if dirty && synced.elapsed() >= SYNC {
                self.db.commit(true)?;
                synced = Instant::now();
                dirty = false;
            }
            for outcome in stored.drain(..) {
                self.count(&outcome, &mut counters);
                self.ordered.push(outcome);
            }
            self.advance()?;
            // What was spent is told first, or it would count twice.
            if told.elapsed() >= TELL || draw.is_some() {
                told = Instant::now();
                self.tell(&counters)?;
            }
            if let Some(purse) = &mut self.purse
                && let Some(answer) = purse.serve(draw)?
            {
                self.shared.drawn(answer);
            }
        }
        // The engine has ended, so whatever it sent has been told.
        self.db.release()?;
        self.db.commit(true)?;
        self.tell(&counters)
    }

    fn advance(&mut self) -> Result<()> {
        let (money, totals, reused) = (&mut self.money, &mut self.totals, &self.reused);
        self.ordered.advance(&self.db, &mut |outcome| money.count(outcome, reused.contains(outcome.row), totals))
    }

    fn count(&mut self, outcome: &Outcome, counters: &mut Counters) {
        if outcome.ok() {
            counters.succeeded += 1;
        } else {
            counters.failed += 1;
        }
        let usage = outcome.usage.unwrap_or_default();
        counters.tokens += usage.prompt + usage.completion;
        match self.money.charge(outcome).total() {
            Some(cost) => counters.cost += cost,
            None => counters.unpriced = true,
        }
    }

    fn show(&mut self, counters: &Counters) {
        let pace = self.shared.gauges.pace();
        // Said when it begins, and again only after things were well in between.
        let outage = pace.paused.as_ref().is_some_and(|paused| paused.delay.hold == Hold::Outage);
        if let Some(Paused { last_failure: last, .. }) = pace.paused.as_ref().filter(|_| outage && !self.outage) {
            self.ui.warn(&format!(
                "the service cannot be reached or fails every request; trying again after seconds, then once a minute. Last: {last}"
            ));
        }
        if outage || self.shared.gauges.in_flight.load(Ordering::Relaxed) > 1 {
            self.outage = outage;
        }
        if !self.progress.is_shown() {
            return;
        }
        self.progress.update(Snapshot {
            total: self.job.total,
            done: self.reused.count() + counters.succeeded + counters.failed,
            failed: self.stood.1 + counters.failed,
            reused: self.stood.0,
            in_flight: self.shared.gauges.in_flight.load(Ordering::Relaxed) as u64,
            tokens: counters.tokens,
            cost: (!counters.unpriced).then_some(counters.cost),
            waiting: pace.paused.map(|paused| (paused.delay.hold.to_string(), paused.delay.until)),
            rate_limit: pace.rate,
        });
    }

    fn tell(&mut self, counters: &Counters) -> Result<()> {
        // Taken over as another process finished it: nothing is sent, and the index knows all of it.
        if self.job.state.ended() {
            return Ok(());
        }
        self.job.succeeded = self.stood.0 + counters.succeeded;
        self.job.failed = self.stood.1 + counters.failed;
        // Of what is not known a known part may be told all the same: budgets go by it.
        let spent = self.spent + counters.cost;
        self.job.cost = (!counters.unpriced || spent > Nanos::ZERO).then_some(spent);
        let mut job = self.job.clone();
        job.active_ms += u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ledger.update(&job)?;
        self.purse.as_mut().map_or(Ok(()), |purse| purse.told(counters.cost))
    }
}
