//! The ends of symbolic links, and paths that name one file.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::objects::{is_url, stands_for};

/// The kernel's own bound on a chain of links.
const MAX_LINKS: usize = 40;

/// Follows a chain of links to its end, which need not exist.
pub(super) fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            Ok(_) if is_planted(&path) => {
                let why = "a symbolic link of another user in a world-writable directory";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            // `join` takes an absolute link as it is.
            Ok(next) => path = path.parent().unwrap_or(Path::new("")).join(next),
            // Not a link, or a path that does not exist.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Tests for a link that the kernel would not follow (`fs.protected_symlinks`). In a sticky directory that all users
/// may write, such as `/tmp`, only links of this user and of the directory's owner count. llbatch reads links itself,
/// so the kernel does not check them.
fn is_planted(link: &Path) -> bool {
    let dir = link.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Ok(link), Ok(dir), Ok(me)) =
        (std::fs::symlink_metadata(link), std::fs::metadata(dir), std::fs::metadata("/proc/self"))
    else {
        return false;
    };
    dir.mode() & 0o1002 == 0o1002 && link.uid() != me.uid() && link.uid() != dir.uid()
}

/// Tests whether two paths name one file, or one object; it need not exist. `a` may be a pattern that stands for `b` too.
pub fn same_file(a: &Path, b: &Path) -> bool {
    if is_url(a) || is_url(b) {
        return stands_for(a, b);
    }
    let real = |path: &Path| {
        path.canonicalize().or_else(|_| {
            let path = std::path::absolute(path)?;
            let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
            dir.canonicalize().map(|dir| dir.join(name))
        })
    };
    matches!((real(a), real(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_link_that_another_user_laid_out_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (open, link) = (dir.path().join("open"), dir.path().join("open/out.jsonl"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        symlink("../victim", &link).unwrap();
        let end = open.join("../victim");
        assert_eq!(follow_links(&link).unwrap(), end, "one's own");
        // Only root can make another user's link.
        if std::os::unix::fs::lchown(&link, Some(65_534), None).is_err() {
            return;
        }
        assert_eq!(follow_links(&link).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        // In a directory of one's own it was one's own doing.
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(follow_links(&link).unwrap(), end);
    }
}
