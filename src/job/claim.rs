//! Which job a command works on: the one it began, another one by name, or a new one.

use super::ask::{Plan, Resume};
use super::spec::{Sound, Spec, describe, inputs_of, spec_of};
use crate::check::Checked;
use crate::error::{Error, Exit, Result};
use crate::input::{Format, Inputs, OpenedInputs};
use crate::store::{BatchJob, Job, Ledger, Lock, State, Store, Transport};
use crate::ui::Ui;

/// Where the rows come from.
#[derive(Debug)]
pub struct Source {
    /// What is kept of the command.
    pub spec: Spec,
    /// The files to read.
    pub inputs: Inputs,
    /// Standard input, not yet kept under its job's name.
    spool: Option<tempfile::NamedTempFile>,
    /// The job that `--resume=JOB` names.
    named: Option<Job>,
    /// The command's key.
    key: String,
    /// The inputs as typed.
    shown: String,
    /// [`Inputs::stamp`] before anything was read.
    pub stamp: Option<String>,
}

/// A job that this process alone works on.
#[derive(Debug)]
pub struct Claimed {
    /// Its entry in the index; without an id as long as it is new.
    pub job: Job,
    /// Its answers are reused; otherwise it is new.
    pub resumed: bool,
    /// Another process finished it while this one waited: it is taken as it is.
    pub finished: bool,
    /// What an earlier check of the input found.
    pub sound: Option<Sound>,
    locks: Vec<Lock>,
}

/// Finds out what to read: files, standard input (kept in a file), or what an earlier job read.
///
/// # Errors
/// 2 for a job that is not there or belongs to another service, 66 for input that cannot be read.
pub fn source(plan: &Plan, store: &Store, ledger: &Ledger) -> Result<Source> {
    let named = match &plan.resume {
        Resume::Job(name) => Some(ledger.find(name)?),
        _ => None,
    };
    let again = named.as_ref().filter(|_| plan.inputs.is_empty() && !plan.stdin);
    let mut spec = match again {
        Some(job) => spec_of(job)?,
        None => Spec {
            version: 1,
            service: plan.service.clone(),
            inputs: plan.inputs.iter().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone())).collect(),
            spooled: plan.stdin,
            input_format: plan.input_format,
            params: plan.params.clone(),
            skip_invalid: false,
            checked: None,
            kept: Vec::new(),
            routes: Vec::new(),
        },
    };
    if let Some(job) = named.as_ref().filter(|job| again.is_none() && job.transport == Transport::Batch) {
        return Err(
            Error::usage(format!("{} is a batch job: its input is kept with it", job.id)).hint("leave INPUT out")
        );
    }
    if again.is_some() && plan.shaped && (plan.params != spec.params || plan.input_format != spec.input_format) {
        return Err(Error::usage(
            "without INPUT a job goes on with the requests it began with; these flags would change them",
        )
        .hint("name the INPUT as well: rows whose request changes are sent, the others keep their answers"));
    }
    spec.checked = None;
    spec.skip_invalid |= plan.skip_invalid;
    let service = named.as_ref().map(spec_of).transpose()?.map_or_else(|| spec.service.clone(), |spec| spec.service);
    if service != plan.service {
        let hint =
            if service == "sandbox" { "add --sandbox" } else { "leave --sandbox out, or give the same --base-url" };
        return Err(
            Error::usage(format!("that job ran against {service}, this command is for {}", plan.service)).hint(hint)
        );
    }
    let opened = match again {
        // Messages name files as they were typed.
        Some(job) => OpenedInputs { inputs: inputs_of(&spec, store, &job.id)?, stdin: None },
        None => OpenedInputs::open(&plan.inputs, spec.spooled, spec.input_format, || store.spool())?,
    };
    let (spool, content) = opened.stdin.map(|copy| (copy.file, copy.hash)).unzip();
    let typed = if plan.inputs.is_empty() { &spec.inputs } else { &plan.inputs };
    let shown = if spec.spooled {
        "-".to_owned()
    } else {
        typed.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let key = match again {
        Some(job) => job.key.clone(),
        None => key_of(&spec, &content.unwrap_or_default()),
    };
    let inputs = opened.inputs;
    let stamp = inputs.stamp();
    Ok(Source { spec, inputs, spool, named, key, shown, stamp })
}

/// The same command has the same key: same inputs, same parameters, same service.
fn key_of(spec: &Spec, content: &str) -> String {
    let parts = serde_json::json!([spec.service, spec.inputs, spec.input_format, spec.params, content]);
    blake3::hash(parts.to_string().as_bytes()).to_hex()[..32].to_owned()
}

/// Finds the job to go on with, or describes a new one; nobody else can do the same at the same time.
///
/// # Errors
/// 75 if another process works on it, 2 if there is nothing to resume.
pub fn claim(store: &Store, ledger: &Ledger, plan: &Plan, source: &Source, ui: &Ui) -> Result<Claimed> {
    let take = |name: &str, what: &str| {
        let say = |holder: &str| ui.note(&format!("{holder} works on {what}; waiting for it"));
        store.lock_in_turn(name, plan.turn, &say)?.ok_or_else(|| {
            let hint = if plan.takes_over {
                "--wait-lock waits for it, and writes the same results without paying again; --fresh starts a second job, and pays for it"
            } else {
                "--wait-lock waits for it"
            };
            Error::new(Exit::TempFail, format!("{what} is being worked on by {}", store.holder(name))).hint(hint)
        })
    };
    let mut locks = Vec::new();
    if plan.resume != Resume::Fresh {
        locks.push(take(&source.key, "this very command")?);
    }
    // Who waited for that process waited for its job: what it has ended is not to be paid for again.
    let waited_for = match locks.first().and_then(Lock::waited_for).filter(|_| plan.takes_over) {
        Some(id) => ledger.get(id)?,
        None => None,
    };
    let found = match (&plan.resume, &source.named) {
        // As it stands now: this process may have waited.
        (_, Some(job)) => Some(ledger.find(&job.id)?),
        (Resume::Fresh | Resume::Job(_), None) => None,
        (Resume::Auto, None) => match &waited_for {
            Some(job) => Some(job.clone()),
            None => ledger.last_of(&source.key)?.filter(|job| !job.state.ended()),
        },
        (Resume::Last, None) => Some(ledger.last_of(&source.key)?.ok_or_else(|| {
            Error::usage("this command has no earlier job to resume")
                .hint("leave --resume out, or name a job: --resume=JOB")
        })?),
    };
    let spec = describe(&source.spec)?;
    if let Some(mut job) = found {
        locks.push(take(&job.id, &job.id)?);
        if let Some(command) = locks.first_mut() {
            command.work_on(&job.id)?;
        }
        if !plan.beside_batches {
            unsettled(store, &job)?;
        }
        let old = spec_of(&job)?;
        let sound = old.checked.clone().filter(|_| old.asks_the_same(&source.spec));
        job.spec = spec;
        let finished = job.state.ended() && waited_for.is_some_and(|waited| waited.id == job.id);
        return Ok(Claimed { job, resumed: true, finished, sound, locks });
    }
    let job = Job {
        name: plan.name.clone(),
        ..Job::new(Transport::Realtime, source.key.clone(), source.shown.clone(), spec)
    };
    Ok(Claimed { job, resumed: false, finished: false, sound: None, locks })
}

/// Rows that a batch may still answer must not be sent beside it.
fn unsettled(store: &Store, job: &Job) -> Result<()> {
    let batches = store.open_job(&job.id)?.batches()?;
    if batches.iter().any(BatchJob::is_open) {
        return Err(Error::new(Exit::TempFail, format!("{} has batches whose results are not in yet", job.id))
            .hint(format!("`llbatch wait {0}` waits for them, `llbatch cancel {0}` ends them", job.id)));
    }
    Ok(())
}

/// The input is good: the job is written down as running unless it is finished, and its standard input is kept under its name.
pub fn enter(
    claimed: &mut Claimed,
    source: &mut Source,
    checked: &Checked,
    store: &Store,
    ledger: &Ledger,
) -> Result<()> {
    claimed.job.spec = describe(&source.spec)?;
    claimed.job.total = checked.rows;
    // Whatever becomes of its results here, a finished job stays what it is.
    if !claimed.finished {
        claimed.job.state = State::Running;
        claimed.job.exit = None;
    }
    if claimed.resumed {
        ledger.update(&claimed.job)?;
    } else {
        claimed.job = ledger.create(claimed.job.clone())?;
        // It is worked on under its own name too, so that `--resume JOB` and the command exclude each other.
        claimed.locks.extend(store.lock(&claimed.job.id)?);
        if let Some(command) = claimed.locks.first_mut() {
            command.work_on(&claimed.job.id)?;
        }
    }
    if let Some(file) = source.spool.take() {
        let path = store.spool_path(&claimed.job.id);
        file.persist(&path).map_err(|e| Error::io("standard input cannot be kept", e.error))?;
        source.inputs = Inputs::spooled(path, "-", source.spec.input_format.unwrap_or(Format::Jsonl));
        source.stamp = source.inputs.stamp();
    }
    Ok(())
}

/// The job's answers stand at the rows of this input, and no row is wrong: as long as nobody writes to the input, that need
/// not be found out again.
pub fn settle(claimed: &mut Claimed, source: &Source, checked: &Checked, ledger: &Ledger) -> Result<()> {
    let Some(stamp) = source.stamp.clone().filter(|_| checked.problem_count == 0) else { return Ok(()) };
    let models = checked.models.iter().map(|(model, rows)| (model.to_string(), *rows)).collect();
    let sound = Sound { stamp, rows: checked.rows, models, stream_removed: checked.stream_removed };
    claimed.job.spec = describe(&Spec { checked: Some(sound), ..source.spec.clone() })?;
    ledger.update(&claimed.job)
}
