//! A part of a file in memory, for bodies most of which lie one after the other.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::batches::BodyPlace;

/// The bytes of a file from an offset on.
#[derive(Debug, Default)]
pub(super) struct FileWindow {
    bytes: Vec<u8>,
    from: u64,
}

impl FileWindow {
    /// The bytes at a place, if the window holds them all.
    pub(super) fn held(&self, place: BodyPlace) -> Option<&[u8]> {
        let start = usize::try_from(place.at.checked_sub(self.from)?).ok()?;
        self.bytes.get(start..start.checked_add(place.len as usize)?)
    }

    /// The offset behind the window.
    pub(super) fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }

    /// Moves the window: `size` bytes from `at` on, or those that the file has.
    pub(super) fn read(&mut self, file: &File, at: u64, size: usize) -> std::io::Result<()> {
        self.bytes.resize(size, 0);
        self.from = at;
        let mut read = 0;
        while read < size {
            match file.read_at(&mut self.bytes[read..], at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.bytes.clear();
                    return Err(e);
                }
            }
        }
        self.bytes.truncate(read);
        Ok(())
    }

    /// Empties the window and puts it at an offset.
    pub(super) fn jump(&mut self, to: u64) {
        self.bytes.clear();
        self.from = to;
    }
}
