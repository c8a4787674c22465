//! Gives leaders' outcomes to their followers, once they are on the disk. A group serves as many leaders as fit: each commit
//! costs the same, and many leaders have a single follower.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::error::Result;
use crate::outcome::{Follower, Outcome};
use crate::row_set::RowSet;
use crate::store::{JobDb, LeaderOutcome};

/// Waiting followers that are written in one group.
const GROUP: u32 = 1024;
/// Leaders' outcomes that stay in memory, and bytes of their bodies: rows that follow each other often have few leaders.
const KEPT: usize = 1024;
const KEPT_BYTES: usize = 8 << 20;

/// The followers of a run.
#[derive(Default)]
pub(super) struct FanOut {
    /// Followers that arrived in this round.
    arrived: Vec<Follower>,
    /// Leaders for which followers were put into the database.
    awaited: RowSet,
    /// Leaders that have an outcome, and whose followers wait.
    ready: VecDeque<u64>,
    /// Outcomes of leaders.
    kept: HashMap<u64, LeaderOutcome>,
    bytes: usize,
}

/// A follower whose outcome is in the open group.
pub(super) struct WrittenFollower {
    pub outcome: Box<Outcome>,
    /// The outcome has its body.
    pub whole: bool,
}

impl FanOut {
    /// Takes a follower that has arrived.
    pub fn arrive(&mut self, follower: Follower) {
        self.arrived.push(follower);
    }

    /// Notes that a row has a committed outcome.
    pub fn answered(&mut self, row: u64) {
        if self.awaited.contains(row) {
            self.ready.push_back(row);
        }
    }

    /// Tests whether followers have their leader's outcome and are not written.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Writes followers into the open group: those that arrived, and some that waited. A follower whose leader is not `done`
    /// waits in the database. Returns those that were written.
    pub fn write(&mut self, db: &mut JobDb, done: impl Fn(u64) -> bool) -> Result<Vec<WrittenFollower>> {
        let mut followers = std::mem::take(&mut self.arrived);
        let waiting: Vec<Follower> = followers.extract_if(.., |follower| !done(follower.leader)).collect();
        if !waiting.is_empty() {
            db.put_waiting(&waiting)?;
            for follower in &waiting {
                self.awaited.insert(follower.leader);
            }
        }
        let mut room = GROUP;
        while room > 0
            && let Some(leader) = self.ready.front()
        {
            let waited = db.take_waiting(*leader, room)?;
            let left = room.saturating_sub(waited.len() as u32);
            if left > 0 {
                self.ready.pop_front();
            }
            room = left;
            followers.extend(waited);
        }
        let mut bytes = 0;
        let mut written = Vec::with_capacity(followers.len());
        for follower in followers {
            let leader = self.leader(db, follower.leader)?;
            bytes += leader.bytes();
            let whole = bytes <= KEPT_BYTES && leader.has_body();
            let outcome = Box::new(db.put_follower(leader, follower, whole)?);
            written.push(WrittenFollower { outcome, whole });
        }
        Ok(written)
    }

    /// The outcome of a leader, which stays in memory.
    fn leader(&mut self, db: &JobDb, row: u64) -> Result<&mut LeaderOutcome> {
        if self.kept.len() >= KEPT || self.bytes >= KEPT_BYTES {
            self.kept.retain(|kept, _| *kept == row);
            self.bytes = self.kept.values().map(LeaderOutcome::bytes).sum();
        }
        match self.kept.entry(row) {
            Entry::Occupied(kept) => Ok(kept.into_mut()),
            Entry::Vacant(place) => {
                let found = db.leader(row)?;
                self.bytes += found.bytes();
                Ok(place.insert(found))
            }
        }
    }
}

#[cfg(test)]
mod tests;
