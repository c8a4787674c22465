//! The thread that talks to stores. Its callers block or collect the answer later.

use std::future::{Future, pending};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, sync_channel};

use tokio::runtime::{Builder, Handle};

use crate::error::{Error, Exit, Result};

/// An answer that is on its way.
#[derive(Debug)]
pub(super) struct Pending<T>(Receiver<T>);

impl<T> Pending<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// 1 if the thread crashed.
    pub fn wait(&self) -> Result<T> {
        self.0.recv().map_err(|_| failed("a thread of llbatch crashed; please report it with the lines above"))
    }
}

/// Starts `work` on the thread of this room.
///
/// # Errors
/// 1 if there can be no thread.
pub(super) fn start<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<Pending<T>> {
    static THREAD: OnceLock<Result<Handle, String>> = OnceLock::new();
    let handle = THREAD.get_or_init(|| thread().map_err(|error| error.to_string()));
    let handle = handle.as_ref().map_err(|error| failed(error))?;
    let (sender, receiver) = sync_channel(1);
    // Nobody may want the answer any more.
    handle.spawn(async move { drop(sender.send(work.await)) });
    Ok(Pending(receiver))
}

/// Does `work` and returns its result.
pub(super) fn wait<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    start(work)?.wait()?
}

fn thread() -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name("objects".to_owned()).spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}

fn failed(why: &str) -> Error {
    Error::new(Exit::Failure, format!("the network cannot be set up: {why}"))
}
