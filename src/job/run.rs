//! A realtime run, from its input to its summary.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ask::{InputSource, RetryFilter, Role, RunAsk, Start};
use super::consumer::Consumer;
use super::drive::drive;
use super::earlier_answers::EarlierAnswers;
use super::entry::JobEntry;
use super::fan_out::FanOut;
use super::finish::{Ended, Finish, Workspace, compares_estimates};
use super::funds::RunFunds;
use super::identity::key_maker;
use super::live_metrics::LiveMetrics;
use super::placing::FilePlacer;
use super::reader::Feed;
use super::remote::Remote;
use super::rest::Rest;
use super::run_end::RunEnd;
use super::run_start::{EarlierOutcomes, RunStart};
use super::screen::Screen;
use super::shared_answers::{RunSealer, SealKeys, SharedAnswers};
use super::signals::{self, Signals};
use super::stop::Stop;
use super::tally::{NewRows, RowFolds, Tally};
use super::task_turn::{TaskTurn, TurnWait};
use super::verdict::JobCommand;
use crate::api::Client;
use crate::context::Ctx;
use crate::error::Result;
use crate::money::Accounts;
use crate::outcome::ErrorCode;
use crate::realtime::peers::Peers;
use crate::realtime::{Budget, Gauges, SendOptions, Shared, SpeedOptions, Upstream};
use crate::results::{OrderedWriter, Outputs, ReadBlocks, RecordColumns, ResultFiles, RowReader};
use crate::row_set::RowSet;
use crate::store::{JobDb, Presence, Store};
use crate::summary::HttpCounts;
use crate::text;
use crate::ui::{Progress, Results, Ui};

/// Most requests in flight whose answers are files, unless the user sets a number: each is held in memory until it is on the
/// disk.
const MOST_FILES: usize = 64;

/// Answers the rows of `ask` in real time.
///
/// # Errors
/// The error that ends the run before there is a summary.
pub fn run(mut ask: RunAsk, remote: Remote<'_>, ctx: &Ctx) -> Result<Ended> {
    let store = Store::open(ctx.settings.state_place()?)?;
    store.must_be_writable()?;
    let ledger = store.ledger()?;
    let workspace = Workspace { ctx, store: &store, ledger: &ledger };
    let shown = if ask.delivery.output.is_some() { Results::Elsewhere } else { Results::Stdout };
    let progress = ctx.ui.progress(shown);
    let mut start = RunStart::of(&ask, remote, workspace, &progress)?;
    ask.speed.suit(start.builder.endpoint())?;
    let source = &start.source;
    let fields = start.checked.fields.take();
    let columns = || match fields {
        Some(fields) => RecordColumns::new(fields, &source.spec.params),
        None => RecordColumns::of(&source.inputs, &source.spec.params),
    };
    ask.delivery.form.reused |= source.spec.marks_reused();
    ask.delivery.form.files = source.spec.params.files.is_some();
    let outputs = ask.delivery.open(&source.spec.inputs, columns, ctx)?;
    // A job that another process has finished costs nothing more.
    if !start.claimed.finished {
        RunFunds::refuse(&start, &ask, workspace)?;
    }
    if !start.claimed.finished {
        remote.ready(ctx)?;
    }
    let find = |ask| EarlierAnswers::find(ask, &start.claimed.job.id, remote, Arc::clone(&start.rules), workspace);
    let answers = ask.job.once.earlier.as_ref().filter(|_| !start.claimed.finished).map(find).transpose()?;
    let shared = if start.claimed.finished { None } else { SharedAnswers::open(&start, workspace)? };
    // From here on, the job exists.
    let new = start.claimed.enter(&mut start.source, &start.checked, &store, &ledger)?;
    ctx.concern(&start.claimed.job.id);
    let mut earlier = start.sort_out(&ask, new, workspace)?;
    let answers = answers.map(Mutex::new);
    let engine = Arc::new(Shared::default());
    let signals = Signals::watch(Arc::clone(&engine), finishing(ctx.ui.clone(), ask.speed.grace), ctx)?;
    let keys = shared.as_ref().map(|_| Arc::<SealKeys>::default());
    let (mut turn, mut sealer) = (TaskTurn::default(), None);
    if let Some((shared, keys)) = shared.zip(keys.as_ref()) {
        let wait = TurnWait { engine: &engine, signals: &signals, deadline: ask.speed.deadline, progress: &progress };
        let (taken, parts) = TaskTurn::take(&shared, &mut earlier, &start, &wait, ctx)?;
        sealer = Some(shared.sealer(&earlier, &parts, keys)?);
        turn = taken;
    }
    let run = ActiveRun { ask, remote, workspace, progress, start, answers, keys, engine, signals };
    run.answer(earlier, outputs, sealer, turn)
}

/// A run whose job is ready.
struct ActiveRun<'a> {
    ask: RunAsk,
    remote: Remote<'a>,
    workspace: Workspace<'a>,
    progress: Progress,
    start: RunStart,
    /// Answers of earlier jobs.
    answers: Option<Mutex<EarlierAnswers>>,
    /// The keys of the requests in flight, for answers that other tasks may take.
    keys: Option<Arc<SealKeys>>,
    /// Shared by the engine, the consumer and the signals.
    engine: Arc<Shared>,
    signals: Signals,
}

impl ActiveRun<'_> {
    /// Sends the remaining rows, writes the results and sums up.
    fn answer(
        self,
        mut earlier: EarlierOutcomes,
        outputs: Outputs,
        sealer: Option<RunSealer>,
        turn: TaskTurn,
    ) -> Result<Ended> {
        let ctx = self.workspace.ctx;
        let mut job = self.start.claimed.job.clone();
        let funds = RunFunds::open(&self.ask, &mut job, &earlier.db, self.workspace)?;
        // A submission has said already which rows it sends in real time, and which answers are reused.
        if self.ask.role != Role::BesideBatches {
            ctx.ui.note(&self.start.opening(&earlier, &self.start.source.spec.shown_service()));
            if let Some(answers) = self.answers.as_ref().and_then(|answers| answers.lock().ok()) {
                ctx.ui.note(&answers.words());
            }
        }
        let rows = self.start.rows();
        let read = self.ask.delivery.form.is_flat().then(Arc::<ReadBlocks>::default);
        let reader = read.as_ref().map(|read| RowReader::beside(rows.inputs, rows.builder, Some(Arc::clone(read))));
        let (shared, signals) = (&self.engine, &self.signals);
        let started = Instant::now();
        let placer = self.placer(&mut earlier.db)?;
        let options = self.options(&earlier, funds.budget);
        let urls = self.upstreams(&mut earlier.db)?;
        if let Some(changed) = self.start.changed() {
            return Err(changed);
        }
        let (results, summary_file) = outputs.ordered(self.start.checked.rows, (*earlier.done).clone(), reader);
        let (skipped, reused, discarded) = (earlier.skipped(), Arc::clone(&earlier.done), earlier.discarded);
        let entry = JobEntry::new(self.workspace.store.ledger()?, &mut job, started);
        let mut consumer = self.consumer(earlier, results, entry, Arc::clone(shared));
        consumer.tally.live = LiveMetrics::of(consumer.entry.job, &consumer.db, ctx)?;
        (consumer.reservation, consumer.sealer, consumer.placer) = (funds.reservation, sealer, placer);
        let rows = self.start.rows();
        let feed = self.feed(&skipped, read.as_deref());
        let mut driven = drive(consumer, urls, &options, &feed, shared)?;
        self.progress.finish();
        let mut unwritable = signals.is_hurried();
        // The results would mix rows of two versions of the input.
        if let Some(changed) = self.start.changed() {
            driven.fed = Err(changed);
            unwritable = true;
        }
        let elapsed = started.elapsed();
        job.active_ms += u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let stop = Stop::of(signals.first(), &driven.fed, driven.stopped.as_ref(), self.remote.is_without_key());
        let stop = turn.end(stop, signals.first());
        let over_budget = stop.as_ref().is_some_and(|stop| stop.over_budget);
        let finish = Finish {
            workspace: self.workspace,
            job,
            spec: &self.start.source.spec,
            command: command(&self.ask),
            stop,
            http: Some(http(&shared.gauges)),
            nowhere: self.ask.delivery.nowhere,
            written: ResultFiles::default(),
            db: None,
            details: None,
        };
        let end = RunEnd { rows, reused: &reused, discarded, unwritable, at_risk_before: funds.at_risk };
        let mut ended = end.finish(finish, driven.consumed, elapsed)?;
        let enough = over_budget.then(|| self.enough()).flatten().map(|enough| format!("{enough} for the rest"));
        let late = late(&ended, &shared.gauges, &self.ask.speed);
        for words in [enough, late].into_iter().flatten() {
            ended.summary.exit.reason = format!("{}; {words}", ended.summary.exit.reason);
        }
        Ok(ended.write_summary(summary_file, ctx))
    }

    /// Opens the directory for the files of answers, with `--files`.
    fn placer(&self, db: &mut JobDb) -> Result<Option<FilePlacer>> {
        let RunStart { source, claimed, .. } = &self.start;
        let files = source.spec.params.files.as_ref().filter(|_| !claimed.finished);
        files.map(|place| FilePlacer::open(place, &claimed.job.id, db, self.workspace.ctx)).transpose()
    }

    /// The options of the engine.
    fn options(&self, earlier: &EarlierOutcomes, budget: Option<Budget>) -> SendOptions {
        let endpoint = self.start.builder.endpoint();
        let mut speed = self.ask.speed.clone();
        if endpoint.makes_files() && speed.auto {
            speed.concurrency = speed.concurrency.min(MOST_FILES);
        }
        SendOptions {
            speed,
            last_row: self.start.checked.rows,
            synced_commits: self.workspace.store.syncs_commits(),
            answered_before: earlier.answered > 0,
            budget,
            table: self.workspace.ctx.settings.prices.clone(),
            peers: self.peers(),
            affinity: self.workspace.ctx.settings.service.as_ref().is_some_and(|service| service.affinity.is_some()),
            rules: Arc::clone(&self.start.rules),
            endpoint,
        }
    }

    /// The base URLs of the service, with the numbers that the job has for them.
    fn upstreams(&self, db: &mut JobDb) -> Result<Vec<Upstream>> {
        let clients: Vec<&Client> = self.remote.clients().collect();
        let urls: Vec<&str> = clients.iter().map(|client| client.base()).collect();
        let numbers = db.keep_urls(&urls)?;
        Ok(clients
            .into_iter()
            .zip(numbers)
            .map(|(client, number)| Upstream { client: client.clone(), number })
            .collect())
    }

    /// The rows to send, for the reader.
    fn feed<'a>(&'a self, skipped: &'a RowSet, read: Option<&'a ReadBlocks>) -> Feed<'a> {
        let RunStart { source, claimed, checked, known, .. } = &self.start;
        Feed {
            rows: self.start.rows(),
            skipped,
            checked,
            known: known.as_ref(),
            repeats: self.start.repeats(),
            answers: self.answers.as_ref().map(|answers| (answers, key_maker(&self.remote.identity()))),
            sealed: self.keys.as_ref().map(|keys| (&**keys, key_maker(&self.remote.identity()))),
            read,
            // A retry of all rows also sends those that are surely too long.
            table: (self.ask.retry != RetryFilter::All).then_some(&self.workspace.ctx.settings.prices),
            contexts: &self.workspace.ctx.settings.prices,
            pack: self.ask.speed.pack,
            estimates: compares_estimates(&source.spec, &claimed.job, checked.rows),
            by_prefix: self.ask.speed.by_prefix,
        }
    }

    /// Names the limits that would do for the rest of the job.
    fn enough(&self) -> Option<String> {
        let Workspace { store, ledger, .. } = self.workspace;
        let rest = Rest::of(&self.ask, &self.start, self.workspace);
        let job = ledger.find(&self.start.claimed.job.id);
        let enough = job.and_then(|job| rest.enough(&job, &store.open_job(&job.id)?));
        enough.unwrap_or_else(|error| {
            tracing::debug!("{error}");
            None
        })
    }

    /// Builds the consumer of the run's events.
    fn consumer<'j, 'ctx>(
        &'j self,
        earlier: EarlierOutcomes,
        results: OrderedWriter,
        entry: JobEntry<'j>,
        shared: Arc<Shared>,
    ) -> Consumer<'j, 'ctx> {
        let ctx = self.workspace.ctx;
        Consumer {
            results,
            tally: Tally {
                // The end of the run adds discarded answers of earlier runs. Until then, it is open which failed rows
                // stay.
                folds: RowFolds::new(
                    Accounts::new(ctx.settings.prices.clone(), self.start.checked.rows)
                        .asking_json(self.start.source.spec.params.json_schema.is_some())
                        .knowing(&earlier.db),
                ),
                reused: earlier.done,
                answered_before: earlier.answered,
                failed_before: earlier.failed,
                new: NewRows::default(),
                live: None,
            },
            db: earlier.db,
            screen: Screen::new(self.progress.clone(), ctx.ui.clone(), entry.spent_before),
            entry,
            reservation: None,
            sealer: None,
            placer: None,
            shared,
            fan_out: FanOut::default(),
        }
    }

    /// Joins the processes of this machine that use the same service and key. Each process has its own built-in server,
    /// so the sandbox has no peers.
    fn peers(&self) -> Option<Peers> {
        if self.remote.name == "sandbox" {
            return None;
        }
        let store = self.workspace.store;
        let models = self.start.checked.models.iter().map(|(model, _)| model.to_string()).collect();
        match Presence::join(&store.limits_dir(self.remote.account, self.remote.name)) {
            Ok(roster) => Some(Peers::new(roster, models)),
            Err(error) => {
                self.workspace.ctx.ui.detail(&format!(
                    "{}: cannot be used ({error}), so this run does not share its rate limit with other processes",
                    store.dir().join("limits").display()
                ));
                None
            }
        }
    }
}

/// Says after the first signal what is still in flight.
fn finishing(ui: Ui, grace: Duration) -> impl FnOnce(&Shared, i32) + Send + 'static {
    move |shared, signal| {
        let in_flight = shared.gauges.in_flight.load(Ordering::Relaxed) as u64;
        let again = signals::again(signal);
        ui.note(&match in_flight {
            0 => format!("stopping; no request is in flight; {again}"),
            _ => format!(
                "{} in flight {} finishing ({} at most); {again}",
                text::plural(in_flight, "request"),
                text::agree(in_flight, "is", "are"),
                text::duration(grace)
            ),
        });
    }
}

fn command(ask: &RunAsk) -> JobCommand {
    let named = |start: &Start| match start {
        Start::New { input, .. } => input.source != InputSource::Stdin,
        Start::Continue { .. } => false,
    };
    match ask.role {
        Role::Run => JobCommand::Run { input: named(&ask.job.start), max_cost: ask.job.limit.max_cost.is_some() },
        Role::Retry | Role::BesideBatches => JobCommand::RealtimePart,
    }
}

/// Says that requests timed out, and the remedies, if rows are left without an answer for that.
fn late(ended: &Ended, gauges: &Gauges, speed: &SpeedOptions) -> Option<String> {
    let rows = ended.summary.errors.iter().any(|error| error.code == ErrorCode::Timeout);
    let requests = gauges.timed_out.load(Ordering::Relaxed);
    let peak = gauges.peak_in_flight.load(Ordering::Relaxed);
    let (time, flags) = match speed.stream {
        // The error of each row names the limit that ended it.
        Some(_) => ("in time".to_owned(), "longer --first-token-timeout and --stall-timeout"),
        None => (format!("within {}", text::duration(speed.request_timeout)), "a longer --request-timeout"),
    };
    (requests > 0 && (rows || ended.stopped)).then(|| {
        format!(
            "{} had no answer {time} while up to {peak} were in flight: a lower --concurrency, or {flags}, may help",
            text::plural(requests, "request"),
        )
    })
}

/// Returns the engine's counts of requests.
fn http(gauges: &Gauges) -> HttpCounts {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    HttpCounts { sent: read(&gauges.sent), retried: read(&gauges.retried), rate_limited: read(&gauges.refused) }
}
