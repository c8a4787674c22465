//! The file system of the state directory. Machines must not share `SQLite`'s log.

use std::path::Path;

use crate::error::{Error, Exit, Result};

/// Network and cluster file systems, by their number in `statfs`.
const REMOTE: [(u64, &str); 23] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0102_1997, "9p"),
    (0x2003_0528, "OrangeFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0xaad7_aaea, "PanFS"),
    (0xbeef_dead, "StorNext"),
    (0x0131_11a8, "IBRIX"),
    (0x6163_6673, "ACFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0xbacb_acbc, "VMware shared folder"),
    (0x786f_4256, "VirtualBox shared folder"),
    (0x7c7c_6673, "Parallels shared folder"),
];

/// FUSE, in `statfs`. It often holds a local directory, such as that of a rootless container or an encrypted home, so its
/// type in the table of mounts decides.
const FUSE: u64 = 0x6573_5546;

/// Network file systems on FUSE, by their type in the table of mounts.
const REMOTE_FUSE: [&str; 16] = [
    "virtiofs",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.s3fs",
    "fuse.gcsfuse",
    "fuse.rclone",
    "fuse.juicefs",
    "fuse.moosefs",
    "fuse.lizardfs",
    "fuse.seaweedfs",
    "fuse.goofys",
    "fuse.mountpoint-s3",
    "fuse.blobfuse2",
    "fuse.cvmfs2",
];

/// Refuses a directory on a network file system, where llbatch on another machine would not see these locks and logs.
pub(super) fn must_be_local(dir: &Path) -> Result<()> {
    match remote(kind(dir), || mount_of(dir)) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            Exit::Io,
            format!(
                "state directory {}: it is on a network file system ({name}), where jobs are not safe",
                dir.display()
            ),
        )
        .hint("choose one on a local disk with --state-dir or LLBATCH_STATE_DIR; `llbatch help data` says why")),
    }
}

/// The name of a remote file system, from its number and, for FUSE, from its type in the table of mounts.
fn remote(kind: u64, mount: impl FnOnce() -> Option<String>) -> Option<String> {
    if kind != FUSE {
        return REMOTE.iter().find(|(number, _)| *number == kind).map(|(_, name)| (*name).to_owned());
    }
    let mount = mount()?;
    REMOTE_FUSE.contains(&mount.as_str()).then(|| mount.trim_start_matches("fuse.").to_owned())
}

/// The type of the file system that holds `dir`, by the table of mounts.
#[cfg(target_os = "linux")]
fn mount_of(dir: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(dir).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    type_of(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, &device)
}

#[cfg(not(target_os = "linux"))]
fn mount_of(_: &Path) -> Option<String> {
    None
}

/// The type of the mount of `device` (`major:minor`) in a table of mounts.
#[cfg(target_os = "linux")]
fn type_of(table: &str, device: &str) -> Option<String> {
    let mount = table.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    mount.split_once(" - ")?.1.split(' ').next().map(str::to_owned)
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
        // ext4, XFS, btrfs, tmpfs, overlay.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(remote(local, || None), None);
        }
        let names = [
            (0x6969, "NFS"),
            (0xff53_4d42, "CIFS"),
            (0x0bd0_0bd0, "Lustre"),
            (0x4750_4653, "GPFS"),
            (0x1983_0326, "BeeGFS"),
            (0x0102_1997, "9p"),
        ];
        for (kind, name) in names {
            assert_eq!(remote(kind, || None).as_deref(), Some(name));
        }
        let fuse = |mount: &str| remote(FUSE, || Some(mount.to_owned()));
        assert_eq!((fuse("virtiofs").as_deref(), fuse("fuse.sshfs").as_deref()), (Some("virtiofs"), Some("sshfs")));
        assert_eq!((fuse("fuse.fuse-overlayfs"), fuse("fuse.gocryptfs"), remote(FUSE, || None)), (None, None, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn type_of_a_mount_is_found_by_its_device() {
        let table = "22 1 0:20 / / rw,relatime shared:1 master:2 - ext4 /dev/sda rw\n\
                     37 22 0:33 / /home rw - virtiofs home rw\n";
        assert_eq!(type_of(table, "0:33").as_deref(), Some("virtiofs"));
        assert_eq!(type_of(table, "0:20").as_deref(), Some("ext4"));
        assert_eq!(type_of(table, "0:3"), None);
    }
}
