//! What rows are called on the wire: by their own ids, but for those that are too long for the service.

use std::collections::HashSet;

use super::{Checked, Inputs, generated_id};
use crate::check::scan::{is_long, scan};
use crate::error::Result;
use crate::input::Block;
use crate::request::Shape;
use crate::row_set::RowSet;

/// Knows which stand-ins for long ids are taken by other rows' own ids.
#[derive(Debug, Default)]
pub struct Wires {
    taken: HashSet<Box<str>>,
}

/// What a look over the ids of a block finds.
#[derive(Default)]
struct Look {
    long: Vec<u64>,
    any_alike: bool,
}

impl Wires {
    /// Reads all ids, only if there are long ones; and again, only if some look like our stand-ins. Keeps a bit a row
    /// meanwhile, and afterwards the few ids that are in the way.
    pub fn find(inputs: &Inputs, shape: &Shape, checked: &Checked, threads: usize) -> Result<Self> {
        let mut wires = Self::default();
        if checked.long_ids == 0 {
            return Ok(wires);
        }
        let mut long = RowSet::default();
        let mut any_alike = false;
        let look = |block: &Block| {
            let mut look = Look::default();
            each_id(block, shape, |row, id| {
                if is_long(id) {
                    look.long.push(row);
                }
                look.any_alike |= row_of(id).is_some_and(|n| n != row);
            });
            look
        };
        scan(inputs, threads, &look, &mut |look: Look| {
            look.long.into_iter().for_each(|row| _ = long.insert(row));
            any_alike |= look.any_alike;
            Ok(())
        })?;
        if !any_alike {
            return Ok(wires);
        }
        let collect = |block: &Block| {
            let mut found: Vec<Box<str>> = Vec::new();
            each_id(block, shape, |_, id| {
                if row_of(id).is_some_and(|n| long.contains(n)) {
                    found.push(id.into());
                }
            });
            found
        };
        scan(inputs, threads, &collect, &mut |found: Vec<Box<str>>| {
            wires.taken.extend(found);
            Ok(())
        })?;
        Ok(wires)
    }

    /// The stand-in for the id of `row`, if it needs one: `row-N`, or the first of `row-N-1`, `row-N-2`, … that no row
    /// has for its own. Stand-ins of different rows differ by their N.
    pub fn of(&self, row: u64, id: &str) -> Option<Box<str>> {
        if !is_long(id) {
            return None;
        }
        let first = generated_id(row);
        if !self.taken.contains(first.as_str()) {
            return Some(first.into());
        }
        let mut others = (1..=self.taken.len() + 1).map(|n| format!("{first}-{n}"));
        let free = others.find(|name| !self.taken.contains(name.as_str()));
        Some(free.expect("there is one name more than are taken").into())
    }
}

/// N, if the id is of the form `row-N` or `row-N-…`.
fn row_of(id: &str) -> Option<u64> {
    let rest = id.strip_prefix("row-")?;
    rest.split_once('-').map_or(rest, |(n, _)| n).parse().ok()
}

/// The ids of a block's good rows: those of others never travel.
fn each_id(block: &Block, shape: &Shape, mut f: impl FnMut(u64, &str)) {
    block.for_each(|record| {
        if let Some(draft) = record.ok().and_then(|record| shape.draft(&record).ok()) {
            f(draft.row, &draft.id);
        }
    });
}
