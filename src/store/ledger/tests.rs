use super::*;
use crate::price::Nanos;

fn job(name: Option<&str>, key: &str) -> Job {
    Job {
        name: name.map(str::to_owned),
        state: JobState::Running,
        total: 3,
        ..Job::new(Transport::Realtime, key.to_owned(), "in.jsonl".to_owned(), "{}".to_owned())
    }
}

#[test]
fn job_is_found_by_every_name_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    assert_eq!(ledger.find("last").unwrap_err().exit, Exit::Usage);
    let first = ledger.create(job(Some("nightly"), "k")).unwrap();
    let second = ledger.create(job(None, "k")).unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(ledger.find("last").unwrap().id, second.id);
    assert_eq!(ledger.find("nightly").unwrap().id, first.id);
    assert_eq!(ledger.find(&first.id).unwrap().id, first.id);
    assert_eq!(ledger.find(&first.id[..8]).unwrap().id, first.id);
    assert_eq!(ledger.find(&first.id[2..9]).unwrap().id, first.id);
    assert!(ledger.find("j-").unwrap_err().message.contains(&second.id));
    assert!(ledger.find("%").is_err());
    let all: Vec<String> = ledger.all_of("k").unwrap().into_iter().map(|j| j.id).collect();
    assert_eq!(all, [second.id.clone(), first.id.clone()]);
    assert_eq!(ledger.last_of("k").unwrap().map(|j| j.id), Some(second.id));
}

#[test]
fn many_processes_may_upgrade_an_old_index_at_once() {
    for _ in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let kept = Ledger::open(&path).unwrap().create(job(None, "k")).unwrap().id;
        // An earlier llbatch left the index without these columns.
        let old = rusqlite::Connection::open(&path).unwrap();
        for added in UPGRADE.split(';').filter(|text| !text.trim().is_empty()) {
            let words: Vec<&str> = added.split_whitespace().collect();
            old.execute_batch(&format!("ALTER TABLE {} DROP COLUMN {}", words[2], words[5])).unwrap();
        }
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Ledger::open(&path).unwrap().find(&kept).unwrap());
            }
        });
    }
}

#[test]
fn many_processes_may_open_a_new_index_at_once() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Ledger::open(&path).unwrap().create(job(None, "k")).unwrap());
            }
        });
        assert_eq!(Ledger::open(&path).unwrap().all_of("k").unwrap().len(), 16);
    }
}

#[test]
fn updated_job_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    let mut job = ledger.create(job(None, "k")).unwrap();
    job.state = JobState::Partial;
    job.cost = Some(Nanos(1_234_567_890_123));
    job.succeeded = 2;
    job.failed = 1;
    job.exit = Some(3);
    job.estimate = Some(Nanos(7));
    job.delivered = true;
    ledger.update(&job).unwrap();
    let mut read = ledger.find(&job.id).unwrap();
    read.updated_at = job.updated_at;
    assert_eq!(read, job);
}
