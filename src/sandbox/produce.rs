//! Writing a job's output and error file, once it has ended.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;

use axum::http::StatusCode;

use super::answers::{self, Dice, Flaw};
use super::app::App;
use super::errors::quote;
use super::faults::{Kind, Scope, Shape};
use super::files::FileRecord;
use super::inject::{Injector, Subject};
use super::intake::line;
use super::lifecycle::{BatchRecord, Outcome, Status};
use super::request::{Endpoint, parse};
use super::state::{Folder, derived_id, now_ms};
use super::stats::Bill;

/// Writes down what came of the job with this id, if it is due; the record as it then is.
///
/// The files are made without the lock: it takes time, and two who do it make the same. Only the first of them is kept.
pub fn settle(app: &App, id: &str) -> io::Result<Option<BatchRecord>> {
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
        // Another sandbox was asked to stop it in its last moment: it did not end as it was written down here.
        drop(guard);
        return settle(app, id);
    }
    if record.result.is_none() {
        let output_file_id = made.output.keep(app, id, "output")?;
        let error_file_id = made.errors.keep(app, id, "errors")?;
        if app.config.track {
            keep_paid(app, id, &made.paid)?;
        }
        record.result =
            Some(Outcome { output_file_id, error_file_id, bill: made.bill, instance: app.instance.clone() });
        app.store.put(Folder::Batches, id, &record)?;
        app.stats.paid_rows(made.bill, &made.paid);
    }
    Ok(Some(record))
}

/// Keeps which prompts were paid for, eight bytes each, for the count of a later sandbox.
fn keep_paid(app: &App, id: &str, paid: &[u64]) -> io::Result<()> {
    let mut file = BufWriter::new(app.store.scratch(Folder::Batches)?);
    for hash in paid {
        file.write_all(&hash.to_le_bytes())?;
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.persist(app.store.path(Folder::Batches, id, "paid")?)?;
    Ok(())
}

/// What [`keep_paid`] kept; nothing if nobody counted.
pub fn kept_paid(app: &App, id: &str) -> io::Result<Vec<u64>> {
    match std::fs::read(app.store.path(Folder::Batches, id, "paid")?) {
        Ok(bytes) => Ok(bytes.as_chunks().0.iter().map(|hash| u64::from_le_bytes(*hash)).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Of a file that is read or written from end to end.
const BUFFER: usize = 256 << 10;

/// A file in the making.
struct Part {
    file: BufWriter<tempfile::NamedTempFile>,
    bytes: u64,
    lines: u64,
}

impl Part {
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

    /// Makes it a file of the service, unless it is empty.
    fn keep(self, app: &App, job: &str, what: &str) -> io::Result<Option<String>> {
        if self.lines == 0 {
            return Ok(None);
        }
        // Both files of a job were seen to carry the same name.
        let mut record = FileRecord::new(&format!("batch-{job}.jsonl"), "batch-api", "jsonl", None);
        // Killed between its files and its result, a job gets the same ones again, and none is left over.
        record.id = format!("file-{}", derived_id(&format!("{job} {what}")));
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(app.store.path(Folder::Files, &record.id, "bin")?)?;
        (record.bytes, record.lines) = (self.bytes, self.lines);
        (record.stored, record.processed) = (true, true);
        app.store.put(Folder::Files, &record.id, &record)?;
        Ok(Some(record.id))
    }
}

struct Production {
    output: Part,
    errors: Part,
    bill: Bill,
    paid: Vec<u64>,
}

/// Where each line of the input lies.
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

impl Production {
    fn run(app: &App, record: &BatchRecord, faults: &Injector, now: u64) -> io::Result<Self> {
        let mut made =
            Self { output: Part::new(app)?, errors: Part::new(app)?, bill: Bill::default(), paid: Vec::new() };
        let input = match File::open(app.store.path(Folder::Files, &record.input_file_id, "bin")?) {
            Ok(input) => input,
            // Deleted while the job ran: there is nothing to answer.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(made),
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::with_capacity(BUFFER, input);
        let mut order = spans(&mut reader)?;
        shuffle(&mut order, record.seed ^ 0x5eed);
        let done = part_of(order.len(), record.done(now));
        let file = reader.into_inner();
        let mut text = Vec::new();
        for (i, (at, len)) in order.iter().enumerate() {
            text.resize(*len, 0);
            file.read_exact_at(&mut text, *at)?;
            let text = String::from_utf8_lossy(&text);
            // Every line was read when the job was made.
            let Ok(line) = line(text.trim()) else { continue };
            if i < done {
                made.row(line.id, line.body, record, faults)?;
            } else if record.list_undone {
                let code = if record.status(now) == Status::Expired { "expired" } else { "cancelled" };
                made.errors.add(&failed(line.id, code, "The job ended before this row"))?;
            }
        }
        made.output.file.flush()?;
        made.errors.file.flush()?;
        Ok(made)
    }

    fn row(&mut self, id: &str, body: &str, record: &BatchRecord, faults: &Injector) -> io::Result<()> {
        // Nothing else was let in.
        let endpoint = Endpoint::of_batch(&record.endpoint).unwrap_or(Endpoint::Chat);
        let request = match parse(body, endpoint) {
            Ok(request) => request,
            Err(bad) => return self.errors.add(&failed(id, "invalid_request", &bad.message)),
        };
        if let Some(refusal) = super::chat::unfit(&request, endpoint) {
            let code = if refusal.status == StatusCode::NOT_FOUND { "invalid_model" } else { "invalid_request" };
            return self.errors.add(&failed(id, code, &refusal.message));
        }
        let hash = request.hash();
        let fault = match faults.pick(Subject { scope: Scope::Row, key: hash, text: &request.prompt }) {
            Ok(fault) => fault.map(|fault| fault.kind),
            Err(message) => return self.errors.add(&failed(id, "invalid_request", &message)),
        };
        if let Some(Kind::Status { code, shape, .. }) = fault {
            return self.failure(id, code, shape);
        }
        let answer = answers::answer(&request, endpoint, Flaw::None);
        self.bill.add(Bill::of(&request.model, true, answer.prompt_tokens, answer.completion_tokens));
        self.paid.push(hash);
        let line = answered(id, 200, &compact(&answer.body));
        match fault {
            Some(Kind::Missing) => {}
            Some(Kind::Duplicate) => {
                self.output.add(&line)?;
                self.output.add(&line)?;
            }
            Some(Kind::Conflict) => {
                self.output.add(&line)?;
                self.output.add(&line.replacen("] The ", "] Not the ", 1))?;
            }
            Some(Kind::Foreign) => {
                self.output.add(&line)?;
                self.output.add(&answered("\"nobody-sent-this\"", 200, &compact(&answer.body)))?;
            }
            Some(Kind::Garble) => self.output.add(line.get(..line.len() / 2).unwrap_or("{"))?,
            _ => self.output.add(&line)?,
        }
        Ok(())
    }

    /// A failed row in one of the shapes that clients allow for.
    fn failure(&mut self, id: &str, status: u16, shape: Shape) -> io::Result<()> {
        let code = match status {
            408 | 504 | 524 => "timeout",
            404 => "invalid_model",
            429 => "rate_limit",
            400..=499 => "invalid_request",
            _ => "server_error",
        };
        let (body, _) = super::errors::typical(status);
        let body = if body.starts_with('{') { compact(&body) } else { quote(&body) };
        match shape {
            Shape::Text => self.output.add(&answered(id, status, &body)),
            Shape::Object => self.errors.add(&answered(id, status, &body)),
            Shape::Empty => self.errors.add(&format!("{{\"custom_id\": {id}, \"error\": {}}}", quote(code))),
            _ => self.errors.add(&failed(id, code, &format!("The model server answered {status}"))),
        }
    }
}

fn answered(id: &str, status: u16, body: &str) -> String {
    format!("{{\"custom_id\": {id}, \"response\": {{\"status_code\": {status}, \"body\": {body}}}}}")
}

fn failed(id: &str, code: &str, message: &str) -> String {
    format!("{{\"custom_id\": {id}, \"error\": {{\"message\": {}, \"code\": {}}}}}", quote(message), quote(code))
}

/// Pretty-printed JSON on one line: a line break never stands within a string.
fn compact(pretty: &str) -> String {
    pretty.lines().map(str::trim_start).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a few ten thousand rows")]
fn part_of(rows: usize, fraction: f64) -> usize {
    (f64::from(u32::try_from(rows).unwrap_or(u32::MAX)) * fraction).max(0.0) as usize
}

fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut dice = Dice(seed);
    for i in (1..items.len()).rev() {
        let other = usize::try_from(dice.roll() % (i as u64 + 1)).unwrap_or(0);
        items.swap(i, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_orders() {
        for (rows, fraction, expected) in
            [(4, 0.5, 2), (5, 0.5, 2), (3, 1.0, 3), (3, 0.0, 0), (0, 1.0, 0), (10, 0.99, 9)]
        {
            assert_eq!(part_of(rows, fraction), expected, "{rows} {fraction}");
        }
        let mut order: Vec<_> = (0..100).collect();
        shuffle(&mut order, 1);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn one_line_means_the_same() {
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
