//! The rows that parts lack, and the part that should have them.

use std::collections::BTreeMap;

use super::Merged;
use crate::summary::PartRows;
use crate::text;

/// Rows that are named; more are only counted.
const NAMED: usize = 3;
/// Sentences about missing rows; for more, the rest is counted.
const SENTENCES: usize = 20;

/// The rows of a part, counted.
#[derive(Debug)]
pub(super) struct PartCounts {
    /// Those of the part alone.
    pub rows: PartRows,
    /// A row of it; 0: it has none.
    first: u64,
    /// The greatest step that leads from that row to all others; 0: there are no others.
    step: u64,
}

impl PartCounts {
    pub fn new(shown: &str) -> Self {
        let rows = PartRows { part: shown.to_owned(), rows: 0, succeeded: 0, failed: 0, torn_line: None };
        Self { rows, first: 0, step: 0 }
    }

    /// Counts a row.
    pub fn count(&mut self, row: u64, ok: bool) {
        self.rows.rows += 1;
        *if ok { &mut self.rows.succeeded } else { &mut self.rows.failed } += 1;
        if self.first == 0 {
            self.first = row;
        }
        self.step = greatest_divisor(self.step, row.abs_diff(self.first));
    }
}

const fn greatest_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Merged {
    /// The rows of each part.
    pub fn parts(&self) -> Vec<PartRows> {
        self.parts.iter().map(|part| part.rows.clone()).collect()
    }

    /// Says what was cut off, and which part lacks which rows.
    pub fn warnings(&self) -> Vec<String> {
        let torn = self.parts.iter().filter_map(|PartCounts { rows, .. }| {
            let line = rows.torn_line?;
            Some(format!("{}:{line}: the file ends within this line, which is left out", rows.part))
        });
        torn.chain(self.lacks()).collect()
    }

    fn lacks(&self) -> Vec<String> {
        // Rows of a shard follow each other in steps of the number of shards.
        let shards = self.parts.iter().fold(0, |step, part| greatest_divisor(step, part.step));
        let mut lacks: BTreeMap<u64, (u64, Vec<u64>)> = BTreeMap::new();
        for row in self.missing.iter() {
            let shard = if shards > 1 { (row - 1) % shards + 1 } else { 0 };
            if lacks.len() > SENTENCES && !lacks.contains_key(&shard) {
                continue;
            }
            let (count, first) = lacks.entry(shard).or_default();
            *count += 1;
            if first.len() < NAMED {
                first.push(row);
            }
        }
        let mut said: Vec<String> = Vec::new();
        for (shard, (count, first)) in lacks.into_iter().take(SENTENCES) {
            let rows = named(count, &first);
            let has = |part: &&PartCounts| part.first > 0 && (part.first - 1) % shards.max(1) + 1 == shard;
            let parts: Vec<&str> = self.parts.iter().filter(has).map(|part| part.rows.part.as_str()).collect();
            said.push(match (shard, parts.as_slice()) {
                (0, _) => format!("no part has {rows}"),
                (_, []) => format!("no part has rows of shard {shard}/{shards}: {rows}"),
                (_, parts) => format!("{}, shard {shard}/{shards}, lacks {rows}", parts.join(" and ")),
            });
        }
        said
    }
}

/// `12 rows (3, 11, 19 …)`
fn named(count: u64, first: &[u64]) -> String {
    let numbers: Vec<String> = first.iter().map(|row| text::count(*row)).collect();
    let more = if count > first.len() as u64 { " …" } else { "" };
    format!("{} (row {}{more})", text::plural(count, "row"), numbers.join(", "))
}
