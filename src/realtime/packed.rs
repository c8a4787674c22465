//! Packs: rows that share one request. A pack is tried, paced and paid for as one request; each of its rows gets an outcome.
//!
//! A pack that is refused, or whose answer cannot be matched with its rows, is halved until the bad row stands alone. The
//! halves are sent one after the other by the same task, under the same permit: a pack in flight is its rows in flight.

use std::mem;
use std::sync::Arc;

use super::attempt::{FailedTry, GoodAnswer, Tried};
use super::decision::{Decision, Tries};
use super::engine::Engine;
use super::row::RowTask;
use super::upstreams::FailedUrls;
use crate::api::error::{Failure, Fault};
use crate::completion::{UnpackedAnswer, unpacked};
use crate::outcome::{ErrorCode, Outcome, Usage};
use crate::request::{Attachments, OutRequest, PackedRow, PackedRows, Request};

/// The rows of a request.
pub(super) enum TaskRows {
    /// One row; its outcome is the task's.
    One,
    /// The rows of a pack, and their answers once there are some.
    Pack(PackedRows, Vec<UnpackedAnswer>),
}

/// The half of a pack that is sent later.
pub(super) struct LaterHalf {
    rows: PackedRows,
    outcome: Outcome,
    tries: Tries,
}

/// A request for some rows, with what the limiter and a budget need to know.
pub(super) struct TaskRequest {
    pub(super) rows: TaskRows,
    /// The outcome so far. That of a pack has the number of its last row, which is claimed, and the sums of its rows.
    pub(super) outcome: Outcome,
    pub(super) body: String,
    /// The local files of the body.
    pub(super) files: Attachments,
    /// Estimated tokens of the prompt.
    pub(super) about: u64,
}

impl TaskRequest {
    pub(super) fn new(request: OutRequest, engine: &Engine) -> Self {
        let unsent = |request: &Request, reserve| Outcome {
            fingerprint: request.fingerprint,
            reserve,
            ..Outcome::unsent(request.row, request.id.clone(), Arc::clone(&request.model), ErrorCode::Interrupted, "")
        };
        match request {
            OutRequest::Row(request) => {
                let image = engine.options.table.image_tokens(&request.model);
                Self {
                    outcome: unsent(&request, request.reserve(image)),
                    about: request.about(image),
                    body: request.body.into_string(),
                    files: request.files,
                    rows: TaskRows::One,
                }
            }
            OutRequest::Pack(rows) => {
                let empty = || Outcome::unsent(0, "".into(), "".into(), ErrorCode::Interrupted, "");
                Self {
                    outcome: rows.last().map_or_else(empty, |last| unsent(last, reserve(&rows))),
                    about: rows.rows().iter().map(|row| row.request.about(None)).sum(),
                    body: rows.body(),
                    files: Attachments::default(),
                    rows: TaskRows::Pack(rows, Vec::new()),
                }
            }
        }
    }
}

/// The most tokens that one request for these rows may cost.
fn reserve(rows: &PackedRows) -> Usage {
    rows.rows().iter().fold(Usage::default(), |mut sum, row| {
        sum += row.request.reserve(None);
        sum
    })
}

/// Returns true if one row of a pack may be the reason for a failure that is final for the pack. `answering`: other requests
/// were answered meanwhile.
const fn may_be_one_row(failure: &Failure, answering: bool) -> bool {
    match failure.fault {
        Fault::InvalidRequest | Fault::ContextLength | Fault::Auth => true,
        Fault::Broken
        | Fault::Timeout
        | Fault::BadResponse
        | Fault::Server
        | Fault::RateLimited
        | Fault::Overloaded => answering,
        // The model or the account is the reason, or an answer was paid for that would be the same again.
        _ => false,
    }
}

impl RowTask {
    /// Returns true if the request is for several rows.
    pub(super) fn is_pack(&self) -> bool {
        matches!(&self.rows, TaskRows::Pack(rows, _) if rows.rows().len() > 1)
    }

    /// Returns true if the answer must pass the user's rules. Rules are about texts, and packs are answered with embeddings.
    pub(super) const fn is_held_to_rules(&self) -> bool {
        matches!(self.rows, TaskRows::One)
    }

    /// Gives each row of a pack its own answer. An answer that does not fit the rows is a failure that was paid for.
    pub(super) fn unpacked(&mut self, tried: Tried) -> Tried {
        let Tried::Answered(answer) = tried else { return tried };
        let TaskRows::Pack(rows, answers) = &mut self.rows else { return Tried::Answered(answer) };
        match unpacked(answer.body.as_deref().unwrap_or_default(), &rows.weights()) {
            Ok(own) => {
                let total = |sum: Option<Usage>, one: &UnpackedAnswer| {
                    let mut sum = sum?;
                    sum += one.usage?.into();
                    Some(sum)
                };
                let usage = own.iter().fold(Some(Usage::default()), total);
                *answers = own;
                Tried::Answered(GoodAnswer { usage, body: Some("".into()), places: None, ..answer })
            }
            Err(why) => {
                let message = format!("HTTP {} {why}", answer.status);
                let status = Some(answer.status);
                let failure = Failure { status, ..Failure::new(Fault::BadResponse, message) };
                let body = answer.body.filter(|_| rows.rows().len() == 1);
                Tried::Failed(FailedTry {
                    failure,
                    limits: answer.limits,
                    body,
                    billed: answer.usage,
                    page: None,
                    mismatched: true,
                })
            }
        }
    }

    /// Returns true if the pack is halved after this failure.
    pub(super) fn is_halved(&self, decision: &Decision, failed: &FailedTry, answering: bool) -> bool {
        self.is_pack()
            && match decision {
                Decision::Fail => failed.mismatched || may_be_one_row(&failed.failure, answering),
                // The same request would bring the same answer.
                Decision::Resend(_) => failed.mismatched,
                _ => false,
            }
    }

    /// Keeps the first half of the pack, and leaves the second one for later. What the pack has cost is divided.
    pub(super) fn halve(&mut self) {
        let TaskRows::Pack(rows, _) = &mut self.rows else { return };
        let whole = rows.weights();
        let second = rows.split_off();
        let Some(last) = second.last() else { return };
        let mut wasted = self.outcome.wasted.shares(&whole).into_iter();
        let first_wasted = wasted.by_ref().take(rows.rows().len()).fold(Usage::default(), sum);
        let outcome = Outcome {
            row: last.row,
            id: last.id.clone(),
            fingerprint: last.fingerprint,
            wasted: wasted.fold(Usage::default(), sum),
            reserve: reserve(&second),
            ..self.outcome.clone()
        };
        self.outcome.wasted = first_wasted;
        self.outcome.reserve = reserve(rows);
        if let Some(last) = rows.last() {
            (self.outcome.row, self.outcome.id) = (last.row, last.id.clone());
            self.outcome.fingerprint = last.fingerprint;
        }
        self.later.push(LaterHalf { rows: second, outcome, tries: self.tries });
        self.renew();
    }

    /// Turns to the half that was left last. Returns false if there is none.
    pub(super) fn next_half(&mut self) -> bool {
        let Some(LaterHalf { rows, outcome, tries }) = self.later.pop() else { return false };
        (self.outcome, self.tries, self.rows) = (outcome, tries, TaskRows::Pack(rows, Vec::new()));
        self.renew();
        true
    }

    /// Makes the body and the estimate of the rows as they are now.
    fn renew(&mut self) {
        let TaskRows::Pack(rows, _) = &self.rows else { return };
        self.body = rows.body().into();
        self.about = rows.rows().iter().map(|row| row.request.about(None)).sum();
        self.failed_urls = FailedUrls::default();
    }

    /// The outcomes of the rows of the request. They share its attempts, its failure, and in proportion its tokens.
    pub(super) fn outcomes(&mut self) -> Vec<Outcome> {
        match mem::replace(&mut self.rows, TaskRows::One) {
            TaskRows::One => vec![self.outcome.clone()],
            TaskRows::Pack(rows, answers) => divided(&self.outcome, &rows, answers),
        }
    }

    /// The outcomes so far of all rows of the task, without bodies: also of those that are sent later.
    pub(super) fn so_far(&self) -> Vec<Outcome> {
        let now = match &self.rows {
            TaskRows::One => vec![Outcome { body: None, ..self.outcome.clone() }],
            TaskRows::Pack(rows, _) => divided(&self.outcome, rows, Vec::new()),
        };
        let later = self.later.iter().flat_map(|half| divided(&half.outcome, &half.rows, Vec::new()));
        now.into_iter().chain(later).collect()
    }
}

fn sum(mut sum: Usage, one: Usage) -> Usage {
    sum += one;
    sum
}

/// The outcome of each row, from that of the pack.
fn divided(pack: &Outcome, rows: &PackedRows, answers: Vec<UnpackedAnswer>) -> Vec<Outcome> {
    let wasted = pack.wasted.shares(&rows.weights());
    let answers = answers.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    let own = |((row, wasted), answer): ((&PackedRow, Usage), Option<UnpackedAnswer>)| {
        let request = &row.request;
        let (body, usage) = answer.map_or_else(
            || (pack.body.clone(), pack.usage),
            |answer| (Some(answer.body), answer.usage.map(Usage::from)),
        );
        Outcome {
            row: request.row,
            id: request.id.clone(),
            fingerprint: request.fingerprint,
            reserve: request.reserve(None),
            body,
            usage,
            wasted,
            ..pack.clone()
        }
    };
    rows.rows().iter().zip(wasted).zip(answers).map(own).collect()
}
