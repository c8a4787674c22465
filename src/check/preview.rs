//! The requests of the first rows, made without a look at the others.

use crate::error::Result;
use crate::input::Inputs;
use crate::request::{InputPlace, Problem, RequestBuilder};

/// The first rows of an input.
#[derive(Debug, Default)]
pub struct Previews {
    /// The rows that were read.
    pub rows: u64,
    /// The requests of the valid ones.
    pub requests: Vec<PreviewedRequest>,
    /// The problems of the others.
    pub problems: Vec<Problem>,
}

/// A request, and the place of its row.
#[derive(Debug)]
pub struct PreviewedRequest {
    /// The id of the row.
    pub id: String,
    /// The input that holds the row.
    pub file: String,
    /// The place where the row begins.
    pub line: InputPlace,
    /// The body that would be posted.
    pub body: String,
}

impl Previews {
    /// Reads the first `limit` rows.
    ///
    /// # Errors
    /// 66 if the input cannot be read; problems of rows are no error.
    pub fn of(inputs: &Inputs, builder: &RequestBuilder, limit: u64) -> Result<Self> {
        let mut found = Self::default();
        let mut blocks = inputs.blocks()?;
        while found.rows < limit
            && let Some(block) = blocks.next()?
        {
            block.for_each(|record| {
                if found.rows == limit {
                    return;
                }
                found.rows += 1;
                let record = match record {
                    Ok(record) => record,
                    Err(problem) => return found.problems.push(problem),
                };
                match builder.draft(&record) {
                    Ok(draft) => found.requests.push(PreviewedRequest {
                        id: draft.id.into_owned(),
                        file: record.file.to_owned(),
                        line: record.line,
                        body: draft.body.into_owned(),
                    }),
                    Err(problem) => found.problems.push(problem),
                }
            });
        }
        Ok(found)
    }
}
