//! A rescue: what batches leave undone is answered in real time, within the same job and the same results.

use std::time::{Duration, Instant};

use super::ask::RescueAsk;
use super::follow::{Waiting, follow};
use super::session::Session;
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::job::ask::{CostLimit, Role, RunAsk};
use crate::job::finish::Ended;
use crate::job::remote::Remote;
use crate::job::run::run;
use crate::results::{Delivery, Outputs};
use crate::store::Transport;
use crate::text;

/// How long the service may take to end what it was asked to end. A row of a batch that may still answer it is not sent
/// beside that.
const GRACE: Duration = Duration::from_mins(15);

/// A rescue of one job.
#[derive(Debug)]
pub struct Rescue {
    /// How to rescue.
    pub how: RescueAsk,
    /// Where results go.
    pub delivery: Delivery,
    /// Limits of cost; what the batches have cost counts.
    pub limit: CostLimit,
}

/// Cancels the batches that have not ended by the deadline, takes what was answered, and answers the rest in real time.
///
/// # Errors
/// What stops it before there is anything to sum up.
pub fn rescue(
    mut session: Session<'_>,
    rescue: Rescue,
    outputs: Outputs,
    remote: Remote<'_>,
    ctx: &Ctx,
) -> Result<Ended> {
    let open = session.open_batches()?.all;
    let began = Instant::now();
    let flat = rescue.delivery.form.is_flat();
    if open > 0 && !end(&mut session, open)? {
        ctx.ui.warn(
            "the service has not ended all batches yet; llbatch does not send their rows again, because it may \
                   still answer them",
        );
        return session.deliver(outputs, flat, began);
    }
    let left = session.retry_set(false, Transport::Realtime)?;
    if left.rows.is_empty() {
        return session.deliver(outputs, flat, began);
    }
    let cost = left.cost.map_or_else(|| "an unknown amount".to_owned(), |usd| format!("about {}", usd.human()));
    ctx.ui.note(&format!(
        "answered in batches: {}; sent in real time now: {}, {cost}",
        text::plural(session.counts()?.0, "row"),
        text::count(left.rows.len() as u64)
    ));
    let id = session.job.id.clone();
    // What the batches have cost is gone from the limit.
    session.record()?;
    let spent = session.spent()?;
    let limit = CostLimit { max_cost: rescue.limit.max_cost.map(|limit| limit.saturating_sub(spent)), ..rescue.limit };
    session.progress.finish();
    drop(session);
    drop(outputs);
    let part = RunAsk::part_of(id, Role::Retry, limit, rescue.how.wait, rescue.how.speed);
    run(RunAsk { delivery: rescue.delivery, ..part }, remote, ctx)
}

/// Cancels what is open and takes what was answered of it; `false` if the service does not end it in time.
fn end(session: &mut Session<'_>, open: usize) -> Result<bool> {
    session.ctx.ui.warn(&format!(
        "the deadline was reached: cancelling {} of {}; then unanswered rows are sent in real time",
        text::batches(open),
        session.job.id
    ));
    if let Err(error) = session.cancel() {
        if !matches!(error.exit, Exit::TempFail | Exit::Failure) {
            return Err(error);
        }
        session.ctx.ui.warn(&error.to_string());
    }
    let every = if session.ctx.settings.sandbox { Duration::from_millis(200) } else { Duration::from_secs(5) };
    let waiting = Waiting { until: Some(Instant::now() + GRACE), every: Some(every), submitting: false };
    follow(std::slice::from_mut(session), waiting)
}
