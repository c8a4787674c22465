//! The types of the columns of a file that llbatch writes.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::Result;
use parquet::schema::types::{PrimitiveTypeBuilder, Type, TypePtr};

use super::scalar::Scalar;
use super::schema::{ColumnNode, NodeMaker, repetition};

/// Digits of a cost: whole dollars, and nanos.
const USD: (i32, i32) = (20, 9);
/// Bytes that hold so many digits.
const USD_BYTES: i32 = 9;
/// Most digits of a decimal that is read and written as a number.
const DIGITS: i32 = 38;

/// The type of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnType {
    /// A string: a text, or any other value as JSON.
    Text,
    Bool,
    Int32,
    Int64,
    Double,
    /// A decimal of 20 digits, nine of them behind the point.
    Usd,
    /// A list of numbers of 32 bits.
    Vector,
    /// The type that a column of an input has.
    Same(FieldType),
}

/// The type of a column of a Parquet file.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldType(TypePtr);

impl FieldType {
    pub(super) fn of(ty: &TypePtr) -> Self {
        Self(Arc::clone(ty))
    }
}

/// The columns of a file that is to be written.
#[derive(Debug, Clone)]
pub struct TableSchema {
    pub(super) root: TypePtr,
    pub(super) columns: Vec<TableColumn>,
}

/// A column of a [`TableSchema`].
#[derive(Debug, Clone)]
pub(super) struct TableColumn {
    pub name: String,
    pub node: ColumnNode,
    pub is_vector: bool,
}

impl TableSchema {
    /// Columns with these names, all different, and types.
    ///
    /// # Errors
    /// The words of the library for a schema that it cannot write.
    pub fn new(columns: &[(String, ColumnType)]) -> Result<Self, String> {
        let types: Vec<TypePtr> = columns
            .iter()
            .map(|(name, ty)| ty.field(name).map(Arc::new))
            .collect::<Result<_>>()
            .map_err(|error| error.to_string())?;
        let mut maker = NodeMaker::default();
        let nodes = types.iter().map(|ty| maker.column(ty)).collect::<Result<Vec<_>, _>>()?;
        let root = Type::group_type_builder("schema").with_fields(types).build().map_err(|error| error.to_string())?;
        let column = |((name, ty), node): (&(String, ColumnType), ColumnNode)| TableColumn {
            name: name.clone(),
            node,
            is_vector: *ty == ColumnType::Vector,
        };
        Ok(Self { root: Arc::new(root), columns: columns.iter().zip(nodes).map(column).collect() })
    }
}

impl ColumnType {
    fn field(&self, name: &str) -> Result<Type> {
        let simple = |physical| primitive(name, physical).build();
        match self {
            Self::Text => text(name).build(),
            Self::Bool => simple(PhysicalType::BOOLEAN),
            Self::Int32 => simple(PhysicalType::INT32),
            Self::Int64 => simple(PhysicalType::INT64),
            Self::Double => simple(PhysicalType::DOUBLE),
            Self::Usd => primitive(name, PhysicalType::FIXED_LEN_BYTE_ARRAY)
                .with_logical_type(Some(LogicalType::decimal(USD.1, USD.0)))
                .with_length(USD_BYTES)
                .with_precision(USD.0)
                .with_scale(USD.1)
                .build(),
            Self::Vector => {
                let element = primitive("element", PhysicalType::FLOAT).build()?;
                let list = Type::group_type_builder("list")
                    .with_repetition(Repetition::REPEATED)
                    .with_fields(vec![Arc::new(element)])
                    .build()?;
                Type::group_type_builder(name)
                    .with_repetition(Repetition::OPTIONAL)
                    .with_logical_type(Some(LogicalType::List))
                    .with_fields(vec![Arc::new(list)])
                    .build()
            }
            // A row may lack the field: it failed before its record was read, or another input has no such column.
            Self::Same(FieldType(ty)) => {
                let own = repetition(ty);
                let repetition = if own == Repetition::REQUIRED { Repetition::OPTIONAL } else { own };
                portable(ty, repetition).or_else(|_| text(name).build())
            }
        }
    }
}

fn primitive(name: &str, physical: PhysicalType) -> PrimitiveTypeBuilder<'_> {
    Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL)
}

fn text(name: &str) -> PrimitiveTypeBuilder<'_> {
    primitive(name, PhysicalType::BYTE_ARRAY).with_logical_type(Some(LogicalType::String))
}

/// The same type; where it is one that llbatch only reads, one that holds what was read.
fn portable(ty: &Type, repetition: Repetition) -> Result<Type> {
    let info = ty.get_basic_info();
    if ty.is_group() {
        let fields = ty.get_fields().iter().map(|field| portable(field, self::repetition(field)).map(Arc::new));
        return Type::group_type_builder(ty.name())
            .with_repetition(repetition)
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_fields(fields.collect::<Result<_>>()?)
            .build();
    }
    let physical = ty.get_physical_type();
    match Scalar::of(ty) {
        Scalar::Half => primitive(ty.name(), PhysicalType::FLOAT).with_repetition(repetition).build(),
        Scalar::Interval => text(ty.name()).with_repetition(repetition).build(),
        Scalar::Decimal(_) if ty.get_precision() > DIGITS => text(ty.name()).with_repetition(repetition).build(),
        _ => {
            let length = match ty {
                Type::PrimitiveType { type_length, .. } => *type_length,
                Type::GroupType { .. } => 0,
            };
            let decimal = matches!(Scalar::of(ty), Scalar::Decimal(_));
            let (precision, scale) = if decimal { (ty.get_precision(), ty.get_scale()) } else { (-1, -1) };
            Type::primitive_type_builder(ty.name(), physical)
                .with_repetition(repetition)
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_length(length)
                .with_precision(precision)
                .with_scale(scale)
                .build()
        }
    }
}
