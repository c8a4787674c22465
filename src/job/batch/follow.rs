//! Waits for batches, through outages, and collects each batch's results as soon as it ends. It is unknown how long the
//! service keeps results. Between polls llbatch unlocks the jobs, so the user can cancel one from another terminal
//! without stopping this process.

use std::time::{Duration, Instant};

use super::collect::Collected;
use super::lock::busy;
use super::notes::REMIND;
use super::session::{OpenBatches, Session, SessionOptions};
use super::unended::{early_end, unended, with_last_way};
use crate::batch::driver::{CallLimits, SubmitScope, until_due};
use crate::batch::poll;
use crate::context::Ctx;
use crate::deadline::Deadline;
use crate::error::{Error, Exit, Result};
use crate::job::remote::Remote;
use crate::job::verdict::{JobCommand, JobFacts, NextSteps, Verdict};
use crate::store::JobBatch;
use crate::store::unsent::is_claimed_now;
use crate::store::{Job, Store};
use crate::text;
use crate::ui::BatchCounts;

/// Pause before llbatch tries again to lock a job of another lock holder.
const PAUSE: Duration = Duration::from_millis(500);

/// First wait before llbatch creates a postponed batch again; each further wait is longer.
const POSTPONE: Duration = Duration::from_secs(30);

/// Limit of a wait, and the interval of its polls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    /// End of the wait. `None`: there is no limit.
    pub until: Option<Deadline>,
    /// The user's poll interval.
    pub every: Option<Duration>,
    /// The batches that it submits meanwhile.
    pub submits: SubmitScope,
}

impl Waiting {
    fn left(&self) -> Option<Duration> {
        self.until.map(Deadline::left)
    }

    /// Returns the first wait before llbatch creates a postponed batch again.
    pub fn postpone(&self) -> Option<Duration> {
        self.submits.makes_postponed().then(|| self.every.unwrap_or(POSTPONE))
    }

    /// These limits, for the calls of the wait.
    pub(super) fn limits(&self, usual: CallLimits) -> CallLimits {
        CallLimits { until: self.until, postpone: self.postpone(), ..usual }
    }
}

/// The state of a job's results after a step.
#[derive(Debug)]
pub enum Step {
    /// The store has all of them.
    Ended,
    /// More are to come.
    Open,
    /// A batch has ended, and the service lacks a file of results that it names.
    Late(Error),
}

impl Step {
    /// Returns true if the store has all results.
    ///
    /// # Errors
    /// 75 if a file is late.
    pub fn has_ended(self) -> Result<bool> {
        match self {
            Self::Ended => Ok(true),
            Self::Open => Ok(false),
            Self::Late(error) => Err(error),
        }
    }
}

/// Waits until all batches of these jobs have ended and the store has their results. Returns `false` if the time is up
/// first.
///
/// # Errors
/// 4 for the key, 74 if the disk fails, 130 if interrupted. llbatch waits through outages.
pub fn follow(sessions: &mut [Session<'_>], waiting: Waiting) -> Result<bool> {
    let mut said: Option<Instant> = None;
    let mut asked = 0;
    loop {
        hold_all(sessions, waiting.until)?;
        let mut open = None;
        let mut outage = None;
        for (at, session) in sessions.iter_mut().enumerate() {
            if !session.waits()? {
                continue;
            }
            // Calls return here during an outage, so that this loop can report it and check the time.
            let limits = waiting.limits(session.limits());
            match session.limited(limits, |session| session.advance(waiting.submits)) {
                Ok(Step::Ended) => continue,
                Ok(Step::Open) => {}
                Err(error) if error.exit == Exit::TempFail => {
                    outage.get_or_insert((error, session.ctx.ui.clone()));
                }
                Ok(Step::Late(error)) | Err(error) => return Err(error),
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
        sessions[open].show(wait)?;
        sessions.iter_mut().try_for_each(Session::show_metrics)?;
        sessions.iter_mut().try_for_each(|session| session.unlock_but_claim(waiting.submits))?;
        sessions[open].block_on(sessions[open].driver.pause_in_time(wait, waiting.until))?;
        asked += 1;
    }
}

/// Locks all of these jobs again. It holds none while it waits for another, or two commands could wait for each other.
///
/// # Errors
/// 75 if the time is up while one of them has another lock holder, 130 if interrupted.
pub(super) fn hold_all(sessions: &mut [Session<'_>], until: Option<Deadline>) -> Result<()> {
    let mut said = false;
    loop {
        let mut taken = None;
        for session in sessions.iter_mut() {
            if !session.relock()? {
                taken = Some(session.job.id.clone());
                break;
            }
        }
        let Some(taken) = taken else { return Ok(()) };
        sessions.iter_mut().try_for_each(Session::unlock)?;
        let session = &sessions[0];
        if until.is_some_and(Deadline::has_passed) {
            return Err(busy(&taken));
        }
        if !said {
            session.ctx.ui.note(&format!("another llbatch is working on {taken}; waiting for it"));
            said = true;
        }
        session.block_on(session.driver.pause(PAUSE.mul_f64(1.0 + fastrand::f64())))?;
    }
}

/// Waits until these jobs have ended and the store has their results. Returns their worst exit code.
///
/// # Errors
/// 75 if the time is up while one of them has another lock holder; otherwise as [`follow`].
pub fn wait<'a>(jobs: &[Job], waiting: Waiting, remote: Remote<'a>, ctx: &'a Ctx) -> Result<Waited> {
    let store = Store::open(ctx.settings.state_place()?)?;
    // It locks none while it waits for another, or two commands could wait for each other.
    let mut sessions = loop {
        for job in jobs {
            if !until_free(job, &store, waiting, ctx) {
                return Err(Error::new(
                    Exit::TempFail,
                    "--timeout has passed; another llbatch is still working on the job",
                ));
            }
        }
        let open = |job| Session::open(job, remote, ctx, SessionOptions::default());
        match jobs.iter().map(open).collect::<Result<Vec<_>>>() {
            Err(error) if error.exit == Exit::TempFail => std::thread::sleep(PAUSE),
            sessions => break sessions?,
        }
    };
    let ended = follow(&mut sessions, waiting)?;
    let mut exit = Exit::Ok;
    for mut session in sessions {
        let verdict = Verdict::of(&JobFacts { command: JobCommand::Wait, ..session.record()? });
        exit = exit.worst(verdict.exit);
        if let Some(steps) = verdict.steps.filter(|steps| *steps == NextSteps::WaitOrAbandon) {
            session.ctx.ui.warn(&unended(&session)?);
            session.ctx.ui.hint(&steps.text(&session.job.id, &session.flags()));
        }
        if !ended {
            session.say_postponed(waiting)?;
        }
        session.progress.finish();
    }
    Ok(Waited { ended, exit })
}

/// The end of a wait for several jobs.
#[derive(Debug, Clone, Copy)]
pub struct Waited {
    /// All have ended.
    pub ended: bool,
    /// The worst exit code of them.
    pub exit: Exit,
}

/// Waits for the lock holder of the job. Returns `false` if the time is up first.
fn until_free(job: &Job, store: &Store, waiting: Waiting, ctx: &Ctx) -> bool {
    let mut said = false;
    while store.in_use(&job.id) || is_claimed_now(store, job).unwrap_or(false) {
        if !said {
            ctx.ui.note(&format!("another llbatch is working on {}; waiting for it", job.id));
            said = true;
        }
        if waiting.until.is_some_and(Deadline::has_passed) {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

impl Session<'_> {
    /// Returns true if results are still to come. An error is not an end, because the job may still have open batches.
    fn waits(&self) -> Result<bool> {
        let batches = self.driver.db.borrow().batches()?;
        Ok(batches.iter().any(JobBatch::is_open) || self.is_unplanned()?)
    }

    /// Settles creations in doubt, polls once and collects ended batches.
    ///
    /// # Errors
    /// As [`crate::batch::driver::Driver::refresh`]; 1 if batches were never submitted.
    pub fn advance(&mut self, scope: SubmitScope) -> Result<Step> {
        match self.step_on(scope) {
            Ok(Step::Late(error)) => Ok(Step::Late(with_last_way(self, error))),
            step => step.map_err(|error| with_last_way(self, error)),
        }
    }

    fn step_on(&mut self, scope: SubmitScope) -> Result<Step> {
        if self.is_unplanned()? {
            return Err(self.stuck()?);
        }
        // A batch that cannot be submitted now does not block the others.
        let sent = self.submit(scope);
        if sent.as_ref().is_err_and(|error| error.exit != Exit::TempFail) {
            sent?;
            return Ok(Step::Open);
        }
        let asked = self.refresh();
        if let Collected::Late(error) = self.collect()? {
            return Ok(Step::Late(error));
        }
        asked?;
        sent?;
        let OpenBatches { all: open, unsent, postponed } = self.open_batches()?;
        if open > 0 && open == unsent && !(postponed > 0 && scope.makes_postponed()) {
            self.submitted(true)?;
            return Err(self.stuck()?);
        }
        Ok(if open == 0 { Step::Ended } else { Step::Open })
    }

    /// Says why the service did not begin batches, and when llbatch may make them again.
    fn say_postponed(&mut self, waiting: Waiting) -> Result<()> {
        let postponed: Vec<JobBatch> = self.batches()?.into_iter().filter(JobBatch::is_postponed).collect();
        let ui = &self.ctx.ui;
        for batch in &postponed {
            let why = batch.remote.error.as_deref().unwrap_or("no reason given");
            let next = match until_due(batch, waiting.postpone()) {
                Duration::ZERO => "at once".to_owned(),
                left => format!("in {}", text::duration(left)),
            };
            ui.warn(&format!(
                "batch {} of {}: the service did not begin it ({why}); the next wait makes it again {next}",
                batch.number, self.job.id
            ));
        }
        let verdict = self.verdict(JobCommand::Wait)?;
        if let Some(steps) = verdict.steps.filter(|steps| *steps == NextSteps::AskAgain) {
            ui.hint(&steps.text(&self.job.id, &self.flags()));
        }
        Ok(())
    }

    /// Builds the error of a job that no wait brings to its end, with the command that does.
    fn stuck(&self) -> Result<Error> {
        let verdict = self.verdict(JobCommand::Wait)?;
        Ok(early_end(self, &verdict, format!("{}: {}", self.job.id, verdict.reason)))
    }

    /// Checks that the service began every batch that it was asked for. Returns the verdict on the submission. `again`: the
    /// batches are those of a retry.
    ///
    /// # Errors
    /// 75 if it did not.
    pub fn submitted(&self, again: bool) -> Result<Verdict> {
        let verdict = self.verdict(JobCommand::Submit { again })?;
        match verdict.exit {
            Exit::TempFail => Err(early_end(self, &verdict, format!("{}: {}", self.job.id, verdict.reason))),
            _ => Ok(verdict),
        }
    }

    fn show(&self, wait: Duration) -> Result<()> {
        if !self.progress.is_shown() {
            return Ok(());
        }
        let batches = self.driver.db.borrow().batches()?;
        let ended = batches.iter().filter(|batch| batch.ended).count();
        let rows: u64 = batches.iter().map(|batch| batch.rows).sum();
        let done: f64 = batches
            .iter()
            .map(|batch| {
                batch.rows as f64 * if batch.ended { 1.0 } else { batch.remote.progress.unwrap_or(0.0) / 100.0 }
            })
            .sum();
        let now = jiff::Timestamp::now();
        let time = |text: &Option<String>| text.as_deref()?.parse::<jiff::Timestamp>().ok();
        let between = |from: jiff::Timestamp, to: jiff::Timestamp| Duration::try_from(to.duration_since(from)).ok();
        let created = batches.iter().filter_map(|batch| time(&batch.remote.created_at)).min();
        let expires =
            batches.iter().filter(|batch| !batch.ended).filter_map(|batch| time(&batch.remote.deadline)).max();
        self.progress.waiting(BatchCounts {
            job: self.job.id.clone(),
            batches: batches.len(),
            ended,
            total: rows,
            done: done as u64,
            elapsed: created.and_then(|created| between(created, now)),
            left: expires.and_then(|expires| between(now, expires)),
            cost: self.job.estimate,
            poll: wait,
        });
        Ok(())
    }
}
