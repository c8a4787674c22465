//! The request of a table's row: its prompt or its messages stand in a column.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::body::{Built, SubjectText};
use super::builder::{NO_PROMPT, RequestBuilder, empty_prompt};
use super::hints;
use super::params::{Endpoint, ParameterKind};
use super::problem::{Problem, listed, shorten};
use super::record::Record;
use super::template::{ROW, Template};
use crate::json;

/// The column that holds the messages of a chat, as JSON.
pub(super) const MESSAGES: &str = "messages";

impl RequestBuilder {
    pub(super) fn columns<'a>(
        &self,
        record: &Record<'a>,
        names: &'a [String],
        values: &'a csv::StringRecord,
    ) -> Result<Built<'a>, Problem> {
        let cell = |is: &dyn Fn(&str) -> bool| names.iter().zip(values.iter()).find(|(name, _)| is(name));
        let found = cell(&|name| self.is_prompt(name)).or_else(|| cell(&|name| self.is_subject(name)));
        let Some((name, text)) = found else {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let (text, hint) = no_column(self.endpoint, &names);
            return Err(Problem::new(record, NO_PROMPT, text).hint(hint));
        };
        if text.trim().is_empty() {
            return Err(empty_prompt(record, &format!("the column `{name}` is empty")));
        }
        let system = self.system_of(record, &[])?;
        let params = self.own_params(record, &[])?;
        let patch = self.patch(&[]);
        if self.is_prompt(name) {
            patch.compose(record, SubjectText::Prompt(&json::quote(text)), system.as_deref(), &params)
        } else {
            let messages = messages(record, text.trim())?;
            patch.compose(record, SubjectText::Messages(&messages), system.as_deref(), &params)
        }
    }

    /// The problem of a table that lacks the column which requests need, and the remedy.
    pub fn missing_column(&self, names: &[String]) -> Option<(String, String)> {
        let needed = self.prompt.is_none() && self.endpoint.is_made_of_one();
        let all = || names.iter().map(String::as_str).collect::<Vec<_>>();
        (needed && !names.iter().any(|name| self.is_subject(name))).then(|| no_column(self.endpoint, &all()))
    }

    /// Returns true if requests need a column of a table and find none among these.
    pub fn finds_no_column(&self, names: &[String]) -> bool {
        let uses_one = |template: &Template| template.uses(ROW) || names.iter().any(|name| template.uses(name));
        let template = self.prompt.as_ref().filter(|_| !self.constant_prompt);
        self.missing_column(names).is_some() || template.is_some_and(|template| !uses_one(template))
    }

    /// Returns true if a column of this name holds the prompt, the text to embed, or the recording.
    pub(super) fn is_prompt(&self, name: &str) -> bool {
        if self.endpoint.is_audio() {
            return name == self.endpoint.subject();
        }
        name == "prompt" || (self.endpoint.subject() == "input" && name == "input")
    }

    /// Returns true if a column of this name holds what the endpoint answers.
    pub(super) fn is_subject(&self, name: &str) -> bool {
        self.is_prompt(name) || (self.endpoint == Endpoint::Chat && name == MESSAGES)
    }
}

/// The messages in a cell, on one line.
pub(super) fn messages<'a>(record: &Record<'_>, cell: &'a str) -> Result<Cow<'a, str>, Problem> {
    if cell.starts_with('[') && serde_json::from_str::<&RawValue>(cell).is_ok() {
        return Ok(json::one_line(cell));
    }
    let text = format!("the column `{MESSAGES}` must hold JSON messages, not {}", shorten(cell));
    let hint = if cell.trim_start_matches(['[', ' ']).starts_with("{'") {
        "JSON has double quotes only; Python writes them with json.dumps(messages), not with str(messages)"
    } else {
        r#"they look like [{"role": "user", "content": "…"}]; a plain text is sent with --prompt '{{ messages }}'"#
    };
    Err(Problem::new(record, MESSAGES, text).hint(hint))
}

pub(super) fn no_column(endpoint: Endpoint, names: &[&str]) -> (String, String) {
    let column = match endpoint {
        Endpoint::Embeddings | Endpoint::Speech => "`input` or `prompt`",
        Endpoint::Chat => "`prompt` or `messages`",
        Endpoint::Transcriptions | Endpoint::Translations => "`file`",
        _ => "`prompt`",
    };
    let text = format!("there is no column {column}; the columns are: {}", listed(names.iter().copied()));
    (text, hints::no_prompt(endpoint, names))
}

/// A cell as the JSON value of the parameter that its column names.
pub(super) fn cell_value<'a>(
    record: &Record<'_>,
    name: &str,
    cell: &'a str,
    kind: ParameterKind,
) -> Result<Cow<'a, str>, Problem> {
    kind.value(cell).map_err(|wants| {
        Problem::new(record, "value", format!("the column `{name}` must hold {wants}, not {}", shorten(cell)))
            .hint("correct the cell, or empty it to leave the parameter unset")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::request::{Data, Params};

    fn body(params: &Params, names: &[&str], cells: &[&str]) -> Result<String, Problem> {
        let names: Arc<[String]> = names.iter().map(|name| (*name).to_owned()).collect();
        let values = csv::StringRecord::from(cells.to_vec());
        let data = Data::Columns { names: &names, values: &values };
        let record = Record { row: 1, number: 1, file: "a.csv", line: 2.into(), data };
        RequestBuilder::new(params).unwrap().request(&record).map(|request| request.body.into())
    }

    #[test]
    fn column_of_messages_is_sent_as_messages() {
        let params = Params { model: Some("m".to_owned()), ..Params::default() };
        let system = Params { system: Some("s".to_owned()), ..params.clone() };
        let user = r#"[ {"role":"user","content":"a\n"},
 {"role":"assistant"}]"#;
        let own = r#"[{"role":"system","content":"own"}]"#;
        let sent = |params, cell| body(params, &["id", "messages", "max_tokens"], &["a", cell, "5"]).unwrap();
        assert_eq!(
            sent(&params, user),
            r#"{"model":"m","messages":[{"role":"user","content":"a\n"},{"role":"assistant"}],"max_tokens":5}"#
        );
        assert!(sent(&system, user).starts_with(r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role""#));
        assert_eq!(sent(&system, own), format!(r#"{{"model":"m","messages":{own},"max_tokens":5}}"#));
        let both = body(&params, &["prompt", "messages"], &["x", "3"]).unwrap();
        assert_eq!(both, r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
        let data = Params { prompt: Some("{{ messages }}".to_owned()), ..params.clone() };
        assert!(body(&data, &["messages"], &["hi"]).unwrap().contains(r#""content":"hi""#));
        for (cell, code, hint) in [
            ("hello", "messages", "--prompt '{{ messages }}'"),
            ("[{'role': 'user', 'content': 'x'}]", "messages", "json.dumps"),
            (r#"[{"role":"user"}"#, "messages", "look like"),
            (r#"{"role":"user"}"#, "messages", "look like"),
            ("[]", "messages", "looks like"),
            (r#"[{"content":"x"}]"#, "messages", "looks like"),
            (" ", "empty_prompt", "fill it"),
        ] {
            let problem = body(&params, &["messages"], &[cell]).unwrap_err();
            assert_eq!(problem.code, code, "{cell}: {problem}");
            assert!(problem.hint.as_ref().is_some_and(|text| text.contains(hint)), "{cell}: {:?}", problem.hint);
        }
    }
}
