//! The results of a batch job, written out: every row in input order, answered or with its error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Work;
use super::ahead::{Ahead, Fresh};
use crate::check::calibrate::{self, SentJob};
use crate::error::{Exit, Result};
use crate::money::Money;
use crate::money::budget;
use crate::money::outstanding;
use crate::outcome::ErrorCode;
use crate::price::Nanos;
use crate::request::Shape;
use crate::results::{Delivery, Outputs, RowReader, Unanswered};
use crate::row_set::RowSet;
use crate::store::unsent::is_unsent;
use crate::store::{BatchJob, JobDb, State};
use crate::summary::{Meta, Summary, Totals};
use crate::text;

impl Work<'_> {
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
        self.fresh.set(Fresh::for_rows(self.job.total));
        delivery.open(&self.spec.inputs, inputs.as_ref(), &self.spec.params, self.ctx)
    }

    /// Batches whose results are still to come, and those of them that were never submitted.
    pub fn open_batches(&self) -> Result<(usize, usize)> {
        let batches = self.courier.db.borrow().batches()?;
        let open = batches.iter().filter(|batch| batch.is_open());
        let unsent = open.clone().filter(|batch| is_unsent(batch));
        Ok((open.clone().count(), unsent.count()))
    }

    /// Writes down what the job has come to, for who does not write results now.
    pub fn account(&mut self) -> Result<()> {
        let totals = {
            let db = self.courier.db.borrow();
            let prices = self.ctx.settings.prices.clone();
            crate::money::fold(&db, prices, self.job.total, &RowSet::default())?
        };
        self.job.cost = totals.usd();
        self.tell_ledger(false)?;
        budget::record(&self.job, &totals, &self.ledger)
    }

    /// What was paid so far, and may have been billed; the known part.
    pub fn spent(&self) -> Result<Nanos> {
        let db = self.courier.db.borrow();
        let prices = self.ctx.settings.prices.clone();
        let totals = crate::money::fold(&db, prices, self.job.total, &RowSet::default())?;
        Ok(crate::money::spent(&totals))
    }

    /// The same at realtime alone.
    pub fn spent_at_realtime(&self) -> Result<Nanos> {
        crate::money::at_realtime(&self.courier.db.borrow(), self.ctx.settings.prices.clone())
    }

    /// Rows without an outcome that no batch is to answer.
    pub fn beside_batches(&self) -> Result<u64> {
        let counts = self.counts()?;
        let mut awaited = 0;
        self.courier.db.borrow().each_awaited(|_| awaited += 1)?;
        Ok(counts.total.saturating_sub(counts.succeeded + counts.failed + awaited))
    }

    /// The most that the batches can cost; an unknown price counts as nothing.
    pub fn most(&self) -> Result<Nanos> {
        Ok(self.courier.db.borrow().batches()?.iter().filter_map(|batch| batch.most).sum())
    }

    /// Writes the results of all rows that have one; the others stand there as not answered yet.
    pub fn deliver(mut self, outputs: Outputs, flat: bool, began: Instant) -> Result<(Summary, Exit)> {
        self.progress.phase("writing results");
        let total = self.job.total;
        let mut totals = Totals::new(total);
        let mut money = Money::new(self.ctx.settings.prices.clone());
        let shape = Arc::new(Shape::new(&self.spec.params)?);
        let cursor = if flat { Some(RowReader::open(&self.inputs()?, &shape, true)?) } else { None };
        let db = self.courier.db.borrow();
        for retired in db.retired()? {
            money.retired(&retired, &mut totals);
        }
        let input = || Ok((self.inputs()?, Shape::new(&self.spec.params)?));
        for open in outstanding(&db, total, &mut money, input)? {
            totals.outstanding(open.rows, open.most, open.batch);
        }
        let counts = self.counts()?;
        let fresh = self.fresh.take().filter(|fresh| fresh.is_all(counts.succeeded + counts.failed));
        let mut done = RowSet::new(total);
        match &fresh {
            Some(fresh) => fresh.rows().for_each(|row| _ = done.insert(row)),
            None => db.each_row(|row| _ = done.insert(row))?,
        }
        let batches = db.batches()?;
        let open = batches.iter().filter(|batch| batch.is_open()).count();
        let (ordered, summary_file) = outputs.ordered(total, done, cursor);
        let why = if open > 0 {
            format!("not answered yet: {open} of {} {} not ended", text::batches(batches.len()), text::have(open))
        } else {
            "not answered yet".to_owned()
        };
        let mut price = |outcome: &crate::outcome::Outcome| money.count(outcome, false, &mut totals);
        let mut open_cursor = || RowReader::open(&self.inputs()?, &shape, false);
        drop(db);
        let path = self.store.job_path(&self.job.id);
        let reader = JobDb::open(&path)?;
        let written = std::thread::scope(|scope| {
            if fresh.is_some() {
                // Closing the database would do it after the results are written. What fails here fails there again.
                scope.spawn(move || JobDb::open(&path).and_then(|db| db.checkpoint()));
            }
            let ahead = Ahead::start(scope, reader, fresh);
            let unanswered = Unanswered { code: ErrorCode::Interrupted, reason: &why, open_reader: &mut open_cursor };
            ordered.finish(&ahead, &mut price, unanswered)
        });
        self.progress.finish();
        written?;
        let exit = self.verdict(&batches, &totals);
        self.job.cost = totals.usd();
        self.job.exit = Some(exit.0.code());
        // What was sent at realtime on the way is a part of it; a report says the same later.
        let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !batches.is_empty() {
            self.job.active_ms = self.job.active_ms.max(elapsed);
        }
        self.job.delivered |= open == 0;
        let state = self.tell_ledger(false)?;
        budget::record(&self.job, &totals, &self.ledger)?;
        let passes = totals.failures().any(|code| !code.is_permanent());
        let mut summary = totals.summary(&self.meta(state, passes, exit));
        if open == 0 {
            // Nice to know, and nothing more: an input that is gone by now is no failure.
            let learned = self.inputs().and_then(|inputs| {
                let (id, service) = (&*self.job.id, &*self.spec.service);
                let sent = SentJob { id, service, inputs: &inputs, shape: &shape };
                calibrate::learn(&sent, &self.courier.db.borrow(), &self.ledger)
            });
            summary.estimate_off = learned.unwrap_or(None);
        }
        if let Err(error) = summary_file.write(&summary) {
            self.ctx.ui.error(&error);
            return Ok((summary, Exit::Io));
        }
        let exit = summary_exit(&summary);
        Ok((summary, exit))
    }

    /// How a command ends that has looked at the whole job, and why.
    pub fn verdict_now(&self) -> Result<(Exit, String)> {
        let db = self.courier.db.borrow();
        let totals = crate::money::fold(&db, self.ctx.settings.prices.clone(), self.job.total, &RowSet::default())?;
        Ok(self.verdict(&db.batches()?, &totals))
    }

    /// The same, from what is at hand.
    pub fn verdict(&self, batches: &[BatchJob], totals: &Totals) -> (Exit, String) {
        let open = batches.iter().filter(|batch| batch.is_open()).count();
        let left = self.job.total.saturating_sub(totals.succeeded() + totals.failed());
        let mut verdicts = Vec::new();
        if let Some(broken) = batches.iter().find_map(|batch| batch.broken.as_ref()) {
            verdicts.push((Exit::Protocol, broken.clone()));
        }
        if open > 0 || left > 0 {
            let what = if open > 0 {
                format!("{open} of {} {} not ended", text::batches(batches.len()), text::have(open))
            } else {
                format!("{} to do", text::plural(left, "row"))
            };
            verdicts.push((Exit::TempFail, format!("not finished yet: {what}")));
        }
        if totals.failed() > 0 {
            verdicts.push((Exit::RowsFailed, format!("{} failed", text::plural(totals.failed(), "row"))));
        }
        verdicts
            .into_iter()
            .reduce(|a, b| if a.0.worst(b.0) == a.0 { a } else { b })
            .unwrap_or((Exit::Ok, "done".to_owned()))
    }

    /// `passes`: there are failed rows that another try may help.
    fn meta(&self, state: State, passes: bool, (exit, reason): (Exit, String)) -> Meta {
        let flags = self.flags();
        let next = match (exit, state) {
            (Exit::Ok, _) => None,
            // No batch is to come for the rows that are left.
            (Exit::TempFail, State::Interrupted) => Some(format!("llbatch retry {}{flags}", self.job.id)),
            (Exit::TempFail, _) => Some(format!("llbatch fetch {}{flags} --wait -o FILE", self.job.id)),
            _ if !passes => None,
            _ => Some(format!("llbatch retry {}{flags}", self.job.id)),
        };
        Meta {
            job: Some(self.job.id.clone()),
            transport: Some(self.job.transport.as_str().to_owned()),
            state: state.as_str().to_owned(),
            duration: Duration::from_millis(self.job.active_ms),
            estimated: false,
            exit,
            reason,
            next,
            routes: self.spec.routes.clone(),
        }
    }
}

/// The exit code that a summary names.
fn summary_exit(summary: &Summary) -> Exit {
    [Exit::Ok, Exit::RowsFailed, Exit::TempFail, Exit::Protocol]
        .into_iter()
        .find(|exit| exit.code() == summary.exit.code)
        .unwrap_or(Exit::Failure)
}
