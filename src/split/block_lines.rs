//! A block of the input as lines of batch files, made on the threads that parse.

use std::ops::Range;
use std::sync::Arc;

use super::wire_ids::WireIds;
use super::{InvalidRow, SplitOptions};
use crate::check::context_length::too_long;
use crate::check::estimate::{RowInspector, RowStats};
use crate::check::{Checked, repeated_id};
use crate::input::Block;
use crate::outcome::{ErrorCode, Fingerprint};
use crate::price::PriceTable;
use crate::request::batch_line::{self, BatchFileForm};
use crate::request::{Attachments, Draft, Problem, Record, RequestBuilder};

/// Bytes that a line adds to its body, about: for the first guess of a buffer's size.
const AROUND: usize = 64;

/// The rows of a block, in order.
#[derive(Debug, Default)]
pub(super) struct BlockLines {
    /// Rows that the block holds, skipped ones included.
    pub rows: u64,
    pub items: Vec<BlockRow>,
    /// The lines, each with its line end, back to back.
    pub bytes: Vec<u8>,
    /// The ids of the lines, back to back.
    pub ids: String,
    /// Names that [`RowLine::model`] counts.
    pub models: Vec<Arc<str>>,
    /// The first rows that are too large for any batch.
    pub oversize: Vec<Problem>,
    /// Number of all such rows.
    pub oversize_count: u64,
}

#[derive(Debug)]
pub(super) enum BlockRow {
    Line(RowLine),
    Invalid(Box<InvalidRow>),
}

/// A row that can be sent.
#[derive(Debug)]
pub(super) struct RowLine {
    pub row: u64,
    /// Part of [`BlockLines::bytes`].
    pub bytes: Range<usize>,
    /// Part of [`BlockLines::ids`].
    pub id: Range<usize>,
    pub wire_id: Option<Box<str>>,
    /// Index into [`BlockLines::models`].
    pub model: usize,
    pub fingerprint: Fingerprint,
    pub stats: Option<RowStats>,
    /// The local files whose bytes the line takes when it is written.
    pub files: Attachments,
}

/// Makes lines; threads share it.
pub(super) struct LineMaker<'a> {
    pub builder: &'a RequestBuilder,
    pub wire_ids: &'a WireIds,
    pub checked: &'a Checked,
    pub options: LineOptions<'a>,
}

/// The part of [`SplitOptions`] that threads can share.
pub(super) struct LineOptions<'a> {
    limits: BatchFileForm,
    only: Option<&'a (dyn Fn(u64) -> bool + Sync)>,
    digests: bool,
    table: Option<&'a PriceTable>,
    inspector: Option<&'a RowInspector<'a>>,
    max_problems: usize,
}

impl<'a> From<&SplitOptions<'a>> for LineOptions<'a> {
    fn from(options: &SplitOptions<'a>) -> Self {
        let &SplitOptions { limits, only, digests, table, inspector, max_problems, .. } = options;
        Self { limits, only, digests, table, inspector, max_problems }
    }
}

impl LineMaker<'_> {
    /// Makes the lines of a block.
    pub fn lines(&self, block: &Block) -> BlockLines {
        let rows = usize::try_from(block.rows()).unwrap_or(0);
        let room = usize::try_from(block.bytes()).unwrap_or(0) + rows * AROUND;
        let mut lines = BlockLines {
            rows: block.rows(),
            items: Vec::with_capacity(rows),
            bytes: Vec::with_capacity(room),
            ..BlockLines::default()
        };
        let mut next = block.first_row();
        block.for_each(|record| {
            let row = next;
            next += 1;
            if self.options.only.is_some_and(|wanted| !wanted(row)) {
                return;
            }
            let item = match record.and_then(
                #[expect(clippy::result_large_err, reason = "a problem is rare")]
                |record| Ok((record, self.builder.draft(&record)?)),
            ) {
                Ok((record, draft)) => self.row(&record, &draft, &mut lines),
                Err(problem) => BlockRow::Invalid(Box::new(self.problem(row, &problem))),
            };
            lines.items.push(item);
        });
        lines
    }

    fn problem(&self, row: u64, problem: &Problem) -> InvalidRow {
        let id = problem.result_id();
        let id = self.checked.stand_in(row, &id).unwrap_or_else(|| id.into());
        let (model, code) = (Arc::from(""), ErrorCode::of_problem(problem.code));
        InvalidRow { row, id, model, code, message: problem.to_string() }
    }

    fn row(&self, record: &Record<'_>, draft: &Draft<'_>, lines: &mut BlockLines) -> BlockRow {
        let invalid = |id: Box<str>, message: String| {
            let (model, code) = (self.builder.shared(&draft.model), ErrorCode::InvalidRequest);
            BlockRow::Invalid(Box::new(InvalidRow { row: draft.row, id, model, code, message }))
        };
        if let Some(problem) = self.options.table.and_then(|table| too_long(record, draft, table)) {
            let model = self.builder.shared(&draft.model);
            return BlockRow::Invalid(Box::new(InvalidRow { model, ..self.problem(draft.row, &problem) }));
        }
        if let Some(id) = self.checked.stand_in(draft.row, &draft.id) {
            return invalid(id, repeated_id(&draft.id));
        }
        let start = lines.bytes.len();
        let wire_id = self.wire_ids.of(draft.number, &draft.id);
        batch_line::append(&mut lines.bytes, wire_id.as_deref().unwrap_or(&draft.id), draft, self.options.limits);
        let size = draft.files.sent_bytes((lines.bytes.len() - start) as u64);
        if size > self.options.limits.bytes {
            lines.bytes.truncate(start);
            let problem = oversize(record, size, self.options.limits.bytes);
            let message = problem.to_string();
            lines.oversize_count += 1;
            if lines.oversize.len() < self.options.max_problems {
                lines.oversize.push(Problem { id: Some(draft.id.as_ref().to_owned()), ..problem });
            }
            return invalid(draft.id.as_ref().into(), message);
        }
        let model = lines.models.iter().position(|known| **known == *draft.model).unwrap_or_else(|| {
            lines.models.push(self.builder.shared(&draft.model));
            lines.models.len() - 1
        });
        let id_start = lines.ids.len();
        lines.ids.push_str(&draft.id);
        BlockRow::Line(RowLine {
            row: draft.row,
            bytes: start..lines.bytes.len(),
            id: id_start..lines.ids.len(),
            wire_id,
            model,
            fingerprint: if self.options.digests { draft.fingerprint() } else { Fingerprint::default() },
            stats: self.options.inspector.map(|inspector| inspector.inspect(draft)),
            files: draft.files.clone(),
        })
    }
}

fn oversize(record: &Record<'_>, size: u64, limit: u64) -> Problem {
    let text = format!("the request makes a line of {size} bytes, but a batch file holds only {limit}");
    Problem::new(record, "too_large", text).hint("shorten the request, or answer this row with `llbatch run`")
}
