//! Brings the answers of earlier jobs, and of parts that tasks have sealed, into the index.

use std::path::Path;

use super::check;
use crate::check::Pass;
use crate::error::Result;
use crate::job::finish::Workspace;
use crate::job::spec::{inputs_of, spec_of};
use crate::outcome::Fingerprint;
use crate::request::{Draft, KeyMaker, RequestBuilder, RequestKey};
use crate::sealed::{PartPlace, PartRead, SealedAnswer, read_part};
use crate::store::{IndexedAnswer, Job, JobDb, Ledger};

/// Rows of an earlier job that are read at a time.
const PAGE: u32 = 4096;

/// The version of a job's answers: it changes when rows are answered, and when a resumed run has other requests. The counts
/// of a running job lag behind.
pub(super) fn version(job: &Job) -> Result<String> {
    let content = spec_of(job)?.content.unwrap_or_default();
    Ok(format!("{}: {} of {} {content}", job.state.as_str(), job.succeeded, job.total))
}

/// Brings all answers of a job into the index, and returns its number there. Their requests are read again for their keys.
/// Of an input that has changed or is gone, answers are found by their fingerprints: by requests that are spelled alike.
pub(super) fn index_job(job: &Job, version: &str, keys: &KeyMaker, workspace: Workspace<'_>) -> Result<i64> {
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

/// Brings all answers of a part into the index, and returns its number there. A part never changes, so it is read once. Its
/// version is its service.
pub(super) fn index_part(path: &Path, name: &str, workspace: Workspace<'_>) -> Result<Option<(i64, String)>> {
    let Workspace { ctx, ledger, .. } = workspace;
    let part = match read_part(&PartPlace::File(path.to_owned()))? {
        PartRead::Whole(part) => part,
        PartRead::Unusable(why) => {
            ctx.ui.warn(&format!("{}: {why}; its answers are not reused", path.display()));
            return Ok(None);
        }
    };
    let number = ledger.begin_answers(name)?;
    let mut add = AddedAnswers { ledger, number, ready: Vec::new() };
    for SealedAnswer { outcome, key, at } in &part.answers {
        let hash = key.map_or(outcome.fingerprint.0, |key| key.0);
        add.push(IndexedAnswer { hash, row: *at, check: check(outcome.fingerprint) })?;
    }
    add.flush()?;
    ledger.end_answers(number, &part.of.service)?;
    Ok(Some((number, part.of.service)))
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
