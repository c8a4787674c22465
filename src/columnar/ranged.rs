//! Bytes that can be read at any place.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::Result;

/// Bytes that can be read at any place: a local file, or a remote object by ranged requests.
///
/// Remote inputs plug in here. Implement the trait over their client and hand it to [`ParquetRows::open`] as
/// `Arc<dyn RangedRead>`; nothing else of the Parquet reader knows where the bytes are. An implementation must:
///
/// - give the same bytes for as long as it lives. An object that changes under it is an error of [`Self::read_at`], with
///   the exit code and hint of its own: errors reach the user as they are.
/// - block until the bytes are there. Readers run on threads that may wait, never on the network thread.
/// - retry by itself. An error ends the command.
///
/// Reads come in this order: the end of the file once, then, row group by row group, each column forward in steps of
/// [`Self::step`] bytes or one page, whichever is more. Columns take turns, and each keeps the last bytes that it read, so
/// an implementation needs no cache.
///
/// [`ParquetRows::open`]: super::ParquetRows::open
pub trait RangedRead: Send + Sync {
    /// The number of bytes.
    fn size(&self) -> u64;

    /// Reads exactly `length` bytes from `offset` on. Both lie within [`Self::size`].
    ///
    /// # Errors
    /// 66 if the bytes cannot be read.
    fn read_at(&self, offset: u64, length: usize) -> Result<Bytes>;

    /// Bytes that one read fetches at least, where the column has so many: few for a disk, many where a read is a request.
    fn step(&self) -> usize {
        64 << 10
    }
}

/// A file on a disk.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
    size: u64,
    shown: String,
}

impl LocalFile {
    /// Opens the file at `path`, which messages name as `shown`.
    ///
    /// # Errors
    /// The error of the system.
    pub fn open(path: &Path, shown: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size, shown: shown.to_owned() })
    }
}

impl RangedRead for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| super::fault::unreadable(&self.shown, error))?;
        Ok(bytes.into())
    }
}

/// Bytes that the columns of a row group hold at a time, about. Each has one step.
const ALL_STEPS: usize = 64 << 20;
/// The smallest step of a column among many.
const SMALLEST_STEP: usize = 64 << 10;
/// Bytes of the beginning of a page that hold its sizes.
const PAGE_SIZES: usize = 18;
/// The largest page that is unpacked. Writers make pages of about 1 MiB.
const LARGEST_PAGE: u64 = 512 << 20;

/// A part of a source that is mostly read forward, such as a column of a row group. It keeps the last bytes that it read.
pub(super) struct ForwardWindow {
    source: Arc<dyn RangedRead>,
    /// The offset behind the part. Reads beyond it fetch no more than they need.
    end: u64,
    step: usize,
    held: Mutex<Held>,
}

#[derive(Default, Clone)]
struct Held {
    start: u64,
    bytes: Bytes,
}

impl Held {
    /// The bytes from `offset` on, if there are `length` of them.
    fn from(&self, offset: u64, length: usize) -> Option<Bytes> {
        let skip = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (skip.checked_add(length)? <= self.bytes.len()).then(|| self.bytes.slice(skip..))
    }
}

impl ForwardWindow {
    /// `parts`: so many are read at the same time.
    pub(super) fn new(source: &Arc<dyn RangedRead>, end: u64, parts: usize) -> Self {
        let step = (ALL_STEPS / parts.max(1)).max(SMALLEST_STEP).min(source.step());
        Self { source: Arc::clone(source), end: end.min(source.size()), step, held: Mutex::default() }
    }

    /// At least `length` bytes from `offset` on, and as many more as are at hand.
    fn at_least(&self, offset: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = held.from(offset, length) {
            return Ok(bytes);
        }
        let beyond = offset.checked_add(length as u64).is_none_or(|end| end > self.source.size());
        if beyond {
            return Err(ParquetError::EOF(format!("{length} bytes at offset {offset} lie behind the end of the file")));
        }
        let ahead = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX).min(self.step);
        // The bytes before are let go first, so that only one step is held.
        *held = Held::default();
        let bytes = self.source.read_at(offset, length.max(ahead)).map_err(|e| ParquetError::External(Box::new(e)))?;
        *held = Held { start: offset, bytes: bytes.clone() };
        Ok(bytes)
    }
}

impl Length for ForwardWindow {
    fn len(&self) -> u64 {
        self.source.size()
    }
}

impl ChunkReader for ForwardWindow {
    type T = WindowRead;

    fn get_read(&self, start: u64) -> Result<WindowRead, ParquetError> {
        // The decoder reads on here where a page begins.
        let sizes = usize::try_from(self.end.saturating_sub(start)).unwrap_or(PAGE_SIZES).min(PAGE_SIZES);
        let bytes = self.at_least(start, sizes)?;
        if let Some(size) = unpacked_size(&bytes).filter(|size| *size > LARGEST_PAGE) {
            let most = LARGEST_PAGE >> 20;
            return Err(ParquetError::General(format!("a page claims {size} bytes; llbatch reads up to {most} MiB")));
        }
        let next = start + bytes.len() as u64;
        Ok(WindowRead { source: Arc::clone(&self.source), bytes, next, end: self.end })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.at_least(start, length)?.slice(..length))
    }
}

/// The size that a page claims to have when it is unpacked: the second of three whole numbers at its beginning, which are
/// spelled as in Thrift's compact protocol. `None`: this is no such beginning.
fn unpacked_size(page: &[u8]) -> Option<u64> {
    let mut rest = page.iter();
    let mut number = || {
        // The next field, of 32 bits.
        rest.next().filter(|byte| **byte == 0x15)?;
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = *rest.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            if shift > 28 {
                return None;
            }
        }
    };
    let (_, size) = (number()?, number()?);
    // The sign is the lowest bit.
    (size & 1 == 0).then_some(size >> 1)
}

/// Reads on from an offset.
pub(super) struct WindowRead {
    source: Arc<dyn RangedRead>,
    bytes: Bytes,
    /// The offset behind `bytes`.
    next: u64,
    end: u64,
}

impl Read for WindowRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        /// Bytes of one step beyond the window: the header of a page is rarely longer.
        const MORE: u64 = 16 << 10;
        if self.bytes.is_empty() {
            let length = usize::try_from(self.end.saturating_sub(self.next).min(MORE)).unwrap_or(0);
            if length == 0 {
                return Ok(0);
            }
            self.bytes = self.source.read_at(self.next, length).map_err(io::Error::other)?;
            self.next += length as u64;
        }
        let given = out.len().min(self.bytes.len());
        self.bytes.copy_to_slice(&mut out[..given]);
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that counts its reads.
    struct Counted {
        bytes: Bytes,
        reads: Mutex<Vec<(u64, usize)>>,
    }

    impl RangedRead for Counted {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
            self.reads.lock().unwrap().push((offset, length));
            let offset = usize::try_from(offset).unwrap();
            Ok(self.bytes.slice(offset..offset + length))
        }

        fn step(&self) -> usize {
            100
        }
    }

    #[test]
    fn a_window_reads_forward_in_steps_and_nothing_twice() {
        let bytes: Bytes = (0..=255_u8).cycle().take(1000).collect();
        let counted = Arc::new(Counted { bytes: bytes.clone(), reads: Mutex::default() });
        let source: Arc<dyn RangedRead> = Arc::clone(&counted) as Arc<dyn RangedRead>;
        let window = ForwardWindow::new(&source, 500, 1);
        for (start, length) in [(10_u64, 20_usize), (30, 80), (110, 250), (360, 139)] {
            let at = usize::try_from(start).unwrap();
            assert_eq!(window.get_bytes(start, length).unwrap(), bytes.slice(at..at + length));
        }
        assert_eq!(*counted.reads.lock().unwrap(), [(10, 100), (110, 250), (360, 139)], "(30, 80) is at hand");
        let mut header = Vec::new();
        window.get_read(490).unwrap().read_to_end(&mut header).unwrap();
        assert_eq!(header, bytes.slice(490..500), "no further than the end of the part");
        assert_eq!(ForwardWindow::new(&source, 500, 10_000).step, 100, "no more than the source wants");
        assert!(matches!(window.get_bytes(900, 200), Err(ParquetError::EOF(_))));
        assert!(matches!(window.get_bytes(u64::MAX, 2), Err(ParquetError::EOF(_))));
    }

    #[test]
    fn a_page_that_claims_gigabytes_is_refused() {
        let number = |mut value: u64| {
            let mut bytes = vec![0x15];
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
            bytes
        };
        for (size, is_read) in
            [(1_u64 << 20, true), (LARGEST_PAGE, true), (LARGEST_PAGE + 1, false), (2_147_483_647, false)]
        {
            let page = [number(0), number(size << 1), number(40), vec![0; 40]].concat();
            assert_eq!(unpacked_size(&page), Some(size));
            let source: Arc<dyn RangedRead> = Arc::new(Counted { bytes: page.into(), reads: Mutex::default() });
            assert_eq!(ForwardWindow::new(&source, 40, 1).get_read(0).is_ok(), is_read, "{size}");
        }
        assert_eq!(unpacked_size(&[0x15]), None);
        assert_eq!(unpacked_size(b"PAR1 and more of it"), None);
    }
}
