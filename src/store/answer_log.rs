//! The log of a job's responses in real time: one body a line, appended and never changed.
//!
//! A body is in the log before its row is in the database, so every committed row has its body after a kill. A power
//! cut may take the end of the log and leave its rows, because only a sync orders the two files on the disk.
//! [`JobDb::drop_damaged`](super::JobDb::drop_damaged) finds such rows by their checksums before a run goes on.

use std::cell::OnceCell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::batches::BodyPlace;
use super::file_window::FileWindow;
use crate::error::{Error, Result};

/// Pending bytes from which on the log is written before the commit.
const MUCH: usize = 1 << 20;
/// Bytes that a scan reads at once.
const WINDOW: usize = 256 << 10;

/// The log of one job. The holder of the job's lock writes it; others read it.
#[derive(Debug)]
pub(super) struct AnswerLog {
    path: PathBuf,
    writer: Option<LogEnd>,
    reader: OnceCell<File>,
}

/// The open end of the log.
#[derive(Debug)]
struct LogEnd {
    file: File,
    /// The end of the log, with `pending`.
    end: u64,
    /// Bodies that are not written yet.
    pending: Vec<u8>,
    /// Something was written since the last sync.
    dirty: bool,
    /// The directories do not have the file on the disk yet.
    new: bool,
}

impl AnswerLog {
    /// The log of the job with this database.
    pub(super) fn new(db: &Path) -> Self {
        Self { path: db.with_extension("").join("answers.jsonl"), writer: None, reader: OnceCell::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a body. It reaches the file with [`Self::flush`].
    pub(super) fn append(&mut self, body: &str) -> Result<BodyPlace> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            closed => {
                let opened = LogEnd::open(&self.path).map_err(|e| unwritable(&self.path, e))?;
                closed.insert(opened)
            }
        };
        let len = u32::try_from(body.len()).map_err(|e| unwritable(&self.path, std::io::Error::other(e)))?;
        let place = BodyPlace { errors: false, at: writer.end, len };
        writer.pending.extend_from_slice(body.as_bytes());
        writer.pending.push(b'\n');
        writer.end += u64::from(len) + 1;
        if writer.pending.len() >= MUCH { self.flush().map(|()| place) } else { Ok(place) }
    }

    /// Writes what is pending. It survives the death of this process.
    pub(super) fn flush(&mut self) -> Result<()> {
        let Some(writer) = self.writer.as_mut().filter(|writer| !writer.pending.is_empty()) else { return Ok(()) };
        writer.dirty = true;
        let written = writer.file.write_all(&writer.pending);
        writer.pending.clear();
        written.map_err(|e| {
            // A part may have been written, so the end is no longer known.
            self.writer = None;
            unwritable(&self.path, e)
        })
    }

    /// Makes what was written survive a power cut, and returns the end of the log if something was.
    pub(super) fn sync(&mut self) -> Result<Option<u64>> {
        let Some(writer) = self.writer.as_mut().filter(|writer| writer.dirty) else { return Ok(None) };
        let synced = writer.file.sync_data().and_then(|()| {
            if writer.new {
                for dir in self.path.ancestors().skip(1).take(2) {
                    File::open(dir)?.sync_all()?;
                }
            }
            Ok(())
        });
        synced.map_err(|e| unwritable(&self.path, e))?;
        (writer.dirty, writer.new) = (false, false);
        Ok(Some(writer.end - writer.pending.len() as u64))
    }

    /// Forgets what is pending: its rows are rolled back.
    pub(super) fn undo(&mut self) {
        self.writer = None;
    }

    /// Reads the body at a place. `None`: the log does not hold it.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn body(&self, place: BodyPlace) -> std::io::Result<Option<Box<str>>> {
        let file = match self.reader.get() {
            Some(file) => file,
            None => match File::open(&self.path) {
                Ok(opened) => self.reader.get_or_init(|| opened),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let mut bytes = vec![0; place.len as usize];
        match file.read_exact_at(&mut bytes, place.at) {
            Ok(()) => Ok(String::from_utf8(bytes).ok().map(String::into_boxed_str)),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A reader of many bodies, most of which lie one after the other.
    pub(super) fn scan(&self) -> LogScan<'_> {
        LogScan { log: self, file: None, window: FileWindow::default() }
    }
}

/// A reader of many bodies. It reads a window of the log at a time.
#[derive(Debug)]
pub(super) struct LogScan<'a> {
    log: &'a AnswerLog,
    file: Option<File>,
    window: FileWindow,
}

impl LogScan<'_> {
    /// The bytes at a place. `None`: the log does not hold them.
    pub(super) fn bytes(&mut self, place: BodyPlace) -> std::io::Result<Option<&[u8]>> {
        if self.window.held(place).is_none() {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(File::open(&self.log.path)?),
            };
            self.window.read(file, place.at, WINDOW.max(place.len as usize))?;
        }
        Ok(self.window.held(place))
    }
}

impl LogEnd {
    fn open(path: &Path) -> std::io::Result<Self> {
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let end = file.metadata()?.len();
        Ok(Self { file, end, pending: Vec::new(), dirty: false, new: end == 0 })
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("{}: answers cannot be kept", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, AnswerLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = AnswerLog::new(&dir.path().join("j-1.db"));
        (dir, log)
    }

    #[test]
    fn bodies_are_read_back_from_their_places() {
        let (dir, mut log) = log();
        let places: Vec<_> = ["{}", "", "{\"a\":\"é\"}"].iter().map(|body| log.append(body).unwrap()).collect();
        log.flush().unwrap();
        assert_eq!(log.sync().unwrap(), Some(std::fs::metadata(log.path()).unwrap().len()));
        assert_eq!(log.sync().unwrap(), None, "nothing was written since");
        let read: Vec<_> = places.iter().map(|place| log.body(*place).unwrap().unwrap()).collect();
        assert_eq!(read.iter().map(|body| &**body).collect::<Vec<_>>(), ["{}", "", "{\"a\":\"é\"}"]);
        // Another process goes on at the end, whatever is there.
        std::fs::OpenOptions::new().append(true).open(log.path()).unwrap().write_all(b"{\"torn").unwrap();
        let mut second = AnswerLog::new(&dir.path().join("j-1.db"));
        let place = second.append("{\"b\":1}").unwrap();
        second.flush().unwrap();
        assert_eq!(log.body(place).unwrap().as_deref(), Some("{\"b\":1}"));
    }

    #[test]
    fn what_is_undone_leaves_no_gap() {
        let (_dir, mut log) = log();
        log.append("{\"rolled\":\"back\"}").unwrap();
        log.undo();
        let place = log.append("{}").unwrap();
        log.flush().unwrap();
        assert_eq!((place.at, log.body(place).unwrap().as_deref()), (0, Some("{}")));
    }

    #[test]
    fn end_of_a_log_that_is_cut_off_holds_no_body() {
        let (_dir, mut log) = log();
        let place = log.append("{\"a\":1}").unwrap();
        log.flush().unwrap();
        std::fs::OpenOptions::new().write(true).open(log.path()).unwrap().set_len(3).unwrap();
        assert_eq!(log.body(place).unwrap(), None);
    }
}
