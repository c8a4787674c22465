//! The database of one job: its rows, their outcomes, its batches.

mod checksum;
mod claims;
mod commit;
mod create;
mod damage;
mod followers;
mod judged;
mod outcomes;
mod placed;
mod prices;
mod retired;
mod totals;
mod urls;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::answer_files::AnswerFiles;
use super::answer_log::AnswerLog;
use super::{AddedColumn, Job, Journal, Journaling, Tables, broken, damaged, open_db};
use crate::error::{Error, Exit, Result};
pub(super) use checksum::{Checksum, RowName, of_asked};
use create::NewDb;
pub use followers::LeaderOutcome;
pub use placed::PlacedFile;
pub(super) use retired::RETIRED;
pub use retired::Retired;

/// The pages in `SQLite`'s own log (WAL) at which it is merged into the database. 64 MiB keep a fast run from stalling every few
/// thousand rows.
const CHECKPOINT_PAGES: u32 = 8192;

/// The open database of one job.
#[derive(Debug)]
pub struct JobDb {
    db: Connection,
    path: PathBuf,
    writing: bool,
    /// The table of totals is known to be there.
    has_totals_table: bool,
    /// A power cut may take something that was committed.
    unsynced: bool,
    /// Rows that were claimed by their numbers since those with an outcome were forgotten.
    claimed_rows: usize,
    /// All prices that are kept with the job, by number.
    kept_prices: Vec<(u32, String)>,
    /// All base URLs that are kept with the job, by number.
    kept_urls: Vec<(u32, String)>,
    pub(super) answers: AnswerFiles,
    log: AnswerLog,
    journal: Journal,
    /// `None`: an earlier process, or another connection of this one, has created it.
    new: Option<NewDb>,
}

const TABLES: Tables = Tables {
    schema: include_str!("job.sql"),
    added: &[
        AddedColumn { table: "outcome", name: "batch", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "side", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "at", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "len", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "sum", kind: "INTEGER" },
        AddedColumn { table: "set_aside", name: "sum", kind: "INTEGER" },
        AddedColumn { table: "batch", name: "sum", kind: "INTEGER" },
        AddedColumn { table: "request", name: "sum", kind: "INTEGER" },
        AddedColumn { table: "retired", name: "batch", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "prices", kind: "INTEGER" },
        AddedColumn { table: "set_aside", name: "prices", kind: "INTEGER" },
        AddedColumn { table: "retired", name: "prices", kind: "INTEGER" },
        AddedColumn { table: "tried", name: "prices", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "cached", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "reasoning", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "wasted_cached", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "wasted_reasoning", kind: "INTEGER" },
        AddedColumn { table: "set_aside", name: "cached", kind: "INTEGER" },
        AddedColumn { table: "set_aside", name: "reasoning", kind: "INTEGER" },
        AddedColumn { table: "set_aside", name: "wasted_cached", kind: "INTEGER" },
        AddedColumn { table: "set_aside", name: "wasted_reasoning", kind: "INTEGER" },
        AddedColumn { table: "retired", name: "cached", kind: "INTEGER" },
        AddedColumn { table: "retired", name: "reasoning", kind: "INTEGER" },
        AddedColumn { table: "retired", name: "wasted_cached", kind: "INTEGER" },
        AddedColumn { table: "retired", name: "wasted_reasoning", kind: "INTEGER" },
        AddedColumn { table: "tried", name: "wasted_cached", kind: "INTEGER" },
        AddedColumn { table: "tried", name: "wasted_reasoning", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "url", kind: "INTEGER" },
        AddedColumn { table: "set_aside", name: "url", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "leader", kind: "INTEGER" },
        AddedColumn { table: "set_aside", name: "leader", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "first_token_ms", kind: "INTEGER" },
        AddedColumn { table: "set_aside", name: "first_token_ms", kind: "INTEGER" },
        AddedColumn { table: "outcome", name: "rule", kind: "TEXT" },
        AddedColumn { table: "set_aside", name: "rule", kind: "TEXT" },
    ],
};

impl JobDb {
    /// The same, as on a local disk.
    #[cfg(test)]
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Journaling::Log)
    }

    /// Opens the database at `path`.
    ///
    /// # Errors
    /// 74 if it is missing, empty or damaged. To create it anew would forget what was sent.
    pub(super) fn open_with(path: &Path, journaling: Journaling) -> Result<Self> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.len() == 0 => return Err(broken(path, "the job's database is empty")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(broken(path, "the job's database is missing"));
            }
            _ => {}
        }
        Self::with(path, journaling)
    }

    fn with(path: &Path, journaling: Journaling) -> Result<Self> {
        let db = open_db(path, TABLES, journaling)?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(|e| damaged(path, &e))?;
        db.set_prepared_statement_cache_capacity(32);
        let kept_prices = prices::read(&db).map_err(|e| damaged(path, &e))?;
        let kept_urls = urls::read(&db).map_err(|e| damaged(path, &e))?;
        let (answers, log, journal) = (AnswerFiles::new(path), AnswerLog::new(path), Journal::of(path, journaling));
        Ok(Self {
            db,
            answers,
            log,
            journal,
            path: path.to_owned(),
            writing: false,
            has_totals_table: false,
            unsynced: true,
            claimed_rows: 0,
            kept_prices,
            kept_urls,
            new: None,
        })
    }

    /// Keeps a copy of the job's entry, from which a lost index is made anew. It is on disk when this returns.
    pub fn put_entry(&mut self, job: &Job) -> Result<()> {
        let data = described(job)?;
        self.begin()?;
        self.run(|db| db.execute(PUT_ENTRY, [data]))?;
        self.commit(true)
    }

    /// The copy of the job's entry. `None`: an earlier llbatch has written the file.
    pub fn entry(&self) -> Result<Option<Job>> {
        let data = self.run(|db| db.query_row("SELECT data FROM entry", [], |row| row.get(0)).optional())?;
        data.map(|data: String| serde_json::from_str(&data))
            .transpose()
            .map_err(|e| broken(&self.path, &format!("the job's entry cannot be read: {e}")))
    }

    /// A number that changes when another connection writes.
    pub fn version(&self) -> Result<i64> {
        self.run(|db| db.pragma_query_value(None, "data_version", |row| row.get(0)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn run<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        act(&self.db).map_err(|e| damaged(&self.path, &e))
    }
}

/// Writes the copy of the job's entry.
const PUT_ENTRY: &str = "INSERT OR REPLACE INTO entry (only, data) VALUES (1, ?1)";

fn described(job: &Job) -> Result<String> {
    serde_json::to_string(job).map_err(|e| Error::new(Exit::Failure, "a job cannot be described").because(e))
}

#[cfg(test)]
pub(super) mod tests {
    use crate::error::Exit;
    use crate::outcome::{ErrorCode, Fingerprint, Outcome, Transport, Usage};
    use crate::store::{Job, JobDb};

    pub(in crate::store) fn outcome(row: u64, fp: u8, ok: bool) -> Outcome {
        let mut outcome = Outcome::unsent(row, format!("id-{row}").into(), "m".into(), ErrorCode::Timeout, "late");
        outcome.fingerprint = Fingerprint([fp; 16]);
        outcome.attempts = 2;
        outcome.wasted = Usage { cached: 1, ..Usage::new(1, 0) };
        if ok {
            outcome.error = None;
            outcome.status = Some(200);
            outcome.body = Some(format!("{{\"row\":{row}}}").into());
            outcome.usage = Some(Usage { cached: 7, reasoning: 1, ..Usage::new(10, row) });
        }
        outcome
    }

    pub(in crate::store) fn db() -> (tempfile::TempDir, JobDb) {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(Transport::Realtime, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        let db = JobDb::create(&dir.path().join("j.db"), &job).unwrap();
        (dir, db)
    }

    #[test]
    fn missing_or_empty_database_is_an_error_and_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j-1.db");
        for what in ["missing", "empty"] {
            if what == "empty" {
                std::fs::write(&path, "").unwrap();
            }
            let error = JobDb::open(&path).unwrap_err();
            assert!(error.exit == Exit::Io && error.message.ends_with(&format!("database is {what}")), "{error}");
            let hint = error.hint.unwrap();
            assert!(hint.contains("`llbatch status --remote`") && hint.contains("`llbatch fetch BATCH-ID"), "{hint}");
            assert_eq!(std::fs::metadata(&path).map_or(0, |meta| meta.len()), 0);
        }
    }

    /// Takes columns out of a database, so that it is as an earlier version wrote it.
    fn downgrade(path: &std::path::Path, format: u32, columns: &[(&str, &[&str])]) {
        let old = rusqlite::Connection::open(path).unwrap();
        for (table, names) in columns {
            for name in *names {
                old.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN {name}")).unwrap();
            }
        }
        old.execute_batch("DROP TABLE sent").unwrap();
        old.pragma_update(None, "user_version", format).unwrap();
    }

    #[test]
    fn database_of_an_earlier_format_is_upgraded() {
        const PARTS: [&str; 8] =
            ["url", "cached", "reasoning", "wasted_cached", "wasted_reasoning", "leader", "first_token_ms", "rule"];
        let sums = ["sum", "prices", PARTS[0], PARTS[1], PARTS[2], PARTS[3], PARTS[4], PARTS[5], PARTS[6], PARTS[7]];
        let retired = ["prices", PARTS[1], PARTS[2], PARTS[3], PARTS[4]];
        let format_3: &[(&str, &[&str])] = &[
            ("outcome", &sums),
            ("set_aside", &sums),
            ("retired", &retired),
            ("tried", &["prices", PARTS[3], PARTS[4]]),
            ("batch", &["sum"]),
            ("request", &["sum"]),
        ];
        let format_5: &[(&str, &[&str])] =
            &[("outcome", &PARTS), ("set_aside", &PARTS), ("retired", &PARTS[1..5]), ("tried", &PARTS[3..5])];
        let later = ["url", "leader", "first_token_ms", "rule"];
        let format_7: &[(&str, &[&str])] = &[("outcome", &later), ("set_aside", &later)];
        let format_8: &[(&str, &[&str])] = &[("outcome", &later[1..]), ("set_aside", &later[1..])];
        let format_9: &[(&str, &[&str])] = &[("outcome", &later[2..]), ("set_aside", &later[2..])];
        let format_10: &[(&str, &[&str])] = &[("outcome", &later[3..]), ("set_aside", &later[3..])];
        // Format 13 has one table more.
        let formats =
            [(3, format_3), (5, format_5), (7, format_7), (8, format_8), (9, format_9), (10, format_10), (12, &[])];
        for (format, columns) in formats {
            let (dir, mut db) = db();
            let mut plain = outcome(1, 1, true);
            (plain.usage, plain.wasted) = (Some(Usage::new(10, 1)), Usage::new(1, 0));
            // Its body lies in the row, where those of earlier formats are.
            db.put_joined([(&plain, None)]).unwrap();
            db.claim(3).unwrap();
            db.commit(true).unwrap();
            drop(db);
            let path = dir.path().join("j.db");
            downgrade(&path, format, columns);
            let mut db = JobDb::open(&path).unwrap();
            assert_eq!(db.outcomes(1, 10).unwrap(), [plain.clone()], "format {format}");
            // The claim of a killed run stands, and rows may be claimed out of order.
            assert_eq!(db.unanswered(9).unwrap(), [2, 3], "format {format}");
            db.retire_lost(&[]).unwrap();
            db.claim_rows(&[5, 3]).unwrap();
            assert_eq!(db.unanswered(9).unwrap(), [3, 5], "format {format}");
            db.release().unwrap();
            // Outcomes that are added later have all their columns.
            db.put(&outcome(2, 2, true)).unwrap();
            db.put_tried(&outcome(3, 3, false)).unwrap();
            db.commit(false).unwrap();
            assert_eq!(db.outcomes(1, 10).unwrap(), [plain, outcome(2, 2, true)], "format {format}");
            assert_eq!(db.retired().unwrap()[0].wasted, outcome(3, 3, false).wasted, "format {format}");
        }
    }

    #[test]
    fn outcomes_come_back_as_they_went_in() {
        let (dir, mut db) = db();
        let rows = [outcome(1, 1, true), outcome(2, 2, false), Outcome { url: 2, ..outcome(7, 3, true) }];
        for row in &rows {
            db.put(row).unwrap();
        }
        db.claim(9).unwrap();
        db.commit(true).unwrap();
        let other = JobDb::open(&dir.path().join("j.db")).unwrap();
        assert_eq!(other.outcomes(1, 10).unwrap(), rows);
        assert_eq!(other.outcomes(3, 10).unwrap().len(), 1);
        assert_eq!(other.unanswered(10).unwrap(), [3, 4, 5, 6, 8, 9]);
        assert_eq!(other.unanswered(3).unwrap(), [3, 4, 5]);
    }

    #[test]
    fn long_bodies_are_read_back_a_few_at_a_time() {
        let (_dir, mut db) = db();
        let long = |row| Outcome { body: Some("x".repeat(600_000).into()), ..outcome(row, 1, true) };
        let rows: Vec<Outcome> = (1..=5).map(long).chain([outcome(6, 1, true), outcome(7, 1, true)]).collect();
        for row in &rows {
            db.put(row).unwrap();
        }
        db.commit(false).unwrap();
        assert_eq!(db.outcomes(1, 10).unwrap(), rows[..2]);
        assert_eq!(db.outcomes(5, 10).unwrap(), rows[4..]);
    }

    #[test]
    fn uncommitted_outcome_is_not_there() {
        let (dir, mut db) = db();
        db.put(&outcome(1, 1, true)).unwrap();
        db.commit(false).unwrap();
        db.put(&outcome(2, 1, true)).unwrap();
        drop(db);
        let db = JobDb::open(&dir.path().join("j.db")).unwrap();
        assert_eq!(db.outcomes(1, 10).unwrap().len(), 1);
    }

    #[test]
    fn failed_group_can_be_rolled_back_and_written_again() {
        let (dir, mut db) = db();
        db.put(&outcome(1, 1, true)).unwrap();
        db.commit(false).unwrap();
        db.put(&outcome(2, 2, true)).unwrap();
        // SQLite does so by itself after some errors of the disk.
        db.run(|db| db.execute_batch("ROLLBACK")).unwrap();
        db.commit(false).unwrap_err();
        for _ in 0..2 {
            db.undo().unwrap();
            db.put(&outcome(2, 2, true)).unwrap();
        }
        db.commit(true).unwrap();
        drop(db);
        let db = JobDb::open(&dir.path().join("j.db")).unwrap();
        assert_eq!(db.outcomes(1, 10).unwrap().len(), 2);
    }

    #[test]
    fn failed_row_is_set_aside_and_its_cost_is_kept() {
        let (_dir, mut db) = db();
        db.put(&outcome(1, 1, true)).unwrap();
        db.put(&outcome(2, 2, false)).unwrap();
        assert_eq!(db.set_aside(|_| true).unwrap(), 1);
        assert_eq!(db.outcomes(1, 10).unwrap().len(), 1);
        let retired = db.retired().unwrap();
        assert_eq!((retired[0].attempts, retired[0].wasted), (2, Usage { cached: 1, ..Usage::new(1, 0) }));
    }

    #[test]
    fn attempts_count_until_there_is_an_outcome() {
        let (_dir, mut db) = db();
        let reserve = Usage::new(7, 5);
        let mut so_far = Outcome { at_risk: 1, reserve, ..outcome(3, 3, false) };
        db.claim(9).unwrap();
        db.put_tried(&so_far).unwrap();
        so_far.at_risk = 2;
        db.put_tried(&so_far).unwrap();
        db.put_tried(&outcome(4, 4, false)).unwrap();
        db.put(&outcome(4, 4, true)).unwrap();
        db.commit(false).unwrap();
        let risk = |db: &JobDb| {
            let all = db.retired().unwrap();
            all.iter().map(|r| (r.at_risk, r.wasted.prompt * u64::from(r.count), r.reserve)).collect::<Vec<_>>()
        };
        assert_eq!(risk(&db), [(2, 1, reserve)]);
        // The process dies while row 3 is in flight once more, and row 5 for the first time.
        db.retire_lost(&[("m".into(), reserve), ("m".into(), Usage::new(9, 0))]).unwrap();
        assert_eq!((db.claimed().unwrap(), db.unanswered(9).unwrap().len()), (0, 0));
        let seen = risk(&db);
        assert_eq!(seen.iter().map(|(risk, ..)| risk).sum::<u32>(), 4, "{seen:?}");
        assert_eq!(seen.iter().map(|(_, wasted, _)| wasted).sum::<u64>(), 1, "{seen:?}");
    }
}
