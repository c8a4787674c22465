//! Orders rows so that equal beginnings of prompts are sent near each other (`--group-by-prefix`).
//!
//! Some rows are held back, sorted by model, tools and prompt. They leave in *sweeps*, each in ascending order. A row that
//! arrives behind the place of the sweep waits for the next one. A sweep takes in no more rows after a while, so that no row
//! waits for ever.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::json;
use crate::request::Request;

/// Most rows that are held back. More would find more equal beginnings, and take more memory.
const HELD_ROWS: usize = 65_536;
/// Most bytes of held requests.
const HELD_BYTES: usize = 64 << 20;
/// A sweep takes in this many times as much as is held back at most.
const SWEEP: usize = 4;

/// Rows that are held back.
pub(super) struct Sweeps {
    /// The member that holds the prompt.
    subject: &'static str,
    /// Rows of this sweep that are still to leave.
    current: BinaryHeap<Reverse<HeldRow>>,
    /// Rows of the next sweep.
    next: Vec<Reverse<HeldRow>>,
    bytes: usize,
    /// Rows and bytes that this sweep has taken in.
    taken: (usize, usize),
    /// The place of the sweep: the row that left last.
    place: Option<SweepPlace>,
    limits: HeldLimits,
}

/// Bounds of the rows that are held back.
#[derive(Debug, Clone, Copy)]
struct HeldLimits {
    rows: usize,
    bytes: usize,
}

/// A row that is held back.
struct HeldRow {
    request: Request,
    tools: Range<usize>,
    prompt: Range<usize>,
}

/// A copy of what a row is sorted by.
#[derive(Default)]
struct SweepPlace {
    model: String,
    tools: String,
    prompt: String,
    row: u64,
}

/// The key by which rows are sorted. Templates of models put the tools before the prompt.
type SortKey<'a> = (&'a str, &'a str, &'a str, u64);

impl Sweeps {
    /// Sorts by the member `subject`, in which requests of the endpoint have their prompt.
    pub fn by(subject: &'static str) -> Self {
        Self::within(subject, HeldLimits { rows: HELD_ROWS, bytes: HELD_BYTES })
    }

    fn within(subject: &'static str, limits: HeldLimits) -> Self {
        let (current, next) = (BinaryHeap::new(), Vec::new());
        Self { subject, current, next, bytes: 0, taken: (0, 0), place: None, limits }
    }

    /// Takes a row in.
    pub fn push(&mut self, request: Request) {
        let bytes = request.body.len();
        let row = HeldRow::of(request, self.subject);
        self.bytes += bytes;
        let open = self.taken.0 < SWEEP * self.limits.rows && self.taken.1 < SWEEP * self.limits.bytes;
        if open && self.place.as_ref().is_none_or(|place| row.key() > place.key()) {
            self.taken = (self.taken.0 + 1, self.taken.1 + bytes);
            self.current.push(Reverse(row));
        } else {
            self.next.push(Reverse(row));
        }
    }

    /// Lets a row go, if more are held than may be.
    pub fn pop_over(&mut self) -> Option<Request> {
        let over = self.current.len() + self.next.len() > self.limits.rows || self.bytes > self.limits.bytes;
        if over { self.pop() } else { None }
    }

    /// Lets the next row go.
    pub fn pop(&mut self) -> Option<Request> {
        if self.current.is_empty() {
            self.current = std::mem::take(&mut self.next).into();
            (self.taken, self.place) = ((self.current.len(), self.bytes), None);
        }
        let Reverse(row) = self.current.pop()?;
        self.bytes -= row.request.body.len();
        self.place.get_or_insert_default().set(row.key());
        Some(row.request)
    }
}

impl HeldRow {
    fn of(request: Request, subject: &str) -> Self {
        let (mut tools, mut prompt) = (0..0, 0..0);
        for member in json::trusted_members(&request.body) {
            // Of several members of a name, the last one counts.
            let end = member.end;
            let start = end - member.value.len();
            if member.key == subject {
                prompt = start..end;
            } else if member.key == "tools" {
                tools = start..end;
            }
        }
        Self { request, tools, prompt }
    }

    fn key(&self) -> SortKey<'_> {
        let Request { model, body, row, .. } = &self.request;
        (model, &body[self.tools.clone()], &body[self.prompt.clone()], *row)
    }
}

impl Ord for HeldRow {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for HeldRow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for HeldRow {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for HeldRow {}

impl SweepPlace {
    /// Moves to a key, in the memory that the last one had.
    fn set(&mut self, (model, tools, prompt, row): SortKey<'_>) {
        for (kept, now) in [(&mut self.model, model), (&mut self.tools, tools), (&mut self.prompt, prompt)] {
            kept.clear();
            kept.push_str(now);
        }
        self.row = row;
    }

    fn key(&self) -> SortKey<'_> {
        (&self.model, &self.tools, &self.prompt, self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Data, Params, Record, RequestBuilder};

    fn request(row: u64, prompt: &str) -> Request {
        let line = format!(r#"{{"model": "m", "messages": [{{"role": "user", "content": "{prompt}"}}]}}"#);
        let builder = RequestBuilder::new(&Params::default()).unwrap();
        builder.request(&Record { row, number: row, file: "in", line: row.into(), data: Data::Json(&line) }).unwrap()
    }

    /// The rows in the order in which they leave.
    fn order(limits: HeldLimits, prompts: impl IntoIterator<Item = String>) -> Vec<u64> {
        let mut sweeps = Sweeps::within("messages", limits);
        let mut left = Vec::new();
        for (at, prompt) in prompts.into_iter().enumerate() {
            sweeps.push(request(at as u64 + 1, &prompt));
            assert!(sweeps.current.len() + sweeps.next.len() <= limits.rows + 1);
            left.extend(std::iter::from_fn(|| sweeps.pop_over()).map(|request| request.row));
        }
        left.extend(std::iter::from_fn(|| sweeps.pop()).map(|request| request.row));
        assert_eq!(sweeps.bytes, 0);
        left
    }

    #[test]
    fn equal_beginnings_leave_together_and_every_row_leaves_once() {
        let limits = HeldLimits { rows: 20, bytes: 1 << 20 };
        let prompts: Vec<String> = (0..200).map(|row| format!("document {} question {row:03}", row % 10)).collect();
        let left = order(limits, prompts.clone());
        let mut sorted = left.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=200).collect::<Vec<u64>>());
        let changes = |rows: &[u64]| rows.windows(2).filter(|pair| pair[0] % 10 != pair[1] % 10).count();
        // In the order of the input, each row has another document than the one before.
        assert!(changes(&left) <= 60, "{} of 199: {left:?}", changes(&left));
        let all = HeldLimits { rows: 200, bytes: 1 << 20 };
        assert_eq!(changes(&order(all, prompts.clone())), 9);
        let few_bytes = HeldLimits { rows: 200, bytes: 20 * prompts[0].len() };
        assert!(order(few_bytes, prompts).len() == 200);
    }

    #[test]
    fn no_row_waits_for_ever() {
        // Every row belongs before the first one, or right behind the last that left.
        let limits = HeldLimits { rows: 10, bytes: 1 << 20 };
        let ascending = (0..500).map(|row| if row == 20 { "a".to_owned() } else { format!("b{row:04}") });
        let left = order(limits, ascending);
        let place = left.iter().position(|row| *row == 21).unwrap();
        assert!(place <= 20 + (SWEEP + 1) * limits.rows, "row 21 left as number {place}");
    }
}
