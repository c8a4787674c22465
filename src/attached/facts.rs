//! The size, type and hash of local files, each found once by a command.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use super::FileFault;
use super::media_type::{AttachedKind, HEAD, MediaType};
use crate::text;

/// Files that are remembered, at some 80 bytes each. Others are hashed again each time that their row is read.
const REMEMBERED: usize = 1 << 18;
/// Bytes that are read at a time.
const READ: usize = 128 << 10;

/// A blake3 hash of a file's bytes, cut to 16 bytes.
pub type ContentHash = [u8; 16];

/// The facts about a file that stand for it until it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    pub media: MediaType,
    pub bytes: u64,
    pub hash: ContentHash,
}

/// The state of a file on disk. It stays the same until the file is written to, since no program can set its change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { inode: metadata.ino(), bytes: metadata.len(), changed }
    }
}

/// The facts about the files of a command.
#[derive(Debug)]
pub struct KnownFiles {
    kind: AttachedKind,
    /// The most bytes of a file.
    most: u64,
    /// By a hash of the path.
    known: RwLock<HashMap<ContentHash, (Stamp, FileFacts)>>,
}

impl KnownFiles {
    /// Files of this kind, of at most `most` bytes each.
    pub fn new(kind: AttachedKind, most: u64) -> Self {
        Self { kind, most, known: RwLock::default() }
    }

    /// Finds the facts about the file at `path`, and its state on disk.
    ///
    /// # Errors
    /// The file cannot be read, is too large or of another type, or was written to since the command first looked at it.
    pub fn look(&self, path: &Path) -> Result<(FileFacts, Stamp), FileFault> {
        let unreadable = |error| FileFault::unreadable(path, &error);
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        let stamp = self.checked(path, &metadata)?;
        let name = cut(blake3::hash(path.as_os_str().as_encoded_bytes()));
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
        if let Some((_, facts)) = known.filter(|(before, _)| *before == stamp) {
            return Ok((facts, stamp));
        }
        let file = File::open(path).map_err(unreadable)?;
        let stamp = self.checked(path, &file.metadata().map_err(unreadable)?)?;
        let facts = read(file, stamp.bytes, self.kind).map_err(unreadable)?;
        let facts = facts.ok_or_else(|| FileFault::wrong_type(path, self.kind))?;
        // The same bytes under a new change time are the same file.
        if known.is_some_and(|(_, before)| before != facts) || facts.bytes != stamp.bytes {
            return Err(FileFault::changed(path));
        }
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() < REMEMBERED || all.contains_key(&name) {
            all.insert(name, (stamp, facts));
        }
        Ok((facts, stamp))
    }

    /// The state of a file that may be read.
    fn checked(&self, path: &Path, metadata: &Metadata) -> Result<Stamp, FileFault> {
        let shown = path.display();
        if !metadata.is_file() {
            let kind = if metadata.is_dir() { "a directory" } else { "a pipe or a device" };
            let is_pattern = metadata.is_dir() && self.kind == AttachedKind::Image;
            let hint = if is_pattern { "name its files, as in DIR/*.png" } else { "name a file" };
            return Err(FileFault::new(format!("{shown} is {kind}, not a file"), hint));
        }
        if metadata.len() > self.most {
            let (size, bound) = (text::bytes(metadata.len()), text::bytes(self.most));
            let hint = match self.kind {
                AttachedKind::Image => "make the image smaller, or raise --max-file as far as the service allows",
                AttachedKind::Recording => {
                    "cut or compress the recording, or write an https:// URL: Together fetches up to 1 GB"
                }
            };
            return Err(FileFault::new(format!("{shown} has {size}, more than --max-file {bound}"), hint));
        }
        Ok(Stamp::of(metadata))
    }
}

/// Reads the facts. `None`: the first bytes are those of another type.
fn read(mut file: File, expected: u64, kind: AttachedKind) -> io::Result<Option<FileFacts>> {
    let size = usize::try_from(expected).unwrap_or(READ).clamp(HEAD, READ);
    let mut buffer = vec![0; size];
    let mut head = 0;
    while head < HEAD {
        match file.read(&mut buffer[head..])? {
            0 => break,
            read => head += read,
        }
    }
    let Some(media) = kind.type_of(&buffer[..head]) else { return Ok(None) };
    let mut hasher = blake3::Hasher::new();
    let (mut bytes, mut filled) = (0, head);
    while filled > 0 {
        hasher.update(&buffer[..filled]);
        bytes += filled as u64;
        filled = file.read(&mut buffer)?;
    }
    Ok(Some(FileFacts { media, bytes, hash: cut(hasher.finalize()) }))
}

/// The first 16 bytes of a hash.
pub fn cut(hash: blake3::Hash) -> ContentHash {
    let mut cut = ContentHash::default();
    cut.copy_from_slice(&hash.as_bytes()[..16]);
    cut
}
