//! A report's figures: folded from a job's database, or from results files of ours or of the official tools.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::batch::line;
use crate::batch::lines::Lines;
use crate::error::{Error, Exit, Result};
use crate::input::{Format, Inputs, Source};
use crate::money::{Outstanding, RetiredCost, charge};
use crate::outcome::{ErrorCode, Outcome, Transport, Usage};
use crate::price::{Nanos, PriceBook, Table};
use crate::report::details::Details;
use crate::report::read::Body;
use crate::request::Shape;
use crate::store::{BatchJob, Job, JobDb};
use crate::summary::{Charge, Totals};

pub mod details;
mod flat;
pub mod html;
pub mod read;

use flat::Flat;

/// Outcomes read at a time: their bodies are in memory together.
const PAGE: u32 = 64;

/// Both folds of the same rows.
#[derive(Debug)]
pub struct Folded {
    /// For the summary.
    pub totals: Totals,
    /// For the rest.
    pub details: Details,
}

impl Folded {
    fn new(rows: u64) -> Self {
        Self { totals: Totals::new(rows), details: Details::default() }
    }

    fn add(&mut self, outcome: &Outcome, charge: &Charge, body: Option<(&Body<'_>, &str)>) {
        let said = body.map(|(body, _)| body.said()).unwrap_or_default();
        let start = || body.map(|(body, text)| body.start(text)).unwrap_or_default();
        self.details.add(outcome, charge, said, start);
        self.totals.add(outcome, charge);
    }
}

/// A job's rows, and what is outstanding; `input`: where the rows can be read again.
pub fn of_job(db: &JobDb, prices: Table, rows: u64, input: impl FnOnce() -> Result<(Inputs, Shape)>) -> Result<Folded> {
    let mut prices = PriceBook::new(prices);
    let mut folded = Folded::new(rows);
    for retired in db.retired()? {
        let cost = RetiredCost::of(&retired, &mut prices);
        cost.add_to(&mut folded.totals);
        folded.details.spent(&retired.model, retired.all_usage(), cost.paid, cost.at_risk);
    }
    for open in Outstanding::of_job(db, rows, &mut prices, input)? {
        folded.totals.outstanding(open.rows, open.most, open.transport == Transport::Batch);
        if !open.model.is_empty() {
            folded.details.spent(&open.model, Usage::default(), Some(Nanos::ZERO), open.most);
        }
    }
    let mut next = 0;
    loop {
        let page = db.outcomes(next, PAGE)?;
        let Some(last) = page.last() else { return Ok(folded) };
        next = last.row + 1;
        for outcome in &page {
            let charge = charge(outcome, &mut prices);
            let body = outcome.body.as_deref().map(|text| (Body::of(text), text));
            folded.add(outcome, &charge, body.as_ref().map(|(body, text)| (body, *text)));
        }
    }
}

/// How long a job took, for tokens a second: the work of its processes, or from the creation of its first batch to the
/// end of its last. `None`: not known, or some of both.
pub fn time_of(job: &Job, batches: &[BatchJob]) -> Option<Duration> {
    if batches.is_empty() {
        return Some(Duration::from_millis(job.active_ms));
    }
    if job.transport == Transport::Realtime {
        return None;
    }
    let time = |text: &Option<String>| text.as_deref()?.parse::<jiff::Timestamp>().ok();
    let begin = batches.iter().filter_map(|batch| time(&batch.created_at)).min()?;
    let ends: Option<Vec<_>> = batches.iter().map(|batch| time(&batch.completed_at)).collect();
    Duration::try_from(ends?.into_iter().max()?.duration_since(begin)).ok()
}

/// What was read of results files, beside their rows.
#[derive(Debug)]
pub struct Read {
    /// Their rows.
    pub folded: Folded,
    /// What a reader of the report should know of the files.
    pub warnings: Vec<String>,
}

/// The rows of results files (`-`: standard input), packed ones too, as `fetch` reads lines: those of an output file and
/// of an error file look alike. Files do not say how they were paid for: `batch` does.
///
/// # Errors
/// 66 if one cannot be read, 65 if one holds not one result line.
pub fn of_files(files: &[String], prices: Table, batch: bool) -> Result<Read> {
    let mut read =
        Reading { prices: PriceBook::new(prices), folded: Folded::new(0), batch, rows: 0, ids: HashSet::default() };
    let mut warnings = Vec::new();
    let mut again = None;
    for file in files {
        let (path, shown) = if file == "-" { ("/dev/stdin", "standard input") } else { (&**file, &**file) };
        let source = Source::open(Path::new(path), shown)?;
        if let Some(format @ (Format::Csv | Format::Tsv)) = Format::of_path(Path::new(path)) {
            again = read.table(source, format, shown)?.or(again);
            continue;
        }
        let mut lines = Lines::of(source);
        let (before, mut bad, mut first) = (read.rows, 0, None);
        while let Some(line) = lines.next().map_err(|error| unreadable(shown, error))? {
            if line.bytes.is_some_and(<[u8]>::is_empty) {
                continue;
            }
            match line.bytes.map_or(Err(line::Garbled::TooLong.to_string()), |bytes| read.line(bytes)) {
                Ok(true) => {}
                Ok(false) => {
                    let (count, _) = again.get_or_insert((0_u64, format!("{shown}:{}", line.number)));
                    *count += 1;
                }
                Err(why) => {
                    bad += 1;
                    first.get_or_insert_with(|| format!("{shown}:{}: no result line: {why}", line.number));
                }
            }
        }
        match first {
            Some(first) if read.rows == before => {
                return Err(Error::new(Exit::Data, first).hint(
                    "results are JSON lines with custom_id, response and error, or flat rows with our own columns (no --prefix)",
                ));
            }
            Some(first) => warnings.push(format!("{first}{}", more(bad - 1))),
            None => {}
        }
    }
    if let Some((count, first)) = again {
        warnings.push(format!("{first}: an id that was there before; each line is counted{}", more(count - 1)));
    }
    let Reading { mut folded, rows, .. } = read;
    folded.totals.set_rows(rows);
    Ok(Read { folded, warnings })
}

fn more(count: u64) -> String {
    if count == 0 { String::new() } else { format!(" (and {count} more such lines)") }
}

fn unreadable(shown: &str, error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => crate::input::unreadable(shown, error),
    }
}

struct Reading {
    prices: PriceBook,
    folded: Folded,
    batch: bool,
    rows: u64,
    /// Of ids; eight bytes a row.
    ids: HashSet<u64, BuildHasherDefault<DefaultHasher>>,
}

impl Reading {
    /// Counts a line; `false` if its id was there before. The error says why it is no result.
    fn line(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let reading = line::read(bytes).map_err(|garbled| garbled.to_string())?;
        if reading.error.is_some() && reading.status.is_none() && reading.body.is_none() {
            if let Some(row) = flat::line(self.rows + 1, bytes) {
                return Ok(self.flat(row));
            }
            let members: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).unwrap_or_default();
            if !members.contains_key("response") && !members.contains_key("error") {
                return Err("neither response nor error".to_owned());
            }
        }
        self.rows += 1;
        let new = self.ids.insert(self.ids.hasher().hash_one(&reading.id));
        let body = reading.body.map(|text| (Body::of(text), text));
        let model: Arc<str> = match body.as_ref().and_then(|(body, _)| body.model()) {
            Some(model) => model.into(),
            None => "".into(),
        };
        let row = Outcome::unsent(self.rows, reading.id.into(), model, ErrorCode::Missing, "");
        let priced = self.batch.then_some(0);
        let mut outcome =
            Outcome { error: reading.error, status: reading.status, usage: reading.usage, batch: priced, ..row };
        let charge = charge(&outcome, &mut self.prices);
        // Like an answer of a batch in that nobody knows how long it took.
        outcome.batch = Some(0);
        self.folded.add(&outcome, &charge, body.as_ref().map(|(body, text)| (body, *text)));
        Ok(new)
    }

    /// Counts a flat row; `false` if its id was there before.
    fn flat(&mut self, Flat { mut outcome, body }: Flat) -> bool {
        self.rows += 1;
        let new = self.ids.insert(self.ids.hasher().hash_one(&outcome.id));
        // Only an answer of a batch took no time.
        let in_batch = self.batch || (outcome.ok() && outcome.latency_ms == 0);
        outcome.batch = in_batch.then_some(0);
        let charge = charge(&outcome, &mut self.prices);
        self.folded.add(
            &outcome,
            &charge,
            body.as_deref().map(|text| (Body::of(text), text)).as_ref().map(|(b, t)| (b, *t)),
        );
        new
    }

    /// Counts the rows of a table. How many ids were there before, and where the first of them is.
    fn table(&mut self, source: Source, format: Format, shown: &str) -> Result<Option<(u64, String)>> {
        let delimiter = if format == Format::Tsv { b'\t' } else { b',' };
        let mut rows = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(source);
        let broken = |error: csv::Error| Error::new(Exit::Data, format!("{shown}: no table of results: {error}"));
        let header = rows.headers().map_err(broken)?.clone();
        let columns: Vec<&str> = header.iter().collect();
        let mut again = None;
        for record in rows.records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(0, csv::Position::line);
            // Ours stand behind the record's own.
            let cell = |name: &str| {
                let place = columns.iter().rposition(|column| *column == name)?;
                record.get(place).filter(|text| !text.is_empty()).map(Cow::Borrowed)
            };
            let Some(row) = flat::read(self.rows + 1, &cell) else {
                return Err(Error::new(
                    Exit::Data,
                    format!("{shown}:{line}: no row of results: no custom_id or attempts"),
                )
                .hint("a table of results has our own columns, as `run` and `fetch` write them without --prefix"));
            };
            if !self.flat(row) {
                again.get_or_insert_with(|| (0, format!("{shown}:{line}"))).0 += 1;
            }
        }
        Ok(again)
    }
}
