//! The input: files with their format and compression decided, read as blocks of whole records.
//!
//! One thread cuts blocks ([`Blocks`]), which costs little more than finding the line ends. The thread that walks a block
//! ([`Block::for_each`]) parses it, so that work spreads over threads. Memory is one block, whatever the size of the file.

mod block_place;
mod blocks;
mod csv;
mod encoding;
mod field_names;
mod format;
mod header;
mod jsonl;
mod kept;
mod limited;
mod nature;
mod opened;
mod parquet;
mod pick;
mod remote;
mod reread;
mod shard;
mod source;
mod value_kinds;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

pub use blocks::{Block, Blocks};
pub use encoding::TextEncoding;
pub use field_names::FieldNames;
pub use format::Format;
pub use header::{TableHeader, ambiguous, undivided};
pub use kept::{Kept, same_copy};
pub use opened::{OpenedInputs, StdinCopy};
pub use parquet::ParquetFile;
pub use pick::{ChosenRows, Pick};
use remote::{NewFile, RemoteBytes};
pub use reread::RereadFile;
pub use shard::Shard;
use source::RawBytes;
pub use source::{Source, unreadable};

use crate::columnar::RangedRead;
use crate::error::{Error, Exit, Result};
pub use crate::request::{Data, InputPlace, Problem, Record};

/// The inputs of a command, in order, checked to be readable.
#[derive(Debug, Clone)]
pub struct Inputs {
    files: Vec<Input>,
    chosen: ChosenRows,
}

/// The user's flags about how to read inputs.
#[derive(Serialize, Deserialize, Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// `--input-format`
    #[serde(rename = "input_format")]
    pub format: Option<Format>,
    /// `--delimiter`: the byte between the fields of tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<u8>,
    /// `--encoding`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<TextEncoding>,
    /// The rows that count.
    #[serde(default, skip_serializing_if = "Pick::is_all")]
    pub pick: Pick,
}

/// One of the files.
#[derive(Debug, Clone)]
struct Input {
    path: PathBuf,
    /// Its name in messages.
    shown: String,
    format: Format,
    /// The byte between fields, if the user named it.
    delimiter: Option<u8>,
    /// The encoding that the user named.
    encoding: Option<TextEncoding>,
    /// Its size on disk, or at its URL.
    bytes: u64,
    /// Its bytes, if `path` is no file of the user.
    remote: Option<RemoteBytes>,
}

impl ReadOptions {
    /// The format of standard input: JSONL unless a flag says otherwise.
    pub fn piped_format(&self) -> Format {
        self.format.unwrap_or(if self.delimiter.is_some() { Format::Csv } else { Format::Jsonl })
    }
}

impl Inputs {
    /// Decides each file's format, by `format` or by its ending (`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt`, `.parquet`, with
    /// `.gz` or `.zst` behind it or not). The first bytes show the compression, not the ending.
    ///
    /// # Errors
    /// Exit 66 for a file that is missing, a directory, a pipe or unreadable, and 2 for an unknown ending.
    pub fn resolve(paths: &[PathBuf], format: Option<Format>) -> Result<Self> {
        Self::resolve_with(paths, format, &|| NamedTempFile::new().map_err(|e| Error::io("a copy cannot be stored", e)))
    }

    /// The same, with the maker of a file for the copy of an input at a URL that cannot be read in ranges.
    ///
    /// # Errors
    /// As [`Self::resolve`]; 75 if a server cannot be reached.
    pub fn resolve_with(paths: &[PathBuf], format: Option<Format>, new_file: NewFile<'_>) -> Result<Self> {
        Ok(Self { files: remote::resolve(paths, format, new_file)?, chosen: ChosenRows::default() })
    }

    /// A single file that has another name in messages, such as `-` for a copy of stdin.
    pub fn spooled(path: PathBuf, shown: &str, format: Format) -> Self {
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let input =
            Input { path, shown: shown.to_owned(), format, delimiter: None, encoding: None, bytes, remote: None };
        Self { files: vec![input], chosen: ChosenRows::default() }
    }

    /// The same file under another path.
    pub fn moved(mut self, path: PathBuf) -> Self {
        if let [file] = &mut *self.files {
            file.path = path;
        }
        self
    }

    /// The same files, read as `options` say.
    ///
    /// # Errors
    /// 2 for a delimiter of a file that is no table; as [`Self::blocks`], since a sample needs the number of rows.
    pub fn read_as(mut self, options: &ReadOptions) -> Result<Self> {
        for file in &mut self.files {
            if options.encoding.is_some() && file.format == Format::Parquet {
                let text =
                    format!("--encoding is for text, but {} is a Parquet file, whose texts are UTF-8", file.shown);
                return Err(Error::usage(text).hint("leave out --encoding"));
            }
            if options.delimiter.is_some() && !file.is_table() {
                let text = format!("--delimiter is for tables, but {} is read as {}", file.shown, file.format);
                return Err(Error::usage(text).hint("pass --input-format csv as well if it is a table"));
            }
            (file.delimiter, file.encoding) = (options.delimiter, options.encoding);
        }
        let chosen = ChosenRows::of(options.pick, &self)?;
        Ok(self.with(chosen))
    }

    fn with(self, chosen: ChosenRows) -> Self {
        Self { chosen, ..self }
    }

    /// The rows that count.
    pub const fn chosen(&self) -> &ChosenRows {
        &self.chosen
    }

    /// The same files with the rows of all shards.
    pub fn of_all_shards(&self) -> Self {
        self.clone().with(self.chosen.of_all_shards())
    }

    /// All blocks of all files, from the start. May be called again.
    ///
    /// # Errors
    /// Exit 66 if the first file cannot be opened.
    pub fn blocks(&self) -> Result<Blocks> {
        Blocks::open(self)
    }

    /// The same in blocks of about `block` bytes, where a record of more than `longest` is a problem.
    pub fn blocks_sized(&self, block: usize, longest: usize) -> Result<Blocks> {
        Blocks::with_sizes(self, block, longest)
    }

    /// Size on disk, about, of the rows that count; of a copy that llbatch packed, the size before. `None` without files.
    pub fn total_bytes(&self) -> Option<u64> {
        (!self.files.is_empty()).then(|| self.chosen.share(self.files.iter().map(|file| file.bytes).sum()))
    }

    /// The identity and state of the files. It stays the same unless one of them is written to, as it holds their change
    /// times, which no program can set. An object at a URL has its version here, and is changed once a read finds another. `None` if one cannot be read.
    pub fn stamp(&self) -> Option<String> {
        self.files.iter().map(|file| remote::stamp_of(&file.path, file.remote.as_ref())).collect()
    }

    /// Each of the files, alone.
    pub fn each_file(&self) -> impl Iterator<Item = Self> {
        self.files.iter().map(|file| Self { files: vec![file.clone()], chosen: ChosenRows::default() })
    }

    /// Each of the files that are tables, alone.
    pub fn each_table(&self) -> impl Iterator<Item = Self> {
        self.each_file().filter(|inputs| inputs.files.iter().all(Input::is_table))
    }

    /// Their names in messages.
    pub fn shown(&self) -> String {
        self.files.iter().map(|file| &*file.shown).collect::<Vec<_>>().join(" ")
    }
}

impl Input {
    /// Opens its bytes, as they are stored.
    fn open(&self) -> Result<RawBytes> {
        match &self.remote {
            Some(remote) => remote.open(&self.shown),
            None => remote::open_file(&self.path, &self.shown),
        }
    }

    /// Its bytes, to be read at any place.
    fn ranged(&self) -> Result<Arc<dyn RangedRead>> {
        match &self.remote {
            Some(remote) => remote.ranged(&self.shown),
            None => remote::ranged_file(&self.path, &self.shown),
        }
    }

    const fn is_table(&self) -> bool {
        matches!(self.format, Format::Csv | Format::Tsv)
    }

    fn resolve(path: &Path, format: Option<Format>) -> Result<Self> {
        let shown = path.display().to_string();
        let cannot = |why: &str| Error::new(Exit::NoInput, format!("{shown}: {why}"));
        let metadata = fs::metadata(path)
            .map_err(|error| remote::unread_address(&shown).unwrap_or_else(|| source::unreadable(&shown, error)))?;
        if metadata.is_dir() {
            return Err(cannot("is a directory, not a file").hint(format!("name its files: {shown}/*.jsonl")));
        }
        if !metadata.is_file() {
            return Err(cannot("is a pipe or a device, which cannot be read twice")
                .hint("send it to standard input: llbatch … - --input-format jsonl < FILE"));
        }
        let format = format.or_else(|| Format::of_path(path)).ok_or_else(|| no_format(&shown))?;
        // Opened and closed again, so that every unreadable file is found before work on the first begins.
        fs::File::open(path).map_err(|error| source::unreadable(&shown, error))?;
        Ok(Self {
            path: path.to_owned(),
            shown,
            format,
            delimiter: None,
            encoding: None,
            bytes: metadata.len(),
            remote: None,
        })
    }
}

/// The error of an input whose ending names no format.
fn no_format(shown: &str) -> Error {
    nature::unread_ending(shown).unwrap_or_else(|| {
        Error::usage(format!("{shown}: cannot tell the format from the file ending"))
            .hint("pass --input-format jsonl|csv|tsv|lines|parquet")
    })
}

#[cfg(test)]
mod tests;

/// Builds the error for an input that was written to while llbatch read it. `effect` says what that led to.
pub fn changed(effect: &str) -> Error {
    Error::new(Exit::Failure, format!("the input changed while llbatch read it: {effect}"))
        .hint("run the same command again when no program writes to the input")
}
