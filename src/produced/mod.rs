//! The files that answers bring (`--files`): named by their rows, and whole on the disk before their rows count.
//!
//! A file is written under a temporary name of its job and synced, then renamed without replacing anything: a name that is
//! taken gets `~2`, `~3` and so on. Between the two, the job's database notes the name, so that a killed run's files are known
//! to be its own.

mod kind;
mod names;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::TempPath;

use crate::error::{Error, Result};
use crate::outcome::{AnsweredFile, Outcome};
use crate::request::FilesDir;
use kind::FileKind;

/// The beginning of the name of every temporary file.
const TEMPORARY: &str = ".llbatch-";
/// Names that are tried for a file. Nobody has so many files of one row.
const MOST_TAKEN: u32 = 10_000;

/// The directory for the files of one job.
#[derive(Debug)]
pub struct ProducedDir {
    place: FilesDir,
    /// Begins the temporary names of this job.
    prefix: String,
}

/// A file on its way: written and synced under a temporary name.
#[derive(Debug)]
pub struct ProducedFile {
    /// The temporary file. `None`: it has its name.
    temporary: Option<TempPath>,
    /// The stem that its row gives it.
    stem: String,
    /// Its place among the files of the row, from 1.
    place: usize,
    /// Names before this one that other files have.
    taken: u32,
    /// The row.
    pub row: u64,
    kind: FileKind,
    bytes: u64,
    hash: blake3::Hash,
}

/// A file in a row of results.
#[derive(Serialize)]
struct ListedFile<'a> {
    path: &'a str,
    bytes: u64,
    blake3: &'a str,
    media_type: &'a str,
}

impl ProducedFile {
    /// The name that it is going to have.
    pub fn name(&self) -> String {
        names::name(&self.stem, self.place, self.kind.ending, self.taken)
    }

    /// The part of its hash by which a killed run's file is known.
    pub fn mark(&self) -> i64 {
        mark(&self.hash)
    }

    /// Returns true if another file had the name that its row gives it.
    pub const fn is_renamed(&self) -> bool {
        self.taken > 0
    }
}

impl ProducedDir {
    /// Opens the directory for a job, and makes it if it is missing. Temporary files that a killed run of the job left are
    /// removed: this process holds the job's lock.
    ///
    /// # Errors
    /// 74 if it cannot be written to.
    pub fn open(place: &FilesDir, job: &str) -> Result<Self> {
        let produced = Self { place: place.clone(), prefix: format!("{TEMPORARY}{job}-") };
        produced.make().map_err(|error| produced.unwritable(error))?;
        Ok(produced)
    }

    fn make(&self) -> io::Result<()> {
        let dir = &self.place.dir;
        if !dir.is_dir() {
            std::fs::create_dir_all(dir)?;
            if let Some(parent) = dir.parent() {
                sync(parent)?;
            }
        }
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&self.prefix) {
                std::fs::remove_file(entry.path())?;
            }
        }
        // Before anything is paid for.
        let (file, probe) = self.temporary("probe")?;
        drop(file);
        probe.close()
    }

    /// Writes the files of an answer under temporary names, and syncs them.
    ///
    /// # Errors
    /// 74 if they cannot be written.
    pub fn stage(&self, outcome: &Outcome) -> Result<Vec<ProducedFile>> {
        let stem = names::stem(&outcome.id);
        let stage = |(at, file): (usize, &AnsweredFile)| -> io::Result<ProducedFile> {
            let temporary = self.write(&format!("{}-{at}", outcome.row), &file.bytes)?;
            Ok(ProducedFile {
                temporary: Some(temporary),
                stem: stem.clone(),
                place: at + 1,
                taken: 0,
                row: outcome.row,
                kind: FileKind::of(&file.bytes, file.said.as_deref()),
                bytes: file.bytes.len() as u64,
                hash: blake3::hash(&file.bytes),
            })
        };
        let staged: io::Result<_> = outcome.attached.iter().enumerate().map(stage).collect();
        staged.map_err(|error| self.unwritable(error))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<TempPath> {
        let (mut file, path) = self.temporary(name)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(path)
    }

    fn temporary(&self, name: &str) -> io::Result<(File, TempPath)> {
        let path = self.place.dir.join(format!("{}{name}.tmp", self.prefix));
        // One that a failed write of this process left.
        drop(std::fs::remove_file(&path));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path)?;
        Ok((file, TempPath::try_from_path(path)?))
    }

    /// Gives each file a name that no other file has, those of `staged` included.
    ///
    /// # Errors
    /// 74 if the directory cannot be read, or all names are taken.
    pub fn choose(&self, staged: &mut [ProducedFile]) -> Result<()> {
        let mut chosen: HashSet<String> = HashSet::new();
        for file in staged {
            while file.temporary.is_some() && (chosen.contains(&file.name()) || self.is_taken(&file.name())?) {
                file.taken += 1;
                if file.taken > MOST_TAKEN {
                    let error = io::Error::new(io::ErrorKind::AlreadyExists, "every name of it is taken");
                    return Err(self.unwritable(error));
                }
            }
            chosen.insert(file.name());
        }
        Ok(())
    }

    fn is_taken(&self, name: &str) -> Result<bool> {
        match self.place.dir.join(name).symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unwritable(error)),
        }
    }

    /// Gives each file its name, and syncs the directory. Returns false if a name was taken meanwhile: choose again.
    ///
    /// # Errors
    /// 74 if that fails.
    pub fn publish(&self, staged: &mut [ProducedFile]) -> Result<bool> {
        let mut all = true;
        for file in staged {
            let target = self.place.dir.join(file.name());
            let Some(temporary) = file.temporary.take() else { continue };
            match temporary.persist_noclobber(&target) {
                Ok(()) => {}
                Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
                    file.temporary = Some(failed.path);
                    all = false;
                }
                Err(failed) => return Err(self.unwritable(failed.error)),
            }
        }
        sync(&self.place.dir).map_err(|error| self.unwritable(error))?;
        Ok(all)
    }

    /// Describes the files of a row, for its result.
    pub fn listed<'a>(&self, files: impl Iterator<Item = &'a ProducedFile>) -> String {
        let list = files.map(|file| {
            let path = self.place.shown.join(file.name());
            let (path, hash) = (path.to_string_lossy(), file.hash.to_hex());
            let listed = ListedFile { path: &path, bytes: file.bytes, blake3: &hash, media_type: file.kind.media_type };
            serde_json::to_string(&listed).unwrap_or_default()
        });
        format!("[{}]", list.collect::<Vec<_>>().join(","))
    }

    /// Removes the file of this name if its bytes have this mark: a killed run gave it its name, and its row has no answer.
    pub fn remove_unclaimed(&self, name: &str, known: i64) -> Result<()> {
        let path = self.place.dir.join(name);
        match hash_of(&path) {
            Ok(hash) if mark(&hash) == known => std::fs::remove_file(&path).map_err(|error| self.unwritable(error)),
            // It is not what this job wrote, or it is gone.
            _ => Ok(()),
        }
    }

    fn unwritable(&self, error: io::Error) -> Error {
        Error::io(format!("--files {}: the files of answers cannot be written", self.place.shown.display()), error)
            .hint("free space or correct the permissions, and run the command again: it resumes")
    }
}

fn hash_of(path: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        };
    }
}

fn mark(hash: &blake3::Hash) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    i64::from_le_bytes(first)
}

fn sync(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() };
    match File::open(dir)?.sync_all() {
        // Some file systems cannot do that; the rename itself is done.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;
