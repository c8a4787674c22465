//! A file on its way out: read in pieces, and compared with what was checked.

use std::fs::File;
use std::io::{self, Read, Seek};

use bytes::Bytes;

use super::facts::{Stamp, cut};
use super::{AttachedFile, FileFault};

/// Bytes of a piece.
const PIECE: u64 = 128 << 10;

/// The bytes of a file, in order. Reading waits for the disk.
#[derive(Debug)]
pub struct RecordingPieces {
    of: AttachedFile,
    file: File,
    left: u64,
    hasher: blake3::Hasher,
}

impl AttachedFile {
    /// Opens the file to send it. One that was written to since the row was read is hashed first.
    ///
    /// # Errors
    /// The file cannot be read, or has other bytes than when the row was checked.
    pub fn open(&self) -> Result<RecordingPieces, FileFault> {
        let unreadable = |error| FileFault::unreadable(&self.path, &error);
        let file = File::open(&self.path).map_err(unreadable)?;
        let stamp = Stamp::of(&file.metadata().map_err(unreadable)?);
        let mut pieces =
            RecordingPieces { of: self.clone(), file, left: self.facts.bytes, hasher: blake3::Hasher::new() };
        if stamp != self.stamp {
            while pieces.piece()?.is_some() {}
            pieces.file.rewind().map_err(unreadable)?;
            (pieces.left, pieces.hasher) = (self.facts.bytes, blake3::Hasher::new());
        }
        Ok(pieces)
    }
}

impl RecordingPieces {
    /// The next piece. `None`: all have come. The last one comes only if the whole file is as it was checked.
    ///
    /// # Errors
    /// The file cannot be read, or has other bytes.
    pub fn piece(&mut self) -> Result<Option<Bytes>, FileFault> {
        if self.left == 0 {
            return Ok(None);
        }
        let unreadable = |error: io::Error| FileFault::unreadable(&self.of.path, &error);
        let wanted = self.left.min(PIECE);
        let mut piece = Vec::with_capacity(wanted as usize);
        (&self.file).take(wanted).read_to_end(&mut piece).map_err(unreadable)?;
        self.hasher.update(&piece);
        self.left -= piece.len() as u64;
        let is_short = piece.len() as u64 != wanted;
        if is_short || (self.left == 0 && (self.is_longer().map_err(unreadable)? || !self.is_as_checked())) {
            return Err(FileFault::changed(&self.of.path));
        }
        Ok(Some(piece.into()))
    }

    fn is_as_checked(&self) -> bool {
        cut(self.hasher.finalize()) == self.of.facts.hash
    }

    /// Returns true if more bytes follow.
    fn is_longer(&self) -> io::Result<bool> {
        Ok((&self.file).read(&mut [0])? > 0)
    }
}
