use crate::outcome::{ErrorCode, Fingerprint, Outcome, Usage};
use crate::store::JobDb;

pub(in crate::store) fn outcome(row: u64, fp: u8, ok: bool) -> Outcome {
    let mut outcome = Outcome::unsent(row, format!("id-{row}").into(), "m".into(), ErrorCode::Timeout, "late");
    outcome.fingerprint = Fingerprint([fp; 16]);
    outcome.attempts = 2;
    outcome.wasted = Usage { prompt: 1, completion: 0 };
    if ok {
        outcome.error = None;
        outcome.status = Some(200);
        outcome.body = Some(format!("{{\"row\":{row}}}").into());
        outcome.usage = Some(Usage { prompt: 10, completion: row });
    }
    outcome
}

pub(in crate::store) fn db() -> (tempfile::TempDir, JobDb) {
    let dir = tempfile::tempdir().unwrap();
    let db = JobDb::open(&dir.path().join("j.db")).unwrap();
    (dir, db)
}

#[test]
fn outcomes_come_back_as_they_went_in() {
    let (dir, mut db) = db();
    let rows = [outcome(1, 1, true), outcome(2, 2, false), outcome(7, 3, true)];
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
    assert_eq!((retired[0].attempts, retired[0].wasted), (2, Usage { prompt: 1, completion: 0 }));
}

#[test]
fn attempts_count_until_there_is_an_outcome() {
    let (_dir, mut db) = db();
    let reserve = Usage { prompt: 7, completion: 5 };
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
    db.retire_lost(&[("m".into(), reserve), ("m".into(), Usage { prompt: 9, completion: 0 })]).unwrap();
    assert_eq!((db.claimed().unwrap(), db.unanswered(9).unwrap().len()), (0, 0));
    let seen = risk(&db);
    assert_eq!(seen.iter().map(|(risk, ..)| risk).sum::<u32>(), 4, "{seen:?}");
    assert_eq!(seen.iter().map(|(_, wasted, _)| wasted).sum::<u64>(), 1, "{seen:?}");
}
