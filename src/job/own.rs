//! Finds the job that a command works on (the job that it began, a job that the user named, or a new one) and locks it.

use super::ask::{Ask, InputSource, Reuse, Role, RunAsk, Start};
use super::finish::Workspace;
use super::remote::Remote;
use super::spec::{CleanCheck, Spec, inputs_of, same_service, say_changes, spec_of};
use crate::check::Checked;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::{Inputs, OpenedInputs};
use crate::request::Params;
use crate::store::{Job, JobBatch, JobDb, JobState, Ledger, Lock, LockWait, Store, Transport};
use crate::ui::Ui;

/// The rows of a run: files, standard input kept in a file, or what an earlier job read.
#[derive(Debug)]
pub(super) struct RunSource {
    /// The record of the command.
    pub spec: Spec,
    /// The files to read.
    pub inputs: Inputs,
    /// [`Inputs::stamp`] before anything was read.
    pub stamp: Option<String>,
    /// Standard input, not yet kept under the name of its job.
    spool: Option<tempfile::NamedTempFile>,
    /// The job that `--resume=JOB` names.
    named: Option<Job>,
    /// The command's key.
    key: String,
    /// The inputs as the user typed them.
    shown: String,
}

/// A job that this process alone works on.
#[derive(Debug)]
pub(super) struct OwnedJob {
    /// Its entry in the index; a new job has no id yet.
    pub job: Job,
    /// The run reuses its answers. Otherwise the job is new.
    pub resumed: bool,
    /// Another process finished it while this one waited, or was killed after that. The command adopts its result.
    pub finished: bool,
    /// The result of an earlier check of the input.
    pub clean: Option<CleanCheck>,
    locks: Vec<Lock>,
    /// Held until the new job is in the index, so that two commands with the same requests do not both make one.
    starting: Option<Lock>,
}

impl RunSource {
    /// Opens the input of the command.
    ///
    /// # Errors
    /// 2 for a job that is unknown or belongs to another service, 66 for input that cannot be read.
    pub fn open(ask: &Ask, remote: Remote<'_>, workspace: Workspace<'_>) -> Result<Self> {
        let Workspace { ctx, store, ledger } = workspace;
        let ui = &ctx.ui;
        match &ask.start {
            Start::Continue { job, flags } => {
                let job = ledger.find(job)?;
                let spec = spec_of(&job)?;
                // The directory for files is the job's, and is not typed again.
                let asked = |params: &Params| Params { files: spec.params.files.clone(), ..params.anywhere() };
                if flags.as_ref().is_some_and(|flags| {
                    asked(&flags.params) != spec.params.anywhere() || flags.reading != spec.reading
                }) {
                    return Err(Error::usage(
                        "without INPUT, a job resumes with its original requests, and these flags would change them",
                    )
                    .hint(
                        "name the INPUT as well: rows with a changed request are sent, the others keep their answers",
                    ));
                }
                Self::of_job(job, spec, ask, remote, workspace)
            }
            Start::New { input, resume } => {
                let named = resume.as_ref().map_or(Ok(None), |name| named(name, ledger, ui))?;
                if let Some(job) = &named {
                    if job.transport == Transport::Batch {
                        return Err(Error::usage(format!("{} is a batch job, which keeps its own input", job.id))
                            .hint("leave INPUT out"));
                    }
                    same_service(job, remote, ctx)?;
                }
                let spec = Spec::new(remote, input, ask.problems.skip_invalid);
                Self::of_input(&input.source, spec, named, store)
            }
        }
    }

    /// Opens the input that an earlier job has kept or named.
    pub fn of_job(job: Job, mut spec: Spec, ask: &Ask, remote: Remote<'_>, workspace: Workspace<'_>) -> Result<Self> {
        let Workspace { ctx, store, .. } = workspace;
        same_service(&job, remote, ctx)?;
        spec.checked = None;
        spec.skip_invalid |= ask.problems.skip_invalid;
        let inputs = inputs_of(&spec, store, &job.id)?;
        let shown = if spec.spooled { InputSource::Stdin } else { InputSource::Files(spec.inputs.clone()) }.shown();
        Ok(Self { stamp: inputs.stamp(), inputs, spool: None, key: job.key.clone(), named: Some(job), spec, shown })
    }

    /// The command's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    fn of_input(source: &InputSource, mut spec: Spec, named: Option<Job>, store: &Store) -> Result<Self> {
        let stdin = *source == InputSource::Stdin;
        // Messages name files as the user typed them.
        let opened = OpenedInputs::open(source.files(), stdin, spec.reading, || store.spool())?;
        spec.stdin_hash = opened.stdin.as_ref().map(|copy| copy.hash.clone());
        let content = opened.stdin.as_ref().map_or_else(String::new, |copy| copy.hash.clone());
        let (inputs, spool) = (opened.inputs, opened.stdin.map(|copy| copy.file));
        let key = spec.key(&content);
        Ok(Self { stamp: inputs.stamp(), inputs, spool, named, key, spec, shown: source.shown() })
    }
}

/// Takes the locks of a command and of its job, one after the other.
struct Locks<'a> {
    store: &'a Store,
    ui: &'a Ui,
    wait: LockWait,
    role: Role,
    taken: Vec<Lock>,
}

impl Locks<'_> {
    fn take(&mut self, name: &str, what: &str) -> Result<()> {
        let say = |holder: &str| self.ui.note(&format!("{holder} is working on {what}; waiting for it"));
        let lock = self.store.wait_for_lock(name, self.wait, &say)?.ok_or_else(|| {
            let hint = if self.role.adopts_result() {
                "pass --wait-lock to wait for it and write the same results without paying again, or --fresh to start \
                 and pay for a second job"
            } else {
                "pass --wait-lock to wait for it"
            };
            Error::new(Exit::TempFail, format!("{} is already working on {what}", self.store.holder(name))).hint(hint)
        })?;
        self.taken.push(lock);
        Ok(())
    }

    /// Returns the job of the lock holder that this process waited for.
    fn waited_for(&self, ledger: &Ledger) -> Result<Option<Job>> {
        let id = self.taken.first().and_then(Lock::waited_for).filter(|_| self.role.adopts_result());
        id.map_or(Ok(None), |id| ledger.get(id))
    }

    /// Records beside the command's lock which job it works on.
    fn work_on(&mut self, id: &str) -> Result<()> {
        self.taken.first_mut().map_or(Ok(()), |command| command.work_on(id))
    }
}

impl OwnedJob {
    /// Finds the job to resume, or describes a new one. No other process can do the same at the same time.
    ///
    /// # Errors
    /// 75 if another process holds its lock, 2 if there is nothing to resume.
    pub fn take(ask: &RunAsk, source: &RunSource, store: &Store, ledger: &Ledger, ui: &Ui) -> Result<Self> {
        let mut locks = Locks { store, ui, wait: ask.job.wait, role: ask.role, taken: Vec::new() };
        if ask.reuse != Reuse::Nothing {
            locks.take(&source.key, "the same command")?;
        }
        // Results of the process that this one waited for must not be paid for again.
        let waited_for = locks.waited_for(ledger)?;
        let Some(mut job) = find(ask.reuse, source, waited_for.as_ref(), ledger)? else {
            let spec = source.spec.describe()?;
            let new = Job::new(Transport::Realtime, source.key.clone(), source.shown.clone(), spec);
            let job = Job { name: ask.job.name.clone(), ..new };
            return Ok(Self { job, resumed: false, finished: false, clean: None, locks: locks.taken, starting: None });
        };
        locks.take(&job.id, &job.id)?;
        locks.work_on(&job.id)?;
        if ask.role != Role::BesideBatches {
            no_open_batches(store, &job)?;
        }
        let old = spec_of(&job)?;
        let clean = old.checked.clone().filter(|_| old.asks_the_same(&source.spec));
        // The service and the account are those of the earlier command until this one has said that they changed.
        let Spec { service, account, mut tags, content, .. } = old;
        tags.extend(source.spec.tags.clone());
        job.spec = Spec { service, account, tags, content, ..source.spec.clone() }.describe()?;
        let waited = waited_for.is_some_and(|waited| waited.id == job.id);
        // A job that the user names is resumed.
        job.untold &= source.named.is_none() && !waited;
        let finished = job.state.ended() && (waited || job.untold);
        Ok(Self { job, resumed: true, finished, clean, locks: locks.taken, starting: None })
    }

    /// Takes an earlier job of the same requests in place of a new one, whatever its command and its input are called.
    /// `content` is the key of the requests. Returns whether there is such a job.
    ///
    /// # Errors
    /// 75 if another process works on it.
    pub(super) fn take_same_content(&mut self, ask: &RunAsk, content: &str, workspace: Workspace<'_>) -> Result<bool> {
        let Workspace { ctx, store, ledger } = workspace;
        let wait = if ask.job.wait == LockWait::Now { LockWait::briefly() } else { ask.job.wait };
        let name = format!("requests-{content}");
        let starting = store.wait_for_lock(&name, wait, &|_| ())?.ok_or_else(|| {
            Error::new(Exit::TempFail, format!("{} is starting a job with the same requests", store.holder(&name)))
                .hint("run the same command again; it resumes that job")
        })?;
        let wanted = |job: &Job| match ask.reuse {
            Reuse::Nothing => false,
            Reuse::Interrupted => job.transport == Transport::Realtime && is_interrupted(job),
            Reuse::Last => store.job_path(&job.id).exists(),
        };
        let Some(found) = ledger.of_content(content)?.into_iter().find(wanted) else {
            self.starting = Some(starting);
            return Ok(false);
        };
        drop(starting);
        let taken = std::mem::take(&mut self.locks);
        let mut locks = Locks { store, ui: &ctx.ui, wait: ask.job.wait, role: ask.role, taken };
        locks.take(&found.id, &found.id)?;
        locks.work_on(&found.id)?;
        self.locks = locks.taken;
        no_open_batches(store, &found)?;
        self.job = ledger.find(&found.id)?;
        self.resumed = true;
        self.job.untold = found.untold;
        // Another process has finished it meanwhile, or was killed after that.
        self.finished = self.job.state.ended() && (found.untold || !found.state.ended());
        Ok(true)
    }

    /// Says how the service and the key of the job have changed, and records in `spec` those of this command, and the tags
    /// of the job beside its own.
    pub(super) fn record_remote(&self, spec: &mut Spec, remote: Remote<'_>, ctx: &Ctx) -> Result<()> {
        if self.resumed && self.job.succeeded + self.job.failed > 0 {
            say_changes(&self.job, &spec_of(&self.job)?, remote, "--fresh", ctx);
        }
        if self.resumed {
            let own = std::mem::replace(&mut spec.tags, spec_of(&self.job)?.tags);
            spec.tags.extend(own);
        }
        remote.account.clone_into(&mut spec.account);
        remote.name.clone_into(&mut spec.service);
        Ok(())
    }

    /// Enters the job into the index as running, unless it is finished, and keeps its standard input under its name.
    pub fn enter(
        &mut self,
        source: &mut RunSource,
        checked: &Checked,
        store: &Store,
        ledger: &Ledger,
    ) -> Result<Option<JobDb>> {
        // The answers of a resumed job may not fit yet, and standard input is still to be stored.
        let clean = if self.resumed || source.spool.is_some() { None } else { clean_check(source, checked) };
        self.job.spec = Spec { checked: clean, ..source.spec.clone() }.describe()?;
        self.job.total = checked.rows;
        // A finished job keeps its state, even if this command cannot write its results.
        if !self.finished {
            self.job.state = JobState::Running;
            self.job.exit = None;
        }
        let mut new = None;
        if self.resumed {
            ledger.update(&self.job)?;
            store.open_job(&self.job.id)?.put_entry(&self.job)?;
        } else {
            let entered = store.enter(ledger, self.job.clone())?;
            (self.job, new) = (entered.job, Some(entered.db));
            // Locks the job under its own id too, so that `--resume=JOB` and the command exclude each other.
            self.locks.extend(store.lock(&self.job.id)?);
            if let Some(command) = self.locks.first_mut() {
                command.work_on(&self.job.id)?;
            }
        }
        self.starting = None;
        if let Some(file) = source.spool.take() {
            let path = store.spool_path(&self.job.id);
            file.persist(&path).map_err(|e| Error::io("standard input cannot be stored", e.error))?;
            source.inputs = source.inputs.clone().moved(path);
            source.stamp = source.inputs.stamp();
        }
        Ok(new)
    }

    /// Records that all rows are valid and fit the job's answers. llbatch does not check that again until the input is
    /// written to.
    pub(super) fn record_clean(&mut self, source: &RunSource, checked: &Checked, ledger: &Ledger) -> Result<()> {
        let Some(clean) = clean_check(source, checked) else { return Ok(()) };
        let spec = Spec { checked: Some(clean), ..source.spec.clone() }.describe()?;
        if spec == self.job.spec {
            return Ok(());
        }
        self.job.spec = spec;
        ledger.update(&self.job)
    }
}

/// The record that every row of the input is valid; `None`: some are not, or the input has no stamp.
fn clean_check(source: &RunSource, checked: &Checked) -> Option<CleanCheck> {
    let stamp = source.stamp.clone().filter(|_| checked.problem_count == 0)?;
    let models = checked.models.iter().map(|(model, rows)| (model.to_string(), *rows)).collect();
    Some(CleanCheck { stamp, rows: checked.rows, models, stream_removed: checked.stream_removed })
}

/// Finds the job that `--resume=JOB` names beside an input. A name that no job has yet is no error: a scheduler's line names
/// the job before its first start.
///
/// # Errors
/// 2 for an id that is unknown.
pub fn named(name: &str, ledger: &Ledger, ui: &Ui) -> Result<Option<Job>> {
    if name.starts_with("j-") {
        return ledger.find(name).map(Some);
    }
    let found = ledger.find_any(name)?;
    if found.is_none() {
        ui.note(&format!("there is no job `{name}` yet"));
    }
    Ok(found)
}

/// Finds the job to resume, and reads it again because this process may have waited.
fn find(reuse: Reuse, source: &RunSource, waited_for: Option<&Job>, ledger: &Ledger) -> Result<Option<Job>> {
    if let Some(job) = &source.named {
        return ledger.find(&job.id).map(Some);
    }
    match reuse {
        Reuse::Nothing => Ok(None),
        Reuse::Interrupted => match waited_for {
            Some(job) => Ok(Some(job.clone())),
            None => Ok(ledger.last_of(&source.key)?.filter(is_interrupted)),
        },
        Reuse::Last => ledger.last_of(&source.key),
    }
}

/// Returns true if the same command resumes the job by itself. Every run that ends by itself records its exit code, and as its
/// last act that its caller knows. Without them, its results may not be written, even if another command has recorded the end
/// of the job.
fn is_interrupted(job: &Job) -> bool {
    !job.state.ended() || job.exit.is_none() || job.untold
}

/// Refuses a job with rows that a batch may still answer, because they must not be sent twice.
fn no_open_batches(store: &Store, job: &Job) -> Result<()> {
    if store.open_job(&job.id)?.batches()?.iter().any(JobBatch::is_open) {
        return Err(Error::new(
            Exit::TempFail,
            format!("{} has batches whose results have not been downloaded", job.id),
        )
        .hint(format!("`llbatch wait {0}` waits for them, `llbatch cancel {0}` ends them", job.id)));
    }
    Ok(())
}
