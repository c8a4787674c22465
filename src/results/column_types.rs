//! The types of the columns of a Parquet file of results.

use super::columns::RecordColumns;
use super::own_columns::{OwnColumn, OwnColumns};
use crate::columnar::{ColumnType, FieldType, TableSchema};
use crate::error::{Error, Exit, Result};

/// The columns of results beside records with the fields of `table`.
///
/// # Errors
/// 65 for names that such a file cannot have.
pub(super) fn schema(table: &RecordColumns, own: &OwnColumns) -> Result<TableSchema> {
    let record = table.names.iter().enumerate().map(|(at, name)| {
        // The record's id and model serve for llbatch's columns, which are texts.
        let serves = own.fills(name);
        let ty = table.types.get(at).filter(|_| !serves).cloned().unwrap_or(ColumnType::Text);
        (name.clone(), ty)
    });
    let ours = own.columns().map(|(name, column)| (name.to_owned(), of_own(column, table.vectors)));
    let columns: Vec<(String, ColumnType)> = record.chain(ours).collect();
    made(&columns)
}

/// The columns of a file of results whose rows are copied.
///
/// # Errors
/// 65 for types that llbatch cannot write.
pub(super) fn copied(columns: &[(String, FieldType)]) -> Result<TableSchema> {
    made(&columns.iter().map(|(name, ty)| (name.clone(), ColumnType::Same(ty.clone()))).collect::<Vec<_>>())
}

fn made(columns: &[(String, ColumnType)]) -> Result<TableSchema> {
    TableSchema::new(columns).map_err(|why| {
        Error::new(Exit::Data, format!("the columns of these results cannot be those of a Parquet file: {why}"))
            .hint("write JSONL with --flat, or CSV")
    })
}

const fn of_own(column: &OwnColumn, vectors: bool) -> ColumnType {
    match column {
        OwnColumn::Content if vectors => ColumnType::Vector,
        OwnColumn::Id
        | OwnColumn::Model
        | OwnColumn::Content
        | OwnColumn::Property(_)
        | OwnColumn::FinishReason
        | OwnColumn::Error => ColumnType::Text,
        OwnColumn::PromptTokens
        | OwnColumn::CompletionTokens
        | OwnColumn::LatencyMs
        | OwnColumn::FirstTokenMs
        | OwnColumn::CachedTokens
        | OwnColumn::ReasoningTokens => ColumnType::Int64,
        OwnColumn::CostUsd => ColumnType::Usd,
        OwnColumn::Attempts => ColumnType::Int32,
        OwnColumn::TokensPerS => ColumnType::Double,
        OwnColumn::Reused => ColumnType::Bool,
    }
}
