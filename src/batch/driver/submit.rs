//! Submits batches: uploads them, creates each once, and looks up creations in doubt.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use futures_util::stream::{self, StreamExt};

use super::news::{learn, millis};
use super::{Driver, DriverEvent, SubmitScope, error};
use crate::api::batches::{Batch, Created};
use crate::api::error::Class;
use crate::api::{Listing, retry};
use crate::batch::reconcile::{self, CreationVerdict, Evidence, ListedBatch, decide};
use crate::error::{Error, Exit, Result};
use crate::store::{BatchStep, JobBatch};

impl Driver<'_> {
    /// Settles every creation in doubt, and submits the batches of `scope`. A refused or postponed batch does not stop the
    /// others. A failure that would stop every other one does.
    ///
    /// # Errors
    /// 4 or 5 for key and money, 75 if the service cannot be reached or a create stays in doubt, 130 if interrupted.
    pub async fn submit(&self, scope: SubmitScope) -> Result<()> {
        let todo: Vec<JobBatch> = self.batches()?.into_iter().filter(|batch| self.submits(batch, scope)).collect();
        // Failures of the key, the budget or the disk, and an interrupt, concern all batches. A doubt concerns one.
        let worst: RefCell<Option<Error>> = RefCell::default();
        let fatal = || worst.borrow().as_ref().is_some_and(|error| error.exit != Exit::TempFail);
        let began = Instant::now();
        let mut acts = stream::iter(todo)
            .map(async |batch| {
                // Batches in progress finish: a dropped create would be in doubt.
                if fatal() { Ok(()) } else { self.advance(batch, began).await }
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

    /// Takes one batch through its steps. All doubts of earlier commands share the time since `all_began`.
    async fn advance(&self, mut batch: JobBatch, all_began: Instant) -> Result<()> {
        let began = Instant::now();
        let mut look_began = Some(all_began);
        let mut uploaded = false;
        loop {
            match batch.step {
                BatchStep::Planned => {
                    self.upload(&mut batch).await?;
                    uploaded = true;
                }
                BatchStep::Uploaded => {
                    self.create(&mut batch, began, uploaded).await?;
                    if batch.step == BatchStep::Uploaded {
                        return Ok(());
                    }
                    look_began = None;
                }
                BatchStep::Creating => {
                    self.look_up(&mut batch, look_began.unwrap_or_else(Instant::now)).await?;
                }
                BatchStep::Submitted | BatchStep::Refused | BatchStep::Settled => return Ok(()),
            }
        }
    }

    /// Learns the service's time, if an earlier command uploaded the file: any answer carries it.
    async fn learn_time(&self, file_id: &str) {
        if self.client.now().is_some() {
            return;
        }
        tokio::select! {
            _ = self.in_time(self.client.file(file_id)) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Records that a request to create the batch is about to leave, at the prices in force.
    fn begin_try(&self, batch: &mut JobBatch) -> Result<()> {
        batch.step = BatchStep::Creating;
        batch.creation.begun_at = Some(millis(SystemTime::now()));
        batch.creation.begun_there = self.client.now().map(millis);
        batch.creation.tries += 1;
        batch.creation.account = Some(self.options.account.clone());
        batch.cost.prices = self.db.borrow().prices_in_force();
        self.save(batch)
    }

    /// Creates the batch, with the one request that costs money. The batch is [`BatchStep::Uploaded`] afterwards if it is
    /// postponed. `uploaded`: this command uploaded its file.
    async fn create(&self, batch: &mut JobBatch, began: Instant, uploaded: bool) -> Result<()> {
        let what = format!("creating batch {}", batch.number);
        let file_id = batch.file.id.clone().unwrap_or_default();
        self.learn_time(&file_id).await;
        let mut failures = 0;
        loop {
            failures += 1;
            self.stopped()?;
            self.begin_try(batch)?;
            let failure = match self.client.create_batch(&file_id, &batch.endpoint, Some(&self.label(batch))).await {
                Ok(Created::Batch { batch: made, warning }) => {
                    batch.remote.error = None;
                    learn(batch, made);
                    batch.step = BatchStep::Submitted;
                    self.save(batch)?;
                    (self.on_event)(&DriverEvent::Created { batch, found: false, warning: warning.as_deref() });
                    return Ok(());
                }
                Ok(Created::NotCreated(why)) => return self.declined(batch, &why),
                Err(failure) => failure,
            };
            match failure.class() {
                // The request never arrived, or was refused unread. It may be sent again.
                Class::NotSent | Class::AboveRate => {
                    batch.step = BatchStep::Uploaded;
                    batch.creation.tries -= 1;
                    self.save(batch)?;
                    let wait = retry::delay(failure.class(), failures, failure.wait, fastrand::f64());
                    if self.too_long(began, wait, self.options.retry_for) {
                        return match failure.class() {
                            Class::AboveRate => self.postpone(batch, &failure.message),
                            _ => Err(error(&what, &failure)),
                        };
                    }
                    (self.on_event)(&DriverEvent::Again { what: &what, failure: &failure.message, wait });
                    self.sleep(wait).await?;
                }
                Class::JobFatal => {
                    batch.step = BatchStep::Uploaded;
                    batch.creation.tries -= 1;
                    self.save(batch)?;
                    return Err(error(&what, &failure));
                }
                Class::RowFatal | Class::Spent if !uploaded && self.lacks_file(batch).await => {
                    batch.step = BatchStep::Planned;
                    batch.creation.tries -= 1;
                    return self.save(batch);
                }
                Class::RowFatal | Class::Spent => return self.declined(batch, &failure.message),
                // The batch may exist all the same ([`Failure::create_unknown`]).
                Class::NoCapacity | Class::Ambiguous => {
                    (self.on_event)(&DriverEvent::InDoubt { batch, why: &failure.message });
                    return Ok(());
                }
            }
        }
    }

    /// Looks in the service's list for the batch: at least once, and again while the time since `began` allows it.
    pub(super) async fn look_up(&self, batch: &mut JobBatch, began: Instant) -> Result<()> {
        let what = format!("looking for batch {}", batch.number);
        let mut looks = 0;
        loop {
            let left = self.options.limits.retry_for.saturating_sub(began.elapsed());
            let listed = self.retry(&what, left, || self.client.batches()).await;
            let listed = listed.map_err(|f| error(&what, &f))?;
            match self.verdict(batch, &listed).await? {
                CreationVerdict::Adopt { id, surplus } => {
                    for id in &surplus {
                        (self.on_event)(&DriverEvent::Surplus(id));
                        // If it cannot be cancelled now, the warning has named it.
                        drop(self.retry(&what, self.options.limits.retry_for, || self.client.cancel_batch(id)).await);
                    }
                    let made = listed.into_iter().find(|b| b.id == id);
                    batch.remote.id = Some(id);
                    batch.remote.error = None;
                    batch.step = BatchStep::Submitted;
                    if let Some(made) = made {
                        learn(batch, made);
                    }
                    self.save(batch)?;
                    (self.on_event)(&DriverEvent::Created { batch, found: true, warning: None });
                    return Ok(());
                }
                CreationVerdict::Create => {
                    batch.step = BatchStep::Uploaded;
                    return self.save(batch);
                }
                CreationVerdict::Wait(why) => {
                    let wait = reconcile::next_look(looks, self.unsettled(batch));
                    looks += 1;
                    if self.too_long(began, wait, self.options.limits.retry_for) {
                        return Err(Error::new(
                            Exit::TempFail,
                            format!(
                                "batch {} of {} rows may have been created, but the service does not list it: {why}",
                                batch.number, batch.rows
                            ),
                        )
                        .hint(
                            "run the same command later, or any other command on the job: it looks for the batch again \
                             and pays for nothing twice",
                        ));
                    }
                    (self.on_event)(&DriverEvent::InDoubt { batch, why });
                    self.sleep(wait).await?;
                }
            }
        }
    }

    /// Time until the service's list is reliable for this batch.
    fn unsettled(&self, batch: &JobBatch) -> Duration {
        reconcile::settled_after(self.options.settle_after, batch.creation.tries).saturating_sub(self.since(batch))
    }

    async fn verdict(&self, batch: &JobBatch, listed: &Listing<Batch>) -> Result<CreationVerdict> {
        let own = self.label(batch);
        let list: Vec<ListedBatch> = listed
            .entries
            .iter()
            .map(|b| ListedBatch {
                id: b.id.clone(),
                input_file_id: b.input_file_id.clone(),
                created_at: b.created_at.clone(),
                ours: b.label.as_ref().map(|label| label.is_of(&own)),
            })
            .collect();
        let file_id = batch.file.id.clone().unwrap_or_default();
        let mut others = batch.creation.others.clone();
        if list.iter().any(|b| b.input_file_id.as_deref() == Some(&file_id) || b.ours == Some(true)) {
            // The service keeps equal files once, so batches of several jobs may share a file. The list at the time of
            // the upload may not have shown them.
            others.extend((self.owned)()?);
            others.extend(self.batches()?.into_iter().filter_map(|b| b.remote.id));
        }
        let mut witnesses = self.options.witnesses.clone();
        witnesses.extend(
            self.batches()?
                .into_iter()
                .filter(|b| b.step == BatchStep::Submitted && !b.ended)
                .filter_map(|b| b.remote.id),
        );
        let mut evidence = Evidence {
            listed: &list,
            file_id: &file_id,
            others: &others,
            witnesses: &witnesses,
            complete: listed.complete,
            since: self.since(batch),
            settle_after: self.options.settle_after,
            same_account: self.options.elsewhere.is_none()
                && batch.creation.account.as_deref() == Some(&self.options.account),
            tries: batch.creation.tries,
        };
        // A replaced key of the same account sees the same file.
        if !evidence.same_account {
            evidence.same_account = self.in_time(self.client.file(&file_id)).await.is_ok();
        }
        let verdict = decide(&evidence);
        if verdict == CreationVerdict::Create {
            // If this key can see the file, it belongs to the same account, and so does the list.
            evidence.same_account = self.in_time(self.client.file(&file_id)).await.is_ok();
            return Ok(decide(&evidence));
        }
        Ok(verdict)
    }

    /// Returns the time since the create request may have been sent, by the service's clock if it sent the time both
    /// times.
    fn since(&self, batch: &JobBatch) -> Duration {
        let there =
            batch.creation.begun_there.zip(self.client.now().map(millis)).map(|(begun, now)| now.saturating_sub(begun));
        let here = || batch.creation.begun_at.map_or(i64::MAX, |begun| millis(SystemTime::now()).saturating_sub(begun));
        Duration::from_millis(u64::try_from(there.unwrap_or_else(here)).unwrap_or(0))
    }
}
