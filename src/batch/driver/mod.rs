//! Work on a job's batches with the service: upload, create, look up, poll, cancel, download.
//!
//! Each batch is a small state machine in the job's database ([`crate::store::BatchStep`]). The driver records each
//! step before it takes it. Creating a batch costs money, so the driver never repeats that request blindly. If the
//! reply is lost, it looks the batch up in the service's list ([`super::reconcile`]).

mod abandon;
mod download;
mod news;
mod postpone;
mod submit;
mod upload;

pub use abandon::was_given_up;
pub use download::BatchDownloads;
pub use postpone::{SubmitScope, until_due};

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::api::batches::BatchLabel;
use crate::api::error::{Class, Failure, Fault};
use crate::api::{Client, retry};
use crate::deadline::Deadline;
use crate::error::{Error, Exit, Result};
use crate::store::{JobBatch, JobDb};

/// A transfer that is running when the time is up may continue until it stalls for this long. The end of a download is
/// worth more than a second or two.
const LULL: Duration = Duration::from_secs(2);

/// Limits of a driver's calls, which a command may change for a part of its work.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// Time to retry each call that polls, looks up or downloads. A command that waits longer polls again.
    pub retry_for: Duration,
    /// End of all retries, and of every call that may be repeated.
    pub until: Option<Deadline>,
    /// First wait before llbatch creates a postponed batch again; each further wait is longer. `None`: the command does not
    /// wait.
    pub postpone: Option<Duration>,
}

/// Settings of a driver.
#[derive(Debug, Clone)]
pub struct Options {
    /// The job's id, which a batch of `OpenAI`'s form carries.
    pub job: String,
    /// A hash of the key. It distinguishes accounts.
    pub account: String,
    /// Where the service was when the job was made, as a sentence, if it has moved. It may lack the batches now.
    pub elsewhere: Option<String>,
    /// Time after which the service's list shows every batch that was created.
    pub settle_after: Duration,
    /// Time to retry each call that uploads or creates a batch.
    pub retry_for: Duration,
    /// Limits of its calls.
    pub limits: CallLimits,
    /// Concurrent uploads.
    pub uploads: usize,
    /// Live batches of other jobs with the same service.
    pub witnesses: Vec<String>,
    /// A batch that was created from an identical file, and that no job here owns, is used instead of creating another.
    pub take_over: bool,
}

impl Options {
    /// Builds the settings of a driver that only polls batches. `retry_for`: time to retry each call.
    pub fn to_poll(account: &str, retry_for: Duration) -> Self {
        Self {
            job: String::new(),
            account: account.to_owned(),
            elsewhere: None,
            settle_after: retry_for,
            retry_for,
            limits: CallLimits { retry_for, until: None, postpone: None },
            uploads: 1,
            witnesses: Vec::new(),
            take_over: false,
        }
    }
}

/// An event of a driver, for the caller to show or store.
#[derive(Debug, Clone, PartialEq)]
pub enum DriverEvent<'a> {
    /// Bytes of a file have reached the service.
    Uploading {
        /// The batch's number.
        number: u32,
        /// Bytes so far.
        bytes: u64,
    },
    /// A batch exists from now on.
    Created {
        /// The batch.
        batch: &'a JobBatch,
        /// A request whose reply was lost has created it.
        found: bool,
        /// A warning of the service.
        warning: Option<&'a str>,
    },
    /// The service has a batch that was created from an identical file. It belongs to this job from now on.
    TakenOver(&'a JobBatch),
    /// The service refused a batch.
    Refused(&'a JobBatch),
    /// The service did not begin a batch, for a reason that passes.
    Postponed {
        /// The batch.
        batch: &'a JobBatch,
        /// Time until this command makes it again, if it waits.
        wait: Option<Duration>,
    },
    /// It is unknown whether a batch was created.
    InDoubt {
        /// The batch.
        batch: &'a JobBatch,
        /// The failure that left it in doubt.
        why: &'a str,
    },
    /// A batch was created twice. llbatch cancels this one.
    Surplus(&'a str),
    /// A call failed and is retried.
    Again {
        /// The call.
        what: &'a str,
        /// Its failure.
        failure: &'a str,
        /// Time until the retry.
        wait: Duration,
    },
    /// A batch has a new status.
    Moved(&'a JobBatch),
    /// A batch's status or counts changed: before and after.
    Progress(&'a JobBatch, &'a JobBatch),
    /// The service lacks a file of results.
    Gone {
        /// The batch's number.
        number: u32,
        /// The file's id.
        file: &'a str,
        /// The end of a sentence: the service "does not have" the file, or "no longer has" it.
        known: &'a str,
    },
    /// Bytes of results have arrived.
    Downloading {
        /// The batch's number.
        number: u32,
        /// Bytes of this file so far.
        bytes: u64,
    },
}

/// Uploads, creates, polls, cancels and downloads one job's batches, on one thread.
pub struct Driver<'a> {
    /// The service.
    pub client: &'a Client,
    /// The job.
    pub db: RefCell<JobDb>,
    /// The job's directory.
    pub dir: PathBuf,
    /// Settings of a driver.
    pub options: Options,
    /// Lists batches of other local jobs. They never belong to this job, even if they were created from the same file.
    pub owned: Box<dyn Fn() -> Result<Vec<String>> + 'a>,
    /// Receives every event.
    pub on_event: Box<dyn Fn(&DriverEvent<'_>) + 'a>,
    /// The user has interrupted: the driver starts nothing new.
    pub stop: CancellationToken,
    /// Time of the last progress: a call began, or bytes moved.
    pub moved: Cell<Instant>,
}

/// An error that stops the command, from a failed call.
pub fn error(what: &str, failure: &Failure) -> Error {
    let exit = match failure.fault {
        Fault::Auth => Exit::Auth,
        Fault::Payment => Exit::Budget,
        Fault::Local => Exit::Io,
        Fault::Setup(_) => Exit::Failure,
        _ if matches!(failure.class(), Class::RowFatal | Class::Spent) => Exit::Failure,
        _ => Exit::TempFail,
    };
    if let Some(setup) = failure.setup() {
        let remedy = format!("{}; then run the same command again", setup.remedy());
        return Error::new(exit, what).because(failure.clone()).hint(remedy);
    }
    let error = Error::new(exit, format!("{what}: {}", failure.message));
    match exit {
        Exit::Auth => error.hint("check the key, then run the same command again; it sends nothing twice"),
        Exit::Budget => error.hint("add credits, then run the same command again; it sends nothing twice"),
        Exit::TempFail => error.hint("run the same command again later; it sends nothing twice"),
        _ => error,
    }
}

/// Returns true if no connection can be made until the user changes something.
pub fn is_setup(error: &Error) -> bool {
    let failure = error.source.as_ref().and_then(|source| source.downcast_ref::<Failure>());
    failure.is_some_and(|failure| failure.setup().is_some())
}

/// Returns true if a retry may help and is harmless, for a call that may be repeated.
fn is_repeatable(failure: &Failure) -> bool {
    matches!(failure.class(), Class::NotSent | Class::AboveRate | Class::NoCapacity | Class::Ambiguous)
}

/// Waits for the end of the time, if there is one.
async fn over(until: Option<Deadline>) {
    match until {
        Some(until) => until.wait().await,
        None => std::future::pending().await,
    }
}

impl<'a> Driver<'a> {
    /// Builds a driver of the job in `dir` that shows no events and knows of no batches of other jobs.
    pub fn new(client: &'a Client, db: JobDb, dir: PathBuf, options: Options) -> Self {
        Self {
            client,
            db: RefCell::new(db),
            dir,
            options,
            owned: Box::new(|| Ok(Vec::new())),
            on_event: Box::new(|_| ()),
            stop: CancellationToken::new(),
            moved: Cell::new(Instant::now()),
        }
    }
}

impl Driver<'_> {
    fn batches(&self) -> Result<Vec<JobBatch>> {
        self.db.borrow().batches()
    }

    /// The mark that a batch carries, where the service takes one.
    fn label(&self, batch: &JobBatch) -> BatchLabel {
        BatchLabel { job: self.options.job.clone(), batch: batch.number, sha256: batch.file.sha256.clone() }
    }

    fn save(&self, batch: &JobBatch) -> Result<()> {
        self.db.borrow_mut().save_batch(batch)
    }

    fn stopped(&self) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(Error::new(Exit::Interrupt, "interrupted")
                .hint("created batches keep running; run the same command again to resume"));
        }
        Ok(())
    }

    /// Sleeps, or ends early when the user interrupts.
    async fn sleep(&self, time: Duration) -> Result<()> {
        tokio::select! {
            () = self.stop.cancelled() => self.stopped(),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    /// Returns true if `retry_for` would end before another `wait` does.
    fn too_long(&self, began: Instant, wait: Duration, retry_for: Duration) -> bool {
        began.elapsed() + wait > retry_for || self.options.limits.until.is_some_and(|until| until.left() < wait)
    }

    /// Makes a call that may be repeated, and abandons it when the time is up.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.moved.set(Instant::now());
        let Some(until) = self.options.limits.until else { return call.await };
        let over = async {
            loop {
                until.wait().await;
                match LULL.checked_sub(self.moved.get().elapsed()) {
                    None | Some(Duration::ZERO) => return,
                    Some(left) => tokio::time::sleep(left).await,
                }
            }
        };
        tokio::select! {
            biased;
            result = call => result,
            () = over => Err(Failure::new(Fault::Timeout, "no answer before the timeout".to_owned())),
        }
    }

    /// Repeats a call until it succeeds, fails permanently, or `retry_for` ends.
    async fn retry<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        what: &str,
        retry_for: Duration,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let mut failures = 0;
        loop {
            failures += 1;
            let failure = match self.in_time(call()).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let wait = retry::delay(failure.class(), failures, failure.wait, fastrand::f64());
            if !is_repeatable(&failure) || self.too_long(began, wait, retry_for) || self.stop.is_cancelled() {
                return Err(failure);
            }
            (self.on_event)(&DriverEvent::Again { what, failure: &failure.message, wait });
            if self.pause_in_time(wait, self.options.limits.until).await.is_err() {
                return Err(failure);
            }
        }
    }

    /// Waits for `time`.
    ///
    /// # Errors
    /// 130 if the user interrupts.
    pub async fn pause(&self, time: Duration) -> Result<()> {
        self.stopped()?;
        self.sleep(time).await
    }

    /// Waits for `time`, but not beyond `until`. The clock on the wall may jump over its end.
    ///
    /// # Errors
    /// 130 if the user interrupts.
    pub async fn pause_in_time(&self, time: Duration, until: Option<Deadline>) -> Result<()> {
        self.stopped()?;
        tokio::select! {
            slept = self.sleep(time) => slept,
            () = over(until) => Ok(()),
        }
    }
}
