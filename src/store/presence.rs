//! The presence of processes that share something: each has a small file in one directory, held by a kernel lock that
//! dies with it. Each writes its own file and reads the others'.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Attempts to keep a file: another process may take its lock first, and remove it as dead.
const TRIES: u32 = 20;
/// Longest text that is read.
const LONGEST: usize = 16 << 10;

/// This process among the others. Dropping this removes its file.
#[derive(Debug)]
pub struct Presence {
    dir: PathBuf,
    name: String,
    file: File,
    longest: AtomicUsize,
}

impl Presence {
    /// Joins the processes in `dir`, and creates it if it is missing.
    pub fn join(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // A umask only narrows the mode, but an older directory may be too open.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
        for _ in 0..TRIES {
            let name = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
            let path = dir.join(&name);
            let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(&path)?;
            let locked = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(e)) => return Err(e),
            };
            // Between its creation and its lock it looked dead, and another process may have removed it.
            if locked && std::fs::metadata(&path).is_ok_and(|m| file.metadata().is_ok_and(|own| own.ino() == m.ino())) {
                return Ok(Self { dir: dir.to_owned(), name, file, longest: AtomicUsize::new(0) });
            }
        }
        Err(io::Error::other("llbatch could not keep a file of its own"))
    }

    /// Publishes `text`, and reads the last texts of the others, with their names. Removes the files of dead processes.
    pub fn exchange(&self, text: &str) -> io::Result<Vec<(String, String)>> {
        // Written in place and padded, so that no process reads half of it.
        let longest = self.longest.fetch_max(text.len(), Ordering::Relaxed).max(text.len());
        self.file.write_all_at(format!("{text:longest$}").as_bytes(), 0)?;
        let mut others = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            if name == self.name {
                continue;
            }
            // A foreign file, or one that has just gone, is skipped.
            if let Ok(Some(text)) = self.read(&name) {
                others.push((name, text));
            }
        }
        Ok(others)
    }

    fn read(&self, name: &str) -> io::Result<Option<String>> {
        let path = self.dir.join(name);
        let file = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(&path)?;
        match file.try_lock() {
            Ok(()) => return std::fs::remove_file(&path).map(|()| None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let mut text = vec![0; LONGEST];
        let read = file.read_at(&mut text, 0)?;
        text.truncate(read);
        Ok(String::from_utf8(text).ok().map(|text| text.trim_end().to_owned()))
    }
}

/// `O_NOFOLLOW` of Linux; elsewhere the directory's mode must suffice.
const NO_FOLLOW: i32 = if cfg!(target_os = "linux") { 0o400_000 } else { 0 };

impl Drop for Presence {
    fn drop(&mut self) {
        // If it stays, the next process finds it dead.
        drop(std::fs::remove_file(self.dir.join(&self.name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_processes_read_each_other_and_remove_dead_files() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("limits/x");
        let join = || Presence::join(&dir).unwrap();
        let (a, b) = (join(), join());
        assert_eq!(a.exchange("a longer text").unwrap(), [(b.name.clone(), String::new())]);
        let heard = |presence: &Presence, text: &str| {
            let mut texts: Vec<_> = presence.exchange(text).unwrap().into_iter().map(|(_, text)| text).collect();
            texts.sort();
            texts
        };
        assert_eq!(heard(&b, "b"), ["a longer text"]);
        assert_eq!(heard(&a, "short"), ["b"]);
        assert_eq!(heard(&b, "b"), ["short"]);
        // A killed process leaves its file without a lock.
        std::fs::write(dir.join("1-dead"), "nonsense").unwrap();
        assert_eq!(heard(&a, "a"), ["b"]);
        assert!(!dir.join("1-dead").exists());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join(&a.name))), (0o700, 0o600));
        drop(b);
        assert_eq!(heard(&a, "a"), [""; 0]);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("limits"), "").unwrap();
        Presence::join(&dir.path().join("limits/x")).unwrap_err();
    }
}
