//! Files of results, which are read more than once, each time in the version that was found first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Format;
use super::parquet::ParquetFile;
use super::remote::{self, RemoteBytes, stamp_of};
use super::source::Source;
use crate::columnar::RangedRead;
use crate::error::{Error, Exit, Result};
use crate::objects::{ObjectUrl, is_url};

/// A file, or an object at a URL.
#[derive(Debug)]
pub struct RereadFile {
    path: PathBuf,
    shown: String,
    format: Option<Format>,
    remote: Option<RemoteBytes>,
    /// The identity and state in which it was found; `None`: it cannot be read.
    stamp: Option<String>,
}

impl RereadFile {
    /// Finds the file or URL `path`. Only an object is opened: a pipe can be read once.
    ///
    /// # Errors
    /// 2 for an invalid URL, 66 or 75 for an object that cannot be read.
    pub fn find(path: &Path, shown: &str) -> Result<Self> {
        let (remote, format) = if is_url(path) {
            let url = ObjectUrl::parse(path)?;
            (Some(RemoteBytes::find(&url, &remote::temporary)?), Format::of_path(url.name()))
        } else {
            (None, Format::of_path(path))
        };
        let mut found = Self { path: path.to_owned(), shown: shown.to_owned(), format, remote, stamp: None };
        found.stamp = found.stamp();
        Ok(found)
    }

    /// Its identity and state. A pipe changes while it is read, and has none.
    fn stamp(&self) -> Option<String> {
        (self.remote.is_some() || self.path.is_file()).then(|| stamp_of(&self.path, self.remote.as_ref())).flatten()
    }

    /// The format by its ending.
    pub const fn format(&self) -> Option<Format> {
        self.format
    }

    /// Its bytes from the start, unpacked.
    ///
    /// # Errors
    /// 66 if they cannot be read.
    pub fn source(&self) -> Result<Source> {
        match &self.remote {
            Some(remote) => Source::of(remote.open(&self.shown)?, &self.shown),
            None => Source::open(&self.path, &self.shown),
        }
    }

    /// Its rows, if it is a Parquet file.
    ///
    /// # Errors
    /// As [`ParquetFile::of`]; 66 if it cannot be read.
    pub fn parquet(&self) -> Result<ParquetFile> {
        let ranges: Arc<dyn RangedRead> = match &self.remote {
            Some(remote) => remote.ranged(&self.shown)?,
            None => remote::ranged_file(&self.path, &self.shown)?,
        };
        ParquetFile::of(ranges, &self.shown)
    }

    /// Makes sure that all reads were of one version.
    ///
    /// # Errors
    /// 1 if the file was written to or replaced since it was found.
    pub fn check_unchanged(&self) -> Result<()> {
        if self.stamp() == self.stamp {
            return Ok(());
        }
        Err(Error::new(Exit::Failure, format!("{}: the file changed while llbatch read it", self.shown))
            .hint("run the same command again when no program writes to the file"))
    }
}
