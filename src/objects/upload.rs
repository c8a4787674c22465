//! Objects written from a file: they appear when they are complete, and an upload that was abandoned is aborted.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::MultipartId;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::background;
use super::bucket::ObjectBucket;
use super::failure::{Direction, FailureKind, ObjectFailure};
use super::url::{ObjectPlace, ObjectUrl, StoreKind};
use crate::error::{Error, Result};

/// The usual part of an upload. A smaller file is put in one request. S3 wants at least 5 MiB.
const PART: u64 = 8 << 20;
/// Parts of one upload: S3's and Google's limit.
const MAX_PARTS: u64 = 10_000;
/// Parts that are sent at once, and held in memory.
const AT_ONCE: usize = 4;
/// Tries of a whole upload. Each sends the same bytes, so a lost reply to the last request does no harm.
const TRIES: u32 = 3;
/// Prefix and suffix of the notes about uploads that are under way.
const NOTE: (&str, &str) = ("upload-", ".json");

/// A place for an object that will be written.
#[derive(Debug)]
pub struct ObjectUpload {
    bucket: Arc<ObjectBucket>,
    key: String,
    /// The directory for notes about uploads under way.
    notes: PathBuf,
}

/// The note about an upload. It lies on the disk while the upload is under way, and is locked by its process.
#[derive(Debug, Serialize, Deserialize)]
struct UploadNote {
    url: String,
    id: String,
}

impl ObjectUpload {
    /// Finds out whether `url` can be written, so that an error comes before money is spent. Nothing is left there.
    ///
    /// # Errors
    /// 2 if the URL names no object, 74 if it may not be written, 75 if the server cannot be reached.
    pub fn prepare(url: &ObjectUrl, notes: &Path) -> Result<Self> {
        let key = key_of(url)?;
        let bucket = ObjectBucket::open(url, Direction::Write)?;
        // Azure has no such request: a block would stay there for a week.
        if bucket.kind() != StoreKind::Azure {
            let (parts, at) = (Arc::clone(&bucket.parts), bucket.key(&key, Direction::Write)?);
            let tried = background::start(async move {
                let id = parts.create_multipart(&at).await?;
                match parts.abort_multipart(&at, &id).await {
                    // A small store may not know how. It has taken no part.
                    Err(error) if ObjectFailure::from(&error).kind == FailureKind::Unfit => Ok(()),
                    other => other,
                }
            })?;
            tried.wait()?.map_err(|error| bucket.failed(&error, &key, Direction::Write))?;
        }
        Ok(Self { bucket, key, notes: notes.to_owned() })
    }

    /// Sends all of `file` as the object with `suffix` behind its key. It appears at once and whole.
    ///
    /// # Errors
    /// 74 if it may not be written, 75 if the server cannot be reached.
    pub fn send(&self, file: &File, suffix: &str) -> Result<()> {
        let key = format!("{}{suffix}", self.key);
        let unreadable = |e| Error::io("the results on their way to a store cannot be read", e);
        let size = file.metadata().map_err(unreadable)?.len();
        if size <= PART {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
            return self.bucket.put(&key, bytes.into());
        }
        for last in (1..=TRIES).map(|n| n == TRIES) {
            let file = file.try_clone().map_err(unreadable)?;
            match self.send_parts(&key, file, size)? {
                Ok(()) => break,
                Err(error) if last || !ObjectFailure::from(&error).may_pass() => {
                    return Err(self.bucket.failed(&error, &key, Direction::Write));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Sends the parts of one upload, completes it last, and aborts it if a part fails.
    fn send_parts(&self, key: &str, file: File, size: u64) -> Result<object_store::Result<()>> {
        let (parts, at) = (Arc::clone(&self.bucket.parts), self.bucket.key(key, Direction::Write)?);
        let created = {
            let (parts, at) = (Arc::clone(&parts), at.clone());
            background::start(async move { parts.create_multipart(&at).await })?.wait()?
        };
        let id = match created {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        let note = match self.note(key, &id) {
            Ok(note) => note,
            Err(error) => {
                // Without a note, no later command would abort it.
                drop(background::start(async move { parts.abort_multipart(&at, &id).await })?.wait()?);
                return Err(error);
            }
        };
        let sent = {
            let (parts, at, id) = (Arc::clone(&parts), at.clone(), id.clone());
            background::start(async move {
                let sent = all_parts(&*parts, &at, &id, &file, size).await?;
                parts.complete_multipart(&at, &id, sent).await
            })?
            .wait()?
        };
        if let Err(error) = sent {
            let aborted = background::start(async move { parts.abort_multipart(&at, &id).await })?.wait()?;
            if !is_gone(&aborted) {
                // The note stays for the next command.
                drop(note.keep());
            }
            return Ok(Err(error));
        }
        Ok(Ok(()))
    }

    /// Writes down that an upload is under way. The note is deleted when dropped.
    fn note(&self, key: &str, id: &str) -> Result<NamedTempFile> {
        let write = || -> std::io::Result<NamedTempFile> {
            std::fs::create_dir_all(&self.notes)?;
            let mut file = tempfile::Builder::new().prefix(NOTE.0).suffix(NOTE.1).tempfile_in(&self.notes)?;
            // The lock shows other processes that this one lives.
            file.as_file().try_lock().map_err(std::io::Error::other)?;
            let note = UploadNote { url: self.bucket.url(key).shown().to_owned(), id: id.to_owned() };
            file.write_all(serde_json::to_string(&note)?.as_bytes())?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        write().map_err(|e| Error::io(format!("{}: an upload cannot be noted", self.notes.display()), e))
    }

    /// Deletes the object with `suffix` behind the key, if it is there. Errors are ignored: it is untidy, not wrong.
    pub fn remove(&self, suffix: &str) {
        let key = format!("{}{suffix}", self.key);
        // In a bucket with versions, deleting what is not there leaves a mark.
        if self.bucket.version(&key).is_ok() {
            drop(self.bucket.delete(&key));
        }
    }
}

/// Aborts uploads to `url` whose processes were killed. Returns the errors of those that it cannot abort.
pub fn abort_stale(url: &ObjectUrl, notes: &Path) -> Vec<Error> {
    let Ok(entries) = std::fs::read_dir(notes) else { return Vec::new() };
    let abort = |path: PathBuf| -> Option<Error> {
        let name = path.file_name()?.to_str()?;
        let mut file = File::open(&path).ok().filter(|_| name.starts_with(NOTE.0) && name.ends_with(NOTE.1))?;
        file.try_lock().ok()?;
        file.seek(SeekFrom::Start(0)).ok()?;
        let Ok(note) = serde_json::from_reader::<_, UploadNote>(&mut file) else {
            // Killed before it was written: without an id there is nothing to abort.
            drop(std::fs::remove_file(&path));
            return None;
        };
        if note.url != url.shown() && note.url != url.with_suffix(".partial").shown() {
            return None;
        }
        match abort(&note) {
            Ok(()) => drop(std::fs::remove_file(&path)),
            Err(error) => return Some(error),
        }
        None
    };
    entries.flatten().map(|entry| entry.path()).filter_map(abort).collect()
}

fn abort(note: &UploadNote) -> Result<()> {
    let url = ObjectUrl::parse(Path::new(&note.url))?;
    let (key, bucket) = (key_of(&url)?, ObjectBucket::open(&url, Direction::Write)?);
    let (parts, at, id) = (Arc::clone(&bucket.parts), bucket.key(&key, Direction::Write)?, note.id.clone());
    let aborted = background::start(async move { parts.abort_multipart(&at, &id).await })?.wait()?;
    if is_gone(&aborted) { Ok(()) } else { aborted.map_err(|error| bucket.failed(&error, &key, Direction::Write)) }
}

/// Returns true if the upload was aborted now or before.
const fn is_gone(aborted: &object_store::Result<()>) -> bool {
    matches!(aborted, Ok(()) | Err(object_store::Error::NotFound { .. }))
}

/// Refuses a URL that names no object to write.
///
/// # Errors
/// 2 for a URL that is only read, or that ends with a slash.
pub fn object_place(url: &ObjectUrl) -> Result<()> {
    key_of(url).map(drop)
}

fn key_of(url: &ObjectUrl) -> Result<String> {
    match &url.place {
        ObjectPlace::Bucket { key, .. } if !key.is_empty() && !key.ends_with('/') => Ok(key.clone()),
        ObjectPlace::Bucket { .. } => Err(Error::usage(format!("{}: this is no object to write", url.shown()))
            .hint("name an object below it, such as results.jsonl")),
        _ => Err(super::bucket::not_writable(url)),
    }
}

/// Sends all parts, some at once. Returns their names in order.
async fn all_parts(
    store: &dyn MultipartStore,
    at: &Key,
    id: &MultipartId,
    file: &File,
    size: u64,
) -> object_store::Result<Vec<PartId>> {
    // The parts are of one size, in whole MiB.
    let part = PART.max(size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
    let send = |number: u64| async move {
        let offset = number * part;
        let mut bytes = vec![0; usize::try_from(part.min(size - offset)).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset)
            .map_err(|e| object_store::Error::Generic { store: "file", source: e.into() })?;
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        store.put_part(at, id, number, Bytes::from(bytes).into()).await
    };
    futures_util::stream::iter(0..size.div_ceil(part)).map(send).buffered(AT_ONCE).try_collect().await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use object_store::aws::AmazonS3Builder;
    use object_store::{PutPayload, PutResult};

    use super::super::connector::StoreConnector;
    use super::*;

    /// A store that begins and aborts uploads, and keeps the names of those that were aborted.
    #[derive(Default)]
    struct Watched(Mutex<Vec<MultipartId>>);

    #[async_trait::async_trait]
    impl MultipartStore for Watched {
        async fn create_multipart(&self, _: &Key) -> object_store::Result<MultipartId> {
            Ok("u1".to_owned())
        }

        async fn put_part(&self, _: &Key, _: &MultipartId, _: usize, _: PutPayload) -> object_store::Result<PartId> {
            Err(object_store::Error::NotImplemented { operation: String::new(), implementer: String::new() })
        }

        async fn complete_multipart(
            &self,
            _: &Key,
            _: &MultipartId,
            _: Vec<PartId>,
        ) -> object_store::Result<PutResult> {
            Err(object_store::Error::NotImplemented { operation: String::new(), implementer: String::new() })
        }

        async fn abort_multipart(&self, _: &Key, id: &MultipartId) -> object_store::Result<()> {
            self.0.lock().unwrap().push(id.clone());
            Ok(())
        }
    }

    #[test]
    fn upload_that_cannot_be_noted_is_aborted() {
        let store =
            AmazonS3Builder::new().with_bucket_name("bucket").with_region("x").with_http_connector(StoreConnector);
        let store = store.build().unwrap();
        let watched = Arc::new(Watched::default());
        let parts = Arc::clone(&watched) as Arc<dyn MultipartStore>;
        let mut bucket = ObjectBucket::of(store, StoreKind::S3, "bucket");
        bucket.parts = parts;
        let bucket = Arc::new(bucket);
        let upload = ObjectUpload { bucket, key: "k".to_owned(), notes: PathBuf::from("/dev/null/notes") };
        let file = tempfile::tempfile().unwrap();
        file.set_len(PART + 1).unwrap();
        assert!(upload.send(&file, "").unwrap_err().to_string().contains("an upload cannot be noted"));
        assert_eq!(*watched.0.lock().unwrap(), ["u1"]);
    }
}
