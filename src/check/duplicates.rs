//! Duplicate ids, found among millions in a few bytes a row.
//!
//! The first pass keeps 44 bits of a hash of each given id. Hashes that come twice are candidates, and so are ids of the
//! form `row-N`, which may equal a generated one. If there are candidates, a second pass compares the ids themselves. A
//! collision of hashes costs a pass but is never reported.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use super::hash_buckets::{HASH_BITS, HashBuckets};
use super::pass::Pass;
use super::scan;
use crate::error::Result;
use crate::input::Block;
use crate::request::{Draft, InputPlace, Problem, Record, RequestBuilder, generated_id, shorten};
use crate::row_set::RowSet;

/// A row's id as the first pass keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeenId {
    /// The row gives no id.
    Generated,
    /// The hash of the row's id.
    Given(u64),
    /// The hash of an id that looks like the generated one of row N, and N.
    RowLike(u64, u64),
}

impl SeenId {
    /// Reads the id of a request.
    pub fn of(draft: &Draft<'_>) -> Self {
        if draft.generated_id { Self::Generated } else { Self::given(&draft.id, draft.number) }
    }

    /// Reads the id that the row with this number gives itself.
    pub fn given(id: &str, number: u64) -> Self {
        // `row-7` given to row 7 has no generated twin: that row generates none.
        let like = id.strip_prefix("row-").filter(|digits| !digits.starts_with(['0', '+']));
        match like.and_then(|digits| digits.parse().ok()).filter(|n| *n != number) {
            Some(n) => Self::RowLike(hash(id), n),
            None => Self::Given(hash(id)),
        }
    }
}

/// Hashes an id to 44 bits.
fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(id.as_bytes());
    hasher.finish() >> (u64::BITS - HASH_BITS)
}

/// The ids of an input, of which some may be used twice. It takes a few bytes a row.
#[derive(Debug, Default)]
pub struct IdHashes(Ids);

impl IdHashes {
    /// Adds the id of the row with this number.
    pub fn add(&mut self, number: u64, id: &str) {
        let generated = id.strip_prefix("row-").is_some_and(|digits| digits.parse() == Ok(number));
        self.0.add(number, if generated { SeenId::Generated } else { SeenId::given(id, number) });
    }

    /// Returns false if no id is used twice. Hashes may be equal by chance.
    pub fn may_repeat(mut self) -> bool {
        (self.0.any_row_like && self.0.any_generated) || !self.0.hashes.repeated().is_empty()
    }
}

/// All ids of the input.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Hashes of given ids.
    hashes: HashBuckets,
    /// Rows behind `all_generated` whose ids are generated, counted from there.
    generated: RowSet,
    /// Number of rows at the start whose ids are all generated.
    all_generated: u64,
    any_given: bool,
    any_generated: bool,
    any_row_like: bool,
}

impl Ids {
    /// Adds the id of the row with this number. Numbers ascend; those that are left out count as generated or not, which
    /// at most costs a pass.
    pub fn add(&mut self, number: u64, id: SeenId) {
        match id {
            SeenId::Generated => {
                self.any_generated = true;
                if self.any_given {
                    self.generated.insert(number - self.all_generated);
                } else {
                    self.all_generated = number;
                }
            }
            SeenId::Given(hash) => self.keep(hash),
            SeenId::RowLike(hash, _) => {
                self.any_row_like = true;
                self.keep(hash);
            }
        }
    }

    fn keep(&mut self, hash: u64) {
        self.any_given = true;
        self.hashes.add(hash);
    }

    fn is_generated(&self, number: u64) -> bool {
        if number <= self.all_generated {
            return number > 0;
        }
        self.generated.contains(number - self.all_generated)
    }
}

/// Rows with an id that an earlier row has.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    /// Those of the shard, ascending.
    pub rows: Vec<u64>,
    /// Of those, rows without another problem.
    pub otherwise_good: u64,
    /// The number of such rows in all shards, and of those without another problem.
    pub total: u64,
    pub total_otherwise_good: u64,
    /// The first of their problems.
    pub problems: Vec<Problem>,
    /// One more than the longest sequence of `#` in any id.
    pub marks: usize,
}

/// Finds duplicates among the candidates in `ids`. Reads the inputs again only if there are any.
pub(super) fn find(pass: &Pass<'_>, mut ids: Ids) -> Result<Duplicates> {
    let mut candidates = ids.hashes.repeated();
    if ids.any_row_like && ids.any_generated {
        candidates.extend(met_by_generated(pass, &ids)?);
        candidates.sort_unstable();
        candidates.dedup();
    }
    let mut duplicates = Duplicates::default();
    if candidates.is_empty() {
        return Ok(duplicates);
    }
    let mut first: HashMap<Box<str>, FirstUse> = HashMap::new();
    let work = |block: &Block| Suspects::of(block, pass, &candidates);
    scan::scan(&pass.inputs.of_all_shards(), pass.threads, &work, &mut |found: Suspects| {
        duplicates.marks = duplicates.marks.max(found.marks + 1);
        for Suspect { row, number, at, id, good } in found.rows {
            match first.entry(id) {
                Entry::Vacant(entry) => {
                    entry.insert(at);
                }
                Entry::Occupied(entry) => {
                    duplicates.total += 1;
                    duplicates.total_otherwise_good += u64::from(good);
                    if let Some(row) = row {
                        duplicates.rows.push(row);
                        duplicates.otherwise_good += u64::from(good);
                    }
                    if duplicates.problems.len() < pass.max_problems {
                        let problem = entry.get().problem(entry.key(), number, &at);
                        duplicates.problems.push(Problem { row, ..problem });
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(duplicates)
}

/// Finds the hashes of given ids that are the generated id of another row.
fn met_by_generated(pass: &Pass<'_>, ids: &Ids) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    let work = |block: &Block| {
        let mut met = Vec::new();
        each_id(block, pass.builder, |id| {
            if let Some(SeenId::RowLike(hash, n)) = id.given.map(|given| SeenId::given(&given, id.number))
                && ids.is_generated(n)
            {
                met.push(hash);
            }
        });
        met
    };
    scan::scan(&pass.inputs.of_all_shards(), pass.threads, &work, &mut |met: Vec<u64>| {
        all.extend(met);
        Ok(())
    })?;
    Ok(all)
}

/// A place in the inputs where an id stands.
struct FirstUse {
    file: Arc<str>,
    line: InputPlace,
}

impl FirstUse {
    /// Makes the problem of the row with this number, which uses the `id` again.
    fn problem(&self, id: &str, number: u64, again: &Self) -> Problem {
        let text = format!(
            "id \"{}\" is used twice: first at {}:{}, again at {}:{}",
            shorten(id),
            self.file,
            self.line,
            again.file,
            again.line
        );
        let problem = Problem::at(Some(number), &again.file, again.line, "duplicate_id", text)
            .hint("give each row its own id, pass --id FIELD to use another field, or leave ids out for row-N");
        Problem { id: Some(id.to_owned()), ..problem }
    }
}

/// A row that may share its id.
struct Suspect {
    /// Its place in the shard; `None`: it belongs to another one.
    row: Option<u64>,
    /// Its number in the whole input.
    number: u64,
    at: FirstUse,
    id: Box<str>,
    good: bool,
}

/// The rows of a block whose ids are candidates.
struct Suspects {
    rows: Vec<Suspect>,
    /// The longest sequence of `#` in any id of the block.
    marks: usize,
}

impl Suspects {
    fn of(block: &Block, pass: &Pass<'_>, candidates: &[u64]) -> Self {
        let mut suspects = Self { rows: Vec::new(), marks: 0 };
        let mut file: Option<Arc<str>> = None;
        each_id(block, pass.builder, |found| {
            let id = found.given.unwrap_or_else(|| generated_id(found.number).into());
            suspects.marks = id.split(|c| c != '#').map(str::len).fold(suspects.marks, usize::max);
            if candidates.binary_search(&hash(&id)).is_ok() {
                let file = Arc::clone(file.get_or_insert_with(|| found.file.into()));
                let at = FirstUse { file, line: found.line };
                let row = pass.inputs.chosen().place(found.row);
                suspects.rows.push(Suspect { row, number: found.number, at, id: id.into(), good: found.good });
            }
        });
        suspects
    }
}

/// The id of a row, and the place where the row stands.
struct IdOfRow<'a> {
    row: u64,
    /// Its number in the whole input.
    number: u64,
    file: &'a str,
    line: InputPlace,
    /// `None`: the row gives no id.
    given: Option<Cow<'a, str>>,
    /// The row has no problem of its own.
    good: bool,
}

fn each_id(block: &Block, builder: &RequestBuilder, mut f: impl FnMut(IdOfRow<'_>)) {
    block.for_each(|record| {
        let problem = match record {
            Ok(record) => match builder.draft(&record) {
                Ok(draft) => {
                    let given = (!draft.generated_id).then(|| draft.id.clone());
                    let Record { row, number, file, line, .. } = record;
                    return f(IdOfRow { row, number, file, line, given, good: true });
                }
                Err(problem) => problem,
            },
            Err(problem) => problem,
        };
        let given = problem.id.as_deref().map(Cow::Borrowed);
        let (row, number) = (problem.row.unwrap_or(0), problem.number.unwrap_or(0));
        f(IdOfRow { row, number, file: &problem.file, line: problem.line, given, good: false });
    });
}
