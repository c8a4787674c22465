//! The Together batches of a job: what is intended, what is known of each, which rows it was asked, what it answered.
//!
//! A batch is written down before each act on it, and on the disk before the act: whoever comes after a killed process
//! finds what may have happened.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::job::RETIRED;
use super::{JobDb, damaged};
use crate::error::{Error, Exit, Result};
use crate::outcome::{ErrorCode, Fingerprint, Outcome, Usage};
use crate::price::Nanos;

/// How far a batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Its file is on our disk; it may be uploaded any number of times.
    Planned,
    /// Its file is with the service.
    Uploaded,
    /// The request that creates it may have been sent. Whether it was received, the service's list must tell.
    Creating,
    /// It has an id.
    Submitted,
    /// The service said that it will not have it.
    Refused,
    /// It ended, and its results are among the job's outcomes.
    Settled,
}

/// One Together batch of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchJob {
    /// 1-based over all submissions of the job.
    pub number: u32,
    /// The model of all its rows.
    pub model: String,
    /// As the service is told: `/v1/chat/completions`.
    pub endpoint: String,
    /// Its rows.
    pub rows: u64,
    /// Size of its file.
    pub bytes: u64,
    /// Of its file, lower-case hex.
    pub sha256: String,
    /// Its file's name, unique to this batch.
    pub name: String,
    /// How far it has come.
    pub step: Step,
    /// The service's id of its file.
    #[serde(default)]
    pub file_id: Option<String>,
    /// Batches that the service listed with this file before ours was created: they are not ours.
    #[serde(default)]
    pub others: Vec<String>,
    /// When its creation was last begun, in milliseconds since 1970.
    #[serde(default)]
    pub begun_at: Option<i64>,
    /// How often its creation was begun.
    #[serde(default)]
    pub tries: u32,
    /// Tells accounts apart: a hash of the key that was used.
    #[serde(default)]
    pub account: Option<String>,
    /// The service's id.
    #[serde(default)]
    pub id: Option<String>,
    /// The service's last word on where it is, in capitals.
    #[serde(default)]
    pub status: Option<String>,
    /// Percent.
    #[serde(default)]
    pub progress: Option<f64>,
    /// Answers.
    #[serde(default)]
    pub output_file_id: Option<String>,
    /// Failures.
    #[serde(default)]
    pub error_file_id: Option<String>,
    /// Why it failed or was refused.
    #[serde(default)]
    pub error: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub deadline: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub completed_at: Option<String>,
    /// The most that it can cost; `None`: not known.
    #[serde(default)]
    pub most: Option<Nanos>,
    /// The budgets let it be submitted.
    #[serde(default)]
    pub admitted: bool,
    /// The user wants it to end.
    #[serde(default)]
    pub cancel: bool,
    /// The service has ended it (its status is final), or will never begin it.
    #[serde(default)]
    pub ended: bool,
    /// Since when the service does not know its id, in milliseconds since 1970.
    #[serde(default)]
    pub unknown_since: Option<i64>,
    /// How often it said so, one after the other.
    #[serde(default)]
    pub unknown_times: u32,
    /// The service broke its contract in the results.
    #[serde(default)]
    pub broken: Option<String>,
}

impl BatchJob {
    /// Whether its rows still wait for an end.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.step != Step::Settled
    }
}

/// A row as it was asked in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// 1-based over all inputs.
    pub row: u64,
    /// The user's id.
    pub id: Box<str>,
    /// What travelled in its place.
    pub wire: Option<Box<str>>,
    /// Of the request.
    pub fingerprint: Fingerprint,
    /// Most that it can cost.
    pub reserve: Usage,
}

/// Where in a batch's files a body stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In the file of failures, not in that of answers.
    pub errors: bool,
    /// From this byte on.
    pub at: u64,
    /// Bytes.
    pub len: u32,
}

/// An answer like nearly all: what is not written with it is the same for all of them.
fn is_plain(outcome: &Outcome) -> bool {
    outcome.ok()
        && outcome.status == Some(200)
        && outcome.body.is_none()
        && outcome.wasted == Usage::default()
        && (outcome.at_risk, outcome.attempts, outcome.refused, outcome.latency_ms) == (0, 1, 0, 0)
}

impl JobDb {
    /// The job's batches, in their order.
    ///
    /// # Errors
    /// 74 if they cannot be read.
    pub fn batches(&self) -> Result<Vec<BatchJob>> {
        let texts: Vec<String> = self.run(|db| {
            let mut statement = db.prepare_cached("SELECT data FROM batch ORDER BY number")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })?;
        texts
            .iter()
            .map(|text| {
                serde_json::from_str(text)
                    .map_err(|e| damaged(self.path(), &rusqlite::Error::ToSqlConversionFailure(Box::new(e))))
            })
            .collect()
    }

    /// Writes a batch, new or changed; with the open group. [`Self::save_batch`] for what must be on the disk at once.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn put_batch(&mut self, batch: &BatchJob) -> Result<()> {
        let data = serde_json::to_string(batch)
            .map_err(|e| Error::new(Exit::Failure, "a batch cannot be described").because(e))?;
        self.begin()?;
        self.run(|db| {
            db.prepare_cached("INSERT OR REPLACE INTO batch (number, data) VALUES (?1, ?2)")?
                .execute(params![batch.number, data])
        })?;
        Ok(())
    }

    /// Writes a batch; it is on the disk when this returns.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn save_batch(&mut self, batch: &BatchJob) -> Result<()> {
        self.put_batch(batch)?;
        self.commit(true)
    }

    /// Writes down that a row is asked in a batch. Commits with the open group.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn ask(
        &mut self,
        batch: u32,
        row: u64,
        id: &str,
        wire: Option<&str>,
        fp: Fingerprint,
        reserve: Usage,
    ) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.prepare_cached("INSERT INTO request VALUES (?,?,?,?,?,?,?)")?.execute(params![
                batch,
                row.cast_signed(),
                &fp.0[..],
                id,
                wire,
                reserve.prompt.cast_signed(),
                reserve.completion.cast_signed()
            ])
        })?;
        Ok(())
    }

    /// The rows that were asked in a batch, ascending.
    ///
    /// # Errors
    /// 74 if they cannot be read.
    pub fn asked(&self, batch: u32) -> Result<Vec<Asked>> {
        self.run(|db| {
            let mut statement = db.prepare_cached(
                "SELECT row, id, wire, fp, reserve_p, reserve_c FROM request WHERE batch = ?1 ORDER BY row",
            )?;
            let rows = statement.query_map([batch], |row| {
                let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
                let fp = row.get_ref(3)?.as_blob()?.try_into().map_err(|_| rusqlite::Error::InvalidQuery)?;
                Ok(Asked {
                    row: number(0)?,
                    id: row.get_ref(1)?.as_str()?.into(),
                    wire: row.get_ref(2)?.as_str_or_null()?.map(Into::into),
                    fingerprint: Fingerprint(fp),
                    reserve: Usage { prompt: number(4)?, completion: number(5)? },
                })
            })?;
            rows.collect()
        })
    }

    /// Writes the outcomes of rows of a batch, their bodies perhaps left at places of the batch's files. Commits with the
    /// open group.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn put_joined<'a>(&mut self, joined: impl IntoIterator<Item = (&'a Outcome, Option<Place>)>) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            let mut any =
                db.prepare_cached("INSERT INTO outcome VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")?;
            // Nearly every row; half the columns to bind.
            let mut plain = db.prepare_cached(
                "INSERT INTO outcome VALUES (?,?,1,?,?,NULL,NULL,200,?,?,0,0,0,?,?,1,0,0,NULL,?,?,?,?)",
            )?;
            for (outcome, place) in joined {
                if let Some(place) = place.filter(|_| is_plain(outcome)) {
                    plain.execute(params![
                        outcome.row.cast_signed(),
                        &outcome.fingerprint.0[..],
                        &*outcome.id,
                        &*outcome.model,
                        outcome.usage.map(|u| u.prompt.cast_signed()),
                        outcome.usage.map(|u| u.completion.cast_signed()),
                        outcome.reserve.prompt.cast_signed(),
                        outcome.reserve.completion.cast_signed(),
                        outcome.batch,
                        place.errors,
                        place.at.cast_signed(),
                        place.len,
                    ])?;
                    continue;
                }
                any.execute(params![
                    outcome.row.cast_signed(),
                    &outcome.fingerprint.0[..],
                    outcome.ok(),
                    &*outcome.id,
                    &*outcome.model,
                    outcome.error.as_ref().map(|e| e.code.as_str()),
                    outcome.error.as_ref().map(|e| e.message.as_str()),
                    outcome.status,
                    outcome.usage.map(|u| u.prompt.cast_signed()),
                    outcome.usage.map(|u| u.completion.cast_signed()),
                    outcome.wasted.prompt.cast_signed(),
                    outcome.wasted.completion.cast_signed(),
                    outcome.at_risk,
                    outcome.reserve.prompt.cast_signed(),
                    outcome.reserve.completion.cast_signed(),
                    outcome.attempts,
                    outcome.refused,
                    outcome.latency_ms,
                    outcome.body.as_deref(),
                    outcome.batch,
                    place.map(|place| place.errors),
                    place.map(|place| place.at.cast_signed()),
                    place.map(|place| place.len),
                ])?;
            }
            Ok(())
        })
    }

    /// The body at a place of a batch's files.
    ///
    /// # Errors
    /// 74 if it cannot be read.
    pub fn body(&self, batch: u32, place: Place) -> Result<Box<str>> {
        self.kept.body(batch, place)
    }

    /// Forgets rows that were to be asked in batches from `number` on, of which none was written down: a plan that was cut
    /// short is made anew.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn forget_plan(&mut self, number: u32) -> Result<()> {
        self.begin()?;
        self.run(|db| db.execute("DELETE FROM request WHERE batch >= ?1", [number]))?;
        self.commit(false)
    }

    /// Takes the outcomes of all rows out that are asked in batches from `number` on; what they cost is kept. Commits with
    /// the open group.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn retire_asked(&mut self, number: u32) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            let asked = "row IN (SELECT row FROM request WHERE batch >= ?1)";
            db.execute(
                &format!("INSERT INTO retired SELECT {RETIRED} FROM outcome WHERE {asked} AND attempts > 0"),
                [number],
            )?;
            db.execute(&format!("DELETE FROM outcome WHERE {asked}"), [number])
        })?;
        Ok(())
    }

    /// Calls `each` with every row that a batch may still answer.
    ///
    /// # Errors
    /// 74 if they cannot be read.
    pub fn each_awaited(&self, mut each: impl FnMut(u64)) -> Result<()> {
        for batch in self.batches()?.into_iter().filter(BatchJob::is_open) {
            self.run(|db| {
                let mut statement = db.prepare_cached("SELECT row FROM request WHERE batch = ?1")?;
                let mut rows = statement.query([batch.number])?;
                while let Some(row) = rows.next()? {
                    each(row.get::<_, i64>(0)?.cast_unsigned());
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Rows without an outcome, and failed rows that `again` picks by their error's code: ascending.
    ///
    /// # Errors
    /// 74 if they cannot be read.
    pub fn to_do(&self, total: u64, mut again: impl FnMut(ErrorCode) -> bool) -> Result<Vec<u64>> {
        let mut rows = Vec::new();
        let mut next = 1;
        self.run(|db| {
            let mut statement = db.prepare_cached("SELECT row, code FROM outcome ORDER BY row")?;
            let mut found = statement.query([])?;
            while let Some(outcome) = found.next()? {
                let row = outcome.get::<_, i64>(0)?.cast_unsigned();
                rows.extend(next..row);
                next = row + 1;
                if let Some(code) = outcome.get_ref(1)?.as_str_or_null()?
                    && again(ErrorCode::parse(code).unwrap_or(ErrorCode::BadResponse))
                {
                    rows.push(row);
                }
            }
            Ok(())
        })?;
        rows.extend(next..=total);
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::{db, outcome};
    use super::super::kept::{answers_name, failures_name};
    use super::*;

    pub(in crate::store) fn batch(number: u32) -> BatchJob {
        serde_json::from_value(serde_json::json!({
            "number": number, "model": "m", "endpoint": "/v1/chat/completions", "rows": 2, "bytes": 10, "sha256": "00",
            "name": "llb.jsonl", "step": "planned"
        }))
        .expect("a batch")
    }

    #[test]
    fn a_batch_is_read_back_as_it_was_saved() {
        let (_dir, mut db) = db();
        let mut first = batch(1);
        db.save_batch(&first).expect("a write");
        first.step = Step::Creating;
        first.others = vec!["theirs".into()];
        first.progress = Some(12.5);
        db.save_batch(&first).expect("a write");
        db.save_batch(&batch(2)).expect("a write");
        assert_eq!(db.batches().expect("batches"), [first, batch(2)]);
    }

    #[test]
    fn an_answer_like_all_others_is_read_back_as_any_other() {
        let (dir, mut db) = db();
        std::fs::create_dir(dir.path().join("j")).expect("a directory");
        std::fs::write(dir.path().join("j").join(failures_name(2)), "{}").expect("a file");
        let mut plain = outcome(1, 1, true);
        plain.body = Some("{}".into());
        (plain.batch, plain.status, plain.attempts, plain.wasted) = (Some(2), Some(200), 1, Usage::default());
        plain.usage = Some(Usage { prompt: 7, completion: 8 });
        plain.reserve = Usage { prompt: 9, completion: 10 };
        let mut rows = vec![plain.clone()];
        let changes: [fn(&mut Outcome); 5] = [
            |o| o.usage = None,
            |o| o.status = Some(201),
            |o| o.wasted.completion = 3,
            |o| o.attempts = 2,
            |o| o.latency_ms = 4,
        ];
        for change in changes {
            let mut other = Outcome { row: rows.len() as u64 + 1, ..plain.clone() };
            change(&mut other);
            rows.push(other);
        }
        let place = Place { errors: true, at: 0, len: 2 };
        let stored: Vec<_> = rows.iter().map(|o| Outcome { body: None, ..o.clone() }).collect();
        db.put_joined(stored.iter().map(|outcome| (outcome, Some(place)))).expect("a write");
        // Without a place it has no body, and must not get one.
        let bare = Outcome { row: 99, body: None, ..plain };
        db.put_joined([(&bare, None)]).expect("a write");
        db.commit(true).expect("a commit");
        rows.push(bare);
        assert_eq!(db.outcomes(1, 100).expect("rows"), rows);
    }

    #[test]
    fn rows_are_asked_in_several_batches_and_answered_in_one() {
        let (dir, mut db) = db();
        let reserve = Usage { prompt: 3, completion: 4 };
        for (batch, row, wire) in [(1, 1, None), (1, 2, Some("row-2")), (2, 2, None)] {
            db.ask(batch, row, &format!("id-{row}"), wire, Fingerprint([row as u8; 16]), reserve).expect("a write");
        }
        db.commit(true).expect("a commit");
        let asked = db.asked(1).expect("rows");
        assert_eq!(asked.len(), 2);
        assert_eq!((asked[1].row, &*asked[1].id, asked[1].wire.as_deref()), (2, "id-2", Some("row-2")));
        assert_eq!((asked[1].fingerprint, asked[1].reserve), (Fingerprint([2; 16]), reserve));

        std::fs::create_dir(dir.path().join("j")).expect("a directory");
        std::fs::write(dir.path().join("j").join(answers_name(2)), "xx{\"a\":1}yy").expect("a file");
        let mut answered = outcome(2, 2, true);
        answered.body = None;
        answered.batch = Some(2);
        db.put_joined([(&answered, Some(Place { errors: false, at: 2, len: 7 }))]).expect("a write");
        db.commit(true).expect("a commit");
        let read = db.outcomes(1, 10).expect("rows");
        assert_eq!((read[0].batch, read[0].body.as_deref()), (Some(2), Some("{\"a\":1}")));
        assert_eq!(db.counts().expect("counts"), (1, 0));
        assert_eq!(db.to_do(4, |_| true).expect("rows"), [1, 3, 4]);
        db.put_joined([(&outcome(3, 3, false), None)]).expect("a write");
        assert_eq!(db.to_do(3, |code| code == ErrorCode::Timeout).expect("rows"), [1, 3]);
        assert_eq!(db.to_do(3, |_| false).expect("rows"), [1]);
        db.retire_row(3).expect("a write");
        db.retire_asked(2).expect("a write");
        db.commit(true).expect("a commit");
        assert_eq!(db.counts().expect("counts"), (0, 0));
        let retired = db.retired().expect("sums");
        let of_batch = retired.iter().find(|r| r.batch).expect("the row of batch 2");
        assert_eq!(of_batch.usage.expect("a usage").completion, 2, "{retired:?}");
    }
}
