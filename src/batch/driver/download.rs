//! Polls, cancels and downloads created batches.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use futures_util::stream::{self, StreamExt};

use super::news::{learn, learn_all, millis, vanish};
use super::{Driver, DriverEvent, error, is_repeatable};
use crate::api::error::{Class, Failure, Fault};
use crate::api::{Downloaded, is_id};
use crate::batch_status::BatchStatus;
use crate::error::{Error, Exit, Result};
use crate::store::answer_files::{answers_name, failures_name};
use crate::store::{BatchStep, JobBatch};

/// Concurrent small calls.
const CALLS: usize = 8;
/// Time after a batch's end in which a named file of results may still appear.
const APPEARS_WITHIN: Duration = Duration::from_hours(1);

/// A file of a batch's results at the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchDownload {
    /// The service names none.
    Unnamed,
    /// It was downloaded.
    Here {
        /// Its place.
        path: PathBuf,
        /// Its length is the one that the service announced.
        whole: bool,
    },
    /// The service names it and does not have it yet; with the service's words.
    Late(String),
    /// The service does not have it; as a sentence with the service's words.
    Deleted(String),
}

impl BatchDownload {
    /// The downloaded file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Here { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// The files of a batch's results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchDownloads {
    /// The file with answers.
    pub answers: BatchDownload,
    /// The file with failures.
    pub failures: BatchDownload,
}

impl BatchDownloads {
    /// The service's words about a file that it names and does not have yet.
    pub fn late(&self) -> Option<&str> {
        [&self.answers, &self.failures].into_iter().find_map(|file| match file {
            BatchDownload::Late(words) => Some(words.as_str()),
            _ => None,
        })
    }

    /// Returns false if lines may be missing at the end of a file, because the service announced no length.
    pub fn are_whole(&self) -> bool {
        [&self.answers, &self.failures]
            .into_iter()
            .all(|file| !matches!(file, BatchDownload::Here { whole: false, .. }))
    }

    /// The service's words about a file that it has no more.
    pub fn deleted(&self) -> Option<&str> {
        [&self.answers, &self.failures].into_iter().find_map(|file| match file {
            BatchDownload::Deleted(words) => Some(words.as_str()),
            _ => None,
        })
    }
}

/// Returns as much as the service has said about a file that it does not give.
const fn known_of(failure: &Failure) -> &'static str {
    // A 404 is also the answer about a file that never was.
    if matches!(failure.status, Some(410 | 451)) { "no longer has" } else { "does not have" }
}

impl Driver<'_> {
    /// Returns true if this key created the batch, as far as llbatch knows.
    fn is_ours(&self, batch: &JobBatch) -> bool {
        batch.creation.account.as_ref().is_none_or(|account| *account == self.options.account)
    }

    /// The error for a batch or a file that a service lacks since it has moved.
    fn not_here(&self, what: &str) -> Error {
        let elsewhere = self.options.elsewhere.as_deref().unwrap_or_default();
        Error::usage(format!("{what}: the service does not have it; {elsewhere}"))
            .hint("set base_url in the config file to the server that has the batches")
    }

    /// Polls the batches. Returns `true` if all created ones have ended.
    ///
    /// # Errors
    /// 4 for the key, 75 if the service cannot be reached. Earlier replies are kept.
    pub async fn refresh(&self) -> Result<bool> {
        let open = |batch: &JobBatch| batch.step == BatchStep::Submitted && !batch.ended;
        let todo: Vec<JobBatch> = self.batches()?.into_iter().filter(open).collect();
        let mut asked = stream::iter(todo)
            .map(async |batch| {
                let id = batch.remote.id.clone().unwrap_or_default();
                let what = format!("asking about {id}");
                let answer = self.retry(&what, self.options.limits.retry_for, || self.client.batch(&id)).await;
                (what, batch, answer)
            })
            .buffer_unordered(CALLS);
        let mut worst = None;
        while let Some((what, mut batch, answer)) = asked.next().await {
            let before = batch.clone();
            match answer {
                Ok(known) => learn_all(&mut batch, known),
                Err(failure) if failure.fault == Fault::NotFound && self.options.elsewhere.is_some() => {
                    worst.get_or_insert_with(|| self.not_here(&what));
                    continue;
                }
                Err(failure) if failure.fault == Fault::NotFound && !self.is_ours(&batch) => {
                    let why = format!(
                        "{what}: this key does not belong to the account that created the batch, or the key has been \
                         replaced"
                    );
                    worst.get_or_insert(Error::new(Exit::Auth, why).hint("use the key that submitted the batch"));
                    continue;
                }
                Err(failure) if failure.fault == Fault::NotFound => {
                    vanish(&mut batch, millis(self.client.now().unwrap_or_else(SystemTime::now)));
                }
                Err(failure) => {
                    worst.get_or_insert_with(|| error(&what, &failure));
                    continue;
                }
            }
            if self.postpone_failed(&mut batch)? {
                continue;
            }
            if batch != before {
                self.save(&batch)?;
                let ended = batch.ended && !before.ended;
                if ended
                    || batch.remote.status != before.remote.status
                    || batch.remote.progress != before.remote.progress
                {
                    let step = batch.remote.status == before.remote.status && !ended;
                    (self.on_event)(&if step {
                        DriverEvent::Progress(&before, &batch)
                    } else {
                        DriverEvent::Moved(&batch)
                    });
                }
            }
        }
        match worst {
            Some(error) => Err(error),
            None => Ok(self.batches()?.iter().all(|batch| batch.ended || batch.step == BatchStep::Settled)),
        }
    }

    /// Cancels every open batch. Batches that were never created end at once, the others when the service reports it.
    pub async fn cancel(&self) -> Result<()> {
        let mut worst = Ok(());
        // Unsent batches come first, because cancelling them cannot fail. Creations in doubt come last, because it takes
        // time to settle them. They share that time.
        let mut batches = self.batches()?;
        batches.sort_by_key(|batch| (batch.step == BatchStep::Creating, !batch.is_unsent()));
        let mut doubts_began = None;
        for mut batch in batches {
            if batch.step == BatchStep::Creating {
                let began = *doubts_began.get_or_insert_with(Instant::now);
                if let Err(error) = self.look_up(&mut batch, began).await {
                    worst = worst.and(Err(error));
                    continue;
                }
            }
            let done = self.cancel_one(batch).await;
            if worst.is_ok() {
                worst = done;
            }
        }
        worst
    }

    async fn cancel_one(&self, mut batch: JobBatch) -> Result<()> {
        match batch.step {
            BatchStep::Planned | BatchStep::Uploaded => {
                batch.step = BatchStep::Refused;
                batch.cancel = true;
                batch.ended = true;
                batch.remote.status = Some(BatchStatus::Cancelled);
                self.save(&batch)
            }
            BatchStep::Submitted if !batch.ended => {
                batch.cancel = true;
                batch.cancelling_since.get_or_insert_with(|| millis(SystemTime::now()));
                self.save(&batch)?;
                let id = batch.remote.id.clone().unwrap_or_default();
                let what = format!("cancelling {id}");
                match self.retry(&what, self.options.limits.retry_for, || self.client.cancel_batch(&id)).await {
                    Ok(known) => learn(&mut batch, known),
                    // The batch has probably ended meanwhile. A poll shows it.
                    Err(failure) if failure.class() == Class::RowFatal => {
                        let known = self.retry(&what, self.options.limits.retry_for, || self.client.batch(&id)).await;
                        let known = known.map_err(|f| error(&what, &f))?;
                        learn_all(&mut batch, known);
                        if !batch.ended {
                            self.save(&batch)?;
                            return Err(error(&what, &failure));
                        }
                    }
                    Err(failure) => return Err(error(&what, &failure)),
                }
                self.save(&batch)?;
                (self.on_event)(&DriverEvent::Moved(&batch));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Polls one ended batch again, because the service may name its files late.
    pub async fn ask(&self, batch: &mut JobBatch) -> Result<()> {
        let Some(id) = batch.remote.id.clone() else { return Ok(()) };
        let what = format!("asking about {id}");
        match self.retry(&what, self.options.limits.retry_for, || self.client.batch(&id)).await {
            Ok(known) if known.status.is_final() => learn_all(batch, known),
            // The batch has certainly ended. Another status now is an error of the service.
            Ok(_) => {}
            Err(failure) if failure.fault == Fault::NotFound => {}
            Err(failure) => return Err(error(&what, &failure)),
        }
        self.save(batch)
    }

    /// Downloads the results of an ended batch. With `anew`, it downloads files again that are already here.
    ///
    /// # Errors
    /// 75 if the service cannot be reached, 74 if the disk fails.
    pub async fn download(&self, batch: &JobBatch, anew: bool) -> Result<BatchDownloads> {
        let answers =
            self.take(batch, batch.remote.output_file_id.as_deref(), &answers_name(batch.number), anew).await?;
        let failures =
            self.take(batch, batch.remote.error_file_id.as_deref(), &failures_name(batch.number), anew).await?;
        Ok(BatchDownloads { answers, failures })
    }

    /// Judges a file that the service names and does not give. `None`: the failure is about something else.
    fn absent(&self, batch: &JobBatch, failure: &Failure) -> Result<Option<BatchDownload>> {
        let deleted = || {
            let sentence = format!("the service {} the results of this batch: {}", known_of(failure), failure.message);
            BatchDownload::Deleted(sentence)
        };
        if matches!(failure.status, Some(410 | 451)) {
            return Ok(Some(deleted()));
        }
        // A storage may answer 403 for a file that it does not have. The key's own 403 is `Fault::Auth`.
        if failure.fault != Fault::NotFound && (failure.status, failure.fault) != (Some(403), Fault::Server) {
            return Ok(None);
        }
        if self.options.elsewhere.is_some() {
            return Err(self.not_here("asking for the results"));
        }
        let now = millis(self.client.now().unwrap_or_else(SystemTime::now));
        let mut batch = self.batches()?.into_iter().find(|known| known.number == batch.number).unwrap_or(batch.clone());
        let ended = batch.remote.completed_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let since = match (ended, batch.remote.late_since) {
            (Some(ended), _) => ended.as_millisecond(),
            (None, Some(since)) => since,
            (None, None) => {
                batch.remote.late_since = Some(now);
                self.save(&batch)?;
                now
            }
        };
        let over = u128::try_from(now - since).is_ok_and(|passed| passed >= APPEARS_WITHIN.as_millis());
        Ok(Some(if over { deleted() } else { BatchDownload::Late(failure.message.clone()) }))
    }

    async fn take(&self, batch: &JobBatch, id: Option<&str>, name: &str, anew: bool) -> Result<BatchDownload> {
        let Some(id) = id else { return Ok(BatchDownload::Unnamed) };
        if !is_id(id) {
            // An invalid id cannot be requested, so it counts as no file.
            (self.on_event)(&DriverEvent::Gone { number: batch.number, file: id, known: "does not have" });
            return Ok(BatchDownload::Unnamed);
        }
        let path = self.dir.join(name);
        if path.exists() && !anew {
            // A killed command has downloaded it.
            let length = std::fs::metadata(&path).ok().map(|file| file.len());
            let known = self.in_time(self.client.file(id)).await.ok().and_then(|file| file.bytes);
            return Ok(BatchDownload::Here { path, whole: known.is_some() && known == length });
        }
        let part = self.dir.join(format!("{name}.part"));
        if anew {
            // An incomplete copy must not be resumed.
            drop(std::fs::remove_file(&part));
        }
        let what = format!("downloading the results of {}", batch.remote.id.as_deref().unwrap_or_default());
        let progress = |bytes| {
            self.moved.set(Instant::now());
            (self.on_event)(&DriverEvent::Downloading { number: batch.number, bytes });
        };
        let retry_for = self.options.limits.retry_for;
        let length = self.retry(&what, retry_for, || self.client.download(id, &part, &progress)).await;
        let Downloaded { length, announced } = match length {
            Ok(downloaded) => downloaded,
            Err(failure) => {
                let Some(absent) = self.absent(batch, &failure)? else { return Err(error(&what, &failure)) };
                if matches!(absent, BatchDownload::Deleted(_)) {
                    let known = known_of(&failure);
                    (self.on_event)(&DriverEvent::Gone { number: batch.number, file: id, known });
                }
                return Ok(absent);
            }
        };
        // If the service reports the file's size, the download must match it.
        let known = match self.retry(&what, retry_for, || self.client.file(id)).await {
            // An unverified copy must not replace another one: the rows that it lacks would be paid for again.
            Err(failure) if anew && is_repeatable(&failure) => return Err(error(&what, &failure)),
            known => known.ok(),
        };
        let known = known.and_then(|file| file.bytes).filter(|bytes| *bytes > 0);
        if let Some(bytes) = known.filter(|bytes| *bytes != length) {
            drop(std::fs::remove_file(&part));
            return Err(Error::new(
                Exit::TempFail,
                format!("{what}: received {length} bytes, but the service announced {bytes}"),
            )
            .hint("run the same command again: it downloads the file again"));
        }
        let kept = |e| Error::io(format!("{}: cannot be stored", path.display()), e);
        let part = self.without_key(batch, part).map_err(kept)?;
        std::fs::File::open(&part).and_then(|file| file.sync_all()).map_err(kept)?;
        std::fs::rename(&part, &path).map_err(kept)?;
        // The database will refer to the file, so its name must be as durable.
        std::fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(kept)?;
        Ok(BatchDownload::Here { path, whole: announced || known.is_some() })
    }

    /// Keeps the API key out of results if the service repeats it. As in real time, `[key]` replaces it, in answers
    /// too. It is not replaced where the user's own ids contain it, because their rows would be lost.
    fn without_key(&self, batch: &JobBatch, part: PathBuf) -> std::io::Result<PathBuf> {
        let clean = part.with_extension("clean");
        if !self.client.copy_without_key(&part, &clean)? {
            return Ok(part);
        }
        let asked = self.db.borrow().asked(batch.number).map_err(std::io::Error::other)?;
        if asked.iter().any(|asked| self.client.is_key_in(asked.wire.as_deref().unwrap_or(&asked.id))) {
            std::fs::remove_file(&clean)?;
            return Ok(part);
        }
        // Removes the partial file, whose length differs: the next download would resume from it.
        std::fs::remove_file(&part)?;
        Ok(clean)
    }
}
