//! Resumes a job: finds the stored answers that still fit, and the rows that may be paid for without an answer.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::ask::RetryFilter;
use super::identity::{Requests, RowContent};
use super::judge::judge_anew;
use super::known_fingerprints::{KnownFingerprint, KnownFingerprints};
use super::lost::LostRows;
use super::spec::CleanCheck;
use crate::check::{Checked, Pass};
use crate::context::Ctx;
use crate::error::Result;
use crate::input::Inputs;
use crate::outcome::Fingerprint;
use crate::price::PriceTable;
use crate::request::{Draft, KeyMaker, RequestBuilder};
use crate::results::RowReader;
use crate::row_set::RowSet;
use crate::rules::AnswerRules;
use crate::store::{Job, JobDb};
use crate::text;

/// Maximum number of a killed run's unanswered rows, or of damaged answers, to name. llbatch counts the others.
const NAMED: usize = 20;

/// The input of a job and the requests made of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct JobRows<'a> {
    /// The files.
    pub inputs: &'a Inputs,
    /// The builder of the requests.
    pub builder: &'a Arc<RequestBuilder>,
}

/// An earlier run of the job, compared with the input as it is now.
#[derive(Debug)]
pub(super) struct Resumed {
    db: JobDb,
    /// Every stored row has the same number and the same request as before.
    same: bool,
}

/// The result of a check of a job's rows.
#[derive(Debug)]
pub(super) struct CheckedRows {
    /// The findings.
    pub checked: Checked,
    /// The comparison with an earlier run.
    pub resumed: Option<Resumed>,
    /// The requests; `None`: the input was not read.
    pub requests: Option<Requests>,
    /// The fingerprints of all rows; `None`: they are not kept.
    pub known: Option<KnownFingerprints>,
}

/// Options of a check of a job's rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checking<'a> {
    /// The service that the requests are for.
    pub service: &'a str,
    /// Problems to list.
    pub listed: usize,
    /// Context lengths of the models. `None`: the check ignores them.
    pub table: Option<&'a PriceTable>,
    /// The fields of all records are gathered, for a table of results.
    pub fields: bool,
    /// Makes the keys by which repeated requests are found. `None`: every row is sent.
    pub keys: Option<&'a KeyMaker>,
    /// The last check of this input, if it found no problem.
    pub clean: Option<&'a CleanCheck>,
    /// The directory for the fingerprints that are kept for a run. `None`: no run follows.
    pub keep_in: Option<&'a Path>,
}

/// Rules about the rows of an earlier run that a resumed run keeps.
#[derive(Clone, Copy)]
pub(super) struct ResumeRules<'a> {
    /// Rules that answers must pass.
    pub answers: &'a AnswerRules,
    /// Failed rows to send again.
    pub retry: RetryFilter,
    /// Rows that batches will answer.
    pub awaited: &'a RowSet,
    /// The user has named the job, so that any number of damaged answers may be paid again.
    pub named: bool,
    /// The input has the requests of the earlier run. `None`: its record does not tell.
    pub same_requests: Option<bool>,
}

/// The fingerprints and ids of stored answers, read page by page beside the rows of the input.
struct Stored<'a> {
    db: &'a JobDb,
    page: VecDeque<(u64, Fingerprint, Box<str>)>,
    from: u64,
    ended: bool,
}

impl<'a> Stored<'a> {
    const fn of(db: &'a JobDb) -> Self {
        Self { db, page: VecDeque::new(), from: 1, ended: false }
    }

    /// Returns the stored answer at `row`. Rows must ascend. An answer at a skipped row stays in front and is found at
    /// the end.
    fn at(&mut self, row: u64) -> Result<Option<(Fingerprint, Box<str>)>> {
        const PAGE: u32 = 4096;
        if self.page.is_empty() && !self.ended {
            self.page = self.db.answers(self.from, PAGE)?.into();
            self.ended = self.page.is_empty();
            self.from = self.page.back().map_or(self.from, |(row, _, _)| row + 1);
        }
        if self.page.front().is_some_and(|(stored, _, _)| *stored == row) {
            return Ok(self.page.pop_front().map(|(_, fp, id)| (fp, id)));
        }
        Ok(None)
    }
}

impl JobRows<'_> {
    /// Checks all rows, and compares them with the answers of an earlier run (`old`). It does not read an input that
    /// was valid and has not been written to since.
    pub fn check(self, old: Option<JobDb>, how: Checking<'_>) -> Result<CheckedRows> {
        // Repeated requests are found by reading them.
        // Files beside the input may have changed.
        let clean = how.clean.filter(|_| how.keys.is_none() && !self.builder.reads_files());
        let clean = clean.filter(|clean| self.inputs.stamp().is_some_and(|stamp| stamp == clean.stamp));
        let old = match (old, clean) {
            (Some(db), Some(clean)) => {
                let resumed = Some(Resumed { db, same: true });
                return Ok(CheckedRows { checked: clean.to_checked(), resumed, requests: None, known: None });
            }
            (old, _) => old,
        };
        let mut requests = Requests::new(how.service, self.inputs.chosen().shard());
        let mut stored = old.as_ref().map(Stored::of);
        let mut same = Ok(true);
        let pass = Pass {
            max_problems: how.listed,
            table: how.table,
            fields: how.fields,
            keys: how.keys,
            ..Pass::new(self.inputs, self.builder)
        };
        let mut known = how.keep_in.map(|dir| KnownFingerprints::new(dir.to_owned()));
        let inspect = |draft: &Draft<'_>| {
            let fingerprint = draft.fingerprint();
            let known = how.keep_in.map(|_| KnownFingerprint::of(fingerprint, &draft.body));
            (fingerprint, Box::<str>::from(&*draft.id), known)
        };
        let checked = pass.inspect(&inspect, &mut |row, found| {
            let (found, entry) = match found.map(|found| found.value) {
                Some((fingerprint, id, entry)) => (Some((fingerprint, id)), entry),
                None => (None, None),
            };
            if let Some(known) = &mut known {
                known.push(entry);
            }
            requests.row(found.as_ref().map(|(fingerprint, id)| RowContent { id, fingerprint: *fingerprint }));
            if let (Ok(true), Some(stored)) = (&same, &mut stored) {
                same = stored.at(row).map(|answer| answer.is_none_or(|stored| found == Some(stored)));
            }
        })?;
        // Answers behind the last row mean that the input has lost rows.
        let ended = stored.map_or(Ok(true), |mut stored| Ok(stored.at(u64::MAX)?.is_none() && stored.page.is_empty()));
        let same = same? && ended?;
        Ok(CheckedRows { checked, resumed: old.map(|db| Resumed { db, same }), requests: Some(requests), known })
    }

    /// The ids of the first of these rows, and the number of the others.
    pub(super) fn names(self, rows: &[u64]) -> Result<String> {
        let mut names = Vec::new();
        let mut reader = RowReader::open(self.inputs, self.builder)?;
        for row in rows.iter().take(NAMED) {
            names.push(reader.id(*row)?.map_or_else(|| format!("row-{row}"), String::from));
        }
        let more = rows.len().saturating_sub(NAMED);
        let tail = if more > 0 { format!(" and {} more", text::count(more as u64)) } else { String::new() };
        Ok(names.join(", ") + &tail)
    }
}

impl CheckedRows {
    /// Returns whether these are the requests with the key `content`. `None`: the key is not known.
    pub(super) fn has_requests(&self, content: Option<&str>) -> Option<bool> {
        match &self.requests {
            Some(requests) => content.map(|content| requests.key() == content),
            // An input that was not read has not changed.
            None => Some(true),
        }
    }
}

impl Resumed {
    /// Returns the rows that a batch may still answer.
    pub fn awaited(&self) -> Result<RowSet> {
        let mut awaited = RowSet::default();
        self.db.each_awaited(|row| _ = awaited.insert(row))?;
        Ok(awaited)
    }

    /// Returns true if every row of the input has an outcome in `job`.
    pub(super) const fn answers_all(&self, checked: &Checked, job: &Job) -> bool {
        self.same && checked.rows == job.total && job.succeeded + job.failed == job.total
    }

    /// Returns true if the stored answers were held against these rules.
    pub(super) fn is_judged_by(&self, rules: &AnswerRules) -> Result<bool> {
        Ok(self.db.judged_by()? == rules.fingerprint())
    }

    /// Returns true if every stored answer fits its row.
    pub(super) const fn is_same(&self) -> bool {
        self.same
    }

    /// Prepares the job's database: moves answers to their rows, removes failed rows that are sent again, and keeps all
    /// costs.
    pub fn prepare(mut self, rows: JobRows<'_>, checked: &Checked, rules: ResumeRules<'_>, ctx: &Ctx) -> Result<JobDb> {
        let ResumeRules { answers, retry, awaited, named, same_requests } = rules;
        // This comes first, because rows of an interrupted retry count as in flight too.
        let same_input = same_requests.unwrap_or(self.same);
        LostRows { rows, awaited, same_input }.account(&mut self.db, ctx)?;
        let damaged = self.db.drop_damaged(named)?;
        if !damaged.is_empty() {
            let names = rows.names(&damaged)?;
            let count = text::plural(damaged.len() as u64, "kept answer");
            ctx.ui.warn(&format!(
                "{count} {} damaged or missing; paid once, and sent again: {names}",
                text::agree(damaged.len() as u64, "is", "are")
            ));
        }
        self.db.settle_aside()?;
        judge_anew(&mut self.db, answers, ctx)?;
        // If the input has changed, stored failures no longer apply.
        if retry != RetryFilter::Nothing || !self.same {
            self.db.set_aside(|code| retry != RetryFilter::Retryable || !code.is_permanent())?;
        }
        if !self.same {
            self.remap(rows, checked, ctx)?;
        }
        Ok(self.db)
    }

    /// Moves the stored answers to the rows with the same request.
    fn remap(&mut self, rows: JobRows<'_>, checked: &Checked, ctx: &Ctx) -> Result<()> {
        let mut kept = 0;
        let mut remap = self.db.remap()?;
        let mut result = Ok(());
        let pass = Pass { max_problems: 0, threads: 1, ..Pass::new(rows.inputs, rows.builder) };
        pass.inspect(&|draft| rows.builder.own(draft, draft.fingerprint()), &mut |row, found| {
            let Some(request) =
                found.map(|found| found.value).filter(|_| checked.duplicates.binary_search(&row).is_err())
            else {
                return;
            };
            if result.is_ok() {
                match remap.place(row, &request.id, request.fingerprint) {
                    Ok(found) => kept += u64::from(found),
                    Err(e) => result = Err(e),
                }
            }
        })?;
        result?;
        let gone = remap.finish()?;
        ctx.ui.note(&format!(
            "the input has changed: {} still valid, {} to send, {} no longer used",
            text::plural(kept, "answer"),
            text::plural(checked.rows - kept, "new or changed row"),
            text::plural(gone, "answer")
        ));
        Ok(())
    }
}
