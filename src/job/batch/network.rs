//! The network of a batch command: its runtime, and the signals that end it.

use std::rc::Rc;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::runtime;
use crate::error::{Error, Exit, Result};
use crate::job::signals::Signals;

/// The network of a batch command.
pub struct Network {
    runtime: Rc<Runtime>,
    signals: Signals,
    /// Cancelled when the user interrupts.
    stop: CancellationToken,
}

impl Network {
    /// Builds a network whose calls end when `signals` cancel `stop`.
    ///
    /// # Errors
    /// 1 if the system cannot start a runtime.
    pub fn new(signals: Signals, stop: CancellationToken) -> Result<Self> {
        Ok(Self { runtime: runtime()?, signals, stop })
    }

    /// Runs `act` on the network. If a signal ends it, the signal decides the exit code, and `hint` gives the hint.
    pub fn block_on<T>(&self, act: impl Future<Output = Result<T>>, hint: impl FnOnce() -> String) -> Result<T> {
        self.runtime.block_on(act).map_err(|error| {
            // A call that was being retried failed because the user interrupted it.
            let error = match error.exit {
                Exit::Interrupt => error,
                Exit::TempFail if self.stop.is_cancelled() => Error::new(Exit::Interrupt, "interrupted"),
                _ => return error,
            };
            Error { exit: Exit::of_signal(self.signals.first()), hint: Some(hint()), ..error }
        })
    }
}
