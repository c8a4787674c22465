//! Answers of earlier jobs that a job takes over instead of sending its requests (`--reuse`, `--reuse-from`).

mod index;
mod source;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::ask::EarlierAsk;
use super::finish::Workspace;
use super::identity::{canonical_service, key_maker};
use super::remote::Remote;
use super::spec::same_service;
use crate::completion::is_whole;
use crate::error::{Error, Result};
use crate::objects::{is_url, shown_path};
use crate::outcome::{Fingerprint, Follower, Outcome};
use crate::pack::packed;
use crate::request::{Draft, KeyMaker, RequestKey};
use crate::rules::AnswerRules;
use crate::sealed::AnswersDir;
use crate::store::{IndexedAnswer, IndexedJob, Job, Ledger, Store};
use crate::text;
use index::{index_job, index_part, version};
use source::AnswerSource;

/// A request as earlier answers are looked for.
#[derive(Debug, Clone)]
pub struct SoughtRow {
    row: u64,
    id: Box<str>,
    key: RequestKey,
    fingerprint: Fingerprint,
}

impl SoughtRow {
    /// The request of a row.
    pub fn of(draft: &Draft<'_>, fingerprint: Fingerprint, keys: &KeyMaker) -> Self {
        Self { row: draft.row, id: draft.id.as_ref().into(), key: keys.of(draft), fingerprint }
    }
}

/// A row, and the place of the answer that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenRow {
    /// The row.
    pub row: u64,
    id: String,
    fingerprint: Fingerprint,
    /// The number of the answer's job, or of its part, in the index.
    source: i64,
    /// Its row there, or its offset.
    at: u64,
    /// The beginning of its fingerprint.
    check: i64,
}
packed!(TakenRow { row, id, fingerprint, source, at, check });

impl TakenRow {
    /// The row's outcome that copies the answer.
    fn outcome(&self, answer: &Outcome) -> Outcome {
        let Self { row, ref id, fingerprint, .. } = *self;
        let copy = answer.for_follower(Follower { row, id: id.as_str().into(), fingerprint, leader: 0 });
        // The batch and the prices are those of the other job.
        Outcome { batch: None, prices: 0, ..copy }
    }
}

/// The answers of earlier jobs.
#[derive(Debug)]
pub struct EarlierAnswers {
    store: Store,
    ledger: Ledger,
    rules: Arc<AnswerRules>,
    /// The jobs and parts whose answers may be taken, by their numbers in the index.
    sources: HashMap<i64, AnswerSource>,
    /// The jobs whose files are open, the one that was opened first at the front.
    open: VecDeque<i64>,
    /// The directory of the parts.
    dir: Option<AnswersDir>,
}

/// Jobs whose files are open at a time: there may be thousands.
const MOST_OPEN: usize = 32;

impl EarlierAnswers {
    /// Finds the jobs that `ask` means, and brings the index of their answers up to date. The job `own` is not among them.
    ///
    /// # Errors
    /// 2 for a job that is unknown or belongs to another service.
    pub fn find(
        ask: &EarlierAsk,
        own: &str,
        remote: Remote<'_>,
        rules: Arc<AnswerRules>,
        workspace: Workspace<'_>,
    ) -> Result<Self> {
        let Workspace { ctx, ledger, .. } = workspace;
        let service = remote.identity();
        let chosen = match &ask.from {
            Some(name) => match ledger.find_any(name)? {
                Some(job) => {
                    same_service(&job, remote, ctx)?;
                    vec![job]
                }
                None if Path::new(name).is_dir() => {
                    let dir = AnswersDir::at(Path::new(name));
                    let sources = sealed_sources(&dir, &canonical_service(&service), workspace)?;
                    return Self::of(sources, Some(dir), rules, workspace);
                }
                None if is_url(Path::new(name)) => return Err(not_at_urls(name)),
                None => return Err(nothing_named(name)),
            },
            None => ledger.recent(u32::MAX)?,
        };
        let usable = |job: &&Job| {
            let theirs = job.service_identity();
            job.id != own
                && job.succeeded > 0
                && theirs.is_some_and(|theirs| canonical_service(&theirs) == canonical_service(&service))
                && ask.max_age.is_none_or(|age| is_younger(job, age))
                && workspace.store.has_job(&job.id)
        };
        let sources = job_sources(chosen.iter().filter(usable), &key_maker(&service), workspace)?;
        Self::of(sources, None, rules, workspace)
    }

    fn of(
        sources: HashMap<i64, AnswerSource>,
        dir: Option<AnswersDir>,
        rules: Arc<AnswerRules>,
        workspace: Workspace<'_>,
    ) -> Result<Self> {
        let store = Store::open(workspace.ctx.settings.state_place()?)?;
        Ok(Self { ledger: store.ledger()?, store, rules, sources, open: VecDeque::new(), dir })
    }

    /// Makes the outcome of a row from an earlier answer to the same request. `None`: there is none that may be taken.
    ///
    /// # Errors
    /// 74 if the index cannot be read.
    pub fn take(&mut self, sought: &SoughtRow) -> Result<Option<Outcome>> {
        Ok(self.look_up(sought)?.map(|(taken, answer)| taken.outcome(&answer)))
    }

    /// Finds such an answer, which is copied later.
    ///
    /// # Errors
    /// 74 if the index cannot be read.
    pub fn find_for(&mut self, sought: &SoughtRow) -> Result<Option<TakenRow>> {
        Ok(self.look_up(sought)?.map(|(taken, _)| taken))
    }

    /// Makes the outcome of a row from the answer that was found for it. `None`: it is gone.
    pub fn copy_for(&mut self, taken: &TakenRow) -> Option<Outcome> {
        self.answer(taken).map(|answer| taken.outcome(&answer))
    }

    fn look_up(&mut self, sought: &SoughtRow) -> Result<Option<(TakenRow, Outcome)>> {
        let SoughtRow { row, ref id, key, fingerprint } = *sought;
        for hash in [key.0, fingerprint.0] {
            for (source, IndexedAnswer { row: at, check, .. }) in self.ledger.find_answers(hash)? {
                let taken = TakenRow { row, id: id.to_string(), fingerprint, source, at, check };
                let Some(answer) = self.answer(&taken) else { continue };
                let passes = |body: &str| is_whole(body) && self.rules.violation(body).is_none();
                if answer.body.as_deref().is_some_and(passes) {
                    return Ok(Some((taken, answer)));
                }
            }
        }
        Ok(None)
    }

    /// The answer at a place of the index, if it is still there.
    fn answer(&mut self, taken: &TakenRow) -> Option<Outcome> {
        let source = self.sources.get_mut(&taken.source)?;
        let was_open = source.is_open();
        let answer = source.read(taken.at, &self.store);
        if !was_open && source.is_open() {
            self.open.push_back(taken.source);
        }
        if self.open.len() > MOST_OPEN
            && let Some(oldest) = self.open.pop_front().and_then(|oldest| self.sources.get_mut(&oldest))
        {
            oldest.close();
        }
        let answer = answer?;
        (check(answer.fingerprint) == taken.check && answer.ok()).then_some(answer)
    }

    /// The words about the answers that may be taken.
    pub fn words(&self) -> String {
        match (self.sources.len() as u64, &self.dir) {
            (0, None) => "no earlier job has answers to reuse".to_owned(),
            (0, Some(dir)) => format!("{dir} has no answers of this service to reuse"),
            (_, Some(dir)) => format!("answers in {dir} are reused where the request is the same"),
            (jobs, None) => {
                format!("answers of {} are reused where the request is the same", text::plural(jobs, "earlier job"))
            }
        }
    }
}

/// The jobs and parts that the index knows, by their names.
fn indexed(ledger: &Ledger) -> Result<HashMap<String, IndexedJob>> {
    Ok(ledger.indexed_jobs()?.into_iter().map(|known| (known.job.clone(), known)).collect())
}

/// Brings the index of these jobs' answers up to date.
fn job_sources<'j>(
    jobs: impl Iterator<Item = &'j Job>,
    keys: &KeyMaker,
    workspace: Workspace<'_>,
) -> Result<HashMap<i64, AnswerSource>> {
    let Workspace { ctx, ledger, .. } = workspace;
    let known = indexed(ledger)?;
    let (mut sources, mut read) = (HashMap::new(), false);
    for job in jobs {
        let number = version(job).and_then(|version| match known.get(&job.id) {
            Some(known) if known.version == version => Ok(known.number),
            _ => {
                read = true;
                index_job(job, &version, keys, workspace)
            }
        });
        match number {
            Ok(number) => _ = sources.insert(number, AnswerSource::of_job(&job.id)),
            // A job that cannot be read must not hide the others.
            Err(error) => ctx.ui.warn(&format!("the answers of {} are not reused: {error}", job.id)),
        }
    }
    if read {
        ledger.purge_answers()?;
    }
    Ok(sources)
}

/// Finds the parts in a directory that have answers of this service, and brings the index of their answers up to date.
fn sealed_sources(dir: &AnswersDir, service: &str, workspace: Workspace<'_>) -> Result<HashMap<i64, AnswerSource>> {
    let Workspace { ctx, ledger, .. } = workspace;
    let mut known = indexed(ledger)?;
    let mut sources = HashMap::new();
    for path in dir.all_parts()? {
        let path = std::path::absolute(&path).unwrap_or(path);
        let name = path.to_string_lossy().into_owned();
        let found = match known.remove(&name).filter(|known| !known.version.is_empty()) {
            Some(known) => Ok(Some((known.number, known.version))),
            None => index_part(&path, &name, workspace),
        };
        match found {
            Ok(Some((number, of))) if of == service => _ = sources.insert(number, AnswerSource::of_part(path)),
            Ok(_) => {}
            // Another task may have removed it meanwhile.
            Err(error) => ctx.ui.warn(&format!("{error}; its answers are not reused")),
        }
    }
    let root = std::path::absolute(dir.path()).unwrap_or_else(|_| dir.path());
    let mut gone = known.into_keys().filter(|name| Path::new(name).starts_with(&root)).peekable();
    if gone.peek().is_some() {
        gone.try_for_each(|name| ledger.forget_answers(&name))?;
        ledger.purge_answers()?;
    }
    Ok(sources)
}

fn nothing_named(name: &str) -> Error {
    Error::usage(format!("--reuse-from {name}: there is no such job, and no such directory"))
        .hint("`llbatch status` lists the jobs; a directory is one that `run --answers DIR` has written answers to")
}

fn not_at_urls(name: &str) -> Error {
    Error::usage(format!("--reuse-from {}: llbatch reuses answers from a directory, not from a URL", shown_path(Path::new(name))))
        .hint(
            "copy the objects to a directory and name that (`aws s3 cp --recursive URL DIR`); for the rows of the same job, \
             `run --answers URL` takes them",
        )
}

/// Returns true if a job was made within this time.
fn is_younger(job: &Job, age: Duration) -> bool {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::now().as_millisecond().saturating_sub(job.created_at) <= age
}

fn check(fingerprint: Fingerprint) -> i64 {
    fingerprint.0.first_chunk().map_or(0, |first| i64::from_be_bytes(*first))
}
