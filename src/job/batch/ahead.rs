//! Outcomes on their way into the results, read ahead by a thread of their own.

use std::cell::RefCell;
use std::iter::Peekable;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;
use std::vec::IntoIter;

use crate::batch::join::{Joined, Side};
use crate::error::Result;
use crate::outcome::Outcome;
use crate::results::StoredOutcomes;
use crate::store::{JobDb, Place};

/// Outcomes read at a time.
const CHUNK: u32 = 128;
/// Chunks that wait for their turn.
const WAITING: usize = 2;
/// Most that is kept in memory of what was just collected; a job that is larger is read back from the store. About
/// 200,000 answers.
const MOST: usize = 48 << 20;

/// Where the store has the body of what was joined.
pub(super) fn place_of(joined: &Joined) -> Option<Place> {
    joined.place.map(|p| Place { errors: p.side == Side::Errors, at: p.at, len: p.len })
}

/// What this process has collected itself: it is in the store, and need not be read back from there.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    batches: Vec<Vec<Joined>>,
    rows: u64,
    bytes: usize,
}

impl Fresh {
    /// For a job of so many rows, unless they are too many.
    pub(super) fn for_rows(rows: u64) -> Option<Self> {
        usize::try_from(rows).is_ok_and(|rows| rows <= MOST / size_of::<Joined>()).then(Self::default)
    }

    /// Takes the outcomes of a batch, ascending by row, that are in the store now.
    pub(super) fn add(&mut self, joined: Vec<Joined>) {
        let size =
            |j: &Joined| size_of::<Joined>() + j.outcome.id.len() + j.outcome.body.as_ref().map_or(0, |b| b.len());
        self.bytes += joined.iter().map(size).sum::<usize>();
        self.rows += joined.len() as u64;
        if self.bytes > MOST {
            self.batches.clear();
        } else {
            self.batches.push(joined);
        }
    }

    /// Whether these are all of a job's outcomes, `rows` of them.
    pub(super) fn is_all(&self, rows: u64) -> bool {
        self.bytes <= MOST && self.rows == rows
    }

    /// The rows, in no order.
    pub(super) fn rows(&self) -> impl Iterator<Item = u64> {
        self.batches.iter().flatten().map(|joined| joined.outcome.row)
    }

    /// All of it, in the order of the rows.
    fn into_ordered(self) -> impl Iterator<Item = Joined> {
        let mut batches: Vec<Peekable<IntoIter<Joined>>> =
            self.batches.into_iter().map(|batch| batch.into_iter().peekable()).collect();
        std::iter::from_fn(move || {
            // A handful of batches at most: [`MOST`].
            let next = |(at, batch): (usize, &mut Peekable<IntoIter<Joined>>)| Some((batch.peek()?.outcome.row, at));
            let (_, first) = batches.iter_mut().enumerate().filter_map(next).min()?;
            batches[first].next()
        })
    }
}

/// Receives what the thread has read.
#[derive(Debug)]
pub(super) struct Ahead(RefCell<Receiver<Result<Vec<Outcome>>>>);

impl Ahead {
    /// Begins to read all outcomes: the `fresh` ones, or if there are none, those in `db`.
    pub(super) fn start<'s>(scope: &'s Scope<'s, '_>, db: JobDb, fresh: Option<Fresh>) -> Self {
        let (send, receive) = sync_channel(WAITING);
        scope.spawn(move || {
            let read = match fresh {
                Some(fresh) => from_memory(&db, fresh, &send),
                None => from_store(&db, &send),
            };
            if let Err(error) = read {
                // Nobody listens: then nobody needs to know.
                drop(send.send(Err(error)));
            }
        });
        Self(RefCell::new(receive))
    }
}

impl StoredOutcomes for Ahead {
    /// Asked for every stretch of rows in its turn, so the next chunk begins with `from`.
    fn outcomes(&self, _: u64, _: u32) -> Result<Vec<Outcome>> {
        self.0.borrow_mut().recv().unwrap_or_else(|_| Ok(Vec::new()))
    }
}

type Send = SyncSender<Result<Vec<Outcome>>>;

/// Sends outcomes in chunks without a gap. Says whether anybody still wants them.
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

fn from_store(db: &JobDb, to: &Send) -> Result<()> {
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

fn from_memory(db: &JobDb, fresh: Fresh, to: &Send) -> Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK as usize);
    for joined in fresh.into_ordered() {
        let place = place_of(&joined);
        let mut outcome = joined.outcome;
        if let (Some(batch), Some(place)) = (outcome.batch, place) {
            outcome.body = Some(db.body(batch, place)?);
        }
        chunk.push(outcome);
        if chunk.len() == CHUNK as usize {
            let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK as usize));
            if !send(full, to) {
                return Ok(());
            }
        }
    }
    send(chunk, to);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ErrorCode;

    fn joined(row: u64) -> Joined {
        let why = format!("why {row}");
        Joined { outcome: Outcome::unsent(row, "id".into(), "m".into(), ErrorCode::Missing, why), place: None }
    }

    fn fresh(batches: &[&[u64]]) -> Fresh {
        let mut fresh = Fresh::default();
        for rows in batches {
            fresh.add(rows.iter().map(|row| joined(*row)).collect());
        }
        fresh
    }

    /// The rows of each chunk, read as results are written: the next chunk is asked for when the last is used up.
    fn chunks(rows: &[u64], collected: Option<Fresh>) -> Vec<Vec<u64>> {
        let dir = tempfile::tempdir().unwrap();
        let mut db = JobDb::open(&dir.path().join("j.db")).unwrap();
        for row in rows {
            db.put(&joined(*row).outcome).unwrap();
        }
        db.commit(false).unwrap();
        std::thread::scope(|scope| {
            let ahead = Ahead::start(scope, db, collected);
            let next = || {
                let chunk = ahead.outcomes(0, 0).unwrap();
                let rows = chunk.iter().map(|outcome| outcome.row).collect::<Vec<_>>();
                (!rows.is_empty()).then_some(rows)
            };
            std::iter::from_fn(next).collect()
        })
    }

    #[test]
    fn a_gap_ends_a_chunk_wherever_the_outcomes_come_from() {
        let expected = vec![vec![2, 3], vec![5], vec![9, 10]];
        assert_eq!(chunks(&[2, 3, 5, 9, 10], None), expected);
        assert_eq!(chunks(&[], Some(fresh(&[&[3, 9], &[2, 5, 10]]))), expected);
        assert!(chunks(&[], None).is_empty());
    }

    #[test]
    fn all_rows_come_once_and_in_order() {
        let many = u64::from(CHUNK) * 3 + 7;
        let all: Vec<u64> = (1..=many).collect();
        assert_eq!(chunks(&all, None).concat(), all);
        let third = |rest: u64| all.iter().copied().filter(|row| row % 3 == rest).collect::<Vec<_>>();
        assert_eq!(chunks(&[], Some(fresh(&[&third(2), &third(0), &third(1)]))).concat(), all);
    }

    #[test]
    fn who_stops_listening_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let db = JobDb::open(&dir.path().join("j.db")).unwrap();
        let rows: Vec<u64> = (1..=u64::from(CHUNK) * 20).collect();
        std::thread::scope(|scope| drop(Ahead::start(scope, db, Some(fresh(&[&rows])))));
    }

    #[test]
    fn what_is_too_much_or_not_all_is_read_from_the_store() {
        let mut fresh = fresh(&[&[1, 2], &[3]]);
        assert!(fresh.is_all(3) && !fresh.is_all(4));
        assert!(Fresh::for_rows(150_000).is_some() && Fresh::for_rows(1_000_000).is_none());
        let mut long = joined(4);
        long.outcome.body = Some("x".repeat(MOST).into());
        fresh.add(vec![long]);
        assert!(!fresh.is_all(4) && fresh.rows().next().is_none());
        fresh.add(vec![joined(5)]);
        assert!(!fresh.is_all(5) && fresh.rows().next().is_none());
    }
}
