//! A rescue: answers the rows that batches left undone in real time, within the same job and results.

use std::time::Duration;

use super::ask::RescueAsk;
use super::deliver::deliver;
use super::follow::{Waiting, follow};
use super::retry::retry_set;
use super::session::Session;
use crate::batch::driver::SubmitScope;
use crate::context::Ctx;
use crate::deadline::Deadline;
use crate::error::{Exit, Result};
use crate::job::ask::{CostLimit, Role, RunAsk};
use crate::job::finish::Ended;
use crate::job::remote::Remote;
use crate::job::run::run;
use crate::results::{Delivery, Outputs};
use crate::store::Transport;
use crate::text;

/// Maximum wait for the service to end the cancelled batches. llbatch does not send a row again while a batch may still
/// answer it.
const GRACE: Duration = Duration::from_mins(15);

/// A rescue of one job.
#[derive(Debug)]
pub struct Rescue {
    /// Settings of the rescue.
    pub how: RescueAsk,
    /// Destination of the results.
    pub delivery: Delivery,
    /// Limits of cost. The cost of the batches counts.
    pub limit: CostLimit,
}

/// Cancels the batches that are open at the deadline, collects their answers, and answers the other rows in real time.
///
/// # Errors
/// The error that ends the rescue before there is a summary.
pub fn rescue(
    mut session: Session<'_>,
    rescue: Rescue,
    outputs: Outputs,
    remote: Remote<'_>,
    ctx: &Ctx,
) -> Result<Ended> {
    let open = session.open_batches()?.all;
    let flat = rescue.delivery.form.is_flat();
    if open > 0 && !end(&mut session, open)? {
        ctx.ui.warn(
            "the service has not ended all batches yet; llbatch does not send their rows again, because it may \
                   still answer them",
        );
        return deliver(session, outputs, flat);
    }
    let left = retry_set(&session, false, Transport::Realtime)?;
    if left.rows.is_empty() {
        return deliver(session, outputs, flat);
    }
    let cost = left.quote.shown();
    ctx.ui.note(&format!(
        "answered in batches: {}; sent in real time now: {}, {cost}",
        text::plural(session.counts()?.0, "row"),
        text::count(left.rows.len() as u64)
    ));
    let id = session.job.id.clone();
    // The cost of the batches reduces the limit.
    session.record()?;
    let spent = session.spent()?;
    let limit = CostLimit { max_cost: rescue.limit.max_cost.map(|limit| limit.saturating_sub(spent)), ..rescue.limit };
    session.progress.finish();
    drop(session);
    drop(outputs);
    let part = RunAsk::part_of(id, Role::Retry, limit, rescue.how.wait, rescue.how.speed);
    run(RunAsk { delivery: rescue.delivery, ..part }, remote, ctx)
}

/// Cancels the open batches and collects their answers. Returns `false` if the service does not end them in time.
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
    let waiting = Waiting { until: Deadline::after(GRACE), every: Some(every), submits: SubmitScope::Doubts };
    follow(std::slice::from_mut(session), waiting)
}
