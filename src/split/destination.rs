//! The place of batch files: a directory, or a single file.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::BatchFile;
use super::stage::{NewBatchFile, Stage, file_name, uncounted};
use crate::atomic_file::{same_file, writable};
use crate::error::{Error, Exit, Result};
use crate::objects::is_url;
use crate::text;

/// The place that `-o` names.
#[derive(Debug)]
pub enum Destination {
    /// One file, for a single batch.
    File(PathBuf),
    /// A directory, for any number of batches.
    Dir(PathBuf),
}

impl Destination {
    /// Decides what `path` is. A `.jsonl` name is a file. So is something that exists and cannot be lost, such as
    /// `/dev/stdout`. Everything else is a directory.
    ///
    /// # Errors
    /// 2 for `-`, and for a file with another ending.
    pub fn of(path: &Path) -> Result<Self> {
        let shown = path.display();
        if is_url(path) {
            let dir = path.as_os_str().as_encoded_bytes().ends_with(b"/");
            return if dir {
                Ok(Self::Dir(path.to_owned()))
            } else {
                writable(path).map(|()| Self::File(path.to_owned()))
            };
        }
        writable(path)?;
        if path.as_os_str() == "-" {
            return Err(Error::usage("-o -: name a directory or a .jsonl file")
                .hint("for a single batch -o /dev/stdout works as well"));
        }
        let jsonl = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("jsonl"));
        let slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => Ok(Self::Dir(path.to_owned())),
            // `/dev/stdout` may be any kind of file.
            Ok(there) if jsonl || !there.is_file() || path.starts_with("/dev") => Ok(Self::File(path.to_owned())),
            Ok(_) => Err(Error::usage(format!("-o {shown}: this is a file, but not a .jsonl file"))
                .hint("name a directory, or a file that ends in .jsonl")),
            Err(_) if jsonl && !slash => Ok(Self::File(path.to_owned())),
            Err(_) => Ok(Self::Dir(path.to_owned())),
        }
    }

    /// Makes the directory if it is missing, and returns it then.
    pub fn make(&self) -> Result<Option<&Path>> {
        match self {
            Self::Dir(dir) if !is_url(dir) && !dir.is_dir() => {
                fs::create_dir_all(dir)
                    .map_err(|e| Error::io(format_args!("{}: the directory cannot be made", dir.display()), e))?;
                Ok(Some(dir))
            }
            Self::Dir(_) | Self::File(_) => Ok(None),
        }
    }

    /// Opens the file of a batch on `stage`.
    ///
    /// # Errors
    /// 2 if the file is one of the `inputs`.
    pub fn open(&self, number: u32, model: &str, stage: &Stage, inputs: &[PathBuf]) -> Result<NewBatchFile> {
        let path = match self {
            // Only to count the files that the input makes.
            Self::File(path) if number > 1 => return Ok(uncounted(path)),
            Self::File(path) => path.clone(),
            Self::Dir(dir) => dir.join(file_name(number, model)),
        };
        if inputs.iter().any(|input| same_file(input, &path)) {
            return Err(Error::usage(format!("{}: this is an input file, which would be overwritten", path.display()))
                .hint("write to another directory"));
        }
        stage.open(path)
    }

    /// Checks that the destination can hold this many files.
    ///
    /// # Errors
    /// 65 for several batches in a single file.
    pub fn fits(&self, files: &[BatchFile]) -> Result<()> {
        match self {
            Self::File(path) if files.len() > 1 => {
                let text = format!(
                    "-o {}: the input makes {} batches, which do not fit into one file; nothing was written",
                    path.display(),
                    text::count(files.len() as u64)
                );
                let dir = path.with_extension("");
                Err(Error::new(Exit::Data, text).hint(format!("name a directory: -o {}/", dir.display())))
            }
            Self::File(_) | Self::Dir(_) => Ok(()),
        }
    }

    /// Lists other `.jsonl` files in the directory: a user who uploads all of them pays for those too.
    pub fn others(&self, files: &[BatchFile]) -> Vec<PathBuf> {
        let Self::Dir(dir) = self else { return Vec::new() };
        let ours: HashSet<&Path> = files.iter().map(|file| file.path.as_path()).collect();
        let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut others: Vec<PathBuf> = entries
            .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl") && !ours.contains(path.as_path()))
            .collect();
        others.sort();
        others
    }
}
