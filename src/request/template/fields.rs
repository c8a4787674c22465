//! A record as a template sees it: fields that are read only if the template asks for them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};

use super::names::{self, ROW, spelled};
use crate::json;
use crate::request::problem::listed;
use crate::request::record::{Data, Record};

/// Deepest value that a template may touch: the engine walks values by recursion.
pub(super) const DEPTH: usize = 128;

/// Events while a template ran, for the message if it fails.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub missed: Option<Missed>,
    pub too_deep: Option<String>,
    /// The last null that the template read.
    pub null: Option<Box<str>>,
}

/// The last name that the template asked for and the record lacks.
#[derive(Debug)]
pub(super) struct Missed {
    /// As the template spells it.
    pub name: String,
    /// The names that there are, for the message.
    pub has: String,
    /// A field that may be meant, but has to be spelled in another way.
    pub odd: Option<String>,
}

pub(super) type SharedTrace = Arc<Mutex<Trace>>;

pub(super) fn note(trace: &SharedTrace, write: impl FnOnce(&mut Trace)) {
    write(&mut trace.lock().unwrap_or_else(PoisonError::into_inner));
}

/// A field's content, read only if the template asks for it.
#[derive(Debug)]
enum FieldValue {
    Text(Box<str>),
    Json(Box<str>),
}

/// The names that a template sees: the record's fields, and `row` for the whole record.
#[derive(Debug)]
pub(super) struct Names {
    record: Arc<RecordFields>,
    /// `row` is the record, even if it has a field of that name.
    row: bool,
}

impl Names {
    pub fn new(record: &Record<'_>, members: &[json::Member<'_>], row: bool, trace: SharedTrace) -> Self {
        Self { record: Arc::new(RecordFields::new(record, members, trace)), row }
    }
}

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if key == ROW && (self.row || !self.record.fields.iter().any(|(name, _)| **name == *ROW)) {
            return Some(Value::from_dyn_object(Arc::clone(&self.record)));
        }
        self.record.get_value_by_str(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.record.enumerate()
    }
}

/// A record as a value.
#[derive(Debug)]
struct RecordFields {
    fields: Vec<(Box<str>, FieldValue)>,
    trace: SharedTrace,
}

impl RecordFields {
    fn new(record: &Record<'_>, members: &[json::Member<'_>], trace: SharedTrace) -> Self {
        let fields = match record.data {
            Data::Json(_) | Data::Row(_) => {
                members.iter().map(|m| (m.key.as_ref().into(), FieldValue::Json(m.value.into()))).collect()
            }
            Data::Line(text) => vec![("line".into(), FieldValue::Text(text.into()))],
            Data::Columns { names, values } => {
                let values = values.iter().map(|value| FieldValue::Text(value.into()));
                names.iter().map(|name| name.as_str().into()).zip(values).collect()
            }
        };
        Self { fields, trace }
    }

    fn missed(&self, key: &str) -> Missed {
        let names = || self.fields.iter().map(|(name, _)| &**name);
        // `{{ product-id }}` asks for `product` and `id`.
        let odd = names().filter(|name| spelled(name) != **name);
        let odd = odd.clone().find(|name| name.contains(key)).or_else(|| odd.clone().next());
        let has = format!("it has: {}", listed(names()));
        Missed { name: spelled(key).into_owned(), has, odd: odd.map(|name| spelled(name).into_owned()) }
    }
}

impl Object for RecordFields {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.fields.iter().rev().find(|(name, _)| **name == *key) {
            Some((_, FieldValue::Text(text))) => Some(Value::from(&**text)),
            Some((name, FieldValue::Json(text))) if json::depth(text) > DEPTH => {
                note(&self.trace, |trace| trace.too_deep = Some(name.to_string()));
                None
            }
            Some((name, FieldValue::Json(text))) => Some(value(text, &spelled(name), &self.trace)),
            None => {
                let missed = self.missed(key);
                note(&self.trace, |trace| trace.missed = Some(missed));
                None
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.fields.iter().map(|(name, _)| Value::from(&**name)).collect())
    }
}

/// A JSON value for the template. Arrays and objects stay text until a part of them is asked for.
fn value(text: &str, path: &str, trace: &SharedTrace) -> Value {
    match text.as_bytes().first() {
        Some(b'{') => {
            let members = json::trusted_members(text);
            let parts = members.iter().map(|m| (m.key.as_ref().into(), m.value.into())).collect();
            let node = Node { text: text.into(), object: true, parts, path: path.into(), trace: Arc::clone(trace) };
            Value::from_object(node)
        }
        Some(b'[') => {
            let parts =
                json::trusted_elements(text).into_iter().map(|element| (Box::default(), element.into())).collect();
            let node = Node { text: text.into(), object: false, parts, path: path.into(), trace: Arc::clone(trace) };
            Value::from_object(node)
        }
        Some(b'"') => json::string(text).map_or_else(|| Value::from(text), Value::from),
        Some(b't') => Value::from(true),
        Some(b'f') => Value::from(false),
        Some(b'n') => {
            note(trace, |trace| trace.null = Some(path.into()));
            Value::from(())
        }
        // A number that no machine type holds keeps its digits and prints as it is.
        _ => match (text.parse::<i128>(), text.parse::<f64>()) {
            (Ok(whole), _) => i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from),
            (_, Ok(float)) if float.is_finite() && text.contains(['.', 'e', 'E']) => Value::from(float),
            _ => Value::from(text),
        },
    }
}

/// A JSON array or object, which prints as it was spelled.
pub(super) struct Node {
    text: Box<str>,
    object: bool,
    parts: Vec<(Box<str>, Box<str>)>,
    path: Box<str>,
    trace: SharedTrace,
}

impl Node {
    /// The length of its text.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.object { ObjectRepr::Map } else { ObjectRepr::Seq }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = if self.object {
            let name = key.as_str()?;
            self.parts.iter().rev().find(|(known, _)| **known == *name)
        } else {
            key.as_usize().and_then(|index| self.parts.get(index))
        };
        let path = match key.as_str() {
            Some(name) if self.object => names::member(&self.path, name),
            _ => format!("{}[{key}]", self.path),
        };
        if found.is_none() {
            let has = if self.object {
                format!("`{}` has: {}", self.path, listed(self.parts.iter().map(|(name, _)| &**name)))
            } else {
                format!("`{}` has {} elements", self.path, self.parts.len())
            };
            note(&self.trace, |trace| trace.missed = Some(Missed { name: path.clone(), has, odd: None }));
        }
        found.map(|(_, text)| value(text, &path, &self.trace))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        if self.object {
            Enumerator::Values(self.parts.iter().map(|(name, _)| Value::from(&**name)).collect())
        } else {
            Enumerator::Seq(self.parts.len())
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
