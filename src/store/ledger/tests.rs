use super::*;
use crate::price::Nanos;

fn job(name: Option<&str>, key: &str) -> Job {
    Job {
        name: name.map(str::to_owned),
        state: State::Running,
        total: 3,
        ..Job::new(Transport::Realtime, key.to_owned(), "in.jsonl".to_owned(), "{}".to_owned())
    }
}

#[test]
fn a_job_is_found_by_every_name_it_has() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
    assert_eq!(ledger.find("last").expect_err("none yet").exit, Exit::Usage);
    let first = ledger.create(job(Some("nightly"), "k")).expect("a job");
    let second = ledger.create(job(None, "k")).expect("a job");
    assert_ne!(first.id, second.id);
    assert_eq!(ledger.find("last").expect("last").id, second.id);
    assert_eq!(ledger.find("nightly").expect("by name").id, first.id);
    assert_eq!(ledger.find(&first.id).expect("by id").id, first.id);
    assert_eq!(ledger.find(&first.id[..8]).expect("by prefix").id, first.id);
    assert_eq!(ledger.find(&first.id[2..9]).expect("by prefix without j-").id, first.id);
    assert!(ledger.find("j-").expect_err("ambiguous").message.contains(&second.id));
    assert!(ledger.find("%").is_err());
    let all: Vec<String> = ledger.all_of("k").expect("a query").into_iter().map(|j| j.id).collect();
    assert_eq!(all, [second.id.clone(), first.id.clone()]);
    assert_eq!(ledger.last_of("k").expect("a query").map(|j| j.id), Some(second.id));
}

#[test]
fn many_may_bring_up_an_old_index_at_once() {
    for _ in 0..6 {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        let kept = Ledger::open(&path).expect("a ledger").create(job(None, "k")).expect("a job").id;
        // As an earlier llbatch left it.
        let old = rusqlite::Connection::open(&path).expect("a database");
        for added in UPGRADE.split(';').filter(|text| !text.trim().is_empty()) {
            let words: Vec<&str> = added.split_whitespace().collect();
            old.execute_batch(&format!("ALTER TABLE {} DROP COLUMN {}", words[2], words[5])).expect("a column");
        }
        old.pragma_update(None, "user_version", 1).expect("a format");
        drop(old);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Ledger::open(&path).expect("a ledger").find(&kept).expect("the job"));
            }
        });
    }
}

#[test]
fn many_may_open_a_new_index_at_once() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Ledger::open(&path).expect("a ledger").create(job(None, "k")).expect("a job"));
            }
        });
        assert_eq!(Ledger::open(&path).expect("a ledger").all_of("k").expect("jobs").len(), 16);
    }
}

#[test]
fn what_is_updated_is_read_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
    let mut job = ledger.create(job(None, "k")).expect("a job");
    job.state = State::Partial;
    job.cost = Some(Nanos(1_234_567_890_123));
    job.succeeded = 2;
    job.failed = 1;
    job.exit = Some(3);
    job.estimate = Some(Nanos(7));
    job.delivered = true;
    ledger.update(&job).expect("an update");
    let mut read = ledger.find(&job.id).expect("the job");
    read.updated_at = job.updated_at;
    assert_eq!(read, job);
}
