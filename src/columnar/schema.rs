//! The shape of a column: how its values, lists and structs nest, and at which levels they begin.
//!
//! Parquet stores only the leaves of that tree. With each value come two levels. The *definition level* tells how much of
//! the path to the value is there. The *repetition level* tells at which list on the path a new element begins.

use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::schema::types::{Type, TypePtr};

use super::scalar::{MOST_DIGITS, Scalar};
use crate::json;

/// Deepest nesting that is read. Data are not deeper, and the stack holds it.
const DEEPEST: usize = 64;

/// The levels of a place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Levels {
    /// The definition level from which on the place has a value.
    pub def: i16,
    pub rep: i16,
}

impl Levels {
    fn below(self, ty: &Type) -> Self {
        match repetition(ty) {
            Repetition::REQUIRED => self,
            Repetition::OPTIONAL => Self { def: self.def + 1, ..self },
            Repetition::REPEATED => Self { def: self.def + 1, rep: self.rep + 1 },
        }
    }
}

/// A column, or a part of one.
#[derive(Debug, Clone)]
pub(super) struct ColumnNode {
    /// From this level on it is not null.
    pub at: Levels,
    /// The first leaf below, which tells whether it is there.
    pub leaf: usize,
    pub kind: NodeKind,
}

/// The kinds of nodes.
#[derive(Debug, Clone)]
pub(super) enum NodeKind {
    Scalar(Scalar),
    Struct(Vec<StructField>),
    /// A list has an element from these levels on.
    List(Levels, Box<ColumnNode>),
    /// A list of keys and values. A set of keys has no values.
    Map(Levels, Box<ColumnNode>, Option<Box<ColumnNode>>),
}

/// A field of a struct.
#[derive(Debug, Clone)]
pub(super) struct StructField {
    pub name: String,
    /// The name as JSON.
    pub key: String,
    pub node: ColumnNode,
}

impl ColumnNode {
    /// The leaves below.
    pub fn leaves(&self) -> std::ops::Range<usize> {
        let end = match &self.kind {
            NodeKind::Scalar(_) => self.leaf + 1,
            NodeKind::Struct(fields) => fields.last().map_or(self.leaf, |field| field.node.leaves().end),
            NodeKind::List(_, item) => item.leaves().end,
            NodeKind::Map(_, key, value) => value.as_ref().unwrap_or(key).leaves().end,
        };
        self.leaf..end
    }
}

/// Makes the nodes of a file's columns, in the order of its leaves.
#[derive(Debug, Default)]
pub(super) struct NodeMaker {
    leaves: usize,
}

impl NodeMaker {
    /// The node of the next column.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    pub fn column(&mut self, ty: &TypePtr) -> Result<ColumnNode, &'static str> {
        self.field(ty, Levels::default(), 0)
    }

    /// A field with its own repetition: a repeated one that no list announces is a list.
    fn field(&mut self, ty: &TypePtr, above: Levels, depth: usize) -> Result<ColumnNode, &'static str> {
        let at = above.below(ty);
        if repetition(ty) != Repetition::REPEATED {
            return self.value(ty, at, depth);
        }
        let leaf = self.leaves;
        let item = self.value(ty, at, depth)?;
        Ok(ColumnNode { at: above, leaf, kind: NodeKind::List(at, Box::new(item)) })
    }

    /// A value that is there from the levels `at` on.
    fn value(&mut self, ty: &TypePtr, at: Levels, depth: usize) -> Result<ColumnNode, &'static str> {
        let leaf = self.leaves;
        if depth > DEEPEST {
            return Err("it nests more than 64 values in one another");
        }
        if ty.is_primitive() {
            self.leaves += 1;
            let (digits, scale) = (ty.get_precision(), ty.get_scale());
            if matches!(Scalar::of(ty), Scalar::Decimal(_))
                && (digits > MOST_DIGITS || !(0..=MOST_DIGITS).contains(&scale))
            {
                return Err(
                    "it holds decimals of more than 1,000 digits, or whose point is elsewhere than in their digits",
                );
            }
            return Ok(ColumnNode { at, leaf, kind: NodeKind::Scalar(Scalar::of(ty)) });
        }
        let fields = ty.get_fields();
        if fields.is_empty() {
            return Err("it is a struct without fields");
        }
        let repeated = fields.first().filter(|field| fields.len() == 1 && repetition(field) == Repetition::REPEATED);
        let kind = match (annotation(ty), repeated) {
            (Annotation::List, Some(element)) => {
                let below = at.below(element);
                let item = if is_element(ty, element) {
                    self.value(element, below, depth + 1)?
                } else {
                    self.field(&element.get_fields()[0], below, depth + 1)?
                };
                NodeKind::List(below, Box::new(item))
            }
            (Annotation::Map, Some(entry)) if entry.is_group() && matches!(entry.get_fields().len(), 1 | 2) => {
                let below = at.below(entry);
                let key = self.field(&entry.get_fields()[0], below, depth + 1)?;
                let value = entry.get_fields().get(1).map(|value| self.field(value, below, depth + 1)).transpose()?;
                NodeKind::Map(below, Box::new(key), value.map(Box::new))
            }
            _ => {
                let field = |field: &TypePtr| {
                    let (name, key) = (field.name().to_owned(), json::quote(field.name()));
                    Ok::<_, &str>(StructField { name, key, node: self.field(field, at, depth + 1)? })
                };
                NodeKind::Struct(fields.iter().map(field).collect::<Result<_, _>>()?)
            }
        };
        Ok(ColumnNode { at, leaf, kind })
    }
}

enum Annotation {
    List,
    Map,
    None,
}

fn annotation(ty: &Type) -> Annotation {
    let info = ty.get_basic_info();
    match (info.logical_type_ref(), info.converted_type()) {
        (Some(LogicalType::List), _) | (None, ConvertedType::LIST) => Annotation::List,
        (Some(LogicalType::Map), _) | (None, ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE) => Annotation::Map,
        _ => Annotation::None,
    }
}

/// Returns true if the repeated field of a list is its element, as old writers have it, and not a group around it.
fn is_element(list: &Type, repeated: &Type) -> bool {
    if repeated.is_primitive() {
        return true;
    }
    let fields = repeated.get_fields();
    fields.len() != 1
        || repetition(&fields[0]) == Repetition::REPEATED
        || repeated.name() == "array"
        || repeated.name() == format!("{}_tuple", list.name())
}

/// The repetition of a field.
pub(super) fn repetition(ty: &Type) -> Repetition {
    let info = ty.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}
