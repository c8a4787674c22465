//! A realtime run before its first request: input checked, job claimed, earlier answers compared.

use std::sync::Arc;

use super::ask::{RetryFilter, Reuse, RunAsk};
use super::finish::Workspace;
use super::found_repeats::FoundRepeats;
use super::identity::{Requests, key_maker};
use super::known_fingerprints::KnownFingerprints;
use super::own::{OwnedJob, RunSource};
use super::reader::changed_input;
use super::remote::Remote;
use super::resume::{CheckedRows, Checking, JobRows, ResumeRules, Resumed};
use super::spec::{Spec, spec_of};
use crate::check::problems::{self, Action};
use crate::check::repeats::Repeats;
use crate::check::{Checked, first_look, refuse_headers, say_doubts};
use crate::error::{Error, Result};
use crate::money::Accounts;
use crate::price::Nanos;
use crate::realtime::SpeedOptions;
use crate::request::{Params, RequestBuilder};
use crate::row_set::RowSet;
use crate::rules::AnswerRules;
use crate::store::{Job, JobDb, Transport};
use crate::text;
use crate::ui::Progress;

/// An input that was checked, and the job that it belongs to.
pub(super) struct RunStart {
    pub source: RunSource,
    pub builder: Arc<RequestBuilder>,
    pub claimed: OwnedJob,
    pub checked: Checked,
    pub resumed: Option<Resumed>,
    /// The fingerprints that the check computed.
    pub known: Option<KnownFingerprints>,
    /// Rows that get the outcome of an earlier one, with `--dedupe`.
    pub repeats: Option<FoundRepeats>,
    /// The words about repeated requests, without `--dedupe`.
    repeat_words: String,
    /// The input has the requests of the earlier run. `None`: its record does not tell.
    same_requests: Option<bool>,
    /// The rules that answers must pass.
    pub rules: Arc<AnswerRules>,
}

/// Rows that a run does not send.
pub(super) struct EarlierOutcomes {
    pub db: JobDb,
    /// Rows with an outcome.
    pub done: Arc<RowSet>,
    /// Rows that batches will answer.
    pub awaited: RowSet,
    pub answered: u64,
    pub failed: u64,
    /// Paid by earlier runs for answers that no longer stand for a row.
    pub discarded: Nanos,
}

impl RunStart {
    /// Returns the rows of the job.
    pub fn rows(&self) -> JobRows<'_> {
        JobRows { inputs: &self.source.inputs, builder: &self.builder }
    }

    /// Returns the rows that get the outcome of an earlier one.
    pub fn repeats(&self) -> Option<&Repeats> {
        self.repeats.as_ref().map(|found| &found.repeats)
    }

    /// Reads and checks the input, and claims the job that it belongs to.
    ///
    /// # Errors
    /// 65 for invalid rows, 66 for an input that cannot be read, 75 if another process works on the job.
    pub fn of(ask: &RunAsk, remote: Remote<'_>, workspace: Workspace<'_>, progress: &Progress) -> Result<Self> {
        let Workspace { ctx, store, ledger } = workspace;
        progress.phase("reading input");
        let mut source = open_source(ask, remote, workspace)?;
        let mut builder = Arc::new(RequestBuilder::new(&source.spec.params)?);
        let mut claimed = OwnedJob::take(ask, &source, store, ledger, &ctx.ui)?;
        // Stamps the input again: the process may have waited all night and has read nothing yet.
        source.stamp = source.inputs.stamp();
        let earlier = if claimed.resumed { Some(store.open_job(&claimed.job.id)?) } else { None };
        progress.phase("checking input");
        first_look(&source.inputs, &builder, &ctx.ui)?;
        if !source.spec.skip_invalid {
            refuse_headers(&source.inputs, &builder)?;
        }
        let (listed, table) = (ask.job.problems.listed, Some(&ctx.settings.prices));
        let rows = JobRows { inputs: &source.inputs, builder: &builder };
        let (service, fields) = (&remote.identity(), ask.delivery.form.is_flat());
        let keys = source.spec.dedupe.then(|| key_maker(service));
        let (keys, keep_in) = (keys.as_ref(), Some(store.dir()));
        let how = Checking { service, listed, table, fields, keys, clean: None, keep_in };
        let mut found = rows.check(earlier, Checking { clean: claimed.clean.as_ref(), ..how })?;
        let earlier_content = spec_of(&claimed.job)?.content;
        let mut same_requests = found.has_requests(earlier_content.as_deref());
        problems::report(&found.checked, source.spec.skip_invalid, listed, Action::Send, &ctx.ui)?;
        problems::say_stream_removed(&found.checked, &ctx.ui);
        say_doubts(&found.checked, &builder, ctx);
        let repeat_words = found.requests.as_ref().map(Requests::repeat_words).unwrap_or_default();
        if found.requests.is_none() {
            source.spec.content = earlier_content;
        }
        if let Some(requests) = found.requests.take() {
            source.spec.content = Some(requests.key());
            if !claimed.resumed && ask.reuse != Reuse::Nothing {
                if claimed.take_same_content(ask, &requests.key(), workspace)? {
                    if claimed.job.transport == Transport::Batch {
                        source = source_of_batches(ask, &claimed.job, &source.spec.params, remote, workspace)?;
                        builder = Arc::new(RequestBuilder::new(&source.spec.params)?);
                    }
                    let rows = JobRows { inputs: &source.inputs, builder: &builder };
                    found = rows.check(Some(store.open_job(&claimed.job.id)?), how)?;
                    same_requests = Some(true);
                } else {
                    requests.say_answered(
                        &remote.identity(),
                        ledger.last_of(source.key())?,
                        Transport::Realtime,
                        workspace,
                    )?;
                }
            }
        }
        claimed.record_remote(&mut source.spec, remote, ctx)?;
        let CheckedRows { checked, resumed, known, .. } = found;
        let rules = source.spec.rules(ctx);
        // If the input or the rules have changed meanwhile, the job is no longer finished.
        claimed.finished &= match &resumed {
            Some(resumed) => resumed.answers_all(&checked, &claimed.job) && resumed.is_judged_by(&rules)?,
            None => false,
        };
        let rows = JobRows { inputs: &source.inputs, builder: &builder };
        let repeats = keys.map(|keys| FoundRepeats::of(rows, &checked, keys, workspace)).transpose()?;
        Ok(Self { source, builder, claimed, checked, resumed, known, repeats, repeat_words, same_requests, rules })
    }

    /// Prepares the job's database, and returns the rows that are not to be sent.
    /// `new`: the database of a new job.
    pub(super) fn sort_out(
        &mut self,
        ask: &RunAsk,
        new: Option<JobDb>,
        workspace: Workspace<'_>,
    ) -> Result<EarlierOutcomes> {
        let rows = JobRows { inputs: &self.source.inputs, builder: &self.builder };
        let (mut db, awaited) = match (self.resumed.take(), new) {
            (Some(resumed), _) => {
                let awaited = resumed.awaited()?;
                let retry = if self.claimed.finished { RetryFilter::Nothing } else { ask.retry };
                let named = ask.job.start.names_job();
                let (answers, same_requests) = (&*self.rules, self.same_requests);
                let rules = ResumeRules { answers, retry, awaited: &awaited, named, same_requests };
                (resumed.prepare(rows, &self.checked, rules, workspace.ctx)?, awaited)
            }
            (None, Some(mut new)) => {
                new.keep_judged_by(self.rules.fingerprint())?;
                (new, RowSet::default())
            }
            (None, None) => (workspace.store.open_job(&self.claimed.job.id)?, RowSet::default()),
        };
        db.keep_prices(&workspace.ctx.settings.prices)?;
        db.clear_waiting(|leader| awaited.contains(leader))?;
        self.claimed.record_clean(&self.source, &self.checked, workspace.ledger)?;
        let mut done = RowSet::new(self.checked.rows);
        // The database no longer holds failed rows that are to be sent again.
        db.each_fingerprint(|row, _, _| _ = done.insert(row))?;
        let (answered, failed) = db.counts()?;
        let discarded = if self.claimed.resumed {
            Accounts::paid_for_retired(&db, workspace.ctx.settings.prices.clone())?
        } else {
            Nanos::ZERO
        };
        Ok(EarlierOutcomes { db, done: Arc::new(done), awaited, answered, failed, discarded })
    }

    /// Returns the number of rows that neither have an outcome nor wait for batches.
    pub fn left(&self, earlier: &EarlierOutcomes) -> u64 {
        self.checked.rows - earlier.done.count() - earlier.awaited.count()
    }

    /// Returns an error if the input was written to since the check.
    pub fn changed(&self) -> Option<Error> {
        let changed = self.source.inputs.stamp() != self.source.stamp;
        changed.then(|| changed_input("no results were written"))
    }

    /// Builds the opening line of the run.
    pub fn opening(&self, earlier: &EarlierOutcomes, service: &str) -> String {
        let Self { claimed, checked, .. } = self;
        let done = earlier.answered + earlier.failed;
        let models: Vec<&str> = checked.models.iter().take(3).map(|(model, _)| &**model).collect();
        let more =
            if checked.models.len() > 3 { format!(" and {} more", checked.models.len() - 3) } else { String::new() };
        let rows = if claimed.finished && done == checked.rows {
            let why = if claimed.job.untold {
                "it has ended, but the command that ended it was killed before it could say so"
            } else {
                "another llbatch finished the job while this one waited"
            };
            format!("{why}; its results are written, and nothing is sent")
        } else if claimed.resumed {
            let failed = if earlier.failed > 0 {
                format!(", {} failed before", text::count(earlier.failed))
            } else {
                String::new()
            };
            let left = checked.rows - done - earlier.awaited.count();
            format!("{} answered before{failed}, {} to go", text::count(earlier.answered), text::count(left))
        } else {
            text::plural(checked.rows, "row")
        };
        let verb = if claimed.resumed && !claimed.finished { "resuming job" } else { "job" };
        // If every row is invalid, there is no model.
        let models = if models.is_empty() { String::new() } else { format!(", {}{more}", models.join(", ")) };
        let own = text::own_parameters(&self.builder.own_parameters());
        let shard = self.source.inputs.chosen().shard().map_or_else(String::new, |shard| format!(" (shard {shard})"));
        let repeats = self.repeats.as_ref().map_or_else(|| self.repeat_words.clone(), FoundRepeats::words);
        format!("{verb} {}{shard}: {rows}{repeats}{models}, on {service}{own}", claimed.job.id)
    }
}

impl EarlierOutcomes {
    /// Returns the rows that are not sent: done rows, and rows that batches will answer.
    pub fn skipped(&self) -> RowSet {
        let mut skipped = (*self.done).clone();
        self.awaited.iter().for_each(|row| _ = skipped.insert(row));
        skipped
    }
}

/// Opens the input, and records how the command works on it.
fn open_source(ask: &RunAsk, remote: Remote<'_>, workspace: Workspace<'_>) -> Result<RunSource> {
    let mut source = RunSource::open(&ask.job, remote, workspace)?;
    apply_flags(&mut source.spec, ask);
    Ok(source)
}

/// Opens the input of a batch job whose requests are those of the command, and whose answers must pass its rules.
fn source_of_batches(
    ask: &RunAsk,
    job: &Job,
    rules: &Params,
    remote: Remote<'_>,
    workspace: Workspace<'_>,
) -> Result<RunSource> {
    let mut spec = spec_of(job)?.judged_like(rules);
    apply_flags(&mut spec, ask);
    RunSource::of_job(job.clone(), spec, &ask.job, remote, workspace)
}

/// Records the flags of the command that are no part of its requests.
fn apply_flags(spec: &mut Spec, ask: &RunAsk) {
    let SpeedOptions { auto, concurrency, .. } = ask.speed;
    spec.dedupe |= ask.job.once.dedupe;
    spec.tags.extend(ask.job.tags.clone());
    spec.reuses |= ask.job.once.earlier.is_some();
    if let Some(answers) = &ask.job.once.answers {
        spec.answers = Some(answers.clone());
    }
    spec.concurrency = Some(if auto { "auto".to_owned() } else { concurrency.to_string() });
}
