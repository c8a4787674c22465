//! Reads the input for the transport. It skips done rows; invalid rows become failed outcomes.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc::Sender;

use super::earlier_answers::{EarlierAnswers, SoughtRow};
use super::known_fingerprints::{FingerprintReader, KnownFingerprints};
use super::resume::JobRows;
use super::shared_answers::SealKeys;
use super::sweep::Sweeps;
use crate::check::context_length::too_long;
use crate::check::repeats::Repeats;
use crate::check::{Checked, repeated_id};
use crate::error::{Error, Result};
use crate::input;
use crate::outcome::{ErrorCode, Fingerprint, Follower, Outcome};
use crate::price::PriceTable;
use crate::realtime::QueuedRow;
use crate::request::{Draft, KeyMaker, OutRequest, Packer, Problem, Record, Request};
use crate::results::ReadBlocks;
use crate::row_set::RowSet;
use crate::text;

/// Rows per message to the engine: few wake-ups, little memory.
const HAND: usize = 64;
/// Bytes of requests per message. Long prompts are sent while they are in the processor's cache.
const HAND_BYTES: usize = 128 << 10;

/// The rows that a run sends.
pub(super) struct Feed<'a> {
    /// The rows of the job.
    pub rows: JobRows<'a>,
    /// Rows that are not sent.
    pub skipped: &'a RowSet,
    /// The result of the check.
    pub checked: &'a Checked,
    /// Keeps what is read for the records' own fields in the results.
    pub read: Option<&'a ReadBlocks>,
    /// The fingerprints that the check computed.
    pub known: Option<&'a KnownFingerprints>,
    /// Context lengths of the models; a row that is surely longer is not sent. `None`: rows may have any length.
    pub table: Option<&'a PriceTable>,
    /// Context lengths of the models, to which they cut what is embedded.
    pub contexts: &'a PriceTable,
    /// Rows that share a request, where their bodies allow it.
    pub pack: usize,
    /// Rows that get the outcome of an earlier one, with `--dedupe`.
    pub repeats: Option<&'a Repeats>,
    /// Answers of earlier jobs, and the keys by which they are found, with `--reuse`.
    pub answers: Option<(&'a Mutex<EarlierAnswers>, KeyMaker)>,
    /// The place for the keys of requests that are sent, with `--answers`.
    pub sealed: Option<(&'a SealKeys, KeyMaker)>,
    /// The end of the run compares estimated tokens with reported ones.
    pub estimates: bool,
    /// Equal beginnings of prompts are sent near each other.
    pub by_prefix: bool,
}

/// Rows on their way to the engine, in messages of several.
struct Hand<'a> {
    out: &'a Sender<Vec<QueuedRow>>,
    /// The engine takes more rows.
    open: bool,
    rows: Vec<QueuedRow>,
    bytes: usize,
    /// Orders the rows, if they are not sent in the order of the input.
    sweeps: Option<Sweeps>,
    /// Packs rows, if several share a request. Rows that are packed have no other order.
    packer: Option<Packer>,
    /// Turns that were given by sweeps.
    turns: u64,
}

impl<'a> Hand<'a> {
    fn new(out: &'a Sender<Vec<QueuedRow>>, sweeps: Option<Sweeps>, packer: Option<Packer>) -> Self {
        Self { out, open: true, rows: Vec::with_capacity(HAND), bytes: 0, sweeps, packer, turns: 0 }
    }

    /// Takes a row. One that is not sent keeps its place in the order of the input. `longest`: the tokens to which its model
    /// cuts an input.
    fn take(&mut self, row: QueuedRow, longest: impl FnOnce(&str) -> Option<u64>) {
        if let Some(packer) = &mut self.packer
            && let QueuedRow::Send { request: OutRequest::Row(request), .. } = row
        {
            let longest = longest(&request.model);
            if let Some(request) = packer.add(request, longest) {
                self.pass_packed(request);
            }
            return;
        }
        match (row, &mut self.sweeps) {
            (QueuedRow::Send { request: OutRequest::Row(request), .. }, Some(sweeps)) => {
                sweeps.push(request);
                while let Some(request) = self.sweeps.as_mut().and_then(Sweeps::pop_over) {
                    self.pass_in_turn(request);
                }
            }
            (row, _) => self.pass(row),
        }
    }

    /// Passes on all rows that are left. Returns true if the engine took them.
    fn finish(mut self) -> bool {
        while self.open
            && let Some(request) = self.sweeps.as_mut().and_then(Sweeps::pop)
        {
            self.pass_in_turn(request);
        }
        for pack in self.packer.take().into_iter().flat_map(Packer::rest) {
            self.pass_packed(pack);
        }
        if self.open && !self.rows.is_empty() { self.out.blocking_send(self.rows).is_ok() } else { self.open }
    }

    fn pass_in_turn(&mut self, request: Request) {
        self.turns += 1;
        self.pass(QueuedRow::Send { request: OutRequest::Row(request), turn: self.turns });
    }

    /// Passes on a request whose rows are claimed with its last one.
    fn pass_packed(&mut self, request: OutRequest) {
        let turn = request.last_row();
        self.pass(QueuedRow::Send { request, turn });
    }

    fn pass(&mut self, row: QueuedRow) {
        self.bytes += row.bytes();
        self.rows.push(row);
        if self.rows.len() == HAND || self.bytes >= HAND_BYTES {
            self.bytes = 0;
            let rows = std::mem::replace(&mut self.rows, Vec::with_capacity(HAND));
            self.open = self.open && self.out.blocking_send(rows).is_ok();
        }
    }
}

/// Reads all rows and sends the remaining ones to the engine. It ends early, without an error, when the engine is gone.
///
/// # Errors
/// Read errors, and an input that has changed since the check.
pub fn feed(feed: &Feed<'_>, out: &Sender<Vec<QueuedRow>>) -> Result<()> {
    let Feed { rows: JobRows { inputs, .. }, skipped, checked, read, .. } = *feed;
    let expected = checked.rows;
    let mut blocks = inputs.blocks()?;
    let mut known = feed.known.map(KnownFingerprints::reader);
    let mut leaders = feed.repeats.map(Repeats::reader).transpose()?;
    let mut unreadable = None;
    let sweeps = feed.by_prefix.then(|| Sweeps::by(feed.rows.builder.endpoint().subject()));
    let packer = (feed.pack > 1).then(|| Packer::new(feed.pack));
    let mut hand = Hand::new(out, sweeps, packer);
    let mut rows = 0;
    while let Some(block) = blocks.next()? {
        let block = Arc::new(block);
        // First, as the result of a row must find it.
        if let Some(read) = read {
            read.push(&block);
        }
        let mut row = block.first_row();
        block.for_each(|record| {
            let this = row;
            row += 1;
            rows += 1;
            let leader = leaders.as_mut().map_or(Ok(None), |leaders| leaders.next(this)).unwrap_or_else(|error| {
                (hand.open, unreadable) = (false, Some(error));
                None
            });
            if !hand.open || skipped.contains(this) || this > expected {
                return;
            }
            let item = feed.row(this, record, leader, known.as_mut());
            let item = item.unwrap_or_else(|failed| QueuedRow::Settled(Box::new(failed)));
            hand.take(item, |model| feed.contexts.get(model)?.context);
        });
        if !hand.open {
            return unreadable.map_or(Ok(()), Err);
        }
    }
    if hand.finish() && rows != expected {
        let effect = format!("{} when checked, {rows} now", text::plural(expected, "row"));
        return Err(changed_input(&effect));
    }
    Ok(())
}

#[expect(clippy::result_large_err, reason = "a row that fails is rare")]
impl Feed<'_> {
    /// Builds the request of a row, or finds the outcome that it gets without one. The error is the outcome of a row that
    /// cannot be sent.
    fn row(
        &self,
        row: u64,
        record: Result<Record<'_>, Problem>,
        leader: Option<u64>,
        known: Option<&mut FingerprintReader<'_>>,
    ) -> Result<QueuedRow, Outcome> {
        let bad = |problem: &Problem, model: Arc<str>| {
            let id = problem.result_id();
            let id = self.checked.stand_in(row, &id).unwrap_or_else(|| id.into());
            Outcome::unsent(row, id, model, ErrorCode::of_problem(problem.code), problem.to_string())
        };
        let builder = self.rows.builder;
        let record = record.map_err(|problem| bad(&problem, Arc::from("")))?;
        let draft = builder.draft(&record).map_err(|problem| bad(&problem, Arc::from("")))?;
        // To count the tokens of a long prompt takes longer than all else, so only rows that the check found are counted.
        let counted = self.checked.too_long.as_ref().is_none_or(|rows| rows.contains(row));
        if let Some(problem) = self.table.filter(|_| counted).and_then(|table| too_long(&record, &draft, table)) {
            return Err(bad(&problem, builder.shared(&draft.model)));
        }
        let fingerprint = known.and_then(|known| known.of(row, &draft.body)).unwrap_or_else(|| draft.fingerprint());
        let request = builder.own(&draft, fingerprint);
        if let Some(id) = self.checked.stand_in(row, &request.id) {
            let message = repeated_id(&request.id);
            return Err(Outcome::unsent(row, id, request.model, ErrorCode::InvalidRequest, message));
        }
        if let Some(leader) = leader {
            return Ok(QueuedRow::Follow(Box::new(follower(request, leader))));
        }
        if let Some(outcome) = self.answered(&draft, fingerprint) {
            return Ok(QueuedRow::Settled(Box::new(outcome)));
        }
        if let Some((sealed, keys)) = &self.sealed {
            sealed.keep(row, keys.of(&draft));
        }
        Ok(QueuedRow::Send { turn: request.row, request: OutRequest::Row(request) })
    }

    /// The outcome that an earlier job has for this request.
    fn answered(&self, draft: &Draft<'_>, fingerprint: Fingerprint) -> Option<Outcome> {
        let (answers, keys) = self.answers.as_ref()?;
        let found = answers.lock().ok()?.take(&SoughtRow::of(draft, fingerprint, keys));
        found.unwrap_or_else(|error| {
            tracing::warn!("earlier answers cannot be looked for: {error}");
            None
        })
    }
}

fn follower(request: Request, leader: u64) -> Follower {
    let Request { row, id, fingerprint, .. } = request;
    Follower { row, id, fingerprint, leader }
}

/// Builds the error for an input that was written to during a run. `effect` says what that led to.
pub(super) fn changed_input(effect: &str) -> Error {
    input::changed(effect).hint("run the same command again: answers whose request is unchanged are kept")
}
