//! The results of a batch job, written out: every row in input order, answered or with its error.

use std::time::{Duration, Instant};

use super::ahead::Ahead;
use super::follow::{Waiting, follow};
use super::session::{Session, SessionOptions};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::finish::{Desk, Ended, Finish, JobAccounts};
use crate::job::remote::Remote;
use crate::job::verdict::Asker;
use crate::money::Accounts;
use crate::outcome::{ErrorCode, Outcome};
use crate::price::Nanos;
use crate::results::{Delivery, Outputs, RowReader, Unanswered};
use crate::row_set::RowSet;
use crate::store::{BatchJob, Job, LockWait};
use crate::text;
use crate::ui::Results;

/// A request for the results of a job.
#[derive(Debug)]
pub struct FetchAsk {
    /// The job.
    pub job: Job,
    /// Where results go.
    pub delivery: Delivery,
    /// `--wait`
    pub waiting: Option<Waiting>,
    /// `--partial`: what there is.
    pub partial: bool,
    /// How long to wait for another process that works on the job.
    pub wait: LockWait,
}

/// Takes what has ended and writes the results.
///
/// # Errors
/// 75 if the job has not ended and nothing partial is wanted.
pub fn fetch(ask: &FetchAsk, remote: Remote<'_>, ctx: &Ctx) -> Result<Ended> {
    let began = Instant::now();
    let results = if ask.delivery.output.is_some() { Results::Elsewhere } else { Results::Stdout };
    // A command that waits for the batches also waits for other processes that do.
    let wait = ask.waiting.map_or(ask.wait, |waiting| LockWait::until(waiting.until));
    let mut session =
        Session::open(&ask.job, remote, ctx, SessionOptions { results, wait, ..SessionOptions::default() })?;
    let outputs = session.outputs(&ask.delivery)?;
    let ended = match ask.waiting {
        Some(waiting) => follow(std::slice::from_mut(&mut session), waiting)?,
        None => match session.advance(false) {
            // What there is can be written all the same.
            Err(error) if ask.partial && matches!(error.exit, Exit::TempFail | Exit::Failure) => {
                ctx.ui.warn(&error.to_string());
                false
            }
            ended => ended?,
        },
    };
    if !ended && !ask.partial {
        session.record()?;
        let what = if ask.waiting.is_some() { "--timeout has passed" } else { "not finished yet" };
        let count = text::unended(session.open_batches()?.all, &session.job.id);
        return Err(Error::new(Exit::TempFail, format!("{what}: {count}"))
            .hint("pass --wait to wait for the end, or --partial to write the results so far"));
    }
    session.deliver(outputs, ask.delivery.form.is_flat(), began)
}

impl Session<'_> {
    /// Opens the outputs, before anything is done that they could fail.
    ///
    /// # Errors
    /// As [`Delivery::open`]; 65 if the input is needed and is not what it was.
    pub fn outputs(&self, delivery: &Delivery) -> Result<Outputs> {
        let flat = delivery.form.is_flat();
        if flat && self.spec.kept.is_empty() {
            // Columns of another file must not come to stand beside these answers.
            self.same_input()?;
        }
        let inputs = if flat { Some(self.inputs()?) } else { None };
        delivery.open(&self.spec.inputs, inputs.as_ref(), &self.spec.params, self.ctx)
    }

    /// What the job has cost in real time so far, what may have been billed included; the known part.
    pub fn spent_in_realtime(&self) -> Result<Nanos> {
        let accounts = Accounts::of_realtime(&self.driver.db.borrow(), self.ctx.settings.prices.clone())?;
        Ok(accounts.spent())
    }

    /// Rows without an outcome that no batch is to answer.
    pub fn rows_beside_batches(&self) -> Result<u64> {
        let (succeeded, failed) = self.counts()?;
        let mut awaited = 0;
        self.driver.db.borrow().each_awaited(|_| awaited += 1)?;
        Ok(self.job.total.saturating_sub(succeeded + failed + awaited))
    }

    /// Writes the results of all rows that have one; the others stand there as not answered yet.
    ///
    /// # Errors
    /// 74 if they cannot be written, 141 if nobody reads them.
    pub fn deliver(mut self, outputs: Outputs, flat: bool, began: Instant) -> Result<Ended> {
        self.progress.phase("writing results");
        let shape = self.shape()?;
        let cursor = if flat { Some(RowReader::open(&self.inputs()?, &shape, true)?) } else { None };
        let mut done = RowSet::new(self.job.total);
        self.driver.db.borrow().each_row(|row| _ = done.insert(row))?;
        let files = outputs.files.clone();
        let (results, summary_file) = outputs.ordered(self.job.total, done, cursor);
        let mut accounts = Accounts::new(self.ctx.settings.prices.clone(), self.job.total);
        accounts.add_retired(&self.driver.db.borrow())?;
        let mut price = |outcome: &Outcome| accounts.add(outcome, false);
        let mut open = || RowReader::open(&self.inputs()?, &shape, false);
        let pending = not_answered(&self.batches()?);
        let reader = self.store.open_job(&self.job.id)?;
        let written = std::thread::scope(|scope| {
            let ahead = Ahead::start(scope, reader);
            let unanswered = Unanswered { code: ErrorCode::Interrupted, reason: &pending, open_reader: &mut open };
            results.finish(&ahead, &mut price, unanswered)
        });
        self.progress.finish();
        written?;
        let desk = Desk { ctx: self.ctx, store: &self.store, ledger: &self.ledger };
        let accounts = JobAccounts::with(accounts, desk, &self.driver.db.borrow(), &self.job, &self.spec)?;
        if !accounts.batches.is_empty() {
            // What was sent in real time on the way is a part of it; a report says the same later.
            let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.job.active_ms = self.job.active_ms.max(elapsed);
        }
        let duration = Duration::from_millis(self.job.active_ms);
        let finish = Finish {
            desk,
            job: self.job,
            spec: &self.spec,
            command: Asker::Other,
            stop: None,
            http: None,
            nowhere: false,
            written: files,
        };
        Ok(finish.conclude(&accounts, duration).write_summary(summary_file, self.ctx))
    }
}

/// The error of a row without an outcome.
fn not_answered(batches: &[BatchJob]) -> String {
    match batches.iter().filter(|batch| batch.is_open()).count() {
        0 => "not answered yet".to_owned(),
        open => {
            let (all, have) = (text::batches(batches.len()), text::have(open));
            format!("not answered yet: {open} of {all} {have} not ended")
        }
    }
}
