//! Rows that are held back while the service refuses every row, until a probe shows whether it answers any.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use tokio::sync::{Notify, oneshot};

/// The rows that are held back, and the probe that is on its way.
#[derive(Debug, Default)]
pub(super) struct Parked {
    rows: RefCell<BTreeMap<u64, ParkedRow>>,
    probing: Cell<bool>,
    /// There may be reason to send a probe.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct ParkedRow {
    probe: bool,
    resume: oneshot::Sender<bool>,
}

impl Parked {
    /// Waits until the row may leave. Returns true if it leaves as a probe.
    pub(super) async fn wait(&self, row: u64, probe: bool) -> bool {
        let (resume, resumed) = oneshot::channel();
        self.rows.borrow_mut().insert(row, ParkedRow { probe, resume });
        self.changed.notify_one();
        resumed.await.unwrap_or(probe)
    }

    /// Releases all rows that may leave now, given their number and whether they are probes.
    pub(super) fn release(&self, may_leave: impl Fn(u64, bool) -> bool) {
        let mut rows = self.rows.borrow_mut();
        if rows.is_empty() {
            return;
        }
        let (free, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut *rows).into_iter().partition(|(row, parked)| may_leave(*row, parked.probe));
        *rows = kept;
        for row in free.into_values() {
            // A row whose task has ended with the run needs no answer.
            _ = row.resume.send(row.probe);
        }
    }

    /// Releases one row as a probe: the one at this place, in the order of the file.
    pub(super) fn release_probe(&self, place: usize) {
        let mut rows = self.rows.borrow_mut();
        let number = rows.keys().nth(place).copied();
        if let Some(row) = number.and_then(|number| rows.remove(&number)) {
            self.probing.set(true);
            _ = row.resume.send(true);
        }
    }

    /// Records that a probe leaves, or that it has come to its end.
    pub(super) fn set_probing(&self, probing: bool) {
        self.probing.set(probing);
    }

    /// Returns true if a probe is on its way.
    pub(super) const fn is_probing(&self) -> bool {
        self.probing.get()
    }

    /// The number of rows that are held back.
    pub(super) fn len(&self) -> usize {
        self.rows.borrow().len()
    }
}
