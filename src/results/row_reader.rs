//! The records of the input beside their results, for each row's id and own fields.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::read_blocks::ReadBlocks;
use crate::error::Result;
use crate::input::{Block, Blocks, Inputs};
use crate::request::{Field, OwnedData, Problem, Record, RequestBuilder};

/// A row of the input as results need it. Its fields are looked for only when they are written.
#[derive(Debug)]
pub struct SourceRow {
    row: u64,
    /// Its number in the whole input.
    number: u64,
    /// The record, or the id of a row that has none.
    data: Result<OwnedData, Box<str>>,
}

/// Reads forward through the input.
pub struct RowReader {
    inputs: Inputs,
    builder: Arc<RequestBuilder>,
    /// Blocks that were read for the requests.
    read: Option<Arc<ReadBlocks>>,
    /// The reader's own way through the input, once it needed a block that was not kept.
    blocks: Option<Blocks>,
    /// Rows of the last block that were not asked for yet.
    ready: VecDeque<SourceRow>,
}

impl SourceRow {
    /// The record's own fields, in order.
    pub fn fields(&self) -> Vec<(Cow<'_, str>, Field<'_>)> {
        self.record().map_or_else(|_| Vec::new(), |record| record.fields())
    }

    /// The same of a record that was sent, whose JSON was checked then.
    pub fn sent_fields(&self) -> Vec<(Cow<'_, str>, Field<'_>)> {
        self.record().map_or_else(|_| Vec::new(), |record| record.sent_fields())
    }

    /// Its number in the whole input.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Returns true for a row of a table.
    pub(super) const fn is_of_table(&self) -> bool {
        matches!(self.data, Ok(OwnedData::Columns { .. }))
    }

    fn record(&self) -> Result<Record<'_>, &str> {
        let Self { row, number, .. } = *self;
        let data = self.data.as_ref().map_err(|id| &**id)?.data();
        Ok(Record { row, number, file: "", line: 0.into(), data })
    }
}

impl From<Result<Record<'_>, Problem>> for SourceRow {
    fn from(found: Result<Record<'_>, Problem>) -> Self {
        match found {
            Ok(record) => Self { row: record.row, number: record.number, data: Ok(record.data.into()) },
            Err(problem) => Self {
                row: problem.row.unwrap_or(0),
                number: problem.number.unwrap_or(0),
                data: Err(problem.result_id().into()),
            },
        }
    }
}

impl RowReader {
    /// Starts at the first row.
    ///
    /// # Errors
    /// 66 if the input cannot be opened.
    pub fn open(inputs: &Inputs, builder: &Arc<RequestBuilder>) -> Result<Self> {
        let reader = Self::beside(inputs, builder, None);
        Ok(Self { blocks: Some(inputs.blocks()?), ..reader })
    }

    /// Starts at the first row. It takes blocks that were `read` for the requests, and reads others from the input.
    pub fn beside(inputs: &Inputs, builder: &Arc<RequestBuilder>, read: Option<Arc<ReadBlocks>>) -> Self {
        let (inputs, builder) = (inputs.clone(), Arc::clone(builder));
        Self { inputs, builder, read, blocks: None, ready: VecDeque::new() }
    }

    /// Returns the id of `row`. Rows are asked for in ascending order. `None`: the input ends before it.
    pub fn id(&mut self, row: u64) -> Result<Option<Box<str>>> {
        Ok(self.at(row)?.map(|source| self.id_of(&source)))
    }

    /// Returns the id of a row.
    pub fn id_of(&self, source: &SourceRow) -> Box<str> {
        source.record().map_or_else(Into::into, |record| self.builder.id(&record))
    }

    /// Reads on to `row`; rows are asked for in ascending order. `None`: the input ends before it.
    pub fn at(&mut self, row: u64) -> Result<Option<SourceRow>> {
        loop {
            while let Some(source) = self.ready.pop_front() {
                if source.row == row {
                    return Ok(Some(source));
                }
            }
            if let Some(block) = self.read.as_ref().and_then(|read| read.take(row)) {
                self.fill(&block, row);
            } else if !self.read_on(row)? {
                return Ok(None);
            }
        }
    }

    /// Reads the block with `row` from the input. Returns false if the input ends before it.
    fn read_on(&mut self, row: u64) -> Result<bool> {
        let mut blocks = match self.blocks.take() {
            Some(blocks) => blocks,
            None => self.inputs.blocks()?,
        };
        while let Some(block) = blocks.next()? {
            if block.first_row() + block.rows() > row {
                self.fill(&block, row);
                self.blocks = Some(blocks);
                return Ok(true);
            }
        }
        self.blocks = Some(blocks);
        Ok(false)
    }

    /// Takes the rows of a block from `first` on.
    fn fill(&mut self, block: &Block, first: u64) {
        let mut next = block.first_row();
        block.for_each(|record| {
            if next >= first {
                self.ready.push_back(SourceRow { row: next, ..record.into() });
            }
            next += 1;
        });
    }
}

impl std::fmt::Debug for RowReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowReader").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Params;

    const ROWS: u64 = 800;

    /// The rows that a reader finds, each by its id and its field `n`.
    fn found(inputs: &Inputs, builder: &Arc<RequestBuilder>, read: Option<ReadBlocks>) -> Vec<(String, String)> {
        let mut reader = RowReader::beside(inputs, builder, read.map(Arc::new));
        let rows = (1..=ROWS).map(|row| {
            let source = reader.at(row).unwrap().unwrap();
            let number =
                source.fields().into_iter().find(|(name, _)| name == "n").map(|(_, field)| format!("{field:?}"));
            (reader.id_of(&source).into(), number.unwrap_or_default())
        });
        let rows = rows.collect();
        assert!(reader.at(ROWS + 1).unwrap().is_none());
        rows
    }

    #[test]
    fn rows_are_the_same_from_kept_blocks_and_from_the_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.jsonl");
        let line = |n: u64| match n % 50 {
            7 => format!("{{\"id\":\"broken {n}\",\"n\":{n}\n"),
            _ => format!("{{\"id\":\"r{n}\",\"n\":{n},\"prompt\":\"a\"}}\n"),
        };
        std::fs::write(&path, (1..=ROWS).map(line).collect::<String>()).unwrap();
        let inputs = Inputs::resolve(&[path], None).unwrap();
        let builder = Arc::new(RequestBuilder::new(&Params::default()).unwrap());
        let expected: Vec<_> = (1..=ROWS)
            .map(|n| match n % 50 {
                7 => (format!("broken {n}"), String::new()),
                _ => (format!("r{n}"), format!("Json(\"{n}\")")),
            })
            .collect();
        assert_eq!(found(&inputs, &builder, None), expected);
        let (all, some, end) = (|_: usize| true, |at: usize| at % 3 == 1, |at: usize| at > 15);
        let cases: [(&dyn Fn(usize) -> bool, u64); 4] =
            [(&all, u64::MAX), (&all, 3000), (&some, u64::MAX), (&end, 3000)];
        for (number, (kept, room)) in cases.into_iter().enumerate() {
            let read = ReadBlocks::with_room(room);
            let mut blocks = inputs.blocks_sized(1000, 1 << 20).unwrap();
            let mut at = 0;
            while let Some(block) = blocks.next().unwrap() {
                if kept(at) {
                    read.push(&Arc::new(block));
                }
                at += 1;
            }
            assert!(at > 20, "{at} blocks");
            assert_eq!(found(&inputs, &builder, Some(read)), expected, "case {number}");
        }
    }

    #[test]
    fn blocks_are_kept_up_to_the_room_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.jsonl");
        std::fs::write(&path, "{\"prompt\":\"a\"}\n".repeat(1000)).unwrap();
        let inputs = Inputs::resolve(&[path], None).unwrap();
        let read = ReadBlocks::with_room(4000);
        let mut blocks = inputs.blocks_sized(1000, 1 << 20).unwrap();
        let mut first_rows = Vec::new();
        while let Some(block) = blocks.next().unwrap() {
            first_rows.push(block.first_row());
            read.push(&Arc::new(block));
        }
        let kept = first_rows.iter().filter(|row| read.take(**row).is_some()).count();
        assert!((3..=5).contains(&kept) && first_rows.len() > 10, "{kept} of {}", first_rows.len());
        // Records that were taken make room.
        let block = Arc::new(inputs.blocks_sized(1000, 1 << 20).unwrap().next().unwrap().unwrap());
        read.push(&block);
        assert!(read.take(1).is_some() && read.take(1).is_none());
    }
}
