//! Ids used twice, found among millions in a few bytes a row.
//!
//! The first pass keeps 44 bits of a hash of each given id. Hashes that come twice, and ids of our own form `row-N` that
//! may meet a generated one, are candidates; only if there are any, a second pass compares the ids themselves. So a collision
//! of hashes costs a pass but is never reported.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use super::{CheckOptions, scan};
use crate::error::Result;
use crate::input::Inputs;
use crate::request::{Problem, Shape, shorten};
use crate::row_set::RowSet;

/// Bits of the hash that choose a bucket, and bits kept in it.
const BUCKET_BITS: u32 = 12;
const KEPT_BITS: u32 = 32;

/// A row's id as the first pass keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenId {
    /// The row gives none.
    Generated,
    /// Its hash.
    Given(u64),
    /// Its hash; it looks like a generated id, of the row N.
    RowLike(u64, u64),
}

impl SeenId {
    /// Of the id that `row` gives itself.
    pub fn given(id: &str, row: u64) -> Self {
        // `row-7` given to row 7 meets nobody: that row generates none.
        let like = id.strip_prefix("row-").filter(|digits| !digits.starts_with(['0', '+']));
        match like.and_then(|digits| digits.parse().ok()).filter(|n| *n != row) {
            Some(n) => Self::RowLike(hash(id), n),
            None => Self::Given(hash(id)),
        }
    }
}

/// 44 bits of an id.
fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(id.as_bytes());
    hasher.finish() >> (u64::BITS - BUCKET_BITS - KEPT_BITS)
}

/// All ids of the input.
#[derive(Debug, Default)]
pub struct Ids {
    /// By their upper bits, hashes of given ids. Empty while no row gives one.
    buckets: Vec<Vec<u32>>,
    /// Rows behind `all_generated` whose ids are generated, counted from there.
    generated: RowSet,
    /// Rows at the start that are all generated.
    all_generated: u64,
    any_given: bool,
    any_generated: bool,
    any_row_like: bool,
}

impl Ids {
    /// Notes the id of `row`, which must be the next.
    pub fn add(&mut self, row: u64, id: SeenId) {
        match id {
            SeenId::Generated => {
                self.any_generated = true;
                if self.any_given {
                    self.generated.insert(row - self.all_generated);
                } else {
                    self.all_generated = row;
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
        if self.buckets.is_empty() {
            self.buckets.resize_with(1 << BUCKET_BITS, Vec::new);
        }
        let (bucket, kept) = halves(hash);
        self.buckets[bucket].push(kept);
    }

    fn is_generated(&self, row: u64) -> bool {
        if row <= self.all_generated {
            return row > 0;
        }
        self.generated.contains(row - self.all_generated)
    }

    /// Hashes that came more than once, ascending. Frees the rest.
    fn repeated(&mut self) -> Vec<u64> {
        let mut repeated = Vec::new();
        for (bucket, kept) in std::mem::take(&mut self.buckets).into_iter().enumerate() {
            let mut kept = kept;
            kept.sort_unstable();
            for same in kept.chunk_by(|a, b| a == b).filter(|same| same.len() > 1) {
                repeated.push(whole(bucket, same[0]));
            }
        }
        repeated
    }
}

fn halves(hash: u64) -> (usize, u32) {
    let kept = u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (usize::try_from(hash >> KEPT_BITS).unwrap_or(0), kept)
}

const fn whole(bucket: usize, kept: u32) -> u64 {
    ((bucket as u64) << KEPT_BITS) | kept as u64
}

/// Rows with an id that an earlier row has.
#[derive(Debug, Default)]
pub struct Twice {
    /// Ascending.
    pub rows: Vec<u64>,
    /// Of those, rows without another problem.
    pub otherwise_good: u64,
    /// The first of their problems.
    pub problems: Vec<Problem>,
    /// One more than there are `#` in a row in any id.
    pub marks: usize,
}

/// A row that may share its id.
struct Suspect {
    row: u64,
    line: u64,
    file: Arc<str>,
    id: Box<str>,
    good: bool,
}

/// Compares the candidates among `ids`, reading the inputs again only if there are any.
pub fn find(inputs: &Inputs, shape: &Shape, options: &CheckOptions<'_>, mut ids: Ids) -> Result<Twice> {
    let mut candidates = ids.repeated();
    if ids.any_row_like && ids.any_generated {
        let work = |block: &crate::input::Block| -> Vec<u64> {
            let found =
                scan::look_over(block, shape, &CheckOptions { max_problems: 0, table: None, ..*options }, &|_| ());
            let met = found.rows.into_iter().filter_map(|seen| match seen.id {
                SeenId::RowLike(hash, n) if ids.is_generated(n) => Some(hash),
                _ => None,
            });
            met.collect()
        };
        scan::scan(inputs, options.threads, &work, &mut |met: Vec<u64>| {
            candidates.extend(met);
            Ok(())
        })?;
        candidates.sort_unstable();
        candidates.dedup();
    }
    let mut twice = Twice::default();
    if candidates.is_empty() {
        return Ok(twice);
    }

    let mut first: HashMap<Box<str>, (Arc<str>, u64)> = HashMap::new();
    let work = |block: &crate::input::Block| suspects(block, shape, &candidates);
    scan::scan(inputs, options.threads, &work, &mut |(found, marks): (Vec<Suspect>, usize)| {
        twice.marks = twice.marks.max(marks + 1);
        for suspect in found {
            match first.entry(suspect.id) {
                Entry::Vacant(entry) => {
                    entry.insert((suspect.file, suspect.line));
                }
                Entry::Occupied(entry) => {
                    twice.rows.push(suspect.row);
                    twice.otherwise_good += u64::from(suspect.good);
                    if twice.problems.len() < options.max_problems {
                        let (file, line) = entry.get();
                        let id = entry.key();
                        let text = format!(
                            "id \"{}\" is used twice: first at {file}:{line}, again at {}:{}",
                            shorten(id),
                            suspect.file,
                            suspect.line
                        );
                        let problem =
                            Problem::at(Some(suspect.row), &suspect.file, suspect.line, "duplicate_id", text).hint(
                                "give each row an id of its own; --id FIELD takes another field, or leave ids out for row-N",
                            );
                        twice.problems.push(Problem { id: Some(id.to_string()), ..problem });
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(twice)
}

/// The rows of a block whose id is a candidate, and the most `#` in a row in any id.
fn suspects(block: &crate::input::Block, shape: &Shape, candidates: &[u64]) -> (Vec<Suspect>, usize) {
    let mut found = Vec::new();
    let mut marks = 0;
    let mut file: Option<Arc<str>> = None;
    block.for_each(|record| {
        let (name, line, row, id, good) = match record {
            Ok(record) => match shape.draft(&record) {
                Ok(draft) => (record.file.to_owned(), record.line, record.row, draft.id.into_owned(), true),
                Err(problem) => (record.file.to_owned(), record.line, record.row, own_id(problem, record.row), false),
            },
            Err(problem) => {
                let row = problem.row.unwrap_or(0);
                (problem.file.clone(), problem.line, row, own_id(problem, row), false)
            }
        };
        marks = id.split(|c| c != '#').map(str::len).fold(marks, usize::max);
        if candidates.binary_search(&hash(&id)).is_ok() {
            let file = Arc::clone(file.get_or_insert_with(|| name.into()));
            found.push(Suspect { row, line, file, id: id.into(), good });
        }
    });
    (found, marks)
}

fn own_id(problem: Problem, row: u64) -> String {
    problem.id.unwrap_or_else(|| crate::request::generated_id(row))
}
