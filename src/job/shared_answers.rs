//! Answers that tasks of one job share in a directory or a bucket (`--answers`): taken when a run begins, sealed while it goes on.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::finish::Workspace;
use super::identity::canonical_service;
use super::run_start::{EarlierOutcomes, RunStart};
use crate::context::Ctx;
use crate::error::Result;
use crate::outcome::{Fingerprint, Follower, Outcome};
use crate::request::RequestKey;
use crate::row_set::RowSet;
use crate::rules::AnswerRules;
use crate::sealed::{AnswersDir, ClaimSeat, JobMark, PartPlace, PartRead, SealedAnswer, Sealer, read_part};
use crate::store::JobDb;
use crate::text;

/// Rows of a job's database that are read at a time.
const PAGE: u32 = 1024;

/// The directory of `--answers`, and the job in it that a run works on.
#[derive(Debug)]
pub(super) struct SharedAnswers {
    dir: AnswersDir,
    of: JobMark,
    /// The jobs of this state directory with the same requests. They have recorded what their answers cost.
    others: Vec<JobDb>,
}

/// The parts that a run has read.
#[derive(Debug, Default)]
pub(super) struct TakenParts {
    seen: HashSet<String>,
    /// The rows that they answer.
    sealed: RowSet,
}

/// Seals the answers of a run.
#[derive(Debug)]
pub(super) struct RunSealer {
    sealer: Sealer,
    keys: Arc<SealKeys>,
}

/// The keys of the requests that are in flight.
#[derive(Debug, Default)]
pub(super) struct SealKeys {
    rows: Mutex<HashMap<u64, RequestKey>>,
}

impl SealKeys {
    /// Keeps the key of a row that is going to be sent.
    pub fn keep(&self, row: u64, key: RequestKey) {
        if let Ok(mut rows) = self.rows.lock() {
            rows.insert(row, key);
        }
    }

    fn take(&self, row: u64) -> Option<RequestKey> {
        self.rows.lock().ok()?.remove(&row)
    }
}

impl RunSealer {
    /// Adds the outcome of a row that is committed, if it is an answer of the row's own.
    pub fn push(&mut self, outcome: &Outcome) -> Result<()> {
        let key = self.keys.take(outcome.row);
        if is_kept(outcome) { self.sealer.push(outcome, key) } else { Ok(()) }
    }

    /// Seals what is old enough.
    pub fn seal_full(&mut self) -> Result<()> {
        self.sealer.seal_full()
    }

    /// Seals the rest.
    pub fn finish(self) -> Result<()> {
        self.sealer.finish()
    }
}

/// Returns true for an answer that other tasks may take: of the row itself, or taken from another job. A task that has the
/// answer of an earlier row has also those of the rows that repeat it.
const fn is_kept(outcome: &Outcome) -> bool {
    outcome.ok() && matches!(outcome.leader, None | Some(0))
}

impl SharedAnswers {
    /// Opens the directory that the command names, if it names one.
    ///
    /// # Errors
    /// 74 if it cannot be made.
    pub fn open(start: &RunStart, workspace: Workspace<'_>) -> Result<Option<Self>> {
        let spec = &start.source.spec;
        let Some(path) = &spec.answers else { return Ok(None) };
        // A job in batches is found by its content.
        let content = spec.content.clone().unwrap_or_else(|| start.claimed.job.key.clone());
        let own = &start.claimed.job.id;
        let others =
            workspace.ledger.of_content(&content)?.into_iter().filter(|job| job.id != *own && job.succeeded > 0);
        // One that cannot be read may have recorded nothing: rather too much cost than too little.
        let others = others.filter_map(|job| workspace.store.open_job(&job.id).ok()).collect();
        let of = JobMark {
            service: canonical_service(&spec.identity()),
            shard: start.source.inputs.chosen().shard().map(|shard| shard.to_string()),
            content,
        };
        Ok(Some(Self { dir: AnswersDir::create(path)?, of, others }))
    }

    /// The directory.
    pub const fn dir(&self) -> &AnswersDir {
        &self.dir
    }

    /// The claim on the rows of the job that nobody has answered.
    ///
    /// # Errors
    /// 74 if the directory cannot be written.
    pub fn seat(&self) -> Result<ClaimSeat> {
        ClaimSeat::open(&self.dir, &self.of)
    }

    /// Puts the answers of other tasks into the job's database, as far as they are in parts that were not read yet.
    ///
    /// # Errors
    /// 74 if a file cannot be read or written.
    pub fn take(
        &self,
        parts: &mut TakenParts,
        earlier: &mut EarlierOutcomes,
        start: &RunStart,
        ctx: &Ctx,
    ) -> Result<()> {
        let before = earlier.answered;
        for part in self.dir.parts_of(&self.of)? {
            if !parts.seen.insert(part.to_string()) {
                continue;
            }
            if let Some(answers) = self.read(&part, ctx)? {
                for answer in &answers {
                    parts.sealed.insert(answer.outcome.row);
                }
                self.restore(answers, earlier, start)?;
            }
        }
        earlier.db.commit(true)?;
        let taken = earlier.answered - before;
        if taken > 0 {
            let (rows, dir, left) = (text::plural(taken, "row"), &self.dir, text::count(start.left(earlier)));
            ctx.ui.note(&format!("{rows} answered by other tasks of this job, taken from {dir}; {left} to go"));
        }
        Ok(())
    }

    /// Begins to seal the answers that are missing in the directory.
    ///
    /// # Errors
    /// 74 if a file cannot be written.
    pub fn sealer(&self, earlier: &EarlierOutcomes, parts: &TakenParts, keys: &Arc<SealKeys>) -> Result<RunSealer> {
        let mut sealer = Sealer::new(&self.dir, self.of.clone())?;
        seal_earlier(&earlier.db, &earlier.done, &parts.sealed, &mut sealer)?;
        Ok(RunSealer { sealer, keys: Arc::clone(keys) })
    }

    /// The answers in a part. `None`: it cannot be used, which the user is told.
    fn read(&self, place: &PartPlace, ctx: &Ctx) -> Result<Option<Vec<SealedAnswer>>> {
        let why = match read_part(place)? {
            PartRead::Whole(part) if part.of == self.of => return Ok(Some(part.answers)),
            PartRead::Whole(_) => "it belongs to another job".to_owned(),
            PartRead::Unusable(why) => why,
        };
        ctx.ui.warn(&format!("{place}: {why}; its answers are not taken"));
        Ok(None)
    }

    fn restore(&self, mut answers: Vec<SealedAnswer>, earlier: &mut EarlierOutcomes, start: &RunStart) -> Result<()> {
        let done = Arc::make_mut(&mut earlier.done);
        answers.retain(|SealedAnswer { outcome, .. }| {
            let (row, awaited) = (outcome.row, &earlier.awaited);
            let wanted = (1..=start.checked.rows).contains(&row) && !done.contains(row) && !awaited.contains(row);
            wanted && passes(outcome, &start.rules) && done.insert(row)
        });
        let recorded = self.recorded(&answers)?;
        let priced = |SealedAnswer { outcome, .. }: SealedAnswer| {
            let costs = !recorded.contains(outcome.row) && outcome.batch.is_none();
            if costs { outcome } else { at_no_cost(&outcome) }
        };
        let taken: Vec<Outcome> = answers.into_iter().map(priced).collect();
        earlier.answered += taken.len() as u64;
        earlier.db.put_all(&taken)?;
        earlier.db.commit(false)
    }

    /// The rows among these whose answer another job of this state directory has, with its cost.
    fn recorded(&self, answers: &[SealedAnswer]) -> Result<RowSet> {
        let sealed: HashMap<u64, Fingerprint> =
            answers.iter().map(|answer| (answer.outcome.row, answer.outcome.fingerprint)).collect();
        let (first, last) = (sealed.keys().min().copied(), sealed.keys().max().copied());
        let mut recorded = RowSet::default();
        for db in &self.others {
            // The last job has nearly always all of them.
            let mut from = first.filter(|_| recorded.count() < sealed.len() as u64);
            while let Some(row) = from {
                let page = db.answers(row, PAGE)?;
                let same = page.iter().filter(|(row, fingerprint, _)| sealed.get(row) == Some(fingerprint));
                same.for_each(|(row, ..)| _ = recorded.insert(*row));
                from = page.last().map(|(row, ..)| row + 1).filter(|row| Some(*row) <= last);
            }
        }
        Ok(recorded)
    }
}

fn passes(outcome: &Outcome, rules: &AnswerRules) -> bool {
    outcome.body.as_deref().is_some_and(|body| rules.violation(body).is_none())
}

/// The answer of a row that another job has paid for.
fn at_no_cost(outcome: &Outcome) -> Outcome {
    let Outcome { row, ref id, fingerprint, .. } = *outcome;
    let copy = outcome.for_follower(Follower { row, id: id.clone(), fingerprint, leader: 0 });
    Outcome { batch: None, prices: 0, ..copy }
}

/// Seals the answers of earlier runs that the directory lacks: a run that is killed has not sealed its last ones.
fn seal_earlier(db: &JobDb, done: &RowSet, sealed: &RowSet, sealer: &mut Sealer) -> Result<()> {
    let Some(mut from) = done.iter().find(|row| !sealed.contains(*row)) else { return Ok(()) };
    loop {
        let page = db.outcomes(from, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        from = last.row + 1;
        for outcome in page.iter().filter(|outcome| is_kept(outcome) && !sealed.contains(outcome.row)) {
            sealer.push(outcome, None)?;
        }
    }
}
