//! Files of rows in a directory that others use too.

use serde_json::Value;

use super::*;
use crate::outcome::ErrorCode;

fn answer(row: u64, id: &str, files: &[&[u8]]) -> Outcome {
    let attached = files.iter().map(|bytes| AnsweredFile { bytes: bytes.to_vec(), said: None }).collect();
    Outcome { error: None, attached, ..Outcome::unsent(row, id.into(), "m".into(), ErrorCode::Missing, "") }
}

fn place(dir: &ProducedDir, outcome: &Outcome) -> Vec<Value> {
    let mut staged = dir.stage(outcome).unwrap();
    loop {
        dir.choose(&mut staged).unwrap();
        if dir.publish(&mut staged).unwrap() {
            return serde_json::from_str(&dir.listed(staged.iter())).unwrap();
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nimage";

#[test]
fn files_get_the_names_of_their_rows_and_replace_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("new/out");
    let dir = ProducedDir::open(&FilesDir { dir: path.clone(), shown: "out".into() }, "j-1").unwrap();
    std::fs::write(path.join("b-2.png"), "the user's").unwrap();
    let files = place(&dir, &answer(1, "a/é", &[PNG]));
    assert_eq!(files[0]["path"], "out/a%2F%C3%A9.png");
    assert_eq!((&files[0]["bytes"], &files[0]["media_type"]), (&Value::from(13), &Value::from("image/png")));
    assert_eq!(files[0]["blake3"], blake3::hash(PNG).to_hex().as_str());
    let files = place(&dir, &answer(2, "b", &[PNG, b"ID3", PNG]));
    let paths: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["out/b.png", "out/b-2.mp3", "out/b-3.png"]);
    // The second file of `b` and the first one of `b-2` would have one name.
    assert_eq!(place(&dir, &answer(3, "b-2", &[PNG]))[0]["path"], "out/b-2~2.png");
    assert_eq!(place(&dir, &answer(3, "b-2", &[b"ID3"]))[0]["path"], "out/b-2~2.mp3");
    assert_eq!(std::fs::read(path.join("b-2.png")).unwrap(), b"the user's");
    let all = ["a%2F%C3%A9.png", "b-2.mp3", "b-2.png", "b-2~2.mp3", "b-2~2.png", "b-3.png", "b.png"];
    assert_eq!(names(&path), all);
}

#[test]
fn name_that_is_taken_in_the_last_moment_is_chosen_again() {
    let temp = tempfile::tempdir().unwrap();
    let dir =
        ProducedDir::open(&FilesDir { dir: temp.path().to_owned(), shown: temp.path().to_owned() }, "j-1").unwrap();
    let mut staged = dir.stage(&answer(1, "a", &[PNG])).unwrap();
    dir.choose(&mut staged).unwrap();
    std::fs::write(temp.path().join("a.png"), "late").unwrap();
    assert!(!dir.publish(&mut staged).unwrap());
    dir.choose(&mut staged).unwrap();
    assert!(dir.publish(&mut staged).unwrap() && staged[0].is_renamed());
    assert_eq!(names(temp.path()), ["a.png", "a~2.png"]);
}

#[test]
fn leftovers_of_the_own_job_are_removed_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let place_of = FilesDir { dir: temp.path().to_owned(), shown: "x".into() };
    for name in [".llbatch-j-1-7-0.tmp", ".llbatch-j-12-7-0.tmp", "mine.png"] {
        std::fs::write(temp.path().join(name), PNG).unwrap();
    }
    let dir = ProducedDir::open(&place_of, "j-1").unwrap();
    assert_eq!(names(temp.path()), [".llbatch-j-12-7-0.tmp", "mine.png"]);
    let known = mark(&blake3::hash(PNG));
    dir.remove_unclaimed("mine.png", known ^ 1).unwrap();
    dir.remove_unclaimed("gone.png", known).unwrap();
    assert_eq!(names(temp.path()).len(), 2);
    dir.remove_unclaimed("mine.png", known).unwrap();
    assert_eq!(names(temp.path()), [".llbatch-j-12-7-0.tmp"]);
    // Files that get no name are removed with their process, or when they are dropped.
    drop(dir.stage(&answer(1, "a", &[PNG])).unwrap());
    assert_eq!(names(temp.path()).len(), 1);
    let file = temp.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = ProducedDir::open(&FilesDir { dir: file, shown: "x".into() }, "j-1").unwrap_err();
    assert_eq!(error.exit.code(), 74);
}
