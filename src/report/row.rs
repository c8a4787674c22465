//! One row of a results file, read back as its outcome.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::AnswerBody;
use super::flat;
use crate::batch::line;
use crate::completion::{Completion, with_files};
use crate::outcome::{ErrorCode, Outcome, RowError, Usage};
use crate::price::Nanos;

/// A row of a results file.
#[derive(Debug)]
pub struct ReadRow {
    /// Its outcome. A file does not say how the row was paid for.
    pub outcome: Outcome,
    /// It is a flat row: of its answer, only the columns are known.
    pub flat: bool,
    /// The cost that a flat row names.
    pub cost: Option<Nanos>,
}

impl ReadRow {
    /// Returns true if it is a flat row with an answer of a batch: such a row has no latency, although it was sent.
    pub const fn is_flat_batch_answer(&self) -> bool {
        self.flat && self.outcome.ok() && self.outcome.latency_ms == 0 && !self.outcome.is_reused()
    }

    /// Reads row `number` from a JSON line: of the service's shape, or flat with this `prefix` of llbatch's columns.
    ///
    /// # Errors
    /// The reason why the line is no result.
    pub fn of_line(number: u64, bytes: &[u8], prefix: &str) -> Result<Self, String> {
        if !prefix.is_empty()
            && let Some(row) = flat::of_line(number, bytes, prefix)
        {
            return Ok(row);
        }
        if let Some(outcome) = with_files_of(number, bytes) {
            return Ok(Self { outcome, flat: false, cost: None });
        }
        let result = line::read(bytes).map_err(|garbled| garbled.to_string())?;
        if result.error.is_some() && result.status.is_none() && result.body.is_none() {
            if let Some(row) = flat::of_line(number, bytes, "") {
                return Ok(row);
            }
            let members: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).unwrap_or_default();
            if !members.contains_key("response") && !members.contains_key("error") {
                return Err("neither response nor error".to_owned());
            }
        }
        // llbatch has rejected an answer beside which there is one of its errors.
        let rejected = if result.also_failed { rejection(bytes) } else { None };
        let model = result.body.and_then(|body| AnswerBody::of(body).model());
        let model: Arc<str> = model.unwrap_or_default().into();
        let row = Outcome::unsent(number, result.id.into(), model, ErrorCode::Missing, "");
        let (error, body) = (result.error, result.body.map(Box::from));
        let usage = result.usage.filter(|_| !result.reused);
        let leader = result.reused.then_some(0);
        let mut outcome = Outcome { error, status: result.status, body, usage, leader, ..row };
        if rejected.is_some() {
            outcome.error = rejected;
            outcome.wasted = outcome.usage.take().unwrap_or_default();
        }
        Ok(Self { outcome, flat: false, cost: None })
    }

    /// Reads row `number` of a table with these columns. `None`: the row is no result.
    pub fn of_cells(number: u64, columns: &[&str], record: &csv::StringRecord, prefix: &str) -> Option<Self> {
        // llbatch writes its own columns after those of the input.
        let cell = |name: &str| {
            let place = columns.iter().rposition(|column| *column == name)?;
            record.get(place).filter(|text| !text.is_empty()).map(Cow::Borrowed)
        };
        flat::of_cells(number, prefix, &cell)
    }
}

/// The outcome of a line that lists the files of its answer: llbatch wrote it. `None`: it lists none, or has an error.
fn with_files_of(number: u64, line: &[u8]) -> Option<Outcome> {
    #[derive(Deserialize)]
    struct LineWithFiles<'a> {
        #[serde(borrow)]
        custom_id: Cow<'a, str>,
        #[serde(borrow)]
        response: ResponseWithFiles<'a>,
        #[serde(borrow)]
        files: &'a RawValue,
        error: Option<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct ResponseWithFiles<'a> {
        status_code: Option<u16>,
        #[serde(borrow)]
        body: Option<&'a RawValue>,
    }
    memchr::memmem::find(line, b"\"files\":[")?;
    let LineWithFiles { custom_id, response, files, error } = serde_json::from_slice(line).ok()?;
    let body = response.body.map(RawValue::get).filter(|body| body.starts_with('{'));
    if error.is_some() || !files.get().starts_with('[') || (body.is_none() && response.body.is_some()) {
        return None;
    }
    let model = body.and_then(|body| AnswerBody::of(body).model()).unwrap_or_default();
    let usage = body.and_then(|body| Completion::of(body).usage()).map(Usage::from);
    let row = Outcome::unsent(number, custom_id.as_ref().into(), model.as_ref().into(), ErrorCode::Missing, "");
    let body = Some(with_files(body, files.get()).into());
    Some(Outcome { error: None, status: response.status_code, body, usage, ..row })
}

/// The error of a line with an answer that llbatch has rejected. Beside an answer, errors of services are not taken for one.
fn rejection(line: &[u8]) -> Option<RowError> {
    #[derive(Deserialize)]
    struct RejectedLine<'a> {
        #[serde(borrow)]
        error: RejectionError<'a>,
    }
    #[derive(Deserialize)]
    struct RejectionError<'a> {
        #[serde(borrow)]
        code: Cow<'a, str>,
        message: String,
        rule: Box<str>,
    }
    let RejectionError { code, message, rule } = serde_json::from_slice::<RejectedLine<'_>>(line).ok()?.error;
    Some(RowError { rule: Some(rule), ..RowError::new(ErrorCode::parse(&code)?, message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_list_files_are_answers() {
        let read = |rest: &str| {
            let line = format!(r#"{{"custom_id":"a","response":{{"status_code":200,"body":{rest}}}"#);
            ReadRow::of_line(1, line.as_bytes(), "").unwrap().outcome
        };
        let files = r#""files":[{"path":"x/a.png"}]"#;
        let image = read(&format!(r#"{{"model":"m","data":[{{"b64_json":null}}]}}}},{files},"error":null"#));
        assert!(image.ok() && &*image.model == "m" && image.body.unwrap().ends_with(r#"[{"path":"x/a.png"}]}"#));
        assert!(read(&format!(r#"null}},{files},"error":null"#)).ok());
        assert!(!read(&format!(r#"null}},{files},"error":{{"code":"timeout","message":"late"}}"#)).ok());
        assert!(!read(r#"{"data":[{"b64_json":null}]}},"error":null"#).ok(), "without its files it is no answer");
    }

    #[test]
    fn flat_answers_without_a_latency_are_of_a_batch_unless_they_are_reused() {
        let columns = ["custom_id", "content", "attempts", "latency_ms", "error", "reused"];
        let read = |cells: [&str; 6]| {
            let row = ReadRow::of_cells(1, &columns, &csv::StringRecord::from(cells.to_vec()), "").unwrap();
            row.is_flat_batch_answer()
        };
        assert!(read(["a", "yes", "1", "", "", "false"]));
        assert!(!read(["a", "yes", "1", "12", "", "false"]));
        assert!(!read(["a", "yes", "0", "", "", "true"]));
        assert!(!read(["a", "", "1", "", "timeout: late", "false"]));
    }
}
