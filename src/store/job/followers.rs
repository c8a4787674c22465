//! Followers: rows that get the outcome of an equal request, their leader, as soon as that is on the disk.

use std::collections::BTreeSet;

use rusqlite::params;

use super::checksum::Part;
use super::outcomes::fingerprint;
use crate::error::Result;
use crate::outcome::{Follower, Outcome};
use crate::store::JobDb;
use crate::store::batches::BodyPlace;

/// Followers that are written at a time.
const GROUP: u32 = 4096;

/// The outcome of a leader, as its followers get it. The body of a batch's answer stays in its file.
#[derive(Debug)]
pub struct LeaderOutcome {
    outcome: Outcome,
    place: Option<BodyPlace>,
}

impl LeaderOutcome {
    /// Bytes of its body, as far as they are in memory.
    pub fn bytes(&self) -> usize {
        self.outcome.body.as_ref().map_or(0, |body| body.len())
    }

    /// Returns whether the body is in memory, if there is one.
    pub const fn has_body(&self) -> bool {
        self.outcome.body.is_some() || self.place.is_none()
    }
}

impl JobDb {
    /// Keeps rows whose leader has no outcome yet. They are committed with the open group.
    pub fn put_waiting<'a>(&mut self, followers: impl IntoIterator<Item = &'a Follower>) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            let mut put =
                db.prepare_cached("INSERT OR REPLACE INTO follower (leader, row, fp, id) VALUES (?,?,?,?)")?;
            for Follower { row, id, fingerprint, leader } in followers {
                put.execute(params![leader.cast_signed(), row.cast_signed(), &fingerprint.0[..], &**id])?;
            }
            Ok(())
        })
    }

    /// Takes rows that wait for `leader`, at most `limit`, in their order. It is committed with the open group.
    pub fn take_waiting(&mut self, leader: u64, limit: u32) -> Result<Vec<Follower>> {
        self.begin()?;
        self.run(|db| {
            // A row may have got an outcome of its own in another way.
            let select = "SELECT row, fp, id FROM follower WHERE leader = ?1 AND row NOT IN (SELECT row FROM outcome)
                          ORDER BY row LIMIT ?2";
            let found: Vec<Follower> = db
                .prepare_cached(select)?
                .query_map(params![leader.cast_signed(), limit], |row| {
                    let id = row.get_ref(2)?.as_str()?.into();
                    let fingerprint = fingerprint(row, 1)?;
                    Ok(Follower { row: row.get::<_, i64>(0)?.cast_unsigned(), id, fingerprint, leader })
                })?
                .collect::<rusqlite::Result<_>>()?;
            let last = if found.len() < limit as usize { None } else { found.last() };
            db.prepare_cached("DELETE FROM follower WHERE leader = ?1 AND row <= ?2")?
                .execute([leader.cast_signed(), last.map_or(i64::MAX, |last| last.row.cast_signed())])?;
            Ok(found)
        })
    }

    /// The outcome of `row`, for its followers. That of a request in real time must be committed.
    ///
    /// # Errors
    /// 74 if it is damaged or missing.
    pub fn leader(&self, row: u64) -> Result<LeaderOutcome> {
        let stored = self.stored(row, 1)?.pop().filter(|stored| stored.outcome.row == row);
        let stored = stored.ok_or_else(|| self.damaged_row(row))?;
        let place = stored.place;
        // The checksum of an answer in a batch's file is that without its body.
        let outcome = match (stored.outcome.batch, place) {
            (Some(_), Some(_)) if stored.agrees(Part::Whole) => stored.outcome,
            _ => self.verified(stored)?,
        };
        Ok(LeaderOutcome { outcome, place })
    }

    /// Writes a leader's outcome for a follower, and returns it, with its body if it is to be `whole`. The body is not stored
    /// again. It is committed with the open group.
    pub fn put_follower(&mut self, leader: &mut LeaderOutcome, follower: Follower, whole: bool) -> Result<Outcome> {
        // The leader lends the body, for the checksum.
        let body = leader.outcome.body.take();
        let mut outcome = Outcome { body, ..leader.outcome.for_follower(follower) };
        let put = self.put_joined([(&outcome, leader.place)]);
        leader.outcome.body = if whole { outcome.body.clone() } else { outcome.body.take() };
        put.map(|()| outcome)
    }

    /// Writes the outcomes of leaders for all rows that wait for them. Returns the number of answered rows, and of failed
    /// rows. It is committed with the open group.
    pub fn settle_followers(&mut self) -> Result<(u64, u64)> {
        self.begin()?;
        // A leader's body may not be in the log's file yet.
        self.log.flush()?;
        let (mut succeeded, mut failed) = (0, 0);
        let leaders: Vec<u64> = self.run(|db| {
            let leaders = "SELECT DISTINCT leader FROM follower WHERE leader IN (SELECT row FROM outcome)";
            let mut statement = db.prepare_cached(leaders)?;
            let rows = statement.query_map([], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?;
            rows.collect()
        })?;
        for row in leaders {
            let mut leader = self.leader(row)?;
            loop {
                let followers = self.take_waiting(row, GROUP)?;
                let last = followers.len() < GROUP as usize;
                *(if leader.outcome.ok() { &mut succeeded } else { &mut failed }) += followers.len() as u64;
                for follower in followers {
                    self.put_follower(&mut leader, follower, false)?;
                }
                if last {
                    break;
                }
            }
        }
        Ok((succeeded, failed))
    }

    /// Forgets the rows that wait for a leader which will not be answered, unless it is one that `stays`.
    pub fn clear_waiting(&mut self, stays: impl Fn(u64) -> bool) -> Result<()> {
        let mut gone = BTreeSet::new();
        self.each_waiting(|_, leader| {
            if !stays(leader) {
                gone.insert(leader);
            }
        })?;
        if gone.is_empty() {
            return Ok(());
        }
        self.begin()?;
        self.run(|db| {
            let mut delete = db.prepare_cached("DELETE FROM follower WHERE leader = ?1")?;
            gone.iter().try_for_each(|leader| delete.execute([leader.cast_signed()]).map(drop))
        })
    }

    /// Calls `each` with every row that waits for its leader, and with the leader.
    pub fn each_waiting(&self, mut each: impl FnMut(u64, u64)) -> Result<()> {
        self.run(|db| {
            let mut statement = db.prepare_cached("SELECT row, leader FROM follower")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned());
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{db, outcome};
    use super::*;
    use crate::outcome::{ErrorCode, Fingerprint};

    fn follower(row: u64, leader: u64) -> Follower {
        Follower { row, id: format!("id-{row}").into(), fingerprint: Fingerprint([9; 16]), leader }
    }

    #[test]
    fn follower_gets_the_outcome_and_none_of_the_cost() {
        let (_dir, mut db) = db();
        for (row, ok) in [(1, true), (2, false)] {
            db.put(&outcome(row, 1, ok)).unwrap();
        }
        db.commit(true).unwrap();
        assert!(db.leader(3).is_err());
        for (row, leader) in [(3, 1), (4, 2), (5, 1)] {
            let mut found = db.leader(leader).unwrap();
            db.put_follower(&mut found, follower(row, leader), false).unwrap();
        }
        db.commit(true).unwrap();
        let rows = db.outcomes(1, 10).unwrap();
        let leaders = [&rows[0], &rows[1], &rows[0]];
        for (copy, leader) in rows[2..].iter().zip(leaders) {
            assert_eq!((&copy.body, &copy.error, copy.status), (&leader.body, &leader.error, leader.status));
            assert!(copy.leader.is_some() && copy.attempts == 0 && copy.usage.is_none() && copy.at_risk == 0);
            assert_eq!((&*copy.id, copy.fingerprint), (&*format!("id-{}", copy.row), Fingerprint([9; 16])));
        }
        assert!(db.drop_damaged(false).unwrap().is_empty());
        db.set_aside(|_| true).unwrap();
        db.settle_aside().unwrap();
        assert_eq!(db.outcomes(1, 10).unwrap(), rows);
    }

    #[test]
    fn waiting_follower_is_not_in_flight() {
        let (_dir, mut db) = db();
        let all: Vec<_> = [(2, 1), (3, 1), (5, 4), (6, 1)].map(|(row, leader)| follower(row, leader)).into();
        db.put_waiting(&all).unwrap();
        db.claim(7).unwrap();
        db.commit(false).unwrap();
        assert_eq!(db.unanswered(9).unwrap(), [1, 4, 7]);
        assert_eq!(db.take_waiting(1, 2).unwrap(), all[..2]);
        assert_eq!(db.take_waiting(1, 2).unwrap(), all[3..]);
        assert_eq!(db.unanswered(9).unwrap(), [1, 2, 3, 4, 6, 7]);
        db.clear_waiting(|leader| leader == 4).unwrap();
        assert_eq!(db.take_waiting(4, 9).unwrap(), all[2..3]);
    }

    #[test]
    fn followers_of_a_batch_get_what_comes_late() {
        let (_dir, mut db) = db();
        let missing =
            |row| Outcome { batch: Some(1), ..Outcome::unsent(row, "a".into(), "m".into(), ErrorCode::Missing, "") };
        db.put_waiting(&[follower(3, 1), follower(4, 2), follower(5, 1)]).unwrap();
        db.put_joined([(&missing(1), None), (&outcome(2, 2, true), None)]).unwrap();
        assert_eq!(db.settle_followers().unwrap(), (1, 2));
        db.commit(true).unwrap();
        assert_eq!(db.counts().unwrap(), (2, 3));
        assert_eq!(db.delete_missing(1).unwrap(), [1]);
        db.put_joined([(&Outcome { batch: Some(1), ..outcome(1, 1, true) }, None)]).unwrap();
        assert_eq!(db.settle_followers().unwrap(), (2, 0));
        db.commit(true).unwrap();
        assert_eq!(db.counts().unwrap(), (5, 0));
        assert_eq!(db.outcomes(5, 1).unwrap()[0].leader, Some(1));
    }

    #[test]
    fn damaged_body_is_missed_by_every_follower() {
        let (dir, mut db) = db();
        db.put(&outcome(1, 1, true)).unwrap();
        db.put(&outcome(2, 2, true)).unwrap();
        db.commit(true).unwrap();
        for (row, leader) in [(3, 2), (4, 1)] {
            let mut found = db.leader(leader).unwrap();
            db.put_follower(&mut found, follower(row, leader), false).unwrap();
        }
        db.commit(true).unwrap();
        std::fs::write(dir.path().join("j").join("answers.jsonl"), "{\"row\":1}\n{\"row\":?}\n").unwrap();
        assert_eq!(db.drop_damaged(false).unwrap(), [2, 3]);
        let retired = db.retired().unwrap();
        assert_eq!(retired.iter().map(|retired| retired.count).sum::<u32>(), 1, "the follower has cost nothing");
    }
}
