//! The input read a second time beside the results: each row's own fields and id, in order, for whoever writes them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Result;
use crate::input::{Blocks, Inputs};
use crate::request::{RequestBuilder, generated_id};

/// What a row of results takes from its record.
#[derive(Debug)]
pub struct Source {
    /// 1-based over all inputs.
    pub row: u64,
    /// The row's id.
    pub id: Box<str>,
    /// The record as one line of JSON, or as columns.
    pub fields: Fields,
}

/// A record's own fields, owned.
#[derive(Debug)]
pub enum Fields {
    /// Nobody wants them.
    None,
    /// Name and value; the value is JSON or text.
    Some(Vec<(String, Value)>),
}

/// An owned [`crate::request::Field`].
#[derive(Debug)]
pub enum Value {
    /// A text.
    Text(String),
    /// JSON as it was spelled.
    Json(Box<serde_json::value::RawValue>),
}

/// Reads forward through the input.
pub struct Cursor {
    blocks: Blocks,
    ready: VecDeque<Source>,
    shape: Arc<RequestBuilder>,
    with_fields: bool,
}

impl Cursor {
    /// From the first row on. `with_fields`: records are wanted, not only ids.
    ///
    /// # Errors
    /// 66 if the input cannot be opened.
    pub fn open(inputs: &Inputs, shape: &Arc<RequestBuilder>, with_fields: bool) -> Result<Self> {
        Ok(Self { blocks: inputs.blocks()?, ready: VecDeque::new(), shape: Arc::clone(shape), with_fields })
    }

    /// The source of `row`; rows are asked for in ascending order. `None`: the input ends before it.
    ///
    /// # Errors
    /// 66 or 74 if the input cannot be read any more.
    pub fn at(&mut self, row: u64) -> Result<Option<Source>> {
        loop {
            while let Some(source) = self.ready.pop_front() {
                if source.row == row {
                    return Ok(Some(source));
                }
            }
            let Some(block) = self.blocks.next()? else { return Ok(None) };
            if block.first_row() + block.rows() <= row {
                continue;
            }
            let mut at = block.first_row();
            let (ready, shape, with_fields) = (&mut self.ready, &self.shape, self.with_fields);
            block.for_each(|record| {
                let this = at;
                at += 1;
                if this < row {
                    return;
                }
                ready.push_back(match record {
                    Ok(record) => Source {
                        row: this,
                        id: shape.id(&record),
                        fields: if with_fields {
                            Fields::Some(record.fields().into_iter().map(|(n, v)| (n.into_owned(), v.into())).collect())
                        } else {
                            Fields::None
                        },
                    },
                    Err(_) => Source { row: this, id: generated_id(this).into(), fields: Fields::Some(Vec::new()) },
                });
            });
        }
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

impl From<crate::request::Field<'_>> for Value {
    fn from(field: crate::request::Field<'_>) -> Self {
        match field {
            crate::request::Field::Text(text) => Self::Text(text.into_owned()),
            crate::request::Field::Json(json) => Self::Json(json.to_owned()),
        }
    }
}
