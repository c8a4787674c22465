//! The columns of a flat table of results, known before its first row is written.

use std::collections::HashMap;

use crate::columnar::ColumnType;
use crate::error::{Error, Exit, Result};
use crate::input::{FieldNames, Inputs};
use crate::request::{Endpoint, Params, RequestBuilder};

/// The fields of all records, as a table of results needs them.
#[derive(Debug, Default)]
pub struct RecordColumns {
    /// Their names, first seen first.
    pub names: Vec<String>,
    /// The type that a column of each has in a file with types. Missing ones are texts.
    pub types: Vec<ColumnType>,
    /// Every answer is one vector.
    pub vectors: bool,
    /// Header cells that are not the column's name: empty ones, and repeated ones.
    pub given: HashMap<String, String>,
    /// An input begins with a byte order mark, so that a table of results does too.
    pub marked: bool,
    /// The field that holds the id.
    pub id_field: Option<String>,
    /// Each record's `model` is the model of its request.
    pub model_is_own: bool,
    /// The JSON schema that answers follow.
    pub schema: Option<String>,
}

impl RecordColumns {
    /// Takes the fields that a check of all records has found.
    ///
    /// # Errors
    /// 65 for more than 10,000 names.
    pub fn new(mut found: FieldNames, params: &Params) -> Result<Self> {
        if found.are_too_many() {
            let most = FieldNames::MOST;
            return Err(Error::new(
                Exit::Data,
                format!("the records have more than {most} different fields, too many for a table"),
            )
            .hint("write JSONL results without --flat"));
        }
        let given = found.take_given();
        let (names, types) = (found.names().to_vec(), found.types());
        // A prompt makes one text of each record, whatever its fields are.
        let several = found.has_several_inputs() && params.prompt.is_none();
        let vectors = params.endpoint == Endpoint::Embeddings && !several;
        let has = |name: &str| names.iter().any(|column| column == name);
        let id_field =
            params.id.clone().or_else(|| ["custom_id", "id"].into_iter().find(|name| has(name)).map(str::to_owned));
        let model_is_own = has("model") && found.model_is_own();
        let schema = params.json_schema.clone();
        Ok(Self { given, marked: found.is_marked(), id_field, model_is_own, names, types, vectors, schema })
    }

    /// Reads all records, also those of other shards: the parts of one table have the same columns.
    ///
    /// # Errors
    /// 65 for more than 10,000 names.
    pub fn of(inputs: &Inputs, params: &Params) -> Result<Self> {
        let mut found = FieldNames::default();
        let inputs = &inputs.of_all_shards();
        let mut blocks = inputs.blocks()?;
        while let Some(block) = blocks.next()?.filter(|_| !found.are_too_many()) {
            found.add_block(&block);
            block.for_each(|record| {
                if let Ok(record) = record {
                    found.add(&record, None);
                }
            });
        }
        if found.names().iter().any(|name| name == "model") {
            compare_models(&mut found, inputs, &RequestBuilder::new(params)?)?;
        }
        Self::new(found, params)
    }
}

/// Compares each record's `model` with the model of its request.
fn compare_models(found: &mut FieldNames, inputs: &Inputs, builder: &RequestBuilder) -> Result<()> {
    let mut blocks = inputs.blocks()?;
    while let Some(block) = blocks.next()?.filter(|_| found.model_is_own()) {
        block.for_each(|record| {
            let Ok(record) = record else { return };
            // Building a request takes longer than to see that nothing is left to find.
            if found.model_is_own()
                && let Ok(draft) = builder.draft(&record)
            {
                found.compare_model(&record, &draft);
            }
        });
    }
    Ok(())
}
