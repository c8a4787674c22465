//! Joins the results of a batch with its rows: each row exactly once, for any files that the service wrote.
//!
//! It reads files and returns outcomes; it downloads and stores nothing. An answer stays in its file, and its outcome
//! carries a [`Place`] there. A file of a gigabyte costs some hundred bytes of memory per row.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::line::{self, LineError, ResultLine};
use super::lines::{FileLine, FileLines};
use crate::api::chat::MAX_FAILED_BODY;
use crate::api::error::MAX_MESSAGE;
use crate::batch_status::BatchStatus;
use crate::error::{Error, Exit, Result};
use crate::json;
use crate::outcome::{ErrorCode, Fingerprint, Outcome, RowError, Usage};
use crate::request::shorten;
use crate::rules::AnswerRules;
use crate::text::shortened;

/// Examples kept of each kind of finding.
const EXAMPLES: u64 = 3;
/// Maximum bytes of failed rows' bodies in memory. Further bodies stay in the file.
const MOST_BODIES: usize = 32 << 20;

/// A row of the batch, as llbatch sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its number, 1-based over all inputs.
    pub row: u64,
    /// The user's own id, or `row-N`.
    pub id: Box<str>,
    /// The `custom_id` that was sent, if it is not `id`.
    pub wire: Option<Box<str>>,
    /// Fingerprint of the request that was sent.
    pub fingerprint: Fingerprint,
    /// The requested model.
    pub model: Arc<str>,
    /// The maximum that the row can cost ([`Outcome::reserve`]).
    pub reserve: Usage,
}

/// The end of a batch. It decides the error of rows that no line mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending<'a> {
    /// Its last status, or [`BatchStatus::Refused`] for a batch that was never created.
    pub status: &'a BatchStatus,
    /// The service's words for it.
    pub error: Option<&'a str>,
    /// The batch's number in its job ([`Outcome::batch`]).
    pub batch: u32,
    /// The service's words about a file of results that it does not have.
    pub deleted: Option<&'a str>,
    /// The lengths of the files were checked. Otherwise lines may be missing at their ends.
    pub whole: bool,
}

/// The downloaded files. A file that the service did not name is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Files<'a> {
    /// The file of `output_file_id`.
    pub output: Option<&'a Path>,
    /// The file of `error_file_id`.
    pub errors: Option<&'a Path>,
}

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// [`Files::output`].
    Output,
    /// [`Files::errors`], which may hold answers too.
    Errors,
}

/// The place of a body in a file: JSON without line breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its file.
    pub side: Side,
    /// Offset of its first byte.
    pub at: u64,
    /// Its length in bytes.
    pub len: u32,
}

/// A row with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The outcome. An answered row has its body here or at `place`, never both. Latency and amount at risk are 0.
    pub outcome: Outcome,
    /// The body's place, if `outcome` does not hold it: nearly all answers, and failed rows beyond the memory limit.
    pub place: Option<Place>,
}

/// Anomalies of the files. Examples name the file, the line and ids, never other contents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Lines with ids that the batch does not have.
    pub foreign: u64,
    /// Answers to a row that had another answer. The first stays, the others' tokens are in [`Outcome::wasted`].
    pub conflicts: u64,
    /// Answers repeated byte for byte; they count once.
    pub duplicates: u64,
    /// Invalid lines.
    pub garbled: u64,
    /// Rows that no line mentions although the batch completed, or although its lines list the undone rows.
    pub missing: u64,
    /// The service gave no length by which the files could be checked, so lines of these rows may be lost.
    pub unchecked: bool,
    /// Rows with both an answer and an error. The answer stays.
    pub answered_and_failed: u64,
    /// A file was cut off in the middle of a line. That line does not count as garbled.
    pub torn: bool,
    /// A few examples of each kind of foreign, conflicting or garbled lines.
    pub examples: Vec<String>,
}

impl Findings {
    /// Returns true if the service broke its contract (exit code 76).
    pub const fn broken_contract(&self) -> bool {
        self.foreign > 0 || self.conflicts > 0 || self.garbled > 0
    }
}

/// The outcomes of a whole batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Exactly one for each [`Expected`], ascending by row.
    pub joined: Vec<Joined>,
    /// Anomalies of the files.
    pub findings: Findings,
}

/// Joins the rows of one batch with its files. An answer that breaks one of the rules is an error of its row.
///
/// # Errors
/// 74 if a file cannot be read; 1 if two rows were sent under one id. The contents of a file are never an error.
pub fn join(
    mut expected: Vec<Expected>,
    files: &Files<'_>,
    ending: &Ending<'_>,
    rules: &AnswerRules,
) -> Result<Report> {
    expected.sort_by_key(|row| row.row);
    let mut index = HashMap::with_capacity(expected.len());
    for (at, row) in expected.iter().enumerate() {
        let id = row.wire.as_deref().unwrap_or(&row.id);
        if index.insert(id, at).is_some() {
            let message = format!("two rows of one batch have the id `{}`", shorten(id));
            return Err(Error::new(Exit::Failure, message).hint("please report this: it is a bug in llbatch"));
        }
    }
    let mut table = JoinTable {
        files: *files,
        rules,
        index,
        slots: vec![Slot::default(); expected.len()],
        findings: Findings::default(),
        bodies: 0,
    };
    for (side, path) in [(Side::Output, files.output), (Side::Errors, files.errors)] {
        if let Some(path) = path {
            table.file(side, path).map_err(|e| Error::io(format!("cannot read {}", path.display()), e))?;
        }
    }
    let JoinTable { slots, mut findings, .. } = table;
    let fate = unmentioned(ending, &slots);
    let attempts = u32::from(*ending.status != BatchStatus::Refused);
    let joined = expected.into_iter().zip(slots).map(|(row, slot)| {
        let found = slot.found.unwrap_or_else(|| {
            findings.unchecked |= !ending.whole;
            findings.missing += u64::from(fate.code == ErrorCode::Missing);
            // Together does not bill rows that failed in a batch (docs.together.ai, inference/pricing). It does bill an
            // answer whose line is invalid or missing.
            let billed = fate.code == ErrorCode::Missing || findings.garbled > 0 || findings.torn || !ending.whole;
            Found { error: Some(fate.clone()), at_risk: u32::from(billed), ..Found::default() }
        });
        let outcome = Outcome {
            leader: None,
            row: row.row,
            id: row.id,
            fingerprint: row.fingerprint,
            model: row.model,
            error: found.error,
            status: found.status,
            body: found.body,
            places: None,
            attached: Vec::new(),
            usage: found.usage,
            wasted: slot.wasted,
            at_risk: found.at_risk,
            reserve: row.reserve,
            attempts,
            refused: 0,
            latency_ms: 0,
            first_token_ms: None,
            batch: Some(ending.batch),
            url: 0,
            prices: 0,
        };
        Joined { outcome, place: found.place }
    });
    let joined = joined.collect();
    Ok(Report { joined, findings })
}

/// Some servers write the body of an answer as a JSON string. Returns such a line with the object in its place.
fn with_object_body(line: &FileLine<'_>, reading: &ResultLine<'_>) -> Option<String> {
    let body = reading.body.filter(|body| body.starts_with('"'))?;
    line::with_object_body(line.bytes?, body)
}

/// Returns true for the error of a row whose answer came, was billed, and does not count.
const fn is_paid_answer(error: &RowError) -> bool {
    matches!(error.code, ErrorCode::InvalidAnswer | ErrorCode::Truncated)
}

/// Returns the error of rows that no line mentions.
fn unmentioned(ending: &Ending<'_>, slots: &[Slot]) -> RowError {
    if let Some(words) = ending.deleted {
        return RowError::new(ErrorCode::Missing, shortened(words, MAX_MESSAGE));
    }
    // If the service lists the undone rows, an unlisted row was done and its line was lost.
    let listed = |code| slots.iter().any(|slot| slot.failed_of(code));
    let (code, what) = match ending.status {
        BatchStatus::Expired if !listed(ErrorCode::Expired) => {
            (ErrorCode::Expired, "the batch expired before this row was answered")
        }
        BatchStatus::Cancelled if !listed(ErrorCode::Cancelled) => {
            (ErrorCode::Cancelled, "the batch was cancelled before this row was answered")
        }
        BatchStatus::Abandoned => {
            (ErrorCode::Missing, "llbatch gave this batch up without its results; the service may bill the row")
        }
        BatchStatus::Failed => (ErrorCode::ServerError, "the batch failed"),
        BatchStatus::Refused => (ErrorCode::ServerError, "the batch was refused"),
        _ => (ErrorCode::Missing, "the batch's results do not mention this row"),
    };
    let message = match ending.error.map(str::trim).filter(|words| !words.is_empty()) {
        Some(words) => shortened(&format!("{what}: {words}"), MAX_MESSAGE),
        None => what.to_owned(),
    };
    RowError::new(code, message)
}

/// The result of a row's lines so far.
#[derive(Debug, Clone, Default)]
struct Slot {
    found: Option<Found>,
    wasted: Usage,
    /// The row has an answer and an error.
    both: bool,
}

impl Slot {
    fn failed_of(&self, code: ErrorCode) -> bool {
        self.found.as_ref().and_then(|found| found.error.as_ref()).is_some_and(|error| error.code == code)
    }
}

/// The line that counts for its row.
#[derive(Debug, Clone, Default)]
struct Found {
    error: Option<RowError>,
    status: Option<u16>,
    usage: Option<Usage>,
    body: Option<Box<str>>,
    place: Option<Place>,
    at_risk: u32,
}

struct JoinTable<'a> {
    files: Files<'a>,
    rules: &'a AnswerRules,
    /// Maps a `custom_id` to its slot.
    index: HashMap<&'a str, usize>,
    slots: Vec<Slot>,
    findings: Findings,
    /// Bytes of failed rows' bodies in memory.
    bodies: usize,
}

impl JoinTable<'_> {
    fn file(&mut self, side: Side, path: &Path) -> io::Result<()> {
        let mut lines = FileLines::open(path)?;
        while let Some(line) = lines.next()? {
            if line.bytes.is_some_and(<[u8]>::is_empty) {
                continue;
            }
            let why = match line.bytes.map_or(Err(LineError::TooLong), line::read) {
                Ok(reading) => {
                    if let Some(text) = with_object_body(&line, &reading)
                        && let Ok(reading) = line::read(text.as_bytes())
                    {
                        self.result(side, path, &FileLine { bytes: None, ..line }, &self.judged(reading))?;
                        continue;
                    }
                    self.result(side, path, &line, &self.judged(reading))?;
                    continue;
                }
                Err(why) => why,
            };
            // Python writes NaN, which is no JSON. The answer around it was paid for.
            let mended = line.bytes.and_then(|bytes| json::without_nan(std::str::from_utf8(bytes).ok()?));
            if let Some(reading) = mended.as_ref().and_then(|text| line::read(text.as_bytes()).ok()) {
                self.result(side, path, &FileLine { bytes: None, ..line }, &self.judged(reading))?;
                continue;
            }
            // A cut-off line is never valid JSON. A valid line was written as it is.
            if !line.ended && matches!(why, LineError::NotJson(_) | LineError::TooLong) {
                self.findings.torn = true;
            } else {
                self.findings.garbled += 1;
                self.example(self.findings.garbled, path, &line, &why.to_string());
            }
        }
        Ok(())
    }

    /// Holds an answer against the rules.
    fn judged<'b>(&self, mut reading: ResultLine<'b>) -> ResultLine<'b> {
        if reading.error.is_none() {
            reading.error = reading.body.and_then(|body| self.rules.violation(body));
        }
        reading
    }

    fn result(&mut self, side: Side, path: &Path, line: &FileLine<'_>, reading: &ResultLine<'_>) -> io::Result<()> {
        let id = || shorten(&reading.id);
        match self.index.get(&*reading.id) {
            None => {
                self.findings.foreign += 1;
                let what = format!("a result for `{}`, which is not in the batch", id());
                self.example(self.findings.foreign, path, line, &what);
            }
            Some(&slot) => {
                if self.add(slot, side, line, reading)? {
                    self.findings.conflicts += 1;
                    let what = format!("another answer to `{}`; llbatch keeps the first one", id());
                    self.example(self.findings.conflicts, path, line, &what);
                }
            }
        }
        Ok(())
    }

    fn example(&mut self, count: u64, path: &Path, line: &FileLine<'_>, what: &str) {
        if count <= EXAMPLES {
            self.findings.examples.push(format!("{}:{}: {what}", path.display(), line.number));
        }
    }

    /// Adds a line to its row. Returns `true` if it is an answer in conflict with another one.
    fn add(&mut self, at: usize, side: Side, line: &FileLine<'_>, new: &ResultLine<'_>) -> io::Result<bool> {
        let good = new.error.is_none();
        let slot = &mut self.slots[at];
        let old = slot.found.as_ref().map(|old| (old, old.error.is_none()));
        // A repeated line was paid for once.
        let repeated = match old {
            Some((old, answered)) if answered == good && new.usage.is_some() | good => old.is(new, &self.files)?,
            _ => false,
        };
        let stays = old.is_some_and(|(_, answered)| answered || !good);
        let conflict = stays && good && !repeated;
        if (stays || !good) && !repeated {
            slot.wasted += new.usage.unwrap_or_default();
        }
        let both = new.also_failed || old.is_some_and(|(_, answered)| answered != good);
        self.findings.answered_and_failed += u64::from(both && !slot.both);
        self.findings.duplicates += u64::from(repeated && good);
        slot.both |= both;
        if !stays {
            let found = self.found(side, line, new);
            self.slots[at].found = Some(found);
        }
        Ok(conflict)
    }

    fn found(&mut self, side: Side, line: &FileLine<'_>, new: &ResultLine<'_>) -> Found {
        let good = new.error.is_none();
        let mut found = Found {
            error: new.error.clone(),
            status: new.status,
            usage: new.usage.filter(|_| good),
            at_risk: u32::from(new.usage.is_none() && new.error.as_ref().is_some_and(is_paid_answer)),
            ..Found::default()
        };
        // An unusable answer is kept at any length, because it was paid for.
        let thrown_away = matches!(new.status, Some(200..=299));
        let Some(body) = new.body.filter(|body| good || thrown_away || body.len() <= MAX_FAILED_BODY) else {
            return found;
        };
        // A mended line differs from the file. White space may be a carriage return, which many readers treat as the end of a
        // line.
        let broken = line.bytes.is_none() || memchr::memchr(b'\r', body.as_bytes()).is_some();
        if broken || (!good && body.len() <= MAX_FAILED_BODY && self.bodies + body.len() <= MOST_BODIES) {
            self.bodies += if good { 0 } else { body.len() };
            found.body = Some(json::one_line(body).into());
        } else {
            let inside = line.bytes.map_or(0, |bytes| body.as_ptr().addr() - bytes.as_ptr().addr());
            let len = u32::try_from(body.len()).expect("a line is far shorter than 4 GiB");
            found.place = Some(Place { side, at: line.at + inside as u64, len });
        }
        found
    }
}

impl Found {
    /// Returns true if `new` has the same body. It reads the answer again, which saves a digest per row.
    fn is(&self, new: &ResultLine<'_>, files: &Files<'_>) -> io::Result<bool> {
        let body = new.body.unwrap_or_default();
        let Some(place) = self.place else { return Ok(self.body.as_deref() == Some(&*json::one_line(body))) };
        if place.len as usize != body.len() {
            return Ok(false);
        }
        let path = if place.side == Side::Output { files.output } else { files.errors };
        let Some(path) = path else { return Ok(false) };
        let mut bytes = vec![0; body.len()];
        File::open(path)?.read_exact_at(&mut bytes, place.at)?;
        Ok(bytes == body.as_bytes())
    }
}

#[cfg(test)]
mod bijection;
#[cfg(test)]
mod tests;
