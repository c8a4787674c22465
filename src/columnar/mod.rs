//! Parquet files: their rows as JSON objects, and flat JSON objects as their rows.
//!
//! The rest of llbatch knows rows as JSON text, and so this is the only room that knows how Parquet stores them. It uses the
//! column readers of the crate `parquet` without Arrow: rows become text, so tables of typed arrays would only be in between.

mod column_type;
mod fault;
mod leaf;
mod ranged;
mod reader;
mod scalar;
mod schema;
mod spelled;
mod writer;

#[cfg(test)]
mod tests;

pub use column_type::{ColumnType, FieldType, TableSchema};
pub use ranged::{LocalFile, RangedRead};
pub use reader::ParquetRows;
pub use writer::{ParquetWriter, WriteFault};
