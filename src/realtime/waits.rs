//! Rows that wait for their next try, and whether anything else can proceed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Instant;

/// The waiting rows of one run.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// The end of each row's wait.
    rows: RefCell<HashMap<u64, Instant>>,
    /// Rows with a task.
    open: Cell<usize>,
    /// No further row can start.
    idle: Cell<bool>,
}

/// A row that waits while this lives.
pub(super) struct WaitGuard<'a> {
    waits: &'a Waits,
    row: u64,
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.waits.rows.borrow_mut().remove(&self.row);
    }
}

impl Waits {
    /// Records that a row waits until then.
    pub(super) fn begin(&self, row: u64, until: Instant) -> WaitGuard<'_> {
        self.rows.borrow_mut().insert(row, until);
        WaitGuard { waits: self, row }
    }

    /// The number of rows that wait.
    pub(super) fn len(&self) -> usize {
        self.rows.borrow().len()
    }

    /// Records the number of rows with a task, and whether more can start.
    pub(super) fn set_open(&self, open: usize, idle: bool) {
        self.open.set(open);
        self.idle.set(idle);
    }

    /// The end of the first wait, if all rows wait and no other can start.
    pub(super) fn first(&self) -> Option<Instant> {
        let rows = self.rows.borrow();
        if !self.idle.get() || rows.len() < self.open.get() {
            return None;
        }
        rows.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_wait_counts_only_if_nothing_else_can_proceed() {
        let (waits, now) = (Waits::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let first = waits.begin(1, at(9));
        let _second = waits.begin(2, at(5));
        waits.set_open(2, false);
        assert_eq!(waits.first(), None, "another row may start");
        waits.set_open(3, true);
        assert_eq!(waits.first(), None, "a row is at work");
        waits.set_open(2, true);
        assert_eq!(waits.first(), Some(at(5)));
        drop(first);
        waits.set_open(1, true);
        assert_eq!(waits.first(), Some(at(5)));
    }
}
