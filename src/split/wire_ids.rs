//! The ids of rows on the wire: their own, or a stand-in where that is too long for the service.

use std::collections::HashSet;

use crate::check::scan::scan;
use crate::check::{Checked, is_long};
use crate::error::Result;
use crate::input::{Block, Inputs};
use crate::request::{RequestBuilder, generated_id};
use crate::row_set::RowSet;

/// Makes stand-ins for long ids, and knows which of them are other rows' own ids.
#[derive(Debug, Default)]
pub(super) struct WireIds {
    taken: HashSet<Box<str>>,
}

/// The long ids of a block.
#[derive(Default)]
struct LongIds {
    rows: Vec<u64>,
    /// Some id of the block looks like the stand-in for another row.
    any_alike: bool,
}

impl WireIds {
    /// Reads all ids, only if there are long ones; and again, only if some look like stand-ins. Keeps a bit for each row
    /// meanwhile, and afterwards the few ids that are in the way.
    pub fn find(inputs: &Inputs, builder: &RequestBuilder, checked: &Checked, threads: usize) -> Result<Self> {
        let mut ids = Self::default();
        if checked.long_ids == 0 {
            return Ok(ids);
        }
        let mut long = RowSet::default();
        let mut any_alike = false;
        scan(inputs, threads, &|block| LongIds::of(block, builder), &mut |found: LongIds| {
            found.rows.into_iter().for_each(|row| _ = long.insert(row));
            any_alike |= found.any_alike;
            Ok(())
        })?;
        if !any_alike {
            return Ok(ids);
        }
        let alike = |block: &Block| {
            let mut found: Vec<Box<str>> = Vec::new();
            each_id(block, builder, |_, id| {
                if row_of(id).is_some_and(|n| long.contains(n)) {
                    found.push(id.into());
                }
            });
            found
        };
        scan(inputs, threads, &alike, &mut |found: Vec<Box<str>>| {
            ids.taken.extend(found);
            Ok(())
        })?;
        Ok(ids)
    }

    /// Makes the substitute for the id of the row with this number, if the id is too long. It is `row-N`, or the first of `row-N-1`,
    /// `row-N-2`, … that is not the id of a row. Stand-ins of different rows differ by their N.
    pub fn of(&self, number: u64, id: &str) -> Option<Box<str>> {
        if !is_long(id) {
            return None;
        }
        let first = generated_id(number);
        if !self.taken.contains(first.as_str()) {
            return Some(first.into());
        }
        let mut others = (1..=self.taken.len() + 1).map(|n| format!("{first}-{n}"));
        let free = others.find(|name| !self.taken.contains(name.as_str()));
        Some(free.expect("there is one name more than are taken").into())
    }
}

impl LongIds {
    fn of(block: &Block, builder: &RequestBuilder) -> Self {
        let mut found = Self::default();
        each_id(block, builder, |row, id| {
            if is_long(id) {
                found.rows.push(row);
            }
            found.any_alike |= row_of(id).is_some_and(|n| n != row);
        });
        found
    }
}

/// Reads N from an id of the form `row-N` or `row-N-…`.
fn row_of(id: &str) -> Option<u64> {
    let rest = id.strip_prefix("row-")?;
    rest.split_once('-').map_or(rest, |(n, _)| n).parse().ok()
}

/// Calls `f` with the numbers and ids of a block's good rows; those of others are never sent.
fn each_id(block: &Block, builder: &RequestBuilder, mut f: impl FnMut(u64, &str)) {
    block.for_each(|record| {
        if let Some(draft) = record.ok().and_then(|record| builder.draft(&record).ok()) {
            f(draft.number, &draft.id);
        }
    });
}
