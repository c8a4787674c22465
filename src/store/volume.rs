//! The file system of the state directory. Machines must not share `SQLite`'s log.

use std::path::Path;

use crate::error::{Error, Exit, Result};

/// Network file systems, by their number in `statfs`. FUSE is not among them: it often holds a local directory, such as
/// that of a rootless container or an encrypted home.
const REMOTE: [(u64, &str); 7] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
];

/// Refuses a directory on a network file system, where llbatch on another machine would not see these locks and logs.
pub(super) fn must_be_local(dir: &Path) -> Result<()> {
    match remote(kind(dir)) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            Exit::Io,
            format!(
                "state directory {}: it is on a network file system ({name}), where jobs are not safe",
                dir.display()
            ),
        )
        .hint("choose one on a local disk with --state-dir or LLBATCH_STATE_DIR")),
    }
}

fn remote(kind: u64) -> Option<&'static str> {
    REMOTE.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// The number of the file system by `statfs`; 0 if unknown.
#[cfg(target_os = "linux")]
fn kind(dir: &Path) -> u64 {
    // The number has 32 bits, and some platforms sign-extend it.
    rustix::fs::statfs(dir).map_or(0, |stat| u64::from(stat.f_type as u32))
}

#[cfg(not(target_os = "linux"))]
fn kind(_: &Path) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_disks_pass_and_shares_do_not() {
        let dir = tempfile::tempdir().unwrap();
        must_be_local(dir.path()).unwrap();
        // ext4, XFS, btrfs, tmpfs, overlay, FUSE.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x6573_5546] {
            assert_eq!(remote(local), None);
        }
        assert_eq!((remote(0x6969), remote(0xff53_4d42)), (Some("NFS"), Some("CIFS")));
    }
}
