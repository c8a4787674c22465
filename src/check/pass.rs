//! One pass over all rows of an input, and its findings.

use std::collections::HashMap;
use std::sync::Arc;

use super::block::BlockFindings;
use super::groups::ProblemGroups;
use super::request_hashes::{AlikeRows, RequestHashes};
use super::{duplicates, first_look, scan};
use crate::error::{Error, Result};
use crate::input::{FieldNames, Inputs, Shard};
use crate::price::PriceTable;
use crate::request::{Draft, KeyMaker, Problem, RequestBuilder};
use crate::row_set::RowSet;

/// A check of every row of all shards, without sending anything. Only rows of the own shard are inspected and counted.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// The rows.
    pub inputs: &'a Inputs,
    /// The builder of their requests.
    pub builder: &'a RequestBuilder,
    /// Problems kept in [`Checked::problems`]; all are counted.
    pub max_problems: usize,
    /// Threads that parse. With 0 or 1 the caller's thread does all.
    pub threads: usize,
    /// Context lengths of the models; a row that is surely longer is a problem. `None`: rows may have any length.
    pub table: Option<&'a PriceTable>,
    /// The fields of all records are gathered, for a table of results.
    pub fields: bool,
    /// Makes the keys that repeated requests are found by. `None`: they are not looked for.
    pub keys: Option<&'a KeyMaker>,
}

/// A good row, on its way to the caller of a pass.
#[derive(Debug)]
pub struct Inspected<'a, T> {
    /// The model asked for, under the one name that all its rows share.
    pub model: &'a Arc<str>,
    /// The result of the caller's inspection.
    pub value: T,
}

/// The findings of a pass.
#[derive(Debug, Default)]
pub struct Checked {
    /// The inputs as messages name them.
    pub inputs: String,
    /// All rows, good and bad; with `--shard` those of the shard.
    pub rows: u64,
    /// The rows of all shards.
    pub total_rows: u64,
    /// The shard of the command.
    pub shard: Option<Shard>,
    /// Size of the input, unpacked.
    pub bytes: u64,
    /// Good rows by model, most first; duplicate ids are not subtracted.
    pub models: Vec<(Arc<str>, u64)>,
    /// The first problems in input order.
    pub problems: Vec<Problem>,
    /// All problems by what they say.
    pub groups: ProblemGroups,
    /// Number of all problems, in all shards; that of a table's header is one.
    pub problem_count: u64,
    /// Rows that have one or more.
    pub bad_rows: u64,
    /// The same in all shards.
    pub total_bad_rows: u64,
    /// Tables whose header lacks the column that every row needs.
    pub headers: Vec<String>,
    /// Their rows that have no other problem.
    pub headed_rows: u64,
    /// Rows from which llbatch removed `stream` or `stream_options`.
    pub stream_removed: u64,
    /// Rows whose id was taken by an earlier row, ascending.
    pub duplicates: Vec<u64>,
    /// Number of `#` that mark those rows in results; no id of the input has as many in sequence.
    pub marks: usize,
    /// Ids over the service's 64 characters.
    pub long_ids: u64,
    /// The id of a row with a part whose tokens have no known bound, and the type of that part.
    pub unbounded: Option<(String, String)>,
    /// The fields of all records. `None`: they were not gathered.
    pub fields: Option<FieldNames>,
    /// Rows that are longer than their model reads. `None`: the check has not compared them.
    pub too_long: Option<RowSet>,
    /// Rows whose request may be that of another row, if repeats were looked for.
    pub alike: AlikeRows,
}

impl<'a> Pass<'a> {
    /// Keeps 20 problems, and starts a thread for each processor, up to 8: one thread cuts blocks for all, so more would
    /// only wait.
    pub fn new(inputs: &'a Inputs, builder: &'a RequestBuilder) -> Self {
        Self {
            inputs,
            builder,
            max_problems: 20,
            threads: Self::default_threads(),
            table: None,
            fields: false,
            keys: None,
        }
    }

    /// Number of threads that parse unless the caller sets another.
    pub fn default_threads() -> usize {
        std::thread::available_parallelism().map_or(1, |n| n.get().min(8))
    }

    /// Checks every row, and nothing beside.
    ///
    /// # Errors
    /// An input that cannot be read; never a problem of a row.
    pub fn run(&self) -> Result<Checked> {
        self.inspect(&|_| (), &mut |_, _| ())
    }

    /// Checks every row. `inspect` sees each good row of the shard on the thread that parsed it. `each` gets its result in input
    /// order, or `None` for a row with a problem. Rows with a duplicate id count as good here: they are known only at
    /// the end, in [`Checked::duplicates`].
    ///
    /// # Errors
    /// An input that cannot be read, or a template that is wrong for every row (2); never a problem of a row.
    pub fn inspect<T: Send>(
        &self,
        inspect: &(dyn Fn(&Draft<'_>) -> T + Sync),
        each: &mut dyn FnMut(u64, Option<Inspected<'_, T>>),
    ) -> Result<Checked> {
        let groups = ProblemGroups::new(self.max_problems);
        let too_long = self.table.map(|_| RowSet::default());
        let shard = self.inputs.chosen().shard();
        let mut checked = Checked { inputs: self.inputs.shown(), shard, groups, too_long, ..Checked::default() };
        let mut ids = duplicates::Ids::default();
        let mut requests = RequestHashes::default();
        let mut models: HashMap<Arc<str>, u64> = HashMap::new();
        let work = |block: &_| BlockFindings::of(block, self, inspect);
        scan::scan(&self.inputs.of_all_shards(), self.threads, &work, &mut |found: BlockFindings<T>| {
            for row in found.rows {
                checked.total_rows += 1;
                ids.add(row.number, row.id);
                if !row.is_own {
                    continue;
                }
                checked.rows += 1;
                if let Some((hash, spelling)) = row.good.as_ref().and_then(|good| good.hashes) {
                    requests.add(hash, spelling, checked.rows);
                }
                let good = row
                    .good
                    .and_then(|good| Some(Inspected { model: &found.models.get(good.model)?.0, value: good.value }));
                each(checked.rows, good);
            }
            match (&mut checked.fields, found.fields) {
                (Some(fields), Some(next)) => fields.append(next),
                (None, first) => checked.fields = first,
                (Some(_), None) => {}
            }
            if let Some(too_long) = &mut checked.too_long {
                found.too_long.iter().for_each(|row| _ = too_long.insert(*row));
            }
            checked.bytes += found.bytes;
            checked.long_ids += found.long_ids;
            checked.stream_removed += found.stream_removed;
            checked.unbounded = checked.unbounded.take().or(found.unbounded);
            checked.bad_rows += found.bad_rows;
            checked.total_bad_rows += found.total_bad_rows;
            checked.add_header(found.header, found.headed_rows, self.max_problems);
            for (model, rows) in found.models {
                *models.entry(model).or_default() += rows;
            }
            checked.groups.append(found.groups);
            let room = self.max_problems.saturating_sub(checked.problems.len());
            checked.problems.extend(found.problems.into_iter().take(room));
            Ok(())
        })?;
        let unreadable = |error| Error::io("a temporary file with the hashes of requests cannot be read", error);
        checked.alike = requests.alike().map_err(unreadable)?;
        first_look::refuse_faults(&checked.problems)?;
        checked.models = models.into_iter().collect();
        checked.models.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        checked.add(duplicates::find(self, ids)?, self.max_problems);
        Ok(checked)
    }
}

impl Checked {
    /// Adds the problem of a table's header once, and counts its rows as reported.
    fn add_header(&mut self, problem: Option<Problem>, rows: u64, max_problems: usize) {
        self.headed_rows += rows;
        let Some(problem) = problem.filter(|problem| rows > 0 && self.headers.last() != Some(&problem.file)) else {
            return;
        };
        self.headers.push(problem.file.clone());
        self.groups.add(&problem);
        if self.problems.len() < max_problems {
            self.problems.push(problem);
        }
    }

    fn add(&mut self, duplicates: duplicates::Duplicates, max_problems: usize) {
        let told_once = self.headed_rows - self.headers.len() as u64;
        self.problem_count = self.total_bad_rows - told_once + duplicates.total;
        self.bad_rows += duplicates.otherwise_good;
        self.total_bad_rows += duplicates.total_otherwise_good;
        self.duplicates = duplicates.rows;
        self.marks = duplicates.marks;
        self.groups.append(ProblemGroups::of(&duplicates.problems, duplicates.total));
        self.problems.extend(duplicates.problems);
        self.problems.sort_by_key(|problem| problem.number);
        self.problems.truncate(max_problems);
    }

    /// Tests whether `row`, which makes a request, may be sent: its id is its own, and it is not too long.
    pub fn is_good(&self, row: u64) -> bool {
        self.duplicates.binary_search(&row).is_err() && self.too_long.as_ref().is_none_or(|rows| !rows.contains(row))
    }

    /// Makes the id of `row` in results if an earlier row has its `id`. It is the id with the row's number among the rows
    /// of all shards (`id#7`), which is unique. `None`: the id is the row's own.
    pub fn stand_in(&self, row: u64, id: &str) -> Option<Box<str>> {
        self.duplicates.binary_search(&row).ok()?;
        let number = self.shard.map_or(row, |shard| shard.row_at(row));
        Some(format!("{id}{}{number}", "#".repeat(self.marks)).into())
    }
}

/// The end of the message about a row whose id an earlier row has.
const REPEATED: &str = "was used by an earlier row";

/// The message about a row whose `id` an earlier row has.
pub fn repeated_id(id: &str) -> String {
    format!("the id {id:?} {REPEATED}")
}

/// Returns true if this is such a message.
pub fn says_repeated(message: &str) -> bool {
    message.starts_with("the id ") && message.ends_with(REPEATED)
}
