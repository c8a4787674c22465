//! Cuts the inputs into blocks of whole records, numbered over all inputs.

use std::fmt;
use std::sync::Arc;
use std::vec;

use super::block_place::BlockPlace;
use super::header::{self, Delimiter, HeaderPart, TableHeader, TableStart};
use super::nature;
use super::parquet::{FileTypes, NextRows, ParquetFile};
use super::pick::ChosenRows;
use super::source::Source;
use super::{Format, Input, InputPlace, Inputs, Problem, Record, TextEncoding};
use super::{csv, jsonl};
use crate::error::Result;

/// A block's usual size: large enough that handing it to a thread costs nothing, small enough for the cache.
const BLOCK: usize = 256 * 1024;

/// The longest record: a little more than a whole batch may hold. A longer one is a mistake, such as an open quote or a
/// packed file that unpacks to gigabytes without a line end. A record up to this length is held in memory.
const LONGEST: usize = 104 * 1024 * 1024;

/// Reads the inputs block by block, in order.
pub struct Blocks {
    files: vec::IntoIter<Input>,
    current: Option<Opened>,
    chosen: ChosenRows,
    /// Records read so far, over all inputs.
    read: u64,
    /// Those of them that were chosen, in all shards.
    picked: u64,
    block: usize,
    longest: usize,
}

/// The file that is being read.
enum Opened {
    Text(Box<Current>),
    Parquet(Box<ParquetFile>),
}

/// A file of text.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact about the part that was read")]
struct Current {
    source: Source,
    file: Arc<str>,
    encoding: Option<TextEncoding>,
    /// The encoding that the file's own mark names.
    found: Option<TextEncoding>,
    cutter: Cutter,
    /// Bytes that were read but not handed out yet: the beginning of a record.
    rest: Vec<u8>,
    /// Physical lines handed out so far.
    lines: u64,
    started: bool,
    /// The file begins with a byte order mark.
    marked: bool,
    /// The file has content that is not blank so far.
    begun: bool,
    at_end: bool,
}

/// The rule by which records end in this file.
enum Cutter {
    Lines(Format),
    Csv {
        delimiter: Delimiter,
        /// The delimiter was recognised: it is not the one of the format.
        odd: bool,
        header: Option<Arc<TableHeader>>,
    },
}

impl Cutter {
    fn of(input: &Input) -> Self {
        let usual = match input.format {
            Format::Csv => b',',
            Format::Tsv => b'\t',
            other => return Self::Lines(other),
        };
        let delimiter = Delimiter { byte: input.delimiter.unwrap_or(usual), fixed: input.delimiter.is_some() };
        Self::Csv { delimiter, odd: false, header: None }
    }
}

/// Whole records, not parsed yet.
pub struct Block {
    file: Arc<str>,
    bytes: Vec<u8>,
    first_row: u64,
    /// The number of its first record in the whole input.
    first_number: u64,
    /// Records before it that were chosen, in all shards.
    picked_before: u64,
    first_line: u64,
    records: u64,
    rows: u64,
    /// The records that are rows; the others are passed over.
    chosen: ChosenRows,
    encoding: Option<TextEncoding>,
    found: Option<TextEncoding>,
    marked: bool,
    kind: BlockKind,
}

enum BlockKind {
    Lines(Format),
    Csv {
        delimiter: u8,
        odd: bool,
        header: Arc<TableHeader>,
    },
    /// Rows of a Parquet file as lines of JSON, and its columns.
    Parquet(FileTypes),
    /// A record that could not be read whole: a row that is a problem.
    Lost(Problem),
}

/// The extent of the whole records in a buffer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct WholeRecords {
    /// Bytes of whole records.
    pub bytes: usize,
    /// Rows among them.
    pub rows: u64,
    /// Physical lines among them.
    pub lines: u64,
}

impl Blocks {
    pub(super) fn open(inputs: &Inputs) -> Result<Self> {
        Self::with_sizes(inputs, BLOCK, LONGEST)
    }

    pub(super) fn with_sizes(inputs: &Inputs, block: usize, longest: usize) -> Result<Self> {
        let (files, chosen) = (inputs.files.clone().into_iter(), inputs.chosen);
        let mut blocks = Self { files, current: None, chosen, read: 0, picked: 0, block, longest };
        blocks.advance()?;
        Ok(blocks)
    }

    fn advance(&mut self) -> Result<()> {
        self.current = self.files.next().map(|input| Opened::open(&input)).transpose()?;
        Ok(())
    }

    /// The next block, or `None` behind the last.
    ///
    /// # Errors
    /// 65 for damaged compression, a JSON array in place of lines, or an impossible CSV header; 66 if a file cannot be read.
    pub fn next(&mut self) -> Result<Option<Block>> {
        while let Some(current) = self.current.as_mut().filter(|_| !self.chosen.ends_at(self.read)) {
            let Some(mut block) = current.next(self.block, self.longest)? else {
                self.advance()?;
                continue;
            };
            block.first_number = self.read + 1;
            block.picked_before = self.picked;
            block.chosen = self.chosen;
            let rows_before = self.chosen.rows_up_to(self.picked);
            block.first_row = rows_before + 1;
            self.picked += self.chosen.count(self.read, block.records);
            self.read += block.records;
            block.rows = self.chosen.rows_up_to(self.picked) - rows_before;
            // Blank lines are no rows, but their bytes count.
            if block.rows > 0 || self.chosen.is_all() {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }
}

impl Opened {
    fn open(input: &Input) -> Result<Self> {
        if input.format == Format::Parquet {
            return Ok(Self::Parquet(Box::new(ParquetFile::of(input.ranged()?, &input.shown)?)));
        }
        Ok(Self::Text(Box::new(Current {
            source: Source::of(input.open()?, &input.shown)?.decoded(input.encoding),
            file: input.shown.as_str().into(),
            encoding: input.encoding,
            found: None,
            cutter: Cutter::of(input),
            rest: Vec::new(),
            lines: 0,
            started: false,
            marked: false,
            begun: false,
            at_end: false,
        })))
    }

    fn next(&mut self, block: usize, longest: usize) -> Result<Option<Block>> {
        let file = match self {
            Self::Text(text) => return text.next(block, longest),
            Self::Parquet(file) => file,
        };
        let first_row = file.read + 1;
        let (bytes, rows, kind) = match file.next(block, longest)? {
            NextRows::End => return Ok(None),
            NextRows::Lines(bytes, rows) => (bytes, rows, BlockKind::Parquet(Arc::clone(&file.types))),
            NextRows::TooLong => {
                let text = format!("the row is longer than {} MiB", longest >> 20);
                let problem = Problem::at(None, &file.file, InputPlace::Row(first_row), "too_long", text)
                    .hint("shorten its texts, or leave out a column");
                (Vec::new(), 1, BlockKind::Lost(problem))
            }
        };
        Ok(Some(Block::of(Arc::clone(&file.file), bytes, first_row, rows, kind)))
    }
}

impl Current {
    fn next(&mut self, block: usize, longest: usize) -> Result<Option<Block>> {
        let mut buffer = std::mem::take(&mut self.rest);
        // At least a byte order mark of UTF-8, and the bytes behind it that show what the file is.
        let mut want = block.saturating_sub(buffer.len()).max(block / 2).max(9);
        loop {
            // A little beyond the longest record, where its end may be. More would waste memory.
            let room = (longest + block).saturating_sub(buffer.len());
            want = want.min(room.max(9));
            if buffer.len() >= longest / 16 {
                // At once: each step of growing holds the record twice.
                buffer.reserve_exact(room);
            }
            if !self.at_end {
                self.at_end = self.source.fill(&mut buffer, want)? < want;
            }
            if !self.started {
                self.start(&mut buffer, want)?;
            }
            if !self.begun {
                self.begin(&buffer)?;
            }
            if buffer.is_empty() && self.at_end {
                return Ok(None);
            }
            if let Cutter::Csv { delimiter, odd, header: header @ None } = &mut self.cutter {
                let Self { file, lines: before, at_end, encoding, .. } = self;
                let start = TableStart { file, buffer: &buffer, before: *before, at_end: *at_end, encoding: *encoding };
                match start.header(*delimiter)? {
                    HeaderPart::Partial if buffer.len() > longest => return Err(header::no_header(file)),
                    HeaderPart::Partial => {
                        want = buffer.len().max(block);
                        continue;
                    }
                    HeaderPart::Other { delimiter: other, bytes, lines } => {
                        *odd |= delimiter.byte != other;
                        *delimiter = Delimiter { byte: other, fixed: true };
                        buffer.drain(..bytes);
                        self.lines += lines;
                        continue;
                    }
                    HeaderPart::Empty => return Ok(None),
                    HeaderPart::Read { header: read, bytes, lines } => {
                        *header = Some(read);
                        buffer.drain(..bytes);
                        self.lines += lines;
                    }
                }
            }
            let cut = match &self.cutter {
                Cutter::Lines(_) => jsonl::cut(&buffer, self.at_end),
                Cutter::Csv { delimiter, .. } => csv::cut(&buffer, delimiter.byte, self.at_end),
            };
            if cut.bytes > 0 {
                self.rest = Vec::with_capacity(block);
                self.rest.extend_from_slice(&buffer[cut.bytes..]);
                buffer.truncate(cut.bytes);
                return Ok(Some(self.block(buffer, cut)));
            }
            if buffer.len() > longest {
                return self.lose(&buffer, longest).map(Some);
            }
            // A record longer than the buffer: read as much again.
            want = buffer.len().max(block);
        }
    }

    fn block(&mut self, bytes: Vec<u8>, cut: WholeRecords) -> Block {
        let first_line = self.lines + 1;
        self.lines += cut.lines;
        let kind = match &self.cutter {
            Cutter::Csv { delimiter, odd, header: Some(header) } => {
                BlockKind::Csv { delimiter: delimiter.byte, odd: *odd, header: Arc::clone(header) }
            }
            Cutter::Csv { .. } => BlockKind::Lines(Format::Lines),
            Cutter::Lines(format) => BlockKind::Lines(*format),
        };
        self.made(bytes, first_line, cut.rows, kind)
    }

    /// A block of `records` records that has no place among the rows yet.
    fn made(&self, bytes: Vec<u8>, first_line: u64, records: u64, kind: BlockKind) -> Block {
        let block = Block::of(Arc::clone(&self.file), bytes, first_line, records, kind);
        Block { encoding: self.encoding, found: self.found, marked: self.marked, ..block }
    }

    /// Turns a record that is too long into a problem. Reading goes on behind it, if its end can be found.
    fn lose(&mut self, buffer: &[u8], longest: usize) -> Result<Block> {
        let line = self.lines + 1;
        let problem = match &self.cutter {
            Cutter::Csv { delimiter, .. } => {
                self.at_end = true;
                csv::unclosed(&self.file, line, buffer, delimiter.byte)
            }
            Cutter::Lines(_) => {
                let text = format!("the line is longer than {} MiB", longest >> 20);
                let mut piece = Vec::new();
                loop {
                    piece.clear();
                    let got = self.source.fill(&mut piece, BLOCK)?;
                    if let Some(end) = memchr::memchr(b'\n', &piece) {
                        self.rest = piece.split_off(end + 1);
                        break;
                    }
                    if got < BLOCK {
                        self.at_end = true;
                        break;
                    }
                }
                Problem::at(None, &self.file, line, "too_long", text).hint("put one record on each line")
            }
        };
        self.lines += 1;
        Ok(self.made(Vec::new(), line, 1, BlockKind::Lost(problem)))
    }

    /// Takes a byte order mark off the start of a file, of which `buffer` holds the first `want` bytes. A mark of UTF-16
    /// has the file decoded.
    fn start(&mut self, buffer: &mut Vec<u8>, want: usize) -> Result<()> {
        self.started = true;
        if let Some(encoding) = TextEncoding::of_mark(buffer).filter(|_| !self.source.is_decoded()) {
            self.source.decode(encoding, buffer, self.at_end);
            self.at_end = self.source.fill(buffer, want)? < want;
            (self.encoding, self.found) = (Some(encoding), Some(encoding));
        }
        if buffer.starts_with(b"\xef\xbb\xbf") {
            self.marked = true;
            buffer.drain(..3);
        }
        nature::refuse(&self.file, buffer)
    }

    /// Refuses a JSON array or a table in the place of JSONL, however many blank lines precede it.
    fn begin(&mut self, buffer: &[u8]) -> Result<()> {
        let Some(first) = buffer.iter().position(|byte| !byte.is_ascii_whitespace()) else { return Ok(()) };
        self.begun = true;
        if matches!(self.cutter, Cutter::Lines(Format::Jsonl)) {
            let line = self.lines + csv::newlines(&buffer[..first]) + 1;
            nature::refuse_as_jsonl(&self.file, line, &buffer[first..])?;
        }
        Ok(())
    }
}

impl Block {
    /// A block of so many records that has no place among the rows yet. The first begins at `first_line`.
    fn of(file: Arc<str>, bytes: Vec<u8>, first_line: u64, records: u64, kind: BlockKind) -> Self {
        Self {
            file,
            bytes,
            first_row: 0,
            first_number: 0,
            picked_before: 0,
            first_line,
            records,
            rows: records,
            chosen: ChosenRows::default(),
            encoding: None,
            found: None,
            marked: false,
            kind,
        }
    }

    /// Every chosen row of the block, in order.
    pub fn for_each(&self, mut f: impl FnMut(Result<Record<'_>, Problem>)) {
        let (mut number, mut picked) = (self.first_number, self.picked_before);
        self.walk(&mut |record| {
            if self.chosen.has(number) {
                picked += 1;
                if let Some(row) = self.chosen.place(picked) {
                    f(match record {
                        Ok(record) => Ok(Record { row, number, ..record }),
                        Err(problem) => Err(Problem { row: Some(row), number: Some(number), ..problem }),
                    });
                }
            }
            number += 1;
        });
    }

    fn walk(&self, f: &mut impl FnMut(Result<Record<'_>, Problem>)) {
        let Self { ref file, first_number, first_line, encoding, .. } = *self;
        let place = BlockPlace { file, first_number, first_line, encoding };
        match &self.kind {
            BlockKind::Lines(format) => jsonl::walk(&self.bytes, *format, &place, f),
            BlockKind::Parquet(_) => jsonl::walk(&self.bytes, Format::Parquet, &place, f),
            BlockKind::Csv { delimiter, header, .. } => csv::walk(&self.bytes, *delimiter, &header.names, &place, f),
            BlockKind::Lost(problem) => f(Err(problem.clone())),
        }
    }

    /// The byte between the fields of a table, unless it is a comma or its ending names it.
    pub fn odd_delimiter(&self) -> Option<char> {
        match &self.kind {
            BlockKind::Csv { delimiter, odd: true, .. } => Some(char::from(*delimiter)),
            _ => None,
        }
    }

    /// The header of a table.
    pub fn header(&self) -> Option<&TableHeader> {
        match &self.kind {
            BlockKind::Csv { header, .. } => Some(header),
            _ => None,
        }
    }

    /// The columns of a Parquet file.
    pub(super) fn types(&self) -> Option<&FileTypes> {
        match &self.kind {
            BlockKind::Parquet(types) => Some(types),
            _ => None,
        }
    }

    /// The file of the block, as messages name it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns true if the block's file begins with a byte order mark.
    pub const fn is_marked(&self) -> bool {
        self.marked
    }

    /// The encoding that a mark at the start of the file names, in place of a flag.
    pub const fn found_encoding(&self) -> Option<TextEncoding> {
        self.found
    }

    /// The block's first row, 1-based over all inputs, of the chosen rows.
    pub const fn first_row(&self) -> u64 {
        self.first_row
    }

    /// The number of rows in it.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// The size of its rows, unpacked; about, if some of its records are not chosen.
    pub const fn bytes(&self) -> u64 {
        let bytes = self.bytes.len() as u64;
        if self.rows == self.records { bytes } else { bytes * self.rows / self.records }
    }

    /// The memory that it takes, about.
    pub const fn memory(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}:{}, {} rows from {})", self.file, self.first_line, self.rows, self.first_row)
    }
}
