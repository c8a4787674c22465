//! Uploads the file of a batch. An upload costs nothing, so llbatch repeats each of its steps until it is known to be done.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use super::news::learn;
use super::{Driver, DriverEvent, error};
use crate::api::batches::{Batch, BatchStatus};
use crate::api::error::{Class, Failure};
use crate::api::files::FileObject;
use crate::api::{Dialect, Registered, Upload, UploadForm};
use crate::error::{Error, Exit, Result};
use crate::store::{BatchStep, JobBatch};

/// A file at the service, after its bytes were sent or found there.
struct SentFile {
    id: String,
    /// An earlier upload brought its bytes.
    there: bool,
}

/// Returns true if the service may take a file in another form.
fn asks_for_form(failure: &Failure) -> bool {
    matches!(failure.status, Some(400 | 404 | 405 | 415 | 422 | 501))
}

/// The error of a service that has no files, or takes them in `OpenAI`'s form.
fn without_files(failure: &Failure) -> Option<Error> {
    let missing = matches!(failure.status, Some(404 | 405 | 501));
    let words = failure.message.to_lowercase();
    let openai = failure.status == Some(400) && words.contains("purpose");
    let (what, hint) = if missing {
        ("the service has no /files, so it takes no batches", "`llbatch run` sends the rows in real time")
    } else if openai {
        (
            "the service takes files in another form",
            "if it speaks OpenAI's dialect, set dialect = \"openai\" in its [services.NAME] of the config file",
        )
    } else {
        return None;
    };
    Some(Error::new(Exit::Failure, format!("{what} ({})", failure.message)).hint(hint))
}

impl Driver<'_> {
    /// Uploads the batch's file, or takes over a batch that was created from an identical file.
    pub(super) async fn upload(&self, batch: &mut JobBatch) -> Result<()> {
        let what = format!("uploading batch {}", batch.number);
        let failed = |f: Failure| error(&what, &f);
        let retry_for = self.options.retry_for;
        if self.take_labelled(batch, &what).await? {
            return Ok(());
        }
        for again in [true, false] {
            self.stopped()?;
            let sent = tokio::select! {
                sent = self.send_file(batch, &what) => sent?,
                () = self.stop.cancelled() => return self.stopped(),
            };
            let known = self.retry(&what, retry_for, || self.client.file(&sent.id)).await.map_err(failed)?;
            let mut same = Vec::new();
            if sent.there {
                // The same content was uploaded before, perhaps for another job, whose batches do not belong to this one.
                let listed = self.retry(&what, retry_for, || self.client.batches()).await.map_err(failed)?;
                same.extend(listed.into_iter().filter(|b| b.input_file_id.as_ref() == Some(&sent.id)));
                batch.creation.others.extend(same.iter().map(|b| b.id.clone()));
            }
            let torn = known.bytes.map_or(sent.there, |bytes| bytes != batch.file.bytes && (sent.there || bytes > 0));
            if !torn {
                return self.uploaded(batch, sent, &known, same).await;
            }
            if same.is_empty() {
                // A partial upload blocks the whole one.
                self.retry(&what, retry_for, || self.client.delete_file(&sent.id)).await.map_err(failed)?;
            }
            if !again || !same.is_empty() {
                return Err(Error::new(
                    Exit::TempFail,
                    format!(
                        "{what}: the service has {} bytes of {}, but llbatch has {}",
                        known.bytes.map_or_else(|| "an unknown number of".to_owned(), |bytes| bytes.to_string()),
                        batch.file.name,
                        batch.file.bytes
                    ),
                )
                .hint("run the same command again: it uploads the file again"));
            }
        }
        unreachable!("the second round returns")
    }

    /// Sends the bytes in the form of the service, unless it has them.
    async fn send_file(&self, batch: &JobBatch, what: &str) -> Result<SentFile> {
        let failed = |failure: &Failure| without_files(failure).unwrap_or_else(|| error(what, failure));
        if self.client.dialect() == Dialect::Openai {
            return self.send_form(batch, UploadForm::Openai, what).await.map_err(|failure| failed(&failure));
        }
        let registered = Cell::new(false);
        match self.register_file(batch, &registered, what).await {
            Err(failure) if registered.get() || !asks_for_form(&failure) => Err(error(what, &failure)),
            // Together's specification has another form, which takes the bytes at once.
            Err(failure) => match self.send_form(batch, UploadForm::Together, what).await {
                Err(other) if asks_for_form(&other) => Err(failed(&failure)),
                sent => sent.map_err(|failure| failed(&failure)),
            },
            Ok(sent) => Ok(sent),
        }
    }

    /// Uploads the file with one form.
    async fn send_form(&self, batch: &JobBatch, form: UploadForm, what: &str) -> Result<SentFile, Failure> {
        let path = self.dir.join(&batch.file.name);
        let upload =
            Upload { path: &path, name: &batch.file.name, bytes: batch.file.bytes, sha256: &batch.file.sha256 };
        let progress = |bytes| {
            self.moved.set(Instant::now());
            (self.on_event)(&DriverEvent::Uploading { number: batch.number, bytes });
        };
        let file = self.retry(what, self.options.retry_for, || self.client.upload(form, &upload, &progress)).await?;
        Ok(SentFile { id: file.id, there: false })
    }

    /// Registers the file and sends the bytes, unless the service has them. A registration whose place can still be used is
    /// not repeated. `known`: the service has taken the registration.
    async fn register_file(&self, batch: &JobBatch, known: &Cell<bool>, what: &str) -> Result<SentFile, Failure> {
        let path = self.dir.join(&batch.file.name);
        let upload =
            Upload { path: &path, name: &batch.file.name, bytes: batch.file.bytes, sha256: &batch.file.sha256 };
        let number = batch.number;
        let progress = |bytes| {
            self.moved.set(Instant::now());
            (self.on_event)(&DriverEvent::Uploading { number, bytes });
        };
        let registered: RefCell<Option<Registered>> = RefCell::default();
        let send = async || {
            let earlier = registered.borrow().clone();
            let place = match earlier {
                Some(earlier) => earlier,
                None => self.client.register(&upload).await?,
            };
            known.set(true);
            registered.replace(Some(place.clone()));
            let (id, place) = match place {
                Registered::At(id, place) => (id, place),
                Registered::AlreadyThere(id) => return Ok(SentFile { id, there: true }),
            };
            self.client.put(place, &upload, &progress).await.inspect_err(|failure| {
                // The storage refuses this place, which may have expired.
                if failure.status.is_some_and(|status| status < 500) {
                    registered.replace(None);
                }
            })?;
            Ok(SentFile { id, there: false })
        };
        let sent = self.retry(what, self.options.retry_for, send).await?;
        if !sent.there {
            self.process(&sent.id, what).await?;
        }
        Ok(sent)
    }

    /// Lets the service process the file.
    async fn process(&self, id: &str, what: &str) -> Result<(), Failure> {
        let process = async || match self.client.preprocess(id).await {
            // An earlier request has begun it.
            Err(failure) if failure.status == Some(409) => Ok(()),
            done => done.map(drop),
        };
        self.retry(what, self.options.retry_for, process).await
    }

    /// Records a file whose bytes are all at the service.
    async fn uploaded(&self, batch: &mut JobBatch, sent: SentFile, known: &FileObject, same: Vec<Batch>) -> Result<()> {
        let SentFile { id, there } = sent;
        if let Some(found) = self.ownerless(same).await? {
            return self.take_over(batch, id, found);
        }
        if there && known.processed != Some(true) {
            let what = format!("processing the file of batch {}", batch.number);
            match self.process(&id, &what).await {
                // The service does not say whether it was processed. The creation will tell.
                Err(failure) if known.processed.is_none() && failure.class() == Class::RowFatal => {}
                done => done.map_err(|failure| error(&what, &failure))?,
            }
        }
        batch.file.id = Some(id);
        batch.step = BatchStep::Uploaded;
        self.save(batch)
    }

    fn take_over(&self, batch: &mut JobBatch, file_id: String, found: Batch) -> Result<()> {
        batch.file.id = Some(file_id);
        batch.creation.others.retain(|other| *other != found.id);
        batch.creation.account = Some(self.options.account.clone());
        learn(batch, found);
        batch.step = BatchStep::Submitted;
        self.save(batch)?;
        (self.on_event)(&DriverEvent::TakenOver(batch));
        Ok(())
    }

    /// Takes over a batch whose label names an identical file. `OpenAI`'s form keeps equal files apart, so nothing else shows it.
    async fn take_labelled(&self, batch: &mut JobBatch, what: &str) -> Result<bool> {
        if self.client.dialect() == Dialect::Together || !self.options.take_over || batch.file.sha256.is_empty() {
            return Ok(false);
        }
        let listed = match self.retry(what, self.options.retry_for, || self.client.batches()).await {
            Ok(listed) => listed,
            // The upload will say what the service lacks.
            Err(failure) if failure.class() == Class::RowFatal => return Ok(false),
            Err(failure) => return Err(error(what, &failure)),
        };
        let same = |found: &Batch| found.label.as_ref().is_some_and(|label| label.sha256 == batch.file.sha256);
        let same: Vec<Batch> = listed.into_iter().filter(same).collect();
        let Some(found) = self.ownerless(same).await? else { return Ok(false) };
        let Some(file_id) = found.input_file_id.clone() else { return Ok(false) };
        self.take_over(batch, file_id, found).map(|()| true)
    }

    /// Chooses among batches of an identical file one to take over: it is live or completed, and no job here owns it. A state
    /// directory that is lost or elsewhere has made it.
    async fn ownerless(&self, same: Vec<Batch>) -> Result<Option<Batch>> {
        if !self.options.take_over || same.is_empty() {
            return Ok(None);
        }
        let mut owned = (self.owned)()?;
        owned.extend(self.batches()?.into_iter().filter_map(|batch| batch.remote.id));
        for found in same.into_iter().filter(|batch| !owned.contains(&batch.id)) {
            let good = match (&found.status, &found.output_file_id) {
                (BatchStatus::Validating | BatchStatus::InProgress | BatchStatus::Finalizing, _) => true,
                // Results that the service has deleted are of no use.
                (BatchStatus::Completed, Some(file)) => self.in_time(self.client.file(file)).await.is_ok(),
                _ => false,
            };
            if good {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
