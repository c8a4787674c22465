//! The columns of a flat table of results, known before its first row is written.

use std::collections::HashSet;

use crate::error::{Error, Exit, Result};
use crate::input::Inputs;
use crate::request::Params;

/// Most columns of a flat table; input with more is not a table.
const COLUMNS: usize = 10_000;

/// Collects all field names of all records, first seen first.
///
/// # Errors
/// 65 for more than 10,000 names.
pub fn columns(inputs: &Inputs) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut columns = Vec::new();
    let mut blocks = inputs.blocks()?;
    while let Some(block) = blocks.next()? {
        block.for_each(|record| {
            let Ok(record) = record else { return };
            for (name, _) in record.fields() {
                if columns.len() <= COLUMNS && !seen.contains(&*name) {
                    seen.insert(name.clone().into_owned());
                    columns.push(name.into_owned());
                }
            }
        });
        if columns.len() > COLUMNS {
            return Err(Error::new(
                Exit::Data,
                format!("the records have more than {COLUMNS} different fields, too many for a table"),
            )
            .hint("write JSONL results without --flat"));
        }
    }
    Ok(columns)
}

/// Finds the field that holds the id, among these columns.
pub fn id_field<'a>(params: &'a Params, columns: &[String]) -> Option<&'a str> {
    params.id.as_deref().or_else(|| ["custom_id", "id"].into_iter().find(|name| columns.iter().any(|c| c == name)))
}
