//! The end of a run: why it ended, the last rows of results, the job's entry, the summary.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ask::Plan;
use super::consumer::Consumed;
use super::spec::spec_of;
use crate::check::calibrate::{self, SentJob};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::Inputs;
use crate::money::{self, Money, budget};
use crate::outcome::{ErrorCode, Outcome};
use crate::price::Nanos;
use crate::realtime::{Shared, Stopped};
use crate::request::Shape;
use crate::results::{RowReader, Unanswered};
use crate::row_set::RowSet;
use crate::store::{Job, Ledger, State, Store, Transport};
use crate::summary::{Http, Meta, Summary, Totals};
use crate::text;

/// How a run ended.
#[derive(Debug)]
pub struct Ending {
    exit: Exit,
    reason: String,
    /// The error code of rows that were not answered.
    pending: ErrorCode,
    /// A budget is spent.
    cost: bool,
}

impl Ending {
    /// From what the engine, the reader and the signals said.
    pub fn of(stopped: Option<&Stopped>, fed: &Result<()>, signal: i32) -> Self {
        use ErrorCode::{Auth, Budget, Interrupted, Payment};
        let (exit, reason, pending) = match (signal, stopped, fed) {
            (2, _, _) => (Exit::Interrupt, "interrupted (SIGINT)".to_owned(), Interrupted),
            (15, _, _) => (Exit::Terminate, "terminated (SIGTERM)".to_owned(), Interrupted),
            (1, _, _) => (Exit::Hangup, "the terminal went away (SIGHUP)".to_owned(), Interrupted),
            (_, _, Err(error)) => (error.exit, error.to_string(), Interrupted),
            (_, Some(Stopped::Auth(words)), _) => (Exit::Auth, format!("the service refused the key: {words}"), Auth),
            (_, Some(Stopped::Payment(words)), _) => {
                (Exit::Budget, format!("the service asks for payment: {words}"), Payment)
            }
            (_, Some(Stopped::Cost(what)), _) => (Exit::Budget, format!("the next request could pass {what}"), Budget),
            (_, Some(Stopped::Deadline), _) => (Exit::Budget, "the deadline was reached".to_owned(), Budget),
            (_, Some(Stopped::GaveUp(words)), _) => {
                (Exit::TempFail, format!("nothing succeeded for --give-up-after; last: {words}"), Interrupted)
            }
            (_, Some(Stopped::Pages(words)), _) => (
                Exit::Protocol,
                format!(
                    "one row after another is answered with a web page (\"{words}\"), not by the API: is there a login page in \
                     the way, or is the base URL wrong?"
                ),
                Interrupted,
            ),
            (_, Some(Stopped::Cancelled), _) => (Exit::Failure, "stopped".to_owned(), Interrupted),
            (_, None, Ok(())) => (Exit::Ok, "done".to_owned(), Interrupted),
        };
        Self { exit, reason, pending, cost: matches!(stopped, Some(Stopped::Cost(_))) }
    }

    fn failed(error: &Error) -> Self {
        Self { exit: error.exit, reason: error.to_string(), pending: ErrorCode::Interrupted, cost: false }
    }
}

/// What is needed to end a run.
#[derive(Debug)]
pub struct Closing<'a> {
    /// What the user asked for.
    pub plan: &'a Plan,
    /// The surroundings.
    pub ctx: &'a Ctx,
    /// The index of jobs.
    pub ledger: &'a Ledger,
    /// The store.
    pub store: &'a Store,
    /// Rows that an earlier run answered.
    pub reused: &'a RowSet,
    /// The input, for the ids of rows that were not answered.
    pub inputs: &'a Inputs,
    /// How ids are read.
    pub shape: &'a Arc<Shape>,
    /// When the run began.
    pub started: Instant,
    /// What the engine counted, and whether the user wanted out at once: then nothing more is written.
    pub shared: &'a Shared,
    /// Rows that batches will answer.
    pub awaited: u64,
    /// What earlier runs may have been billed beyond what they know.
    pub at_risk: Nanos,
    /// The input changed while it was read: no results can be written.
    pub mixed: bool,
}

impl Closing<'_> {
    /// Writes the last rows of results and the job's entry; sums up.
    pub fn finish(self, mut job: Job, mut ending: Ending, consumed: Result<Consumed<'_>>) -> Result<(Summary, Exit)> {
        let Self { plan, ctx, ledger, store, reused, inputs, shape, started, shared, awaited, at_risk, mixed } = self;
        // Another process finished it; this one only writes its results.
        let finished = job.state.ended().then(|| job.clone());
        let aborted = shared.abort.is_cancelled() || mixed;
        let duration = started.elapsed();
        job.active_ms += u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let prices = || ctx.settings.prices.clone();
        let say = |error: &Error| {
            if error.exit != Exit::ClosedPipe {
                ctx.ui.error(error);
            }
        };
        let mut purse = None;
        let consumed = consumed.map(|mut consumed| {
            purse = consumed.purse.take();
            consumed
        });
        let totals = match consumed {
            // Nothing to write is not worth overwriting yesterday's results for.
            Ok(Consumed { mut db, ordered, mut totals, .. })
                if ending.exit == Exit::Ok || (job.succeeded > 0 && !aborted) =>
            {
                db.settle_aside()?;
                let mut money = Money::new(prices());
                for retired in db.retired()? {
                    money.retired(&retired, &mut totals);
                }
                let mut price = |outcome: &Outcome| money.count(outcome, reused.contains(outcome.row), &mut totals);
                let mut open = || RowReader::open(inputs, shape, false);
                let unanswered = Unanswered { code: ending.pending, reason: &ending.reason, open_reader: &mut open };
                if let Err(error) = ordered.finish(&db, &mut price, unanswered) {
                    say(&error);
                    ending = Ending::failed(&error);
                }
                totals
            }
            Ok(Consumed { mut db, .. }) => {
                db.settle_aside()?;
                money::fold(&db, prices(), job.total, reused)?
            }
            Err(error) => {
                say(&error);
                ending = Ending::failed(&error);
                let folded = store.open_job(&job.id).and_then(|db| money::fold(&db, prices(), job.total, reused));
                folded.unwrap_or_else(|_| Totals::new(job.total))
            }
        };
        let mut totals = totals;
        // Budgets count what is in batches by the batches themselves, until those are settled.
        let mut in_batches = Nanos::ZERO;
        // Batches beside which it ran, or what could not be written down any more.
        if let Ok(db) = store.open_job(&job.id) {
            let input = || Ok((inputs.clone(), Shape::new(&spec_of(&job)?.params)?));
            for open in money::outstanding(&db, job.total, &mut Money::new(prices()), input).unwrap_or_default() {
                in_batches += open.most.filter(|_| open.batch).unwrap_or_default();
                totals.outstanding(open.rows, open.most, open.batch);
            }
        }
        job.succeeded = totals.succeeded();
        job.failed = totals.failed();
        let left = job.total.saturating_sub(job.succeeded + job.failed + awaited);
        if ending.exit == Exit::Ok && left > 0 {
            // Cannot happen; if it does, it must not pass for done.
            ending.exit = Exit::Failure;
            ending.reason = format!("{} came to no end, please report this", text::plural(left, "row"));
        }
        let ended = ending.exit == Exit::Ok;
        if ended && totals.failed() > 0 {
            ending.exit = Exit::RowsFailed;
            ending.reason = format!("{} failed", text::plural(totals.failed(), "row"));
        }
        if let Some(before) = finished.filter(|_| !ended) {
            job = before;
        } else {
            job.state = match (ended, job.succeeded, job.failed) {
                (false, _, _) => State::Interrupted,
                (true, _, 0) => State::Completed,
                (true, 0, _) => State::Failed,
                (true, _, _) => State::Partial,
            };
            job.cost = totals.usd();
            if let Err(error) = budget::record(&job, &totals, ledger) {
                tracing::warn!("{error}");
            }
            job.exit = Some(ending.exit.code());
            job.delivered |= ended && !plan.delivery.nowhere;
            // New answers that nobody has seen yet.
            job.delivered &= !(plan.delivery.nowhere && shared.gauges.sent.load(Ordering::Relaxed) > 0);
            if let Err(error) = ledger.update(&job) {
                // Said once; the answers are in the job's own file.
                if ending.exit != Exit::Io {
                    say(&error);
                    ending = Ending::failed(&error);
                }
            }
        }

        if let Some(Err(error)) = purse.map(|purse| purse.close(totals.at_risk() - in_batches - at_risk)) {
            tracing::warn!("{error}");
        }

        // Rows that came from batches, or from `retry`: their command knows no --resume.
        let by_retry = job.transport == Transport::Batch || plan.delivery.nowhere;
        let next = match (job.state.ended(), ending.exit) {
            (true, Exit::Ok) => None,
            // Every one of them would fail again, or not be sent again.
            (true, Exit::RowsFailed) if totals.invalid() == totals.failed() => None,
            (true, Exit::RowsFailed) if by_retry && !totals.failures().any(|code| !code.is_permanent()) => None,
            _ if by_retry => Some(format!("llbatch retry {}{} --via realtime", job.id, ctx.flags(&plan.service))),
            // The same command would stop at once; how much more it may cost is the user's to say.
            (_, Exit::Budget) if ending.cost && plan.max_cost.is_some() => None,
            // `--resume` sends the failed rows again.
            _ if plan.inputs.is_empty() => {
                Some(ctx.again(&["--resume", "--fresh", "-"], &[format!("--resume={}", job.id)]))
            }
            (true, _) => Some(ctx.again(&["--resume", "--fresh"], &["--resume".to_owned()])),
            (false, _) => Some(ctx.again(&["--fresh"], &[])),
        };
        let meta = Meta {
            job: Some(job.id.clone()),
            transport: Some(job.transport.as_str().to_owned()),
            state: job.state.as_str().to_owned(),
            duration,
            estimated: false,
            exit: ending.exit,
            reason: ending.reason,
            next,
            routes: spec_of(&job).map_or_else(|_| Vec::new(), |spec| spec.routes),
        };
        let exit = meta.exit;
        let mut summary = totals.summary(&meta);
        if ended {
            // Nice to know, and nothing more: an input that is gone by now is no failure.
            let db = store.open_job(&job.id);
            let sent = SentJob { id: &job.id, service: &plan.service, inputs, shape };
            let learned = db.and_then(|db| calibrate::learn(&sent, &db, ledger));
            summary.estimate_off = learned.unwrap_or_else(|error| {
                tracing::debug!("{error}");
                None
            });
        }
        // Outcomes do not know of requests whose rows are still to be done.
        let gauges = &shared.gauges;
        summary.http = Http {
            sent: gauges.sent.load(Ordering::Relaxed),
            retried: gauges.retried.load(Ordering::Relaxed),
            rate_limited: gauges.refused.load(Ordering::Relaxed),
        };
        Ok((summary, exit))
    }
}
