//! A bucket or container of a store: its objects looked up, read, listed and put.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::failure::{Direction, ObjectFailure};
use super::pinned::ObjectVersion;
use super::url::{ObjectPlace, ObjectUrl, StoreKind};
use super::{aws, azure, background, gcp};
use crate::error::{Error, Exit, Result};

/// The largest object that is read whole by [`ObjectBucket::get`].
const LARGEST_WHOLE: u64 = 1 << 30;

/// Objects that one pattern may stand for. More are no input of one command.
const MOST_MATCHES: usize = 1_000_000;

/// A bucket, with the credentials of the environment.
#[derive(Clone)]
pub struct ObjectBucket {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) parts: Arc<dyn MultipartStore>,
    pub(super) pages: Arc<dyn PaginatedListStore>,
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
        let made = Arc::new(match store {
            StoreKind::S3 => Self::of(aws::bucket(bucket, url, direction)?, *store, bucket),
            StoreKind::Gcs => Self::of(gcp::bucket(bucket, url, direction)?, *store, bucket),
            StoreKind::Azure => Self::of(azure::container(bucket, url, direction)?, *store, bucket),
        });
        open.insert((*store, bucket.clone()), Arc::clone(&made));
        Ok(made)
    }

    pub(super) fn of<S>(client: S, kind: StoreKind, name: &str) -> Self
    where
        S: ObjectStore + MultipartStore + PaginatedListStore,
    {
        let client = Arc::new(client);
        let (parts, pages) = (Arc::clone(&client) as Arc<dyn MultipartStore>, Arc::clone(&client));
        Self { store: client, parts, pages, kind, name: name.to_owned() }
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
    #[allow(dead_code, reason = "the door for answers that are kept in a store")]
    pub fn list(&self, prefix: &str) -> Result<Vec<ListedObject>> {
        self.list_where(prefix, false, |_| true)
    }

    /// The objects whose keys begin with `prefix` and fit. Pages of the listing are read one by one, and what does not fit takes
    /// no memory. `flat`: no slash follows the prefix.
    ///
    /// # Errors
    /// As [`Self::list`]; 66 for more than [`MOST_MATCHES`].
    pub(super) fn list_where(
        &self,
        prefix: &str,
        flat: bool,
        fits: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Vec<ListedObject>> {
        let (pages, from) = (Arc::clone(&self.pages), prefix.to_owned());
        let all = background::start(async move {
            let mut all = Vec::new();
            let mut options = PaginatedListOptions { delimiter: flat.then(|| "/".into()), ..Default::default() };
            loop {
                let start = Some(&*from).filter(|from| !from.is_empty());
                let page = pages.list_paginated(start, std::mem::take(&mut options)).await?;
                let found = page.result.objects.into_iter();
                let found = found.map(|meta| ListedObject { key: meta.location.to_string(), size: meta.size });
                all.extend(found.filter(|object| object.key.starts_with(&*from) && fits(&object.key)));
                let Some(next) = page.page_token.filter(|_| all.len() <= MOST_MATCHES) else { return Ok(all) };
                options = PaginatedListOptions {
                    delimiter: flat.then(|| "/".into()),
                    page_token: Some(next),
                    ..Default::default()
                };
            }
        })?;
        let mut all: Vec<ListedObject> =
            all.wait()?.map_err(|error: object_store::Error| self.failed(&error, prefix, Direction::Read))?;
        if all.len() > MOST_MATCHES {
            return Err(Error::new(
                Exit::NoInput,
                format!("{}: more than a million objects match", self.url(prefix).shown()),
            )
            .hint("name fewer objects: a longer prefix, or a pattern of fewer"));
        }
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

fn version_of(meta: &ObjectMeta) -> ObjectVersion {
    let tag = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339());
    ObjectVersion { size: meta.size, tag }
}
