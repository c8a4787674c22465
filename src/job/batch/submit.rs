//! From inputs to a job whose batches are planned: checked, compared with what was submitted before, copied, split.

use std::path::PathBuf;

use super::prepared::{Content, Looked, look};
use super::retry::Again;
use super::state::state_of;
use super::status::look as look_at;
use super::{Remote, Work};
use crate::check::problems::{self, Action};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::Format;
use crate::job::spec::{Spec, describe};
use crate::money::budget;
use crate::money::exposure::Own;
use crate::price::Nanos;
use crate::request::Params;
use crate::store::unsent::is_unsent;
use crate::store::{BatchJob, Job, Ledger, State, Step, Store, Transport, Turn};
use crate::text;
use crate::ui::Results;

/// What the user asked for.
#[derive(Debug)]
pub struct Order {
    /// Files.
    pub inputs: Vec<PathBuf>,
    /// The input comes through a pipe.
    pub stdin: bool,
    /// `--input-format`
    pub input_format: Option<Format>,
    /// What the flags ask of every request.
    pub params: Params,
    /// `--skip-invalid`
    pub skip_invalid: bool,
    /// `--max-problems`
    pub max_problems: usize,
    /// `--name`
    pub name: Option<String>,
    /// `--again`: a second job of the same content.
    pub again: bool,
    /// `--require-discount`
    pub require_discount: bool,
    /// `--via auto`: rows that a batch would not serve, or not for less, go to realtime.
    pub auto: bool,
    /// `--max-cost`: the most that the batches may cost.
    pub max_cost: Option<Nanos>,
    /// `--allow-unpriced`
    pub allow_unpriced: bool,
    /// How long failures that may pass are waited out.
    pub patience: std::time::Duration,
    /// How long to wait for another process that works on the same.
    pub turn: Turn,
}

/// A job that stands in the index.
pub struct Entered<'a> {
    /// The job, taken.
    pub work: Work<'a>,
    /// It was there before this command.
    pub known: bool,
}

impl std::fmt::Debug for Entered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entered").field("job", &self.work.job.id).field("known", &self.known).finish()
    }
}

/// Checks the inputs and enters their job into the index with its batches planned; or finds the job that was made of the
/// same content and still lives. Nothing is sent.
///
/// # Errors
/// 65 or 66 for inputs, 2 with `--require-discount`, 74 if the disk refuses, 75 if another process submits the same.
pub fn enter<'a>(order: &Order, remote: Remote<'a>, ctx: &'a Ctx, results: Results) -> Result<Entered<'a>> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let progress = ctx.ui.progress(results);
    let looked = look(order, remote, &store, ctx, &progress)?;
    progress.finish();
    // Two commands with the same content must not both find that there is no job yet.
    let name = format!("content-{}", looked.key);
    let say = |holder: &str| ctx.ui.note(&format!("{holder} submits this very content; waiting for it"));
    let Some(mut content) = store.lock_in_turn(&name, order.turn, &say)? else {
        let job = living(&store, &ledger, &looked.key)?.filter(|_| !order.again);
        return Err(busy(job.as_ref().map_or("this very content", |job| &job.id), &store.holder(&name)));
    };
    // Who waited for the process that made a job waited for that job, even if it has ended and was delivered by now.
    let waited_for = match content.waited_for() {
        Some(id) => ledger.get(id)?.filter(|job| store.job_path(&job.id).exists()),
        None => None,
    };
    let known = if waited_for.is_some() { waited_for } else { living(&store, &ledger, &looked.key)? };
    if let Some(job) = known.filter(|_| !order.again) {
        content.work_on(&job.id)?;
        // It may take all night: others find the job without this lock.
        drop(content);
        let mut work = Work::open_in_turn(&job, remote, ctx, order.patience, results, order.turn)?;
        if let Some(name) = &order.name {
            work.take_name(name)?;
        }
        if work.is_unplanned()? {
            // It was killed before its batches were planned; nothing has been sent.
            work.keep_and_plan(&looked, order)?;
        } else {
            work.admit_unsent(order.max_cost, order.allow_unpriced)?;
        }
        return Ok(Entered { work, known: true });
    }
    if let Some(name) = &order.name {
        free_name(name, &store, &ledger)?;
    }
    let spec = Spec {
        version: 1,
        service: remote.name.to_owned(),
        inputs: order.inputs.iter().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone())).collect(),
        spooled: order.stdin,
        input_format: order.input_format,
        params: order.params.clone(),
        skip_invalid: order.skip_invalid,
        checked: None,
        kept: Vec::new(),
        routes: looked.routes.clone(),
    };
    let job = ledger.create(Job {
        name: order.name.clone(),
        total: looked.checked.rows,
        ..Job::new(Transport::Batch, looked.key.clone(), looked.shown.clone(), describe(&spec)?)
    })?;
    content.work_on(&job.id)?;
    let mut work = Work::open(&job, remote, ctx, order.patience, results)?;
    work.keep_and_plan(&looked, order)?;
    drop(content);
    Ok(Entered { work, known: false })
}

/// Whether a new job may have this name.
fn free_name(name: &str, store: &Store, ledger: &Ledger) -> Result<()> {
    if name == "last" || name.starts_with("j-") {
        return Err(
            Error::usage(format!("--name {name}: that would be mistaken for a job's id")).hint("choose another")
        );
    }
    for seen in look_at(ledger.recent(u32::MAX)?, store)? {
        let lives = matches!(seen.job.state, State::Running | State::Preparing);
        if lives && seen.job.name.as_deref() == Some(name) {
            return Err(Error::usage(format!("--name {name}: {} has that name and has not ended", seen.job.id))
                .hint("choose another, or leave it out"));
        }
    }
    Ok(())
}

fn busy(what: &str, holder: &str) -> Error {
    Error::new(Exit::TempFail, format!("{what} is being submitted by {holder}"))
        .hint("--wait-lock waits for it, and finds its job; so does the same command later")
}

/// The last job of this content whose answers are still to come or have not been taken yet.
fn living(store: &Store, ledger: &Ledger, key: &str) -> Result<Option<Job>> {
    // What a batch says of itself may be wrong, and may be paid for, until its results have been looked at.
    let open = |job: &Job| {
        store.job_path(&job.id).exists()
            && store
                .open_job(&job.id)
                .and_then(|db| db.batches())
                .is_ok_and(|batches| batches.iter().any(BatchJob::is_open))
    };
    let lives = |job: &Job| match job.state {
        State::Preparing | State::Running | State::Interrupted => true,
        // Paid for, and not looked at by anybody.
        State::Completed | State::Partial | State::Expired => !job.delivered,
        State::Failed | State::Cancelled => open(job),
    };
    Ok(ledger.all_of(key)?.into_iter().find(lives))
}

impl Work<'_> {
    /// Whether this is a job of batches that was killed before they were planned.
    pub fn is_unplanned(&self) -> Result<bool> {
        let counts = self.counts()?;
        let none = counts.succeeded + counts.failed == 0 && self.courier.db.borrow().batches()?.is_empty();
        Ok(self.job.transport == Transport::Batch && none)
    }

    /// Copies the input into the job's directory and plans batches from that copy.
    fn keep_and_plan(&mut self, looked: &Looked, order: &Order) -> Result<()> {
        let skip_invalid = order.skip_invalid;
        self.progress.phase("keeping a copy of the input");
        let kept = looked.inputs.keep(&self.courier.dir)?;
        let changed = || {
            Error::new(Exit::Failure, "the input was written to while it was read; nothing was sent")
                .hint("run the same command again")
        };
        if looked.inputs.stamp() != looked.stamp {
            return Err(changed());
        }
        self.spec.kept = kept;
        self.spec.skip_invalid = skip_invalid;
        self.job.spec = describe(&self.spec)?;
        self.job.total = looked.checked.rows;
        self.ledger.update(&self.job)?;
        let inputs = self.inputs()?;
        let mut content = Content::new(&self.spec.service);
        let only = looked.realtime.as_ref().map(|realtime| |row: u64| !realtime.contains(row));
        let only = only.as_ref().map(|only| only as &(dyn Fn(u64) -> bool + Sync));
        let split =
            self.plan(&inputs, &looked.shape, &looked.checked, (only, false), &mut |found| content.row(found))?;
        if split.oversize_count > 0 && !skip_invalid {
            self.unplan()?;
            let ui = &self.ctx.ui;
            problems::list(&split.oversize, split.oversize_count, split.oversize.len(), ui);
            return problems::judge(split.oversize_count, looked.checked.rows, false, Action::Send, ui);
        }
        // Rows for realtime are passed over, so they are not compared.
        if looked.realtime.is_none()
            && looked.checked.bad_rows == 0
            && split.oversize_count == 0
            && content.key() != looked.key
        {
            self.unplan()?;
            return Err(changed());
        }
        if split.files.is_empty() && looked.realtime.as_ref().is_none_or(|rows| rows.count() == 0) {
            self.unplan()?;
            return Err(Error::new(Exit::Data, "no row of the input can be sent"));
        }
        if let Some(realtime) = &looked.realtime {
            // What is said beforehand is the price of all rows.
            let rows = (1..=looked.checked.rows).filter(|row| realtime.contains(*row)).collect();
            let mut beside = Again::of(rows, 0);
            beside.price(&inputs, &looked.shape, false, &self.ctx.settings.prices)?;
            // Before anything is sent: the batches would be on their way when their turn comes.
            let bounded = order.max_cost.is_some() || self.ctx.settings.budget.is_set();
            if beside.most.is_none() && bounded && !order.allow_unpriced {
                self.unplan()?;
                return Err(budget::unpriced_error(&beside.unpriced));
            }
            self.job.estimate = self.job.estimate.zip(beside.cost).map(|(batch, realtime)| batch + realtime);
            self.priced += beside.priced;
            self.ledger.update(&self.job)?;
        }
        let table = &self.ctx.settings.prices;
        let unpriced =
            looked.checked.models.iter().filter(|(model, _)| table.get(model).is_none_or(|e| e.price.is_none()));
        self.unpriced = unpriced.map(|(model, _)| model.to_string()).collect();
        if let Err(error) = self.admit_unsent(order.max_cost, order.allow_unpriced) {
            self.unplan()?;
            return Err(error);
        }
        Ok(())
    }

    /// Whether what was planned and never sent may be sent now; from then on it counts against the budgets.
    ///
    /// # Errors
    /// 5 if it could cost more than is left, 2 if a price is not known.
    pub fn admit_unsent(&self, max_cost: Option<Nanos>, allow_unpriced: bool) -> Result<()> {
        let mut unsent = self.courier.db.borrow().batches()?;
        unsent.retain(is_unsent);
        if unsent.is_empty() {
            return Ok(());
        }
        let most = unsent.iter().try_fold(Nanos::ZERO, |sum, batch| Some(sum + batch.most?));
        let unpriced =
            unsent.iter().find(|batch| batch.most.is_none()).map_or_else(String::new, |batch| batch.model.clone());
        budget::admit(most, budget::limit(max_cost).as_ref(), allow_unpriced, &unpriced)?;
        self.ledger.decide(|| {
            let own = Own { job: &self.job.id, ..Own::default() };
            let left = budget::left(&self.store, &self.ledger, self.ctx, own)?;
            // What was admitted before counts as in flight already.
            let counted: Nanos = unsent.iter().filter(|batch| batch.admitted).filter_map(|batch| batch.most).sum();
            let left = left.map(|left| budget::Left { amount: left.amount + counted, ..left });
            budget::admit(most, left.as_ref(), allow_unpriced, &unpriced)?;
            self.ledger.admitted(&self.job.id, most.unwrap_or(Nanos::ZERO))?;
            let mut db = self.courier.db.borrow_mut();
            for batch in unsent.iter_mut().filter(|batch| !batch.admitted) {
                batch.admitted = true;
                db.put_batch(batch)?;
            }
            db.commit(true)
        })
    }

    /// Gives a job that was there before the name that its command asks for.
    fn take_name(&mut self, name: &str) -> Result<()> {
        match &self.job.name {
            Some(own) if own == name => {}
            Some(own) => self.ctx.ui.warn(&format!("{} keeps its name {own}; it is not called {name}", self.job.id)),
            None => {
                free_name(name, &self.store, &self.ledger)?;
                self.ledger.rename(&self.job.id, name)?;
                self.job.name = Some(name.to_owned());
            }
        }
        Ok(())
    }

    /// Takes a job that sent nothing out of the index again.
    pub fn unplan(&mut self) -> Result<()> {
        // Not while another process adds up what is in flight: it would find half a job.
        self.ledger.decide(|| {
            self.store.remove_job(&self.job.id)?;
            self.ledger.forget(&self.job.id)
        })
    }

    /// What a job of `rows` rows is about to do, for people.
    pub fn opening(&self, known: bool) -> Result<()> {
        let ui = &self.ctx.ui;
        let batches = self.courier.db.borrow().batches()?;
        let counts = self.counts()?;
        if known {
            let state = state_of(&batches, counts, false);
            let waits =
                batches.iter().filter(|b| matches!(b.step, Step::Planned | Step::Uploaded | Step::Creating)).count();
            if waits == 0 {
                ui.note(&format!(
                    "this content is job {} already ({}); nothing is sent again. --again makes a second job of it, and pays again",
                    self.job.id,
                    state.as_str()
                ));
            } else {
                ui.note(&format!(
                    "going on with job {}: {waits} of {} to submit",
                    self.job.id,
                    text::batches(batches.len())
                ));
            }
            return Ok(());
        }
        let cost = match self.job.estimate {
            Some(usd) => format!("about {} (prompts estimated, answers up to their max_tokens)", usd.human()),
            None if self.unpriced.is_empty() => "at an unknown price".to_owned(),
            None => {
                let models = text::plural(self.unpriced.len() as u64, "model");
                format!(
                    "about {} and the rows of {models} without a known price ({})",
                    self.priced.human(),
                    self.unpriced.join(", ")
                )
            }
        };
        ui.note(&format!(
            "job {}: {} in {}, {cost}, with {}",
            self.job.id,
            text::plural(self.job.total, "row"),
            text::batches(batches.len()),
            self.spec.service
        ));
        Ok(())
    }
}
