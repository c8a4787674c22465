//! An input split into the files of Together batches: a line for each good row, grouped by model, within the limits of a
//! batch. Which files these are is the caller's affair; here they are only written to.

mod lines;
pub mod stage;
mod wire;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use ring::digest;

use crate::check::{Checked, scan};
use crate::error::{Error, Exit, Result};
use crate::input::Inputs;
use crate::outcome::{Fingerprint, Usage};
use crate::request::batch_line::Limits;
use crate::request::{Problem, RequestBuilder, generated_id};
use lines::{Item, Lines, Maker};
use wire::Wires;

/// Models that one input may ask for. Each has a file open, and is a batch of its own to pay attention to; an input with
/// more has something else in its field `model`.
const MOST_MODELS: usize = 1_000;

/// A complete file of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// From [`SplitOptions::first_number`], in the order in which their first rows stand in the input.
    pub number: u32,
    /// The one model of all its rows.
    pub model: Arc<str>,
    /// Lines; at least one.
    pub rows: u64,
    /// Size.
    pub bytes: u64,
    /// Of the bytes, lower-case hex; empty unless [`SplitOptions::digests`].
    pub sha256: String,
    /// As [`SplitOptions::open`] named it.
    pub path: PathBuf,
}

/// Where a row went.
#[derive(Debug)]
pub enum Placed<'a> {
    /// Into a shard.
    Row {
        /// 1-based over all inputs.
        row: u64,
        /// The number of its shard.
        shard: u32,
        /// The user's own id, or `row-N`.
        id: &'a str,
        /// The id on the wire, if it is another one: the user's is too long.
        wire: Option<&'a str>,
        /// Of its request; all zero unless [`SplitOptions::digests`].
        fingerprint: Fingerprint,
        /// The model asked for.
        model: &'a Arc<str>,
        /// At most so many tokens of the request, and of the answer (0: no bound is set).
        reserve: Usage,
    },
    /// Nowhere: it has a problem, shares its id with an earlier row, or is too large for any batch.
    Bad {
        /// 1-based over all inputs.
        row: u64,
        /// For its result: its own id, `row-N`, or `ID#N` for one whose id is taken.
        id: &'a str,
        /// The model asked for; empty if that cannot be told.
        model: &'a Arc<str>,
        /// What is wrong, where, for people.
        message: String,
    },
}

/// A file that takes a shard's lines.
pub trait ShardFile: Write {
    /// All lines are written. Whether the file counts from now on, or only when all shards are complete, is its own affair.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A shard's file, open and empty.
pub struct Opened {
    /// What it is called.
    pub path: PathBuf,
    /// It buffers; lines come one by one.
    pub file: Box<dyn ShardFile>,
}

/// How to split.
pub struct SplitOptions<'a> {
    /// Makes the file of a new shard, given its number and model.
    pub open: &'a dyn Fn(u32, &str) -> Result<Opened>,
    /// Of each file.
    pub limits: Limits,
    /// Threads that parse. 0 and 1 do all in the caller's.
    pub threads: usize,
    /// The first shard's number: 1, or behind the shards that an earlier split of the same job made.
    pub first_number: u32,
    /// The rows to take; others are passed over in silence. Ids on the wire do not depend on it.
    pub only: Option<&'a (dyn Fn(u64) -> bool + Sync)>,
    /// Whether to compute [`Shard::sha256`] and fingerprints.
    pub digests: bool,
    /// Problems kept in [`Split::oversize`]; all are counted.
    pub max_problems: usize,
}

/// What came of a split.
#[derive(Debug, Default)]
pub struct Split {
    /// By number.
    pub shards: Vec<Shard>,
    /// The first rows that are too large for any batch. They were told as [`Placed::Bad`]; unless invalid rows are to be
    /// skipped, the shards must not be used.
    pub oversize: Vec<Problem>,
    /// How many there are in all.
    pub oversize_count: u64,
}

/// Writes the batch files of `inputs`. `each` is told where every row went, in input order.
///
/// A line is `{"custom_id":"…","body":{…}}`, its body exactly what realtime would post (audio carries a `method` too).
/// `checked` must be of the same inputs and shape.
///
/// # Errors
/// 65 for more than 1,000 models; 1 if the input has more or fewer rows than when it was checked; what stops the reading;
/// and the errors of `each` and of the files.
pub fn split(
    inputs: &Inputs,
    shape: &RequestBuilder,
    checked: &Checked,
    options: &SplitOptions<'_>,
    each: &mut dyn FnMut(Placed<'_>) -> Result<()>,
) -> Result<Split> {
    if checked.models.len() > MOST_MODELS {
        return Err(too_many_models(checked.models.len()));
    }
    let wires = Wires::find(inputs, shape, checked, options.threads)?;
    let maker = Maker::new(shape, &wires, checked, options);
    let mut writer = Writer { options, open: HashMap::new(), done: Vec::new(), next: options.first_number };
    let mut split = Split::default();
    let mut rows = 0;
    scan::scan(inputs, options.threads, &|block| maker.lines(block), &mut |lines: Lines| {
        rows += lines.rows;
        let (mut from, mut id_from) = (0, 0);
        for item in &lines.items {
            match item {
                Item::Line(line) => {
                    let model = &lines.models[line.model];
                    let shard = writer.place(model, &lines.bytes[from..line.end])?;
                    let (id, wire) = (&lines.ids[id_from..line.id_end], line.wire.as_deref());
                    let (fingerprint, reserve) = (line.fingerprint, line.reserve);
                    (from, id_from) = (line.end, line.id_end);
                    each(Placed::Row { row: line.row, shard, id, wire, fingerprint, model, reserve })?;
                }
                Item::Bad(bad) => {
                    let message = bad.message.clone();
                    each(Placed::Bad { row: bad.row, id: &bad.id, model: &bad.model, message })?;
                }
            }
        }
        split.oversize_count += lines.oversize_count;
        let room = options.max_problems.saturating_sub(split.oversize.len());
        split.oversize.extend(lines.oversize.into_iter().take(room));
        Ok(())
    })?;
    if rows != checked.rows {
        return Err(Error::new(
            Exit::Failure,
            format!("the input changed while it was read: {} rows when checked, {rows} now", checked.rows),
        )
        .hint("run the same command again, when nobody writes to the input"));
    }
    split.shards = writer.finish()?;
    Ok(split)
}

fn too_many_models(models: usize) -> Error {
    Error::new(
        Exit::Data,
        format!("the input asks for {models} models; a batch serves one, and more than {MOST_MODELS} batches at once are a mistake"),
    )
    .hint("is the field `model` the model that answers? For data with a column of that name give --prompt and -m MODEL")
}

/// The shards that are open, one a model at most.
struct Writer<'a> {
    options: &'a SplitOptions<'a>,
    open: HashMap<Arc<str>, Filling>,
    done: Vec<Shard>,
    next: u32,
}

struct Filling {
    shard: Shard,
    file: Box<dyn ShardFile>,
    sha256: Option<digest::Context>,
}

impl Writer<'_> {
    /// Appends a line to the shard that has room for it; says which one.
    fn place(&mut self, model: &Arc<str>, line: &[u8]) -> Result<u32> {
        let Limits { rows, bytes } = self.options.limits;
        let size = line.len() as u64;
        let has_room = |shard: &Shard| shard.rows < rows && shard.bytes + size <= bytes;
        if let Some(filling) = self.open.get_mut(model) {
            if has_room(&filling.shard) {
                filling.append(line)?;
                return Ok(filling.shard.number);
            }
        } else if self.open.len() == MOST_MODELS {
            // It was checked with fewer, so somebody writes to it: no need to count on.
            return Err(too_many_models(MOST_MODELS + 1));
        }
        let number = self.next;
        self.next = number.checked_add(1).ok_or_else(|| Error::new(Exit::Data, "the input makes too many batches"))?;
        if let Some(full) = self.open.remove(model) {
            self.done.push(full.finish()?);
        }
        let Opened { path, file } = (self.options.open)(number, model)?;
        let shard = Shard { number, model: Arc::clone(model), rows: 0, bytes: 0, sha256: String::new(), path };
        let sha256 = self.options.digests.then(|| digest::Context::new(&digest::SHA256));
        let mut filling = Filling { shard, file, sha256 };
        filling.append(line)?;
        self.open.insert(Arc::clone(model), filling);
        Ok(number)
    }

    /// Closes the files that are still open.
    fn finish(self) -> Result<Vec<Shard>> {
        let mut last: Vec<Filling> = self.open.into_values().collect();
        last.sort_by_key(|filling| filling.shard.number);
        let mut shards = self.done;
        for filling in last {
            shards.push(filling.finish()?);
        }
        shards.sort_by_key(|shard| shard.number);
        Ok(shards)
    }
}

impl Filling {
    fn append(&mut self, line: &[u8]) -> Result<()> {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(line);
        }
        self.shard.rows += 1;
        self.shard.bytes += line.len() as u64;
        let path = &self.shard.path;
        self.file.write_all(line).map_err(|e| Error::io(format_args!("{}: cannot write", path.display()), e))
    }

    fn finish(mut self) -> Result<Shard> {
        self.file.finish()?;
        if let Some(sha256) = self.sha256 {
            for byte in sha256.finish().as_ref() {
                // Writing to memory cannot fail.
                let _ = write!(self.shard.sha256, "{byte:02x}");
            }
        }
        Ok(self.shard)
    }
}

#[cfg(test)]
mod tests;
