//! What is done about a job's batches with the service: upload, create, look up, ask, cancel, download.
//!
//! Each batch is a small state machine kept in the job's database ([`crate::store::BatchStep`]); what is about to be done is on the disk
//! before it is done. A batch costs money from its creation on, so that request alone is never sent again blindly: a reply
//! that is lost is looked up in the service's list ([`super::reconcile`]).

mod download;
mod news;
mod submit;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::api::error::{Class, Failure, Fault};
use crate::api::{Client, retry};
use crate::error::{Error, Exit, Result};
use crate::store::{BatchJob, JobDb};

/// What is under way when the time is up may go on for as long as it does not stand still for this long: the end of a
/// download is worth more than a second or two.
const LULL: Duration = Duration::from_secs(2);

/// How to work.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tells accounts apart: a hash of the key.
    pub account: String,
    /// After so long a batch that was made stands in the service's list.
    pub settle_after: Duration,
    /// How long failures that may pass are waited out when a batch is uploaded or created, one call at a time.
    pub retry_for: Duration,
    /// The same when something is looked up, asked or fetched: whoever waits longer asks again.
    pub asking: Duration,
    /// Nothing is waited out beyond this, and no call that may be repeated waited for.
    pub until: Option<Instant>,
    /// Uploads at once.
    pub uploads: usize,
    /// Live batches of other jobs with the same service.
    pub witnesses: Vec<String>,
}

/// What happens, for whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub enum DriverEvent<'a> {
    /// Bytes of a file that are with the service.
    Uploading {
        /// Which batch.
        number: u32,
        /// So far.
        bytes: u64,
    },
    /// A batch exists from now on.
    Created {
        /// Which.
        batch: &'a BatchJob,
        /// It was made by a request whose reply was lost.
        found: bool,
        /// What the service said beside it.
        warning: Option<&'a str>,
    },
    /// The service will not have a batch.
    Refused(&'a BatchJob),
    /// Nobody knows whether a batch was made.
    InDoubt {
        /// Which.
        batch: &'a BatchJob,
        /// Why.
        why: &'a str,
    },
    /// A batch that was made twice; this one is being cancelled.
    Surplus(&'a str),
    /// Something failed and is tried again.
    Again {
        /// What.
        what: &'a str,
        /// How it failed.
        failure: &'a str,
        /// When.
        wait: Duration,
    },
    /// A batch has another status.
    Moved(&'a BatchJob),
    /// A batch was there, and is here now.
    Progress(&'a BatchJob, &'a BatchJob),
    /// The service has not got a file of results any more.
    Gone {
        /// Of which batch.
        number: u32,
        /// Its id.
        file: &'a str,
    },
    /// Bytes of results that have arrived.
    Downloading {
        /// Which batch.
        number: u32,
        /// So far, of this file.
        bytes: u64,
    },
}

/// The acts on one job's batches. Lives on one thread.
pub struct Driver<'a> {
    /// The service.
    pub client: &'a Client,
    /// The job.
    pub db: RefCell<JobDb>,
    /// The job's directory.
    pub dir: PathBuf,
    /// How to work.
    pub options: Options,
    /// Batches that other jobs here have: whatever they were made from, they are not this job's.
    pub owned: Box<dyn Fn() -> Result<Vec<String>> + 'a>,
    /// Told of what happens.
    pub on_event: Box<dyn Fn(&DriverEvent<'_>) + 'a>,
    /// The user wants out: nothing new is begun.
    pub stop: CancellationToken,
    /// When a call was begun, or bytes of one moved, last.
    pub moved: Cell<Instant>,
}

/// An error that stops the command, from a failed call.
pub fn error(what: &str, failure: &Failure) -> Error {
    let exit = match failure.fault {
        Fault::Auth => Exit::Auth,
        Fault::Payment => Exit::Budget,
        Fault::Local => Exit::Io,
        _ if failure.class() == Class::RowFatal => Exit::Failure,
        _ => Exit::TempFail,
    };
    let error = Error::new(exit, format!("{what}: {}", failure.message));
    match exit {
        Exit::Auth => error.hint("check the key, then run the same command again: it resumes where it stopped"),
        Exit::Budget => error.hint("add credits, then run the same command again: it resumes where it stopped"),
        Exit::TempFail => error.hint("run the same command again later: it resumes where it stopped"),
        _ => error,
    }
}

/// Whether trying again may help, and cannot do harm for a call that may be repeated.
fn passes(failure: &Failure) -> bool {
    matches!(failure.class(), Class::NotSent | Class::AboveRate | Class::NoCapacity | Class::Ambiguous)
}

impl Driver<'_> {
    fn batches(&self) -> Result<Vec<BatchJob>> {
        self.db.borrow().batches()
    }

    fn save(&self, batch: &BatchJob) -> Result<()> {
        self.db.borrow_mut().save_batch(batch)
    }

    fn stopped(&self) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(Error::new(Exit::Interrupt, "interrupted")
                .hint("created batches keep running; run the same command again to resume"));
        }
        Ok(())
    }

    /// Sleeps, or ends early when the user wants out.
    async fn sleep(&self, time: Duration) -> Result<()> {
        tokio::select! {
            () = self.stop.cancelled() => self.stopped(),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    /// Whether retry_for would end before another `wait` does.
    fn too_long(&self, began: Instant, wait: Duration, retry_for: Duration) -> bool {
        began.elapsed() + wait > retry_for || self.options.until.is_some_and(|until| Instant::now() + wait > until)
    }

    /// Makes a call that may be repeated, and gives it up when the time is over.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.moved.set(Instant::now());
        let Some(until) = self.options.until else { return call.await };
        let over = async {
            loop {
                let end = until.max(self.moved.get() + LULL);
                if Instant::now() >= end {
                    return;
                }
                tokio::time::sleep_until(end.into()).await;
            }
        };
        tokio::select! {
            biased;
            result = call => result,
            () = over => Err(Failure {
                fault: Fault::Timeout,
                status: None,
                message: "no answer before the timeout".to_owned(),
                model_unknown: false,
                wait: None,
            }),
        }
    }

    /// Makes a call that may be repeated until it succeeds, fails for good, or retry_for ends.
    async fn retry<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        what: &str,
        retry_for: Duration,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        for failures in 1.. {
            let failure = match self.in_time(call()).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let wait = retry::delay(failure.class(), failures, failure.wait, fastrand::f64());
            if !passes(&failure) || self.too_long(began, wait, retry_for) || self.stop.is_cancelled() {
                return Err(failure);
            }
            (self.on_event)(&DriverEvent::Again { what, failure: &failure.message, wait });
            if self.sleep(wait).await.is_err() {
                return Err(failure);
            }
        }
        unreachable!("the numbers do not end")
    }

    /// Waits.
    ///
    /// # Errors
    /// 130 if the user wants out.
    pub async fn pause(&self, time: Duration) -> Result<()> {
        self.stopped()?;
        self.sleep(time).await
    }
}
