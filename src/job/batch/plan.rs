//! Plans batches: writes their files and rows down before llbatch sends the first of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::retry::counting;
use super::session::Session;
use super::taken_rows::TakenRows;
use crate::api::Dialect;
use crate::check::estimate::{Estimate, RowInspector, RowStats};
use crate::check::quote::{PriceBasis, Quote};
use crate::check::repeats::{RepeatSearch, Repeats};
use crate::check::{Checked, Pass};
use crate::error::{Error, Exit, Result};
use crate::input::Inputs;
use crate::job::earlier_answers::{EarlierAnswers, SoughtRow};
use crate::job::found_repeats::FoundRepeats;
use crate::job::identity::RowContent;
use crate::outcome::Outcome;
use crate::price::{Nanos, PriceBook, PriceTable};
use crate::request::batch_line::BatchFileForm;
use crate::request::{Draft, KeyMaker, RequestBuilder};
use crate::row_set::RowSet;
use crate::split::stage::{NewBatchFile, Stage};
use crate::split::{BatchFile, Split, SplitOptions, SplitRow, split};
use crate::store::{Asked, JobBatch, JobDb, RequestFile, Transport};

/// Rows written to the database at a time.
const GROUP: u64 = 65_536;

/// Rows to plan batches for.
#[derive(Clone, Copy)]
pub(super) struct PlanInput<'a> {
    /// The input.
    pub inputs: &'a Inputs,
    /// The builder of its requests.
    pub builder: &'a RequestBuilder,
    /// The result of the check.
    pub checked: &'a Checked,
    /// Selects the rows. `None`: all rows.
    pub only: Option<&'a (dyn Fn(u64) -> bool + Sync)>,
    /// A retry: the other rows already have outcomes.
    pub retry: bool,
    /// Makes the keys by which repeated requests are found, as in the check. `None`: every row is sent.
    pub keys: Option<&'a KeyMaker>,
    /// Answers of earlier jobs.
    pub earlier: Option<&'a RefCell<EarlierAnswers>>,
}

/// Batches that were planned.
#[derive(Debug)]
pub struct Planned {
    /// Their files.
    pub split: Split,
    /// The cost of their rows.
    pub quote: Quote,
    /// Rows that get the outcome of an earlier one.
    pub repeats: Option<FoundRepeats>,
    /// Rows that have the answer of an earlier job.
    pub taken: u64,
}

/// Records rows as the splitter places them into files, and sums up their costs.
struct Planner<'a> {
    db: &'a mut JobDb,
    retry: bool,
    form: BatchFileForm,
    prices: PriceBook,
    /// Sums of all rows.
    estimate: Estimate,
    /// The maximum cost of each batch.
    upper_bounds: HashMap<u32, Option<Nanos>>,
    /// Outcomes of rows that cannot be sent. A retry leaves such rows unchanged.
    bad: Vec<Outcome>,
    uncommitted: u64,
}

/// The form of batch files that a service takes.
pub fn form_of(dialect: Dialect) -> BatchFileForm {
    match dialect {
        Dialect::Together => BatchFileForm::default(),
        Dialect::Openai => BatchFileForm::OPENAI,
    }
}

impl<'a> Planner<'a> {
    fn new(db: &'a mut JobDb, retry: bool, form: BatchFileForm, prices: &PriceTable) -> Self {
        Self {
            db,
            retry,
            form,
            prices: PriceBook::new(prices.clone()),
            estimate: Estimate::default(),
            upper_bounds: HashMap::new(),
            bad: Vec::new(),
            uncommitted: 0,
        }
    }

    fn place(&mut self, row: &SplitRow<'_>) -> Result<()> {
        match *row {
            SplitRow::Line { row, file, id, wire_id, fingerprint, model, stats } => {
                let reserve = stats.map(RowStats::reserve).unwrap_or_default();
                self.db.ask(file, &Asked { row, id, wire: wire_id, fingerprint, reserve })?;
                let sum = self.upper_bounds.entry(file).or_insert(Some(Nanos::ZERO));
                *sum =
                    sum.zip(self.prices.upper_bound(model, Transport::Batch, reserve, 1)).map(|(sum, cost)| sum + cost);
                if let Some(stats) = stats {
                    self.estimate.add(model, stats, self.form);
                }
            }
            SplitRow::Invalid(row) if !self.retry => {
                let (id, model) = (row.id.clone(), Arc::clone(&row.model));
                self.bad.push(Outcome::unsent(row.row, id, model, row.code, row.message.clone()));
            }
            SplitRow::Invalid(_) => {}
        }
        self.uncommitted += 1;
        if self.uncommitted >= GROUP {
            self.uncommitted = 0;
            self.db.commit(false)?;
        }
        Ok(())
    }

    /// Copies the answers of rows that earlier jobs have answered. They are committed with the batches.
    fn put_earlier(&mut self, taken: TakenRows<'_>, earlier: &mut EarlierAnswers) -> Result<()> {
        taken.each(|taken| {
            let what = "earlier answers that are reused were removed meanwhile";
            let gone = || Error::new(Exit::TempFail, what).hint("run the same command again");
            let outcome = earlier.copy_for(taken).ok_or_else(gone)?;
            // A retry takes it for a row that has failed.
            self.db.retire(outcome.row)?;
            self.db.put(&outcome)
        })
    }

    /// Records all batches in one transaction.
    fn store(&mut self, first: u32, batches: impl Iterator<Item = JobBatch>) -> Result<()> {
        self.db.retire_asked(first)?;
        for outcome in &self.bad {
            self.db.put(outcome)?;
        }
        for mut batch in batches {
            batch.cost.upper_bound = self.upper_bounds.get(&batch.number).copied().flatten();
            batch.cost.prices = self.db.prices_in_force();
            self.db.put_batch(&batch)?;
        }
        // A leader may have its outcome already: from an earlier batch, or because it cannot be sent.
        self.db.settle_followers()?;
        self.db.commit(true)
    }
}

/// Plans batches. When this returns, all files are on the disk and all batches are recorded, or none. It calls
/// `each` for every row, in input order.
///
/// # Errors
/// 65 for more models than fit.
pub(super) fn plan(
    session: &mut Session<'_>,
    input: PlanInput<'_>,
    each: &mut dyn FnMut(Option<RowContent<'_>>),
) -> Result<Planned> {
    session.progress.phase("writing batch files");
    session.forget_counts();
    let mut db = session.driver.db.borrow_mut();
    db.keep_prices(&session.ctx.settings.prices)?;
    let first = db.batches()?.last().map_or(1, |batch| batch.number + 1);
    db.forget_plan(first)?;
    let (dir, job) = (session.driver.dir.clone(), session.job.id.clone());
    let stage = Stage::new(0o600, &session.driver.dir);
    let name = |number: u32| format!("llb-{job}-{number}.jsonl");
    let open = |number: u32, _: &str| -> Result<NewBatchFile> { stage.open(dir.join(name(number))) };
    let table = &session.ctx.settings.prices;
    let counting = counting(session);
    let bytes = input.inputs.total_bytes().unwrap_or(0);
    let form = form_of(session.driver.client.dialect());
    let inspector = RowInspector::new(bytes, counting.estimator, table).for_files(form);
    let repeats = input.keys.map(|keys| keep_followers(&mut db, &input, keys, &inspector)).transpose()?;
    let leads = |row| {
        !repeats.as_ref().is_some_and(|repeats| repeats.is_follower(row)) && input.only.is_none_or(|only| only(row))
    };
    let keys = session.key_maker();
    let taken = find_earlier(&input, &keys, &leads, TakenRows::new(&dir))?;
    let only = |row| leads(row) && !taken.rows().contains(row);
    let options = SplitOptions {
        open: &open,
        limits: form,
        threads: Pass::default_threads(),
        first_number: first,
        only: Some(&only),
        digests: true,
        // A retry sends the rows that the user or an earlier attempt has picked, of any length.
        table: (!input.retry).then_some(table),
        inspector: Some(&inspector),
        max_problems: 20,
    };
    let mut planner = Planner::new(&mut db, input.retry, form, &session.ctx.settings.prices);
    let split = split(input.inputs, input.builder, input.checked, &options, &mut |row| {
        each(match &row {
            SplitRow::Line { id, fingerprint, .. } => Some(RowContent { id, fingerprint: *fingerprint }),
            SplitRow::Invalid(_) => None,
        });
        planner.place(&row)
    })?;
    stage.commit()?;
    let endpoint = format!("/v1{}", input.builder.endpoint().path());
    let batches = split.files.iter().map(|file| planned_batch(file, name(file.number), &endpoint));
    let taken_rows = taken.rows().count();
    input.earlier.map_or(Ok(()), |earlier| planner.put_earlier(taken, &mut earlier.borrow_mut()))?;
    planner.store(first, batches)?;
    let pricing = PriceBasis { table, counting: &counting };
    let quote = Quote::of(planner.estimate, pricing, Transport::Batch);
    let repeats = repeats.map(|repeats| FoundRepeats::priced(repeats, pricing, Transport::Batch));
    drop(db);
    session.job.estimate = match (input.retry, session.job.estimate) {
        (false, _) => quote.estimate(),
        (true, old) => old.zip(quote.estimate()).map(|(old, new)| old + new),
    };
    session.update_index(true)?;
    Ok(Planned { split, quote, repeats, taken: taken_rows })
}

/// Finds the `wanted` rows that earlier jobs have answered.
fn find_earlier<'d>(
    input: &PlanInput<'_>,
    keys: &KeyMaker,
    wanted: &dyn Fn(u64) -> bool,
    mut taken: TakenRows<'d>,
) -> Result<TakenRows<'d>> {
    if input.earlier.is_none() {
        return Ok(taken);
    }
    let mut done = Ok(());
    let sought = |draft: &Draft<'_>| SoughtRow::of(draft, draft.fingerprint(), keys);
    Pass { max_problems: 0, ..Pass::new(input.inputs, input.builder) }.inspect(&sought, &mut |row, found| {
        let found = found.filter(|_| done.is_ok() && wanted(row) && input.checked.is_good(row));
        if let (Some(found), Some(earlier)) = (found, input.earlier) {
            let answer = earlier.borrow_mut().find_for(&found.value);
            done = answer.and_then(|answer| answer.map_or(Ok(()), |answer| taken.push(&answer)));
        }
    })?;
    done.map(|()| taken)
}

/// Builds the record of a batch whose file has this name.
fn planned_batch(file: &BatchFile, name: String, endpoint: &str) -> JobBatch {
    JobBatch {
        number: file.number,
        model: file.model.to_string(),
        endpoint: endpoint.to_owned(),
        rows: file.rows,
        file: RequestFile { name, bytes: file.bytes, sha256: file.sha256.clone(), ..RequestFile::default() },
        ..JobBatch::default()
    }
}

/// Finds the repeated requests, and keeps the rows that wait for their leaders.
fn keep_followers(
    db: &mut JobDb,
    input: &PlanInput<'_>,
    keys: &KeyMaker,
    inspector: &RowInspector<'_>,
) -> Result<Repeats> {
    let mut awaited = RowSet::default();
    db.each_awaited(|row| _ = awaited.insert(row))?;
    // Others were left by a plan that was not finished.
    db.clear_waiting(|leader| awaited.contains(leader))?;
    let pass = Pass::new(input.inputs, input.builder);
    let search = RepeatSearch { pass: &pass, checked: input.checked, keys, inspector, dir: None };
    let mut uncommitted = 0;
    let repeats = search.run(&mut |follower| {
        if input.only.is_none_or(|only| only(follower.row)) {
            db.put_waiting([&follower])?;
            uncommitted += 1;
            if uncommitted % GROUP == 0 {
                db.commit(false)?;
            }
        }
        Ok(())
    })?;
    db.commit(false)?;
    Ok(repeats)
}
