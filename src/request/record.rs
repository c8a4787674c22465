//! One record of the input, before it becomes a request.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::json::{self, Member};

/// A record and where it stands. It borrows from its block.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// 1-based over all inputs, of the rows that the command works on. Blank lines are not counted.
    pub row: u64,
    /// Its number in the whole input, which is larger where the command leaves out rows.
    pub number: u64,
    /// The input as the user named it.
    pub file: &'a str,
    /// The place in the input where the record begins.
    pub line: InputPlace,
    /// The record itself.
    pub data: Data<'a>,
}

/// The place of a record in its file, 1-based.
#[derive(Serialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(untagged)]
pub enum InputPlace {
    /// A physical line.
    Line(u64),
    /// A row of a file without lines.
    Row(u64),
}

impl From<u64> for InputPlace {
    fn from(line: u64) -> Self {
        Self::Line(line)
    }
}

/// `7`, or `row 7`: it follows the name of the file and a colon.
impl fmt::Display for InputPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A record as its format has it.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// A line of JSONL as it stands, not yet parsed.
    Json(&'a str),
    /// A row of a Parquet file as a JSON object, known to be valid.
    Row(&'a str),
    /// A line of text without its line end.
    Line(&'a str),
    /// A CSV or TSV row: as many values as names.
    Columns {
        /// The header, shared by all rows of the file.
        names: &'a Arc<[String]>,
        /// The row's fields.
        values: &'a csv::StringRecord,
    },
}

/// A record's field as it came in.
#[derive(Debug, Clone)]
pub enum Field<'a> {
    /// A string: a CSV cell, a line, or a JSON string without quotes and escapes.
    Text(Cow<'a, str>),
    /// Any other JSON value as it was spelled (also a string that Rust cannot hold, with a lone surrogate).
    Json(&'a str),
}

impl<'a> Record<'a> {
    /// The record's own fields in order: JSON members, columns, or the one field `line`. Empty if the JSON is not an object.
    pub fn fields(&self) -> Vec<(Cow<'a, str>, Field<'a>)> {
        self.fields_by(|text| json::members(text).unwrap_or_default())
    }

    /// The same of a record that was sent, whose JSON was checked then.
    pub fn sent_fields(&self) -> Vec<(Cow<'a, str>, Field<'a>)> {
        self.fields_by(json::trusted_members)
    }

    fn fields_by(&self, members: impl Fn(&'a str) -> Vec<Member<'a>>) -> Vec<(Cow<'a, str>, Field<'a>)> {
        match self.data {
            Data::Json(text) | Data::Row(text) => {
                members(text).into_iter().map(|member| (member.key, Field::of_json(member.value))).collect()
            }
            Data::Line(text) => vec![(Cow::Borrowed("line"), Field::Text(Cow::Borrowed(text)))],
            Data::Columns { names, values } => names
                .iter()
                .zip(values.iter())
                .map(|(name, value)| (Cow::Borrowed(name.as_str()), Field::Text(Cow::Borrowed(value))))
                .collect(),
        }
    }
}

impl<'a> Field<'a> {
    /// Reads a JSON value.
    pub fn of_json(value: &'a str) -> Self {
        json::string(value).map_or(Self::Json(value), Self::Text)
    }
}

/// A record's data, copied out of its block.
#[derive(Debug, Clone)]
pub enum OwnedData {
    /// See [`Data::Json`].
    Json(Box<str>),
    /// See [`Data::Row`].
    Row(Box<str>),
    /// See [`Data::Line`].
    Line(Box<str>),
    /// See [`Data::Columns`].
    Columns {
        /// The header.
        names: Arc<[String]>,
        /// The row's fields.
        values: csv::StringRecord,
    },
}

impl OwnedData {
    /// Borrows it.
    pub fn data(&self) -> Data<'_> {
        match self {
            Self::Json(text) => Data::Json(text),
            Self::Row(text) => Data::Row(text),
            Self::Line(text) => Data::Line(text),
            Self::Columns { names, values } => Data::Columns { names, values },
        }
    }
}

impl From<Data<'_>> for OwnedData {
    fn from(data: Data<'_>) -> Self {
        match data {
            Data::Json(text) => Self::Json(text.into()),
            Data::Row(text) => Self::Row(text.into()),
            Data::Line(text) => Self::Line(text.into()),
            Data::Columns { names, values } => Self::Columns { names: Arc::clone(names), values: values.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(data: Data<'_>) -> Vec<String> {
        let record = Record { row: 1, number: 1, file: "x", line: InputPlace::Line(1), data };
        let show = |(name, field): (Cow<'_, str>, Field<'_>)| match field {
            Field::Text(text) => format!("{name}={text}"),
            Field::Json(json) => format!("{name}:{json}"),
        };
        let fields: Vec<String> = record.fields().into_iter().map(show).collect();
        if !fields.is_empty() {
            assert_eq!(record.sent_fields().into_iter().map(show).collect::<Vec<_>>(), fields);
        }
        fields
    }

    #[test]
    fn fields_keep_order_and_spelling() {
        let json = r#"{"b": "x\ny", "\u0061": 1E400, "c": [1, 2], "d": null, "s": "\ud800"}"#;
        assert_eq!(shown(Data::Json(json)), ["b=x\ny", "a:1E400", "c:[1, 2]", "d:null", "s:\"\\ud800\""]);
        assert_eq!(shown(Data::Line("hi")), ["line=hi"]);
        let names: Arc<[String]> = ["n".to_owned(), "m".to_owned()].into();
        let values = csv::StringRecord::from(vec!["1", ""]);
        assert_eq!(shown(Data::Columns { names: &names, values: &values }), ["n=1", "m="]);
        assert!(shown(Data::Json("[1]")).is_empty());
    }
}
