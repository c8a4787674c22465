//! The bytes of local files in requests: read just before a request leaves, and no more at a time than memory has room for.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task;

use crate::request::{Attachments, FileFault};

/// Bytes of all bodies with files that are in memory, about. A single larger one waits until it is alone.
const MOST: usize = 256 << 20;
/// Bytes of a permit.
const UNIT: usize = 1 << 10;

/// The room for bodies with files.
pub(super) struct FileMemory(Arc<Semaphore>);

/// A body with its files, and its share of the room.
pub(super) struct WholeBody {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Default for FileMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST / UNIT)))
    }
}

impl FileMemory {
    /// The room for a file that is read while it is sent: some pieces of it are in memory.
    pub(super) async fn room_for_pieces(&self) -> Option<OwnedSemaphorePermit> {
        /// Pieces that wait in buffers, and one in hand.
        const PIECES: u32 = 512;
        // It is never closed.
        Arc::clone(&self.0).acquire_many_owned(PIECES).await.ok()
    }

    /// The body with its files in the places of their stand-ins. Files are read on other threads.
    ///
    /// # Errors
    /// A file is not as it was when the row was checked.
    pub(super) async fn whole(&self, body: &Bytes, files: &Attachments) -> Result<WholeBody, FileFault> {
        if files.is_empty() {
            return Ok(WholeBody { bytes: body.clone(), _room: None });
        }
        let size = usize::try_from(files.sent_bytes(body.len() as u64)).unwrap_or(MOST);
        let units = u32::try_from((size / UNIT + 1).min(MOST / UNIT)).unwrap_or(u32::MAX);
        // It is never closed.
        let room = Arc::clone(&self.0).acquire_many_owned(units).await.ok();
        let (text, files) = (body.clone(), files.clone());
        let read = task::spawn_blocking(move || {
            let mut whole = Vec::new();
            files.write(&text, &mut whole).map(|()| Bytes::from(whole))
        });
        match read.await {
            Ok(bytes) => Ok(WholeBody { bytes: bytes?, _room: room }),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}
