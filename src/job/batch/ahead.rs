//! Reads outcomes ahead of the results, on a thread of its own.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use crate::batch::join::{Joined, Side};
use crate::error::Result;
use crate::outcome::Outcome;
use crate::results::StoredOutcomes;
use crate::store::{BodyPlace, JobDb};

/// Outcomes read at a time.
const CHUNK: u32 = 128;
/// Chunks that may wait in the channel.
const WAITING: usize = 2;

/// Returns the place of a joined row's body, as the store records it.
pub(super) fn place_of(joined: &Joined) -> Option<BodyPlace> {
    joined.place.map(|p| BodyPlace { errors: p.side == Side::Errors, at: p.at, len: p.len })
}

/// Receives outcomes from the thread.
#[derive(Debug)]
pub(super) struct Ahead(RefCell<Receiver<Result<Vec<Outcome>>>>);

impl Ahead {
    /// Starts the thread, which reads all outcomes of `db`.
    pub(super) fn start<'s>(scope: &'s Scope<'s, '_>, db: JobDb) -> Self {
        let (send, receive) = sync_channel(WAITING);
        scope.spawn(move || {
            if let Err(error) = read_all(&db, &send) {
                // If the receiver is gone, the error no longer matters.
                drop(send.send(Err(error)));
            }
        });
        Self(RefCell::new(receive))
    }
}

impl StoredOutcomes for Ahead {
    /// Callers request all rows in order, so the next chunk always begins with `from`.
    fn outcomes(&self, _: u64, _: u32) -> Result<Vec<Outcome>> {
        self.0.borrow_mut().recv().unwrap_or_else(|_| Ok(Vec::new()))
    }
}

type Send = SyncSender<Result<Vec<Outcome>>>;

/// Sends a chunk of outcomes. Returns `false` if the receiver is gone.
fn send(chunk: Vec<Outcome>, to: &Send) -> bool {
    let mut rest = chunk;
    while !rest.is_empty() {
        let gap = rest.windows(2).position(|pair| pair[1].row != pair[0].row + 1);
        let behind = gap.map_or_else(Vec::new, |gap| rest.split_off(gap + 1));
        if to.send(Ok(rest)).is_err() {
            return false;
        }
        rest = behind;
    }
    true
}

fn read_all(db: &JobDb, to: &Send) -> Result<()> {
    let mut next = 1;
    loop {
        let chunk = db.outcomes(next, CHUNK)?;
        let Some(last) = chunk.last() else { return Ok(()) };
        next = last.row + 1;
        if !send(chunk, to) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ErrorCode;
    use crate::store::{Job, Transport};

    fn db() -> (tempfile::TempDir, JobDb) {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(Transport::Batch, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        let db = JobDb::create(&dir.path().join("j.db"), &job).unwrap();
        (dir, db)
    }

    fn joined(row: u64) -> Joined {
        let why = format!("why {row}");
        Joined { outcome: Outcome::unsent(row, "id".into(), "m".into(), ErrorCode::Missing, why), place: None }
    }

    /// The rows of each chunk, read as results are written: the next chunk is asked for when the last is used up.
    fn chunks(rows: &[u64]) -> Vec<Vec<u64>> {
        let (_dir, mut db) = db();
        for row in rows {
            db.put(&joined(*row).outcome).unwrap();
        }
        db.commit(false).unwrap();
        std::thread::scope(|scope| {
            let ahead = Ahead::start(scope, db);
            let next = || {
                let chunk = ahead.outcomes(0, 0).unwrap();
                let rows = chunk.iter().map(|outcome| outcome.row).collect::<Vec<_>>();
                (!rows.is_empty()).then_some(rows)
            };
            std::iter::from_fn(next).collect()
        })
    }

    #[test]
    fn a_gap_ends_a_chunk() {
        assert_eq!(chunks(&[2, 3, 5, 9, 10]), [vec![2, 3], vec![5], vec![9, 10]]);
        assert!(chunks(&[]).is_empty());
    }

    #[test]
    fn all_rows_come_once_and_in_order() {
        let all: Vec<u64> = (1..=u64::from(CHUNK) * 3 + 7).collect();
        assert_eq!(chunks(&all).concat(), all);
    }

    #[test]
    fn a_reader_that_stops_listening_ends_the_thread() {
        let (_dir, mut db) = db();
        for row in 1..=u64::from(CHUNK) * 20 {
            db.put(&joined(row).outcome).unwrap();
        }
        db.commit(false).unwrap();
        std::thread::scope(|scope| drop(Ahead::start(scope, db)));
    }
}
