//! Objects that are replaced only if they are still the ones that were read.

use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

use super::background;
use super::bucket::ObjectBucket;
use super::failure::{Direction, ObjectFailure};
use super::url::StoreKind;
use crate::error::Result;

/// The version of an object that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapVersion(UpdateVersion);

impl ObjectBucket {
    /// Reads a small object and its version. `None`: there is none.
    ///
    /// # Errors
    /// 66 if it may not be read, 75 if the server cannot be reached.
    pub fn read_to_swap(&self, key: &str) -> Result<Option<(Bytes, SwapVersion)>> {
        let (store, at) = (std::sync::Arc::clone(&self.store), self.key(key, Direction::Read)?);
        let read = async move {
            let found = store.get(&at).await?;
            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            Ok((found.bytes().await?, SwapVersion(version)))
        };
        match background::start(read)?.wait()? {
            Ok(found) => Ok(Some(found)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error, key, Direction::Read)),
        }
    }

    /// Puts an object if the one that was read is still there; `before` of `None`: if there is none. Returns whether it was put.
    /// A store without conditions puts it in any case.
    ///
    /// # Errors
    /// 74 if it may not be written, 75 if the server cannot be reached.
    pub fn swap(&self, key: &str, bytes: Bytes, before: Option<&SwapVersion>) -> Result<bool> {
        let mode = match before {
            None => PutMode::Create,
            Some(SwapVersion(version)) if self.tells(version) => PutMode::Update(version.clone()),
            Some(_) => PutMode::Overwrite,
        };
        let (store, at) = (std::sync::Arc::clone(&self.store), self.key(key, Direction::Write)?);
        let text = bytes.clone();
        let put = async move { store.put_opts(&at, text.into(), PutOptions { mode, ..PutOptions::default() }).await };
        match background::start(put)?.wait()? {
            Ok(_) => Ok(true),
            Err(
                StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } | StoreError::NotModified { .. },
            ) => Ok(false),
            Err(error) if has_no_conditions(&error) => self.put(key, bytes).map(|()| true),
            Err(error) => Err(self.failed(&error, key, Direction::Write)),
        }
    }
}

impl ObjectBucket {
    /// Returns true if a condition can name this version.
    const fn tells(&self, version: &UpdateVersion) -> bool {
        match self.kind() {
            // An imitation may number nothing.
            StoreKind::Gcs => version.version.is_some(),
            StoreKind::S3 | StoreKind::Azure => version.e_tag.is_some(),
        }
    }
}

/// Returns true if the store does not know conditional requests.
fn has_no_conditions(error: &StoreError) -> bool {
    let unknown = matches!(error, StoreError::NotImplemented { .. } | StoreError::NotSupported { .. });
    unknown || ObjectFailure::from(error).told.starts_with("HTTP 501")
}
