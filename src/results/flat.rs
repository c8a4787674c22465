//! The columns that flat forms take out of an answer, and the flat JSON line.

use std::borrow::Cow;
use std::io::Write as _;

use super::Field;
use crate::completion::{Choice, Completion, Message};
use crate::json;
use crate::outcome::Outcome;
use crate::price::Nanos;

/// The value of one of llbatch's own columns. `Json` is copied as spelled.
pub(super) enum Cell<'a> {
    Empty,
    Text(&'a str),
    /// Words of a model or of a server.
    Words(&'a str),
    Json(Cow<'a, str>),
    Integer(u64),
    Usd(Nanos),
}

/// The values of the columns, and of those of `--usage-columns`, in their order. `error` is scratch space for
/// the column of that name.
pub(super) fn own_cells<'a>(outcome: &'a Outcome, cost: Option<Nanos>, error: &'a mut String) -> [Cell<'a>; 12] {
    let answer = match (&outcome.error, &outcome.body) {
        (None, Some(body)) => ShownAnswer::of(body),
        _ => ShownAnswer::default(),
    };
    let json = |value: Option<Cow<'a, str>>| value.map_or(Cell::Empty, Cell::Json);
    let usage = |count: fn(&crate::outcome::Usage) -> u64| {
        outcome.usage.as_ref().map_or(Cell::Empty, |usage| Cell::Integer(count(usage)))
    };
    let failure = match &outcome.error {
        None => Cell::Empty,
        Some(failure) => {
            error.push_str(failure.code.as_str());
            error.push_str(": ");
            error.push_str(&failure.message);
            Cell::Words(error)
        }
    };
    [
        Cell::Text(&outcome.id),
        Cell::Text(&outcome.model),
        json(answer.content),
        json(answer.finish_reason.map(Cow::Borrowed)),
        usage(|usage| usage.prompt),
        usage(|usage| usage.completion),
        cost.map_or(Cell::Empty, Cell::Usd),
        Cell::Integer(u64::from(outcome.attempts)),
        // A request that was not sent has no latency.
        if outcome.attempts == 0 { Cell::Empty } else { Cell::Integer(u64::from(outcome.latency_ms)) },
        failure,
        usage(|usage| usage.cached),
        usage(|usage| usage.reasoning),
    ]
}

/// The columns that llbatch adds to the record's fields in a table.
#[derive(Debug)]
pub(super) struct OwnColumns {
    /// Name of each column; `None`: a field of the record serves for it.
    names: Vec<Option<String>>,
    /// The record's field with the id, if it is called `custom_id`.
    id_field: bool,
    /// The record's `model` is that of the request.
    model_field: bool,
}

impl OwnColumns {
    pub(super) const fn new(names: Vec<Option<String>>, id_field: bool, model_field: bool) -> Self {
        Self { names, id_field, model_field }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(String::as_str)
    }

    /// The cells of the columns, in their order.
    pub(super) fn cells<'a>(
        &self,
        outcome: &'a Outcome,
        cost: Option<Nanos>,
        error: &'a mut String,
    ) -> impl Iterator<Item = Cell<'a>> {
        self.names.iter().zip(own_cells(outcome, cost, error)).filter_map(|(name, cell)| name.as_ref().map(|_| cell))
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

/// The parts of an answer that have their own columns.
#[derive(Default)]
struct ShownAnswer<'a> {
    content: Option<Cow<'a, str>>,
    finish_reason: Option<&'a str>,
}

impl<'a> ShownAnswer<'a> {
    /// Takes a choice's content or tool calls from a chat, the text from a completion or a transcript, and the vector from an
    /// embedding. Several of them become a JSON list. Empty for any other body.
    fn of(body: &'a str) -> Self {
        let body = Completion::of(body);
        let Some(first) = body.first() else {
            let content = body.text().map(Cow::Borrowed).or_else(|| one_or_list(body.embeddings()));
            return Self { content, finish_reason: None };
        };
        let content = |choice: &Choice<'a>| choice.message().map_or_else(|| choice.text(), content_of);
        Self { content: one_or_list(body.choices().iter().map(content)), finish_reason: first.finish_reason }
    }
}

/// Returns the only value, or the JSON list of several.
fn one_or_list<'a>(mut values: impl Iterator<Item = Option<&'a str>>) -> Option<Cow<'a, str>> {
    let first = values.next()?.map(Cow::Borrowed);
    let Some(second) = values.next() else { return first };
    let mut list = format!("[{}", first.as_deref().unwrap_or("null"));
    for value in std::iter::once(second).chain(values) {
        list.push(',');
        list.push_str(value.unwrap_or("null"));
    }
    list.push(']');
    Some(Cow::Owned(list))
}

fn content_of<'a>(message: &Message<'a>) -> Option<&'a str> {
    // Some servers send "" beside tool calls, and [] for no tool calls.
    let text = message.content().filter(|content| *content != "\"\"");
    let calls = message.tool_calls().filter(|_| message.calls_tools());
    text.or(calls).or(message.content())
}

/// Writes flat JSON lines.
#[derive(Debug)]
pub(super) struct FlatLines {
    own: OwnColumns,
}

impl FlatLines {
    pub(super) const fn new(own: OwnColumns) -> Self {
        Self { own }
    }

    /// Appends the record's fields, then llbatch's own columns.
    pub(super) fn line(
        &self,
        outcome: &Outcome,
        cost: Option<Nanos>,
        fields: &[(Cow<'_, str>, Field<'_>)],
        out: &mut Vec<u8>,
    ) {
        out.push(b'{');
        for (name, value) in fields {
            key(name, out);
            match (value, self.own.filled(name, Some(value), outcome)) {
                (_, Some(text)) => json::write(text, out),
                (Field::Text(text), None) => json::write(text, out),
                (Field::Json(json), None) => out.extend_from_slice(json.as_bytes()),
            }
            out.push(b',');
        }
        for name in ["custom_id", "model"] {
            let absent = fields.iter().all(|(other, _)| other != name);
            if let Some(text) = self.own.filled(name, None, outcome).filter(|_| absent) {
                key(name, out);
                json::write(text, out);
                out.push(b',');
            }
        }
        let mut error = String::new();
        for (i, (name, cell)) in self.own.names().zip(self.own.cells(outcome, cost, &mut error)).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            key(name, out);
            match cell {
                Cell::Empty => out.extend_from_slice(b"null"),
                Cell::Text(text) | Cell::Words(text) => json::write(text, out),
                Cell::Json(json) => out.extend_from_slice(json.as_bytes()),
                Cell::Integer(number) => json::write(&number, out),
                Cell::Usd(usd) => usd_digits(usd, out),
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

fn key(name: &str, out: &mut Vec<u8>) {
    json::write(name, out);
    out.push(b':');
}

/// Appends the exact decimal.
pub(super) fn usd_digits(usd: Nanos, out: &mut Vec<u8>) {
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{usd}");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::columns::RecordColumns;
    use super::super::format::{COLUMNS, Renderer, ResultFormat, ResultOptions};
    use super::*;
    use crate::outcome::{ErrorCode, Usage};

    fn answered(body: &str) -> Outcome {
        Outcome {
            error: None,
            status: Some(200),
            body: Some(body.into()),
            usage: Some(Usage::new(12, 3)),
            attempts: 2,
            latency_ms: 345,
            batch: None,
            ..Outcome::unsent(1, "r1".into(), "org/m".into(), ErrorCode::Missing, "")
        }
    }

    fn line(outcome: &Outcome, cost: Option<Nanos>, fields: &[(Cow<'_, str>, Field<'_>)]) -> String {
        let options = ResultOptions {
            format: ResultFormat::Jsonl,
            flat: true,
            prefix: String::new(),
            csv_raw: false,
            usage_columns: false,
        };
        let mut out = Vec::new();
        Renderer::new(&options, &RecordColumns::default()).unwrap().render(outcome, cost, fields, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn content_is_found_in_every_kind_of_answer() {
        let cases = [
            (
                r#"{"choices":[{"message":{"role":"assistant","content":"hi","tool_calls":[]},"finish_reason":"stop"}],"x":1}"#,
                json!("hi"),
                json!("stop"),
            ),
            (
                r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c"}]},"finish_reason":"tool_calls"}]}"#,
                json!([{"id":"c"}]),
                json!("tool_calls"),
            ),
            (
                r#"{"choices":[{"message":{"content":"","tool_calls":[{"id":"c"}]},"finish_reason":7}]}"#,
                json!([{"id":"c"}]),
                json!(7),
            ),
            (r#"{"choices":[{"message":{"content":"","tool_calls":[ ]}}]}"#, json!(""), Value::Null),
            (
                r#"{"choices":[{"message":{"content":[{"type":"text","text":"p"}]}}, {"message":{"content":"second"}}]}"#,
                json!([[{"type":"text","text":"p"}], "second"]),
                Value::Null,
            ),
            (r#"{"choices":[{"text":"once","finish_reason":"length","seed":null}]}"#, json!("once"), json!("length")),
            (r#"{"object":"list","data":[{"index":0,"embedding":[0.5,-1e-7]}]}"#, json!([0.5, -1e-7]), Value::Null),
            (r#"{"data":[{"embedding":[1]},{"embedding":[2, 3]}]}"#, json!([[1], [2, 3]]), Value::Null),
            (r#"{"text":"a transcript"}"#, json!("a transcript"), Value::Null),
            (r#"{"choices":[],"data":null}"#, Value::Null, Value::Null),
            (r#"{"choices":null}"#, Value::Null, Value::Null),
            ("[]", Value::Null, Value::Null),
            ("\"text\"", Value::Null, Value::Null),
        ];
        for (body, content, finish) in cases {
            let value: Value = serde_json::from_str(&line(&answered(body), None, &[])).unwrap();
            assert_eq!((&value["content"], &value["finish_reason"]), (&content, &finish), "{body}");
        }
    }

    #[test]
    fn the_records_fields_come_first_and_ours_follow_in_order() {
        let fields = [
            ("id".into(), Field::Text("r1".into())),
            ("z".into(), Field::Json("{\"n\": 1E400}")),
            ("a\"".into(), Field::Text("x\ny".into())),
        ];
        let body = r#"{"choices":[{"message":{"content":"\ud800 caf\u00e9"},"finish_reason":"stop"}]}"#;
        let text = line(&answered(body), Some("0.0000012".parse().unwrap()), &fields);
        let expected = concat!(
            r#"{"id":"r1","z":{"n": 1E400},"a\"":"x\ny","custom_id":"r1","model":"org/m","content":"\ud800 caf\u00e9","#,
            r#""finish_reason":"stop","prompt_tokens":12,"completion_tokens":3,"cost_usd":0.0000012,"attempts":2,"#,
            r#""latency_ms":345,"error":null}"#,
            "\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_failed_row_carries_its_error_and_nothing_of_the_refusal() {
        let failed = Outcome {
            error: Some(crate::outcome::RowError { code: ErrorCode::RateLimited, message: "slow \"down\"".to_owned() }),
            usage: None,
            ..answered(r#"{"choices":[{"text":"no answer"}]}"#)
        };
        let value: Value = serde_json::from_str(&line(&failed, None, &[])).unwrap();
        assert_eq!(value["error"], "rate_limited: slow \"down\"");
        for column in ["content", "finish_reason", "prompt_tokens", "completion_tokens", "cost_usd"] {
            assert_eq!(value[column], Value::Null, "{column}");
        }
        let unsent = Outcome::unsent(2, "r2".into(), "m".into(), ErrorCode::Budget, "spent");
        let value: Value = serde_json::from_str(&line(&unsent, None, &[])).unwrap();
        assert_eq!((&value["attempts"], &value["latency_ms"]), (&json!(0), &Value::Null));
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, COLUMNS.iter().collect::<Vec<_>>());
    }
}
