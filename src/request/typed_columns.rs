//! The request of a row of a Parquet file: a table whose columns have types.
//!
//! The same columns count as in a CSV. A null is an empty cell, and a parameter keeps its type. Messages may be a list of
//! structs, as data sets have them, or JSON text.

use std::borrow::Cow;

use serde_json::Value;

use super::body::{Built, SubjectText};
use super::builder::{NO_PROMPT, RequestBuilder, empty_prompt};
use super::columns::{MESSAGES, cell_value, messages, no_column};
use super::params::ParameterKind;
use super::problem::{Problem, shorten};
use super::record::Record;
use crate::json::{self, Member};

impl RequestBuilder {
    pub(super) fn typed_columns<'a>(&self, record: &Record<'a>, row: &[Member<'a>]) -> Result<Built<'a>, Problem> {
        let find = |is: &dyn Fn(&str) -> bool| {
            let mut all = row.iter().filter(|member| is(&member.key));
            let first = all.clone().next();
            all.find(|member| !member.is_null()).or(first)
        };
        let prompt = find(&|name| self.is_prompt(name));
        let subject = prompt.filter(|prompt| !prompt.is_null()).or_else(|| find(&|name| self.is_subject(name)));
        let Some(Member { key: name, value, .. }) = subject else {
            let names: Vec<&str> = row.iter().map(|member| &*member.key).collect();
            let (text, hint) = no_column(self.endpoint, &names);
            return Err(Problem::new(record, NO_PROMPT, text).hint(hint));
        };
        if *value == "null" || (value.starts_with('"') && json::is_blank(value)) {
            return Err(empty_prompt(record, &format!("the column `{name}` is empty")));
        }
        let system = self.system_of(record, row)?;
        let params = self.own_params(record, row)?;
        let patch = self.patch(&[]);
        if self.is_prompt(name) {
            if !value.starts_with('"') {
                return Err(not_text(record, name, value));
            }
            patch.compose(record, SubjectText::Prompt(value), system.as_deref(), &params)
        } else {
            let messages = typed_messages(record, value)?;
            patch.compose(record, SubjectText::Messages(&messages), system.as_deref(), &params)
        }
    }
}

/// The messages in a column: JSON text, or a list of structs. Its nulls are fields that a message does not have, since all
/// structs of a column have the same fields.
fn typed_messages<'a>(record: &Record<'_>, value: &'a str) -> Result<Cow<'a, str>, Problem> {
    if let Some(text) = json::string(value) {
        return messages(record, text.trim()).map(|messages| Cow::Owned(messages.into_owned()));
    }
    if !value.contains("null") {
        return messages(record, value);
    }
    match serde_json::from_str(value) {
        Ok(parsed) => Ok(Cow::Owned(without_nulls(parsed).to_string())),
        Err(_) => messages(record, value),
    }
}

/// A value without the null members of its objects.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        Value::Object(members) => {
            let there = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}

fn not_text(record: &Record<'_>, name: &str, value: &str) -> Problem {
    let text = format!("the column `{name}` must hold a text, not {}", shorten(value));
    let hint = if value.starts_with('[') && value.contains("\"role\"") {
        format!("these are messages: rename the column to `{MESSAGES}`")
    } else {
        format!("pass --prompt '{{{{ {name} }}}}' to send it as text")
    };
    Problem::new(record, "prompt", text).hint(hint)
}

/// A value as the JSON of the parameter that its column names. A text may spell a number, such as a decimal.
pub(super) fn typed_value<'a>(
    record: &Record<'_>,
    member: &Member<'a>,
    kind: ParameterKind,
) -> Result<Cow<'a, str>, Problem> {
    let spelled = || match json::string(member.value) {
        Some(text) => text,
        None => Cow::Borrowed(member.value),
    };
    match kind {
        ParameterKind::Number | ParameterKind::Whole | ParameterKind::Json => {
            cell_value(record, &member.key, &spelled(), kind).map(|value| Cow::Owned(value.into_owned()))
        }
        ParameterKind::Text | ParameterKind::Either => Ok(Cow::Borrowed(member.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Data, InputPlace, Params};

    fn body(params: &Params, row: &str) -> Result<String, Problem> {
        let record = Record { row: 1, number: 1, file: "a.parquet", line: InputPlace::Row(9), data: Data::Row(row) };
        RequestBuilder::new(params).unwrap().request(&record).map(|request| request.body.into())
    }

    fn with_model() -> Params {
        Params { model: Some("m".to_owned()), ..Params::default() }
    }

    #[test]
    fn columns_are_a_prompt_or_messages_and_parameters_and_nothing_else() {
        let row = r#"{"id":7,"prompt":"p","source":"x","max_tokens":256.0,"temperature":"0.50","n":3,"stop":null,"seed":null}"#;
        let expected =
            r#"{"model":"m","messages":[{"role":"user","content":"p"}],"max_tokens":256,"temperature":0.50}"#;
        assert_eq!(body(&with_model(), row).unwrap(), expected);
        let listed = r#"{"messages":[{"role":"user","content":"a","name":null},{"role":"tool","content":[{"type":"text","text":"b","image_url":null}],"name":"t"}],"score":0.5}"#;
        let expected = r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"tool","content":[{"type":"text","text":"b"}],"name":"t"}]}"#;
        assert_eq!(body(&with_model(), listed).unwrap(), expected);
        let text = r#"{"prompt":null,"messages":"[{\"role\":\"user\",\"content\":null}]"}"#;
        let expected = r#"{"model":"m","messages":[{"role":"user","content":null}]}"#;
        assert_eq!(body(&with_model(), text).unwrap(), expected, "a text is sent as it was written");
    }

    #[test]
    fn problems_name_the_row_and_no_column_of_a_line() {
        for (row, code, text) in [
            (r#"{"text":"x"}"#, "no_prompt", "a.parquet:row 9: there is no column `prompt` or `messages`"),
            (r#"{"prompt":null}"#, "empty_prompt", "a.parquet:row 9: the column `prompt` is empty"),
            (r#"{"prompt":" "}"#, "empty_prompt", "a.parquet:row 9: the column `prompt` is empty"),
            (r#"{"prompt":[1,2]}"#, "prompt", "a.parquet:row 9: the column `prompt` must hold a text, not [1,2]"),
            (r#"{"messages":"hello"}"#, "messages", "a.parquet:row 9: the column `messages` must hold JSON messages"),
            (r#"{"prompt":"p","max_tokens":"many"}"#, "value", "a.parquet:row 9: the column `max_tokens` must hold"),
            (r#"{"id":[1],"prompt":"p"}"#, "id", "a.parquet:row 9: the id in `id` is neither"),
        ] {
            let problem = body(&with_model(), row).unwrap_err();
            assert_eq!(problem.code, code, "{row}");
            assert!(problem.to_string().starts_with(text) && problem.hint.is_some(), "{row}: {problem}");
        }
    }
}
