//! An object at the version in which it was found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::background::{self, Pending};
use super::bucket::ObjectBucket;
use super::failure::{Direction, FailureKind, ObjectFailure};
use super::hub;
use super::url::{ObjectPlace, ObjectUrl};
use super::web::WebObject;
use crate::error::{Error, Result};

/// Time for which a read is tried again after the last answer. A store that restarts or throttles is back within it.
const PATIENCE: Duration = Duration::from_mins(2);
/// The wait after the first failure, and the longest one; each is twice the last.
const WAITS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

/// An object that was looked up.
#[derive(Debug)]
pub enum FoundObject {
    /// It can be read in ranges.
    Ranged(RemoteObject),
    /// The server gives the whole only, or does not tell versions apart. It is to be copied to a file.
    Whole(WebObject),
}

/// An object, pinned to the version in which it was found.
#[derive(Debug)]
pub struct RemoteObject {
    url: ObjectUrl,
    way: Way,
    size: u64,
    tag: String,
    changed: AtomicBool,
}

/// The client of an object.
#[derive(Debug, Clone)]
enum Way {
    Bucket(Arc<ObjectBucket>, String),
    Web(WebObject),
}

/// The size of an object and the text that tells its versions apart: an `ETag`, or the time of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectVersion {
    pub size: u64,
    pub tag: String,
}

impl FoundObject {
    /// Looks `url` up.
    ///
    /// # Errors
    /// 66 if there is no such object or it may not be read, 75 if the server cannot be reached.
    pub fn find(url: &ObjectUrl) -> Result<Self> {
        let ranged = |way, ObjectVersion { size, tag }: ObjectVersion| {
            Self::Ranged(RemoteObject { url: url.clone(), way, size, tag, changed: AtomicBool::new(false) })
        };
        let web = match &url.place {
            ObjectPlace::Bucket { key, .. } => {
                let bucket = ObjectBucket::open(url, Direction::Read)?;
                let version = bucket.version(key)?;
                return Ok(ranged(Way::Bucket(bucket, key.clone()), version));
            }
            ObjectPlace::Web(address) => WebObject::at(address.clone(), None),
            ObjectPlace::Hub { repository, revision, path } => hub::file(repository, revision.as_deref(), path, url)?,
        };
        let (web, version) = web.look_up(url)?;
        Ok(match version {
            Some(version) => ranged(Way::Web(web), version),
            None => Self::Whole(web),
        })
    }
}

impl RemoteObject {
    /// Its URL.
    pub const fn url(&self) -> &ObjectUrl {
        &self.url
    }

    /// Its size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The identity and version of the object. It stays the same until a read finds another version.
    pub fn stamp(&self) -> String {
        let changed = if self.changed.load(Ordering::Relaxed) { ":changed" } else { "" };
        format!("{}:{}:{}{changed};", self.url.shown(), self.size, self.tag)
    }

    /// Reads up to `length` bytes at `offset`, fewer only at the end.
    ///
    /// # Errors
    /// 1 if the object has changed, 66 or 75 if it cannot be read.
    pub fn read_at(&self, offset: u64, length: u64) -> Result<Bytes> {
        self.finish(&self.start_read(offset, length)?)
    }

    /// Starts to read, without waiting.
    pub(super) fn start_read(&self, offset: u64, length: u64) -> Result<Pending<Result<Bytes, ObjectFailure>>> {
        let end = self.size.min(offset.saturating_add(length));
        let (way, version) = (self.way.clone(), ObjectVersion { size: self.size, tag: self.tag.clone() });
        background::start(async move {
            if offset >= end {
                return Ok(Bytes::new());
            }
            let begun = Instant::now();
            let mut wait = WAITS[0];
            loop {
                let read = match &way {
                    Way::Bucket(bucket, key) => bucket.read(key, &version, offset..end).await,
                    Way::Web(web) => web.read(&version, offset..end).await,
                };
                let read = read.and_then(|bytes| complete(bytes, end - offset));
                match read {
                    Err(failure) if failure.may_pass() && begun.elapsed() + wait < PATIENCE => {
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(WAITS[1]);
                    }
                    other => return other,
                }
            }
        })
    }

    /// Waits for the bytes of [`Self::start_read`].
    pub(super) fn finish(&self, pending: &Pending<Result<Bytes, ObjectFailure>>) -> Result<Bytes> {
        pending.wait()?.map_err(|failure| self.error(&failure))
    }

    fn error(&self, failure: &ObjectFailure) -> Error {
        // The object is gone, or was replaced: another version than the pinned one either way.
        if matches!(failure.kind, FailureKind::Changed | FailureKind::NoObject) {
            self.changed.store(true, Ordering::Relaxed);
            return super::changed(&self.url);
        }
        failure.error(&self.url, Direction::Read)
    }
}

/// Refuses a body that was cut off.
fn complete(bytes: Bytes, length: u64) -> Result<Bytes, ObjectFailure> {
    if bytes.len() as u64 == length {
        return Ok(bytes);
    }
    Err(ObjectFailure::new(FailureKind::Unreachable, format!("{} of {length} bytes came", bytes.len())))
}
