//! Rows of a Parquet file as JSON objects.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::schema::types::TypePtr;

use super::column_type::FieldType;
use super::fault::{damaged, decode, refused};
use super::leaf::Leaf;
use super::ranged::RangedRead;
use super::scalar::NoJson;
use super::schema::{ColumnNode, Levels, NodeKind, NodeMaker};
use crate::error::Result;
use crate::json;

/// The beginning and the end of every Parquet file.
const MAGIC: &[u8] = b"PAR1";
/// The same of a file whose footer is encrypted.
const ENCRYPTED: &[u8] = b"PARE";
/// Bytes of the end of a file that are read at once: most footers fit.
const TAIL: u64 = 64 << 10;
/// Bytes behind the footer: its length, and the magic.
const FOOTER_END: u64 = 8;

/// Bytes of values that are read at a time, over all columns, about.
const BATCH: u64 = 1 << 20;
/// Most rows that are read at a time.
const MOST_ROWS: u64 = 4096;
/// Bytes that a value and its levels take in memory, about, however well it is packed.
const VALUE: u64 = 8;

/// The rows of a Parquet file, in order.
///
/// Each column of a row group is read page by page and decoded a few rows at a time. Memory is about a page of each column,
/// whatever the size of the row group.
pub struct ParquetRows {
    source: Arc<dyn RangedRead>,
    shown: String,
    meta: ParquetMetaData,
    columns: Vec<ColumnNode>,
    /// The columns' names as JSON.
    names: Vec<String>,
    /// The row group that comes next.
    group: usize,
    leaves: Vec<Leaf>,
    /// Rows of the current group that were not read yet.
    left: u64,
    /// Rows read so far.
    read: u64,
}

/// The reason why a row has no JSON.
enum Broken {
    Damaged(ParquetError),
    /// Bytes that are no text, in this column.
    Binary(usize),
}

impl From<ParquetError> for Broken {
    fn from(error: ParquetError) -> Self {
        Self::Damaged(error)
    }
}

impl ParquetRows {
    /// Reads the end of a file, which messages name as `shown`.
    ///
    /// # Errors
    /// 65 for something else than a Parquet file, and for one that is damaged, encrypted or packed in a way that is not
    /// read; those of `source`.
    pub fn open(source: Arc<dyn RangedRead>, shown: &str) -> Result<Self> {
        let footer = footer(source.as_ref(), shown)?;
        let broken = |error| damaged(shown, ": its footer cannot be read", error);
        let meta = decode(|| ParquetMetaDataReader::decode_metadata(&footer)).map_err(broken)?;
        let mut maker = NodeMaker::default();
        let fields = meta.file_metadata().schema_descr().root_schema().get_fields();
        let column = |ty: &TypePtr| {
            maker
                .column(ty)
                .map_err(|why| refused(shown, &format!("the column `{}` cannot be read: {why}", ty.name()), LEAVE_OUT))
        };
        let columns = fields.iter().map(column).collect::<Result<_>>()?;
        let names = fields.iter().map(|field| json::quote(field.name())).collect();
        for group in meta.row_groups() {
            known_codecs(group, shown)?;
        }
        let shown = shown.to_owned();
        Ok(Self { source, shown, meta, columns, names, group: 0, leaves: Vec::new(), left: 0, read: 0 })
    }

    /// Appends the next row to `out` as a JSON object on one line, with a line end. Returns false behind the last row.
    ///
    /// # Errors
    /// 65 for damage, or for a value that is no text; those of the source.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        while self.left == 0 {
            self.end_group().map_err(|error| self.damaged(error))?;
            if self.group == self.meta.num_row_groups() {
                return Ok(false);
            }
            self.open_group().map_err(|error| self.damaged(error))?;
        }
        self.row(out).map_err(|broken| match broken {
            Broken::Damaged(error) => self.damaged(error),
            Broken::Binary(column) => self.binary(column),
        })?;
        self.left -= 1;
        self.read += 1;
        Ok(true)
    }

    /// The columns of the file, each with its name and type.
    pub fn types(&self) -> Vec<(String, FieldType)> {
        self.fields().iter().map(|field| (field.name().to_owned(), FieldType::of(field))).collect()
    }

    /// The number of row groups.
    #[cfg(test)]
    pub(super) fn groups(&self) -> usize {
        self.meta.num_row_groups()
    }

    fn fields(&self) -> &[TypePtr] {
        self.meta.file_metadata().schema_descr().root_schema().get_fields()
    }

    fn open_group(&mut self) -> Result<(), ParquetError> {
        let group = self.meta.row_group(self.group);
        self.left = u64::try_from(group.num_rows()).unwrap_or(0);
        let batch = batch(group);
        self.leaves.clear();
        for at in 0..if self.left == 0 { 0 } else { group.num_columns() } {
            self.leaves.push(decode(|| Leaf::open(&self.source, group, at, batch))?);
        }
        self.group += 1;
        Ok(())
    }

    /// Makes sure that no column has more rows than its group.
    fn end_group(&mut self) -> Result<(), ParquetError> {
        for leaf in &mut self.leaves {
            if !leaf.has_ended()? {
                return Err(contradiction());
            }
        }
        self.leaves.clear();
        Ok(())
    }

    fn row(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        for leaf in &mut self.leaves {
            leaf.begin_row()?;
        }
        out.push(b'{');
        for (at, (name, column)) in self.names.iter().zip(&self.columns).enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            write(column, &mut self.leaves, out).map_err(|broken| match broken {
                Broken::Binary(_) => Broken::Binary(at),
                damaged @ Broken::Damaged(_) => damaged,
            })?;
        }
        // Each column has come to its next row, or values would move from row to row.
        if self.leaves.iter().any(|leaf| leaf.rep() != 0) {
            return Err(contradiction().into());
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn damaged(&self, error: ParquetError) -> crate::error::Error {
        damaged(&self.shown, &format!(" near row {}", self.read + 1), error)
    }

    fn binary(&self, column: usize) -> crate::error::Error {
        let name = self.fields().get(column).map_or("", |field| field.name());
        let what = format!("row {}: the column `{name}` holds binary data, not UTF-8 text", self.read + 1);
        let hint = format!(
            "leave the column out: duckdb -c \"COPY (SELECT * EXCLUDE ({name:?}) FROM '{}') TO 'other.parquet'\"",
            self.shown
        );
        refused(&self.shown, &what, hint)
    }
}

const LEAVE_OUT: &str = "leave the column out, for example with DuckDB's COPY (SELECT * EXCLUDE …)";

/// Reads the footer of a file.
fn footer(source: &dyn RangedRead, shown: &str) -> Result<Bytes> {
    let size = source.size();
    if size == 0 {
        let hint = "a Parquet file without rows still has a footer: write the file again";
        return Err(refused(shown, "the file is empty, not a Parquet file", hint));
    }
    let cut_off = "the Parquet file is cut off: its end, which lists the columns, is missing";
    let again = "copy or download the file again";
    let head = source.read_at(0, usize::try_from(size.min(4)).unwrap_or(0))?;
    let encrypted = "the Parquet file is encrypted, which llbatch does not read";
    if *head == *ENCRYPTED {
        return Err(refused(shown, encrypted, "write it again without encryption"));
    }
    if *head != *MAGIC {
        let hint = "check the file, or pass --input-format with the format that it has";
        return Err(refused(shown, "this is not a Parquet file", hint));
    }
    if size < 4 + FOOTER_END {
        return Err(refused(shown, cut_off, again));
    }
    let tail = size.min(TAIL);
    let bytes = source.read_at(size - tail, usize::try_from(tail).unwrap_or(0))?;
    let (before, end) = bytes.split_at(bytes.len() - 8);
    if end[4..] == *ENCRYPTED {
        return Err(refused(shown, encrypted, "write it again without encryption"));
    }
    if end[4..] != *MAGIC {
        return Err(refused(shown, cut_off, again));
    }
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if length > size - FOOTER_END - 4 {
        return Err(refused(shown, "the Parquet data is damaged: its footer is longer than the file", again));
    }
    let wanted = usize::try_from(length).unwrap_or(0);
    match before.len().checked_sub(wanted) {
        Some(from) => Ok(bytes.slice(from..before.len())),
        None => source.read_at(size - FOOTER_END - length, wanted),
    }
}

/// Refuses a row group whose pages are packed by a method that is not read.
fn known_codecs(group: &RowGroupMetaData, shown: &str) -> Result<()> {
    for column in group.columns() {
        let codec = match column.compression() {
            Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => continue,
            Compression::LZ4 | Compression::LZ4_RAW => "lz4",
            Compression::BROTLI(_) => "brotli",
            Compression::LZO => "lzo",
        };
        let name = column.column_path().string();
        let what = format!("the column `{name}` is packed with {codec}; llbatch reads snappy, gzip and zstd");
        let hint = format!("pack it anew: duckdb -c \"COPY (FROM '{shown}') TO 'other.parquet' (COMPRESSION zstd)\"");
        return Err(refused(shown, &what, hint));
    }
    Ok(())
}

/// Rows of a group that are read at a time.
fn batch(group: &RowGroupMetaData) -> usize {
    let bytes = |column: &parquet::file::metadata::ColumnChunkMetaData| {
        let values = u64::try_from(column.num_values()).unwrap_or(0).saturating_mul(VALUE);
        u64::try_from(column.uncompressed_size()).unwrap_or(0).max(values)
    };
    let all = group.columns().iter().map(bytes).fold(0_u64, u64::saturating_add);
    let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
    usize::try_from((BATCH / (all / rows).max(1)).clamp(1, MOST_ROWS)).unwrap_or(1)
}

/// Appends the value of a node in the current row as JSON.
fn write(node: &ColumnNode, leaves: &mut [Leaf], out: &mut Vec<u8>) -> Result<(), Broken> {
    let first = first(node, leaves)?;
    if let NodeKind::Scalar(scalar) = &node.kind {
        match first.take()? {
            None => out.extend_from_slice(b"null"),
            Some(value) => scalar.write(value, out).map_err(|why| match why {
                NoJson::NotText => Broken::Binary(0),
                NoJson::TooLong => ParquetError::General("a decimal is longer than any may be".to_owned()).into(),
            })?,
        }
        return Ok(());
    }
    if first.def()? < node.at.def {
        skip(node, node.at, leaves)?;
        out.extend_from_slice(b"null");
        return Ok(());
    }
    agree(node, leaves, |leaf| Ok(leaf.def()? >= node.at.def))?;
    match &node.kind {
        NodeKind::Scalar(_) => {}
        NodeKind::Struct(fields) => {
            out.push(b'{');
            for (at, field) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(field.key.as_bytes());
                out.push(b':');
                write(&field.node, leaves, out)?;
            }
            out.push(b'}');
        }
        NodeKind::List(element, item) => {
            out.push(b'[');
            elements(node, *element, leaves, out, &mut |leaves, out| write(item, leaves, out))?;
            out.push(b']');
        }
        NodeKind::Map(entry, key, value) => {
            out.push(b'{');
            elements(node, *entry, leaves, out, &mut |leaves, out| {
                write_key(key, leaves, out)?;
                out.push(b':');
                if let Some(value) = value {
                    return write(value, leaves, out);
                }
                out.extend_from_slice(b"true");
                Ok(())
            })?;
            out.push(b'}');
        }
    }
    Ok(())
}

/// Appends the next element of a list.
type WriteElement<'w> = dyn FnMut(&mut [Leaf], &mut Vec<u8>) -> Result<(), Broken> + 'w;

/// Has `one` append each element of a list, with commas between them. There is one from the levels `from` on.
fn elements(
    node: &ColumnNode,
    from: Levels,
    leaves: &mut [Leaf],
    out: &mut Vec<u8>,
    one: &mut WriteElement<'_>,
) -> Result<(), Broken> {
    if first(node, leaves)?.def()? < from.def {
        return skip(node, from, leaves);
    }
    loop {
        agree(node, leaves, |leaf| Ok(leaf.def()? >= from.def))?;
        one(leaves, out)?;
        // All columns below are at the same next element, or behind the last one of the same list.
        let next = first(node, leaves)?.rep();
        agree(node, leaves, |leaf| Ok(leaf.rep() == next && next <= from.rep))?;
        if next < from.rep {
            return Ok(());
        }
        out.push(b',');
    }
}

/// Appends the key of a map as a JSON string.
fn write_key(key: &ColumnNode, leaves: &mut [Leaf], out: &mut Vec<u8>) -> Result<(), Broken> {
    let start = out.len();
    write(key, leaves, out)?;
    if out.get(start) != Some(&b'"') {
        let spelled = String::from_utf8_lossy(&out[start..]).into_owned();
        out.truncate(start);
        json::write(&spelled, out);
    }
    Ok(())
}

/// Passes over the place of a node that is null, or of a list without elements: nothing is there from the levels `from` on.
fn skip(node: &ColumnNode, from: Levels, leaves: &mut [Leaf]) -> Result<(), Broken> {
    agree(node, leaves, |leaf| Ok(leaf.def()? < from.def))?;
    for leaf in leaves.get_mut(node.leaves()).ok_or_else(missing)? {
        leaf.take()?;
    }
    Ok(())
}

/// Makes sure that something holds of all columns below a node, which tell the same of it.
fn agree(
    node: &ColumnNode,
    leaves: &[Leaf],
    holds: impl Fn(&Leaf) -> Result<bool, ParquetError>,
) -> Result<(), ParquetError> {
    for leaf in leaves.get(node.leaves()).ok_or_else(missing)? {
        if !holds(leaf)? {
            return Err(contradiction());
        }
    }
    Ok(())
}

fn contradiction() -> ParquetError {
    ParquetError::General("its columns do not agree on the rows".to_owned())
}

fn first<'l>(node: &ColumnNode, leaves: &'l mut [Leaf]) -> Result<&'l mut Leaf, ParquetError> {
    leaves.get_mut(node.leaf).ok_or_else(missing)
}

fn missing() -> ParquetError {
    ParquetError::General("a row group lacks a column".to_owned())
}
