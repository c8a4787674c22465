//! An input split into the files of Together batches: a line for each good row, grouped by model, within the limits of a
//! batch. The caller opens the files; this room writes to them.

mod block_lines;
pub mod destination;
pub mod stage;
mod wire_ids;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use crate::check::estimate::{RowInspector, RowStats};
use crate::check::{Checked, scan};
use crate::error::{Error, Exit, Result};
use crate::input::{self, Inputs};
use crate::outcome::{ErrorCode, Fingerprint};
use crate::price::PriceTable;
use crate::request::batch_line::BatchFileForm;
use crate::request::{Problem, RequestBuilder};
use crate::text;
use block_lines::{BlockLines, BlockRow, LineMaker};
use stage::NewBatchFile;
use wire_ids::WireIds;
use writer::BatchFileWriter;

/// Models that one input may ask for. Each has a file open and is a batch of its own to watch; an input with more has
/// other values in its field `model`.
const MOST_MODELS: usize = 1_000;

/// A complete file of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFile {
    /// Number, from [`SplitOptions::first_number`], in the order of the files' first rows in the input.
    pub number: u32,
    /// The one model of all its rows.
    pub model: Arc<str>,
    /// Lines; at least one.
    pub rows: u64,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the bytes, lower-case hex; empty unless [`SplitOptions::digests`].
    pub sha256: String,
    /// The name that [`SplitOptions::open`] gave it.
    pub path: PathBuf,
}

/// The place of a row after a split.
#[derive(Debug)]
pub enum SplitRow<'a> {
    /// A line of a batch file.
    Line {
        /// 1-based over all inputs.
        row: u64,
        /// The number of its file.
        file: u32,
        /// The user's own id, or `row-N`.
        id: &'a str,
        /// The id on the wire, if the user's is too long.
        wire_id: Option<&'a str>,
        /// Digest of its request; all zero unless [`SplitOptions::digests`].
        fingerprint: Fingerprint,
        /// The model asked for.
        model: &'a Arc<str>,
        /// Figures of the request; `None` without [`SplitOptions::inspector`].
        stats: Option<&'a RowStats>,
    },
    /// No file: the row has a problem, is longer than its model reads, shares its id with an earlier row, or is too large for any batch.
    Invalid(&'a InvalidRow),
}

/// A row that no batch can answer.
#[derive(Debug)]
pub struct InvalidRow {
    /// 1-based over all inputs.
    pub row: u64,
    /// The id of its result: its own id, `row-N`, or `ID#N` for one whose id is taken.
    pub id: Box<str>,
    /// The model asked for; empty if that is not known.
    pub model: Arc<str>,
    /// The kind of the problem.
    pub code: ErrorCode,
    /// The problem, with its place, for people.
    pub message: String,
}

/// Options of a split.
pub struct SplitOptions<'a> {
    /// Opens the file of a new batch, given its number and model.
    pub open: &'a dyn Fn(u32, &str) -> Result<NewBatchFile>,
    /// Limits of each file.
    pub limits: BatchFileForm,
    /// Threads that parse. With 0 or 1 the caller's thread does all.
    pub threads: usize,
    /// The first file's number: 1, or behind the files of an earlier split of the same job.
    pub first_number: u32,
    /// The rows to take; others are skipped. Ids on the wire do not depend on it.
    pub only: Option<&'a (dyn Fn(u64) -> bool + Sync)>,
    /// Computes [`BatchFile::sha256`] and fingerprints.
    pub digests: bool,
    /// Context lengths of the models; a row that is surely longer is invalid. `None`: rows may have any length.
    pub table: Option<&'a PriceTable>,
    /// Makes [`SplitRow::Line::stats`].
    pub inspector: Option<&'a RowInspector<'a>>,
    /// Problems kept in [`Split::oversize`]; all are counted.
    pub max_problems: usize,
}

/// The result of a split.
#[derive(Debug, Default)]
pub struct Split {
    /// By number.
    pub files: Vec<BatchFile>,
    /// The first rows that are too large for any batch. They came as [`SplitRow::Invalid`] too. Unless invalid rows are to
    /// be skipped, the files must not be used.
    pub oversize: Vec<Problem>,
    /// Number of all such rows.
    pub oversize_count: u64,
}

/// Writes the batch files of `inputs`, and passes every row to `each`, in input order.
///
/// A line is `{"custom_id":"…","body":{…}}`, its body exactly the one that a realtime request would post (audio carries a
/// `method` too). `checked` must be of the same inputs and builder.
///
/// # Errors
/// 65 for more than 1,000 models; 1 if the input has more or fewer rows than when it was checked, or a file of a row has
/// changed since; 66 or 74 if it cannot be
/// read; the errors of `each` and of the files.
pub fn split(
    inputs: &Inputs,
    builder: &RequestBuilder,
    checked: &Checked,
    options: &SplitOptions<'_>,
    each: &mut dyn FnMut(SplitRow<'_>) -> Result<()>,
) -> Result<Split> {
    if checked.models.len() > MOST_MODELS {
        return Err(too_many_models(checked.models.len()));
    }
    let wire_ids = WireIds::find(inputs, builder, checked, options.threads)?;
    let maker = LineMaker { builder, wire_ids: &wire_ids, checked, options: options.into() };
    let mut writer = BatchFileWriter::new(options);
    let mut split = Split::default();
    let mut rows = 0;
    scan::scan(inputs, options.threads, &|block| maker.lines(block), &mut |lines: BlockLines| {
        rows += lines.rows;
        for row in &lines.items {
            each(match row {
                BlockRow::Invalid(invalid) => SplitRow::Invalid(invalid),
                BlockRow::Line(line) => SplitRow::Line {
                    row: line.row,
                    file: writer.append(&lines.models[line.model], &lines.bytes[line.bytes.clone()], &line.files)?,
                    id: &lines.ids[line.id.clone()],
                    wire_id: line.wire_id.as_deref(),
                    fingerprint: line.fingerprint,
                    model: &lines.models[line.model],
                    stats: line.stats.as_ref(),
                },
            })?;
        }
        split.oversize_count += lines.oversize_count;
        let room = options.max_problems.saturating_sub(split.oversize.len());
        split.oversize.extend(lines.oversize.into_iter().take(room));
        Ok(())
    })?;
    if rows != checked.rows {
        let effect = format!("{} when checked, {rows} now", text::plural(checked.rows, "row"));
        return Err(input::changed(&effect));
    }
    split.files = writer.finish()?;
    Ok(split)
}

fn too_many_models(models: usize) -> Error {
    Error::new(
        Exit::Data,
        format!(
            "the input names {models} models; a batch serves one model, and more than {MOST_MODELS} batches at \
                 once are probably a mistake"
        ),
    )
    .hint("check the field `model`: if it is data and not the model to use, pass --prompt and -m MODEL")
}

#[cfg(test)]
mod tests;
