//! What is done about a job's batches with the service: upload, create, look up, ask, cancel, download.
//!
//! Each batch is a small state machine kept in the job's database ([`Step`]); what is about to be done is on the disk
//! before it is done. A batch costs money from its creation on, so that request alone is never sent again blindly: a reply
//! that is lost is looked up in the service's list ([`super::reconcile`]).

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use super::reconcile::{self, Evidence, Listed, Verdict, decide};
use crate::api::batches::{Batch, Created};
use crate::api::error::{Class, Failure, Fault};
use crate::api::{Client, Listed as List, Upload, Uploaded, retry};
use crate::error::{Error, Exit, Result};
use crate::store::batches::{answers_name, failures_name};
use crate::store::{BatchJob, JobDb, Step, now_ms};

/// Small calls under way at once.
const CALLS: usize = 8;
/// Waits between looks at the list while a create is in doubt.
const LOOKS: [u64; 6] = [1, 3, 6, 10, 20, 30];
/// A batch that the service does not know any more is given up after this.
const VANISHED: i64 = 3_600_000;
/// ... and so many questions: a clock that jumps is no hour.
const OFTEN: u32 = 5;

/// How to work.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tells accounts apart: a hash of the key.
    pub account: String,
    /// After so long a batch that was made stands in the service's list.
    pub settle_after: Duration,
    /// How long failures that may pass are waited out when a batch is uploaded or created, one call at a time.
    pub patience: Duration,
    /// The same when something is looked up, asked or fetched: whoever waits longer asks again.
    pub asking: Duration,
    /// Nothing is waited out beyond this.
    pub until: Option<Instant>,
    /// Uploads at once.
    pub uploads: usize,
    /// Live batches of other jobs with the same service.
    pub witnesses: Vec<String>,
}

/// What happens, for whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub enum Tell<'a> {
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
pub struct Courier<'a> {
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
    pub tell: Box<dyn Fn(&Tell<'_>) + 'a>,
    /// The user wants out: nothing new is begun.
    pub stop: CancellationToken,
}

/// An error that stops the command, from a failed call.
#[must_use]
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
        Exit::Auth => error.hint("check the key; the same command goes on from here"),
        Exit::Budget => error.hint("add credits, then run the same command again: it goes on from here"),
        Exit::TempFail => error.hint("run the same command again later: it goes on from here"),
        _ => error,
    }
}

/// Whether trying again may help, and cannot do harm for a call that may be repeated.
fn passes(failure: &Failure) -> bool {
    matches!(failure.class(), Class::NotSent | Class::AboveRate | Class::NoCapacity | Class::Ambiguous)
}

impl Courier<'_> {
    fn batches(&self) -> Result<Vec<BatchJob>> {
        self.db.borrow().batches()
    }

    fn save(&self, batch: &BatchJob) -> Result<()> {
        self.db.borrow_mut().save_batch(batch)
    }

    fn stopped(&self) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(Error::new(Exit::Interrupt, "interrupted")
                .hint("batches that were created go on; so does the same command, from here"));
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

    /// Whether patience would end before another `wait` does.
    fn too_long(&self, began: Instant, wait: Duration, patience: Duration) -> bool {
        began.elapsed() + wait > patience || self.options.until.is_some_and(|until| Instant::now() + wait > until)
    }

    /// Makes a call that may be repeated until it succeeds, fails for good, or patience ends.
    async fn persist<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        what: &str,
        patience: Duration,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        for failures in 1.. {
            let failure = match call().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let wait = retry::delay(failure.class(), failures, failure.wait, fastrand::f64());
            if !passes(&failure) || self.too_long(began, wait, patience) || self.stop.is_cancelled() {
                return Err(failure);
            }
            (self.tell)(&Tell::Again { what, failure: &failure.message, wait });
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

    /// Brings every batch that is planned, or whose creation is in doubt, to the service; or `only_doubts`. Batches that
    /// are refused do not stop the others; what would stop every other one does.
    ///
    /// # Errors
    /// 4 or 5 for key and money, 75 if the service cannot be reached or a create stays in doubt, 130 if interrupted.
    pub async fn submit(&self, only_doubts: bool) -> Result<()> {
        let waits = |batch: &BatchJob| match batch.step {
            Step::Creating => true,
            Step::Planned | Step::Uploaded => !only_doubts,
            Step::Submitted | Step::Refused | Step::Settled => false,
        };
        let todo: Vec<BatchJob> = self.batches()?.into_iter().filter(waits).collect();
        // Key, money, the disk and the user's own wish hold for all batches; a doubt about one does not.
        let worst: RefCell<Option<Error>> = RefCell::default();
        let fatal = || worst.borrow().as_ref().is_some_and(|error| error.exit != Exit::TempFail);
        let mut acts = stream::iter(todo)
            .map(async |batch| {
                // Batches under way come to an end of their own: a create that is dropped would be in doubt.
                if fatal() { Ok(()) } else { self.bring(batch).await }
            })
            .buffer_unordered(self.options.uploads.max(1));
        while let Some(done) = acts.next().await {
            if let Err(error) = done
                && !fatal()
            {
                worst.replace(Some(error));
            }
        }
        drop(acts);
        worst.into_inner().map_or(Ok(()), Err)
    }

    /// One batch, step by step.
    async fn bring(&self, mut batch: BatchJob) -> Result<()> {
        let began = Instant::now();
        loop {
            match batch.step {
                Step::Planned => self.upload(&mut batch).await?,
                Step::Uploaded => self.create(&mut batch, began).await?,
                Step::Creating => self.look_up(&mut batch).await?,
                Step::Submitted | Step::Refused | Step::Settled => return Ok(()),
            }
        }
    }

    /// Uploading costs nothing, so it is simply done again until it is known to be done.
    async fn upload(&self, batch: &mut BatchJob) -> Result<()> {
        self.stopped()?;
        let path = self.dir.join(&batch.name);
        let what = format!("uploading batch {}", batch.number);
        let upload = Upload { path: &path, name: &batch.name, bytes: batch.bytes, sha256: &batch.sha256 };
        let number = batch.number;
        let progress = |bytes| (self.tell)(&Tell::Uploading { number, bytes });
        let patience = self.options.patience;
        let sent = tokio::select! {
            sent = self.persist(&what, patience, || self.client.upload(&upload, &progress)) => sent,
            () = self.stop.cancelled() => return self.stopped(),
        };
        let sent = sent.map_err(|f| error(&what, &f))?;
        let (Uploaded::New(id) | Uploaded::AlreadyThere(id)) = &sent;
        let failed = |f: Failure| error(&what, &f);
        let known = self.persist(&what, patience, || self.client.file(id)).await.map_err(failed)?;
        let there = matches!(sent, Uploaded::AlreadyThere(_));
        if there {
            // The same content was uploaded before, perhaps for another job: its batches are not ours.
            let listed = self.persist(&what, patience, || self.client.batches()).await.map_err(failed)?;
            let same = listed.into_iter().filter(|b| b.input_file_id.as_deref() == Some(id)).map(|b| b.id);
            batch.others = same.collect();
        }
        let torn = known.bytes.map_or(there, |bytes| bytes != batch.bytes && (there || bytes > 0));
        if torn && batch.others.is_empty() {
            // An upload that broke off stands in the way of the whole one.
            self.persist(&what, patience, || self.client.delete_file(id)).await.map_err(failed)?;
        }
        if torn {
            return Err(Error::new(
                Exit::TempFail,
                format!("{what}: the service has {:?} bytes of {}, we have {}", known.bytes, batch.name, batch.bytes),
            )
            .hint("run the same command again: it uploads the file anew"));
        }
        if there && known.processed == Some(false) {
            self.persist(&what, patience, || self.client.preprocess(id)).await.map_err(failed)?;
        }
        batch.file_id = Some(id.clone());
        batch.step = Step::Uploaded;
        self.save(batch)
    }

    /// The one request that costs money.
    async fn create(&self, batch: &mut BatchJob, began: Instant) -> Result<()> {
        let what = format!("creating batch {}", batch.number);
        let file_id = batch.file_id.clone().unwrap_or_default();
        for failures in 1.. {
            self.stopped()?;
            batch.step = Step::Creating;
            batch.begun_at = Some(now_ms());
            batch.tries += 1;
            batch.account = Some(self.options.account.clone());
            self.save(batch)?;
            let failure = match self.client.create_batch(&file_id, &batch.endpoint).await {
                Ok(Created::Batch { batch: made, warning }) => {
                    learn(batch, made);
                    batch.step = Step::Submitted;
                    self.save(batch)?;
                    (self.tell)(&Tell::Created { batch, found: false, warning: warning.as_deref() });
                    return Ok(());
                }
                Ok(Created::NotCreated(why)) => return self.refuse(batch, &why),
                Err(failure) => failure,
            };
            match failure.class() {
                // It never arrived, or was turned away at the door: it may be sent again.
                Class::NotSent | Class::AboveRate => {
                    batch.step = Step::Uploaded;
                    batch.tries -= 1;
                    self.save(batch)?;
                    let wait = retry::delay(failure.class(), failures, failure.wait, fastrand::f64());
                    if self.too_long(began, wait, self.options.patience) {
                        return Err(error(&what, &failure));
                    }
                    (self.tell)(&Tell::Again { what: &what, failure: &failure.message, wait });
                    self.sleep(wait).await?;
                }
                Class::JobFatal => {
                    batch.step = Step::Uploaded;
                    batch.tries -= 1;
                    self.save(batch)?;
                    return Err(error(&what, &failure));
                }
                Class::RowFatal => return self.refuse(batch, &failure.message),
                // May have been made all the same ([`Failure::create_unknown`]).
                Class::NoCapacity | Class::Ambiguous => {
                    (self.tell)(&Tell::InDoubt { batch, why: &failure.message });
                    return Ok(());
                }
            }
        }
        unreachable!("the numbers do not end")
    }

    fn refuse(&self, batch: &mut BatchJob, why: &str) -> Result<()> {
        batch.step = Step::Refused;
        batch.ended = true;
        batch.error = Some(why.to_owned());
        self.save(batch)?;
        (self.tell)(&Tell::Refused(batch));
        Ok(())
    }

    /// Asks the service's list whether a batch was made.
    async fn look_up(&self, batch: &mut BatchJob) -> Result<()> {
        let what = format!("looking for batch {}", batch.number);
        let began = Instant::now();
        let mut looks = LOOKS.into_iter();
        loop {
            let listed = self.persist(&what, self.options.asking, || self.client.batches()).await;
            let listed = listed.map_err(|f| error(&what, &f))?;
            match self.verdict(batch, &listed).await? {
                Verdict::Adopt { id, surplus } => {
                    for id in &surplus {
                        (self.tell)(&Tell::Surplus(id));
                        // If it cannot be cancelled now, the warning has said which one it is.
                        drop(self.persist(&what, self.options.asking, || self.client.cancel_batch(id)).await);
                    }
                    let made = listed.into_iter().find(|b| b.id == id);
                    batch.id = Some(id);
                    batch.step = Step::Submitted;
                    if let Some(made) = made {
                        learn(batch, made);
                    }
                    self.save(batch)?;
                    (self.tell)(&Tell::Created { batch, found: true, warning: None });
                    return Ok(());
                }
                Verdict::Create => {
                    batch.step = Step::Uploaded;
                    return self.save(batch);
                }
                Verdict::Wait(why) => {
                    let wait = Duration::from_secs(looks.next().unwrap_or(60));
                    // No longer than it takes to be sure.
                    let wait = wait.min(self.unsettled(batch).max(Duration::from_millis(200)));
                    if self.too_long(began, wait, self.options.asking) {
                        return Err(Error::new(
                            Exit::TempFail,
                            format!(
                                "batch {} of {} rows may have been created, and the service does not list it: {why}",
                                batch.number, batch.rows
                            ),
                        )
                        .hint("run the same command again later, or `llbatch wait JOB`: it looks again, and pays for nothing twice"));
                    }
                    (self.tell)(&Tell::InDoubt { batch, why });
                    self.sleep(wait).await?;
                }
            }
        }
    }

    /// How long until the list can be believed.
    fn unsettled(&self, batch: &BatchJob) -> Duration {
        reconcile::settled_after(self.options.settle_after, batch.tries).saturating_sub(since(batch))
    }

    async fn verdict(&self, batch: &BatchJob, listed: &List<Batch>) -> Result<Verdict> {
        let list: Vec<Listed> = listed
            .entries
            .iter()
            .map(|b| Listed {
                id: b.id.clone(),
                input_file_id: b.input_file_id.clone(),
                created_at: b.created_at.clone(),
            })
            .collect();
        let file_id = batch.file_id.clone().unwrap_or_default();
        let mut others = batch.others.clone();
        if list.iter().any(|b| b.input_file_id.as_deref() == Some(&file_id)) {
            // The service keeps the same bytes once, so batches of several jobs may be made from one file; the list at the
            // time of the upload need not have shown them.
            others.extend((self.owned)()?);
            others.extend(self.batches()?.into_iter().filter_map(|b| b.id));
        }
        let mut witnesses = self.options.witnesses.clone();
        witnesses
            .extend(self.batches()?.into_iter().filter(|b| b.step == Step::Submitted && !b.ended).filter_map(|b| b.id));
        let mut evidence = Evidence {
            listed: &list,
            file_id: &file_id,
            others: &others,
            witnesses: &witnesses,
            complete: listed.complete,
            since: since(batch),
            settle_after: self.options.settle_after,
            same_account: batch.account.as_deref() == Some(&self.options.account),
            tries: batch.tries,
        };
        // A key that was replaced sees the same file.
        if !evidence.same_account {
            evidence.same_account = self.client.file(&file_id).await.is_ok();
        }
        let verdict = decide(&evidence);
        if verdict == Verdict::Create {
            // Last of all: does this account see the file at all? Then the list is its list too.
            evidence.same_account = self.client.file(&file_id).await.is_ok();
            return Ok(decide(&evidence));
        }
        Ok(verdict)
    }

    /// Whether this key is the one that created the batch, as far as is known.
    fn is_ours(&self, batch: &BatchJob) -> bool {
        batch.account.as_ref().is_none_or(|account| *account == self.options.account)
    }

    /// Asks how the batches are doing. Says whether all that were created have ended.
    ///
    /// # Errors
    /// 4 for the key, 75 if the service cannot be reached; what could be learned is kept.
    pub async fn refresh(&self) -> Result<bool> {
        let open = |batch: &BatchJob| batch.step == Step::Submitted && !batch.ended;
        let todo: Vec<BatchJob> = self.batches()?.into_iter().filter(open).collect();
        let mut asked = stream::iter(todo)
            .map(async |batch| {
                let id = batch.id.clone().unwrap_or_default();
                let what = format!("asking about {id}");
                let answer = self.persist(&what, self.options.asking, || self.client.batch(&id)).await;
                (what, batch, answer)
            })
            .buffer_unordered(CALLS);
        let mut worst = None;
        while let Some((what, mut batch, answer)) = asked.next().await {
            let before = batch.clone();
            match answer {
                Ok(known) => learn_all(&mut batch, known),
                Err(failure) if failure.fault == Fault::NotFound && !self.is_ours(&batch) => {
                    let why =
                        format!("{what}: this key is not of the account that created it, or it has been replaced");
                    worst.get_or_insert(Error::new(Exit::Auth, why).hint("use the key with which it was submitted"));
                    continue;
                }
                Err(failure) if failure.fault == Fault::NotFound => vanish(&mut batch, now_ms()),
                Err(failure) => {
                    worst.get_or_insert_with(|| error(&what, &failure));
                    continue;
                }
            }
            if batch != before {
                self.save(&batch)?;
                let ended = batch.ended && !before.ended;
                if ended || batch.status != before.status || batch.progress != before.progress {
                    let step = batch.status == before.status && !ended;
                    (self.tell)(&if step { Tell::Progress(&before, &batch) } else { Tell::Moved(&batch) });
                }
            }
        }
        match worst {
            Some(error) => Err(error),
            None => Ok(self.batches()?.iter().all(|batch| batch.ended || batch.step == Step::Settled)),
        }
    }

    /// Ends every batch that has not ended: those that were never created at once, the others when the service says so.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub async fn cancel(&self) -> Result<()> {
        let mut worst = Ok(());
        // What was never sent first: that cannot fail.
        let mut batches = self.batches()?;
        batches.sort_by_key(|batch| !matches!(batch.step, Step::Planned | Step::Uploaded));
        for batch in batches {
            let done = self.cancel_one(batch).await;
            if worst.is_ok() {
                worst = done;
            }
        }
        worst
    }

    async fn cancel_one(&self, mut batch: BatchJob) -> Result<()> {
        if batch.step == Step::Creating {
            self.look_up(&mut batch).await?;
        }
        match batch.step {
            Step::Planned | Step::Uploaded => {
                batch.step = Step::Refused;
                batch.cancel = true;
                batch.ended = true;
                batch.status = Some("CANCELLED".to_owned());
                self.save(&batch)
            }
            Step::Submitted if !batch.ended => {
                batch.cancel = true;
                self.save(&batch)?;
                let id = batch.id.clone().unwrap_or_default();
                let what = format!("cancelling {id}");
                match self.persist(&what, self.options.asking, || self.client.cancel_batch(&id)).await {
                    Ok(known) => learn(&mut batch, known),
                    // It ended meanwhile, most likely: asking tells.
                    Err(failure) if failure.class() == Class::RowFatal => {
                        let known = self.persist(&what, self.options.asking, || self.client.batch(&id)).await;
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
                (self.tell)(&Tell::Moved(&batch));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Asks about one batch that has ended: files of its results may be named only now.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub async fn ask(&self, batch: &mut BatchJob) -> Result<()> {
        let Some(id) = batch.id.clone() else { return Ok(()) };
        let what = format!("asking about {id}");
        match self.persist(&what, self.options.asking, || self.client.batch(&id)).await {
            Ok(known) if known.status.is_final() => learn_all(batch, known),
            // It has ended for certain; what is said otherwise now is a confusion.
            Ok(_) => {}
            Err(failure) if failure.fault == Fault::NotFound => {}
            Err(failure) => return Err(error(&what, &failure)),
        }
        self.save(batch)
    }

    /// Downloads the results of a batch that has ended. A file that was downloaded before is downloaded `anew` on demand.
    ///
    /// # Errors
    /// 75 if the service cannot be reached, 1 if it has not got the file, 74 if the disk refuses.
    pub async fn download(&self, batch: &BatchJob, anew: bool) -> Result<(Option<PathBuf>, Option<PathBuf>)> {
        let output = self.take(batch, batch.output_file_id.as_deref(), &answers_name(batch.number), anew).await?;
        let errors = self.take(batch, batch.error_file_id.as_deref(), &failures_name(batch.number), anew).await?;
        Ok((output, errors))
    }

    async fn take(&self, batch: &BatchJob, id: Option<&str>, name: &str, anew: bool) -> Result<Option<PathBuf>> {
        let Some(id) = id else { return Ok(None) };
        let path = self.dir.join(name);
        if path.exists() && !anew {
            return Ok(Some(path));
        }
        let part = self.dir.join(format!("{name}.part"));
        if anew {
            // A copy that lacked rows is not gone on with.
            drop(std::fs::remove_file(&part));
        }
        let what = format!("downloading the results of {}", batch.id.as_deref().unwrap_or_default());
        let progress = |bytes| (self.tell)(&Tell::Downloading { number: batch.number, bytes });
        let patience = self.options.asking;
        let length = self.persist(&what, patience, || self.client.download(id, &part, &progress)).await;
        let length = match length {
            Ok(length) => length,
            // Then it is as if it had never been named: its rows are missing.
            Err(failure) if failure.fault == Fault::NotFound => {
                (self.tell)(&Tell::Gone { number: batch.number, file: id });
                return Ok(None);
            }
            Err(failure) => return Err(error(&what, &failure)),
        };
        // What the service says of the file must agree with what came, if it says anything.
        let known = self.persist(&what, patience, || self.client.file(id)).await;
        if let Some(bytes) = known.ok().and_then(|file| file.bytes).filter(|bytes| *bytes > 0 && *bytes != length) {
            drop(std::fs::remove_file(&part));
            return Err(Error::new(Exit::TempFail, format!("{what}: {length} bytes came, the service says {bytes}"))
                .hint("run the same command again: it downloads the file anew"));
        }
        let kept = |e| Error::io(format!("{}: cannot be kept", path.display()), e);
        std::fs::File::open(&part).and_then(|file| file.sync_all()).map_err(kept)?;
        std::fs::rename(&part, &path).map_err(kept)?;
        // The database will point into it: its name must be as durable.
        std::fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(kept)?;
        Ok(Some(path))
    }
}

/// Since the request that creates it may have been sent.
fn since(batch: &BatchJob) -> Duration {
    let millis = batch.begun_at.map_or(i64::MAX, |at| now_ms().saturating_sub(at));
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Takes over what the service says of a batch that was asked about by its id.
fn learn_all(batch: &mut BatchJob, known: Batch) {
    batch.ended = known.status.is_final();
    learn(batch, known);
}

/// Takes over what the service says beside something else: in its list, or in reply to a create or a cancel. That it has
/// ended is not believed there, because the files with its results may not be named yet.
fn learn(batch: &mut BatchJob, known: Batch) {
    batch.id = Some(known.id);
    batch.status = Some(known.status.as_str().to_owned());
    batch.unknown_since = None;
    batch.unknown_times = 0;
    let keep = |new: Option<String>, old: &mut Option<String>| {
        if new.is_some() {
            *old = new;
        }
    };
    keep(known.output_file_id, &mut batch.output_file_id);
    keep(known.error_file_id, &mut batch.error_file_id);
    keep(known.error, &mut batch.error);
    keep(known.job_deadline, &mut batch.deadline);
    keep(known.created_at, &mut batch.created_at);
    keep(known.completed_at, &mut batch.completed_at);
    batch.progress = known.progress.or(batch.progress);
}

/// The service does not know it. For an hour that may be its own confusion.
fn vanish(batch: &mut BatchJob, now: i64) {
    let since = *batch.unknown_since.get_or_insert(now);
    batch.status = Some("NOT FOUND".to_owned());
    batch.unknown_times += 1;
    if now - since >= VANISHED && batch.unknown_times >= OFTEN {
        batch.ended = true;
        batch.error = Some("the service has not known this batch for an hour".to_owned());
    }
}
