//! The sweep of a state directory: it removes old objects, and files that a killed sandbox left half done.
//!
//! A sandbox that uses a directory holds a shared lock on its file `in-use`; a sandbox that is alone sweeps first. So a
//! sweep never removes a file that another sandbox is writing, and need not guess from ages.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::batch::BatchRecord;
use super::file_record::FileRecord;
use super::state_dir::{Folder, if_found, now_ms, objects, private_file};

/// The age up to which jobs and files are kept: longer than any test, even one over a weekend.
const KEPT_MS: u64 = 7 * 24 * 3_600_000;

/// The beginning of the name of a file in the making.
pub const PART: &str = ".part-";

/// Sweeps `dir` if no other sandbox uses it. This one uses it as long as the returned file is open.
pub fn enter(dir: &Path) -> io::Result<File> {
    let in_use = private_file(&dir.join("in-use"))?;
    if in_use.try_lock().is_ok() {
        sweep(dir, now_ms())?;
        in_use.unlock()?;
    }
    in_use.lock_shared()?;
    Ok(in_use)
}

/// Removes jobs and files that are older than a week, unreadable objects, and bytes that no object names.
fn sweep(dir: &Path, now: u64) -> io::Result<()> {
    let is_old = |created_ms: u64| created_ms.saturating_add(KEPT_MS) < now;
    let mut named = HashSet::new();
    let batches = dir.join(Folder::Batches.name());
    for path in objects(&batches)? {
        match read::<BatchRecord>(&path)? {
            Some(job) if !is_old(job.created_ms) => {
                let made = job.result.into_iter().flat_map(|result| [result.output_file_id, result.error_file_id]);
                named.extend(made.flatten());
                named.insert(job.input_file_id);
            }
            _ => remove(&path)?,
        }
    }
    let files = dir.join(Folder::Files.name());
    for path in objects(&files)? {
        match read::<FileRecord>(&path)? {
            Some(file) if !is_old(file.created_ms) || named.contains(&file.id) => {}
            _ => remove(&path)?,
        }
    }
    for folder in [&batches, &files] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_object = path.extension().is_some_and(|ending| ending == "json");
            let is_part = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PART));
            if is_part || (!is_object && !path.with_extension("json").exists()) {
                remove(&path)?;
            }
        }
    }
    Ok(())
}

/// The object, or `None` for a half-written file or the record of another version.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    Ok(serde_json::from_slice(&fs::read(path)?).ok())
}

fn remove(path: &Path) -> io::Result<()> {
    if_found(fs::remove_file(path)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::batch::BatchResult;
    use super::super::batch::tests::record;
    use super::super::state_dir::StateDir;
    use super::*;

    const NOW: u64 = 100 * 24 * 3_600_000;

    fn names(dir: &Path) -> Vec<String> {
        let of = |folder: &str| {
            let entries = fs::read_dir(dir.join(folder)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let mut all = [of("batches"), of("files")].concat();
        all.sort();
        all
    }

    #[test]
    fn old_broken_and_half_written_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateDir::new(Some(dir.path().to_owned()));
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let file = |id: &str, created_ms| {
            let record = FileRecord { id: id.to_owned(), created_ms, ..FileRecord::new("x", "batch-api") };
            store.put(Folder::Files, id, &record).unwrap();
            put(&format!("files/{id}.bin"), "x");
        };
        let (old, young) = (NOW - KEPT_MS - 1, NOW - KEPT_MS + 1);
        file("file-old", old);
        file("file-young", young);
        // A week-old input of yesterday's job, and the result of that job.
        for id in ["file-in", "file-out", "file-err"] {
            file(id, old);
        }
        let result = BatchResult {
            output_file_id: Some("file-out".to_owned()),
            error_file_id: Some("file-err".to_owned()),
            ..BatchResult::default()
        };
        let job = |id: &str, created_ms, result| {
            let input_file_id = "file-in".to_owned();
            let job = BatchRecord { id: id.to_owned(), created_ms, input_file_id, result, ..record() };
            store.put(Folder::Batches, id, &job).unwrap();
            put(&format!("batches/{id}.paid"), "");
        };
        job("old", old, None);
        job("young", young, Some(result));
        put("files/.part-abc", "half");
        put("batches/.part-def", "half");
        put("files/file-unnamed.bin", "x");
        put("batches/broken.json", "{");
        sweep(dir.path(), NOW).unwrap();
        let kept = [
            "file-err.bin",
            "file-err.json",
            "file-in.bin",
            "file-in.json",
            "file-out.bin",
            "file-out.json",
            "file-young.bin",
            "file-young.json",
            "young.json",
            "young.paid",
        ];
        assert_eq!(names(dir.path()), kept);
    }

    #[test]
    fn a_sandbox_sweeps_only_when_it_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::new(Some(dir.path().to_owned()));
        let part = first.scratch(Folder::Files).unwrap();
        let second = StateDir::new(Some(dir.path().to_owned()));
        second.put(Folder::Files, "a", &1).unwrap();
        assert!(part.path().exists(), "another sandbox is writing it");
        // A kill would leave the file like this.
        let (_, left) = part.keep().unwrap();
        drop((first, second));
        StateDir::new(Some(dir.path().to_owned())).scratch(Folder::Files).unwrap();
        assert!(!left.exists());
    }
}
