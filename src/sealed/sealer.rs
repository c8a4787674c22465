//! Seals answers into parts while a job runs. A thread of its own writes them, because shared storage is slow.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::dir::{ENDING, PartPlace};
use super::part::OpenPart;
use super::{AnswersDir, JobMark};
use crate::atomic_file::remove_abandoned;
use crate::error::{Error, Exit, Result};
use crate::machine::ProcessName;
use crate::outcome::Outcome;
use crate::request::RequestKey;

/// A part is sealed when its first answer is this old,
const AGE: Duration = Duration::from_secs(30);
/// or when it has as many answers,
const ANSWERS: u64 = 1_000;
/// or as many bytes, lest long answers fill the memory.
const BYTES: usize = 8 << 20;
/// Bytes of a part that grows while the one before it is written, from which on the job waits for the storage.
const MOST_BYTES: usize = 64 << 20;

/// A part that nobody has written to for so long was left by a process that was killed.
const ABANDONED: Duration = Duration::from_hours(24);

/// Seals the answers of one job.
#[derive(Debug)]
pub struct Sealer {
    of: JobMark,
    writer: String,
    open: Option<(OpenPart, Instant)>,
    full: Option<SyncSender<OpenPart>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Sealer {
    /// Begins to seal answers of the job `of` in `dir`.
    ///
    /// # Errors
    /// 74 if nothing can be written there.
    pub fn new(dir: &AnswersDir, of: JobMark) -> Result<Self> {
        let writer = ProcessName::own().to_string();
        let dir = dir.make_for(&of)?;
        // An object that is not whole does not appear.
        if let PartPlace::File(path) = &dir {
            remove_abandoned(path, ABANDONED);
        }
        let names = PartNames { dir, stem: format!("{writer}-{:016x}", fastrand::u64(..)) };
        let (full, parts) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("sealer".to_owned())
            .spawn(move || names.write_all(&parts))
            .map_err(|error| Error::new(Exit::Failure, "a thread cannot be started").because(error))?;
        Ok(Self { of, writer, open: None, full: Some(full), thread: Some(thread) })
    }

    /// Adds an answer that is committed.
    ///
    /// # Errors
    /// 74 if a part could not be written.
    pub fn push(&mut self, outcome: &Outcome, key: Option<RequestKey>) -> Result<()> {
        let (part, _) = match &mut self.open {
            Some(open) => open,
            none => none.insert((OpenPart::new(&self.of, &self.writer)?, Instant::now())),
        };
        part.push(outcome, key)?;
        self.seal_full()
    }

    /// Seals what is old enough.
    ///
    /// # Errors
    /// 74 if a part could not be written.
    pub fn seal_full(&mut self) -> Result<()> {
        let due = self.open.as_ref().is_some_and(|(part, begun)| {
            part.answers() >= ANSWERS || part.bytes() >= BYTES || (part.answers() > 0 && begun.elapsed() >= AGE)
        });
        if !due {
            return Ok(());
        }
        let Some(((part, begun), full)) = self.open.take().zip(self.full.as_ref()) else { return Ok(()) };
        let wait = part.bytes() >= MOST_BYTES;
        match full.try_send(part) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(part)) if wait => full.send(part).or_else(|_| self.end()),
            Err(TrySendError::Full(part)) => {
                self.open = Some((part, begun));
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => self.end(),
        }
    }

    /// Seals the rest, and waits until all parts are on the disk.
    ///
    /// # Errors
    /// 74 if a part could not be written.
    pub fn finish(mut self) -> Result<()> {
        if let Some(((part, _), full)) = self.open.take().zip(self.full.as_ref())
            && part.answers() > 0
        {
            // Where nobody takes it, the thread has ended with an error.
            _ = full.send(part);
        }
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.full = None;
        let crashed = |_| Error::new(Exit::Failure, "a thread of llbatch crashed; please report it");
        self.thread.take().map_or(Ok(()), |thread| thread.join().map_err(crashed)?)
    }
}

/// The names of a process's parts.
struct PartNames {
    dir: PartPlace,
    stem: String,
}

impl PartNames {
    fn write_all(&self, parts: &Receiver<OpenPart>) -> Result<()> {
        for (number, part) in parts.iter().enumerate() {
            part.seal(&self.dir.join(&format!("{}-{number:06}{ENDING}", self.stem)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ErrorCode;
    use crate::sealed::{PartRead, read_part};

    fn outcome(row: u64) -> Outcome {
        let unsent = Outcome::unsent(row, format!("q{row}").into(), "m".into(), ErrorCode::Missing, "");
        Outcome { error: None, body: Some("{}".into()), ..unsent }
    }

    #[test]
    fn writers_at_once_never_meet_and_lose_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = AnswersDir::create(temp.path()).unwrap();
        let of = JobMark { service: "s".to_owned(), shard: None, content: "b1".to_owned() };
        std::thread::scope(|scope| {
            for first in [1, 10_001, 20_001] {
                let (dir, of) = (&dir, of.clone());
                scope.spawn(move || {
                    let mut sealer = Sealer::new(dir, of).unwrap();
                    (first..first + 2_500).for_each(|row| sealer.push(&outcome(row), None).unwrap());
                    sealer.finish().unwrap();
                });
            }
        });
        let parts = dir.parts_of(&of).unwrap();
        let mut rows: Vec<u64> = Vec::new();
        for part in &parts {
            let PartRead::Whole(part) = read_part(part).unwrap() else { panic!("{part:?}") };
            rows.extend(part.answers.iter().map(|answer| answer.outcome.row));
        }
        rows.sort_unstable();
        assert_eq!(rows, [1..=2_500, 10_001..=12_500, 20_001..=22_500].into_iter().flatten().collect::<Vec<u64>>());
        assert!(parts.len() >= 6, "{}", parts.len());
    }

    #[test]
    fn half_parts_of_killed_tasks_are_removed_after_a_day() {
        let temp = tempfile::tempdir().unwrap();
        let dir = AnswersDir::create(temp.path()).unwrap();
        let of = JobMark { service: "s".to_owned(), shard: None, content: "b1".to_owned() };
        let PartPlace::File(parts) = dir.make_for(&of).unwrap() else { panic!("a directory") };
        let file = |name: &str, hours: u64| {
            let path = parts.join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_hours(hours)).unwrap();
            (path, file)
        };
        let old = file(".host-1-boot-00-000000.part.jsonl.llbatch-aB3xY9.tmp", 25);
        let young = file(".host-1-boot-00-000001.part.jsonl.llbatch-aB3xY9.tmp", 23);
        let locked = file(".host-2-boot-00-000000.part.jsonl.llbatch-aB3xY9.tmp", 25);
        locked.1.lock().unwrap();
        let part = file("host-1-boot-00-000000.part.jsonl", 25);
        let foreign = file(".notes.tmp", 25);
        Sealer::new(&dir, of).unwrap().finish().unwrap();
        let left = [&old, &young, &locked, &part, &foreign].map(|(path, _)| path.exists());
        assert_eq!(left, [false, true, true, true, true]);
    }

    #[test]
    fn storage_that_fails_ends_the_job() {
        let temp = tempfile::tempdir().unwrap();
        let dir = AnswersDir::create(temp.path()).unwrap();
        let of = JobMark { service: "s".to_owned(), shard: None, content: "b1".to_owned() };
        let mut sealer = Sealer::new(&dir, of).unwrap();
        sealer.push(&outcome(1), None).unwrap();
        std::fs::remove_dir_all(temp.path()).unwrap();
        assert_eq!(sealer.finish().unwrap_err().exit, Exit::Io);
    }
}
