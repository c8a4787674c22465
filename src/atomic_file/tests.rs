use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = AtomicFile::create(path, 0o666)?;
    file.write_all(text.as_bytes()).unwrap();
    file.commit()
}

#[test]
fn the_old_file_stays_until_the_new_one_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    fs::write(&path, "old").unwrap();
    let mut file = AtomicFile::create(&path, 0o666).unwrap();
    file.write_all(&vec![b'x'; 3 * BUFFER]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(dir.path()).len(), 2);
    assert!(names(dir.path())[0].starts_with(".out.jsonl.llbatch-"));
    drop(file);
    assert_eq!(names(dir.path()), ["out.jsonl"], "nothing is left of a dropped file");
    write(&path, "new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(names(dir.path()), ["out.jsonl"]);
}

#[test]
fn partial_file_leaves_the_old_one_and_is_removed_by_the_next_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["out.jsonl", "link.jsonl"] {
        let path = dir.path().join(name);
        write(&path, "old").unwrap();
        if name == "link.jsonl" {
            fs::create_dir(dir.path().join("real")).unwrap();
            fs::rename(&path, dir.path().join("real/out.jsonl")).unwrap();
            symlink("real/out.jsonl", &path).unwrap();
        }
        let mut file = AtomicFile::create(&path, 0o666).unwrap();
        file.write_all(b"half").unwrap();
        let partial = file.commit_partial().unwrap().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_to_string(&partial).unwrap(), "half");
        assert!(partial.to_str().unwrap().ends_with("/out.jsonl.partial"), "{partial:?}");
        remove_partial(&path);
        assert!(!partial.exists());
    }
}

#[test]
fn permissions_are_those_of_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.csv");
    write(&path, "1").unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), mode(&plain), "a new file is like any other new file");
    for bits in [0o600, 0o664] {
        fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        write(&path, "2").unwrap();
        assert_eq!(mode(&path), bits);
    }
}

#[test]
fn a_link_stays_a_link_even_if_it_points_nowhere_yet() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    let link = dir.path().join("link.jsonl");
    symlink("hop.jsonl", &link).unwrap();
    symlink("real/out.jsonl", dir.path().join("hop.jsonl")).unwrap();
    for text in ["first", "second"] {
        write(&link, text).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(dir.path().join("real/out.jsonl")).unwrap(), text);
    }
    assert_eq!(names(&dir.path().join("real")), ["out.jsonl"]);
    let ring = dir.path().join("ring");
    symlink("ring", &ring).unwrap();
    assert_eq!(write(&ring, "x").unwrap_err().exit, Exit::Io);
}

#[test]
fn what_cannot_be_a_file_is_said_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let error = write(dir.path(), "x").unwrap_err();
    assert_eq!((error.exit, error.hint.is_some()), (Exit::Usage, true));
    let mut slash = dir.path().join("new").into_os_string();
    slash.push("/");
    assert_eq!(write(Path::new(&slash), "x").unwrap_err().exit, Exit::Usage);
    let error = write(&dir.path().join("no/such/out.csv"), "x").unwrap_err();
    assert_eq!(error.exit, Exit::Io);
    assert!(error.hint.unwrap_or_default().starts_with("mkdir -p "));
    assert!(names(dir.path()).is_empty());
}

#[test]
fn devices_and_pipes_are_written_directly() {
    write(Path::new("/dev/null"), "x").unwrap();
    let dir = tempfile::tempdir().unwrap();
    // A descriptor of a file: another process may hold it too, so it must not be replaced.
    let path = dir.path().join("held");
    let held = File::create(&path).unwrap();
    let inode = held.metadata().unwrap().ino();
    write(&PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held))), "direct").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "direct");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}

#[test]
fn a_full_disk_is_exit_74() {
    let mut file = AtomicFile::create(Path::new("/dev/full"), 0o666).unwrap();
    file.write_all(b"x").unwrap();
    let error = file.commit().unwrap_err();
    assert_eq!(error.exit, Exit::Io);
    assert!(error.to_string().contains("/dev/full") && error.hint.is_some(), "{error}");
}

#[test]
fn leftovers_of_the_dead_go_and_the_files_of_the_living_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let left = ".out.jsonl.llbatch-AAAAAA.tmp";
    let others = [".out.jsonl.llbatch-.tmp", ".out.jsonl.llbatch-a.b.tmp", ".other.llbatch-AAAAAA.tmp", "out.jsonl"];
    for name in others.iter().chain([&left]) {
        fs::write(dir.path().join(name), "").unwrap();
    }
    symlink("out.jsonl", dir.path().join(".out.jsonl.llbatch-LINK.tmp")).unwrap();
    let mut living = AtomicFile::create(&path, 0o666).unwrap();
    let before = names(dir.path()).len();
    assert_eq!(remove_stale(&path), 1);
    let after = names(dir.path());
    assert_eq!(after.len(), before - 1);
    assert!(!after.iter().any(|name| name == left));
    living.write_all(b"alive").unwrap();
    living.commit().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "alive");
}

#[test]
fn a_name_as_long_as_names_get_still_has_room_for_a_temporary_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n".repeat(255));
    write(&path, "long").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "long");
}
