//! The columns that llbatch adds to the record's fields in flat forms, and their values.

use std::borrow::Cow;

use super::Field;
use super::columns::RecordColumns;
use super::format::ResultOptions;
use crate::completion::{AnswerPlaces, Choice, Completion, file_paths, kept_answer, may_be_fenced, unfenced};
use crate::error::{Error, Exit, Result};
use crate::json;
use crate::outcome::{Outcome, RowError, Usage};
use crate::price::Nanos;
use crate::rules::Schema;

/// One of llbatch's own columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnColumn {
    Id,
    Model,
    Content,
    /// The property of this place among those that `--unpack` takes out of the answer.
    Property(usize),
    FinishReason,
    PromptTokens,
    CompletionTokens,
    CostUsd,
    Attempts,
    LatencyMs,
    Error,
    FirstTokenMs,
    TokensPerS,
    CachedTokens,
    ReasoningTokens,
    Reused,
}

/// The columns before those of `--unpack`, with their names.
const FIRST: [(OwnColumn, &str); 3] =
    [(OwnColumn::Id, "custom_id"), (OwnColumn::Model, "model"), (OwnColumn::Content, "content")];
/// The columns behind those.
const REST: [(OwnColumn, &str); 7] = [
    (OwnColumn::FinishReason, "finish_reason"),
    (OwnColumn::PromptTokens, "prompt_tokens"),
    (OwnColumn::CompletionTokens, "completion_tokens"),
    (OwnColumn::CostUsd, "cost_usd"),
    (OwnColumn::Attempts, "attempts"),
    (OwnColumn::LatencyMs, "latency_ms"),
    (OwnColumn::Error, "error"),
];
/// The columns of `--timing`.
const TIMING: [(OwnColumn, &str); 2] =
    [(OwnColumn::FirstTokenMs, "first_token_ms"), (OwnColumn::TokensPerS, "tokens_per_s")];
/// The columns of `--usage-columns`.
const USAGE: [(OwnColumn, &str); 2] =
    [(OwnColumn::CachedTokens, "cached_tokens"), (OwnColumn::ReasoningTokens, "reasoning_tokens")];

/// The last column, where equal requests are sent once.
const REUSED: [(OwnColumn, &str); 1] = [(OwnColumn::Reused, "reused")];

/// The names of the columns that every flat form has.
#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    FIRST.iter().chain(&REST).map(|(_, name)| *name).collect()
}

/// The columns that llbatch adds to the record's fields in a table.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the table")]
pub(super) struct OwnColumns {
    /// Each with its name in the table. A column for which a field of the record serves is left out.
    columns: Vec<(String, OwnColumn)>,
    /// The properties that become columns.
    properties: Vec<String>,
    /// Answers are JSON, which may be in a Markdown fence.
    json_answers: bool,
    /// The record's field with the id, if it is called `custom_id`.
    id_field: bool,
    /// The record's `model` is that of the request.
    model_field: bool,
    /// Answers may be files, whose paths are their content.
    files: bool,
}

impl OwnColumns {
    /// The columns beside records with the fields of `table`.
    ///
    /// # Errors
    /// 65 for a name that the records have taken, 2 where there is nothing to unpack.
    pub(super) fn new(options: &ResultOptions, table: &RecordColumns) -> Result<Self> {
        let has = |name: &str| table.names.iter().any(|column| column == name);
        let has_id = has("custom_id");
        let model_field = options.prefix.is_empty() && table.model_is_own && has("model");
        let properties = if options.more.unpacked { properties(table.schema.as_deref())? } else { Vec::new() };
        let timing: &[_] = if options.more.timing { &TIMING } else { &[] };
        let usage: &[_] = if options.more.usage { &USAGE } else { &[] };
        let reused: &[_] = if options.reused { &REUSED } else { &[] };
        let served = |column: &OwnColumn| match column {
            OwnColumn::Id => has_id,
            OwnColumn::Model => model_field,
            _ => false,
        };
        let unpacked = properties.iter().enumerate().map(|(i, name)| (OwnColumn::Property(i), name.as_str()));
        let last = || REST.into_iter().chain(timing.iter().chain(usage).chain(reused).cloned());
        let own: Vec<&str> = FIRST.into_iter().chain(last()).map(|(_, name)| name).collect();
        // Behind a prefix, llbatch's columns leave their names to the properties that have the same.
        let named = |(column, name): (OwnColumn, &str)| {
            let is_bare = matches!(column, OwnColumn::Property(_)) && own.contains(&name);
            (if is_bare { name.to_owned() } else { format!("{}{name}", options.prefix) }, column)
        };
        let columns: Vec<(String, OwnColumn)> =
            FIRST.into_iter().chain(unpacked).chain(last()).filter(|(column, _)| !served(column)).map(named).collect();
        let taken: Vec<String> =
            columns.iter().filter(|(name, _)| has(name)).map(|(name, _)| format!("`{name}`")).collect();
        if !taken.is_empty() {
            return Err(clash(&taken, &options.prefix));
        }
        let id_field = has_id && table.id_field.as_deref() == Some("custom_id");
        let json_answers = table.schema.is_some();
        let own = Self { columns, properties, json_answers, id_field, model_field, files: options.files };
        own.distinct()?;
        Ok(own)
    }

    /// Checks that no property has the name of one of llbatch's columns.
    fn distinct(&self) -> Result<()> {
        for (place, (name, column)) in self.columns.iter().enumerate() {
            let OwnColumn::Property(property) = column else { continue };
            if self.columns.iter().enumerate().any(|(other, (theirs, _))| other != place && theirs == name) {
                let property = &self.properties[*property];
                let what = format!("--unpack: the property `{property}` has the name of a column of llbatch");
                let hint = "pass --prefix llm_: it renames llbatch's columns, and the property keeps its name";
                return Err(Error::usage(what).hint(hint));
            }
        }
        Ok(())
    }

    /// The columns, each with its name in the table.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, &OwnColumn)> {
        self.columns.iter().map(|(name, column)| (name.as_str(), column))
    }

    /// Returns true if the field of this name serves for one of the columns.
    pub(super) fn fills(&self, name: &str) -> bool {
        (name == "custom_id" && self.id_field) || (name == "model" && self.model_field)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// The values of a row.
    pub(super) fn row<'a>(&'a self, outcome: &'a Outcome, cost: Option<Nanos>) -> OwnCells<'a> {
        let answer = match (&outcome.error, &outcome.body) {
            (None, Some(body)) => match outcome.places.as_ref().filter(|_| self.properties.is_empty()) {
                Some(places) => ShownAnswer::at(places, body, self),
                None => ShownAnswer::of(body, self),
            },
            _ => ShownAnswer::default(),
        };
        let error = outcome.error.as_ref().map(RowError::cell);
        OwnCells { columns: &self.columns, outcome, cost, answer, error }
    }

    /// The value of a field that serves for one of the columns, where this record leaves it out.
    pub(super) fn filled<'a>(&self, name: &str, field: Option<&Field<'_>>, outcome: &'a Outcome) -> Option<&'a str> {
        let absent = match field {
            None => true,
            Some(Field::Text(text)) => text.is_empty(),
            Some(Field::Json(json)) => *json == "null",
        };
        match name {
            _ if !absent => None,
            "custom_id" if self.id_field => Some(&outcome.id),
            "model" if self.model_field => Some(&outcome.model),
            _ => None,
        }
    }
}

/// The properties of a schema that become columns.
fn properties(schema: Option<&str>) -> Result<Vec<String>> {
    let Some(schema) = schema else {
        return Err(Error::usage("--unpack makes columns of the properties of a schema, and these rows have none")
            .hint("pass --json-schema FILE to `run` or `submit`, or leave out --unpack"));
    };
    let properties = Schema::properties(schema);
    if properties.is_empty() {
        return Err(Error::usage("--unpack: the schema has no properties at its top level")
            .hint("describe an object: {\"type\": \"object\", \"properties\": {…}}"));
    }
    Ok(properties)
}

fn clash(taken: &[String], prefix: &str) -> Error {
    let columns = if taken.len() == 1 { "a column" } else { "columns" };
    let other = if prefix == "llm_" { "result_" } else { "llm_" };
    Error::new(Exit::Data, format!("the input and the results both have {columns} named {}", taken.join(", "))).hint(
        format!("use --prefix {other} to rename the columns that llbatch adds: {other}model, {other}content, ..."),
    )
}

/// The value of one of llbatch's own columns. `Json` is copied as spelled.
pub(super) enum Cell<'a> {
    Empty,
    Text(&'a str),
    /// Words of a model or of a server.
    Words(&'a str),
    Json(&'a str),
    Integer(u64),
    /// A number of tenths.
    Tenths(u32),
    Usd(Nanos),
}

/// The values of llbatch's own columns in one row.
pub(super) struct OwnCells<'a> {
    columns: &'a [(String, OwnColumn)],
    outcome: &'a Outcome,
    cost: Option<Nanos>,
    answer: ShownAnswer<'a>,
    error: Option<String>,
}

impl OwnCells<'_> {
    /// The columns' names and values, in their order.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, Cell<'_>)> {
        self.columns.iter().map(|(name, column)| (name.as_str(), self.cell(column)))
    }

    fn cell(&self, column: &OwnColumn) -> Cell<'_> {
        let Self { outcome, answer, .. } = self;
        let usage =
            |count: fn(&Usage) -> u64| outcome.usage.as_ref().map_or(Cell::Empty, |usage| Cell::Integer(count(usage)));
        match column {
            OwnColumn::Id => Cell::Text(&outcome.id),
            OwnColumn::Model => Cell::Text(&outcome.model),
            OwnColumn::Content => answer.content.as_deref().map_or(Cell::Empty, Cell::Json),
            OwnColumn::Property(place) => match answer.properties.get(*place) {
                Some(Some(value)) => Cell::Json(value),
                _ => Cell::Empty,
            },
            OwnColumn::FinishReason => answer.finish_reason.map_or(Cell::Empty, Cell::Json),
            OwnColumn::PromptTokens => usage(|usage| usage.prompt),
            OwnColumn::CompletionTokens => usage(|usage| usage.completion),
            OwnColumn::CostUsd => self.cost.map_or(Cell::Empty, Cell::Usd),
            OwnColumn::Attempts => Cell::Integer(outcome.attempts.into()),
            // A request that was not sent has no latency.
            OwnColumn::LatencyMs if outcome.attempts == 0 => Cell::Empty,
            OwnColumn::LatencyMs => Cell::Integer(outcome.latency_ms.into()),
            OwnColumn::Error => self.error.as_deref().map_or(Cell::Empty, Cell::Words),
            OwnColumn::FirstTokenMs => outcome.first_token_ms.map_or(Cell::Empty, |ms| Cell::Integer(ms.into())),
            OwnColumn::TokensPerS => outcome.speed().map_or(Cell::Empty, Cell::Tenths),
            OwnColumn::CachedTokens => usage(|usage| usage.cached),
            OwnColumn::ReasoningTokens => usage(|usage| usage.reasoning),
            OwnColumn::Reused => Cell::Json(if outcome.is_reused() { "true" } else { "false" }),
        }
    }
}

/// The parts of an answer that have their own columns.
#[derive(Default)]
struct ShownAnswer<'a> {
    content: Option<Cow<'a, str>>,
    finish_reason: Option<&'a str>,
    /// The value of each property that becomes a column.
    properties: Vec<Option<String>>,
}

impl<'a> ShownAnswer<'a> {
    /// Takes them from their places, where nothing is to be unpacked: 7,000 instructions a row fewer than to parse.
    fn at(places: &AnswerPlaces, body: &'a str, own: &OwnColumns) -> Self {
        let content = places.shown(body).map(|spelled| own.content(spelled));
        Self { content, finish_reason: places.finish_reason(body), ..Self::default() }
    }

    /// Takes a choice's content or tool calls from a chat, the text from a completion or a transcript, the vector from an
    /// embedding, and the list of ranked documents. Several of them become a JSON list. Empty for any other body.
    fn of(body: &'a str, own: &OwnColumns) -> Self {
        if own.files
            && let Some(kept) = kept_answer(body)
        {
            return Self { content: file_paths(kept.files).map(Cow::Owned), ..Self::default() };
        }
        let body = Completion::of(body);
        let Some(first) = body.first() else {
            let values = body.embeddings().map(|vector| vector.map(Cow::Borrowed));
            let content = body.text().or_else(|| body.ranked()).map(Cow::Borrowed).or_else(|| one_or_list(values));
            return Self { content, ..Self::default() };
        };
        let content = |choice: &Choice<'a>| choice.shown().map(|spelled| own.content(spelled));
        let finish_reason = first.finish_reason;
        let properties = own.unpacked(body.choices());
        Self { content: one_or_list(body.choices().iter().map(content)), finish_reason, properties }
    }
}

impl OwnColumns {
    /// The value of the column `content`.
    fn content<'a>(&self, spelled: &'a str) -> Cow<'a, str> {
        if self.json_answers { without_fence(spelled) } else { Cow::Borrowed(spelled) }
    }

    /// The value of each property that becomes a column, in these choices.
    fn unpacked(&self, choices: &[Choice<'_>]) -> Vec<Option<String>> {
        if self.properties.is_empty() {
            return Vec::new();
        }
        let texts: Vec<Cow<'_, str>> = choices.iter().map(|choice| choice.content_text().unwrap_or_default()).collect();
        let objects: Vec<Vec<json::Member<'_>>> =
            texts.iter().map(|text| json::members(unfenced(text).unwrap_or(text)).unwrap_or_default()).collect();
        let value = |property: &String| {
            let values = objects.iter().map(|members| json::find(members, property));
            one_or_list(values.map(|member| member.map(|member| json::one_line(member.value))))
        };
        self.properties.iter().map(|property| value(property).map(Cow::into_owned)).collect()
    }
}

/// A JSON string without the Markdown fence around its text.
fn without_fence(spelled: &str) -> Cow<'_, str> {
    if !may_be_fenced(spelled) {
        return Cow::Borrowed(spelled);
    }
    let text = json::string(spelled);
    let inside = text.as_deref().and_then(unfenced);
    inside.map_or(Cow::Borrowed(spelled), |inside| Cow::Owned(json::quote(inside)))
}

/// Returns the only value, or the JSON list of several.
fn one_or_list<'a>(mut values: impl Iterator<Item = Option<Cow<'a, str>>>) -> Option<Cow<'a, str>> {
    let first = values.next()?;
    let Some(second) = values.next() else { return first };
    let mut list = format!("[{}", first.as_deref().unwrap_or("null"));
    for value in std::iter::once(second).chain(values) {
        list.push(',');
        list.push_str(value.as_deref().unwrap_or("null"));
    }
    list.push(']');
    Some(Cow::Owned(list))
}
