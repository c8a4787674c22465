//! A leaf of a row group: its values and levels, read a few rows at a time.

use std::sync::Arc;

use parquet::basic::Type as PhysicalType;
use parquet::column::page::PageReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type, Int96, Int96Type,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::fault::decode;
use super::ranged::{ForwardWindow, RangedRead};
use super::scalar::LeafValue;
use super::schema::Levels;

/// A leaf, somewhere in its row group.
pub(super) struct Leaf {
    values: Values,
    /// The levels of a value that is there.
    most: Levels,
    /// Rows that are read at a time.
    batch: usize,
    def: Vec<i16>,
    rep: Vec<i16>,
    /// Places that were read: a value, or the reason why there is none.
    places: usize,
    /// The next of them, and the next value.
    place: usize,
    value: usize,
}

/// Values of one physical type, and their reader.
enum Values {
    Bool(ColumnReaderImpl<BoolType>, Vec<bool>),
    I32(ColumnReaderImpl<Int32Type>, Vec<i32>),
    I64(ColumnReaderImpl<Int64Type>, Vec<i64>),
    I96(ColumnReaderImpl<Int96Type>, Vec<Int96>),
    F32(ColumnReaderImpl<FloatType>, Vec<f32>),
    F64(ColumnReaderImpl<DoubleType>, Vec<f64>),
    Bytes(ColumnReaderImpl<ByteArrayType>, Vec<ByteArray>),
    Fixed(ColumnReaderImpl<FixedLenByteArrayType>, Vec<FixedLenByteArray>),
}

impl Leaf {
    /// Opens leaf `at` of a row group. It reads `batch` rows at a time.
    pub fn open(source: &Arc<dyn RangedRead>, group: &RowGroupMetaData, at: usize, batch: usize) -> Result<Self> {
        let column = group.column(at);
        let (start, length) = column.byte_range();
        let window = Arc::new(ForwardWindow::new(source, start.saturating_add(length), group.num_columns()));
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let pages: Box<dyn PageReader> = Box::new(SerializedPageReader::new(window, column, rows, None)?);
        let about = column.column_descr_ptr();
        let most = Levels { def: about.max_def_level(), rep: about.max_rep_level() };
        let values = match about.physical_type() {
            PhysicalType::BOOLEAN => Values::Bool(ColumnReaderImpl::new(about, pages), Vec::new()),
            PhysicalType::INT32 => Values::I32(ColumnReaderImpl::new(about, pages), Vec::new()),
            PhysicalType::INT64 => Values::I64(ColumnReaderImpl::new(about, pages), Vec::new()),
            PhysicalType::INT96 => Values::I96(ColumnReaderImpl::new(about, pages), Vec::new()),
            PhysicalType::FLOAT => Values::F32(ColumnReaderImpl::new(about, pages), Vec::new()),
            PhysicalType::DOUBLE => Values::F64(ColumnReaderImpl::new(about, pages), Vec::new()),
            PhysicalType::BYTE_ARRAY => Values::Bytes(ColumnReaderImpl::new(about, pages), Vec::new()),
            PhysicalType::FIXED_LEN_BYTE_ARRAY => Values::Fixed(ColumnReaderImpl::new(about, pages), Vec::new()),
        };
        let (def, rep) = (Vec::new(), Vec::new());
        Ok(Self { values, most, batch, def, rep, places: 0, place: 0, value: 0 })
    }

    /// Makes sure that the next row is at hand.
    pub fn begin_row(&mut self) -> Result<()> {
        if self.place < self.places || self.fill()? > 0 { Ok(()) } else { Err(short()) }
    }

    /// Tests whether there is nothing behind the rows that were read.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.place >= self.places && self.fill()? == 0)
    }

    /// Reads the next rows, in place of those before. Returns the number of their places.
    fn fill(&mut self) -> Result<usize> {
        self.def.clear();
        self.rep.clear();
        (self.place, self.value) = (0, 0);
        let (def, rep) = (Some(&mut self.def), Some(&mut self.rep));
        let (_, _, places) = match &mut self.values {
            Values::Bool(reader, values) => read(reader, values, self.batch, def, rep)?,
            Values::I32(reader, values) => read(reader, values, self.batch, def, rep)?,
            Values::I64(reader, values) => read(reader, values, self.batch, def, rep)?,
            Values::I96(reader, values) => read(reader, values, self.batch, def, rep)?,
            Values::F32(reader, values) => read(reader, values, self.batch, def, rep)?,
            Values::F64(reader, values) => read(reader, values, self.batch, def, rep)?,
            Values::Bytes(reader, values) => read(reader, values, self.batch, def, rep)?,
            Values::Fixed(reader, values) => read(reader, values, self.batch, def, rep)?,
        };
        self.places = places;
        Ok(places)
    }

    /// The definition level of the next place.
    pub fn def(&self) -> Result<i16> {
        match self.most.def {
            _ if self.place >= self.places => Err(short()),
            0 => Ok(0),
            _ => self.def.get(self.place).copied().ok_or_else(short),
        }
    }

    /// The repetition level of the next place: 0 where a row begins, and behind the last one.
    pub fn rep(&self) -> i16 {
        self.rep.get(self.place).copied().unwrap_or(0)
    }

    /// The next place, if it has a value; moves behind it.
    pub fn take(&mut self) -> Result<Option<LeafValue<'_>>> {
        let def = self.def()?;
        self.place += 1;
        if def < self.most.def {
            return Ok(None);
        }
        let at = self.value;
        self.value += 1;
        let stored = match &self.values {
            Values::Bool(_, values) => values.get(at).map(|value| LeafValue::Bool(*value)),
            Values::I32(_, values) => values.get(at).map(|value| LeafValue::I32(*value)),
            Values::I64(_, values) => values.get(at).map(|value| LeafValue::I64(*value)),
            Values::I96(_, values) => values.get(at).map(LeafValue::I96),
            Values::F32(_, values) => values.get(at).map(|value| LeafValue::F32(*value)),
            Values::F64(_, values) => values.get(at).map(|value| LeafValue::F64(*value)),
            Values::Bytes(_, values) => values.get(at).map(|value| LeafValue::Bytes(value.data())),
            Values::Fixed(_, values) => values.get(at).map(|value| LeafValue::Bytes(value.data())),
        };
        stored.map(Some).ok_or_else(short)
    }
}

/// Reads whole rows into `values`, in place of those before.
fn read<T: parquet::data_type::DataType>(
    reader: &mut ColumnReaderImpl<T>,
    values: &mut Vec<T::T>,
    rows: usize,
    def: Option<&mut Vec<i16>>,
    rep: Option<&mut Vec<i16>>,
) -> Result<(usize, usize, usize)> {
    values.clear();
    decode(|| reader.read_records(rows, def, rep, values))
}

fn short() -> ParquetError {
    ParquetError::General("a column has fewer values than rows".to_owned())
}
