//! Adopts batches that llbatch did not create: adds them to the index, with the input that the service still has.

use super::ADOPTED;
use super::session::{Session, SessionOptions};
use crate::api::batches::Batch;
use crate::api::error::Fault;
use crate::api::is_id;
use crate::batch::driver;
use crate::check::Pass;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::{Format, Inputs};
use crate::job::remote::Remote;
use crate::job::spec::{Spec, spec_of};
use crate::outcome::{ErrorCode, Outcome};
use crate::request::{Endpoint, Params, RequestBuilder};
use crate::store::{
    Asked, BatchCost, BatchStep, Job, JobBatch, Ledger, LockWait, RemoteBatch, RequestFile, Store, Transport,
};

/// Finds the job that `name` means: a job of the index, or the job of a Together batch. A batch of another program gets
/// a new job.
///
/// # Errors
/// 2 if there is no such job.
pub fn find(name: &str, remote: Remote<'_>, ctx: &Ctx) -> Result<Job> {
    let store = Store::open(ctx.settings.state_place()?)?;
    let ledger = store.ledger()?;
    match find_local(name, &store, &ledger) {
        Err(error) if error.exit == Exit::Usage && looks_remote(name) => adopt(name, remote, ctx, error),
        found => found,
    }
}

/// Finds the jobs that `names` mean, each once.
///
/// # Errors
/// As [`find`].
pub fn find_all(names: &[String], remote: Remote<'_>, ctx: &Ctx) -> Result<Vec<Job>> {
    let mut jobs: Vec<Job> = Vec::new();
    for name in names {
        let job = find(name, remote, ctx)?;
        if jobs.iter().all(|known| known.id != job.id) {
            jobs.push(job);
        }
    }
    Ok(jobs)
}

/// Finds a job as [`find`] does, but never calls the service.
///
/// # Errors
/// 2 if there is no such job.
pub fn find_local(name: &str, store: &Store, ledger: &Ledger) -> Result<Job> {
    match ledger.find(name) {
        Err(error) if error.exit == Exit::Usage && looks_remote(name) => {
            for job in ledger.recent(u32::MAX)? {
                // A job that ran in real time may have a retry in batches.
                // One whose file is lost must not hide its batches: the service still has them.
                let batches = store.open_job(&job.id).and_then(|db| db.batches()).unwrap_or_default();
                if batches.iter().any(|b| b.remote.id.as_deref() == Some(name)) {
                    return Ok(job);
                }
            }
            Err(error)
        }
        found => found,
    }
}

/// Returns true if `name` can be an id of the service.
pub fn looks_remote(name: &str) -> bool {
    is_id(name) && name.len() >= 12 && name.contains(['-', '_']) && !name.starts_with("j-")
}

fn adopt(id: &str, remote: Remote<'_>, ctx: &Ctx, unknown: Error) -> Result<Job> {
    remote.ready(ctx)?;
    let store = Store::open(ctx.settings.state_place()?)?;
    // Another command may be adopting it: looks again under the lock.
    let name = format!("adopt-{}", &blake3::hash(id.as_bytes()).to_hex()[..16]);
    let say = |holder: &str| ctx.ui.note(&format!("{holder} is adopting {id}; waiting for it"));
    let _lock = store.wait_for_lock(&name, LockWait::Forever, &say)?;
    if let Ok(job) = find_local(id, &store, &store.ledger()?) {
        return Ok(job);
    }
    let runtime = super::runtime()?;
    let batch = match runtime.block_on(remote.client.batch(id)) {
        Ok(batch) => batch,
        Err(failure) if failure.fault == Fault::NotFound => return Err(unknown),
        Err(failure) => return Err(driver::error(&format!("asking about {id}"), &failure)),
    };
    let endpoint = match &batch.endpoint {
        None => Endpoint::default(),
        Some(path) => Endpoint::of_url(path).ok_or_else(|| {
            let known = Endpoint::ALL.map(Endpoint::path).join(", ");
            Error::usage(format!("{id} is a batch of {path}, which llbatch cannot read"))
                .hint(format!("llbatch reads batches of {known}"))
        })?,
    };
    let gone = || {
        Error::new(Exit::Failure, format!("the service no longer has the input of {id}"))
            .hint("without the input, llbatch cannot put the results in order")
    };
    let input = batch.input_file_id.clone().ok_or_else(gone)?;
    let spool = store.spool()?;
    ctx.ui.note(&format!("{id} was created elsewhere; llbatch adopts it with its input"));
    runtime.block_on(remote.client.download(&input, spool.path(), &|_| ())).map_err(|failure| {
        if failure.fault == Fault::NotFound { gone() } else { driver::error("downloading its input", &failure) }
    })?;
    let params = Params { endpoint, model: batch.model_id.clone(), ..Params::default() };
    enter(&batch, &Inputs::spooled(spool.path().to_owned(), id, Format::Jsonl), params, remote, ctx)
}

fn enter(batch: &Batch, inputs: &Inputs, params: Params, remote: Remote<'_>, ctx: &Ctx) -> Result<Job> {
    let store = Store::open(ctx.settings.state_place()?)?;
    let ledger = store.ledger()?;
    let builder = RequestBuilder::new(&params)?;
    let spec = Spec { account: remote.account.to_owned(), ..Spec::adopted(remote, params) };
    let key = format!("{ADOPTED}{}", batch.id);
    let job = store.enter(&ledger, Job::new(Transport::Batch, key, batch.id.clone(), spec.describe()?))?.job;
    let id = job.id.clone();
    let mut session = Session::open(&job, remote, ctx, SessionOptions::default())?;
    let rows = take_over(&mut session, batch, inputs, &builder);
    if rows.is_err() {
        store.remove(&ledger, &job)?;
    }
    rows?;
    ledger.find(&id)
}

fn take_over(session: &mut Session<'_>, batch: &Batch, inputs: &Inputs, builder: &RequestBuilder) -> Result<()> {
    session.spec = Spec { kept: inputs.keep(&session.driver.dir)?, ..spec_of(&session.job)? };
    session.job.spec = session.spec.describe()?;
    let mut db = session.driver.db.borrow_mut();
    db.keep_prices(&session.ctx.settings.prices)?;
    let prices = &session.ctx.settings.prices;
    let mut put = Ok(());
    let mut asked = 0;
    let pass = Pass { max_problems: 0, threads: 1, ..Pass::new(inputs, builder) };
    let checked = pass.inspect(&|draft| builder.own(draft, draft.fingerprint()), &mut |row, found| {
        let request = found.map(|found| found.value);
        if put.is_err() {
            return;
        }
        put = if let Some(request) = request {
            asked += 1;
            let reserve = request.reserve(prices.image_tokens(&request.model));
            let (id, fingerprint) = (&*request.id, request.fingerprint);
            db.ask(1, &Asked { row, id, wire: None, fingerprint, reserve })
        } else {
            let id = crate::request::generated_id(row).into();
            let why = "not a valid batch line";
            db.put(&Outcome::unsent(row, id, "".into(), ErrorCode::InvalidRequest, why))
        };
    })?;
    put?;
    let prices = db.prices_in_force();
    let model = batch.model_id.clone().or_else(|| checked.models.first().map(|(model, _)| model.to_string()));
    db.put_batch(&JobBatch {
        number: 1,
        model: model.unwrap_or_default(),
        endpoint: batch.endpoint.clone().unwrap_or_default(),
        rows: asked,
        step: BatchStep::Submitted,
        ended: batch.status.is_final(),
        file: RequestFile {
            bytes: batch.file_size_bytes.unwrap_or(0),
            id: batch.input_file_id.clone(),
            ..RequestFile::default()
        },
        remote: RemoteBatch {
            id: Some(batch.id.clone()),
            status: Some(batch.status.clone()),
            progress: batch.progress,
            output_file_id: batch.output_file_id.clone(),
            error_file_id: batch.error_file_id.clone(),
            error: batch.error.clone(),
            deadline: batch.job_deadline.clone(),
            created_at: batch.created_at.clone(),
            completed_at: batch.completed_at.clone(),
            ..RemoteBatch::default()
        },
        cost: BatchCost { admitted: true, prices, ..BatchCost::default() },
        ..JobBatch::default()
    })?;
    db.commit(true)?;
    drop(db);
    session.forget_counts();
    session.job.total = checked.rows;
    session.update_index(false)?;
    session.driver.db.borrow_mut().put_entry(&session.job)
}
