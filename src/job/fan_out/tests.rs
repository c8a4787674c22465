use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::*;
use crate::outcome::{ErrorCode, Fingerprint, Transport};
use crate::store::{Job, Store};

/// A job whose followers are fanned out.
struct Fixture {
    _dir: tempfile::TempDir,
    db: JobDb,
    fan_out: FanOut,
    done: BTreeSet<u64>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let new = Job::new(Transport::Realtime, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        let job = store.enter(&store.ledger().unwrap(), new).unwrap().job;
        let db = store.open_job(&job.id).unwrap();
        Self { _dir: dir, db, fan_out: FanOut::default(), done: BTreeSet::new() }
    }

    fn arrive(&mut self, rows: RangeInclusive<u64>, leader: impl Fn(u64) -> u64) {
        for row in rows {
            let (id, leader) = (format!("id-{row}").into(), leader(row));
            self.fan_out.arrive(Follower { row, id, fingerprint: Fingerprint([1; 16]), leader });
        }
    }

    /// One round. Returns the rows that were written, and whether all of them have their bodies.
    fn write(&mut self) -> (Vec<u64>, bool) {
        let written = self.fan_out.write(&mut self.db, |leader| self.done.contains(&leader)).unwrap();
        self.db.commit(false).unwrap();
        for WrittenFollower { outcome, .. } in &written {
            assert_eq!(&*outcome.id, format!("id-{}", outcome.row));
        }
        (written.iter().map(|one| one.outcome.row).collect(), written.iter().all(|one| one.whole))
    }

    fn answer(&mut self, leaders: RangeInclusive<u64>, body: &str) {
        for row in leaders.clone() {
            let unsent = Outcome::unsent(row, format!("id-{row}").into(), "m".into(), ErrorCode::Timeout, "");
            self.db.put(&Outcome { error: None, status: Some(200), body: Some(body.into()), ..unsent }).unwrap();
        }
        self.db.commit(false).unwrap();
        for row in leaders {
            self.done.insert(row);
            self.fan_out.answered(row);
        }
    }
}

#[test]
fn one_group_serves_many_leaders() {
    let mut job = Fixture::new();
    job.arrive(101..=200, |row| row - 100);
    assert_eq!(job.write(), (vec![], true));
    job.answer(1..=100, "{}");
    assert_eq!(job.write(), ((101..=200).collect(), true));
    assert!(!job.fan_out.has_work());
}

#[test]
fn leader_for_whom_nobody_waits_is_no_work() {
    let mut job = Fixture::new();
    job.answer(1..=1, "{}");
    assert!(!job.fan_out.has_work());
    // Its followers come later.
    job.arrive(2..=3, |_| 1);
    assert_eq!(job.write(), (vec![2, 3], true));
    assert!(!job.fan_out.has_work());
}

#[test]
fn many_followers_of_one_leader_take_several_groups_and_the_next_leader_fills_the_last() {
    let mut job = Fixture::new();
    let group = u64::from(GROUP);
    job.arrive(11..=group + 15, |_| 1);
    job.arrive(group + 16..=group + 17, |_| 2);
    job.write();
    job.answer(1..=2, "{}");
    assert_eq!(job.write().0, (11..=group + 10).collect::<Vec<_>>());
    assert!(job.fan_out.has_work());
    assert_eq!(job.write().0, (group + 11..=group + 17).collect::<Vec<_>>());
    assert!(!job.fan_out.has_work());
}

#[test]
fn large_bodies_are_left_out_and_stay_in_the_database() {
    let mut job = Fixture::new();
    job.arrive(11..=14, |_| 1);
    job.write();
    job.answer(1..=1, &"x".repeat(KEPT_BYTES / 2));
    assert_eq!(job.write(), ((11..=14).collect(), false));
    for row in 11..=14 {
        let stored = job.db.outcomes(row, 1).unwrap().pop().unwrap();
        assert_eq!((stored.row, stored.body.unwrap().len()), (row, KEPT_BYTES / 2));
    }
}
