//! Inputs at URLs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::source::{self, RawBytes};
use super::{Format, Input, no_format};
use crate::columnar::{LocalFile, RangedRead};
use crate::error::{Error, Exit, Result};
use crate::objects::{FoundObject, ObjectReader, ObjectUrl, RemoteObject, expand, is_url};

/// Makes a file for the copy of an input that cannot be read twice.
pub(super) type NewFile<'a> = &'a dyn Fn() -> Result<NamedTempFile>;

/// The bytes of an input that is not a file with a name of its own.
#[derive(Debug, Clone)]
pub(super) enum RemoteBytes {
    /// An object, read in ranges.
    Object(Arc<RemoteObject>),
    /// A copy of a file whose server gives the whole only. It is deleted with the last reference.
    Copy(Arc<NamedTempFile>),
}

impl RemoteBytes {
    /// Looks `url` up. `new_file` makes the file of a copy.
    pub fn find(url: &ObjectUrl, new_file: NewFile<'_>) -> Result<Self> {
        match FoundObject::find(url)? {
            FoundObject::Ranged(object) => Ok(Self::Object(Arc::new(object))),
            FoundObject::Whole(web) => {
                let file = new_file()?;
                let to = file.as_file().try_clone().map_err(|e| Error::io("a copy cannot be stored", e))?;
                web.copy(url, to)?;
                Ok(Self::Copy(Arc::new(file)))
            }
        }
    }

    /// Opens the bytes at their start.
    pub fn open(&self, shown: &str) -> Result<RawBytes> {
        match self {
            Self::Object(object) => Ok(Box::new(ObjectReader::new(Arc::clone(object)))),
            Self::Copy(file) => open_file(file.path(), shown),
        }
    }

    /// Opens the bytes to be read at any place.
    pub fn ranged(&self, shown: &str) -> Result<Arc<dyn RangedRead>> {
        match self {
            Self::Object(object) => Ok(Arc::new(ObjectRanges(Arc::clone(object)))),
            Self::Copy(file) => ranged_file(file.path(), shown),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Object(object) => object.size(),
            Self::Copy(file) => file.as_file().metadata().map_or(0, |metadata| metadata.len()),
        }
    }
}

/// The identity and state of the file `path`, or of the object in its place. `None` if it cannot be read.
pub(super) fn stamp_of(path: &Path, remote: Option<&RemoteBytes>) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let path = match remote {
        Some(RemoteBytes::Object(object)) => return Some(object.stamp()),
        Some(RemoteBytes::Copy(file)) => file.path(),
        None => path,
    };
    let m = std::fs::metadata(path).ok()?;
    Some(format!(
        "{}:{}:{}:{}.{}:{}.{};",
        m.dev(),
        m.ino(),
        m.len(),
        m.mtime(),
        m.mtime_nsec(),
        m.ctime(),
        m.ctime_nsec()
    ))
}

/// Makes a file for the copy of a file at a URL that is read once.
pub(super) fn temporary() -> Result<NamedTempFile> {
    NamedTempFile::new().map_err(|e| Error::io("a copy cannot be stored", e))
}

/// An object that is read at any place.
struct ObjectRanges(Arc<RemoteObject>);

impl RangedRead for ObjectRanges {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
        self.0.read_at(offset, length as u64)
    }

    fn step(&self) -> usize {
        /// Bytes of a request: few requests for a column, and memory for many columns.
        const STEP: usize = 1 << 20;
        STEP
    }
}

/// Opens a file to be read at any place.
pub(super) fn ranged_file(path: &Path, shown: &str) -> Result<Arc<dyn RangedRead>> {
    Ok(Arc::new(LocalFile::open(path, shown).map_err(|error| source::unreadable(shown, error))?))
}

/// Opens the file or URL `path`.
pub(super) fn open(path: &Path, shown: &str) -> Result<RawBytes> {
    if !is_url(path) {
        return open_file(path, shown);
    }
    RemoteBytes::find(&ObjectUrl::parse(path)?, &temporary)?.open(shown)
}

pub(super) fn open_file(path: &Path, shown: &str) -> Result<RawBytes> {
    Ok(Box::new(File::open(path).map_err(|error| source::unreadable(shown, error))?))
}

/// The inputs at `paths`. A URL with a final `/` or a pattern stands for several.
pub(super) fn resolve(paths: &[PathBuf], format: Option<Format>, new_file: NewFile<'_>) -> Result<Vec<Input>> {
    expand(paths)?
        .iter()
        .map(|path| if is_url(path) { of_url(path, format, new_file) } else { Input::resolve(path, format) })
        .collect()
}

fn of_url(path: &Path, format: Option<Format>, new_file: NewFile<'_>) -> Result<Input> {
    let url = ObjectUrl::parse(path)?;
    let shown = url.shown().to_owned();
    let format = format.or_else(|| Format::of_path(url.name())).ok_or_else(|| no_format(&shown))?;
    let remote = RemoteBytes::find(&url, new_file)?;
    let bytes = remote.size();
    let path = match &remote {
        RemoteBytes::Copy(file) => file.path().to_owned(),
        RemoteBytes::Object(_) => PathBuf::from(&shown),
    };
    Ok(Input { path, shown, format, delimiter: None, encoding: None, bytes, remote: Some(remote) })
}

/// The error of an address of a kind that llbatch does not read.
pub(super) fn unread_address(shown: &str) -> Option<Error> {
    let (scheme, rest) = shown.split_once("://")?;
    let path = scheme.eq_ignore_ascii_case("file").then(|| format!("name its path: {rest}"));
    let hint = path.unwrap_or_else(|| "use s3://, gs://, az://, https:// or hf://, or download the file".to_owned());
    Some(Error::new(Exit::NoInput, format!("{shown}: this is an address that llbatch does not read")).hint(hint))
}
