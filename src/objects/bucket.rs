//! A bucket or container of a store: its objects looked up, read, listed and put.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::failure::{Direction, ObjectFailure};
use super::pinned::ObjectVersion;
use super::url::{ObjectPlace, ObjectUrl, StoreKind};
use super::{aws, azure, background, gcp};
use crate::error::{Error, Result};

/// The largest object that is read whole by [`ObjectBucket::get`].
const LARGEST_WHOLE: u64 = 1 << 30;

/// A bucket, with the credentials of the environment.
#[derive(Clone)]
pub struct ObjectBucket {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) parts: Arc<dyn MultipartStore>,
    kind: StoreKind,
    name: String,
}

/// The buckets that were opened, by store and name.
type OpenBuckets = HashMap<(StoreKind, String), Arc<ObjectBucket>>;

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

impl ObjectBucket {
    /// Opens the bucket of `url`. No request is sent yet. A process opens each bucket once.
    ///
    /// # Errors
    /// 2 for an address without a bucket or settings that are invalid; 66 or 74 without credentials.
    pub fn open(url: &ObjectUrl, direction: Direction) -> Result<Arc<Self>> {
        static OPEN: Mutex<Option<OpenBuckets>> = Mutex::new(None);
        let ObjectPlace::Bucket { store, bucket, .. } = &url.place else {
            return Err(not_writable(url));
        };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(found) = open.get(&(*store, bucket.clone())) {
            return Ok(Arc::clone(found));
        }
        let (objects, parts) = match store {
            StoreKind::S3 => both(aws::bucket(bucket, url, direction)?),
            StoreKind::Gcs => both(gcp::bucket(bucket, url, direction)?),
            StoreKind::Azure => both(azure::container(bucket, url, direction)?),
        };
        let made = Arc::new(Self { store: objects, parts, kind: *store, name: bucket.clone() });
        open.insert((*store, bucket.clone()), Arc::clone(&made));
        Ok(made)
    }

    pub(super) const fn kind(&self) -> StoreKind {
        self.kind
    }

    /// The URL of one of its objects.
    pub fn url(&self, key: &str) -> ObjectUrl {
        let place = ObjectPlace::Bucket { store: self.kind, bucket: self.name.clone(), key: String::new() };
        ObjectUrl::of(place).with_key(key)
    }

    /// The size and version of an object.
    pub(super) fn version(&self, key: &str) -> Result<ObjectVersion> {
        let (store, at) = (Arc::clone(&self.store), self.key(key, Direction::Read)?);
        let found = background::start(async move { store.head(&at).await })?.wait()?;
        let meta = found.map_err(|error| self.failed(&error, key, Direction::Read))?;
        Ok(version_of(&meta))
    }

    /// Reads a range of one version of an object.
    pub(super) async fn read(
        &self,
        key: &str,
        version: &ObjectVersion,
        range: Range<u64>,
    ) -> Result<Bytes, ObjectFailure> {
        let at = Key::parse(key).map_err(|error| ObjectFailure::from(&object_store::Error::from(error)))?;
        let if_match = version.tag.contains('"').then(|| version.tag.clone());
        let options = GetOptions { if_match, range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = self.store.get_opts(&at, options).await.map_err(|error| ObjectFailure::from(&error))?;
        // A store may ignore the condition.
        if version_of(&found.meta) != *version {
            return Err(ObjectFailure::of_status(412, None));
        }
        found.bytes().await.map_err(|error| ObjectFailure::from(&error))
    }

    /// All objects whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// 66 if the bucket is missing or may not be listed, 75 if the server cannot be reached.
    pub fn list(&self, prefix: &str) -> Result<Vec<ListedObject>> {
        // A store lists below whole parts of a key.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let at = self.key(folder, Direction::Read)?;
        let store = Arc::clone(&self.store);
        let all = async move {
            let objects = store.list((!at.as_ref().is_empty()).then_some(&at));
            objects.map_ok(|meta| ListedObject { key: meta.location.to_string(), size: meta.size }).try_collect().await
        };
        let all: Result<Vec<ListedObject>, object_store::Error> = background::start(all)?.wait()?;
        let mut all = all.map_err(|error| self.failed(&error, prefix, Direction::Read))?;
        all.retain(|object| object.key.starts_with(prefix));
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// 66 if there is no such object or it may not be read, 75 if the server cannot be reached.
    pub fn get(&self, key: &str) -> Result<Bytes> {
        let (store, at) = (Arc::clone(&self.store), self.key(key, Direction::Read)?);
        let read = async move {
            let found = store.get(&at).await?;
            if found.meta.size > LARGEST_WHOLE {
                let source = format!("{} bytes", found.meta.size).into();
                return Err(object_store::Error::NotSupported { source });
            }
            found.bytes().await
        };
        background::start(read)?.wait()?.map_err(|error| self.failed(&error, key, Direction::Read))
    }

    /// Puts a whole object in one request. It replaces an older one at once.
    ///
    /// # Errors
    /// 74 if the bucket is missing or may not be written, 75 if the server cannot be reached.
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let (store, at) = (Arc::clone(&self.store), self.key(key, Direction::Write)?);
        let put = background::start(async move { store.put(&at, bytes.into()).await })?.wait()?;
        put.map(drop).map_err(|error| self.failed(&error, key, Direction::Write))
    }

    /// Deletes an object, if it is there.
    ///
    /// # Errors
    /// 74 if it may not be deleted, 75 if the server cannot be reached.
    pub fn delete(&self, key: &str) -> Result<()> {
        let (store, at) = (Arc::clone(&self.store), self.key(key, Direction::Write)?);
        match background::start(async move { store.delete(&at).await })?.wait()? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(&error, key, Direction::Write)),
        }
    }

    pub(super) fn key(&self, key: &str, direction: Direction) -> Result<Key> {
        Key::parse(key).map_err(|error| self.failed(&error.into(), key, direction))
    }

    pub(super) fn failed(&self, error: &object_store::Error, key: &str, direction: Direction) -> Error {
        tracing::debug!(kind = ?ObjectFailure::from(error).kind, "the store answered with an error");
        ObjectFailure::from(error).error(&self.url(key), direction)
    }
}

impl std::fmt::Debug for ObjectBucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectBucket({}://{})", self.kind.scheme(), self.name)
    }
}

/// The error of a URL that is only read.
pub(super) fn not_writable(url: &ObjectUrl) -> Error {
    Error::usage(format!("{}: llbatch does not write there", url.shown()))
        .hint("name an object in s3://, gs:// or az://, or a file")
}

fn both<S: ObjectStore + MultipartStore>(store: S) -> (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>) {
    let store = Arc::new(store);
    (Arc::clone(&store) as Arc<dyn ObjectStore>, store)
}

fn version_of(meta: &ObjectMeta) -> ObjectVersion {
    let tag = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339());
    ObjectVersion { size: meta.size, tag }
}
