//! The results of a job that has ended: its output and error file.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;

use axum::http::StatusCode;

use super::answers::{self, AnswerStyle, Flaw, ServedBody};
use super::app::App;
use super::batch::{BatchRecord, BatchResult, ServedStatus};
use super::dialect::ServedDialect;
use super::dice::Dice;
use super::errors::{ApiError, TypicalBody, quote, typical};
use super::faults::{ErrorShape, FaultKind, Scope, ScriptedError};
use super::file_record::FileRecord;
use super::infer::unfit;
use super::injector::{Injector, Subject};
use super::intake::BatchInputLine;
use super::request::{InferenceKind, hash, parse};
use super::state_dir::{Folder, derived_id, if_found, now_ms};
use super::stats::Bill;

/// Writes the results of every job that is due at `now`, and replaces its record.
pub fn finish_due(app: &App, jobs: &mut [BatchRecord], now: u64) -> io::Result<()> {
    for job in jobs.iter_mut().filter(|job| job.is_due(now)) {
        if let Some(finished) = finish(app, &job.id)? {
            *job = finished;
        }
    }
    Ok(())
}

/// Writes the results of the job with this id, if it is due. Returns its record.
///
/// The files are made without the lock, since that takes time. Two sandboxes that make them at once make the same, and
/// only the first result is kept.
pub fn finish(app: &App, id: &str) -> io::Result<Option<BatchRecord>> {
    let Some(record) = app.store.get::<BatchRecord>(Folder::Batches, id)? else { return Ok(None) };
    let now = now_ms();
    if !record.is_due(now) {
        return Ok(Some(record));
    }
    let own;
    let faults = if record.instance == app.instance {
        &app.faults
    } else {
        own = Injector::new(&record.faults, record.seed);
        &own
    };
    let made = Production::run(app, &record, faults, now)?;
    let guard = app.store.lock()?;
    let cancelled = record.cancelled_ms;
    let Some(mut record) = app.store.get::<BatchRecord>(Folder::Batches, id)? else { return Ok(None) };
    if record.cancelled_ms != cancelled {
        // Another sandbox was asked to cancel it in its last moment, so its end is another one.
        drop(guard);
        return finish(app, id);
    }
    if record.result.is_none() {
        let lines = [made.output.lines, made.errors.lines];
        let output_file_id = made.output.keep(app, id, "output")?;
        let error_file_id = made.errors.keep(app, id, "errors")?;
        if app.config.track {
            keep_paid(app, id, &made.paid)?;
        }
        record.result =
            Some(BatchResult { output_file_id, error_file_id, bill: made.bill, lines, instance: app.instance.clone() });
        app.store.put(Folder::Batches, id, &record)?;
        app.stats.paid(made.bill, &made.paid);
    }
    Ok(Some(record))
}

/// Keeps the hashes of the prompts that were paid for, eight bytes each, for the count of a later sandbox.
fn keep_paid(app: &App, id: &str, paid: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = paid.iter().flat_map(|hash| hash.to_le_bytes()).collect();
    let mut file = app.store.scratch(Folder::Batches)?;
    file.write_all(&bytes)?;
    app.store.keep(file, Folder::Batches, id, "paid")
}

/// The hashes that [`keep_paid`] kept, or none if the sandbox did not track them.
pub fn kept_paid(app: &App, id: &str) -> io::Result<Vec<u64>> {
    let bytes = if_found(fs::read(app.store.path(Folder::Batches, id, "paid")?))?.unwrap_or_default();
    Ok(bytes.as_chunks().0.iter().map(|hash| u64::from_le_bytes(*hash)).collect())
}

/// The buffer for a file that is read or written from end to end.
const BUFFER: usize = 256 << 10;

/// An output or error file that is being written.
struct ResultFile {
    file: BufWriter<tempfile::NamedTempFile>,
    bytes: u64,
    lines: u64,
}

impl ResultFile {
    fn new(app: &App) -> io::Result<Self> {
        Ok(Self { file: BufWriter::with_capacity(BUFFER, app.store.scratch(Folder::Files)?), bytes: 0, lines: 0 })
    }

    fn add(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.bytes += line.len() as u64 + 1;
        self.lines += 1;
        Ok(())
    }

    /// Makes it a file of the service, unless it is empty. Returns the id.
    fn keep(self, app: &App, job: &str, what: &str) -> io::Result<Option<String>> {
        if self.lines == 0 {
            return Ok(None);
        }
        let purpose = if app.config.dialect == ServedDialect::Openai { "batch_output" } else { "batch-api" };
        let record = FileRecord {
            // If the sandbox is killed between the files and the result, the next one writes the same files again.
            id: format!("file-{}", derived_id(&format!("{job} {what}"))),
            bytes: self.bytes,
            lines: self.lines,
            stored: true,
            processed: true,
            // Both files of a job were seen to carry the same name.
            ..FileRecord::new(&format!("batch-{job}.jsonl"), purpose)
        };
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        app.store.keep(file, Folder::Files, &record.id, "bin")?;
        app.store.put(Folder::Files, &record.id, &record)?;
        Ok(Some(record.id))
    }
}

/// The results of one job while they are made.
struct Production {
    form: ServedLineForm,
    output: ResultFile,
    errors: ResultFile,
    bill: Bill,
    paid: Vec<u64>,
}

impl Production {
    fn run(app: &App, record: &BatchRecord, faults: &Injector, now: u64) -> io::Result<Self> {
        let mut made = Self {
            form: ServedLineForm { dialect: record.dialect, body_text: record.body_text },
            output: ResultFile::new(app)?,
            errors: ResultFile::new(app)?,
            bill: Bill::default(),
            paid: Vec::new(),
        };
        let input = if_found(File::open(app.store.path(Folder::Files, &record.input_file_id, "bin")?))?;
        // An input that was deleted while the job ran has no rows to answer.
        let Some(input) = input else { return Ok(made) };
        let mut reader = BufReader::with_capacity(BUFFER, input);
        let mut order = spans(&mut reader)?;
        Dice(record.seed ^ 0x5eed).shuffle(&mut order);
        let done = part_of(order.len(), record.done(now));
        let file = reader.into_inner();
        let mut text = Vec::new();
        for (i, (at, len)) in order.iter().enumerate() {
            text.resize(*len, 0);
            file.read_exact_at(&mut text, *at)?;
            let text = String::from_utf8_lossy(&text);
            // Every line was read when the job was made.
            let Ok(line) = BatchInputLine::parse(text.trim()) else { continue };
            if i < done {
                made.row(line, record, faults)?;
            } else if let Some(code) = undone(record, now) {
                made.errors.add(&made.form.failed(line.id, code, "The job ended before this row"))?;
            }
        }
        made.output.file.flush()?;
        made.errors.file.flush()?;
        Ok(made)
    }

    fn row(&mut self, line: BatchInputLine<'_>, record: &BatchRecord, faults: &Injector) -> io::Result<()> {
        let id = line.id;
        // No other endpoint was accepted.
        let kind = InferenceKind::of_batch(&record.endpoint).unwrap_or(InferenceKind::Chat);
        let request = match parse(line.body, kind) {
            Ok(request) => request,
            Err(why) => return self.refused(id, 400, "invalid_request", &why.message),
        };
        if let Some(refusal) = unfit(&request, kind) {
            let code = if refusal.status == StatusCode::NOT_FOUND { "invalid_model" } else { "invalid_request" };
            return self.refused(id, refusal.status.as_u16(), code, &refusal.message);
        }
        if request.options.stream.is_some() {
            return self.refused(id, 400, "invalid_request", "The rows of a batch are not streamed");
        }
        let hash = request.hash();
        let subject = Subject { scope: Scope::Row, key: hash, text: &request.prompt, streams: false };
        let fault = match faults.pick(subject) {
            Ok(fault) => fault.map(|fault| fault.kind),
            Err(message) => return self.refused(id, 400, "invalid_request", &message),
        };
        if let Some(FaultKind::Status(error)) = fault {
            return self.failure(id, error);
        }
        let style =
            AnswerStyle { flaw: Flaw::None, cached: record.cached_tokens, cached_part: None, dialect: record.dialect };
        let answer = answers::answer(&request, kind, style);
        self.bill.add(Bill::of(&request.model, true, answer.tokens).times(record.price_times));
        self.paid.push(hash);
        // A stream was refused above.
        let ServedBody::Whole(body) = answer.body else { return Ok(()) };
        self.success(id, &compact(&body), fault.as_ref())
    }

    /// Adds a row that was refused.
    fn refused(&mut self, id: &str, status: u16, code: &str, message: &str) -> io::Result<()> {
        let line = match self.form.dialect {
            ServedDialect::Openai if !self.form.body_text => {
                let body = compact(&ApiError { code: Some(code), ..ApiError::invalid(message) }.body());
                self.form.answered(id, status, &body)
            }
            _ => self.form.failed(id, code, message),
        };
        self.errors.add(&line)
    }

    /// Adds the lines of an answered row, damaged by its fault.
    fn success(&mut self, id: &str, body: &str, fault: Option<&FaultKind>) -> io::Result<()> {
        let line = self.form.answered(id, 200, body);
        let extra = match fault {
            Some(FaultKind::Missing) => return Ok(()),
            Some(FaultKind::Garble) => return self.output.add(line.get(..line.len() / 2).unwrap_or("{")),
            Some(FaultKind::Duplicate) => Some(line.clone()),
            Some(FaultKind::Conflict) => Some(line.replacen("] The ", "] Not the ", 1)),
            Some(FaultKind::Foreign) => Some(self.form.answered("\"nobody-sent-this\"", 200, body)),
            _ => None,
        };
        self.output.add(&line)?;
        extra.map_or(Ok(()), |extra| self.output.add(&extra))
    }

    /// Adds a failed row in one of the shapes that clients allow for.
    fn failure(&mut self, id: &str, error: ScriptedError) -> io::Result<()> {
        let status = error.code;
        let code = match status {
            408 | 504 | 524 => "timeout",
            404 => "invalid_model",
            429 => "rate_limit",
            400..=499 => "invalid_request",
            _ => "server_error",
        };
        let body = match typical(status) {
            TypicalBody::Json(body) => compact(&body),
            TypicalBody::Plain(text) => quote(&text),
        };
        match error.shape {
            ErrorShape::Text => self.output.add(&self.form.answered(id, status, &body)),
            ErrorShape::Object => self.errors.add(&self.form.answered(id, status, &body)),
            ErrorShape::Usual if self.form.dialect == ServedDialect::Openai && !self.form.body_text => {
                self.errors.add(&self.form.answered(id, status, &body))
            }
            ErrorShape::Empty => self.errors.add(&format!("{{\"custom_id\": {id}, \"error\": {}}}", quote(code))),
            _ => self.errors.add(&self.form.failed(id, code, &format!("The model server answered {status}"))),
        }
    }
}

/// The offset and length of each line of the input.
fn spans(reader: &mut impl BufRead) -> io::Result<Vec<(u64, usize)>> {
    let mut spans = Vec::new();
    let (mut at, mut text) = (0, Vec::new());
    loop {
        text.clear();
        let len = reader.read_until(b'\n', &mut text)?;
        if len == 0 {
            return Ok(spans);
        }
        if !text.trim_ascii().is_empty() {
            spans.push((at, len));
        }
        at += len as u64;
    }
}

/// The code of a row that the end of its job left undone, if the error file lists such rows. `OpenAI` lists those of an
/// expired job.
fn undone(record: &BatchRecord, now: u64) -> Option<&'static str> {
    let expired = record.status(now) == ServedStatus::Expired;
    match record.dialect {
        ServedDialect::Openai if expired => Some("batch_expired"),
        _ if !record.list_undone => None,
        ServedDialect::Openai => Some("batch_cancelled"),
        ServedDialect::Together => Some(if expired { "expired" } else { "cancelled" }),
    }
}

/// The form of the lines of a result.
#[derive(Debug, Clone, Copy)]
struct ServedLineForm {
    dialect: ServedDialect,
    /// A body is a JSON string, and a failed row has no `response`.
    body_text: bool,
}

impl ServedLineForm {
    fn answered(self, id: &str, status: u16, body: &str) -> String {
        match self.dialect {
            ServedDialect::Together => {
                format!("{{\"custom_id\": {id}, \"response\": {{\"status_code\": {status}, \"body\": {body}}}}}")
            }
            ServedDialect::Openai => {
                let text = self.body_text.then(|| quote(body));
                let (body, own) = (text.as_deref().unwrap_or(body), own_id(id));
                format!(
                    "{{\"id\": \"batch_req_{own}\", \"custom_id\": {id}, \"response\": {{\"status_code\": {status}, \
                     \"request_id\": \"req_{own}\", \"body\": {body}}}, \"error\": null}}"
                )
            }
        }
    }

    fn failed(self, id: &str, code: &str, message: &str) -> String {
        let error = format!("{{\"message\": {}, \"code\": {}}}", quote(message), quote(code));
        match self.dialect {
            ServedDialect::Together => format!("{{\"custom_id\": {id}, \"error\": {error}}}"),
            ServedDialect::Openai => {
                let response = if self.body_text { "" } else { "\"response\": null, " };
                format!("{{\"id\": \"batch_req_{}\", \"custom_id\": {id}, {response}\"error\": {error}}}", own_id(id))
            }
        }
    }
}

/// The service's own id of a row, the same for the same `custom_id`.
fn own_id(id: &str) -> String {
    format!("{:016x}", hash(id))
}

/// Pretty-printed JSON on one line: a line break never stands within a string.
fn compact(pretty: &str) -> String {
    pretty.lines().map(str::trim_start).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a few ten thousand rows")]
fn part_of(rows: usize, fraction: f64) -> usize {
    (f64::from(u32::try_from(rows).unwrap_or(u32::MAX)) * fraction).max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_rows_is_rounded_down() {
        for (rows, fraction, expected) in
            [(4, 0.5, 2), (5, 0.5, 2), (3, 1.0, 3), (3, 0.0, 0), (0, 1.0, 0), (10, 0.99, 9)]
        {
            assert_eq!(part_of(rows, fraction), expected, "{rows} {fraction}");
        }
    }

    #[test]
    fn compact_json_has_the_same_value_on_one_line() {
        let pretty = "{\n  \"a\": \"x\\n  y\",\n  \"b\": [\n    1\n  ]\n}";
        let line = compact(pretty);
        assert!(!line.contains('\n'));
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&line), value(pretty));
    }

    #[test]
    fn spans_skip_blank_lines() {
        let text = b"ab\n\n  \r\ncd";
        assert_eq!(spans(&mut &text[..]).unwrap(), [(0, 3), (8, 2)]);
    }
}
