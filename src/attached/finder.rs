//! The files and addresses that a cell names.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::facts::KnownFiles;
use super::media_type::AttachedKind;
use super::{AttachedFile, FileFault};
use crate::text;
use crate::text::glob;

/// Base64 characters that hold the first bytes of an image.
const HEAD_CHARACTERS: usize = 24;

/// An image that a row names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundImage {
    /// An address or a data URI, sent as it is.
    Address(String),
    /// A local file.
    File(AttachedFile),
}

/// Finds the images that rows name. Threads share it.
#[derive(Debug)]
pub struct FileFinder {
    /// The most bytes of a file.
    most: u64,
    known: KnownFiles,
    /// The directory that was listed last.
    listed: Mutex<Option<DirNames>>,
}

/// The names in a directory, sorted.
#[derive(Debug, Clone)]
struct DirNames {
    dir: PathBuf,
    /// The change time of the directory.
    changed: (i64, i64),
    names: Arc<[OsString]>,
}

impl FileFinder {
    /// For images of at most `most` bytes.
    pub fn new(most: u64) -> Self {
        Self::of(AttachedKind::Image, most)
    }

    /// For recordings of at most `most` bytes.
    pub fn of_recordings(most: u64) -> Self {
        Self::of(AttachedKind::Recording, most)
    }

    fn of(kind: AttachedKind, most: u64) -> Self {
        Self { most, known: KnownFiles::new(kind, most), listed: Mutex::default() }
    }

    /// Finds the recording that `named` is. `None`: an address, which the service fetches. `dir`: the directory of relative
    /// paths.
    ///
    /// # Errors
    /// The problem of the row.
    pub fn recording(&self, named: &str, dir: Option<&Path>) -> Result<Option<AttachedFile>, FileFault> {
        if is_address(named) {
            return Ok(None);
        }
        if is_data_uri(named) {
            return Err(FileFault::new(
                "a data URI is no recording",
                "write the recording into a file, and its path here; or an https:// URL",
            ));
        }
        self.file(placed(named, dir)?).map(Some)
    }

    /// Finds the images that `named` is: an address, a data URI, a path, or a pattern of paths. `dir`: the directory of
    /// relative paths.
    ///
    /// # Errors
    /// The problem of the row.
    pub fn images(&self, named: &str, dir: Option<&Path>) -> Result<Vec<FoundImage>, FileFault> {
        if is_address(named) {
            return Ok(vec![FoundImage::Address(named.to_owned())]);
        }
        if is_data_uri(named) {
            self.check_data_uri(named)?;
            return Ok(vec![FoundImage::Address(named.to_owned())]);
        }
        let path = placed(named, dir)?;
        let file = |path: PathBuf| self.file(path).map(FoundImage::File);
        if !glob::is_glob(named) || path.exists() {
            return Ok(vec![file(path)?]);
        }
        let found = self.matching(&path);
        if found.is_empty() {
            let message = format!("no file matches {}", path.display());
            return Err(FileFault::new(message, "correct the pattern; it counts from the directory of the input file"));
        }
        found.into_iter().map(file).collect()
    }

    /// Finds the local file that a message names, which must lie below `root`. `None`: it names an address.
    ///
    /// # Errors
    /// The problem of the row.
    pub fn image_below(&self, root: &Path, named: &str, dir: Option<&Path>) -> Result<Option<AttachedFile>, FileFault> {
        let local = named.strip_prefix("file://").unwrap_or(named);
        if is_data_uri(named) || is_address(named) || local.contains("://") {
            return Ok(None);
        }
        let path = placed(local, dir)?;
        let real = fs::canonicalize(&path).map_err(|error| FileFault::unreadable(&path, &error))?;
        if !real.starts_with(root) {
            let message = format!("{} is not below --local-files {}", path.display(), root.display());
            return Err(FileFault::new(message, "move the file there, or name a directory above it"));
        }
        self.file(real).map(Some)
    }

    fn file(&self, path: PathBuf) -> Result<AttachedFile, FileFault> {
        let (facts, stamp) = self.known.look(&path)?;
        Ok(AttachedFile { path: path.into(), facts, stamp })
    }

    /// Checks that a data URI holds an image.
    fn check_data_uri(&self, uri: &str) -> Result<(), FileFault> {
        let hint = "write data:image/png;base64,… with a PNG, JPEG, WebP or GIF image, or the path of the file";
        let bad = |why: &str| Err(FileFault::new(format!("the data URI {why}"), hint));
        let Some((_, data)) = uri.split_once(";base64,") else { return bad("is not in base64") };
        let characters = data.len() as u64;
        if characters / 4 * 3 > self.most.saturating_add(2) {
            let (size, most) = (text::bytes(characters / 4 * 3), text::bytes(self.most));
            let message = format!("the data URI has {size}, more than --max-file {most}");
            return Err(FileFault::new(message, "make the image smaller, or raise --max-file"));
        }
        let head = data.get(..data.len().min(HEAD_CHARACTERS)).unwrap_or_default();
        let Ok(bytes) = STANDARD.decode(head) else { return bad("is not valid base64") };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let whole = data.trim_end_matches('=');
        if !data.len().is_multiple_of(4) || data.len() - whole.len() > 2 || !whole.bytes().all(plain) {
            return bad("is not valid base64");
        }
        if AttachedKind::Image.type_of(&bytes).is_none() {
            bad("holds no PNG, JPEG, WebP or GIF image")
        } else {
            Ok(())
        }
    }

    /// The files that match a pattern, in the order of their names.
    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.components() {
            let sign = match part {
                Component::Normal(name) => name.to_str().filter(|name| glob::is_glob(name)),
                _ => None,
            };
            let Some(sign) = sign else {
                for path in &mut found {
                    path.push(part);
                }
                continue;
            };
            let inside = |dir: &PathBuf| -> Vec<PathBuf> {
                let names = self.names(dir);
                let fits = |name: &&OsString| {
                    let name = name.to_string_lossy();
                    // As in a shell, names that begin with a dot are named by patterns that do.
                    (sign.starts_with('.') || !name.starts_with('.')) && glob::matches(sign, &name)
                };
                names.iter().filter(fits).map(|name| dir.join(name)).collect()
            };
            found = found.iter().flat_map(inside).collect();
        }
        found.retain(|path| path.is_file());
        found
    }

    /// The names in `dir`, sorted; none if it cannot be read. Rows mostly name the same directory, so the last one is kept.
    fn names(&self, dir: &Path) -> Arc<[OsString]> {
        let Ok(metadata) = fs::metadata(dir) else { return Arc::default() };
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = listed.as_ref().filter(|listing| listing.dir == dir && listing.changed == changed) {
            return Arc::clone(&listing.names);
        }
        let mut names: Vec<OsString> =
            fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.sort_unstable();
        let names: Arc<[OsString]> = names.into();
        *listed = Some(DirNames { dir: dir.to_owned(), changed, names: Arc::clone(&names) });
        names
    }
}

fn is_address(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| begins_with(text, scheme))
}

fn is_data_uri(text: &str) -> bool {
    begins_with(text, "data:")
}

fn begins_with(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
}

/// The place of a path that a row names.
fn placed(named: &str, dir: Option<&Path>) -> Result<PathBuf, FileFault> {
    if let Some((scheme, _)) = named.split_once("://") {
        let message = format!("{} is an address that services do not fetch", text::shortened(named, 48));
        let hint = if scheme == "file" { "write the path without file://" } else { "write an https:// URL or a path" };
        return Err(FileFault::new(message, hint));
    }
    let path = Path::new(named);
    match dir {
        _ if path.is_absolute() => Ok(path.to_owned()),
        Some(dir) => Ok(dir.join(path)),
        None => Err(FileFault::new(
            format!("{named} is a relative path, but the input is at a URL and has no directory"),
            "write absolute paths or https:// URLs",
        )),
    }
}
