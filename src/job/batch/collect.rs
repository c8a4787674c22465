//! Collects results of ended batches: downloads them, verifies them, joins them with their rows, and stores them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use super::ahead::place_of;
use super::session::Session;
use crate::batch::driver::BatchDownloads;
use crate::batch::join::{Ending, Expected, Files, Findings, Joined, join};
use crate::batch_status::BatchStatus;
use crate::deadline::Deadline;
use crate::error::{Error, Exit, Result};
use crate::outcome::ErrorCode;
use crate::rules::AnswerRules;
use crate::store::answer_files::{answers_name, failures_name, file_hash};
use crate::store::{BatchStep, JobBatch, JobDb};
use crate::text;

/// Waits before llbatch polls and downloads a batch again whose results lack rows or hold invalid lines.
const AGAIN: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
    Duration::from_secs(30),
];
/// Usual number of such waits. All of them are used if the service reports a completed batch without any file, as it
/// may name the file later.
const USUAL: usize = 3;

/// A batch whose files are downloading.
struct Task {
    batch: JobBatch,
    files: Receiver<BatchDownloads>,
}

/// A batch whose results were joined. The store has them, unless they are incomplete.
pub(super) struct Taken {
    pub(super) batch: JobBatch,
    pub(super) joined: Vec<Joined>,
    /// Rows that got the outcome of one of these: answered, and failed.
    followers: (u64, u64),
    findings: Findings,
    /// The results are incomplete.
    pub(super) lacks: bool,
}

/// Results that were asked for again.
struct AskedAgain {
    taken: Taken,
    /// A named file has not appeared yet.
    late: Option<Error>,
    /// The batch is completed, and the service names no file.
    nameless: bool,
    /// The same bytes came again, so another download will not help.
    same: bool,
}

impl AskedAgain {
    /// Returns true if the results should be asked for once more after `rounds` rounds.
    const fn waits(&self, rounds: usize) -> bool {
        let slow = self.nameless || self.late.is_some();
        self.taken.lacks && (slow || !self.same) && rounds < if slow { AGAIN.len() } else { USUAL }
    }
}

/// The end of a collection.
#[derive(Debug)]
#[must_use]
pub enum Collected {
    /// The store has the results of every ended batch.
    All,
    /// A batch has ended, and the service lacks a file of results that it names. The batch stays open.
    Late(Error),
}

/// The error of results that may come later.
fn later(message: String) -> Error {
    Error::new(Exit::TempFail, message).hint("run the same command again later: it resumes where it stopped")
}

impl Session<'_> {
    /// Collects the results of every ended batch into the store.
    ///
    /// # Errors
    /// 75 if the service cannot be reached, 74 if the disk fails.
    pub fn collect(&mut self) -> Result<Collected> {
        let ready: Vec<JobBatch> =
            self.driver.db.borrow().batches()?.into_iter().filter(|batch| batch.ended && batch.is_open()).collect();
        let mut collected = Collected::All;
        if !ready.is_empty() {
            // Counts them once. From here on, each batch adds to the count.
            self.counts()?;
            // After an error, the store may hold more outcomes than were counted.
            let lacking = self.collect_all(ready).inspect_err(|_| self.forget_counts())?;
            collected = self.once_more(lacking)?;
        }
        if matches!(collected, Collected::All) {
            self.update_index(false)?;
        }
        Ok(collected)
    }

    /// Downloads one batch while it joins the previous one and stores the one before that. Returns the batches whose
    /// results are incomplete.
    fn collect_all(&mut self, ready: Vec<JobBatch>) -> Result<Vec<JobBatch>> {
        let (store, id) = (self.store.clone(), self.job.id.clone());
        std::thread::scope(|scope| {
            // Each channel holds one batch, because its rows are in memory.
            let (tasks, todo) = sync_channel(1);
            let (joined, to_store) = sync_channel(1);
            let (done, stored) = channel();
            let (store, id) = (&store, &id);
            let rules = self.spec.rules(self.ctx);
            let joiner = scope.spawn(move || join_all(&store.open_job(id)?, &rules, &todo, &joined));
            let storer = scope.spawn(move || store_all(&mut store.open_job(id)?, &to_store, &done));
            let mut lacking = Vec::new();
            let mut took = |session: &mut Self, taken: Taken| {
                if taken.lacks {
                    lacking.push(taken.batch);
                    return Ok(());
                }
                session.settled(&taken)
            };
            let mut downloaded = Ok(());
            for batch in ready {
                let (give, files) = sync_channel(1);
                if tasks.send(Task { batch: batch.clone(), files }).is_err() {
                    break;
                }
                match self.block_on(self.driver.download(&batch, false)) {
                    // If the receiver is gone, its thread has failed and returns its error.
                    Ok(files) => drop(give.send(files)),
                    Err(error) => {
                        // A batch that cannot be downloaded must not block the others.
                        let on = matches!(error.exit, Exit::TempFail | Exit::Failure);
                        if downloaded.is_ok() {
                            downloaded = Err(error);
                        }
                        if !on {
                            break;
                        }
                    }
                }
                stored.try_iter().try_for_each(|taken| took(self, taken))?;
            }
            drop(tasks);
            stored.iter().try_for_each(|taken| took(self, taken))?;
            for thread in [storer, joiner] {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            downloaded.map(|()| lacking)
        })
    }

    /// Counts and shows a batch whose results are in the store.
    fn settled(&mut self, taken: &Taken) -> Result<()> {
        let expired = |joined: &&Joined| joined.outcome.error.as_ref().is_some_and(|e| e.code == ErrorCode::Expired);
        self.say(&taken.batch, &taken.findings, taken.joined.iter().filter(expired).count() as u64);
        let ok = taken.joined.iter().filter(|joined| joined.outcome.ok()).count() as u64;
        let (followed, failed) = taken.followers;
        self.count_in(ok + followed, taken.joined.len() as u64 - ok + failed);
        self.update_index(true)?;
        Ok(())
    }

    /// Polls and downloads incomplete results again. The service may name a file later, a named file may appear later, and
    /// a proxy may have cut one off.
    ///
    /// # Errors
    /// 75 while the service may still name a file; its batch stays open.
    fn once_more(&mut self, mut lacking: Vec<JobBatch>) -> Result<Collected> {
        let mut late = None;
        for (round, wait) in AGAIN.into_iter().enumerate() {
            if lacking.is_empty() {
                break;
            }
            let over = self.limits().until.is_some_and(|until: Deadline| until.left() < wait);
            if over && (round >= USUAL || late.is_some()) {
                let unnamed = "a batch is completed, but the service does not name its results yet";
                return late.map(Collected::Late).ok_or_else(|| later(unnamed.to_owned()));
            }
            self.block_on(self.driver.pause(wait))?;
            late = None;
            for batch in std::mem::take(&mut lacking) {
                let again = self.ask_again(batch)?;
                if again.waits(round + 1) {
                    late = late.or(again.late);
                    lacking.push(again.taken.batch);
                } else if let Some(error) = again.late {
                    late = Some(error);
                } else {
                    let mut taken = again.taken;
                    taken.store(&mut self.driver.db.borrow_mut())?;
                    self.settled(&taken)?;
                }
            }
        }
        Ok(late.map_or(Collected::All, Collected::Late))
    }

    /// Polls and downloads one batch again.
    fn ask_again(&self, mut batch: JobBatch) -> Result<AskedAgain> {
        self.ctx.ui.detail(&format!("batch {}: asking for its results once more", batch.number));
        let seen = self.content(&batch);
        self.block_on(self.driver.ask(&mut batch))?;
        let files = self.block_on(self.driver.download(&batch, true))?;
        let expected = expected(&self.driver.db.borrow(), &batch)?;
        let taken = join_results(batch, expected, &files, &self.spec.rules(self.ctx))?;
        let late = files.late().map(|words| {
            later(format!(
                "batch {} has ended, but the service does not have its results yet: {words}",
                taken.batch.number
            ))
        });
        let nameless = taken.batch.remote.status == Some(BatchStatus::Completed)
            && taken.batch.remote.output_file_id.is_none()
            && taken.batch.remote.error_file_id.is_none();
        let same = self.content(&taken.batch) == seen;
        Ok(AskedAgain { taken, late, nameless, same })
    }

    /// Hashes the downloaded files, to compare two downloads.
    fn content(&self, batch: &JobBatch) -> Vec<Option<String>> {
        [answers_name(batch.number), failures_name(batch.number)]
            .iter()
            .map(|name| file_hash(&self.driver.dir.join(name)))
            .collect()
    }

    fn say(&self, batch: &JobBatch, findings: &Findings, expired: u64) {
        let ui = &self.ctx.ui;
        let name = format!("batch {} ({})", batch.number, batch.remote.id.as_deref().unwrap_or("never created"));
        if findings.broken_contract() {
            ui.warn(&format!("{name}: {}", words(findings)));
        }
        if findings.duplicates > 0 {
            let lines = text::plural(findings.duplicates, "line");
            ui.detail(&format!("{name}: {lines} arrived twice, with the same content"));
        }
        if findings.answered_and_failed > 0 {
            let rows = text::plural(findings.answered_and_failed, "row");
            ui.warn(&format!("{name}: {rows} both answered and failed; llbatch keeps the answers"));
        }
        let status = batch.remote.status.as_ref();
        let left = if status == Some(&BatchStatus::Expired) { expired + findings.missing } else { findings.missing };
        if left > 0 && matches!(status, Some(BatchStatus::Completed | BatchStatus::Expired)) {
            let rows = text::plural(left, "row");
            let risk = if findings.unchecked {
                ", and the service gave no length to check its results by: the rows may have been billed"
            } else {
                ""
            };
            ui.warn(&format!("{name}: {rows} without a result{risk}; `llbatch retry` sends missing rows again"));
        }
    }
}

/// Describes the anomalies of a batch's results.
fn words(findings: &Findings) -> String {
    let mut parts = Vec::new();
    let mut part = |n: u64, noun: &str, more: &str| {
        if n > 0 {
            parts.push(format!("{}{more}", text::plural(n, noun)));
        }
    };
    part(findings.foreign, "result", " for rows that are not in the batch");
    part(findings.conflicts, "row", " with two different answers (llbatch keeps the first)");
    part(findings.garbled, "invalid line", "");
    let examples = findings.examples.join("; ");
    format!("the service broke its contract: {}: {examples}", parts.join(", "))
}

/// Joins the batches it receives, one after the other.
fn join_all(db: &JobDb, rules: &AnswerRules, todo: &Receiver<Task>, to: &SyncSender<Taken>) -> Result<()> {
    for Task { batch, files } in todo {
        // Reads the rows while the files download.
        let expected = expected(db, &batch)?;
        // The download has failed. The downloading thread reports it.
        let Ok(files) = files.recv() else { continue };
        if to.send(join_results(batch, expected, &files, rules)?).is_err() {
            break;
        }
    }
    Ok(())
}

/// Stores the batches it receives, unless their results are incomplete.
fn store_all(db: &mut JobDb, todo: &Receiver<Taken>, done: &Sender<Taken>) -> Result<()> {
    for mut taken in todo {
        if !taken.lacks {
            taken.store(db)?;
        }
        if done.send(taken).is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads the rows of a batch.
fn expected(db: &JobDb, batch: &JobBatch) -> Result<Vec<Expected>> {
    let model: Arc<str> = Arc::from(batch.model.as_str());
    let asked = db.asked(batch.number)?.into_iter();
    let expected = asked.map(|asked| Expected {
        row: asked.row,
        id: asked.id,
        wire: asked.wire,
        fingerprint: asked.fingerprint,
        model: Arc::clone(&model),
        reserve: asked.reserve,
    });
    Ok(expected.collect())
}

/// Joins the rows of a batch with its downloaded files.
fn join_results(
    mut batch: JobBatch,
    expected: Vec<Expected>,
    files: &BatchDownloads,
    rules: &AnswerRules,
) -> Result<Taken> {
    let (output, errors) = (files.answers.path(), files.failures.path());
    batch.collected.answers_hash = output.and_then(file_hash);
    batch.collected.failures_hash = errors.and_then(file_hash);
    let status = match batch.step {
        BatchStep::Refused if batch.remote.status.is_none() => BatchStatus::Refused,
        _ => batch.remote.status.clone().unwrap_or(BatchStatus::Failed),
    };
    let ending = Ending {
        status: &status,
        error: batch.remote.error.as_deref(),
        batch: batch.number,
        deleted: files.deleted(),
        whole: files.are_whole(),
    };
    let mut report = join(expected, &Files { output, errors }, &ending, rules)?;
    for joined in &mut report.joined {
        joined.outcome.prices = batch.cost.prices;
    }
    let findings = report.findings;
    let unnamed =
        batch.remote.id.is_some() && (batch.remote.output_file_id.is_none() || batch.remote.error_file_id.is_none());
    let undone = || {
        let open = |joined: &Joined| {
            let code = joined.outcome.error.as_ref().map(|error| error.code);
            matches!(code, Some(ErrorCode::Expired | ErrorCode::Cancelled | ErrorCode::Missing))
        };
        report.joined.iter().any(open)
    };
    let short = match &batch.remote.status {
        // It will not come any more.
        _ if files.deleted().is_some() => false,
        Some(BatchStatus::Completed) => findings.missing > 0,
        // Such a batch leaves rows undone. A file that the service has not named yet may hold the answered ones.
        Some(BatchStatus::Expired | BatchStatus::Cancelled) => unnamed && undone(),
        _ => false,
    };
    let lacks = findings.garbled > 0 || findings.torn || short || files.late().is_some();
    Ok(Taken { batch, joined: report.joined, followers: (0, 0), findings, lacks })
}

impl Taken {
    /// Joins the downloaded files of a batch with its rows.
    pub(super) fn of(db: &JobDb, batch: JobBatch, files: &BatchDownloads, rules: &AnswerRules) -> Result<Self> {
        let expected = expected(db, &batch)?;
        join_results(batch, expected, files, rules)
    }

    /// Stores the results of the rows whose results were missing so far, keeps only these, and settles the batch, in one
    /// transaction.
    pub(super) fn store_missing(&mut self, db: &mut JobDb) -> Result<()> {
        let missing = db.delete_missing(self.batch.number)?;
        self.joined.retain(|joined| missing.binary_search(&joined.outcome.row).is_ok());
        self.store(db)
    }

    /// Stores the results and settles the batch in one transaction.
    fn store(&mut self, db: &mut JobDb) -> Result<()> {
        self.batch.collected.broken = self.findings.broken_contract().then(|| words(&self.findings));
        self.batch.step = BatchStep::Settled;
        db.put_joined(self.joined.iter().map(|joined| (&joined.outcome, place_of(joined))))?;
        db.put_batch(&self.batch)?;
        self.followers = db.settle_followers()?;
        db.commit(true)
    }
}
