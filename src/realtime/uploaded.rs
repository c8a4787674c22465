//! Requests that are forms with a recording. The recording is read while it is sent, again for each try.

use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task;

use super::attempt::{FailedTry, Tried, read_as};
use super::row::RowTask;
use super::upstreams::Site;
use crate::api::chat;
use crate::api::error::{Failure, Fault};
use crate::api::form::{FileSource, FormBody, RecordingUpload};
use crate::api::limits::Limits;
use crate::request::{AttachedFile, FileFault, FormField, RecordingPieces, form_fields};

/// A form that is about to leave.
pub(super) struct ReadyForm {
    body: FormBody,
    /// The fault of the file, once it shows.
    fault: Arc<OnceLock<FileFault>>,
    _room: Option<OwnedSemaphorePermit>,
}

/// The pieces of a file that note their fault.
struct WatchedPieces {
    pieces: RecordingPieces,
    fault: Arc<OnceLock<FileFault>>,
}

impl FileSource for WatchedPieces {
    fn piece(&mut self) -> io::Result<Option<Bytes>> {
        self.pieces.piece().map_err(|fault| {
            let broken = io::Error::other(fault.message.clone());
            // Only the first fault counts.
            drop(self.fault.set(fault));
            broken
        })
    }
}

impl RowTask {
    /// The form of the row's request, with its recording opened.
    ///
    /// # Errors
    /// The recording is not as it was when the row was checked.
    pub(super) async fn form(&self) -> Result<ReadyForm, FileFault> {
        let fault = Arc::new(OnceLock::new());
        let body = std::str::from_utf8(&self.body).unwrap_or_default();
        let fields = |uploaded: bool| -> Vec<(String, String)> {
            form_fields(body, uploaded).into_iter().map(|FormField { name, text }| (name, text)).collect()
        };
        let Some(file) = self.files.first().cloned() else {
            return Ok(ReadyForm { body: FormBody { fields: fields(false), file: None }, fault, _room: None });
        };
        let room = self.engine.file_memory.room_for_pieces().await;
        let (name, media_type, bytes) = (file.upload_name(), file.media_type(), file.bytes());
        let pieces = opened(file).await?;
        let source = Box::new(WatchedPieces { pieces, fault: Arc::clone(&fault) });
        let file = Some(RecordingUpload { name, media_type, bytes, source });
        Ok(ReadyForm { body: FormBody { fields: fields(true), file }, fault, _room: room })
    }

    /// Sends a form, and reads its answer.
    pub(super) async fn upload(&mut self, to: &Site, form: ReadyForm) -> Tried {
        let ReadyForm { body, fault, _room } = form;
        let result = to.client.post_form(&to.address, body, self.engine.options.speed.request_timeout).await;
        match (result, fault.get()) {
            // The service got a part of the file at most, and no request.
            (Err(_), Some(fault)) => {
                let message = fault.message.clone();
                let failure = Failure::new(Fault::InvalidRequest, message);
                Tried::Failed(FailedTry::of(failure, Limits::default()))
            }
            (result, _) => read_as(result, chat::read_transcript),
        }
    }
}

/// Opens a file on another thread.
async fn opened(file: AttachedFile) -> Result<RecordingPieces, FileFault> {
    match task::spawn_blocking(move || file.open()).await {
        Ok(opened) => opened,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
