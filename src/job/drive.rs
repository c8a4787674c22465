//! Reader, engine and consumer of a run at work: each on a thread of its own, the network on the calling one.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::consumer::{Consumed, Consumer};
use super::reader::{self, Feed};
use crate::api::Client;
use crate::error::{Error, Exit, Result};
use crate::realtime::{self, Shared, Stopped};
use crate::tokens::Estimator;

/// Batches of rows between the reader and the engine.
const READ_AHEAD: usize = 8;

/// How the three threads ended.
pub struct Driven<'ctx> {
    /// Why the engine stopped before the last row.
    pub stopped: Option<Stopped>,
    /// The reader's end.
    pub fed: Result<()>,
    /// The consumer's end.
    pub consumed: Result<Consumed<'ctx>>,
}

/// Runs them to their end.
///
/// # Errors
/// 1 if a thread cannot be started or panics.
pub fn drive<'ctx>(
    consumer: Consumer<'_, 'ctx>,
    client: &Client,
    feed: &Feed<'_>,
    shared: &Arc<Shared>,
) -> Result<Driven<'ctx>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(Exit::Failure, "the network cannot be set up").because(e))?;
    let (rows_in, rows_out) = mpsc::channel(READ_AHEAD);
    let (events_in, events_out) = std::sync::mpsc::channel();
    let driven = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("reader".to_owned()).spawn_scoped(scope, move || {
            let result = reader::feed(feed, &rows_in);
            match &result {
                Err(_) => shared.stop.cancel(),
                // The end of the run needs it: better made while the last answers are on their way.
                Ok(()) => _ = Estimator::shared(),
            }
            result
        });
        let writer = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn_scoped(scope, move || consumer.consume(&events_out));
        let failed = |e| Error::new(Exit::Failure, "a thread cannot be started").because(e);
        let run = realtime::run(client.clone(), feed.options.clone(), rows_out, events_in, Arc::clone(shared));
        let stopped = runtime.block_on(run);
        let crashed =
            |_| Error::new(Exit::Failure, "a thread of llbatch crashed; please report it with the lines above");
        let fed = reader.map_err(failed)?.join().map_err(crashed)?;
        let consumed = writer.map_err(failed)?.join().map_err(crashed)?;
        Ok(Driven { stopped, fed, consumed })
    });
    // Connections that still linger need not be waited for; nor need their closing, which of a thousand takes 50 ms.
    drop(std::thread::Builder::new().name("closing".to_owned()).spawn(move || runtime.shutdown_background()));
    driven
}
