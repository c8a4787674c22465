//! The size, type and hash of local files, each found once by a command.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use super::FileFault;
use super::media_type::{HEAD, MediaType};
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
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { inode: metadata.ino(), bytes: metadata.len(), changed }
    }
}

/// The facts about the files of a command.
#[derive(Debug, Default)]
pub struct KnownFiles {
    /// By a hash of the path.
    known: RwLock<HashMap<ContentHash, (Stamp, FileFacts)>>,
}

impl KnownFiles {
    /// Finds the facts about the file at `path`, which may have `most` bytes.
    ///
    /// # Errors
    /// The file cannot be read, is too large or no image, or was written to since the command first looked at it.
    pub fn look(&self, path: &Path, most: u64) -> Result<FileFacts, FileFault> {
        let unreadable = |error| FileFault::unreadable(path, &error);
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        let stamp = checked(path, &metadata, most)?;
        let name = cut(blake3::hash(path.as_os_str().as_encoded_bytes()));
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
        if let Some((_, facts)) = known.filter(|(before, _)| *before == stamp) {
            return Ok(facts);
        }
        let file = File::open(path).map_err(unreadable)?;
        let stamp = checked(path, &file.metadata().map_err(unreadable)?, most)?;
        let facts = read(file, stamp.bytes).map_err(unreadable)?.ok_or_else(|| FileFault::no_image(path))?;
        // The same bytes under a new change time are the same file.
        if known.is_some_and(|(_, before)| before != facts) || facts.bytes != stamp.bytes {
            return Err(FileFault::changed(path));
        }
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() < REMEMBERED || all.contains_key(&name) {
            all.insert(name, (stamp, facts));
        }
        Ok(facts)
    }
}

/// The state of a file that may be read.
fn checked(path: &Path, metadata: &Metadata, most: u64) -> Result<Stamp, FileFault> {
    let shown = path.display();
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a directory" } else { "a pipe or a device" };
        let hint = if metadata.is_dir() { "name its files, as in DIR/*.png" } else { "name a file" };
        return Err(FileFault::new(format!("{shown} is {kind}, not a file"), hint));
    }
    if metadata.len() > most {
        let (size, bound) = (text::bytes(metadata.len()), text::bytes(most));
        let hint = "make the image smaller, or raise --max-file as far as the service allows";
        return Err(FileFault::new(format!("{shown} has {size}, more than --max-file {bound}"), hint));
    }
    Ok(Stamp::of(metadata))
}

/// Reads the facts. `None`: the first bytes are those of no image.
fn read(mut file: File, expected: u64) -> io::Result<Option<FileFacts>> {
    let size = usize::try_from(expected).unwrap_or(READ).clamp(HEAD, READ);
    let mut buffer = vec![0; size];
    let mut head = 0;
    while head < HEAD {
        match file.read(&mut buffer[head..])? {
            0 => break,
            read => head += read,
        }
    }
    let Some(media) = MediaType::of(&buffer[..head]) else { return Ok(None) };
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
