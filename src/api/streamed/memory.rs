//! The memory of all open streams together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that open streams may hold together. Beyond that, streams that are not small are read one at a time.
const ROOM: usize = 256 << 20;
/// Bytes of a stream that is always read on: more than nearly every answer has.
const SMALL: usize = 64 << 10;

/// Counts the bytes of all open streams of a service.
#[derive(Debug)]
pub(in crate::api) struct StreamMemory {
    pub(super) held: AtomicUsize,
    room: usize,
    #[cfg(test)]
    pub(super) most: AtomicUsize,
}

/// The share of one stream. Its bytes are free when it is dropped.
pub(super) struct StreamShare {
    memory: Arc<StreamMemory>,
    bytes: usize,
    /// It is the one stream that is read on although there is no room.
    alone: Option<OwnedSemaphorePermit>,
}

impl Default for StreamMemory {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl StreamMemory {
    pub(super) const fn with_room(room: usize) -> Self {
        Self {
            held: AtomicUsize::new(0),
            room,
            #[cfg(test)]
            most: AtomicUsize::new(0),
        }
    }
}

impl StreamShare {
    pub(super) fn of(memory: &Arc<StreamMemory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0, alone: None }
    }

    /// Notes the bytes that the stream holds now. If there is no room for more, waits until no other stream or long answer is
    /// read in `turn`. The server waits meanwhile, as it does for a slow reader.
    pub(super) async fn hold(&mut self, bytes: usize, turn: &Arc<Semaphore>) {
        // It shrinks when a long event has been read, which need not be noted at once.
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return;
        }
        self.bytes = bytes;
        let held = self.memory.held.fetch_add(more, Ordering::Relaxed) + more;
        #[cfg(test)]
        self.memory.most.fetch_max(held, Ordering::Relaxed);
        if held > self.memory.room && bytes > SMALL && self.alone.is_none() {
            self.alone = Arc::clone(turn).acquire_owned().await.ok();
        }
    }
}

impl Drop for StreamShare {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
