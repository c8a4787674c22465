//! Rows of flat JSON as a Parquet file.

use std::io::{self, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parquet::basic::{Compression, Type as PhysicalType, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
    Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::column_type::{TableColumn, TableSchema};
use super::scalar::Scalar;
use super::schema::{ColumnNode, Levels, NodeKind};
use super::spelled::{LeafForm, NewValue};
use crate::json::{self, Member};

/// Bytes of the values of a row group. They wait in memory, as a group is written column by column.
const GROUP: usize = 16 << 20;
/// Memory of a place without a value: its levels.
const LEVELS: usize = 4;
/// Memory of a number with its levels, about.
const NUMBER: usize = 12;
/// Memory of a text beside its bytes, about.
const TEXT: usize = 44;

/// Writes a Parquet file. Rows wait until a row group is full.
pub struct ParquetWriter<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Vec<TableColumn>,
    leaves: Vec<LeafBuffer>,
    /// Bytes of the values that wait, about.
    bytes: usize,
}

/// The reason why a row cannot be written.
#[derive(Debug)]
pub enum WriteFault {
    /// The file cannot be written.
    Io(io::Error),
    /// The value of this column does not fit its type.
    Value(String),
}

impl From<ParquetError> for WriteFault {
    fn from(error: ParquetError) -> Self {
        Self::Io(match error {
            ParquetError::External(inner) => inner.downcast::<io::Error>().map_or_else(io::Error::other, |io| *io),
            other => io::Error::other(other),
        })
    }
}

/// A value that its column cannot hold.
struct Misfit;

impl<W: Write + Send> ParquetWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// The error of `out`.
    pub fn new(out: W, schema: &TableSchema) -> Result<Self, WriteFault> {
        let level = ZstdLevel::try_new(3).unwrap_or_default();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(concat!("llbatch version ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let leaves = SchemaDescriptor::new(Arc::clone(&schema.root));
        let leaf = |column: &parquet::schema::types::ColumnDescPtr| {
            LeafBuffer::new(column.self_type(), Levels { def: column.max_def_level(), rep: column.max_rep_level() })
        };
        let leaves = leaves.columns().iter().map(leaf).collect();
        let writer = SerializedFileWriter::new(out, Arc::clone(&schema.root), Arc::new(properties))?;
        Ok(Self { writer, columns: schema.columns.clone(), leaves, bytes: 0 })
    }

    /// Adds the row of a flat JSON object. Members that are no columns are left out, and of equal names the last one counts.
    ///
    /// # Errors
    /// A value that does not fit, or the error of the file.
    pub fn push(&mut self, row: &str) -> Result<(), WriteFault> {
        let members = json::trusted_members(row);
        let in_order = members.len() == self.columns.len()
            && members.iter().zip(&self.columns).all(|(member, column)| *member.key == *column.name);
        for (at, column) in self.columns.iter().enumerate() {
            let member = if in_order { members.get(at) } else { json::find(&members, &column.name) };
            let value = member.map_or("null", |member| member.value);
            let floats = Some(value).filter(|value| column.is_vector && value.starts_with('"')).and_then(unpacked);
            self.bytes += put(&column.node, floats.as_deref().unwrap_or(value), Levels::default(), &mut self.leaves)
                .map_err(|Misfit| WriteFault::Value(column.name.clone()))?;
        }
        if self.bytes >= GROUP { self.flush() } else { Ok(()) }
    }

    /// Ends the file, and returns what it was written to.
    ///
    /// # Errors
    /// The error of the file.
    pub fn finish(mut self) -> Result<W, WriteFault> {
        self.flush()?;
        Ok(self.writer.into_inner()?)
    }

    /// Writes the rows that wait as a row group.
    fn flush(&mut self) -> Result<(), WriteFault> {
        if std::mem::take(&mut self.bytes) == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for leaf in &mut self.leaves {
            let Some(mut column) = group.next_column()? else { break };
            leaf.drain(&mut column)?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

/// The JSON list of a vector that is packed as base64: numbers of 32 bits, the lowest byte first.
fn unpacked(value: &str) -> Option<String> {
    let bytes = STANDARD.decode(json::string(value)?.as_bytes()).ok().filter(|bytes| bytes.len() % 4 == 0)?;
    let mut list = vec![b'['];
    for float in bytes.chunks_exact(4) {
        if list.len() > 1 {
            list.push(b',');
        }
        json::write(&f32::from_le_bytes([float[0], float[1], float[2], float[3]]), &mut list);
    }
    list.push(b']');
    String::from_utf8(list).ok()
}

/// Adds a value to the leaves of a node. `above`: the levels of the place around it, whose definition level is what a null
/// has. Returns the bytes that it takes.
fn put(node: &ColumnNode, value: &str, above: Levels, leaves: &mut [LeafBuffer]) -> Result<usize, Misfit> {
    let Levels { def, rep } = above;
    if value == "null" {
        // A list without a level of its own is never null, and is empty instead.
        let is_list = matches!(node.kind, NodeKind::List(..) | NodeKind::Map(..));
        return if node.at.def > def || is_list { absent(node, def, rep, leaves) } else { Err(Misfit) };
    }
    match &node.kind {
        NodeKind::Scalar(_) => leaves.get_mut(node.leaf).ok_or(Misfit)?.push(value, node.at.def, rep),
        NodeKind::Struct(fields) => {
            let members = object(value)?;
            let mut bytes = 0;
            for field in fields {
                let member = json::find(&members, &field.name);
                bytes += put(
                    &field.node,
                    member.map_or("null", |member| member.value),
                    Levels { def: node.at.def, rep },
                    leaves,
                )?;
            }
            Ok(bytes)
        }
        NodeKind::List(element, item) => {
            if !value.starts_with('[') {
                return Err(Misfit);
            }
            let (mut bytes, mut rep, mut any) = (0, rep, false);
            for value in json::trusted_elements(value) {
                bytes += put(item, value, Levels { def: element.def, rep }, leaves)?;
                (rep, any) = (element.rep, true);
            }
            if any { Ok(bytes) } else { absent(node, node.at.def, rep, leaves) }
        }
        NodeKind::Map(entry, key, item) => {
            let (mut bytes, mut rep, mut any) = (0, rep, false);
            for member in object(value)? {
                bytes += put(key, &json::quote(&member.key), Levels { def: entry.def, rep }, leaves)?;
                if let Some(item) = item {
                    bytes += put(item, member.value, Levels { def: entry.def, rep }, leaves)?;
                }
                (rep, any) = (entry.rep, true);
            }
            if any { Ok(bytes) } else { absent(node, node.at.def, rep, leaves) }
        }
    }
}

fn object(value: &str) -> Result<Vec<Member<'_>>, Misfit> {
    if value.starts_with('{') { Ok(json::trusted_members(value)) } else { Err(Misfit) }
}

/// Notes on all leaves of a node that nothing is there.
fn absent(node: &ColumnNode, def: i16, rep: i16, leaves: &mut [LeafBuffer]) -> Result<usize, Misfit> {
    let leaves = leaves.get_mut(node.leaves()).ok_or(Misfit)?;
    for leaf in &mut *leaves {
        leaf.levels(def, rep);
    }
    Ok(leaves.len() * LEVELS)
}

/// Values and levels of a leaf that wait for their row group.
struct LeafBuffer {
    form: LeafForm,
    most: Levels,
    def: Vec<i16>,
    rep: Vec<i16>,
    values: NewValues,
}

enum NewValues {
    Bool(Vec<bool>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I96(Vec<Int96>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

impl LeafBuffer {
    fn new(ty: &Type, most: Levels) -> Self {
        let length = match ty {
            Type::PrimitiveType { type_length, .. } => usize::try_from(*type_length).unwrap_or(0),
            Type::GroupType { .. } => 0,
        };
        let form = LeafForm { scalar: Scalar::of(ty), physical: ty.get_physical_type(), length };
        let values = match form.physical {
            PhysicalType::BOOLEAN => NewValues::Bool(Vec::new()),
            PhysicalType::INT32 => NewValues::I32(Vec::new()),
            PhysicalType::INT64 => NewValues::I64(Vec::new()),
            PhysicalType::INT96 => NewValues::I96(Vec::new()),
            PhysicalType::FLOAT => NewValues::F32(Vec::new()),
            PhysicalType::DOUBLE => NewValues::F64(Vec::new()),
            PhysicalType::BYTE_ARRAY => NewValues::Bytes(Vec::new()),
            PhysicalType::FIXED_LEN_BYTE_ARRAY => NewValues::Fixed(Vec::new()),
        };
        Self { form, most, def: Vec::new(), rep: Vec::new(), values }
    }

    fn levels(&mut self, def: i16, rep: i16) {
        self.def.push(def);
        self.rep.push(rep);
    }

    fn push(&mut self, value: &str, def: i16, rep: i16) -> Result<usize, Misfit> {
        let mut bytes = NUMBER;
        match (&mut self.values, self.form.value(value).ok_or(Misfit)?) {
            (NewValues::Bool(values), NewValue::Bool(value)) => values.push(value),
            (NewValues::I32(values), NewValue::I32(value)) => values.push(value),
            (NewValues::I64(values), NewValue::I64(value)) => values.push(value),
            (NewValues::I96(values), NewValue::I96(value)) => values.push(value),
            (NewValues::F32(values), NewValue::F32(value)) => values.push(value),
            (NewValues::F64(values), NewValue::F64(value)) => values.push(value),
            (NewValues::Bytes(values), NewValue::Bytes(value)) => {
                bytes = TEXT + value.len();
                values.push(value.into());
            }
            (NewValues::Fixed(values), NewValue::Bytes(value)) => {
                bytes = TEXT + value.len();
                values.push(value.into());
            }
            _ => return Err(Misfit),
        }
        self.levels(def, rep);
        Ok(bytes)
    }

    /// Writes everything that waits as a column of a row group.
    fn drain(&mut self, out: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let def = Some(&*self.def).filter(|_| self.most.def > 0);
        let rep = Some(&*self.rep).filter(|_| self.most.rep > 0);
        match &mut self.values {
            NewValues::Bool(values) => write::<BoolType>(out, values, def, rep)?,
            NewValues::I32(values) => write::<Int32Type>(out, values, def, rep)?,
            NewValues::I64(values) => write::<Int64Type>(out, values, def, rep)?,
            NewValues::I96(values) => write::<Int96Type>(out, values, def, rep)?,
            NewValues::F32(values) => write::<FloatType>(out, values, def, rep)?,
            NewValues::F64(values) => write::<DoubleType>(out, values, def, rep)?,
            NewValues::Bytes(values) => write::<ByteArrayType>(out, values, def, rep)?,
            NewValues::Fixed(values) => write::<FixedLenByteArrayType>(out, values, def, rep)?,
        }
        self.def.clear();
        self.rep.clear();
        Ok(())
    }
}

fn write<T: DataType>(
    out: &mut SerializedColumnWriter<'_>,
    values: &mut Vec<T::T>,
    def: Option<&[i16]>,
    rep: Option<&[i16]>,
) -> Result<(), ParquetError> {
    out.typed::<T>().write_batch(values, def, rep)?;
    values.clear();
    Ok(())
}
