//! The file system of the state directory. Machines must not share `SQLite`'s log, and some file systems are not fit for a
//! database at all.

use std::path::Path;

use super::journal::Journaling;
use crate::error::{Error, Exit, Result};
use crate::state_place::{StateMode, StatePlace};

/// File systems that several machines share and that hold a database: files can be locked, synced and renamed. By their number
/// in `statfs`.
const SHARED: [(u64, &str); 8] = [
    (0x6969, "NFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0102_1997, "9p"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];

/// Other file systems that several machines share. Their locks or syncs are not to be relied on.
const UNFIT: [(u64, &str); 15] = [
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x2003_0528, "OrangeFS"),
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

/// Shared file systems on FUSE that hold a database, by their type in the table of mounts.
const SHARED_FUSE: [&str; 3] = ["virtiofs", "fuse.ceph", "fuse.ceph-fuse"];

/// Other shared file systems on FUSE.
const UNFIT_FUSE: [&str; 13] = [
    "fuse.sshfs",
    "fuse.glusterfs",
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

/// The kind of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Only this machine writes to it, as far as is known.
    Local,
    /// Several machines share it, and one at a time can have its state there.
    Shared,
    /// Several machines share it, and a database is not safe there.
    Unfit(String),
}

/// The way in which databases are written in a state directory: by its mode, and by its file system if that decides.
///
/// # Errors
/// 74 if the file system is not fit for a database.
pub(super) fn journaling(place: StatePlace<'_>) -> Result<Journaling> {
    let dir = place.dir;
    let kind = match place.mode {
        StateMode::Local => Kind::Local,
        StateMode::Network => Kind::Shared,
        StateMode::Auto => kind(number(dir), || mount_of(dir)),
    };
    match kind {
        Kind::Local => Ok(Journaling::Log),
        Kind::Shared => Ok(Journaling::Rollback),
        Kind::Unfit(name) => Err(Error::new(
            Exit::Io,
            format!(
                "state directory {}: it is on a network file system ({name}), where jobs are not safe",
                dir.display()
            ),
        )
        .hint("choose one on a local disk with --state-dir or LLBATCH_STATE_DIR; `llbatch help data` says why")),
    }
}

/// The kind of a file system, from its number and, for FUSE, from its type in the table of mounts.
fn kind(number: u64, mount: impl FnOnce() -> Option<String>) -> Kind {
    if number == FUSE {
        return match mount() {
            Some(mount) if SHARED_FUSE.contains(&mount.as_str()) => Kind::Shared,
            Some(mount) if UNFIT_FUSE.contains(&mount.as_str()) => {
                Kind::Unfit(mount.trim_start_matches("fuse.").to_owned())
            }
            _ => Kind::Local,
        };
    }
    if SHARED.iter().any(|(shared, _)| *shared == number) {
        return Kind::Shared;
    }
    let unfit = UNFIT.iter().find(|(unfit, _)| *unfit == number);
    unfit.map_or(Kind::Local, |(_, name)| Kind::Unfit((*name).to_owned()))
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
fn number(dir: &Path) -> u64 {
    // The number has 32 bits, and some platforms sign-extend it.
    rustix::fs::statfs(dir).map_or(0, |stat| u64::from(stat.f_type as u32))
}

#[cfg(not(target_os = "linux"))]
fn number(_: &Path) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_has_its_kind() {
        // ext4, XFS, btrfs, tmpfs, overlay.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(kind(local, || None), Kind::Local);
        }
        // NFS, CephFS, Lustre, GPFS, BeeGFS, 9p.
        for shared in [0x6969, 0x00c3_6400, 0x0bd0_0bd0, 0x4750_4653, 0x1983_0326, 0x0102_1997] {
            assert_eq!(kind(shared, || None), Kind::Shared);
        }
        assert_eq!(kind(0xff53_4d42, || None), Kind::Unfit("CIFS".to_owned()));
        let fuse = |mount: &str| kind(FUSE, || Some(mount.to_owned()));
        assert_eq!((fuse("virtiofs"), fuse("fuse.ceph")), (Kind::Shared, Kind::Shared));
        assert_eq!(fuse("fuse.sshfs"), Kind::Unfit("sshfs".to_owned()));
        for local in [fuse("fuse.fuse-overlayfs"), fuse("fuse.gocryptfs"), kind(FUSE, || None)] {
            assert_eq!(local, Kind::Local);
        }
    }

    #[test]
    fn mode_goes_before_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let of = |mode| journaling(StatePlace { dir: dir.path(), mode }).unwrap();
        assert_eq!(of(StateMode::Auto), Journaling::Log);
        assert_eq!((of(StateMode::Local), of(StateMode::Network)), (Journaling::Log, Journaling::Rollback));
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
