//! A file or object that is either the old one or the complete new one, even if llbatch is killed.

use std::ffi::{OsStr, OsString};
use std::fs::{DirEntry, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;

mod links;

use crate::error::{Error, Exit, Result};
use crate::objects::{ObjectUpload, ObjectUrl, abort_stale, is_url, object_place, shown_path};
use links::follow_links;
pub use links::same_file;

/// Bytes of one write: result lines are short.
const BUFFER: usize = 64 * 1024;
/// Bytes of the name that go into the temporary one; the rest of the 255 that file systems allow is for llbatch's part.
const MAX_STEM: usize = 200;
/// Stands between the name and the random part of a temporary one.
const MARK: &[u8] = b".llbatch-";
const SUFFIX: &[u8] = b".tmp";
/// Ends the name of the file or object of a stopped command.
const PARTIAL: &str = ".partial";

/// A file that appears under its name only when it is [committed](Self::commit). If it is dropped before, nothing is left.
///
/// A pipe, a device and the standard streams cannot be replaced, so they are written directly.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    /// The file is renamed to `target` when complete. Its kernel lock, held until then, shows that its writer lives.
    Beside {
        file: BufWriter<NamedTempFile>,
        target: PathBuf,
    },
    Direct(BufWriter<File>),
    /// Kept in a file without a name, and sent to a store when complete.
    Object {
        file: BufWriter<File>,
        upload: ObjectUpload,
    },
}

/// Help for outputs at URLs.
pub struct ObjectHelp<'a> {
    /// Returns the directory for results on their way to a store.
    pub scratch: &'a dyn Fn() -> Result<PathBuf>,
    /// Tells the user what does not stop the command.
    pub warn: &'a dyn Fn(&str),
}

impl AtomicFile {
    /// Opens an output at a path or URL. The bytes for an object are kept on the disk until they are complete, so that a
    /// command that is killed leaves nothing at the URL. Abandoned uploads of killed commands are aborted first.
    ///
    /// # Errors
    /// As [`Self::create`]; 74 or 75 if the object cannot be written.
    pub fn open(path: &Path, mode: u32, help: &ObjectHelp<'_>) -> Result<Self> {
        if !is_url(path) {
            return Self::create(path, mode);
        }
        let url = ObjectUrl::parse(path)?;
        let scratch = (help.scratch)()?;
        let notes = scratch.join("uploads");
        for error in abort_stale(&url, &notes) {
            (help.warn)(&format!(
                "an upload that a killed command left cannot be aborted, and its parts take room: {error}"
            ));
        }
        let upload = ObjectUpload::prepare(&url, &notes)?;
        let made = std::fs::create_dir_all(&scratch).and_then(|()| tempfile::tempfile_in(&scratch));
        let file = made.map_err(|error| cannot_write(&scratch, error))?;
        Ok(Self { path: path.to_owned(), sink: Sink::Object { file: BufWriter::with_capacity(BUFFER, file), upload } })
    }

    /// Opens a temporary file beside `path`, named `.NAME.llbatch-XXXXXX.tmp`. It gets the permissions of the file that it
    /// will replace; a new one gets `mode` (such as 0o666) less the umask. A symbolic link stays a link: the file that it
    /// points to is replaced.
    ///
    /// # Errors
    /// 2 if `path` is a directory; 74 if its directory is missing, or it may not be written.
    pub fn create(path: &Path, mode: u32) -> Result<Self> {
        local(path)?;
        let sink = match standard_stream(path).map_err(|error| cannot_write(path, error))? {
            Some(stream) => Sink::Direct(BufWriter::with_capacity(BUFFER, stream)),
            None => Sink::open(path, mode)?,
        };
        Ok(Self { path: path.to_owned(), sink })
    }

    /// Makes the file durable under the name of [`partial_name`], and leaves the old file as it is. Returns that name;
    /// `None` for a pipe, a device or a standard stream, which takes everything.
    ///
    /// # Errors
    /// 74 if that fails, 141 for a closed pipe.
    pub fn commit_partial(self) -> Result<Option<PathBuf>> {
        let Self { path, sink } = self;
        sink.commit_partial(&path).map_err(|error| cannot_write(&partial_name(&path), error))
    }

    /// Returns true for a file that will appear under its own name.
    pub const fn is_file(&self) -> bool {
        matches!(self.sink, Sink::Beside { .. } | Sink::Object { .. })
    }

    /// The path as given to [`Self::create`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file durable, then puts it in place of the old one. On an error the old file is untouched.
    ///
    /// # Errors
    /// 74 if that fails, 141 for a closed pipe.
    pub fn commit(self) -> Result<()> {
        let Self { path, sink } = self;
        sink.commit().map_err(|error| cannot_write(&path, error))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::Beside { file, .. } => file.write(bytes),
            Sink::Direct(file) | Sink::Object { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Beside { file, .. } => file.flush(),
            Sink::Direct(file) | Sink::Object { file, .. } => file.flush(),
        }
    }
}

impl Sink {
    fn open(path: &Path, mode: u32) -> Result<Self> {
        let old = match std::fs::metadata(path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(cannot_write(path, error)),
        };
        if old.as_ref().is_some_and(std::fs::Metadata::is_dir) || path.as_os_str().as_bytes().ends_with(b"/") {
            let inside = path.join("results.jsonl");
            return Err(Error::usage(format!("{} is a directory, not a file to write", path.display()))
                .hint(format!("name a file in it, such as {}", inside.display())));
        }
        if let Some(old) = &old {
            // Also for a file that will be replaced: a rename does not check the permission to write the old one.
            let direct = File::options().write(true).open(path).map_err(|error| cannot_write(path, error))?;
            if !old.is_file() || is_descriptor(path) {
                return Ok(Self::Direct(BufWriter::with_capacity(BUFFER, direct)));
            }
        }
        let target = follow_links(path).map_err(|error| cannot_write(path, error))?;
        let (dir, name) =
            split(&target).ok_or_else(|| Error::usage(format!("{} is not a file name", path.display())))?;
        if !dir.is_dir() {
            return Err(Error::new(Exit::Io, format!("{}: there is no directory {}", path.display(), dir.display()))
                .hint(format!("mkdir -p {}", dir.display())));
        }
        let permissions = old.map(|old| old.permissions());
        let file = temporary(dir, name, mode, permissions).map_err(|error| cannot_write(path, error))?;
        Ok(Self::Beside { file: BufWriter::with_capacity(BUFFER, file), target })
    }

    fn commit(self) -> io::Result<()> {
        match self {
            Self::Direct(mut file) => file.flush(),
            Self::Beside { file, target } => persist(file, &target),
            Self::Object { file, upload } => {
                send(file, &upload, "")?;
                upload.remove(PARTIAL);
                Ok(())
            }
        }
    }

    fn commit_partial(self, path: &Path) -> io::Result<Option<PathBuf>> {
        match self {
            Self::Direct(mut file) => file.flush().map(|()| None),
            Self::Beside { file, target } => {
                // A link may lead to another file system, where the temporary file is.
                let name = partial_name(if path.is_symlink() { &target } else { path });
                persist(file, &name).map(|()| Some(name))
            }
            Self::Object { file, upload } => send(file, &upload, PARTIAL).map(|()| Some(partial_name(path))),
        }
    }
}

fn send(file: BufWriter<File>, upload: &ObjectUpload, suffix: &str) -> io::Result<()> {
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    upload.send(&file, suffix).map_err(io::Error::other)
}

fn persist(file: BufWriter<NamedTempFile>, target: &Path) -> io::Result<()> {
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    // Once: after a failed fsync the kernel may have dropped the pages, and a second one would lie.
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    match split(target) {
        Some((dir, _)) => sync_directory(dir),
        None => Ok(()),
    }
}

/// Refuses an address of a kind that llbatch does not write.
///
/// # Errors
/// 2 for an address.
pub fn writable(path: &Path) -> Result<()> {
    if is_url(path) { object_place(&ObjectUrl::parse(path)?) } else { local(path) }
}

/// Refuses an address such as `s3://bucket/out.jsonl` in the place of a file name.
///
/// # Errors
/// 2 for an address.
pub fn local(path: &Path) -> Result<()> {
    let scheme = path.to_str().and_then(|path| path.split_once("://")).map(|(scheme, _)| scheme);
    match scheme.filter(|scheme| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        Some(scheme) => {
            Err(Error::usage(format!("{}: llbatch does not write this to {scheme}:// addresses", shown_path(path)))
                .hint("write to a file, and copy it there when the command has ended"))
        }
        None => Ok(()),
    }
}

/// Returns the name that a file has until it is whole: `FILE.partial`.
pub fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PARTIAL);
    PathBuf::from(name)
}

/// Deletes the partial file that a stopped command left beside `path`. Errors are ignored: it is untidy, not wrong.
pub fn remove_partial(path: &Path) {
    if is_url(path) {
        // Done when the object was complete.
        return;
    }
    let Ok(target) = follow_links(path) else { return };
    let name = partial_name(if path.is_symlink() { &target } else { path });
    if name.symlink_metadata().is_ok_and(|old| old.is_file()) {
        drop(std::fs::remove_file(name));
    }
}

/// Deletes temporary files that killed runs left beside `path`, and returns their number. Those of a living writer are
/// locked and stay. Errors are ignored: leftovers are untidy, not wrong.
pub fn remove_stale(path: &Path) -> usize {
    if is_url(path) {
        return 0;
    }
    let Ok(target) = follow_links(path) else { return 0 };
    let Some((dir, name)) = split(&target) else { return 0 };
    let prefix = prefix(name);
    temporary_files(dir, |name| name == prefix.as_bytes()).filter_map(|entry| remove_unlocked(&entry.path())).count()
}

/// Deletes temporary files of any name that killed processes left in `dir`, and returns their number. Locks do not reach
/// every machine that writes there, so that only files are deleted that nobody has written to for this `age`.
pub fn remove_abandoned(dir: &Path, age: Duration) -> usize {
    let is_old = |entry: &DirEntry| {
        let written = entry.metadata().and_then(|file| file.modified());
        written.is_ok_and(|written| written.elapsed().is_ok_and(|since| since >= age))
    };
    let is_own = |name: &[u8]| name.starts_with(b".") && name.ends_with(MARK);
    temporary_files(dir, is_own).filter(is_old).filter_map(|entry| remove_unlocked(&entry.path())).count()
}

/// The temporary files in `dir` whose name up to the random part is wanted.
fn temporary_files(dir: &Path, wanted: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = DirEntry> {
    let is_temporary = move |entry: &DirEntry| {
        let name = entry.file_name();
        let Some(stem) = name.as_bytes().strip_suffix(SUFFIX) else { return false };
        // The random part is letters and digits: a longer name belongs to another file.
        let random = stem.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        random > 0 && wanted(&stem[..stem.len() - random]) && entry.file_type().is_ok_and(|kind| kind.is_file())
    };
    std::fs::read_dir(dir).into_iter().flatten().flatten().filter(is_temporary)
}

fn remove_unlocked(path: &Path) -> Option<()> {
    let file = File::open(path).ok()?;
    // Deleted under the lock: a writer that has just made it and waits for the lock sees that it is gone.
    file.try_lock().ok()?;
    std::fs::remove_file(path).ok()
}

/// Makes a temporary file in `dir`, locked until it is closed.
fn temporary(dir: &Path, name: &OsStr, mode: u32, permissions: Option<Permissions>) -> io::Result<NamedTempFile> {
    let prefix = prefix(name);
    loop {
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(OsStr::from_bytes(SUFFIX))
            // A replacement of a private file must not be readable by others even for a moment.
            .permissions(Permissions::from_mode(if permissions.is_some() { 0o600 } else { mode }))
            .tempfile_in(dir)?;
        match file.as_file().lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // On a file system without locks `remove_stale` gets none either, and leaves the file alone.
            Ok(()) | Err(_) => {}
        }
        if file.as_file().metadata()?.nlink() == 0 {
            // `remove_stale` of another process came before the lock.
            continue;
        }
        if let Some(permissions) = permissions {
            file.as_file().set_permissions(permissions)?;
        }
        return Ok(file);
    }
}

fn prefix(name: &OsStr) -> OsString {
    let stem = name.as_bytes();
    let mut prefix = b".".to_vec();
    prefix.extend_from_slice(&stem[..stem.len().min(MAX_STEM)]);
    prefix.extend_from_slice(MARK);
    OsString::from_vec(prefix)
}

fn split(target: &Path) -> Option<(&Path, &OsStr)> {
    let name = target.file_name()?;
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some((dir, name))
}

/// Opens standard output or error, if `path` names it. Opening the path itself would start at offset 0 of a file to which
/// the shell appends.
fn standard_stream(path: &Path) -> io::Result<Option<File>> {
    let owned = match path.to_str() {
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => io::stdout().as_fd().try_clone_to_owned()?,
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return Ok(None),
    };
    Ok(Some(File::from(owned)))
}

/// Tests whether `path` names an open file of a process, which cannot be replaced.
fn is_descriptor(path: &Path) -> bool {
    path.starts_with("/dev/fd") || path.starts_with("/proc")
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some file systems cannot do that; the rename itself is done.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    // A store has told all of it.
    let error = match error.downcast::<Error>() {
        Ok(own) => return own,
        Err(error) => error,
    };
    Error::io(format_args!("{}: cannot write", path.display()), error)
}

#[cfg(test)]
mod tests;
