//! A realtime run, from its input to its summary.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::ask::{InputSource, Role, RunAsk, Start};
use super::consumer::Consumer;
use super::drive::drive;
use super::entry::JobEntry;
use super::finish::{Desk, Ended, Finish};
use super::funds::RunFunds;
use super::prepared::{Prepared, Standing};
use super::reader::Feed;
use super::remote::Remote;
use super::run_end::RunEnd;
use super::screen::Screen;
use super::signals::Signals;
use super::stop::Stop;
use super::tally::{NewRows, Tally};
use super::verdict::Asker;
use crate::context::Ctx;
use crate::error::Result;
use crate::money::Accounts;
use crate::realtime::peers::Peers;
use crate::realtime::{Gauges, Shared};
use crate::results::{OrderedWriter, Outputs, ResultFiles, RowReader};
use crate::store::{Job, Presence, Store};
use crate::summary::HttpCounts;
use crate::ui::{Progress, Results};

/// Answers the rows that are asked for in real time.
///
/// # Errors
/// What stops the run before there is anything to sum up.
pub fn run(ask: RunAsk, remote: Remote<'_>, ctx: &Ctx) -> Result<Ended> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let desk = Desk { ctx, store: &store, ledger: &ledger };
    let shown = if ask.delivery.output.is_some() { Results::Elsewhere } else { Results::Stdout };
    let progress = ctx.ui.progress(shown);
    let mut prepared = Prepared::of(&ask, remote, desk, &progress)?;
    let source = &prepared.source;
    let outputs = ask.delivery.open(&source.spec.inputs, Some(&source.inputs), &source.spec.params, ctx)?;
    // A job that another process has finished costs nothing any more.
    if !prepared.claimed.finished {
        RunFunds::refuse(&prepared.checked, &prepared.claimed.job.id, ask.ask.limit, desk)?;
    }
    // From here on there is a job.
    prepared.claimed.enter(&mut prepared.source, &prepared.checked, &store, &ledger)?;
    let standing = prepared.stand(&ask, desk)?;
    ActiveRun { ask, remote, desk, progress, prepared }.answer(standing, outputs)
}

/// A run whose job is ready.
struct ActiveRun<'a> {
    ask: RunAsk,
    remote: Remote<'a>,
    desk: Desk<'a>,
    progress: Progress,
    prepared: Prepared,
}

impl ActiveRun<'_> {
    /// Sends what is to be sent, writes the results and sums up.
    fn answer(mut self, standing: Standing, outputs: Outputs) -> Result<Ended> {
        let ctx = self.desk.ctx;
        let mut job = self.prepared.claimed.job.clone();
        let funds = RunFunds::open(&mut self.ask, &mut job, &standing.db, self.desk)?;
        ctx.ui.note(&self.prepared.opening(&standing, self.ask.role, self.remote.name));
        let rows = self.prepared.rows();
        let flat = self.ask.delivery.form.is_flat();
        let cursor = if flat { Some(RowReader::open(rows.inputs, rows.shape, true)?) } else { None };
        let shared = Arc::new(Shared::default());
        let signals = Signals::watch(Arc::clone(&shared), ctx.leave)?;
        let started = Instant::now();
        self.complete_options(started);
        if let Some(changed) = self.prepared.changed() {
            return Err(changed);
        }
        let files = outputs.files.clone();
        let (results, summary_file) = outputs.ordered(self.prepared.checked.rows, (*standing.done).clone(), cursor);
        let (skipped, reused) = (standing.skipped(), Arc::clone(&standing.done));
        let mut consumer = self.consumer(standing, results, &mut job, Arc::clone(&shared), started)?;
        consumer.reservation = funds.reservation;
        let rows = self.prepared.rows();
        let feed = Feed { rows, done: &skipped, checked: &self.prepared.checked, options: &self.ask.options };
        let mut driven = drive(consumer, self.remote.client, &feed, &shared)?;
        self.progress.finish();
        let mut unwritable = shared.abort.is_cancelled();
        // Rows of two versions of an input would stand beside each other.
        if let Some(changed) = self.prepared.changed() {
            driven.fed = Err(changed);
            unwritable = true;
        }
        let elapsed = started.elapsed();
        job.active_ms += u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let finish = Finish {
            desk: self.desk,
            job,
            spec: &self.prepared.source.spec,
            command: command(&self.ask),
            stop: Stop::of(signals.first(), &driven.fed, driven.stopped.as_ref()),
            http: Some(http(&shared.gauges)),
            nowhere: self.ask.delivery.nowhere,
            written: ResultFiles::default(),
        };
        let end = RunEnd { rows, files, reused: &reused, unwritable, at_risk_before: funds.at_risk };
        let ended = end.finish(finish, driven.consumed, elapsed)?;
        Ok(ended.write_summary(summary_file, ctx))
    }

    /// The consumer of the run's events.
    fn consumer<'j, 'ctx>(
        &self,
        standing: Standing,
        results: OrderedWriter,
        job: &'j mut Job,
        shared: Arc<Shared>,
        started: Instant,
    ) -> Result<Consumer<'j, 'ctx>> {
        let Desk { ctx, store, .. } = self.desk;
        Ok(Consumer {
            db: standing.db,
            results,
            tally: Tally {
                // What earlier runs threw away is added at the end: until then it is open which failed rows stay as they are.
                accounts: Accounts::new(ctx.settings.prices.clone(), self.prepared.checked.rows),
                reused: standing.done,
                answered_before: standing.answered,
                failed_before: standing.failed,
                new: NewRows::default(),
            },
            screen: Screen::new(self.progress.clone(), ctx.ui.clone()),
            entry: JobEntry { ledger: store.ledger()?, spent_before: job.cost.unwrap_or_default(), job, started },
            reservation: None,
            shared,
        })
    }

    fn complete_options(&mut self, started: Instant) {
        let peers = self.peers();
        let options = &mut self.ask.options;
        if let Some(deadline) = &mut options.deadline {
            *deadline = (*deadline).max(started);
        }
        options.path = self.prepared.shape.endpoint().path();
        options.last_row = self.prepared.checked.rows;
        options.peers = peers;
    }

    /// The other processes of this machine that send to the same service with the same key. Each process has a built-in server
    /// of its own.
    fn peers(&self) -> Option<Peers> {
        if self.remote.name == "sandbox" {
            return None;
        }
        let store = self.desk.store;
        let models = self.prepared.checked.models.iter().map(|(model, _)| model.to_string()).collect();
        match Presence::join(&store.limits_dir(self.remote.account, self.remote.name)) {
            Ok(roster) => Some(Peers::new(roster, models)),
            Err(error) => {
                self.desk.ctx.ui.detail(&format!(
                    "{}: cannot be used ({error}), so this run does not share its rate limit with other processes",
                    store.dir().join("limits").display()
                ));
                None
            }
        }
    }
}

fn command(ask: &RunAsk) -> Asker {
    let named = |start: &Start| match start {
        Start::New { input, .. } => input.source != InputSource::Stdin,
        Start::Continue { .. } => false,
    };
    match ask.role {
        Role::Run => Asker::Run { input: named(&ask.ask.start), max_cost: ask.ask.limit.max_cost.is_some() },
        Role::Retry | Role::BesideBatches => Asker::RealtimePart,
    }
}

/// What the engine has counted.
fn http(gauges: &Gauges) -> HttpCounts {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    HttpCounts { sent: read(&gauges.sent), retried: read(&gauges.retried), rate_limited: read(&gauges.refused) }
}
