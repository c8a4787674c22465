//! The columns of a flat table of results, known before its first row is written.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Exit, Result};
use crate::input::{Inputs, TableHeader};
use crate::request::{Field, Params, RequestBuilder};

/// Most columns of a flat table; input with more is not a table.
const COLUMNS: usize = 10_000;

/// Collects all field names of all records, first seen first.
///
/// # Errors
/// 65 for more than 10,000 names.
fn columns(inputs: &Inputs) -> Result<RecordColumns> {
    let mut seen = HashSet::new();
    let mut columns = Vec::new();
    let mut given: HashMap<String, String> = HashMap::new();
    let mut marked = false;
    let mut blocks = inputs.blocks()?;
    while let Some(block) = blocks.next()? {
        marked |= block.is_marked();
        for (name, in_header) in block.header().into_iter().flat_map(TableHeader::renamed) {
            given.entry(name.to_owned()).or_insert_with(|| in_header.to_owned());
        }
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
    Ok(RecordColumns { names: columns, given, marked, ..RecordColumns::default() })
}

/// The fields of all records, as a table of results needs them.
#[derive(Debug, Default)]
pub struct RecordColumns {
    /// Their names, first seen first.
    pub names: Vec<String>,
    /// The names in the header of the input, where they are others: none, or that of another column.
    pub given: HashMap<String, String>,
    /// An input begins with a byte order mark, so that a table of results does too.
    pub marked: bool,
    /// The field that holds the id.
    pub id_field: Option<String>,
    /// Each record's `model` is the model of its request.
    pub model_is_own: bool,
}

impl RecordColumns {
    /// Reads all records.
    ///
    /// # Errors
    /// 65 for more than 10,000 names.
    pub fn of(inputs: &Inputs, params: &Params) -> Result<Self> {
        let found = columns(inputs)?;
        let has = |name: &str| found.names.iter().any(|column| column == name);
        let id_field =
            params.id.clone().or_else(|| ["custom_id", "id"].into_iter().find(|name| has(name)).map(str::to_owned));
        let model_is_own = has("model") && model_is_own(inputs, &RequestBuilder::new(params)?)?;
        Ok(Self { id_field, model_is_own, ..found })
    }
}

/// Tests whether each record's `model` is the model of its request. With a template it may be data.
fn model_is_own(inputs: &Inputs, builder: &RequestBuilder) -> Result<bool> {
    let mut own = true;
    let mut blocks = inputs.blocks()?;
    while let Some(block) = blocks.next()? {
        block.for_each(|record| {
            let Ok(record) = record else { return };
            if !own {
                return;
            }
            let fields = record.fields();
            let Some((_, field)) = fields.iter().rev().find(|(name, _)| name == "model") else { return };
            own = match (field, builder.draft(&record)) {
                (Field::Text(text), Ok(draft)) => text.is_empty() || draft.model == *text,
                (Field::Json(json), Ok(_)) => json.get() == "null",
                (_, Err(_)) => true,
            };
        });
        if !own {
            break;
        }
    }
    Ok(own)
}
