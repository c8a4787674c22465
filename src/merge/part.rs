//! The files with results that are merged, read line by line.

use std::io::{self, Read};
use std::path::Path;

use super::PartLine;
use crate::batch::lines::FileLines;
use crate::columnar::FieldType;
use crate::error::{Error, Exit, Result};
use crate::input::{Format, InputPlace, ParquetFile, RereadFile, Source, unreadable};
use crate::objects::shown_path;
use crate::report::ReadRow;
use crate::results::write_cells;

/// The form of a part's rows.
#[derive(Debug, Clone, PartialEq)]
pub enum PartForm {
    /// JSON lines with the whole response.
    Responses,
    /// Flat JSON lines.
    Flat,
    /// Columns of a Parquet file. Its rows are read as flat JSON lines.
    Columns(Vec<(String, FieldType)>),
    /// A table with these columns.
    Table {
        /// Their names.
        columns: Vec<String>,
        /// The file begins with a byte order mark.
        marked: bool,
    },
}

impl PartForm {
    /// Returns true if rows of the other form have the same columns.
    pub(super) fn has_columns_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Table { columns: ours, .. }, Self::Table { columns: theirs, .. }) => ours == theirs,
            _ => self == other,
        }
    }
}

/// A file with results of some of the rows.
#[derive(Debug)]
pub struct PartFile {
    /// Its name in messages.
    pub shown: String,
    file: RereadFile,
    number: usize,
    /// The byte between the cells of a table; `None`: lines of JSON.
    delimiter: Option<u8>,
    /// `None`: it has no rows.
    pub form: Option<PartForm>,
    /// Prefix of llbatch's columns.
    prefix: String,
    /// The byte between the cells of lines that are copied.
    written: u8,
}

/// Reads a part from its beginning to its end.
pub(super) struct PartReader<'a> {
    part: &'a PartFile,
    rows: PartContent,
    /// The line or record that was cut off, at the end.
    pub torn: Option<u64>,
}

enum PartContent {
    Lines(Box<FileLines<Source>>),
    Table(Box<TableRows>),
    Columns(Box<ParquetFile>),
}

/// The records of a table, each with a look at the next one: only the last one can be cut off.
struct TableRows {
    reader: csv::Reader<Observed>,
    columns: Vec<String>,
    ahead: Option<csv::ByteRecord>,
}

/// A source of bytes that remembers its beginning and its end.
struct Observed {
    source: Source,
    head: Vec<u8>,
    last: u8,
    /// It broke off within compressed data.
    broken: bool,
}

impl Read for Observed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.source.read(buffer) {
            Ok(read) => read,
            Err(error) => {
                let cut = cut_off(error)?;
                self.broken = cut;
                0
            }
        };
        let wanted = 3_usize.saturating_sub(self.head.len()).min(read);
        self.head.extend_from_slice(&buffer[..wanted]);
        self.last = read.checked_sub(1).map_or(self.last, |at| buffer[at]);
        Ok(read)
    }
}

impl PartFile {
    /// Looks at the first row of a file. `written`: the byte between the cells of a table that is written.
    ///
    /// # Errors
    /// 66 if it cannot be read, 65 if it holds no results.
    pub(super) fn open(path: &Path, number: usize, prefix: &str, written: u8) -> Result<Self> {
        let shown = shown_path(path);
        let file = RereadFile::find(path, &shown)?;
        let delimiter = match file.format() {
            Some(Format::Csv) => Some(b','),
            Some(Format::Tsv) => Some(b'\t'),
            _ => None,
        };
        let mut part = Self { shown, file, number, delimiter, form: None, prefix: prefix.to_owned(), written };
        let mut reader = part.reader()?;
        let first = reader.next()?;
        let form = match reader.rows {
            PartContent::Table(table) => Some(PartForm::Table {
                marked: table.reader.get_ref().head.starts_with(b"\xEF\xBB\xBF"),
                columns: table.columns,
            }),
            PartContent::Columns(rows) => Some(PartForm::Columns(rows.types().to_vec())).filter(|_| first.is_some()),
            PartContent::Lines(_) => first.map(|line| if line.row.flat { PartForm::Flat } else { PartForm::Responses }),
        };
        part.form = form.filter(|form| !matches!(form, PartForm::Table { columns, .. } if columns.is_empty()));
        Ok(part)
    }

    /// Reads the part from its beginning.
    pub(super) fn reader(&self) -> Result<PartReader<'_>> {
        if self.file.format() == Some(Format::Parquet) {
            let rows = PartContent::Columns(Box::new(self.file.parquet()?));
            return Ok(PartReader { part: self, rows, torn: None });
        }
        let source = self.file.source()?;
        let rows = match self.delimiter {
            None => PartContent::Lines(Box::new(FileLines::of(source))),
            Some(delimiter) => PartContent::Table(Box::new(TableRows::open(source, delimiter, &self.shown)?)),
        };
        Ok(PartReader { part: self, rows, torn: None })
    }

    /// Makes sure that all reads were of one version of the file.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        self.file.check_unchanged()
    }

    /// Reads a row from the bytes that [`PartReader::next`] gave.
    pub(super) fn read_back(&self, bytes: Vec<u8>) -> Option<PartLine> {
        let row = match &self.form {
            Some(PartForm::Table { columns, .. }) => {
                let mut reader =
                    csv::ReaderBuilder::new().has_headers(false).delimiter(self.written).from_reader(&*bytes);
                let record = reader.records().next()?.ok()?;
                self.row_of(columns, &record)?
            }
            _ => ReadRow::of_line(0, bytes.trim_ascii_end(), &self.prefix).ok()?,
        };
        Some(PartLine { part: self.number, row, bytes })
    }

    fn row_of(&self, columns: &[String], record: &csv::StringRecord) -> Option<ReadRow> {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        ReadRow::of_cells(0, &columns, record, &self.prefix)
    }

    /// The next row of a Parquet file.
    fn typed_row(&self, rows: &mut ParquetFile) -> Result<Option<PartLine>> {
        let Some(bytes) = rows.line()? else { return Ok(None) };
        let row = ReadRow::of_line(0, bytes.trim_ascii_end(), &self.prefix);
        let row = row.map_err(|_| self.invalid(InputPlace::Row(rows.row()), LACKS))?;
        Ok(Some(PartLine { part: self.number, row, bytes }))
    }

    fn invalid(&self, line: impl Into<InputPlace>, why: &str) -> Error {
        let line = line.into();
        Error::new(Exit::Data, format!("{}:{line}: not a result: {why}", self.shown))
            .hint("a part is a file that `run` or `fetch` wrote; pass --prefix if its columns have one")
    }
}

impl PartReader<'_> {
    /// The next row. A last line that was cut off is no row.
    pub fn next(&mut self) -> Result<Option<PartLine>> {
        let part = self.part;
        let table = match &mut self.rows {
            PartContent::Table(table) => table,
            PartContent::Columns(rows) => return part.typed_row(rows),
            PartContent::Lines(lines) => loop {
                let line = match lines.next() {
                    Ok(Some(line)) => line,
                    Ok(None) => return Ok(None),
                    Err(error) => {
                        cut_off(error).map_err(|error| unreadable_part(&part.shown, error))?;
                        self.torn = Some(lines.number() + 1);
                        return Ok(None);
                    }
                };
                let Some(bytes) = line.bytes else { return Err(part.invalid(line.number, "longer than any answer")) };
                if bytes.is_empty() {
                    continue;
                }
                let row = match ReadRow::of_line(0, bytes, &part.prefix) {
                    Ok(row) => row,
                    Err(_) if !line.ended => {
                        self.torn = Some(line.number);
                        return Ok(None);
                    }
                    Err(why) => return Err(part.invalid(line.number, &why)),
                };
                let form = if row.flat { PartForm::Flat } else { PartForm::Responses };
                if part.form.as_ref().is_some_and(|usual| *usual != form) {
                    return Err(part.invalid(line.number, "it has another form than the first line"));
                }
                let mut copy = Vec::with_capacity(bytes.len() + 1);
                copy.extend_from_slice(bytes);
                copy.push(b'\n');
                return Ok(Some(PartLine { part: part.number, row, bytes: copy }));
            },
        };
        let Some(record) = table.next(&part.shown)? else { return Ok(None) };
        let line = record.position().map_or(0, csv::Position::line);
        let seen = table.reader.get_ref();
        let ended = table.ahead.is_some() || seen.broken || seen.last == b'\n';
        let whole = record.len() == table.columns.len();
        let text = csv::StringRecord::from_byte_record(record).ok().filter(|_| whole && ended);
        let Some(text) = text else {
            if table.ahead.is_none() {
                self.torn = Some(line);
                return Ok(None);
            }
            let why = if whole { "not UTF-8" } else { "it has another number of cells than the header" };
            return Err(part.invalid(line, why));
        };
        if table.ahead.is_none() && table.reader.get_ref().broken {
            self.torn = Some(line + 1);
        }
        let row = part.row_of(&table.columns, &text);
        let row = row.ok_or_else(|| part.invalid(line, LACKS))?;
        let mut bytes = Vec::new();
        write_cells(text.iter(), part.written, &mut bytes);
        Ok(Some(PartLine { part: part.number, row, bytes }))
    }
}

impl TableRows {
    fn open(source: Source, delimiter: u8, shown: &str) -> Result<Self> {
        let source = Observed { source, head: Vec::new(), last: b'\n', broken: false };
        let reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(source);
        let mut table = Self { reader, columns: Vec::new(), ahead: None };
        table.read(shown)?;
        let header = table.next(shown)?.unwrap_or_default();
        let names = header.iter().map(|name| String::from_utf8_lossy(name).into_owned());
        table.columns = names.collect();
        Ok(table)
    }

    /// Takes the next record, and looks at the one behind it.
    fn next(&mut self, shown: &str) -> Result<Option<csv::ByteRecord>> {
        let record = self.ahead.take();
        if record.is_some() {
            self.read(shown)?;
        }
        Ok(record)
    }

    fn read(&mut self, shown: &str) -> Result<()> {
        let mut record = csv::ByteRecord::new();
        let more = self.reader.read_byte_record(&mut record).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => unreadable_part(shown, error),
            other => Error::new(Exit::Data, format!("{shown}: not a table of results: {other:?}")),
        })?;
        // Of compressed data that breaks off, the record at its end is not whole.
        self.ahead = Some(record).filter(|_| more && !self.reader.get_ref().broken);
        Ok(())
    }
}

/// The reason why a row of a table is no result.
const LACKS: &str = "custom_id or attempts is missing";

/// Returns true for the error of compressed data that ends too early or is damaged: what came before it can be used.
fn cut_off(error: io::Error) -> io::Result<bool> {
    match error.downcast::<Error>() {
        Ok(ours) if ours.exit == Exit::Data => Ok(true),
        Ok(ours) => Err(io::Error::other(ours)),
        Err(error) => Err(error),
    }
}

fn unreadable_part(shown: &str, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => unreadable(shown, error),
    }
}
