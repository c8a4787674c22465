//! Notes on files that are given their names before the answers of their rows are committed.

use crate::error::Result;
use crate::store::JobDb;

/// Begins the keys of these notes. The row and the name of the file follow.
const KEY: &str = "file ";

/// A file that gets its name before its row is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedFile {
    /// The row.
    pub row: u64,
    /// The name of the file.
    pub name: String,
    /// A part of the hash of its bytes.
    pub mark: i64,
}

impl PlacedFile {
    fn key(&self) -> String {
        format!("{KEY}{} {}", self.row, self.name)
    }

    fn read(key: &str, mark: i64) -> Option<Self> {
        let (row, name) = key.strip_prefix(KEY)?.split_once(' ')?;
        Some(Self { row: row.parse().ok()?, name: name.to_owned(), mark })
    }
}

impl JobDb {
    /// Notes files in the open group, before they get their names.
    pub fn note_files(&mut self, files: &[PlacedFile]) -> Result<()> {
        self.begin()?;
        let put = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
        self.run(|db| {
            let mut statement = db.prepare_cached(put)?;
            files.iter().try_for_each(|file| statement.execute((file.key(), file.mark)).map(drop))
        })
    }

    /// Drops the notes in the open group, with the outcomes of their rows.
    pub fn drop_file_notes(&mut self, files: &[PlacedFile]) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            let mut statement = db.prepare_cached("DELETE FROM meta WHERE key = ?1")?;
            files.iter().try_for_each(|file| statement.execute([file.key()]).map(drop))
        })
    }

    /// The files that were noted, each with whether its row is answered.
    pub fn noted_files(&self) -> Result<Vec<(PlacedFile, bool)>> {
        let find = "SELECT key, value FROM meta WHERE key >= ?1 AND key < ?2";
        let notes: Vec<PlacedFile> = self.run(|db| {
            let mut statement = db.prepare(find)?;
            let rows = statement.query_map([KEY, "file!"], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
            let notes = rows.collect::<rusqlite::Result<Vec<(String, i64)>>>()?;
            Ok(notes.iter().filter_map(|(key, mark)| PlacedFile::read(key, *mark)).collect())
        })?;
        self.run(|db| {
            let mut statement = db.prepare("SELECT count(*) FROM outcome WHERE row = ?1 AND ok")?;
            let answered = |note: PlacedFile| {
                let count: i64 = statement.query_row([note.row.cast_signed()], |row| row.get(0))?;
                Ok((note, count > 0))
            };
            notes.into_iter().map(answered).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::job::tests::{db, outcome};

    #[test]
    fn notes_last_until_their_row_is_committed() {
        let (_dir, mut db) = db();
        let note = |row, name: &str| PlacedFile { row, name: name.to_owned(), mark: -7 };
        let files = [note(1, "a b.png"), note(12, "c.png"), note(2, "d.png")];
        db.note_files(&files).unwrap();
        db.commit(true).unwrap();
        db.put(&outcome(1, 1, true)).unwrap();
        db.drop_file_notes(&files[..1]).unwrap();
        db.put(&outcome(2, 2, true)).unwrap();
        let found = db.noted_files().unwrap();
        assert_eq!(found, [(files[1].clone(), false), (files[2].clone(), true)]);
        db.undo().unwrap();
        assert_eq!(db.noted_files().unwrap().len(), 3, "nothing was committed");
        assert_eq!(db.judged_by().unwrap(), 0, "other facts stand beside them");
    }
}
