//! Ctrl-C and other signals. The first stops new requests; the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::machine::ignored_signals;
use crate::realtime::Shared;

/// The signal of Ctrl-C.
const SIGINT: i32 = 2;
/// SIGXFSZ has the same number on every Unix.
const SIGXFSZ: i32 = 25;
/// Time for an orderly end after a second signal, before llbatch ends the process. The store survives that.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Time to write the figures of `--metrics` after that.
const LAST_FIGURES: Duration = Duration::from_millis(500);

/// Watches for signals on a thread of its own for the life of the process. It works even while a write to a stopped
/// reader hangs.
#[derive(Debug)]
pub(super) struct Signals {
    first: Arc<AtomicI32>,
    second: Arc<AtomicBool>,
    /// The command that watches still works.
    _working: Arc<()>,
}

impl Signals {
    /// Starts watching. `say` is called with the number of the first signal, if the command still works.
    ///
    /// # Errors
    /// 1 if a thread cannot be started.
    pub fn watch(shared: Arc<Shared>, say: impl FnOnce(&Shared, i32) + Send + 'static, ctx: &Ctx) -> Result<Self> {
        let (telling, ui, leave) = (ctx.telling.clone(), ctx.ui.clone(), ctx.leave);
        let first = Arc::new(AtomicI32::new(0));
        let working = Arc::new(());
        let works = Arc::downgrade(&working);
        let second = Arc::new(AtomicBool::new(false));
        let (seen, seen_again) = (Arc::clone(&first), Arc::clone(&second));
        let failed = |e| Error::new(Exit::Failure, "signals cannot be watched").because(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let mut watched = Vec::new();
        {
            let _inside = runtime.enter();
            let ignored = ignored_signals();
            for number in [1, 2, 15] {
                // A parent that starts llbatch with an ignored signal (nohup) wants it ignored.
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
            if number == SIGINT {
                ui.after_interrupt();
            }
            seen.store(number, Ordering::Release);
            shared.stop.cancel();
            if works.strong_count() > 0 {
                say(&shared, number);
            }
            if arrived.recv().await.is_none() {
                return;
            }
            seen_again.store(true, Ordering::Release);
            shared.abort.cancel();
            tokio::time::sleep(LAST_WORDS).await;
            let exit = Exit::of_signal(number);
            // Those who watch the job learn of its end too, if the disk and they themselves take it in time.
            let limit = if telling.wants_end() { LAST_WORDS } else { LAST_FIGURES };
            let last = telling.clone();
            let told = tokio::task::spawn_blocking(move || last.finish(exit, &ui));
            drop(tokio::time::timeout(limit, told).await);
            telling.abandon();
            leave(exit);
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watch))
            .map_err(failed)?;
        Ok(Self { first, second, _working: working })
    }

    /// Returns whether a second signal has come: the user wants an end at once.
    pub(super) fn is_hurried(&self) -> bool {
        self.second.load(Ordering::Acquire)
    }

    /// Returns the first signal, or 0 if there was none.
    pub fn first(&self) -> i32 {
        self.first.load(Ordering::Acquire)
    }
}

/// Says what a second signal does.
pub const fn again(first: i32) -> &'static str {
    if first == SIGINT { "Ctrl-C again stops at once" } else { "a second signal stops at once" }
}

/// Makes the size limit of files (`ulimit -f`) an error of the write. Without this, the signal would kill the process.
pub fn outlive_file_limit() {
    // The handler outlives the runtime that it takes to set it.
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        let _inside = runtime.enter();
        drop(signal(SignalKind::from_raw(SIGXFSZ)));
    }
}
