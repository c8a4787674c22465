//! Local files that requests carry: found by path or pattern, typed by their first bytes, and hashed when a row is read. Their
//! bytes are read when the row is sent.
//!
//! Until then, a short text stands for a file in the body: its type, size and hash. Bodies in memory and in queues stay
//! small, and their fingerprints cover the content of the files.

mod facts;
mod finder;
mod media_type;
mod pieces;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use facts::{FileFacts, Stamp};
pub use finder::{FileFinder, FoundImage};
use media_type::AttachedKind;
pub use pieces::RecordingPieces;

/// The problem of a file, for the row that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// The problem, with the path.
    pub message: String,
    /// The remedy.
    pub hint: String,
}

impl FileFault {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    fn unreadable(path: &Path, error: &io::Error) -> Self {
        let shown = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => Self::new(
                format!("{shown} does not exist"),
                "correct the path; it counts from the directory of the input file",
            ),
            _ => Self::new(format!("{shown} cannot be read: {error}"), "make the file readable"),
        }
    }

    fn wrong_type(path: &Path, kind: AttachedKind) -> Self {
        let message = format!("{} is {}, by its first bytes", path.display(), kind.none_of());
        let empty = if kind == AttachedKind::Image { ", or empty the field" } else { "" };
        Self::new(message, format!("convert it to one of these{empty}"))
    }

    fn changed(path: &Path) -> Self {
        let message = format!("{} was changed since llbatch checked it", path.display());
        Self::new(message, "run the same command again when no program writes to the file")
    }
}

/// A local file of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedFile {
    path: Box<Path>,
    facts: FileFacts,
    /// Its state on disk when the row was read.
    stamp: Stamp,
}

impl AttachedFile {
    /// The text that stands for the file in a body. Equal contents have equal texts, wherever the files lie.
    pub fn stand_in(&self) -> String {
        let FileFacts { media, bytes, hash } = &self.facts;
        let hash = u128::from_be_bytes(*hash);
        format!("data:{};bytes={bytes};blake3={hash:032x}", media.as_str())
    }

    /// Its bytes.
    pub const fn bytes(&self) -> u64 {
        self.facts.bytes
    }

    /// Its media type, as a form names it.
    pub const fn media_type(&self) -> &'static str {
        self.facts.media.as_str()
    }

    /// Its name in a form: the type's, so that equal contents make equal requests.
    pub const fn upload_name(&self) -> &'static str {
        self.facts.media.upload_name()
    }

    /// The length of the data URI that is sent.
    fn uri_length(&self) -> u64 {
        "data:;base64,".len() as u64 + self.facts.media.as_str().len() as u64 + self.facts.bytes.div_ceil(3) * 4
    }

    /// Appends the data URI of the file as it is now.
    ///
    /// # Errors
    /// The file cannot be read, or has other bytes than when the row was checked.
    fn append_uri(&self, out: &mut Vec<u8>) -> Result<(), FileFault> {
        let unreadable = |error| FileFault::unreadable(&self.path, &error);
        let file = File::open(&self.path).map_err(unreadable)?;
        let mut bytes = Vec::with_capacity(usize::try_from(self.facts.bytes).unwrap_or(0) + 1);
        file.take(self.facts.bytes + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if facts::cut(blake3::hash(&bytes)) != self.facts.hash {
            return Err(FileFault::changed(&self.path));
        }
        out.extend_from_slice(b"data:");
        out.extend_from_slice(self.facts.media.as_str().as_bytes());
        out.extend_from_slice(b";base64,");
        let start = out.len();
        out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        // The room is exact, so it fits.
        let written = STANDARD.encode_slice(&bytes, &mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
        Ok(())
    }
}

/// The local files of a request, in the order of its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachments(Option<Arc<[AttachedFile]>>);

impl From<Vec<AttachedFile>> for Attachments {
    fn from(files: Vec<AttachedFile>) -> Self {
        Self((!files.is_empty()).then(|| files.into()))
    }
}

impl Attachments {
    /// Returns true if the request has no local files.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The bytes of a text of `bytes` bytes, once the files have taken the places of their stand-ins.
    pub fn sent_bytes(&self, bytes: u64) -> u64 {
        let stand_ins: u64 = self.files().iter().map(|file| file.stand_in().len() as u64).sum();
        let added: u64 = self.files().iter().map(AttachedFile::uri_length).sum();
        (bytes + added).saturating_sub(stand_ins)
    }

    /// Appends `text`, with the files in the places of their stand-ins.
    ///
    /// # Errors
    /// A file cannot be read, or has other bytes than when the row was checked.
    pub fn write(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), FileFault> {
        out.reserve(usize::try_from(self.sent_bytes(text.len() as u64)).unwrap_or(0));
        let mut rest = text;
        for file in self.files() {
            // A stand-in is a whole string. A text that quotes one has its quotes escaped.
            let stand_in = format!("\"{}\"", file.stand_in());
            let Some(at) = memmem::find(rest, stand_in.as_bytes()) else { continue };
            out.extend_from_slice(&rest[..=at]);
            file.append_uri(out)?;
            rest = &rest[at + stand_in.len() - 1..];
        }
        out.extend_from_slice(rest);
        Ok(())
    }

    /// The first of the files, which is uploaded beside a form.
    pub fn first(&self) -> Option<&AttachedFile> {
        self.files().first()
    }

    fn files(&self) -> &[AttachedFile] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// The path of a directory without symbolic links.
///
/// # Errors
/// The directory does not exist, or cannot be read.
pub fn real_path(dir: &Path) -> io::Result<PathBuf> {
    std::fs::canonicalize(dir)
}

/// The directory that relative paths of an input count from. `None`: the input is at a URL and has none.
pub fn directory_of(input: &str, work_dir: &Path) -> Option<PathBuf> {
    if input.contains("://") {
        return None;
    }
    // Standard input is `-`, in the directory of the command.
    Some(work_dir.join(input).parent().map_or_else(|| work_dir.to_owned(), Path::to_owned))
}

#[cfg(test)]
mod tests;
