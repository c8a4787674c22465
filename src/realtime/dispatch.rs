//! The dispatcher: it starts a task for each row as permits come free, and picks the probes while all rows are refused.

use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::QueuedRow;
use super::engine::Engine;
use super::row::RowTask;
use crate::request::OutRequest;

/// Outcomes and followers that may wait to be written before sending pauses.
const BACKLOG: usize = 8192;
/// Rows among which a probe is chosen. A kill at that time leaves as many more rows in doubt.
const PROBE_REACH: usize = 256;

/// The rows of a run on their way to tasks.
pub(super) struct Dispatcher {
    engine: Rc<Engine>,
    rows: mpsc::Receiver<Vec<QueuedRow>>,
    /// More rows may arrive.
    open: bool,
    queue: VecDeque<QueuedRow>,
    tasks: JoinSet<()>,
}

impl Dispatcher {
    pub(super) fn new(engine: Rc<Engine>, rows: mpsc::Receiver<Vec<QueuedRow>>) -> Self {
        Self { engine, rows, open: true, queue: VecDeque::new(), tasks: JoinSet::new() }
    }

    /// Sends every row that arrives, and waits for all of them.
    pub(super) async fn run(mut self) {
        self.dispatch().await;
        self.drain().await;
    }

    /// Starts a task for each row, as permits come free. Returns when all have ended, or when the run stops.
    async fn dispatch(&mut self) {
        let engine = Rc::clone(&self.engine);
        while !engine.shared.stop.is_cancelled() {
            while let Some(ended) = self.tasks.try_join_next() {
                propagate_panic(ended);
            }
            if engine.health.borrow().doubts_all() && self.probe().await {
                continue;
            }
            // Rows that are not sent need no permit: only this bounds how many of them wait to be written. A consumer that has
            // failed writes nothing, so a stop ends the wait.
            tokio::select! {
                biased;
                () = engine.shared.stop.cancelled() => return,
                () = engine.shared.until_written(BACKLOG) => {}
            }
            let (request, turn) = match self.queue.pop_front() {
                Some(QueuedRow::Send { request, turn }) => (request, turn),
                Some(QueuedRow::Settled(outcome)) => {
                    engine.emit(*outcome, None);
                    continue;
                }
                Some(QueuedRow::Follow(follower)) => {
                    engine.follow(follower);
                    continue;
                }
                None if !self.open && self.tasks.is_empty() => return,
                None => {
                    self.receive().await;
                    continue;
                }
            };
            let permit = tokio::select! {
                biased;
                () = engine.shared.stop.cancelled() => return,
                () = engine.parked.changed.notified() => None,
                permit = self.admitted() => permit,
            };
            match permit {
                Some(permit) if !engine.health.borrow().doubts_all() => self.start(request, turn, false, permit),
                _ => self.queue.push_front(QueuedRow::Send { request, turn }),
            }
        }
    }

    /// Waits for the next rows; after the last, for tasks to end.
    async fn receive(&mut self) {
        let engine = Rc::clone(&self.engine);
        if !self.open {
            engine.waits.set_open(self.tasks.len(), true);
        }
        tokio::select! {
            biased;
            () = engine.shared.stop.cancelled() => {}
            () = engine.parked.changed.notified() => {}
            batch = self.rows.recv(), if self.open => match batch {
                Some(batch) => {
                    engine.gate.expect(&batch);
                    self.queue = batch.into();
                }
                None => self.open = false,
            },
            Some(ended) = self.tasks.join_next(), if !self.open => propagate_panic(ended),
        }
    }

    fn start(&mut self, request: OutRequest, turn: u64, probe: bool, permit: OwnedSemaphorePermit) {
        // In a box: tokio moves a task's future eight times on its way, and this one has two kilobytes.
        let task = Box::pin(RowTask::new(Rc::clone(&self.engine), request, turn, probe).run(permit));
        self.tasks.spawn_local(task);
        self.engine.waits.set_open(self.tasks.len(), false);
    }

    /// Sends a probe once no other row is on its way: a row from further down the file, as far as rows were read. Returns
    /// false if there is no row to send.
    async fn probe(&mut self) -> bool {
        let engine = Rc::clone(&self.engine);
        if !self.settled().await {
            return true;
        }
        while self.queue.len() < PROBE_REACH
            && let Ok(batch) = self.rows.try_recv()
        {
            engine.gate.expect(&batch);
            self.queue.extend(batch);
        }
        for row in std::mem::take(&mut self.queue) {
            match row {
                QueuedRow::Settled(outcome) => engine.emit(*outcome, None),
                QueuedRow::Follow(follower) => engine.follow(follower),
                row @ QueuedRow::Send { .. } => self.queue.push_back(row),
            }
        }
        let (parked, queued) = (engine.parked.len(), self.queue.len());
        let reach = (parked + queued).min(PROBE_REACH);
        if reach == 0 {
            return false;
        }
        let number = engine.health.borrow_mut().next_probe();
        // The last one, then one from two thirds on, then one from a third on; after these, one after the other.
        let part = number.map_or(0, |number| 3_usize.saturating_sub(number as usize));
        let place = (reach * part / 3).saturating_sub(1);
        if place < parked {
            engine.parked.release_probe(place);
        } else if let Some(QueuedRow::Send { request, turn }) = self.queue.remove(place - parked) {
            let permit = tokio::select! {
                biased;
                () = engine.shared.stop.cancelled() => None,
                permit = engine.gate.permit() => permit,
            };
            if let Some(permit) = permit {
                engine.parked.set_probing(true);
                self.start(request, turn, true, permit);
            }
        }
        true
    }

    /// Waits until every row that was on its way is held back, waits for its next try, or has ended. `false` if the doubt ends
    /// first, or the run.
    async fn settled(&mut self) -> bool {
        let engine = Rc::clone(&self.engine);
        while engine.health.borrow().doubts_all() && !engine.shared.stop.is_cancelled() {
            if !engine.parked.is_probing() && engine.parked.len() + engine.waits.len() >= self.tasks.len() {
                return true;
            }
            tokio::select! {
                biased;
                () = engine.shared.stop.cancelled() => {}
                () = engine.parked.changed.notified() => {}
                Some(ended) = self.tasks.join_next() => propagate_panic(ended),
            }
        }
        false
    }

    /// Waits until one more row may start: not too many rows are open, and a permit is free.
    async fn admitted(&mut self) -> Option<OwnedSemaphorePermit> {
        let engine = Rc::clone(&self.engine);
        // Rows that wait for their next try hold no permit, but they hold memory.
        while self.tasks.len() > 2 * engine.options.speed.concurrency + 64 {
            engine.waits.set_open(self.tasks.len(), true);
            if let Some(ended) = self.tasks.join_next().await {
                propagate_panic(ended);
            }
        }
        engine.gate.permit().await
    }

    /// Lets the requests in flight finish, within the grace time after a stop.
    async fn drain(&mut self) {
        let engine = Rc::clone(&self.engine);
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                propagate_panic(ended);
                engine.waits.set_open(self.tasks.len(), true);
            }
        };
        tokio::pin!(ended);
        if tokio::time::timeout(engine.options.speed.grace, &mut ended).await.is_err() {
            engine.shared.abort.cancel();
            ended.await;
        }
    }
}

/// Passes on the panic of a row's task: a run that lost a row must not look complete.
fn propagate_panic(task: Result<(), tokio::task::JoinError>) {
    if let Err(error) = task
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
