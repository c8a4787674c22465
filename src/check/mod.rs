//! A pass over all rows before anything is sent: every problem, every id that is used twice, what models are asked for.

pub mod calibrate;
pub mod document;
mod duplicates;
pub mod estimate;
pub mod notices;
pub mod problems;
pub mod route;
pub mod scan;

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::input::Inputs;
use crate::price::Table;
use crate::request::{Draft, Problem, Request, RequestBuilder};

/// How to check.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions<'a> {
    /// Problems kept in [`Checked::problems`]; all are counted.
    pub max_problems: usize,
    /// Threads that parse. 0 and 1 do all in the caller's.
    pub threads: usize,
    /// How much the models read; a row that is surely longer is a problem.
    pub table: Option<&'a Table>,
}

impl Default for CheckOptions<'_> {
    /// 20 problems; a thread for each processor, up to 8 (one thread cuts blocks for all, so more would only wait).
    fn default() -> Self {
        Self {
            max_problems: 20,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(8)),
            table: None,
        }
    }
}

/// What the check found.
#[derive(Debug, Default)]
pub struct Checked {
    /// What messages call the inputs.
    pub inputs: String,
    /// All rows, good and bad.
    pub rows: u64,
    /// Size of the input, unpacked.
    pub bytes: u64,
    /// Good rows (before duplicate ids are told) by model, most first.
    pub models: Vec<(Arc<str>, u64)>,
    /// The first problems in input order.
    pub problems: Vec<Problem>,
    /// How many there are in all.
    pub problem_count: u64,
    /// Rows that have one or more.
    pub bad_rows: u64,
    /// Rows from which `stream` or `stream_options` was taken out.
    pub stream_removed: u64,
    /// Rows whose id was taken by an earlier row, ascending.
    pub duplicates: Vec<u64>,
    /// With what the ids of those rows are told apart in results: no id of the input holds so many `#` in a row.
    pub marks: usize,
    /// Ids over the service's 64 characters.
    pub long_ids: u64,
}

impl Checked {
    /// Under what `row` stands in the results if an earlier row has its `id` (two under one could not be told apart): that
    /// with its number (`id#7`), which is no other row's id. `None`: the id is its own.
    pub fn stand_in(&self, row: u64, id: &str) -> Option<Box<str>> {
        self.duplicates.binary_search(&row).ok()?;
        Some(format!("{id}{}{row}", "#".repeat(self.marks)).into())
    }
}

/// Longest `custom_id` that the service takes, in characters (together-wire: "at most 64 characters").
const ID_LIMIT: usize = 64;

/// Checks every row of `inputs` without sending anything. `each` is called in input order with the row and its request,
/// or `None` for a row with a problem of its own (duplicate ids show only at the end, in [`Checked::duplicates`]).
///
/// # Errors
/// What stops the reading (see [`crate::input::Blocks::next`]); never a problem of a row.
pub fn check(
    inputs: &Inputs,
    shape: &RequestBuilder,
    options: &CheckOptions<'_>,
    each: &mut dyn FnMut(u64, Option<&Request>),
) -> Result<Checked> {
    check_with(inputs, shape, options, &|draft| shape.own(draft), &mut |row, request| each(row, request.as_ref()))
}

/// The same, for what can be told from a row on the thread that parsed it (`look`), such as a token estimate: only what
/// `look` returns is kept, and no body is copied.
pub fn check_with<T: Send>(
    inputs: &Inputs,
    shape: &RequestBuilder,
    options: &CheckOptions<'_>,
    look: &(dyn Fn(&Draft<'_>) -> T + Sync),
    each: &mut dyn FnMut(u64, Option<T>),
) -> Result<Checked> {
    check_by_model(inputs, shape, options, look, &mut |row, found| each(row, found.map(|(_, looked)| looked)))
}

/// The same, and `each` is told the row's model: its one shared name, without a look-up for each row.
pub fn check_by_model<T: Send>(
    inputs: &Inputs,
    shape: &RequestBuilder,
    options: &CheckOptions<'_>,
    look: &(dyn Fn(&Draft<'_>) -> T + Sync),
    each: &mut dyn FnMut(u64, Option<(&Arc<str>, T)>),
) -> Result<Checked> {
    let mut checked = Checked { inputs: inputs.shown(), ..Checked::default() };
    let mut ids = duplicates::Ids::default();
    let mut problems = Vec::new();
    let mut models: HashMap<Arc<str>, u64> = HashMap::new();
    scan::scan(inputs, options.threads, &|block| scan::look_over(block, shape, options, look), &mut |found| {
        checked.bytes += found.bytes;
        checked.long_ids += found.long_ids;
        checked.stream_removed += found.stream_removed;
        checked.bad_rows += found.bad_rows;
        for seen in found.rows {
            checked.rows += 1;
            ids.add(checked.rows, seen.id);
            each(checked.rows, seen.looked.and_then(|(model, looked)| Some((&found.models.get(model)?.0, looked))));
        }
        for (model, rows) in found.models {
            *models.entry(model).or_default() += rows;
        }
        let room = options.max_problems.saturating_sub(problems.len());
        problems.extend(found.problems.into_iter().take(room));
        Ok(())
    })?;

    let twice = duplicates::find(inputs, shape, options, ids)?;
    checked.problem_count = checked.bad_rows + twice.rows.len() as u64;
    checked.bad_rows += twice.otherwise_good;
    checked.duplicates = twice.rows;
    checked.marks = twice.marks;
    problems.extend(twice.problems);
    problems.sort_by_key(|problem| problem.row);
    problems.truncate(options.max_problems);
    checked.problems = problems;
    let mut models: Vec<_> = models.into_iter().collect();
    models.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    checked.models = models;
    Ok(checked)
}

#[cfg(test)]
mod tests;
