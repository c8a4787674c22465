//! The figures of results files: JSON lines of llbatch or of the service, flat lines, and tables.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};

use super::folded::Folded;
use super::row::ReadRow;
use crate::batch::line::LineError;
use crate::batch::lines::FileLines;
use crate::error::{Error, Exit, Result};
use crate::input::{Format, ParquetFile, RereadFile, Source};
use crate::money::charge;
use crate::objects::{expand, shown_path};
use crate::outcome::Outcome;
use crate::price::{PriceBook, PriceTable};
use crate::summary::Totals;

/// The rows of results files, and the warnings about them.
#[derive(Debug)]
pub struct ReadFiles {
    /// The folded rows.
    pub folded: Folded,
    /// Lines that are not results, and ids that occur more than once.
    pub warnings: Vec<String>,
}

/// Folds the rows of results files, compressed ones included. The name `-` is standard input. An output file and an error
/// file of the service have the same kind of lines. A file does not say how its rows were paid for: `batch` does.
///
/// # Errors
/// 66 if a file cannot be read, 65 if a file has lines and none of them is a result.
pub fn of_files(files: &[String], prices: PriceTable, batch: bool) -> Result<ReadFiles> {
    let mut reader = FilesReader {
        prices: PriceBook::new(prices),
        folded: Folded::new(Totals::new(0)),
        batch,
        rows: 0,
        ids: HashSet::default(),
        repeated: Places::default(),
        warnings: Vec::new(),
    };
    for file in expand(&files.iter().map(PathBuf::from).collect::<Vec<_>>())? {
        reader.file(&file)?;
    }
    Ok(reader.done())
}

struct FilesReader {
    prices: PriceBook,
    folded: Folded,
    batch: bool,
    rows: u64,
    /// Hashes of ids, eight bytes per row.
    ids: HashSet<u64, BuildHasherDefault<DefaultHasher>>,
    /// Lines whose id an earlier line had.
    repeated: Places,
    warnings: Vec<String>,
}

impl FilesReader {
    fn file(&mut self, file: &Path) -> Result<()> {
        let stdin = file.as_os_str() == "-";
        let shown = if stdin { "standard input".to_owned() } else { shown_path(file) };
        let found = RereadFile::find(if stdin { Path::new("/dev/stdin") } else { file }, &shown)?;
        match found.format() {
            Some(Format::Parquet) => self.columns(found.parquet()?, &shown)?,
            Some(Format::Csv) => self.table(found.source()?, b',', &shown)?,
            Some(Format::Tsv) => self.table(found.source()?, b'\t', &shown)?,
            _ => self.lines(found.source()?, &shown)?,
        }
        found.check_unchanged()
    }

    fn done(mut self) -> ReadFiles {
        if let Some(first) = &self.repeated.first {
            let more = self.repeated.more();
            self.warnings.push(format!("{first}: duplicate id; llbatch counts each line{more}"));
        }
        self.folded.totals.set_rows(self.rows);
        self.folded.totals.end_interrupted();
        ReadFiles { folded: self.folded, warnings: self.warnings }
    }

    fn lines(&mut self, source: Source, shown: &str) -> Result<()> {
        let mut lines = FileLines::of(source);
        let rows_before = self.rows;
        let mut bad = Places::default();
        while let Some(line) = lines.next().map_err(|error| unreadable(shown, error))? {
            if line.bytes.is_some_and(<[u8]>::is_empty) {
                continue;
            }
            match line.bytes.map_or_else(|| Err(LineError::TooLong.to_string()), |bytes| self.line(bytes)) {
                Ok(true) => {}
                Ok(false) => self.repeated.add(|| format!("{shown}:{}", line.number)),
                Err(why) => bad.add(|| format!("{shown}:{}: not a result line: {why}", line.number)),
            }
        }
        match &bad.first {
            Some(first) if self.rows == rows_before => Err(Error::new(Exit::Data, first.clone()).hint(
                "results are JSON lines with custom_id, response and error, or flat rows with llbatch's own columns \
                 (no --prefix)",
            )),
            Some(first) => {
                self.warnings.push(format!("{first}{}", bad.more()));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Counts a line. Returns whether its id is new. The error says why the line is not a result.
    fn line(&mut self, bytes: &[u8]) -> Result<bool, String> {
        Ok(self.row(ReadRow::of_line(self.rows + 1, bytes, "")?))
    }

    /// Counts a row. Returns whether its id is new.
    fn row(&mut self, read: ReadRow) -> bool {
        let in_batch = self.batch || read.is_flat_batch_answer();
        let mut outcome = read.outcome;
        outcome.batch = in_batch.then_some(0);
        let charge = charge(&outcome, &mut self.prices);
        if !read.flat {
            // As for an answer of a batch, the time that it took is unknown.
            outcome.batch = Some(0);
        }
        self.folded.add(&outcome, &charge);
        self.counted(&outcome)
    }

    fn counted(&mut self, outcome: &Outcome) -> bool {
        self.rows += 1;
        self.ids.insert(self.ids.hasher().hash_one(&outcome.id))
    }

    /// Counts the rows of a Parquet file.
    fn columns(&mut self, mut rows: ParquetFile, shown: &str) -> Result<()> {
        while let Some(line) = rows.line()? {
            let place = format!("{shown}:row {}", rows.row());
            match self.line(line.trim_ascii_end()) {
                Ok(true) => {}
                Ok(false) => self.repeated.add(|| place),
                Err(_) => {
                    let message = format!("{place}: not a row of results: custom_id or attempts is missing");
                    return Err(Error::new(Exit::Data, message).hint(TABLE));
                }
            }
        }
        Ok(())
    }

    fn table(&mut self, source: Source, delimiter: u8, shown: &str) -> Result<()> {
        let mut rows = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(source);
        let broken = |error: csv::Error| Error::new(Exit::Data, format!("{shown}: not a table of results: {error}"));
        let header = rows.headers().map_err(broken)?.clone();
        let columns: Vec<&str> = header.iter().collect();
        for record in rows.records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(0, csv::Position::line);
            let Some(row) = ReadRow::of_cells(self.rows + 1, &columns, &record, "") else {
                let message = format!("{shown}:{line}: not a row of results: custom_id or attempts is missing");
                return Err(Error::new(Exit::Data, message).hint(TABLE));
            };
            if !self.row(row) {
                self.repeated.add(|| format!("{shown}:{line}"));
            }
        }
        Ok(())
    }
}

const TABLE: &str = "a table of results has llbatch's own columns, as `run` and `fetch` write them without --prefix";

/// The first of many places, and their number.
#[derive(Default)]
struct Places {
    first: Option<String>,
    count: u64,
}

impl Places {
    fn add(&mut self, place: impl FnOnce() -> String) {
        self.first.get_or_insert_with(place);
        self.count += 1;
    }

    /// The end of a sentence about the first place, for the others.
    fn more(&self) -> String {
        match self.count {
            0 | 1 => String::new(),
            count => format!(" (and {} more such lines)", count - 1),
        }
    }
}

fn unreadable(shown: &str, error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => crate::input::unreadable(shown, error),
    }
}
