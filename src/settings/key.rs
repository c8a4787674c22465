//! The API key: one line of text, in the environment or in a file that only its owner can read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use secrecy::{ExposeSecret, SecretString};

use super::{Flags, Origin, Setting};
use crate::error::{Error, Exit, Result};

/// The longest key file. A longer file is not a key file.
const MOST: u64 = 16 << 10;

/// The source of the API key.
#[derive(Debug)]
pub(super) enum KeySource {
    /// A file.
    File(Setting<PathBuf>),
    /// An environment variable. `key` is `None` if it is not set, although the config file names it.
    Env { variable: String, key: Option<SecretString> },
    /// The user decided that no key is sent.
    Refused(Origin),
    /// Nothing names a key.
    Unset,
}

impl KeySource {
    /// The key of Together and of a base URL.
    pub fn of(flags: &Flags, env: Option<String>, config: Option<PathBuf>) -> Self {
        match (&flags.api_key_file, env, config) {
            (Some(path), _, _) => Self::File(Setting { value: path.clone(), origin: Origin::Flag("--api-key-file") }),
            (None, Some(key), _) => Self::of_variable("TOGETHER_API_KEY", Some(key)),
            (None, None, Some(path)) => Self::File(Setting { value: path, origin: Origin::Config }),
            (None, None, None) => Self::Unset,
        }
    }

    /// The key in an environment variable.
    pub fn of_variable(variable: &str, key: Option<String>) -> Self {
        Self::Env { variable: variable.to_owned(), key: key.map(SecretString::from) }
    }

    /// Reads the key. `None`: there is no source of one.
    pub fn read(&self) -> Result<Option<SecretString>> {
        match self {
            Self::Env { variable, key: Some(key) } => checked(key.expose_secret(), variable).map(Some),
            Self::Env { variable, key: None } => {
                let message = format!("no API key: the environment variable {variable} is not set");
                Err(Error::new(Exit::Auth, message).hint("the config file takes the key of this service from it"))
            }
            Self::File(path) => read_secret(&path.value, "API key file").map(Some),
            Self::Refused(_) | Self::Unset => Ok(None),
        }
    }

    /// The origin of the key, if the user named one.
    pub fn origin(&self) -> Option<String> {
        match self {
            Self::Env { variable, .. } => Some(format!("environment, {variable}")),
            Self::File(path) => Some(path.origin.to_string()),
            Self::Refused(origin) => Some(origin.to_string()),
            Self::Unset => None,
        }
    }
}

/// Reads a secret from the file `path`, which may be a pipe, such as a shell's `<(pass together)`. `what` names the file.
pub(super) fn read_secret(path: &Path, what: &str) -> Result<SecretString> {
    let from = format!("{what} {}", path.display());
    let unreadable = |e: io::Error| {
        if e.kind() == io::ErrorKind::NotFound && may_be_a_secret(path) {
            // An error that names the path would show the key.
            let message = format!("{what}: there is no file of this name, which may be the secret itself");
            return Error::new(Exit::Auth, message).hint("write the secret to a file of mode 600, and name that file");
        }
        Error::new(Exit::Auth, format!("{from}: cannot be read")).because(e)
    };
    let file = File::open(path).map_err(unreadable)?;
    // The mode of the open file: another file may have its name by now.
    let meta = file.metadata().map_err(unreadable)?;
    let mode = meta.mode();
    let mounted = Mounted {
        read_only: rustix::fs::fstatvfs(&file).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY)),
        among_secrets: meta.uid() == 0 && std::fs::canonicalize(path).is_ok_and(|path| is_secret(&path)),
    };
    if mode & 0o077 != 0 && mounted.holds(mode) {
        tracing::info!("{from}: others can read it (mode {:o}), but it is a mounted secret", mode & 0o777);
    } else if mode & 0o077 != 0 {
        let message = format!("{from} can be read or written by others (mode {:o})", mode & 0o777);
        return Err(Error::new(Exit::Auth, message).hint(format!("chmod 600 {}", path.display())));
    }
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).map_err(unreadable)?;
    checked(&String::from_utf8_lossy(&text), &from)
}

/// Returns whether a path may be a secret that was given in place of one. Names of files are shorter or have an ending.
fn may_be_a_secret(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.len() >= 20 && !name.contains(&b'.')
}

/// A file that the host of a container provides. Its user cannot change the mode.
#[derive(Debug, Clone, Copy)]
struct Mounted {
    /// The file system is mounted read-only.
    read_only: bool,
    /// It is owned by root, in a directory where containers find their secrets.
    among_secrets: bool,
}

impl Mounted {
    /// Returns whether a key with this mode, which others can use, is as safe as its user can make it.
    const fn holds(self, mode: u32) -> bool {
        self.read_only || (self.among_secrets && mode & 0o022 == 0)
    }
}

/// Returns whether containers find their secrets in the directory of `path`, a path without links.
fn is_secret(path: &Path) -> bool {
    path.starts_with("/run/secrets") || path.starts_with("/var/run/secrets")
}

/// Checks the key in `text`, and trims it. The error never repeats it.
fn checked(text: &str, from: &str) -> Result<SecretString> {
    let key = text.trim();
    // A line break would begin a second HTTP header. Keys of the service have no other such characters.
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("{from}: expected the key alone, on one line, in ASCII characters without spaces");
        return Err(Error::new(Exit::Auth, message));
    }
    Ok(SecretString::from(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::Settings;
    use super::*;

    fn resolve(flags: &Flags, key: Option<&str>) -> Settings {
        Settings::resolve(flags, &|name| key.filter(|_| name == "TOGETHER_API_KEY").map(str::to_owned)).unwrap()
    }

    #[test]
    fn key_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "secret\n").unwrap();
        let flags = Flags { api_key_file: Some(path.clone()), ..Flags::default() };
        let settings = resolve(&flags, Some("other"));
        let mode = |bits| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
        for open in [0o644, 0o640, 0o604, 0o620, 0o601] {
            mode(open);
            let error = settings.key().unwrap_err();
            assert_eq!((error.exit, error.hint.is_some()), (Exit::Auth, true), "{open:o}");
        }
        for own in [0o600, 0o400] {
            mode(own);
            assert_eq!(settings.key().unwrap().unwrap().expose_secret(), "secret");
        }
        let debug = format!("{settings:?}");
        assert!(!debug.contains("secret") && !debug.contains("other"));
    }

    #[test]
    fn mounted_secret_may_be_readable_by_others() {
        let mounted = |read_only, among_secrets| Mounted { read_only, among_secrets };
        for (mounted, mode, holds) in [
            (mounted(true, false), 0o444, true),
            (mounted(true, false), 0o644, true),
            (mounted(false, true), 0o444, true),
            (mounted(false, true), 0o644, true),
            (mounted(false, true), 0o664, false),
            (mounted(false, true), 0o666, false),
            (mounted(false, false), 0o644, false),
        ] {
            assert_eq!(mounted.holds(mode), holds, "{mounted:?} {mode:o}");
        }
        assert!(is_secret(Path::new("/run/secrets/key")) && is_secret(Path::new("/var/run/secrets/a/..data/key")));
        assert!(!is_secret(Path::new("/home/me/run/secrets/key")) && !is_secret(Path::new("/run/secrets-of-mine/key")));
    }

    #[test]
    fn invalid_key_is_exit_4_and_not_repeated() {
        for text in ["two\nlines", "k\r\nX-Header: evil", "with space", "kéy", "k\0y", "", " \n", "k\u{7f}"] {
            let error = checked(text, "TOGETHER_API_KEY").expect_err(text);
            assert_eq!(error.exit, Exit::Auth);
            assert!(text.trim().is_empty() || !error.to_string().contains(text.trim()), "{error}");
        }
        assert_eq!(checked(" key_1-x/+=.\r\n", "").unwrap().expose_secret(), "key_1-x/+=.");
        let none = resolve(&Flags::default(), None).key().unwrap_err();
        assert_eq!((none.exit, none.hint.is_some()), (Exit::Auth, true));
        for path in ["/nonexistent/key", "/"] {
            let flags = Flags { api_key_file: Some(path.into()), ..Flags::default() };
            assert_eq!(resolve(&flags, Some("other")).key().expect_err(path).exit, Exit::Auth);
        }
        assert!(read_secret(Path::new("/dev/zero"), "").is_err(), "a device is open to all");
    }
}
