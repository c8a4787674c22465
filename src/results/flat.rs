//! The flat JSON line: the record's own fields, then llbatch's columns.

use std::borrow::Cow;
use std::io::Write as _;

use super::Field;
use super::own_columns::{Cell, OwnColumns};
use crate::json;
use crate::outcome::Outcome;
use crate::price::Nanos;

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
        for (i, (name, cell)) in self.own.row(outcome, cost).each().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            key(name, out);
            match cell {
                Cell::Empty => out.extend_from_slice(b"null"),
                Cell::Text(text) | Cell::Words(text) => json::write(text, out),
                Cell::Json(json) => out.extend_from_slice(json.as_bytes()),
                Cell::Integer(number) => json::write(&number, out),
                Cell::Tenths(tenths) => json::write(&(f64::from(tenths) / 10.0), out),
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
    use super::super::format::{MoreColumns, Renderer, ResultFormat, ResultOptions};
    use super::super::own_columns::names;
    use super::*;
    use crate::completion::{AnswerPlaces, Completion};
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
        let options = ResultOptions { flat: true, ..ResultOptions::new(ResultFormat::Jsonl) };
        let mut out = Vec::new();
        Renderer::new(&options, &RecordColumns::default()).unwrap().render(outcome, cost, fields, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// A table of answers to a schema with the properties `mood` and `tags`, unpacked.
    fn unpacked(prefix: &str, fields: &[&str]) -> crate::error::Result<Renderer> {
        let table = RecordColumns {
            names: fields.iter().map(|name| (*name).to_owned()).collect(),
            schema: Some(
                r##"{"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"mood": {}, "tags": {}}}}}"##.to_owned(),
            ),
            ..RecordColumns::default()
        };
        let more = MoreColumns { unpacked: true, ..MoreColumns::default() };
        let prefix = prefix.to_owned();
        Renderer::new(&ResultOptions { prefix, more, ..ResultOptions::new(ResultFormat::Csv) }, &table)
    }

    #[test]
    fn properties_become_columns_behind_the_content_and_fences_go() {
        let renderer = unpacked("", &[]).unwrap();
        let mut out = Vec::new();
        renderer.header(&mut out);
        let chat = |content: &str| {
            let message = json!({"message": {"content": content}, "finish_reason": "stop"});
            answered(&json!({"choices": [message]}).to_string())
        };
        for content in [
            "```json\n{\"tags\": [\"a\",\n 1], \"mood\": \"fine\"}\n```",
            r#"{"mood": "=1", "mood": "-x"}"#,
            r#"{"mood": null, "other": 1}"#,
        ] {
            renderer.render(&chat(content), None, &[], &mut out);
        }
        let two = json!([{"message": {"content": "{\"mood\": 1}"}}, {"message": {"content": "```\n{}\n```"}}]);
        renderer.render(&answered(&json!({"choices": two}).to_string()), None, &[], &mut out);
        let mut failed = chat("{\"mood\": 7}");
        failed.error = Some(crate::outcome::RowError::new(ErrorCode::InvalidAnswer, "the answer …"));
        renderer.render(&failed, None, &[], &mut out);
        let mut rows = ::csv::ReaderBuilder::new().has_headers(false).from_reader(&out[..]);
        let found: Vec<Vec<String>> =
            rows.records().map(|row| row.unwrap().iter().skip(2).take(4).map(str::to_owned).collect()).collect();
        let expected = [
            ["content", "mood", "tags", "finish_reason"],
            ["{\"tags\": [\"a\",\n 1], \"mood\": \"fine\"}", "fine", "[\"a\",1]", "stop"],
            ["{\"mood\": \"=1\", \"mood\": \"-x\"}", "'-x", "", "stop"],
            ["{\"mood\": null, \"other\": 1}", "", "", "stop"],
            ["[\"{\\\"mood\\\": 1}\",\"{}\"]", "[1,null]", "[null,null]", ""],
            ["", "", "", ""],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_taken_property_asks_for_a_prefix() {
        let error = unpacked("", &["id", "mood"]).unwrap_err();
        assert!(error.message.ends_with("a column named `mood`"), "{error}");
        assert!(error.hint.unwrap().contains("--prefix llm_"));
        assert!(unpacked("llm_", &["id", "mood"]).is_ok());
        let schema = Some(r#"{"properties": {"error": {}}}"#.to_owned());
        let more = MoreColumns { unpacked: true, ..MoreColumns::default() };
        let options = ResultOptions { more, ..ResultOptions::new(ResultFormat::Csv) };
        let table = RecordColumns { schema, ..RecordColumns::default() };
        let error = Renderer::new(&options, &table).unwrap_err();
        assert!(error.message.contains("the property `error` has the name of a column of llbatch"), "{error}");
        assert!(error.hint.unwrap().contains("--prefix llm_"));
        // Behind a prefix, the name is free.
        let options = ResultOptions { prefix: "llm_".to_owned(), ..options };
        let (mut header, renderer) = (Vec::new(), Renderer::new(&options, &table).unwrap());
        renderer.header(&mut header);
        let header = String::from_utf8(header).unwrap();
        assert!(header.contains(",llm_content,error,llm_finish_reason,") && header.contains(",llm_error"), "{header}");
        for schema in [None, Some("{}".to_owned()), Some(r##"{"$ref": "#"}"##.to_owned())] {
            let table = RecordColumns { schema, ..RecordColumns::default() };
            assert_eq!(Renderer::new(&options, &table).unwrap_err().exit, crate::error::Exit::Usage);
        }
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
            let parsed = line(&answered(body), None, &[]);
            let value: Value = serde_json::from_str(&parsed).unwrap();
            assert_eq!((&value["content"], &value["finish_reason"]), (&content, &finish), "{body}");
            let places = AnswerPlaces::of(&Completion::of(body), body);
            assert_eq!(line(&Outcome { places, ..answered(body) }, None, &[]), parsed, "{body}");
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
            error: Some(crate::outcome::RowError::new(ErrorCode::RateLimited, "slow \"down\"")),
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
        assert_eq!(keys, names());
    }
}
