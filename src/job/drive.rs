//! Runs the reader, the engine and the consumer of a run. The engine uses the calling thread, the others have their
//! own.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::consumer::{Consumed, Consumer};
use super::reader::{self, Feed};
use crate::error::{Error, Exit, Result};
use crate::realtime::{self, SendOptions, Shared, Stopped, Upstream};
use crate::tokens::Estimator;

/// Batches of rows between the reader and the engine.
const READ_AHEAD: usize = 8;

/// The ends of the three threads.
pub struct Driven<'ctx> {
    /// The engine's reason to stop before the last row.
    pub stopped: Option<Stopped>,
    /// The reader's end.
    pub fed: Result<()>,
    /// The consumer's end.
    pub consumed: Result<Consumed<'ctx>>,
}

/// Tasks that run before the network is asked again: more than connections whose answers usually come at once. A
/// connection goes back to the pool in a task of its own. With tokio's 61, rows began before that, and opened half as many
/// connections again as there were requests in flight.
const TASKS_IN_A_ROW: u32 = 2048;

/// Runs all three to their end.
///
/// # Errors
/// 1 if a thread cannot be started or panics.
pub fn drive<'ctx>(
    consumer: Consumer<'_, 'ctx>,
    urls: Vec<Upstream>,
    options: &SendOptions,
    feed: &Feed<'_>,
    shared: &Arc<Shared>,
) -> Result<Driven<'ctx>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(TASKS_IN_A_ROW)
        .build()
        .map_err(|e| Error::new(Exit::Failure, "the network cannot be set up").because(e))?;
    let (rows_in, rows_out) = mpsc::channel(READ_AHEAD);
    let (events_in, events_out) = std::sync::mpsc::channel();
    let driven = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("reader".to_owned()).spawn_scoped(scope, move || {
            let result = reader::feed(feed, &rows_in);
            match &result {
                Err(_) => shared.stop.cancel(),
                // The end of the run needs its tables, so llbatch unpacks them while the last answers arrive.
                Ok(()) if feed.estimates => _ = Estimator::shared(),
                Ok(()) => {}
            }
            result
        });
        let writer = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn_scoped(scope, move || consumer.consume(&events_out));
        let failed = |e| Error::new(Exit::Failure, "a thread cannot be started").because(e);
        let run = realtime::run(urls, options.clone(), rows_out, events_in, Arc::clone(shared));
        let stopped = runtime.block_on(run);
        let crashed =
            |_| Error::new(Exit::Failure, "a thread of llbatch crashed; please report it with the lines above");
        let fed = reader.map_err(failed)?.join().map_err(crashed)?;
        let consumed = writer.map_err(failed)?.join().map_err(crashed)?;
        Ok(Driven { stopped, fed, consumed })
    });
    // Closes idle connections on another thread, because closing a thousand takes 50 ms.
    drop(std::thread::Builder::new().name("closing".to_owned()).spawn(move || runtime.shutdown_background()));
    driven
}
