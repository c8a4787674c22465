//! The state directory: one small JSON file per object, and the bytes of files.
//!
//! Everything is on disk and nothing in memory. A sandbox that starts later, or runs beside this one, sees the same
//! files and batches. Objects are replaced by rename; a change of one holds the kernel lock of the directory. A sandbox
//! may be killed at any moment: bytes are written before the object that names them and removed after it. The next
//! sandbox sweeps what a killed one was writing ([`super::sweep`]).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lock::lock;
use super::sweep;

/// A kind of object; each has its own folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    Files,
    Batches,
}

impl Folder {
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Batches => "batches",
        }
    }
}

/// A state directory.
#[derive(Debug)]
pub struct StateDir {
    wanted: Option<PathBuf>,
    /// The directory once it is used: most servers only answer prompts and need none.
    made: Mutex<Option<Root>>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// The lock that tells others that a kept directory is in use.
    _in_use: Option<File>,
    /// The guard that removes a temporary directory.
    _temporary: Option<tempfile::TempDir>,
}

impl Root {
    fn kept(path: &Path) -> io::Result<Self> {
        make_folders(path)?;
        Ok(Self { path: path.to_owned(), _in_use: Some(sweep::enter(path)?), _temporary: None })
    }

    fn temporary() -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("llbatch-sandbox-").tempdir()?;
        make_folders(dir.path())?;
        Ok(Self { path: dir.path().to_owned(), _in_use: None, _temporary: Some(dir) })
    }
}

/// The lock of the directory: no other process or thread changes objects while this lives.
#[derive(Debug)]
pub struct Guard {
    _locked: File,
}

impl StateDir {
    /// State in `dir`, or in a temporary directory that is removed with the state.
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { wanted: dir, made: Mutex::default() }
    }

    /// Creates the directory, if needed, and sweeps it. The first use of an object does the same.
    pub fn open(&self) -> io::Result<()> {
        self.root().map(drop)
    }

    fn root(&self) -> io::Result<PathBuf> {
        let mut made = lock(&self.made);
        if made.is_none() {
            *made = Some(self.wanted.as_deref().map_or_else(Root::temporary, Root::kept)?);
        }
        made.as_ref().map(|root| root.path.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn lock(&self) -> io::Result<Guard> {
        let file = private_file(&self.root()?.join("lock"))?;
        file.lock()?;
        Ok(Guard { _locked: file })
    }

    /// The path of an object or its bytes. An id that could leave the folder is an error.
    pub fn path(&self, folder: Folder, id: &str, ending: &str) -> io::Result<PathBuf> {
        if !plausible(id) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(self.root()?.join(folder.name()).join(format!("{id}.{ending}")))
    }

    pub fn get<T: DeserializeOwned>(&self, folder: Folder, id: &str) -> io::Result<Option<T>> {
        let text = if_found(self.path(folder, id, "json").and_then(fs::read))?;
        Ok(text.map(|text| serde_json::from_slice(&text)).transpose()?)
    }

    /// Writes an object, new or changed.
    pub fn put<T: Serialize>(&self, folder: Folder, id: &str, object: &T) -> io::Result<()> {
        let mut file = self.scratch(folder)?;
        file.write_all(&serde_json::to_vec_pretty(object)?)?;
        self.keep(file, folder, id, "json")
    }

    /// A file in the folder that is to be kept under its name.
    pub fn scratch(&self, folder: Folder) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new().prefix(sweep::PART).tempfile_in(self.root()?.join(folder.name()))
    }

    /// Gives a scratch file the name of an object or its bytes.
    pub fn keep(&self, scratch: tempfile::NamedTempFile, folder: Folder, id: &str, ending: &str) -> io::Result<()> {
        scratch.persist(self.path(folder, id, ending)?)?;
        Ok(())
    }

    /// Removes an object and its bytes. Returns whether it was there.
    pub fn remove(&self, folder: Folder, id: &str) -> io::Result<bool> {
        let removed = if_found(self.path(folder, id, "json").and_then(fs::remove_file))?;
        if removed.is_some() {
            // Bytes that no object names are swept if they stay.
            let _ = fs::remove_file(self.path(folder, id, "bin")?);
        }
        Ok(removed.is_some())
    }

    /// All objects of a folder, in no order. An object that is removed meanwhile is left out.
    pub fn all<T: DeserializeOwned>(&self, folder: Folder) -> io::Result<Vec<T>> {
        let mut all = Vec::new();
        for path in objects(&self.root()?.join(folder.name()))? {
            if let Some(id) = path.file_stem().and_then(|name| name.to_str())
                && let Some(object) = self.get(folder, id)?
            {
                all.push(object);
            }
        }
        Ok(all)
    }
}

/// The paths of a folder's objects.
pub fn objects(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The value, or `None` if there is no such file.
pub fn if_found<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates the folders of a state directory, for its owner alone.
fn make_folders(dir: &Path) -> io::Result<()> {
    for folder in [Folder::Files, Folder::Batches] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join(folder.name()))?;
    }
    Ok(())
}

/// Opens an empty file to lock, and creates it if needed.
pub fn private_file(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

/// Returns true if the sandbox could have given this id. No other text becomes a path.
fn plausible(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A new id in UUID form, made of time, process and a counter, so that it is unique across processes.
pub fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    derived_id(&format!("{:?} {} {count}", SystemTime::now(), std::process::id()))
}

/// The id in UUID form that belongs to `seed`: an object that is made twice gets the same name twice.
pub fn derived_id(seed: &str) -> String {
    let hex = blake3::hash(seed.as_bytes()).to_hex();
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_kept_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateDir::new(Some(dir.path().join("new")));
        store.put(Folder::Files, "a-1", &1).unwrap();
        store.put(Folder::Files, "a-1", &2).unwrap();
        let other = StateDir::new(Some(dir.path().join("new")));
        assert_eq!(other.get::<u8>(Folder::Files, "a-1").unwrap(), Some(2));
        assert_eq!(other.all::<u8>(Folder::Files).unwrap(), [2]);
        assert_eq!(other.get::<u8>(Folder::Batches, "a-1").unwrap(), None);
        assert!(other.remove(Folder::Files, "a-1").unwrap());
        assert!(!store.remove(Folder::Files, "a-1").unwrap());
        assert!(store.all::<u8>(Folder::Files).unwrap().is_empty());
    }

    #[test]
    fn the_state_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state").join("sandbox");
        let store = StateDir::new(Some(state.clone()));
        store.put(Folder::Files, "a", &1).unwrap();
        drop(store.lock().unwrap());
        let mut seen = Vec::new();
        for (path, expected) in [
            ("", 0o700),
            ("files", 0o700),
            ("batches", 0o700),
            ("files/a.json", 0o600),
            ("lock", 0o600),
            ("in-use", 0o600),
        ] {
            let mode = fs::metadata(state.join(path)).unwrap().permissions().mode() & 0o777;
            seen.push((path, mode == expected));
        }
        assert!(seen.iter().all(|(_, right)| *right), "{seen:?}");
    }

    #[test]
    fn an_id_never_leaves_its_folder() {
        let store = StateDir::new(None);
        for id in ["..", "../x", "a/b", "", "a.b", "é"] {
            assert!(store.path(Folder::Files, id, "json").is_err(), "{id}");
            assert_eq!(store.get::<u8>(Folder::Files, id).unwrap(), None);
        }
    }

    #[test]
    fn the_lock_excludes_other_holders() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateDir::new(Some(dir.path().to_owned()));
        let guard = store.lock().unwrap();
        let file = File::open(dir.path().join("lock")).unwrap();
        assert!(file.try_lock().is_err());
        drop(guard);
        assert!(file.try_lock().is_ok());
    }

    #[test]
    fn ids_differ_and_look_like_uuids() {
        let (a, b) = (new_id(), new_id());
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
        assert!(plausible(&a));
    }
}
