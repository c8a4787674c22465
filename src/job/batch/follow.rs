//! Waiting for batches, through outages, and taking each one's results as soon as it ends: how long the service keeps them
//! is not known. The jobs are held for each question and what follows from it, and not in between: whoever wants to cancel
//! one need not stop this process first.

use std::time::{Duration, Instant};

use super::Work;
use super::lock::busy;
use super::notes::REMIND;
use crate::batch::poll;
use crate::error::{Error, Exit, Result};
use crate::store::BatchJob;
use crate::text;

/// Before it is tried again to take a job on which another process works.
const PAUSE: Duration = Duration::from_millis(500);

/// How long to wait and how often to ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    /// Not longer than this; none: as long as it takes.
    pub until: Option<Instant>,
    /// The user's own interval.
    pub every: Option<Duration>,
    /// Batches that could not be submitted yet are submitted meanwhile.
    pub submitting: bool,
}

impl Waiting {
    fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

/// Waits until every batch of these jobs has ended and its results are in the store; `false` if the time is up first.
///
/// # Errors
/// 4 for the key, 74 if the disk refuses, 130 if interrupted. An outage is waited out.
pub fn follow(works: &mut [Work<'_>], waiting: Waiting) -> Result<bool> {
    let mut said: Option<Instant> = None;
    for asked in 0.. {
        hold_all(works, waiting)?;
        let mut open = None;
        let mut outage = None;
        for (at, work) in works.iter_mut().enumerate() {
            if !work.waits()? {
                continue;
            }
            // An outage comes back here, to be told and to be held against the time that is left.
            work.courier.options.until = waiting.until;
            match work.advance(waiting.submitting) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) if error.exit == Exit::TempFail => {
                    outage.get_or_insert((error, work.ctx.ui.clone()));
                }
                Err(error) => return Err(error),
            }
            open.get_or_insert(at);
        }
        match outage {
            None => said = None,
            Some((error, ui)) => {
                if said.is_none_or(|at| at.elapsed() > REMIND) {
                    ui.warn(&format!("{error}; still trying"));
                    said = Some(Instant::now());
                }
            }
        }
        let Some(open) = open else { return Ok(true) };
        let mut wait = poll::interval(asked, waiting.every, fastrand::f64());
        if let Some(left) = waiting.left() {
            if left.is_zero() {
                return Ok(false);
            }
            wait = wait.min(left);
        }
        works[open].show(wait)?;
        works.iter_mut().try_for_each(|work| work.leave(waiting.submitting))?;
        works[open].block_on(works[open].courier.pause(wait))?;
    }
    unreachable!("the numbers do not end")
}

/// Takes all of these jobs again. None is held while another one is waited for: two such commands would wait for each other.
fn hold_all(works: &mut [Work<'_>], waiting: Waiting) -> Result<()> {
    let mut said = false;
    loop {
        let mut taken = None;
        for work in works.iter_mut() {
            if !work.hold()? {
                taken = Some(work.job.id.clone());
                break;
            }
        }
        let Some(taken) = taken else { return Ok(()) };
        works.iter_mut().try_for_each(Work::release)?;
        let work = &works[0];
        if waiting.left().is_some_and(|left| left.is_zero()) {
            return Err(busy(&taken));
        }
        if !said {
            work.ctx.ui.note(&format!("another llbatch works on {taken}; waiting for it"));
            said = true;
        }
        work.block_on(work.courier.pause(PAUSE.mul_f64(1.0 + fastrand::f64())))?;
    }
}

impl Work<'_> {
    /// Whether results are still to come. An error is not an end: who cannot read the job does not know.
    fn waits(&self) -> Result<bool> {
        let batches = self.courier.db.borrow().batches()?;
        Ok(batches.iter().any(BatchJob::is_open) || self.is_unplanned()?)
    }

    /// Settles doubts, asks once, takes what has ended. Says whether all is in.
    ///
    /// # Errors
    /// As [`super::courier::Courier::refresh`]; 1 if batches were never submitted.
    pub fn advance(&mut self, submitting: bool) -> Result<bool> {
        if self.is_unplanned()? {
            let id = &self.job.id;
            return Err(Error::new(
                Exit::Failure,
                format!("{id} was stopped before its batches were planned; nothing was sent"),
            )
            .hint(format!(
                "the same `llbatch submit` again goes on with it; `llbatch cancel {id}{}` forgets it",
                self.flags()
            )));
        }
        // A batch that cannot be submitted now does not keep the others from being followed.
        let sent = self.submit(!submitting);
        if sent.as_ref().is_err_and(|error| error.exit != Exit::TempFail) {
            sent?;
            return Ok(false);
        }
        let asked = self.refresh();
        self.collect()?;
        asked?;
        sent?;
        let (open, unsent) = self.open_batches()?;
        if open > 0 && open == unsent {
            return Err(Error::new(
                Exit::Failure,
                format!(
                    "{unsent} of the batches of {} were never submitted, because its command was stopped",
                    self.job.id
                ),
            )
            .hint(format!("`llbatch retry {}{}` submits them", self.job.id, self.flags())));
        }
        Ok(open == 0)
    }

    fn show(&self, wait: Duration) -> Result<()> {
        if !self.progress.is_shown() {
            return Ok(());
        }
        let batches = self.courier.db.borrow().batches()?;
        let ended = batches.iter().filter(|batch| batch.ended).count();
        let rows: u64 = batches.iter().map(|batch| batch.rows).sum();
        let done: f64 = batches
            .iter()
            .map(|batch| batch.rows as f64 * if batch.ended { 1.0 } else { batch.progress.unwrap_or(0.0) / 100.0 })
            .sum();
        self.progress.phase(&format!(
            "waiting for {}: {ended} of {} ended, about {} of {}; asking again in {}",
            self.job.id,
            text::batches(batches.len()),
            text::count(done as u64),
            text::plural(rows, "row"),
            text::duration(wait)
        ));
        Ok(())
    }
}
