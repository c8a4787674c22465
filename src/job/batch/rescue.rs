//! What batches leave undone, finished at realtime: within the same job, in the same results.

use std::time::{Duration, Instant};

use super::follow::{Waiting, follow};
use super::{Remote, Work};
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::job::ask::Again;
use crate::job::ask::{Plan, Resume};
use crate::job::run;
use crate::price::Nanos;
use crate::realtime;
use crate::request::Params;
use crate::results as output;
use crate::results::{Delivery, Outputs};
use crate::store::Turn;
use crate::summary::Summary;
use crate::text;

/// How long the service may take to end what it was asked to end. A row of a batch that may still answer it is not sent
/// beside that.
const GRACE: Duration = Duration::from_mins(15);

/// How to rescue.
#[derive(Debug)]
pub struct Rescue {
    /// Where results go.
    pub delivery: Delivery,
    /// How to send.
    pub options: realtime::SendOptions,
    /// Most that it may cost.
    pub max_cost: Option<Nanos>,
    /// `--allow-unpriced`
    pub allow_unpriced: bool,
    /// How long to wait for another process that works on the job.
    pub turn: Turn,
}

/// The deadline has come, or all has ended before: cancels what has not, takes what was answered, sends the rest at realtime.
///
/// # Errors
/// What stops it before there is anything to sum up.
pub fn rescue(
    mut work: Work<'_>,
    rescue: Rescue,
    outputs: Outputs,
    remote: Remote<'_>,
    ctx: &Ctx,
) -> Result<(Summary, Exit)> {
    let (open, _) = work.open_batches()?;
    let began = Instant::now();
    if open > 0 && !end(&mut work, open)? {
        ctx.ui
            .warn("the service has not ended all batches yet; their rows may still be answered and are not sent again");
        return work.deliver(outputs, rescue.delivery.form.is_flat(), began);
    }
    let left = work.again(false, false)?;
    if left.rows.is_empty() {
        return work.deliver(outputs, rescue.delivery.form.is_flat(), began);
    }
    let cost = left.cost.map_or_else(|| "an unknown amount".to_owned(), |usd| format!("about {}", usd.human()));
    ctx.ui.note(&format!(
        "{} were answered by then; {} go to realtime, {cost}",
        text::plural(work.counts()?.succeeded, "row"),
        text::count(left.rows.len() as u64)
    ));
    let id = work.job.id.clone();
    // What the batches have cost is gone from the limit.
    work.account()?;
    let spent = work.spent()?;
    let max_cost = rescue.max_cost.map(|limit| Nanos((limit.0 - spent.0).max(0)));
    work.progress.finish();
    drop(work);
    drop(outputs);
    let cost = (max_cost, rescue.allow_unpriced);
    realtime(&id, rescue.options, cost, (false, false, rescue.turn), Some(rescue.delivery), remote, ctx)
}

/// Cancels what is open and takes what was answered of it; `false` if the service does not get to it.
fn end(work: &mut Work<'_>, open: usize) -> Result<bool> {
    let ui = &work.ctx.ui;
    ui.warn(&format!(
        "the deadline was reached: cancelling {} of {}, what is not answered will be sent at realtime",
        text::batches(open),
        work.job.id
    ));
    if let Err(error) = work.cancel() {
        if !matches!(error.exit, Exit::TempFail | Exit::Failure) {
            return Err(error);
        }
        work.ctx.ui.warn(&error.to_string());
    }
    let every = work.ctx.settings.sandbox.then_some(Duration::from_millis(200));
    let until = Some(Instant::now() + GRACE);
    follow(
        std::slice::from_mut(work),
        Waiting { until, every: every.or(Some(Duration::from_secs(5))), submitting: false },
    )
}

/// Sends the rows of a job that have no answer at realtime; `all`: also those that were refused for good;
/// `beside_batches`: but those that a batch may still answer.
pub fn realtime(
    id: &str,
    options: realtime::SendOptions,
    (max_cost, allow_unpriced): (Option<Nanos>, bool),
    (all, beside_batches, turn): (bool, bool, Turn),
    delivery: Option<Delivery>,
    remote: Remote<'_>,
    ctx: &Ctx,
) -> Result<(Summary, Exit)> {
    let nowhere = || Delivery {
        output: None,
        errors: None,
        form: output::Options { format: output::Format::Jsonl, flat: false, prefix: String::new(), csv_raw: false },
        summary: None,
        nowhere: true,
    };
    let plan = Plan {
        inputs: Vec::new(),
        stdin: false,
        shaped: false,
        input_format: None,
        params: Params::default(),
        skip_invalid: true,
        max_problems: 0,
        name: None,
        resume: Resume::Job(id.to_owned()),
        again: if all { Again::All } else { Again::Passing },
        beside_batches,
        turn,
        takes_over: false,
        max_cost,
        whole_job: false,
        allow_unpriced,
        options,
        delivery: delivery.unwrap_or_else(nowhere),
        service: remote.name.to_owned(),
        account: remote.account.to_owned(),
    };
    run::run(plan, remote.client, ctx)
}
