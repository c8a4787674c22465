//! Reads the input for the transport. It skips done rows; invalid rows become failed outcomes.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::resume::JobRows;
use crate::check::Checked;
use crate::error::{Error, Result};
use crate::input;
use crate::outcome::{ErrorCode, Outcome};
use crate::realtime::QueuedRow;
use crate::request::{Problem, Record, Request, RequestBuilder};
use crate::row_set::RowSet;
use crate::text;

/// Rows per message to the engine: few wake-ups, little memory.
const HAND: usize = 64;

/// The rows that a run sends.
pub struct Feed<'a> {
    /// The rows of the job.
    pub rows: JobRows<'a>,
    /// Rows that are not sent.
    pub skipped: &'a RowSet,
    /// The result of the check.
    pub checked: &'a Checked,
}

/// Reads all rows and sends the remaining ones to the engine. It ends early, without an error, when the engine is gone.
///
/// # Errors
/// Read errors, and an input that has changed since the check.
pub fn feed(feed: &Feed<'_>, out: &Sender<Vec<QueuedRow>>) -> Result<()> {
    let Feed { rows: JobRows { inputs, builder }, skipped, checked } = *feed;
    let expected = checked.rows;
    let mut blocks = inputs.blocks()?;
    let mut hand = Vec::with_capacity(HAND);
    let mut rows = 0;
    let mut open = true;
    while let Some(block) = blocks.next()? {
        let mut row = block.first_row();
        block.for_each(|record| {
            let this = row;
            row += 1;
            rows += 1;
            if !open || skipped.contains(this) || this > expected {
                return;
            }
            let item = match request(builder, record) {
                Ok(request) => match checked.stand_in(this, &request.id) {
                    Some(id) => {
                        let message = format!("the id {:?} was used by an earlier row", request.id);
                        failed(this, id, request.model, message)
                    }
                    None => QueuedRow::Send(request),
                },
                Err(problem) => bad(this, checked, &problem),
            };
            hand.push(item);
            if hand.len() == HAND {
                open = out.blocking_send(std::mem::replace(&mut hand, Vec::with_capacity(HAND))).is_ok();
            }
        });
        if !open {
            return Ok(());
        }
    }
    if !hand.is_empty() {
        open = out.blocking_send(hand).is_ok();
    }
    if open && rows != expected {
        let effect = format!("{} when checked, {rows} now", text::plural(expected, "row"));
        return Err(changed_input(&effect));
    }
    Ok(())
}

#[expect(clippy::result_large_err, reason = "a problem is rare, and boxing it would show everywhere")]
fn request(builder: &RequestBuilder, record: Result<Record<'_>, Problem>) -> Result<Request, Problem> {
    record.and_then(|record| builder.request(&record))
}

fn bad(row: u64, checked: &Checked, problem: &Problem) -> QueuedRow {
    let id = problem.result_id();
    let id = checked.stand_in(row, &id).unwrap_or_else(|| id.into());
    failed(row, id, Arc::from(""), problem.to_string())
}

fn failed(row: u64, id: Box<str>, model: Arc<str>, message: String) -> QueuedRow {
    QueuedRow::Failed(Box::new(Outcome::unsent(row, id, model, ErrorCode::InvalidRequest, message)))
}

/// Builds the error for an input that was written to during a run. `effect` says what that led to.
pub fn changed_input(effect: &str) -> Error {
    input::changed(effect).hint("run the same command again: answers whose request is unchanged are kept")
}
