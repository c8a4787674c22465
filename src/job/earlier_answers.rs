//! Answers of earlier jobs that a job takes over instead of sending its requests (`--reuse`, `--reuse-from`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::ask::EarlierAsk;
use super::finish::Workspace;
use super::identity::{canonical_service, key_maker};
use super::remote::Remote;
use super::spec::{inputs_of, same_service, spec_of};
use crate::check::Pass;
use crate::completion::is_whole;
use crate::error::Result;
use crate::outcome::{Fingerprint, Follower, Outcome};
use crate::request::{Draft, KeyMaker, RequestBuilder, RequestKey};
use crate::rules::AnswerRules;
use crate::store::{IndexedAnswer, IndexedJob, Job, JobDb, Ledger, Store};
use crate::text;

/// Rows of an earlier job that are read at a time.
const PAGE: u32 = 4096;

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

/// The answers of earlier jobs.
#[derive(Debug)]
pub struct EarlierAnswers {
    store: Store,
    ledger: Ledger,
    rules: Arc<AnswerRules>,
    /// The jobs whose answers may be taken, by their numbers in the index.
    jobs: HashMap<i64, String>,
    /// Their databases. `None`: it cannot be read.
    open: HashMap<i64, Option<JobDb>>,
}

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
            Some(name) => {
                let job = ledger.find(name)?;
                same_service(&job, remote, ctx)?;
                vec![job]
            }
            None => ledger.recent(u32::MAX)?,
        };
        let store = Store::open(ctx.settings.state_dir()?)?;
        let usable = |job: &Job| {
            let theirs = job.service_identity();
            job.id != own
                && job.succeeded > 0
                && theirs.is_some_and(|theirs| canonical_service(&theirs) == canonical_service(&service))
                && ask.max_age.is_none_or(|age| is_younger(job, age))
                && store.has_job(&job.id)
        };
        let mut jobs = HashMap::new();
        let keys = key_maker(&service);
        let known: HashMap<String, IndexedJob> =
            ledger.indexed_jobs()?.into_iter().map(|known| (known.job.clone(), known)).collect();
        let mut read = false;
        for job in chosen.iter().filter(|job| usable(job)) {
            let number = version(job).and_then(|version| match known.get(&job.id) {
                Some(known) if known.version == version => Ok(known.number),
                _ => {
                    read = true;
                    index(job, &version, &keys, workspace)
                }
            });
            match number {
                Ok(number) => _ = jobs.insert(number, job.id.clone()),
                // A job that cannot be read must not hide the others.
                Err(error) => ctx.ui.warn(&format!("the answers of {} are not reused: {error}", job.id)),
            }
        }
        if read {
            ledger.purge_answers()?;
        }
        Ok(Self { ledger: store.ledger()?, store, rules, jobs, open: HashMap::new() })
    }

    /// Makes the outcome of a row from an earlier answer to the same request. `None`: there is none that may be taken.
    ///
    /// # Errors
    /// 74 if the index cannot be read.
    pub fn take(&mut self, sought: &SoughtRow) -> Result<Option<Outcome>> {
        for hash in [sought.key.0, sought.fingerprint.0] {
            for (number, answer) in self.ledger.find_answers(hash)? {
                if let Some(outcome) = self.answer(number, answer) {
                    let SoughtRow { row, ref id, fingerprint, .. } = *sought;
                    let copy = outcome.for_follower(Follower { row, id: id.clone(), fingerprint, leader: 0 });
                    // The batch and the prices are those of the other job.
                    return Ok(Some(Outcome { batch: None, prices: 0, ..copy }));
                }
            }
        }
        Ok(None)
    }

    /// The answer at a place of the index, if it is still there and may be taken.
    fn answer(&mut self, number: i64, answer: IndexedAnswer) -> Option<Outcome> {
        let id = self.jobs.get(&number)?;
        let db = match self.open.entry(number) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(new) => new.insert(self.store.open_job(id).ok()),
        };
        // A damaged answer is as good as none: its request is sent.
        let found = db.as_ref()?.outcomes(answer.row, 1).ok()?.pop()?;
        let same = found.row == answer.row && check(found.fingerprint) == answer.check;
        let body = found.body.as_deref().filter(|_| same && found.ok())?;
        (is_whole(body) && self.rules.violation(body).is_none()).then_some(found)
    }

    /// The words about the answers that may be taken.
    pub fn words(&self) -> String {
        match self.jobs.len() as u64 {
            0 => "no earlier job has answers to reuse".to_owned(),
            jobs => {
                format!("answers of {} are reused where the request is the same", text::plural(jobs, "earlier job"))
            }
        }
    }
}

/// Returns true if a job was made within this time.
fn is_younger(job: &Job, age: Duration) -> bool {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::now().as_millisecond().saturating_sub(job.created_at) <= age
}

fn check(fingerprint: Fingerprint) -> i64 {
    fingerprint.0.first_chunk().map_or(0, |first| i64::from_be_bytes(*first))
}

/// The version of a job's answers: it changes when rows are answered, and when a resumed run has other requests. The counts
/// of a running job lag behind.
fn version(job: &Job) -> Result<String> {
    let content = spec_of(job)?.content.unwrap_or_default();
    Ok(format!("{}: {} of {} {content}", job.state.as_str(), job.succeeded, job.total))
}

/// Brings all answers of a job into the index, and returns its number there. Their requests are read again for their keys.
/// Of an input that has changed or is gone, answers are found by their fingerprints: by requests that are spelled alike.
fn index(job: &Job, version: &str, keys: &KeyMaker, workspace: Workspace<'_>) -> Result<i64> {
    let Workspace { store, ledger, .. } = workspace;
    let db = store.open_job(&job.id)?;
    let number = ledger.begin_answers(&job.id)?;
    let mut answers = AnswersByRow { db: &db, page: Vec::new().into_iter(), next: None, from: 1 };
    answers.advance()?;
    let mut add = AddedAnswers { ledger, number, ready: Vec::new() };
    let spec = spec_of(job)?;
    let read = inputs_of(&spec, store, &job.id).and_then(|inputs| {
        let builder = RequestBuilder::new(&spec.params)?;
        let mut added = Ok(());
        let inspect = |draft: &Draft<'_>| (draft.fingerprint(), keys.of(draft));
        let pass = Pass { max_problems: 0, ..Pass::new(&inputs, &builder) };
        pass.inspect(&inspect, &mut |row, found| {
            if added.is_ok() {
                added = answers.up_to(row, found.map(|found| found.value), &mut add);
            }
        })?;
        Ok(added)
    });
    match read {
        Ok(added) => added?,
        Err(error) => workspace.ctx.ui.detail(&format!("the input of {} cannot be read again: {error}", job.id)),
    }
    answers.up_to(u64::MAX, None, &mut add)?;
    add.flush()?;
    ledger.end_answers(number, version)?;
    Ok(number)
}

/// The answered rows of a job, in their order.
struct AnswersByRow<'a> {
    db: &'a JobDb,
    page: std::vec::IntoIter<(u64, Fingerprint, Box<str>)>,
    next: Option<(u64, Fingerprint)>,
    from: u64,
}

impl AnswersByRow<'_> {
    fn advance(&mut self) -> Result<()> {
        self.next = self.page.next().map(|(row, fingerprint, _)| (row, fingerprint));
        if self.next.is_none() {
            self.page = self.db.answers(self.from, PAGE)?.into_iter();
            self.next = self.page.next().map(|(row, fingerprint, _)| (row, fingerprint));
        }
        self.from = self.next.map_or(self.from, |(row, _)| row + 1);
        Ok(())
    }

    /// Adds the answers of rows up to this one, which has this request now.
    fn up_to(
        &mut self,
        last: u64,
        request: Option<(Fingerprint, RequestKey)>,
        add: &mut AddedAnswers<'_>,
    ) -> Result<()> {
        while let Some((row, fingerprint)) = self.next.filter(|(row, _)| *row <= last) {
            let key = request.filter(|(now, _)| row == last && *now == fingerprint).map(|(_, key)| key.0);
            add.push(IndexedAnswer { hash: key.unwrap_or(fingerprint.0), row, check: check(fingerprint) })?;
            self.advance()?;
        }
        Ok(())
    }
}

/// Adds answers to the index, many at a time.
struct AddedAnswers<'a> {
    ledger: &'a Ledger,
    number: i64,
    ready: Vec<IndexedAnswer>,
}

impl AddedAnswers<'_> {
    fn push(&mut self, answer: IndexedAnswer) -> Result<()> {
        const GROUP: usize = 20_000;
        self.ready.push(answer);
        if self.ready.len() >= GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.ledger.add_answers(self.number, &std::mem::take(&mut self.ready))
    }
}
