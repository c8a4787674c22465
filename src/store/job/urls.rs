//! The base URLs of a service that has several. Each outcome names the one of its last attempt by number.

use rusqlite::Connection;

use crate::error::Result;
use crate::store::JobDb;

impl JobDb {
    /// Keeps the base URLs of the service, if there are several now or were before. Returns the number of each.
    pub fn keep_urls(&mut self, urls: &[&str]) -> Result<Vec<u32>> {
        if urls.len() < 2 && self.kept_urls.is_empty() {
            return Ok(vec![0; urls.len()]);
        }
        self.begin()?;
        let numbers = urls.iter().map(|url| self.keep_url(url)).collect();
        self.commit(false)?;
        numbers
    }

    fn keep_url(&mut self, url: &str) -> Result<u32> {
        if let Some((number, _)) = self.kept_urls.iter().find(|(_, kept)| kept == url) {
            return Ok(*number);
        }
        let number = self.kept_urls.last().map_or(0, |(number, _)| *number) + 1;
        self.run(|db| db.execute("INSERT INTO url (number, url) VALUES (?1, ?2)", (number, url)))?;
        self.kept_urls.push((number, url.to_owned()));
        Ok(number)
    }

    /// All base URLs that are kept with the job, by number.
    pub fn kept_urls(&self) -> &[(u32, String)] {
        &self.kept_urls
    }
}

/// All base URLs in the database.
pub(super) fn read(db: &Connection) -> rusqlite::Result<Vec<(u32, String)>> {
    db.prepare("SELECT number, url FROM url ORDER BY number")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::store::JobDb;
    use crate::store::job::tests::db;

    #[test]
    fn urls_keep_their_numbers() {
        let (dir, mut db) = db();
        assert_eq!(db.keep_urls(&["http://a/v1"]).unwrap(), [0]);
        assert_eq!(db.keep_urls(&["http://a/v1", "http://b/v1"]).unwrap(), [1, 2]);
        drop(db);
        let mut db = JobDb::open(&dir.path().join("j.db")).unwrap();
        assert_eq!(db.keep_urls(&["http://b/v1", "http://c/v1"]).unwrap(), [2, 3]);
        assert_eq!(db.keep_urls(&["http://b/v1"]).unwrap(), [2], "it once had several");
        let urls: Vec<_> = db.kept_urls().iter().map(|(number, url)| (*number, url.as_str())).collect();
        assert_eq!(urls, [(1, "http://a/v1"), (2, "http://b/v1"), (3, "http://c/v1")]);
    }
}
