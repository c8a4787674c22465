//! The directory of parts: on a file system, or in object storage.

use std::fmt;
use std::fs::DirBuilder;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JobMark;
use crate::atomic_file::AtomicFile;
use crate::error::{Error, Result};
use crate::objects::{Direction, ObjectBucket, ObjectUrl, is_url};

/// The ending of a part's name.
pub(super) const ENDING: &str = ".part.jsonl";

/// A directory of parts.
#[derive(Debug, Clone)]
pub enum AnswersDir {
    /// A directory.
    Files(PathBuf),
    /// Objects of a bucket whose keys begin with a prefix and a slash.
    Objects {
        /// The bucket.
        bucket: Arc<ObjectBucket>,
        /// The prefix without its last slash. Empty: all keys.
        prefix: String,
    },
}

/// A part, or the folder of a job's parts.
#[derive(Debug, Clone)]
pub enum PartPlace {
    /// A file.
    File(PathBuf),
    /// An object.
    Object {
        /// Its bucket.
        bucket: Arc<ObjectBucket>,
        /// Its key.
        key: String,
    },
}

impl AnswersDir {
    /// The directory at `path`, which is made when it is missing. A URL is only looked at.
    ///
    /// # Errors
    /// 74 if it cannot be made, 2 for a URL that nothing can be written to.
    pub fn create(path: &Path) -> Result<Self> {
        if is_url(path) {
            let url = ObjectUrl::parse(path)?;
            let bucket = ObjectBucket::open(&url, Direction::Write)?;
            let prefix = url.name().to_string_lossy().trim_end_matches('/').to_owned();
            return Ok(Self::Objects { bucket, prefix });
        }
        make(path)?;
        Ok(Self::Files(path.to_owned()))
    }

    /// The directory at `path`, which is only read.
    pub fn at(path: &Path) -> Self {
        Self::Files(path.to_owned())
    }

    /// Its path. That of a bucket is its URL.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Files(path) => path.clone(),
            Self::Objects { .. } => self.to_string().into(),
        }
    }

    /// The place for a job's parts, which is made when it is missing.
    pub(super) fn make_for(&self, of: &JobMark) -> Result<PartPlace> {
        let dir = self.dir_of(of);
        if let PartPlace::File(path) = &dir {
            make(path)?;
        }
        Ok(dir)
    }

    /// The parts of a job, by name.
    ///
    /// # Errors
    /// 74 if the directory cannot be read; 66 or 75 if the bucket cannot be.
    pub fn parts_of(&self, of: &JobMark) -> Result<Vec<PartPlace>> {
        match self.dir_of(of) {
            PartPlace::File(dir) => Ok(parts_in(&dir)?.into_iter().map(PartPlace::File).collect()),
            PartPlace::Object { bucket, key } => {
                let found = bucket.list(&format!("{key}/"))?.into_iter().filter(|object| object.key.ends_with(ENDING));
                Ok(found.map(|object| PartPlace::Object { bucket: Arc::clone(&bucket), key: object.key }).collect())
            }
        }
    }

    /// The parts of all jobs, by name, and those that lie in the directory itself: it may be that of one job. None in a bucket.
    ///
    /// # Errors
    /// 74 if the directory cannot be read.
    pub fn all_parts(&self) -> Result<Vec<PathBuf>> {
        let Self::Files(path) = self else { return Ok(Vec::new()) };
        let mut parts = parts_in(path)?;
        for dir in entries(path)?.into_iter().filter(|entry| entry.is_dir()) {
            parts.append(&mut parts_in(&dir)?);
        }
        Ok(parts)
    }

    fn dir_of(&self, of: &JobMark) -> PartPlace {
        let shard = of.shard.as_deref().map_or_else(|| "whole".to_owned(), |shard| shard.replace('/', "-of-"));
        let top = match self {
            Self::Files(path) => PartPlace::File(path.clone()),
            Self::Objects { bucket, prefix } => PartPlace::Object { bucket: Arc::clone(bucket), key: prefix.clone() },
        };
        top.join(&format!("{shard}-{}", of.content))
    }
}

impl fmt::Display for AnswersDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(path) => path.display().fmt(f),
            Self::Objects { bucket, prefix } => f.write_str(bucket.url(prefix).shown()),
        }
    }
}

impl PartPlace {
    /// The place `name` in this folder.
    pub(super) fn join(&self, name: &str) -> Self {
        match self {
            Self::File(path) => Self::File(path.join(name)),
            Self::Object { bucket, key } => {
                let key = if key.is_empty() { name.to_owned() } else { format!("{key}/{name}") };
                Self::Object { bucket: Arc::clone(bucket), key }
            }
        }
    }

    /// Reads the part.
    ///
    /// # Errors
    /// 74 if the file cannot be read; 66 or 75 if the object cannot be.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => {
                std::fs::read(path).map_err(|error| Error::io(format!("{}: cannot read", path.display()), error))
            }
            Self::Object { bucket, key } => bucket.get(key).map(Into::into),
        }
    }

    /// Writes the part. It appears when it is complete and on the disk, or in the store.
    ///
    /// # Errors
    /// 74 if it cannot be written, 75 if the store cannot be reached.
    pub(super) fn write(&self, text: Vec<u8>) -> Result<()> {
        match self {
            Self::File(path) => {
                let mut file = AtomicFile::create(path, 0o600)?;
                file.write_all(&text).map_err(|error| Error::io(format!("{}: cannot write", path.display()), error))?;
                file.commit()
            }
            Self::Object { bucket, key } => bucket.put(key, text.into()),
        }
    }
}

impl fmt::Display for PartPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Object { bucket, key } => f.write_str(bucket.url(key).shown()),
        }
    }
}

fn parts_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut parts = entries(dir)?;
    // A name that begins with a dot is that of a part that is being written.
    parts.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(ENDING) && !name.starts_with('.')
    });
    Ok(parts)
}

/// The paths in a directory, sorted. None if it is missing.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error| Error::io(format!("{}: cannot be read", dir.display()), error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.sort_unstable();
    Ok(paths)
}

pub(super) fn make(dir: &Path) -> Result<()> {
    // Answers are private, as they are in the state directory.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Error::io(format!("{}: cannot be made", dir.display()), error))
}
