//! The input read a second time beside the results, for each row's id and own fields.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::error::Result;
use crate::input::{Block, Blocks, Inputs};
use crate::request::{Field, RequestBuilder};

/// A row of the input as results need it.
#[derive(Debug)]
pub struct SourceRow {
    row: u64,
    /// The row's id.
    pub id: Box<str>,
    /// The record's own fields by name; empty unless they are wanted.
    fields: Vec<(String, OwnedField)>,
}

/// An owned [`Field`].
#[derive(Debug)]
enum OwnedField {
    Text(String),
    Json(Box<RawValue>),
}

/// Reads forward through the input.
pub struct RowReader {
    blocks: Blocks,
    /// Rows of the last block that were not asked for yet.
    ready: VecDeque<SourceRow>,
    builder: Arc<RequestBuilder>,
    with_fields: bool,
}

impl SourceRow {
    /// The record's own fields, in order.
    pub fn fields(&self) -> Vec<(Cow<'_, str>, Field<'_>)> {
        self.fields.iter().map(|(name, field)| (Cow::Borrowed(name.as_str()), field.borrow())).collect()
    }
}

impl RowReader {
    /// Starts at the first row. `with_fields`: records are wanted, not only ids.
    ///
    /// # Errors
    /// 66 if the input cannot be opened.
    pub fn open(inputs: &Inputs, builder: &Arc<RequestBuilder>, with_fields: bool) -> Result<Self> {
        Ok(Self { blocks: inputs.blocks()?, ready: VecDeque::new(), builder: Arc::clone(builder), with_fields })
    }

    /// Reads on to `row`; rows are asked for in ascending order. `None`: the input ends before it.
    pub fn at(&mut self, row: u64) -> Result<Option<SourceRow>> {
        loop {
            while let Some(source) = self.ready.pop_front() {
                if source.row == row {
                    return Ok(Some(source));
                }
            }
            let Some(block) = self.blocks.next()? else { return Ok(None) };
            if block.first_row() + block.rows() > row {
                self.fill(&block, row);
            }
        }
    }

    /// Takes the rows of a block from `first` on.
    fn fill(&mut self, block: &Block, first: u64) {
        let mut next = block.first_row();
        block.for_each(|record| {
            let row = next;
            next += 1;
            if row < first {
                return;
            }
            self.ready.push_back(match record {
                Ok(record) => {
                    let fields = if self.with_fields { record.fields() } else { Vec::new() };
                    let fields = fields.into_iter().map(|(name, field)| (name.into_owned(), field.into())).collect();
                    SourceRow { row, id: self.builder.id(&record), fields }
                }
                Err(problem) => SourceRow { row, id: problem.result_id().into(), fields: Vec::new() },
            });
        });
    }
}

impl std::fmt::Debug for RowReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowReader").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

impl OwnedField {
    fn borrow(&self) -> Field<'_> {
        match self {
            Self::Text(text) => Field::Text(Cow::Borrowed(text)),
            Self::Json(json) => Field::Json(json),
        }
    }
}

impl From<Field<'_>> for OwnedField {
    fn from(field: Field<'_>) -> Self {
        match field {
            Field::Text(text) => Self::Text(text.into_owned()),
            Field::Json(json) => Self::Json(json.to_owned()),
        }
    }
}
