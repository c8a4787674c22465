//! The Together batches of a job: their plan, their state at the service, their rows.
//!
//! llbatch records each step of a batch on disk before it takes the step. A process that resumes the job after a kill
//! therefore knows what may have happened.

mod asked;
mod record;

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{JobDb, broken};
use crate::batch_status::BatchStatus;
use crate::error::{Error, Exit, Result};
use crate::price::Nanos;
pub use asked::Asked;
use record::StoredBatch;

/// The steps of a batch, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStep {
    /// Its file is on the local disk. llbatch may upload it any number of times.
    #[default]
    Planned,
    /// The service has its file.
    Uploaded,
    /// The request that creates it may have been sent. Only the service's list tells whether the service received it.
    Creating,
    /// The service has given it an id.
    Submitted,
    /// The service has rejected it.
    Refused,
    /// It has ended, and its results are among the job's outcomes.
    Settled,
}

/// One Together batch of a job, stored as JSON. The default is a planned batch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "StoredBatch", into = "StoredBatch")]
pub struct JobBatch {
    /// Number of the batch, 1-based over all submissions of the job.
    pub number: u32,
    /// The model of all its rows.
    pub model: String,
    /// The endpoint as the service spells it: `/v1/chat/completions`.
    pub endpoint: String,
    /// Number of its rows.
    pub rows: u64,
    /// The step that it has reached.
    pub step: BatchStep,
    /// It has a final status, or the service will never begin it.
    pub ended: bool,
    /// The user has cancelled it.
    pub cancel: bool,
    /// Time since which it is being cancelled, in milliseconds since 1970.
    pub cancelling_since: Option<i64>,
    /// The file with its requests.
    pub file: RequestFile,
    /// The requests that create it.
    pub creation: BatchCreation,
    /// The batch as the service reports it.
    pub remote: RemoteBatch,
    /// Its downloaded results.
    pub collected: CollectedFiles,
    /// Its cost.
    pub cost: BatchCost,
}

/// The file with the requests of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestFile {
    /// Its name, unique to this batch.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash, in lower-case hex.
    pub sha256: String,
    /// The service's id of it.
    pub id: Option<String>,
}

/// The requests that create a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchCreation {
    /// Batches of other programs: the service listed them with this file before llbatch created its own.
    pub others: Vec<String>,
    /// Time of the last request, in milliseconds since 1970.
    pub begun_at: Option<i64>,
    /// The same time by the service's clock, if known.
    pub begun_there: Option<i64>,
    /// Number of requests.
    pub tries: u32,
    /// A hash of the key, which tells accounts apart.
    pub account: Option<String>,
    /// Number of times that the service did not begin the batch, for a reason that passes.
    pub refusals: u32,
    /// Time of the last of them, in milliseconds since 1970.
    pub refused_at: Option<i64>,
}

/// A batch as the service reports it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RemoteBatch {
    /// The service's id.
    pub id: Option<String>,
    /// The service's last status.
    pub status: Option<BatchStatus>,
    /// Progress in percent.
    pub progress: Option<f64>,
    /// The service's id of the file of answers.
    pub output_file_id: Option<String>,
    /// The service's id of the file of failures.
    pub error_file_id: Option<String>,
    /// The reason of its failure or rejection.
    pub error: Option<String>,
    /// Deadline in RFC 3339.
    pub deadline: Option<String>,
    /// Creation time in RFC 3339.
    pub created_at: Option<String>,
    /// Completion time in RFC 3339.
    pub completed_at: Option<String>,
    /// Time since which the service does not know its id, in milliseconds since 1970.
    pub unknown_since: Option<i64>,
    /// Number of answers in a row by which the service did not know its id.
    pub unknown_times: u32,
    /// Time in milliseconds since 1970 when the service first lacked a file of results that it names. Only for a service
    /// that does not report when the batch ended.
    pub late_since: Option<i64>,
}

/// The downloaded results of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectedFiles {
    /// The breach of contract that the service committed in them.
    pub broken: Option<String>,
    /// Hash of the kept file of answers, once its results are stored.
    pub answers_hash: Option<String>,
    /// Hash of the kept file of failures, once its results are stored.
    pub failures_hash: Option<String>,
}

/// The cost of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchCost {
    /// The upper bound of its cost; `None`: unknown.
    pub upper_bound: Option<Nanos>,
    /// The budgets admit it.
    pub admitted: bool,
    /// Number of the prices, among those kept with the job, at which it was submitted. 0: the prices in force.
    pub prices: u32,
}

impl JobBatch {
    /// Returns whether its rows still wait for an outcome.
    pub fn is_open(&self) -> bool {
        self.step != BatchStep::Settled
    }

    /// Returns whether llbatch has not asked the service to create it yet.
    pub const fn is_unsent(&self) -> bool {
        matches!(self.step, BatchStep::Planned | BatchStep::Uploaded)
    }

    /// Returns whether the service did not begin it, so that llbatch will make it again.
    pub const fn is_postponed(&self) -> bool {
        self.is_unsent() && self.creation.refusals > 0
    }
}

/// The place of a body: in the downloaded files of a batch, or in the log of answers in real time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyPlace {
    /// It is in the file of failures, not in the file of answers.
    pub errors: bool,
    /// Offset of its first byte.
    pub at: u64,
    /// Length in bytes.
    pub len: u32,
}

impl JobDb {
    /// All batches of the job, by number.
    pub fn batches(&self) -> Result<Vec<JobBatch>> {
        let stored: Vec<(String, Option<u32>)> = self.run(|db| {
            let mut statement = db.prepare_cached("SELECT data, sum FROM batch ORDER BY number")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let read = |(text, sum): &(String, Option<u32>)| {
            let whole = sum.is_none_or(|sum| sum == crc32fast::hash(text.as_bytes()));
            let batch = serde_json::from_str(text).ok().filter(|_| whole);
            batch.ok_or_else(|| broken(self.path(), "the record of a batch is damaged"))
        };
        stored.iter().map(read).collect()
    }

    /// Writes a new or changed batch, and commits it with the open group. See [`Self::save_batch`].
    pub fn put_batch(&mut self, batch: &JobBatch) -> Result<()> {
        let data = serde_json::to_string(batch)
            .map_err(|e| Error::new(Exit::Failure, "a batch cannot be described").because(e))?;
        self.begin()?;
        self.run(|db| {
            db.prepare_cached("INSERT OR REPLACE INTO batch (number, data, sum) VALUES (?1, ?2, ?3)")?.execute(params![
                batch.number,
                data,
                crc32fast::hash(data.as_bytes())
            ])
        })?;
        Ok(())
    }

    /// Writes a batch to the disk at once.
    pub fn save_batch(&mut self, batch: &JobBatch) -> Result<()> {
        self.put_batch(batch)?;
        self.commit(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{ErrorCode, Fingerprint, Outcome, RowError, Usage};
    use crate::store::answer_files::{answers_name, failures_name};
    use crate::store::job::tests::{db, outcome};

    pub(in crate::store) fn batch(number: u32) -> JobBatch {
        let file = RequestFile { name: "llb.jsonl".into(), bytes: 10, ..RequestFile::default() };
        JobBatch { number, model: "m".into(), rows: 2, file, ..JobBatch::default() }
    }

    #[test]
    fn record_of_the_first_version_is_read() {
        let old = r#"{"number":1,"model":"m","endpoint":"","rows":2,"bytes":10,"sha256":"","name":"llb.jsonl","step":"planned"}"#;
        assert_eq!(serde_json::from_str::<JobBatch>(old).unwrap(), batch(1));
    }

    /// Other versions of llbatch read and write this text.
    #[test]
    fn record_is_written_as_it_was_read() {
        let full = concat!(
            r#"{"number":3,"model":"org/m","endpoint":"/v1/chat/completions","rows":2,"bytes":10,"sha256":"00","#,
            r#""name":"llb-j-1-3.jsonl","step":"submitted","file_id":"file-1","others":["theirs"],"begun_at":1790000000000,"#,
            r#""begun_there":null,"tries":1,"account":"acc","id":"b-1","status":"IN_PROGRESS","progress":12.5,"#,
            r#""output_file_id":null,"error_file_id":null,"error":null,"deadline":"2026-11-24T00:00:00Z","#,
            r#""created_at":"2026-11-23T00:00:00Z","completed_at":null,"most":0.00006,"admitted":true,"cancel":false,"#,
            r#""ended":false,"unknown_since":null,"unknown_times":0,"broken":null}"#,
        );
        let read: JobBatch = serde_json::from_str(full).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), full);
    }

    #[test]
    fn batch_is_read_back_as_it_was_saved() {
        let (_dir, mut db) = db();
        let mut first = batch(1);
        db.save_batch(&first).unwrap();
        first.step = BatchStep::Creating;
        first.creation.others = vec!["theirs".into()];
        first.remote.progress = Some(12.5);
        db.save_batch(&first).unwrap();
        db.save_batch(&batch(2)).unwrap();
        assert_eq!(db.batches().unwrap(), [first, batch(2)]);
    }

    #[test]
    fn common_answer_is_read_back_like_any_other() {
        let (dir, mut db) = db();
        std::fs::create_dir(dir.path().join("j")).unwrap();
        std::fs::write(dir.path().join("j").join(failures_name(2)), "{}").unwrap();
        let mut plain = outcome(1, 1, true);
        plain.body = Some("{}".into());
        (plain.batch, plain.status, plain.attempts, plain.wasted) = (Some(2), Some(200), 1, Usage::default());
        plain.usage = Some(Usage::new(7, 8));
        plain.reserve = Usage::new(9, 10);
        let mut rows = vec![plain.clone()];
        let changes: [fn(&mut Outcome); 7] = [
            |o| o.usage = None,
            |o| o.status = Some(201),
            |o| o.wasted.completion = 3,
            |o| o.attempts = 2,
            |o| o.latency_ms = 4,
            |o| o.first_token_ms = Some(3),
            |o| {
                let rule = Some("--choices".into());
                o.error = Some(RowError { rule, ..RowError::new(ErrorCode::InvalidAnswer, "no") });
            },
        ];
        for change in changes {
            let mut other = Outcome { row: rows.len() as u64 + 1, ..plain.clone() };
            change(&mut other);
            rows.push(other);
        }
        let place = BodyPlace { errors: true, at: 0, len: 2 };
        let stored: Vec<_> = rows.iter().map(|o| Outcome { body: None, ..o.clone() }).collect();
        db.put_joined(stored.iter().map(|outcome| (outcome, Some(place)))).unwrap();
        // An outcome without a place has no body, and must not get one.
        let bare = Outcome { row: 99, body: None, ..plain };
        db.put_joined([(&bare, None)]).unwrap();
        db.commit(true).unwrap();
        rows.push(bare);
        assert_eq!(db.outcomes(1, 100).unwrap(), rows);
    }

    #[test]
    fn row_may_be_asked_in_several_batches_and_answered_in_one() {
        let (dir, mut db) = db();
        let reserve = Usage::new(3, 4);
        for (batch, row, wire) in [(1, 1, None), (1, 2, Some("row-2")), (2, 2, None)] {
            let id = format!("id-{row}");
            let fingerprint = Fingerprint([row as u8; 16]);
            db.ask(batch, &Asked { row, id: &id, wire, fingerprint, reserve }).unwrap();
        }
        db.commit(true).unwrap();
        let asked = db.asked(1).unwrap();
        assert_eq!(asked.len(), 2);
        assert_eq!((asked[1].row, &*asked[1].id, asked[1].wire.as_deref()), (2, "id-2", Some("row-2")));
        assert_eq!((asked[1].fingerprint, asked[1].reserve), (Fingerprint([2; 16]), reserve));

        std::fs::create_dir(dir.path().join("j")).unwrap();
        std::fs::write(dir.path().join("j").join(answers_name(2)), "xx{\"a\":1}yy").unwrap();
        let mut answered = outcome(2, 2, true);
        answered.body = None;
        answered.batch = Some(2);
        db.put_joined([(&answered, Some(BodyPlace { errors: false, at: 2, len: 7 }))]).unwrap();
        db.commit(true).unwrap();
        let read = db.outcomes(1, 10).unwrap();
        assert_eq!((read[0].batch, read[0].body.as_deref()), (Some(2), Some("{\"a\":1}")));
        assert_eq!(db.counts().unwrap(), (1, 0));
        assert_eq!(db.to_do(4, |_| true).unwrap(), [1, 3, 4]);
        db.put_joined([(&outcome(3, 3, false), None)]).unwrap();
        assert_eq!(db.to_do(3, |code| code == ErrorCode::Timeout).unwrap(), [1, 3]);
        assert_eq!(db.to_do(3, |_| false).unwrap(), [1]);
        db.retire_asked(2).unwrap();
        db.commit(true).unwrap();
        assert_eq!(db.counts().unwrap(), (0, 1));
        let retired = db.retired().unwrap();
        let of_batch = retired.iter().find(|r| r.batch).unwrap();
        assert_eq!(of_batch.usage.unwrap().completion, 2, "{retired:?}");
    }
}
