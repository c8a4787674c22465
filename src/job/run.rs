//! A realtime job from its inputs to its summary.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::ask::{Again, Plan};
use super::claim::{self as job, Claimed};
use super::consumer::{Consumed, Consumer};
use super::finish::{Closing, Ending};
use super::reader;
use super::resume;
use super::signals::Signals;
use crate::api::Client;
use crate::check::Checked;
use crate::check::problems::{self, Deed};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::Inputs;
use crate::money::exposure::Own;
use crate::money::reservation::Purse;
use crate::money::{self, Money, budget};
use crate::price::Nanos;
use crate::realtime::peers::Peers;
use crate::realtime::{self, Budget, MaxCost, Shared, Stopped};
use crate::request::Shape;
use crate::results::Cursor;
use crate::row_set::Bits;
use crate::store::{JobDb, Ledger, Presence, Store};
use crate::summary::{Summary, Totals};
use crate::text;
use crate::tokens::Estimator;
use crate::ui::Results;

/// Batches of rows between the reader and the engine.
const READ_AHEAD: usize = 8;

/// Runs the plan to its end.
///
/// # Errors
/// What stopped it before there was anything to sum up.
pub fn run(mut plan: Plan, client: &Client, ctx: &Ctx) -> Result<(Summary, Exit)> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let progress = ctx.ui.progress(if plan.delivery.output.is_some() { Results::Elsewhere } else { Results::Stdout });

    progress.phase("reading input");
    let mut source = job::source(&plan, &store, &ledger)?;
    let shape = Arc::new(Shape::new(&source.spec.params)?);
    let mut claimed = job::claim(&store, &ledger, &plan, &source, &ctx.ui)?;
    // It may have waited all night, and nothing has been read yet.
    source.stamp = source.inputs.stamp();
    let earlier = if claimed.resumed { Some(store.open_job(&claimed.job.id)?) } else { None };

    progress.phase("checking input");
    let (checked, resumed) = {
        let limits = (plan.max_problems, Some(&ctx.settings.prices));
        resume::check(&source.inputs, &shape, limits, earlier, claimed.sound.as_ref())?
    };
    // The input may be another by now; then the job is not finished any more.
    claimed.finished &= resumed.as_ref().is_some_and(|resumed| resumed.answers_all(&checked, &claimed.job));
    problems::report(&checked, source.spec.skip_invalid, plan.max_problems, Deed::Send, &ctx.ui)?;
    problems::say_stream_removed(&checked, &ctx.ui);

    // Outputs are opened before money is spent.
    let outputs = plan.delivery.open(&source.spec.inputs, Some(&source.inputs), &source.spec.params, ctx)?;

    refuse(&plan, &checked, &claimed, &store, &ledger, ctx)?;

    // From here on there is a job.
    job::enter(&mut claimed, &mut source, &checked, &store, &ledger)?;
    let inputs = &source.inputs;
    let money = Money::new(ctx.settings.prices.clone());
    // What earlier runs threw away comes to this at the end: until then nobody knows which failed rows stand as they are.
    let totals = Totals::new(checked.rows);
    let path = store.job_path(&claimed.job.id);
    let mut awaited = Bits::default();
    if let Some(resumed) = &resumed {
        resumed.each_awaited(|row| {
            awaited.insert(row);
        })?;
    }
    let db = match resumed {
        Some(resumed) => {
            let again = if claimed.finished { Again::None } else { plan.again };
            resume::prepare(resumed, inputs, &shape, &checked, (again, &awaited), ctx)?
        }
        None => JobDb::open(&path)?,
    };
    job::settle(&mut claimed, &source, &checked, &ledger)?;
    let mut done = Bits::new(checked.rows);
    // Rows that failed and are to be sent again have been taken out.
    db.each_fingerprint(|row, _, _| {
        done.insert(row);
    })?;
    let stood = db.counts()?;
    let purse = Purse::open(&claimed.job.id, &store, ctx)?;
    let mut at_risk = Nanos::ZERO;
    if purse.is_some() || plan.max_cost.is_some() {
        let sums = money::fold(&db, ctx.settings.prices.clone(), checked.rows, &Bits::default())?;
        at_risk = sums.at_risk();
        if purse.is_some() {
            // From here on what a process that was killed had not told counts as spent, and no longer as what it held.
            claimed.job.cost = sums.usd().or(claimed.job.cost);
            budget::record(&claimed.job, &sums, &ledger)?;
        }
        let spent = if plan.whole_job { money::spent(&sums) } else { Nanos::ZERO };
        let limit = plan.max_cost.map(|limit| MaxCost { limit, before: spent });
        plan.options.budget = Some(Budget::new(limit, purse.is_some(), ctx.settings.prices.clone()));
    }
    ctx.ui.note(&opening(&claimed, &checked, stood, awaited.count(), &plan));

    let cursor = if plan.delivery.form.is_flat() { Some(Cursor::open(inputs, &shape, true)?) } else { None };
    let done = Arc::new(done);
    let shared = Arc::new(Shared::default());
    let signals = Signals::watch(Arc::clone(&shared), ctx.leave)?;
    let started = Instant::now();
    if let Some(deadline) = &mut plan.options.deadline {
        *deadline = (*deadline).max(started);
    }
    plan.options.last_row = checked.rows;
    plan.options.peers = peers(&plan, &checked, &store, ctx);
    let changed = || {
        Error::new(Exit::Failure, "the input was written to while it was read; no results were written")
            .hint("run the same command again: answers whose request is unchanged are kept")
    };
    if inputs.stamp() != source.stamp {
        return Err(changed());
    }
    let (ordered, summary_file) = outputs.ordered(checked.rows, (*done).clone(), cursor);
    let consumer = Consumer {
        db,
        ordered,
        totals,
        money,
        reused: Arc::clone(&done),
        stood,
        progress: progress.clone(),
        ui: ctx.ui.clone(),
        outage: false,
        shared: Arc::clone(&shared),
        ledger: store.ledger()?,
        spent: claimed.job.cost.unwrap_or(Nanos::ZERO),
        job: &mut claimed.job,
        purse,
        started,
    };
    let mut passed = (*done).clone();
    pass_over(&awaited, &mut passed, checked.rows);
    let feed = Feed { inputs, shape: &shape, done: &passed, checked: &checked };
    let (stopped, mut fed, consumed) = drive(consumer, client, &plan.options, &feed, &shared)?;
    progress.finish();
    // Rows of two versions of an input would stand beside each other.
    let mixed = inputs.stamp() != source.stamp;
    if mixed {
        fed = Err(changed());
    }

    let closing = Closing {
        plan: &plan,
        ctx,
        ledger: &ledger,
        store: &store,
        reused: &done,
        inputs,
        shape: &shape,
        started,
        shared: &shared,
        awaited: awaited.count(),
        at_risk,
        mixed,
    };
    let (summary, exit) =
        closing.finish(claimed.job.clone(), Ending::of(stopped.as_ref(), &fed, signals.first()), consumed)?;
    if let Err(error) = summary_file.write(&summary) {
        ctx.ui.error(&error);
        return Ok((summary, exit.worst(Exit::Io)));
    }
    Ok((summary, exit))
}

/// The other processes of this machine that send to the same service with the same key. The built-in server is each one's own.
fn peers(plan: &Plan, checked: &Checked, store: &Store, ctx: &Ctx) -> Option<Peers> {
    if plan.service == "sandbox" {
        return None;
    }
    let models = checked.models.iter().map(|(model, _)| model.to_string()).collect();
    match Presence::join(&store.limits_dir(&plan.account, &plan.service)) {
        Ok(presence) => Some(Peers::new(presence, models)),
        Err(error) => {
            ctx.ui.detail(&format!(
                "{}: cannot be used ({error}); other processes with this key and this one know nothing of each other",
                store.dir().join("limits").display()
            ));
            None
        }
    }
}

/// Refuses what no budget can be kept for, or what the config file's budgets have nothing left for.
fn refuse(plan: &Plan, checked: &Checked, claimed: &Claimed, store: &Store, ledger: &Ledger, ctx: &Ctx) -> Result<()> {
    let budgets = ctx.settings.budget.is_set();
    // What another process has finished costs nothing any more.
    if claimed.finished || !(budgets || plan.max_cost.is_some()) {
        return Ok(());
    }
    let unpriced = checked.models.iter().find(|(m, _)| ctx.settings.prices.get(m).is_none_or(|e| e.price.is_none()));
    if let Some((model, _)) = unpriced.filter(|_| !plan.allow_unpriced) {
        return Err(budget::unpriced_error(model));
    }
    if !budgets {
        return Ok(());
    }
    let own = Own { job: &claimed.job.id, ..Own::default() };
    match ledger.decide(|| budget::left(store, ledger, ctx, own))? {
        Some(left) if left.amount == Nanos::ZERO && left.returning == Nanos::ZERO => {
            Err(Error::new(Exit::Budget, format!("nothing is left of {}; nothing was sent", left.what))
                .hint("then the same command goes on; or raise the budget in the config file"))
        }
        _ => Ok(()),
    }
}

/// Rows that others will answer are passed over like those that are done.
fn pass_over(awaited: &Bits, passed: &mut Bits, rows: u64) {
    if awaited.count() > 0 {
        (1..=rows).filter(|row| awaited.contains(*row)).for_each(|row| {
            passed.insert(row);
        });
    }
}

struct Feed<'a> {
    inputs: &'a Inputs,
    shape: &'a Arc<Shape>,
    done: &'a Bits,
    checked: &'a Checked,
}

/// Reader, engine and consumer at work: each on a thread of its own, the network on this one.
type Driven<'ctx> = (Option<Stopped>, Result<()>, Result<Consumed<'ctx>>);
fn drive<'ctx>(
    consumer: Consumer<'_, 'ctx>,
    client: &Client,
    options: &realtime::SendOptions,
    feed: &Feed<'_>,
    shared: &Arc<Shared>,
) -> Result<Driven<'ctx>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(Exit::Failure, "the network cannot be set up").because(e))?;
    let (rows_in, rows_out) = mpsc::channel(READ_AHEAD);
    let (events_in, events_out) = std::sync::mpsc::channel();
    let driven = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("reader".to_owned()).spawn_scoped(scope, move || {
            let result = reader::feed(feed.inputs, feed.shape, feed.done, feed.checked, &rows_in);
            match &result {
                Err(_) => shared.stop.cancel(),
                // The end of the run needs it: better made while the last answers are on their way.
                Ok(()) => _ = Estimator::shared(),
            }
            result
        });
        let writer = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn_scoped(scope, move || consumer.consume(&events_out));
        let failed = |e| Error::new(Exit::Failure, "a thread cannot be started").because(e);
        let run = realtime::run(client.clone(), options.clone(), rows_out, events_in, Arc::clone(shared));
        let stopped = runtime.block_on(run);
        let crashed =
            |_| Error::new(Exit::Failure, "a thread of llbatch crashed; please report it with the lines above");
        let fed = reader.map_err(failed)?.join().map_err(crashed)?;
        let consumed = writer.map_err(failed)?.join().map_err(crashed)?;
        Ok((stopped, fed, consumed))
    });
    // Connections that still linger need not be waited for; nor need their closing, which of a thousand takes 50 ms.
    drop(std::thread::Builder::new().name("closing".to_owned()).spawn(move || runtime.shutdown_background()));
    driven
}

fn opening(claimed: &Claimed, checked: &Checked, (answered, failed): (u64, u64), awaited: u64, plan: &Plan) -> String {
    let standing = answered + failed;
    let models: Vec<&str> = checked.models.iter().take(3).map(|(m, _)| &**m).collect();
    let more = if checked.models.len() > 3 { format!(" and {} more", checked.models.len() - 3) } else { String::new() };
    let rows = if claimed.finished && standing == checked.rows {
        "finished by another llbatch while this one waited; its results are written, nothing is sent".to_owned()
    } else if claimed.resumed {
        let failed = if failed > 0 { format!(", {} failed before", text::count(failed)) } else { String::new() };
        let left = checked.rows - standing - awaited;
        format!("{} answered before{failed}, {} to go", text::count(answered), text::count(left))
    } else {
        text::plural(checked.rows, "row")
    };
    let verb = match (claimed.resumed, plan.beside_batches) {
        (_, true) => "at realtime, of job",
        _ if claimed.finished => "job",
        (true, false) => "resuming job",
        (false, false) => "job",
    };
    format!("{verb} {}: {rows}, {}{more}, against {}", claimed.job.id, models.join(", "), plan.service)
}
