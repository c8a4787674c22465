//! Reads result files again: the batch line of any tool that writes it, as `report FILE` needs it.

use std::io::BufRead;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Exit, Result};
use crate::outcome::{ErrorCode, RowError, Usage};

/// One line of a results file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedOutcome {
    /// The model that the body says answered.
    pub model: Option<String>,
    /// HTTP status of the response.
    pub status: Option<u16>,
    /// Why there is no answer: the line's error, or a status that is none of success.
    pub error: Option<RowError>,
    /// As the server reported it.
    pub usage: Option<Usage>,
}

/// The rows of a results file in batch-line form, each with its id. Blank lines are skipped.
///
/// # Errors
/// Each item on its own: data (65) with the line's number for a line of another shape, no-input (66) if reading fails.
pub fn results(input: impl BufRead) -> impl Iterator<Item = Result<(String, ParsedOutcome)>> {
    input.split(b'\n').zip(1_u64..).filter_map(|(line, number)| match line {
        Ok(line) if line.trim_ascii().is_empty() => None,
        Ok(line) => Some(parse(&line).map_err(|error| {
            Error::new(Exit::Data, format!("line {number} is no result line"))
                .because(error)
                .hint("results are JSON lines with custom_id, response and error, as `run` writes them without --flat")
        })),
        Err(error) => Some(Err(Error::new(Exit::NoInput, format!("cannot read line {number}")).because(error))),
    })
}

#[derive(Deserialize)]
struct Line<'a> {
    custom_id: String,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
    #[serde(borrow, default)]
    error: Option<Failure<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(default)]
    status_code: Option<u16>,
    /// Looked into only if it is an object of the expected shape: servers send anything beside an error.
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

fn parse(line: &[u8]) -> serde_json::Result<(String, ParsedOutcome)> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    let status = line.response.as_ref().and_then(|response| response.status_code);
    let body = line.response.and_then(|response| response.body);
    let Body { model, usage } = body.and_then(|body| serde_json::from_str(body.get()).ok()).unwrap_or_default();
    let usage = usage.map(|usage| Usage {
        prompt: usage.prompt_tokens.unwrap_or_default(),
        completion: usage.completion_tokens.unwrap_or_default(),
    });
    let error = match (line.error, status) {
        (Some(failure), _) => Some(failure.row_error(status)),
        (None, Some(200..=299)) => None,
        (None, Some(status)) => Some(RowError { code: by_status(status), message: format!("HTTP {status}") }),
        (None, None) => {
            Some(RowError { code: ErrorCode::Missing, message: "neither a response nor an error".to_owned() })
        }
    };
    Ok((line.custom_id, ParsedOutcome { model, status, error, usage }))
}

impl Failure<'_> {
    fn row_error(&self, status: Option<u16>) -> RowError {
        let text = |value: Option<&RawValue>| {
            value.map(|value| serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned()))
        };
        let own = text(self.code);
        // Other tools have codes of their own: the status says more than a guess at their meaning.
        let code = own.as_deref().and_then(ErrorCode::parse).or_else(|| status.map(by_status));
        let message = text(self.message).unwrap_or_default();
        match (code, own) {
            (Some(code), _) => RowError { code, message },
            (None, Some(own)) => RowError { code: ErrorCode::ServerError, message: format!("{own}: {message}") },
            (None, None) => RowError { code: ErrorCode::ServerError, message },
        }
    }
}

/// The code nearest to a status of which nothing else is known.
fn by_status(status: u16) -> ErrorCode {
    match status {
        401 => ErrorCode::Auth,
        402 => ErrorCode::Payment,
        403 => ErrorCode::ContextLength,
        404 => ErrorCode::NotFound,
        408 | 504 => ErrorCode::Timeout,
        429 => ErrorCode::RateLimited,
        503 | 529 => ErrorCode::Overloaded,
        200..=299 => ErrorCode::BadResponse,
        400..=499 => ErrorCode::InvalidRequest,
        _ => ErrorCode::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::output::{Format, Options, Renderer};

    fn one(line: &str) -> ParsedOutcome {
        results(line.as_bytes()).next().expect("a line").expect("a result").1
    }

    #[test]
    fn what_we_wrote_reads_back() {
        let options = Options { format: Format::Jsonl, flat: false, prefix: String::new(), csv_raw: false };
        let renderer = Renderer::new(&options, &[], None).unwrap();
        let failed = Outcome::unsent(1, "a\"\n".into(), "m".into(), ErrorCode::Budget, "spent");
        let body = r#"{"model":"org/m","choices":[{"text":"\ud800"}],"usage":{"prompt_tokens":4,"completion_tokens":5,"total_tokens":9}}"#;
        let good = Outcome { error: None, status: Some(200), body: Some(body.into()), ..failed.clone() };
        let mut out = Vec::new();
        renderer.render(&failed, None, &[], &mut out);
        renderer.render(&good, None, &[], &mut out);
        let rows: Vec<_> = results(out.as_slice()).map(Result::unwrap).collect();
        let error = RowError { code: ErrorCode::Budget, message: "spent".to_owned() };
        assert_eq!(
            rows[0],
            ("a\"\n".to_owned(), ParsedOutcome { model: None, status: None, error: Some(error), usage: None })
        );
        let usage = Some(Usage { prompt: 4, completion: 5 });
        assert_eq!(rows[1].1, ParsedOutcome { model: Some("org/m".to_owned()), status: Some(200), error: None, usage });
    }

    #[test]
    fn lines_of_other_tools_are_judged_by_what_they_say() {
        let cases = [
            (
                r#"{"custom_id":"a","response":{"status_code":429,"body":{"error":"x"}}}"#,
                ErrorCode::RateLimited,
                "HTTP 429",
            ),
            (
                r#"{"custom_id":"a","error":{"code":"invalid_model","message":"no"}}"#,
                ErrorCode::ServerError,
                "invalid_model: no",
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":404,"body":"text"},"error":{"code":7,"message":{"m":1}}}"#,
                ErrorCode::NotFound,
                "{\"m\":1}",
            ),
            (
                r#"{"custom_id":"a","response":null,"error":null}"#,
                ErrorCode::Missing,
                "neither a response nor an error",
            ),
        ];
        for (line, code, message) in cases {
            assert_eq!(one(line).error, Some(RowError { code, message: message.to_owned() }), "{line}");
        }
    }

    #[test]
    fn a_line_of_another_shape_is_named_and_the_rest_is_read() {
        let text = "\n{\"custom_id\":\"a\",\"response\":{\"status_code\":200,\"body\":{}}}\r\n{\"id\":1}\nnonsense";
        let rows: Vec<_> = results(text.as_bytes()).collect();
        assert_eq!(rows.len(), 3);
        assert!(rows[0].is_ok());
        for (row, line) in rows[1..].iter().zip(["line 3", "line 4"]) {
            let error = row.as_ref().unwrap_err();
            assert_eq!(error.exit, Exit::Data);
            assert!(error.message.contains(line), "{error}");
        }
    }
}
