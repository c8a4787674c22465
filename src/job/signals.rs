//! Ctrl-C and its kin: once, start nothing more; twice, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Exit, Result};
use crate::realtime::Shared;

/// The same number on every Unix.
const SIGXFSZ: i32 = 25;
/// What a second signal leaves for an orderly end, before the process just goes. The store survives that.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Watches for signals on a thread of its own, for as long as the process lives: also while a write to a stopped reader of
/// our output hangs.
#[derive(Debug)]
pub struct Signals {
    first: Arc<AtomicI32>,
}

impl Signals {
    /// Starts watching. `leave` ends the process.
    ///
    /// # Errors
    /// 1 if a thread cannot be started.
    pub fn watch(shared: Arc<Shared>, leave: fn(Exit) -> !) -> Result<Self> {
        let first = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&first);
        let failed = |e| Error::new(Exit::Failure, "signals cannot be watched").because(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let mut watched = Vec::new();
        {
            let _inside = runtime.enter();
            let ignored = ignored();
            for number in [1, 2, 15] {
                // Whoever started us with a signal ignored (nohup) wants it ignored.
                if ignored & (1 << (number - 1)) == 0 {
                    watched.push((number, signal(SignalKind::from_raw(number)).map_err(failed)?));
                }
            }
        }
        let watch = async move {
            let (send, mut arrived) = tokio::sync::mpsc::unbounded_channel();
            for (number, mut stream) in watched {
                let send = send.clone();
                tokio::spawn(async move { while stream.recv().await.is_some() && send.send(number).is_ok() {} });
            }
            let Some(number) = arrived.recv().await else { return };
            seen.store(number, Ordering::Release);
            shared.stop.cancel();
            if arrived.recv().await.is_none() {
                return;
            }
            shared.abort.cancel();
            tokio::time::sleep(LAST_WORDS).await;
            leave(exit(number));
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watch))
            .map_err(failed)?;
        Ok(Self { first })
    }

    /// The first signal that came; 0: none.
    pub fn first(&self) -> i32 {
        self.first.load(Ordering::Acquire)
    }
}

const fn exit(number: i32) -> Exit {
    match number {
        1 => Exit::Hangup,
        15 => Exit::Terminate,
        _ => Exit::Interrupt,
    }
}

/// From now on a file that meets its limit in size (`ulimit -f`) is an error of that write, and no longer the death of the
/// process.
pub fn outlive_file_limit() {
    // The handler outlives the runtime that it takes to set it.
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        let _inside = runtime.enter();
        drop(signal(SignalKind::from_raw(SIGXFSZ)));
    }
}

/// The signals that this process was started with ignored, a bit each. Nothing is known where there is no /proc.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
