//! The claim of one task on the rows that nobody has answered yet, so that two copies of a task do not both pay for them.
//!
//! The owner renews a record beside the parts. Others watch whether the record changes, each by its own clock: clocks of
//! several machines are never compared. An owner that has ended says so in the record. One that does not renew for
//! [`PERIODS`] periods has lost the claim to the first one that replaces the record. An owner that cannot renew gives up
//! a period earlier.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::cell::{CellText, RecordCell};
use super::{AnswersDir, JobMark};
use crate::error::{Error, Exit, Result};
use crate::machine::ProcessMark;
use crate::text;

/// Time between renewals.
const PERIOD: Duration = Duration::from_secs(10);
/// Periods without a change after which a claim is lost.
const PERIODS: u32 = 6;
/// The variable that makes the period short in tests.
const PERIOD_IN_TESTS: &str = "LLBATCH_CLAIM_PERIOD";
/// Time for the last word of an owner. Shared storage may hang.
const LAST_WORD: Duration = Duration::from_secs(5);
/// Longest wait for the change of a record, whatever it says about itself.
const LONGEST: Duration = Duration::from_mins(10);
/// Tries to write a record that a renewal of the same claim replaces meanwhile.
const TRIES: u32 = 2;
/// The owner of a record that does not name it.
const ANOTHER: &str = "another task";
/// The remedy of a task that lost its claim.
const AGAIN: &str = "run the same command again: it takes the answers of the task that goes on";
/// Time for one renewal after the machine was asleep.
const LEAST: Duration = Duration::from_secs(2);

/// The record of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OwnerRecord {
    /// The version of the form. It stands first, so that every later version can be told.
    llbatch_owner: u32,
    #[serde(flatten)]
    process: ProcessMark,
    /// A random number, which no other claim has.
    claim: String,
    /// The number of renewals.
    renewed: u64,
    /// Time between renewals.
    every_ms: u64,
    /// The owner has ended.
    ended: bool,
}

/// The place of a task's claim, as one process sees it.
#[derive(Debug)]
pub struct ClaimSeat {
    cell: RecordCell,
    dir: String,
    own: OwnerRecord,
    /// The record of another owner, and the time when it was first seen.
    seen: Option<(CellText, Instant)>,
}

/// Another process that has the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimOwner {
    /// Its host and process in words.
    pub shown: String,
    /// Time without a change of the record after which it has lost the claim.
    pub patience: Duration,
}

impl ClaimSeat {
    /// The claim on the task `of` in `dir`. Nothing is claimed yet.
    ///
    /// # Errors
    /// 74 if nothing can be written there.
    pub fn open(dir: &AnswersDir, of: &JobMark) -> Result<Self> {
        let folder = dir.make_for(of)?;
        // The folder is that of the requests. Tasks that send them to different services have different answers.
        let service = &blake3::hash(of.service.as_bytes()).to_hex()[..8];
        let own = OwnerRecord {
            llbatch_owner: 1,
            process: ProcessMark::own(),
            claim: format!("{:016x}", fastrand::u64(..)),
            renewed: 0,
            every_ms: period().as_millis().try_into().unwrap_or(u64::MAX),
            ended: false,
        };
        Ok(Self {
            cell: RecordCell::open(&folder, &format!("owner-{service}"))?,
            dir: dir.to_string(),
            own,
            seen: None,
        })
    }

    /// The pause between two looks at the claim of another process.
    pub fn pause(&self) -> Duration {
        let pause = match self.cell {
            RecordCell::Files(_) => PERIOD / 10,
            // Each look is a request.
            RecordCell::Object { .. } => PERIOD / 2,
        };
        pause.min(self.own.every())
    }

    /// Takes the claim if it is free. Returns its owner if it is not.
    ///
    /// # Errors
    /// 74 if the record cannot be read or written; 66 or 75 from a store.
    pub fn attempt(&mut self) -> Result<Option<ClaimOwner>> {
        let found = self.cell.read()?;
        let Some(before) = &found else { return self.take(None, false) };
        let record = OwnerRecord::parse(&before.text);
        let every = record.as_ref().map_or(PERIOD, OwnerRecord::every);
        let patience = (every * PERIODS).min(LONGEST);
        let free = record.as_ref().is_some_and(|record| record.ended || record.process.is_gone());
        let since = match &self.seen {
            Some((seen, since)) if seen == before => *since,
            _ => Instant::now(),
        };
        self.seen = Some((before.clone(), since));
        if free || since.elapsed() >= patience {
            return self.take(Some(before), !free);
        }
        let shown = record.map_or_else(|| ANOTHER.to_owned(), |record| record.shown());
        Ok(Some(ClaimOwner { shown, patience }))
    }

    /// `stale`: nobody knows whether the owner still lives.
    fn take(&mut self, before: Option<&CellText>, stale: bool) -> Result<Option<ClaimOwner>> {
        let text = self.own.text()?;
        if self.cell.swap(before, &text)? && self.cell.has_settled(&text)? {
            tracing::debug!(stale, "this process has claimed the task");
            return Ok(None);
        }
        // The winner is named at the next look.
        Ok(Some(ClaimOwner { shown: ANOTHER.to_owned(), patience: self.own.every() * PERIODS }))
    }

    /// Keeps the claim that was taken, until it is released. `lost` is called if another process takes it, or it cannot be renewed.
    ///
    /// # Errors
    /// 1 if a thread cannot be started.
    pub fn keep(self, lost: impl FnOnce() + Send + 'static) -> Result<TaskClaim> {
        let (release, released) = channel();
        let thread = std::thread::Builder::new()
            .name("claim".to_owned())
            .spawn(move || {
                let error = renew_until(&released, self)?;
                lost();
                Some(error)
            })
            .map_err(|error| Error::new(Exit::Failure, "a thread cannot be started").because(error))?;
        Ok(TaskClaim { release: Some(release), thread: Some(thread) })
    }
}

/// A claim of this process, which a thread renews. Dropped, it is released.
#[derive(Debug)]
pub struct TaskClaim {
    release: Option<Sender<()>>,
    thread: Option<JoinHandle<Option<Error>>>,
}

impl TaskClaim {
    /// Releases the claim for others. Returns why it was lost before, if it was.
    pub fn release(mut self) -> Option<Error> {
        self.end()
    }

    fn end(&mut self) -> Option<Error> {
        self.release = None;
        self.thread.take()?.join().ok()?
    }
}

impl Drop for TaskClaim {
    fn drop(&mut self) {
        self.end();
    }
}

/// Renews the record until the claim is released. Returns why it was lost before that.
fn renew_until(released: &Receiver<()>, seat: ClaimSeat) -> Option<Error> {
    let ClaimSeat { cell, dir, mut own, .. } = seat;
    let lapse = own.every() * (PERIODS - 1);
    let mut renewed = Instant::now();
    loop {
        // The last try begins before the others may take over.
        let pause = own.every().min(lapse.saturating_sub(renewed.elapsed()));
        own.ended = released.recv_timeout(pause) != Err(RecvTimeoutError::Timeout);
        own.renewed += 1;
        let now = Instant::now();
        let left = if own.ended { LAST_WORD } else { lapse.saturating_sub(renewed.elapsed()).max(LEAST) };
        let failure = match in_time(left, &cell, &own) {
            _ if own.ended => return None,
            Some(Ok(None)) => {
                renewed = now;
                continue;
            }
            Some(Ok(Some(winner))) => {
                let what = format!("{winner} has taken over this task in {dir}");
                return Some(Error::new(Exit::TempFail, what).hint(AGAIN));
            }
            Some(Err(failure)) => failure.to_string(),
            None => "the storage does not answer".to_owned(),
        };
        if renewed.elapsed() >= lapse {
            let what = format!("{dir}: the claim on this task cannot be renewed for {}", text::duration(lapse));
            return Some(Error::new(Exit::TempFail, format!("{what}: {failure}")).hint(AGAIN));
        }
    }
}

/// Renews the record. Returns the winner if another process has replaced it; `None` if that takes longer than `limit`.
fn in_time(limit: Duration, cell: &RecordCell, own: &OwnerRecord) -> Option<Result<Option<String>>> {
    let (sender, receiver) = sync_channel(1);
    let (cell, own) = (cell.clone(), own.clone());
    // A thread for each renewal: one that hangs must not keep the owner from giving up.
    let work = move || drop(sender.send(own.renew(&cell)));
    std::thread::Builder::new().name("renewal".to_owned()).spawn(work).ok()?;
    receiver.recv_timeout(limit).ok()
}

impl OwnerRecord {
    /// Reads a record. `None`: it is not whole, or of a later version.
    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn text(&self) -> Result<String> {
        let text = serde_json::to_string(self);
        text.map_err(|error| Error::new(Exit::Failure, "a record cannot be written").because(error))
    }

    /// Writes the record in place of the earlier one of the same claim. Returns the host of another process that has the
    /// claim now.
    fn renew(&self, cell: &RecordCell) -> Result<Option<String>> {
        for _ in 0..TRIES {
            let found = cell.read()?;
            match found.as_ref().map(|found| Self::parse(&found.text)) {
                Some(Some(record)) if record.claim != self.claim => return Ok(Some(record.shown())),
                // A renewal that hung is late.
                Some(Some(record)) if record.renewed >= self.renewed => return Ok(None),
                Some(Some(_)) | None if cell.swap(found.as_ref(), &self.text()?)? => return Ok(None),
                Some(None) => return Ok(Some(ANOTHER.to_owned())),
                // A renewal that hung may have been faster.
                _ => {}
            }
        }
        Ok(Some(ANOTHER.to_owned()))
    }

    fn shown(&self) -> String {
        let name = &self.process.name;
        format!("host {} (process {})", name.host, name.process)
    }

    fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms)
    }
}

fn period() -> Duration {
    let given = if cfg!(debug_assertions) { std::env::var(PERIOD_IN_TESTS).ok() } else { None };
    given.and_then(|text| text.parse().ok()).map_or(PERIOD, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::sealed::JobMark;

    fn job(service: &str) -> JobMark {
        JobMark { service: service.to_owned(), shard: None, content: "b1".to_owned() }
    }

    fn seat(dir: &std::path::Path, every: u64) -> ClaimSeat {
        let mut seat = ClaimSeat::open(&AnswersDir::create(dir).unwrap(), &job("s")).unwrap();
        seat.own.every_ms = every;
        seat
    }

    #[test]
    fn claim_is_held_until_it_is_released() {
        let temp = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (seat(temp.path(), 20), seat(temp.path(), 20));
        assert_eq!(first.attempt().unwrap(), None);
        let claim = first.keep(|| panic!("it is not lost")).unwrap();
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            let owner = second.attempt().unwrap().unwrap();
            assert!(
                owner.shown.ends_with(&format!("(process {})", std::process::id())) || owner.shown == ANOTHER,
                "{owner:?}"
            );
        }
        // Tasks that send the same requests elsewhere have their own claim.
        let mut other = ClaimSeat::open(&AnswersDir::create(temp.path()).unwrap(), &job("t")).unwrap();
        assert_eq!(other.attempt().unwrap(), None);
        assert!(claim.release().is_none());
        assert_eq!(second.attempt().unwrap(), None);
    }

    #[test]
    fn claim_that_nobody_renews_goes_to_one_of_those_who_wait() {
        let temp = tempfile::tempdir().unwrap();
        // The process lives, but has no thread that renews.
        assert_eq!(seat(temp.path(), 50).attempt().unwrap(), None);
        let winners = std::thread::scope(|scope| {
            let waits = [1, 2, 3].map(|_| {
                scope.spawn(|| {
                    let (mut seat, started) = (seat(temp.path(), 60_000), Instant::now());
                    while started.elapsed() < Duration::from_secs(1) {
                        if seat.attempt().unwrap().is_none() {
                            assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
                            return 1;
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    0
                })
            });
            waits.into_iter().map(|wait| wait.join().unwrap()).sum::<u32>()
        });
        assert_eq!(winners, 1);
    }

    #[test]
    fn owner_that_cannot_renew_gives_up_before_others_go_on() {
        let temp = tempfile::tempdir().unwrap();
        let mut seat = seat(temp.path(), 50);
        assert_eq!(seat.attempt().unwrap(), None);
        let (sender, lost) = channel();
        let started = Instant::now();
        let claim = seat.keep(move || sender.send(()).unwrap()).unwrap();
        std::fs::remove_dir_all(temp.path()).unwrap();
        std::fs::write(temp.path(), "").unwrap();
        lost.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
        let error = claim.release().unwrap();
        assert_eq!(error.exit, Exit::TempFail);
        assert!(error.message.contains("the claim on this task cannot be renewed"), "{error}");
        std::fs::remove_file(temp.path()).unwrap();
    }

    #[test]
    fn record_of_a_later_version_belongs_to_somebody() {
        let temp = tempfile::tempdir().unwrap();
        let mut seat = seat(temp.path(), 10);
        assert!(seat.cell.swap(None, "{\"llbatch_owner\":2}").unwrap());
        let owner = seat.attempt().unwrap().unwrap();
        assert_eq!(owner, ClaimOwner { shown: ANOTHER.to_owned(), patience: PERIOD * PERIODS });
    }
}
