//! The names of all fields of the records, gathered while their blocks are read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::parquet::FileTypes;
use super::value_kinds::ValueKinds;
use super::{Block, Data, Record, TableHeader};
use crate::columnar::{ColumnType, FieldType};
use crate::json::{self, Member};
use crate::request::{Draft, Field};

/// The fields of records, as a table of results needs them.
#[derive(Debug, Clone, Default)]
pub struct FieldNames {
    /// Their names, first seen first. They end behind [`Self::MOST`] and one more.
    names: Vec<String>,
    /// The kinds of values of each.
    kinds: Vec<ValueKinds>,
    seen: HashMap<String, usize>,
    types: InputTypes,
    /// The names in the header of the input, where they are others: none, or that of another column.
    given: HashMap<String, String>,
    /// The header whose columns were added last.
    header: Option<Arc<[String]>>,
    marked: bool,
    other_model: bool,
    several_inputs: bool,
}

impl FieldNames {
    /// Most fields of a table of results; input with more is not a table.
    pub const MOST: usize = 10_000;

    /// Adds what a block tells beside its records.
    pub fn add_block(&mut self, block: &Block) {
        self.marked |= block.is_marked();
        self.types.add(block.types());
        for (name, in_header) in block.header().into_iter().flat_map(TableHeader::renamed) {
            self.given.entry(name.to_owned()).or_insert_with(|| in_header.to_owned());
        }
    }

    /// Adds the fields of a record, and compares its `model` with that of the request that it makes, if there is one.
    pub fn add(&mut self, record: &Record<'_>, draft: Option<&Draft<'_>>) {
        match (record.data, draft) {
            (Data::Json(_) | Data::Row(_), Some(draft)) => self.add_members(draft.members()),
            (Data::Row(text), None) => self.add_members(&json::trusted_members(text)),
            (Data::Json(text), None) => self.add_members(&json::members(text).unwrap_or_default()),
            (Data::Line(_), _) => self.add_name(0, "line", ValueKinds::TEXT),
            (Data::Columns { names, .. }, _) => self.add_header(names),
        }
        if let Some(draft) = draft {
            self.compare_model(record, draft);
        }
    }

    fn add_members(&mut self, members: &[Member<'_>]) {
        for (at, member) in members.iter().enumerate() {
            let mut kinds = ValueKinds::default();
            kinds.add(member.value);
            self.several_inputs |= match &*member.key {
                "input" => is_several(member.value),
                "body" => json::members(member.value)
                    .is_ok_and(|body| json::find(&body, "input").is_some_and(|input| is_several(input.value))),
                _ => false,
            };
            self.add_name(at, &member.key, kinds);
        }
    }

    fn add_header(&mut self, names: &Arc<[String]>) {
        // The rows of a file share their header.
        if self.header.as_ref().is_some_and(|header| Arc::ptr_eq(header, names)) {
            return;
        }
        self.header = Some(Arc::clone(names));
        for (at, name) in names.iter().enumerate() {
            self.add_name(at, name, ValueKinds::TEXT);
        }
    }

    /// Compares the field `model` of a record with the model of its request. With a template it may be data.
    pub fn compare_model(&mut self, record: &Record<'_>, draft: &Draft<'_>) {
        if self.other_model {
            return;
        }
        let field = match record.data {
            Data::Json(_) | Data::Row(_) => {
                json::find(draft.members(), "model").map(|member| Field::of_json(member.value))
            }
            Data::Line(_) => None,
            Data::Columns { names, values } => {
                let place = names.iter().position(|name| name == "model");
                place.and_then(|at| values.get(at)).map(|value| Field::Text(Cow::Borrowed(value)))
            }
        };
        self.other_model = match field {
            None => false,
            Some(Field::Text(text)) => !text.is_empty() && draft.model != text,
            Some(Field::Json(json)) => json != "null",
        };
    }

    /// Adds the fields of records that follow.
    pub fn append(&mut self, next: Self) {
        for (at, (name, kinds)) in next.names.iter().zip(next.kinds).enumerate() {
            self.add_name(at, name, kinds);
        }
        self.types.append(next.types);
        for (name, in_header) in next.given {
            self.given.entry(name).or_insert(in_header);
        }
        self.marked |= next.marked;
        self.other_model |= next.other_model;
        self.several_inputs |= next.several_inputs;
    }

    /// Adds a name. `at`: its likely place, as records mostly have the same fields in the same order.
    fn add_name(&mut self, at: usize, name: &str, kinds: ValueKinds) {
        let is_likely = self.names.get(at).is_some_and(|other| other == name);
        let known = if is_likely { Some(at) } else { self.seen.get(name).copied() };
        if let Some(known) = known.and_then(|place| self.kinds.get_mut(place)) {
            known.merge(kinds);
        } else if self.names.len() <= Self::MOST {
            self.seen.insert(name.to_owned(), self.names.len());
            self.names.push(name.to_owned());
            self.kinds.push(kinds);
        }
    }

    /// The type that a column with the values of each field has: that of the column in the inputs if all of them agree on
    /// it, else one that holds every value as it is.
    pub fn types(&self) -> Vec<ColumnType> {
        let ty = |(name, kinds): (&String, &ValueKinds)| self.types.get(name).unwrap_or_else(|| kinds.column_type());
        self.names.iter().zip(&self.kinds).map(ty).collect()
    }

    /// Their names, first seen first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns true if there are more than [`Self::MOST`].
    pub const fn are_too_many(&self) -> bool {
        self.names.len() > Self::MOST
    }

    /// Takes the names in the header of the input by the names that fields have, where the two differ.
    pub fn take_given(&mut self) -> HashMap<String, String> {
        std::mem::take(&mut self.given)
    }

    /// Returns true if the `input` of a record is a list of several, so that its answer has several vectors.
    pub const fn has_several_inputs(&self) -> bool {
        self.several_inputs
    }

    /// Returns true if an input begins with a byte order mark.
    pub const fn is_marked(&self) -> bool {
        self.marked
    }

    /// Returns true if each `model` that was compared is the model of its request.
    pub const fn model_is_own(&self) -> bool {
        !self.other_model
    }
}

/// The types of columns that the inputs themselves name.
#[derive(Debug, Clone, Default)]
struct InputTypes {
    /// Types by name; `None`: the files do not agree.
    found: HashMap<String, Option<FieldType>>,
    /// The file whose types were added last.
    last: Option<FileTypes>,
    /// A file names none.
    untyped: bool,
}

impl InputTypes {
    fn add(&mut self, types: Option<&FileTypes>) {
        let Some(types) = types else {
            self.untyped = true;
            return;
        };
        // The blocks of a file share its types.
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, types)) {
            return;
        }
        self.last = Some(Arc::clone(types));
        for (name, ty) in types.iter() {
            self.merge(name, Some(ty));
        }
    }

    fn merge(&mut self, name: &str, ty: Option<&FieldType>) {
        match self.found.get_mut(name) {
            None => _ = self.found.insert(name.to_owned(), ty.cloned()),
            Some(known) if known.as_ref() != ty => *known = None,
            Some(_) => {}
        }
    }

    fn append(&mut self, next: Self) {
        self.untyped |= next.untyped;
        if let (Some(ours), Some(theirs)) = (&self.last, &next.last)
            && Arc::ptr_eq(ours, theirs)
        {
            return;
        }
        for (name, ty) in &next.found {
            self.merge(name, ty.as_ref());
        }
        self.last = next.last.or(self.last.take());
    }

    fn get(&self, name: &str) -> Option<ColumnType> {
        let typed = self.found.get(name).filter(|_| !self.untyped)?;
        typed.clone().map(ColumnType::Same)
    }
}

/// Returns true for a list of several inputs. A list of numbers is the tokens of one.
fn is_several(input: &str) -> bool {
    let mut elements = json::trusted_elements(input).into_iter().filter(|element| element.starts_with(['"', '[']));
    input.starts_with('[') && elements.nth(1).is_some()
}
